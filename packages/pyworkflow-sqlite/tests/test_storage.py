"""The SQLite storage keeps the contract."""

from __future__ import annotations

import pytest

from pyworkflow.testing.storage import StorageConformance
from pyworkflow_sqlite import SQLiteStorage


class TestSQLiteStorage(StorageConformance):
    @pytest.fixture
    def storage_factory(self, tmp_path):
        return lambda: SQLiteStorage(tmp_path / "runs.db")


class TestSQLiteStorageNormal(StorageConformance):
    @pytest.fixture
    def storage_factory(self, tmp_path):
        return lambda: SQLiteStorage(tmp_path / "runs.db", synchronous="normal")
