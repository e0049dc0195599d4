"""A worker process: one event loop in a thread, one storage, and the tasks of the pool as its turns of work."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Collection, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, runtime_checkable

from pyworkflow import wire
from pyworkflow.app import App, default_app
from pyworkflow.clock import pauses
from pyworkflow.errors import ConfigError

if TYPE_CHECKING:
    from celery import Celery

    from pyworkflow.events import Plain
    from pyworkflow_celery.settings import CelerySettings

T = TypeVar("T")
logger = logging.getLogger(__name__)

_MARGIN = 5.0  # seconds to release what is held in, beyond the grace


@runtime_checkable
class Serving(Protocol):
    """What tells the Celery runtime from others."""

    async def serve_here(self, capacity: int, queues: Collection[str]) -> None:
        """Have this process claim jobs and run steps."""


class WorkerRuntime(Serving, Protocol):
    """The Celery runtime, as far as a worker process knows it.

    Attributes:
        settings: Those of the application.
        celery: The Celery app.
        queue: The Celery queue for runs.
    """

    settings: CelerySettings
    celery: Celery
    queue: str

    def check(self) -> None:
        """Refuse settings with which no worker could do anything."""

    async def turn(self) -> None:
        """Sweep for due jobs; return once there are fewer than there are turns."""

    async def execute(self, run_id: str, name: str, args: Plain, kwargs: Plain) -> str:
        """Execute a transient run; return the event that ended it, as JSON."""


class WorkerProcess:
    """The worker of this process; made after the fork, as loops, threads and connections do not survive it.

    Args:
        app: The application whose runs are worked on.
        runtime: Its Celery runtime.
        capacity: How many steps to run at once.
        queues: The queues to serve, as steps name them; ``""`` stands for runs.
    """

    def __init__(self, app: App, runtime: WorkerRuntime, capacity: int, queues: Collection[str]) -> None:
        self.pid = os.getpid()
        self.is_stopping = False
        self._app = app
        self._runtime = runtime
        self._loop = asyncio.new_event_loop()
        self._ready = asyncio.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pyworkflow", daemon=True)
        self._thread.start()
        self._beginning = asyncio.run_coroutine_threadsafe(self._begin(capacity, queues), self._loop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _submit(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    async def _begin(self, capacity: int, queues: Collection[str]) -> None:
        waits = pauses()
        while not self._ready.is_set():
            try:
                await self._runtime.serve_here(capacity, queues)
                self._ready.set()
            except Exception as error:  # noqa: BLE001 -- a storage may fail in any way, and may recover
                logger.error("this process cannot take part in the work yet, trying again: %s", error)  # noqa: TRY400
                await asyncio.sleep(next(waits))

    def turn(self) -> None:
        """Do a share of the work there is; return when there is less than that."""
        self._submit(self._turn())

    async def _turn(self) -> None:
        await self._ready.wait()
        if not self.is_stopping:  # else others find it
            await self._runtime.turn()

    def call(self, run_id: str, workflow: str, args: str, kwargs: str) -> str:
        """Execute a transient run; return the event that ended it, as JSON."""
        return self._submit(self._runtime.execute(run_id, workflow, wire.loads_plain(args), wire.loads_plain(kwargs)))

    def watch(self, pipe: int) -> None:
        """Stop when the other end of *pipe* is closed: the worker is shutting down, or is dead."""
        self._loop.call_soon_threadsafe(self._loop.add_reader, pipe, self._end_of, pipe)

    def _end_of(self, pipe: int) -> None:
        self._loop.remove_reader(pipe)
        self.begin_to_stop()

    def begin_to_stop(self) -> None:
        """Begin nothing more, and release what does not end within the grace; from any thread, and from signals."""
        if not self.is_stopping:
            self.is_stopping = True
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._stop()))

    async def _stop(self) -> None:
        self._beginning.cancel()
        self._ready.set()
        try:
            await self._app.close(self._runtime.settings.grace.total_seconds())
        except Exception:
            logger.exception("what this process holds could not be released; its lease will lapse")
        finally:
            self._stopped.set()

    def stop(self) -> None:
        """Stop, and wait for the end."""
        self.begin_to_stop()
        self._stopped.wait(self._runtime.settings.grace.total_seconds() + _MARGIN)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_MARGIN)


_process: WorkerProcess | None = None


def begin(capacity: int, queues: Collection[str]) -> WorkerProcess:
    """Have this process work from now on."""
    global _process  # noqa: PLW0603 -- there is one a process
    app = default_app()
    _process = WorkerProcess(app, worker_runtime(app), capacity, queues)
    return _process


def current() -> WorkerProcess:
    """Return the worker of this process.

    Raises:
        ConfigError: It is no worker process that pyworkflow began in.
    """
    if _process is None or _process.pid != os.getpid():
        msg = "this is no worker process of pyworkflow: the Celery app was not passed to pyworkflow_celery.install()"
        raise ConfigError(msg)
    return _process


def end() -> None:
    """End the worker of this process, if it has one."""
    if _process is not None and _process.pid == os.getpid():
        _process.stop()


def worker_runtime(app: App) -> WorkerRuntime:
    """Return the Celery runtime of an application: its default runtime if that is one, else ``celery``."""
    runtime = app.runtime()
    return cast("WorkerRuntime", runtime if isinstance(runtime, Serving) else app.runtime("celery"))
