"""The contracts of backends: storages, runtimes, retry policies. The docstrings are the contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Protocol, runtime_checkable

import pluggy
from attrs import Factory, frozen

from pyworkflow.errors import Unsupported
from pyworkflow.events import Event, Plain
from pyworkflow.model import Append, History, Hook, Job, Lease, Page, Run, RunQuery, Status

hookspec = pluggy.HookspecMarker("pyworkflow")
hookimpl = pluggy.HookimplMarker("pyworkflow")


class Storage(ABC):
    """Keeps runs: an append-only history each, and the jobs there are to do.

    One instance serves one process and any event loop of it. All times are aware and in UTC, and come from the caller.
    Every method but `renew` is a coroutine; every one may raise `StorageError`, after which nothing of the call has
    been written unless the docstring says otherwise.

    What every storage guarantees: a call that writes is atomic and durable when it returns; histories are numbered
    from 1 without gaps; a call sees everything that was acknowledged before it, by whatever process.
    """

    is_shared = True
    """Whether what one process writes is there for others; runtimes with workers in other processes need that."""

    @abstractmethod
    async def open(self) -> None:
        """Make the storage ready; create it, or migrate it, where needed. Opening twice does nothing more."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what is in progress and release files, threads and connections. It can be opened again."""

    @abstractmethod
    async def create(
        self,
        run: Run,
        events: Sequence[Event],
        jobs: Sequence[Job],
        hooks: Sequence[Hook] = (),
        *,
        lease: Lease | None = None,
    ) -> Run | None:
        """Add *run* with its first *events*, *jobs* and *hooks*, atomically.

        ``run.length`` is the number of *events*. With a *lease* its job is created too, held by that worker.

        Returns:
            None if the run was created; else the run that has this id, or this idempotency key, already, and nothing
            was written.

        Raises:
            HookTaken: The token of one of *hooks* is that of an open hook.
        """

    @abstractmethod
    async def run(self, run_id: str) -> Run:
        """Return the run.

        Raises:
            RunNotFound: There is no such run.
            DamagedHistory: What is stored of it cannot be read.
        """

    @abstractmethod
    async def load(self, run_id: str, after: int = 0) -> History:
        """Return the run, and its events from number *after* + 1 on.

        Raises:
            RunNotFound: There is no such run.
            DamagedHistory: What is stored cannot be read: it is damaged, or newer than this version. Only this run
                is affected.
        """

    async def load_many(self, run_ids: Sequence[str]) -> Mapping[str, History]:  # noqa: ARG002
        """Return by id runs and all their events, as far as many are had together for less than one by one.

        What is left out is asked of `load`, which also says what is wrong with a run that is missing or damaged. The
        default leaves everything out. Workers ask for runs with short histories only.
        """
        return {}

    @abstractmethod
    def append(self, append: Append) -> Awaitable[int]:
        """Add events to a history, and write all that goes with them, in one transaction, or nothing at all.

        An ``async def`` does, and so does a function that returns a future.

        Returns:
            The length of the history now.

        Raises:
            LeaseLost: The lease is not held any more: its run or its job is gone, or its epoch or worker is another.
            RunNotFound: There is no such run, and no lease.
            Conflict: History is not as long as expected.
            RunEnded: The run is in a final state, and neither a lease nor a status is given.
            HookTaken: A token of ``effects.hooks`` is that of an open hook of another operation, and not of one of this
                run that ``effects.close`` closes.
            RunExists: There is a run with the id of one of ``effects.new_runs``.
            HookClosed: A hook of ``effects.needs`` is not open for its operation; or one of ``effects.close`` is not
                open, and there is no lease. Under a lease that is no error.
        """

    @abstractmethod
    async def claim(
        self,
        worker: str,
        now: datetime,
        lease: timedelta,
        limit: int,
        *,
        workflows: Collection[str] | None = None,
        queues: Collection[str] = ("",),
    ) -> list[Lease]:
        """Claim up to *limit* jobs whose time has come, those due longest first, until *now* + *lease*.

        A job may be claimed if it is free and due at *now* or before, or if the lease of its holder has lapsed, or is
        not there. Each claim raises the job's epoch. A worker's lease covers all its jobs and is prolonged by each
        claim and `renew`.

        Args:
            worker: Who claims; its own jobs are never returned again.
            now: The present time.
            lease: How long the lease lasts from *now*.
            limit: The most jobs to return.
            workflows: Only jobs of runs of these workflows; None: of any.
            queues: Only jobs of these queues.

        Returns:
            The leases, in the order of the jobs.
        """

    @abstractmethod
    def renew(self, worker: str, now: datetime, lease: timedelta) -> list[tuple[str, int]]:
        """Prolong the lease of *worker* on all its jobs until *now* + *lease*.

        A plain function that may block and may be called from any thread, so that a busy event loop cannot keep a
        lease from being renewed. With a *lease* of zero the worker gives everything back: its jobs are free and due.
        One that it had taken over from a lost worker stays ``lapsed``, at least until it has written under it.

        Returns:
            Run id and operation of the jobs that this worker holds and that others have woken, or dropped, since the
            last call. What was dropped is no longer held then.
        """

    @abstractmethod
    async def due(self) -> datetime | None:
        """Return the earliest time at which `claim` may find a job, lapsing leases included; None: there is no job."""

    @abstractmethod
    async def find_hook(self, token: str) -> Hook | None:
        """Return the open hook with this token, as stored; None: there is none."""

    @abstractmethod
    async def hooks(self, run_id: str | None = None, limit: int = 1000) -> list[Hook]:
        """Return open hooks, of one run or of all, in the order of run id and operation."""

    @abstractmethod
    async def runs(self, query: RunQuery) -> Page:
        """Return runs, the newest first (by ``created_at``, then id); a cursor stays valid while runs are added.

        Raises:
            ConfigError: The cursor is not one of this storage.
        """

    @abstractmethod
    async def purge(self, before: datetime, statuses: Collection[Status]) -> int:
        """Delete runs of final *statuses* that ended before *before*, with their histories; return how many."""


