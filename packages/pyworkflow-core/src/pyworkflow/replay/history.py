"""Which events of a history count: a retry takes back the failure that it follows."""

from __future__ import annotations

from collections.abc import Sequence

from pyworkflow.events import (
    Abandoned,
    Attempted,
    ChildContinued,
    Completed,
    Event,
    Failed,
    Fired,
    HandedOut,
    OpenHook,
    Posted,
    Received,
    Requested,
    Retrying,
    RunBlocked,
    RunFailed,
    RunRetried,
    StartChild,
)


def effective(history: Sequence[Event]) -> list[Event]:
    """Return the events that replay has to see, of a whole history."""
    if not any(isinstance(event, RunRetried) for event in history):
        return list(history)
    kept: list[tuple[int, Event]] = []
    for number, event in enumerate(history, 1):
        if isinstance(event, RunRetried):
            kept = _after_retry(kept, event.cut)
        else:
            kept.append((number, event))
    return [event for _, event in kept]


def retry_cut(history: Sequence[Event], op: int | None) -> int:
    """Return the `RunRetried.cut` with which operation *op*, whose failure ended the run, is done once more."""
    if op is None:
        return 0
    return next((n for n, event in enumerate(history, 1) if isinstance(event, Failed) and event.op == op), 0)


def open_hooks(history: Sequence[Event]) -> list[OpenHook]:
    """Return the hooks that still take payloads, of the events that count."""
    answered = {event.op for event in history if isinstance(event, Abandoned | Failed | Fired)}
    received = {event.op for event in history if isinstance(event, Received)}
    asked = [event.command for event in history if isinstance(event, Requested)]
    hooks = [command for command in asked if isinstance(command, OpenHook) and command.op not in answered]
    return [hook for hook in hooks if hook.many or hook.op not in received]


def continued_as(history: Sequence[Event]) -> dict[int, str]:
    """Return the runs as which children have continued, by operation."""
    return {event.op: event.run_id for event in history if isinstance(event, ChildContinued)}


def open_children(history: Sequence[Event]) -> list[StartChild]:
    """Return the children that a run still waits for, of the events that count."""
    answered = {event.op for event in history if isinstance(event, Abandoned | Completed | Failed)}
    asked = [event.command for event in history if isinstance(event, Requested)]
    return [
        command
        for command in asked
        if isinstance(command, StartChild) and not command.detached and command.op not in answered
    ]


def _after_retry(kept: list[tuple[int, Event]], cut: int) -> list[tuple[int, Event]]:
    # What was dispatched lost its jobs when the run stopped, and is the run's own again.
    kept = [(number, event) for number, event in kept if not isinstance(event, RunFailed | RunBlocked | HandedOut)]
    if not cut:
        return kept
    again = next((event.op for number, event in kept if number == cut and isinstance(event, Failed)), None)
    attempts = (Attempted, Retrying)  # the step that failed begins again, with all its attempts
    before = [
        (number, event)
        for number, event in kept
        if number < cut and not (isinstance(event, attempts) and event.op == again)
    ]
    requested = {event.command.op for _, event in before if isinstance(event, Requested)}
    answers = (Completed, Fired, Received, ChildContinued)  # work that was done meanwhile stays done
    return before + [
        pair
        for pair in kept
        if pair[0] > cut and (isinstance(pair[1], Posted) or (isinstance(pair[1], answers) and pair[1].op in requested))
    ]
