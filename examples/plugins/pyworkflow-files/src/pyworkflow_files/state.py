"""What a storage holds, as the changes of its transactions make it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from attrs import define, evolve, field, frozen

from pyworkflow.model import Hook, Job, Lease, Run, Status, StepCall

Key = tuple[str, int]


@frozen
class StoredJob:
    """A job as it is stored, with its lease, if it is held.

    Attributes:
        due: When it may be claimed; None: it is held, or waits for a signal.
        worker: Who holds it; None: nobody.
        lapsed: A lease of it has lapsed, and no holder has written since.
        news: What its holder learns by `renew`. ``"woken"``: others wrote to its run; ``"dropped"``: nobody wants it.
    """

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
    news: str = ""

    @classmethod
    def free(cls, job: Job) -> StoredJob:
        """Return a new job that nobody holds."""
        return cls(job.run_id, job.op, job.due, job.workflow, job.queue, job.call)

    @classmethod
    def held(cls, lease: Lease) -> StoredJob:
        """Return a new job that is held under *lease*."""
        about = lease.workflow, lease.queue, lease.call, lease.worker, lease.epoch
        return cls(lease.run_id, lease.op, None, *about, recoveries=lease.recoveries)

    def is_held_under(self, lease: Lease) -> bool:
        """Whether *lease* is the one that holds it."""
        return (self.worker, self.epoch) == (lease.worker, lease.epoch)

    def lease(self, worker: str, length: int) -> Lease:
        """Return the lease under which *worker* holds it, on a history of *length* events."""
        about = self.workflow, self.queue, self.call, self.lapsed, self.recoveries
        return Lease(self.run_id, self.op, worker, self.epoch, *about, length)


@define(eq=False)
class State:
    """Runs, their histories as text, and jobs, hooks and leases.

    Attributes:
        histories: For each run and append: the number of events, and the events as `pyworkflow.wire` writes them.
        keys: Runs by idempotency key.
        jobs: By run and operation.
        by_worker: The jobs that a worker holds.
        leases: Until when they last.
    """

    runs: dict[str, Run] = field(factory=dict)
    histories: dict[str, list[tuple[int, str]]] = field(factory=dict)
    keys: dict[str, str] = field(factory=dict)
    jobs: dict[str, dict[int, StoredJob]] = field(factory=dict)
    by_worker: dict[str, dict[Key, None]] = field(factory=dict)
    leases: dict[str, datetime] = field(factory=dict)
    hooks: dict[str, Hook] = field(factory=dict)

    def apply(self, change: Sequence[Any]) -> None:  # noqa: C901, PLR0912 -- a case for each kind of change
        """Make one change, written as JSON."""
        match change:
            case ["run", run_id, workflow, created, status, length, ended, key, parent, attributes]:
                self.runs[run_id] = Run(
                    run_id,
                    workflow,
                    _time(created),
                    Status(status),
                    length,
                    _time_or_none(ended),
                    key,
                    parent,
                    attributes,
                )
                self.histories.setdefault(run_id, [])
                if key is not None:
                    self.keys[key] = run_id
            case ["events", run_id, count, text]:
                self.histories[run_id].append((count, text))
                self.runs[run_id] = evolve(self.runs[run_id], length=self.runs[run_id].length + count)
            case ["no-run", run_id]:
                run = self.runs.pop(run_id)
                del self.histories[run_id]
                if run.idempotency_key is not None:
                    self.keys.pop(run.idempotency_key, None)
            case ["job", run_id, op, due, workflow, queue, data, worker, epoch, lapsed, recoveries, news]:
                self._remove_job(run_id, op)
                call = None if data is None else StepCall(*data)
                about = _time_or_none(due), workflow, queue, call, worker, epoch, lapsed, recoveries, news
                self.jobs.setdefault(run_id, {})[op] = StoredJob(run_id, op, *about)
                if worker is not None:
                    self.by_worker.setdefault(worker, {})[run_id, op] = None
            case ["no-job", run_id, op]:
                self._remove_job(run_id, op)
            case ["hook", token, run_id, op, name, many]:
                self.hooks[token] = Hook(token, run_id, op, name, many)
            case ["no-hook", token]:
                del self.hooks[token]
            case ["lease", worker, until]:
                self.leases[worker] = _time(until)
            case ["no-lease", worker]:
                self.leases.pop(worker, None)
            case _:
                msg = f"an unknown change: {change!r:.80}"
                raise ValueError(msg)

    def _remove_job(self, run_id: str, op: int) -> None:
        job = self.jobs.get(run_id, {}).pop(op, None)
        if job is None:
            return
        if not self.jobs[run_id]:
            del self.jobs[run_id]
        worker = job.worker
        if worker is not None:
            del self.by_worker[worker][run_id, op]
            if not self.by_worker[worker]:
                del self.by_worker[worker]

    def records(self) -> Iterator[Sequence[Sequence[Any]]]:
        """Yield transactions that make this state out of nothing."""
        for run in self.runs.values():
            yield [run_change(evolve(run, length=0)), *(["events", run.id, *part] for part in self.histories[run.id])]
        for job in self.all_jobs():
            yield [job_change(job)]
        yield [hook_change(hook) for hook in self.hooks.values()]
        yield [["lease", worker, until.isoformat()] for worker, until in self.leases.items()]

    def all_jobs(self) -> Iterator[StoredJob]:
        """Yield all jobs."""
        for jobs in self.jobs.values():
            yield from jobs.values()


def run_change(run: Run) -> list[Any]:
    """Return the change that adds *run*, or puts it in the place of what it was."""
    created, ended = run.created_at.isoformat(), run.ended_at and run.ended_at.isoformat()
    about = run.workflow, created, run.status.value, run.length, ended, run.idempotency_key, run.parent
    return ["run", run.id, *about, dict(run.attributes)]


def job_change(job: StoredJob) -> list[Any]:
    """Return the change that adds *job*, or puts it in the place of what it was."""
    due, call = job.due and job.due.isoformat(), job.call and _call_change(job.call)
    about = due, job.workflow, job.queue, call, job.worker, job.epoch, job.lapsed, job.recoveries, job.news
    return ["job", job.run_id, job.op, *about]


def _call_change(call: StepCall) -> list[Any]:
    return [call.name, call.args, call.kwargs, call.attempt]


def hook_change(hook: Hook) -> list[Any]:
    """Return the change that opens *hook*."""
    return ["hook", hook.token, hook.run_id, hook.op, hook.name, hook.many]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _time_or_none(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
