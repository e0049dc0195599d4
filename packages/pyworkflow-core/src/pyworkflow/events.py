"""What a workflow asks for, and what then happened: commands, and the events that are a run's history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeAlias

from attrs import frozen

Plain: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, list of Plain, or dict of str to Plain. The codec makes them."""

_LAST = datetime.max.replace(tzinfo=UTC)


def later(at: datetime, seconds: float) -> datetime:
    """Return the time that many seconds after *at*, or the end of the year 9999 if that is later still."""
    try:
        return at + timedelta(seconds=seconds)
    except OverflowError:
        return _LAST


RULES = 1
"""What a workflow sees that follows neither from its code nor from its events; a run keeps those that it started with.

Under rules 0, those of version 0.1.0, a hook that is closed drops the payloads that were not taken, a wait for its next
payload that is interrupted ends the iteration, and an asynchronous generator that is left early is dropped at the
first ``await`` of its ``finally``.
"""

# -- commands: what a workflow asks for, numbered from 1 in the order asked ----


@frozen
class CallStep:
    """Run a step."""

    kind: ClassVar[str] = "step"

    op: int
    name: str
    args: Plain
    kwargs: Plain


@frozen
class StartTimer:
    """Wake the workflow *delay* seconds after the request is recorded, or at *until*."""

    kind: ClassVar[str] = "timer"

    op: int
    name: str
    delay: float | None = None
    until: datetime | None = None

    def fires_at(self, asked: datetime) -> datetime:
        """Return the wake time of a timer that was recorded at *asked*."""
        return self.until if self.until is not None else later(asked, self.delay or 0.0)


@frozen
class OpenHook:
    """Wait for payloads that somebody sends to a token.

    Attributes:
        token: The SHA-256 of the token, in hex; the token itself is not stored.
        typed: Payloads have to fit a type, which the workflow's code says.
        many: More than one payload is taken.
        delay: Seconds after which the workflow waits no longer.
    """

    kind: ClassVar[str] = "hook"

    op: int
    name: str
    token: str
    typed: bool = False
    many: bool = False
    delay: float | None = None
    until: datetime | None = None

    def fires_at(self, asked: datetime) -> datetime | None:
        """Return when a hook that was recorded at *asked* expires; None: never."""
        if self.until is None and self.delay is None:
            return None
        return self.until if self.until is not None else later(asked, self.delay or 0.0)


@frozen
class StartChild:
    """Start a run of the workflow *name*; its end answers the operation, unless it is *detached*.

    Attributes:
        run_id: The child's id; empty: as `child_id` derives it.
        key: The child's idempotency key.
        detached: The operation is answered as soon as the child is there, and the parent's end does not touch it.
    """

    kind: ClassVar[str] = "child"

    op: int
    name: str
    args: Plain
    kwargs: Plain
    run_id: str = ""
    key: str | None = None
    detached: bool = False


Command = CallStep | StartTimer | OpenHook | StartChild


# -- events: the history of a run, append-only, numbered from 1 without gaps ---


@frozen
class ErrorRecord:
    """An exception as it is kept in a history."""

    type: str
    message: str
    args: Plain | None = None
    state: Plain | None = None
    traceback: str = ""
    retryable: bool = True
    cause: ErrorRecord | None = None
    group: tuple[ErrorRecord, ...] = ()


@frozen
class Parent:
    """The operation of a run that started another one and waits for its end."""

    run_id: str
    op: int


@frozen
class RunStarted:
    """The first event of every run.

    Attributes:
        seed: Feeds `pyworkflow.random`, `uuid4` and the tokens of hooks; secret where those are.
        parent: The operation that the run's end answers.
        previous: The run that this one continues.
        fingerprint: Tells versions of the workflow's code apart; empty: unknown.
        deadline: When it is terminated, as one that it continues was asked to end by then.
        rules: The `RULES` that held when it started, and hold until it ends; 0: those of version 0.1.0.
    """

    at: datetime
    workflow: str
    args: Plain
    kwargs: Plain
    seed: str
    parent: Parent | None = None
    previous: str | None = None
    fingerprint: str = ""
    deadline: datetime | None = None
    rules: int = 0


