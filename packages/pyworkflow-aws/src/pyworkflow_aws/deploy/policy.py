"""IAM policies: what the function may do, and what those who start runs need.  Nothing is allowed on everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.target import ALIAS, Target

VERSION = "2012-10-17"

TRUST: Mapping[str, Any] = {
    "Version": VERSION,
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
"""Only Lambda may take the role."""


@frozen
class Place:
    """An account in a region."""

    account: str
    region: str
    partition: str = "aws"

    def function(self, name: str) -> str:
        """Return the ARN of a function, without a version."""
        return f"arn:{self.partition}:lambda:{self.region}:{self.account}:function:{name}"

    def log_group(self, name: str) -> str:
        """Return the ARN of a log group's streams."""
        return f"arn:{self.partition}:logs:{self.region}:{self.account}:log-group:{name}:*"

    def role(self, name: str) -> str:
        """Return the ARN of a role."""
        return f"arn:{self.partition}:iam::{self.account}:role/{name}"


def role_policy(target: Target, place: Place) -> dict[str, Any]:
    """Return what the function itself may do: write its log, keep its runs, start runs of its own, and *statements*."""
    function = place.function(target.name)
    statements: list[Mapping[str, Any]] = [
        _allow("PyworkflowLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], place.log_group(target.log_group)),
        # Runs are authorised below a version, and an alias does not count as one.
        _allow("PyworkflowChildren", ["lambda:InvokeFunction"], f"{function}:*"),
    ]
    if target.kind.durable:
        keep = ["lambda:CheckpointDurableExecution", "lambda:GetDurableExecutionState"]
        statements.append(_allow("PyworkflowRuns", keep, f"{function}:*"))
    return {"Version": VERSION, "Statement": [*statements, *_large_values(target, place), *target.statements]}


def callers_policy(target: Target, place: Place) -> dict[str, Any]:
    """Return what somebody needs who starts runs, looks at them, cancels them and answers their hooks."""
    function = place.function(target.name)
    statements = [_allow("PyworkflowStart", ["lambda:InvokeFunction"], f"{function}:{ALIAS}")]
    if target.kind.durable:
        runs = [
            "lambda:GetDurableExecution",
            "lambda:GetDurableExecutionHistory",
            "lambda:SendDurableExecutionCallbackFailure",
            "lambda:SendDurableExecutionCallbackHeartbeat",
            "lambda:SendDurableExecutionCallbackSuccess",
            "lambda:StopDurableExecution",
        ]
        statements.append(_allow("PyworkflowRuns", runs, f"{function}:*"))
        statements.append(
            _allow("PyworkflowList", ["lambda:ListDurableExecutionsByFunction"], [function, f"{function}:*"])
        )
    return {"Version": VERSION, "Statement": [*statements, *_large_values(target, place)]}


def _large_values(target: Target, place: Place) -> list[Mapping[str, Any]]:
    if target.bucket is None or not target.kind.durable:
        return []
    objects = f"arn:{place.partition}:s3:::{target.bucket}/pyworkflow/*"
    return [_allow("PyworkflowLargeValues", ["s3:GetObject", "s3:PutObject"], objects)]


def _allow(sid: str, actions: list[str], resources: str | list[str]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}


def statements_of(document: Any, source: str) -> tuple[Mapping[str, Any], ...]:
    """Return the statements of a policy that somebody wrote: a document, a list, or one statement.

    Raises:
        ConfigError: It is no policy, or it allows everything.
    """
    found = document.get("Statement", document) if isinstance(document, Mapping) else document
    statements = [found] if isinstance(found, Mapping) else found
    if not isinstance(statements, list) or not all(isinstance(item, Mapping) for item in statements):
        msg = f"{source} is not an IAM policy: write {{'Statement': [...]}}"
        raise ConfigError(msg)
    for statement in statements:
        missing = [key for key in ("Effect", "Action", "Resource") if key not in statement]
        if missing:
            msg = f"{source}: a statement lacks {' and '.join(missing)}; it has {', '.join(statement)}"
            raise ConfigError(msg)
    if problems := list(too_wide({"Statement": statements})):
        msg = f"{source} allows too much: {'; '.join(problems)}; name what the steps use, or bring a role with --role"
        raise ConfigError(msg)
    return tuple(statements)


def too_wide(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what in a policy is allowed on everything."""
    for number, statement in enumerate(document["Statement"], 1):
        if statement.get("Effect") != "Allow":
            continue
        name = statement.get("Sid", f"statement {number}")
        if not {"NotAction", "NotResource"}.isdisjoint(statement):
            yield f"{name} allows all but something"
        for action in _listed(statement.get("Action", [])):
            if action == "*" or action.endswith(":*"):
                yield f"{name} allows the action {action!r}"
        for resource in _listed(statement.get("Resource", [])):
            # The resource part of an ARN may end in a star, but may not be one.
            if resource == "*" or resource.split(":", 5)[-1] == "*":
                yield f"{name} allows the resource {resource!r}"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
