"""Leases of workers: one item each, however many jobs they hold."""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from pyworkflow.model import RUN_OP
from pyworkflow_aws.dynamodb.client import Client, Write
from pyworkflow_aws.dynamodb.held_jobs import Holds
from pyworkflow_aws.dynamodb.items import Work, head_item, head_of, job_in, job_item
from pyworkflow_aws.dynamodb.keys import HEAD, WORK, Item, held_by, job_key, job_of, lease_key, shard_of
from pyworkflow_aws.dynamodb.retries import CheckFailed
from pyworkflow_aws.dynamodb.transaction import SAME

_MICROS = 1_000_000


def prolong(client: Client, holds: Holds, worker: str, until: int, micros: int, *, listed: bool) -> None:
    """Write the lease of a worker until *until*, *micros* from now on; one that is *listed* is found when it lapses."""
    partition, sort = lease_key(worker)
    item: Item = {"PK": partition, "SK": sort, "u": until}
    if listed:
        item |= {"wp": f"free#{shard_of(worker, client.shards)}", "wt": until}
    with holds.prolonging:
        if not listed:
            holds.unlisted(worker)  # whatever the answer is
        client.put(item)
        holds.prolonged(worker, until, micros / _MICROS, listed=listed)


def ensure_listed(client: Client, holds: Holds, worker: str, now: int) -> None:
    """Make sure that a worker which is about to hold a job is found when its lease lapses."""
    with holds.prolonging:
        until, listed = holds.lease(worker)
        if not listed:
            until = now if until is None else until
            prolong(client, holds, worker, until, until - now, listed=True)


def renew(client: Client, holds: Holds, worker: str, now: int, micros: int) -> list[tuple[str, int]]:
    """Renew a lease for *micros*; return the jobs that others wrote to since the last time; see `Storage.renew`."""
    with holds.prolonging:
        prolong(client, holds, worker, now + micros, micros, listed=holds.may_hold(worker))
    partition, _ = lease_key(worker)
    woken: list[tuple[str, int]] = []
    seen = list(client.items(partition, "wake#"))
    for item in seen:
        key = str(item["run"]), int(item["op"])
        if holds.held(*key, worker, int(item["e"])) and key not in woken:
            woken.append(key)
    for run_id, op in woken:
        _end_dropped(client, holds, run_id, op, worker)
    client.delete([(str(item["PK"]), str(item["SK"])) for item in seen])
    return woken


def release(client: Client, holds: Holds, worker: str, now: int) -> None:
    """Make all jobs of a worker free and due, and forget the worker."""
    held, touched = holds.jobs(worker), holds.touched(worker)
    holds.left(worker)
    keys, start = set(held), None
    while True:
        page, start = client.index(WORK, held_by(worker), page=1000, start=start)
        keys |= {job_of(str(item["PK"]), str(item["SK"])) for item in page}
        if start is None:
            break
    client.fan(lambda key: _set_free(client, key, worker, now, touched=key in touched), keys)
    partition, _ = lease_key(worker)
    client.delete([(str(item["PK"]), str(item["SK"])) for item in client.items(partition)])


def _set_free(client: Client, key: tuple[str, int], worker: str, now: int, *, touched: bool) -> None:
    def free(work: Work) -> Work | None:
        return None if work.dropped else evolve(work, worker=None, due=now, lapsed=work.lapsed and not touched)

    change(client, *key, worker, free)


def _end_dropped(client: Client, holds: Holds, run_id: str, op: int, worker: str) -> None:
    def end(work: Work) -> Work | None:
        return None if work.dropped else work

    if change(client, run_id, op, worker, end) is None:
        holds.drop(run_id, op)


def change(client: Client, run_id: str, op: int, worker: str, how: Callable[[Work], Work | None]) -> Work | None:
    """Change a job that a worker holds by *how*; return it as it is now, None if it is not there any more."""
    key = job_key(run_id, op)
    while True:
        item = client.get(key)
        if item is None:
            return None
        head = head_of(item) if op == RUN_OP else None
        work, version = (head.job, head.version) if head is not None else job_in(item)
        if work is None or work.worker != worker:
            return work
        new = how(work)
        if new == work:
            return work
        if head is not None:
            made: Item | None = head_item(evolve(head, job=new, version=version + 1), client.shards)
        else:
            made = None if new is None else job_item(run_id, op, new, version + 1, client.shards)
        try:
            client.write([Write(key, made, SAME, {":v": version})])
        except CheckFailed:
            continue
        return new


def is_lease(item: Item) -> bool:
    """Whether what is due is the lease of a worker that lapses, and no job."""
    return str(item["PK"]).startswith("worker#") and item["SK"] != HEAD
