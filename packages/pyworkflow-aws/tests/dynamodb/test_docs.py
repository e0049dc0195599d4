"""docs/dynamodb.md says what is so: its policy suffices, and its figures are those that are measured."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import boto3
import pytest

from pyworkflow import App
from pyworkflow.errors import StorageError
from pyworkflow.model import Effects, Hook, Message, RunCompleted, RunQuery, Status
from pyworkflow.testing.storage import FOREVER, LEASE, T0, add, facts, job, take
from pyworkflow_aws.dynamodb import DynamoDBStorage

DOCS = (Path(__file__).parents[4] / "docs" / "dynamodb.md").read_text(encoding="utf-8")


@pytest.fixture
def as_worker(aws, new_table, monkeypatch):
    """Be somebody with nothing but the documented policy; gives the name of the table."""
    name, iam = new_table(), boto3.client("iam")
    (policy,) = re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)
    policy = policy.replace("ACCOUNT", aws).replace("table/workflows", f"table/{name}")
    iam.create_user(UserName="worker")
    iam.put_user_policy(UserName="worker", PolicyName="least", PolicyDocument=json.dumps(json.loads(policy)))
    key = iam.create_access_key(UserName="worker")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    return name


@pytest.mark.asyncio
async def test_the_policy_is_enough_for_all_that_a_worker_does(as_worker):
    s = DynamoDBStorage(as_worker)
    await s.open()
    await add(s, "parent", job("parent", due=FOREVER))
    await add(s, "r", job(), job(op=2), idempotency_key="k")
    (lease, _) = await take(s)
    await s.append("r", facts(1), [job(op=3)], lease=lease, also=Effects(hooks=[Hook("t", "r", 1, "h")]))
    await s.append("r", facts(1, 2), expected=2, lease=lease)
    assert len(await take(s, "w2", T0 + LEASE)) == 3
    await s.append("r", facts(1), [job()])
    assert s.renew("w2", T0 + LEASE, LEASE) == [("r", 0)]
    assert await s.due() is not None
    assert len(await s.hooks()) == 1
    s.renew("w2", T0, timedelta(0))
    tell = Effects(tell=[Message("parent", facts(1))])
    await s.append("r", [RunCompleted(T0, 1)], status=Status.COMPLETED, now=T0, also=tell)
    assert len((await s.runs(RunQuery())).runs) == 2
    assert await s.purge(FOREVER, [Status.COMPLETED]) == 1
    await s.close()


@pytest.mark.asyncio
async def test_the_policy_is_not_enough_to_make_a_table(as_worker):
    with pytest.raises(StorageError, match="AccessDenied"):
        await DynamoDBStorage("another").init()


def test_the_options_are_those_that_there_are():
    table = DOCS.split("The config string")[1].split("##")[0]
    documented = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    storage = App(storage="dynamodb://t?" + "&".join(f"{name}=1" for name in documented)).storage
    assert isinstance(storage, DynamoDBStorage)
    assert documented == ["region", "profile", "endpoint", "shards", "threads", "bucket"]
