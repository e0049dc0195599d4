"""What a worker does when its storage fails, before or after it has done what it was asked."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from worker_flows import Counting, add, attempts, durable, held, left_by_a_lost_worker, outcome_of, sums

import pyworkflow
from pyworkflow import step, workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.errors import StorageError
from pyworkflow.events import Completed, Received, RunFailed

pytestmark = pytest.mark.asyncio


# -- writes --------------------------------------------------------------------------------------------


async def test_a_result_is_kept_until_the_storage_takes_it(caplog: pytest.LogCaptureFixture) -> None:
    storage = Counting()
    async with durable(storage) as app:
        handle = await app.start(sums, (3,))
        storage.fail_before = 3
        assert await handle.result(timeout=20) == 3
    assert "the disk is full" in caplog.text


async def test_a_write_whose_answer_was_lost_is_not_written_twice() -> None:
    storage = Counting()
    async with durable(storage) as app:
        handle = await app.start(sums, (3,))
        storage.fail_after = 2
        assert await handle.result(timeout=20) == 3
        events = await handle.history()
    assert sum(isinstance(event, Completed) for event in events) == 3


async def test_a_start_that_cannot_be_written_fails() -> None:
    class Full(MemoryStorage):
        async def create(self, *args: Any, **kwargs: Any) -> Any:
            raise StorageError("the disk is full")

    async with durable(Full()) as app:
        with pytest.raises(StorageError, match="full"):
            await app.start(sums, (3,))


@step(name="worker.fails", retries=0)
async def fails() -> None:
    raise ValueError("no")


@workflow(name="worker.tidies")
async def tidies() -> None:
    try:
        await fails()
    except ValueError:
        await add(1, 1)
        raise


async def test_what_the_storage_says_is_no_context_of_an_error_of_the_workflow() -> None:
    storage = Counting()
    storage.fail_after = 1  # so that it is written again, and conflicts with itself
    async with durable(storage) as app:
        handle = await app.start(tidies)
        with pytest.raises(ValueError, match="no"):
            await handle.result("20s")
        failed = (await handle.history())[-1]
    assert storage.fail_after == 0
    assert isinstance(failed, RunFailed)
    assert failed.error.cause is None


# -- leases --------------------------------------------------------------------------------------------


async def test_a_worker_whose_first_renewal_failed_is_none() -> None:
    class Away(MemoryStorage):
        fails = 0

        def renew(self, *args: Any, **kwargs: Any) -> Any:
            if self.fails:
                self.fails -= 1
                raise StorageError("the storage is away")
            return super().renew(*args, **kwargs)

    storage = Away()
    run_id = await left_by_a_lost_worker(storage, attempts)
    storage.fails = 1
    async with durable(storage) as app, asyncio.timeout(20):
        with pytest.raises(StorageError, match="away"):
            await app.recorded().work()
        await app.recorded().work()
        assert await app.recorded().result(run_id) == 2


async def test_what_a_claim_took_whose_answer_was_lost_is_taken_up_again() -> None:
    class Lossy(MemoryStorage):
        lost = 0

        async def claim(self, *args: Any, **kwargs: Any) -> Any:
            jobs = await super().claim(*args, **kwargs)
            if jobs and not self.lost:
                self.lost = len(jobs)
                raise StorageError("the answer was lost")
            return jobs

    storage = Lossy()
    run_id = await left_by_a_lost_worker(storage, attempts)
    app = durable(storage, default_runtime="local?lease=200ms&sweep=20ms")
    assert await outcome_of(app, run_id) == 2
    assert storage.lost == 1


class Unheard(MemoryStorage):
    """Does what renewing does, and loses the answers as long as it is told to."""

    lost = 0
    losing = False

    def renew(self, worker: str, now: datetime, lease: timedelta) -> list[tuple[str, int]]:
        woken = super().renew(worker, now, lease)
        if self.losing and woken:
            self.losing = False
            self.lost += 1
            raise StorageError("the answer was lost")
        return woken


@workflow(name="worker.holds_and_asks")
async def holds_and_asks() -> str:
    holding = asyncio.create_task(held())
    answer = await pyworkflow.hook("answer", str, token="worker-unheard")
    await holding
    return answer


async def test_what_a_lost_renewal_would_have_told_is_looked_for(gate: asyncio.Event) -> None:
    storage = Unheard()
    async with durable(storage, default_runtime="local?sweep=50ms&lease=900ms") as app, durable(storage) as sender:
        handle = await app.start(holds_and_asks)
        while not await storage.hooks(handle.id):
            await asyncio.sleep(0)
        storage.losing = True
        await sender.resume_hook("worker-unheard", "yes")
        async with asyncio.timeout(20):
            while not storage.lost or not any(
                isinstance(event, Received) and execution.length >= 4
                for event in await handle.history()
                for execution in app.recorded().worker_here.advancer.runs.values()
            ):
                await asyncio.sleep(0.005)
            gate.set()
            assert await handle.result() == "yes"
