"""What every storage has to do in the transaction of an append beside it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pyworkflow.errors import Conflict, HookClosed, HookTaken, RunExists, RunNotFound
from pyworkflow.events import CancelRequested, RunContinued
from pyworkflow.model import RUN_OP, Append, Effects, Message, NewRun, Status
from pyworkflow.testing.storage_kit.stored import (
    FOREVER,
    LEASE,
    T0,
    Factory,
    Stored,
    add,
    end,
    facts,
    hook,
    job,
    run,
    started,
    take,
)


class EffectConformance(Stored):
    """Hooks that open and close, messages for other runs, runs that are created."""

    # -- hooks -------------------------------------------------------------------------------

    async def test_an_opened_hook_is_found_by_its_token(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await s.append(Append("r", facts(1), effects=Effects(hooks=[hook()])))
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
            await s.append(Append("r2", [], effects=Effects(hooks=[hook("c", "r2", 1)])))
            await s.append(Append("r1", [], effects=Effects(hooks=[hook("b", "r1", 2), hook("a", "r1", 1)])))
            assert [found.token for found in await s.hooks()] == ["a", "b", "c"]
            assert [found.token for found in await s.hooks("r1")] == ["a", "b"]
            assert [found.token for found in await s.hooks(limit=1)] == ["a"]

    async def test_a_token_opens_one_hook(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r1")
            await add(s, "r2")
            await s.append(Append("r1", [], effects=Effects(hooks=[hook(run_id="r1")])))
            with pytest.raises(HookTaken) as caught:
                await s.append(Append("r2", facts(1), effects=Effects(hooks=[hook(run_id="r2")])))
            assert caught.value.token == hook().token
            assert (await s.run("r2")).length == 1
            with pytest.raises(HookTaken):
                await s.create(run("r3"), [started()], [job("r3")], [hook(run_id="r3")])
            with pytest.raises(RunNotFound):
                await s.load("r3")

    async def test_opening_a_hook_again_does_no_harm(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            for _ in range(2):
                await s.append(Append("r", facts(1), effects=Effects(hooks=[hook()])))
            assert await s.hooks() == [hook()]

    async def test_of_two_payloads_at_once_one_closes_the_hook(self, storage_factory: Factory) -> None:
        async with self.opened(storage_factory, 2) as storages:
            await add(storages[0])
            await storages[0].append(Append("r", [], effects=Effects(hooks=[hook()])))
            answers = await asyncio.gather(
                *(storages[n % 2].append(Append("r", facts(1, n), effects=Effects(close=["t"]))) for n in range(8)),
                return_exceptions=True,
            )
            assert sum(isinstance(answer, HookClosed) for answer in answers) == 7
            assert (await storages[0].run("r")).length == 2

    async def test_a_holder_may_close_a_hook_that_is_closed(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            (lease,) = await take(s)
            assert await s.append(Append("r", facts(1), lease=lease, effects=Effects(close=["t"]))) == 2

    async def test_a_token_is_closed_and_opened_again_in_one_append(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await s.append(Append("r", [], effects=Effects(hooks=[hook(op=1)])))
            await s.append(Append("r", facts(1), effects=Effects(hooks=[hook(op=2)], close=["t"])))
            assert await s.find_hook("t") == hook(op=2)
            assert await s.hooks() == [hook(op=2)]

    async def test_the_token_of_another_run_is_not_closed_to_be_opened(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r1")
            await add(s, "r2", job("r2"))
            await s.append(Append("r1", [], effects=Effects(hooks=[hook(run_id="r1")])))
            (lease,) = [lease for lease in await take(s) if lease.run_id == "r2"]
            again = Effects(hooks=[hook(run_id="r2")], close=["t"])
            with pytest.raises(HookTaken):
                await s.append(Append("r2", facts(1), lease=lease, effects=again))
            assert await s.find_hook("t") == hook(run_id="r1")

    async def test_what_needs_a_hook_is_refused_once_its_token_is_another_operations(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await s.append(Append("r", [], effects=Effects(hooks=[hook(op=2)])))
            assert await s.append(Append("r", facts(1), effects=Effects(needs=[hook(op=2)]))) == 2
            with pytest.raises(HookClosed):
                await s.append(Append("r", facts(1), effects=Effects(close=["t"], needs=[hook(op=1)])))
            assert await s.find_hook("t") == hook(op=2)
            await s.append(Append("r", facts(1), effects=Effects(close=["t"])))
            with pytest.raises(HookClosed):
                await s.append(Append("r", facts(1), effects=Effects(needs=[hook(op=2)])))
            assert (await s.run("r")).length == 3

    async def test_a_run_closes_only_its_own_hooks(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r")
            await s.append(Append("r", [], effects=Effects(hooks=[hook()])))
            await add(s, "r2", job("r2"))
            with pytest.raises(HookClosed):
                await s.append(Append("r2", facts(1), effects=Effects(close=["t"])))
            assert await s.find_hook("t") == hook()

    async def test_an_end_closes_the_hooks_of_the_run(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r")
            await add(s, "r2")
            await s.append(Append("r", [], effects=Effects(hooks=[hook()])))
            await s.append(Append("r2", [], effects=Effects(hooks=[hook("t2", "r2")])))
            await s.append(end())
            assert await s.hooks() == [hook("t2", "r2")]

    async def test_blocking_keeps_hooks_open(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s)
            await s.append(Append("r", [], effects=Effects(hooks=[hook()])))
            await s.append(Append("r", facts(1), status=Status.BLOCKED, now=T0))
            assert await s.find_hook("t") == hook()

    # -- messages ----------------------------------------------------------------------------

    async def test_a_message_is_written_and_wakes_its_run_in_the_same_transaction(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "parent", job("parent", due=FOREVER))
            await add(s, "r")
            (lease,) = await take(s)
            effects = Effects(messages=[Message("parent", facts(2))])
            await s.append(end(lease=lease, finish=True, effects=effects))
            assert await s.load("parent") == (run("parent", length=3), [started(), *facts(2)])
            assert [claimed.run_id for claimed in await take(s)] == ["parent"]

    async def test_the_holder_of_a_run_that_gets_a_message_learns_of_it(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "parent")
            (lease,) = await take(s)
            await add(s, "r")
            await s.append(Append("r", [], now=T0, effects=Effects(messages=[Message("parent", facts(1))])))
            assert s.renew("w", T0, LEASE) == [("parent", RUN_OP)]
            with pytest.raises(Conflict):
                await s.append(Append("parent", facts(1, 2), expected=1, lease=lease))

    async def test_no_message_is_written_if_the_append_is_refused(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "parent")
            await add(s, "r")
            effects = Effects(messages=[Message("parent", facts(1))])
            with pytest.raises(Conflict):
                await s.append(Append("r", [], expected=9, now=T0, effects=effects))
            assert (await s.run("parent")).length == 1

    async def test_ended_and_missing_runs_are_passed_over(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "gone")
            await s.append(end("gone"))
            await add(s, "r")
            effects = Effects(messages=[Message("gone", facts(1)), Message("nobody", facts(1))])
            assert await s.append(Append("r", facts(1), now=T0, effects=effects)) == 2
            assert (await s.run("gone")).length == 2

    async def test_a_blocked_run_keeps_its_messages(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "parent")
            await s.append(Append("parent", facts(1), status=Status.BLOCKED, now=T0))
            await add(s, "r", job(due=FOREVER))
            fact = CancelRequested(T0, "why")
            await s.append(Append("r", [], now=T0, effects=Effects(messages=[Message("parent", [fact])])))
            assert (await s.load("parent"))[1][-1] == fact
            assert await take(s) == []

    # -- new runs ----------------------------------------------------------------------------

    async def test_a_run_is_created_in_the_transaction_that_ends_another_one(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r")
            await s.append(Append("r", [], effects=Effects(hooks=[hook()])))
            (lease,) = await take(s)
            new = NewRun(run("r~2", length=2, parent="r"), [started(), *facts(1)])
            events, effects = [RunContinued(T0, "r~2", [], {})], Effects(new_runs=[new])
            await s.append(end(events=events, lease=lease, finish=True, status=Status.CONTINUED, effects=effects))
            assert await s.load("r~2") == (new.run, new.events)
            assert await s.find_hook("t") is None
            (claimed,) = await take(s)
            assert (claimed.run_id, claimed.workflow, claimed.length) == ("r~2", new.run.workflow, 2)
            assert await s.append(Append("r~2", facts(1), lease=claimed, expected=2)) == 3

    async def test_a_run_that_is_there_is_not_created_again(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r")
            await add(s, "r~2", job("r~2", due=FOREVER))
            (lease,) = await take(s)
            effects = Effects(new_runs=[NewRun(run("r~2", length=1), [started()])])
            with pytest.raises(RunExists, match="r~2"):
                await s.append(end(lease=lease, expected=1, status=Status.CONTINUED, effects=effects))
            assert await s.load("r") == (run("r"), [started()])

    async def test_no_run_is_created_if_the_append_is_refused(self, open_storage: Any) -> None:
        async with open_storage() as s:
            await add(s, "r")
            effects = Effects(new_runs=[NewRun(run("r~2", length=1), [started()])])
            with pytest.raises(Conflict):
                await s.append(Append("r", facts(1), expected=9, now=T0, effects=effects))
            with pytest.raises(RunNotFound):
                await s.load("r~2")
