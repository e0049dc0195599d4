"""Takes away all that a deployment made, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from attrs import frozen
from botocore.exceptions import BotoCoreError, ClientError

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.account import POLICY, Account
from pyworkflow_aws.deploy.errors import DeployFailed, code_of, sentence, sentences
from pyworkflow_aws.deploy.plan import Found
from pyworkflow_aws.deploy.policy import Place
from pyworkflow_aws.deploy.target import TAG, Target


@frozen
class Doomed:
    """Something to delete: what it is, for people, and the call that deletes it."""

    what: str
    delete: Callable[[], Any]


def doomed(account: Account, target: Target, place: Place, found: Found) -> list[Doomed]:
    """Return what to delete, in order.

    Raises:
        ConfigError: The function is not ours.
        AwsRefused: Something may not be looked at.
    """
    if found.function is not None and not found.ours:
        msg = f"pyworkflow did not make the function {target.name!r}, so it does not delete it"
        raise ConfigError(msg)
    with sentences():
        return list(_doomed(account, target, place, found))


def _doomed(account: Account, target: Target, place: Place, found: Found) -> Iterator[Doomed]:
    if found.function is not None:
        versions = f", with its versions {', '.join(map(str, sorted(found.versions)))}" if found.versions else ""
        yield Doomed(
            f"the function {target.name}{versions}",
            lambda: account.lambda_.delete_function(FunctionName=target.name),
        )
    if found.role is not None and found.role.ours:
        role = target.role_name(place.region)
        if found.role.policy is not None:
            yield Doomed(
                f"the policy of the role {role}",
                lambda: account.iam.delete_role_policy(RoleName=role, PolicyName=POLICY),
            )
        yield Doomed(f"the role {role}", lambda: account.iam.delete_role(RoleName=role))
    if found.log_days is not None:
        group = target.log_group
        arn = place.log_group(group).removesuffix(":*")
        if TAG in account.logs.list_tags_for_resource(resourceArn=arn)["tags"]:
            delete = lambda: account.logs.delete_log_group(logGroupName=group)  # noqa: E731 -- as above
            yield Doomed(f"the log group {group}, with all logs", delete)


def running(account: Account, target: Target, found: Found) -> bool:
    """Whether there are runs that would be lost.

    Raises:
        AwsRefused: AWS does not say.
    """
    with sentences():
        durable = bool((found.function or {}).get("DurableConfig"))
        return durable and any(account.runs_on(target.name, version) for version in found.versions)


def destroy(items: list[Doomed], tell: Callable[[str], object]) -> None:
    """Delete *items*; what is gone already is fine.

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
