"""The storage contract on a DynamoDB table."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from pyworkflow.errors import ConfigError
from pyworkflow.events import Event
from pyworkflow.model import Append, Hook, Job, Lease, Page, Run, RunQuery, Status
from pyworkflow.ports import Storage
from pyworkflow_aws.dynamodb import claims, leases, listing, table, writing
from pyworkflow_aws.dynamodb.client import Client
from pyworkflow_aws.dynamodb.held_jobs import Holds
from pyworkflow_aws.dynamodb.items import hook_of
from pyworkflow_aws.dynamodb.keys import micros, time_of, token_key
from pyworkflow_aws.dynamodb.purge import purge
from pyworkflow_aws.dynamodb.reading import read, read_run

_MICROSECOND = timedelta(microseconds=1)
_MOST_THREADS = 256


class DynamoDBStorage(Storage):
    """Runs in one DynamoDB table, which any number of processes on any number of hosts may share.

    `init` makes the table; `open` does not. `due`, `runs`, `hooks` and the search for jobs of `claim` use indexes,
    which AWS updates within moments; everything else reads all that was acknowledged.

    Args:
        name: The table.
        region: As boto3 finds it by default.
        profile: A profile of the AWS configuration files; as boto3 finds it by default.
        endpoint: URL of an emulator.
        shards: Over how many partitions the indexes are spread; fixed when the table is made, 8 by default.
        threads: How many calls are made at once.
        bucket: An S3 bucket for what is larger than an item; without it, up to 16 MB are kept in several items.
    """

    def __init__(
        self,
        name: str,
        *,
        region: str | None = None,
        profile: str | None = None,
        endpoint: str | None = None,
        shards: int | None = None,
        threads: int = 32,
        bucket: str | None = None,
    ) -> None:
        for option, value, most in (("shards", shards, table.MOST_SHARDS), ("threads", threads, _MOST_THREADS)):
            if value is not None and not 1 <= value <= most:
                msg = f"{option}={value}: give 1 to {most}"
                raise ConfigError(msg)
        self.name = name
        self._client = Client(name, region, endpoint, threads, bucket, profile=profile)
        self._wanted = shards
        self._holds = Holds()

    def __repr__(self) -> str:
        return f"DynamoDBStorage({self.name!r})"

    async def init(self, *, pitr: bool = True, kms_key: str | None = None) -> Sequence[str]:
        """Make the table, on demand, unless it is there; return what was found and done.

        Args:
            pitr: Point-in-time recovery.
            kms_key: Id, alias or ARN of a key to encrypt the table with; by default one that AWS owns.

        Raises:
            StorageError: The table is of another program, or AWS refuses.
        """
        await asyncio.to_thread(self._client.open)
        try:
            return await self._client.run(
                lambda: table.initialise(self._client, self._wanted, pitr=pitr, kms_key=kms_key)
            )
        finally:
            if not self._client.shards:
                await asyncio.to_thread(self._client.close)

    async def open(self) -> None:
        """Connect, and read the table's own record."""
        await asyncio.to_thread(self._client.open)
        self._client.shards = self._client.shards or await self._client.run(table.shards_of, self._client, self._wanted)

    async def close(self) -> None:
        """Finish running calls and close connections."""
        await asyncio.to_thread(self._client.close)
        self._client.shards = 0  # the next `open` reads it again

    # -- runs ----------------------------------------------------------------------------

    async def create(
        self,
        run: Run,
        events: Sequence[Event],
        jobs: Sequence[Job],
        hooks: Sequence[Hook] = (),
        *,
        lease: Lease | None = None,
    ) -> Run | None:
        """Add a run; see `Storage.create`."""
        new = writing.Creation(run, events, jobs, hooks, lease)
        return await self._client.run(writing.create, self._client, self._holds, new)

    async def run(self, run_id: str) -> Run:
        """Return a run; see `Storage.run`."""
        state = await self._client.run(read_run, self._client, run_id)
        self._holds.update(run_id, state)
        return state.run

    async def load(self, run_id: str, after: int = 0) -> tuple[Run, list[Event]]:
        """Return a run and its later events; see `Storage.load`."""
        state, events = await self._client.run(read, self._client, run_id, after)
        self._holds.update(run_id, state)
        return state.run, events

    async def append(self, append: Append) -> int:
        """Add to a history; see `Storage.append`."""
        return await self._client.run(writing.append, self._client, self._holds, append)

    # -- hooks ---------------------------------------------------------------------------

    async def find_hook(self, token: str) -> Hook | None:
        """Return an open hook; see `Storage.find_hook`."""
        item = await self._client.run(self._client.get, token_key(token))
        return None if item is None else hook_of(item)

    async def hooks(self, run_id: str | None = None, limit: int = 1000) -> list[Hook]:
        """Return open hooks; see `Storage.hooks`."""
        return await self._client.run(listing.hooks, self._client, run_id, limit)

    # -- listing -------------------------------------------------------------------------

    async def runs(self, query: RunQuery) -> Page:
        """Return runs, the newest first; see `Storage.runs`."""
        return await self._client.run(listing.runs, self._client, query)

    async def purge(self, before: datetime, statuses: Collection[Status]) -> int:
        """Delete ended runs; see `Storage.purge`."""
        return await self._client.run(purge, self._client, micros(before), statuses)

    # -- jobs ----------------------------------------------------------------------------

    async def claim(
        self,
        worker: str,
        now: datetime,
        lease: timedelta,
        limit: int,
        *,
        workflows: Collection[str] | None = None,
        queues: Collection[str] = ("",),
    ) -> list[Lease]:
        """Claim jobs that are due; see `Storage.claim`."""
        if limit <= 0 or (workflows is not None and not workflows):
            return []
        wanted = claims.Claim(worker, micros(now), lease // _MICROSECOND, limit, workflows, queues)
        return await self._client.run(claims.claim, self._client, self._holds, wanted)

    def renew(self, worker: str, now: datetime, lease: timedelta) -> list[tuple[str, int]]:
        """Renew a worker's lease, or end it; see `Storage.renew`."""
        if lease:
            return leases.renew(self._client, self._holds, worker, micros(now), lease // _MICROSECOND)
        leases.release(self._client, self._holds, worker, micros(now))
        return []

    async def due(self) -> datetime | None:
        """Return when `claim` may next find a job; see `Storage.due`."""
        found = await self._client.run(claims.due, self._client)
        return None if found is None else time_of(found)
