"""Holds what a run costs, in counts that do not depend on how busy the machine is: transactions, events, bytecodes.

``python benchmarks/guard.py`` prints each count beside its limit, and fails if one is above it. A limit is what was
counted when it was set, and a margin of a tenth or so for Pythons that count differently; lower it with the count.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Self

from attrs import frozen

import pyworkflow
from pyworkflow.app import App
from pyworkflow.engine.options import WorkerOptions
from pyworkflow.engine.runtime import StoredRuntime
from pyworkflow.model import History, Job, RunQuery, Status
from pyworkflow.ports import Mode, StartRequest
from pyworkflow_sqlite import SQLiteStorage, database

STEPS = 50


@frozen
class Count:
    """Something that was counted, and how much of it there may be."""

    what: str
    counted: float
    limit: float

    @property
    def is_kept(self) -> bool:
        """Whether it is within its limit."""
        return self.counted <= self.limit

    def __str__(self) -> str:
        return f"{'ok' if self.is_kept else 'TOO MUCH':9}{self.counted:>10g} of {self.limit:<8g} {self.what}"


class Counting(SQLiteStorage):
    """Counts what is loaded: events, and how often."""

    loaded = loads = 0

    async def load(self, run_id: str, after: int = 0) -> History:
        """Load as ever."""
        run, events = await super().load(run_id, after)
        self.loaded += len(events)
        self.loads += 1
        return run, events

    async def load_many(self, run_ids: Sequence[str]) -> Mapping[str, History]:
        """Load as ever."""
        found = await super().load_many(run_ids)
        self.loaded += sum(len(events) for _, events in found.values())
        self.loads += 1
        return found


class Messages(StoredRuntime):
    """Counts the messages that it would send to a broker."""

    begins = False
    sent = 0

    async def notify(self, jobs: Sequence[Job]) -> None:
        """Count them."""
        self.sent += len(jobs)


@pyworkflow.step
async def add_one(number: int) -> int:
    return number + 1


@pyworkflow.workflow(durable=True)
async def steps(count: int) -> int:
    number = 0
    for _ in range(count):
        number = await add_one(number)
    return number


@pyworkflow.workflow(durable=True)
async def steps_then_hook(count: int) -> int:
    number = 0
    for _ in range(count):
        number = await add_one(number)
    return number + await pyworkflow.hook("more", int, token=f"guard-{count}")


@pyworkflow.workflow(durable=False)
async def transient(count: int) -> int:
    number = 0
    for _ in range(count):
        number = await add_one(number)
    return number


# -- how things are counted ------------------------------------------------------------------


class Bytecodes:
    """Counts the bytecodes of our packages on this thread, within a ``with``."""

    def __init__(self) -> None:
        self.count = 0
        modules = pyworkflow, sys.modules["pyworkflow_sqlite"]
        self._ours = tuple(str(Path(module.__file__ or "").parent) for module in modules)
        self._thread = threading.get_ident()

    if sys.version_info >= (3, 12):  # where tracing counts some twice

        def __enter__(self) -> Self:
            events = sys.monitoring.events
            sys.monitoring.use_tool_id(sys.monitoring.PROFILER_ID, "guard")
            sys.monitoring.register_callback(sys.monitoring.PROFILER_ID, events.INSTRUCTION, self._see)
            sys.monitoring.set_events(sys.monitoring.PROFILER_ID, events.INSTRUCTION)
            return self

        def __exit__(self, *_: object) -> None:
            sys.monitoring.set_events(sys.monitoring.PROFILER_ID, 0)
            sys.monitoring.free_tool_id(sys.monitoring.PROFILER_ID)

        def _see(self, code: CodeType, _: int) -> Any:
            if not code.co_filename.startswith(self._ours):
                return sys.monitoring.DISABLE
            self.count += threading.get_ident() == self._thread
            return None

    else:

        def __enter__(self) -> Self:
            self._before = sys.gettrace()
            sys.settrace(self._trace)
            return self

        def __exit__(self, *_: object) -> None:
            sys.settrace(self._before)

        def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
            if event == "call":
                if not frame.f_code.co_filename.startswith(self._ours):
                    return None
                frame.f_trace_opcodes, frame.f_trace_lines = True, False
            self.count += event == "opcode"
            return self._trace


async def bytecodes(act: Callable[[], Awaitable[Any]]) -> int:
    """Return how many bytecodes of our packages *act* takes on this thread."""
    with Bytecodes() as bytecodes:
        await act()
    return bytecodes.count


async def per_step(app: App, workflow: Any) -> float:
    """Return how many bytecodes one step more takes."""
    fewer = await bytecodes(lambda: app.call(workflow, (STEPS,)))
    more = await bytecodes(lambda: app.call(workflow, (2 * STEPS,)))
    return (more - fewer) / STEPS


async def statements(app: App, storage: SQLiteStorage) -> float:
    """Return how many SQL statements one step more takes, its transaction included."""
    seen: list[str] = []
    inner = storage._database  # noqa: SLF001 -- nobody else has a use for it
    inner.call(lambda db: db.set_trace_callback(seen.append), writes=False)
    counts = []
    for count in (STEPS, 2 * STEPS):
        seen.clear()
        await app.call(steps, (count,))
        counts.append(len([text for text in seen if not text.startswith(("--", "pragma"))]))
    inner.call(lambda db: db.set_trace_callback(None), writes=False)
    return (counts[1] - counts[0]) / STEPS


# -- what is counted --------------------------------------------------------------------------


async def of_storage(app: App, storage: Counting) -> list[Count]:
    """Count what reaches the storage."""
    await app.call(steps, (STEPS,))
    before = storage.commits
    await app.call(steps, (STEPS,))
    sequence = storage.commits - before
    before = storage.commits
    await asyncio.gather(*(app.call(steps, (10,)) for _ in range(200)))
    at_once = storage.commits - before
    storage.loaded = 0
    await app.call(steps, (STEPS,))
    held = storage.loaded
    handle = await app.start(steps_then_hook, (STEPS,))
    while not await app.recorded().hooks(handle.id):
        await asyncio.sleep(0)
    events = (await handle.run()).length
    storage.loaded = 0
    await app.resume_hook(f"guard-{STEPS}", 1)
    await handle.result()
    return [
        Count(f"transactions of a run of {STEPS} steps: one a step, and its start", sequence, STEPS + 1),
        Count("transactions of 200 runs of 10 steps at once", at_once, 15),
        Count("SQL statements of a step, which is a transaction", await statements(app, storage), 1),
        Count("events loaded by a run that goes on where it is", held, 0),
        # Whoever sends a payload reads the history once, for the hook's type; the run itself reads what is new.
        Count("events loaded for a payload, beyond the history", storage.loaded - events, 4),
    ]


async def of_messages(app: App) -> list[Count]:
    """Count the messages of a runtime with a broker, such as Celery's: its workers have room for one step each."""
    runtime = Messages(app, WorkerOptions(capacity=1, queues=frozenset({""})))
    await runtime.work()
    run_id = await runtime.start(StartRequest(steps, [STEPS], {}, Mode.DURABLE))
    await runtime.result(run_id)
    await runtime.close()
    return [Count(f"messages of a run of {STEPS} steps with a broker: its start", runtime.sent, 1)]


