"""The runtime: it starts runs and tells them things; the members of its pool, a thread each, advance them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Coroutine, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pyworkflow.engine import StoredRuntime, WorkerOptions
from pyworkflow.errors import ConfigError
from pyworkflow.model import Job
from pyworkflow.ports import StartRequest

if TYPE_CHECKING:
    from pyworkflow.app import App


class ThreadsRuntime(StoredRuntime):
    """Durable runs, advanced in threads of this process.

    Args:
        app: The application.
        threads: How many threads.
        capacity: How many steps each carries out at once.
        lease: For how long a thread is believed to live after its last sign of life.
        sweep: How often it looks for work that nobody told it of.
    """

    begins = False  # the caller's event loop carries nothing out

    def __init__(self, app: App, *, threads: int, capacity: int, lease: timedelta, sweep: timedelta) -> None:
        if min(threads, capacity) < 1:
            msg = f"threads={threads} and capacity={capacity}: both are 1 or more"
            raise ConfigError(msg)
        super().__init__(app, WorkerOptions(lease, sweep, capacity=capacity))
        self._size = threads
        self._members: list[Member] = []
        self._pool_begins: asyncio.Task[None] | None = None

    # -- for those who start and watch runs ------------------------------------------------

    async def start(self, request: StartRequest) -> str:
        """Start a run; the pool begins with the first one."""
        await self.work()
        return await super().start(request)

    async def notify(self, jobs: Sequence[Job]) -> None:
        """Have the threads look at the runs of *jobs*."""
        for member in self._members:
            member.attend([job.run_id for job in jobs])

    def nudge(self, run_id: str) -> None:
        """Have the thread that holds a run notice that it was told something."""
        for member in self._members:
            member.attend([run_id])

    # -- the pool --------------------------------------------------------------------------

    async def work(self) -> None:
        """Start the threads, unless they are there; a caller that is cancelled meanwhile leaves none half started."""
        if not self._members and (self._pool_begins is None or self._pool_begins.done()):
            self._pool_begins = asyncio.create_task(self._begin_pool())
        if self._pool_begins is not None:
            await asyncio.shield(self._pool_begins)

    async def _begin_pool(self) -> None:
        await self.storage()  # opened once, by the caller
        members = [Member(self, number) for number in range(1, self._size + 1)]
        await asyncio.gather(*(member.do(member.work()) for member in members))
        self._members = members

    async def close(self, grace: float = 0.0) -> None:
        """Have the threads hand back what they hold, and end them."""
        if self._pool_begins is not None:
            await asyncio.wait([self._pool_begins])
        members, self._members, self._pool_begins = self._members, [], None
        await asyncio.gather(*(member.do(member.close(grace)) for member in members))
        for member in members:
            await asyncio.to_thread(member.end)
        await super().close(grace)


class Member(StoredRuntime):
    """One thread of the pool: a worker on an event loop of its own."""

    def __init__(self, pool: ThreadsRuntime, number: int) -> None:
        super().__init__(pool.app, pool.options)
        self._pool = pool
        self._own = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"pyworkflow-{number}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._own)
        try:
            self._own.run_forever()
        finally:
            self._own.close()

    def workflows(self) -> Collection[str]:
        """Those of the pool."""
        return self._pool.workflows()

    async def notify(self, jobs: Sequence[Job]) -> None:
        """Have the whole pool look at the runs of *jobs*."""
        await self._pool.notify(jobs)

    # -- from other threads ----------------------------------------------------------------

    def attend(self, run_ids: Sequence[str]) -> None:
        """Look at runs that were told something, or that anybody may take now."""
        self._own.call_soon_threadsafe(self._attend, run_ids)

    def _attend(self, run_ids: Sequence[str]) -> None:
        for run_id in run_ids:
            self.nudge(run_id)

    async def do(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Carry something out in this thread, and wait for it."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._own))

    def end(self) -> None:
        """End the thread; blocks."""
        self._own.call_soon_threadsafe(self._own.stop)
        self._thread.join()
