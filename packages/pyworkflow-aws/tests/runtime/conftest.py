from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import logging
import os
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

import pyworkflow.backends.local  # noqa: F401 -- now: Python 3.11 does not compile in two threads at once
from pyworkflow import App
from pyworkflow.codec import Codec
from pyworkflow_aws.deploy.cloud.policy import Place, callers_policy, role_policy
from pyworkflow_aws.deploy.cloud.target import KINDS, Target
from pyworkflow_aws.durable.execution import steps
from pyworkflow_aws.durable.execution.function import durable_function
from pyworkflow_aws.testing import Endpoint, InProcess
from pyworkflow_aws.transient_lambda import run_in_function

_numbers = itertools.count(1)

LIVE = bool(os.environ.get("PYWORKFLOW_AWS_LIVE"))

if not LIVE:  # these need an account, and cost something
    collect_ignore = ["test_live.py"]


@pytest.fixture(autouse=True)
def lost_sandboxes(monkeypatch):
    """Let a step that raises an error called ``Lost`` be what a lost sandbox is like: nothing of it is recorded."""
    record = steps.failure_of

    def failure_of(error):
        if type(error).__name__ == "Lost":
            raise error
        return record(error)

    monkeypatch.setattr(steps, "failure_of", failure_of)


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    """Some that no AWS would take: nothing here may reach one, but for what is meant to."""
    if LIVE:
        return
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    logging.getLogger("aws_durable_execution_sdk_python").setLevel(logging.CRITICAL)
    logging.getLogger("pyworkflow_aws.testing").setLevel(logging.ERROR)


ACTIONS = {"Invoke": "InvokeFunction"}
"""How IAM calls those operations of Lambda that it has another name for."""


def actions(policy, service="lambda"):
    """Return what a policy allows of a service."""
    listed = {action for statement in policy["Statement"] for action in statement["Action"]}
    return {action.partition(":")[2] for action in listed if action.startswith(f"{service}:")}


def allow(clients, policy):
    """Refuse, as AWS does, what *policy* does not allow; return what the actions that are used will be in."""
    allowed, used = actions(policy), set()

    def check(model, **_):
        action = ACTIONS.get(model.name, model.name)
        used.add(action)
        if action not in allowed:
            message = f"User is not authorized to perform: lambda:{action}"
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": message}}, model.name)

    for client in (clients.functions(), clients.invoking()):
        client.meta.events.register("before-parameter-build", check)
    return used


def target(runtime):
    return Target(name="shop", kind=KINDS[runtime], module="shop", python="3.13")


HERE = Place("123456789012", "us-east-1")


@pytest.fixture(scope="session")
def endpoint():
    with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def make_transient(endpoint):
    """Make apps whose runs are invocations of a function of their own, in this process."""
    name = f"function-{next(_numbers)}"
    serving = App(default_retry="fixed?delay=1ms")
    serving.runtime("local")

    def handler(event, context):
        return run_in_function(serving, event, context)

    endpoint.functions[name] = InProcess(handler, durable=False, timeout=1e9)

    def make(options="", **settings):
        app = App(
            default_runtime=f"lambda{options}",
            aws_endpoint_url=endpoint.url,
            aws_region="us-east-1",
            aws_function=name,
            **settings,
        )
        app.function = endpoint.functions[name]
        allow(app.runtime().clients, callers_policy(target("lambda"), HERE))
        return app

    yield make
    endpoint.functions.pop(name, None)


@pytest.fixture
def make_app(endpoint):
    """Make apps whose runs are carried out by a function of their own, in this process.

    Neither they nor the function may do more than the policies say; what they used is in ``app.used``.
    """
    name, used = f"function-{next(_numbers)}", {}

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
            used["function"] = allow(runtime.clients, role_policy(target("durable-lambda"), HERE))
            endpoint.functions[name] = InProcess(durable_function(serving, runtime.settings, runtime.clients))
        app.function, app.used = endpoint.functions[name], used
        used["caller"] = allow(app.runtime().clients, callers_policy(target("durable-lambda"), HERE))
        return app

    yield make
    endpoint.functions.pop(name, None)


class Official:
    """AWS's local runner in this process: time is skipped, and every event goes through JSON, as it does in Lambda."""

    def __init__(self, monkeypatch, **settings):
        from aws_durable_execution_sdk_python_testing.executor import Executor
        from aws_durable_execution_sdk_python_testing.scheduler import Scheduler

        monkeypatch.setattr(Executor, "RETRY_BACKOFF_SECONDS", 0)  # of an invocation that failed
        stop = Scheduler.stop

        def stop_and_close(scheduler):
            stop(scheduler)
            scheduler._loop.close()  # which it leaves open

        monkeypatch.setattr(Scheduler, "stop", stop_and_close)
        self.app = App(aws_region="us-east-1", aws_function="f", **settings)
        runtime = self.app.runtime("durable-lambda")
        self.clients = runtime.clients
        self.function = durable_function(self.app, runtime.settings, runtime.clients)
        self.invocations = 0
        self.before = lambda: None

    def _handler(self, event, context):
        from aws_durable_execution_sdk_python.execution import (
            DurableExecutionInvocationInput,
            DurableExecutionInvocationInputWithClient,
        )

        self.invocations += 1
        self.before()
        plain = DurableExecutionInvocationInput.from_json_dict(json.loads(json.dumps(event.to_json_dict())))
        full = DurableExecutionInvocationInputWithClient.from_durable_execution_invocation_input(
            plain, event.service_client
        )
        try:
            return self.function(full, context)
        except Exception:
            raise
        except BaseException as error:  # as Lambda reports a sandbox that was lost
            raise RuntimeError("Runtime.ExitError") from error

    def run(self, workflow, *args, **kwargs):
        """Run a workflow to its end; return the runner's result."""
        from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner

        plain_args, plain_kwargs = workflow.signature_for(Codec()).encode_call(args, kwargs)
        payload = json.dumps({"workflow": workflow.name, "args": plain_args, "kwargs": plain_kwargs, "run_id": "run"})
        self.invocations = 0
        with DurableFunctionTestRunner(self._handler) as runner:
            return runner.run(payload, execution_timeout=60)


@pytest.fixture
def official(monkeypatch):
    return Official(monkeypatch)


@pytest.fixture
def official_with(monkeypatch):
    return functools.partial(Official, monkeypatch)


@pytest.fixture(scope="session")
def programs():
    """The random programs and their workflows; loaded once, as pytest imports test files by path."""
    name = "programs_of_pyworkflow_aws"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("programs.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
