"""The Celery app: one of our own, made by the settings, or the user's."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from celery import Celery

from pyworkflow.app import default_app
from pyworkflow.config.masking import shown
from pyworkflow.errors import ConfigError
from pyworkflow_celery.bootstep import add_steps
from pyworkflow_celery.settings import DEFAULT_BROKER, DEFAULT_QUEUE, CelerySettings
from pyworkflow_celery.tasks import register
from pyworkflow_celery.worker_process import worker_runtime

_UNSAFE = {"pickle", "application/x-python-serialize"}


def celery_of(settings: CelerySettings) -> Celery:
    """Return the Celery app that the settings ask for, with the tasks of pyworkflow.

    Raises:
        ConfigError: There is no such app, or it takes messages that execute code when they are read.
    """
    if settings.app is None:
        return install(_own(settings))
    return install(_imported(settings.app) if isinstance(settings.app, str) else settings.app)


def celery_app() -> Celery:
    """Return the Celery app of the default application, for ``celery -A MODULE worker``."""
    return worker_runtime(default_app()).celery


def install(app: Celery) -> Celery:
    """Have the workers of *app* execute workflows; return *app*. Doing it again does no harm.

    Raises:
        ConfigError: It is not a Celery app, or takes messages that execute code when they are read.
    """
    if not isinstance(app, Celery):
        msg = f"{shown(app)} is not a Celery app"
        raise ConfigError(msg)
    for key in ("accept_content", "result_accept_content"):
        unsafe = _UNSAFE.intersection(app.conf[key] or ())
        if unsafe:
            msg = (
                f"the Celery app {app.main!r} has {unsafe.pop()!r} in {key}, so that who can write to the broker can "
                "execute code in its workers; pyworkflow does not work there: take it out, JSON is enough"
            )
            raise ConfigError(msg)
    register(app)
    add_steps(app)
    return app


def _imported(target: str) -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        msg = f"celery_app is {target!r}, and that cannot be imported: {error}"
        raise ConfigError(msg) from error


def _own(settings: CelerySettings) -> Celery:
    broker, options = settings.broker or DEFAULT_BROKER, {}
    if broker.startswith("filesystem://"):
        broker, options = "filesystem://localhost//", _folders(broker)
    if settings.visibility_timeout is not None:
        options["visibility_timeout"] = settings.visibility_timeout.total_seconds()
    app = Celery("pyworkflow", broker=broker, backend=settings.result_backend, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_connection_max_retries=None,  # a worker outlives its broker
        broker_connection_retry_on_startup=True,
        broker_transport_options=options,
        result_serializer="json",
        task_default_queue=settings.queue or DEFAULT_QUEUE,
        task_serializer="json",
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_concurrency=settings.concurrency,
        worker_enable_remote_control=False,  # else who can write to the broker can end the workers
        worker_prefetch_multiplier=1,
    )
    return app


def _folders(broker: str) -> dict[str, Any]:
    folder = Path(broker.removeprefix("filesystem://") or DEFAULT_BROKER.removeprefix("filesystem://")).absolute()
    queues, control = folder / "queues", folder / "control"
    for path in (queues, control):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return {
        "data_folder_in": str(queues),
        "data_folder_out": str(queues),
        "control_folder": str(control),
        "polling_interval": 0.1,
    }
