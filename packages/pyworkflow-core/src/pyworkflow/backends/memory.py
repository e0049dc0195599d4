"""The storage for tests and for trying things out: nothing of it outlives the process."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Self

from attrs import define, evolve, field

from pyworkflow.errors import ConfigError, Conflict, HookClosed, HookTaken, LeaseLost, RunEnded, RunExists, RunNotFound
from pyworkflow.events import Event
from pyworkflow.model import (
    RUN_OP,
    Append,
    Effects,
    History,
    Hook,
    Job,
    Lease,
    Message,
    Page,
    Run,
    RunQuery,
    Status,
    StepCall,
)
from pyworkflow.ports import Storage

_Key = tuple[str, int]
_NOTHING = Effects()


@define
class _StoredJob:
    """A job as it is stored, with its lease, if it is held."""

    run_id: str
    op: int
    due: datetime | None
    workflow: str
    queue: str
    call: StepCall | None
    worker: str | None = None
    epoch: int = 0
    lapsed: bool = False
    recoveries: int = 0

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return a job that is free."""
        return cls(job.run_id, job.op, job.due, job.workflow, job.queue, job.call)

    @classmethod
    def held(cls, lease: Lease) -> Self:
        """Return a job that is created under *lease*."""
        job = lease.released(None)
        return cls(
            job.run_id,
            job.op,
            None,
            job.workflow,
            job.queue,
            lease.call,
            lease.worker,
            lease.epoch,
            recoveries=lease.recoveries,
        )


