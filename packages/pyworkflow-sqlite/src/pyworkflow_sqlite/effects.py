"""What an append writes beside events: jobs, hooks, facts for other runs; within a transaction of the caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from pyworkflow import wire
from pyworkflow.errors import HookClosed, HookTaken, RunExists
from pyworkflow.events import Plain
from pyworkflow.model import RUN_OP, Append, Effects, Hook, Job, Run, Status
from pyworkflow_sqlite.rows import JobRow, job_row, micros, micros_or_none

LENGTH = "select coalesce((select seq + n - 1 from events where run_id = ? order by seq desc limit 1), 0)"
ADD_EVENTS = "insert into events (run_id, seq, n, data) values (?, ?, ?, ?)"
ADD_JOB = "insert into jobs (run_id, op, workflow, queue, data, due, worker, epoch) values (?, ?, ?, ?, ?, ?, ?, ?)"

Packed = Sequence[tuple[int, str, JobRow]]
"""For each run that gets a message, or is created: how many events, the events as stored, and the job to make due."""


def packed_messages(append: Append) -> Packed:
    """Return the messages of an append as they are stored."""
    messages = () if append.effects is None else append.effects.messages
    return [
        (len(message.events), wire.dumps(message.events), job_row(Job(message.run_id, RUN_OP, append.now)))
        for message in messages
    ]


def packed_runs(append: Append) -> Packed:
    """Return the runs that an append creates as they are stored."""
    new_runs = () if append.effects is None else append.effects.new_runs
    return [
        (len(new.events), wire.dumps(new.events), job_row(Job(new.run.id, RUN_OP, append.now, new.run.workflow)))
        for new in new_runs
    ]


def check_new(db: sqlite3.Connection, effects: Effects) -> None:
    """Refuse to create runs that are there.

    Raises:
        RunExists: One is.
    """
    for new in effects.new_runs:
        other = db.execute("select workflow from runs where id = ?", (new.run.id,)).fetchone()
        if other is not None:
            msg = f"there is a run {new.run.id!r} already, of workflow {other[0]!r}"
            raise RunExists(msg)


def add_run(db: sqlite3.Connection, run: Run, count: int, data: str) -> None:
    """Add a run that is not there yet, with its first events."""
    created, ended = micros(run.created_at), micros_or_none(run.ended_at)
    values = run.id, run.workflow, run.status.value, created, ended, run.idempotency_key, run.parent
    db.execute("insert into runs values (?, ?, ?, ?, ?, ?, ?)", values)
    db.execute(ADD_EVENTS, (run.id, 1, count, data))
    set_attributes(db, run.id, run.attributes)


_CLOSED = "the hook is closed: it had its payload, has expired, or its run has ended"


def check_hooks(db: sqlite3.Connection, hooks: Sequence[Hook], run_id: str = "", closing: Sequence[str] = ()) -> None:
    """Refuse hooks whose token is in use, and not by a hook of the run *run_id* that is *closing*.

    Raises:
        HookTaken: The token of one is that of another open hook.
    """
    for hook in hooks:
        other = db.execute("select run_id, op from hooks where token = ?", (hook.token,)).fetchone()
        if other is not None and other[0] == run_id and hook.token in closing:
            continue
        if other is not None and other != (hook.run_id, hook.op):
            msg = f"the token of hook {hook.name!r} is in use by an open hook of run {other[0]!r}"
            raise HookTaken(msg, hook.token)


def check_open(db: sqlite3.Connection, run_id: str, tokens: Sequence[str]) -> None:
    """Refuse tokens that are not those of open hooks of the run.

    Raises:
        HookClosed: One is not.
    """
    for token in tokens:
        if db.execute("select 1 from hooks where token = ? and run_id = ?", (token, run_id)).fetchone() is None:
            raise HookClosed(_CLOSED)


def check_needed(db: sqlite3.Connection, hooks: Sequence[Hook]) -> None:
    """Refuse hooks that are not open for their operations.

    Raises:
        HookClosed: One is not.
    """
    for hook in hooks:
        other = db.execute("select run_id, op from hooks where token = ?", (hook.token,)).fetchone()
        if other != (hook.run_id, hook.op):
            raise HookClosed(_CLOSED)


def open_hooks(db: sqlite3.Connection, hooks: Sequence[Hook]) -> None:
    """Add hooks that `check_hooks` let pass."""
    for hook in hooks:
        values = hook.token, hook.run_id, hook.op, hook.name, hook.many
        db.execute("insert or replace into hooks values (?, ?, ?, ?, ?)", values)


def set_attributes(db: sqlite3.Connection, run_id: str, attributes: Mapping[str, Plain]) -> None:
    """Set attributes of a run."""
    for name, value in attributes.items():
        values = run_id, name, wire.dumps_plain(value)
        db.execute("insert or replace into attributes values (?, ?, ?)", values)


def write_effects(db: sqlite3.Connection, run_id: str, effects: Effects, messages: Packed, new: Packed) -> None:
    """Write what goes with an append to *run_id*."""
    for token in effects.close:
        db.execute("delete from hooks where token = ? and run_id = ?", (token, run_id))
    open_hooks(db, effects.hooks)
    set_attributes(db, run_id, effects.attributes)
    for op in effects.drop:
        db.execute("delete from jobs where run_id = ? and op = ? and worker is null", (run_id, op))
        db.execute("update jobs set woken = 2 where run_id = ? and op = ?", (run_id, op))
    for count, data, job in messages:
        _deliver(db, count, data, job)
    for one, (count, data, job) in zip(effects.new_runs, new, strict=True):
        add_run(db, one.run, count, data)
        db.execute(ADD_JOB, job)


def _deliver(db: sqlite3.Connection, count: int, data: str, job: JobRow) -> None:
    run_id, op, _, queue, call, due, worker, epoch = job
    row = db.execute("select workflow, status from runs where id = ?", (run_id,)).fetchone()
    if row is None or Status(row[1]).is_final:
        return
    (length,) = db.execute(LENGTH, (run_id,)).fetchone()
    db.execute(ADD_EVENTS, (run_id, length + 1, count, data))
    if row[1] == Status.RUNNING.value:
        write_job(db, (run_id, op, row[0], queue, call, due, worker, epoch), owned=False)


def write_job(db: sqlite3.Connection, row: JobRow, *, owned: bool) -> None:
    """Write a job: the one that is *owned* as it is, another one only to make it due."""
    run_id, op, _, _, data, due, worker, _ = row
    old = db.execute("select due, worker from jobs where run_id = ? and op = ?", (run_id, op)).fetchone()
    if old is None:
        db.execute(ADD_JOB, row)
    elif owned:
        db.execute(
            "update jobs set due = ?, data = coalesce(?, data), worker = ?, lapsed = 0, woken = 0 "
            "where run_id = ? and op = ?",
            (due, data, worker, run_id, op),
        )
    elif old[1] is not None:
        db.execute("update jobs set woken = 1 where run_id = ? and op = ?", (run_id, op))
    elif due is not None and (old[0] is None or due < old[0]):
        db.execute("update jobs set due = ? where run_id = ? and op = ?", (due, run_id, op))
