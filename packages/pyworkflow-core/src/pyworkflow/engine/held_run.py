"""A run that a worker holds: where it stands between two writes, and what came for it meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from attrs import define, field

from pyworkflow.events import Event
from pyworkflow.model import Lease
from pyworkflow.replay.machine import MAX_EVENTS, Machine

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Workflow

logger = logging.getLogger(__name__)


class Phase(Enum):
    """Where a held run stands."""

    RESUMING = "its history is being read"
    IDLE = "nothing is written for it"
    ADVANCING = "a decision of it is made and written"
    RELEASED = "it is not held any more"


@define(eq=False)
class HeldRun:
    """A run, its machine, and the lease under which everything of it is written.

    One task at a time advances a run; what comes for it meanwhile waits::

        RESUMING ──resumed──▶ IDLE ──acquire──▶ ADVANCING
                               ▲                  │
                               └────yield_turn────┘
        any of them ──release──▶ RELEASED, for good

    Two marks cut across the phases. ``stale``: the history grew from outside, so it has to be read before the next
    decision. ``unproven``: the history grew and nothing was written under the lease since; whoever wrote it may hold
    the run by now, so no step begins before an append has shown that the lease still holds.

    Attributes:
        length: The length of the history that the machine has seen.
        is_ahead: The machine has seen facts of which nobody knows whether they were written.
        running: The tasks that run its steps and start its children, by operation.
        starting: How many more steps begin once the decision that is being written is durable.
        proven: A time at which the lease was known to hold.
        once: The steps at most once that have begun and whose end is not durable; their names, by operation.
        waiting: Facts for the next decision, which came while somebody else advanced the run.
    """

    run_id: str
    workflow: Workflow[..., Any]
    machine: Machine
    lease: Lease
    length: int = 0
    phase: Phase = Phase.IDLE
    stale: bool = False
    unproven: bool = False
    is_ahead: bool = field(default=False, kw_only=True)
    running: dict[int, asyncio.Task[None]] = field(factory=dict)
    starting: int = 0
    once: dict[int, str] = field(factory=dict)
    proven: datetime = field(default=datetime.min.replace(tzinfo=UTC), kw_only=True)
    waiting: list[Event] = field(factory=list, init=False)
    _signalled: bool = field(default=False, init=False)

    @property
    def is_released(self) -> bool:
        """Whether it is not held any more."""
        return self.phase is Phase.RELEASED

    def next_wake(self) -> datetime | None:
        """Return when something of the run is due, if it waits for a time."""
        machine = self.machine
        return machine.next_wake() if machine.operations.waking or machine.deadline is not None else None

    # -- transitions -----------------------------------------------------------------

    def resumed(self) -> None:
        """Note that the history has been read: the run can be advanced."""
        if self.phase is Phase.RESUMING:
            self.phase = Phase.IDLE

    def acquire(self, facts: Sequence[Event]) -> bool:
        """Begin to advance the run; if somebody does already, leave *facts* to them and return False."""
        if self.phase is Phase.IDLE:
            self.phase = Phase.ADVANCING
            self._signalled = False
            return True
        self.waiting.extend(facts)
        self._signalled = True
        return False

    def yield_turn(self) -> bool:
        """End advancing the run, unless there is more to decide; return whether that is so.

        More to decide: facts that wait, a call of `acquire` since the last decision, or a history that grew.
        """
        if self._signalled or self.stale or self.waiting:
            self._signalled = False
            return False
        self.phase, self.starting = Phase.IDLE, 0
        return True

    def abort_turn(self) -> None:
        """End advancing the run, whatever there is to decide.

        If it was cancelled while it wrote, the machine has seen facts of which nobody knows whether they were written:
        it is rebuilt before the next decision.
        """
        if self.phase is Phase.ADVANCING:
            self.phase = Phase.IDLE
            self.stale = self.is_ahead = True
        self.starting = 0

    def release(self) -> None:
        """Hold the run no longer; its tasks are cancelled, but for the one that calls, and its machine is closed."""
        self.phase = Phase.RELEASED
        for task in self.running.values():
            if task is not asyncio.current_task():
                task.cancel()
        self.running.clear()
        self.machine.close()

    def park(self) -> None:
        """Hold the run no longer, and leave its machine as it is: it has no task."""
        self.phase = Phase.RELEASED

    # -- what came meanwhile -----------------------------------------------------------

    def take_waiting(self, facts: Sequence[Event]) -> Sequence[Event]:
        """Return *facts* and those that wait, for the next decision."""
        waiting, self.waiting = self.waiting, []
        self._signalled = False
        return [*facts, *waiting]

    def grown(self, length: int) -> None:
        """Note the length of a history that was just read; what was added to it may be of another holder."""
        self.unproven = self.unproven or length > max(self.length, self.lease.length)
        self.length = length

    # -- steps -------------------------------------------------------------------------

    @property
    def busy_with(self) -> int:
        """How much of its worker's capacity the run takes: a step each, and at least one while it is held."""
        return max(1, len(self.running) + self.starting)

    def forget_answered(self, ops: Iterable[int]) -> None:
        """Note that the ends of steps are durable, or that nobody waits for them: they cannot begin again."""
        for op in ops:
            self.once.pop(op, None)


def warn_of_length(run_id: str, length: int) -> None:
    """Log that the history of a run has become long."""
    logger.warning(
        "the history of run %s has %d events; a workflow that goes on for ever should call "
        "pyworkflow.continue_as_new() from time to time (no more than %d are taken)",
        run_id,
        length,
        MAX_EVENTS,
        extra={"run_id": run_id},
    )
