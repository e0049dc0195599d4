"""Runs that wait and have nothing to do: the worker parks them, and they are gone on with."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from worker_flows import add, durable, held, sums

import pyworkflow
from pyworkflow import sleep, workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.events import Completed
from pyworkflow.model import Append, Run, Status

pytestmark = pytest.mark.asyncio


@workflow(name="worker.naps")
async def naps() -> str:
    await sleep("1 day")
    return "rested"


async def test_a_parked_run_has_neither_task_nor_timer() -> None:
    async with durable(MemoryStorage()) as app:
        await app.call(sums, (1,))
        tasks = len(asyncio.all_tasks())
        handles = [await app.start(naps) for _ in range(50)]
        while app.recorded().worker_here.advancer.runs:
            await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == tasks
        assert {(await handle.run()).status for handle in handles} == {Status.RUNNING}


@workflow(name="worker.asks_later")
async def asks_later() -> str:
    await held()
    return await pyworkflow.hook("answer", str, token="worker-answer")


async def test_who_waits_for_a_run_that_parked_here_learns_of_its_end_elsewhere(gate: asyncio.Event) -> None:
    storage = MemoryStorage()
    rarely, often = "local?sweep=1h&lease=10h", "local?sweep=20ms"
    async with durable(storage, default_runtime=rarely) as here, durable(storage, default_runtime=often) as there:
        handle = await here.start(asks_later)
        result = asyncio.create_task(handle.result())
        while not here.recorded()._waiters:  # the run is held here, so its end would be here too
            await asyncio.sleep(0)
        gate.set()
        while not await storage.hooks(handle.id):
            await asyncio.sleep(0)
        async with there.worker():
            await there.resume_hook("worker-answer", "yes")
            async with asyncio.timeout(20):
                assert await result == "yes"


class Slow(MemoryStorage):
    """Keeps the write of a step's failure waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.writing, self.may_write = asyncio.Event(), asyncio.Event()
        self.may_create = asyncio.Event()

    async def create(self, run: Run, *args: Any, **kwargs: Any) -> Any:
        if run.parent is not None:
            await self.may_create.wait()
        return await super().create(run, *args, **kwargs)

    async def append(self, append: Append) -> int:
        if any(isinstance(event, Completed) for event in append.events) and not self.writing.is_set():
            self.writing.set()
            await self.may_write.wait()
        return await super().append(append)


@workflow(name="worker.child")
async def child() -> str:
    return await pyworkflow.hook("answer", str, token="worker-child")


@workflow(name="worker.parent")
async def parent() -> Any:
    return await asyncio.gather(add(1, 2), child())


async def test_a_run_is_parked_whose_last_child_was_started_while_it_was_written() -> None:
    storage = Slow()
    async with durable(storage) as app:
        handle = await app.start(parent)
        await storage.writing.wait()
        storage.may_create.set()
        while not await storage.hooks(f"{handle.id}.2"):
            await asyncio.sleep(0)
        storage.may_write.set()
        async with asyncio.timeout(20):
            while app.recorded().worker_here.advancer.runs:
                await asyncio.sleep(0)
        await app.resume_hook("worker-child", "yes")
        assert await handle.result("20s") == [3, "yes"]
