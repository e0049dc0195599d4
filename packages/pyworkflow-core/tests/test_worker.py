"""The worker: attempts, recovery, stops, what it writes and how often, and what it tells observers."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest
from worker_flows import Counting, add, attempts, durable, just_once, left_by_a_lost_worker, outcome_of, sums

import pyworkflow
from pyworkflow import current_step, step, workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.clock import SystemClock
from pyworkflow.errors import RunBlocked, StepInterrupted
from pyworkflow.events import Attempted, Completed, Event, Requested, Retrying
from pyworkflow.model import Append, Run
from pyworkflow.ports import hookimpl

pytestmark = pytest.mark.asyncio


# -- what is written -----------------------------------------------------------------------------------


async def test_a_sequential_step_costs_one_write_and_no_load() -> None:
    storage = Counting()
    async with durable(storage) as app:
        await app.call(sums, (10,))
    assert storage.writes == 11  # its creation, and one a step
    assert storage.loads == 0


async def test_steps_that_end_together_share_a_write() -> None:
    @workflow(name="worker.fan")
    async def fan() -> list[int]:
        return await asyncio.gather(*(add(i, i) for i in range(100)))

    storage = Counting()
    async with durable(storage) as app:
        await app.call(fan)
    assert storage.writes < 20


async def test_the_delay_of_a_retry_is_recorded() -> None:
    @step(name="worker.fails_once", retry_policy="fixed?delay=7ms")
    async def fails_once() -> int:
        if current_step().attempt == 1:
            raise OSError("once")
        return current_step().attempt

    @workflow(name="worker.delayed")
    async def delayed() -> int:
        return await fails_once()

    async with durable(MemoryStorage()) as app:
        handle = await app.start(delayed)
        assert await handle.result(timeout=20) == 2
        (retrying,) = [event for event in await handle.history() if isinstance(event, Retrying)]
    assert retrying.due - retrying.at == timedelta(milliseconds=7)
    assert retrying.error.message == "once"


# -- lost workers --------------------------------------------------------------------------------------


async def test_a_step_whose_worker_was_lost_is_attempted_again_and_that_is_recorded_first() -> None:
    storage = MemoryStorage()
    run_id = await left_by_a_lost_worker(storage, attempts)
    assert await outcome_of(durable(storage), run_id) == 2
    _, events = await storage.load(run_id)
    kinds = [type(event) for event in events]
    assert kinds.index(Attempted) < kinds.index(Completed)


async def test_a_step_that_loses_every_worker_runs_out_of_attempts() -> None:
    storage = MemoryStorage()
    now = datetime.now(UTC) - timedelta(hours=1)
    run_id = await left_by_a_lost_worker(storage, attempts, *(Attempted(now, 1, n) for n in (2, 3, 4)))
    with pytest.raises(StepInterrupted, match="attempt 4"):
        await outcome_of(durable(storage), run_id)


async def test_a_step_at_most_once_is_not_begun_again() -> None:
    storage = MemoryStorage()
    run_id = await left_by_a_lost_worker(storage, just_once)
    with pytest.raises(StepInterrupted, match="at_most_once"):
        await outcome_of(durable(storage), run_id)


async def test_a_run_that_loses_worker_after_worker_is_blocked() -> None:
    storage = MemoryStorage()
    run_id = await left_by_a_lost_worker(storage, attempts, recoveries=100)
    with pytest.raises(RunBlocked, match="101 times"):
        await outcome_of(durable(storage), run_id)


# -- workers that stop ---------------------------------------------------------------------------------


async def test_a_worker_that_stops_hands_back_without_costing_an_attempt() -> None:
    begun = asyncio.Event()

    @step(name="worker.long")
    async def long() -> int:
        begun.set()
        if current_step().attempt == 1 and not again:
            await asyncio.sleep(3600)
        return current_step().attempt

    @workflow(name="worker.takes_long")
    async def takes_long() -> int:
        return await long()

    again: list[int] = []
    storage = MemoryStorage()
    async with durable(storage) as app:
        handle = await app.start(takes_long)
        await begun.wait()
    again.append(1)
    assert await outcome_of(durable(storage), handle.id) == 1


async def test_a_step_at_most_once_that_is_cut_short_by_a_stop_does_not_begin_again() -> None:
    begun: list[int] = []

    @step(name="worker.once_long", at_most_once=True)
    async def once_long() -> None:
        begun.append(1)
        await asyncio.sleep(3600)

    @workflow(name="worker.once_cut")
    async def once_cut() -> str:
        try:
            await once_long()
        except StepInterrupted:
            return "interrupted"
        return "?"

    storage = MemoryStorage()
    async with durable(storage) as app:
        handle = await app.start(once_cut)
        while not begun:
            await asyncio.sleep(0)
    assert await outcome_of(durable(storage), handle.id) == "interrupted"
    assert begun == [1]


async def test_steps_get_time_to_end_when_a_worker_stops() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    @step(name="worker.short")
    async def short() -> int:
        begun.set()
        await asyncio.sleep(0.02)
        ended.set()
        return 1

    @workflow(name="worker.takes_short")
    async def takes_short() -> int:
        return await short() + await short()

    storage = MemoryStorage()
    app = durable(storage)
    async with app:
        async with app.worker(grace=10):
            handle = await app.start(takes_short)
            await begun.wait()
        assert ended.is_set()
        _, events = await storage.load(handle.id)
    assert sum(isinstance(event, Completed) for event in events) == 1


# -- continuing ----------------------------------------------------------------------------------------


@workflow(name="worker.at_once")
async def at_once(n: int) -> int:
    if n:
        await pyworkflow.continue_as_new(n - 1)
    return n


async def test_a_workflow_may_continue_as_new_before_it_has_asked_for_anything() -> None:
    async with durable(MemoryStorage()) as app:
        handle = await app.start(at_once, (3,))
        assert await handle.result(timeout=20) == 0


# -- observers -----------------------------------------------------------------------------------------


async def test_observers_see_every_event_once_and_in_order() -> None:
    seen: list[tuple[str, Event]] = []

    class Observer:
        @hookimpl
        def pyworkflow_event(self, run: Run, event: Event) -> None:
            seen.append((run.id, event))

    async with durable(MemoryStorage(), plugins=[Observer()]) as app:
        handle = await app.start(sums, (3,))
        await handle.result(timeout=20)
        events = await handle.history()
    assert seen == [(handle.id, event) for event in events]


async def test_an_observer_that_fails_breaks_no_run(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        @hookimpl
        def pyworkflow_event(self, run: Run, event: Event) -> None:
            raise RuntimeError("observer")

    caplog.set_level(logging.ERROR)
    async with durable(MemoryStorage(), plugins=[Broken()]) as app:
        assert await app.call(sums, (3,)) == 3
    assert "observer" in caplog.text


# -- a worker that was frozen --------------------------------------------------------------------------


class Ahead(SystemClock):
    """A clock that jumps: the process was frozen meanwhile."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        return SystemClock.now() + self.ahead


