"""Steps and workflows that tests of the worker share, and storages to carry them out on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from pyworkflow import App, current_step, step, workflow
from pyworkflow.authoring.definitions import Workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.errors import StorageError
from pyworkflow.events import CallStep, Event, Requested, RunStarted
from pyworkflow.model import RUN_OP, Append, Lease, Run


class Counting(MemoryStorage):
    """Counts what is written, and can be told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.loads = 0
        self.fail_before = 0
        self.fail_after = 0

    async def create(self, *args: Any, **kwargs: Any) -> Any:
        self.writes += 1
        return await super().create(*args, **kwargs)

    async def load(self, *args: Any, **kwargs: Any) -> Any:
        self.loads += 1
        return await super().load(*args, **kwargs)

    async def append(self, append: Append) -> int:
        self.writes += 1
        if self.fail_before:
            self.fail_before -= 1
            raise StorageError("the disk is full")
        length = await super().append(append)
        if self.fail_after:
            self.fail_after -= 1
            raise StorageError("the answer was lost")
        return length


def durable(storage: MemoryStorage, **settings: Any) -> App:
    return App(**{"storage": storage, "default_durable": True, "default_retry": "fixed?delay=1ms"} | settings)


@step(name="worker.add")
async def add(a: int, b: int) -> int:
    return a + b


@step(name="worker.attempt")
async def attempt() -> int:
    return current_step().attempt


@step(name="worker.once", at_most_once=True)
async def once() -> int:
    return current_step().attempt


gates: list[asyncio.Event] = []
"""The one that `held` waits for, put there by the fixture ``gate``."""


@step(name="worker.held")
async def held() -> None:
    await (went_on := gates[0]).wait()
    went_on.clear()


@workflow(name="worker.sums")
async def sums(n: int) -> int:
    total = 0
    for i in range(n):
        total = await add(total, i)
    return total


@workflow(name="worker.attempts")
async def attempts() -> int:
    return await attempt()


@workflow(name="worker.just_once")
async def just_once() -> int:
    return await once()


async def left_by_a_lost_worker(
    storage: MemoryStorage, flow: Workflow[..., Any], *more: Event, recoveries: int = 0
) -> str:
    """Store a run whose only step was being carried out when its worker was lost."""
    before = datetime.now(UTC) - timedelta(hours=1)
    name = {"worker.attempts": "worker.attempt", "worker.just_once": "worker.once"}.get(flow.name, "worker.gone")
    events = [RunStarted(before, flow.name, [], {}, ""), Requested(before, CallStep(1, name, [], {})), *more]
    lease = Lease("left", RUN_OP, "lost", 1, flow.name, recoveries=recoveries)
    await storage.create(Run("left", flow.name, before, length=len(events)), events, [], lease=lease)
    storage.renew("lost", before, timedelta(seconds=10))
    return "left"


async def outcome_of(app: App, run_id: str) -> Any:
    async with app, app.worker(), asyncio.timeout(20):
        return await app.recorded().result(run_id)
