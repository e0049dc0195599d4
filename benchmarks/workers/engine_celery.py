"""E: pyworkflow-engine on Celery, Redis and SQLite."""

import asyncio
import os
import sys
import time
from pathlib import Path

from celery_worker import worker
from engine_celery_flows import steps
from loguru import logger
from measure import STEPS, emit
from pyworkflow.core.strategy import WorkflowRunStrategy
from pyworkflow.storage.sqlite import SQLiteStorageBackend

import pyworkflow

strategy = WorkflowRunStrategy(sys.argv[1])
RUNS = 10
QUEUES = "pyworkflow.default,pyworkflow.workflows,pyworkflow.steps,pyworkflow.authoring.schedule"


async def begin() -> str:
    return await pyworkflow.start(steps, STEPS, runtime="celery", workflow_run_strategy=strategy)


async def end(storage: SQLiteStorageBackend, run_id: str) -> None:
    while (run := await storage.get_run(run_id)) is None or run.status.value != "completed":
        await asyncio.sleep(0.002)


async def main(database: str) -> None:
    storage = SQLiteStorageBackend(database)
    await storage.connect()
    pyworkflow.configure(storage=storage, default_runtime="celery", celery_broker=os.environ["BENCH_REDIS"] + "/0")
    await end(storage, await begin())
    started = time.perf_counter()
    for _ in range(RUNS // 4):
        await end(storage, await begin())
    one = (time.perf_counter() - started) / (RUNS // 4)
    started = time.perf_counter()
    for run_id in [await begin() for _ in range(RUNS)]:
        await end(storage, run_id)
    emit(in_flight_per_s=RUNS * STEPS / (time.perf_counter() - started), one_ms=1e3 * one)
    await storage.disconnect()


logger.remove()
path = str(Path("engine.db").absolute())
settings = {
    "PYWORKFLOW_DISCOVER": "engine_celery_flows",
    "PYWORKFLOW_CELERY_BROKER": os.environ["BENCH_REDIS"] + "/0",
    "PYWORKFLOW_STORAGE_TYPE": "sqlite",
    "PYWORKFLOW_STORAGE_PATH": path,
    "PYWORKFLOW_LOG_LEVEL": "ERROR",
}
os.environ |= settings
with worker("celery", "-A", "pyworkflow.celery.app", "worker", "--concurrency", "2", "-l", "WARNING", "-Q", QUEUES):
    asyncio.run(main(path))
