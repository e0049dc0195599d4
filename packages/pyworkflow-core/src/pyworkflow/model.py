"""What a storage keeps beside histories: runs, jobs, hooks; what it is asked for, and what it writes with an append."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum

from attrs import Factory, frozen

from pyworkflow.events import Event, Plain

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
    CONTINUED = "continued"

    @property
    def is_final(self) -> bool:
        """Whether the run takes no more events, but for a retry."""
        return self in FINAL


FINAL = frozenset(set(Status) - {Status.RUNNING, Status.BLOCKED})


@frozen
class Run:
    """What is known about a run without reading its history.

    Attributes:
        length: Its number of events.
        parent: The run that started it as a child, or that it continues.
        attributes: What its workflow says of it: names to texts, numbers or booleans.
    """

    id: str
    workflow: str
    created_at: datetime
    status: Status = Status.RUNNING
    length: int = 0
    ended_at: datetime | None = None
    idempotency_key: str | None = None
    parent: str | None = None
    attributes: Mapping[str, Plain] = Factory(dict)


History = tuple[Run, list[Event]]
"""A run with its events, or with those from a certain number on."""


@frozen
class Job:
    """Something a worker has to do: advance a run (*op* 0), or carry out one of its operations.

    Attributes:
        due: When it may be claimed; None: only once somebody wakes the run.
        workflow: The run's workflow; workers claim only what they know.
        queue: Only workers that serve this queue claim it.
        data: What the worker needs in order to carry the operation out, see `pyworkflow.engine.dispatch`; None for
            *op* 0.
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
class Hook:
    """A hook that takes payloads: operation *op* of a run, found by the SHA-256 of its token."""

    token: str
    run_id: str
    op: int
    name: str
    many: bool = False


@frozen
class Message:
    """Facts that one run has for another."""

    run_id: str
    events: Sequence[Event]


@frozen
class NewRun:
    """A run to create with its first *events*; its job is due at once."""

    run: Run
    events: Sequence[Event]


@frozen
class Effects:
    """What an append writes beside the history and the jobs of its own run, in the same transaction.

    Attributes:
        hooks: Hooks to open; one that is open already for the same operation stays so.
        close: Tokens, as stored, of hooks of this run to close; those of other runs are left alone.
        drop: Operations whose jobs nobody wants any more. A free one is deleted; the holder of a held one learns of it
            by `Storage.renew`, and no other worker ever gets it.
        tell: Facts for other runs, added to their histories like facts from outside: their job becomes due, or its
            holder learns of it. A run that is blocked only keeps them; one that has ended, or is not there, is passed
            over.
        begin: Runs to create; their job is due at the same time as that of runs that are told something.
        attributes: Attributes of the run to set; others stay as they are.
    """

    hooks: Sequence[Hook] = ()
    close: Sequence[str] = ()
    drop: Sequence[int] = ()
    tell: Sequence[Message] = ()
    begin: Sequence[NewRun] = ()
    attributes: Mapping[str, Plain] = Factory(dict)


@frozen
class RunQuery:
    """Which runs to list, the newest first; None means any, and each of *attributes* has to be as given."""

    status: Status | None = None
    workflow: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    limit: int = 100
    cursor: str | None = None
    attributes: Mapping[str, Plain] = Factory(dict)


@frozen
class Page:
    """Some runs, and the cursor for those that follow; None: there are no more."""

    runs: Sequence[Run] = ()
    cursor: str | None = None
