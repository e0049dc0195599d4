"""Processes on one file: they share the work, leave each other's alone, and take over what a dead one held."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from attrs import frozen

from pyworkflow import App, wire
from pyworkflow.events import Completed
from pyworkflow.testing.runtime_kit.workflows import notes

pytestmark = pytest.mark.asyncio
CHILD = Path(__file__).with_name("sharing_child.py")


class Process:
    """A process on the file, and what it prints."""

    def __init__(self, folder: Path, workflow: str, count: int) -> None:
        command = [sys.executable, str(CHILD), str(folder / "runs.db"), str(folder / "log"), workflow, str(count)]
        self._popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.pid = self._popen.pid
        assert self.read() == "working"

    def read(self) -> str:
        """The next line; empty at the end."""
        return self._popen.stdout.readline().strip()

    def result(self) -> str:
        """The result of the next run of those that it started."""
        while not (line := self.read()).startswith("done "):
            assert line == "holding"
        return line.split(" ")[2]

    def holding(self) -> None:
        """Wait until a step of it waits to be released."""
        assert self.read() == "holding"

    def release(self) -> None:
        """Let the steps that wait in it go on."""
        self._popen.stdin.write("go on\n")

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)
        if number == signal.SIGKILL:
            self._popen.wait()

    def end(self) -> None:
        """End it in good order."""
        self._popen.stdin.close()
        self._popen.stdout.read()
        assert self._popen.wait() == 0

    def clean_up(self) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()
        self._popen.stdin.close()
        self._popen.stdout.close()


@frozen
class Line:
    """What a step noted: which process did what."""

    pid: int
    what: str
    run: str
    step: str


@pytest.fixture
def begin(tmp_path: Path) -> Iterator:
    """Begin a process that starts *count* runs of *workflow*, and works."""
    with ExitStack() as stack:

        def begin(workflow: str = "", count: int = 0) -> Process:
            process = Process(tmp_path, workflow, count)
            stack.callback(process.clean_up)
            return process

        yield begin


def lines(folder: Path, what: str = "begin") -> list[Line]:
    every = [line.split(" ") for line in notes(str(folder / "log"))]
    return [Line(int(pid), kind, run, step) for pid, kind, run, step in every if kind == what]


def histories(folder: Path) -> dict[str, list[object]]:
    """Every run's events."""
    connection = sqlite3.connect(folder / "runs.db")
    rows = connection.execute("select run_id, data from events order by run_id, seq").fetchall()
    connection.close()
    found: dict[str, list[object]] = {}
    for run, data in rows:
        found.setdefault(run, []).extend(wire.loads(data))
    return found


async def test_two_processes_share_the_work_and_never_the_same_attempt(begin, tmp_path):
    processes = [begin("naps", 30), begin("naps", 30)]
    for process in processes:
        assert {process.result() for _ in range(30)} == {"10"}
    for process in processes:
        process.end()
    began = Counter((line.run, line.step) for line in lines(tmp_path))
    assert began == {(run, str(step)): 1 for run in histories(tmp_path) for step in range(5)}
    assert len(histories(tmp_path)) == 60
    helped = {line.pid for line in lines(tmp_path) if f"-{line.pid}-" not in line.run}
    assert helped, "each process carried out its own runs only"


@pytest.mark.parametrize("step", ["holds", "hogs"])
async def test_a_run_of_a_living_process_is_left_alone(begin, tmp_path, step):
    holder = begin(step, 1)
    holder.holding()
    other = begin("two_leases_long", 1)
    assert other.result() == "0"  # it has looked for work for more than two leases now
    holder.release()
    assert holder.result() == str(holder.pid)
    holder.end()
    other.end()
    assert {line.pid for line in lines(tmp_path) if line.run.startswith(step)} == {holder.pid}
    assert max(Counter((line.run, line.step) for line in lines(tmp_path)).values()) == 1


async def results(folder: Path) -> dict[str, object]:
    """Wait for the end of every run that there is, without taking part in the work."""
    async with App(storage=f"sqlite:///{folder}/runs.db") as app:
        return {run: await app.recorded().result(run) for run in histories(folder)}


async def test_the_runs_of_a_killed_process_are_taken_over_where_they_were(begin, tmp_path):
    victim = begin("holds", 10)
    for _ in range(10):
        victim.holding()
    done_before = {(line.run, line.step) for line in lines(tmp_path, "end")}
    assert len(done_before) == 10
    victim.signal(signal.SIGKILL)
    heir = begin()
    heir.release()
    found = await results(tmp_path)
    heir.end()
    assert list(found.values()) == [heir.pid] * 10
    by_heir = {(line.run, line.step) for line in lines(tmp_path) if line.pid == heir.pid}
    assert by_heir == {(run, step) for run in found for step in ("waits", "1")}


async def test_a_process_that_wakes_up_after_its_runs_were_taken_over_changes_nothing(begin, tmp_path):
    sleeper = begin("holds", 1)
    sleeper.holding()
    sleeper.signal(signal.SIGSTOP)
    heir = begin()
    heir.release()
    found = await results(tmp_path)
    assert list(found.values()) == [heir.pid]
    whole = histories(tmp_path)
    sleeper.signal(signal.SIGCONT)
    sleeper.release()
    assert sleeper.result() == str(heir.pid)
    sleeper.end()
    heir.end()
    assert histories(tmp_path) == whole
    (events,) = whole.values()
    assert max(Counter(event.op for event in events if isinstance(event, Completed)).values()) == 1
