"""Durable workflows as plain async Python."""

from typing import TYPE_CHECKING, Any

from pyworkflow.api import (
    cancel,
    configure,
    get_run,
    history,
    list_hooks,
    list_runs,
    resume_hook,
    retry_run,
    run,
    start,
    terminate,
    worker,
)
from pyworkflow.authoring.hooks import hook
from pyworkflow.authoring.primitives import (
    as_completed,
    continue_as_new,
    current_step,
    now,
    patched,
    random,
    set_attributes,
    set_status,
    sleep,
    uuid4,
    wait,
)
from pyworkflow.decorators import step, workflow
from pyworkflow.errors import FatalError, RetryableError, WorkflowError

if TYPE_CHECKING:
    from pyworkflow.app import App
    from pyworkflow.authoring.logger import logger
    from pyworkflow.authoring.schedule import Schedule
    from pyworkflow.handle import RunHandle
    from pyworkflow.model import Status

__version__ = "0.2.0"

__all__ = [
    "App",
    "FatalError",
    "RetryableError",
    "RunHandle",
    "Schedule",
    "Status",
    "WorkflowError",
    "as_completed",
    "cancel",
    "configure",
    "continue_as_new",
    "current_step",
    "get_run",
    "history",
    "hook",
    "list_hooks",
    "list_runs",
    "logger",
    "now",
    "patched",
    "random",
    "resume_hook",
    "retry_run",
    "run",
    "set_attributes",
    "set_status",
    "sleep",
    "start",
    "step",
    "terminate",
    "uuid4",
    "wait",
    "worker",
    "workflow",
]

_LATER = {
    "App": "pyworkflow.app",
    "RunHandle": "pyworkflow.handle",
    "Schedule": "pyworkflow.authoring.schedule",
    "Status": "pyworkflow.model",
    "logger": "pyworkflow.authoring.logger",
}


def __getattr__(name: str) -> Any:
    """Import what runs workflows once it is asked for: declaring them needs little."""
    if name not in _LATER:
        msg = f"module 'pyworkflow' has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module(_LATER[name]), name)
