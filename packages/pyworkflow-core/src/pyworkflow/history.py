"""What of a history counts: a retry takes the failure back that it follows."""

from __future__ import annotations

from collections.abc import Sequence

from pyworkflow.model import (
    Attempted,
    Completed,
    Event,
    Failed,
    Fired,
    Requested,
    Retrying,
    RunBlocked,
    RunFailed,
    RunRetried,
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


def _after_retry(kept: list[tuple[int, Event]], cut: int) -> list[tuple[int, Event]]:
    kept = [(number, event) for number, event in kept if not isinstance(event, RunFailed | RunBlocked)]
    if not cut:
        return kept
    again = next((event.op for number, event in kept if number == cut and isinstance(event, Failed)), None)
    attempts = (Attempted, Retrying)  # the step that failed begins anew, with all its attempts
    before = [
        (number, event)
        for number, event in kept
        if number < cut and not (isinstance(event, attempts) and event.op == again)
    ]
    requested = {event.command.op for _, event in before if isinstance(event, Requested)}
    answers = (Completed, Fired)  # work that was done meanwhile stays done
    return before + [
        pair for pair in kept if pair[0] > cut and isinstance(pair[1], answers) and pair[1].op in requested
    ]
