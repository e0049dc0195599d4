"""`StorageConformance`: what every storage has to do, as a plain pytest class; write one subclass and one fixture."""

from __future__ import annotations

from pyworkflow.testing.storage_kit.effects import EffectConformance
from pyworkflow.testing.storage_kit.histories import HistoryConformance
from pyworkflow.testing.storage_kit.leases import LeaseConformance
from pyworkflow.testing.storage_kit.stored import (
    FOREVER,
    LEASE,
    T0,
    Factory,
    add,
    add_held,
    call,
    end,
    facts,
    hook,
    job,
    run,
    started,
    take,
)

__all__ = [
    "FOREVER",
    "LEASE",
    "T0",
    "Factory",
    "StorageConformance",
    "add",
    "add_held",
    "call",
    "end",
    "facts",
    "hook",
    "job",
    "run",
    "started",
    "take",
]


class StorageConformance(HistoryConformance, LeaseConformance, EffectConformance):
    """The storage contract, case by case.

    A subclass has a fixture ``storage_factory``: a callable without arguments that returns a new, unopened storage each
    time, all of them on the same data.

    Attributes:
        shares_data: Whether two of these instances see the same data, as two processes would.
        many: How many jobs are claimed in pieces; fewer for an emulator that is slow.
    """
