"""What is too large for an item or a transaction, and what many jobs cost."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import timedelta

import pytest

from pyworkflow.errors import DamagedHistory, LeaseLost, PayloadTooLarge, RunNotFound, StorageError
from pyworkflow.events import Completed, RunCompleted
from pyworkflow.model import Append, Effects, Hook, Message, Status
from pyworkflow.testing.storage import FOREVER, LEASE, T0, add, call, facts, job, run, started, take
from pyworkflow_aws.dynamodb import DynamoDBStorage, payloads
from pyworkflow_aws.dynamodb.keys import job_key
from pyworkflow_aws.dynamodb.payloads import unpacked

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(120)]


@pytest.fixture
def opened(new_table):
    """Open a storage on a table of its own."""

    async def make(name=None, **options):
        storage = DynamoDBStorage(name or new_table(), **options)
        await storage.open()
        return storage

    return make


def keys(storage, run_id):
    """The sort keys of all there is of a run."""
    return [item["SK"] for item in storage._client.items(f"run#{run_id}")]


class Calls:
    """Counts the calls of a storage from now on."""

    def __init__(self, storage):
        self.seen = Counter()
        storage._client.boto.meta.events.register("before-call.dynamodb.*", self.count)

    def count(self, model, **_):
        self.seen[model.name] += 1


async def test_what_is_larger_than_an_item_is_kept_in_several(opened, noise):
    s, large = await opened(), [noise(1_500_000) for _ in range(3)]
    await s.create(run(), [started(value=large[0])], [job(op=1, call=call(large[1]))])
    await s.append(Append("r", [Completed(T0, 1, large[2])]))
    _, events = await s.load("r")
    assert events[0].args == [large[0]]
    assert events[1].value == large[2]
    assert (await take(s))[0].call == call(large[1])
    await s.close()


async def test_a_holder_writes_what_is_larger_than_an_item(opened, noise):
    s, large = await opened(), noise(1_000_000)
    await add(s)
    (lease,) = await take(s)
    assert await s.append(Append("r", [Completed(T0, 1, large)], expected=1, lease=lease)) == 2
    assert (await s.load("r", 1))[1] == [Completed(T0, 1, large)]
    await s.close()


async def test_what_is_too_large_is_refused_and_nothing_is_written(opened, noise, monkeypatch):
    monkeypatch.setattr(payloads, "LARGEST", 1_000_000)
    s, large = await opened(), noise(1_500_000)
    await add(s)
    (lease,) = await take(s)
    before = keys(s, "r")
    for held in (None, lease):
        with pytest.raises(PayloadTooLarge, match="bucket="):
            await s.append(Append("r", [Completed(T0, 1, large)], lease=held))
    with pytest.raises(PayloadTooLarge):
        await s.create(run("r2"), [started(value=large)], [])
    with pytest.raises(RunNotFound):
        await s.load("r2")
    assert keys(s, "r") == before
    await s.close()


async def test_what_was_kept_for_a_refused_append_is_deleted(opened, noise):
    s = await opened()
    await add(s)
    (lease,) = await take(s)
    await take(s, "w2", T0 + LEASE)
    before = keys(s, "r")
    with pytest.raises(LeaseLost):
        await s.append(Append("r", [Completed(T0, 1, noise(800_000))], expected=1, lease=lease))
    assert keys(s, "r") == before
    await s.close()


async def test_a_bucket_takes_what_is_larger_than_an_item(opened, noise, aws):
    import boto3

    s3 = boto3.Session().client("s3")
    s3.create_bucket(Bucket="large", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s, large = await opened(bucket="large"), noise(1_500_000)
    await s.create(run(), [started(value=large)], [job()])
    assert (await s.load("r"))[1][0].args == [large]
    assert not [key for key in keys(s, "r") if key.startswith("chunk#")]
    assert s3.list_objects_v2(Bucket="large")["KeyCount"] == 1
    other = await opened(s.name)
    with pytest.raises(DamagedHistory, match="a bucket, and this storage has none"):
        await other.load("r")
    await s.append(Append("r", [RunCompleted(T0, 1)], status=Status.COMPLETED, now=T0))
    assert await s.purge(FOREVER, [Status.COMPLETED]) == 1
    assert s3.list_objects_v2(Bucket="large")["KeyCount"] == 0
    s3.close()
    await s.close()
    await other.close()


async def test_purging_leaves_nothing_of_a_run(opened, noise):
    s = await opened()
    await s.create(run(idempotency_key="k"), [started(value=noise(800_000))], [job(), job(op=3)])
    await s.append(Append("r", facts(1), effects=Effects(hooks=[Hook("t", "r", 1, "h")])))
    await s.append(Append("r", [RunCompleted(T0, 1)], status=Status.COMPLETED, now=T0))
    assert await s.purge(FOREVER, [Status.COMPLETED]) == 1
    left = s._client.call("scan")["Items"]
    assert [item["PK"]["S"] for item in left] == ["meta"]
    await s.close()


async def test_a_decision_may_hand_out_more_jobs_than_a_transaction_takes(opened):
    s = await opened()
    await add(s)
    (lease,) = await take(s)
    assert await s.append(Append("r", facts(1), [job(op=op) for op in range(1, 251)], expected=1, lease=lease)) == 2
    assert {claimed.op for claimed in await take(s, "w2", limit=500)} == set(range(1, 251))
    assert await s.append(Append("r", facts(1), expected=2, lease=lease)) == 3
    await s.close()


async def test_a_run_may_begin_with_more_jobs_than_a_transaction_takes(opened):
    s = await opened()
    await add(s, "r", *(job(op=op) for op in range(120)))
    assert len(await take(s, limit=500)) == 120
    await s.close()


async def test_an_end_may_take_away_more_than_a_transaction_takes(opened):
    s = await opened()
    for n in range(60):
        await add(s, f"child{n}", job(f"child{n}", due=FOREVER))
    await add(s, "r", *(job(op=op) for op in range(120)))
    await s.append(Append("r", [], effects=Effects(hooks=[Hook("t", "r", 1, "h")])))
    tell = Effects(messages=[Message(f"child{n}", facts(1)) for n in range(60)])
    await s.append(Append("r", [RunCompleted(T0, 1)], status=Status.COMPLETED, now=T0, effects=tell))
    assert {claimed.run_id for claimed in await take(s, limit=500)} == {f"child{n}" for n in range(60)}
    assert await s.hooks() == []
    assert [key for key in keys(s, "r") if key.startswith(("job#", "hook#", "redo"))] == []
    await s.close()


CALL_7 = ["charge", [7], {}, 1]
"""A call as 0.1.0 stores it, in a job and in a deferred write."""


async def test_the_call_of_a_job_is_stored_as_ever(opened):
    s = await opened()
    await add(s, "r", job(op=7, call=call(7)))
    assert json.loads(unpacked(s._client.get(job_key("r", 7))["jd"])) == CALL_7
    await s.close()


@pytest.mark.parametrize("damaged", [b"", b"j{", b"z?", b'j["charge"]', "j\u00e9".encode()], ids=repr)
async def test_a_damaged_call_keeps_no_other_job_from_being_claimed(opened, caplog, damaged):
    s = await opened()
    await add(s, "r", job(op=7, call=call(7)), job(op=8, call=call(8)))
    item = s._client.get(job_key("r", 7))
    s._client.put({**item, "jd": damaged})
    assert {lease.op: lease.call for lease in await take(s)} == {7: None, 8: call(8)}
    assert "the call of job 7 of run r is damaged" in caplog.text
    await s.close()


@pytest.mark.parametrize("look", ["a claim", "an append"])
async def test_what_a_crash_left_undone_is_made_up_for(opened, monkeypatch, look):
    s = await opened()
    await add(s, "r", job(due=FOREVER))

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pyworkflow_aws.dynamodb.writing.catch_up", crash)
        with pytest.raises(KeyboardInterrupt):
            await s.append(Append("r", facts(1), [job(op=op, call=call(op)) for op in range(1, 121)]))
    deferred = json.loads(unpacked(s._client.get(("run#r", "redo"))["d"]))
    assert deferred[6] == {"do": "job", "op": 7, "due": T0.isoformat(), "workflow": "flow", "queue": "", "data": CALL_7}
    if look == "an append":
        await s.append(Append("r", facts(1, 2)))
    claimed = await take(s, limit=500) or await take(s, limit=500)
    assert {lease.op: lease.call for lease in claimed} == {op: call(op) for op in range(1, 121)}
    assert await s.due() == T0 + LEASE
    assert len((await s.load("r"))[1]) == (3 if look == "an append" else 2)
    await s.close()


async def test_more_hooks_than_a_transaction_takes_are_refused(opened):
    s = await opened()
    await add(s)
    with pytest.raises(PayloadTooLarge, match="fewer at a time"):
        await s.append(Append("r", facts(1), effects=Effects(hooks=[Hook(f"t{n}", "r", n, "h") for n in range(60)])))
    assert (await s.load("r"))[0].length == 1
    await s.close()


async def test_renewing_many_jobs_is_one_write(opened):
    s = await opened()
    for n in range(300):
        await add(s, f"r{n}")
    assert len(await take(s, limit=300)) == 300
    calls = Calls(s)
    s.renew("w", T0, LEASE)
    assert calls.seen == {"PutItem": 1, "Query": 1}
    await s.close()


async def test_a_step_of_a_holder_is_one_write_and_no_read(opened):
    s = await opened()
    await add(s)
    (lease,) = await take(s)
    calls = Calls(s)
    for n in range(1, 11):
        await s.append(Append("r", facts(2, n), expected=2 * n - 1, lease=lease))
    assert calls.seen == {"PutItem": 10}
    await s.close()


async def test_no_call_reads_the_whole_table(opened):
    s = await opened()
    calls = Calls(s)
    await add(s)
    (lease,) = await take(s)
    s.renew("w", T0, LEASE)
    await s.append(Append("r", facts(1), [job(due=T0)], lease=lease, effects=Effects(hooks=[Hook("t", "r", 1, "h")])))
    await take(s, "w2", T0 + 2 * LEASE)
    await s.hooks()
    s.renew("w2", T0, timedelta(0))
    await s.due()
    await s.append(Append("r", facts(1), status=Status.FAILED, now=T0))
    await s.purge(FOREVER, [Status.FAILED])
    assert "Scan" not in calls.seen
    await s.close()


async def test_a_holder_that_was_taken_over_cannot_write_whatever_it_believes(new_table):
    name = new_table()
    zombie, other = DynamoDBStorage(name), DynamoDBStorage(name)
    await zombie.open()
    await other.open()
    await add(zombie)
    (old,) = await take(zombie)
    assert await zombie.append(Append("r", facts(1), expected=1, lease=old)) == 2
    (new,) = await take(other, "w2", T0 + LEASE)
    with pytest.raises(LeaseLost):
        await zombie.append(Append("r", facts(1, 2), expected=2, lease=old))
    assert await other.append(Append("r", facts(1, 2), expected=2, lease=new)) == 3
    assert (await zombie.load("r"))[1] == [started(), *facts(2)]
    await zombie.close()
    await other.close()


async def test_a_damaged_run_is_told_of_and_hides_no_other(opened):
    s = await opened()
    for n in range(3):
        await add(s, f"r{n}")
        await s.append(Append(f"r{n}", facts(2)))
    s._client.put({"PK": "run#r0", "SK": "event#0000000001", "s": 2, "n": 2, "e": 0, "w": "x", "h": 1, "d": b"zz"})
    s._client.delete([("run#r1", "event#0000000001")])
    for run_id in ("r0", "r1"):
        with pytest.raises(DamagedHistory, match=run_id):
            await s.load(run_id)
    assert (await s.load("r2"))[0].length == 3
    await s.close()


async def test_closing_finishes_what_is_under_way(opened):
    s = await opened()
    await add(s)
    writes = [asyncio.create_task(s.append(Append("r", facts(1, op), [job(op=op)]))) for op in range(1, 9)]
    await asyncio.sleep(0)
    await s.close()
    assert sorted(await asyncio.gather(*writes)) == list(range(2, 10))
    with pytest.raises(StorageError, match="is closed"):
        await s.load("r")