class Freezing(MemoryStorage):
    """Freezes the worker right after the write that requests step ``worker.pays`` the second time."""

    clock: Ahead
    asked = 0
    others = False

    async def append(self, append: Append) -> int:
        length = await super().append(append)
        if any(isinstance(event, Requested) and event.command.op == 2 for event in append.events):
            self.clock.ahead = timedelta(hours=1)
            if self.others:
                await self.claim("other", self.clock.now(), timedelta(days=1), 9)
        elif not append.events and not append.jobs and self.clock.ahead:
            self.asked += 1
        return length


PAID: list[int] = []


@step(name="worker.pays")
async def pays(number: int) -> int:
    PAID.append(number)
    return number


@workflow(name="worker.twice")
async def twice() -> int:
    return await pays(1) + await pays(2)


@pytest.fixture
def freezing() -> Freezing:
    PAID.clear()
    storage = Freezing()
    storage.clock = Ahead()
    return storage


async def test_a_worker_that_was_frozen_after_a_write_asks_before_it_begins_the_step(freezing: Freezing) -> None:
    async with durable(freezing, clock=freezing.clock) as app:
        assert await app.call(twice) == 3
    assert freezing.asked == 1


async def test_a_worker_that_lost_its_run_while_it_was_frozen_begins_nothing(freezing: Freezing) -> None:
    freezing.others = True
    async with durable(freezing, clock=freezing.clock) as app:
        await app.start(twice, run_id="r")
        async with asyncio.timeout(10):
            while app.recorded().worker_here.advancer.runs:
                await asyncio.sleep(0.001)
    assert PAID == [1]
