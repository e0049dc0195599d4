"""Shows which workers of a database file live: the operating system drops a dead process's locks.

Each worker that holds a lease locks one byte of a file beside the database, at a place that its id gives. The locks are
open-file-description locks, which belong to one descriptor: closing another descriptor of the file in the same process
does not drop them. A system without them (macOS, the BSDs) has POSIX locks, which it does: there a program must not
open that file in a worker's process. Windows has neither; there the lease alone counts.
"""

from __future__ import annotations

import os
import struct
import threading
from enum import Enum
from hashlib import blake2b

try:
    import fcntl
except ImportError:  # pragma: no cover -- Windows
    fcntl = None  # type: ignore[assignment]

_FLOCK = "hhqqi0q"  # l_type, l_whence, l_start, l_len, l_pid


class Life(Enum):
    """What the operating system knows of a worker."""

    ALIVE = "its process holds its lock"
    DEAD = "its process is gone"
    UNKNOWN = "the lease alone counts"


class Liveness:
    """The workers of one database file, as far as this process can tell."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None
        self._file: tuple[int, int] | None = None
        self._mine: set[str] = set()  # a process's own locks never stand in its way
        self._guard = threading.Lock()

    def enter(self, worker: str) -> str:
        """Show that *worker* lives; call it before its lease is written, and at each beat.

        Returns:
            Which file the lock is on. Somebody may have removed the file; then this is a new one.
        """
        if fcntl is None:
            return ""
        with self._guard:
            fd = self._open()
            if worker not in self._mine:
                _lock(fd, fcntl.F_WRLCK, _place(worker))
                self._mine.add(worker)
            return self._name()

    def leave(self, worker: str) -> None:
        """Show that *worker* is gone."""
        if fcntl is None:
            return
        with self._guard:
            if worker in self._mine:
                self._mine.discard(worker)
                _lock(self._open(), fcntl.F_UNLCK, _place(worker))

    def life(self, worker: str, file: str | None) -> Life:
        """Return whether the process of *worker* lives, which locked its byte of *file*; None: of any file.

        A free byte of another file than that one shows nothing: a living worker locks it at its next beat.
        """
        if fcntl is None or worker in self._mine:
            return Life.UNKNOWN
        with self._guard:
            if _is_locked(self._open(), _place(worker)):
                return Life.ALIVE
            return Life.DEAD if file is None or file == self._name() else Life.UNKNOWN

    def _name(self) -> str:
        return "" if self._file is None else "{}:{}".format(*self._file)

    def _open(self) -> int:
        """Return the descriptor of the file that is there now, made if somebody removed it, with our locks on it."""
        if self._fd is not None and file_id(self._path) == self._file:
            return self._fd
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            for worker in self._mine:
                _lock(fd, fcntl.F_WRLCK, _place(worker))
        except BaseException:
            os.close(fd)
            raise
        before, self._fd = self._fd, fd
        stat = os.fstat(fd)
        self._file = stat.st_dev, stat.st_ino
        if before is not None:
            os.close(before)
        return fd

    def forget(self) -> None:
        """Hold nothing any more: this is a forked child, and the locks are the parent's."""
        if self._fd is not None:
            os.close(self._fd)  # a descriptor that stays open here would keep them after the parent's death
        self._fd = self._file = None
        self._mine.clear()
        self._guard = threading.Lock()


def file_id(path: str) -> tuple[int, int] | None:
    """Return device and inode of the file at *path*; None: there is none."""
    try:
        stat = os.stat(path)  # noqa: PTH116 -- at each beat and each transaction
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino


def share(fd: int, place: int) -> bool:
    """Lock a byte for reading, by a lock that belongs to *fd*; return whether the system has such locks."""
    if fcntl is None or not hasattr(fcntl, "F_OFD_SETLK"):
        return False
    _lock(fd, fcntl.F_RDLCK, place)
    return True


def unlock(fd: int, place: int) -> None:
    """Release what `share` locked."""
    _lock(fd, fcntl.F_UNLCK, place)


def _lock(fd: int, kind: int, place: int) -> None:
    if hasattr(fcntl, "F_OFD_SETLK"):
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, place, 1, 0))
    else:  # pragma: no cover -- not Linux
        how = {fcntl.F_WRLCK: fcntl.LOCK_EX, fcntl.F_RDLCK: fcntl.LOCK_SH, fcntl.F_UNLCK: fcntl.LOCK_UN}
        fcntl.lockf(fd, how[kind], 1, place)


def _is_locked(fd: int, place: int) -> bool:
    if hasattr(fcntl, "F_OFD_SETLK"):
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
        kind: int = struct.unpack_from("h", fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0]
        return kind != fcntl.F_UNLCK
    try:  # pragma: no cover -- not Linux
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, place)
    except OSError:  # pragma: no cover
        return True
    fcntl.lockf(fd, fcntl.LOCK_UN, 1, place)  # pragma: no cover
    return False  # pragma: no cover


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
