"""Many parked runs on one SQLite file, sleeping or waiting on hooks: what each costs, and how long all take to go on.

python benchmarks/parked.py [sleeping|waiting|expiring] [RUNS]     by default all three, 10 000 runs each

Runs sleep until the same second, wait for a payload each, which all come at once, or wait for one that does not come
before the same second. None is kept in memory, which is what a process sees that has more parked runs than `kept`.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyworkflow import App, hook, sleep, workflow
from pyworkflow.app import set_default_app
from pyworkflow.errors import HookExpired
from pyworkflow.model import RunQuery, Status

_AT_ONCE = 500


@workflow(durable=True)
async def sleeping(until: datetime, number: int) -> int:
    await sleep(until)
    return number


@workflow(durable=True)
async def waiting(until: datetime, number: int) -> int:  # noqa: ARG001 -- all three are started alike
    return await hook("answer", int, token=f"answer-{number}")


@workflow(durable=True)
async def expiring(until: datetime, number: int) -> int:
    try:
        return await hook("answer", int, token=f"answer-{number}", timeout=until)
    except HookExpired:
        return number


FLOWS = {flow.name: flow for flow in (sleeping, waiting, expiring)}


def memory() -> float:
    """Return the memory of this process, in bytes."""
    import gc

    gc.collect()
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return float(line.split()[1]) * 1024


def pending() -> tuple[int, int]:
    """Return how many tasks and timers the event loop has."""
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]  # noqa: SLF001 -- no other way to see
    return len(asyncio.all_tasks()), len(scheduled)


async def many(acts: list[Awaitable[object]]) -> None:
    """Do *acts*, some hundred at once."""
    for first in range(0, len(acts), _AT_ONCE):
        await asyncio.gather(*acts[first : first + _AT_ONCE])


async def measure(kind: str, runs: int, path: Path) -> None:
    """Park runs, wake them, and print the figures."""
    flow = FLOWS[kind]
    async with App(storage=f"sqlite:///{path}", default_runtime="local?kept=0") as app:
        set_default_app(app)
        await asyncio.gather(*(app.call(sleeping, (datetime.now(UTC), 0)) for _ in range(_AT_ONCE)))  # warm by now
        before, idle = memory(), pending()
        due = datetime.now(UTC) + timedelta(seconds=max(5.0, runs / 400))
        await many([app.start(flow, (due, number)) for number in range(runs)])
        parked = (memory() - before) / runs
        tasks, timers = (now - then for now, then in zip(pending(), idle, strict=True))
        if kind == "waiting":
            began, used = time.perf_counter(), time.process_time()
            await many([app.resume_hook(f"answer-{number}", number) for number in range(runs)])
        else:
            await asyncio.sleep((due - datetime.now(UTC)).total_seconds())
            began, used = time.perf_counter(), time.process_time()
        while (await app.runs(RunQuery(Status.RUNNING, limit=1))).runs:
            await asyncio.sleep(0.05)
        took, cpu = time.perf_counter() - began, time.process_time() - used
        ended = await app.runs(RunQuery(Status.COMPLETED, limit=runs + 2 * _AT_ONCE))
        assert len(ended.runs) == runs + _AT_ONCE
    print(f"{runs} runs {kind}: {parked:.0f} bytes of memory a run")
    print(f"  {tasks:+d} tasks and {timers:+d} timers of the event loop while all are parked")
    sent = ", with sending it its payload" if kind == "waiting" else ""
    print(f"  all had gone on after {took:.1f} s: {1e6 * cpu / runs:.0f} us of processor time a run{sent}")


def main(kinds: list[str], runs: int) -> None:
    """Measure each kind, in a process of its own if there are several."""
    if len(kinds) > 1:
        for kind in kinds:
            subprocess.run([sys.executable, __file__, kind, str(runs)], check=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(kinds[0], runs, Path(folder) / "runs.db"))


if __name__ == "__main__":
    named = [argument for argument in sys.argv[1:] if argument in FLOWS]
    counts = [int(argument) for argument in sys.argv[1:] if argument not in FLOWS]
    main(named or [*FLOWS], counts[0] if counts else 10_000)
