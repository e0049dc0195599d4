"""The layout of the file, as numbered migrations."""

from __future__ import annotations

import sqlite3

from pyworkflow.errors import StorageError

APPLICATION_ID = 0x70796677  # "pyfw": tells our files from those of other programs

_FIRST = """
create table runs (
    id text primary key,
    workflow text not null,
    status text not null,
    created_at integer not null,          -- microseconds since 1970, UTC, as all times
    ended_at integer,
    idempotency_key text unique,
    parent text
) without rowid;
create index runs_by_time on runs (created_at, id);
create index runs_by_end on runs (ended_at) where ended_at is not null;

create table events (
    run_id text not null,
    seq integer not null,                 -- the number of the first event of one append
    n integer not null,                   -- how many it holds
    data text not null,
    primary key (run_id, seq)
) without rowid;

create table jobs (
    run_id text not null,
    op integer not null,
    workflow text not null,
    queue text not null,
    data text,
    due integer,                          -- of a free job; null: only once somebody wakes the run
    worker text,                          -- who holds it; null: nobody
    epoch integer not null,
    lapsed integer not null default 0,    -- the holder before was lost
    recoveries integer not null default 0,
    woken integer not null default 0,     -- 1: somebody wrote to the run while the job was held; 2: nobody wants it
    primary key (run_id, op)
) without rowid;
create index jobs_free on jobs (due) where worker is null and due is not null;
create index jobs_held on jobs (worker) where worker is not null;

create table hooks (
    token text primary key,               -- SHA-256 of the token
    run_id text not null,
    op integer not null,
    name text not null,
    many integer not null
) without rowid;
create index hooks_of_run on hooks (run_id, op);

create table attributes (
    run_id text not null,
    name text not null,
    value text not null,                  -- JSON
    primary key (run_id, name)
) without rowid;
create index attributes_by_value on attributes (name, value, run_id);

create table workers (
    id text primary key,
    until integer not null                -- its lease, on all jobs that it holds
) without rowid;
"""

_PRESENCE = """
create table presence (                   -- of workers, beside their leases
    worker text primary key,
    host text not null,
    pid integer not null,
    since integer not null,
    beat integer not null,                -- the last heartbeat
    lock_file text not null               -- device and inode of the file that it has its lock on
) without rowid;
"""

MIGRATIONS = (_FIRST, _PRESENCE)


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the file to the newest layout, within a transaction that the caller holds.

    Raises:
        StorageError: The file is of another program, or of a newer version.
    """
    version = connection.execute("pragma user_version").fetchone()[0]
    owner = connection.execute("pragma application_id").fetchone()[0]
    if owner != APPLICATION_ID and (owner or connection.execute("select 1 from sqlite_master").fetchone()):
        msg = f"{path} is a SQLite database of another program; give pyworkflow a file of its own"
        raise StorageError(msg)
    if version > len(MIGRATIONS):
        msg = (
            f"{path} was written by a newer version (layout {version}; this one knows up to {len(MIGRATIONS)}): "
            "upgrade the package, or use the file that the older version wrote"
        )
        raise StorageError(msg)
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        for statement in _statements(script):
            connection.execute(statement)
        connection.execute(f"pragma user_version = {number}")
    if version == 0:
        connection.execute(f"pragma application_id = {APPLICATION_ID}")


def _statements(script: str) -> list[str]:
    """Split a script; `executescript` would commit the transaction first."""
    statements, current = [], ""
    for line in script.splitlines():
        current += line + "\n"
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements
