"""Writes leases on a connection of their own and the caller's thread: no read and no other write goes before them."""

from __future__ import annotations

import os
import sqlite3
import threading
from typing import TypeVar

from attrs import define, field

from pyworkflow_sqlite.connection import insist
from pyworkflow_sqlite.database import Database, Operation
from pyworkflow_sqlite.files import closing

T = TypeVar("T")


@define(eq=False)
class Renewals:
    """The connection by which the leases of one process are renewed."""

    database: Database
    _connection: sqlite3.Connection | None = field(default=None, init=False)
    _parents: list[sqlite3.Connection] = field(factory=list, init=False)  # closing them here would drop locks there
    _pid: int = field(default=0, init=False)
    _in_use: threading.Lock = field(factory=threading.Lock, init=False)

    def write(self, operation: Operation[T]) -> T:
        """Execute *operation* in a transaction; blocks while others keep the file locked.

        Raises:
            StorageError: The file cannot be written, or is not the one that was opened any more.
        """
        self.database.insist_open()
        if self._pid != os.getpid():
            if self._connection is not None:
                self._parents.append(self._connection)
            self._connection, self._pid, self._in_use = None, os.getpid(), threading.Lock()
        with self._in_use:
            self.database.check()
            if self._connection is None:
                with closing:
                    self._connection = self._connect()
            return self.database.write_by(self._connection, operation)

    def _connect(self) -> sqlite3.Connection:
        path, patience = self.database.path, self.database.patience
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        insist(
            path, lambda: connection.execute("pragma synchronous = normal"), patience
        )  # it need not outlive the power
        return connection

    def close(self) -> None:
        """Close the connection; blocks."""
        if self._connection is not None and self._pid == os.getpid():
            with self._in_use, closing:
                self._connection.close()
                self._connection = None
