"""Replay: from the history of a run to what its workflow wants next. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import Context
from datetime import datetime
from functools import partial
from typing import Any
from zlib import crc32

from attrs import define

from pyworkflow.authoring.context import ContinueAsNew, workflow_context
from pyworkflow.authoring.inbox import Inbox
from pyworkflow.codec import Codec
from pyworkflow.codec.exceptions import rebuild, record_of
from pyworkflow.errors import HistoryTooLong, NonDeterminism
from pyworkflow.events import (
    Abandoned,
    Attempted,
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
)
from pyworkflow.ids import next_id
from pyworkflow.replay.context import ReplayContext
from pyworkflow.replay.loop import ReplayLoop
from pyworkflow.replay.mailbox import Mailbox
from pyworkflow.replay.mismatch import difference, difference_of_ends
from pyworkflow.replay.operations import MachineClosed, Operations, Pending
from pyworkflow.replay.patches import Patches

Body = Callable[[Plain, Plain], Coroutine[Any, Any, Plain]]
"""A workflow as the machine runs it: encoded arguments in, encoded result out."""

Outcome = RunCompleted | RunFailed | RunCancelled | RunContinued
"""How a workflow ends by itself."""

_WITHOUT_PLUGINS = Codec()

MAX_EVENTS = 50_000
"""A run whose history is longer is asked to continue as a new one."""


@define(eq=False)
class Turn:
    """What a workflow did on seeing some facts.

    Attributes:
        events: The facts, and what the workflow did, as events that follow them in the history.
        requested: The operations that it requested.
        abandoned: Those that it has stopped waiting for.
        expired: The hooks that closed because their time was over.
        attributes: Those of the run's attributes that it set, if it set any.
        outcome: The event that ends the run; None: the workflow has not ended.
    """

    events: list[Event]
    requested: list[Pending]
    abandoned: Sequence[Pending] = ()
    expired: Sequence[Pending] = ()
    attributes: Mapping[str, Plain] | None = None
    outcome: Outcome | None = None


class Machine:
    """A workflow, moved on by the events of one run.

    `replay` takes what history has; `advance` takes facts, and returns what belongs into the history after them. Both
    give the same, however the events are batched (``test_however_events_are_batched_replay_is_the_same``), so a run may
    go on in memory or be rebuilt from its history before each decision.

    Args:
        body: The workflow.
        run_id: What the workflow sees as its run.
        knows: As `Patches.knows`.
        codec: That of the application; by default one without converters of plugins.

    Attributes:
        operations: What the workflow has requested.
        pending: Those of the operations that have no answer, by number.
        deadline: When the run is terminated, as it was cancelled.
    """

    def __init__(
        self,
        body: Body,
        run_id: str = "",
        knows: Callable[[str], bool] | None = None,
        codec: Codec | None = None,
    ) -> None:
        self.run_id = run_id
        self.parent: Parent | None = None
        self.fingerprint = ""
        self.deadline: datetime | None = None
        self._body = body
        self._loop = loop = ReplayLoop()  # type: ignore[abstract]  # what is missing refuses, see there
        self.started = loop.now
        self.operations = Operations(loop)
        self.pending = self.operations.pending
        self._patches = Patches(knows)
        self._mailbox = Mailbox()
        self._context = ReplayContext(run_id, codec or _WITHOUT_PLUGINS, loop, self.operations, self._patches)
        self._cancelled = False
        self._unseen: CancelRequested | None = None  # it came when the workflow had ended
        self._seen = 0

    # -- moving on -----------------------------------------------------------------

    def feed(self, events: Iterable[Event]) -> list[Command]:
        """Apply *events* one by one; return, in order, the commands that history lacks.

        Raises:
            NonDeterminism: History has a request that the workflow does not make, or lacks one that it makes.
        """
        self._loop.run(events, self._apply)
        self.operations.number()
        return [pending.command for pending in self.operations.unrecorded if pending.command is not None]

    def replay(self, events: Sequence[Event]) -> list[Command]:
        """Apply a part of history that was decided on already; as `feed`, but `patched` looks ahead in it."""
        for event in events:
            if isinstance(event, Patched):
                self._patches.learn(event.id)
        self._context.is_replaying = len(events) > 1
        self._loop.run(events[:-1], self._apply)
        self._context.is_replaying = False
        commands = self.feed(events[-1:])
        self.operations.expired.clear()  # history says so already
        return commands

    def advance(self, facts: Sequence[Event], now: datetime) -> Turn:
        """Let the workflow see *facts*; return what it does, which counts as recorded at *now*.

        Raises:
            NonDeterminism: As `feed`.
        """
        operations, mailbox, turn = self.operations, self._mailbox, Turn([], [])
        events, requested = turn.events, turn.requested
        seen, news = self._seen, facts
        while True:
            self._loop.run(news, self._apply)
            operations.number()
            events += news
            if self._patches.unrecorded or self._context.described:
                self._note(turn, now)
            for pending in operations.unrecorded:
                pending.at = now
                requested.append(pending)
                events.append(Requested(now, pending.command))  # type: ignore[arg-type]  # it has been numbered
            operations.unrecorded.clear()
            # What a hook receives that was just opened can make the workflow request more.
            if not mailbox.buffered or not (news := mailbox.due(self.pending, now)):
                break
        if operations.abandoned:
            turn.abandoned, operations.abandoned = operations.abandoned, []
            # This decision, and no later one, stops the child or closes the hook; the rest has no effect outside.
            lasting = [gone for gone in turn.abandoned if isinstance(gone.command, StartChild | OpenHook)]
            events += [Abandoned(now, gone.op) for gone in lasting]
        if operations.expired:
            turn.expired, operations.expired = operations.expired, []
        if len(events) > len(facts):
            # Replay sees this time in the history, so the workflow's clock has to be there as well when the next fact
            # comes: `test_time_is_the_same_in_replay_where_the_clock_of_the_next_worker_is_behind`.
            self._loop.now = max(self._loop.now, now)
        self._seen = seen + len(events)
        main = self._loop.main
        if main is not None and main.done():
            turn.outcome = self.outcome(now)
        return turn

    def _note(self, turn: Turn, now: datetime) -> None:
        """Add the changes of code that the workflow has come to know, and the attributes that it set."""
        turn.events += self._patches.take(now)
        described, self._context.described = self._context.described, []
        turn.events += [Described(now, attributes) for attributes in described]
        for attributes in described:
            turn.attributes = {**(turn.attributes or {}), **attributes}

    # -- for the shell -------------------------------------------------------------

    def outcome(self, at: datetime) -> Outcome | None:
        """Return the event that ends the run, or None if the workflow has not ended."""
        main = self._loop.main
        if main is None or not main.done() or self._loop.finishing:
            return None
        if main.cancelled():
            return RunCancelled(at)
        if error := main.exception():
            if isinstance(error, ContinueAsNew):
                return RunContinued(at, next_id(self.run_id), *error.args)
            return RunFailed(at, record_of(error), _blame(error))
        return RunCompleted(at, main.result())

    @property
    def is_stuck(self) -> bool:
        """Whether the workflow waits for something that nobody will ever give it."""
        main = self._loop.main
        return main is not None and not self.pending and not (main.done() and not self._loop.finishing)

    @property
    def is_new(self) -> bool:
        """Whether it has seen no event yet."""
        return not self._seen

    def undelivered(self, at: datetime) -> list[Event]:
        """Return what the run that continues this one receives: payloads nobody read, a cancellation nobody saw."""
        return [*self._mailbox.unread(at), *(() if self._unseen is None else (self._unseen,))]

    def next_wake(self) -> datetime | None:
        """Return the earliest time at which a timer fires, a hook expires, a retry or a deadline is due; or None."""
        waking = self.operations.waking
        if not waking:
            return self.deadline
        times = [wakes for pending in waking.values() if (wakes := pending.wakes) is not None]
        return min(times if self.deadline is None else [*times, self.deadline], default=None)

    def close(self) -> None:
        """End the workflow here. Its ``finally`` blocks run, but cannot request anything any more.

        What holds each other lets go: a closed machine does not wait for the garbage collector
        (``benchmarks/guard.py`` counts what does).
        """
        self.operations.refusal = MachineClosed
        self._loop.close()
        self.operations.close()
        self._patches.knows = None

    # -- applying history ----------------------------------------------------------

    def _apply(self, event: Event) -> None:  # noqa: C901, PLR0912 -- one case an event
        operations, loop = self.operations, self._loop
        if operations.new:  # requested on seeing the event before
            operations.number()
        loop.now = max(loop.now, event.at)  # workers' clocks differ: `test_time_never_goes_backwards`
        self._seen += 1
        if self._seen >= MAX_EVENTS:
            self._refuse_more()
        match event:
            case Completed(op=op, value=value):
                if (pending := operations.take(op)) is not None:
                    pending.set_result(value)
            case Requested():
                self._check(event)
            case Fired(op=op):
                operations.fire(op)
            case Failed(op=op, error=record):
                operations.fail(op, _rebuilt(record, op))
            case RunStarted():
                self._begin(event)
            case Received(op=op) if op in self.pending:
                self._receive(self.pending[op], event)
            case Posted():
                self._mailbox.buffered.append(event)
            case ChildContinued(op=op, run_id=run_id) if op in self.pending:
                self.pending[op].continued_as = run_id
            case Retrying(op=op, attempt=attempt, due=due):
                operations.put_off(op, attempt + 1, due)
            case Attempted(op=op, attempt=attempt):
                operations.put_off(op, attempt, None)
            case HandedOut(ops=ops):
                for op in ops:
                    operations.dispatch(op)
            case Abandoned(op=op):
                operations.abandoned = [pending for pending in operations.abandoned if pending.op != op]
            case Described():
                del self._context.described[:1]
            case CancelRequested():
                self._cancel(event)
            case RunCompleted() | RunFailed() | RunCancelled() | RunContinued():
                self._compare_end(event)
            case _:
                pass

    def _refuse_more(self) -> None:
        self.operations.refusal = partial(
            HistoryTooLong,
            f"the history of run {self.run_id!r} has {self._seen} events, and more are not taken: let the workflow "
            "go on as a new run from time to time, by pyworkflow.continue_as_new()",
        )

    def _begin(self, event: RunStarted) -> None:
        self.started, self.parent = event.at, event.parent
        self._context.seed, self._context.rules = event.seed, event.rules
        self.fingerprint, self.deadline = event.fingerprint, event.deadline
        self._loop.drops = not event.rules
        self._loop.base = crc32(event.seed.encode()) << 20
        self._loop.owner = self.operations  # from here to `close` they hold each other: one never used is just freed
        context = Context()  # the starter's own variables would not be there on replay
        context.run(workflow_context.set, self._context)
        self._loop.create_task(self._body(event.args, event.kwargs), context=context)

    def _cancel(self, event: CancelRequested) -> None:
        if event.deadline is not None and (self.deadline is None or event.deadline < self.deadline):
            self.deadline = event.deadline
        main = self._loop.main
        if main is not None and main.done():
            self._unseen = self._unseen or event
        elif main is not None and not self._cancelled:
            self._cancelled = True  # once: `test_a_second_cancel_does_not_break_into_cleaning_up`
            main.cancel()

    def _receive(self, pending: Pending, event: Received) -> None:
        inbox = pending.receiver
        if not isinstance(inbox, Inbox):
            return
        if not inbox.many:
            self.operations.take(pending.op)
        self._mailbox.receive(pending.op, inbox, event)

    def _check(self, event: Requested) -> None:
        """Compare a recorded request with what the workflow now requests at this place of its history.

        Numbers grow in the order of the requests, and history has them in that order, so the first of those that are
        not recorded is the one. Whatever differs raises; it is never skipped
        (``test_a_changed_workflow_is_told_what_was_recorded_and_what_is_asked``).
        """
        recorded, unrecorded = event.command, self.operations.unrecorded
        asked = unrecorded[0] if unrecorded else None
        if asked is None or (asked.command is not recorded and asked.command != recorded):
            task = self._loop.main if asked is None or asked.task is None else asked.task
            raise NonDeterminism(difference(recorded, None if asked is None else asked.command, task))
        unrecorded.popleft()
        asked.at = event.at

    def _compare_end(self, recorded: Outcome) -> None:
        outcome = self.outcome(recorded.at)
        if type(outcome) is not type(recorded):
            raise NonDeterminism(difference_of_ends(recorded, outcome, self._loop.main))


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
