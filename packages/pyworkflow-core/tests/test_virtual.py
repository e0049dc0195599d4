"""Simulated processes: what they are for simulations, and what only virtual time can show."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from pyworkflow import App, current_step, step, workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.engine import StoredRuntime
from pyworkflow.testing.simulation.virtual import Process, Pulse, Schedule, VirtualClock


class Local(StoredRuntime):
    heartbeat = Pulse


class Counting(MemoryStorage):
    """Counts how often somebody looks for work."""

    claims = 0

    async def claim(self, *args: Any, **options: Any) -> Any:
        self.claims += 1
        return await super().claim(*args, **options)


@step(name="virtual.second_try", retries=1, retry_delay="1s")
async def second_try() -> str:
    if current_step().attempt == 1:
        raise OSError
    await asyncio.sleep(100)
    return "done"


@workflow(name="virtual.patient")
async def patient() -> str:
    return await second_try()


@pytest.fixture
def process() -> Iterator[Process]:
    process = Schedule(Random(1)).process("p")
    yield process
    process.kill()
    process.bury()


def call(process: Process, storage: MemoryStorage, flow: Any) -> Any:
    app = App(storage=storage, clock=VirtualClock(process), default_durable=True)
    app._runtimes["local"] = Local(app)
    return process.schedule.run(process, app.call(flow), 1000)


def test_a_retried_attempt_does_not_keep_its_worker_looking_for_work(process: Process) -> None:
    storage = Counting()
    assert call(process, storage, patient) == "done"
    assert process.schedule.now > 100
    assert storage.claims < 120, "once a second, and now and then"


def test_time_passes_only_when_nothing_is_ready(process: Process) -> None:
    async def sleeps() -> float:
        await asyncio.sleep(3600)
        return process.time()

    assert process.schedule.run(process, sleeps(), 4000) == pytest.approx(3600, abs=0.01)


def test_what_never_ends_is_said_to(process: Process) -> None:
    with pytest.raises(TimeoutError, match="not over after 10 s"):
        process.schedule.run(process, asyncio.Event().wait(), 10)


def test_nothing_of_a_killed_process_runs_again(process: Process) -> None:
    outside, seen = process.schedule.process("outside"), []

    async def works() -> None:
        while True:
            await asyncio.sleep(1)
            seen.append(process.time())

    async def kills() -> None:
        process.create_task(works())
        await asyncio.sleep(3.5)
        process.kill()
        await asyncio.sleep(10)
        process.schedule.processes.append(process)  # the fixture takes it away once more

    process.schedule.run(outside, kills(), 100)
    assert len(seen) == 3


def test_a_set_of_tasks_or_futures_has_an_order_that_does_not_depend_on_memory(process: Process) -> None:
    tasks = [process.create_task(asyncio.sleep(0)) for _ in range(20)]
    assert list({*reversed(tasks)}) == tasks
    futures = [process.create_future() for _ in range(20)]
    assert list({*reversed(futures)}) == futures
