"""A history as rows of operations: when each began and ended, its attempts, its waits. Pure; nothing is drawn here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import Enum

from attrs import Factory, frozen

from pyworkflow.events import (
    Command,
    Completed,
    Event,
    Failed,
    Fired,
    OpenHook,
    Plain,
    Received,
    RunBlocked,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunTerminated,
    StartTimer,
)
from pyworkflow.inspection.operations import Attempt, Ending, Operation, Outcome, Story, fold
from pyworkflow.model import FINAL, Status


class State(Enum):
    """How an operation is doing."""

    DONE = "done"
    FAILED = "failed"
    RUNNING = "running"
    DISPATCHED = "dispatched"
    RETRYING = "retrying"
    SLEEPING = "sleeping"
    WAITING = "waiting"
    STOPPED = "stopped"
    ABANDONED = "abandoned"


class Phase(Enum):
    """What a stretch of time was spent with."""

    WORKING = "working"
    FAILED = "failed"
    LOST = "lost"
    WAITING = "waiting"


@frozen
class Segment:
    """A stretch of time of one operation."""

    phase: Phase
    start: datetime
    end: datetime


@frozen
class Row:
    """An operation.

    Attributes:
        end: When it was answered; None: it was not.
        until: When a timer fires, a hook expires, or the next attempt of a step begins.
        value: The result of a step or a child, or the last payload of a hook.
    """

    op: int
    command: Command
    state: State
    start: datetime
    end: datetime | None = None
    until: datetime | None = None
    attempts: tuple[Attempt, ...] = ()
    segments: tuple[Segment, ...] = ()
    value: Plain | None = None


@frozen
class Mark:
    """Something that happened to the run as a whole."""

    at: datetime
    text: str


@frozen
class Timeline:
    """A run, as its history tells it.

    Attributes:
        end: When it ended or was blocked; else the present.
        recoveries: How often a worker was lost while it ran steps.
        outcome: The event that ended or blocked it.
    """

    start: datetime
    end: datetime
    status: Status = Status.RUNNING
    args: Plain = Factory(list)
    kwargs: Plain = Factory(dict)
    rows: tuple[Row, ...] = ()
    marks: tuple[Mark, ...] = ()
    recoveries: int = 0
    outcome: Ending | None = None


def timeline(events: Sequence[Event], now: datetime) -> Timeline:
    """Return what *events*, a whole history, tell of a run; what is open lasts until *now*."""
    story = fold(events)
    outcome, started = story.ending, story.started
    start = now if started is None else started.at
    end = max(start, now if outcome is None else outcome.at)
    status = Status.RUNNING if outcome is None else _ENDS[type(outcome)]
    return Timeline(
        start=start,
        end=end,
        status=status,
        args=[] if started is None else started.args,
        kwargs={} if started is None else started.kwargs,
        rows=tuple(_row(op, operation, status, end) for op, operation in sorted(story.operations.items())),
        marks=tuple(_marks(story)),
        recoveries=len(story.losses),
        outcome=outcome,
    )


def _marks(story: Story) -> Iterator[Mark]:
    """Yield what happened to the run as a whole, in the order of the times."""
    found = [
        Mark(one.at, f"cancellation requested{': ' + one.reason if one.reason else ''}") for one in story.cancellations
    ]
    for retry, ending in story.retries:
        if ending is not None:
            word = "blocked" if isinstance(ending, RunBlocked) else "failed"
            error = getattr(ending, "error", None)
            found.append(Mark(ending.at, f"{word}{': ' + error.message if error else ''}"))
        found.append(Mark(retry.at, "retried"))
    yield from sorted(found, key=lambda mark: mark.at)


_ENDS: dict[type, Status] = {
    RunCompleted: Status.COMPLETED,
    RunFailed: Status.FAILED,
    RunCancelled: Status.CANCELLED,
    RunTerminated: Status.TERMINATED,
    RunContinued: Status.CONTINUED,
    RunBlocked: Status.BLOCKED,
}


def _row(op: int, operation: Operation, status: Status, end: datetime) -> Row:
    command, answer = operation.command, operation.answer
    until = None
    tries = list(operation.attempts)
    if isinstance(command, StartTimer | OpenHook):
        until = command.fires_at(operation.at)
    elif answer is None and len(tries) > 1 and tries[-1].start > end:
        until = tries.pop().start  # it has not begun
    state = _state(operation, status, waiting=until is not None)
    drawn = tries
    if state is State.DISPATCHED:  # whether the last attempt has begun is known to its worker
        drawn = [one for one in tries if one.end is not None]
    last = end if answer is None else answer.at
    if state is State.ABANDONED:  # of a step or a timer the history does not say when
        last = operation.abandoned or (tries[-1].start if tries else operation.at)
    return Row(
        op=op,
        command=command,
        state=state,
        start=operation.at,
        end=None if answer is None else answer.at,
        until=until,
        attempts=tuple(tries),
        segments=tuple(_segments(operation.at, drawn, last)),
        value=answer.value if isinstance(answer, Completed | Received) else None,
    )


def _state(operation: Operation, status: Status, *, waiting: bool) -> State:  # noqa: PLR0911 -- one for each state
    match operation.answer:
        case Fired() if isinstance(operation.command, OpenHook):
            return State.FAILED
        case Completed() | Fired() | Received():
            return State.DONE
        case Failed():
            return State.FAILED
    if status in FINAL or operation.abandoned is not None:
        return State.ABANDONED
    if isinstance(operation.command, StartTimer):
        return State.SLEEPING
    if isinstance(operation.command, OpenHook):
        return State.WAITING
    if waiting:
        return State.RETRYING
    if operation.queue is not None and status is Status.RUNNING:
        return State.DISPATCHED
    return State.STOPPED if status is Status.BLOCKED else State.RUNNING


_PHASES = {Outcome.FAILED: Phase.FAILED, Outcome.LOST: Phase.LOST}


def _segments(start: datetime, tries: Sequence[Attempt], end: datetime) -> Iterator[Segment]:
    """Yield what the time from *start* to *end* was spent with: attempts, and waits in between."""
    at = start
    for one in tries:
        if one.start > at:
            yield Segment(Phase.WAITING, at, one.start)
        at = max(one.start, min(one.end or end, end))
        yield Segment(_PHASES.get(one.outcome, Phase.WORKING), one.start, at)
    if at < end or not tries:
        yield Segment(Phase.WAITING, at, end)
