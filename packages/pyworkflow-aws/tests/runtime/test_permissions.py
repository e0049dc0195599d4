"""The policies that are deployed and documented are what is needed, and no more; no test here may do more either."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

import pyworkflow
from pyworkflow import hook, sleep, step, workflow
from pyworkflow.errors import RunCancelled, RunTerminated
from pyworkflow.model import RunQuery
from pyworkflow.testing.until import until
from pyworkflow_aws.deploy.cloud.policy import Place, callers_policy, role_policy
from pyworkflow_aws.deploy.cloud.target import KINDS, Target
from pyworkflow_aws.durable.replay.payloads import Payloads

DOCS = (Path(__file__).parents[4] / "docs" / "aws.md").read_text(encoding="utf-8")
HERE = Place("123456789012", "us-east-1")


def target(**more: Any) -> Target:
    return Target(name="shop", kind=KINDS["durable-lambda"], module="shop", python="3.13", **more)


def allowed(policy: Any, service: str) -> set[str]:
    found = {action for statement in policy["Statement"] for action in statement["Action"]}
    return {action.partition(":")[2] for action in found if action.startswith(f"{service}:")}


@step(name="permissions.text")
async def text(size: int) -> str:
    return "x" * size


@workflow(name="permissions.asks")
async def asks(token: str) -> str:
    await pyworkflow.start(ends, run_id=f"of-{token}")
    return await hook("go", str, token=token)


@workflow(name="permissions.ends")
async def ends() -> None:
    await sleep(0.01)


@workflow(name="permissions.large")
async def large(size: int) -> str:
    return str(len(await text(size)))


def test_the_documented_policy_of_callers_is_the_one_that_is_written():
    (documented,) = (found for found in re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL) if "Statement" in found)
    assert json.loads(documented) == callers_policy(target(), Place("ACCOUNT", "REGION"))


@pytest.mark.asyncio
async def test_who_does_all_that_can_be_done_to_runs_uses_all_of_the_policies(make_app):
    async with make_app() as app:
        runtime = app.recorded()
        answered = await app.start(asks, ("permissions:1",))
        await until(lambda: runtime.hooks(answered.id))
        await app.resume_hook("permissions:1", "x")
        assert await answered.result(timeout=20) == "x"
        assert len((await runtime.runs(RunQuery())).runs) == 2
        cancelled, terminated = [await app.start(asks, (f"permissions:{n}",)) for n in (2, 3)]
        await until(lambda: runtime.hooks(cancelled.id))
        await cancelled.cancel("enough")
        with pytest.raises(RunCancelled):
            await cancelled.result(timeout=20)
        await runtime.terminate(terminated.id, "enough")
        with pytest.raises(RunTerminated):
            await terminated.result(timeout=20)
    assert app.used["caller"] == allowed(callers_policy(target(), HERE), "lambda")
    # A state that is longer than a megabyte is asked for page by page, which the local runner never needs.
    assert app.used["function"] == allowed(role_policy(target(), HERE), "lambda") - {"GetDurableExecutionState"}


def test_large_values_are_written_by_the_function_and_read_by_callers(official_with, aws, monkeypatch):
    owner = boto3.client("s3")
    owner.create_bucket(Bucket="permissions", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    asked = target(bucket="permissions")
    function = official_with(aws_bucket="permissions")
    function.clients._made["s3 ask"] = user(aws, "function", role_policy(asked, HERE))
    (called,) = function.run(large, 1_000_000).get_all_operations()
    assert set(json.loads(called.result)) >= {"bucket", "s3"}
    caller = user(aws, "caller", callers_policy(asked, HERE))
    assert Payloads(client=lambda: caller).read(called.result)[0] == "x" * 1_000_000
    with pytest.raises(ClientError, match="AccessDenied"):
        caller.put_object(Bucket="permissions", Key="pyworkflow/x", Body=b"")


def user(account: str, name: str, policy: Any) -> Any:
    """Return an S3 client of somebody who may do what *policy* says."""
    iam = boto3.client("iam")
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="least", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return boto3.client("s3", aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"])
