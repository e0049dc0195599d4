"""A durable function: from an invocation's payload to the result or error that AWS records."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pyworkflow.codec.exceptions import record_of
from pyworkflow.errors import NonDeterminism, PayloadTooLarge, RunBlocked, RunCancelled, RunTerminated
from pyworkflow.events import RULES, RunCompleted, RunContinued, RunFailed, RunStarted, StartChild
from pyworkflow.events import RunCancelled as CancelledEvent
from pyworkflow.ids import child_id
from pyworkflow_aws.clients import Clients
from pyworkflow_aws.durable.execution.adapter import Adapter
from pyworkflow_aws.durable.execution.sdk import Failure, Journal, durable_execution
from pyworkflow_aws.durable.execution.steps import failure_of
from pyworkflow_aws.durable.replay import starting
from pyworkflow_aws.durable.replay.answers import CONTINUE, CONTINUE_KEY
from pyworkflow_aws.durable.replay.payloads import Payloads, milliseconds
from pyworkflow_aws.durable.replay.starting import Start
from pyworkflow_aws.error_records import MESSAGE_LIMIT, error_data
from pyworkflow_aws.settings import AwsSettings

if TYPE_CHECKING:
    from pyworkflow.app import App
    from pyworkflow.replay.machine import Outcome

MAX_RESULT = 5 * 1024 * 1024
"""The most bytes of a run's result; AWS takes a little more."""

_PAUSES = 5
"""How often starting the run that continues this one is retried."""


def durable_function(app: App, settings: AwsSettings, clients: Clients) -> Callable[[Any, Any], Any]:
    """Return a handler that runs the workflows of *app*."""

    def run(event: Any, context: Any) -> Any:
        return _run(app, settings, clients, event, Journal(context))

    return durable_execution(run, boto3_client=clients.functions())


def _run(app: App, settings: AwsSettings, clients: Clients, event: Any, journal: Journal) -> Any:
    if not isinstance(event, dict) or not isinstance(event.get("workflow"), str):
        msg = (
            'the payload has to be {"workflow": name, "args": […], "kwargs": {…}}; `pyworkflow.start` and '
            "`pyworkflow run` send one"
        )
        raise _ended("Blocked", RunBlocked(msg))
    run_id = event.get("run_id") or journal.arn.rpartition("/")[0].rpartition("/")[2] or journal.arn
    started = RunStarted(
        journal.started_at,
        event["workflow"],
        event.get("args", []),
        event.get("kwargs", {}),
        sha256(journal.arn.encode()).hexdigest(),
        previous=event.get("previous"),
        rules=RULES,
    )
    payloads = Payloads(settings.bucket, f"pyworkflow/{starting.execution_name(run_id)}", clients.objects)
    function = settings.function or os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")

    def start(command: StartChild, parent: str) -> str:
        child = command.run_id or command.key or child_id(parent, command.op)
        new = Start(command.name, command.args, command.kwargs, child, command.key or f"{parent}/{command.op}")
        starting.invoke(clients.functions(), function, settings.qualifier, new)
        return child

    def continue_as(end: RunContinued) -> None:
        new = Start(started.workflow, end.args, end.kwargs, end.run_id, key=f"{run_id}~", previous=run_id)

        def begin(_: int) -> str:
            starting.invoke(clients.functions(), function, settings.qualifier, new)
            return "null"

        journal.step(CONTINUE_KEY, CONTINUE, begin, retry=lambda _, number: 2.0**number if number < _PAUSES else None)

    adapter = Adapter(app, journal, payloads, start, settings.cancellable)
    try:
        outcome = adapter.run(run_id, started)
    except (NonDeterminism, RunBlocked) as error:
        raise _ended("Blocked", error) from error
    except RunTerminated as error:
        raise _ended("Terminated", error) from error
    result = _result(outcome, payloads, run_id, continue_as)
    attributes = adapter.replay.tree.root.attributes
    return result | {"attributes": attributes} if attributes else result


def _ended(how: str, error: Exception) -> Failure:
    """Return the error that records an end other than a failure; `Execution` reads it."""
    return Failure.of(
        f"pyworkflow.run:{how}", str(error)[:MESSAGE_LIMIT], error_data(record_of(error), datetime.now(UTC))
    )


def _result(
    outcome: Outcome, payloads: Payloads, run_id: str, continue_as: Callable[[RunContinued], None]
) -> dict[str, Any]:
    """Return the execution's result, or raise its error."""
    now = datetime.now(UTC)
    match outcome:
        case RunCompleted(value=value):
            try:
                return dict(json.loads(payloads.write(value, now, f"the result of run {run_id}", MAX_RESULT)))
            except PayloadTooLarge as error:
                raise failure_of(error) from error
        case RunFailed(error=record):
            raise Failure.of(record.type, record.message[:MESSAGE_LIMIT], error_data(record, now))
        case CancelledEvent():
            raise _ended("Cancelled", RunCancelled(f"run {run_id!r} was cancelled"))
        case RunContinued(run_id=next_id, args=args, kwargs=kwargs):
            continue_as(outcome)
            return {"at": milliseconds(now), "continued": next_id, "args": args, "kwargs": kwargs}
