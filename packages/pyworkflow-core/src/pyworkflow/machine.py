"""Replay: from the history of a run to what its workflow wants next.  No I/O, no clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextvars import Context
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

from attrs import define

from pyworkflow.context import workflow_context
from pyworkflow.errors import NonDeterminism
from pyworkflow.failures import rebuild, record_of
from pyworkflow.loop import Lane, ReplayLoop, WorkflowTask
from pyworkflow.model import (
    Attempted,
    CallStep,
    CancelRequested,
    Command,
    Completed,
    ErrorRecord,
    Event,
    Failed,
    Fired,
    OpenHook,
    Requested,
    Retrying,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    StartChild,
    StartTimer,
)
from pyworkflow.plain import Plain
from pyworkflow.where import where_it_waits

if TYPE_CHECKING:
    from pyworkflow.definitions import Step

Body = Callable[[Plain, Plain], Coroutine[Any, Any, Plain]]
"""A workflow as the machine runs it: encoded arguments in, encoded result out."""

Outcome = RunCompleted | RunFailed | RunCancelled


class Parked(BaseException):
    """Thrown into a workflow that asks for something while it is being put away."""


class _Answer(asyncio.Future[Any]):
    """What a workflow awaits; tells the machine when nobody wants the answer any more."""

    machine: Machine
    pending: Pending

    def cancel(self, msg: Any = None) -> bool:
        cancelled = super().cancel(msg)
        if cancelled:
            self.machine.abandon(self.pending)
        return cancelled


@define(eq=False)
class Pending:
    """An operation that the workflow asked for and that is not answered.

    Attributes:
        op: Its number; 0 before the workflow has come to rest.
        command: What was asked for; unset before the workflow has come to rest.
        at: When the request was recorded; None: it is not in the history yet.
        attempt: The number of the attempt that history knows of, from 1.
        due: When that attempt begins, if it was put off.
        task: The workflow's task that asked, for error messages.
    """

    make: Callable[[int], Command]
    listener: _Answer | asyncio.TimerHandle
    order: tuple[tuple[int, ...], int]
    task: asyncio.Task[Any] | None
    op: int = 0
    command: Command | None = None
    at: datetime | None = None
    attempt: int = 1
    due: datetime | None = None

    @property
    def wakes(self) -> datetime | None:
        """When somebody has to see to it; None: at once, if it is a step."""
        if isinstance(self.command, StartTimer) and self.at is not None:
            return self.command.fires_at(self.at)
        return self.due


class Machine:
    """A workflow, moved on by the events of one run.

    Feeding all of a history to a new machine is replay; feeding what came since to the same machine is how a run goes
    on in memory. Both give the same commands, however the events are batched.

    Args:
        body: The workflow.
        run_id: What the workflow sees as its run.
    """

    def __init__(self, body: Body, run_id: str = "") -> None:
        self.run_id = run_id
        self.pending: dict[int, Pending] = {}
        self._abandoned: list[Pending] = []
        self._body = body
        self._loop = ReplayLoop(self)  # type: ignore[abstract]  # what is missing refuses, see there
        self._main: asyncio.Task[Any] | None = None
        self._now = self.started = datetime.fromtimestamp(0, UTC)
        self._seed = ""
        self._fresh: list[Pending] = []  # asked since the workflow last came to rest, not numbered
        self._asked: dict[int, Command] = {}  # numbered, not in the history
        self._timers: dict[asyncio.TimerHandle, Pending] = {}
        self._waking: dict[int, Pending] = {}  # those of the pending ones that have a time
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
                if event.at > self._now:
                    self._now = event.at
                    loop.now = event.at.timestamp()
                self._apply(event)
                loop.run_until_idle()  # after each event: how they are batched never matters
                if self._fresh:
                    self._number()
        return list(self._asked.values())

    def record(self, requests: Iterable[Requested]) -> None:
        """Note that *requests* are in the history now; the same as feeding them, as nothing can come of that."""
        for request in requests:
            self._check(request)

    def outcome(self, at: datetime) -> Outcome | None:
        """Return the event that ends the run, or None while the workflow goes on."""
        if self._main is None or not self._main.done():
            return None
        if self._main.cancelled():
            return RunCancelled(at)
        if error := self._main.exception():
            return RunFailed(at, record_of(error), _blame(error))
        return RunCompleted(at, self._main.result())

    @property
    def is_stuck(self) -> bool:
        """Whether the workflow waits for something that nobody will ever give it."""
        return self._main is not None and not self._main.done() and not self.pending

    def take_abandoned(self) -> Sequence[Pending]:
        """Return the operations that the workflow stopped waiting for since it was last asked."""
        if not self._abandoned:
            return ()
        abandoned, self._abandoned = self._abandoned, []
        return abandoned

    def next_wake(self) -> datetime | None:
        """Return the earliest time at which a timer fires or a retry is due; None: there is neither."""
        if not self._waking:
            return None
        return min((wakes for pending in self._waking.values() if (wakes := pending.wakes) is not None), default=None)

    def steps(self) -> Iterator[Pending]:
        """Yield the steps that are not answered."""
        return (pending for pending in self.pending.values() if isinstance(pending.command, CallStep))

    def timers(self, now: datetime) -> list[Pending]:
        """Return the timers whose time has come at *now*, in the order of their times."""
        due = [
            (wakes, pending.op, pending)
            for pending in self._waking.values()
            if isinstance(pending.command, StartTimer) and (wakes := pending.wakes) is not None and wakes <= now
        ]
        return [pending for *_, pending in sorted(due, key=lambda item: item[:2])]

    def close(self) -> None:
        """Put the workflow away. Its ``finally`` blocks run, but cannot ask for anything any more."""
        self._closed = True
        self._loop.close()

    # -- applying history ----------------------------------------------------------

    def _apply(self, event: Event) -> None:
        match event:
            case Completed(op=op, value=value):
                self._answer(op, lambda answer: answer.set_result(value))
            case Requested():
                self._check(event)
            case Fired(op=op):
                self._fire(op)
            case Failed(op=op, error=record):
                self._answer(op, lambda answer: answer.set_exception(_rebuilt(record, op)))
            case RunStarted():
                self._begin(event)
            case Retrying(op=op, attempt=attempt, due=due) if op in self.pending:
                self._put_off(self.pending[op], attempt + 1, due)
            case Attempted(op=op, attempt=attempt) if op in self.pending:
                self._put_off(self.pending[op], attempt, None)
            case CancelRequested() if self._main is not None:
                self._main.cancel()
            case RunCompleted() | RunFailed() | RunCancelled():
                self._compare_end(event)
            case _:
                pass

    def _begin(self, event: RunStarted) -> None:
        self._seed, self.started = event.seed, event.at
        context = Context()  # the starter's own variables would not be there on replay
        context.run(workflow_context.set, self)
        self._main = self._loop.create_task(self._body(event.args, event.kwargs), context=context)

    def _answer(self, op: int, settle: Callable[[_Answer], None]) -> None:
        pending = self._pop(op)
        if pending is not None and isinstance(pending.listener, _Answer) and not pending.listener.done():
            settle(pending.listener)  # the first answer counts; later ones find nothing pending

    def _pop(self, op: int) -> Pending | None:
        if self._waking:
            self._waking.pop(op, None)
        return self.pending.pop(op, None)

    def _put_off(self, pending: Pending, attempt: int, due: datetime | None) -> None:
        pending.attempt, pending.due = attempt, due
        if due is None:
            self._waking.pop(pending.op, None)
        else:
            self._waking[pending.op] = pending

    def _fire(self, op: int) -> None:
        pending = self._pop(op)
        if pending is None:
            return
        if isinstance(pending.listener, _Answer):
            pending.listener.set_result(None)
        else:
            del self._timers[pending.listener]
            self._loop.fire(pending.listener)

    def _check(self, event: Requested) -> None:
        recorded = event.command
        op = next(iter(self._asked), None)
        asked = None if op is None else self._asked.pop(op)
        if asked is not recorded and asked != recorded:
            raise NonDeterminism(self._difference(recorded, asked))
        if (pending := self.pending.get(recorded.op)) is not None:
            pending.at = event.at

    def _compare_end(self, recorded: Outcome) -> None:
        outcome = self.outcome(recorded.at)
        if type(outcome) is not type(recorded):
            ends = {RunCompleted: "returned", RunFailed: "failed", RunCancelled: "was cancelled"}
            now = "goes on" if outcome is None else ends[type(outcome)]
            where = where_it_waits(self._main)
            msg = f"when it was recorded the workflow {ends[type(recorded)]} here; now it {now}{where}"
            raise NonDeterminism(msg)

    def _difference(self, recorded: Command, asked: Command | None) -> str:
        task = self._main
        if asked is not None and (pending := self.pending.get(asked.op)) is not None:
            task = pending.task
        now = "asks for nothing more" if asked is None else f"asks for {_say(asked)}"
        return (
            f"operation {recorded.op} was recorded as {_say(recorded)}; now the workflow {now}{where_it_waits(task)}. "
            "Was its code changed while the run was under way? Put the old order back, or let new runs take the new "
            "code, then retry the run"
        )

    # -- asking --------------------------------------------------------------------

    def ask(self, make: Callable[[int], Command]) -> asyncio.Future[Any]:
        """Ask for an operation; *make* is given its number once the workflow has come to rest."""
        answer = _Answer(loop=self._loop)
        answer.machine = self
        answer.pending = self._enlist(make, answer)
        return answer

    def _enlist(self, make: Callable[[int], Command], listener: _Answer | asyncio.TimerHandle) -> Pending:
        if self._closed:
            raise Parked
        task = asyncio.current_task(self._loop)
        lane: Lane = task.lane if isinstance(task, WorkflowTask) else self._loop.root
        lane.ops += 1
        pending = Pending(make, listener, (lane.path, lane.ops), task)
        self._fresh.append(pending)
        return pending

    def _number(self) -> None:
        # Sorted by task and not by time: stdlib functions take more or fewer turns of the loop from Python to Python.
        fresh = self._fresh
        if len(fresh) > 1:
            fresh.sort(key=lambda pending: pending.order)
        for pending in fresh:
            listener = pending.listener
            if listener.cancelled():
                continue
            self._ops = op = self._ops + 1
            pending.op = op
            pending.command = self._asked[op] = pending.make(op)
            self.pending[op] = pending
            if isinstance(pending.command, StartTimer):
                self._waking[op] = pending
        fresh.clear()

    def abandon(self, pending: Pending) -> None:
        """Note that nobody waits for *pending* any more."""
        if self._pop(pending.op) is not None:
            self._abandoned.append(pending)

    def start_timer(self, handle: asyncio.TimerHandle, delay: float) -> None:
        """Have *handle* called after *delay* seconds, by an event."""
        self._timers[handle] = self._enlist(lambda op: StartTimer(op, "timer", delay), handle)

    def stop_timer(self, handle: asyncio.TimerHandle) -> None:
        """Forget *handle*."""
        if (pending := self._timers.pop(handle, None)) is not None:
            self.abandon(pending)

    # -- what the workflow calls (`WorkflowContext`) ---------------------------------

    async def call_step(self, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Have a step carried out; its result, or its error, is what was recorded."""
        signature = step.signature
        plain_args, plain_kwargs = signature.encode_call(args, kwargs)
        name = step.name
        value = await self.ask(lambda op: CallStep(op, name, plain_args, plain_kwargs))
        return signature.decode_result(value)

    async def sleep(self, delay: float | None, until: datetime | None) -> None:
        """Wait for a durable timer; a time that has passed already is none."""
        if (until is not None and until > self._now) or (delay is not None and delay > 0):
            await self.ask(lambda op: StartTimer(op, "sleep", delay, until))

    def now(self) -> datetime:
        """Return the time of the event that the workflow saw last."""
        return self._now

    def chance(self) -> Random:
        """Return the random source of the current task."""
        return self._loop.lane().chance(self._seed)


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


def _say(command: Command) -> str:
    match command:
        case CallStep(name=name, args=args, kwargs=kwargs):
            return f"step {_call(name, args, kwargs)}"
        case StartTimer(delay=None, until=until):
            return f"a timer until {until}"
        case StartTimer(delay=delay):
            return f"a timer of {delay:g} s"
        case OpenHook(name=name):
            return f"hook {name!r}"
        case StartChild(name=name, args=args, kwargs=kwargs):
            return f"workflow {_call(name, args, kwargs)}"


def _call(name: str, args: Plain, kwargs: Plain) -> str:
    shown = [repr(value) for value in args]
    shown += [f"{key}={value!r}" for key, value in kwargs.items()]
    text = ", ".join(shown)
    return f"{name}({text if len(text) <= 80 else text[:77] + '...'})"  # noqa: PLR2004 -- a line's worth
