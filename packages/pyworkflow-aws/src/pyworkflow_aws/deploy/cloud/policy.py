"""IAM policies: what functions, workers, and those who start runs need.  Nothing is allowed on everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.cloud.target import ALIAS, Table, Target

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

    def table(self, table: Table) -> str:
        """Return the ARN of a table; one without a region is in this one."""
        return f"arn:{self.partition}:dynamodb:{table.region or self.region}:{self.account}:table/{table.name}"

    def role(self, name: str) -> str:
        """Return the ARN of a role."""
        return f"arn:{self.partition}:iam::{self.account}:role/{name}"


def role_policy(target: Target, place: Place) -> dict[str, Any]:
    """Return the policy of the function itself.

    It allows writing its log, recording its runs and starting others, using the table that its variables name, and the
    target's own statements.
    """
    function = place.function(target.name)
    statements: list[Mapping[str, Any]] = [
        _allow("PyworkflowLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], place.log_group(target.log_group)),
        # Runs are authorised below a version, and an alias does not count as one.
        _allow("PyworkflowChildren", ["lambda:InvokeFunction"], f"{function}:*"),
    ]
    if target.kind.durable:
        keep = ["lambda:CheckpointDurableExecution", "lambda:GetDurableExecutionState"]
        statements.append(_allow("PyworkflowRuns", keep, f"{function}:*"))
    statements += _large_values(target, place, ["s3:GetObject", "s3:PutObject"])
    if target.table is not None:
        statements += _table_statements(target.table, place)
    return {"Version": VERSION, "Statement": [*statements, *target.statements]}


def callers_policy(target: Target, place: Place) -> dict[str, Any]:
    """Return the policy of those who start, watch and cancel runs, and resume their hooks."""
    function = place.function(target.name)
    statements = [_allow("PyworkflowStart", ["lambda:InvokeFunction"], f"{function}:{ALIAS}")]
    if target.kind.durable:
        runs = [
            "lambda:GetDurableExecution",
            "lambda:GetDurableExecutionHistory",
            "lambda:SendDurableExecutionCallbackSuccess",
            "lambda:StopDurableExecution",
        ]
        statements.append(_allow("PyworkflowRuns", runs, f"{function}:*"))
        statements.append(
            _allow("PyworkflowList", ["lambda:ListDurableExecutionsByFunction"], [function, f"{function}:*"])
        )
    return {"Version": VERSION, "Statement": [*statements, *_large_values(target, place, ["s3:GetObject"])]}


def table_policy(table: Table, place: Place) -> dict[str, Any]:
    """Return the policy of workers and callers whose storage is *table*; it does not allow creating the table."""
    return {"Version": VERSION, "Statement": _table_statements(table, place)}


def _table_statements(table: Table, place: Place) -> list[Mapping[str, Any]]:
    arn = place.table(table)
    use = [f"dynamodb:{verb}" for verb in ("BatchWriteItem", "DeleteItem", "GetItem", "PutItem", "Query", "UpdateItem")]
    statements: list[Mapping[str, Any]] = [_allow("PyworkflowTable", use, [arn, f"{arn}/index/*"])]
    if table.bucket is not None:
        bucket = f"arn:{place.partition}:s3:::{table.bucket}"
        objects = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
        statements.append(_allow("PyworkflowTableObjects", objects, f"{bucket}/{table.name}/*"))
        # Without it S3 answers AccessDenied, not NoSuchKey, for an object that does not exist.
        statements.append(_allow("PyworkflowTableBucket", ["s3:ListBucket"], bucket))
    return statements


def _large_values(target: Target, place: Place, actions: list[str]) -> list[Mapping[str, Any]]:
    if target.bucket is None or not target.kind.durable:
        return []
    objects = f"arn:{place.partition}:s3:::{target.bucket}/pyworkflow/*"
    return [_allow("PyworkflowLargeValues", actions, objects)]


def _allow(sid: str, actions: list[str], resources: str | list[str]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}


def statements_of(document: Any, source: str) -> tuple[Mapping[str, Any], ...]:
    """Return the statements of a user's policy: a document, a list, or one statement.

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
