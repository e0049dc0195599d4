"""The journal: a line for each transaction, with a checksum, synced before it counts; and the lock around it."""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyworkflow.errors import StorageError

LAYOUT = 1
"""The newest layout of the journal that this version reads, and the one it writes."""

_HEADER = {"form": "pyworkflow-files", "layout": LAYOUT}

Record = Sequence[Sequence[Any]]
"""The changes of a transaction, as JSON."""


class Journal:
    """The files of a storage in one folder; one instance is used by one thread at a time.

    Args:
        folder: Where they are; it is made, for its owner only.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "journal"
        self.size = 0
        self._lock = -1
        self._fd = -1
        self._read = 0  # up to where its lines are known here

    def open(self) -> None:
        """Open the lock; the journal itself is opened once that is held."""
        folder = self.path.parent
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._lock = os.open(folder / "lock", flags, 0o600)
        except OSError as error:
            msg = (
                f"{folder} cannot be used: {error.strerror}; give a folder that this user may write, in one that exists"
            )
            raise StorageError(msg) from error

    def close(self) -> None:
        """Let go of everything."""
        for fd in {self._lock, self._fd} - {-1}:
            os.close(fd)
        self._lock = self._fd = -1

    @contextmanager
    def locked(self, *, exclusive: bool) -> Iterator[None]:
        """Hold the lock: alone in order to write, with others in order to read."""
        fcntl.flock(self._lock, fcntl.LOCK_EX if exclusive or not self.path.exists() else fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    # -- under the lock ------------------------------------------------------------------

    def begins_anew(self, *, afresh: bool) -> bool:
        """Make the journal if there is none; whether `news` begins with its first transaction again.

        It does where the journal is not the one that was read so far, as somebody has replaced it.

        Args:
            afresh: Read it from the beginning in any case.
        """
        if not self.path.exists():
            self.replace([])
        there = self.path.stat()
        if self._fd >= 0 and os.fstat(self._fd).st_ino == there.st_ino and not afresh:
            return False
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._read = 0
        return True

    def news(self, *, exclusive: bool) -> Iterator[Record]:
        """Yield the transactions that were added since; cut off what a crash left half written.

        Raises:
            StorageError: The journal is damaged, or of a newer version.
        """
        self.size = os.fstat(self._fd).st_size
        if self.size == self._read:
            return
        data = os.pread(self._fd, self.size - self._read, self._read)
        lines = [line + b"\n" for line in data.split(b"\n")]
        lines[-1] = lines[-1][:-1]
        if not lines[-1]:
            lines.pop()
        for number, line in enumerate(lines):
            value = _value_of(line)
            if value is None:
                if number < len(lines) - 1:
                    msg = f"{self.path} is damaged at byte {self._read}: restore it from a backup"
                    raise StorageError(msg)
                if exclusive:  # it was never acknowledged
                    os.ftruncate(self._fd, self._read)
                    self.size = self._read
                return
            if self._read:
                yield value
            else:
                self._check(value)
            self._read += len(line)

    def _check(self, header: Any) -> None:
        layout = header.get("layout") if isinstance(header, dict) else None
        if not isinstance(layout, int):
            msg = f"{self.path} is not a journal of pyworkflow-files; give it a folder of its own"
            raise StorageError(msg)
        if layout > LAYOUT:
            msg = f"{self.path} was written by a newer version (layout {layout}; this one reads {LAYOUT}): upgrade"
            raise StorageError(msg)

    def add(self, record: Record) -> None:
        """Write a transaction; it lasts once this returns.

        Raises:
            StorageError: It could not be written, and counts for nothing.
        """
        line = _line(record)
        try:
            _write(self._fd, line, self._read)
            os.fsync(self._fd)
        except OSError as error:
            with suppress(OSError):  # else the next one who writes cuts it off
                os.ftruncate(self._fd, self._read)
            msg = f"{self.path} cannot be written: {error.strerror}; nothing acknowledged is lost"
            raise StorageError(msg) from error
        self._read = self.size = self._read + len(line)

    def replace(self, records: Iterable[Record]) -> None:
        """Put a journal of these transactions in the place of this one, whole or not at all."""
        new = self.path.with_name("journal.new")
        try:
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                at = 0
                for value in (_HEADER, *records):
                    line = _line(value)
                    _write(fd, line, at)
                    at += len(line)
                os.fsync(fd)
            finally:
                os.close(fd)
            new.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            msg = f"{self.path} cannot be written: {error.strerror}; nothing acknowledged is lost"
            raise StorageError(msg) from error


def _line(value: Any) -> bytes:
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _value_of(line: bytes) -> Any:
    """Return what a line holds; None: it is not whole."""
    text = line[9:-1]
    if not line.endswith(b"\n") or line[:9] != b"%08x " % zlib.crc32(text):
        return None
    return json.loads(text)


def _write(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written
