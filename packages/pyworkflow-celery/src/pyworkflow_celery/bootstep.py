"""What a Celery worker does beside consuming: it begins a `WorkerProcess` where its tasks run, and ends it in time."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from celery import bootsteps, signals
from celery.concurrency.prefork import TaskPool as Prefork
from celery.concurrency.solo import TaskPool as Solo

from pyworkflow.app import default_app
from pyworkflow.errors import ConfigError
from pyworkflow_celery import worker_process

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger(__name__)

_MARGIN = 15.0  # seconds for stopping, beyond the grace
_GREEN = {"celery.concurrency.gevent", "celery.concurrency.eventlet"}


class Begin(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Checks the pool, and begins and ends the worker process where tasks run in this one."""

    requires = ("celery.worker.components:Pool",)
    pipe: tuple[int, int] | None = None  # its closing signals the children of a prefork pool to stop
    celery: Celery | None = None  # set where tasks run in children

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        pool = worker.pool_cls
        if pool.__module__ in _GREEN:
            msg = (
                f"pyworkflow does not run in a {pool.__module__.rpartition('.')[2]} pool: it needs threads of the "
                "system beside the tasks, for its event loop and to renew its leases while a step computes; start the "
                "worker with --pool prefork, threads or solo"
            )
            raise ConfigError(msg)
        self.capacity = None if issubclass(pool, Prefork) else 1 if issubclass(pool, Solo) else worker.concurrency
        runtime = worker_process.worker_runtime(default_app())
        runtime.check()
        if runtime.celery is not worker.app:
            msg = (
                f"this is a worker of the Celery app {worker.app.main!r}, and pyworkflow sends its messages to another "
                "one; configure(celery_app=...) has to name this app, before anybody asks for celery_app()"
            )
            raise ConfigError(msg)
        if self.capacity is None:
            Begin.celery, Begin.pipe = worker.app, os.pipe()

    def start(self, worker: Any) -> None:
        """Begin, unless that is for the children."""
        if self.capacity is not None:
            _begin(worker.app, self.capacity)

    def stop(self, worker: Any) -> None:  # noqa: ARG002 -- as Celery calls it
        """Release what is held here."""
        _close_pipe()
        worker_process.end()

    terminate = stop


def _begin(app: Celery, capacity: int) -> None:
    runtime = worker_process.worker_runtime(default_app())
    served = {"" if name == runtime.queue else name for name in app.amqp.queues.consume_from}
    served |= {runtime.queue} if "" in served else set()
    worker_process.begin(runtime.settings.capacity or capacity, sorted(served))


def _close_pipe() -> None:
    if Begin.pipe is not None:
        os.close(Begin.pipe[1])
        Begin.pipe = None


def _child_begins(**_: Any) -> None:
    if Begin.celery is None:
        return  # a pool without children sends this signal too
    _begin(Begin.celery, 1)
    if Begin.pipe is not None:
        reading, writing = Begin.pipe
        os.close(writing)
        Begin.pipe = None
        worker_process.current().watch(reading)


def _child_ends(**_: Any) -> None:
    worker_process.end()


def _shutting_down(**_: Any) -> None:
    _close_pipe()
    if worker_process._process is not None:  # noqa: SLF001 -- of our own
        worker_process._process.begin_to_stop()  # noqa: SLF001 -- as above
    if Begin.celery is None:
        return
    settings = worker_process.worker_runtime(default_app()).settings
    if settings.app is None:  # else there may be tasks of others, which may take long
        limit = settings.grace.total_seconds() + _MARGIN
        threading.Thread(target=_leave_after, args=(limit,), name="pyworkflow-end", daemon=True).start()


def _leave_after(seconds: float) -> None:
    """End this process after that time: where a signal kills its pool too, while it holds a lock, Celery never ends."""
    time.sleep(seconds)
    logger.warning("the pool has not stopped, so it is left; nothing is lost by that")
    logging.shutdown()
    os._exit(0)


signals.worker_process_init.connect(_child_begins)
signals.worker_process_shutdown.connect(_child_ends)
signals.worker_shutting_down.connect(_shutting_down)


def add_steps(app: Celery) -> None:
    """Have workers of *app* begin and end with us."""
    app.steps["worker"].add(Begin)
