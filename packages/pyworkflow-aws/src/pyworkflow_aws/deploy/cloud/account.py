"""Reads what an account holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError

from pyworkflow_aws.deploy.cloud.errors import code_of, sentences
from pyworkflow_aws.deploy.cloud.plan import Found, Role
from pyworkflow_aws.deploy.cloud.policy import Place
from pyworkflow_aws.deploy.cloud.target import ALIAS, TAG, Target

POLICY = "pyworkflow"
"""The name of the role's inline policy."""

_ABSENT = {"ResourceNotFoundException", "NoSuchEntity"}


class Account:
    """An AWS account, by the clients that a deployment needs."""

    def __init__(self, session: Any, region: str | None = None, endpoint: str | None = None) -> None:
        """Connect through *session*, a `boto3.Session`.

        Args:
            session: Has the credentials.
            region: The region; None: that of the session.
            endpoint: Another address than that of AWS.

        Raises:
            AwsRefused: There is no region.
        """
        # A large zip takes long to upload and to answer.
        config = Config(read_timeout=300, retries={"mode": "standard", "total_max_attempts": 4})
        with sentences():
            clients = (
                session.client(service, region_name=region, endpoint_url=endpoint, config=config)
                for service in ("lambda", "iam", "logs", "sts", "s3")
            )
            self.lambda_, self.iam, self.logs, self.sts, self.s3 = clients

    def place(self) -> Place:
        """Return the account's number, region and partition.

        Raises:
            AwsRefused: The credentials are missing or not valid.
        """
        with sentences():
            identity = self.sts.get_caller_identity()
        return Place(identity["Account"], self.lambda_.meta.region_name, identity["Arn"].split(":")[1])

    def find(self, target: Target) -> Found:
        """Return what there is of *target*.

        Raises:
            AwsRefused: Something may not be read.
        """
        with sentences():
            role = None if target.role is not None else self._role(target.role_name(self.lambda_.meta.region_name))
            log_days = self._log_days(target.log_group)
            function = self._function(target.name)
            if function is None:
                return Found(role, log_days)
            versions = dict(self._versions(target.name))
            aliases = list(self._aliases(target.name))
            aliased = {int(number) for alias in aliases for number in _versions_of(alias) if number.isdigit()}
            live = next((alias["FunctionVersion"] for alias in aliases if alias["Name"] == ALIAS), None)
            old = sorted(set(versions) - aliased)[: -target.keep + 1] if target.kind.durable else []
            in_use = {number for number in old if self.runs_on(target.name, number)}
            return Found(
                role,
                log_days,
                function["Configuration"],
                ours=TAG in function.get("Tags", {}),
                versions=versions,
                live=None if live is None else int(live) if live.isdigit() else 0,
                aliased=frozenset(aliased),
                in_use=frozenset(in_use),
                retries=self._retries(target) if live is not None else None,
            )

    def runs_on(self, name: str, version: int) -> bool:
        """Whether durable runs of the function *name* are in progress on *version*."""
        which = {"FunctionName": name, "Qualifier": str(version)}
        answer = _or_none(
            lambda: self.lambda_.list_durable_executions_by_function(**which, Statuses=["RUNNING"], MaxItems=1)
        )
        return answer is not None and bool(answer["DurableExecutions"])

    def _role(self, name: str) -> Role | None:
        role = _or_none(lambda: self.iam.get_role(RoleName=name)["Role"])
        if role is None:
            return None
        ours = any(tag["Key"] == TAG for tag in role.get("Tags", ()))
        policy = _or_none(lambda: self.iam.get_role_policy(RoleName=name, PolicyName=POLICY)["PolicyDocument"])
        return Role(ours, policy)

    def _log_days(self, name: str) -> int | None:
        pages = self.logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=name)
        groups = (group for page in pages for group in page["logGroups"])
        return next((group.get("retentionInDays", 0) for group in groups if group["logGroupName"] == name), None)

    def _function(self, name: str) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = _or_none(lambda: self.lambda_.get_function(FunctionName=name))
        return found

    def _versions(self, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
        for page in self.lambda_.get_paginator("list_versions_by_function").paginate(FunctionName=name):
            for version in page["Versions"]:
                if version["Version"].isdigit():  # not $LATEST
                    yield int(version["Version"]), version

    def _aliases(self, name: str) -> Iterator[Mapping[str, Any]]:
        for page in self.lambda_.get_paginator("list_aliases").paginate(FunctionName=name):
            yield from page["Aliases"]

    def _retries(self, target: Target) -> int | None:
        found = _or_none(
            lambda: self.lambda_.get_function_event_invoke_config(FunctionName=target.name, Qualifier=ALIAS)
        )
        return None if found is None else found.get("MaximumRetryAttempts")


def _versions_of(alias: Mapping[str, Any]) -> Iterator[str]:
    yield alias["FunctionVersion"]
    yield from (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights", {})


def _or_none(call: Any) -> Any:
    """Return what *call* returns, or None if AWS answers that there is no such thing."""
    try:
        return call()
    except ClientError as error:
        if code_of(error) in _ABSENT:
            return None
        raise
