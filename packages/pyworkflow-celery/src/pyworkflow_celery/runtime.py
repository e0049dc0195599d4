"""The runtime: runs are kept in the storage; Celery tells its workers that there is something to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery.backends.base import DisabledBackend

from pyworkflow import wire
from pyworkflow.codec.exceptions import rebuild, record_of
from pyworkflow.engine.options import WorkerOptions
from pyworkflow.engine.runtime import StoredRuntime
from pyworkflow.engine.transient import Transient
from pyworkflow.errors import ConfigError, RunBlocked, RunCancelled, Unsupported, WorkflowError
from pyworkflow.events import Completed, Failed, Plain
from pyworkflow.ids import new_run_id
from pyworkflow.model import RUN_OP, Job
from pyworkflow.ports import Mode, StartRequest
from pyworkflow_celery.apps import celery_of
from pyworkflow_celery.sender import Sender
from pyworkflow_celery.settings import CelerySettings
from pyworkflow_celery.tasks import CALL, RUN, STEP

if TYPE_CHECKING:
    from celery import Celery

    from pyworkflow.app import App
    from pyworkflow.ports import Storage

logger = logging.getLogger(__name__)

_HINTS = 100  # at most for one write: workers go on until nothing is left, however many there are
_PATIENCE = 2.0  # seconds that a start waits for the broker; the run is safe already
_CANCELLED = "PYWORKFLOW_CANCELLED"


class CeleryRuntime(StoredRuntime):
    """Durable runs on Celery workers that share the storage, and transient ones as one task each."""

    begins = False

    def __init__(self, app: App, *, threads: int = 32, kept: int = 1000) -> None:
        self.settings = app.settings.of(CelerySettings)
        options = WorkerOptions(self.settings.lease, self.settings.sweep, threads=threads, kept=kept, capacity=1)
        super().__init__(app, options)
        self._is_worker = False
        self._sent: set[str] = set()
        self._carried: set[asyncio.Task[Any]] = set()
        self._threads: ThreadPoolExecutor | None = None

    @cached_property
    def celery(self) -> Celery:
        """The Celery app."""
        return celery_of(self.settings)

    @cached_property
    def _sender(self) -> Sender:
        return Sender(self.celery)

    @property
    def queue(self) -> str:
        """The Celery queue for runs."""
        queue: str = self.settings.queue or self.celery.conf.task_default_queue
        return queue

    async def notify(self, jobs: Sequence[Job]) -> None:
        """Send a message for each job, and give up on a broker that does not answer."""
        await self._wait_for(
            [
                self._sender.send(
                    RUN if job.op == RUN_OP else STEP,
                    kwargs={"run": job.run_id, "queue": job.queue},
                    queue=job.queue or self.queue,
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
        """Return the storage, ready.

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
        self.celery  # noqa: B018 -- made, or refused, on first use

    # -- workers ---------------------------------------------------------------------------

    async def serve_here(self, capacity: int, queues: Collection[str]) -> None:
        """Have this process, which Celery made for tasks, take part in the work."""
        lease, sweep, old = self.settings.lease, self.settings.sweep, self.options
        self.options = WorkerOptions(
            lease, sweep, threads=max(old.threads, capacity), kept=old.kept, capacity=capacity, queues=queues
        )
        self._is_worker = True
        await self.work()
        await self.app.begin_work(self)

    def serve(self, *, concurrency: int | None, queues: Sequence[str], grace: timedelta) -> int:
        """Be a Celery worker until told to stop; return the exit code of the process.

        Args:
            concurrency: How many processes; None: as configured.
            queues: Those to serve, as steps name them; none: that of runs.
            grace: How long running steps may go on at the end.
        """
        from attrs import evolve

        self.settings = evolve(self.settings, grace=grace)
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
        """Close as in `StoredRuntime`; transient runs that are carried out here end with it."""
        if self._carried and grace > 0:
            await asyncio.wait(self._carried, timeout=grace)
        await super().close(grace)
        for task in self._carried:
            task.cancel()
        await asyncio.gather(*self._carried, return_exceptions=True)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
        if "_sender" in vars(self):
            self._sender.close()

    # -- transient runs ----------------------------------------------------------------------

    async def start(self, request: StartRequest) -> str:
        """Start a run of either mode; a transient one is sent as one task."""
        if request.mode is Mode.DURABLE:
            return await super().start(request)
        if request.idempotency_key is not None:
            msg = (
                "a transient run on Celery leaves no record by which an idempotency key could be known; make it durable"
            )
            raise Unsupported(msg)
        run_id = request.run_id or new_run_id()
        sent = self._sender.send(
            CALL,
            task_id=run_id,
            kwargs={
                "run_id": run_id,
                "workflow": request.workflow.name,
                "args": wire.dumps_plain(request.args),
                "kwargs": wire.dumps_plain(request.kwargs),
            },
            queue=self.queue,
        )
        try:
            await asyncio.wrap_future(sent)
        except ConnectionError as error:
            msg = f"the run could not be started, as the broker cannot be reached: {error}"
            raise WorkflowError(msg) from None
        self._sent.add(run_id)
        return run_id

    async def call(self, request: StartRequest) -> Plain:
        """Start a run and wait for its end; a transient one within a worker is carried out there."""
        if request.mode is Mode.DURABLE:
            return await super().call(request)
        if self._is_worker:  # a slot that waits for another slot may wait for ever
            transient = Transient(request.run_id or new_run_id(), self.app, self._pool())
            return await transient.run(request.workflow, request.args, request.kwargs)
        run_id = await self.start(request)
        try:
            return await self.result(run_id)
        except asyncio.CancelledError:
            await self.cancel(run_id)
            raise

    async def result(self, run_id: str) -> Plain:
        """Wait for the end of a run; that of a transient one comes from Celery's result backend."""
        if run_id not in self._sent:
            return await super().result(run_id)
        self._need_backend("its result")
        pause = 0.02
        while (meta := await self._meta(run_id))["status"] not in {"SUCCESS", "FAILURE", "REVOKED"}:
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, 0.5)
        if meta["status"] != "SUCCESS":
            msg = f"the transient run {run_id!r} was lost with its worker: {meta['result']}"
            raise WorkflowError(msg)
        (event,) = wire.loads(meta["result"])
        if isinstance(event, Failed):
            raise rebuild(event.error)
        assert isinstance(event, Completed)  # noqa: S101 -- `carry_out` writes one or the other
        return event.value

    async def cancel(self, run_id: str, reason: str = "", grace: timedelta | None = None) -> None:
        """Ask a run to stop; a transient one learns of it by the result backend."""
        if run_id not in self._sent:
            await super().cancel(run_id, reason, grace)
            return
        self._need_backend("cancelling it")
        backend = self.celery.backend
        await asyncio.to_thread(backend.store_result, _flag(run_id), reason, _CANCELLED)

    async def carry_out(self, run_id: str, name: str, args: Plain, kwargs: Plain) -> str:
        """Carry out a transient run; return the event that is its end, as JSON."""
        workflow = self.app.registry.workflows.get(name)
        if workflow is None:
            msg = f"workflow {name!r} is not known in this worker; import the module that declares it"
            return self._failed(RunBlocked(msg))
        transient = Transient(run_id, self.app, self._pool())
        task = asyncio.ensure_future(transient.run(workflow, args, kwargs))
        self._carried.add(task)
        watch = asyncio.ensure_future(self._cancel_when_told(run_id, task))
        try:
            return wire.dumps([Completed(self.clock.now(), RUN_OP, await task)])
        except asyncio.CancelledError:
            return self._failed(RunCancelled(f"run {run_id!r} was cancelled"))
        except Exception as error:  # noqa: BLE001 -- a workflow may raise anything
            return self._failed(error)
        finally:
            watch.cancel()
            self._carried.discard(task)

    def _failed(self, error: Exception) -> str:
        return wire.dumps([Failed(self.clock.now(), RUN_OP, record_of(error))])

    async def _cancel_when_told(self, run_id: str, task: asyncio.Task[Any]) -> None:
        if isinstance(self.celery.backend, DisabledBackend):
            return
        while (await self._meta(_flag(run_id)))["status"] != _CANCELLED:  # noqa: ASYNC110 -- another process sets it
            await asyncio.sleep(0.5)
        task.cancel()

    async def _meta(self, task_id: str) -> dict[str, Any]:
        backend = self.celery.backend
        meta: dict[str, Any] = await asyncio.to_thread(backend.get_task_meta, task_id)
        return meta

    def _need_backend(self, what: str) -> None:
        if isinstance(self.celery.backend, DisabledBackend):
            msg = (
                f"this transient run is one Celery task, and {what} needs a result backend; "
                "set celery_result_backend, such as redis://localhost/1, or make the workflow durable"
            )
            raise Unsupported(msg)

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.options.threads, "pyworkflow-step")
        return self._threads


def _flag(run_id: str) -> str:
    return f"{run_id}.cancel"
