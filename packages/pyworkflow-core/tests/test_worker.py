"""The worker: attempts, recovery, what it writes and how often, and what it does when the storage fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import pyworkflow
from pyworkflow import App, current_step, sleep, step, workflow
from pyworkflow.definitions import Workflow
from pyworkflow.errors import NonDeterminism, RunBlocked, StepInterrupted, StorageError
from pyworkflow.events import (
    Attempted,
    CallStep,
    Completed,
    Event,
    Received,
    Requested,
    Retrying,
    RunFailed,
    RunStarted,
)
from pyworkflow.memory import MemoryStorage
from pyworkflow.model import Job, Run, Status
from pyworkflow.ports import hookimpl
from pyworkflow.registry import Registry

pytestmark = pytest.mark.asyncio


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

    async def append(self, *args: Any, **kwargs: Any) -> int:
        self.writes += 1
        if self.fail_before:
            self.fail_before -= 1
            raise StorageError("the disk is full")
        length = await super().append(*args, **kwargs)
        if self.fail_after:
            self.fail_after -= 1
            raise StorageError("the answer was lost")
        return length


def durable(storage: MemoryStorage, **settings: Any) -> App:
    return App(**{"storage": storage, "default_durable": True, "default_retry": "fixed?delay=1ms"} | settings)


@step(name="worker.add")
async def add(a: int, b: int) -> int:
    return a + b


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


@step(name="worker.attempt")
async def attempt() -> int:
    return current_step().attempt


@step(name="worker.once", at_most_once=True)
async def once() -> int:
    return current_step().attempt


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


@workflow(name="worker.naps")
async def naps() -> str:
    await sleep("1 day")
    return "rested"


async def left_by_a_lost_worker(
    storage: MemoryStorage, flow: Workflow[..., Any], *more: Event, recoveries: int = 0
) -> str:
    """Store a run whose only step was being carried out when its worker was lost."""
    before = datetime.now(UTC) - timedelta(hours=1)
    name = {"worker.attempts": "worker.attempt", "worker.just_once": "worker.once"}.get(flow.name, "worker.gone")
    events = [RunStarted(before, flow.name, [], {}, ""), Requested(before, CallStep(1, name, [], {})), *more]
    job = Job("left", workflow=flow.name, worker="lost", epoch=1, recoveries=recoveries)
    await storage.create(Run("left", flow.name, before, length=len(events)), events, [job])
    storage.renew("lost", before, timedelta(seconds=10))
    return "left"


async def outcome_of(app: App, run_id: str) -> Any:
    async with app, app.worker(), asyncio.timeout(20):
        return await app.recorded().result(run_id)


# -- what is written ---------------------------------------------------------------------------------


async def test_a_sequential_step_costs_one_write_and_no_load() -> None:
    storage = Counting()
    async with durable(storage) as app:
        handle = await app.start(sums, (10,))
        writes = storage.writes
        await handle.result(timeout=20)
    assert writes == 1
    assert storage.writes == 11
    assert storage.loads == 0


async def test_steps_that_end_together_share_a_write() -> None:
    @workflow(name="worker.fan")
    async def fan() -> list[int]:
        return await asyncio.gather(*(add(i, i) for i in range(100)))

    storage = Counting()
    async with durable(storage) as app:
        await app.call(fan)
    assert storage.writes < 20


async def test_a_parked_run_has_neither_task_nor_timer() -> None:
    async with durable(MemoryStorage()) as app:
        await app.call(sums, (1,))
        tasks = len(asyncio.all_tasks())
        handles = [await app.start(naps) for _ in range(50)]
        while app.runtime()._worker.executions:
            await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == tasks
        assert {(await handle.run()).status for handle in handles} == {Status.RUNNING}


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


# -- lost workers ------------------------------------------------------------------------------------


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


# -- storages that fail ------------------------------------------------------------------------------


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


# -- code that changes, code that is missing -----------------------------------------------------------


def replaced(app: App, flow: Workflow[..., Any], function: Callable[..., Any]) -> None:
    """Put other code behind a workflow's name, as a deployment would."""
    app.registry.workflows[flow.name] = Workflow(function, flow.name, Registry(), runtime=None, durable=None)


@pytest.fixture
def changing() -> Any:
    @workflow(name="worker.changing")
    async def changing() -> int:
        first = await add(1, 1)
        await sleep("20ms")
        return await add(first, 1)

    yield changing
    replaced(App(), changing, changing.function)


