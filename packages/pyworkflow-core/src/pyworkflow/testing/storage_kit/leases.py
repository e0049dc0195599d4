"""What every storage has to do with jobs: who holds them, until when, and who comes next."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve

from pyworkflow.errors import Conflict, LeaseLost
from pyworkflow.model import RUN_OP, Append, Effects, Lease
from pyworkflow.testing.storage_kit.stored import (
    FOREVER,
    LEASE,
    T0,
    Factory,
    Stored,
    add,
    add_held,
    call,
    facts,
    job,
    run,
    started,
    take,
)


class LeaseConformance(Stored):
    """Jobs: claimed, held, lost, woken and dropped."""

    # -- claims --------------------------------------------------------------------------

    async def test_a_claim_returns_all_of_the_job(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r", job(op=3, queue="", call=call({"a": [1]})))
            await s.append(Append("r", facts(2)))
            (claimed,) = await take(s)
            assert claimed == Lease("r", 3, "w", 1, "flow", "", call({"a": [1]}), length=3)

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
            await s.append(Append("r", facts(1), [job(due=T0)]))
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
            held = await add_held(s)
            assert await take(s, "w2") == []
            assert await s.append(Append("r", facts(1), expected=1, lease=held)) == 2

    async def test_a_held_job_is_created_beside_free_ones(self, open_storage: Any) -> None:
        async with open_storage() as s:
            s.renew("w", T0, LEASE)
            held = Lease("r", RUN_OP, "w", 1, "flow")
            assert await s.create(run(), [started()], [job(op=3, call=call(1))], lease=held) is None
            assert [(claimed.op, claimed.call) for claimed in await take(s, "w2")] == [(3, call(1))]
            s.renew("w2", T0 + LEASE, 2 * LEASE)
            (claimed,) = await take(s, "w3", T0 + 2 * LEASE)
            assert (claimed.op, claimed.epoch, claimed.lapsed) == (RUN_OP, 2, True)

    async def test_a_refused_create_holds_nothing(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            s.renew("w", T0, LEASE)
            held = Lease("r", RUN_OP, "w", 1, "flow")
            assert await s.create(run(), [started()], [], lease=held) == run()
            with pytest.raises(LeaseLost):
                await s.append(Append("r", facts(1), expected=1, lease=held))
            assert [claimed.epoch for claimed in await take(s, "w2")] == [1]

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
                await s.append(Append("r", [], [job()], lease=lease))

    async def test_a_worker_that_lost_its_lease_cannot_write(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (old,) = await take(s)
            (new,) = await take(s, "w2", T0 + LEASE)
            with pytest.raises(LeaseLost):
                await s.append(Append("r", facts(1), [job(op=5)], expected=1, lease=old))
            assert await s.load("r") == (run(), [started()])
            assert await s.append(Append("r", facts(1), expected=1, lease=new)) == 2

    @pytest.mark.parametrize("change", [{"epoch": 9}, {"worker": "w2"}, {"op": 3}], ids=str)
    async def test_a_lease_that_never_was_writes_nothing(self, open_storage: Any, change: dict[str, Any]) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            with pytest.raises(LeaseLost):
                await s.append(Append("r", facts(1), lease=evolve(lease, **change)))
            assert (await s.run("r")).length == 1

    async def test_a_lease_on_a_run_that_is_not_there_is_lost(self, open_storage: Any) -> None:
        async with open_storage() as s:
            with pytest.raises(LeaseLost):
                await s.append(Append("nope", facts(1), lease=Lease("nope", RUN_OP, "w", 1)))

    async def test_a_finished_job_is_gone(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r", job(op=3))
            (lease,) = await take(s)
            await s.append(Append("r", facts(1), [job(due=None)], lease=lease, finish=True))
            with pytest.raises(LeaseLost):
                await s.append(Append("r", facts(1, 2), lease=lease))
            assert await take(s, "w2", T0 + 2 * LEASE) == []

    async def test_renewing_keeps_the_lease(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            assert s.renew("w", T0 + LEASE / 2, LEASE) == []
            assert await take(s, "w2", T0 + LEASE) == []
            assert await s.append(Append("r", facts(1), lease=lease)) == 2
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

    async def test_renewing_for_no_time_releases_everything(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (old,) = await take(s)
            s.renew("w", T0, timedelta(0))
            (claimed,) = await take(s, "w2")
            assert (claimed.epoch, claimed.lapsed, claimed.recoveries) == (2, False, 0)
            with pytest.raises(LeaseLost):
                await s.append(Append("r", facts(1), lease=old))

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
            await add_held(s)
            (claimed,) = await take(s, "w2")
            assert (claimed.epoch, claimed.lapsed) == (2, True)

    async def test_what_was_recovered_and_released_untouched_stays_lapsed(self, open_storage: Any) -> None:
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
            await s.append(Append("r", facts(1), [job(due=T0)]))
            assert len(await take(s)) == 1

    async def test_a_fact_never_puts_a_job_off(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r", job(due=T0))
            await s.append(Append("r", facts(1), [job(due=FOREVER)]))
            assert len(await take(s)) == 1

    async def test_a_fact_leaves_the_lease_of_a_held_job_alone(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            await s.append(Append("r", facts(1), [job()]))
            assert await take(s, "w2") == []
            assert await s.append(Append("r", facts(1, 2), expected=2, lease=lease)) == 3

    async def test_the_holder_learns_once_that_its_run_was_woken(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r1")
            await add(s, "r2")
            await take(s)
            await s.append(Append("r1", facts(1), [job("r1")]))
            assert s.renew("w", T0, LEASE) == [("r1", RUN_OP)]
            assert s.renew("w", T0, LEASE) == []

    async def test_a_job_that_was_not_there_is_made(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            await s.append(Append("r", facts(1), [job(op=7, call=call(1)), job(op=8, due=FOREVER)], lease=lease))
            assert [(claimed.op, claimed.call) for claimed in await take(s, "w2")] == [(7, call(1))]

    async def test_the_holder_parks_its_job(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            await s.append(Append("r", facts(1), [job(due=T0 + LEASE)], expected=1, lease=lease))
            with pytest.raises(LeaseLost):
                await s.append(Append("r", facts(1, 2), lease=lease))
            assert await take(s, "w2") == []
            (claimed,) = await take(s, "w2", T0 + LEASE)
            assert (claimed.epoch, claimed.lapsed) == (2, False)

    async def test_parking_on_an_older_history_conflicts(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            await s.append(Append("r", facts(1), [job()]))
            with pytest.raises(Conflict):
                await s.append(Append("r", [], [job(due=None)], expected=1, lease=lease))
            assert await s.append(Append("r", [], expected=2, lease=lease)) == 2

    async def test_due_is_the_earliest_time_at_which_there_is_work(self, open_storage: Any) -> None:
        async with open_storage() as s:
            assert await s.due() is None
            await add(s, "r1", job("r1", due=FOREVER))
            assert await s.due() == FOREVER
            await add(s, "r2", job("r2", due=T0))
            assert await s.due() == T0
            await take(s)
            assert await s.due() == T0 + LEASE

    # -- dropping jobs -----------------------------------------------------------------------

    async def test_a_free_job_that_is_dropped_is_gone(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r", job(due=FOREVER), job(op=3))
            await s.append(Append("r", facts(1), effects=Effects(drop=[3, 4])))
            assert await take(s) == []

    async def test_the_holder_of_a_dropped_job_learns_of_it_and_nobody_gets_it(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r", job(due=FOREVER), job(op=3))
            (lease,) = await take(s)
            await s.append(Append("r", facts(1), effects=Effects(drop=[3])))
            assert s.renew("w", T0, LEASE) == [("r", 3)]
            with pytest.raises(LeaseLost):
                await s.append(Append("r", facts(1), lease=lease))
            assert await take(s, "w2", T0 + 2 * LEASE) == []

    @pytest.mark.parametrize("lost", [True, False], ids=["its holder is lost", "its holder stops"])
    async def test_a_dropped_job_ends_with_its_lease(self, open_storage: Any, lost: bool) -> None:  # noqa: FBT001 -- a case
        async with open_storage() as s:
            await add(s, "r", job(due=FOREVER), job(op=3))
            await take(s)
            await s.append(Append("r", facts(1), effects=Effects(drop=[3])))
            if not lost:
                s.renew("w", T0, timedelta(0))
            assert await take(s, "w2", T0 + 2 * LEASE) == []
