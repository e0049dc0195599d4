"""What the cases of the storage contract are made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from attrs import evolve

from pyworkflow.events import Completed, Event, RunCompleted, RunStarted
from pyworkflow.model import RUN_OP, Append, Hook, Job, Lease, Run, Status, StepCall
from pyworkflow.ports import Storage

T0 = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
LEASE = timedelta(seconds=10)
FOREVER = datetime(9999, 12, 31, tzinfo=UTC)

Factory = Callable[[], Storage]


def started(at: datetime = T0, value: Any = None) -> RunStarted:
    """Return a first event."""
    return RunStarted(at, "flow", [value], {}, "seed")


def facts(count: int, first: int = 1) -> list[Event]:
    """Return *count* different events."""
    return [Completed(T0, op, op) for op in range(first, first + count)]


def run(run_id: str = "r", **changes: Any) -> Run:
    """Return a run with one event."""
    return evolve(Run(run_id, "flow", T0, length=1), **changes)


def job(run_id: str = "r", **changes: Any) -> Job:
    """Return the job of a run, free and due."""
    return evolve(Job(run_id, RUN_OP, T0, "flow"), **changes)


def call(value: Any = None) -> StepCall:
    """Return the call of a step that is dispatched."""
    return StepCall("charge", [value], {}, 1)


def end(run_id: str = "r", **changes: Any) -> Append:
    """Return the append that completes a run."""
    return evolve(Append(run_id, [RunCompleted(T0, 1)], status=Status.COMPLETED, now=T0), **changes)


async def add(storage: Storage, run_id: str = "r", *jobs: Job, **changes: Any) -> None:
    """Create a run, with its job unless others are given."""
    assert await storage.create(run(run_id, **changes), [started()], jobs or [job(run_id)]) is None


async def add_held(storage: Storage, run_id: str = "r", worker: str = "w", **changes: Any) -> Lease:
    """Create a run whose job a worker holds; return the lease."""
    lease = Lease(run_id, RUN_OP, worker, 1, "flow")
    assert await storage.create(run(run_id, **changes), [started()], [], lease=lease) is None
    return lease


def hook(mark: str = "t", run_id: str = "r", op: int = 1) -> Hook:
    """Return a hook of a run."""
    return Hook(mark, run_id, op, "approval")


async def take(storage: Storage, worker: str = "w", now: datetime = T0, limit: int = 100) -> list[Lease]:
    """Claim what is due."""
    return await storage.claim(worker, now, LEASE, limit)


class Stored:
    """What the parts of the storage contract share: storages to try, opened and closed."""

    pytestmark = pytest.mark.asyncio
    shares_data: ClassVar[bool] = True
    many: ClassVar[int] = 10_000

    @asynccontextmanager
    async def opened(self, factory: Factory, count: int = 1) -> AsyncIterator[Sequence[Storage]]:
        """Open *count* storages on the same data, or one *count* times if instances share nothing."""
        storages = [factory() for _ in range(count)] if self.shares_data else [factory()] * count
        for storage in storages:
            await storage.open()
        try:
            yield storages
        finally:
            for storage in storages:
                await storage.close()

    @pytest.fixture
    def open_storage(self, storage_factory: Factory) -> Callable[[], Any]:
        """A context manager that gives one open storage."""

        @asynccontextmanager
        async def opening() -> AsyncIterator[Storage]:
            async with self.opened(storage_factory) as (storage,):
                yield storage

        return opening