@runtime_checkable
class NeedsInit(Protocol):
    """A storage that has to be made before it can be opened, such as a table in the cloud.

    ``pyworkflow storage init`` calls *init*, a coroutine function that returns sentences on what was found and done; it
    may be called again. Its keyword parameters are options of the command, read as their annotations say.
    """

    init: Callable[..., Awaitable[Sequence[str]]]


class RetryPolicy(Protocol):
    """When to try a failed step again."""

    def delay(self, attempt: int, error: BaseException) -> timedelta | None:
        """Return the pause after failed attempt number *attempt* (from 1), or None to give up.

        How many attempts there may be is the step's business (``retries=``). The chosen delay is recorded, so chance is
        welcome here.
        """


class Mode(Enum):
    """Whether runs are recorded and survive their process."""

    DURABLE = "durable"
    TRANSIENT = "transient"


class Runtime(ABC):
    """Where runs live: starts them and gives their results.

    A runtime is made by its factory, one for each `App`, and is used on one event loop at a time.
    """

    @abstractmethod
    async def start(self, request: StartRequest) -> str:
        """Start a run and return its id, once it will survive what its mode promises.

        Raises:
            RunExists: The run id is taken by another run, or the idempotency key by a run of another workflow.
        """

    @abstractmethod
    async def call(self, request: StartRequest) -> Plain:
        """Start a run, wait for its end, and return its encoded result, or raise the error that ended it.

        A transient run may be executed in the caller's own task, so that cancelling the caller cancels it.
        """

    @abstractmethod
    async def result(self, run_id: str) -> Plain:
        """Wait for the end of a run; return its encoded result, or raise the error that ended it.

        Raises:
            RunNotFound: There is no such run.
            RunCancelled, RunTerminated, RunBlocked: It ended, or stopped, without a result.
        """

    @abstractmethod
    async def cancel(self, run_id: str, reason: str = "", grace: timedelta | None = None) -> None:
        """Ask a run to stop; its workflow sees `asyncio.CancelledError` at its next await, once, and may clean up.

        Args:
            run_id: The run, or an earlier one of its chain.
            reason: For its history.
            grace: Terminate it if it has not ended after that time; asking again may shorten this, and does no more.

        Raises:
            RunNotFound: There is no such run.
            RunEnded: It has ended already.
        """

    async def resume_hook(self, token: str, payload: Any) -> str:  # noqa: ARG002 -- for runtimes that have hooks
        """Send *payload* to the open hook with this token; return the id of its run, once the payload is recorded.

        Raises:
            HookClosed: No hook takes payloads for the token.
            Unstorable: The payload does not fit the hook's type, or cannot be stored; the hook stays open.
            Unsupported: Hooks of its runs cannot be reached from outside.
        """
        msg = f"{type(self).__name__} keeps no records of its runs; only hooks of durable runs can be resumed"
        raise Unsupported(msg)

    @property
    def records(self) -> DurableRuntime | None:
        """The runtime that records its durable runs: this one, or a part of it; None: nothing is recorded."""
        return None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is executed in this process, so that closing interrupts nothing; any thread asks."""
        return True

    @abstractmethod
    async def close(self, grace: float = 0.0) -> None:
        """Begin nothing more, give running steps *grace* seconds, release what is held, close everything."""


class DurableRuntime(Runtime):
    """A runtime that records its runs, can say how they are doing, and lets other processes work on them."""

    @property
    def records(self) -> DurableRuntime:
        """This runtime itself."""
        return self

    @property
    def place(self) -> str | None:
        """Where its runs are, in words; None: in the application's storage."""
        return None

    @abstractmethod
    async def run(self, run_id: str) -> Run:
        """Return what is known of a run.

        Raises:
            RunNotFound: There is no such run.
        """

    @abstractmethod
    async def history(self, run_id: str) -> History:
        """Return a run and all its events.

        Raises:
            RunNotFound: There is no such run.
        """

    @abstractmethod
    async def runs(self, query: RunQuery) -> Page:
        """Return runs, the newest first."""

    @abstractmethod
    async def purge(self, before: datetime, statuses: Collection[Status]) -> int:
        """Delete runs that ended before *before* with one of *statuses*; return how many."""

    @abstractmethod
    async def terminate(self, run_id: str, reason: str = "") -> None:
        """End a run now; no code of it runs any more.

        Raises:
            RunNotFound: There is no such run.
            RunEnded: It has ended already.
        """

    @abstractmethod
    async def resume_hook(self, token: str, payload: Any) -> str:
        """Send *payload* to the open hook with this token; return the id of its run, once the payload is recorded.

        Raises:
            HookClosed: No hook takes payloads for the token.
            Unstorable: The payload does not fit the hook's type, or cannot be stored; the hook stays open.
        """

    @abstractmethod
    async def hooks(self, run_id: str | None = None) -> list[Hook]:
        """Return open hooks, of one run or of all."""

    @abstractmethod
    async def retry(self, run_id: str) -> None:
        """Let a blocked run go on, or a failed one do once more what failed.

        Raises:
            RunNotFound: There is no such run.
            RunEnded: It is neither blocked nor failed.
        """

    @abstractmethod
    async def work(self) -> None:
        """Have this process take part in the work, until `close`; returns once it does."""


