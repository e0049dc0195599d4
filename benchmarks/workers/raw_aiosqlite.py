"""The limit of A for whoever goes through `aiosqlite`: the same row a commit, each statement a hop to its thread."""

import asyncio
import sys
import time

import aiosqlite
from measure import emit

COMMITS = 1000


async def main(synchronous: str) -> None:
    """Commit row after row."""
    async with aiosqlite.connect("raw.db", isolation_level=None) as db:
        await db.execute("pragma journal_mode = wal")
        await db.execute(f"pragma synchronous = {synchronous}")
        await db.execute("create table events (run text, seq integer, data text, primary key (run, seq)) without rowid")
        payload = "x" * 200
        started = time.perf_counter()
        for seq in range(COMMITS):
            await db.execute("begin immediate")
            await db.execute("insert into events values ('run', ?, ?)", (seq, payload))
            await db.execute("commit")
        emit(per_second=COMMITS / (time.perf_counter() - started))


asyncio.run(main(sys.argv[1]))
