"""Durable workflows as plain async Python."""

from pyworkflow.api import (
    cancel,
    configure,
    get_run,
    history,
    list_runs,
    retry_run,
    run,
    start,
    terminate,
    worker,
)
from pyworkflow.app import App
from pyworkflow.decorators import step, workflow
from pyworkflow.errors import FatalError, RetryableError, WorkflowError
from pyworkflow.handle import RunHandle
from pyworkflow.model import Status
from pyworkflow.primitives import as_completed, current_step, now, random, sleep, uuid4, wait

__version__ = "0.1.0"

__all__ = [
    "App",
    "FatalError",
    "RetryableError",
    "RunHandle",
    "Status",
    "WorkflowError",
    "as_completed",
    "cancel",
    "configure",
    "current_step",
    "get_run",
    "history",
    "list_runs",
    "now",
    "random",
    "retry_run",
    "run",
    "sleep",
    "start",
    "step",
    "terminate",
    "uuid4",
    "wait",
    "worker",
    "workflow",
]
