"""The files of an open database: keeps SQLite's locks on them, and notices that they were removed or replaced.

SQLite has POSIX locks, and any descriptor of the file that is closed in the process drops them all (a step that copies
the folder does that). Another process then believes that it is the last one, and deletes the log under this one. So a
descriptor of ours holds read locks on the two bytes by which others see that the database is open, by locks that
nobody else drops. Closing that descriptor would drop SQLite's, so there is one a file and process, closed after the
last connection. Without open-file-description locks (not Linux) only `check` notices it.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from attrs import define, field

from pyworkflow.errors import StorageError
from pyworkflow_sqlite.liveness import file_id, share, unlock

_OPEN = {"": 0x40000002, "-shm": 128}
"""A byte that SQLite locks while a database is open, of each file; see "File Locking" and "WAL-mode" in its docs."""


class FilesGone(StorageError):
    """The files were removed, moved or replaced while the database was open."""


@define(eq=False)
class _Kept:
    """The descriptors of this process."""

    fds: dict[str, int] = field(factory=dict)
    users: int = 0
    pid: int = field(factory=os.getpid)


_kept: dict[tuple[int, int], _Kept] = {}
closing = threading.RLock()
"""Held while a connection is opened or closed."""


@define(eq=False)
class Files:
    """The files of one open database.

    Args:
        path: The database.
    """

    path: str
    _database: tuple[int, int] | None = field(default=None, init=False)
    _log: tuple[int, int] | None = field(default=None, init=False)

    def keep(self) -> None:
        """Keep the locks, and remember which files they are; call it once the connection is open, under `closing`."""
        self._database = found = file_id(self.path)
        self._log = file_id(self.path + "-wal")
        if found is None:
            return
        kept = _kept.get(found)
        if kept is None or kept.pid != os.getpid():
            kept = _kept[found] = _Kept()
        kept.users += 1
        for suffix, place in _OPEN.items():
            if suffix not in kept.fds and file_id(self.path + suffix) is not None:
                kept.fds[suffix] = fd = os.open(self.path + suffix, os.O_RDWR | os.O_CLOEXEC)
                with suppress(BlockingIOError):  # the connection has the file for itself alone
                    share(fd, place)

    def release(self) -> list[int]:
        """Release the locks unless others here need them; return what to close after the connection."""
        kept = None if self._database is None else _kept.get(self._database)
        if kept is None or kept.pid != os.getpid():
            return []
        kept.users -= 1
        if kept.users:
            return []
        assert self._database is not None  # noqa: S101 -- it was kept
        del _kept[self._database]
        for suffix, fd in kept.fds.items():
            unlock(fd, _OPEN[suffix])
        return list(kept.fds.values())

    def check(self) -> None:
        """Check that the files are those that were opened.

        Raises:
            FilesGone: They are not.
        """
        if file_id(self.path) != self._database:
            gone = self.path
        else:
            log = file_id(self.path + "-wal")
            if log == self._log:
                return
            if self._log is None:
                self._log = log
                return
            gone = self.path + "-wal"
        msg = (
            f"{gone} was removed, moved or replaced while this process had it open, so nothing more is written: it "
            "would be lost; put the file back, or restart this process on the one that is there"
        )
        raise FilesGone(msg)


def _after_fork() -> None:
    for kept in _kept.values():
        for fd in kept.fds.values():
            os.close(fd)
    _kept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
