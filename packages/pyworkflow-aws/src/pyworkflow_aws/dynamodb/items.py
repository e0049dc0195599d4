"""Items from the values of the contract, and back."""

from __future__ import annotations

import json

from attrs import evolve, frozen

from pyworkflow import wire
from pyworkflow.errors import DamagedHistory
from pyworkflow.model import Hook, Job, Lease, Run, Status, StepCall
from pyworkflow_aws.dynamodb.keys import (
    AT_ONCE,
    Item,
    by_run,
    by_time,
    head_key,
    held_by,
    hook_key,
    job_key,
    micros,
    shard_of,
    time_of,
    token_key,
)
from pyworkflow_aws.dynamodb.payloads import Payload

_HELD = held_by("")


@frozen
class Work:
    """A job as stored.

    Attributes:
        due: When it may be claimed, in microseconds; None: only once the run is notified. Of a free job.
        since: When it was claimed.
        claim: Tells one claim from any other, so that one whose answer was lost can be recognised.
        dropped: It is not needed any more, and ends with its lease.
    """

    workflow: str
    queue: str = ""
    data: Payload | None = None
    due: int | None = None
    worker: str | None = None
    since: int = 0
    epoch: int = 0
    lapsed: bool = False
    recoveries: int = 0
    dropped: bool = False
    claim: str = ""

    def holds(self, lease: Lease) -> bool:
        """Whether this is held under *lease*."""
        return (self.worker, self.epoch) == (lease.worker, lease.epoch)


@frozen
class Head:
    """The item of a run.

    Attributes:
        run: As of *slot*: what was appended without the head since is not counted in its length.
        version: Raised by each write of this item; zero: it is not there yet.
        slot: Of the last append that wrote this item.
        epoch: Of job 0, kept when that is deleted.
        first: The first events, if they are few.
        count: How many these are.
        redo: Something of the last append is still to be written.
        purged: It is being deleted, and does not exist for readers.
        write: Tells this write from any other.
    """

    run: Run
    version: int = 0
    slot: int = 0
    epoch: int = 0
    job: Work | None = None
    first: Payload | None = None
    count: int = 0
    redo: bool = False
    purged: bool = False
    write: str = ""


def work_of(job: Job, data: Payload | None) -> Work:
    """Return a new job that is free, as stored."""
    return Work(job.workflow, job.queue, data, None if job.due is None else micros(job.due))


def held_work_of(lease: Lease, data: Payload | None) -> Work:
    """Return a new job that is held under *lease*, as stored."""
    return Work(lease.workflow, lease.queue, data, worker=lease.worker, epoch=lease.epoch, recoveries=lease.recoveries)


def head_item(head: Head, shards: int) -> Item:
    """Return a head as an item."""
    run = head.run
    partition, sort = head_key(run.id)
    item: Item = {
        "PK": partition,
        "SK": sort,
        "v": head.version,
        "s": head.slot,
        "w": head.write,
        "e": head.epoch,
        "wf": run.workflow,
        "st": run.status.value,
        "cr": micros(run.created_at),
        "len": run.length,
        "lp": f"runs#{shard_of(run.id, shards)}",
        "ls": by_time(run.created_at, run.id),
    }
    if run.ended_at is not None:
        item["en"] = micros(run.ended_at)
    if run.idempotency_key is not None:
        item["ik"] = run.idempotency_key
    if run.parent is not None:
        item["pa"] = run.parent
    if run.attributes:
        item["at"] = wire.dumps_plain(dict(run.attributes))
    if head.first is not None:
        item |= {"d": head.first, "n": head.count}
    if head.job is not None:
        item |= _work_item(head.job, run.id, shards)
    item["e"] = head.epoch
    if head.redo:
        item["rd"] = 1
        if head.job is None or head.job.worker is None:  # so that a worker claims it now
            if "wt" in item:
                item["du"] = item["wt"]
            item |= {"wp": f"free#{shard_of(run.id, shards)}", "wt": AT_ONCE}
    if head.purged:
        item["pg"] = 1
    return item


