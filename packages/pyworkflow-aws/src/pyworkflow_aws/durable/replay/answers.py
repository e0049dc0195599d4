"""Replays a run from what is recorded: which answers there are, and in which order the run sees them.  No I/O.

If all open operations have ended, as in a sequence of steps, nothing has to be decided: the run sees them in the order
of the times recorded with them. If only some have, then which ones the run sees now, and in which order, is recorded as
an operation of its own before the run sees any of them: on replay others will have ended too.

That `patched` answered True is an operation too, recorded before anything that the workflow requests after it. A run
that reaches the call without that record, although later requests of it are recorded, passed the place with the old
code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from attrs import define, field, frozen

from pyworkflow.codec import Codec
from pyworkflow.codec.exceptions import record_of
from pyworkflow.errors import NonDeterminism, RunTerminated, StepInterrupted
from pyworkflow.events import CallStep, Completed, Failed, Fired, OpenHook, Received, RunStarted, StartChild, StartTimer
from pyworkflow.replay.mismatch import where_it_waits
from pyworkflow_aws.durable.replay.ids import operation_id
from pyworkflow_aws.durable.replay.payloads import Payloads, moment
from pyworkflow_aws.durable.replay.record import Fault, Recorded
from pyworkflow_aws.durable.replay.tree import Find, Open, Tree
from pyworkflow_aws.error_records import foreign_error, read_error

Read = Callable[[str], Recorded | None]
"""Returns an operation by its key, as it is recorded now."""

ORDER = "pyworkflow.order"
CANCEL = "pyworkflow.cancel"
DEADLINE = "pyworkflow.deadline"
LATER = "pyworkflow.later"
PATCHED = "pyworkflow.patched"
CONTINUE = "pyworkflow.continue"

CONTINUE_KEY = "continue"

_INTERRUPTED = "StepInterruptedError"


@frozen
class Turn:
    """The answers that a run sees next, in order, by the keys of operations; *fresh*: the order is not recorded yet."""

    keys: Sequence[str]
    fresh: bool = False


@define(eq=False)
class Replay:
    """A run that is advanced by what is recorded of it.

    Attributes:
        turns: How many turns it has had.
        messages: How many cancellations it has received.
        in_progress: Whether it may request operations that are not recorded; False when only its history is read.
    """

    tree: Tree
    read: Read
    payloads: Payloads
    turns: int = 0
    messages: int = 0
    in_progress: bool = True
    _left: set[str] = field(factory=set, init=False)  # recorded before, and not requested yet
    _asked: int = field(default=0, init=False)  # of the tree's keys, those removed from _left
    _before: int = field(default=0, init=False)  # of the tree's keys, those from before this turn

    @classmethod
    def of(  # noqa: PLR0917 -- all that a replay is made of
        cls,
        find: Find,
        codec: Codec,
        run_id: str,
        started: RunStarted,
        read: Read,
        payloads: Payloads,
        *,
        recorded: Iterable[str],
        in_progress: bool = True,
    ) -> Replay:
        """Return a run that has yet to `begin`; *recorded* are the ids of the operations requested before."""
        tree = Tree.of(find, codec, lambda key: replay.knows(key), run_id, started)  # noqa: PLW0108 -- it is not there yet
        replay = cls(tree, read, payloads, in_progress=in_progress)
        replay._left = set(recorded)
        return replay

    def begin(self) -> None:
        """Let the workflow run until it waits for something."""
        self.tree.begin()
        self._before = len(self.tree.keys)

    @property
    def is_replaying(self) -> bool:
        """Whether the workflow repeats in this turn, or is about to, what it did in an earlier invocation."""
        if self._left:
            self._left.difference_update(map(operation_id, self.tree.keys[self._asked : self._before]))
            self._asked = self._before
        return bool(self._left)

    def knows(self, key: str) -> bool:
        """Return what `patched` answers: True if *key* is recorded, or the run has not passed the call before."""
        if self.read(key) is not None:
            return True
        has_passed = self.is_replaying or any(self.read(later) is not None for later in (self.order_key, CONTINUE_KEY))
        return self.in_progress and not has_passed

    @property
    def order_key(self) -> str:
        """The key of what records the order of the next turn."""
        return f"order.{self.turns}"

    @property
    def mailbox(self) -> str:
        """The key of the callback that delivers the next cancellation."""
        return f"cancel.{self.messages}"

    @property
    def deadline_key(self) -> str | None:
        """The key of the timer for a cancellation's deadline; None: there is none."""
        return None if self.tree.root.machine.deadline is None else "deadline"

    def next(self) -> Turn | None:
        """Return what the run sees next; None: nothing yet.

        Raises:
            RunBlocked: Nothing will ever come.
        """
        order = self.read(self.order_key)
        if order is not None and order.ended:
            return Turn(json.loads(order.payload or "[]"))
        self.tree.check()
        open_ = self.tree.open.values()
        ended = [(found, record) for found in open_ if (record := self._answer(found))]
        if len(ended) > 1:
            ended.sort(key=lambda pair: (self._time(*pair), pair[0].path))
        keys = [found.key for found, _ in ended]
        if len(ended) == len(open_):
            return Turn(keys)
        extra = [key for key in (self.deadline_key, self.mailbox) if key and self._has_ended(key)]
        return Turn([*extra, *keys], fresh=True) if keys or extra else None

    def apply(self, turn: Turn) -> None:
        """Feed the answers of a turn to the run.

        Raises:
            NonDeterminism: Something else is recorded than the workflow requests.
        """
        self.turns += 1
        self._see(turn)
        self._before = len(self.tree.keys)

    def _see(self, turn: Turn) -> None:
        by_key = {found.key: found for found in self.tree.open.values()}
        for key in turn.keys:
            if self.tree.outcome is not None:
                return
            if key == self.mailbox:
                self._cancel(key)
            elif key == self.deadline_key:
                raise RunTerminated("it was cancelled, and had not ended by the deadline")
            elif (found := by_key.get(key)) is not None and self.tree.open.get(found.path) is found:
                self._deliver(found)

    # -- answers ---------------------------------------------------------------------

    def _has_ended(self, key: str) -> bool:
        record = self.read(key)
        return record is not None and record.ended

    def _answer(self, found: Open) -> Recorded | None:
        record = self.read(found.key)
        return record if record is not None and record.ended else None

    def _time(self, found: Open, record: Recorded) -> datetime:
        """Return when the operation was answered, by what is recorded with the answer, the same on every replay."""
        command = found.pending.command
        if isinstance(command, StartTimer) or record.timed_out:
            return command.fires_at(found.asked) or self.tree.now  # type: ignore[union-attr]
        if record.fault is None:
            return self.payloads.time(record.payload or "{}")
        return self._error(found, record.fault)[1]

    def _cancel(self, key: str) -> None:
        record = self.read(key)
        self.messages += 1
        message, at = self.payloads.read((record and record.payload) or "{}")
        request: dict[str, Any] = message if isinstance(message, dict) else {}
        deadline = request.get("deadline")
        self.tree.cancel(str(request.get("reason", "")), at, None if deadline is None else moment(deadline))

    def _deliver(self, found: Open) -> None:
        record = self.read(found.key)
        if record is None or not record.ended:
            msg = f"the recorded order of answers names operation {found.key}, which has none"
            raise NonDeterminism(msg)
        command = found.pending.command
        check(found, record)
        match command:
            case StartTimer():
                self.tree.answer(found, lambda op, now: Fired(now, op), command.fires_at(found.asked))
            case OpenHook() if record.timed_out:
                self.tree.answer(found, lambda op, now: Fired(now, op), command.fires_at(found.asked) or self.tree.now)
            case OpenHook() if record.fault is None:
                value, at = self.payloads.read(record.payload or "{}")
                self.tree.answer(found, lambda op, now: Received(now, op, value), at)
            case CallStep() | StartChild() if record.fault is None:
                value, at = self.payloads.read(record.payload or "{}")
                self.tree.answer(found, lambda op, now: Completed(now, op, value), at)
            case _:
                error, at = self._error(found, record.fault)
                self.tree.answer(found, lambda op, now: Failed(now, op, error), at)

    def _error(self, found: Open, fault: Fault | None) -> tuple[Any, datetime]:
        fault = fault or Fault("", "")
        if fault.data:
            return read_error(fault.data)
        if fault.kind.endswith(_INTERRUPTED):
            name = getattr(found.pending.command, "name", "")
            why = "the function's sandbox was lost while it ran"
            error = StepInterrupted(f"{why} step {name!r}, and it is not tried again: it is declared at_most_once")
            return record_of(error, retryable=False), self.tree.now
        return foreign_error(fault.kind, fault.message), self.tree.now


def check(found: Open, record: Recorded) -> None:
    """Make sure that an operation is the one that is recorded in its place.

    Raises:
        NonDeterminism: It is not.
    """
    want = found.want
    if want.fits(record):
        return
    detail = " with other arguments" if (want.kind, want.name) == (record.kind, record.name) else ""
    raise NonDeterminism(
        f"operation {found.key} was recorded as {record}; now the workflow asks for {want}{detail}"
        f"{where_it_waits(found.pending.task)}. Was the code changed while the run was in progress? Runs stay with the "
        "version they began on if they are started through an alias; on $LATEST they do not"
    )
