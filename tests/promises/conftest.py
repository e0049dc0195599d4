"""Storages in memory and on SQLite, and applications whose workflows are kept, or rebuilt from history each time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pyworkflow import App
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.ports import Storage
from pyworkflow_sqlite.storage import SQLiteStorage

MakeApp = Callable[[], App]


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return MemoryStorage() if request.param == "memory" else SQLiteStorage(tmp_path / "runs.db")


@pytest.fixture(
    params=["local?sweep=20ms&lease=200ms", "local?sweep=20ms&lease=200ms&kept=0&replay=true"], ids=["kept", "rebuilt"]
)
def make_app(request: pytest.FixtureRequest, storage: Storage) -> MakeApp:
    return lambda: App(
        storage=storage, default_durable=True, default_retry="fixed?delay=1ms", default_runtime=request.param
    )