@runtime_checkable
class Serves(Protocol):
    """What a runtime has whose workers are processes of their own kind, which ``pyworkflow worker`` becomes then."""

    def serve(self, *, concurrency: int | None, queues: Sequence[str], grace: timedelta) -> int:
        """Work until stopped by the signals of that kind of worker; return the exit code of the process.

        Called without a running event loop.

        Args:
            concurrency: How much to do at once; None: as configured.
            queues: Those to serve, as steps name them; none: that of runs.
            grace: How long running steps may go on at the end.
        """


@frozen
class StartRequest:
    """A run to start: *workflow* by definition, its encoded arguments, how to name it, and whether to begin it here."""

    workflow: Any
    args: Plain
    kwargs: Plain
    mode: Mode
    run_id: str | None = None
    idempotency_key: str | None = None
    begin: bool = True


@frozen
class RuntimeOffer:
    """A runtime as a plugin offers it: what it can do is known before its driver is imported.

    Attributes:
        factory: Called with the `App` and the options of the config string; imports the driver.
        modes: The modes it has.
        default: The mode of a workflow that does not say.
        refusals: What to tell the user who asks for a mode it does not have.
    """

    factory: Callable[..., Runtime]
    modes: frozenset[Mode]
    default: Mode
    refusals: Mapping[Mode, str] = Factory(dict)
