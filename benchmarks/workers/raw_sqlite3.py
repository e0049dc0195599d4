"""The limit of A: plain `sqlite3`, one row a commit, in the thread that asks."""

import sqlite3
import sys
import time

from measure import emit

COMMITS = 2000


def main(synchronous: str) -> None:
    """Commit row after row."""
    db = sqlite3.connect("raw.db", isolation_level=None)
    db.execute("pragma journal_mode = wal")
    db.execute(f"pragma synchronous = {synchronous}")
    db.execute("create table events (run text, seq integer, data text, primary key (run, seq)) without rowid")
    payload = "x" * 200
    started = time.perf_counter()
    for seq in range(COMMITS):
        db.execute("begin immediate")
        db.execute("insert into events values ('run', ?, ?)", (seq, payload))
        db.execute("commit")
    emit(per_second=COMMITS / (time.perf_counter() - started))


main(sys.argv[1])
