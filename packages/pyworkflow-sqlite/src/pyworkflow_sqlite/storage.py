"""The storage contract on a SQLite file."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections import defaultdict
from collections.abc import Awaitable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pyworkflow import wire
from pyworkflow.errors import ConfigError, DamagedHistory, RunNotFound
from pyworkflow.events import Event
from pyworkflow.model import Append, History, Hook, Job, Lease, Page, Run, RunQuery, Status, StepCall
from pyworkflow.ports import Storage
from pyworkflow_sqlite.appending import ADD_HELD, HeldRow, Write
from pyworkflow_sqlite.database import Database
from pyworkflow_sqlite.effects import ADD_JOB, add_run, check_hooks, open_hooks
from pyworkflow_sqlite.liveness import liveness
from pyworkflow_sqlite.presence import Presence, prolong
from pyworkflow_sqlite.renewals import Renewals
from pyworkflow_sqlite.rows import (
    HOOK_COLUMNS,
    RUN_COLUMNS,
    events_of,
    held_row,
    hook_of,
    job_row,
    micros,
    micros_or_none,
    run_of,
    time_of,
)

logger = logging.getLogger(__name__)

_CHUNK = 500
_MANY_RUNS = f"select {RUN_COLUMNS} from runs where id in (select value from json_each(?))"  # noqa: S608 -- a constant
_THEIR_EVENTS = (
    "select run_id, seq, n, data from events where run_id in (select value from json_each(?)) order by run_id, seq"
)
_ALL_EVENTS = "select seq, n, data from events where run_id = ? order by seq"
_TAKE_JOB = (
    "update jobs set worker = ?, epoch = epoch + 1, recoveries = recoveries + lapsed, due = null, woken = 0 "
    "where run_id = ? and op = ? returning run_id, op, workflow, queue, data, epoch, lapsed, recoveries, "
    "(select seq + n - 1 from events where run_id = ? order by seq desc limit 1)"
)


class SQLiteStorage(Storage):
    """Runs in one SQLite file, which any number of processes on one host may share.

    Args:
        path: The file; made, readable by its owner only, if it is not there. Its folder has to exist.
        synchronous: ``full``: what was acknowledged survives a power cut. ``normal``: it survives any crash of the
            process, and a power cut may take the last commits.
        busy_timeout: How long to wait for other processes that keep the file locked; seconds or a `timedelta`.
        silent_limit: After how long without a heartbeat the runs of a process that still lives are taken, because it is
            stopped or frozen; seconds or a `timedelta`. Those of a dead process are taken at once.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: Literal["full", "normal"] = "full",
        busy_timeout: float | timedelta = 30.0,
        silent_limit: float | timedelta = 60.0,
    ) -> None:
        if synchronous not in {"full", "normal"}:
            msg = f"synchronous={synchronous!r}: it is 'full' or 'normal'"
            raise ConfigError(msg)
        self.path = str(path)
        self._database = Database(self.path, synchronous, _seconds(busy_timeout))
        self._renewals = Renewals(self._database)
        self._presence = Presence(liveness(self.path), timedelta(seconds=_seconds(silent_limit)))

    def __repr__(self) -> str:
        return f"SQLiteStorage({self.path!r})"

    @property
    def commits(self) -> int:
        """How many transactions this instance has committed."""
        return self._database.commits

    async def open(self) -> None:
        """Open the file, make it, or bring it to the newest layout."""
        await asyncio.to_thread(self._database.open)

    async def close(self) -> None:
        """Write what waits and close the file."""
        self._presence.leave_all()
        await asyncio.to_thread(self._renewals.close)
        await asyncio.to_thread(self._database.close)

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
        data, rows = wire.dumps(events), [job_row(job) for job in jobs]
        if lease is not None:
            rows.append(held_row(lease))

        def operation(db: sqlite3.Connection) -> Any:
            taken = db.execute(
                f"select {RUN_COLUMNS} from runs where id = ? or idempotency_key = ?",  # noqa: S608 -- a constant
                (run.id, run.idempotency_key),
            ).fetchone()
            if taken is not None:
                return taken
            check_hooks(db, hooks)
            add_run(db, run, len(events), data)
            for row in rows:
                db.execute(ADD_JOB, row)
            open_hooks(db, hooks)
            return None

        taken = await self._database.submit(operation, writes=True)
        return None if taken is None else run_of(taken)

    async def run(self, run_id: str) -> Run:
        """Return a run; see `Storage.run`."""

        def operation(db: sqlite3.Connection) -> Any:
            return db.execute(f"select {RUN_COLUMNS} from runs where id = ?", (run_id,)).fetchone()  # noqa: S608 -- a constant

        return run_of(self._found(run_id, await self._database.submit(operation, writes=False)))

    def _found(self, run_id: str, row: Any) -> Any:
        if row is None:
            msg = f"there is no run {run_id!r} in {self.path}"
            raise RunNotFound(msg)
        return row

    async def load(self, run_id: str, after: int = 0) -> History:
        """Return a run and its later events; see `Storage.load`."""

        def operation(db: sqlite3.Connection) -> Any:
            row = db.execute(f"select {RUN_COLUMNS} from runs where id = ?", (run_id,)).fetchone()  # noqa: S608 -- a constant
            if row is None or row[-1] is None or row[-1] <= after:
                return row, []
            if not after:
                return row, db.execute(_ALL_EVENTS, (run_id,)).fetchall()
            first = "coalesce((select max(seq) from events where run_id = ? and seq <= ?), 0)"
            query = f"select seq, n, data from events where run_id = ? and seq >= {first} order by seq"  # noqa: S608 -- a constant
            return row, db.execute(query, (run_id, run_id, after + 1)).fetchall()

        row, packed = await self._database.submit(operation, writes=False)
        return _history(self._found(run_id, row), packed, after)

    async def load_many(self, run_ids: Sequence[str]) -> Mapping[str, History]:
        """Return runs and their histories; see `Storage.load_many`."""
        ids = json.dumps(list(run_ids))

        def operation(db: sqlite3.Connection) -> Any:
            return db.execute(_MANY_RUNS, (ids,)).fetchall(), db.execute(_THEIR_EVENTS, (ids,)).fetchall()

        rows, packed = await self._database.submit(operation, writes=False)
        by_run: defaultdict[str, list[Any]] = defaultdict(list)
        for run_id, *events in packed:
            by_run[run_id].append(events)
        found = {}
        for row in rows:
            with suppress(DamagedHistory):  # one of them must not keep the others from going on
                found[row[0]] = _history(row, by_run[row[0]])
        return found

    def append(self, append: Append) -> Awaitable[int]:
        """Add to a history; see `Storage.append`."""
        events, lease, effects, expected = append.events, append.lease, append.effects, append.expected
        data = wire.dumps(events) if events else ""
        held = row = None
        opens = effects is not None and (
            effects.hooks or effects.new_runs or effects.needs
        )  # which has to be checked besides
        if events and lease is not None and expected is not None and not lease.lapsed and not opens:
            seq, fence = expected + 1, (lease.op, lease.worker, lease.epoch)
            held = (append.run_id, seq, append.run_id, *fence, seq, len(events), data)
            if effects is None and append.status is None and not append.jobs and not append.finish:
                row = ADD_HELD, held, expected + len(events)  # a step of a sequence: nothing else is written
        write = partial(_write, self.path, append, data, held)
        return self._database.submit(write, writes=True, row=row)

    # -- hooks ---------------------------------------------------------------------------

    async def find_hook(self, token: str) -> Hook | None:
        """Return an open hook; see `Storage.find_hook`."""

        def operation(db: sqlite3.Connection) -> Any:
            return db.execute(f"select {HOOK_COLUMNS} from hooks where token = ?", (token,)).fetchone()  # noqa: S608 -- a constant

        row = await self._database.submit(operation, writes=False)
        return None if row is None else hook_of(row)

    async def hooks(self, run_id: str | None = None, limit: int = 1000) -> list[Hook]:
        """Return open hooks; see `Storage.hooks`."""
        sql = f"select {HOOK_COLUMNS} from hooks where run_id = coalesce(?, run_id) order by run_id, op limit ?"  # noqa: S608 -- a constant

        def operation(db: sqlite3.Connection) -> Any:
            return db.execute(sql, (run_id, limit)).fetchall()

        return [hook_of(row) for row in await self._database.submit(operation, writes=False)]

    # -- listing -------------------------------------------------------------------------

    async def runs(self, query: RunQuery) -> Page:
        """Return runs, the newest first; see `Storage.runs`."""
        where, values = ["true"], []
        for clause, value in (
            ("status = ?", query.status and query.status.value),
            ("workflow = ?", query.workflow),
            ("created_at > ?", micros_or_none(query.created_after)),
            ("created_at < ?", micros_or_none(query.created_before)),
        ):
            if value is not None:
                where.append(clause)
                values.append(value)
        for name, value in query.attributes.items():
            where.append("id in (select run_id from attributes where name = ? and value = ?)")
            values += [name, wire.dumps_plain(value)]
        if query.cursor is not None:
            where.append("(created_at, id) < (?, ?)")
            values += _position(query.cursor)
        sql = f"select {RUN_COLUMNS} from runs where {' and '.join(where)} order by created_at desc, id desc limit ?"  # noqa: S608 -- constants

        def operation(db: sqlite3.Connection) -> Any:
            return db.execute(sql, (*values, query.limit + 1)).fetchall()

        rows = await self._database.submit(operation, writes=False)
        more, rows = len(rows) > query.limit, rows[: query.limit]
        runs = []
        for row in rows:
            try:
                runs.append(run_of(row))
            except DamagedHistory as error:  # one of them must not hide the others
                logger.warning("%s: %s", self.path, error)
        return Page(runs, json.dumps([rows[-1][3], rows[-1][0]]) if more else None)

    async def purge(self, before: datetime, statuses: Collection[Status]) -> int:
        """Delete ended runs; see `Storage.purge`."""
        wanted = json.dumps([status.value for status in statuses if status.is_final])

        def operation(db: sqlite3.Connection) -> int:
            found = db.execute(
                "select id from runs where ended_at < ? and status in (select value from json_each(?)) limit ?",
                (micros(before), wanted, _CHUNK),
            ).fetchall()
            for table, column in (("events", "run_id"), ("jobs", "run_id"), ("attributes", "run_id"), ("runs", "id")):
                db.executemany(f"delete from {table} where {column} = ?", found)  # noqa: S608 -- constants
            return len(found)

        total = 0
        while True:  # in pieces, so that others get their turn
            deleted = await self._database.submit(operation, writes=True)
            total += deleted
            if deleted < _CHUNK:
                return total

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
        self._presence.enter(worker)
        time, until = micros(now), micros(now + lease)
        of_workflows = "true" if workflows is None else "workflow in (select value from json_each(:workflows))"
        names = {
            "worker": worker, "now": time, "limit": limit,
            "workflows": json.dumps(list(workflows or ())), "queues": json.dumps(list(queues)),
        }  # fmt: skip

        def operation(db: sqlite3.Connection) -> Any:
            for other in self._presence.lost(db, worker, time):
                _set_free(db, other, time, lapsed=True)
            found = db.execute(
                "select run_id, op from jobs where worker is null and due <= :now "  # noqa: S608 -- constants
                f"and queue in (select value from json_each(:queues)) and {of_workflows} order by due limit :limit",
                names,
            ).fetchall()
            if found:
                prolong(db, worker, until)
            return [db.execute(_TAKE_JOB, (worker, run_id, op, run_id)).fetchone() for run_id, op in found]

        claimed = await self._database.submit(operation, writes=True)
        return [
            Lease(
                run_id, op, worker, epoch, workflow, queue, _call(run_id, op, data),
                bool(lapsed), recoveries, length or 0,
            )
            for run_id, op, workflow, queue, data, epoch, lapsed, recoveries, length in claimed
        ]  # fmt: skip

    def renew(self, worker: str, now: datetime, lease: timedelta) -> list[tuple[str, int]]:
        """Prolong a worker's lease, or end it; see `Storage.renew`."""
        time, until = micros(now), micros(now + lease)
        if lease:
            self._presence.enter(worker)

        def operation(db: sqlite3.Connection) -> list[tuple[str, int]]:
            if not lease:
                _set_free(db, worker, time, lapsed=False)
                self._presence.forget(db, worker)
                return []
            prolong(db, worker, until)
            self._presence.beat(db, worker, time)
            found = db.execute("select run_id, op from jobs where worker = ? and woken", (worker,)).fetchall()
            if found:
                db.execute("delete from jobs where worker = ? and woken = 2", (worker,))
                db.execute("update jobs set woken = 0 where worker = ? and woken", (worker,))
            return found

        found = self._renewals.write(operation)
        if not lease:
            self._presence.leave(worker)
        return found

    async def due(self) -> datetime | None:
        """Return when `claim` may next find a job; see `Storage.due`."""

        def operation(db: sqlite3.Connection) -> Any:
            return db.execute(
                "select min(at) from (select min(due) as at from jobs where worker is null and due is not null "
                "union all select min(until) from workers where exists (select 1 from jobs where worker = workers.id))"
            ).fetchone()[0]

        earliest = await self._database.submit(operation, writes=False)
        return None if earliest is None else time_of(earliest)


