"""The decision of what to write next for a run that is held. No I/O here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define

from pyworkflow.authoring.definitions import StepOptions
from pyworkflow.codec.exceptions import record_of
from pyworkflow.errors import RunBlocked, StepInterrupted
from pyworkflow.events import (
    Attempted,
    Completed,
    Event,
    Failed,
    Fired,
    OpenHook,
    Retrying,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunTerminated,
    StartTimer,
)
from pyworkflow.events import RunBlocked as BlockedEvent
from pyworkflow.model import Effects, Job, Status
from pyworkflow.replay.effects import End, effects

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Step, Workflow
    from pyworkflow.replay.machine import Machine
    from pyworkflow.replay.operations import Pending

STATUS: dict[type[End], Status] = {
    RunCompleted: Status.COMPLETED,
    RunFailed: Status.FAILED,
    RunCancelled: Status.CANCELLED,
    RunTerminated: Status.TERMINATED,
    RunContinued: Status.CONTINUED,
    BlockedEvent: Status.BLOCKED,
}

MAX_RECOVERIES = 100
"""A run that was taken over from a lost worker more often than this is blocked: it may be what kills them."""

MIN_INTERRUPTIONS = 3
"""How often a step may lose its worker, however few retries it has."""


_STUCK = (
    "the workflow waits for something that is not an operation of the run, such as an asyncio.Event nobody sets or "
    "a future of its own, so nothing can ever wake it"
)


class Held(Protocol):
    """A run that is held, as far as a decision needs it."""

    run_id: str
    workflow: Workflow[..., Any]
    machine: Machine

    @property
    def running(self) -> Collection[int]:
        """The operations that are being run."""


@define(eq=False)
class Decision:
    """What to write, and what to do once it is written.

    Attributes:
        events: Facts, and what the workflow decided on seeing them.
        todo: Steps to run, and children to start.
        abandoned: Operations that nobody waits for any more.
        status: The new status of the run, if it changes.
        parked: Nothing is left to do now; release the run until *wake*, or until somebody wakes it.
        effects: What to write beside the run's own history.
        jobs: Jobs to write, for steps that others run.
    """

    events: Sequence[Event]
    todo: Sequence[Pending] = ()
    abandoned: Sequence[Pending] = ()
    status: Status | None = None
    parked: bool = False
    wake: datetime | None = None
    effects: Effects | None = None
    jobs: Sequence[Job] = ()


def decide(held: Held, facts: Sequence[Event], now: datetime, *, all_steps: bool = False) -> Decision:
    """Let the workflow see *facts*; return what follows.

    Each part of a decision is worked out only where the workflow's turn has something of it, so a run that requests one
    step after another comes straight through. No decision depends on what an earlier one left to do: with *all_steps*,
    after a conflict or a lost worker, it finds every open step that nobody runs, not only what is new.

    Raises:
        NonDeterminism: The workflow does not do again what its history says.
    """
    machine, running = held.machine, held.running
    turn = machine.advance(facts, now)
    events, abandoned, entailed = turn.events, turn.abandoned, None
    end: End | None = turn.outcome
    if machine.deadline is not None or (end is None and not machine.pending):
        end = _stopped(machine, end, now)  # nothing else ends a run while it has something pending
    todo: list[Pending] = []
    opened = False
    for pending in turn.requested:
        if pending.kind is OpenHook:
            opened = True
        elif pending.kind is not StartTimer and pending.op in machine.pending:  # else it was abandoned in the same turn
            todo.append(pending)
    if opened or abandoned or turn.expired or turn.attributes or end is not None:
        entailed = effects(machine, turn, end, now, held.workflow)
    if end is not None:
        return Decision([*events, end], (), abandoned, STATUS[type(end)], effects=entailed)
    if all_steps:
        todo = _open(machine, running, now)
    else:
        for fact in facts:
            if isinstance(fact, Attempted | Retrying):
                todo += _next_attempt(machine, fact, now)
    # Parked only if no task of this worker will decide again: `test_a_parked_run_has_neither_task_nor_timer`.
    if not todo and len(running) == sum(gone.op in running for gone in abandoned):
        return Decision(events, (), abandoned, parked=True, wake=machine.next_wake(), effects=entailed)
    return Decision(events, todo, abandoned, effects=entailed)


def _open(machine: Machine, running: Collection[int], now: datetime) -> list[Pending]:
    """Return the steps and children that nobody sees to."""
    operations = machine.operations
    steps = [step for step in operations.steps() if step.op not in running and _is_due(step, now)]
    return steps + [child for child in operations.children() if child.op not in running and not child.begun]


def _next_attempt(machine: Machine, fact: Attempted | Retrying, now: datetime) -> list[Pending]:
    """Return the step whose next attempt begins now, by *fact*, if somebody waits for it."""
    pending = machine.pending.get(fact.op)
    return [] if pending is None or (isinstance(fact, Retrying) and fact.due > now) else [pending]


def _stopped(machine: Machine, outcome: End | None, now: datetime) -> End | None:
    """Return the event that ends the run, where a deadline or having nothing to wait for may do so too.

    A workflow that continues as new after the deadline would escape it, chain after chain
    (``test_a_chain_ends_at_the_deadline_of_a_cancellation_that_its_workflow_does_not_heed``).
    """
    is_late = machine.deadline is not None and machine.deadline <= now
    if outcome is not None and not (is_late and isinstance(outcome, RunContinued)):
        return outcome
    if is_late:
        return RunTerminated(now, "it was cancelled, and had not ended by the deadline")
    return BlockedEvent(now, record_of(RunBlocked(_STUCK))) if machine.is_stuck else None


def _is_due(pending: Pending, now: datetime) -> bool:
    return pending.due is None or pending.due <= now


def facts_on_time(machine: Machine, now: datetime) -> list[Event]:
    """Return the facts that are true because it is *now*: timers whose time has come, hooks that expired."""
    return [Fired(now, pending.op) for pending in machine.operations.due(now)]


def facts_after_loss(machine: Machine, steps: Mapping[str, Step[..., Any]], now: datetime) -> list[Attempted | Failed]:
    """Return what follows for the steps whose worker was lost: another attempt, or the end of attempts."""
    due = [pending for pending in machine.operations.steps() if _is_due(pending, now)]
    return [after_loss(step.op, step.command.name, step.attempt, steps, now) for step in due]  # type: ignore[union-attr]


def after_loss(
    op: int, name: str, attempt: int, steps: Mapping[str, Step[..., Any]], now: datetime
) -> Attempted | Failed:
    """Return what follows for a step whose worker was lost during *attempt*."""
    options = steps[name].options if name in steps else StepOptions()
    if options.at_most_once:
        why = "it is declared at_most_once"
    elif attempt > max(MIN_INTERRUPTIONS, options.retries or 0):
        why = f"that was attempt {attempt}"
    else:
        return Attempted(now, op, attempt + 1)
    error = StepInterrupted(f"the worker was lost while it ran step {name!r}, and it is not tried again: {why}")
    return Failed(now, op, record_of(error, retryable=False))


def still_open(machine: Machine, facts: Sequence[Event]) -> Sequence[Event]:
    """Return *facts* without those of steps and children that were answered meanwhile, as history has shown."""
    answers = Completed | Failed | Retrying | Attempted
    return [fact for fact in facts if not isinstance(fact, answers) or fact.op in machine.pending]


def still_news(machine: Machine, facts: Sequence[Event]) -> list[Event]:
    """Return those of *facts* that a rebuilt machine still waits for."""
    answers = Completed | Failed | Retrying | Attempted
    kept = [fact for fact in facts if isinstance(fact, answers) and fact.op in machine.pending]
    return [
        fact
        for fact in kept
        if not isinstance(fact, Retrying | Attempted) or fact.attempt >= machine.pending[fact.op].attempt
    ]
