"""A run in the hands of a worker, and the decision of what to write next: no I/O here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, evolve

from pyworkflow.authoring.definitions import StepOptions
from pyworkflow.codec.exceptions import record_of
from pyworkflow.errors import RunBlocked, StepInterrupted
from pyworkflow.events import (
    Abandoned,
    Attempted,
    CallStep,
    Command,
    Completed,
    Described,
    Event,
    Failed,
    Fired,
    OpenHook,
    Patched,
    Requested,
    Retrying,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunStarted,
    RunTerminated,
    StartChild,
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
    """A run in somebody's hands, as far as a decision needs it: *running* are the operations that are carried out."""

    run_id: str
    workflow: Workflow[..., Any]
    machine: Machine

    @property
    def running(self) -> Collection[int]:
        """The operations that are carried out."""


@define(eq=False)
class Decision:
    """What to write, and what to do once it is written.

    Attributes:
        events: Facts, and what the workflow decided on seeing them.
        todo: Steps to carry out, and children to start.
        abandoned: Operations that nobody waits for any more.
        status: The new status of the run, if it changes.
        parked: Nothing is left to do now; give the run back until *wake*, or until somebody wakes it.
        also: What to write beside the run's own history.
        jobs: Jobs to write, for steps that others carry out.
    """

    events: Sequence[Event]
    todo: Sequence[Pending] = ()
    abandoned: Sequence[Pending] = ()
    status: Status | None = None
    parked: bool = False
    wake: datetime | None = None
    also: Effects | None = None
    jobs: Sequence[Job] = ()


def decide(held: Held, facts: Sequence[Event], now: datetime, *, all_steps: bool = False) -> Decision:
    """Let the workflow see *facts*; return what follows.

    With *all_steps* every open step that nobody carries out is looked at, not only what is new.

    Raises:
        NonDeterminism: The workflow does not do again what its history says.
    """
    machine, running = held.machine, held.running
    expired = [hook.token for fact in facts if type(fact) is Fired and (hook := _hook(machine, fact.op)) is not None]
    commands = machine.feed(facts)
    if len(facts) == 1 and type(facts[0]) in _USUAL and not expired and machine.says_no_more:
        usual = _usual(machine, facts[0], commands, all_steps=all_steps)
        if usual is not None:
            return usual
    events: list[Event] = [*facts, *_decided(machine, commands, now)]
    while received := machine.take_posted(now):
        commands = [*commands, *(more := machine.feed(received))]
        events += [*received, *_decided(machine, more, now)]
    abandoned = machine.take_abandoned()
    events += [Abandoned(now, gone.op) for gone in abandoned if isinstance(gone.command, StartChild | OpenHook)]
    end = _end(machine, now)
    also = effects(
        held.run_id,
        machine,
        expired=expired,
        commands=commands,
        abandoned=abandoned,
        end=end,
        now=now,
        workflow=held.workflow,
    )
    if said := [event.attributes for event in events if isinstance(event, Described)]:
        also = evolve(also or Effects(), attributes={name: value for words in said for name, value in words.items()})
    if end is not None:
        return Decision([*events, end], (), abandoned, STATUS[type(end)], also=also)
    pending = machine.pending
    if all_steps:
        todo = [step for step in machine.steps() if step.op not in running and _is_due(step, now)]
        todo += [child for child in machine.children() if child.op not in running and not child.begun]
    else:
        todo = [pending[c.op] for c in commands if isinstance(c, CallStep | StartChild) and c.op in pending]
        todo += [pending[f.op] for f in facts if isinstance(f, Attempted) and f.op in pending]
        todo += [pending[f.op] for f in facts if isinstance(f, Retrying) and f.due <= now and f.op in pending]
    if not todo and len(running) == sum(gone.op in running for gone in abandoned):
        return Decision(events, (), abandoned, parked=True, wake=machine.next_wake(), also=also)
    return Decision(events, todo, abandoned, also=also)


_USUAL = (Completed, Fired, RunStarted)


def _usual(machine: Machine, fact: Event, commands: Sequence[Command], *, all_steps: bool) -> Decision | None:
    """Return what follows where the workflow asks for one step, or returns, and nothing else is open; else None."""
    at = machine.now()  # that of the fact, unless the history knows of later ones
    end = machine.outcome(at)
    if end is None and len(commands) == 1 and type(command := commands[0]) is CallStep:
        if all_steps and len(machine.pending) > 1:
            return None
        request = Requested(at, command)
        machine.record((request,))
        return Decision((fact, request), (machine.pending[command.op],))
    if type(end) is RunCompleted and not machine.pending and machine.parent is None:
        return Decision((fact, end), status=Status.COMPLETED)
    return None


def _decided(machine: Machine, commands: Sequence[Command], now: datetime) -> list[Event]:
    """Return what the workflow was told of, said and asked for since the last event, as events that are recorded."""
    events: list[Event] = [Patched(now, change) for change in machine.take_patches()]
    events += [Described(now, words) for words in machine.take_said()]
    if commands:
        requests = [Requested(now, command) for command in commands]
        machine.record(requests)
        events += requests
    return events


def _hook(machine: Machine, op: int) -> OpenHook | None:
    command = pending.command if (pending := machine.pending.get(op)) is not None else None
    return command if isinstance(command, OpenHook) else None


def _end(machine: Machine, now: datetime) -> End | None:
    """Return the event that ends, or stops, the run, if there is one."""
    outcome, is_late = machine.outcome(now), machine.deadline is not None and machine.deadline <= now
    if outcome is not None and not (is_late and isinstance(outcome, RunContinued)):
        return outcome
    if is_late:
        return RunTerminated(now, "it was cancelled, and had not ended by the deadline")
    return BlockedEvent(now, record_of(RunBlocked(_STUCK))) if machine.is_stuck else None


def _is_due(pending: Pending, now: datetime) -> bool:
    return pending.due is None or pending.due <= now


def facts_on_time(machine: Machine, now: datetime) -> list[Event]:
    """Return the facts that are true because it is *now*: timers whose time has come, hooks that expired."""
    return [Fired(now, pending.op) for pending in machine.timers(now)]


def facts_after_loss(machine: Machine, steps: Mapping[str, Step[..., Any]], now: datetime) -> list[Attempted | Failed]:
    """Return what follows for the steps whose worker was lost: another attempt, or the end of attempts."""
    due = [pending for pending in machine.steps() if _is_due(pending, now)]
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
    error = StepInterrupted(f"the worker was lost while it carried out step {name!r}, and it is not tried again: {why}")
    return Failed(now, op, record_of(error, retryable=False))


def still_news(machine: Machine, facts: Sequence[Event]) -> list[Event]:
    """Return those of *facts* that a rebuilt machine still waits for."""
    answers = Completed | Failed | Retrying | Attempted
    kept = [fact for fact in facts if isinstance(fact, answers) and fact.op in machine.pending]
    return [
        fact
        for fact in kept
        if not isinstance(fact, Retrying | Attempted) or fact.attempt >= machine.pending[fact.op].attempt
    ]
