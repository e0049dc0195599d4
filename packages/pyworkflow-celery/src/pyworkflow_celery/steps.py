"""Existing Celery tasks as steps."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from celery.exceptions import Ignore, Reject, Retry

from pyworkflow import FatalError, RetryableError, step
from pyworkflow.authoring.context import step_context

if TYPE_CHECKING:
    from celery import Task

    from pyworkflow.authoring.definitions import Step


def step_from_celery(task: Task, **options: Any) -> Step[..., Any]:
    """Make a step of a Celery task: a workflow that calls it runs the task's body as a step.

    The body runs in the worker that has the step, with no message of its own. Attempts are pyworkflow's:
    ``self.retry()`` and ``autoretry_for`` fail the attempt, and what the options say comes next. ``self.request`` has
    the step's idempotency key as ``id`` and the number of attempts before as ``retries``. The task can still be sent as
    a task.

    Args:
        task: The task, of any Celery app.
        options: As for `pyworkflow.step`; the name is the task's unless *name* is given.
    """
    body = task.run

    @functools.wraps(getattr(body, "__func__", body))
    def carried(*args: Any, **kwargs: Any) -> Any:
        context = step_context.get()
        request = {} if context is None else {"id": context.idempotency_key, "retries": context.attempt - 1}
        task.push_request(args=args, kwargs=kwargs, called_directly=True, **request)
        try:
            return body(*args, **kwargs)
        except Retry as retry:
            after = retry.when
            raise RetryableError(str(retry), retry_after=after if after is not None else 0) from retry
        except (Ignore, Reject) as refused:
            msg = f"task {task.name!r} raised {type(refused).__name__}, which means nothing in a step: {refused}"
            raise FatalError(msg) from refused
        finally:
            task.pop_request()

    carried.__signature__ = inspect.signature(body)  # type: ignore[attr-defined]  # without the self of a bound task
    result: Step[..., Any] = step(**{"name": task.name, **options})(carried)
    return result