def head_of(item: Item) -> Head:
    """Return the head in an item.

    Raises:
        DamagedHistory: Something is missing or not valid.
    """
    run_id = str(item.get("PK")).removeprefix("run#")
    try:
        run = Run(
            run_id,
            str(item["wf"]),
            time_of(int(item["cr"])),
            Status(item["st"]),
            int(item["len"]),
            time_of(int(item["en"])) if "en" in item else None,
            str(item["ik"]) if "ik" in item else None,
            str(item["pa"]) if "pa" in item else None,
            json.loads(str(item.get("at", "{}"))),
        )
        work = _work_of(item) if "la" in item else None
        if work is not None and "rd" in item and work.worker is None:
            work = evolve(work, due=int(item["du"]) if "du" in item else None)
        return Head(
            run,
            int(item["v"]),
            int(item["s"]),
            int(item["e"]),
            work,
            item.get("d"),  # type: ignore[arg-type]
            int(item.get("n", 0)),
            "rd" in item,
            "pg" in item,
            str(item["w"]),
        )
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        msg = f"the item of run {run_id!r} is damaged: {error!r}"
        raise DamagedHistory(msg) from error


def job_item(run_id: str, op: int, work: Work, version: int, shards: int) -> Item:
    """Return the job of an operation as an item."""
    partition, sort = job_key(run_id, op)
    return {"PK": partition, "SK": sort, "v": version, **_work_item(work, run_id, shards)}


def job_in(item: Item) -> tuple[Work, int]:
    """Return the job in an item of its own, and the version of that."""
    return _work_of(item), int(item["v"])


def lease_of(run_id: str, op: int, work: Work, call: StepCall | None, length: int) -> Lease:
    """Return the lease of a held job, as `Storage.claim` returns it."""
    assert work.worker is not None  # noqa: S101 -- tells the type checker
    return Lease(
        run_id, op, work.worker, work.epoch, work.workflow, work.queue, call,
        work.lapsed, work.recoveries, length,
    )  # fmt: skip


def _work_item(work: Work, run_id: str, shards: int) -> Item:
    item: Item = {"jw": work.workflow, "e": work.epoch, "la": int(work.lapsed), "rc": work.recoveries}
    if work.queue:
        item["q"] = work.queue
    if work.data is not None:
        item["jd"] = work.data
    if work.worker is not None:
        item |= {"wp": held_by(work.worker), "wt": work.since}
        if work.claim:
            item["c"] = work.claim
    elif work.due is not None:
        item |= {"wp": f"free#{shard_of(run_id, shards)}", "wt": work.due}
    if work.dropped:
        item["x"] = 1
    return item


def _work_of(item: Item) -> Work:
    where = str(item.get("wp", ""))
    worker = where.removeprefix(_HELD) if where.startswith(_HELD) else None
    time = int(item["wt"]) if where else None
    return Work(
        str(item["jw"]),
        str(item.get("q", "")),
        item.get("jd"),  # type: ignore[arg-type]
        time if worker is None else None,
        worker,
        0 if worker is None or time is None else time,
        int(item["e"]),
        bool(item["la"]),
        int(item["rc"]),
        "x" in item,
        str(item.get("c", "")),
    )


# -- hooks ---------------------------------------------------------------------------


def hook_items(hook: Hook, shards: int) -> tuple[Item, Item]:
    """Return a hook as the item found by its token, and the one found by its run."""
    fields: Item = {"run": hook.run_id, "op": hook.op, "name": hook.name, "many": int(hook.many)}
    (token, sort), (run, place) = token_key(hook.token), hook_key(hook.run_id, hook.op, hook.token)
    listed: Item = {"lp": f"hooks#{shard_of(hook.run_id, shards)}", "ls": by_run(hook.run_id, hook.op)}
    return {"PK": token, "SK": sort, **fields}, {"PK": run, "SK": place, **fields, **listed}


def hook_of(item: Item) -> Hook:
    """Return the hook in either of its items."""
    by_token = str(item["PK"]).startswith("hook#")
    token = str(item["PK"]).removeprefix("hook#") if by_token else str(item["SK"]).split("#", 2)[2]
    return Hook(token, str(item["run"]), int(item["op"]), str(item["name"]), bool(item["many"]))
