"""pyworkflow-engine on its local runtime, durable, on SQLite; and transient for C."""

import asyncio
import sys
import time
from pathlib import Path

from loguru import logger
from measure import STEPS, emit, percentiles
from pyworkflow.core.strategy import WorkflowRunStrategy
from pyworkflow.storage.sqlite import SQLiteStorageBackend

import pyworkflow

began: list[float] = []
strategy = WorkflowRunStrategy(sys.argv[2])


@pyworkflow.step()
async def add_one(number: int) -> int:
    return number + 1


@pyworkflow.workflow(durable=True)
async def steps(count: int) -> int:
    number = 0
    for _ in range(count):
        number = await add_one(number)
    return number


@pyworkflow.step()
async def note_time() -> None:
    began.append(time.time())


@pyworkflow.workflow(durable=True)
async def first_step() -> None:
    await note_time()


async def run(count: int) -> None:
    await pyworkflow.start(steps, count, workflow_run_strategy=strategy)  # returns once the run has ended


async def sequential(runs: int) -> None:
    """A: one run after another."""
    await run(STEPS)
    started = time.perf_counter()
    for _ in range(runs):
        await run(STEPS)
    emit(per_second=runs * STEPS / (time.perf_counter() - started))


async def concurrent(runs: int) -> None:
    """B: *runs* at once."""
    await run(STEPS)
    started = time.perf_counter()
    await asyncio.gather(*(run(STEPS) for _ in range(runs)))
    emit(per_second=runs * STEPS / (time.perf_counter() - started))


async def long(count: int) -> None:
    """D: one run of *count* steps."""
    await run(STEPS)
    started = time.perf_counter()
    await run(count)
    emit(seconds=time.perf_counter() - started)


async def latency(runs: int) -> None:
    """H: from the call of start() to the first line of the first step."""
    waited = []
    for number in range(runs + 10):
        started = time.time()
        await pyworkflow.start(first_step, workflow_run_strategy=strategy)
        if number >= 10:
            waited.append(began[-1] - started)
    emit(**percentiles(waited))


async def main(what: str, size: int) -> None:
    """Do what `run.py` asks for."""
    logger.remove()
    storage = SQLiteStorageBackend(str(Path("engine.db").absolute()))
    await storage.connect()
    pyworkflow.configure(storage=storage)
    case = {"sequential": sequential, "concurrent": concurrent, "long": long, "latency": latency}[what]
    await case(size)
    ended = await storage.list_runs(limit=1)
    assert ended[0][0].status.value == "completed", ended
    await storage.disconnect()


asyncio.run(main(sys.argv[1], int(sys.argv[3])))
