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
class StepCall:
    """A call of a step that is dispatched: any worker that serves its queue can run it.

    Attributes:
        name: The step's name.
        args: Its arguments, encoded; likewise *kwargs*.
        attempt: The number of the first attempt under the job, less the times that the job was recovered before: the
            next attempt is this plus `Lease.recoveries`.
    """

    name: str
    args: Plain
    kwargs: Plain
    attempt: int


@frozen
class Job:
    """Something a worker has to do: advance a run (*op* 0), or run one of its steps.

    Attributes:
        due: When it may be claimed; None: only once the run is signalled.
        workflow: The run's workflow; workers claim only what they know.
        queue: Only workers that serve this queue claim it.
        call: The step to run; None for *op* 0.
    """

    run_id: str
    op: int = RUN_OP
    due: datetime | None = None
    workflow: str = ""
    queue: str = ""
    call: StepCall | None = None


@frozen
class Lease:
    """A job that a worker has claimed, and with it the right to write on its behalf.

    Run, operation, worker and epoch are the fence: what is appended under a lease is refused once the stored job has
    another worker or another epoch.

    Attributes:
        worker: The id of the worker that holds it.
        epoch: Raised at each claim of the job.
        lapsed: This claim recovered the job from a worker that was lost.
        recoveries: How often the job was recovered, this time included.
        length: The length of the run's history when the job was claimed.
    """

    run_id: str
    op: int
    worker: str
    epoch: int
    workflow: str = ""
    queue: str = ""
    call: StepCall | None = None
    lapsed: bool = False
    recoveries: int = 0
    length: int = 0

    def released(self, due: datetime | None) -> Job:
        """Return the job as it is once the lease is given up: free, and due at *due*."""
        return Job(self.run_id, self.op, due, self.workflow, self.queue)


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
        hooks: Hooks to open, once those of *close* are closed; one that is open for the same operation stays so.
        close: Tokens, as stored, of hooks of this run to close; those of other runs are left alone.
        needs: Hooks that have to be open before, each for its own operation.
        drop: Operations whose jobs nobody wants any more. A free one is deleted; the holder of a held one learns of it
            by `Storage.renew`, and no other worker ever gets it.
        messages: Facts for other runs, added to their histories like facts from outside: their job becomes due, or its
            holder learns of it. A run that is blocked only keeps them; one that has ended, or is not there, is passed
            over.
        new_runs: Runs to create; their jobs are due at `Append.now`, as are those of the runs that get a message.
        attributes: Attributes of the run to set; others stay as they are.
    """

    hooks: Sequence[Hook] = ()
    close: Sequence[str] = ()
    needs: Sequence[Hook] = ()
    drop: Sequence[int] = ()
    messages: Sequence[Message] = ()
    new_runs: Sequence[NewRun] = ()
    attributes: Mapping[str, Plain] = Factory(dict)


@frozen
class Append:
    """What one transaction adds to a run; see `pyworkflow.ports.Storage.append`.

    Attributes:
        run_id: The run.
        events: Facts and decisions, in order; may be empty.
        jobs: Jobs to write. The one of *lease* is replaced, which releases it. Another one that exists becomes due at
            the earlier of both times and keeps its lease and its epoch; if it is held, its holder learns of it by
            `pyworkflow.ports.Storage.renew`. One that does not exist is created, free.
        expected: The length of history that the events were decided on; None: they are facts, true on any history.
        lease: The lease under which this is written.
        finish: Delete the job of *lease*.
        status: The run's new status. A final one, or ``BLOCKED``, takes all jobs of the run away first (so *jobs* has
            to be empty), and a final one sets ``ended_at`` and closes the run's hooks; ``RUNNING`` clears it.
        now: The time for ``ended_at``, and at which the jobs of runs that get a message, or are created, become due;
            needed with a final *status*, with ``effects.messages`` and with ``effects.new_runs``.
        effects: What is written beside the run's own history; None: nothing.
    """

    run_id: str
    events: Sequence[Event] = ()
    jobs: Sequence[Job] = ()
    expected: int | None = None
    lease: Lease | None = None
    finish: bool = False
    status: Status | None = None
    now: datetime | None = None
    effects: Effects | None = None


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
