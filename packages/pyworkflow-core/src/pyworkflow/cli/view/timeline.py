"""A history as rows of operations: when each began and ended, its attempts, its waits. Pure; nothing is drawn here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import Enum

from attrs import Factory, define, field, frozen

from pyworkflow.events import (
    Attempted,
    CallStep,
    CancelRequested,
    Command,
    Completed,
    ErrorRecord,
    Event,
    Failed,
    Fired,
    HandedOut,
    OpenHook,
    Plain,
    Received,
    Requested,
    Retrying,
    RunBlocked,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunRetried,
    RunStarted,
    RunTerminated,
    StartTimer,
)
from pyworkflow.model import FINAL, Status

Ending = RunCompleted | RunFailed | RunCancelled | RunTerminated | RunContinued | RunBlocked


class State(Enum):
    """How an operation is doing."""

    DONE = "done"
    FAILED = "failed"
    RUNNING = "running"
    HANDED_OUT = "handed out"
    RETRYING = "retrying"
    SLEEPING = "sleeping"
    WAITING = "waiting"
    STOPPED = "stopped"
    ABANDONED = "abandoned"


class Outcome(Enum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"
    STOPPED = "stopped"
    OPEN = "open"


class Phase(Enum):
    """What a stretch of time was spent with."""

    WORKING = "working"
    FAILED = "failed"
    LOST = "lost"
    WAITING = "waiting"


@frozen
class Attempt:
    """One attempt of a step.

    Attributes:
        number: From 1; begins anew when a failed run is retried.
        end: None while it runs.
        error: With what it failed.
        due: When the next one begins, if the retry policy put it off.
    """

    number: int
    start: datetime
    end: datetime | None = None
    outcome: Outcome = Outcome.OPEN
    error: ErrorRecord | None = None
    due: datetime | None = None


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
        recoveries: How often a worker was lost while it carried out steps.
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
    telling = _Telling()
    for number, event in enumerate(events, 1):
        telling.hear(number, event)
    return telling.told(now)


_ENDS: dict[type, Status] = {
    RunCompleted: Status.COMPLETED,
    RunFailed: Status.FAILED,
    RunCancelled: Status.CANCELLED,
    RunTerminated: Status.TERMINATED,
    RunContinued: Status.CONTINUED,
    RunBlocked: Status.BLOCKED,
}


@define
class _Try:
    """An attempt that may still change; *since* is the number of the event that began it."""

    number: int
    start: datetime
    since: int
    end: datetime | None = None
    outcome: Outcome = Outcome.OPEN
    error: ErrorRecord | None = None
    due: datetime | None = None

    def close(self, at: datetime, outcome: Outcome, error: ErrorRecord | None = None) -> None:
        # A retry may be due after the end of the run.
        self.end, self.outcome, self.error = max(at, self.start), outcome, error


@define
class _Operation:
    """An operation that may still change; *asked* and *answered* are numbers of events."""

    command: Command
    at: datetime
    asked: int
    tries: list[_Try] = field(factory=list)
    answer: Completed | Failed | Fired | Received | None = None
    answered: int = 0
    away: bool = False


@define
class _Telling:
    """The state of a run while its history is gone through."""

    started: RunStarted | None = None
    operations: dict[int, _Operation] = field(factory=dict)
    marks: list[Mark] = field(factory=list)
    losses: set[datetime] = field(factory=set)
    outcome: Ending | None = None

    def hear(self, number: int, event: Event) -> None:
        match event:
            case RunStarted():
                self.started = event
            case Requested(at=at, command=command):
                tries = [_Try(1, at, number)] if isinstance(command, CallStep) else []
                self.operations[command.op] = _Operation(command, at, number, tries)
            case Completed(op=op) | Failed(op=op) | Fired(op=op) | Received(op=op):
                self._answer(number, op, event)
            case Retrying(op=op) | Attempted(op=op):
                self._again(number, op, event)
            case HandedOut(ops=ops):
                for op in self.operations.keys() & ops:
                    self.operations[op].away = True
            case CancelRequested(at=at, reason=reason):
                self.marks.append(Mark(at, f"cancellation asked for{': ' + reason if reason else ''}"))
            case RunCompleted() | RunFailed() | RunCancelled() | RunTerminated() | RunContinued() | RunBlocked():
                self.outcome = event
                for operation in self._open():
                    if operation.tries and operation.tries[-1].end is None:
                        operation.tries[-1].close(event.at, Outcome.STOPPED)
            case RunRetried(at=at, cut=cut):
                self._retried(number, at, cut)

    def _open(self) -> Iterator[_Operation]:
        return (operation for operation in self.operations.values() if operation.answer is None)

    def _answer(self, number: int, op: int, event: Completed | Failed | Fired | Received) -> None:
        operation = self.operations.get(op)
        if operation is None or (operation.answer is not None and not isinstance(event, Received)):
            return  # the first answer counts, but for a hook that takes many
        operation.answer, operation.answered = event, number
        if operation.tries:
            error = event.error if isinstance(event, Failed) else None
            operation.tries[-1].close(event.at, Outcome.COMPLETED if error is None else Outcome.FAILED, error)

    def _again(self, number: int, op: int, event: Retrying | Attempted) -> None:
        operation = self.operations.get(op)
        if operation is None or operation.answer is not None or not operation.tries:
            return
        last = operation.tries[-1]
        if isinstance(event, Retrying):
            last.close(event.at, Outcome.FAILED, event.error)
            last.due = event.due
            operation.tries.append(_Try(event.attempt + 1, event.due, number))
        else:
            self.losses.add(event.at)
            last.close(event.at, Outcome.LOST)
            operation.tries.append(_Try(event.attempt, event.at, number))

    def _retried(self, number: int, at: datetime, cut: int) -> None:
        if self.outcome is not None:
            word = "blocked" if isinstance(self.outcome, RunBlocked) else "failed"
            error = getattr(self.outcome, "error", None)
            self.marks.append(Mark(self.outcome.at, f"{word}{': ' + error.message if error else ''}"))
        self.marks.append(Mark(at, "retried"))
        self.outcome = None
        if cut:
            # What was asked for after the failure is asked for anew, under the same numbers.
            self.operations = {op: one for op, one in self.operations.items() if one.asked < cut}
        for operation in self.operations.values():
            operation.away = False
            first = (
                1 if operation.answered == cut else max((t.number for t in operation.tries if t.since < cut), default=1)
            )
            if cut and isinstance(operation.answer, Failed) and operation.answered >= cut:
                operation.answer = None
                operation.tries.append(_Try(first, at, number))
            elif operation.answer is None and operation.tries and operation.tries[-1].end is not None:
                operation.tries.append(_Try(first if cut else operation.tries[-1].number, at, number))

    # -- the result ----------------------------------------------------------------------

    def told(self, now: datetime) -> Timeline:
        outcome, started = self.outcome, self.started
        start = now if started is None else started.at
        end = max(start, now if outcome is None else outcome.at)
        status = Status.RUNNING if outcome is None else _ENDS[type(outcome)]
        return Timeline(
            start=start,
            end=end,
            status=status,
            args=[] if started is None else started.args,
            kwargs={} if started is None else started.kwargs,
            rows=tuple(_row(op, operation, status, end) for op, operation in sorted(self.operations.items())),
            marks=tuple(self.marks),
            recoveries=len(self.losses),
            outcome=outcome,
        )


def _row(op: int, operation: _Operation, status: Status, end: datetime) -> Row:
    command, answer = operation.command, operation.answer
    until = None
    tries = list(operation.tries)
    if isinstance(command, StartTimer | OpenHook):
        until = command.fires_at(operation.at)
    elif answer is None and len(tries) > 1 and tries[-1].start > end:
        until = tries.pop().start  # it has not begun
    state = _state(operation, status, waiting=until is not None)
    drawn = tries
    if state is State.HANDED_OUT:  # whether the last attempt has begun is known to its worker
        drawn = [one for one in tries if one.end is not None]
    last = end if answer is None else answer.at
    if state is State.ABANDONED:  # the history does not say when
        last = tries[-1].start if tries else operation.at
    return Row(
        op=op,
        command=command,
        state=state,
        start=operation.at,
        end=None if answer is None else answer.at,
        until=until,
        attempts=tuple(Attempt(t.number, t.start, t.end, t.outcome, t.error, t.due) for t in tries),
        segments=tuple(_segments(operation.at, drawn, last)),
        value=answer.value if isinstance(answer, Completed | Received) else None,
    )


def _state(operation: _Operation, status: Status, *, waiting: bool) -> State:  # noqa: PLR0911 -- one for each state
    match operation.answer:
        case Fired() if isinstance(operation.command, OpenHook):
            return State.FAILED
        case Completed() | Fired() | Received():
            return State.DONE
        case Failed():
            return State.FAILED
    if status in FINAL:
        return State.ABANDONED
    if isinstance(operation.command, StartTimer):
        return State.SLEEPING
    if isinstance(operation.command, OpenHook):
        return State.WAITING
    if waiting:
        return State.RETRYING
    if operation.away and status is Status.RUNNING:
        return State.HANDED_OUT
    return State.STOPPED if status is Status.BLOCKED else State.RUNNING


_PHASES = {Outcome.FAILED: Phase.FAILED, Outcome.LOST: Phase.LOST}


def _segments(start: datetime, tries: Sequence[_Try], end: datetime) -> Iterator[Segment]:
    """Yield what the time from *start* to *end* was spent with: attempts, and waits in between."""
    at = start
    for one in tries:
        if one.start > at:
            yield Segment(Phase.WAITING, at, one.start)
        at = max(one.start, min(one.end or end, end))
        yield Segment(_PHASES.get(one.outcome, Phase.WORKING), one.start, at)
    if at < end or not tries:
        yield Segment(Phase.WAITING, at, end)
