"""A disk for SQLite that writes down what is done to it, fails when told to, and can have its power cut.

SQLite's own files are reached through a virtual file system in Python, by apsw; `connect` makes a connection of it look
like one of `sqlite3`, as far as the storage uses that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import apsw
from attrs import define, field, frozen

SECTOR = 512

FULL, BROKEN, UNSYNCED = "the disk is full", "writing fails", "syncing fails"


@frozen
class Change:
    """Something that was done to a file: *data* written at *offset*, or cut to *offset*, or removed, or synced."""

    kind: str
    name: str
    offset: int = 0
    data: bytes = b""


@define(eq=False)
class Disk:
    """Files as SQLite leaves them.

    Attributes:
        changes: All that was done, in order.
        fails: Told what is about to be done; what it returns other than None is how that fails.
        failed: How often something did fail.
    """

    changes: list[Change] = field(factory=list)
    fails: Callable[[Change], str | None] = lambda _: None
    failed: int = 0

    def does(self, change: Change) -> None:
        """Note a change before it is made, or let it fail."""
        what = self.fails(change)
        if what is not None:
            self.failed += 1
            raise _error(what)
        self.changes.append(change)

    def cut_power(self, after: int, chance: Random, folder: Path) -> None:
        """Leave in *folder* what is on the disk if the power goes after that many changes.

        What was synced is there. Of what was written since, each sector is there or is not, as *chance* has it.
        """
        files: dict[str, bytearray] = {}
        loose: dict[str, list[Change]] = {}
        for change in self.changes[:after]:
            if change.kind == "remove":
                files.pop(change.name, None)
                loose.pop(change.name, None)
            elif change.kind == "sync":
                _apply(files.setdefault(change.name, bytearray()), loose.pop(change.name, []))
            else:
                loose.setdefault(change.name, []).append(change)
        for name, changes in loose.items():
            likely = chance.choice([0.0, 0.5, 0.9, 1.0])
            kept = [part for change in changes for part in _sectors(change) if chance.random() < likely]
            _apply(files.setdefault(name, bytearray()), kept)
        for name, content in files.items():
            (folder / name).write_bytes(content)


def _sectors(change: Change) -> Iterable[Change]:
    if change.kind != "write":
        return [change]
    at, data = change.offset, change.data
    cuts = [0, *range(SECTOR - at % SECTOR, len(data), SECTOR), len(data)]
    return [Change("write", change.name, at + a, data[a:b]) for a, b in pairwise(cuts) if b > a]


def _apply(content: bytearray, changes: Iterable[Change]) -> None:
    for change in changes:
        if change.kind == "cut":
            del content[change.offset :]
            continue
        if len(content) < change.offset:
            content.extend(bytes(change.offset - len(content)))
        content[change.offset : change.offset + len(change.data)] = change.data


def _error(what: str) -> Exception:
    if what == FULL:
        return apsw.FullError(what)
    error = apsw.IOError(what)
    error.extendedresult = apsw.SQLITE_IOERR_FSYNC if what == UNSYNCED else apsw.SQLITE_IOERR_WRITE
    return error


class _Files(apsw.VFS):
    def __init__(self, name: str, disk: Disk) -> None:
        super().__init__(name, "")
        self.disk = disk

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802 -- SQLite's name
        return _File(name, flags, self.disk)

    def xDelete(self, path: str, sync_dir: bool) -> None:  # noqa: N802, FBT001 -- SQLite's
        self.disk.does(Change("remove", Path(path).name))
        super().xDelete(path, sync_dir)


class _File(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], disk: Disk) -> None:
        super().__init__("", name, flags)
        path = name if isinstance(name, str) or name is None else name.filename()
        self.name = Path(path or "temporary").name
        self.disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 -- SQLite's name
        self.disk.does(Change("write", self.name, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802 -- SQLite's name
        self.disk.does(Change("cut", self.name, size))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802 -- SQLite's; the machine's own disk need not sync
        self.disk.does(Change("sync", self.name))


@define(eq=False)
class _Rows:
    """What a statement gave, all of it."""

    rows: list[tuple[Any, ...]]
    rowcount: int = -1

    def fetchone(self) -> tuple[Any, ...] | None:
        return self.rows.pop(0) if self.rows else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        rows, self.rows = self.rows, []
        return rows

    def __iter__(self) -> Any:
        return iter(self.fetchall())


class _Connection:
    """What the storage uses of `sqlite3.Connection`."""

    def __init__(self, path: str, vfs: str) -> None:
        self._inner = _translated(apsw.Connection, path, vfs=vfs)
        self.execute("pragma locking_mode = exclusive")  # or WAL would need memory that files in Python do not share
        self.execute("pragma wal_autocheckpoint = 20")  # so that the file itself is written too

    def execute(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> _Rows:
        rows = _translated(lambda: list(self._inner.execute(sql, values or None)))
        writes = sql.split(None, 1)[0] in {"insert", "update", "delete"}
        return _Rows(rows, self._inner.changes() if writes else -1)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> _Rows:
        before = self.total_changes
        done = _translated(lambda: list(self._inner.executemany(sql, rows)))
        return _Rows(done, self.total_changes - before)

    @property
    def total_changes(self) -> int:
        return self._inner.total_changes()

    @property
    def in_transaction(self) -> bool:
        return self._inner.in_transaction

    def close(self) -> None:
        with suppress(apsw.Error):  # tidying up the log may fail, which sqlite3 does not tell of
            self._inner.close()


def _translated(act: Callable[..., Any], *args: Any, **options: Any) -> Any:
    try:
        return act(*args, **options)
    except apsw.Error as error:
        result = getattr(error, "extendedresult", 0) or getattr(error, "result", 0)
        name = apsw.mapping_extended_result_codes.get(result) or apsw.mapping_result_codes.get(result & 255)
        kind = sqlite3.IntegrityError if isinstance(error, apsw.ConstraintError) else sqlite3.OperationalError
        translated = kind(str(error))
        translated.sqlite_errorname = name if isinstance(name, str) else ""
        raise translated from error


class FaultySqlite:
    """Stands in for the module `sqlite3` in the storage."""

    def __init__(self, disk: Disk) -> None:
        self._name = f"faulty-{id(disk)}"
        self._files = _Files(self._name, disk)

    def connect(self, path: str, **_: Any) -> _Connection:
        return _Connection(path, self._name)

    def __getattr__(self, name: str) -> Any:
        return getattr(sqlite3, name)
