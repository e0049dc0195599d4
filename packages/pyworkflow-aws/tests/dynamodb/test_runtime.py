"""The local runtime on DynamoDB, with machines kept and always rebuilt from the table."""

from __future__ import annotations

import pytest

from pyworkflow import App
from pyworkflow.testing.runtime import DurableConformance

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def app_on(aws, new_table):
    name = new_table()

    def make(runtime):
        return App(
            storage=f"dynamodb://{name}", default_durable=True, default_retry="fixed?delay=1ms", default_runtime=runtime
        )

    return make


class TestKept(DurableConformance):
    @pytest.fixture
    def make_app(self, app_on):
        return lambda: app_on("local")


class TestAlwaysRebuilt(DurableConformance):
    @pytest.fixture
    def make_app(self, app_on):
        return lambda: app_on("local?kept=0")
