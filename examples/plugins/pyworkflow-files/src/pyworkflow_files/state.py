"""What a storage holds, as the changes of its transactions make it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from attrs import define, evolve, field, frozen

from pyworkflow.model import Hook, Job, Run, Status

Key = tuple[str, int]


@frozen
class Held:
    """A job, and what its holder has to be told of it.

    Attributes:
        job: The job.
        news: ``"woken"``: others wrote to its run; ``"dropped"``: nobody wants it any more.
    """

    job: Job
    news: str = ""


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
    jobs: dict[str, dict[int, Held]] = field(factory=dict)
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
                job = Job(run_id, op, _time_or_none(due), workflow, queue, data, worker, epoch, lapsed, recoveries)
                self.jobs.setdefault(run_id, {})[op] = Held(job, news)
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
        held = self.jobs.get(run_id, {}).pop(op, None)
        if held is None:
            return
        if not self.jobs[run_id]:
            del self.jobs[run_id]
        worker = held.job.worker
        if worker is not None:
            del self.by_worker[worker][run_id, op]
            if not self.by_worker[worker]:
                del self.by_worker[worker]

    def records(self) -> Iterator[Sequence[Sequence[Any]]]:
        """Yield transactions that make this state out of nothing."""
        for run in self.runs.values():
            yield [run_change(evolve(run, length=0)), *(["events", run.id, *part] for part in self.histories[run.id])]
        for held in self.all_jobs():
            yield [job_change(held.job, held.news)]
        yield [hook_change(hook) for hook in self.hooks.values()]
        yield [["lease", worker, until.isoformat()] for worker, until in self.leases.items()]

    def all_jobs(self) -> Iterator[Held]:
        """Yield all jobs."""
        for jobs in self.jobs.values():
            yield from jobs.values()


def run_change(run: Run) -> list[Any]:
    """Return the change that adds *run*, or puts it in the place of what it was."""
    created, ended = run.created_at.isoformat(), run.ended_at and run.ended_at.isoformat()
    about = run.workflow, created, run.status.value, run.length, ended, run.idempotency_key, run.parent
    return ["run", run.id, *about, dict(run.attributes)]


def job_change(job: Job, news: str = "") -> list[Any]:
    """Return the change that adds *job*, or puts it in the place of what it was."""
    due = job.due and job.due.isoformat()
    about = due, job.workflow, job.queue, job.data, job.worker, job.epoch, job.lapsed, job.recoveries, news
    return ["job", job.run_id, job.op, *about]


def hook_change(hook: Hook) -> list[Any]:
    """Return the change that opens *hook*."""
    return ["hook", hook.token, hook.run_id, hook.op, hook.name, hook.many]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _time_or_none(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
