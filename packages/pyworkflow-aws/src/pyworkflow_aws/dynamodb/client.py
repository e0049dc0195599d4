"""One DynamoDB table through boto3, whose blocking calls run in threads."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

from attrs import Factory, frozen

from pyworkflow.errors import StorageError
from pyworkflow_aws.dynamodb.attribute_values import coded, coded_item, coded_key, plain
from pyworkflow_aws.dynamodb.bucket import Bucket
from pyworkflow_aws.dynamodb.keys import LIST, WORK, Item, Key
from pyworkflow_aws.dynamodb.retries import FIRST_PATIENCE, PATIENCE, repeat

T = TypeVar("T")
A = TypeVar("A")

TRANSACTION = 100
"""Items that one transaction takes."""

_BATCH = 25
_SORTS = {WORK: ("wp", "wt"), LIST: ("lp", "ls")}


@frozen
class Write:
    """An item to put, or without *item* a key to delete, on a condition.

    Attributes:
        values: What the names in the condition that begin with a colon stand for.
    """

    key: Key
    item: Item | None = None
    condition: str = ""
    values: Item = Factory(dict)


class Client:
    """One table, and the threads that talk to it. All but `run` blocks, and may be called from any thread.

    Args:
        table: Its name.
        region: As boto3 finds it if None.
        endpoint: URL of something that is not AWS.
        threads: How many calls are made at once; as many again serve calls that consist of several.
        bucket: An S3 bucket for what is too large for an item.
        profile: A profile of AWS's configuration files.
    """

    def __init__(
        self,
        table: str,
        region: str | None,
        endpoint: str | None,
        threads: int,
        bucket: str | None,
        *,
        profile: str | None = None,
    ) -> None:
        self.table = table
        self.shards = 0  # read from the table when it is opened
        self.transaction = TRANSACTION
        self.bucket = None if bucket is None else Bucket(bucket, table)
        self._region = region
        self._profile = profile
        self._endpoint = endpoint
        self._size = threads
        self._boto: Any = None
        self._calls: ThreadPoolExecutor | None = None
        self._fans: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        self._opening = threading.Lock()

    # -- life ----------------------------------------------------------------------------

    def open(self) -> None:
        """Connect, unless this process is connected."""
        if self._process != os.getpid():
            self._opening = threading.Lock()  # a forked child inherits its parent's, perhaps locked
            self._boto, self._process = None, os.getpid()
        with self._opening:
            if self._boto is None:
                self._connect()

    def _connect(self) -> None:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        config = Config(
            max_pool_connections=2 * self._size + 2,
            retries={"total_max_attempts": 1},  # `call` repeats, and knows which calls may be
            connect_timeout=5,
            read_timeout=15,
            tcp_keepalive=True,
        )
        try:
            session = _session(self._region, self._profile)
            boto = session.client("dynamodb", endpoint_url=self._endpoint, config=config)
            if self.bucket is not None:
                self.bucket.open(session.client("s3", endpoint_url=self._endpoint, config=config), self.repeat)
        except (BotoCoreError, ValueError) as error:
            raise StorageError(f"table {self.table!r}: {error}") from error
        self._calls = ThreadPoolExecutor(self._size, "pyworkflow-dynamodb")
        self._fans = ThreadPoolExecutor(self._size, "pyworkflow-dynamodb-fan")
        self._boto = boto

    def close(self) -> None:
        """Finish running calls and close connections."""
        calls, self._calls = self._calls, None
        if self._process == os.getpid():
            for pool in (calls, self._fans):
                if pool is not None:
                    pool.shutdown()
        boto, self._boto = self._boto, None
        if boto is not None:
            boto.close()
        if self.bucket is not None:
            self.bucket.close()

    @property
    def boto(self) -> Any:
        """boto3's own client.

        Raises:
            StorageError: The storage is closed.
        """
        if self._boto is None:
            msg = f"the storage of table {self.table!r} is closed; open it first"
            raise StorageError(msg)
        if self._process != os.getpid():
            self.open()  # a forked child: threads and connections stayed with the parent
        return self._boto

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call *function* in a thread. If it is cancelled, it ends only when the call has: nothing is written later."""
        if self._calls is None or self.boto is None:
            msg = f"the storage of table {self.table!r} is closed; open it first"
            raise StorageError(msg)
        future = asyncio.get_running_loop().run_in_executor(self._calls, function, *args)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                try:
                    await asyncio.wait([future])
                except asyncio.CancelledError:
                    continue
            if not future.cancelled():
                future.exception()  # else asyncio logs that it was never retrieved
            raise

    def fan(self, function: Callable[[A], T], arguments: Iterable[A]) -> list[T]:
        """Call *function* for each of *arguments*, several at once; in the order of these."""
        todo = list(arguments)
        if len(todo) <= 1 or self._fans is None:
            return [function(argument) for argument in todo]
        return list(self._fans.map(function, todo))

    # -- calls ---------------------------------------------------------------------------

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call an operation on the table; repeated while the service is busy or cannot be reached.

        Raises:
            CheckFailed: The condition is not met.
            StorageBusy: It was busy, or away, for too long.
            StorageError: It refuses.
        """
        return self.repeat(getattr(self.boto, operation), TableName=self.table, **parameters)

    def repeat(self, function: Callable[..., Any], **parameters: Any) -> dict[str, Any]:
        """Call a method of a boto3 client as `call` does."""
        patience = PATIENCE if self.shards else FIRST_PATIENCE
        return repeat(function, parameters, place=f"table {self.table!r}", patience=patience)

    # -- reading: always what is there now, but for indexes ------------------------------------

    def get(self, key: Key) -> Item | None:
        """Return an item."""
        found = self.call("get_item", Key=coded_key(key), ConsistentRead=True).get("Item")
        return None if found is None else plain(found)

    def get_all(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """Return those of the items that are there."""
        return {key: item for key, item in zip(keys, self.fan(self.get, keys), strict=True) if item is not None}

    def between(self, partition: str, first: str, last: str, **options: Any) -> Iterator[Item]:
        """Return the items of a partition whose sort keys are in a range, in order.

        Args:
            partition: Which one.
            first: The least sort key.
            last: The greatest one.
            options: Of the operation: ``ScanIndexForward=False`` for the other direction, ``Limit`` for a page.
        """
        values = {":p": {"S": partition}, ":a": {"S": first}, ":z": {"S": last}}
        yield from self._pages(
            KeyConditionExpression="PK = :p AND SK BETWEEN :a AND :z",
            ExpressionAttributeValues=values,
            ConsistentRead=True,
            **options,
        )

    def items(self, partition: str, prefix: str = "", **options: Any) -> Iterator[Item]:
        """Return the items of a partition whose sort keys begin with *prefix*, in order."""
        condition, values = "PK = :p", {":p": {"S": partition}}
        if prefix:
            condition += " AND begins_with(SK, :s)"
            values[":s"] = {"S": prefix}
        yield from self._pages(
            KeyConditionExpression=condition, ExpressionAttributeValues=values, ConsistentRead=True, **options
        )

    def _pages(self, **parameters: Any) -> Iterator[Item]:
        while True:
            page = self.call("query", **parameters)
            yield from map(plain, page["Items"])
            if (last := page.get("LastEvaluatedKey")) is None:
                return
            parameters["ExclusiveStartKey"] = last

    def index(
        self,
        name: str,
        partition: str,
        *,
        first: str | int | None = None,
        last: str | int | None = None,
        backwards: bool = False,
        page: int = 100,
        start: Any = None,
    ) -> tuple[list[Item], Any]:
        """Return a page of a partition of an index, and where the next page starts; None: there is none.

        What was written a moment ago may be missing, or still as it was.

        Args:
            name: Which index.
            partition: Which partition.
            first: The least sort key.
            last: The greatest one.
            backwards: Begin with the greatest.
            page: How many at most.
            start: Where the page before ended.
        """
        hash_name, sort_name = _SORTS[name]
        condition, values = f"{hash_name} = :p", {":p": coded(partition)}
        for bound, sign, mark in ((first, ">=", ":a"), (last, "<=", ":z")):
            if bound is not None:
                values[mark] = coded(bound)
                condition += f" AND {sort_name} {sign} {mark}"
        if first is not None and last is not None:
            condition = f"{hash_name} = :p AND {sort_name} BETWEEN :a AND :z"
        more = {} if start is None else {"ExclusiveStartKey": start}
        found = self.call(
            "query",
            IndexName=name,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            ScanIndexForward=not backwards,
            Limit=page,
            **more,
        )
        return [plain(item) for item in found["Items"]], found.get("LastEvaluatedKey")

    # -- writing -------------------------------------------------------------------------

    def put(self, item: Item) -> None:
        """Write an item, whatever is there."""
        self.call("put_item", Item=coded_item(item))

    def write(self, writes: Sequence[Write]) -> None:
        """Write all or nothing.

        Raises:
            CheckFailed: A condition is not met.
        """
        if len(writes) == 1:
            (write,) = writes
            parameters = _coded_write(write)
            if write.condition:
                parameters["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
            self.call("delete_item" if write.item is None else "put_item", **parameters)
            return
        operations = [
            {"Delete" if write.item is None else "Put": {"TableName": self.table, **_coded_write(write)}}
            for write in writes
        ]
        self.repeat(self.boto.transact_write_items, TransactItems=operations)

    def delete(self, keys: Sequence[Key]) -> None:
        """Delete items, one after the other or all at once."""
        for at in range(0, len(keys), _BATCH):
            left: Any = {self.table: [{"DeleteRequest": {"Key": coded_key(key)}} for key in keys[at : at + _BATCH]]}
            pause = 0.02
            while left:
                left = self.repeat(self.boto.batch_write_item, RequestItems=left).get("UnprocessedItems")
                if left:
                    time.sleep(pause * random.random())  # noqa: S311 -- jitter
                    pause = min(2 * pause, 2.0)


@cache
def _loader() -> Any:
    """Return what reads AWS's descriptions of its services; once is enough for all storages."""
    from botocore.loaders import create_loader

    return create_loader()


def _session(region: str | None, profile: str | None) -> Any:
    import boto3
    import botocore.session

    session = botocore.session.Session(profile=profile)
    session.register_component("data_loader", _loader())
    return boto3.Session(botocore_session=session, region_name=region)


def _coded_write(write: Write) -> dict[str, Any]:
    made: dict[str, Any] = {"Item": coded_item(write.item)} if write.item is not None else {"Key": coded_key(write.key)}
    if write.condition:
        made["ConditionExpression"] = write.condition
    if write.values:
        made["ExpressionAttributeValues"] = coded_item(write.values)
    return made
