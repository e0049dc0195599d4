"""The storage for tests and for trying things out: nothing of it outlives the process."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from attrs import define, evolve, field

from pyworkflow.errors import ConfigError, Conflict, HookClosed, HookTaken, LeaseLost, RunEnded, RunExists, RunNotFound
from pyworkflow.events import Event
from pyworkflow.model import RUN_OP, Effects, History, Hook, Job, Message, Page, Run, RunQuery, Status
from pyworkflow.ports import Storage

_Key = tuple[str, int]


@define(eq=False)
class MemoryStorage(Storage):
    """The reference storage; one instance, one process. What it holds is lost at exit."""

    is_shared = False

    _runs: dict[str, Run] = field(factory=dict, init=False, repr=False)
    _events: dict[str, list[Event]] = field(factory=dict, init=False, repr=False)
    _keys: dict[str, str] = field(factory=dict, init=False, repr=False)
    _jobs: dict[_Key, Job] = field(factory=dict, init=False, repr=False)
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
        self, run: Run, events: Sequence[Event], jobs: Sequence[Job], hooks: Sequence[Hook] = ()
    ) -> Run | None:
        """Add a run; see `Storage.create`."""
        with self._guard:
            taken = self._runs.get(run.id) or self._runs.get(self._keys.get(run.idempotency_key or "", ""))
            if taken is not None:
                return taken
            self._check_hooks(hooks)
            self._hooks |= {hook.token: hook for hook in hooks}
            self._runs[run.id], self._events[run.id] = run, list(events)
            if run.idempotency_key is not None:
                self._keys[run.idempotency_key] = run.id
            self._jobs |= {(job.run_id, job.op): job for job in jobs}
        return None

    async def load(self, run_id: str, after: int = 0) -> History:
        """Return a run and its later events; see `Storage.load`."""
        return self._run(run_id), self._events[run_id][after:]

    async def load_many(self, run_ids: Sequence[str]) -> Mapping[str, History]:
        """Return runs and their histories; see `Storage.load_many`."""
        return {run_id: (self._runs[run_id], self._events[run_id][:]) for run_id in run_ids if run_id in self._runs}

    async def append(
        self,
        run_id: str,
        events: Sequence[Event],
        jobs: Sequence[Job] = (),
        *,
        expected: int | None = None,
        lease: Job | None = None,
        finish: bool = False,
        status: Status | None = None,
        now: datetime | None = None,
        also: Effects | None = None,
    ) -> int:
        """Add to a history; see `Storage.append`."""
        await asyncio.sleep(0)  # nothing here waits, and a run must not keep the others from their turn
        with self._guard:
            run = self._run(run_id)
            self._check(run, expected, lease, status, also or Effects())
            self._events[run_id] += events
            run = evolve(run, length=run.length + len(events))
            if status is not None:
                run = evolve(run, status=status, ended_at=now if status.is_final else None)
                if status is not Status.RUNNING:
                    for key in [key for key in self._jobs if key[0] == run_id]:
                        self._forget(key)
                if status.is_final:
                    self._hooks = {token: hook for token, hook in self._hooks.items() if hook.run_id != run_id}
            self._runs[run_id] = run
            if lease is not None and (run_id, lease.op) in self._jobs:
                self._jobs[run_id, lease.op] = evolve(self._jobs[run_id, lease.op], lapsed=False)
            if finish and lease is not None:
                self._forget((run_id, lease.op))
            for job in jobs:
                self._write(job, owned=lease is not None and lease.op == job.op)
            if also is not None:
                self._apply(run_id, also, now)
        return run.length

    def _check(self, run: Run, expected: int | None, lease: Job | None, status: Status | None, also: Effects) -> None:
        if lease is not None and not self._holds(lease):
            msg = f"run {run.id!r} is held by somebody else now"
            raise LeaseLost(msg)
        if lease is None and status is None and run.status.is_final:
            msg = f"run {run.id!r} has ended already: it is {run.status.value}"
            raise RunEnded(msg)
        if expected is not None and expected != run.length:
            msg = f"the history of run {run.id!r} is {run.length} events long, not {expected}"
            raise Conflict(msg)
        self._check_hooks(also.hooks)
        for new in also.begin:
            if new.run.id in self._runs:
                msg = f"there is a run {new.run.id!r} already, of workflow {self._runs[new.run.id].workflow!r}"
                raise RunExists(msg)
        mine = {token for token in also.close if token in self._hooks and self._hooks[token].run_id == run.id}
        if lease is None and mine != set(also.close):
            msg = "the hook is closed: it had its payload, has expired, or its run has ended"
            raise HookClosed(msg)

    def _check_hooks(self, hooks: Sequence[Hook]) -> None:
        for hook in hooks:
            other = self._hooks.get(hook.token)
            if other is not None and (other.run_id, other.op) != (hook.run_id, hook.op):
                msg = f"the token of hook {hook.name!r} is in use by an open hook of run {other.run_id!r}"
                raise HookTaken(msg, hook.token)

    def _apply(self, run_id: str, also: Effects, now: datetime | None) -> None:
        self._hooks |= {hook.token: hook for hook in also.hooks}
        if also.attributes:
            run = self._runs[run_id]
            self._runs[run_id] = evolve(run, attributes={**run.attributes, **also.attributes})
        for token in also.close:
            if token in self._hooks and self._hooks[token].run_id == run_id:
                del self._hooks[token]
        for key in [(run_id, op) for op in also.drop if (run_id, op) in self._jobs]:
            if self._jobs[key].worker is None:
                self._forget(key)
            else:
                self._woken[key] = None
                self._dropped.add(key)
        for message in also.tell:
            self._tell(message, now)
        for new in also.begin:
            self._runs[new.run.id], self._events[new.run.id] = new.run, list(new.events)
            self._jobs[new.run.id, RUN_OP] = Job(new.run.id, RUN_OP, now, new.run.workflow)

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
    ) -> list[Job]:
        """Take jobs whose time has come; see `Storage.claim`."""
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
                recoveries = job.recoveries + job.lapsed
                job = evolve(job, due=None, worker=worker, epoch=job.epoch + 1, recoveries=recoveries, length=length)
                self._jobs[key] = job
                claimed.append(job)
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

    def _holds(self, lease: Job) -> bool:
        job = self._jobs.get((lease.run_id, lease.op))
        return job is not None and (job.worker, job.epoch) == (lease.worker, lease.epoch)

    def _write(self, job: Job, *, owned: bool) -> None:
        key = job.run_id, job.op
        old = self._jobs.get(key)
        if old is None:
            self._jobs[key] = job
        elif owned:
            data = old.data if job.data is None else job.data
            self._jobs[key] = evolve(old, due=job.due, data=data, worker=job.worker, lapsed=False)
            self._woken.pop(key, None)
        elif old.worker is not None:
            self._woken[key] = None
        elif job.due is not None and (old.due is None or job.due < old.due):
            self._jobs[key] = evolve(old, due=job.due)

    def _release(self, worker: str, now: datetime, *, lapsed: bool) -> None:
        for key in [key for key, job in self._jobs.items() if job.worker == worker]:
            if key in self._dropped:
                self._forget(key)
            else:
                job = self._jobs[key]
                self._jobs[key] = evolve(job, worker=None, due=now, lapsed=lapsed or job.lapsed)
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
