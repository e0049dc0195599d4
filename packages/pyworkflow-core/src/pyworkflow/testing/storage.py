"""`StorageConformance`: what every storage has to do, as a plain pytest class; write one subclass and one fixture."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from attrs import evolve

from pyworkflow.errors import ConfigError, Conflict, HookClosed, HookTaken, LeaseLost, RunEnded, RunExists, RunNotFound
from pyworkflow.model import (
    RUN_OP,
    CallStep,
    CancelRequested,
    Completed,
    Effects,
    Event,
    Fired,
    Hook,
    Job,
    Message,
    NewRun,
    Requested,
    Run,
    RunCompleted,
    RunContinued,
    RunQuery,
    RunStarted,
    Status,
)
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


async def add(storage: Storage, run_id: str = "r", *jobs: Job, **changes: Any) -> None:
    """Create a run, with its job unless others are given."""
    assert await storage.create(run(run_id, **changes), [started()], jobs or [job(run_id)]) is None


def hook(mark: str = "t", run_id: str = "r", op: int = 1) -> Hook:
    """Return a hook of a run."""
    return Hook(mark, run_id, op, "approval")


async def take(storage: Storage, worker: str = "w", now: datetime = T0, limit: int = 100) -> list[Job]:
    """Claim what is due."""
    return await storage.claim(worker, now, LEASE, limit)


class StorageConformance:
    """The storage contract, case by case.

    A subclass has a fixture ``storage_factory``: a callable without arguments that returns a new, unopened storage each
    time, all of them on the same data.

    Attributes:
        shares_data: Whether two of these instances see the same data, as two processes would.
        many: How many jobs are claimed in pieces; fewer for an emulator that is slow.
    """

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

    # -- create and load -----------------------------------------------------------------

    async def test_a_created_run_can_be_loaded(self, open_storage: Any) -> None:
        async with open_storage() as s:
            new = run(idempotency_key="k", parent="p", attributes={"a": 1})
            assert await s.create(new, [started()], [job()]) is None
            assert await s.load("r") == (new, [started()])

    async def test_creating_again_gives_the_run_that_has_the_id(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            assert await s.create(run(workflow="other"), [started()], [job()]) == run()
            assert (await s.load("r"))[0].workflow == "flow"

    async def test_creating_again_gives_the_run_that_has_the_key(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, idempotency_key="k")
            taken = await s.create(run("r2", idempotency_key="k"), [started()], [job("r2")])
            assert taken == run(idempotency_key="k")
            with pytest.raises(RunNotFound):
                await s.load("r2")

    async def test_runs_without_a_key_do_not_collide(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r1")
            await add(s, "r2")

    async def test_a_refused_create_adds_no_job(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, idempotency_key="k")
            await s.create(run("r2", idempotency_key="k"), [started()], [job("r2")])
            assert [claimed.run_id for claimed in await take(s)] == ["r"]

    async def test_of_twenty_creates_at_once_one_wins(self, storage_factory: Factory) -> None:
        async with self.opened(storage_factory, 2) as storages:
            answers = await asyncio.gather(
                *(
                    storages[i % 2].create(run(f"r{i}", idempotency_key="k"), [started()], [job(f"r{i}")])
                    for i in range(20)
                )
            )
            assert sum(answer is None for answer in answers) == 1
            assert len({answer.id for answer in answers if answer is not None}) == 1

    async def test_an_unknown_run_is_not_found(self, open_storage: Any) -> None:
        async with open_storage() as s:
            with pytest.raises(RunNotFound, match="nobody"):
                await s.load("nobody")
            with pytest.raises(RunNotFound, match="nobody"):
                await s.append("nobody", facts(1))

    async def test_a_run_may_be_created_ended(self, open_storage: Any) -> None:
        async with open_storage() as s:
            new = run(status=Status.COMPLETED, ended_at=T0, length=2)
            assert await s.create(new, [started(), RunCompleted(T0, 1)], []) is None
            assert (await s.load("r"))[0] == new

    async def test_what_is_stored_is_there_after_opening_again(self, storage_factory: Factory) -> None:
        async with self.opened(storage_factory) as (s,):
            await add(s)
            await s.close()
            await s.open()
            assert await s.load("r") == (run(), [started()])

    async def test_two_instances_see_the_same(self, storage_factory: Factory) -> None:
        async with self.opened(storage_factory, 2) as (one, other):
            await add(one)
            await one.append("r", facts(2))
            assert (await other.load("r"))[1] == [started(), *facts(2)]

    async def test_opening_twice_does_no_harm(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await s.open()
            await s.load("r")

    async def test_opening_many_times_at_once_does_no_harm(self, storage_factory: Factory) -> None:
        s = storage_factory()
        await asyncio.gather(*(s.open() for _ in range(10)))
        await asyncio.gather(*(add(s, f"r{n}") for n in range(10)))
        assert len(await take(s)) == 10
        await s.close()

    # -- append --------------------------------------------------------------------------

    async def test_events_are_kept_in_order_and_counted(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            assert await s.append("r", facts(3)) == 4
            assert await s.append("r", facts(2, 4)) == 6
            assert await s.load("r") == (run(length=6), [started(), *facts(5)])

    @pytest.mark.parametrize("after", range(8))
    async def test_events_can_be_loaded_from_any_number_on(self, open_storage: Any, after: int) -> None:
        async with open_storage() as s:
            await add(s)
            await s.append("r", facts(3))
            await s.append("r", facts(2, 4))
            loaded, events = await s.load("r", after)
            assert loaded.length == 6
            assert events == [started(), *facts(5)][after:]

    async def test_a_decision_on_an_older_history_conflicts_and_writes_nothing(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await s.append("r", facts(1), expected=1)
            with pytest.raises(Conflict):
                await s.append("r", facts(1, 2), [job(op=7)], expected=1, status=Status.COMPLETED, now=T0)
            assert await s.load("r") == (run(length=2), [started(), *facts(1)])

    async def test_a_decision_on_a_history_longer_than_it_is_conflicts(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            with pytest.raises(Conflict):
                await s.append("r", facts(1), expected=5)

    async def test_facts_need_no_length(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            for op in range(1, 4):
                await s.append("r", facts(1, op))
            assert (await s.load("r"))[0].length == 4

    async def test_an_append_may_have_no_events(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            assert await s.append("r", [], [job(due=FOREVER)], expected=1, lease=lease) == 1

    @pytest.mark.parametrize("writers", [2, 8])
    async def test_of_many_writers_one_wins_each_number(self, storage_factory: Factory, writers: int) -> None:
        rounds = 10

        async def write(storage: Storage, writer: int) -> int:
            won = 0
            while True:
                current, _ = await storage.load("r", 1 << 40)
                if current.length > rounds:
                    return won
                try:
                    await storage.append("r", facts(1, writer), expected=current.length)
                    won += 1
                except Conflict:
                    continue

        async with self.opened(storage_factory, writers) as storages:
            await add(storages[0])
            won = await asyncio.gather(*(write(storage, n) for n, storage in enumerate(storages)))
            stored, events = await storages[0].load("r")
        assert stored.length == len(events) == 1 + sum(won)

    async def test_facts_of_many_writers_are_all_kept(self, storage_factory: Factory) -> None:
        async with self.opened(storage_factory, 4) as storages:
            await add(storages[0])
            await asyncio.gather(*(storages[op % 4].append("r", facts(1, op)) for op in range(1, 41)))
            _, events = await storages[0].load("r")
        assert sorted(event.op for event in events[1:] if isinstance(event, Completed)) == list(range(1, 41))

    # -- status --------------------------------------------------------------------------

    @pytest.mark.parametrize("status", [status for status in Status if status.is_final], ids=lambda s: s.value)
    async def test_a_final_status_ends_the_run(self, open_storage: Any, status: Status) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            await s.append("r", [RunCompleted(T0, 1)], lease=lease, finish=True, status=status, now=T0)
            assert (await s.load("r"))[0] == run(length=2, status=status, ended_at=T0)
            assert await take(s, "w2", T0 + 2 * LEASE) == []
            assert await s.due() is None

    async def test_an_ended_run_takes_nothing_more(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await s.append("r", [RunCompleted(T0, 1)], status=Status.COMPLETED, now=T0)
            with pytest.raises(RunEnded, match="completed"):
                await s.append("r", facts(1), [job()])
            assert (await s.load("r"))[0].length == 2
            assert await take(s) == []

    async def test_an_end_takes_all_jobs_away(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r", job(), job(op=3), job(op=4))
            await s.append("r", [RunCompleted(T0, 1)], status=Status.TERMINATED, now=T0)
            assert await take(s) == []

    async def test_blocking_takes_the_job_away_and_sets_no_end(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            await s.append("r", facts(1), lease=lease, finish=True, status=Status.BLOCKED, now=T0)
            assert (await s.load("r"))[0] == run(length=2, status=Status.BLOCKED)
            assert await take(s, "w2", T0 + 2 * LEASE) == []

    async def test_a_blocked_run_takes_facts(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await s.append("r", facts(1), status=Status.BLOCKED, now=T0)
            assert await s.append("r", facts(1, 2)) == 3

    async def test_an_ended_run_can_be_made_running_again(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await s.append("r", facts(1), status=Status.FAILED, now=T0)
            await s.append("r", facts(1, 2), [job()], expected=2, status=Status.RUNNING, now=T0)
            assert (await s.load("r"))[0] == run(length=3)
            assert [claimed.run_id for claimed in await take(s)] == ["r"]

    # -- claims --------------------------------------------------------------------------

    async def test_a_claim_tells_all_about_the_job(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r", job(op=3, queue="", data={"a": [1]}))
            await s.append("r", facts(2))
            (claimed,) = await take(s)
            assert claimed == Job("r", 3, None, "flow", "", {"a": [1]}, "w", 1, length=3)

    async def test_what_is_claimed_is_not_given_again(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            assert len(await take(s)) == 1
            assert await take(s) == []
            assert await take(s, "w2") == []

    async def test_nothing_is_given_before_it_is_due(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r", job(due=T0 + LEASE))
            assert await take(s, now=T0 + LEASE - timedelta(microseconds=1)) == []
            assert len(await take(s, now=T0 + LEASE)) == 1

    async def test_a_job_without_a_time_waits_until_the_run_is_woken(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r", job(due=None))
            assert await take(s, now=FOREVER) == []
            await s.append("r", facts(1), [job(due=T0)])
            assert len(await take(s)) == 1

    async def test_what_is_due_longest_comes_first(self, open_storage: Any) -> None:
        async with open_storage() as s:
            for n, late in enumerate((3, 1, 2)):
                await add(s, f"r{n}", job(f"r{n}", due=T0 - timedelta(seconds=late)))
            assert [claimed.run_id for claimed in await take(s)] == ["r0", "r2", "r1"]

    async def test_a_claim_gives_no_more_than_asked(self, open_storage: Any) -> None:
        async with open_storage() as s:
            for n in range(5):
                await add(s, f"r{n}")
            assert len(await take(s, limit=3)) == 3
            assert len(await take(s, limit=3)) == 2

    async def test_a_claim_takes_only_workflows_it_names(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r1")
            await add(s, "r2", job("r2", workflow="other"), workflow="other")
            claimed = await s.claim("w", T0, LEASE, 9, workflows=["other", "third"])
            assert [job.run_id for job in claimed] == ["r2"]
            assert await s.claim("w", T0, LEASE, 9, workflows=[]) == []

    async def test_a_claim_takes_only_queues_it_serves(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r", job(op=1), job(op=2, queue="gpu"))
            assert [claimed.op for claimed in await s.claim("w", T0, LEASE, 9, queues=["gpu"])] == [2]
            assert [claimed.op for claimed in await take(s)] == [1]

    async def test_of_two_claimers_each_job_goes_to_one(self, storage_factory: Factory) -> None:
        async with self.opened(storage_factory, 4) as storages:
            for n in range(40):
                await add(storages[0], f"r{n}")
            claims = await asyncio.gather(*(take(storages[n % 4], f"w{n}", limit=7) for n in range(8)))
            ids = [claimed.run_id for claim in claims for claimed in claim]
            assert len(ids) == len(set(ids)) == 40

    async def test_a_job_may_be_created_held(self, open_storage: Any) -> None:
        async with open_storage() as s:
            s.renew("w", T0, LEASE)
            held = job(due=None, worker="w", epoch=1)
            await add(s, "r", held)
            assert await take(s, "w2") == []
            assert await s.append("r", facts(1), expected=1, lease=held) == 2

    async def test_many_jobs_are_claimed_in_pieces(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await asyncio.gather(*(add(s, f"r{n}") for n in range(self.many)))
            seen: set[str] = set()
            while claimed := await take(s, limit=self.many // 20):
                seen.update(job.run_id for job in claimed)
            assert len(seen) == self.many

    # -- leases --------------------------------------------------------------------------

    async def test_a_lapsed_lease_makes_the_job_due_again(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await take(s)
            assert await take(s, "w2", T0 + LEASE - timedelta(microseconds=1)) == []
            (claimed,) = await take(s, "w2", T0 + LEASE)
            assert (claimed.worker, claimed.epoch, claimed.lapsed, claimed.recoveries) == ("w2", 2, True, 1)

    async def test_recoveries_are_counted(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await take(s)
            for n in range(1, 4):
                (claimed,) = await take(s, f"w{n}", T0 + n * LEASE)
                assert (claimed.recoveries, claimed.epoch) == (n, n + 1)

    async def test_the_epoch_rises_with_each_claim(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            for epoch in range(1, 4):
                (lease,) = await take(s)
                assert (lease.epoch, lease.lapsed, lease.recoveries) == (epoch, False, 0)
                await s.append("r", [], [job()], lease=lease)

    async def test_a_worker_that_lost_its_lease_cannot_write(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (old,) = await take(s)
            (new,) = await take(s, "w2", T0 + LEASE)
            with pytest.raises(LeaseLost):
                await s.append("r", facts(1), [job(op=5)], expected=1, lease=old)
            assert await s.load("r") == (run(), [started()])
            assert await s.append("r", facts(1), expected=1, lease=new) == 2

    @pytest.mark.parametrize("change", [{"epoch": 9}, {"worker": "w2"}, {"op": 3}], ids=str)
    async def test_a_lease_that_never_was_writes_nothing(self, open_storage: Any, change: dict[str, Any]) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            with pytest.raises(LeaseLost):
                await s.append("r", facts(1), lease=evolve(lease, **change))
            assert (await s.load("r"))[0].length == 1

    async def test_a_finished_job_is_gone(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r", job(op=3))
            (lease,) = await take(s)
            await s.append("r", facts(1), [job(due=None)], lease=lease, finish=True)
            with pytest.raises(LeaseLost):
                await s.append("r", facts(1, 2), lease=lease)
            assert await take(s, "w2", T0 + 2 * LEASE) == []

    async def test_renewing_keeps_the_lease(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            assert s.renew("w", T0 + LEASE / 2, LEASE) == []
            assert await take(s, "w2", T0 + LEASE) == []
            assert await s.append("r", facts(1), lease=lease) == 2
            assert len(await take(s, "w2", T0 + 1.5 * LEASE)) == 1

    async def test_renewing_keeps_all_jobs_of_a_worker(self, open_storage: Any) -> None:
        async with open_storage() as s:
            for n in range(20):
                await add(s, f"r{n}")
            await take(s)
            s.renew("w", T0 + LEASE / 2, LEASE)
            assert await take(s, "w2", T0 + LEASE) == []

    async def test_renewing_works_from_another_thread(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await take(s)
            await asyncio.to_thread(s.renew, "w", T0 + LEASE / 2, LEASE)
            assert await take(s, "w2", T0 + LEASE) == []

    async def test_a_worker_without_jobs_may_renew(self, open_storage: Any) -> None:
        async with open_storage() as s:
            assert s.renew("w", T0, LEASE) == []

    async def test_renewing_for_no_time_gives_everything_back(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (old,) = await take(s)
            s.renew("w", T0, timedelta(0))
            (claimed,) = await take(s, "w2")
            assert (claimed.epoch, claimed.lapsed, claimed.recoveries) == (2, False, 0)
            with pytest.raises(LeaseLost):
                await s.append("r", facts(1), lease=old)

    async def test_a_lapsed_worker_that_comes_back_holds_nothing(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await take(s)
            await take(s, "w2", T0 + LEASE)
            assert s.renew("w", T0 + LEASE, LEASE) == []
            assert await take(s, "w", T0 + LEASE) == []

    async def test_a_job_written_under_a_lease_that_is_over_goes_to_the_next(self, open_storage: Any) -> None:
        async with open_storage() as s:
            s.renew("w", T0, LEASE)
            s.renew("w", T0, timedelta(0))
            await add(s, "r", job(worker="w", epoch=1, due=None))
            (claimed,) = await take(s, "w2")
            assert (claimed.epoch, claimed.lapsed) == (2, True)

    async def test_what_was_taken_over_and_given_back_untouched_stays_lapsed(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await take(s)
            await take(s, "w2", T0 + LEASE)
            s.renew("w2", T0 + LEASE, timedelta(0))
            (claimed,) = await take(s, "w3", T0 + LEASE)
            assert claimed.lapsed

    # -- waking --------------------------------------------------------------------------

    async def test_a_fact_wakes_a_parked_run(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r", job(due=FOREVER))
            await s.append("r", facts(1), [job(due=T0)])
            assert len(await take(s)) == 1

    async def test_a_fact_never_puts_a_job_off(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r", job(due=T0))
            await s.append("r", facts(1), [job(due=FOREVER)])
            assert len(await take(s)) == 1

    async def test_a_fact_leaves_the_lease_of_a_held_job_alone(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            await s.append("r", facts(1), [job()])
            assert await take(s, "w2") == []
            assert await s.append("r", facts(1, 2), expected=2, lease=lease) == 3

    async def test_the_holder_is_told_once_that_its_run_was_woken(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r1")
            await add(s, "r2")
            await take(s)
            await s.append("r1", facts(1), [job("r1")])
            assert s.renew("w", T0, LEASE) == [("r1", RUN_OP)]
            assert s.renew("w", T0, LEASE) == []

    async def test_a_job_that_was_not_there_is_made(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            await s.append("r", facts(1), [job(op=7, data=[1]), job(op=8, due=FOREVER)], lease=lease)
            assert [(claimed.op, claimed.data) for claimed in await take(s, "w2")] == [(7, [1])]

    async def test_the_holder_parks_its_job(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            await s.append("r", facts(1), [job(due=T0 + LEASE)], expected=1, lease=lease)
            with pytest.raises(LeaseLost):
                await s.append("r", facts(1, 2), lease=lease)
            assert await take(s, "w2") == []
            (claimed,) = await take(s, "w2", T0 + LEASE)
            assert (claimed.epoch, claimed.lapsed) == (2, False)

    async def test_parking_on_an_older_history_conflicts(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            await s.append("r", facts(1), [job()])
            with pytest.raises(Conflict):
                await s.append("r", [], [job(due=None)], expected=1, lease=lease)
            assert await s.append("r", [], expected=2, lease=lease) == 2

    async def test_due_is_the_earliest_time_at_which_there_is_work(self, open_storage: Any) -> None:
        async with open_storage() as s:
            assert await s.due() is None
            await add(s, "r1", job("r1", due=FOREVER))
            assert await s.due() == FOREVER
            await add(s, "r2", job("r2", due=T0))
            assert await s.due() == T0
            await take(s)
            assert await s.due() == T0 + LEASE

    # -- hooks -------------------------------------------------------------------------------

    async def test_an_opened_hook_is_found_by_its_token(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await s.append("r", facts(1), also=Effects(hooks=[hook()]))
            assert await s.find_hook("t") == hook()
            assert await s.find_hook("other") is None

    async def test_a_run_may_be_created_with_hooks(self, open_storage: Any) -> None:
        async with open_storage() as s:
            assert await s.create(run(), [started()], [job()], [hook()]) is None
            assert await s.find_hook("t") == hook()

    async def test_hooks_are_listed_by_run(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r1")
            await add(s, "r2")
            await s.append("r2", [], also=Effects(hooks=[hook("c", "r2", 1)]))
            await s.append("r1", [], also=Effects(hooks=[hook("b", "r1", 2), hook("a", "r1", 1)]))
            assert [found.token for found in await s.hooks()] == ["a", "b", "c"]
            assert [found.token for found in await s.hooks("r1")] == ["a", "b"]
            assert [found.token for found in await s.hooks(limit=1)] == ["a"]

    async def test_a_token_opens_one_hook(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r1")
            await add(s, "r2")
            await s.append("r1", [], also=Effects(hooks=[hook(run_id="r1")]))
            with pytest.raises(HookTaken) as caught:
                await s.append("r2", facts(1), also=Effects(hooks=[hook(run_id="r2")]))
            assert caught.value.token == hook().token
            assert (await s.load("r2"))[0].length == 1
            with pytest.raises(HookTaken):
                await s.create(run("r3"), [started()], [job("r3")], [hook(run_id="r3")])
            with pytest.raises(RunNotFound):
                await s.load("r3")

    async def test_opening_a_hook_again_does_no_harm(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            for _ in range(2):
                await s.append("r", facts(1), also=Effects(hooks=[hook()]))
            assert await s.hooks() == [hook()]

    async def test_of_two_payloads_at_once_one_closes_the_hook(self, storage_factory: Factory) -> None:
        async with self.opened(storage_factory, 2) as storages:
            await add(storages[0])
            await storages[0].append("r", [], also=Effects(hooks=[hook()]))
            answers = await asyncio.gather(
                *(storages[n % 2].append("r", facts(1, n), also=Effects(close=["t"])) for n in range(8)),
                return_exceptions=True,
            )
            assert sum(isinstance(answer, HookClosed) for answer in answers) == 7
            assert (await storages[0].load("r"))[0].length == 2

    async def test_a_holder_may_close_a_hook_that_is_closed(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            assert await s.append("r", facts(1), lease=lease, also=Effects(close=["t"])) == 2

    async def test_a_run_closes_only_its_own_hooks(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r")
            await s.append("r", [], also=Effects(hooks=[hook()]))
            await add(s, "r2", job("r2"))
            with pytest.raises(HookClosed):
                await s.append("r2", facts(1), also=Effects(close=["t"]))
            assert await s.find_hook("t") == hook()

    async def test_an_end_closes_the_hooks_of_the_run(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r")
            await add(s, "r2")
            await s.append("r", [], also=Effects(hooks=[hook()]))
            await s.append("r2", [], also=Effects(hooks=[hook("t2", "r2")]))
            await s.append("r", [RunCompleted(T0, 1)], status=Status.COMPLETED, now=T0)
            assert await s.hooks() == [hook("t2", "r2")]

    async def test_blocking_keeps_hooks_open(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await s.append("r", [], also=Effects(hooks=[hook()]))
            await s.append("r", facts(1), status=Status.BLOCKED, now=T0)
            assert await s.find_hook("t") == hook()

    # -- telling other runs ------------------------------------------------------------------

    async def test_another_run_is_told_and_woken_in_the_same_transaction(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "parent", job("parent", due=FOREVER))
            await add(s, "r")
            (lease,) = await take(s)
            tell = Effects(tell=[Message("parent", facts(2))])
            await s.append(
                "r", [RunCompleted(T0, 1)], lease=lease, finish=True, status=Status.COMPLETED, now=T0, also=tell
            )
            assert await s.load("parent") == (run("parent", length=3), [started(), *facts(2)])
            assert [claimed.run_id for claimed in await take(s)] == ["parent"]

    async def test_the_holder_of_a_run_that_was_told_something_learns_of_it(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "parent")
            (lease,) = await take(s)
            await add(s, "r")
            await s.append("r", [], now=T0, also=Effects(tell=[Message("parent", facts(1))]))
            assert s.renew("w", T0, LEASE) == [("parent", RUN_OP)]
            with pytest.raises(Conflict):
                await s.append("parent", facts(1, 2), expected=1, lease=lease)

    async def test_nothing_is_told_if_the_append_is_refused(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "parent")
            await add(s, "r")
            with pytest.raises(Conflict):
                await s.append("r", [], expected=9, now=T0, also=Effects(tell=[Message("parent", facts(1))]))
            assert (await s.load("parent"))[0].length == 1

    async def test_ended_and_missing_runs_are_passed_over(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "gone")
            await s.append("gone", [RunCompleted(T0, 1)], status=Status.COMPLETED, now=T0)
            await add(s, "r")
            tell = [Message("gone", facts(1)), Message("nobody", facts(1))]
            assert await s.append("r", facts(1), now=T0, also=Effects(tell=tell)) == 2
            assert (await s.load("gone"))[0].length == 2

    async def test_a_blocked_run_keeps_what_it_is_told(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "parent")
            await s.append("parent", facts(1), status=Status.BLOCKED, now=T0)
            await add(s, "r", job(due=FOREVER))
            await s.append("r", [], now=T0, also=Effects(tell=[Message("parent", [CancelRequested(T0, "why")])]))
            assert (await s.load("parent"))[1][-1] == CancelRequested(T0, "why")
            assert await take(s) == []

    # -- beginning runs ----------------------------------------------------------------------

    async def test_a_run_is_begun_in_the_transaction_that_ends_another_one(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r")
            await s.append("r", [], also=Effects(hooks=[hook()]))
            (lease,) = await take(s)
            new = NewRun(run("r~2", length=2, parent="r"), [started(), *facts(1)])
            end = RunContinued(T0, "r~2", [], {})
            also = Effects(begin=[new])
            await s.append("r", [end], lease=lease, finish=True, status=Status.CONTINUED, now=T0, also=also)
            assert await s.load("r~2") == (new.run, new.events)
            assert await s.find_hook("t") is None
            (claimed,) = await take(s)
            assert (claimed.run_id, claimed.workflow, claimed.length) == ("r~2", new.run.workflow, 2)
            assert await s.append("r~2", facts(1), lease=claimed, expected=2) == 3

    async def test_a_run_that_is_there_is_not_begun_again(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r")
            await add(s, "r~2", job("r~2", due=FOREVER))
            (lease,) = await take(s)
            also = Effects(begin=[NewRun(run("r~2", length=1), [started()])])
            with pytest.raises(RunExists, match="r~2"):
                await s.append("r", facts(1), lease=lease, expected=1, status=Status.CONTINUED, now=T0, also=also)
            assert await s.load("r") == (run("r"), [started()])

    async def test_no_run_is_begun_if_the_append_is_refused(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r")
            also = Effects(begin=[NewRun(run("r~2", length=1), [started()])])
            with pytest.raises(Conflict):
                await s.append("r", facts(1), expected=9, now=T0, also=also)
            with pytest.raises(RunNotFound):
                await s.load("r~2")

    # -- dropping jobs -----------------------------------------------------------------------

    async def test_a_free_job_that_is_dropped_is_gone(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r", job(due=FOREVER), job(op=3))
            await s.append("r", facts(1), also=Effects(drop=[3, 4]))
            assert await take(s) == []

    async def test_the_holder_of_a_dropped_job_learns_of_it_and_nobody_gets_it(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r", job(due=FOREVER), job(op=3))
            (lease,) = await take(s)
            await s.append("r", facts(1), also=Effects(drop=[3]))
            assert s.renew("w", T0, LEASE) == [("r", 3)]
            with pytest.raises(LeaseLost):
                await s.append("r", facts(1), lease=lease)
            assert await take(s, "w2", T0 + 2 * LEASE) == []

    @pytest.mark.parametrize("lost", [True, False], ids=["its holder is lost", "its holder stops"])
    async def test_a_dropped_job_ends_with_its_lease(self, open_storage: Any, lost: bool) -> None:  # noqa: FBT001 -- a case
        async with open_storage() as s:
            await add(s, "r", job(due=FOREVER), job(op=3))
            await take(s)
            await s.append("r", facts(1), also=Effects(drop=[3]))
            if not lost:
                s.renew("w", T0, timedelta(0))
            assert await take(s, "w2", T0 + 2 * LEASE) == []

    # -- listing and deleting ----------------------------------------------------------------

    async def test_runs_are_listed_newest_first_and_in_pages(self, open_storage: Any) -> None:
        async with open_storage() as s:
            for n in range(25):
                await add(s, f"r{n:02}", created_at=T0 + timedelta(seconds=n // 2))
            seen, cursor = [], None
            while True:
                page = await s.runs(RunQuery(limit=10, cursor=cursor))
                seen += [found.id for found in page.runs]
                cursor = page.cursor
                if cursor is None:
                    break
            assert seen == [f"r{n:02}" for n in range(24, -1, -1)]

    async def test_a_cursor_stays_valid_while_runs_are_added(self, open_storage: Any) -> None:
        async with open_storage() as s:
            for n in range(4):
                await add(s, f"r{n}", created_at=T0 + timedelta(seconds=n))
            page = await s.runs(RunQuery(limit=2))
            await add(s, "new", created_at=T0 + timedelta(hours=1))
            page = await s.runs(RunQuery(limit=2, cursor=page.cursor))
            assert [found.id for found in page.runs] == ["r1", "r0"]

    async def test_a_full_last_page_has_no_cursor(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r1")
            await add(s, "r2")
            assert (await s.runs(RunQuery(limit=2))).cursor is None

    async def test_a_foreign_cursor_is_refused(self, open_storage: Any) -> None:
        async with open_storage() as s:
            with pytest.raises(ConfigError, match="cursor"):
                await s.runs(RunQuery(cursor="nonsense"))

    @pytest.mark.parametrize(
        "query, expected",
        [
            (RunQuery(status=Status.COMPLETED), ["r1"]),
            (RunQuery(workflow="other"), ["r2"]),
            (RunQuery(created_after=T0 + timedelta(seconds=1)), ["r2"]),
            (RunQuery(created_before=T0 + timedelta(seconds=1)), ["r0"]),
            (RunQuery(status=Status.FAILED), []),
        ],
        ids=["status", "workflow", "created after", "created before", "none"],
    )
    async def test_runs_are_filtered(self, open_storage: Any, query: RunQuery, expected: list[str]) -> None:
        async with open_storage() as s:
            await add(s, "r0")
            await add(s, "r1", created_at=T0 + timedelta(seconds=1))
            await add(s, "r2", created_at=T0 + timedelta(seconds=2), workflow="other")
            await s.append("r1", [RunCompleted(T0, 1)], status=Status.COMPLETED, now=T0)
            assert [found.id for found in (await s.runs(query)).runs] == expected

    async def test_runs_are_found_by_what_is_said_of_them(self, open_storage: Any) -> None:
        said: dict[str, Any] = {"customer": "c-1", "amount": 12.5, "vip": True, "ünï": "\x00"}
        async with open_storage() as s:
            for name in ("r1", "r2"):
                await add(s, name)
                await s.append(name, [], also=Effects(attributes={"customer": "c-2", "kept": 1}))
            await s.append("r1", facts(1), also=Effects(attributes=said))
            assert (await s.load("r1"))[0].attributes == {"kept": 1, **said}
            for name, value in said.items():
                (found,) = (await s.runs(RunQuery(attributes={name: value}))).runs
                assert found.attributes == {"kept": 1, **said}
            assert len((await s.runs(RunQuery(attributes={"kept": 1}))).runs) == 2
            assert (await s.runs(RunQuery(attributes={"kept": 1, "vip": False}))).runs == []
            assert (await s.runs(RunQuery(attributes={"amount": "12.5"}))).runs == []

    async def test_a_listed_run_is_whole(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, idempotency_key="k")
            await s.append("r", facts(2), status=Status.FAILED, now=T0)
            (found,) = (await s.runs(RunQuery())).runs
            assert found == run(idempotency_key="k", length=3, status=Status.FAILED, ended_at=T0)

    async def test_purging_deletes_what_ended_before(self, open_storage: Any) -> None:
        async with open_storage() as s:
            for n in range(4):
                await add(s, f"r{n}", idempotency_key=f"k{n}")
            await s.append("r0", [RunCompleted(T0, 1)], status=Status.COMPLETED, now=T0)
            await s.append("r1", [RunCompleted(T0, 1)], status=Status.FAILED, now=T0)
            await s.append("r2", [RunCompleted(T0, 1)], status=Status.COMPLETED, now=T0 + LEASE)
            assert await s.purge(T0 + LEASE, [Status.COMPLETED]) == 1
            assert {found.id for found in (await s.runs(RunQuery())).runs} == {"r1", "r2", "r3"}
            await add(s, "r0", idempotency_key="k0")
            assert await s.load("r0") == (run("r0", idempotency_key="k0"), [started()])

    async def test_purging_never_deletes_open_runs(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            assert await s.purge(FOREVER, list(Status)) == 0

    # -- values ----------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "value",
        ["", "\x00", "ünïcödé \U0001f600", "\ud800", {"~float": "nan"}, {"": [{}]}, [None, True, -1, 1.5], 1 << 62, "x" * 1_000_000],  # noqa: E501 -- a table
        ids=["empty", "NUL", "unicode", "lone surrogate", "tag", "empty key", "kinds", "large", "1 MB"],
    )  # fmt: skip
    async def test_values_come_back_as_they_were(self, open_storage: Any, value: Any) -> None:
        async with open_storage() as s:
            assert await s.create(run(), [started(value=value)], [job(op=1, data=value)]) is None
            await s.append("r", [Requested(T0, CallStep(1, "s", [value], {"k": value})), Completed(T0, 1, value)])
            _, events = await s.load("r")
            assert [events[0].args, events[1].command.args, events[2].value] == [[value], [value], value]
            assert (await take(s))[0].data == value

    @pytest.mark.parametrize(
        "at", [datetime(1970, 1, 1, tzinfo=UTC), T0, FOREVER], ids=["1970", "microseconds", "9999"]
    )
    async def test_times_come_back_as_they_were(self, open_storage: Any, at: datetime) -> None:
        async with open_storage() as s:
            await s.create(run(created_at=at), [started(at)], [job(due=at)])
            await s.append("r", [Fired(at, 1)])
            stored, events = await s.load("r")
            assert (stored.created_at, events[0].at, events[1].at, await s.due()) == (at, at, at, at)

    async def test_a_long_history_is_whole(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            for first in range(0, 5000, 50):
                await s.append("r", facts(50, first), expected=first + 1)
            loaded, events = await s.load("r")
            assert loaded.length == len(events) == 5001
            assert (await s.load("r", 4998))[1] == facts(3, 4997)
