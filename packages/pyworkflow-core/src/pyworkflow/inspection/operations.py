"""A history folded into operations: their requests, attempts and answers. Explanations, timelines, traces read it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum

from attrs import define, field

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
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunRetried,
    RunStarted,
    RunTerminated,
)

Ending = RunCompleted | RunFailed | RunCancelled | RunTerminated | RunContinued | RunBlocked
"""An event that ends a run, or blocks it."""


class Outcome(Enum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"
    STOPPED = "stopped"
    OPEN = "open"


@define
class Attempt:
    """One attempt of a step.

    Attributes:
        number: From 1; begins again when a failed run is retried.
        start: When it began, or is to begin if it was put off.
        since: The number of the event that it follows from.
        end: None while it runs.
        error: With what it failed.
        due: When the next one begins, if the retry policy put it off.
    """

    number: int
    start: datetime
    since: int
    end: datetime | None = None
    outcome: Outcome = Outcome.OPEN
    error: ErrorRecord | None = None
    due: datetime | None = None

    def close(self, at: datetime, outcome: Outcome, error: ErrorRecord | None = None) -> None:
        """End the attempt."""
        self.end, self.outcome, self.error = max(at, self.start), outcome, error  # it may be put off beyond *at*


@define
class Operation:
    """An operation of a run.

    Attributes:
        at: When it was requested.
        requested: The number of that event; likewise *answered*.
        since: When what it now waits for began: the request, an attempt after a loss, the dispatch.
        attempts: Of a step, in order.
        answer: The event that answered it; of a hook that takes many payloads, the last payload.
        payloads: Of a hook, in order.
        abandoned: When its workflow stopped waiting for it.
        queue: Of a dispatched step: its queue; None: it is not dispatched.
        continued_as: Of a child: the run that continues it.
    """

    command: Command
    at: datetime
    requested: int
    since: datetime
    attempts: list[Attempt] = field(factory=list)
    answer: Completed | Failed | Fired | Received | None = None
    answered: int = 0
    payloads: list[Received] = field(factory=list)
    abandoned: datetime | None = None
    queue: str | None = None
    continued_as: str = ""

    @property
    def is_open(self) -> bool:
        """Whether the workflow still waits for it; a hook that takes many payloads is open after each."""
        takes_more = isinstance(self.command, OpenHook) and self.command.many and isinstance(self.answer, Received)
        return self.abandoned is None and (self.answer is None or takes_more)

    @property
    def is_running(self) -> bool:
        """Whether it is a step that the holder of the run runs now."""
        return isinstance(self.command, CallStep) and self.due is None and self.queue is None

    @property
    def before(self) -> Attempt | None:
        """The attempt before the last one; None: there is none."""
        return self.attempts[-2] if len(self.attempts) > 1 else None

    @property
    def due(self) -> datetime | None:
        """When its next attempt begins, if the one before failed and nothing happened since."""
        before = self.before
        return before.due if before is not None and before.outcome is Outcome.FAILED else None


@define
class Story:
    """A run as its history tells it.

    Attributes:
        operations: By number.
        cancellations: Requests to cancel it.
        losses: When attempts were lost with their workers.
        retries: Retries of the whole run, each with what had ended or blocked it.
        ending: What ended or blocked it, unless it was retried since.
    """

    started: RunStarted | None = None
    operations: dict[int, Operation] = field(factory=dict)
    cancellations: list[CancelRequested] = field(factory=list)
    losses: set[datetime] = field(factory=set)
    retries: list[tuple[RunRetried, Ending | None]] = field(factory=list)
    ending: Ending | None = None

    def open(self) -> dict[int, Operation]:
        """Return the operations that the workflow still waits for, by number."""
        return {op: operation for op, operation in self.operations.items() if operation.is_open}

    # -- folding -----------------------------------------------------------------------

    def add(self, number: int, event: Event) -> None:  # noqa: C901, PLR0912 -- one case an event
        """Take the event with this number into account."""
        match event:
            case RunStarted():
                self.started = event
            case Requested(at=at, command=command):
                attempts = [Attempt(1, at, number)] if isinstance(command, CallStep) else []
                self.operations[command.op] = Operation(command, at, number, at, attempts)
            case Completed(op=op) | Failed(op=op) | Fired(op=op) | Received(op=op):
                self._answer(number, op, event)
            case Retrying(op=op) | Attempted(op=op):
                self._next_attempt(number, op, event)
            case HandedOut(at=at, ops=ops, queues=queues):
                for op, queue in zip(ops, queues or [""] * len(ops), strict=True):
                    if op in self.operations:
                        self.operations[op].queue, self.operations[op].since = queue, at
            case Abandoned(at=at, op=op) if op in self.operations:
                self.operations[op].abandoned = at
            case ChildContinued(op=op, run_id=run_id) if op in self.operations:
                self.operations[op].continued_as = run_id
            case CancelRequested():
                self.cancellations.append(event)
            case RunCompleted() | RunFailed() | RunCancelled() | RunTerminated() | RunContinued() | RunBlocked():
                self._end(event)
            case RunRetried():
                self._retry(number, event)
            case _:
                pass

    def _answer(self, number: int, op: int, event: Completed | Failed | Fired | Received) -> None:
        operation = self.operations.get(op)
        if operation is None or (operation.answer is not None and not isinstance(event, Received)):
            return  # the first answer counts, but for a hook that takes many
        operation.answer, operation.answered = event, number
        if isinstance(event, Received):
            operation.payloads.append(event)
        if operation.attempts:
            error = event.error if isinstance(event, Failed) else None
            operation.attempts[-1].close(event.at, Outcome.COMPLETED if error is None else Outcome.FAILED, error)

    def _next_attempt(self, number: int, op: int, event: Retrying | Attempted) -> None:
        operation = self.operations.get(op)
        if operation is None or operation.answer is not None or not operation.attempts:
            return
        last = operation.attempts[-1]
        if isinstance(event, Retrying):
            last.close(event.at, Outcome.FAILED, event.error)
            last.due = event.due
            operation.attempts.append(Attempt(event.attempt + 1, event.due, number))
        else:
            self.losses.add(event.at)
            last.close(event.at, Outcome.LOST)
            operation.since = event.at
            operation.attempts.append(Attempt(event.attempt, event.at, number))

    def _end(self, event: Ending) -> None:
        self.ending = event
        for operation in self.operations.values():
            if operation.answer is None and operation.attempts and operation.attempts[-1].end is None:
                operation.attempts[-1].close(event.at, Outcome.STOPPED)

    def _retry(self, number: int, event: RunRetried) -> None:
        self.retries.append((event, self.ending))
        self.ending = None
        if event.cut:  # what was requested after the failure is requested again, under the same numbers
            self.operations = {op: one for op, one in self.operations.items() if one.requested < event.cut}
        for operation in self.operations.values():
            operation.queue = None
            earlier = [attempt.number for attempt in operation.attempts if attempt.since < event.cut]
            first = 1 if operation.answered == event.cut else max(earlier, default=1)
            if event.cut and isinstance(operation.answer, Failed) and operation.answered >= event.cut:
                operation.answer = None
                operation.attempts.append(Attempt(first, event.at, number))
            elif operation.answer is None and operation.attempts and operation.attempts[-1].end is not None:
                again = first if event.cut else operation.attempts[-1].number
                operation.attempts.append(Attempt(again, event.at, number))


def fold(events: Sequence[Event]) -> Story:
    """Return what *events*, a whole history or what of it counts, tell of a run."""
    story = Story()
    for number, event in enumerate(events, 1):
        story.add(number, event)
    return story
