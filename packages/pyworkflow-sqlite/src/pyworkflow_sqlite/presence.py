"""Which workers are lost: the lease says when others may ask, the operating system says whether a process is dead."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Iterator
from datetime import timedelta

from attrs import define, field

from pyworkflow_sqlite.liveness import Life, Liveness

_MICROSECOND = timedelta(microseconds=1)
_OTHERS = (  # also those that wrote a job when their lease was over, and have no row
    "select id, until, beat, lock_file from workers left join presence on worker = id where id <> :me union all "
    "select distinct j.worker, 0, beat, lock_file from jobs j left join presence p on p.worker = j.worker "
    "where j.worker is not null and j.worker <> :me and not exists (select 1 from workers where id = j.worker)"
)
_BEAT = (
    "insert into presence values (?, ?, ?, ?, ?, ?) on conflict do update set beat = excluded.beat, "
    "lock_file = excluded.lock_file"
)


@define(eq=False)
class Presence:
    """The workers of this process, and whether those of others live.

    Args:
        liveness: The locks of workers.
        silent_limit: After how long without a heartbeat a process that lives is believed to be stopped or frozen.
    """

    liveness: Liveness
    silent_limit: timedelta
    _workers: dict[str, str] = field(factory=dict, init=False)  # the file that each has its lock on

    def enter(self, worker: str) -> None:
        """Show that *worker* lives, by a lock; to be called before its lease is written."""
        self._workers[worker] = self.liveness.enter(worker)

    def beat(self, db: sqlite3.Connection, worker: str, now: int) -> None:
        """Write that *worker* lives at *now*, in microseconds since 1970."""
        db.execute(_BEAT, (worker, socket.gethostname(), os.getpid(), now, now, self._workers.get(worker, "")))

    def forget(self, db: sqlite3.Connection, worker: str) -> None:
        """Remove what was written of a worker that stops."""
        db.execute("delete from presence where worker = ?", (worker,))

    def leave(self, worker: str) -> None:
        """Show that *worker* is gone."""
        self.liveness.leave(worker)
        self._workers.pop(worker, None)

    def leave_all(self) -> None:
        """Show that all workers of this process are gone."""
        for worker in list(self._workers):
            self.leave(worker)

    def lost(self, db: sqlite3.Connection, worker: str, now: int) -> Iterator[str]:
        """Yield the workers, but for *worker*, whose jobs may be claimed by others."""
        silent = self.silent_limit // _MICROSECOND
        for other, until, beat, file in db.execute(_OTHERS, {"me": worker}).fetchall():
            life = self.liveness.life(other, file)
            if life is Life.DEAD:
                self.forget(db, other)
                yield other
            elif until <= now and not (life is Life.ALIVE and beat is not None and now < beat + silent):
                yield other


def prolong(db: sqlite3.Connection, worker: str, until: int) -> None:
    """Write the lease of *worker*, which ends at *until*."""
    db.execute("insert into workers values (?, ?) on conflict do update set until = excluded.until", (worker, until))
