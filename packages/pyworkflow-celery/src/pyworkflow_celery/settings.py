"""What can be configured, as ``celery_…``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from attrs import field, frozen

from pyworkflow.config.masking import shown

DEFAULT_BROKER = "filesystem://.pyworkflow/broker"
"""A folder below the current one: needs no server, and serves one host."""

DEFAULT_QUEUE = "pyworkflow"


@frozen
class CelerySettings:
    """The settings of the runtime ``celery``.

    Attributes:
        broker: The broker's URL; ``filesystem://FOLDER`` is a folder of this host, and the default.
        app: Your own Celery app, as ``"module:attribute"`` or itself; it brings its broker and its result backend.
        queue: The Celery queue for runs; by default ``pyworkflow``, or the default queue of *app*.
        result_backend: Where Celery keeps the results of transient runs; None: nowhere.
        visibility_timeout: After how long a broker that has such a thing, such as Redis, gives a message out again.
        lease: For how long a worker process is believed to live after its last sign of life.
        sweep: How often a worker process polls for due jobs that it got no message of.
        grace: How long running steps may go on when a worker stops.
        concurrency: How many processes, or threads, a worker has; None: as many as there are processors.
        capacity: How many steps a worker process runs at once; None: one, or one for each thread of a pool of
            threads. More than that suits async steps that mostly wait.
    """

    broker: str | None = field(default=None, repr=shown)
    app: Any = None
    queue: str | None = None
    result_backend: str | None = field(default=None, repr=shown)
    visibility_timeout: timedelta | None = None
    lease: timedelta = timedelta(seconds=10)
    sweep: timedelta = timedelta(seconds=1)
    grace: timedelta = timedelta(seconds=10)
    concurrency: int | None = None
    capacity: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.sweep <= timedelta(0) or self.lease < 2 * self.sweep:
            raise ValueError(f"celery_lease ({self.lease}) has to be at least twice celery_sweep ({self.sweep})")
        for name in ("concurrency", "capacity"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"celery_{name} is {value}; it has to be 1 or more")
        if self.grace < timedelta(0):
            raise ValueError(f"celery_grace is {self.grace}; it cannot be negative")
        if self.app is not None:
            for name in ("broker", "result_backend", "visibility_timeout"):
                if getattr(self, name) is not None:
                    raise ValueError(f"celery_app brings its own {name}; leave out celery_{name}, or set it on the app")
        if isinstance(self.app, str) and not all(self.app.partition(":")):
            raise ValueError(f"celery_app is {self.app!r}; write module:attribute, such as 'shop.celery:app'")
