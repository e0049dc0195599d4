"""A run that a worker holds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from attrs import define, field

from pyworkflow.events import Completed, Event, Failed, Retrying
from pyworkflow.model import Job
from pyworkflow.replay.machine import Machine

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Workflow
    from pyworkflow.replay.decision import Decision


@define(eq=False)
class Execution:
    """A run that a worker holds.

    Attributes:
        lease: The run's job as claimed; everything is written under it.
        length: How long the history is that the machine has seen.
        inbox: Facts that are not written yet.
        running: The tasks that carry steps out, by operation.
        starting: How many more it will carry out once that is written.
        once: The steps that were begun, must not begin again, and have no answer yet that is durable; their names.
        busy: Somebody is writing; what comes meanwhile goes to the inbox.
        again: Something came meanwhile, so that there is to be decided once more.
        stale: The history has grown from outside.
        unsure: It has, and nothing was written since, so the lease may be lost: no step may begin before that is known.
        gone: The run is not ours any more.
    """

    run_id: str
    workflow: Workflow[..., Any]
    machine: Machine
    lease: Job
    length: int = 0
    inbox: list[Event] = field(factory=list)
    running: dict[int, asyncio.Task[None]] = field(factory=dict)
    starting: int = 0
    once: dict[int, str] = field(factory=dict)
    busy: bool = False
    again: bool = False
    stale: bool = False
    unsure: bool = False
    gone: bool = False


def forget_answered(execution: Execution, decision: Decision) -> None:
    """Note that steps which must not begin again cannot any more: it is durable what came of them."""
    answered = [event.op for event in decision.events if isinstance(event, Completed | Failed | Retrying)]
    for op in (*answered, *(pending.op for pending in decision.abandoned)):
        execution.once.pop(op, None)
