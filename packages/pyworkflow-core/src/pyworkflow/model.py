"""The vocabulary of a run: what a workflow asks for, what then happened, and what there is to do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import ClassVar

from attrs import frozen

from pyworkflow.plain import Plain

RUN_OP = 0
"""The operation number under which a run itself has its job."""


class Status(Enum):
    """How a run is doing."""

    RUNNING = "running"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"

    @property
    def is_final(self) -> bool:
        """Whether the run takes no more events, but for a retry."""
        return self in FINAL


FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TERMINATED})


# -- commands: what a workflow asks for, numbered from 1 in the order asked ----


@frozen
class CallStep:
    """Carry out a step."""

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
        return self.until if self.until is not None else asked + timedelta(seconds=self.delay or 0.0)


Command = CallStep | StartTimer


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
class RunStarted:
    """The first event of every run. *seed* feeds `pyworkflow.random` and `uuid4`."""

    at: datetime
    workflow: str
    args: Plain
    kwargs: Plain
    seed: str


@frozen
class Requested:
    """The workflow decided to have *command* done; this is also the start of its first attempt."""

    at: datetime
    command: Command


@frozen
class Completed:
    """A step returned."""

    at: datetime
    op: int
    value: Plain


@frozen
class Failed:
    """A step failed for good."""

    at: datetime
    op: int
    error: ErrorRecord


@frozen
class Fired:
    """A timer's time has come."""

    at: datetime
    op: int


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
    """Somebody asked for the run to be cancelled."""

    at: datetime
    reason: str = ""


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
    | Attempted
    | Retrying
    | CancelRequested
    | RunCompleted
    | RunFailed
    | RunCancelled
    | RunTerminated
    | RunBlocked
    | RunRetried
)


# -- what a storage keeps beside histories -------------------------------------


@frozen
class Run:
    """What is known about a run without reading its history; *length* is its number of events."""

    id: str
    workflow: str
    created_at: datetime
    status: Status = Status.RUNNING
    length: int = 0
    ended_at: datetime | None = None
    idempotency_key: str | None = None


@frozen
class Job:
    """Something a worker has to do: advance a run (*op* 0), or carry out one of its operations.

    Attributes:
        due: When it may be claimed; None: only once somebody wakes the run.
        workflow: The run's workflow; workers claim only what they know.
        queue: Only workers that serve this queue claim it.
        data: What the worker needs in order to carry the operation out; None for *op* 0.
        worker: Who holds its lease; None: nobody.
        epoch: Raised at each claim; what is written under an old one is refused.
        lapsed: This claim took it over from a worker that was lost.
        recoveries: How often it was taken over, this time included.
        length: The length of the run's history when it was claimed.
    """

    run_id: str
    op: int = RUN_OP
    due: datetime | None = None
    workflow: str = ""
    queue: str = ""
    data: Plain | None = None
    worker: str | None = None
    epoch: int = 0
    lapsed: bool = False
    recoveries: int = 0
    length: int = 0


@frozen
class RunQuery:
    """Which runs to list, the newest first; None means any."""

    status: Status | None = None
    workflow: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    limit: int = 100
    cursor: str | None = None


@frozen
class Page:
    """Some runs, and the cursor for those that follow; None: there are no more."""

    runs: Sequence[Run] = ()
    cursor: str | None = None