def _write(path: str, append: Append, data: str, held: HeldRow | None, db: sqlite3.Connection) -> int:
    return Write(path, append, data, held)(db)


def _history(row: tuple[Any, ...], packed: list[Any], after: int = 0) -> History:
    run = run_of(row)
    if after == 0 and (not packed or packed[0][0] != 1):
        msg = f"the history of run {run.id!r} is damaged: its first events are missing"
        raise DamagedHistory(msg)
    return run, events_of(run.id, packed, after)


def _call(run_id: str, op: int, data: Any) -> StepCall | None:
    try:
        return wire.loads_call(data)
    except Exception as error:  # noqa: BLE001 -- one damaged job must not keep the others from being done
        logger.warning("the data of job %s of run %s is damaged: %s", op, run_id, error)
        return None


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def _set_free(db: sqlite3.Connection, worker: str, now: int, *, lapsed: bool) -> None:
    """Make the jobs of a worker that was lost (*lapsed*), or stops, free and due."""
    db.execute("delete from jobs where worker = ? and woken = 2", (worker,))
    freed = "update jobs set worker = null, due = ?, lapsed = lapsed or ?, woken = 0 where worker = ?"
    db.execute(freed, (now, lapsed, worker))
    db.execute("delete from workers where id = ?", (worker,))


def _position(cursor: str) -> tuple[int, str]:
    try:
        created, run_id = json.loads(cursor)
        return int(created), str(run_id)
    except (ValueError, TypeError) as error:
        msg = f"{cursor!r} is not a cursor of this storage; use the one that came with the page before"
        raise ConfigError(msg) from error
