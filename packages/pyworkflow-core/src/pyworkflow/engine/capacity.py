"""How much a worker has room for."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define

from pyworkflow.engine.held_run import HeldRun
from pyworkflow.engine.remote_steps import RemoteSteps


@define(eq=False)
class Capacity:
    """The steps that a worker may run at once, and what takes of them.

    A held run takes as many as it runs or is about to run, and at least one: without that a worker would claim more
    runs than it can run steps of.

    Attributes:
        limit: How many; None: any number.
    """

    limit: int | None
    runs: Mapping[str, HeldRun]
    remote: RemoteSteps

    @property
    def held(self) -> int:
        """How many runs, and steps of others' runs, are held."""
        return len(self.runs) + len(self.remote)

    def room(self, inside: HeldRun | None = None) -> int | None:
        """Return how many steps more can begin, of the run *inside* or of a new one; None: any number."""
        if self.limit is None:
            return None
        used = len(self.remote) + sum(held.busy_with for held in self.runs.values())
        if inside is not None:
            used -= inside.busy_with - len(inside.running)
        return max(0, self.limit - used)
