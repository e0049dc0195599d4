"""Callers that wait for the end of a run."""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop as running_loop
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import define, field

from pyworkflow.codec.exceptions import rebuild
from pyworkflow.errors import RunBlocked, RunCancelled, RunNotFound, RunTerminated
from pyworkflow.events import Event, Plain, RunCompleted, RunContinued, RunFailed
from pyworkflow.events import RunBlocked as BlockedEvent
from pyworkflow.events import RunCancelled as CancelledEvent
from pyworkflow.events import RunTerminated as TerminatedEvent
from pyworkflow.model import Run, Status

if TYPE_CHECKING:
    from pyworkflow.ports import Storage


async def last_event(storage: Storage, run: Run) -> Event | None:
    """Return the last event of a run, if it has any."""
    _, events = await storage.load(run.id, run.length - 1)
    return events[-1] if events else None


@define(eq=False)
class EndWaiters:
    """Futures of callers by run id; `settle` answers them where a run ends here, the storage is polled otherwise.

    Args:
        is_held: Whether this process holds a run, and will settle it.
    """

    is_held: Callable[[str], bool]
    _futures: defaultdict[str, set[asyncio.Future[Event | None]]] = field(factory=lambda: defaultdict(set), init=False)

    def __len__(self) -> int:
        return len(self._futures)

    def settle(self, run_id: str, end: Event | None) -> None:
        """Answer who waits for a run: with the event that ended it, or with None if it goes on elsewhere."""
        for future in list(self._futures.get(run_id, ())):
            if (loop := future.get_loop()) is running_loop():
                _settle(future, end)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(_settle, future, end)

    async def result(self, run_id: str, storage: Storage) -> Plain:
        """Wait for the end of the run, through the runs that continue it; return its encoded result.

        Raises:
            RunNotFound: There is no such run.
            RunCancelled, RunTerminated, RunBlocked: It ended, or stopped, without a result.
            Exception: What its workflow raised.
        """
        while isinstance(end := await self._end(run_id, storage), RunContinued):
            run_id = end.run_id
        return _outcome(run_id, end)

    async def _end(self, run_id: str, storage: Storage) -> Event:
        """Wait for the end of a run and return the event that is it."""
        pause = 0.0
        end: Event | None = None
        while end is None:
            future: asyncio.Future[Event | None] = asyncio.get_running_loop().create_future()
            self._futures[run_id].add(future)
            try:
                if self.is_held(run_id):
                    end = await future
                    continue
                run = await storage.run(run_id)
                if run.status is not Status.RUNNING:
                    end = await last_event(storage, run)
                    continue
                crowd = len(self._futures) / 1000  # so many of them ask as often as one does
                pause = min(max(1.3 * pause, 0.003, crowd), max(1.0, crowd))
                await asyncio.wait([future], timeout=pause)
                end = future.result() if future.done() else None
            finally:
                self._futures[run_id].discard(future)
                if not self._futures[run_id]:
                    del self._futures[run_id]
        return end


def _settle(future: asyncio.Future[Event | None], end: Event | None) -> None:
    if not future.done():
        future.set_result(end)


def _outcome(run_id: str, end: Event) -> Plain:
    match end:
        case RunCompleted(value=value):
            return value
        case RunFailed(error=record):
            raise rebuild(record)
        case CancelledEvent():
            msg = f"run {run_id!r} was cancelled"
            raise RunCancelled(msg)
        case TerminatedEvent(reason=reason):
            msg = f"run {run_id!r} was terminated{': ' + reason if reason else ''}"
            raise RunTerminated(msg)
        case BlockedEvent(error=record):
            msg = f"run {run_id!r} is blocked: {record.message}"
            raise RunBlocked(msg)
        case _:
            raise RunNotFound(run_id)
