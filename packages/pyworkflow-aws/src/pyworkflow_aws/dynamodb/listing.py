"""Lists of runs and of hooks: their order comes from the index, all else from the items as they are now."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice

from pyworkflow.errors import ConfigError, DamagedHistory
from pyworkflow.model import Hook, Page, Run, RunQuery
from pyworkflow_aws.dynamodb.client import Client
from pyworkflow_aws.dynamodb.items import hook_of
from pyworkflow_aws.dynamodb.keys import LIST, Item, by_time, micros, of_run, time_of
from pyworkflow_aws.dynamodb.reading import read_state
from pyworkflow_aws.dynamodb.sharded_index import walk

logger = logging.getLogger(__name__)

_BATCH = 32
_MICROSECOND = timedelta(microseconds=1)
_AFTER = "~~"  # after all ids


def runs(client: Client, query: RunQuery) -> Page:
    """Return runs, the newest first; see `Storage.runs`."""
    found: list[Run] = []
    entries = _entries(client, query)
    while len(found) <= query.limit and (some := list(islice(entries, min(_BATCH, query.limit + 1 - len(found))))):
        read = client.fan(lambda entry: _run(client, entry), some)
        found += [run for run in read if run is not None and _matches(run, query)]
    page = found[: query.limit]
    more = len(found) > query.limit
    return Page(page, json.dumps([micros(page[-1].created_at), page[-1].id]) if more else None)


def hooks(client: Client, run_id: str | None, limit: int) -> list[Hook]:
    """Return open hooks; see `Storage.hooks`."""
    if run_id is not None:
        return [hook_of(item) for item in islice(client.items(of_run(run_id), "hook#"), limit)]
    entries = walk(client, LIST, [f"hooks#{shard}" for shard in range(client.shards)], page=limit // client.shards + 10)
    found: list[Hook] = []
    while len(found) < limit and (some := list(islice(entries, min(_BATCH, limit - len(found))))):
        read = client.fan(lambda entry: client.get((str(entry["PK"]), str(entry["SK"]))), some)
        found += [hook_of(item) for item in read if item is not None]
    return found


def _entries(client: Client, query: RunQuery) -> Iterator[Item]:
    first: str | None = None
    last: str | None = None
    if query.created_after is not None:
        first = by_time(query.created_after + _MICROSECOND)
    if query.created_before is not None:
        last = by_time(query.created_before - _MICROSECOND, _AFTER)
    below: str | None = None
    if query.cursor is not None:
        below = by_time(*_position(query.cursor))
        last = below if last is None else min(last, below)
    if first is not None and last is not None and first > last:
        return
    partitions = [f"runs#{shard}" for shard in range(client.shards)]
    page = min(query.limit, 1000) // client.shards + 10
    for item in walk(client, LIST, partitions, first=first, last=last, backwards=True, page=page):
        status, workflow = item.get("st"), item.get("wf")
        if item["ls"] == below or (query.workflow is not None and workflow != query.workflow):
            continue
        if query.status is None or status == query.status.value:
            yield item


def _run(client: Client, entry: Item) -> Run | None:
    run_id = str(entry["PK"]).removeprefix("run#")
    try:
        state = read_state(client, run_id)
    except DamagedHistory as error:  # one of them must not hide the others
        logger.warning("table %s: %s", client.table, error)
        return None
    return None if state is None else state.run


def _matches(run: Run, query: RunQuery) -> bool:
    attributes = run.attributes
    return query.status in {None, run.status} and all(
        name in attributes and attributes[name] == value for name, value in query.attributes.items()
    )


def _position(cursor: str) -> tuple[datetime, str]:
    try:
        created, run_id = json.loads(cursor)
        return time_of(int(created)), str(run_id)
    except (ValueError, TypeError, OverflowError) as error:
        msg = f"{cursor!r} is not a cursor of this storage; use the one that came with the page before"
        raise ConfigError(msg) from error
