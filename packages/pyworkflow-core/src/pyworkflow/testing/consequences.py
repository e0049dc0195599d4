"""What every storage has to do in the transaction of an append beside it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pyworkflow.errors import Conflict, HookClosed, HookTaken, RunExists, RunNotFound
from pyworkflow.events import CancelRequested, RunCompleted, RunContinued
from pyworkflow.model import RUN_OP, Effects, Message, NewRun, Status
from pyworkflow.testing.stored import FOREVER, LEASE, T0, Factory, Stored, add, facts, hook, job, run, started, take


class EffectConformance(Stored):
    """Hooks that open and close, other runs that are told something, runs that begin."""

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