@frozen
class Requested:
    """The workflow decided to have *command* done; this is also the start of its first attempt."""

    at: datetime
    command: Command


@frozen
class Completed:
    """A step or a child returned; for a detached child: it is there."""

    at: datetime
    op: int
    value: Plain


@frozen
class Failed:
    """A step failed for good, or a child ended without a result, or a hook could not be opened."""

    at: datetime
    op: int
    error: ErrorRecord


@frozen
class Fired:
    """A timer's time has come, or that of a hook to expire."""

    at: datetime
    op: int


@frozen
class Received:
    """A hook was sent a payload; if *posted*, one that the history has as `Posted`."""

    at: datetime
    op: int
    value: Plain
    posted: bool = False


@frozen
class Posted:
    """A payload for the next hook that has the *token*, as stored, or a token by default and the *name*.

    It came to a run that continues as this one, and was not read there, or it came before the hook was opened.
    """

    at: datetime
    name: str
    token: str
    value: Plain


@frozen
class Patched:
    """`patched` answered True for the change *id*; from here on the history knows it."""

    at: datetime
    id: str


@frozen
class Described:
    """The workflow said something of its run, for people to see and to search for."""

    at: datetime
    attributes: Plain


@frozen
class Abandoned:
    """The workflow waits no longer for a child or a hook: the child was asked to stop, the hook is closed."""

    at: datetime
    op: int


@frozen
class ChildContinued:
    """A child goes on as the run *run_id*."""

    at: datetime
    op: int
    run_id: str


@frozen
class HandedOut:
    """Other workers carry the steps *ops* out, under a job each in one of *queues*, until they are answered.

    Without *queues*, in that of runs.
    """

    at: datetime
    ops: tuple[int, ...]
    queues: tuple[str, ...] = ()


@frozen
class Attempted:
    """Attempt *attempt* begins because the worker that had the one before was lost."""

    at: datetime
    op: int
    attempt: int


@frozen
class Retrying:
    """Attempt *attempt* failed; the next one begins at *due*."""

    at: datetime
    op: int
    attempt: int
    error: ErrorRecord
    due: datetime


@frozen
class CancelRequested:
    """Somebody asked for the run to be cancelled; at *deadline* it is terminated if it still goes on."""

    at: datetime
    reason: str = ""
    deadline: datetime | None = None


@frozen
class RunCompleted:
    """The workflow returned."""

    at: datetime
    value: Plain


@frozen
class RunFailed:
    """The workflow raised; *op* is the operation whose failure it let through, if it was one."""

    at: datetime
    error: ErrorRecord
    op: int | None = None


@frozen
class RunCancelled:
    """The workflow ended by its cancellation."""

    at: datetime


@frozen
class RunTerminated:
    """Somebody ended the run; no code of it ran any more."""

    at: datetime
    reason: str = ""


@frozen
class RunContinued:
    """The workflow asked to go on as a new run, *run_id*, with these arguments and a history of its own."""

    at: datetime
    run_id: str
    args: Plain
    kwargs: Plain


@frozen
class RunBlocked:
    """The run cannot go on before somebody has looked at it."""

    at: datetime
    error: ErrorRecord


@frozen
class RunRetried:
    """Somebody let a blocked or failed run go on.

    With *cut* > 0, events number *cut* and later count no more, but for answers to what was requested before.
    """

    at: datetime
    cut: int = 0


Event = (
    RunStarted
    | Requested
    | Completed
    | Failed
    | Fired
    | Received
    | Posted
    | Patched
    | Described
    | Abandoned
    | ChildContinued
    | HandedOut
    | Attempted
    | Retrying
    | CancelRequested
    | RunCompleted
    | RunFailed
    | RunCancelled
    | RunTerminated
    | RunContinued
    | RunBlocked
    | RunRetried
)
