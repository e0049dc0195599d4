"""Recorded histories against today's code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyworkflow.errors import NonDeterminism
from pyworkflow.events import Event, RunStarted
from pyworkflow.replay.history import effective
from pyworkflow.replay.machine import Machine
from pyworkflow.replay.state import first_difference, state_of

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Workflow
    from pyworkflow.codec import Codec


def replay_history(workflow: Workflow[..., Any], events: Sequence[Event], codec: Codec | None = None) -> None:
    """Replay a history against the code of *workflow*; no step runs and nothing is written.

    Args:
        workflow: The workflow.
        events: The history.
        codec: That of the application; by default one without converters of plugins.

    Raises:
        NonDeterminism: A run with this history could not go on, or would not have ended as it did.
    """
    first = events[0] if events else None
    if not isinstance(first, RunStarted):
        msg = "the history does not begin with the start of a run"
        raise NonDeterminism(msg)
    if first.workflow != workflow.name:
        msg = f"the history is one of workflow {first.workflow!r}, not of {workflow.name!r}"
        raise NonDeterminism(msg)
    seen = effective(events)
    machine, other = (Machine(workflow.body, "replay", codec=codec) for _ in range(2))
    try:
        machine.replay(seen)
        other.replay(seen)
        if difference := first_difference(state_of(machine), state_of(other)):
            msg = f"two replays of the history differ, so the workflow depends on something else: {difference}"
            raise NonDeterminism(msg)
    finally:
        machine.close()
        other.close()
