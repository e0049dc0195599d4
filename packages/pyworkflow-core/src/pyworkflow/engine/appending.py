"""Writes that are tried again until the storage answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from attrs import define, evolve

from pyworkflow.clock import pauses
from pyworkflow.codec.exceptions import record_of
from pyworkflow.errors import Conflict, DamagedHistory, HookTaken, LeaseLost, RunEnded, RunNotFound, StorageError
from pyworkflow.events import RunBlocked
from pyworkflow.model import Append, Lease, Status

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from pyworkflow.clock import Clock
    from pyworkflow.ports import Storage

logger = logging.getLogger(__name__)

NOT_OURS = (LeaseLost, RunEnded, RunNotFound)
"""What an append raises when somebody else holds the run by now, or nobody does."""

Attempt = tuple[Append, Callable[[Append, HookTaken], Append] | None]
"""What to write, and what returns what to write instead if the token of a hook is in use; None: that is raised."""

T = TypeVar("T")


@define(eq=False)
class Appender:
    """Writes for a worker. A full disk or a failing network must not throw away what was done.

    The first try is made at once; later ones follow with growing pauses, for as long as it takes. A write whose answer
    was lost is seen by the next try as a `Conflict` or a lost lease, so nothing is written twice.
    """

    storage: Storage
    clock: Clock
    beat: timedelta

    async def append(self, attempt: Attempt) -> int | None:
        """Write an append; return the length of the history, or None if that was not as expected.

        Raises:
            WorkflowError: As `pyworkflow.ports.Storage.append`, but for `StorageError` and `Conflict`.
        """
        append, on_taken = attempt
        waits = None
        while True:
            try:
                return await self.storage.append(append)
            except Conflict:
                return None
            except HookTaken as taken:
                if on_taken is None:
                    raise
                append = on_taken(append, taken)
            except StorageError as error:
                logger.warning("run %s cannot be written, trying again: %s", append.run_id, error)
                waits = waits or pauses()
                await asyncio.sleep(next(waits))
            if append.now is not None:
                append = evolve(append, now=self.clock.now())

    async def prove(self, lease: Lease, proven: datetime) -> datetime:
        """Ask whether *lease* holds, until the answer is no older than a beat; return when it was last asked.

        A process that was stopped or frozen since *proven* learns by this that others have had the job.

        Raises:
            WorkflowError: It does not hold; see `NOT_OURS`.
        """
        while (asked := self.clock.now()) - proven > self.beat:
            await self.append((Append(lease.run_id, lease=lease), None))
            proven = asked
        return proven

    async def insist(self, act: Callable[[], Awaitable[T]]) -> T:
        """Call the storage until it does not fail; return the answer.

        Raises:
            DamagedHistory: What is stored cannot be read, which no second try changes.
        """
        waits = pauses()
        while True:
            try:
                return await act()
            except DamagedHistory:
                raise
            except StorageError as error:
                logger.warning("the storage failed, trying again: %s", error)
                await asyncio.sleep(next(waits))

    async def block(self, lease: Lease, error: Exception, *, finish: bool) -> RunBlocked:
        """Block the run of *lease*, so that somebody looks at it and nothing of it is lost; return the event.

        Tried once: a run that cannot be marked is recovered, and blocked then.
        """
        run_id, now = lease.run_id, self.clock.now()
        logger.error("run %s is blocked: %s", run_id, error, extra={"run_id": run_id})
        event = RunBlocked(now, record_of(error))
        try:
            await self.storage.append(
                Append(run_id, [event], lease=lease, finish=finish, status=Status.BLOCKED, now=now)
            )
        except (StorageError, *NOT_OURS) as failure:
            logger.warning("run %s could not be marked as blocked: %s", run_id, failure)
        return event