async def of_waking(app: App, storage: Counting) -> list[Count]:
    """Count what it takes to go on with runs that nobody holds."""
    leaves = Messages(app, WorkerOptions())
    for _ in range(100):
        await leaves.start(StartRequest(steps, [1], {}, Mode.DURABLE))
    storage.loads = 0
    before = storage.commits
    worker = StoredRuntime(app)
    await worker.work()
    while (await app.runs(RunQuery(status=Status.RUNNING, limit=1))).runs:
        await asyncio.sleep(0)
    await worker.close()
    return [
        Count("loads of 100 runs that are claimed together", storage.loads, 1),
        Count("transactions of 100 runs of a step that are claimed together", storage.commits - before, 8),
    ]


async def of_memory(app: App) -> list[Count]:
    """Count what is left of runs."""
    await asyncio.gather(*(app.call(steps, (10,)) for _ in range(20)))
    gc.collect()
    gc.disable()
    await asyncio.gather(*(app.call(steps, (10,)) for _ in range(20)))
    await asyncio.sleep(0)
    left = gc.collect() / 20
    gc.enable()
    return [Count("objects of a run of 10 steps that only the garbage collector frees", left, 2)]


async def of_code(app: App) -> list[Count]:
    """Count bytecodes."""
    await app.call(transient, (STEPS,))
    return [
        Count("bytecodes of a durable step", await per_step(app, steps), LIMITS["durable"]),
        Count("bytecodes of a transient step", await per_step(app, transient), LIMITS["transient"]),
    ]


def of_imports() -> list[Count]:
    """Count what ``import pyworkflow`` imports."""
    program = "import sys; a = set(sys.modules); import pyworkflow; print(*sorted(set(sys.modules) - a))"
    done = subprocess.run([sys.executable, "-I", "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    modules = done.stdout.split()
    heavy = {"cattrs", "click", "importlib.metadata", "pluggy", "rich", "sqlite3", "pyworkflow_sqlite"} & {*modules}
    return [
        Count("modules that importing pyworkflow imports", len(modules), LIMITS["modules"]),
        Count(f"heavy ones among them: {' '.join(sorted(heavy)) or 'none'}", len(heavy), 0),
    ]


LIMITS = {"durable": 1780, "transient": 225, "modules": 185}


async def counts(folder: str) -> Sequence[Count]:
    """Count everything."""
    storage = Counting(f"{folder}/guard.db", synchronous="normal")
    async with App(storage=storage) as app:
        return [
            *await of_storage(app, storage),
            *await of_messages(app),
            *await of_waking(app, storage),
            *await of_memory(app),
            *await of_code(app),
            *of_imports(),
        ]


def main() -> int:
    """Print the counts; return 1 if one of them is above its limit."""
    database.QUICK = 0.0  # all transactions on the storage's thread: which one does them depends on the disk
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(counts(folder))
    print(*found, sep="\n")
    return 0 if all(count.is_kept for count in found) else 1


if __name__ == "__main__":
    sys.exit(main())
