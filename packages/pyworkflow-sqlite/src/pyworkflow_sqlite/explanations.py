"""Errors of SQLite as errors of the storage contract, with what to do about them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from pyworkflow.errors import StorageError

_ADVICE = {
    "SQLITE_FULL": "the disk is full; free some space, nothing acknowledged is lost",
    "SQLITE_READONLY": "it cannot be written; check the permissions of the file and of its folder",
    "SQLITE_CANTOPEN": "it cannot be opened; check that its folder exists and that this user may write there",
    "SQLITE_PERM": "it cannot be opened; check its permissions",
    "SQLITE_IOERR": "reading or writing failed; check the disk, nothing acknowledged is lost",
    "SQLITE_CORRUPT": "the file is damaged; restore it from a backup, or salvage it with the sqlite3 command .recover",
    "SQLITE_NOTADB": "the file is not a SQLite database; give pyworkflow a file of its own",
    "SQLITE_TOOBIG": "a value is larger than SQLite takes",
}


def explained(path: str, error: sqlite3.Error) -> StorageError:
    """Return what to raise for *error*."""
    name = name_of(error)
    advice = next((text for prefix, text in _ADVICE.items() if name.startswith(prefix)), "see the cause")
    return StorageError(f"{path}: {error}: {advice}")


def name_of(error: sqlite3.Error) -> str:
    """Return SQLite's name of an error, such as ``SQLITE_BUSY``."""
    return getattr(error, "sqlite_errorname", "") or ""


def unusable(path: str, error: Exception) -> StorageError:
    """Return what to raise for a file that cannot be opened."""
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        return StorageError(f"{path} cannot be opened: the folder {folder} does not exist; create it first")
    if Path(path).is_dir():
        return StorageError(f"{path} cannot be opened: it is a folder; give the path of a file in it")
    return StorageError(f"{path} cannot be opened: {error}; check the permissions of the file and of its folder")
