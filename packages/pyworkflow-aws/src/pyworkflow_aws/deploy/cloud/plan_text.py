"""The actions of a plan as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pyworkflow_aws.deploy.cloud.plan import (
    Action,
    Configure,
    CreateFunction,
    CreateLogGroup,
    CreateRole,
    DeleteVersion,
    KeepLogs,
    PointAlias,
    Publish,
    PutPolicy,
    StopRetries,
    UpdateCode,
    changes,
)


def describe(action: Action) -> str:  # noqa: C901, PLR0911 -- a table
    """Return an action as a phrase, for people."""
    match action:
        case CreateLogGroup(name):
            return f"create the log group {name}"
        case KeepLogs(name, days):
            return f"keep the logs in {name} for {days} days"
        case CreateRole(name):
            return f"create the role {name}"
        case PutPolicy(name):
            return f"set the policy of the role {name}"
        case CreateFunction():
            return "create the function"
        case UpdateCode(_, arch):
            return f"replace the code ({arch})"
        case Configure():
            return "change the configuration"
        case Publish():
            return "publish a version"
        case PointAlias(alias, None, version):
            return f"create the alias {alias} -> version {version or 'just published'}"
        case PointAlias(alias, before, version):
            return f"move the alias {alias}: version {before} -> {version or 'just published'}"
        case StopRetries(alias):
            return f"turn off Lambda's own retries of {alias}"
        case DeleteVersion(version):
            return f"delete version {version}, which no run needs"


def details(action: Action) -> Iterator[str]:
    """Yield the details of an action, a line each."""
    match action:
        case PutPolicy(_, policy, before):
            old = {_statement(one) for one in (before or {}).get("Statement", ())}
            new = {_statement(one): None for one in policy["Statement"]}
            yield from (f"+ {line}" for line in new if line not in old)
            yield from (f"- {line}" for line in sorted(old - set(new)))
        case CreateFunction(configuration):
            yield from (f"+ {line[2:].replace(': none -> ', ': ')}" for line in changes(configuration, {}))
        case Configure(_, lines):
            yield from lines
        case _:
            return


def _statement(statement: Mapping[str, Any]) -> str:
    actions, resources = (
        ", ".join(value) if isinstance(value, list) else str(value)
        for value in (statement["Action"], statement["Resource"])
    )
    return f"{statement['Effect'].lower()} {actions} on {resources}"
