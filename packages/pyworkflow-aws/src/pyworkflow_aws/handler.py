"""The handlers of deployed functions: ``pyworkflow_aws.handler.transient`` and ``pyworkflow_aws.handler.durable``.

They import the module that ``PYWORKFLOW_MODULE`` names, ``shop`` or ``shop:app``, and run the workflow of it that the
payload names.
"""

from __future__ import annotations

import importlib
import os
from functools import cache
from typing import TYPE_CHECKING, Any

from pyworkflow.app import default_app
from pyworkflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworkflow.app import App

MODULE = "PYWORKFLOW_MODULE"


@cache
def app() -> App:
    """Return the application whose workflows this function runs.

    Raises:
        ConfigError: None is named, or it is not there.
    """
    name, _, attribute = os.environ.get(MODULE, "").partition(":")
    if not name:
        raise ConfigError(f"the environment variable {MODULE} has to name the module with the workflows")
    module = importlib.import_module(name)
    found = getattr(module, attribute, None) if attribute else default_app()
    if found is None:
        raise ConfigError(f"module {name!r}, which {MODULE} names, has no {attribute!r}")
    return found


@cache
def _durable() -> Callable[[Any, Any], Any]:
    from pyworkflow_aws.durable.client.runtime import DurableLambda
    from pyworkflow_aws.durable.execution.function import durable_function

    runtime = app().runtime("durable-lambda")
    assert isinstance(runtime, DurableLambda)  # noqa: S101 -- tells the type checker
    return durable_function(app(), runtime.settings, runtime.clients)


def durable(event: Any, context: Any) -> Any:
    """Start or resume a workflow in a durable execution."""
    return _durable()(event, context)


def transient(event: Any, context: Any) -> Any:
    """Run a workflow to its end."""
    from pyworkflow_aws.transient_lambda import run_in_function

    return run_in_function(app(), event, context)


if os.environ.get("AWS_LAMBDA_RUNTIME_API") and os.environ.get(MODULE):
    app()  # in the time that a cold start has for it, not in that of the first run
    if os.environ.get("_HANDLER", "").endswith("durable"):
        _durable()
