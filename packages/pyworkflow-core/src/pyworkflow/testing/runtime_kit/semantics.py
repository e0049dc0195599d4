"""What runtimes have to do for workflows that wait for people, have children, clean up, continue and undo."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from pyworkflow import App
from pyworkflow.errors import (
    HookClosed,
    RunBlocked,
    RunCancelled,
    RunEnded,
    RunTerminated,
    StepTimeout,
    Unstorable,
    WorkflowTimeout,
)
from pyworkflow.events import CancelRequested, Completed, Retrying
from pyworkflow.model import Run, RunQuery, Status
from pyworkflow.testing.runtime_kit import odd_ends
from pyworkflow.testing.runtime_kit import stories as kit
from pyworkflow.testing.runtime_kit.workflows import Declined, notes, nothing, retried
from pyworkflow.testing.until import until

MakeApp = Callable[[], App]
RESERVED = ["reserve chair", "reserve table"]
RELEASED = ["release table of reservation table", "release chair of reservation chair"]


class Semantics:
    """What holds in durable and in transient runs alike."""

    async def test_children_give_their_results(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            assert await app.call(kit.family, (log, 5)) == [0, 2, 4, 6, 8]
        assert sorted(notes(log)) == [f"double {n}" for n in range(5)]

    async def test_a_childs_failure_reaches_its_parent_with_its_cause(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            with pytest.raises(LookupError) as caught:
                await app.call(kit.failing_parent)
        assert isinstance(caught.value.__cause__, Declined)

    async def test_a_step_gets_a_copy_of_its_arguments_and_gives_one_of_its_result(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            assert await app.call(kit.lists) == [[1], [1, 2, 3, 2], [1, 2, 3]]

    async def test_whatever_a_step_raises_is_an_exception_in_its_workflow(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            caught = await app.call(odd_ends.odd_ends)
        assert caught == ["StepFailed"] * 8 + ["RuntimeError"] * 2 + ["StepFailed"] * 2

    async def test_a_workflow_that_exits_is_blocked_and_nothing_else_is(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            with pytest.raises(RunBlocked, match=r"SystemExit\(3\)"):
                await app.call(odd_ends.exits)
            assert await app.call(nothing) == "done"

    async def test_a_run_continues_as_new(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            assert await app.call(kit.countdown, (log, 3)) == "lift off"
        assert notes(log) == ["3", "2", "1", "0"]

    async def test_what_was_done_is_undone_in_reverse_when_the_workflow_fails(
        self, make_app: MakeApp, log: str
    ) -> None:
        async with make_app() as app:
            with pytest.raises(Declined):
                await app.call(kit.saga, (log, "fails"))
        assert notes(log) == [*RESERVED, *RELEASED]

    async def test_nothing_is_undone_when_the_workflow_ends_well(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            assert await app.call(kit.saga, (log, "well")) == "bought"
        assert notes(log) == RESERVED

    async def test_a_workflow_has_a_timeout_and_may_clean_up(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            with pytest.raises(WorkflowTimeout, match=r"kit\.out_of_time"):
                await app.call(kit.out_of_time, (log,))
        assert notes(log) == ["out of time"]

    async def test_a_step_without_a_heartbeat_counts_as_hung(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            with pytest.raises(StepTimeout, match="heartbeat"):
                await app.call(kit.watched, (1,))

    async def test_a_step_with_heartbeats_may_take_its_time(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            assert await app.call(kit.watched, (4,)) == "alive"

    # -- steps ---------------------------------------------------------------------------

    async def test_a_step_without_retries_fails_at_once(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            with pytest.raises(ConnectionError, match="no second try"):
                await app.call(kit.no_retries, (log,))
        assert notes(log) == ["at once"]

    async def test_what_no_second_attempt_can_mend_is_not_tried_again(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            assert await app.call(kit.hopeless, (log,)) == ["TypeError", "Unstorable"]
        assert notes(log) == ["no result"]

    async def test_a_sync_step_runs_in_another_thread_than_the_event_loop(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            loop, thread = await app.call(kit.threads)
        assert loop != thread


class DurableSemantics:
    """What holds where runs are recorded.

    Attributes:
        children_are_runs: Whether a child is listed, asked and ended by itself; else it is a part of its parent.
        guards_tokens: Whether a hook is refused whose token another run's open hook has.
    """

    children_are_runs: ClassVar[bool] = True
    guards_tokens: ClassVar[bool] = True

    # -- time ----------------------------------------------------------------------------

    async def test_the_delay_of_a_retry_is_recorded(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(retried, (log, 2))
            assert await handle.result(timeout=20) == 3
            chosen = [event.due - event.at for event in await handle.history() if isinstance(event, Retrying)]
        assert len(chosen) == 2
        assert min(chosen) >= timedelta(milliseconds=10)  # on AWS delays are whole seconds

    async def test_a_sleep_goes_on_in_another_process_and_never_wakes_early(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.nap, (log,))
            await until(lambda: notes(log))
        async with make_app() as app, app.worker():
            slept = await app.recorded().result(handle.id)
        assert isinstance(slept, float)
        assert slept >= 0.5

    # -- hooks ---------------------------------------------------------------------------

    async def test_a_hook_is_awaited_for_a_typed_payload(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.approval, (log,))
            (token,) = await until(lambda: notes(log))
            assert await app.resume_hook(token, kit.Decision("ada")) == handle.id
            assert await handle.result(timeout=20) == "ada says True"

    async def test_a_payload_may_be_plain_json(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.approval, (log,))
            (token,) = await until(lambda: notes(log))
            await app.resume_hook(token, {"by": "bob", "ok": False})
            assert await handle.result(timeout=20) == "bob says False"

    async def test_a_payload_may_come_before_it_is_awaited(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.late, (log, "late"))
            await until(lambda: notes(log))
            await app.resume_hook("late", "early bird")
            assert await handle.result(timeout=20) == "early bird"

    @pytest.mark.parametrize("payload", [{"by": 3}, {}, "yes", lambda: None], ids=["type", "empty", "text", "function"])
    async def test_a_wrong_payload_is_refused_and_the_hook_stays_open(
        self, make_app: MakeApp, log: str, payload: Any
    ) -> None:
        async with make_app() as app:
            handle = await app.start(kit.approval, (log,))
            (token,) = await until(lambda: notes(log))
            with pytest.raises(Unstorable, match="approval"):
                await app.resume_hook(token, payload)
            await app.resume_hook(token, kit.Decision("ada"))
            assert await handle.result(timeout=20) == "ada says True"

    async def test_a_second_payload_finds_the_hook_closed(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.approval, (log,))
            (token,) = await until(lambda: notes(log))
            await app.resume_hook(token, kit.Decision("ada"))
            with pytest.raises(HookClosed):
                await app.resume_hook(token, kit.Decision("bob"))
            assert await handle.result(timeout=20) == "ada says True"

    async def test_default_tokens_are_long_and_not_listed(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.approval, (log,))
            (token,) = await until(lambda: notes(log))
            (found,) = await app.recorded().hooks(handle.id)
            assert len(token) >= 43  # 256 bits
            assert token not in repr(found)
            await app.recorded().terminate(handle.id)

    async def test_a_token_in_use_is_an_error_that_can_be_caught(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            first = await app.start(kit.approval, (log, "same"))
            await until(lambda: notes(log))
            if self.guards_tokens:
                assert await app.call(kit.taken, ("same",)) == "taken"
            await app.resume_hook("same", kit.Decision("ada"))
            assert await first.result(timeout=20) == "ada says True"

    async def test_a_token_twice_at_once_is_refused_to_the_second(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            handle = await app.start(kit.both, ("both",))
            await until(lambda: app.recorded().hooks(handle.id))
            await app.resume_hook("both", "hello")
            assert await handle.result(timeout=20) == "first: hello"

    async def test_a_hook_expires(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            assert await app.call(kit.expiring, ("quick",)) == "nobody came"
            with pytest.raises(HookClosed):
                await app.resume_hook("quick", "too late")

    async def test_a_hook_that_expired_or_was_closed_is_opened_again_at_once(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle, sent = await app.start(kit.reopened, (log, "gate")), list[str]()
            while len(sent) < 3:
                await until(lambda: len(notes(log)) > len(sent))
                await app.resume_hook("gate", str(len(sent)))
                sent.append("")
            assert await handle.result(timeout=20) == ["expired", "0", "1", "2"]

    async def test_a_hook_takes_many_payloads_in_order(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.chat, (log, "chat"))
            await until(lambda: notes(log))
            for text in ("one", "two", "three", "bye"):
                await app.resume_hook("chat", text)
            assert await handle.result(timeout=20) == ["one", "two", "three", "bye"]

    async def test_an_unknown_token_is_refused(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            with pytest.raises(HookClosed):
                await app.resume_hook("never was", 1)

    # -- children ------------------------------------------------------------------------

    async def test_hundreds_of_children_end_and_each_runs_once(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            results = await app.call(kit.family, (log, 200))
        assert results == [2 * n for n in range(200)]
        assert len(notes(log)) == len(set(notes(log))) == 200

    async def test_children_are_runs_of_their_own(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.family, (log, 2))
            await handle.result(timeout=20)
            runs = (await app.runs(RunQuery(workflow="kit.double"))).runs
            assert {run.parent for run in runs} == ({handle.id} if self.children_are_runs else set())

    async def test_cancelling_a_parent_cancels_its_child_once(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.waiting_parent, (log,))
            await until(lambda: notes(log))
            children = (await app.runs(RunQuery(workflow="kit.waiting_child"))).runs
            assert len(children) == self.children_are_runs
            await handle.cancel("enough")
            with pytest.raises(RunCancelled):
                await handle.result(timeout=20)
            for child in children:
                with pytest.raises(RunCancelled):
                    await app.recorded().result(child.id)
                _, events = await app.recorded().history(child.id)
                assert sum(isinstance(event, CancelRequested) for event in events) == 1
        assert notes(log) == ["child waits", "child cleaned up"]

    async def test_cancelling_a_parent_cancels_the_run_that_its_child_goes_on_as(
        self, make_app: MakeApp, log: str
    ) -> None:
        async with make_app() as app:
            handle = await app.start(kit.endless_parent, (log,))
            await until(lambda: "2" in notes(log))
            await handle.cancel()
            with pytest.raises(RunCancelled):
                await handle.result(timeout=20)
            await until(lambda: "stopped" in notes(log))
            if self.children_are_runs:
                (child,) = {run.id.partition("~")[0] for run in await _runs_of(app, "kit.endless_child")}
                with pytest.raises(RunCancelled):
                    await app.recorded().result(child)
        assert notes(log) == ["0", "1", "2", "stopped"]

    async def test_terminating_a_child_is_an_error_in_its_parent(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.waiting_parent, (log,))
            await until(lambda: notes(log))
            children = (await app.runs(RunQuery(workflow="kit.waiting_child"))).runs
            ended = children[0].id if self.children_are_runs else handle.id
            await app.recorded().terminate(ended, "no time")
            with pytest.raises(RunTerminated, match="no time"):
                await handle.result(timeout=20)

    async def test_a_run_that_a_workflow_started_goes_on_by_itself(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            started = await app.call(kit.starter, (log,))
            assert await app.recorded().result(started) == 42

    # -- cancelling ----------------------------------------------------------------------

    async def test_cleaning_up_sleeps_and_runs_steps_and_is_not_disturbed(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.tidy, (log,))
            await until(lambda: notes(log))
            await handle.cancel("stop")
            await until(lambda: "tidying" in notes(log))
            with pytest.raises(RunCancelled):
                await asyncio.gather(handle.result(timeout=20), _once_more(handle))
        assert notes(log) == ["begins", "tidying", "tidied"]

    async def test_a_cancelled_run_is_terminated_at_its_deadline(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.stubborn, (log,))
            await until(lambda: notes(log))
            await handle.cancel("stop", grace="30ms")
            with pytest.raises(RunTerminated, match="deadline"):
                await handle.result(timeout=20)

    async def test_what_was_done_is_undone_when_the_run_is_cancelled(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.saga, (log, "waits"))

            async def reserved() -> bool:  # recorded, not just done
                return sum(isinstance(event, Completed) for event in await handle.history()) == len(RESERVED)

            await until(reserved)
            await handle.cancel()
            with pytest.raises(RunCancelled):
                await handle.result(timeout=20)
        assert notes(log) == [*RESERVED, *RELEASED]

    # -- saying something of a run -------------------------------------------------------

    async def test_a_run_is_found_by_what_it_says_of_itself(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.told, (log,))
            await handle.result(timeout=20)
            (run,) = (await app.runs(RunQuery(attributes={"customer": "c-1", "status": "ended"}))).runs
        assert (run.id, run.attributes) == (handle.id, {"customer": "c-1", "amount": 12, "status": "ended"})

    # -- continuing ----------------------------------------------------------------------

    async def test_a_handle_follows_the_runs_that_continue_its_own(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.countdown, (log, 2))
            assert await handle.result(timeout=20) == "lift off"
            assert (await handle.run()).status is Status.CONTINUED
            runs = (await app.runs(RunQuery(workflow="kit.countdown"))).runs
        assert len(runs) == 3


async def _runs_of(app: App, workflow: str) -> Sequence[Run]:
    return (await app.runs(RunQuery(workflow=workflow))).runs


async def _once_more(handle: Any) -> None:
    with suppress(RunEnded):
        await handle.cancel("stop, I said")
