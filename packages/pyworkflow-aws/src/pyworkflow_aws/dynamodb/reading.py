"""Reads runs: the head and the events beside it, so that both are of one moment."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve, frozen

from pyworkflow import wire
from pyworkflow.errors import DamagedHistory, RunNotFound
from pyworkflow.events import Event
from pyworkflow.model import Run
from pyworkflow_aws.dynamodb.client import Client
from pyworkflow_aws.dynamodb.items import Head, head_of
from pyworkflow_aws.dynamodb.keys import EVENT, HEAD, Item, event_key, of_run
from pyworkflow_aws.dynamodb.payloads import fetch, unpacked

_PAGE = 3  # the head, the last events, and mostly what they follow: below 4 KB, one read unit
_READS = 20


LAST = 1 << 62
"""More events than any history has."""


@frozen
class State:
    """The state of a run: its head, the last slot taken, and the length of its history there."""

    head: Head
    slot: int
    length: int

    @property
    def run(self) -> Run:
        """The run as it is now."""
        return evolve(self.head.run, length=self.length)


@frozen
class Pack:
    """The events of one append.

    Attributes:
        first: The number of the first one.
        epoch: Of job 0 when it was written.
        heavy: It was written together with the head.
        write: Tells this append from any other.
    """

    slot: int
    first: int
    count: int
    epoch: int
    heavy: bool
    write: str
    item: Item

    @property
    def last(self) -> int:
        """The length of the history with these events."""
        return self.first + self.count - 1


def pack_of(item: Item) -> Pack:
    """Return the events in an item.

    Raises:
        DamagedHistory: Something is missing or not valid.
    """
    try:
        return Pack(
            int(str(item["SK"]).removeprefix(EVENT)),
            int(item["s"]),
            int(item["n"]),
            int(item["e"]),
            "h" in item,
            str(item["w"]),
            item,
        )
    except (KeyError, ValueError) as error:
        msg = f"the history of run {str(item.get('PK'))[4:]!r} is damaged: an item of it lacks {error}"
        raise DamagedHistory(msg) from error


def read_run(client: Client, run_id: str) -> State:
    """Return the state of a run: its head, and its last events, whose number the head need not know.

    Raises:
        RunNotFound: There is no such run.
        DamagedHistory: What is stored cannot be read.
    """
    return _read_consistent(client, run_id, LAST)[0]


def read_state(client: Client, run_id: str) -> State | None:
    """Return the state of a run; None: there is no such run."""
    try:
        return read_run(client, run_id)
    except RunNotFound:
        return None


def read(client: Client, run_id: str, after: int) -> tuple[State, list[Event]]:
    """Return the state of a run, and its events from number *after* + 1 on.

    Raises:
        RunNotFound: There is no such run.
        DamagedHistory: What is stored cannot be read.
    """
    state, packs = _read_consistent(client, run_id, max(after, 0))
    return state, _events(client, state, packs, max(after, 0))


def read_pack(client: Client, run_id: str, slot: int) -> Pack | None:
    """Return the events in a slot, if it is taken."""
    item = client.get(event_key(run_id, slot))
    return None if item is None else pack_of(item)


def _read_consistent(client: Client, run_id: str, after: int) -> tuple[State, list[Pack]]:
    """Read until the head and the events fit together: it may be written to between two reads."""
    for _ in range(_READS):
        head, packs = _tail(client, run_id, after) if after else _whole(client, run_id)
        if head is None or head.purged:
            msg = f"there is no run {run_id!r} in table {client.table!r}"
            raise RunNotFound(msg)
        if _fits(head, packs):
            return _state(head, packs), packs
    msg = f"the history of run {run_id!r} is damaged: its last events, or its head, are missing"
    raise DamagedHistory(msg)


def _whole(client: Client, run_id: str) -> tuple[Head | None, list[Pack]]:
    items = list(client.between(of_run(run_id), EVENT, HEAD))
    if not items or items[-1]["SK"] != HEAD:
        return None, []
    return head_of(items[-1]), [pack_of(item) for item in items[:-1]]


def _tail(client: Client, run_id: str, after: int) -> tuple[Head | None, list[Pack]]:
    """Read backwards: the head, then events until number *after* + 1 is there."""
    items = client.between(of_run(run_id), EVENT, HEAD, ScanIndexForward=False, Limit=_PAGE)
    first = next(items, None)
    if first is None or first["SK"] != HEAD:
        return None, []
    packs: list[Pack] = []
    for item in items:
        packs.append(pack_of(item))
        if packs[-1].first <= after + 1:
            break
    return head_of(first), packs[::-1]


def _fits(head: Head, packs: Sequence[Pack]) -> bool:
    """Whether the head is that of the last events which were written together with one."""
    if not packs:
        return head.slot == 0
    return head.slot <= packs[-1].slot and not any(pack.heavy and pack.slot > head.slot for pack in packs)


def _state(head: Head, packs: Sequence[Pack]) -> State:
    if not packs:
        return State(head, 0, head.count)
    return State(head, packs[-1].slot, packs[-1].last)


def _events(client: Client, state: State, packs: Sequence[Pack], after: int) -> list[Event]:
    run_id, head = state.run.id, state.head
    events: list[Event] = []
    if after < head.count and head.first is not None:
        events += _unpacked(client, run_id, 1, head.count, head.first)[after:]
    before: Pack | None = None
    for pack in packs:
        if before is None:
            gap = after < pack.first - 1 and pack.first - 1 > head.count
        else:
            gap = pack.first != before.last + 1 or pack.slot != before.slot + 1
        if gap:
            since = head.count if before is None else before.last
            msg = f"the history of run {run_id!r} is damaged between its events {since} and {pack.first}"
            raise DamagedHistory(msg)
        before = pack
        if pack.last > after and pack.count:
            payload = pack.item.get("d", b"")
            if isinstance(payload, int):
                payload = b""
            events += _unpacked(client, run_id, pack.first, pack.count, payload)[max(0, after + 1 - pack.first) :]
    return events


def _unpacked(client: Client, run_id: str, first: int, count: int, payload: bytes | str) -> list[Event]:
    try:
        events = wire.loads(unpacked(fetch(client, run_id, payload)))
    except DamagedHistory:
        raise
    except Exception as error:
        msg = f"the history of run {run_id!r} cannot be read at event {first}: {error}"
        raise DamagedHistory(msg) from error
    if len(events) != count:
        msg = f"the history of run {run_id!r} is damaged: {len(events)} events at number {first} instead of {count}"
        raise DamagedHistory(msg)
    return events
