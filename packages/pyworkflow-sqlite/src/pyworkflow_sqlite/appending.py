"""Adding to a history: what every step of every run does."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from attrs import define

from pyworkflow.errors import Conflict, LeaseLost, RunEnded, RunNotFound
from pyworkflow.model import Effects, Job, Status
from pyworkflow_sqlite.database import Row
from pyworkflow_sqlite.effects import (
    ADD_EVENTS,
    LENGTH,
    Packed,
    check_hooks,
    check_new,
    check_open,
    write_effects,
    write_job,
)

_FINAL = tuple(status.value for status in Status if status.is_final)
_HOLDER = "select worker, epoch from jobs where run_id = ? and op = ?"
# Without the lease, or on another length, there is no seq, and nothing is written.
ADD_HELD = (
    "insert or ignore into events (run_id, seq, n, data) values (?, (select ? from jobs where run_id = ? and op = ? "
    "and worker = ? and epoch = ? "
    "and ? = (select seq + n from events where run_id = jobs.run_id order by seq desc limit 1)), ?, ?)"
)


@define(eq=False)
class Append:
    """An append with all that goes with it, as an operation of the database; see `Storage.append`.

    Attributes:
        path: The file, for messages.
        count: How many events there are in *data*.
        jobs: As rows.
        ended: When the run ended, if it does.
        messages: What other runs are told.
        new: The runs that are created.
    """

    path: str
    run_id: str
    count: int
    data: str
    expected: int | None
    lease: Job | None
    status: Status | None = None
    finish: bool = False
    jobs: Sequence[tuple[Any, ...]] = ()
    ended: int | None = None
    also: Effects | None = None
    messages: Packed = ()
    new: Packed = ()

    def __call__(self, db: sqlite3.Connection) -> int:
        """Write it, within a transaction; return the new length of the history."""
        length = self.expected or 0
        if not self._is_held() or db.execute(ADD_HELD, self._values()).rowcount != 1:
            length = self._check(db)
            if self.count:
                db.execute(ADD_EVENTS, (self.run_id, length + 1, self.count, self.data))
        self._write_rest(db)
        return length + self.count

    def row(self) -> Row | None:
        """Return what a step of a sequence comes to, which writes nothing but events."""
        if self.status is not None or self.also is not None or self.jobs or self.finish or not self._is_held():
            return None
        return ADD_HELD, self._values(), self.expected + self.count  # type: ignore[operator]  # it is held

    def _is_held(self) -> bool:
        """Whether all that there is to be checked is the lease and the length."""
        also, lease = self.also, self.lease
        if self.expected is None or lease is None or lease.lapsed or not self.count:
            return False
        return also is None or not (also.hooks or also.begin)

    def _values(self) -> tuple[Any, ...]:
        run_id, lease, seq = self.run_id, self.lease, self.expected + 1  # type: ignore[operator]  # it is held
        return run_id, seq, run_id, lease.op, lease.worker, lease.epoch, seq, self.count, self.data  # type: ignore[union-attr]

    def _check(self, db: sqlite3.Connection) -> int:
        """Return the length of a history, if it may be added to."""
        run_id, lease, also = self.run_id, self.lease, self.also
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
            if self.status is None and row[0] in _FINAL:
                msg = f"run {run_id!r} has ended already: it is {row[0]}"
                raise RunEnded(msg)
        length: int = db.execute(LENGTH, (run_id,)).fetchone()[0]
        if self.expected is not None and self.expected != length:
            msg = f"the history of run {run_id!r} is {length} events long, not {self.expected}"
            raise Conflict(msg)
        if also is not None:
            check_hooks(db, also.hooks)
            check_new(db, also)
            if lease is None:
                check_open(db, run_id, also.close)
        return length

    def _write_rest(self, db: sqlite3.Connection) -> None:
        run_id, lease, status = self.run_id, self.lease, self.status
        if status is not None:
            db.execute("update runs set status = ?, ended_at = ? where id = ?", (status.value, self.ended, run_id))
            if status is not Status.RUNNING:
                db.execute("delete from jobs where run_id = ?", (run_id,))
            if status.is_final:
                db.execute("delete from hooks where run_id = ?", (run_id,))
        if lease is not None and lease.lapsed:
            db.execute("update jobs set lapsed = 0 where run_id = ? and op = ?", (run_id, lease.op))
        if self.finish and lease is not None and status in {None, Status.RUNNING}:  # else they are all gone
            db.execute("delete from jobs where run_id = ? and op = ?", (run_id, lease.op))
        for row in self.jobs:
            write_job(db, row, owned=lease is not None and lease.op == row[1])
        if self.also is not None:
            write_effects(db, run_id, self.also, self.messages, self.new)
