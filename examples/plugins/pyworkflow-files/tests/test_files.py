"""The storage keeps the contract, alone and under the local runtime."""

from __future__ import annotations

import pytest

from pyworkflow import App
from pyworkflow.testing.runtime import DurableConformance
from pyworkflow.testing.storage import StorageConformance
from pyworkflow_files import FileStorage


class TestFileStorage(StorageConformance):
    @pytest.fixture
    def storage_factory(self, tmp_path):
        return lambda: FileStorage(tmp_path / "runs")


class TestFileStorageWrittenAnew(StorageConformance):
    """With a journal that is replaced all the time."""

    @pytest.fixture
    def storage_factory(self, tmp_path):
        return lambda: FileStorage(tmp_path / "runs", compact=4000)


class TestLocalOnFiles(DurableConformance):
    @pytest.fixture
    def make_app(self, tmp_path):
        return lambda: App(storage=f"files:///{tmp_path}/runs", default_durable=True, default_retry="fixed?delay=1ms")
