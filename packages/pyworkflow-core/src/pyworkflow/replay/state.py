# ruff: noqa: SLF001 -- it reads what the objects of a machine keep to themselves
"""The whole state of a machine as a value, to see whether two machines that saw the same history are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyworkflow.replay.machine import Machine
    from pyworkflow.replay.operations import Pending

State = dict[str, Any]


def state_of(machine: Machine) -> State:
    """Return all that decides how *machine* goes on, by name.

    What only its holder knows is left out: which steps it runs, and what was abandoned without a trace in the history.
    """
    loop, operations, mailbox = machine._loop, machine.operations, machine._mailbox
    tasks = sorted((task.lane.path, task) for task in loop._tasks if not task.done())
    lanes = [loop.root, *(task.lane for _, task in tasks)]
    return {
        "time": loop.now,
        "events": machine._seen,
        "numbers": operations._last,
        "pending": {op: _pending(pending) for op, pending in operations.pending.items()},
        "dispatched": sorted(operations.dispatched),
        "lanes": [(lane.path, lane.ops, lane.children, lane._chance and lane._chance.getstate()) for lane in lanes],
        "order": loop.order_of_task,
        "buffered": [(posted.name, posted.token, posted.value) for posted in mailbox.buffered],
        "unread": {op: list(inbox.unread()) for op, inbox in mailbox.inboxes.items()},
        "patches": dict(machine._patches._known),
        "undo": len(machine._context.undos),
        "cancelled": (machine._cancelled, machine.deadline),
    }


def first_difference(one: State, other: State) -> str:
    """Return what differs first between two states, or nothing."""
    for name, value in one.items():
        if value != other[name]:
            return f"{name}: {value!r} and {other[name]!r}"
    return ""


def _pending(pending: Pending) -> tuple[Any, ...]:
    return pending.kind.__name__, pending.at, pending.attempt, pending.due, pending.continued_as, pending.dispatched
