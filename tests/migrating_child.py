"""A process that opens a database with one migration more than there is, unless it dies in the middle of that.

Usage: migrating_child.py DATABASE STATEMENT. It kills itself right before that statement of the transaction, the commit
being the last one; with 0 it prints how many there were.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from typing import Any

from pyworkflow_sqlite import SQLiteStorage, connection, database, schema

FUTURE = """
create table more (run_id text primary key, length integer not null) without rowid;
insert into more select id, (select sum(n) from events where run_id = runs.id) from runs;
alter table runs add column priority integer not null default 0;
update runs set priority = 1;
create index runs_by_priority on runs (priority);
drop index jobs_held;
delete from hooks;
"""

seen = 0
dies_at = int(sys.argv[2])


def dying(db: sqlite3.Connection, path: str) -> None:
    """Migrate, and count statements from here on."""

    def count(_: str) -> None:
        global seen  # noqa: PLW0603 -- a script
        seen += 1
        if seen == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    db.set_trace_callback(count)
    migrate(db, path)


def settled(self: database.Database, db: sqlite3.Connection, *act: Any) -> Any:
    """Commit, and count no more."""
    result = commit(self, db, *act)
    db.set_trace_callback(None)
    return result


migrate, commit = schema.migrate, database.Database._commit
schema.MIGRATIONS = (*schema.MIGRATIONS, FUTURE)
connection.migrate, database.Database._commit = dying, settled


async def main() -> None:
    """Open the database."""
    storage = SQLiteStorage(sys.argv[1])
    await storage.open()
    print(seen)
    await storage.close()


asyncio.run(main())
