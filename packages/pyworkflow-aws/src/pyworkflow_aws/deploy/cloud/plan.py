"""The difference between the target and the account, as actions.  Pure: no call of AWS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import Factory, frozen

from pyworkflow.config.durations import text as duration_text
from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.cloud.policy import Place, role_policy
from pyworkflow_aws.deploy.cloud.target import ALIAS, MODULE_VARIABLE, TAG, Target

# -- what there is -------------------------------------------------------------


@frozen
class Role:
    """A role that has the name of ours; *policy* is the inline policy of ours, if it has one."""

    ours: bool
    policy: Mapping[str, Any] | None


@frozen
class Found:
    """What is in the account already.

    Attributes:
        role: The role.
        log_days: How long the log group keeps logs: 0 for ever; None: there is no such group.
        function: The configuration of the function as it was changed last, in the words of the Lambda API.
        ours: Whether a deployment made it.
        versions: The configurations of its versions, by number.
        live: The version that the alias points to, 0 for the unpublished one; None: there is no such alias.
        aliased: The versions that any alias points to.
        in_use: The old versions that runs still need.
        retries: How often Lambda repeats a failed asynchronous call of the alias; None: as often as it likes.
    """

    role: Role | None = None
    log_days: int | None = None
    function: Mapping[str, Any] | None = None
    ours: bool = True
    versions: Mapping[int, Mapping[str, Any]] = Factory(dict)
    live: int | None = None
    aliased: frozenset[int] = frozenset()
    in_use: frozenset[int] = frozenset()
    retries: int | None = None


# -- what to do ----------------------------------------------------------------


@frozen
class CreateLogGroup:
    """Create the log group."""

    name: str


@frozen
class KeepLogs:
    """Set how long logs are kept."""

    name: str
    days: int


@frozen
class CreateRole:
    """Create the role."""

    name: str


@frozen
class PutPolicy:
    """Set the role's policy; *before* is the present one."""

    name: str
    policy: Mapping[str, Any]
    before: Mapping[str, Any] | None


@frozen
class CreateFunction:
    """Create the function."""

    configuration: Mapping[str, Any]


@frozen
class UpdateCode:
    """Replace the function's code, and its processor."""

    digest: str
    arch: str


@frozen
class Configure:
    """Change the function's configuration; *lines* describe the changes."""

    configuration: Mapping[str, Any]
    lines: tuple[str, ...]


@frozen
class Publish:
    """Publish a version of the function as it is at that point."""


@frozen
class PointAlias:
    """Let new runs start on a version; None: the one published just before."""

    alias: str
    before: int | None
    version: int | None


@frozen
class StopRetries:
    """Turn off Lambda's own retries of asynchronous calls."""

    alias: str


@frozen
class DeleteVersion:
    """Delete a version that no run needs."""

    version: int


Action = (
    CreateLogGroup
    | KeepLogs
    | CreateRole
    | PutPolicy
    | CreateFunction
    | UpdateCode
    | Configure
    | Publish
    | PointAlias
    | StopRetries
    | DeleteVersion
)


def plan(target: Target, place: Place, digest: str, found: Found) -> list[Action]:
    """Return what to do, in order, so that the account holds *target*; nothing if it does already.

    Args:
        target: What there should be.
        place: Where.
        digest: The ``CodeSha256`` of the code.
        found: What there is.

    Raises:
        ConfigError: What there is cannot become *target*, or is not ours to change.
    """
    check(target, place, found)
    return [*_surroundings(target, place, found), *_function(target, place, digest, found)]


def role_arn(target: Target, place: Place) -> str:
    """Return the ARN of the function's role."""
    return target.role or place.role(target.role_name(place.region))


def check(target: Target, place: Place, found: Found) -> None:
    """Raise `ConfigError` if what there is cannot become *target*, or is not ours to change."""
    where = f"{target.name!r} in {place.region}"
    if found.role is not None and not found.role.ours:
        name = target.role_name(place.region)
        msg = f"there is a role {name!r} that pyworkflow did not make: delete it, or use it as it is with --role ARN"
        raise ConfigError(msg)
    if found.function is None:
        return
    if not found.ours:
        msg = (
            f"there is a function {where} that pyworkflow did not make: choose another --name, or let pyworkflow "
            f"manage it by giving it the tag {TAG!r}"
        )
        raise ConfigError(msg)
    if found.function.get("PackageType") == "Image":
        msg = f"the function {where} is made of a container image, and cannot be changed into one made of a zip"
        raise ConfigError(msg)
    if found.function.get("State") == "Failed":
        why = found.function.get("StateReason", "for no given reason")
        msg = f"AWS could not make the function {where} ({why}): take it away with --destroy, then deploy again"
        raise ConfigError(msg)
    durable = bool(found.function.get("DurableConfig"))
    if durable != target.kind.durable:
        is_, wanted = ("durable", "a transient") if durable else ("not durable", "a durable")
        msg = (
            f"the function {where} is {is_}, and AWS cannot make {wanted} function of it, as that is settled when it "
            "is created: choose another --name, or take it away with --destroy first"
        )
        raise ConfigError(msg)


