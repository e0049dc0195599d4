"""E: pyworkflow on Celery, Redis and SQLite (FULL)."""

import asyncio
import os
import statistics
import time
from pathlib import Path

from celery_worker import worker
from measure import STEPS, emit
from ours_celery_flows import fan_out, steps, transient

import pyworkflow
from pyworkflow.app import default_app

RUNS, SINGLE, FAN = 100, 20, 100


async def seconds_of(handle: pyworkflow.RunHandle[int]) -> float:
    """Return how long a run took from its first event to its last; asking for a result polls, and would add to it."""
    events = await handle.history()
    return (events[-1].at - events[0].at).total_seconds()


async def main() -> None:
    await steps(STEPS)
    await transient(STEPS)
    seen = []
    for _ in range(SINGLE):
        started = time.perf_counter()
        assert await steps(STEPS) == STEPS
        seen.append(time.perf_counter() - started)
    handles = await asyncio.gather(*(pyworkflow.start(steps, STEPS) for _ in range(RUNS)))
    await asyncio.gather(*(handle.result() for handle in handles))
    histories = [await handle.history() for handle in handles]
    took = max(events[-1].at for events in histories) - min(events[0].at for events in histories)
    fans = []
    for _ in range(3):
        handle = await pyworkflow.start(fan_out, FAN)
        await handle.result()
        fans.append(FAN / await seconds_of(handle))
    started = time.perf_counter()
    for _ in range(SINGLE):
        assert await transient(STEPS) == STEPS
    task = (time.perf_counter() - started) / SINGLE
    await default_app().close()
    emit(
        in_flight_per_s=RUNS * STEPS / took.total_seconds(),
        one_ms=1e3 * statistics.median(seen),
        fan_out_per_s=statistics.median(fans),
        transient_ms=1e3 * task,
    )


os.environ |= {
    "PYWORKFLOW_DEFAULT_RUNTIME": "celery",
    "PYWORKFLOW_CELERY_BROKER": os.environ["BENCH_REDIS"] + "/0",
    "PYWORKFLOW_CELERY_RESULT_BACKEND": os.environ["BENCH_REDIS"] + "/1",
    "PYWORKFLOW_STORAGE": f"sqlite:////{Path('celery.db').absolute()}",
}
with worker("pyworkflow", "worker", "ours_celery_flows", "--concurrency", "2"):
    asyncio.run(main())
