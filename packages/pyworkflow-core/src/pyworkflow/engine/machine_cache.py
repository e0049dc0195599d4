"""The machines of parked runs, kept so that a run that goes on here need not be replayed."""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, field

from pyworkflow.replay.machine import Machine


@define(eq=False)
class MachineCache:
    """Machines by run id, with the length of history that each has seen; the least recently parked is evicted first."""

    limit: int
    _machines: OrderedDict[str, tuple[Machine, int]] = field(factory=OrderedDict, init=False)

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._machines

    def put(self, run_id: str, machine: Machine, length: int) -> None:
        """Keep the machine of a run that is parked; evict one if there are too many."""
        self._machines[run_id] = machine, length
        if len(self._machines) > self.limit:
            _, (evicted, _) = self._machines.popitem(last=False)
            evicted.close()

    def pop(self, run_id: str) -> tuple[Machine, int] | None:
        """Return the machine of a run that goes on; None: it has to be replayed."""
        return self._machines.pop(run_id, None)

    def machines(self) -> list[Machine]:
        """Return all machines."""
        return [machine for machine, _ in self._machines.values()]

    def clear(self) -> None:
        """Evict all."""
        for machine in self.machines():
            machine.close()
        self._machines.clear()
