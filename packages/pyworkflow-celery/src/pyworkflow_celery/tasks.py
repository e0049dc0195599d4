"""The tasks: two kinds of hints that jobs are due, and a transient run as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.exceptions import Ignore

from pyworkflow_celery.requests import NO_LIMIT, OurRequest
from pyworkflow_celery.worker_process import current

if TYPE_CHECKING:
    from celery import Celery

RUN = "pyworkflow.run"
STEP = "pyworkflow.step"
CALL = "pyworkflow.call"

_HINT = {
    "serializer": "json",
    "acks_late": True,
    "reject_on_worker_lost": True,
    "ignore_result": True,
    "max_retries": 0,
    "typing": False,  # what the message says is not needed: a newer version may say more
    "Request": OurRequest,
    # Else `task_time_limit`, which is meant for tasks, would kill the process that runs the steps of durable runs.
    "time_limit": NO_LIMIT,
    "soft_time_limit": NO_LIMIT,
}


def run(**_: object) -> None:
    """Sweep for work in this slot of the pool: the job of a run became due."""
    current().turn()


def step(**_: object) -> None:
    """Sweep for work in this slot of the pool: a step was dispatched."""
    current().turn()


def call(task: Any, run_id: str, workflow: str, args: str, kwargs: str) -> str:
    """Execute a transient run; return the event that ended it, as JSON."""
    process = current()
    if process.is_stopping:  # the message is acknowledged already
        task.apply_async(kwargs=task.request.kwargs, task_id=run_id, **_queue(task.request.delivery_info))
        raise Ignore
    return process.call(run_id, workflow, args, kwargs)


def _queue(delivery: dict[str, Any]) -> dict[str, Any]:
    return {"queue": delivery["routing_key"]} if delivery.get("routing_key") else {}


def register(app: Celery) -> None:
    """Make the tasks known to *app*."""
    for name, function in ((RUN, run), (STEP, step)):
        if name not in app.tasks:
            app.task(name=name, **_HINT)(function)
    if CALL not in app.tasks:  # not acknowledged late: a transient run is begun once
        once = {"bind": True, "serializer": "json", "acks_late": False, "ignore_result": False, "max_retries": 0}
        app.task(name=CALL, Request=OurRequest, **once)(call)
