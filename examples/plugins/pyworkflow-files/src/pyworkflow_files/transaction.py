"""What each call of a storage checks and changes; every check comes before the first change."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from attrs import define, evolve, field

from pyworkflow import wire
from pyworkflow.errors import Conflict, HookClosed, HookTaken, LeaseLost, RunEnded, RunExists, RunNotFound
from pyworkflow.events import Event
from pyworkflow.model import RUN_OP, Append, Effects, Hook, Job, Lease, Message, Run, Status
from pyworkflow_files.state import State, StoredJob, hook_change, job_change, run_change

_NO_EFFECTS = Effects()


@define(eq=False)
class Transaction:
    """Changes a state, and keeps the changes for the journal."""

    state: State
    changes: list[Sequence[Any]] = field(factory=list)

    def _put(self, change: Sequence[Any]) -> None:
        self.state.apply(change)
        self.changes.append(change)

    # -- runs ----------------------------------------------------------------------------

    def run(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            RunNotFound: There is no such run.
        """
        run = self.state.runs.get(run_id)
        if run is None:
            msg = f"there is no run {run_id!r}"
            raise RunNotFound(msg)
        return run

    def create(
        self, run: Run, events: Sequence[Event], jobs: Sequence[Job], hooks: Sequence[Hook], lease: Lease | None = None
    ) -> Run | None:
        """Add a run; see `pyworkflow.ports.Storage.create`."""
        runs, keys = self.state.runs, self.state.keys
        taken = runs.get(run.id)
        if taken is None and run.idempotency_key in keys:
            taken = runs[keys[run.idempotency_key]]
        if taken is not None:
            return taken
        self._check_hooks(hooks)
        self._put(run_change(evolve(run, length=0)))
        self._put(["events", run.id, len(events), wire.dumps(events)])
        for job in jobs:
            self._put(job_change(StoredJob.free(job)))
        if lease is not None:
            self._put(job_change(StoredJob.held(lease)))
        for hook in hooks:
            self._put(hook_change(hook))
        return None

    def append(self, append: Append) -> int:
        """Add to a history; see `pyworkflow.ports.Storage.append`."""
        self._check(append)
        run_id, lease = append.run_id, append.lease
        if append.events:
            self._put(["events", run_id, len(append.events), wire.dumps(append.events)])
        if append.status is not None:
            self._set_status(run_id, append.status, append.now)
        if lease is not None:
            held = self._job(run_id, lease.op)
            if append.finish:
                self._forget(run_id, lease.op)
            elif held is not None and held.lapsed:
                self._put(job_change(evolve(held, lapsed=False)))
        for job in append.jobs:
            self._write(job, owned=lease is not None and lease.op == job.op)
        if append.effects is not None:
            self._affect(run_id, append.effects, append.now)
        return self.state.runs[run_id].length

    def _check(self, append: Append) -> None:
        lease, effects = append.lease, append.effects or _NO_EFFECTS
        if lease is not None:
            held = self._job(append.run_id, lease.op)
            if held is None or not held.is_held_under(lease):
                msg = f"run {append.run_id!r} is held by another worker now"
                raise LeaseLost(msg)
        run = self.run(append.run_id)
        if lease is None and append.status is None and run.status.is_final:
            msg = f"run {run.id!r} has ended already: it is {run.status.value}"
            raise RunEnded(msg)
        if append.expected is not None and append.expected != run.length:
            msg = f"the history of run {run.id!r} is {run.length} events long, not {append.expected}"
            raise Conflict(msg)
        self._check_hooks([hook for hook in effects.hooks if not self._closes(run.id, effects, hook.token)])
        for new in effects.new_runs:
            if new.run.id in self.state.runs:
                msg = f"there is a run {new.run.id!r} already"
                raise RunExists(msg)
        needed = all(self._is_open(hook.run_id, hook.token, hook.op) for hook in effects.needs)
        if not needed or (lease is None and not all(self._is_open(run.id, token) for token in effects.close)):
            msg = "the hook is closed: it had its payload, has expired, or its run has ended"
            raise HookClosed(msg)

    def _check_hooks(self, hooks: Sequence[Hook]) -> None:
        for hook in hooks:
            other = self.state.hooks.get(hook.token)
            if other is not None and (other.run_id, other.op) != (hook.run_id, hook.op):
                msg = f"the token of hook {hook.name!r} is in use by an open hook of run {other.run_id!r}"
                raise HookTaken(msg, hook.token)

    def _is_open(self, run_id: str, token: str, op: int | None = None) -> bool:
        hook = self.state.hooks.get(token)
        return hook is not None and hook.run_id == run_id and op in {None, hook.op}

    def _closes(self, run_id: str, effects: Effects, token: str) -> bool:
        return token in effects.close and self._is_open(run_id, token)

    def _set_status(self, run_id: str, status: Status, now: datetime | None) -> None:
        ended = now if status.is_final else None
        self._put(run_change(evolve(self.state.runs[run_id], status=status, ended_at=ended)))
        if status is not Status.RUNNING:
            for op in list(self.state.jobs.get(run_id, ())):
                self._forget(run_id, op)
        if status.is_final:
            for token in [token for token, hook in self.state.hooks.items() if hook.run_id == run_id]:
                self._put(["no-hook", token])

    def _affect(self, run_id: str, effects: Effects, now: datetime | None) -> None:
        if effects.attributes:
            run = self.state.runs[run_id]
            self._put(run_change(evolve(run, attributes={**run.attributes, **effects.attributes})))
        for token in effects.close:
            if self._is_open(run_id, token):
                self._put(["no-hook", token])
        for hook in effects.hooks:
            self._put(hook_change(hook))
        for op in effects.drop:
            job = self._job(run_id, op)
            if job is not None and job.worker is None:
                self._forget(run_id, op)
            elif job is not None:
                self._put(job_change(evolve(job, news="dropped")))
        for message in effects.messages:
            self._deliver(message, now)
        for new in effects.new_runs:
            self.create(new.run, new.events, [Job(new.run.id, RUN_OP, now, new.run.workflow)], ())

    def _deliver(self, message: Message, now: datetime | None) -> None:
        run = self.state.runs.get(message.run_id)
        if run is None or run.status.is_final:
            return
        self._put(["events", run.id, len(message.events), wire.dumps(message.events)])
        if run.status is Status.RUNNING:
            self._write(Job(run.id, RUN_OP, now, run.workflow), owned=False)

    def purge(self, before: datetime, statuses: Collection[Status]) -> int:
        """Delete ended runs; see `pyworkflow.ports.Storage.purge`."""
        ended = [
            run.id
            for run in self.state.runs.values()
            if run.status in statuses and run.status.is_final and run.ended_at is not None and run.ended_at < before
        ]
        for run_id in ended:
            self._put(["no-run", run_id])
        return len(ended)

    # -- jobs ----------------------------------------------------------------------------

    def claim(  # noqa: PLR0917 -- in the order of the port
        self,
        worker: str,
        now: datetime,
        lease: timedelta,
        limit: int,
        workflows: Collection[str] | None,
        queues: Collection[str],
    ) -> list[Lease]:
        """Claim jobs whose time has come; see `pyworkflow.ports.Storage.claim`."""
        leases = self.state.leases
        for other in {**leases, **self.state.by_worker}:
            if other != worker and (other not in leases or leases[other] <= now):
                self._release(other, now, lapsed=True)
        due = sorted(
            (job.due, job.run_id, job.op)
            for job in self.state.all_jobs()
            if job.worker is None
            and job.due is not None
            and job.due <= now
            and job.queue in queues
            and (workflows is None or job.workflow in workflows)
        )
        claimed = []
        for _, run_id, op in due[:limit]:
            job = self.state.jobs[run_id][op]
            recoveries = job.recoveries + job.lapsed
            held = evolve(job, due=None, worker=worker, epoch=job.epoch + 1, recoveries=recoveries)
            self._put(job_change(held))
            claimed.append(held.lease(worker, self.state.runs[run_id].length))
        if claimed:
            self._put(["lease", worker, (now + lease).isoformat()])
        return claimed

    def renew(self, worker: str, now: datetime, lease: timedelta) -> list[tuple[str, int]]:
        """Prolong a worker's lease, or end it; see `pyworkflow.ports.Storage.renew`."""
        if not lease:
            self._release(worker, now, lapsed=False)
            return []
        self._put(["lease", worker, (now + lease).isoformat()])
        woken = []
        for run_id, op in list(self.state.by_worker.get(worker, ())):
            job = self.state.jobs[run_id][op]
            if job.news:
                woken.append((run_id, op))
                if job.news == "dropped":
                    self._forget(run_id, op)
                else:
                    self._put(job_change(evolve(job, news="")))
        return woken

    def _release(self, worker: str, now: datetime, *, lapsed: bool) -> None:
        for run_id, op in list(self.state.by_worker.get(worker, ())):
            job = self.state.jobs[run_id][op]
            if job.news == "dropped":
                self._forget(run_id, op)
            else:
                self._put(job_change(evolve(job, worker=None, due=now, lapsed=lapsed or job.lapsed, news="")))
        if worker in self.state.leases:
            self._put(["no-lease", worker])

    def _write(self, job: Job, *, owned: bool) -> None:
        old = self._job(job.run_id, job.op)
        if old is None:
            self._put(job_change(StoredJob.free(job)))
        elif owned:
            free = evolve(old, due=job.due, call=job.call or old.call, worker=None, lapsed=False, news="")
            self._put(job_change(free))
        elif old.worker is not None:
            self._put(job_change(evolve(old, news=old.news or "woken")))
        elif job.due is not None and (old.due is None or job.due < old.due):
            self._put(job_change(evolve(old, due=job.due)))

    def _job(self, run_id: str, op: int) -> StoredJob | None:
        return self.state.jobs.get(run_id, {}).get(op)

    def _forget(self, run_id: str, op: int) -> None:
        if self._job(run_id, op) is not None:
            self._put(["no-job", run_id, op])
