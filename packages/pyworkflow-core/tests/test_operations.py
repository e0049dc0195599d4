"""A history folded into operations: events in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from pyworkflow.events import (
    Abandoned,
    Attempted,
    CallStep,
    CancelRequested,
    ChildContinued,
    Command,
    Completed,
    ErrorRecord,
    Event,
    Failed,
    Fired,
    HandedOut,
    OpenHook,
    Received,
    Requested,
    Retrying,
    RunBlocked,
    RunCompleted,
    RunFailed,
    RunRetried,
    RunStarted,
    StartChild,
    StartTimer,
)
from pyworkflow.inspection.operations import Operation, Outcome, fold

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ERROR = ErrorRecord("builtins:OSError", "no")
STEP = CallStep(1, "charge", [], {})
HOOK = OpenHook(1, "approval", "token", many=True)
CHILD = StartChild(1, "child", [], {})


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def started() -> RunStarted:
    return RunStarted(T0, "flow", [], {}, "seed")


def folded(command: Command, *events: Event) -> Operation:
    return fold([started(), Requested(at(1), command), *events]).operations[1]


def attempts(operation: Operation) -> Sequence[tuple[int, datetime, datetime | None, Outcome]]:
    return [(one.number, one.start, one.end, one.outcome) for one in operation.attempts]


def test_a_step_has_its_first_attempt_from_its_request() -> None:
    step = folded(STEP)
    assert attempts(step) == [(1, at(1), None, Outcome.OPEN)]
    assert (step.is_open, step.is_running, step.due) == (True, True, None)


def test_a_result_ends_the_attempt_and_the_operation() -> None:
    step = folded(STEP, Completed(at(3), 1, "paid"))
    assert attempts(step) == [(1, at(1), at(3), Outcome.COMPLETED)]
    assert (step.is_open, step.answer) == (False, Completed(at(3), 1, "paid"))


def test_the_first_answer_counts() -> None:
    assert folded(STEP, Completed(at(3), 1, "a"), Completed(at(4), 1, "b")).answer == Completed(at(3), 1, "a")


def test_a_failed_attempt_puts_the_next_one_off() -> None:
    step = folded(STEP, Retrying(at(2), 1, 1, ERROR, at(9)))
    assert attempts(step) == [(1, at(1), at(2), Outcome.FAILED), (2, at(9), None, Outcome.OPEN)]
    assert (step.due, step.is_running) == (at(9), False)
    assert step.before is not None
    assert step.before.error == ERROR


def test_a_lost_attempt_is_followed_by_one_that_begins_at_once() -> None:
    step = folded(STEP, Attempted(at(5), 1, 2))
    assert attempts(step) == [(1, at(1), at(5), Outcome.LOST), (2, at(5), None, Outcome.OPEN)]
    assert (step.since, step.is_running, step.due) == (at(5), True, None)


def test_losses_at_one_moment_are_one_loss_of_a_worker() -> None:
    other = CallStep(2, "ship", [], {})
    events = [Requested(at(1), STEP), Requested(at(1), other), Attempted(at(5), 1, 2), Attempted(at(5), 2, 2)]
    assert fold([started(), *events]).losses == {at(5)}


def test_a_dispatched_step_waits_in_its_queue_from_then_on() -> None:
    step = folded(STEP, HandedOut(at(2), (1,), ("gpu",)))
    assert (step.queue, step.since, step.is_running) == ("gpu", at(2), False)
    assert folded(STEP, HandedOut(at(2), (1,))).queue == ""


def test_an_attempt_that_is_put_off_beyond_the_end_of_the_run_ends_when_it_would_begin() -> None:
    step = folded(STEP, Retrying(at(2), 1, 1, ERROR, at(9)), RunCompleted(at(4), None))
    assert attempts(step)[-1] == (2, at(9), at(9), Outcome.STOPPED)


def test_a_hook_that_takes_many_payloads_has_all_of_them_and_stays_open() -> None:
    hook = folded(HOOK, Received(at(2), 1, "a"), Received(at(3), 1, "b"))
    assert ([one.value for one in hook.payloads], hook.is_open) == (["a", "b"], True)


def test_a_hook_that_takes_one_payload_closes() -> None:
    assert not folded(OpenHook(1, "approval", "token"), Received(at(2), 1, "a")).is_open


@pytest.mark.parametrize("command", [HOOK, CHILD])
def test_what_is_abandoned_is_not_open(command: Command) -> None:
    operation = folded(command, Abandoned(at(4), 1))
    assert (operation.abandoned, operation.is_open) == (at(4), False)


def test_a_child_may_be_continued_by_another_run() -> None:
    assert folded(CHILD, ChildContinued(at(2), 1, "r.1~2")).continued_as == "r.1~2"


def test_a_timer_ends_when_it_fires() -> None:
    assert folded(StartTimer(1, "sleep", 5.0), Fired(at(6), 1)).answer == Fired(at(6), 1)


def test_a_cancellation_is_kept_with_its_reason() -> None:
    asked = CancelRequested(at(2), "too late")
    assert fold([started(), asked]).cancellations == [asked]


# -- retries of a run ------------------------------------------------------------------------------


def test_a_failed_run_that_is_retried_has_another_first_attempt_of_the_step_that_failed() -> None:
    failed = Failed(at(2), 1, ERROR)
    story = fold([started(), Requested(at(1), STEP), failed, RunFailed(at(2), ERROR, 1), RunRetried(at(8), 3)])
    step = story.operations[1]
    assert attempts(step) == [(1, at(1), at(2), Outcome.FAILED), (1, at(8), None, Outcome.OPEN)]
    assert (step.answer, story.ending) == (None, None)
    assert story.retries == [(RunRetried(at(8), 3), RunFailed(at(2), ERROR, 1))]


def test_what_was_requested_after_the_failure_is_gone_after_a_retry() -> None:
    undo = CallStep(2, "refund", [], {})
    events = [Requested(at(1), STEP), Failed(at(2), 1, ERROR), Requested(at(2), undo), Completed(at(3), 2, None)]
    story = fold([started(), *events, RunFailed(at(3), ERROR, 1), RunRetried(at(8), 3)])
    assert set(story.operations) == {1}


def test_a_step_that_a_blocked_run_stopped_goes_on_with_its_attempt_after_a_retry() -> None:
    events = [Requested(at(1), STEP), HandedOut(at(1), (1,), ("gpu",)), RunBlocked(at(4), ERROR), RunRetried(at(8))]
    step = fold([started(), *events]).operations[1]
    assert attempts(step) == [(1, at(1), at(4), Outcome.STOPPED), (1, at(8), None, Outcome.OPEN)]
    assert step.queue is None, "its job is gone: it is the run's own again"
