"""What every storage has to do with runs and their histories."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from pyworkflow.errors import ConfigError, Conflict, RunEnded, RunNotFound
from pyworkflow.events import CallStep, Completed, Fired, Requested, RunCompleted
from pyworkflow.model import Append, Effects, RunQuery, Status
from pyworkflow.ports import Storage
from pyworkflow.testing.storage_kit.stored import (
    FOREVER,
    LEASE,
    T0,
    Factory,
    Stored,
    add,
    call,
    end,
    facts,
    job,
    run,
    started,
    take,
)


class HistoryConformance(Stored):
    """Runs: created, read, added to, ended, listed and deleted."""

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
            assert (await s.run("r")).workflow == "flow"

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
                await s.run("nobody")
            with pytest.raises(RunNotFound, match="nobody"):
                await s.load("nobody")
            with pytest.raises(RunNotFound, match="nobody"):
                await s.append(Append("nobody", facts(1)))

    async def test_a_run_is_read_without_its_events(self, open_storage: Any) -> None:
        async with open_storage() as s:
            new = run(idempotency_key="k", parent="p", attributes={"a": 1})
            assert await s.create(new, [started()], [job()]) is None
            assert await s.run("r") == new
            (lease,) = await take(s)
            await s.append(Append("r", facts(2), expected=1, lease=lease))
            assert await s.run("r") == evolve(new, length=3)
            await s.append(end(lease=lease, finish=True, now=T0 + LEASE))
            assert await s.run("r") == evolve(new, length=4, status=Status.COMPLETED, ended_at=T0 + LEASE)

    async def test_a_run_may_be_created_ended(self, open_storage: Any) -> None:
        async with open_storage() as s:
            new = run(status=Status.COMPLETED, ended_at=T0, length=2)
            assert await s.create(new, [started(), RunCompleted(T0, 1)], []) is None
            assert await s.run("r") == new

    async def test_what_is_stored_is_there_after_opening_again(self, storage_factory: Factory) -> None:
        async with self.opened(storage_factory) as (s,):
            await add(s)
            await s.close()
            await s.open()
            assert await s.load("r") == (run(), [started()])

    async def test_two_instances_see_the_same(self, storage_factory: Factory) -> None:
        async with self.opened(storage_factory, 2) as (one, other):
            await add(one)
            await one.append(Append("r", facts(2)))
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
            assert await s.append(Append("r", facts(3))) == 4
            assert await s.append(Append("r", facts(2, 4))) == 6
            assert await s.load("r") == (run(length=6), [started(), *facts(5)])

    @pytest.mark.parametrize("after", range(8))
    async def test_events_can_be_loaded_from_any_number_on(self, open_storage: Any, after: int) -> None:
        async with open_storage() as s:
            await add(s)
            await s.append(Append("r", facts(3)))
            await s.append(Append("r", facts(2, 4)))
            loaded, events = await s.load("r", after)
            assert loaded.length == 6
            assert events == [started(), *facts(5)][after:]

    async def test_histories_read_together_are_those_read_one_by_one(self, open_storage: Any) -> None:
        async with open_storage() as s:
            for n in range(3):
                await add(s, f"r{n}")
                await s.append(Append(f"r{n}", facts(n + 1)))
            found = await s.load_many(["r2", "nobody", "r0", "r1"])
            assert "nobody" not in found
            assert found == {run_id: await s.load(run_id) for run_id in found}

    async def test_a_decision_on_an_older_history_conflicts_and_writes_nothing(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await s.append(Append("r", facts(1), expected=1))
            with pytest.raises(Conflict):
                await s.append(Append("r", facts(1, 2), [job(op=7)], expected=1, status=Status.COMPLETED, now=T0))
            assert await s.load("r") == (run(length=2), [started(), *facts(1)])

    async def test_a_decision_on_a_history_longer_than_it_is_conflicts(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            with pytest.raises(Conflict):
                await s.append(Append("r", facts(1), expected=5))

    async def test_facts_need_no_length(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            for op in range(1, 4):
                await s.append(Append("r", facts(1, op)))
            assert (await s.run("r")).length == 4

    async def test_an_append_may_have_no_events(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            assert await s.append(Append("r", [], [job(due=FOREVER)], expected=1, lease=lease)) == 1

    @pytest.mark.parametrize("writers", [2, 8])
    async def test_of_many_writers_one_wins_each_number(self, storage_factory: Factory, writers: int) -> None:
        rounds = 10

        async def write(storage: Storage, writer: int) -> int:
            won = 0
            while True:
                current = await storage.run("r")
                if current.length > rounds:
                    return won
                try:
                    await storage.append(Append("r", facts(1, writer), expected=current.length))
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
            await asyncio.gather(*(storages[op % 4].append(Append("r", facts(1, op))) for op in range(1, 41)))
            _, events = await storages[0].load("r")
        assert sorted(event.op for event in events[1:] if isinstance(event, Completed)) == list(range(1, 41))

    # -- status --------------------------------------------------------------------------

    @pytest.mark.parametrize("status", [status for status in Status if status.is_final], ids=lambda s: s.value)
    async def test_a_final_status_ends_the_run(self, open_storage: Any, status: Status) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            await s.append(end(lease=lease, finish=True, status=status))
            assert await s.run("r") == run(length=2, status=status, ended_at=T0)
            assert await take(s, "w2", T0 + 2 * LEASE) == []
            assert await s.due() is None

    async def test_an_ended_run_takes_nothing_more(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await s.append(end())
            with pytest.raises(RunEnded, match="completed"):
                await s.append(Append("r", facts(1), [job()]))
            assert (await s.run("r")).length == 2
            assert await take(s) == []

    async def test_an_end_takes_all_jobs_away(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r", job(), job(op=3), job(op=4))
            await s.append(end(status=Status.TERMINATED))
            assert await take(s) == []

    async def test_blocking_takes_the_job_away_and_sets_no_end(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            await s.append(Append("r", facts(1), lease=lease, finish=True, status=Status.BLOCKED, now=T0))
            assert await s.run("r") == run(length=2, status=Status.BLOCKED)
            assert await take(s, "w2", T0 + 2 * LEASE) == []

    async def test_a_blocked_run_takes_facts(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await s.append(Append("r", facts(1), status=Status.BLOCKED, now=T0))
            assert await s.append(Append("r", facts(1, 2))) == 3

    async def test_an_ended_run_can_be_made_running_again(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await s.append(Append("r", facts(1), status=Status.FAILED, now=T0))
            await s.append(Append("r", facts(1, 2), [job()], expected=2, status=Status.RUNNING, now=T0))
            assert await s.run("r") == run(length=3)
            assert [claimed.run_id for claimed in await take(s)] == ["r"]

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
            await s.append(end("r1"))
            assert [found.id for found in (await s.runs(query)).runs] == expected

    async def test_runs_are_found_by_what_is_said_of_them(self, open_storage: Any) -> None:
        said: dict[str, Any] = {"customer": "c-1", "amount": 12.5, "vip": True, "ünï": "\x00"}
        async with open_storage() as s:
            for name in ("r1", "r2"):
                await add(s, name)
                await s.append(Append(name, [], effects=Effects(attributes={"customer": "c-2", "kept": 1})))
            await s.append(Append("r1", facts(1), effects=Effects(attributes=said)))
            assert (await s.run("r1")).attributes == {"kept": 1, **said}
            for name, value in said.items():
                (found,) = (await s.runs(RunQuery(attributes={name: value}))).runs
                assert found.attributes == {"kept": 1, **said}
            assert len((await s.runs(RunQuery(attributes={"kept": 1}))).runs) == 2
            assert (await s.runs(RunQuery(attributes={"kept": 1, "vip": False}))).runs == []
            assert (await s.runs(RunQuery(attributes={"amount": "12.5"}))).runs == []

    async def test_a_listed_run_is_whole(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, idempotency_key="k")
            await s.append(Append("r", facts(2), status=Status.FAILED, now=T0))
            (found,) = (await s.runs(RunQuery())).runs
            assert found == run(idempotency_key="k", length=3, status=Status.FAILED, ended_at=T0)

    async def test_purging_deletes_what_ended_before(self, open_storage: Any) -> None:
        async with open_storage() as s:
            for n in range(4):
                await add(s, f"r{n}", idempotency_key=f"k{n}")
            await s.append(end("r0"))
            await s.append(end("r1", status=Status.FAILED))
            await s.append(end("r2", now=T0 + LEASE))
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
            assert await s.create(run(), [started(value=value)], [job(op=1, call=call(value))]) is None
            requested = Requested(T0, CallStep(1, "s", [value], {"k": value}))
            await s.append(Append("r", [requested, Completed(T0, 1, value)]))
            _, events = await s.load("r")
            assert [events[0].args, events[1].command.args, events[2].value] == [[value], [value], value]
            assert (await take(s))[0].call == call(value)

    @pytest.mark.parametrize(
        "at", [datetime(1970, 1, 1, tzinfo=UTC), T0, FOREVER], ids=["1970", "microseconds", "9999"]
    )
    async def test_times_come_back_as_they_were(self, open_storage: Any, at: datetime) -> None:
        async with open_storage() as s:
            await s.create(run(created_at=at), [started(at)], [job(due=at)])
            await s.append(Append("r", [Fired(at, 1)]))
            stored, events = await s.load("r")
            assert (stored.created_at, events[0].at, events[1].at, await s.due()) == (at, at, at, at)

    async def test_a_long_history_is_whole(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            for first in range(0, 5000, 50):
                await s.append(Append("r", facts(50, first), expected=first + 1))
            loaded, events = await s.load("r")
            assert loaded.length == len(events) == 5001
            assert (await s.load("r", 4998))[1] == facts(3, 4997)
