"""The local runtime on SQLite, with machines kept and always rebuilt from the file."""

from __future__ import annotations

import pytest

from pyworkflow import App
from pyworkflow.testing.runtime import DurableConformance


class TestKept(DurableConformance):
    @pytest.fixture
    def make_app(self, tmp_path):
        return lambda: App(
            storage=f"sqlite:///{tmp_path}/runs.db", default_durable=True, default_retry="fixed?delay=1ms"
        )


class TestAlwaysRebuilt(DurableConformance):
    @pytest.fixture
    def make_app(self, tmp_path):
        return lambda: App(
            storage=f"sqlite:///{tmp_path}/runs.db",
            default_durable=True,
            default_retry="fixed?delay=1ms",
            default_runtime="local?kept=0&replay=true",
        )
