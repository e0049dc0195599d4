"""What a decision entails beyond its own run: hooks that open and close, messages to children and parents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pyworkflow.codec.exceptions import record_of
from pyworkflow.errors import RunCancelled as CancelledError
from pyworkflow.errors import RunTerminated as TerminatedError
from pyworkflow.events import (
    RULES,
    CancelRequested,
    ChildContinued,
    Completed,
    Event,
    Failed,
    OpenHook,
    Parent,
    RunBlocked,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunStarted,
    RunTerminated,
    StartChild,
)
from pyworkflow.ids import child_id, new_seed
from pyworkflow.model import Effects, Hook, Message, NewRun, Run

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Workflow
    from pyworkflow.replay.machine import Machine, Turn

End = RunCompleted | RunFailed | RunCancelled | RunContinued | RunTerminated | RunBlocked


def doubled(hooks: Sequence[Hook]) -> list[Hook]:
    """Return those of *hooks* whose token one before them has."""
    first: dict[str, Hook] = {}
    return [hook for hook in hooks if first.setdefault(hook.token, hook) is not hook]


def effects(
    machine: Machine, turn: Turn, end: End | None, now: datetime, workflow: Workflow[..., Any]
) -> Effects | None:
    """Return what is to be written beside the run's own history; None: nothing.

    Args:
        machine: That of the run.
        turn: What the workflow did last.
        end: How the run ends, if it does.
        now: The time.
        workflow: The definition of the workflow.
    """
    run_id = machine.run_id
    opened = [pending.command for pending in turn.requested if pending.op in machine.pending]
    hooks = [hook_of(run_id, command) for command in opened if isinstance(command, OpenHook)]
    closed = [gone.command for gone in (*turn.expired, *turn.abandoned)]
    close = [command.token for command in closed if isinstance(command, OpenHook)]
    stopped = [*turn.abandoned]
    messages: list[Message] = []
    if end is not None and not isinstance(end, RunBlocked):
        hooks = []  # nobody would ever close them
        stopped += [*machine.operations.children()]
        messages += to_parent(machine.parent, run_id, end)
    for child in stopped:
        if isinstance(child.command, StartChild) and not child.command.detached:
            messages.append(to_child(run_id, child.command, child.continued_as, now))
    new_runs = [next_run(run_id, machine, workflow, end)] if isinstance(end, RunContinued) else []
    if not (hooks or close or messages or new_runs or turn.attributes):
        return None
    return Effects(hooks, close, messages=messages, new_runs=new_runs, attributes=turn.attributes or {})


def next_run(run_id: str, machine: Machine, workflow: Workflow[..., Any], end: RunContinued) -> NewRun:
    """Return the run that continues one, with what that one received and did not see."""
    now = end.at
    name, parent, fingerprint = workflow.name, machine.parent, workflow.fingerprint
    started = RunStarted(
        now, name, end.args, end.kwargs, new_seed(), parent, run_id, fingerprint, machine.deadline, RULES
    )
    events = [started, *machine.undelivered(now)]
    return NewRun(Run(end.run_id, name, now, length=len(events), parent=run_id), events)


def hook_of(run_id: str, command: OpenHook) -> Hook:
    """Return the hook that a command opens."""
    return Hook(command.token, run_id, command.op, command.name, command.many)


def to_child(run_id: str, command: StartChild, continued_as: str, now: datetime) -> Message:
    """Return what stops a child that nobody waits for any more, or the run that it has *continued_as*, if it has."""
    reason = f"run {run_id!r}, which started it, waits for it no longer"
    return Message(continued_as or command.run_id or child_id(run_id, command.op), [CancelRequested(now, reason)])


def to_parent(parent: Parent | None, run_id: str, end: Event) -> list[Message]:
    """Return what a run's end is for the run that waits for it."""
    if parent is None:
        return []
    at, op = end.at, parent.op
    answer: Event
    match end:
        case RunCompleted(value=value):
            answer = Completed(at, op, value)
        case RunFailed(error=error):
            answer = Failed(at, op, error)
        case RunCancelled():
            answer = Failed(at, op, record_of(CancelledError(f"run {run_id!r} was cancelled"), retryable=False))
        case RunTerminated(reason=reason):
            why = f": {reason}" if reason else ""
            answer = Failed(at, op, record_of(TerminatedError(f"run {run_id!r} was terminated{why}"), retryable=False))
        case RunContinued(run_id=next_id):  # the next run has the same parent
            answer = ChildContinued(at, op, next_id)
    return [Message(parent.run_id, [answer])]
