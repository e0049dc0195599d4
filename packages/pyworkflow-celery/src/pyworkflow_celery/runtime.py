"""The runtime: runs are kept in the storage; Celery signals its workers that there is something to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from datetime import timedelta
from typing import TYPE_CHECKING

from pyworkflow.engine.by_mode import RuntimeByMode
from pyworkflow.engine.options import WorkerOptions
from pyworkflow.engine.runtime import StoredRuntime
from pyworkflow.errors import ConfigError
from pyworkflow.events import Plain
from pyworkflow.model import RUN_OP, Job
from pyworkflow_celery.broker import Broker
from pyworkflow_celery.settings import CelerySettings
from pyworkflow_celery.tasks import RUN, STEP
from pyworkflow_celery.transient import CeleryTransient

if TYPE_CHECKING:
    from celery import Celery

    from pyworkflow.engine.host import Host
    from pyworkflow.ports import Storage

logger = logging.getLogger(__name__)

_HINTS = 100  # at most for one write: workers go on until nothing is left, however many there are
_PATIENCE = 2.0  # seconds that a start waits for the broker; the run is safe already


class CeleryDurable(StoredRuntime):
    """Durable runs on Celery workers that share the storage.

    Attributes:
        is_worker: Whether this process executes runs.
    """

    begins = False

    def __init__(self, app: Host, broker: Broker, options: WorkerOptions) -> None:
        super().__init__(app, options)
        self.is_worker = False
        self._broker = broker

    async def notify(self, jobs: Sequence[Job]) -> None:
        """Send a message for each job, and give up on a broker that does not answer."""
        await self._wait_for(
            [
                self._broker.sender.send(
                    RUN if job.op == RUN_OP else STEP,
                    kwargs={"run": job.run_id, "queue": job.queue},
                    queue=job.queue or self._broker.queue,
                    ignore_result=True,
                )
                for job in jobs[:_HINTS]
            ]
        )

    async def _wait_for(self, sent: Sequence[Future[None]]) -> None:
        futures = [asyncio.wrap_future(future) for future in sent]
        for future in futures:
            future.add_done_callback(lambda done: done.cancelled() or done.exception())  # the sender has logged it
        if futures:
            await asyncio.wait(futures, timeout=_PATIENCE)

    async def storage(self) -> Storage:
        """Return the storage, open.

        Raises:
            ConfigError: It is in the memory of this process, where no worker sees it.
        """
        self.check()
        return await super().storage()

    def check(self) -> None:
        """Refuse settings with which no worker could do anything.

        Raises:
            ConfigError: The storage is in the memory of this process, or the Celery app cannot be had.
        """
        if not self.app.storage.is_shared:
            msg = (
                "Celery's workers are processes of their own and see nothing of a storage in memory; "
                'configure(storage="sqlite:///workflows.db"), or another one that processes share'
            )
            raise ConfigError(msg)
        self._broker.celery  # noqa: B018 -- made, or refused, on first use

    async def serve_here(self, options: WorkerOptions) -> None:
        """Have this process claim jobs and run steps."""
        self.options, self.threads.limit = options, options.threads
        self.is_worker = True
        await self.work()
        await self.app.begin_work(self)


class CeleryRuntime(RuntimeByMode):
    """Durable runs on Celery workers that share the storage, and transient ones as one task each.

    Args:
        app: The application.
        threads: How many sync steps run at once in a process.
        kept: How many parked workflows stay in memory.
    """

    durable: CeleryDurable
    transient: CeleryTransient

    def __init__(self, app: Host, *, threads: int = 32, kept: int = 1000) -> None:
        self._broker = Broker(app.settings.of(CelerySettings))
        lease, sweep = self.settings.lease, self.settings.sweep
        options = WorkerOptions(lease, sweep, threads=threads, kept=kept, capacity=1)
        durable = CeleryDurable(app, self._broker, options)
        super().__init__(durable, CeleryTransient(app, self._broker, durable.threads, lambda: durable.is_worker))

    @property
    def settings(self) -> CelerySettings:
        """The settings of the application."""
        return self._broker.settings

    @property
    def celery(self) -> Celery:
        """The Celery app."""
        return self._broker.celery

    @property
    def queue(self) -> str:
        """The Celery queue for runs."""
        return self._broker.queue

    def check(self) -> None:
        """Refuse settings with which no worker could do anything."""
        self.durable.check()

    # -- workers ---------------------------------------------------------------------------

    async def serve_here(self, capacity: int, queues: Collection[str]) -> None:
        """Have this process, which Celery made for tasks, claim jobs and run steps."""
        old, lease, sweep = self.durable.options, self.settings.lease, self.settings.sweep
        threads = max(old.threads, capacity)
        await self.durable.serve_here(
            WorkerOptions(lease, sweep, threads=threads, kept=old.kept, capacity=capacity, queues=queues)
        )

    async def turn(self) -> None:
        """Sweep for due jobs; return once there are fewer than there are turns."""
        await self.durable.turn()

    async def execute(self, run_id: str, name: str, args: Plain, kwargs: Plain) -> str:
        """Execute a transient run; return the event that ended it, as JSON."""
        return await self.transient.execute(run_id, name, args, kwargs)

    def serve(self, *, concurrency: int | None, queues: Sequence[str], grace: timedelta) -> int:
        """Be a Celery worker until stopped; return the exit code of the process.

        Args:
            concurrency: How many processes; None: as configured.
            queues: Those to serve, as steps name them; none: that of runs.
            grace: How long running steps may go on at the end.
        """
        from attrs import evolve

        self._broker.settings = evolve(self.settings, grace=grace)
        worker = self.celery.Worker(
            concurrency=concurrency or self.settings.concurrency,
            queues=[name or self.queue for name in queues] or [self.queue],
            loglevel=logging.getLogger().getEffectiveLevel(),
            without_gossip=True,  # workers need not know each other, and start faster
            without_mingle=True,
            optimization="fair",
            quiet=True,
        )
        worker.start()
        return int(worker.exitcode or 0)

    async def close(self, grace: float = 0.0) -> None:
        """Release what is held, and cancel the transient runs that are executed here."""
        await self.transient.drain(grace)
        await super().close(grace)
        self._broker.close()
