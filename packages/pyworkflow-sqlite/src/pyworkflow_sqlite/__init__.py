"""SQLite storage for pyworkflow: one file, any number of processes on one host."""

from pyworkflow_sqlite.storage import SQLiteStorage

__all__ = ["SQLiteStorage"]