@define(eq=False)
class MemoryStorage(Storage):
    """The reference storage; one instance, one process. What it holds is lost at exit."""

    is_shared = False

    _runs: dict[str, Run] = field(factory=dict, init=False, repr=False)
    _events: dict[str, list[Event]] = field(factory=dict, init=False, repr=False)
    _keys: dict[str, str] = field(factory=dict, init=False, repr=False)
    _jobs: dict[_Key, _StoredJob] = field(factory=dict, init=False, repr=False)
    _leases: dict[str, datetime] = field(factory=dict, init=False, repr=False)
    _woken: dict[_Key, None] = field(factory=dict, init=False, repr=False)  # in order, as all else here
    _dropped: set[_Key] = field(factory=set, init=False, repr=False)
    _hooks: dict[str, Hook] = field(factory=dict, init=False, repr=False)
    _guard: threading.RLock = field(factory=threading.RLock, init=False, repr=False)  # `renew` comes from any thread

    async def open(self) -> None:
        """There is nothing to open."""

    async def close(self) -> None:
        """There is nothing to close; what is held stays for the next `open`."""

    # -- runs ----------------------------------------------------------------------------

    async def create(
        self,
        run: Run,
        events: Sequence[Event],
        jobs: Sequence[Job],
        hooks: Sequence[Hook] = (),
        *,
        lease: Lease | None = None,
    ) -> Run | None:
        """Add a run; see `Storage.create`."""
        with self._guard:
            taken = self._runs.get(run.id) or self._runs.get(self._keys.get(run.idempotency_key or "", ""))
            if taken is not None:
                return taken
            self._check_hooks(hooks, ())
            self._hooks |= {hook.token: hook for hook in hooks}
            self._runs[run.id], self._events[run.id] = run, list(events)
            if run.idempotency_key is not None:
                self._keys[run.idempotency_key] = run.id
            self._jobs |= {(job.run_id, job.op): _StoredJob.of(job) for job in jobs}
            if lease is not None:
                self._jobs[lease.run_id, lease.op] = _StoredJob.held(lease)
        return None

    async def run(self, run_id: str) -> Run:
        """Return a run; see `Storage.run`."""
        return self._run(run_id)

    async def load(self, run_id: str, after: int = 0) -> History:
        """Return a run and its later events; see `Storage.load`."""
        return self._run(run_id), self._events[run_id][after:]

    async def load_many(self, run_ids: Sequence[str]) -> Mapping[str, History]:
        """Return runs and their histories; see `Storage.load_many`."""
        return {run_id: (self._runs[run_id], self._events[run_id][:]) for run_id in run_ids if run_id in self._runs}

    async def append(self, append: Append) -> int:
        """Add to a history; see `Storage.append`."""
        await asyncio.sleep(0)  # nothing here waits, and a run must not keep the others from their turn
        with self._guard:
            run = self._checked(append)
            run_id, lease, status, now = append.run_id, append.lease, append.status, append.now
            self._events[run_id] += append.events
            run = evolve(run, length=run.length + len(append.events))
            if status is not None:
                run = evolve(run, status=status, ended_at=now if status.is_final else None)
            self._runs[run_id] = run
            if status is not None:
                self._stop(run)
            self._write_jobs(append.jobs, lease, finish=append.finish)
            if append.effects is not None:
                self._apply(run_id, append.effects, now)
        return run.length

    def _stop(self, run: Run) -> None:
        """Take away the jobs of a run that does not go on, and the hooks of one that ended."""
        if run.status is not Status.RUNNING:
            for key in [key for key in self._jobs if key[0] == run.id]:
                self._forget(key)
        if run.status.is_final:
            self._hooks = {token: hook for token, hook in self._hooks.items() if hook.run_id != run.id}

    def _write_jobs(self, jobs: Sequence[Job], lease: Lease | None, *, finish: bool) -> None:
        if lease is not None:
            key = lease.run_id, lease.op
            if key in self._jobs:
                self._jobs[key].lapsed = False
            if finish:
                self._forget(key)
        for job in jobs:
            self._write(job, owned=lease is not None and lease.op == job.op)

    def _checked(self, append: Append) -> Run:
        """Return the run as it is, if *append* may be written."""
        lease, effects = append.lease, append.effects or _NOTHING
        if lease is not None and not self._holds(lease):
            msg = f"run {append.run_id!r} is held by somebody else now"
            raise LeaseLost(msg)
        run = self._run(append.run_id)
        if lease is None and append.status is None and run.status.is_final:
            msg = f"run {run.id!r} has ended already: it is {run.status.value}"
            raise RunEnded(msg)
        if append.expected is not None and append.expected != run.length:
            msg = f"the history of run {run.id!r} is {run.length} events long, not {append.expected}"
            raise Conflict(msg)
        for new in effects.new_runs:
            if new.run.id in self._runs:
                msg = f"there is a run {new.run.id!r} already, of workflow {self._runs[new.run.id].workflow!r}"
                raise RunExists(msg)
        mine = {token for token in effects.close if token in self._hooks and self._hooks[token].run_id == run.id}
        self._check_hooks(effects.hooks, mine)
        if not all(map(self._is_open, effects.needs)) or (lease is None and mine != set(effects.close)):
            msg = "the hook is closed: it had its payload, has expired, or its run has ended"
            raise HookClosed(msg)
        return run

    def _is_open(self, hook: Hook) -> bool:
        other = self._hooks.get(hook.token)
        return other is not None and (other.run_id, other.op) == (hook.run_id, hook.op)

    def _check_hooks(self, hooks: Sequence[Hook], closing: Collection[str]) -> None:
        for hook in hooks:
            other = None if hook.token in closing else self._hooks.get(hook.token)
            if other is not None and (other.run_id, other.op) != (hook.run_id, hook.op):
                msg = f"the token of hook {hook.name!r} is in use by an open hook of run {other.run_id!r}"
                raise HookTaken(msg, hook.token)

    def _apply(self, run_id: str, effects: Effects, now: datetime | None) -> None:
        for token in effects.close:
            if token in self._hooks and self._hooks[token].run_id == run_id:
                del self._hooks[token]
        self._hooks |= {hook.token: hook for hook in effects.hooks}
        if effects.attributes:
            run = self._runs[run_id]
            self._runs[run_id] = evolve(run, attributes={**run.attributes, **effects.attributes})
        for key in [(run_id, op) for op in effects.drop if (run_id, op) in self._jobs]:
            if self._jobs[key].worker is None:
                self._forget(key)
            else:
                self._woken[key] = None
                self._dropped.add(key)
        for message in effects.messages:
            self._tell(message, now)
        for new in effects.new_runs:
            self._runs[new.run.id], self._events[new.run.id] = new.run, list(new.events)
            self._jobs[new.run.id, RUN_OP] = _StoredJob(new.run.id, RUN_OP, now, new.run.workflow, "", None)

    def _tell(self, message: Message, now: datetime | None) -> None:
        run = self._runs.get(message.run_id)
        if run is None or run.status.is_final:
            return
        self._events[run.id] += message.events
        self._runs[run.id] = evolve(run, length=run.length + len(message.events))
        if run.status is Status.RUNNING:
            self._write(Job(run.id, RUN_OP, now, run.workflow), owned=False)

    # -- hooks ---------------------------------------------------------------------------

    async def find_hook(self, token: str) -> Hook | None:
        """Return an open hook; see `Storage.find_hook`."""
        return self._hooks.get(token)

    async def hooks(self, run_id: str | None = None, limit: int = 1000) -> list[Hook]:
        """Return open hooks; see `Storage.hooks`."""
        found = [hook for hook in self._hooks.values() if run_id in {None, hook.run_id}]
        return sorted(found, key=lambda hook: (hook.run_id, hook.op))[:limit]

    # -- listing -------------------------------------------------------------------------

    async def runs(self, query: RunQuery) -> Page:
        """Return runs, the newest first; see `Storage.runs`."""
        found = [run for run in self._runs.values() if _matches(run, query)]
        found.sort(key=lambda run: (run.created_at, run.id), reverse=True)
        if query.cursor is not None:
            position = _position(query.cursor)
            found = [run for run in found if (run.created_at, run.id) < position]
        page = found[: query.limit]
        more = len(found) > query.limit
        return Page(page, json.dumps([page[-1].created_at.isoformat(), page[-1].id]) if more else None)

    async def purge(self, before: datetime, statuses: Collection[Status]) -> int:
        """Delete ended runs; see `Storage.purge`."""
        with self._guard:
            ended = [
                run
                for run in self._runs.values()
                if run.status in statuses and run.status.is_final and run.ended_at is not None and run.ended_at < before
            ]
            for run in ended:
                del self._runs[run.id], self._events[run.id]
                self._keys.pop(run.idempotency_key or "", None)
        return len(ended)

    # -- jobs ----------------------------------------------------------------------------

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
        """Claim jobs whose time has come; see `Storage.claim`."""
        with self._guard:
            holders = {job.worker: None for job in self._jobs.values() if job.worker is not None}
            for other in {**self._leases, **holders}:
                until = self._leases.get(other)
                if other != worker and (until is None or until <= now):  # None: written when its lease was over already
                    self._release(other, now, lapsed=True)
            due = [
                (job.due, key)
                for key, job in self._jobs.items()
                if job.worker is None
                and job.due is not None
                and job.due <= now
                and job.queue in queues
                and (workflows is None or job.workflow in workflows)
            ]
            due.sort()
            claimed = []
            for _, key in due[:limit]:
                job, length = self._jobs[key], self._runs[key[0]].length
                job.due, job.worker, job.epoch = None, worker, job.epoch + 1
                job.recoveries += job.lapsed
                claimed.append(
                    Lease(
                        job.run_id, job.op, worker, job.epoch, job.workflow, job.queue, job.call,
                        job.lapsed, job.recoveries, length,
                    )
                )  # fmt: skip
            if claimed:
                self._leases[worker] = now + lease
        return claimed

    def renew(self, worker: str, now: datetime, lease: timedelta) -> list[tuple[str, int]]:
        """Prolong a worker's lease, or end it; see `Storage.renew`."""
        with self._guard:
            if not lease:
                self._release(worker, now, lapsed=False)
                return []
            self._leases[worker] = now + lease
            woken = [key for key in self._woken if self._jobs[key].worker == worker]
            for key in woken:
                del self._woken[key]
            for key in [key for key in woken if key in self._dropped]:
                self._forget(key)
        return woken

    def lose(self, worker: str, now: datetime) -> None:
        """Let the lease of *worker* lapse now, as if it had been killed long ago; for tests."""
        with self._guard:
            self._release(worker, now, lapsed=True)

    async def due(self) -> datetime | None:
        """Return when `claim` may next find a job; see `Storage.due`."""
        times = [job.due for job in self._jobs.values() if job.worker is None and job.due is not None]
        holders = {job.worker for job in self._jobs.values() if job.worker is not None}
        times += [until for worker, until in self._leases.items() if worker in holders]
        return min(times, default=None)

    # -- within --------------------------------------------------------------------------

    def _run(self, run_id: str) -> Run:
        run = self._runs.get(run_id)
        if run is None:
            msg = f"there is no run {run_id!r} in memory; what MemoryStorage holds is lost when its process ends"
            raise RunNotFound(msg)
        return run

    def _holds(self, lease: Lease) -> bool:
        job = self._jobs.get((lease.run_id, lease.op))
        return job is not None and (job.worker, job.epoch) == (lease.worker, lease.epoch)

    def _write(self, job: Job, *, owned: bool) -> None:
        key = job.run_id, job.op
        old = self._jobs.get(key)
        if old is None:
            self._jobs[key] = _StoredJob.of(job)
        elif owned:
            old.due, old.call, old.worker, old.lapsed = job.due, job.call or old.call, None, False
            self._woken.pop(key, None)
        elif old.worker is not None:
            self._woken[key] = None
        elif job.due is not None and (old.due is None or job.due < old.due):
            old.due = job.due

    def _release(self, worker: str, now: datetime, *, lapsed: bool) -> None:
        for key in [key for key, job in self._jobs.items() if job.worker == worker]:
            if key in self._dropped:
                self._forget(key)
            else:
                job = self._jobs[key]
                job.worker, job.due, job.lapsed = None, now, lapsed or job.lapsed
                self._woken.pop(key, None)
        self._leases.pop(worker, None)

    def _forget(self, key: _Key) -> None:
        self._jobs.pop(key, None)
        self._woken.pop(key, None)
        self._dropped.discard(key)


def _matches(run: Run, query: RunQuery) -> bool:
    return (
        query.status in {None, run.status}
        and query.workflow in {None, run.workflow}
        and (query.created_after is None or run.created_at > query.created_after)
        and (query.created_before is None or run.created_at < query.created_before)
        and all(name in run.attributes and run.attributes[name] == value for name, value in query.attributes.items())
    )


def _position(cursor: str) -> tuple[datetime, str]:
    try:
        created, run_id = json.loads(cursor)
        return datetime.fromisoformat(created), str(run_id)
    except (ValueError, TypeError) as error:
        msg = f"{cursor!r} is not a cursor of this storage; use the one that came with the page before"
        raise ConfigError(msg) from error
