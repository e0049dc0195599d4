"""The operations of a run: what its workflow has requested, their numbers, and what still waits for an answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pyworkflow.authoring.inbox import Inbox
from pyworkflow.errors import HookExpired
from pyworkflow.events import CallStep, Command, OpenHook, StartChild, StartTimer
from pyworkflow.replay.loop import WorkflowFuture, WorkflowTask

if TYPE_CHECKING:
    from pyworkflow.replay.loop import ReplayLoop

_WITH_TIME = (StartTimer, OpenHook)


class MachineClosed(BaseException):
    """Raised in a workflow that requests something while its machine is being closed."""


class Pending(WorkflowFuture):
    """An operation that the workflow requested and that has no answer yet: the future that it awaits.

    Whoever cancels it, by cancelling the task that awaits it, closing the hook or stopping the timer, abandons it.

    Attributes:
        owner: The operations that it is one of.
        kind: The kind of command.
        fields: All of the command but its number.
        place: The path of the task that requested it, and the how manieth request of that task it is: requests that
            are made at the same moment are numbered in this order.
        task: The workflow's task that requested it, for error messages; None once it is abandoned.
        receiver: What gets the answer if nothing awaits it: the payloads of a hook, or a timer of the event loop.
        op: Its number; 0 before the workflow has come to rest.
        command: The request; None before the workflow has come to rest.
        at: When the request was recorded; None: it is not in the history yet.
        attempt: The number of the attempt that history knows of, from 1.
        due: When that attempt begins, if it was put off.
        begun: Of a child: its run exists.
        continued_as: Of a child that has continued as new: the run which does that.
        dispatched: Of a step: it has a job of its own, whose holder sees to its attempts.
    """

    owner: Operations
    kind: type[Command]
    fields: tuple[Any, ...]
    place: tuple[tuple[int, ...], int]
    task: asyncio.Task[Any] | None
    # Most operations keep most of these: they cost nothing as long as they are those of the class.
    receiver: Inbox | asyncio.TimerHandle | None = None
    op: int = 0
    command: Command | None = None
    at: datetime | None = None
    attempt: int = 1
    due: datetime | None = None
    begun: bool = False
    continued_as: str = ""
    dispatched: bool = False

    def cancel(self, msg: Any = None) -> bool:
        """Abandon the operation."""
        cancelled = super().cancel(msg)
        if cancelled:
            self.owner.abandon(self)
        return cancelled

    @property
    def wakes(self) -> datetime | None:
        """When somebody has to see to it; None: at once, if it is a step."""
        if isinstance(self.command, StartTimer | OpenHook) and self.at is not None:
            return self.command.fires_at(self.at)
        return self.due


class Operations:
    """The operations of one run.

    Invariants: what is in `pending` has a number and is not done, so each operation has one answer, and later ones find
    nothing (``test_the_first_answer_wins_and_later_ones_leave_no_trace``). `waking` and `dispatched` name parts of
    `pending`, and all three lose an operation together, in `take`.

    Attributes:
        pending: Those without an answer, by number.
        new: Those that were requested since the workflow last came to rest, without numbers.
        unrecorded: Those that have numbers, that history does not have yet, in their order.
        abandoned: Those that the workflow has stopped waiting for, until somebody sees to that.
        expired: The hooks whose time has come, until somebody sees to that.
        waking: The pending ones that have a time.
        dispatched: The numbers of the pending steps that have jobs of their own.
        refusal: Makes what is raised instead of taking a request, if none is taken.
    """

    def __init__(self, loop: ReplayLoop) -> None:
        self._loop = loop
        self.pending: dict[int, Pending] = {}
        self.unrecorded: deque[Pending] = deque()
        self.abandoned: list[Pending] = []
        self.expired: list[Pending] = []
        self.waking: dict[int, Pending] = {}
        self.dispatched: set[int] = set()
        self.refusal: Callable[[], BaseException] | None = None
        self.new: list[Pending] = []
        self._timers: dict[asyncio.TimerHandle, Pending] = {}
        self._last = 0

    # -- requests ------------------------------------------------------------------

    def add(
        self, kind: type[Command], fields: tuple[Any, ...], receiver: Inbox | asyncio.TimerHandle | None = None
    ) -> Pending:
        """Request an operation: a command of *kind*, with these fields after its number."""
        if self.refusal is not None:
            raise self.refusal()
        loop = self._loop
        task = asyncio.current_task(loop)
        lane = task.lane if type(task) is WorkflowTask else loop.root
        lane.ops = turn = lane.ops + 1
        pending = Pending(loop=loop)
        pending.owner, pending.kind, pending.fields = self, kind, fields
        pending.place, pending.task = (lane.path, turn), task
        if receiver is not None:
            pending.receiver = receiver
        self.new.append(pending)
        return pending

    def number(self) -> None:
        """Number what was requested while the workflow ran; it has come to rest.

        Sorted by task and not by time: stdlib functions take more or fewer turns of the loop from Python to Python
        (``test_operations_have_the_same_numbers_on_every_python``).
        """
        new = self.new
        if len(new) > 1:
            new.sort(key=attrgetter("place"))
        for pending in new:
            if pending.cancelled():
                continue
            self._last = op = self._last + 1
            pending.op, pending.command = op, pending.kind(op, *pending.fields)
            self.pending[op] = pending
            self.unrecorded.append(pending)
            if pending.kind in _WITH_TIME:
                self.waking[op] = pending
        new.clear()

    def abandon(self, pending: Pending) -> None:
        """Note that the workflow does not wait for *pending* any more."""
        if self.take(pending.op) is not None:  # else it was answered, or never numbered
            self.abandoned.append(pending)
        pending.task = None  # a task whose machine is closed is never resumed, so the two would hold each other

    # -- answers -------------------------------------------------------------------

    def take(self, op: int) -> Pending | None:
        """Remove and return the operation with the number *op*, if it is pending."""
        if self.waking:
            self.waking.pop(op, None)
        if self.dispatched:
            self.dispatched.discard(op)
        return self.pending.pop(op, None)

    def fail(self, op: int, error: BaseException) -> None:
        """Answer an operation by an error."""
        pending = self.take(op)
        if pending is None:
            return
        if isinstance(pending.receiver, Inbox):
            pending.receiver.fail(error)
        else:
            pending.set_exception(error)

    def fire(self, op: int) -> None:
        """Answer a timer, or a hook whose time is over."""
        pending = self.take(op)
        if pending is None:
            return
        receiver, command = pending.receiver, pending.command
        if isinstance(receiver, Inbox) and isinstance(command, OpenHook):
            self.expired.append(pending)
            receiver.fail(HookExpired(f"hook {command.name!r} was sent nothing in time"))
        elif isinstance(receiver, asyncio.TimerHandle):
            del self._timers[receiver]
            self._loop.fire(receiver)
        else:
            pending.set_result(None)

    # -- attempts ------------------------------------------------------------------

    def put_off(self, op: int, attempt: int, due: datetime | None) -> None:
        """Note that *attempt* of a step is the one that counts, and that it begins at *due*; None: at once."""
        pending = self.pending.get(op)
        if pending is None:
            return
        pending.attempt, pending.due = attempt, due
        if due is None or pending.dispatched:
            self.waking.pop(op, None)
        else:
            self.waking[op] = pending

    def begin(self, op: int) -> None:
        """Note that the attempt of a step that was put off has begun: its time wakes nobody any more."""
        self.waking.pop(op, None)

    def dispatch(self, op: int) -> None:
        """Note that a step has a job of its own."""
        if (pending := self.pending.get(op)) is not None:
            pending.dispatched = True
            self.dispatched.add(op)
            self.waking.pop(op, None)

    # -- what is pending -----------------------------------------------------------

    def steps(self) -> Iterator[Pending]:
        """Yield the pending steps that the holder of the run has to see to."""
        return (
            pending
            for pending in self.pending.values()
            if isinstance(pending.command, CallStep) and not pending.dispatched
        )

    def children(self) -> Iterator[Pending]:
        """Yield the pending children."""
        return (pending for pending in self.pending.values() if isinstance(pending.command, StartChild))

    def due(self, now: datetime) -> list[Pending]:
        """Return the timers and hooks whose time has come at *now*, in the order of their times."""
        found = [
            (wakes, pending.op, pending)
            for pending in self.waking.values()
            if isinstance(pending.command, StartTimer | OpenHook)
            and (wakes := pending.wakes) is not None
            and wakes <= now
        ]
        return [pending for *_, pending in sorted(found, key=lambda item: item[:2])]

    # -- timers of the event loop --------------------------------------------------

    def start_timer(self, handle: asyncio.TimerHandle, delay: float) -> None:
        """Have *handle* called after *delay* seconds, by an event."""
        self._timers[handle] = self.add(StartTimer, ("timer", delay), handle)

    def stop_timer(self, handle: asyncio.TimerHandle) -> None:
        """Forget *handle*."""
        if (pending := self._timers.pop(handle, None)) is not None:
            pending.cancel()

    def close(self) -> None:
        """Forget all of them: what holds each other would wait for the garbage collector."""
        for kept in (self.pending, self.waking, self._timers, self.new, self.unrecorded, self.abandoned, self.expired):
            kept.clear()
