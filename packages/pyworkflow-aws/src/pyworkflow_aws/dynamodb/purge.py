"""Deleting runs that have ended."""

from __future__ import annotations

from collections.abc import Collection

from attrs import evolve

from pyworkflow.errors import DamagedHistory
from pyworkflow.model import Status
from pyworkflow_aws.dynamodb.client import Client, Write
from pyworkflow_aws.dynamodb.items import Head, head_item, head_of
from pyworkflow_aws.dynamodb.keys import HEAD, LIST, Item, head_key, idempotency_key, of_run
from pyworkflow_aws.dynamodb.retries import CheckFailed
from pyworkflow_aws.dynamodb.sharded_index import walk
from pyworkflow_aws.dynamodb.transaction import SAME

_AT_ONCE = 100


def purge(client: Client, before: int, statuses: Collection[Status]) -> int:
    """Delete ended runs; see `Storage.purge`.

    All runs in the index are read, as it records how and when each ended.
    """
    wanted = {status.value for status in statuses if status.is_final}
    deleted, some = 0, list[str]()

    def delete() -> int:
        found = client.fan(lambda run_id: _purge(client, run_id, before, wanted), some)
        some.clear()
        return sum(found)

    for item in walk(client, LIST, [f"runs#{shard}" for shard in range(client.shards)], page=1000):
        if _matches(item, before, wanted) or "pg" in item:
            some.append(str(item["PK"]).removeprefix("run#"))
        if len(some) == _AT_ONCE:
            deleted += delete()
    return deleted + delete()


def _matches(item: Item, before: int, statuses: Collection[str]) -> bool:
    return item.get("st") in statuses and "en" in item and int(item["en"]) < before


def _purge(client: Client, run_id: str, before: int, statuses: Collection[str]) -> bool:
    """Delete a run if it is to be deleted; first it is marked, so that a crash leaves no run with half a history."""
    item = client.get(head_key(run_id))
    if item is None:
        return False
    if "pg" not in item:
        if not _matches(item, before, statuses):
            return False
        try:
            head = head_of(item)
        except DamagedHistory:
            return False
        marked = evolve(head, purged=True, redo=False, version=head.version + 1)
        try:
            client.write([Write(head_key(run_id), head_item(marked, client.shards), SAME, {":v": head.version})])
        except CheckFailed:
            return _is_marked(client.get(head_key(run_id)), head) and remove(client, run_id)
    return remove(client, run_id)


def _is_marked(item: Item | None, head: Head) -> bool:
    return item is not None and "pg" in item and int(item["v"]) == head.version + 1


def remove(client: Client, run_id: str) -> bool:
    """Delete all of a run that is marked; its head goes last."""
    item = client.get(head_key(run_id))
    if item is None or "pg" not in item:
        return False
    keys = [(str(found["PK"]), str(found["SK"])) for found in client.items(of_run(run_id))]
    client.delete([key for key in keys if key[1] != HEAD])
    if client.bucket is not None:
        client.bucket.delete_below(run_id)
    writes = [Write(head_key(run_id), None, SAME, {":v": item["v"]})]
    if "ik" in item:
        mine: Item = {":r": run_id}
        writes.append(Write(idempotency_key(str(item["ik"])), None, "run = :r", mine))
    try:
        client.write(writes)
    except CheckFailed:
        return False
    return True
