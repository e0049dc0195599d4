"""The local runtime, durable on memory with machines kept and always rebuilt, and transient."""

from __future__ import annotations

import pytest

from pyworkflow import App
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.testing.runtime import DurableConformance, RuntimeConformance


class TestKept(DurableConformance):
    @pytest.fixture
    def make_app(self):
        storage = MemoryStorage()
        return lambda: App(storage=storage, default_durable=True, default_retry="fixed?delay=1ms")


class TestAlwaysRebuilt(DurableConformance):
    @pytest.fixture
    def make_app(self):
        storage = MemoryStorage()
        return lambda: App(
            storage=storage,
            default_durable=True,
            default_retry="fixed?delay=1ms",
            default_runtime="local?kept=0&replay=true",
        )


class TestTransient(RuntimeConformance):
    @pytest.fixture
    def make_app(self):
        return lambda: App(default_durable=False, default_retry="fixed?delay=1ms")
