"""Between rows and the values of the contract. Times are whole microseconds since 1970, UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from pyworkflow import wire
from pyworkflow.errors import DamagedHistory
from pyworkflow.events import Event, Plain
from pyworkflow.model import Hook, Job, Lease, Run, Status

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

RUN_COLUMNS = (
    "id, workflow, status, created_at, ended_at, idempotency_key, parent, "
    "(select json_group_object(name, json(value)) from attributes where run_id = runs.id), "
    "(select seq + n - 1 from events where run_id = runs.id order by seq desc limit 1)"
)

HOOK_COLUMNS = "token, run_id, op, name, many"


def micros(time: datetime) -> int:
    """Return *time* as stored."""
    return (time - _EPOCH) // _MICROSECOND


def micros_or_none(time: datetime | None) -> int | None:
    """Return *time* as stored, if there is one."""
    return None if time is None else micros(time)


def time_of(stored: int) -> datetime:
    """Return a stored time."""
    return _EPOCH + stored * _MICROSECOND


def run_of(row: tuple[Any, ...]) -> Run:
    """Return the run in a row of `RUN_COLUMNS`.

    Raises:
        DamagedHistory: The row makes no sense.
    """
    run_id, workflow, status, created, ended, key, parent, attributes, length = row
    try:
        return Run(
            run_id,
            workflow,
            time_of(created),
            Status(status),
            length or 0,
            None if ended is None else time_of(ended),
            key,
            parent,
            {} if attributes == "{}" else cast("dict[str, Plain]", wire.loads_plain(attributes)),
        )
    except (ValueError, TypeError, OverflowError) as error:
        msg = f"the row of run {run_id!r} is damaged: {error}"
        raise DamagedHistory(msg) from error


def events_of(run_id: str, rows: list[tuple[int, int, str]], after: int) -> list[Event]:
    """Return the events numbered *after* + 1 and later, of rows in order that may begin before.

    Raises:
        DamagedHistory: Something is missing, or cannot be read.
    """
    events: list[Event] = []
    expected = None
    for seq, n, data in rows:
        if expected is not None and seq != expected:
            msg = f"the history of run {run_id!r} is damaged: events {expected} to {seq - 1} are missing"
            raise DamagedHistory(msg)
        expected = seq + n
        if expected - 1 <= after:
            continue
        try:
            packed = wire.loads(data)
        except Exception as error:
            msg = f"the history of run {run_id!r} cannot be read at event {seq}: {error}"
            raise DamagedHistory(msg) from error
        if len(packed) != n:
            msg = f"the history of run {run_id!r} is damaged: {len(packed)} events at number {seq} instead of {n}"
            raise DamagedHistory(msg)
        events += packed[max(0, after + 1 - seq) :]
    return events


JobRow = tuple[str, int, str, str, str | None, int | None, str | None, int]
"""A job as the values of its columns: run, operation, workflow, queue, call, due, worker, epoch."""


def job_row(job: Job) -> JobRow:
    """Return the row of a job that is free."""
    call, due = wire.dumps_call(job.call), micros_or_none(job.due)
    return job.run_id, job.op, job.workflow, job.queue, call, due, None, 0


def held_row(lease: Lease) -> JobRow:
    """Return the row of a job that is created under *lease*."""
    call = wire.dumps_call(lease.call)
    return lease.run_id, lease.op, lease.workflow, lease.queue, call, None, lease.worker, lease.epoch


def hook_of(row: tuple[Any, ...]) -> Hook:
    """Return the hook in a row of `HOOK_COLUMNS`."""
    token, run_id, op, name, many = row
    return Hook(token, run_id, op, name, bool(many))
