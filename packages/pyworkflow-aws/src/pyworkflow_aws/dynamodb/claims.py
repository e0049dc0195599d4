"""Claiming jobs: free ones that are due, and those of workers whose lease has lapsed."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Any

from attrs import evolve, frozen

from pyworkflow import wire
from pyworkflow.errors import DamagedHistory, StorageError
from pyworkflow.model import RUN_OP, Lease, StepCall
from pyworkflow_aws.dynamodb.attribute_values import coded, coded_key, plain
from pyworkflow_aws.dynamodb.client import Client, Write
from pyworkflow_aws.dynamodb.deferred import catch_up
from pyworkflow_aws.dynamodb.held_jobs import Holds
from pyworkflow_aws.dynamodb.items import Work, head_of, job_in, lease_of
from pyworkflow_aws.dynamodb.keys import AT_ONCE, WORK, Item, held_by, job_key, job_of, lease_key, shard_of
from pyworkflow_aws.dynamodb.leases import is_lease, prolong
from pyworkflow_aws.dynamodb.payloads import fetch, unpacked
from pyworkflow_aws.dynamodb.reading import State, read_pack, read_state
from pyworkflow_aws.dynamodb.retries import CheckFailed
from pyworkflow_aws.dynamodb.sharded_index import walk
from pyworkflow_aws.dynamodb.transaction import Draft

logger = logging.getLogger(__name__)

_BATCH = 32
_CHECK_AFTER = 60_000_000
"""Microseconds after which a lost worker is checked again: the index may have lacked jobs it had just claimed."""

_FORGET_AFTER = 3_600_000_000
"""Microseconds after which a lost worker without jobs is forgotten."""


@frozen
class Claim:
    """The arguments of `Storage.claim`; times in microseconds."""

    worker: str
    now: int
    lease: int
    limit: int
    workflows: Collection[str] | None
    queues: Collection[str]

    def wants(self, item: Item) -> bool:
        """Whether a job, as it is in the index, is one to claim."""
        return item.get("q", "") in self.queues and (self.workflows is None or item.get("jw") in self.workflows)


def claim(client: Client, holds: Holds, wanted: Claim) -> list[Lease]:
    """Claim jobs that are due; see `Storage.claim`."""
    with holds.taking([wanted.worker]):
        return _claim(client, holds, wanted)


def _claim(client: Client, holds: Holds, wanted: Claim) -> list[Lease]:
    taken: list[Lease] = []
    lost: list[str] = []
    page = wanted.limit // client.shards + 10
    found = walk(client, WORK, _free(client), last=wanted.now, page=page)
    jobs = _jobs(client, wanted, found, lost)
    while some := list(islice(jobs, min(_BATCH, wanted.limit - len(taken)))):
        _ensure_listed(client, holds, wanted, taken)
        answers = client.fan(lambda item: _unless_damaged(_claim_free, client, holds, wanted, item), some)
        taken += [lease for lease in answers if lease is not None]
    for worker in lost:
        if len(taken) < wanted.limit:
            _claim_of_lost(client, holds, wanted, worker, taken)
    return taken


def due(client: Client) -> int | None:
    """Return when `claim` may next find a job; see `Storage.due`."""
    for item in walk(client, WORK, _free(client), page=5):
        if not is_lease(item):
            return int(item["wt"])
        held, _ = client.index(WORK, held_by(_worker(item)), page=1)
        if held:
            return int(item["wt"])
    return None


def _free(client: Client) -> list[str]:
    return [f"free#{shard}" for shard in range(client.shards)]


def _worker(item: Item) -> str:
    return str(item["PK"]).removeprefix("worker#")


def _jobs(client: Client, wanted: Claim, found: Iterator[Item], lost: list[str]) -> Iterator[Item]:
    """Yield jobs to claim, note lost workers, and apply deferred writes."""
    for item in found:
        if is_lease(item):
            if _worker(item) != wanted.worker:
                lost.append(_worker(item))
        elif item["wt"] == AT_ONCE:
            catch_up(client, job_of(str(item["PK"]), str(item["SK"]))[0])
        elif wanted.wants(item):
            yield item


def _ensure_listed(client: Client, holds: Holds, wanted: Claim, taken: list[Lease]) -> None:
    if not taken:
        prolong(client, holds, wanted.worker, wanted.now + wanted.lease, wanted.lease, listed=True)


def _unless_damaged(attempt: Callable[..., Lease | None], *arguments: Any) -> Lease | None:
    try:
        return attempt(*arguments)
    except DamagedHistory as error:  # one of them must not keep the others from being done
        logger.warning("a job is passed over: %s", error)
        return None


def _claim_free(client: Client, holds: Holds, wanted: Claim, item: Item) -> Lease | None:
    """Claim a free job, unless another worker has or it is not due any more."""
    run_id, op = job_of(str(item["PK"]), str(item["SK"]))
    unique = secrets.token_hex(4)
    values: Item = {
        ":free": f"free#{shard_of(run_id, client.shards)}",
        ":held": held_by(wanted.worker),
        ":now": wanted.now,
        ":unique": unique,
        ":one": 1,
    }
    try:
        answer = client.call(
            "update_item",
            Key=coded_key(job_key(run_id, op)),
            UpdateExpression="SET wp = :held, wt = :now, c = :unique, rc = rc + la ADD e :one, v :one",
            ConditionExpression="wp = :free AND wt <= :now AND attribute_not_exists(rd) AND attribute_not_exists(pg)",
            ExpressionAttributeValues={name: coded(value) for name, value in values.items()},
            ReturnValues="ALL_NEW",
        )
        made = plain(answer["Attributes"])
    except CheckFailed:
        there = client.get(job_key(run_id, op))
        if there is None or there.get("c") != unique or there.get("wp") != values[":held"]:
            return None
        made = there  # the answer was lost
    if op == RUN_OP:
        head = head_of(made)
        assert head.job is not None  # noqa: S101 -- it was taken just now
        # While job 0 is free there are no writes without the head, so it has the length of the history.
        return _claimed(client, holds, (run_id, op), head.job, State(head, head.slot, head.run.length))
    state = read_state(client, run_id)
    return None if state is None else _claimed(client, holds, (run_id, op), job_in(made)[0], state)


def _claimed(client: Client, holds: Holds, key: tuple[str, int], work: Work, state: State) -> Lease:
    run_id, op = key
    lease = lease_of(run_id, op, work, _call(client, run_id, op, work), state.length)
    holds.add(lease, state)
    return lease


def _call(client: Client, run_id: str, op: int, work: Work) -> StepCall | None:
    if work.data is None:
        return None
    data = fetch(client, run_id, work.data)
    try:
        return wire.loads_call(unpacked(data))
    except (StorageError, ValueError) as error:  # the worker sets its run aside; others must not wait for that
        logger.warning("the call of job %s of run %s is damaged: %s", op, run_id, error)
        return None


# -- lost workers ------------------------------------------------------------------------


def _claim_of_lost(client: Client, holds: Holds, wanted: Claim, worker: str, taken: list[Lease]) -> None:
    """Claim jobs of a worker whose lease has lapsed."""
    item = client.get(lease_key(worker))
    if item is None or int(item["u"]) > wanted.now:
        return
    nothing = True
    found = walk(client, WORK, [held_by(worker)], page=wanted.limit + 10)
    while len(taken) < wanted.limit and (batch := list(islice(found, _BATCH))):
        nothing = False
        jobs = [job for job in batch if wanted.wants(job)][: wanted.limit - len(taken)]
        if jobs:
            _ensure_listed(client, holds, wanted, taken)
            answers = client.fan(lambda job: _unless_damaged(_claim_held, client, holds, wanted, job, worker), jobs)
            taken += [lease for lease in answers if lease is not None]
    if nothing:
        _check_later(client, worker, item, wanted.now)


def _claim_held(client: Client, holds: Holds, wanted: Claim, item: Item, worker: str) -> Lease | None:
    """Claim a held job from its lost holder, who cannot write any more: for job 0 the next slot is taken too."""
    run_id, op = job_of(str(item["PK"]), str(item["SK"]))
    draft = Draft(client)
    run = draft.run(run_id)
    if run is None:
        return None
    old = draft.job(run, op)
    if old is None or old.worker != worker:
        return None
    run.appends = op == RUN_OP
    new = evolve(
        old, worker=wanted.worker, since=wanted.now, epoch=old.epoch + 1, lapsed=True, recoveries=old.recoveries + 1
    )
    draft.set_job(run, op, None if old.dropped else new)
    try:
        client.write(draft.writes())
    except CheckFailed:
        if not run.appends or run.read is None:
            return None
        pack = read_pack(client, run_id, run.read.slot + 1)
        if pack is None or pack.write != draft.write:
            return None
    if run.head.redo:
        catch_up(client, run_id)
    return None if old.dropped else _claimed(client, holds, (run_id, op), new, run.state)


def _check_later(client: Client, worker: str, item: Item, now: int) -> None:
    """Forget a lost worker without jobs if its lease lapsed long ago, else have it checked again later."""
    partition, sort = lease_key(worker)
    condition, values = "u = :u", {":u": item["u"]}
    try:
        if int(item["u"]) + _FORGET_AFTER < now:
            client.write([Write((partition, sort), None, condition, values)])
            left = [(str(item["PK"]), str(item["SK"])) for item in client.items(partition, "wake#")]
            client.delete(left)
        elif int(item.get("wt", 0)) <= now:
            listed: Item = {"wp": f"free#{shard_of(worker, client.shards)}", "wt": now + _CHECK_AFTER}
            client.write([Write((partition, sort), {**item, **listed}, condition, values)])
    except CheckFailed:
        pass  # it is back
