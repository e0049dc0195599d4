"""Worker processes of a test, what they are to start, and how their runs ended."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyworkflow import App
from pyworkflow.errors import RunNotFound, WorkflowError
from pyworkflow.events import Completed, Event, Requested, RunCompleted
from pyworkflow.model import RunQuery
from pyworkflow.ports import DurableRuntime
from pyworkflow.testing.runtime_kit.workflows import notes

HERE = Path(__file__).parent
_GRAIN = 0.002  # seconds; AWS's times are in milliseconds


class Fleet:
    """Workers that are replaced when they die.

    Attributes:
        kills: How many of them were killed from outside.
    """

    def __init__(self, folder: Path, count: int, settings: Mapping[str, str], **environment: str) -> None:
        told = {f"PYWORKFLOW_{name.upper()}": value for name, value in settings.items()}
        env = {**os.environ, **told, **environment, "PYTHONPATH": str(HERE)}
        command = [sys.executable, str(HERE / "nursery.py"), str(folder), str(count)]
        self.log = folder / "workers.log"
        self._folder = folder
        self.kills = 0
        self._killed = set[int]()
        with self.log.open("ab") as log:
            self._nursery = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=env, bufsize=0
            )
        assert self._nursery.stdout is not None
        os.set_blocking(self._nursery.stdout.fileno(), False)
        self._born = b""

    @property
    def alive(self) -> list[int]:
        """The workers that there are, the youngest last."""
        assert self._nursery.stdout is not None
        self._born += self._nursery.stdout.read() or b""  # None: nobody was born since the last time
        living = [pid for pid in map(int, self._born.splitlines()) if Path(f"/proc/{pid}").exists()]
        return [pid for pid in living if pid not in self._killed]  # a killed one may be a zombie for a moment

    @property
    def working(self) -> list[int]:
        """Those of them that have begun to look for work."""
        begun = set(map(int, notes(str(self._folder / "working"))))
        return [pid for pid in self.alive if pid in begun]

    def kill(self, pid: int) -> None:
        """Kill a worker."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills += 1
            self._killed.add(pid)

    async def kill_now_and_then(self, chance: random.Random, pause: float) -> None:
        """Kill workers until cancelled, *pause* seconds after each other in the mean."""
        while True:
            await asyncio.sleep(chance.uniform(0, 2 * pause))
            if living := self.alive:  # nobody is yet, in the first moments
                self.kill(chance.choice(living))

    def close(self) -> None:
        """Have them end; one that does not says where it is."""
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.close()
        try:
            self._nursery.wait(30)
        except subprocess.TimeoutExpired:
            for pid in self.alive:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGUSR1)
            time.sleep(1)  # they write where they are to the log
            raise AssertionError(f"workers do not end:\n{self.log.read_text()}") from None
        finally:
            self._nursery.kill()
            self._nursery.wait()
            for pid in self.alive:
                self.kill(pid)
            self._nursery.stdout.close()


@contextmanager
def fleet(folder: Path, count: int, settings: Mapping[str, str], **environment: str) -> Iterator[Fleet]:
    """Run workers while the context lasts."""
    workers = Fleet(folder, count, settings, **environment)
    try:
        yield workers
    finally:
        workers.close()


def to_do(folder: Path, lines: Sequence[tuple[int, str, str, list[Any]]]) -> None:
    """Tell workers what to start: which of them, the workflow, the id of the run, and its arguments."""
    (folder / "todo").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


async def results(runtime: DurableRuntime, run_ids: Sequence[str], seconds: float) -> dict[str, Any]:
    """Wait for runs that others start and carry out; what did not end in time has no result, and is lost or stuck."""
    found: dict[str, Any] = {}
    room = asyncio.Semaphore(16)  # who asks for all of them at once keeps the storage from everything else

    async def one(run_id: str) -> None:
        async with room:
            while run_id not in found:
                try:
                    found[run_id] = await runtime.result(run_id)
                except RunNotFound:  # nobody has started it yet
                    await asyncio.sleep(0.1)
                except WorkflowError as error:
                    found[run_id] = error

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(one(run_id) for run_id in run_ids))
    return found


async def histories(app: App) -> AsyncIterator[tuple[str, Sequence[Event]]]:
    """Yield every run that there is, and its events."""
    cursor: str | None = None
    while True:
        page = await app.runs(RunQuery(limit=100, cursor=cursor))
        for run in page.runs:
            yield run.id, (await app.recorded().history(run.id))[1]
        cursor = page.cursor
        if cursor is None:
            return


def wrong(run_id: str, history: Sequence[Event], log: str) -> list[str]:
    """Return what is wrong with the history of a run that has ended, and with the effects of its steps."""
    problems = []
    asked = [event.command.op for event in history if isinstance(event, Requested)]
    if asked != list(range(1, len(asked) + 1)):
        problems.append(f"{run_id} asked for {asked}")
    completed = {event.op: event.at.timestamp() for event in history if isinstance(event, Completed)}
    if max(Counter(event.op for event in history if isinstance(event, Completed)).values(), default=1) > 1:
        problems.append(f"{run_id} recorded a result twice")
    if sum(isinstance(event, RunCompleted) for event in history) != 1 or not isinstance(history[-1], RunCompleted):
        problems.append(f"{run_id} did not end once")
    for line in notes(log):
        key, name, _, _, at = line.split(" ")
        run, _, op = key.rpartition("/")
        if run == run_id and float(at) > completed.get(int(op), float("inf")) + _GRAIN:
            problems.append(f"{run_id}: step {name} began again after its result was recorded")
    return problems
