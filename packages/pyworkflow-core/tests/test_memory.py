"""The memory storage keeps the contract."""

from __future__ import annotations

import pytest

from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.testing.storage import StorageConformance


class TestMemoryStorage(StorageConformance):
    shares_data = False

    @pytest.fixture
    def storage_factory(self):
        return MemoryStorage