async def test_changed_code_blocks_the_run_and_the_old_code_lets_it_go_on(changing: Workflow[[], int]) -> None:
    async def changed() -> int:
        return await add(7, 7)

    async with durable(MemoryStorage(), default_runtime="local?kept=0") as app:
        handle = await app.start(changing)
        while (await handle.run()).length < 4:
            await asyncio.sleep(0)
        replaced(app, changing, changed)
        with pytest.raises(RunBlocked, match=r"worker.add\(1, 1\).*worker.add\(7, 7\)"):
            await handle.result(timeout=20)
        replaced(app, changing, changing.function)
        await app.recorded().retry(handle.id)
        assert await handle.result(timeout=20) == 3


async def test_a_blocked_run_says_it_is_non_determinism(changing: Workflow[[], int]) -> None:
    async def changed() -> int:
        return 0

    async with durable(MemoryStorage(), default_runtime="local?kept=0") as app:
        handle = await app.start(changing)
        while (await handle.run()).length < 4:
            await asyncio.sleep(0)
        replaced(app, changing, changed)
        with pytest.raises(RunBlocked):
            await handle.result(timeout=20)
        assert (await handle.history())[-1].error.type == f"{NonDeterminism.__module__}:NonDeterminism"


async def test_a_step_that_is_not_known_here_blocks_the_run() -> None:
    storage = MemoryStorage()

    @workflow(name="worker.strange")
    async def strange() -> Any:
        context = pyworkflow.context.workflow_context.get()
        return await context.ask(lambda op: CallStep(op, "worker.gone", [], {}))

    run_id = await left_by_a_lost_worker(storage, strange)
    with pytest.raises(RunBlocked, match=r"'worker.gone' is not known in this process"):
        await outcome_of(durable(storage), run_id)


async def test_runs_of_unknown_workflows_are_left_alone() -> None:
    storage = MemoryStorage()
    now = datetime.now(UTC)
    run = Run("foreign", "somebody.else", now, length=1)
    await storage.create(
        run, [RunStarted(now, run.workflow, [], {}, "")], [Job("foreign", due=now, workflow=run.workflow)]
    )
    async with durable(storage) as app, app.worker():
        await app.call(sums, (1,))
    assert len(await storage.claim("w", datetime.now(UTC), timedelta(1), 9)) == 1


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


# -- what the simulation found ---------------------------------------------------------------------------


@workflow(name="worker.at_once")
async def at_once(n: int) -> int:
    if n:
        await pyworkflow.continue_as_new(n - 1)
    return n


async def test_a_workflow_may_continue_as_new_before_it_has_asked_for_anything() -> None:
    async with durable(MemoryStorage()) as app:
        handle = await app.start(at_once, (3,))
        assert await handle.result(timeout=20) == 0


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


@step(name="worker.held")
async def held() -> None:
    await (went_on := gates[0]).wait()
    went_on.clear()


@workflow(name="worker.asks_later")
async def asks_later() -> str:
    await held()
    return await pyworkflow.hook("answer", str, token="worker-answer")


gates: list[asyncio.Event] = []


async def test_who_waits_for_a_run_that_parked_here_learns_of_its_end_elsewhere() -> None:
    storage, gates[:] = MemoryStorage(), [asyncio.Event()]
    rarely, often = "local?sweep=1h&lease=10h", "local?sweep=20ms"
    async with durable(storage, default_runtime=rarely) as here, durable(storage, default_runtime=often) as there:
        handle = await here.start(asks_later)
        result = asyncio.create_task(handle.result())
        while not here.runtime()._waiting:  # the run is held here, so its end would be here too
            await asyncio.sleep(0)
        gates[0].set()
        while not await storage.hooks(handle.id):
            await asyncio.sleep(0)
        async with there.worker():
            await there.resume_hook("worker-answer", "yes")
            async with asyncio.timeout(20):
                assert await result == "yes"


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


async def test_what_a_lost_renewal_would_have_told_is_looked_for() -> None:
    storage, gates[:] = Unheard(), [asyncio.Event()]
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
                for execution in app.runtime()._worker.executions.values()
            ):
                await asyncio.sleep(0.005)
            gates[0].set()
            assert await handle.result() == "yes"


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

    async def append(self, run_id: str, events: Any, *args: Any, **kwargs: Any) -> int:
        if any(isinstance(event, Completed) for event in events) and not self.writing.is_set():
            self.writing.set()
            await self.may_write.wait()
        return await super().append(run_id, events, *args, **kwargs)


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
            while app.runtime()._worker.executions:
                await asyncio.sleep(0)
        await app.resume_hook("worker-child", "yes")
        assert await handle.result("20s") == [3, "yes"]
