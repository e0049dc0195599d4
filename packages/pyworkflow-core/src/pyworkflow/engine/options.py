"""How a worker works."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from attrs import frozen


@frozen
class WorkerOptions:
    """How a worker works; times in seconds.

    Attributes:
        lease: For how long a worker is believed to live after its last sign of life.
        sweep: How often it looks for work that nobody told it of.
        batch: How many jobs it takes at a time.
        threads: How many sync steps it carries out at once.
        kept: How many parked workflows stay in memory, so that going on needs no replay.
        capacity: How many steps it carries out at once before it hands out what is more; None: any number.
        queues: Those it serves, the runs themselves being in queue ``""``; None: all, there are no queues here.
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

    @property
    def beat(self) -> timedelta:
        """How often it shows that it lives, and learns what others did to what it holds."""
        return self.lease / 3 if self.capacity is None else min(self.lease / 3, self.sweep)
