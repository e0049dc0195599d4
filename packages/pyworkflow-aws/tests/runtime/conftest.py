from __future__ import annotations

import itertools
import logging

import pytest

from pyworkflow import App
from pyworkflow_aws.durable.function import durable_function
from pyworkflow_aws.testing import Endpoint, InProcess

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    """Some that no AWS would take: nothing here may reach one."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    logging.getLogger("aws_durable_execution_sdk_python").setLevel(logging.CRITICAL)
    logging.getLogger("pyworkflow_aws.testing").setLevel(logging.ERROR)


@pytest.fixture(scope="session")
def endpoint():
    with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def make_app(endpoint):
    """Make apps whose runs are carried out by a function of their own, in this process."""
    name = f"function-{next(_numbers)}"

    def make(**settings):
        app = App(
            default_runtime="durable-lambda",
            aws_endpoint_url=endpoint.url,
            aws_region="us-east-1",
            aws_function=name,
            **settings,
        )
        if name not in endpoint.functions:
            serving = App(aws_endpoint_url=endpoint.url, aws_region="us-east-1", aws_function=name, **settings)
            runtime = serving.runtime("durable-lambda")
            endpoint.functions[name] = InProcess(durable_function(serving, runtime.settings, runtime.clients))
        app.function = endpoint.functions[name]
        return app

    yield make
    endpoint.functions.pop(name, None)
