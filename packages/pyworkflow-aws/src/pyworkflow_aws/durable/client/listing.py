"""Executions of a function as runs: found by name, listed, and read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import frozen
from botocore.exceptions import ClientError

from pyworkflow.errors import ConfigError
from pyworkflow.events import ErrorRecord
from pyworkflow.model import Run, RunQuery, Status
from pyworkflow_aws.durable.replay.starting import execution_name
from pyworkflow_aws.error_records import foreign_error, read_error

_STATUSES = {
    "RUNNING": Status.RUNNING,
    "PAUSING": Status.RUNNING,
    "PAUSED": Status.RUNNING,
    "SUCCEEDED": Status.COMPLETED,
    "FAILED": Status.FAILED,
    "STOPPED": Status.TERMINATED,
    "TIMED_OUT": Status.TERMINATED,
    "DELETING": Status.TERMINATED,
}
# The types of errors by which a function reports that a run ended in another way than by failing.
_BY_ERROR = {
    "pyworkflow.run.Cancelled": Status.CANCELLED,
    "pyworkflow.run.Terminated": Status.TERMINATED,
    "pyworkflow.run.Blocked": Status.BLOCKED,
}
_AWS_STATUSES: dict[Status, list[str]] = {
    Status.RUNNING: ["RUNNING"],
    Status.BLOCKED: ["FAILED"],
    Status.COMPLETED: ["SUCCEEDED"],
    Status.CONTINUED: ["SUCCEEDED"],
    Status.FAILED: ["FAILED"],
    Status.CANCELLED: ["FAILED"],
    Status.TERMINATED: ["STOPPED", "TIMED_OUT", "FAILED"],
}
_PAGE = 1000


@frozen
class Execution:
    """An execution, as AWS reports it.

    Attributes:
        result: What it returned, if it did.
        error: How it failed, if it did.
        message: Why it was stopped, or is blocked.
        continued: The run that continues it.
    """

    arn: str
    name: str
    status: Status
    input: dict[str, Any]
    started_at: datetime
    ended_at: datetime | None
    result: dict[str, Any]
    error: ErrorRecord
    message: str

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Execution:
        """Return what ``GetDurableExecution`` answers."""
        given, result, error = answer.get("InputPayload"), answer.get("Result"), answer.get("Error") or {}
        data, kind = error.get("ErrorData"), error.get("ErrorType", "")
        status = _STATUSES[answer["Status"]]
        returned = _object(result)
        if status is Status.FAILED:
            status = _BY_ERROR.get(kind, status)
        elif status is Status.COMPLETED and "continued" in returned:
            status = Status.CONTINUED
        message = error.get("ErrorMessage", "")
        if answer["Status"] == "TIMED_OUT":
            message = "its execution timeout was over"
        ended = answer.get("EndTimestamp")
        return cls(
            answer["DurableExecutionArn"],
            answer["DurableExecutionName"],
            status,
            _object(given),
            answer["StartTimestamp"].astimezone(UTC),
            None if ended is None else ended.astimezone(UTC),
            returned,
            read_error(data)[0] if data else foreign_error(kind, message),
            message,
        )

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self.input.get("run_id") or self.name)

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return str(self.input.get("workflow", ""))

    @property
    def continued(self) -> str | None:
        """The id of the run that continues this one."""
        return self.result.get("continued")

    def as_run(self, run_id: str) -> Run:
        """Return it as a run, without reading its history."""
        return Run(
            run_id,
            self.workflow,
            self.started_at,
            self.status,
            ended_at=self.ended_at,
            idempotency_key=self.input.get("key"),
            parent=self.input.get("previous"),
            attributes=self.result.get("attributes", {}),
        )


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def find(client: Any, function: str, qualifier: str, name: str) -> str | None:
    """Return the ARN of the execution *name*; None: there is none."""
    found = _list(client, function, qualifier, DurableExecutionName=name)["DurableExecutions"]
    return found[0]["DurableExecutionArn"] if found else None


def executions(client: Any, function: str, qualifier: str, query: RunQuery) -> tuple[list[str], str | None]:
    """Return the ARNs of executions that may fit *query*, the newest first, and the marker of the next page."""
    options: dict[str, Any] = {"MaxItems": max(1, min(query.limit, _PAGE)), "ReverseOrder": True}
    if query.status is not None:
        options["Statuses"] = _AWS_STATUSES[query.status]
    if query.created_after is not None:
        options["StartedAfter"] = query.created_after
    if query.created_before is not None:
        options["StartedBefore"] = query.created_before
    if query.cursor is not None:
        options["Marker"] = query.cursor
    answer = _list(client, function, qualifier, **options)
    return [found["DurableExecutionArn"] for found in answer["DurableExecutions"]], answer.get("NextMarker") or None


def waiting(client: Any, function: str, qualifier: str, run_ids: Sequence[str]) -> list[str]:
    """Return the ARNs of the executions of *run_ids*, or if there are none, of all that are in progress."""
    named = [arn for run_id in run_ids if (arn := find(client, function, qualifier, execution_name(run_id)))]
    if named:
        return named
    found: list[str] = []
    marker: str | None = None
    while True:
        options: dict[str, Any] = {"Statuses": ["RUNNING"], "MaxItems": _PAGE}
        if marker:
            options["Marker"] = marker
        answer = _list(client, function, qualifier, **options)
        found += [execution["DurableExecutionArn"] for execution in answer["DurableExecutions"]]
        marker = answer.get("NextMarker")
        if not marker:
            return found


def _list(client: Any, function: str, _qualifier: str, **options: Any) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = client.list_durable_executions_by_function(FunctionName=function, **options)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            msg = f"there is no function {function!r}; `pyworkflow deploy` makes it"
            raise ConfigError(msg) from None
        raise
    return answer
