"""A walk through an index that is spread over shards, in its order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import define, field

from pyworkflow_aws.dynamodb.client import Client
from pyworkflow_aws.dynamodb.keys import LIST, WORK, Item

_SORT = {WORK: "wt", LIST: "ls"}


@define
class _Shard:
    partition: str
    found: deque[Item] = field(factory=deque)
    start: Any = None
    ended: bool = False


def walk(
    client: Client,
    index: str,
    partitions: Sequence[str],
    *,
    first: str | int | None = None,
    last: str | int | None = None,
    backwards: bool = False,
    page: int = 100,
) -> Iterator[Item]:
    """Yield what is in *partitions* of an index, in the order of the sort key; pages are read as they are needed."""
    shards, sort = [_Shard(partition) for partition in partitions], _SORT[index]

    def fill(shard: _Shard) -> None:
        while not shard.found and not shard.ended:
            items, shard.start = client.index(
                index, shard.partition, first=first, last=last, backwards=backwards, page=page, start=shard.start
            )
            shard.found.extend(items)
            shard.ended = shard.start is None

    while True:
        client.fan(fill, [shard for shard in shards if not shard.found and not shard.ended])
        left = [shard for shard in shards if shard.found]
        if not left:
            return
        choose = max if backwards else min
        yield choose(left, key=lambda shard: shard.found[0][sort]).found.popleft()
