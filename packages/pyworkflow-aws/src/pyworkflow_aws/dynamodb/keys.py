"""Keys of items, and the small conversions that they need.

| PK | SK | what |
|---|---|---|
| ``run#ID`` | ``head`` | the run, its job 0, and its first events if they are few |
| ``run#ID`` | ``event#SLOT`` | the events of one append; each append takes the next slot, even if it has no events |
| ``run#ID`` | ``job#OP`` | the job of an operation |
| ``run#ID`` | ``hook#OP#TOKEN`` | an open hook, as found by its run |
| ``run#ID`` | ``chunk#ID#N`` | a part of what is too large for one item |
| ``run#ID`` | ``redo`` | what of the last append is still to be written, when it was too much for one transaction |
| ``hook#TOKEN`` | ``hook`` | an open hook, as found by its token |
| ``key#KEY`` | ``key`` | an idempotency key, and the run that has it |
| ``worker#ID`` | ``lease`` | until when a worker is believed to live |
| ``worker#ID`` | ``wake#ID`` | a job of a worker to which others wrote |
| ``meta`` | ``meta`` | the layout of the table and its number of shards |

Index ``work``: ``wp`` is ``free#SHARD``, with the due time as ``wt``, or ``held#WORKER``, with the time of the claim. A
lease is in it as something due when it lapses. Index ``list``: ``lp`` is ``runs#SHARD`` or ``hooks#SHARD``, ``ls`` what
they are ordered by. Both are sparse.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zlib import crc32

from pyworkflow.model import RUN_OP

Item = dict[str, "str | int | bytes"]
"""An item with plain values: what is None or false is not there, true is 1."""

Key = tuple[str, str]

HEAD = "head"
EVENT = "event#"
REDO = "redo"
META = ("meta", "meta")
WORK = "work"
LIST = "list"

_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
AT_ONCE = (_BEGINNING - _EPOCH) // _MICROSECOND
"""When a run is due of which something is still to be written: before all jobs."""


def micros(time: datetime) -> int:
    """Return *time* in microseconds since 1970, as all times are stored."""
    return (time - _EPOCH) // _MICROSECOND


def time_of(stored: int) -> datetime:
    """Return a stored time."""
    return _EPOCH + stored * _MICROSECOND


def of_run(run_id: str) -> str:
    """Return the partition of a run."""
    return f"run#{run_id}"


def head_key(run_id: str) -> Key:
    """Return the key of a run's head."""
    return of_run(run_id), HEAD


def event_key(run_id: str, slot: int) -> Key:
    """Return the key of the events in a slot."""
    return of_run(run_id), f"{EVENT}{slot:010}"


def job_key(run_id: str, op: int) -> Key:
    """Return the key of a job; that of the run itself is in the head."""
    return of_run(run_id), HEAD if op == RUN_OP else f"job#{op:010}"


def job_of(partition: str, sort: str) -> tuple[str, int]:
    """Return the run and operation of the job with a key."""
    return partition.removeprefix("run#"), RUN_OP if sort == HEAD else int(sort.removeprefix("job#"))


def token_key(token: str) -> Key:
    """Return the key of a hook by its token."""
    return f"hook#{token}", "hook"


def hook_key(run_id: str, op: int, token: str) -> Key:
    """Return the key of a hook by its run."""
    return of_run(run_id), f"hook#{op:010}#{token}"


def idempotency_key(key: str) -> Key:
    """Return the key of an idempotency key."""
    return f"key#{key}", "key"


def lease_key(worker: str) -> Key:
    """Return the key of a worker's lease."""
    return f"worker#{worker}", "lease"


def wake_key(worker: str, unique: str) -> Key:
    """Return the key of a message for a worker."""
    return f"worker#{worker}", f"wake#{unique}"


def shard_of(name: str, shards: int) -> int:
    """Return the shard in which a run, or a worker, is indexed."""
    return crc32(name.encode()) % shards


def held_by(worker: str) -> str:
    """Return the partition of the index ``work`` with the jobs of a worker."""
    return f"held#{worker}"


def by_time(created: datetime, run_id: str = "") -> str:
    """Return what runs are listed by: when they were created, then their id."""
    return f"{(created - _BEGINNING) // _MICROSECOND:018}#{run_id}"


def by_run(run_id: str, op: int) -> str:
    """Return what hooks are listed by."""
    return f"{run_id}#{op:010}"
