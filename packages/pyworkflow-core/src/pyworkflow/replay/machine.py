"""Replay: from the history of a run to what its workflow wants next.  No I/O, no clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextvars import Context
from datetime import UTC, datetime
from typing import Any

from pyworkflow.authoring.context import ContinueAsNew, Undo, workflow_context
from pyworkflow.authoring.inbox import Inbox
from pyworkflow.codec.exceptions import rebuild, record_of
from pyworkflow.errors import HistoryTooLong, HookExpired, NonDeterminism
from pyworkflow.events import (
    Abandoned,
    Attempted,
    CallStep,
    CancelRequested,
    ChildContinued,
    Command,
    Completed,
    Described,
    ErrorRecord,
    Event,
    Failed,
    Fired,
    HandedOut,
    OpenHook,
    Parent,
    Patched,
    Plain,
    Posted,
    Received,
    Requested,
    Retrying,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunStarted,
    StartChild,
    StartTimer,
)
from pyworkflow.ids import next_id
from pyworkflow.replay.context import Asking
from pyworkflow.replay.loop import Lane, ReplayLoop, WorkflowTask
from pyworkflow.replay.mailbox import Post
from pyworkflow.replay.mismatch import difference, where_it_waits
from pyworkflow.replay.operations import Answer, Listener, Pending

Body = Callable[[Plain, Plain], Coroutine[Any, Any, Plain]]
"""A workflow as the machine runs it: encoded arguments in, encoded result out."""

Outcome = RunCompleted | RunFailed | RunCancelled | RunContinued

_WITH_TIME = (StartTimer, OpenHook)

MAX_EVENTS = 50_000
"""A run whose history is longer is asked to continue as a new one."""


class Parked(BaseException):
    """Thrown into a workflow that asks for something while it is being put away."""


class Machine(Asking):
    """A workflow, moved on by the events of one run.

    Feeding all of a history to a new machine is replay; feeding what came since to the same machine is how a run goes
    on in memory. Both give the same commands, however the events are batched.

    Args:
        body: The workflow.
        run_id: What the workflow sees as its run.
        knows: Asked whether the run knows a change, by those whose histories are not fed as they were recorded; without
            it those are known that history tells of, and all that are asked for where it ends.
    """

    def __init__(self, body: Body, run_id: str = "", knows: Callable[[str], bool] | None = None) -> None:
        self.run_id = run_id
        self.pending: dict[int, Pending] = {}
        self.parent: Parent | None = None
        self.fingerprint = ""
        self.deadline: datetime | None = None  # of a cancellation
        self.undos: list[Undo] = []
        self._abandoned: list[Pending] = []
        self._cancelled = False
        self._seen = 0
        self._replaying = False
        self._patches: dict[str, bool] = {}
        self._new_patches: list[str] = []
        self._knows = knows
        self._said: list[dict[str, Plain]] = []  # of the run, and not in the history
        self._post = Post()
        self._unseen: CancelRequested | None = None  # it came when the workflow had ended
        self._body = body
        self._loop = ReplayLoop(self)  # type: ignore[abstract]  # what is missing refuses, see there
        self._main: asyncio.Task[Any] | None = None
        self._now = self.started = datetime.fromtimestamp(0, UTC)
        self._seed = ""
        self._fresh: list[Pending] = []  # asked since the workflow last came to rest, not numbered
        self._asked: dict[int, Command] = {}  # numbered, not in the history
        self._timers: dict[asyncio.TimerHandle, Pending] = {}
        self._waking: dict[int, Pending] = {}  # those of the pending ones that have a time
        self._away: set[int] = set()  # those of the pending ones that were handed out
        self._ops = 0
        self._closed = False

    # -- for the shell -----------------------------------------------------------

    def feed(self, events: Iterable[Event]) -> list[Command]:
        """Apply *events* one by one; return, in order, the commands that history lacks.

        Raises:
            NonDeterminism: History has a request that the workflow does not make, or lacks one that it makes.
        """
        loop = self._loop
        with loop:
            for event in events:
                self._step(loop, event)
        return list(self._asked.values())

    def replay(self, events: Sequence[Event]) -> list[Command]:
        """Apply a part of history that was decided on already; as `feed`, but `patched` looks ahead in it."""
        for event in events:
            if isinstance(event, Patched):
                self._patches[event.id] = True
        loop, last = self._loop, len(events)
        with loop:
            for number, event in enumerate(events, 1):
                self._replaying = number < last
                self._step(loop, event)
        return list(self._asked.values())

    def _step(self, loop: ReplayLoop, event: Event) -> None:
        self._now = max(self._now, event.at)
        self._seen += 1
        self._apply(event)
        loop.run_until_idle()  # after each event: how they are batched never matters
        if self._fresh:
            self._number()

    def record(self, requests: Iterable[Requested]) -> None:
        """Note that *requests*, of what `feed` returned, are in the history now: as if they were fed, but quicker."""
        for request in requests:
            self._seen += 1
            self._recorded(request)

    def outcome(self, at: datetime) -> Outcome | None:
        """Return the event that ends the run, or None while the workflow goes on."""
        if self._main is None or not self._main.done():
            return None
        if self._main.cancelled():
            return RunCancelled(at)
        if error := self._main.exception():
            if isinstance(error, ContinueAsNew):
                return RunContinued(at, next_id(self.run_id), *error.args)
            return RunFailed(at, record_of(error), _blame(error))
        return RunCompleted(at, self._main.result())

    @property
    def is_stuck(self) -> bool:
        """Whether the workflow waits for something that nobody will ever give it."""
        return self._main is not None and not self._main.done() and not self.pending

    @property
    def says_no_more(self) -> bool:
        """Whether what the workflow last asked for, and its outcome, are all that came of what it was told."""
        return not (self._abandoned or self._new_patches or self._said or self._post.waiting) and self.deadline is None

    def take_abandoned(self) -> Sequence[Pending]:
        """Return the operations that the workflow stopped waiting for since it was last asked."""
        if not self._abandoned:
            return ()
        abandoned, self._abandoned = self._abandoned, []
        return abandoned

    def take_patches(self) -> Sequence[str]:
        """Return the changes that the workflow was told of and that its history does not know yet."""
        if not self._new_patches:
            return ()
        patches, self._new_patches = self._new_patches, []
        return patches

    def take_said(self) -> Sequence[dict[str, Plain]]:
        """Return what the workflow said of its run that its history does not know yet."""
        said, self._said = self._said, []
        return said

    def take_posted(self, at: datetime) -> list[Received]:
        """Return, as facts, payloads that were posted for hooks which are open now."""
        return self._post.due(self.pending, at) if self._post.waiting else []

    def left_over(self, at: datetime) -> list[Event]:
        """Return what a run that continues this one has to be told: payloads nobody read, a cancellation nobody saw."""
        return [*self._post.left(at), *(() if self._unseen is None else (self._unseen,))]

    def next_wake(self) -> datetime | None:
        """Return the earliest time at which a timer fires, a hook expires, a retry or a deadline is due; or None."""
        if not self._waking:
            return self.deadline
        times = [wakes for pending in self._waking.values() if (wakes := pending.wakes) is not None]
        return min(times if self.deadline is None else [*times, self.deadline], default=None)

    @property
    def is_new(self) -> bool:
        """Whether it has seen no event yet."""
        return not self._seen

    def begin(self, op: int) -> None:
        """Note that the attempt of a step that was put off has begun: its time wakes nobody any more."""
        self._waking.pop(op, None)

    def steps(self) -> Iterator[Pending]:
        """Yield the steps that are not answered, and that whoever holds the run has to see to."""
        return (
            pending for pending in self.pending.values() if isinstance(pending.command, CallStep) and not pending.away
        )

    @property
    def away(self) -> bool:
        """Whether steps were handed out that are not answered."""
        return bool(self._away)

    def children(self) -> Iterator[Pending]:
        """Yield the children that are not answered."""
        return (pending for pending in self.pending.values() if isinstance(pending.command, StartChild))

    def timers(self, now: datetime) -> list[Pending]:
        """Return the timers and hooks whose time has come at *now*, in the order of their times."""
        due = [
            (wakes, pending.op, pending)
            for pending in self._waking.values()
            if isinstance(pending.command, StartTimer | OpenHook)
            and (wakes := pending.wakes) is not None
            and wakes <= now
        ]
        return [pending for *_, pending in sorted(due, key=lambda item: item[:2])]

    def close(self) -> None:
        """Put the workflow away. Its ``finally`` blocks run, but cannot ask for anything any more."""
        self._closed = True
        self._loop.close()
        self._main = self._knows = None  # what holds each other would wait for the garbage collector
        self._timers.clear()
        self._waking.clear()
        self.pending.clear()
        self._abandoned.clear()

    # -- applying history ----------------------------------------------------------

    def _apply(self, event: Event) -> None:  # noqa: C901, PLR0912 -- one case an event
        match event:
            case Completed(op=op, value=value):
                if (answer := self._answered(op)) is not None:
                    answer.set_result(value)
            case Requested():
                self._check(event)
            case Fired(op=op):
                self._fire(op)
            case Failed(op=op, error=record):
                self._fail(op, _rebuilt(record, op))
            case RunStarted():
                self._begin(event)
            case Received(op=op) if op in self.pending:
                self._receive(self.pending[op], event)
            case Posted():
                self._post.waiting.append(event)
            case ChildContinued(op=op, run_id=run_id) if op in self.pending:
                self.pending[op].goes_on = run_id
            case Retrying() | Attempted() | HandedOut():
                self._see_attempt(event)
            case Abandoned(op=op):
                self._abandoned = [pending for pending in self._abandoned if pending.op != op]
            case Described():
                del self._said[:1]
            case CancelRequested():
                self._cancel(event)
            case RunCompleted() | RunFailed() | RunCancelled() | RunContinued():
                self._compare_end(event)
            case _:
                pass

    def _cancel(self, event: CancelRequested) -> None:
        if event.deadline is not None and (self.deadline is None or event.deadline < self.deadline):
            self.deadline = event.deadline
        if self._main is not None and self._main.done():
            self._unseen = self._unseen or event
        elif self._main is not None and not self._cancelled:
            self._cancelled = True  # once: a second one must not break into cleaning up
            self._main.cancel()

    def _begin(self, event: RunStarted) -> None:
        self._seed, self.started, self.parent = event.seed, event.at, event.parent
        self.fingerprint, self.deadline = event.fingerprint, event.deadline
        context = Context()  # the starter's own variables would not be there on replay
        context.run(workflow_context.set, self)
        self._main = self._loop.create_task(self._body(event.args, event.kwargs), context=context)

    def _answered(self, op: int) -> Answer | None:
        """Return what waits for an answer to *op*: the first one counts, later ones find nothing pending."""
        pending = self._pop(op)
        if pending is None or not isinstance(pending.listener, Answer) or pending.listener.done():
            return None
        pending.listener.let_go()
        return pending.listener

    def _fail(self, op: int, error: BaseException) -> None:
        pending = self.pending.get(op)
        if pending is not None and isinstance(pending.listener, Inbox):
            self._pop(op)
            pending.listener.fail(error)
        elif (answer := self._answered(op)) is not None:
            answer.set_exception(error)

    def _receive(self, pending: Pending, event: Received) -> None:
        inbox = pending.listener
        if not isinstance(inbox, Inbox):
            return
        if not inbox.many:
            self._pop(pending.op)
        self._post.receive(pending.op, inbox, event)

    def _pop(self, op: int) -> Pending | None:
        if self._waking:
            self._waking.pop(op, None)
        if self._away:
            self._away.discard(op)
        return self.pending.pop(op, None)

    def _see_attempt(self, event: Retrying | Attempted | HandedOut) -> None:
        match event:
            case Retrying(op=op, attempt=attempt, due=due) if op in self.pending:
                self._put_off(self.pending[op], attempt + 1, due)
            case Attempted(op=op, attempt=attempt) if op in self.pending:
                self._put_off(self.pending[op], attempt, None)
            case HandedOut(ops=ops):
                for op in self.pending.keys() & ops:
                    self.pending[op].away = True
                    self._away.add(op)
                    self._waking.pop(op, None)

    def _put_off(self, pending: Pending, attempt: int, due: datetime | None) -> None:
        pending.attempt, pending.due = attempt, due
        if due is None or pending.away:
            self._waking.pop(pending.op, None)
        else:
            self._waking[pending.op] = pending

    def _fire(self, op: int) -> None:
        pending = self._pop(op)
        if pending is None:
            return
        listener = pending.listener
        if isinstance(listener, Answer):
            listener.let_go()
            listener.set_result(None)
        elif isinstance(listener, Inbox):
            name = pending.command.name  # type: ignore[union-attr]
            listener.fail(HookExpired(f"hook {name!r} was sent nothing in time"))
        else:
            del self._timers[listener]
            self._loop.fire(listener)

    def _check(self, event: Requested) -> None:
        recorded, asked = event.command, next(iter(self._asked.values()), None)
        if asked is not recorded and asked != recorded:
            pending = None if asked is None else self.pending.get(asked.op)
            raise NonDeterminism(difference(recorded, asked, self._main if pending is None else pending.task))
        self._recorded(event)

    def _recorded(self, event: Requested) -> None:
        op = event.command.op
        del self._asked[op]
        if (pending := self.pending.get(op)) is not None:
            pending.at = event.at

    def _compare_end(self, recorded: Outcome) -> None:
        outcome = self.outcome(recorded.at)
        if type(outcome) is not type(recorded):
            ends = {
                RunCompleted: "returned",
                RunFailed: "failed",
                RunCancelled: "was cancelled",
                RunContinued: "continued as a new run",
            }
            now = "goes on" if outcome is None else ends[type(outcome)]
            where = where_it_waits(self._main)
            msg = f"when it was recorded the workflow {ends[type(recorded)]} here; now it {now}{where}"
            raise NonDeterminism(msg)

    # -- asking --------------------------------------------------------------------

    def ask(self, kind: type[Command], *fields: Any) -> asyncio.Future[Any]:
        """Ask for an operation: a command of *kind*, with these fields after its number."""
        answer = Answer(loop=self._loop)
        answer.abandon = self.abandon
        answer.pending = self.enlist(answer, kind, fields)
        return answer

    def enlist(self, listener: Listener, kind: type[Command], fields: tuple[Any, ...]) -> Pending:
        """Note that the current task asks for an operation; it is numbered once the workflow has come to rest."""
        if self._closed:
            raise Parked
        if self._seen >= MAX_EVENTS:
            raise HistoryTooLong(
                f"the history of run {self.run_id!r} has {self._seen} events, and more are not taken: let the workflow "
                "go on as a new run from time to time, by pyworkflow.continue_as_new()"
            )
        task = asyncio.current_task(self._loop)
        lane: Lane = task.lane if isinstance(task, WorkflowTask) else self._loop.root
        lane.ops += 1
        pending = Pending(listener, kind, fields, lane, lane.ops, task)
        self._fresh.append(pending)
        return pending

    def _number(self) -> None:
        # Sorted by task and not by time: stdlib functions take more or fewer turns of the loop from Python to Python.
        fresh = self._fresh
        if len(fresh) > 1:
            fresh.sort(key=lambda pending: (pending.lane.path, pending.turn))
        for pending in fresh:
            listener = pending.listener
            if listener.cancelled():
                continue
            self._ops = op = self._ops + 1
            pending.op = op
            pending.command = self._asked[op] = pending.kind(op, *pending.fields)
            self.pending[op] = pending
            if pending.kind in _WITH_TIME:
                self._waking[op] = pending
        fresh.clear()

    def abandon(self, pending: Pending) -> None:
        """Note that nobody waits for *pending* any more."""
        if self._pop(pending.op) is not None:
            self._abandoned.append(pending)

    def start_timer(self, handle: asyncio.TimerHandle, delay: float) -> None:
        """Have *handle* called after *delay* seconds, by an event."""
        self._timers[handle] = self.enlist(handle, StartTimer, ("timer", delay))

    def stop_timer(self, handle: asyncio.TimerHandle) -> None:
        """Forget *handle*."""
        if (pending := self._timers.pop(handle, None)) is not None:
            self.abandon(pending)


def _rebuilt(record: ErrorRecord, op: int) -> BaseException:
    error = rebuild(record)
    error.__pyworkflow_op__ = op  # type: ignore[attr-defined]
    return error


def _blame(error: BaseException) -> int | None:
    """Return the operation whose failure *error* is, or was caused by."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        op: int | None = getattr(error, "__pyworkflow_op__", None)
        if op is not None:
            return op
        if isinstance(error, BaseExceptionGroup):
            return min((op for inner in error.exceptions if (op := _blame(inner)) is not None), default=None)
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return None
