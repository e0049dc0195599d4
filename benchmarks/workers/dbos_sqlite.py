"""DBOS on SQLite: as it comes (async), or with sync workflows on a file in WAL mode."""

import asyncio
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from dbos import DBOS, DBOSConfig
from measure import STEPS, emit, percentiles

began: list[float] = []


@DBOS.step()
async def add_one(number: int) -> int:
    return number + 1


@DBOS.workflow()
async def steps(count: int) -> int:
    number = 0
    for _ in range(count):
        number = await add_one(number)
    return number


@DBOS.step()
def sync_add_one(number: int) -> int:
    return number + 1


@DBOS.workflow()
def sync_steps(count: int) -> int:
    number = 0
    for _ in range(count):
        number = sync_add_one(number)
    return number


@DBOS.step()
async def note_time() -> None:
    began.append(time.time())


@DBOS.workflow()
async def first_step() -> None:
    await note_time()


@DBOS.workflow()
async def sleeper(due: float) -> None:
    await DBOS.sleep_async(due - time.time())
    began.append(time.time())


async def sequential(runs: int) -> None:
    """A: one run after another."""
    await steps(STEPS)
    started = time.perf_counter()
    for _ in range(runs):
        assert await steps(STEPS) == STEPS
    emit(per_second=runs * STEPS / (time.perf_counter() - started))


async def sync_sequential(runs: int) -> None:
    """A: the same, sync; the event loop has nothing to do meanwhile."""
    sync_steps(STEPS)
    started = time.perf_counter()
    for _ in range(runs):
        assert sync_steps(STEPS) == STEPS
    emit(per_second=runs * STEPS / (time.perf_counter() - started))


async def concurrent(runs: int) -> None:
    """B: *runs* at once."""
    await steps(STEPS)
    started = time.perf_counter()
    await asyncio.gather(*(steps(STEPS) for _ in range(runs)))
    emit(per_second=runs * STEPS / (time.perf_counter() - started))


async def sync_concurrent(runs: int) -> None:
    """B: the same, sync, in as many threads as there are runs."""
    sync_steps(STEPS)
    with ThreadPoolExecutor(runs) as pool:
        started = time.perf_counter()
        for future in [pool.submit(sync_steps, STEPS) for _ in range(runs)]:
            future.result()
        emit(per_second=runs * STEPS / (time.perf_counter() - started))


async def long(count: int) -> None:
    """D: one run of *count* steps."""
    await steps(STEPS)
    started = time.perf_counter()
    assert await steps(count) == count
    emit(seconds=time.perf_counter() - started)


async def timers(count: int) -> None:
    """F: *count* sleeping runs, due within one second, once all of them sleep."""
    first_due = time.time() + count / 20
    dues = [first_due + number / count for number in range(count)]
    for first in range(0, count, 50):
        await asyncio.gather(*(DBOS.start_workflow_async(sleeper, due) for due in dues[first : first + 50]))
    assert time.time() < first_due, "starting took too long"
    while len(began) < count:
        await asyncio.sleep(0.05)
    emit(gone_on_after_s=max(began) - min(began))


async def latency(runs: int) -> None:
    """H: from the call of start to the first line of the first step."""
    waited = []
    for number in range(runs + 10):
        started = time.time()
        handle = await DBOS.start_workflow_async(first_step)
        await handle.get_result()
        if number >= 10:
            waited.append(began[-1] - started)
    emit(**percentiles(waited))


async def main(what: str, mode: str, size: int) -> None:
    """Do what `run.py` asks for."""
    if mode == "wal":
        db = sqlite3.connect("dbos.db")  # the mode stays with the file
        db.execute("pragma journal_mode = wal")
        db.close()
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": "sqlite:///dbos.db",
        "log_level": "ERROR",
        "run_admin_server": False,
    }
    DBOS(config=config)
    DBOS.launch()
    case = {
        "sequential": sequential,
        "sync_sequential": sync_sequential,
        "concurrent": concurrent,
        "sync_concurrent": sync_concurrent,
        "long": long,
        "timers": timers,
        "latency": latency,
    }[what]
    await case(size)
    DBOS.destroy()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
