"""A run and the children it has, as one: machines, and the operations that wait for an answer.  No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, cast

from attrs import define, field

from pyworkflow.authoring.definitions import Workflow
from pyworkflow.codec.exceptions import record_of
from pyworkflow.errors import HookTaken, RunBlocked
from pyworkflow.events import (
    Abandoned,
    CancelRequested,
    Described,
    Event,
    Failed,
    OpenHook,
    Parent,
    Patched,
    Plain,
    Received,
    Requested,
    RunContinued,
    RunStarted,
    StartChild,
)
from pyworkflow.ids import child_id
from pyworkflow.replay.effects import to_parent
from pyworkflow.replay.machine import Machine, Outcome
from pyworkflow.replay.operations import Pending
from pyworkflow_aws.durable.record import Wanted, wanted

Path = tuple[int, ...]
"""An operation's number, after those of the children it is in: (3, 1) is operation 1 of the child 3.

A child that went on as new has a number below zero behind its own: (3, -2, 1) is operation 1 after the second time.
"""

Find = Callable[[str], Workflow[..., Any]]
"""Returns a workflow by its name."""

Knows = Callable[[str], bool]
"""Whether a run knows a change of its code, asked by the key under which that is recorded."""

_STUCK = (
    "the workflow waits for something that is not an operation of the run, such as an asyncio.Event nobody sets or "
    "a future of its own, so nothing can ever wake it"
)


@define(eq=False)
class Node:
    """A workflow that runs: the run itself, or a child of it.

    Attributes:
        op: Its operation in the parent; 0: it is the run.
        times: How often it went on as new before.
        log: What its history would be in a storage.
        said: What it said of itself.
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
    said: dict[str, Plain] = field(factory=dict)


@define(eq=False)
class Open:
    """An operation that waits for its answer.

    Attributes:
        asked: When it was asked for, as the workflow sees time.
        answers: How many it has had: a hook may take more than one.
        work: What carries it out, if somebody does.
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
        """What it has to be recorded as."""
        if self._want is None:
            self._want = wanted(self.pending.command)
        return self._want

    @property
    def key(self) -> str:
        """What it is recorded as, told from all others: ``3.1``, and ``3.1~2`` for the third payload of a hook."""
        if not self._key:  # it is asked for many times
            self._key = ".".join(map(str, self.path))
        return f"{self._key}~{self.answers}" if self.answers else self._key


@define(eq=False)
class Tree:
    """Moves a run on by answers to its operations, and its children with it.

    Attributes:
        open: The operations that wait for an answer, by their paths.
        abandoned: Those that nobody waits for any more, since somebody took them out of here.
        now: The time of the latest event.
        outcome: What ended the run; None: it goes on.
        keys: All that was ever asked for.
        patches: Changes of the code that runs were told they know, with their paths, since somebody took them out of
            here.
    """

    find: Find
    knows: Knows
    root: Node
    now: datetime
    open: dict[Path, Open] = field(factory=dict)
    abandoned: list[Open] = field(factory=list)
    outcome: Outcome | None = None
    keys: list[str] = field(factory=list)
    patches: list[tuple[Path, str]] = field(factory=list)

    @classmethod
    def of(cls, find: Find, knows: Knows, run_id: str, started: RunStarted) -> Tree:
        """Return a run that has yet to `begin`."""
        machine = Machine(find(started.workflow).body, run_id, partial(_knows, knows, ()))
        return cls(find, knows, Node(machine, run_id, (), started), started.at)

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
        """Ask the run to stop; its children are asked as far as it waits for them."""
        self.now = max(self.now, at)
        self._feed(self.root, CancelRequested(self.now, reason, deadline))

    def take_abandoned(self) -> Sequence[Open]:
        """Return the operations that nobody waits for any more."""
        abandoned, self.abandoned = self.abandoned, []
        return abandoned

    def take_patches(self) -> Sequence[tuple[Path, str]]:
        """Return the changes that runs were told they know, with their paths."""
        patches, self.patches = self.patches, []
        return patches

    def check(self) -> None:
        """Make sure that an answer can move the run on.

        Raises:
            RunBlocked: It waits for something that will never come.
        """
        if not self.open and self.outcome is None:
            raise RunBlocked(_STUCK)

    def close(self) -> None:
        """Put the run away."""
        self._close(self.root)
        self.knows = lambda _: False  # what holds each other would wait for the garbage collector

    # -- moving on -------------------------------------------------------------------

    def _feed(self, node: Node, event: Event) -> None:
        machine, now = node.machine, self.now
        commands = machine.feed([event])
        requests = [Requested(now, command) for command in commands]
        machine.record(requests)
        changes = machine.take_patches()
        self.patches += [(node.path, change) for change in changes]
        abandoned = machine.take_abandoned()
        said = machine.take_said()
        for words in said:
            node.said.update(words)
        node.log += [event, *(Patched(now, change) for change in changes)]
        node.log += [*(Described(now, cast("Plain", words)) for words in said), *requests]
        node.log += [Abandoned(now, gone.op) for gone in abandoned if isinstance(gone.command, StartChild | OpenHook)]
        for gone in abandoned:
            self._abandon(node, gone)
        refused: list[Failed] = []
        for command in commands:
            pending = machine.pending.get(command.op)
            if pending is None:
                continue
            if isinstance(command, OpenHook) and (taken := self._taken(command)) is not None:
                refused.append(Failed(now, command.op, record_of(taken, retryable=False)))
            elif isinstance(command, StartChild) and not command.detached:
                self._start_child(node, command)
            else:
                opened = Open(node, pending, (*node.path, command.op), now)
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
            self.now, command.name, command.args, command.kwargs, seed, Parent(parent.run_id, command.op)
        )
        self._begin(parent, command.op, run_id, started)

    def _begin(self, parent: Node, op: int, run_id: str, started: RunStarted, times: int = 0) -> None:
        path = (*parent.path, op, -times) if times else (*parent.path, op)
        machine = Machine(self.find(started.workflow).body, run_id, partial(_knows, self.knows, path))
        parent.children[op] = Node(machine, run_id, path, started, parent, op, times)
        self._feed(parent.children[op], started)

    def _abandon(self, node: Node, pending: Pending) -> None:
        child = node.children.get(pending.op)
        if child is not None:
            self._feed(child, CancelRequested(self.now, f"run {node.run_id!r} waits for it no longer"))
        elif (found := self.open.pop((*node.path, pending.op), None)) is not None:
            self.abandoned.append(found)

    def _end(self, node: Node) -> None:
        """See whether *node* has ended; a run waits until those of its children that are left have cleaned up."""
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
                node.started.parent, node.run_id,
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
    """Return the key under which it is recorded that the run at *path* knows *change*."""
    return f"patched {'.'.join(map(str, path))} {change}"


def _knows(knows: Knows, path: Path, change: str) -> bool:
    return knows(patch_key(path, change))
