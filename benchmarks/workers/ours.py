"""pyworkflow on the local runtime, durable, on SQLite."""

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from measure import STEPS, emit, memory, percentiles

import pyworkflow
from pyworkflow.app import default_app
from pyworkflow.replay.machine import Machine

began: list[float] = []


@pyworkflow.step
async def add_one(number: int) -> int:
    return number + 1


@pyworkflow.workflow(durable=True)
async def steps(count: int) -> int:
    number = 0
    for _ in range(count):
        number = await add_one(number)
    return number


@pyworkflow.step
async def note_time() -> None:
    began.append(time.time())


@pyworkflow.workflow(durable=True)
async def first_step() -> None:
    await note_time()


@pyworkflow.workflow(durable=True)
async def sleeper(due: datetime) -> None:
    await pyworkflow.sleep(due)
    await note_time()


async def sequential(runs: int) -> None:
    """A: one run after another."""
    for _ in range(runs // 5):
        await steps(STEPS)
    started = time.perf_counter()
    for _ in range(runs):
        assert await steps(STEPS) == STEPS
    emit(per_second=runs * STEPS / (time.perf_counter() - started))


async def concurrent(runs: int, waves: int = 5) -> None:
    """B: *runs* at once, wave after wave."""
    await asyncio.gather(*(steps(STEPS) for _ in range(runs)))
    started = time.perf_counter()
    for _ in range(waves):
        await asyncio.gather(*(steps(STEPS) for _ in range(runs)))
    emit(per_second=waves * runs * STEPS / (time.perf_counter() - started))


async def in_flight(runs: int) -> None:
    """B: so many at once, and the memory that each one takes at the peak."""
    await asyncio.gather(*(steps(STEPS) for _ in range(100)))
    before = memory()
    started = time.perf_counter()
    await asyncio.gather(*(steps(STEPS) for _ in range(runs)))
    rate = runs * STEPS / (time.perf_counter() - started)
    emit(per_second=rate, kb_per_run=(memory("VmHWM") - before) / runs)


async def long(count: int) -> None:
    """D: one run of *count* steps, and its replay from the file."""
    await steps(STEPS)
    started = time.perf_counter()
    handle = await pyworkflow.start(steps, count, run_id="long")
    assert await handle.result() == count
    seconds = time.perf_counter() - started
    storage = default_app().storage
    started = time.perf_counter()
    run, events = await storage.load("long")
    Machine(steps.body, run.id).feed(events)
    replay = time.perf_counter() - started
    emit(seconds=seconds, replay_us_per_step=1e6 * replay / count)


async def timers(count: int) -> None:
    """F: *count* parked runs, none of them kept in memory, due within one second."""
    pyworkflow.configure(default_runtime="local?kept=0")
    await asyncio.gather(*(steps(STEPS) for _ in range(100)))
    tasks, before = len(asyncio.all_tasks()), memory()
    first_due = datetime.now(UTC) + timedelta(seconds=max(3.0, count / 800))
    dues = [first_due + timedelta(seconds=number / count) for number in range(count)]
    for first in range(0, count, 500):
        await asyncio.gather(*(pyworkflow.start(sleeper, due) for due in dues[first : first + 500]))
    parked, left = (memory() - before) * 1024 / count, len(asyncio.all_tasks()) - tasks
    assert datetime.now(UTC) < first_due, "starting took too long"
    while len(began) < count:
        await asyncio.sleep(0.05)
    emit(gone_on_after_s=max(began) - min(began), bytes_per_parked_run=parked, tasks_left=left)


async def latency(runs: int) -> None:
    """H: from the call of start() to the first line of the first step."""
    waited = []
    for number in range(runs + 50):
        started = time.time()
        handle = await pyworkflow.start(first_step)
        await handle.result()
        if number >= 50:
            waited.append(began[-1] - started)
    emit(**percentiles(waited))


async def main(what: str, synchronous: str, size: int) -> None:
    """Do what `run.py` asks for."""
    pyworkflow.configure(storage=f"sqlite:////{Path('ours.db').absolute()}?synchronous={synchronous}")
    case = {
        "sequential": sequential,
        "concurrent": concurrent,
        "in_flight": in_flight,
        "long": long,
        "timers": timers,
        "latency": latency,
    }[what]
    await case(size)
    await default_app().close()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
