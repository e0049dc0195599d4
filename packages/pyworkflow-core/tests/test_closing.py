"""Workers that close in order while something else is wrong: a step of somebody else runs, the storage is down."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from worker_flows import durable
from worker_teams import rescuers, team

from pyworkflow import sleep, step, workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.errors import RunNotFound, StepInterrupted, StorageError
from pyworkflow.model import Append, History

pytestmark = pytest.mark.asyncio


class Failing(MemoryStorage):
    """Fails each append from the moment that it is down."""

    is_down = False

    async def append(self, append: Append) -> int:
        if self.is_down:
            msg = "the disk is full"
            raise StorageError(msg)
        return await super().append(append)


class Forgetting(MemoryStorage):
    """Has no run of the id in `deleted`, as if it had been purged after its job was claimed."""

    deleted = ""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def load_many(self, run_ids: Any) -> dict[str, History]:
        return {}

    async def load(self, run_id: str, after: int = 0) -> History:
        if run_id == self.deleted and after == 0:
            self.asked.set()
            raise RunNotFound(run_id)
        return await super().load(run_id, after)


async def test_a_dispatched_step_at_most_once_does_not_begin_again_after_its_worker_closed() -> None:
    begun: list[int] = []

    @step(name="closing.once", queue="gpu", at_most_once=True)
    async def once() -> None:
        begun.append(1)
        if len(begun) == 1:
            await asyncio.sleep(3600)

    @workflow(name="closing.charges")
    async def charges() -> None:
        await once()

    storage = MemoryStorage()
    async with team(storage, queues=[("",), ("gpu",)]) as app:
        handle = await app.start(charges)
        while not begun:
            await asyncio.sleep(0)
    async with rescuers(storage) as app:
        with pytest.raises(StepInterrupted, match="at_most_once"):
            await app.recorded().result(handle.id)
    assert begun == [1]


async def test_a_worker_closes_though_the_storage_is_down(caplog: pytest.LogCaptureFixture) -> None:
    begun = asyncio.Event()

    @step(name="closing.held_once", at_most_once=True)
    async def held_once() -> None:
        begun.set()
        await asyncio.sleep(3600)

    @workflow(name="closing.cut")
    async def cut() -> None:
        await held_once()

    storage = Failing()
    async with durable(storage) as app:
        await app.start(cut)
        await begun.wait()
        storage.is_down = True
    assert "the disk is full" in caplog.text


async def test_a_run_that_was_deleted_after_it_was_claimed_takes_no_capacity() -> None:
    @workflow(name="closing.nothing")
    async def nothing() -> int:
        return 1

    storage = Forgetting()
    async with team(storage, queues=[("",)], capacity=1) as app, asyncio.timeout(20):
        storage.deleted = "gone"
        await app.start(nothing, run_id="gone")
        await storage.asked.wait()
        assert await app.call(nothing) == 1


async def test_what_a_finally_block_schedules_while_its_run_is_evicted_never_runs() -> None:
    ran: list[str] = []

    @workflow(name="closing.schedules")
    async def schedules() -> None:
        try:
            await sleep("1h")
        finally:
            asyncio.get_running_loop().call_soon(ran.append, "on the loop of the worker")

    async with durable(MemoryStorage()) as app:
        handle = await app.start(schedules)
        while (await handle.run()).length < 2:
            await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)
    assert ran == []
