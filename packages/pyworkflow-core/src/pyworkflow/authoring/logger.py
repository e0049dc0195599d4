"""A logger for workflows and steps: what replay does again is not logged again."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from pyworkflow.authoring.context import step_context, workflow_context


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs with the run's id, and in a step with its name and attempt, as ``extra``; silent while a run is replayed.

    After a crash the lines that belong to the last thing that happened may come once more.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 -- as in logging
        """Whether a line of *level* would be logged."""
        context = workflow_context.get()
        if context is not None and step_context.get() is None and context.is_replaying:
            return False
        return super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add what is known of the run."""
        extra = dict(kwargs.get("extra") or {})
        step, workflow = step_context.get(), workflow_context.get()
        if step is not None:
            extra |= {"run_id": step.run_id, "step": step.step, "attempt": step.attempt}
        elif workflow is not None:
            extra |= {"run_id": workflow.run_id}
        return msg, {**kwargs, "extra": extra}


logger = RunLogger(logging.getLogger("pyworkflow.run"), {})
