"""What goes wrong in a simulation, and a storage that it goes wrong with; all drawn from a seed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, TypeVar

from attrs import define, field

from pyworkflow.errors import StorageError
from pyworkflow.events import Event
from pyworkflow.model import Append, History, Hook, Job, Lease, Page, Run, RunQuery, Status
from pyworkflow.ports import Storage

T = TypeVar("T")


@define(eq=False)
class Faults:
    """Decides what goes wrong, numbers it, and remembers it.

    Attributes:
        chance: What it decides by.
        without: Numbers of faults that are left out, to find out which ones matter.
        rate: How often a call of the storage fails.
        most: How many faults there are at most, beside those of the storage.
        active: Whether anything goes wrong at present.
        struck: What went wrong, by number.
    """

    chance: Random
    without: Collection[int] = ()
    rate: float = 0.07
    most: int = 12
    active: bool = True
    note: Callable[[str], None] = lambda _: None
    struck: dict[int, str] = field(factory=dict)
    _drawn: int = 0

    def strike(self, what: str) -> bool:
        """Whether fault *what*, which was drawn, is to happen."""
        self._drawn += 1
        if self._drawn in self.without:
            return False
        self.struck[self._drawn] = what
        self.note(f"FAULT {self._drawn}: {what}")
        return True

    def storage_error(self, what: str) -> bool:
        """Whether a call of the storage fails now."""
        return self.active and self.chance.random() < self.rate and self.strike(what)


class FaultyStorage(Storage):
    """A storage whose calls take time and fail now and then: before they reach the inner storage, or after.

    Args:
        inner: The storage that is meant.
        faults: Decides what fails.
        pause: Awaited before and after each call; whoever is killed meanwhile does not see the answer.
        lost: Whether the process that uses it is no more; nothing gets through then.
    """

    def __init__(
        self,
        inner: Storage,
        faults: Faults,
        pause: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0),
        lost: Callable[[], bool] = lambda: False,
    ) -> None:
        self.inner = inner
        self.faults = faults
        self.pause = pause
        self.lost = lost

    async def _call(self, name: str, act: Callable[[], Awaitable[T]]) -> T:
        await self.pause()
        if self.lost():
            raise StorageError("the process is no more")
        if self.faults.storage_error(f"{name} fails"):
            msg = f"{name} failed"
            raise StorageError(msg)
        result = await act()
        await self.pause()
        if self.faults.storage_error(f"the answer of {name} is lost"):
            msg = f"the answer of {name} was lost"
            raise StorageError(msg)
        return result

    async def open(self) -> None:
        await self.inner.open()

    async def close(self) -> None:
        """Leave the storage open: others use it."""

    async def create(
        self,
        run: Run,
        events: Sequence[Event],
        jobs: Sequence[Job],
        hooks: Sequence[Hook] = (),
        *,
        lease: Lease | None = None,
    ) -> Run | None:
        return await self._call("create", lambda: self.inner.create(run, events, jobs, hooks, lease=lease))

    async def run(self, run_id: str) -> Run:
        return await self._call("load", lambda: self.inner.run(run_id))

    async def load(self, run_id: str, after: int = 0) -> History:
        return await self._call("load", lambda: self.inner.load(run_id, after))

    async def load_many(self, run_ids: Sequence[str]) -> Mapping[str, History]:
        return await self._call("load", lambda: self.inner.load_many(run_ids))

    async def append(self, append: Append) -> int:
        return await self._call("append", lambda: self.inner.append(append))

    async def claim(self, worker: str, now: datetime, lease: timedelta, limit: int, **options: Any) -> list[Lease]:
        return await self._call("claim", lambda: self.inner.claim(worker, now, lease, limit, **options))

    def renew(self, worker: str, now: datetime, lease: timedelta) -> list[tuple[str, int]]:
        if self.lost():
            raise StorageError("the process is no more")
        if self.faults.storage_error("renew fails"):
            raise StorageError("renew failed")
        woken = self.inner.renew(worker, now, lease)
        if self.faults.storage_error("the answer of renew is lost"):
            raise StorageError("the answer of renew was lost")
        return woken

    async def due(self) -> datetime | None:
        return await self._call("due", self.inner.due)

    async def find_hook(self, token: str) -> Hook | None:
        return await self._call("find_hook", lambda: self.inner.find_hook(token))

    async def hooks(self, run_id: str | None = None, limit: int = 1000) -> list[Hook]:
        return await self._call("hooks", lambda: self.inner.hooks(run_id, limit))

    async def runs(self, query: RunQuery) -> Page:
        return await self._call("runs", lambda: self.inner.runs(query))

    async def purge(self, before: datetime, statuses: Collection[Status]) -> int:
        return await self._call("purge", lambda: self.inner.purge(before, statuses))
