"""How a worker works."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from attrs import frozen


@frozen
class WorkerOptions:
    """How a worker works; times are `timedelta`s.

    Attributes:
        lease: For how long a worker is believed to live after its last heartbeat.
        sweep: How often it polls for due jobs that it got no signal of.
        batch: How many jobs it claims at a time.
        threads: How many sync steps it runs at once.
        kept: How many parked workflows stay in memory, so that resuming them needs no replay.
        capacity: How many steps it runs at once before it dispatches what is more; None: any number.
        queues: Those it serves, the runs themselves being in queue ``""``; None: all, there are no queues here.
        warn_events: A run whose history becomes so long is warned of, once.
        replay: Rebuild the workflow from its history before each decision; slow, and shows that replay is right.
    """

    lease: timedelta = timedelta(seconds=10)
    sweep: timedelta = timedelta(seconds=1)
    batch: int = 250
    threads: int = 32
    kept: int = 1000
    replay: bool = False
    capacity: int | None = None
    queues: Collection[str] | None = None
    warn_events: int = 10_000

    @property
    def beat(self) -> timedelta:
        """How often it renews its lease, and learns of signals to what it holds."""
        return self.lease / 3 if self.capacity is None else min(self.lease / 3, self.sweep)
