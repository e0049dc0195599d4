"""Adding to a history: what every step of every run does."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from attrs import define, field

from pyworkflow.errors import Conflict, LeaseLost, RunEnded, RunNotFound
from pyworkflow.model import Append, Status
from pyworkflow_sqlite.effects import (
    ADD_EVENTS,
    LENGTH,
    Packed,
    check_hooks,
    check_needed,
    check_new,
    check_open,
    packed_messages,
    packed_runs,
    write_effects,
    write_job,
)
from pyworkflow_sqlite.rows import JobRow, job_row, micros_or_none

_FINAL = tuple(status.value for status in Status if status.is_final)
_HOLDER = "select worker, epoch from jobs where run_id = ? and op = ?"
# Without the lease, or on another length, there is no seq, and nothing is written.
ADD_HELD = (
    "insert or ignore into events (run_id, seq, n, data) values (?, (select ? from jobs where run_id = ? and op = ? "
    "and worker = ? and epoch = ? "
    "and ? = (select seq + n from events where run_id = jobs.run_id order by seq desc limit 1)), ?, ?)"
)


HeldRow = tuple[str, int, str, int, str, int, int, int, str]
"""The values of `ADD_HELD`."""


@define(eq=False)
class Write:
    """An append as an operation of the database.

    Attributes:
        path: The file, for messages.
        append: What to write.
        data: Its events as stored.
        held: The row of its events, if all that there is to check is the lease and the length, which `ADD_HELD` does.
        jobs: Its jobs as rows; like the next two made before the transaction, which must be short.
        messages: What other runs get.
        new_runs: The runs that are created.
    """

    path: str
    append: Append
    data: str
    held: HeldRow | None
    jobs: Sequence[JobRow] = field(init=False)
    messages: Packed = field(init=False)
    new_runs: Packed = field(init=False)

    def __attrs_post_init__(self) -> None:
        append = self.append
        self.jobs = [job_row(job) for job in append.jobs]
        self.messages, self.new_runs = packed_messages(append), packed_runs(append)

    def __call__(self, db: sqlite3.Connection) -> int:
        """Write it, within a transaction; return the new length of the history."""
        append = self.append
        length, count = append.expected or 0, len(append.events)
        if self.held is None or db.execute(ADD_HELD, self.held).rowcount != 1:
            length = self._check(db)
            if count:
                db.execute(ADD_EVENTS, (append.run_id, length + 1, count, self.data))
        self._write_rest(db)
        return length + count

    def _check(self, db: sqlite3.Connection) -> int:
        """Return the length of the history, if it may be added to."""
        append = self.append
        run_id, lease, effects = append.run_id, append.lease, append.effects
        if lease is not None:
            held = db.execute(_HOLDER, (run_id, lease.op)).fetchone()
            if held != (lease.worker, lease.epoch):
                msg = f"run {run_id!r} is held by somebody else now"
                raise LeaseLost(msg)
        else:
            row = db.execute("select status from runs where id = ?", (run_id,)).fetchone()
            if row is None:
                msg = f"there is no run {run_id!r} in {self.path}"
                raise RunNotFound(msg)
            if append.status is None and row[0] in _FINAL:
                msg = f"run {run_id!r} has ended already: it is {row[0]}"
                raise RunEnded(msg)
        length: int = db.execute(LENGTH, (run_id,)).fetchone()[0]
        if append.expected is not None and append.expected != length:
            msg = f"the history of run {run_id!r} is {length} events long, not {append.expected}"
            raise Conflict(msg)
        if effects is not None:
            check_hooks(db, effects.hooks, run_id, effects.close)
            check_new(db, effects)
            check_needed(db, effects.needs)
            if lease is None:
                check_open(db, run_id, effects.close)
        return length

    def _write_rest(self, db: sqlite3.Connection) -> None:
        append = self.append
        run_id, lease, status = append.run_id, append.lease, append.status
        if status is not None:
            ended = micros_or_none(append.now) if status.is_final else None
            db.execute("update runs set status = ?, ended_at = ? where id = ?", (status.value, ended, run_id))
            if status is not Status.RUNNING:
                db.execute("delete from jobs where run_id = ?", (run_id,))
            if status.is_final:
                db.execute("delete from hooks where run_id = ?", (run_id,))
        if lease is not None and lease.lapsed:
            db.execute("update jobs set lapsed = 0 where run_id = ? and op = ?", (run_id, lease.op))
        if append.finish and lease is not None and status in {None, Status.RUNNING}:  # else they are all gone
            db.execute("delete from jobs where run_id = ? and op = ?", (run_id, lease.op))
        for row in self.jobs:
            write_job(db, row, owned=lease is not None and lease.op == row[1])
        if append.effects is not None:
            write_effects(db, run_id, append.effects, self.messages, self.new_runs)
