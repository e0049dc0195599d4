"""Applies a plan, action by action, so that the next deployment can resume where this one stops."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field
from botocore.exceptions import BotoCoreError, ClientError

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.bundle.build import Bundle
from pyworkflow_aws.deploy.cloud.account import POLICY, Account
from pyworkflow_aws.deploy.cloud.errors import DeployFailed, code_of, message_of, sentence
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
)
from pyworkflow_aws.deploy.cloud.plan_text import describe
from pyworkflow_aws.deploy.cloud.policy import TRUST
from pyworkflow_aws.deploy.cloud.target import TAG, Target

UPLOAD_LIMIT = 50 << 20
"""Bytes of a zip that Lambda takes without a bucket."""

_PATIENCE = 60.0  # seconds until a new role is known everywhere, or an earlier change has ended
_PAUSE = 1.0
_POLL = 0.5  # seconds between two polls for the end of a change
_POLLS = 600


@define
class Deployer:
    """Applies plans to one function.

    Attributes:
        account: Where.
        target: What.
        bundle: The code.
        tell: Called with each action before it is done.
        pause: Waits for so many seconds.
    """

    account: Account
    target: Target
    bundle: Bundle
    tell: Callable[[str], object] = lambda _: None
    pause: Callable[[float], object] = time.sleep
    _published: str | None = field(default=None, init=False)

    def apply(self, actions: Iterable[Action]) -> None:
        """Apply *actions*, in order.

        Raises:
            ConfigError: The zip is too large to upload without a bucket.
            DeployFailed: One of them failed; the message says what was done before, and how to resume.
        """
        self._check_size()
        done: list[str] = []
        for action in actions:
            text = describe(action)
            self.tell(text)
            try:
                self._apply_one(action)
            except (BotoCoreError, ClientError) as error:
                kept = "; ".join(done) or "nothing"
                msg = (
                    f"deploying {self.target.name!r} stopped when it was to {text}: {sentence(error)}\n"
                    f"done before that: {kept}\n"
                    "once the cause is gone, type the same command again: it goes on from there"
                )
                raise DeployFailed(msg) from error
            done.append(text)

    def _check_size(self) -> None:
        if len(self.bundle.data) > UPLOAD_LIMIT and self.target.bucket is None:
            size = len(self.bundle.data) >> 20
            msg = f"the zip has {size} MB, and Lambda takes 50 MB: give a --bucket to upload it to"
            raise ConfigError(msg)

    def _apply_one(self, action: Action) -> None:  # noqa: C901 -- a table
        lambda_, name = self.account.lambda_, self.target.name
        match action:
            case CreateLogGroup(group):
                self.account.logs.create_log_group(logGroupName=group, tags={TAG: name})
            case KeepLogs(group, days):
                self.account.logs.put_retention_policy(logGroupName=group, retentionInDays=days)
            case CreateRole(role):
                tags = [{"Key": TAG, "Value": name}]
                self.account.iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(TRUST), Tags=tags)
            case PutPolicy(role, policy):
                self.account.iam.put_role_policy(RoleName=role, PolicyName=POLICY, PolicyDocument=json.dumps(policy))
            case CreateFunction(configuration):
                self._create(configuration)
            case UpdateCode(_, arch):
                self._settled(lambda_.update_function_code, Architectures=[arch], **self._code())
                self._wait("function_updated_v2")
            case Configure(configuration):
                self._settled(lambda_.update_function_configuration, **configuration)
                self._wait("function_updated_v2")
            case Publish():
                self._published = self._settled(lambda_.publish_version, CodeSha256=self.bundle.digest)["Version"]
            case PointAlias():
                self._point(action)
            case StopRetries(alias):
                lambda_.put_function_event_invoke_config(FunctionName=name, Qualifier=alias, MaximumRetryAttempts=0)
            case DeleteVersion(version):
                # A run may have been started there, by number, since the plan was made.
                if not (self.target.kind.durable and self.account.runs_on(name, version)):
                    lambda_.delete_function(FunctionName=name, Qualifier=str(version))

    def _create(self, configuration: Any) -> None:
        made = {"Architectures": [self.target.arch], "Tags": {TAG: self.target.name}, "Publish": False}
        self._settled(self.account.lambda_.create_function, Code=self._code(), **made, **configuration)
        self._wait("function_active_v2")

    def _point(self, action: PointAlias) -> None:
        version = str(action.version) if action.version is not None else self._published
        alias = {"FunctionName": self.target.name, "Name": action.alias, "FunctionVersion": version}
        if action.before is None:
            self.account.lambda_.create_alias(**alias)
        else:
            self.account.lambda_.update_alias(**alias, RoutingConfig={"AdditionalVersionWeights": {}})

    def _code(self) -> dict[str, Any]:
        if self.target.bucket is None or len(self.bundle.data) <= UPLOAD_LIMIT:
            return {"ZipFile": self.bundle.data}
        digest = self.bundle.digest.rstrip("=").replace("/", "_").replace("+", "-")
        key = f"pyworkflow-deploy/{self.target.name}/{digest}.zip"
        self.account.s3.put_object(Bucket=self.target.bucket, Key=key, Body=self.bundle.data)
        return {"S3Bucket": self.target.bucket, "S3Key": key}

    def _settled(self, call: Callable[..., Any], **arguments: Any) -> Any:
        """Call the function's API, again while AWS answers that an earlier change has not ended yet."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return call(FunctionName=self.target.name, **arguments)
            except ClientError as error:
                passing = code_of(error) == "ResourceConflictException" and "already exist" not in message_of(error)
                if not (passing or "cannot be assumed" in message_of(error)) or time.monotonic() > until:
                    raise
            self.pause(_PAUSE)

    def _wait(self, waiter: str) -> None:
        self.account.lambda_.get_waiter(waiter).wait(
            FunctionName=self.target.name, WaiterConfig={"Delay": _POLL, "MaxAttempts": _POLLS}
        )
