"""Several workers that share a storage: handing out, taking over, giving up, and what that costs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from worker_teams import rescuers, team

from pyworkflow import App, current_step, sleep, step, workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.errors import RunBlocked, RunTerminated, StepInterrupted, StorageError
from pyworkflow.events import Attempted, CallStep, Completed, Event, HandedOut, Requested, Retrying, RunStarted
from pyworkflow.model import RUN_OP, Append, History, Job, Lease, Run, StepCall
from pyworkflow.ports import hookimpl
from pyworkflow.testing.runtime import DurableConformance


class TestTeam(DurableConformance):
    @pytest.fixture
    def make_app(self):
        storage = MemoryStorage()
        return lambda: team(storage)


class TestTeamWithRoom(DurableConformance):
    @pytest.fixture
    def make_app(self):
        storage = MemoryStorage()
        return lambda: team(storage, capacity=3)


pytestmark = pytest.mark.asyncio

most = now = 0


@step(name="stepjobs.count")
async def count(n: int) -> int:
    global most, now  # noqa: PLW0603 -- steps in one process
    now += 1
    most = max(most, now)
    await asyncio.sleep(0.002)
    now -= 1
    return n


@step(name="stepjobs.where", queue="gpu")
async def where() -> str:
    return "gpu"


@step(name="stepjobs.attempt", queue="gpu")
async def attempt() -> int:
    return current_step().attempt


@step(name="stepjobs.once", queue="gpu", at_most_once=True)
async def once() -> int:
    return current_step().attempt


@step(name="stepjobs.flaky", queue="gpu")
async def flaky() -> int:
    if current_step().attempt < 3:
        raise OSError("not yet")
    return current_step().attempt


@workflow(name="stepjobs.fan")
async def fan(n: int) -> list[int]:
    return list(await asyncio.gather(*(count(i) for i in range(n))))


@workflow(name="stepjobs.chain")
async def chain(n: int) -> int:
    total = 0
    for i in range(n):
        total += await count(i)
    return total


@workflow(name="stepjobs.on_gpu")
async def on_gpu() -> str:
    return await where()


@workflow(name="stepjobs.attempts")
async def attempts() -> int:
    return await attempt()


@workflow(name="stepjobs.just_once")
async def just_once() -> int:
    return await once()


@workflow(name="stepjobs.flaky_on_gpu")
async def flaky_on_gpu() -> int:
    return await flaky()


begun, ended = asyncio.Event(), asyncio.Event()


@step(name="stepjobs.hangs", queue="gpu")
async def hangs() -> None:
    begun.set()
    try:
        await asyncio.sleep(3600)
    finally:
        ended.set()


@workflow(name="stepjobs.stuck")
async def stuck() -> None:
    await hangs()


@workflow(name="stepjobs.gives_up")
async def gives_up() -> str:
    try:
        async with asyncio.timeout(0.02):
            await hangs()
    except TimeoutError:
        await sleep("1 day")
    return "gave up"


@pytest.fixture(autouse=True)
def events() -> None:
    global begun, ended, most, now  # noqa: PLW0603 -- an event belongs to the loop of its test
    begun, ended = asyncio.Event(), asyncio.Event()
    most = now = 0


# -- handing out -----------------------------------------------------------------------------------


async def test_a_fan_out_is_carried_out_by_all_and_by_no_more_than_they_can() -> None:
    async with team(capacity=2) as app:
        assert await app.call(fan, (30,)) == list(range(30))
    assert most == 6


async def test_every_handed_out_step_is_answered_once() -> None:
    async with team() as app:
        handle = await app.start(fan, (30,))
        await handle.result(timeout=20)
        history = await handle.history()
    answers = Counter(event.op for event in history if isinstance(event, Completed))
    assert answers == dict.fromkeys(range(1, 31), 1)
    assert sum(len(event.ops) for event in history if isinstance(event, HandedOut)) == 29


async def test_a_step_goes_to_the_workers_of_its_queue() -> None:
    async with team(queues=[("",), ("gpu",)]) as app:
        assert await app.call(on_gpu) == "gpu"


async def test_a_step_waits_for_a_worker_of_its_queue() -> None:
    storage = MemoryStorage()
    async with team(storage, queues=[("",)]) as app:
        handle = await app.start(on_gpu)
        while (await handle.run()).length < 3:
            await asyncio.sleep(0)
    async with team(storage, queues=[("",), ("gpu",)]) as app:
        for worker in app.runtime().workers:
            await worker.work()
        assert await app.recorded().result(handle.id) == "gpu"


async def test_a_retry_keeps_its_queue_and_its_delay() -> None:
    async with team(queues=[("",), ("gpu",)]) as app:
        handle = await app.start(flaky_on_gpu)
        assert await handle.result(timeout=20) == 3
        retries = [event for event in await handle.history() if isinstance(event, Retrying)]
    assert [event.attempt for event in retries] == [1, 2]
    assert {event.due - event.at for event in retries} == {timedelta(milliseconds=1)}


async def test_a_sequence_costs_one_write_a_step_and_no_hint_but_the_first() -> None:
    class Counting(MemoryStorage):
        writes = loads = 0

        async def append(self, append: Append) -> int:
            self.writes += 1
            return await super().append(append)

        async def load(self, run_id: str, after: int = 0) -> History:
            self.loads += not after
            return await super().load(run_id, after)

        async def load_many(self, run_ids: Sequence[str]) -> Mapping[str, History]:
            self.loads += len(run_ids)
            return await super().load_many(run_ids)

    storage = Counting()
    async with team(storage) as app:
        assert await app.call(chain, (10,)) == 45
        assert len(app.runtime().hints) == 1
    assert storage.writes == 11
    assert storage.loads == 1


# -- giving up -----------------------------------------------------------------------------------------


async def test_a_handed_out_step_that_nobody_waits_for_is_stopped() -> None:
    async with team(queues=[("",), ("gpu",)]) as app:
        handle = await app.start(gives_up)
        async with asyncio.timeout(20):
            await ended.wait()
        await app.recorded().terminate(handle.id)


@pytest.mark.parametrize("end", ["cancel", "terminate"])
@pytest.mark.parametrize("queues", [[("",), ("gpu",)], [("", "gpu")]], ids=["handed out", "kept"])
async def test_a_step_is_stopped_when_its_run_ends(end: str, queues: Any) -> None:
    async with team(queues=queues) as app:
        handle = await app.start(stuck)
        async with asyncio.timeout(20):
            await begun.wait()
            await getattr(app.recorded(), end)(handle.id)
            await ended.wait()


async def test_a_terminated_run_stays_ended_when_its_step_returns() -> None:
    release = asyncio.Event()

    @step(name="stepjobs.late", queue="gpu")
    async def late() -> int:
        begun.set()
        await release.wait()
        return 1

    @workflow(name="stepjobs.too_late")
    async def too_late() -> int:
        return await late()

    async with team(queues=[("",), ("gpu",)]) as app:
        handle = await app.start(too_late)
        await begun.wait()
        await app.recorded().terminate(handle.id)
        release.set()
        with pytest.raises(RunTerminated):
            await handle.result(timeout=20)
        length = (await handle.run()).length
        await app.call(chain, (2,))
        assert (await handle.run()).length == length


# -- lost workers ---------------------------------------------------------------------------------------


async def left_by_a_lost_worker(
    storage: MemoryStorage, flow: Any, name: str, first: int = 1, recoveries: int = 0
) -> str:
    """Store a run whose only step was handed out to a worker that was lost while it carried it out."""
    before = datetime.now(UTC) - timedelta(hours=1)
    events = [RunStarted(before, flow.name, [], {}, ""), Requested(before, CallStep(1, name, [], {}))]
    job = Job("left", RUN_OP, None, flow.name)
    call = StepCall(name, [], {}, first)
    lease = Lease("left", 1, "lost", 1, flow.name, "gpu", call, recoveries=recoveries)
    events.append(HandedOut(before, (1,)))
    await storage.create(Run("left", flow.name, before, length=len(events)), events, [job], lease=lease)
    storage.renew("lost", before, timedelta(seconds=10))
    return "left"


async def test_a_step_whose_holder_was_lost_is_attempted_again_and_that_is_recorded_first() -> None:
    storage = MemoryStorage()
    run_id = await left_by_a_lost_worker(storage, attempts, "stepjobs.attempt")
    async with rescuers(storage) as app:
        assert await app.recorded().result(run_id) == 2
        _, history = await app.recorded().history(run_id)
    assert [type(event) for event in history[3:5]] == [Attempted, Completed]
    assert history[3].attempt == 2


async def test_a_step_that_loses_every_holder_runs_out_of_attempts() -> None:
    storage = MemoryStorage()
    run_id = await left_by_a_lost_worker(storage, attempts, "stepjobs.attempt", first=4)
    async with rescuers(storage) as app:
        with pytest.raises(StepInterrupted, match="attempt 4"):
            await app.recorded().result(run_id)


async def test_attempts_go_on_counting_over_losses_and_retries() -> None:
    storage = MemoryStorage()
    run_id = await left_by_a_lost_worker(storage, flaky_on_gpu, "stepjobs.flaky")
    async with rescuers(storage) as app:
        assert await app.recorded().result(run_id) == 3
        _, history = await app.recorded().history(run_id)
    assert [(type(e), e.attempt) for e in history if isinstance(e, Attempted | Retrying)] == [
        (Attempted, 2),
        (Retrying, 2),
    ]


async def test_a_step_at_most_once_is_not_begun_again() -> None:
    storage = MemoryStorage()
    run_id = await left_by_a_lost_worker(storage, just_once, "stepjobs.once")
    async with rescuers(storage) as app:
        with pytest.raises(StepInterrupted, match="at_most_once"):
            await app.recorded().result(run_id)


async def test_losing_who_holds_the_run_does_not_cost_its_handed_out_steps_an_attempt() -> None:
    storage = MemoryStorage()
    run_id = await left_by_a_lost_worker(storage, attempts, "stepjobs.attempt")
    key = run_id, 0
    before = datetime.now(UTC) - timedelta(hours=1)
    run_job, step_job = storage._jobs[key], storage._jobs[run_id, 1]
    run_job.worker, run_job.epoch = "lost", 1
    step_job.worker, step_job.due, step_job.epoch = None, before, 0
    async with rescuers(storage) as app:
        assert await app.recorded().result(run_id) == 1


async def test_a_worker_that_stops_hands_a_step_back_without_costing_an_attempt() -> None:
    storage, again = MemoryStorage(), asyncio.Event()

    @step(name="stepjobs.long", queue="gpu")
    async def long() -> int:
        begun.set()
        if not again.is_set():
            await asyncio.sleep(3600)
        return current_step().attempt

    @workflow(name="stepjobs.takes_long")
    async def takes_long() -> int:
        return await long()

    async with team(storage, queues=[("",), ("gpu",)]) as app:
        handle = await app.start(takes_long)
        await begun.wait()
    again.set()
    async with rescuers(storage) as app:
        assert await app.recorded().result(handle.id) == 1


async def test_a_blocked_run_that_is_retried_does_its_handed_out_steps() -> None:
    storage = MemoryStorage()
    async with team(storage, queues=[("",)]) as app:
        handle = await app.start(on_gpu)
        while (await handle.run()).length < 3:
            await asyncio.sleep(0)
    storage._jobs[handle.id, 1].call = StepCall("stepjobs.gone", [], {}, 1)
    async with rescuers(storage) as app:
        with pytest.raises(RunBlocked, match=r"'stepjobs.gone' is not known in this process"):
            await app.recorded().result(handle.id)
        await app.recorded().retry(handle.id)
        assert await app.recorded().result(handle.id) == "gpu"


# -- several runtimes on one storage -------------------------------------------------------------------


@workflow(name="stepjobs.elsewhere", runtime="local", durable=True)
async def elsewhere() -> str:
    await sleep(0.001)
    return "local"


async def test_workers_take_only_runs_of_workflows_of_their_own_kind_of_runtime() -> None:
    storage = MemoryStorage()
    async with team(storage) as app:
        ours = {name for name in app.registry.workflows if name.startswith("stepjobs.")}
        assert ours & {*app.workflows_of(app.runtime("team"))} == ours - {"stepjobs.elsewhere"}
        assert ours & {*app.workflows_of(app.runtime("local?kept=0"))} == {"stepjobs.elsewhere"}
        assert await app.call(elsewhere) == "local"
        assert await app.call(chain, (2,)) == 1


async def test_work_of_others_that_is_due_does_not_keep_a_worker_busy() -> None:
    class Counting(MemoryStorage):
        claims = 0

        async def claim(self, *args: Any, **kwargs: Any) -> list[Lease]:
            self.claims += 1
            return await super().claim(*args, **kwargs)

    storage, at = Counting(), datetime.now(UTC) - timedelta(hours=1)
    run = Run("foreign", "somebody.else", at, length=1)
    await storage.create(
        run, [RunStarted(at, run.workflow, [], {}, "")], [Job("foreign", due=at, workflow=run.workflow)]
    )
    async with App(storage=storage, default_durable=True, default_runtime="local?sweep=5s") as app:
        await app.call(elsewhere)
        before = storage.claims
        for _ in range(50):
            await asyncio.sleep(0)
        assert storage.claims - before <= 1


# -- turns -----------------------------------------------------------------------------------------------


async def test_a_turn_without_work_ends_at_once() -> None:
    async with team() as app, asyncio.timeout(20):
        await app.runtime().workers[0].turn()


async def test_turns_last_as_long_as_there_is_work_for_each() -> None:
    async with team(queues=[("", "gpu")], capacity=2) as app, asyncio.timeout(20):
        handle = await app.start(stuck)
        await begun.wait()
        worker = app.runtime().workers[0]
        turns = [asyncio.create_task(worker.turn()) for _ in range(3)]
        done, pending = await asyncio.wait(turns, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 2:
            done, pending = await asyncio.wait(turns, timeout=0.01)
        assert len(pending) == 1
        await app.recorded().terminate(handle.id)
        await asyncio.wait(turns)


# -- storages that fail --------------------------------------------------------------------------------


async def test_a_result_is_kept_until_the_storage_takes_it() -> None:
    class Failing(MemoryStorage):
        failures = 2

        async def append(self, append: Append) -> int:
            if self.failures and any(isinstance(event, Completed) for event in append.events):
                self.failures -= 1
                raise StorageError("the disk is full")
            return await super().append(append)

    storage = Failing()
    async with team(storage, queues=[("",), ("gpu",)]) as app:
        handle = await app.start(on_gpu)
        assert await handle.result(timeout=20) == "gpu"
        history = await handle.history()
    assert sum(isinstance(event, Completed) for event in history) == 1
    assert not storage.failures


async def test_a_run_goes_on_though_the_storage_fails_while_an_observer_is_shown_a_step() -> None:
    class Watching:
        @hookimpl
        def pyworkflow_event(self, event: Any) -> None:
            raise SystemExit(3)  # nor does an observer that exits end anything

    class Unreadable(MemoryStorage):
        async def run(self, run_id: str) -> Run:
            if "RemoteSteps" in asyncio.current_task().get_coro().__qualname__:  # type: ignore[union-attr]
                raise StorageError(run_id)
            return await super().run(run_id)

    async with team(Unreadable(), Watching(), queues=[("",), ("gpu",)]) as app:
        assert await app.call(on_gpu) == "gpu"


async def test_observers_see_what_is_written_of_handed_out_steps() -> None:
    seen: list[Event] = []

    class Observer:
        @hookimpl
        def pyworkflow_event(self, run: Run, event: Event) -> None:
            seen.append(event)

    async with team(MemoryStorage(), Observer(), queues=[("",), ("gpu",)]) as app:
        handle = await app.start(on_gpu)
        await handle.result(timeout=20)
        history = await handle.history()
    assert seen[-3:] == history[-3:]
