"""The local runtime on DynamoDB. That machines may be rebuilt from the table at any time is among its faults."""

from __future__ import annotations

import pytest

from pyworkflow import App
from pyworkflow.testing.runtime import DurableConformance

pytestmark = pytest.mark.timeout(120)


class TestLocalRuntime(DurableConformance):
    @pytest.fixture
    def make_app(self, aws, new_table):
        name = new_table()
        return lambda: App(
            storage=f"dynamodb://{name}", default_durable=True, default_retry="fixed?delay=1ms", default_runtime="local"
        )
