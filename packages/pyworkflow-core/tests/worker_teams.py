"""Several workers that share a storage, each with queues and a capacity of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from pyworkflow import App
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.engine.options import WorkerOptions
from pyworkflow.engine.runtime import StoredRuntime
from pyworkflow.model import Job
from pyworkflow.ports import Mode, RuntimeOffer, hookimpl

QUICK = timedelta(milliseconds=5)
LEASE = timedelta(seconds=10)


class Team(StoredRuntime):
    """Starts runs and leaves them to workers beside it, each with a queue and a capacity."""

    begins = False

    def __init__(self, app: App, *, queues: Sequence[Sequence[str]] = ((""),) * 3, capacity: int = 1) -> None:
        super().__init__(app)
        self.workers = [
            StoredRuntime(app, WorkerOptions(LEASE, QUICK, capacity=capacity, queues=served)) for served in queues
        ]
        self.hints: list[Job] = []

    async def start(self, request: Any) -> str:
        for worker in self.workers:
            await worker.work()
        return await super().start(request)

    async def notify(self, jobs: Sequence[Job]) -> None:
        self.hints += jobs

    async def close(self, grace: float = 0.0) -> None:
        # All at once: one after the other, the next would begin the steps that the first hands back.
        await asyncio.gather(*(worker.close(grace) for worker in self.workers))
        await super().close(grace)


class Plugin:
    def __init__(self, **options: Any) -> None:
        self.options = options

    @hookimpl
    def pyworkflow_runtimes(self) -> dict[str, RuntimeOffer]:
        return {"team": RuntimeOffer(lambda app: Team(app, **self.options), frozenset({Mode.DURABLE}), Mode.DURABLE)}


def team(storage: MemoryStorage | None = None, *plugins: Any, **options: Any) -> App:
    if "queues" not in options:
        options["queues"] = [("",)] * 3
    return App(
        storage=storage or MemoryStorage(),
        default_runtime="team",
        default_retry="fixed?delay=1ms",
        plugins=[Plugin(**options), *plugins],
    )


@asynccontextmanager
async def rescuers(storage: MemoryStorage) -> AsyncIterator[App]:
    async with team(storage, queues=[("",), ("gpu",)]) as app, asyncio.timeout(20):
        for worker in app.runtime().workers:
            await worker.work()
        yield app