def _surroundings(target: Target, place: Place, found: Found) -> Iterator[Action]:
    if found.log_days is None:
        yield CreateLogGroup(target.log_group)
    if found.log_days != target.log_days:
        yield KeepLogs(target.log_group, target.log_days)
    if target.role is not None:
        return
    name = target.role_name(place.region)
    if found.role is None:
        yield CreateRole(name)
    policy = role_policy(target, place)
    before = found.role.policy if found.role is not None else None
    if before != policy:
        yield PutPolicy(name, policy, before)


def _function(target: Target, place: Place, digest: str, found: Found) -> Iterator[Action]:
    wanted = target.configuration(role_arn(target, place))

    def fits(have: Mapping[str, Any] | None) -> bool:
        return have is not None and _same_code(target, digest, have) and not changes(wanted, have)

    if found.function is None:
        yield CreateFunction(wanted)
    else:
        stuck = found.function.get("LastUpdateStatus") == "Failed"
        if stuck or not _same_code(target, digest, found.function):
            yield UpdateCode(digest, target.arch)
        differing = changes(wanted, found.function)
        if stuck or differing:
            yield Configure(wanted, tuple(differing))
    newest = max(found.versions, default=None)
    versions = sorted(found.versions)
    if found.live is not None and fits(found.versions.get(found.live)):
        goal: int | None = found.live
    elif newest is not None and fits(found.versions[newest]):
        goal = newest  # an earlier deployment ended before it moved the alias
    else:
        goal = None
        yield Publish()
        versions.append((newest or 0) + 1)
    if goal is None or goal != found.live:
        yield PointAlias(ALIAS, found.live, goal)
    if not target.kind.durable and found.retries != 0:
        yield StopRetries(ALIAS)
    yield from (DeleteVersion(version) for version in _needless(versions, target, found))


def _needless(versions: list[int], target: Target, found: Found) -> list[int]:
    """Return the versions to delete; the one that was live so far stays, as runs are still being started on it."""
    kept = {*versions[-target.keep :], *found.aliased, *found.in_use}
    return [version for version in versions if version not in kept and version in found.versions]


def _same_code(target: Target, digest: str, have: Mapping[str, Any]) -> bool:
    return bool(have.get("CodeSha256") == digest and have.get("Architectures", ["x86_64"]) == [target.arch])


def changes(wanted: Mapping[str, Any], have: Mapping[str, Any]) -> list[str]:
    """Return a line for each difference; what is not *wanted* in particular is left as it is, but for variables."""
    lines: list[str] = []
    for key, value in wanted.items():
        if key == "Environment":
            lines += _variables(value["Variables"], (have.get(key) or {}).get("Variables") or {})
        elif isinstance(value, Mapping):
            before = have.get(key) or {}
            lines += [_line(part, before.get(part), one) for part, one in value.items() if before.get(part) != one]
        elif have.get(key) != value:
            lines.append(_line(key, have.get(key), value))
    return lines


def _variables(wanted: Mapping[str, str], have: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each variable that differs; values may be secret, and are not shown."""
    for name in sorted({*wanted, *have}):
        if name not in have:
            yield f"+ variable {name}"
        elif name not in wanted:
            yield f"- variable {name}"
        elif wanted[name] != have[name]:
            change = f": {have[name]} -> {wanted[name]}" if name == MODULE_VARIABLE else " has another value"
            yield f"~ variable {name}{change}"


_WORDS = {
    "Runtime": "runtime",
    "Handler": "handler",
    "Role": "role",
    "Timeout": "timeout of an invocation",
    "MemorySize": "memory",
    "ExecutionTimeout": "timeout of a run",
    "RetentionPeriodInDays": "days that histories are kept",
    "LogFormat": "log format",
    "ApplicationLogLevel": "log level",
    "SystemLogLevel": "log level of Lambda itself",
    "LogGroup": "log group",
}


def _line(key: str, before: Any, after: Any) -> str:
    return f"~ {_WORDS[key]}: {_shown(key, before)} -> {_shown(key, after)}"


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "none"
    match key:
        case "Timeout" | "ExecutionTimeout":
            return duration_text(value)
        case "MemorySize":
            return f"{value} MB"
    return str(value)
