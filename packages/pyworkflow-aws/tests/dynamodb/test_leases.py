"""A worker that holds something is found when its lease lapses, whatever its heartbeat did meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pyworkflow.errors import StorageError
from pyworkflow.testing.storage import LEASE, T0, add_held, job, run, started
from pyworkflow_aws.dynamodb import DynamoDBStorage, claims

pytestmark = pytest.mark.asyncio
LATER = T0 + timedelta(seconds=30)


@pytest.fixture
def table(new_table):
    return new_table()


@pytest.fixture
def opened(table):
    async def open_another():
        storage = DynamoDBStorage(table)
        await storage.open()
        storages.append(storage)
        return storage

    storages = []
    yield open_another
    for storage in storages:
        storage._client.close()


async def taken_over(storage):
    return [(taken.run_id, taken.lapsed) for taken in await storage.claim("heir", LATER, LEASE, 10)]


async def test_a_heartbeat_between_listing_and_taking_does_not_hide_a_worker(opened, monkeypatch):
    storage, other = await opened(), await opened()
    await storage.create(run("r"), [started()], [job("r")])
    take = claims._claim_free

    def take_later(*arguments):
        storage.renew("w", T0, LEASE)
        return take(*arguments)

    monkeypatch.setattr(claims, "_claim_free", take_later)
    assert len(await storage.claim("w", T0, LEASE, 10)) == 1
    assert await taken_over(other) == [("r", True)]


async def test_a_heartbeat_while_a_run_is_created_does_not_hide_who_begins_it(opened, monkeypatch):
    storage, other = await opened(), await opened()
    storage.renew("w", T0, LEASE)
    write = storage._client.write

    def write_later(writes):
        storage.renew("w", T0, LEASE)
        return write(writes)

    monkeypatch.setattr(storage._client, "write", write_later)
    await add_held(storage)
    assert await taken_over(other) == [("r", True)]


async def test_who_may_hold_something_after_a_lost_answer_stays_findable(opened, monkeypatch):
    storage, other = await opened(), await opened()
    await storage.create(run("r"), [started()], [job("r")])
    take = claims._claim_free

    def take_and_fail(*arguments):
        take(*arguments)
        storage._holds.drop("r", 0)
        raise StorageError("the answer was lost")

    monkeypatch.setattr(claims, "_claim_free", take_and_fail)
    with pytest.raises(StorageError):
        await storage.claim("w", T0, LEASE, 10)
    storage.renew("w", T0, LEASE)
    monkeypatch.undo()
    assert await taken_over(other) == [("r", True)]


async def test_a_worker_that_holds_nothing_is_not_looked_for(opened):
    storage = await opened()
    storage.renew("w", T0, LEASE)
    assert await storage.due() is None
