"""Runs that are claimed together: their histories are read together, and nothing is missed in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from worker_flows import durable, held, sums

from pyworkflow import sleep, workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.errors import RunCancelled, StorageError
from pyworkflow.events import Completed, Requested, RunCompleted, RunStarted
from pyworkflow.model import History, Job, Run

pytestmark = pytest.mark.asyncio

RARELY = "local?sweep=1h&lease=10h"


class Reading(MemoryStorage):
    """Notes what is read together, and can have something happen in between, or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[int] = []
        self.read_alone: set[str] = set()
        self.fails: Exception | None = None
        self.left_out: set[str] = set()
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def load(self, run_id: str, after: int = 0) -> History:
        self.read_alone.add(run_id)
        return await super().load(run_id, after)

    async def load_many(self, run_ids: Sequence[str]) -> Mapping[str, History]:
        self.read.append(len(run_ids))
        if self.fails is not None:
            raise self.fails
        found = await super().load_many([run_id for run_id in run_ids if run_id not in self.left_out])
        if self.meanwhile is not None:
            await self.meanwhile()
        return found


async def waiting(storage: Reading, runs: int, now: datetime) -> list[str]:
    """Store runs for whoever comes."""
    names = [f"run-{number}" for number in range(runs)]
    for name in names:
        started = RunStarted(now, sums.name, [2], {}, "")
        await storage.create(Run(name, sums.name, now, length=1), [started], [Job(name, due=now, workflow=sums.name)])
    return names


async def all_end(storage: Reading, names: Sequence[str]) -> None:
    async with durable(storage) as app, app.worker(), asyncio.timeout(20):
        assert [await app.recorded().result(name) for name in names] == [1] * len(names)


@pytest.fixture
def storage() -> Reading:
    return Reading()


async def test_runs_that_are_claimed_together_are_read_together(storage: Reading, long_ago: datetime) -> None:
    names = await waiting(storage, 50, long_ago)
    async with durable(storage) as app, app.worker():
        while len([run for run in storage._runs.values() if run.status.is_final]) < len(names):
            await asyncio.sleep(0)
    assert storage.read == [50]
    assert storage.read_alone.isdisjoint(names)


async def test_a_run_that_is_left_out_is_read_by_itself(storage: Reading, long_ago: datetime) -> None:
    names = await waiting(storage, 3, long_ago)
    storage.left_out = {names[1]}
    await all_end(storage, names)


@pytest.mark.parametrize("error", [StorageError("the disk is away"), KeyError("a mistake of the storage")])
async def test_what_cannot_be_read_together_is_read_by_itself(
    storage: Reading, long_ago: datetime, error: Exception
) -> None:
    names = await waiting(storage, 3, long_ago)
    storage.fails = error
    await all_end(storage, names)


@workflow(name="taking_up.waits_for_a_step")
async def waits_for_a_step() -> None:
    await held()


@workflow(name="taking_up.naps")
async def naps() -> str:
    await sleep(0.001)
    return "rested"


async def test_a_run_that_the_worker_has_kept_is_not_read_again(storage: Reading) -> None:
    async with durable(storage, default_runtime="local?sweep=5ms") as app, asyncio.timeout(20):
        assert await (await app.start(naps)).result() == "rested"
    assert storage.read == []


async def test_what_a_run_is_told_between_reading_and_taking_is_not_missed(
    storage: Reading, gate: asyncio.Event
) -> None:
    async with durable(storage) as app:
        handle = await app.start(waits_for_a_step)
    async with durable(storage, default_runtime=RARELY) as app, asyncio.timeout(20):

        async def cancel() -> None:
            await app.recorded().cancel(handle.id)

        storage.meanwhile = cancel
        async with app.worker():
            with pytest.raises(RunCancelled):
                await app.recorded().result(handle.id)


class SlowAnswer(Reading):
    """Creates a run at once, and says so later."""

    def __init__(self) -> None:
        super().__init__()
        self.created, self.may_answer = asyncio.Event(), asyncio.Event()

    async def create(self, *args: Any, **kwargs: Any) -> Run | None:
        existing = await super().create(*args, **kwargs)
        self.created.set()
        await self.may_answer.wait()
        return existing


async def test_a_run_that_is_claimed_before_its_creation_is_answered_is_not_begun_as_well(gate: asyncio.Event) -> None:
    storage = SlowAnswer()
    async with durable(storage, default_runtime="local?sweep=5ms") as app, asyncio.timeout(20):
        starting = asyncio.create_task(app.start(waits_for_a_step))
        await storage.created.wait()
        (run_id,) = storage._runs
        for name in list(storage._leases):  # the process did not get to renew it
            storage.renew(name, datetime.now().astimezone(), timedelta(0))
        while not storage.read:
            await asyncio.sleep(0)
        storage.may_answer.set()
        handle = await starting
        gate.set()
        await handle.result()
    assert [type(event) for event in storage._events[run_id]] == [RunStarted, Requested, Completed, RunCompleted]


@pytest.fixture
def long_ago() -> datetime:
    return datetime.now().astimezone() - timedelta(hours=1)
