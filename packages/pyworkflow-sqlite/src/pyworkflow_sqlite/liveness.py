"""Tells at once that a process on this machine is dead: the system takes its locks away.

Each worker that holds a lease holds a lock on one byte of a file beside the database, at a place that its id gives.
Who can lock that byte knows that the worker's process is gone. POSIX locks belong to a process and a file, and closing
any descriptor of the file drops them all, so there is one descriptor a file and process, and it stays open.
"""

from __future__ import annotations

import os
import threading
from hashlib import blake2b

try:
    import fcntl
except ImportError:  # pragma: no cover -- Windows: there the lease alone counts
    fcntl = None  # type: ignore[assignment]


class Liveness:
    """The workers of one database file, as far as this process can tell."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None
        self._mine: set[str] = set()  # a process's own locks never stand in its way
        self._guard = threading.Lock()

    def enter(self, worker: str) -> None:
        """Show that *worker* lives; to be called before its lease is written."""
        if fcntl is None or worker in self._mine:
            return
        with self._guard:
            fcntl.lockf(self._open(), fcntl.LOCK_EX, 1, _place(worker))
            self._mine.add(worker)

    def leave(self, worker: str) -> None:
        """Show that *worker* is gone."""
        if fcntl is None:
            return
        with self._guard:
            if worker in self._mine:
                self._mine.discard(worker)
                fcntl.lockf(self._open(), fcntl.LOCK_UN, 1, _place(worker))

    def is_dead(self, worker: str) -> bool:
        """Whether the process of *worker* is known to be gone."""
        if fcntl is None or worker in self._mine:
            return False
        with self._guard:
            fd = self._open()
            try:
                fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _place(worker))
            except OSError:
                return False
            fcntl.lockf(fd, fcntl.LOCK_UN, 1, _place(worker))
            return True

    def _open(self) -> int:
        if self._fd is None:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._fd

    def forget(self) -> None:
        """Hold nothing any more: this is a forked child, and locks stayed with the parent."""
        self._mine.clear()
        self._guard = threading.Lock()


_known: dict[str, Liveness] = {}


def liveness(database: str) -> Liveness:
    """Return the one `Liveness` of a database file in this process."""
    path = os.path.realpath(database) + "-workers"
    return _known.setdefault(path, Liveness(path))


def _place(worker: str) -> int:
    return int.from_bytes(blake2b(worker.encode(), digest_size=7).digest(), "big")


def _after_fork() -> None:
    for known in _known.values():
        known.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
