"""A run and its children as one tree of machines, with the operations that wait for an answer.  No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from attrs import define, field

from pyworkflow.authoring.definitions import Workflow
from pyworkflow.codec import Codec
from pyworkflow.codec.exceptions import record_of
from pyworkflow.errors import HookTaken, RunBlocked
from pyworkflow.events import (
    RULES,
    CancelRequested,
    Event,
    Failed,
    OpenHook,
    Parent,
    Patched,
    Plain,
    Received,
    RunContinued,
    RunStarted,
    StartChild,
)
from pyworkflow.ids import child_id
from pyworkflow.replay.effects import to_parent
from pyworkflow.replay.machine import Machine, Outcome
from pyworkflow.replay.operations import Pending
from pyworkflow_aws.durable.replay.record import Wanted, wanted

Path = tuple[int, ...]
"""An operation's number, after those of the children it is in: (3, 1) is operation 1 of the child 3.

A child that continued as new has a number below zero behind its own: (3, -2, 1) is operation 1 after the second time.
"""

Find = Callable[[str], Workflow[..., Any]]
"""Returns a workflow by its name."""

Knows = Callable[[str], bool]
"""What `pyworkflow.patched` answers a run, by the key under which the answer is recorded."""

_STUCK = (
    "the workflow waits for something that is not an operation of the run, such as an asyncio.Event nobody sets or "
    "a future of its own, so nothing can ever wake it"
)


@define(eq=False)
class Node:
    """A workflow that runs: the run itself, or a child of it.

    Attributes:
        op: Its operation in the parent; 0: it is the run.
        times: How often it continued as new before.
        log: What its history would be in a storage.
        attributes: The attributes that the workflow set.
    """

    machine: Machine
    run_id: str
    path: Path
    started: RunStarted
    parent: Node | None = None
    op: int = 0
    times: int = 0
    children: dict[int, Node] = field(factory=dict)
    log: list[Event] = field(factory=list)
    attributes: dict[str, Plain] = field(factory=dict)


@define(eq=False)
class Open:
    """An operation that waits for its answer.

    Attributes:
        asked: When it was requested, as the workflow sees time.
        answers: How many it has had: a hook may take more than one.
        work: Its execution, if there is one in this invocation.
    """

    node: Node
    pending: Pending
    path: Path
    asked: datetime
    answers: int = 0
    work: Any = None
    _want: Wanted | None = field(default=None, init=False)
    _key: str = field(default="", init=False)

    @property
    def want(self) -> Wanted:
        """The form in which it has to be recorded."""
        if self._want is None:
            self._want = wanted(self.pending.command)
        return self._want

    @property
    def key(self) -> str:
        """The key that distinguishes it from all others: ``3.1``, and ``3.1~2`` for the third payload of a hook."""
        if not self._key:  # it is needed many times
            self._key = ".".join(map(str, self.path))
        return f"{self._key}~{self.answers}" if self.answers else self._key


@define(eq=False)
class Tree:
    """Advances a run, and its children with it, by answers to their operations.

    Attributes:
        open: The operations that wait for an answer, by their paths.
        abandoned: The operations that were abandoned since the last `take_abandoned`.
        now: The time of the latest event.
        outcome: How the run ended; None: it has not.
        keys: Of all operations that were ever requested.
        patches: The `patched` ids that were answered with True since the last `take_patches`, with the paths of runs.
    """

    find: Find
    codec: Codec
    knows: Knows
    root: Node
    now: datetime
    open: dict[Path, Open] = field(factory=dict)
    abandoned: list[Open] = field(factory=list)
    outcome: Outcome | None = None
    keys: list[str] = field(factory=list)
    patches: list[tuple[Path, str]] = field(factory=list)

    @classmethod
    def of(cls, find: Find, codec: Codec, knows: Knows, run_id: str, started: RunStarted) -> Tree:
        """Return a run that has yet to `begin`."""
        machine = Machine(find(started.workflow).body, run_id, partial(_knows, knows, ()), codec)
        return cls(find, codec, knows, Node(machine, run_id, (), started), started.at)

    def begin(self) -> None:
        """Let the workflow run until it waits for something."""
        self._feed(self.root, self.root.started)

    def answer(self, found: Open, make: Callable[[int, datetime], Event], at: datetime) -> None:
        """Answer an operation; *make* is given its number and the time, which never goes back."""
        self.now = max(self.now, at)
        event = make(found.pending.op, self.now)
        command = found.pending.command
        if isinstance(event, Received) and isinstance(command, OpenHook) and command.many:
            found.answers += 1
            found.work = None
            self.keys.append(found.key)
        else:
            del self.open[found.path]
        self._feed(found.node, event)

    def cancel(self, reason: str, at: datetime, deadline: datetime | None) -> None:
        """Cancel the run, and those of its children that it waits for."""
        self.now = max(self.now, at)
        self._feed(self.root, CancelRequested(self.now, reason, deadline))

    def take_abandoned(self) -> Sequence[Open]:
        """Return the operations that were abandoned since the last call."""
        abandoned, self.abandoned = self.abandoned, []
        return abandoned

    def take_patches(self) -> Sequence[tuple[Path, str]]:
        """Return the `patched` ids answered with True since the last call, with the paths of runs."""
        patches, self.patches = self.patches, []
        return patches

    def check(self) -> None:
        """Make sure that an answer can resume the run.

        Raises:
            RunBlocked: It waits for something that will never come.
        """
        if not self.open and self.outcome is None:
            raise RunBlocked(_STUCK)

    def close(self) -> None:
        """Close all machines."""
        self._close(self.root)
        self.knows = lambda _: False  # breaks a reference cycle

    # -- advancing -------------------------------------------------------------------

    def _feed(self, node: Node, event: Event) -> None:
        machine, now = node.machine, self.now
        turn = machine.advance([event], now)
        self.patches += [(node.path, known.id) for known in turn.events if isinstance(known, Patched)]
        node.attributes.update(turn.attributes or {})
        node.log += turn.events
        for gone in turn.abandoned:
            self._abandon(node, gone)
        refused: list[Failed] = []
        for pending in turn.requested:
            command = pending.command
            if pending.op not in machine.pending:
                continue
            if isinstance(command, OpenHook) and (taken := self._taken(command)) is not None:
                refused.append(Failed(now, command.op, record_of(taken, retryable=False)))
            elif isinstance(command, StartChild) and not command.detached:
                self._start_child(node, command)
            else:
                opened = Open(node, pending, (*node.path, pending.op), now)
                self.open[opened.path] = opened
                self.keys.append(opened.key)
        if not refused or machine.outcome(now) is not None:
            self._end(node)
            return
        for failed in refused:
            if failed.op in machine.pending and machine.outcome(now) is None:
                self._feed(node, failed)

    def _taken(self, asked: OpenHook) -> HookTaken | None:
        """Return the error of a hook whose token another one of this run, or of its children, has."""
        for found in self.open.values():
            if isinstance(found.pending.command, OpenHook) and found.pending.command.token == asked.token:
                by = found.node.run_id
                return HookTaken(
                    f"the token of hook {asked.name!r} is in use by an open hook of run {by!r}", asked.token
                )
        return None

    def _start_child(self, parent: Node, command: StartChild) -> None:
        run_id = command.run_id or child_id(parent.run_id, command.op)
        seed = f"{parent.started.seed}/{command.op}"
        started = RunStarted(
            self.now, command.name, command.args, command.kwargs, seed, Parent(parent.run_id, command.op), rules=RULES
        )
        self._begin(parent, command.op, run_id, started)

    def _begin(self, parent: Node, op: int, run_id: str, started: RunStarted, times: int = 0) -> None:
        path = (*parent.path, op, -times) if times else (*parent.path, op)
        body = self.find(started.workflow).body
        machine = Machine(body, run_id, partial(_knows, self.knows, path), self.codec)
        parent.children[op] = Node(machine, run_id, path, started, parent, op, times)
        self._feed(parent.children[op], started)

    def _abandon(self, node: Node, pending: Pending) -> None:
        child = node.children.get(pending.op)
        if child is not None:
            self._feed(child, CancelRequested(self.now, f"run {node.run_id!r} waits for it no longer"))
        elif (found := self.open.pop((*node.path, pending.op), None)) is not None:
            self.abandoned.append(found)

    def _end(self, node: Node) -> None:
        """End *node* if its workflow has ended; a run waits until its remaining children have cleaned up."""
        outcome = node.machine.outcome(self.now)
        if outcome is None:
            return
        for path in [path for path, found in self.open.items() if found.node is node]:
            self.abandoned.append(self.open.pop(path))
        for op in list(node.children):
            if op in node.machine.pending:
                self._abandon(node, node.machine.pending.pop(op))
        if node.children or node.log[-1] is outcome:
            return
        node.log.append(outcome)
        if node.parent is None:
            self.outcome = outcome
        else:
            self._end_child(node, node.parent, outcome)

    def _end_child(self, node: Node, parent: Node, outcome: Outcome) -> None:
        node.machine.close()
        op = node.op
        del parent.children[op]
        if isinstance(outcome, RunContinued):
            started = RunStarted(
                self.now, node.started.workflow, outcome.args, outcome.kwargs, f"{node.started.seed}~",
                node.started.parent, node.run_id, rules=RULES,
            )  # fmt: skip
            self._begin(parent, op, outcome.run_id, started, node.times + 1)
        elif op in parent.machine.pending:
            [message] = to_parent(Parent(parent.run_id, op), node.run_id, outcome)
            self._feed(parent, message.events[0])
        else:
            self._end(parent)

    def _close(self, node: Node) -> None:
        for child in node.children.values():
            self._close(child)
        node.machine.close()


def patch_key(path: Path, change: str) -> str:
    """Return the key under which it is recorded that `patched(change)` answered the run at *path* with True."""
    return f"patched {'.'.join(map(str, path))} {change}"


def _knows(knows: Knows, path: Path, change: str) -> bool:
    return knows(patch_key(path, change))
