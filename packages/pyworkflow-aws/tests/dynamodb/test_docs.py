"""docs/dynamodb.md says what is so: its policy is what a worker needs, and its options are those that there are."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from pyworkflow import App
from pyworkflow.errors import StorageError
from pyworkflow.events import RunCompleted
from pyworkflow.model import Append, Effects, Hook, Message, RunQuery, Status
from pyworkflow.testing.storage import FOREVER, LEASE, T0, add, facts, job, run, started, take
from pyworkflow_aws.deploy.cloud.policy import Place, table_policy
from pyworkflow_aws.deploy.cloud.target import Table
from pyworkflow_aws.dynamodb import DynamoDBStorage
from pyworkflow_aws.dynamodb import client as dynamodb_client

DOCS = (Path(__file__).parents[4] / "docs" / "dynamodb.md").read_text(encoding="utf-8")


def test_the_policies_are_those_that_are_deployed():
    policy, more = (json.loads(found) for found in re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL))
    place = Place("ACCOUNT", "eu-west-1")
    assert policy == table_policy(Table("workflows"), place)
    policy["Statement"] += more
    assert policy == table_policy(Table("workflows", bucket="large"), place)


@pytest.mark.asyncio
async def test_the_policy_is_what_a_worker_needs_and_no_more(as_worker, noise, monkeypatch):
    name = as_worker(bucket="of-a-worker")
    used = noted(monkeypatch)
    s = DynamoDBStorage(name, bucket="of-a-worker")
    await s.open()
    await add(s, "parent", job("parent", due=FOREVER))
    await add(s, "r", job(), job(op=2), idempotency_key="k")
    (lease, _) = await take(s)
    await s.append(Append("r", facts(1), [job(op=3)], lease=lease, effects=Effects(hooks=[Hook("t", "r", 1, "h")])))
    await s.append(Append("r", facts(1, 2), expected=2, lease=lease))
    assert len(await take(s, "w2", T0 + LEASE)) == 3
    await s.append(Append("r", facts(1), [job()]))
    assert s.renew("w2", T0 + LEASE, LEASE) == [("r", 0)]
    assert await s.due() is not None
    assert len(await s.hooks()) == 1
    s.renew("w2", T0, timedelta(0))
    tell = Effects(messages=[Message("parent", facts(1))])
    await s.append(Append("r", [RunCompleted(T0, 1)], status=Status.COMPLETED, now=T0, effects=tell))
    assert len((await s.runs(RunQuery())).runs) == 2
    assert await s.purge(FOREVER, [Status.COMPLETED]) == 1
    large = [started(value=noise(1_500_000))]
    await s.create(run("large"), large, [])
    assert (await s.load("large"))[1] == large
    await s.append(Append("large", [RunCompleted(T0, 1)], status=Status.COMPLETED, now=T0))
    assert await s.purge(FOREVER, [Status.COMPLETED]) == 1
    await s.close()
    statements = table_policy(Table(name, bucket="of-a-worker"), Place("1", "eu-west-1"))["Statement"]
    assert used == {action for statement in statements for action in statement["Action"]}


def noted(monkeypatch):
    """Return what the actions of all calls of AWS will be in."""
    used, make = set(), dynamodb_client._session

    def note(params, model, **_):
        items = params.get("TransactItems")
        name = {"ListObjectsV2": "ListBucket", "DeleteObjects": "DeleteObject"}.get(model.name, model.name)
        names = [name] if items is None else [f"{verb}Item" for item in items for verb in item]
        used.update(f"{model.service_model.signing_name}:{name}" for name in names)

    def session(*args):
        made = make(*args)
        made.events.register("before-parameter-build", note)
        return made

    monkeypatch.setattr(dynamodb_client, "_session", session)
    return used


@pytest.mark.asyncio
async def test_the_policy_is_not_enough_to_make_a_table(as_worker):
    as_worker()
    with pytest.raises(StorageError, match="AccessDenied"):
        await DynamoDBStorage("another").init()


def test_the_options_are_those_that_there_are():
    table = DOCS.split("The config string")[1].split("##")[0]
    documented = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    storage = App(storage="dynamodb://t?" + "&".join(f"{name}=1" for name in documented)).storage
    assert isinstance(storage, DynamoDBStorage)
    assert documented == ["region", "profile", "endpoint", "shards", "threads", "bucket"]
