"""Deletes all that a deployment made, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from attrs import frozen
from botocore.exceptions import BotoCoreError, ClientError

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.cloud.account import POLICY, Account
from pyworkflow_aws.deploy.cloud.errors import DeployFailed, code_of, sentence, sentences
from pyworkflow_aws.deploy.cloud.plan import Found
from pyworkflow_aws.deploy.cloud.policy import Place
from pyworkflow_aws.deploy.cloud.target import TAG, Target


@frozen
class Deletion:
    """Something to delete: its description for people, and the call that deletes it."""

    what: str
    delete: Callable[[], Any]


def deletions(account: Account, target: Target, place: Place, found: Found) -> list[Deletion]:
    """Return what to delete, in order.

    Raises:
        ConfigError: The function is not ours.
        AwsRefused: Something may not be read.
    """
    if found.function is not None and not found.ours:
        msg = f"pyworkflow did not make the function {target.name!r}, so it does not delete it"
        raise ConfigError(msg)
    with sentences():
        return list(_deletions(account, target, place, found))


def _deletions(account: Account, target: Target, place: Place, found: Found) -> Iterator[Deletion]:
    if found.function is not None:
        versions = f", with its versions {', '.join(map(str, sorted(found.versions)))}" if found.versions else ""
        yield Deletion(
            f"the function {target.name}{versions}",
            lambda: account.lambda_.delete_function(FunctionName=target.name),
        )
    if found.role is not None and found.role.ours:
        role = target.role_name(place.region)
        if found.role.policy is not None:
            yield Deletion(
                f"the policy of the role {role}",
                lambda: account.iam.delete_role_policy(RoleName=role, PolicyName=POLICY),
            )
        yield Deletion(f"the role {role}", lambda: account.iam.delete_role(RoleName=role))
    if found.log_days is not None:
        group = target.log_group
        arn = place.log_group(group).removesuffix(":*")
        if TAG in account.logs.list_tags_for_resource(resourceArn=arn)["tags"]:
            delete = lambda: account.logs.delete_log_group(logGroupName=group)  # noqa: E731 -- as above
            yield Deletion(f"the log group {group}, with all logs", delete)


def has_runs(account: Account, target: Target, found: Found) -> bool:
    """Whether there are runs in progress, which would be lost.

    Raises:
        AwsRefused: They may not be listed.
    """
    with sentences():
        durable = bool((found.function or {}).get("DurableConfig"))
        return durable and any(account.runs_on(target.name, version) for version in found.versions)


def destroy(items: list[Deletion], tell: Callable[[str], object]) -> None:
    """Delete *items*; one that does not exist any more is no error.

    Raises:
        DeployFailed: One could not be deleted; the message says which are left.
    """
    for number, item in enumerate(items):
        tell(f"delete {item.what}")
        try:
            item.delete()
        except (BotoCoreError, ClientError) as error:
            if isinstance(error, ClientError) and code_of(error) in {"ResourceNotFoundException", "NoSuchEntity"}:
                continue
            left = "; ".join(one.what for one in items[number:])
            msg = (
                f"{item.what} could not be deleted: {sentence(error)}\nstill there: {left}\n"
                "once the cause is gone, type the same command again"
            )
            raise DeployFailed(msg) from error
