"""Connections to the file, which is made, or brought to the newest layout, first."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from pyworkflow.errors import StorageBusy
from pyworkflow_sqlite.explanations import explained, name_of, unusable
from pyworkflow_sqlite.schema import migrate

T = TypeVar("T")


def connect(
    path: str, synchronous: str, patience: float, commit: Callable[[sqlite3.Connection], object]
) -> sqlite3.Connection:
    """Return a new connection to the file at *path*.

    Args:
        path: The file; made if it is not there, readable by its owner only.
        synchronous: ``full`` or ``normal``.
        patience: Seconds to wait for others that keep the file locked.
        commit: Commits what brings the file to the newest layout.

    Raises:
        StorageError: The file cannot be used; the message says why.
    """
    try:
        if not os.path.exists(path):  # noqa: PTH110 -- a file that others use is not opened here: closing drops their locks
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise unusable(path, error) from error
    try:
        insist(path, lambda: connection.execute("pragma journal_mode = wal"), patience)
        connection.execute(f"pragma synchronous = {synchronous}")
        begin(path, connection, patience)
        try:
            migrate(connection, path)
            commit(connection)
        except BaseException:
            connection.execute("rollback")
            raise
    except sqlite3.Error as error:
        connection.close()
        raise explained(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def begin(path: str, connection: sqlite3.Connection, patience: float) -> None:
    """Begin a transaction that writes."""
    insist(path, partial(connection.execute, "begin immediate"), patience)


def insist(path: str, act: Callable[[], T], patience: float) -> T:
    """Do *act*, again and again while others hold the lock: SQLite's own waiting is not fair.

    Raises:
        StorageBusy: They held it for *patience* seconds.
    """
    deadline, pause = time.monotonic() + patience, 0.0005
    while True:
        try:
            return act()
        except sqlite3.OperationalError as error:
            if not name_of(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise
            if time.monotonic() >= deadline:
                msg = (
                    f"{path} was locked by other processes for {patience:g} s; nothing was written, and "
                    "trying again is safe"
                )
                raise StorageBusy(msg) from error
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter
            pause = min(2 * pause, 0.02)
