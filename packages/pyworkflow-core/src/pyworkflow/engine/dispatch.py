"""Which steps of a decision a worker runs itself, and which are dispatched, each as a job of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import evolve

from pyworkflow.events import CallStep, HandedOut
from pyworkflow.model import Effects, Job, StepCall

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Step
    from pyworkflow.engine.held_run import HeldRun
    from pyworkflow.replay.decision import Decision
    from pyworkflow.replay.operations import Pending


def dispatch(
    held: HeldRun,
    decision: Decision,
    steps: Mapping[str, Step[..., Any]],
    now: datetime,
    *,
    queues: Collection[str] | None,
    room: int | None,
) -> Decision:
    """Return *decision* with every step dispatched that this worker has no room for, or does not serve.

    Args:
        held: The run.
        decision: What was decided.
        steps: The steps that are known, by name.
        now: The present time.
        queues: Those that this worker serves; None: all.
        room: How many steps more it can run; None: any number.
    """
    if decision.status is not None:
        return decision  # the end of a run takes its jobs away
    dropped = [gone.op for gone in decision.abandoned if gone.dispatched]
    if dropped:
        effects = decision.effects or Effects()
        decision = evolve(decision, effects=evolve(effects, drop=[*effects.drop, *dropped]))
    away: list[Job] = []
    kept: list[Pending] = []
    calls = 0
    for pending in decision.todo:
        command = pending.command
        if not isinstance(command, CallStep):
            kept.append(pending)
            continue
        queue = steps[command.name].options.queue if command.name in steps else ""
        served = queues is None or queue in queues
        if served and (room is None or calls < room):
            calls += 1
            kept.append(pending)
        else:
            call = StepCall(command.name, command.args, command.kwargs, pending.attempt)
            away.append(Job(held.run_id, command.op, now, held.workflow.name, queue, call))
    if not away:
        return decision
    named = tuple(job.queue for job in away)
    handed = HandedOut(now, tuple(job.op for job in away), named if any(named) else ())
    machine, running = held.machine, held.running
    machine.feed([handed])
    parked = not kept and len(running) == sum(gone.op in running for gone in decision.abandoned)
    wake = machine.next_wake() if parked else None
    return evolve(decision, events=[*decision.events, handed], todo=kept, jobs=away, parked=parked, wake=wake)
