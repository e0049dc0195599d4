"""Transient runs on Celery: each is one task, and its result comes from Celery's result backend."""

from __future__ import annotations

import asyncio
import copy
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery.backends.base import DisabledBackend

from pyworkflow import wire
from pyworkflow.codec.exceptions import rebuild, record_of
from pyworkflow.engine.by_mode import TransientRuntime
from pyworkflow.engine.transient import TransientRun
from pyworkflow.errors import ConfigError, RunBlocked, RunCancelled, StorageError, Unsupported, WorkflowError
from pyworkflow.events import Completed, Failed, Plain
from pyworkflow.ids import checked_id, new_run_id
from pyworkflow.model import RUN_OP
from pyworkflow.ports import StartRequest
from pyworkflow_celery.tasks import CALL

if TYPE_CHECKING:
    from pyworkflow.engine.host import Host
    from pyworkflow.engine.step_runner import StepThreads
    from pyworkflow_celery.broker import Broker

_CANCELLED = "PYWORKFLOW_CANCELLED"

REMEMBERED = 100_000
"""Of so many runs that were sent last the results can be asked for in the process that sent them."""


class CeleryTransient(TransientRuntime):
    """Transient runs as one Celery task each.

    Args:
        app: The application.
        broker: Sends the tasks.
        threads: Where sync steps run.
        is_worker: Whether this process is a worker; there a call is executed at once, as a slot of the pool that waits
            for another slot may wait for ever.
    """

    def __init__(self, app: Host, broker: Broker, threads: StepThreads, is_worker: Callable[[], bool]) -> None:
        self.app = app
        self._broker = broker
        self._threads = threads
        self._is_worker = is_worker
        self._sent: OrderedDict[str, None] = OrderedDict()
        self._running: set[asyncio.Task[Any]] = set()

    # -- for callers -------------------------------------------------------------------------

    async def start(self, request: StartRequest) -> str:
        """Send a run as one task."""
        if request.idempotency_key is not None:
            msg = (
                "a transient run on Celery leaves no record by which an idempotency key could be known; make it durable"
            )
            raise Unsupported(msg)
        run_id = request.run_id or new_run_id()
        sent = self._broker.sender.send(
            CALL,
            task_id=run_id,
            kwargs={
                "run_id": run_id,
                "workflow": request.workflow.name,
                "args": wire.dumps_plain(request.args),
                "kwargs": wire.dumps_plain(request.kwargs),
            },
            queue=self._broker.queue,
        )
        try:
            await asyncio.wrap_future(sent)
        except ConnectionError as error:
            msg = f"the run could not be started, as the broker cannot be reached: {error}"
            raise WorkflowError(msg) from None
        self._sent[run_id] = None
        if len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)
        return run_id

    async def call(self, request: StartRequest) -> Plain:
        """Start a run and wait for its end; within a worker it is executed there."""
        if self._is_worker():
            run = TransientRun(request.run_id or new_run_id(), self.app, self._threads)
            return await run.run(request.workflow, request.args, request.kwargs)
        run_id = await self.start(request)
        try:
            return await self.result(run_id)
        except asyncio.CancelledError:
            await self.cancel(run_id)
            raise

    def knows(self, run_id: str) -> bool:
        """Whether this process sent the run."""
        return run_id in self._sent

    async def result(self, run_id: str) -> Plain:
        """Wait for the end of a run."""
        self._need_backend("its result")
        pause = 0.02
        while (meta := await self._meta(run_id))["status"] not in {"SUCCESS", "FAILURE", "REVOKED"}:
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, 0.5)
        if meta["status"] != "SUCCESS":
            msg = f"the transient run {run_id!r} was lost with its worker: {meta['result']}"
            raise WorkflowError(msg)
        try:
            (event,) = wire.loads(meta["result"])
        except (StorageError, TypeError, ValueError):
            event = None
        if isinstance(event, Failed):
            raise rebuild(event.error)
        if not isinstance(event, Completed):
            msg = f"what the result backend has for the transient run {run_id!r} is damaged: it is no result of a run"
            raise WorkflowError(msg)
        return event.value

    async def cancel(self, run_id: str, reason: str = "", grace: timedelta | None = None) -> None:  # noqa: ARG002
        """Ask a run to stop; its worker learns of it by the result backend."""
        self._need_backend("cancelling it")
        backend = self._broker.celery.backend
        await asyncio.to_thread(backend.store_result, _flag(run_id), reason, _CANCELLED)

    # -- in a worker ---------------------------------------------------------------------------

    async def execute(self, run_id: str, name: str, args: Plain, kwargs: Plain) -> str:
        """Execute a run; return the event that ended it, as JSON."""
        workflow = self.app.registry.workflows.get(name) if isinstance(name, str) else None
        if workflow is None:
            msg = f"workflow {name!r} is not known in this worker; import the module that declares it"
            return self._failed(RunBlocked(msg))
        is_durable = self.app.settings.default_durable if workflow.durable is None else workflow.durable
        if is_durable is not False:  # a message can be forged, and its run would not be in the storage
            msg = f"workflow {name!r} is durable in this worker, so it is not executed for a message alone"
            return self._failed(RunBlocked(msg))
        try:
            checked_id(run_id, "run id")
        except ConfigError as error:
            return self._failed(error)
        run = TransientRun(run_id, self.app, self._threads)
        task = asyncio.ensure_future(run.run(workflow, args, kwargs))
        self._running.add(task)
        watch = asyncio.ensure_future(self._cancel_when_flagged(run_id, task))
        try:
            return wire.dumps([Completed(self.app.clock.now(), RUN_OP, await task)])
        except asyncio.CancelledError:
            return self._failed(RunCancelled(f"run {run_id!r} was cancelled"))
        except Exception as error:  # noqa: BLE001 -- a workflow may raise anything
            return self._failed(error)
        finally:
            watch.cancel()
            self._running.discard(task)

    def _failed(self, error: Exception) -> str:
        return wire.dumps([Failed(self.app.clock.now(), RUN_OP, record_of(error))])

    async def _cancel_when_flagged(self, run_id: str, task: asyncio.Task[Any]) -> None:
        if isinstance(self._broker.celery.backend, DisabledBackend):
            return
        while (await self._meta(_flag(run_id)))["status"] != _CANCELLED:  # noqa: ASYNC110 -- another process sets it
            await asyncio.sleep(0.5)
        task.cancel()

    async def drain(self, grace: float) -> None:
        """Give the runs that are executed here *grace* seconds."""
        if self._running and grace > 0:
            await asyncio.wait(self._running, timeout=grace)

    async def close(self, grace: float = 0.0) -> None:  # noqa: ARG002 -- `drain` has given it
        """Cancel the runs that are executed here."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._threads.close()

    async def _meta(self, task_id: str) -> dict[str, Any]:
        meta: dict[str, Any] = await asyncio.to_thread(self._reader.get_task_meta, task_id)
        return meta

    @cached_property
    def _reader(self) -> Any:
        """The result backend, which reads errors as data: Celery's own way calls the classes that they name."""
        reader = copy.copy(self._broker.celery.backend)
        reader.exception_to_python = lambda error: error
        return reader

    def _need_backend(self, what: str) -> None:
        if isinstance(self._broker.celery.backend, DisabledBackend):
            msg = (
                f"this transient run is one Celery task, and {what} needs a result backend; "
                "set celery_result_backend, such as redis://localhost/1, or make the workflow durable"
            )
            raise Unsupported(msg)


def _flag(run_id: str) -> str:
    return f"{run_id}.cancel"
