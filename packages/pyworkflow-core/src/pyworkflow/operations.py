"""What a workflow waits for: operations that are not answered, and who listens for their answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import define, field

from pyworkflow.events import Command, OpenHook, Posted, StartTimer
from pyworkflow.plain import Plain

if TYPE_CHECKING:
    from pyworkflow.loop import Lane
    from pyworkflow.machine import Machine


class Answer(asyncio.Future[Any]):
    """What a workflow awaits; tells the machine when nobody wants the answer any more."""

    __slots__ = ("machine", "pending")

    machine: Machine
    pending: Pending

    def cancel(self, msg: Any = None) -> bool:
        """Give the answer up; the machine learns of it."""
        cancelled = super().cancel(msg)
        if cancelled:
            self.machine.abandon(self.let_go())
        return cancelled

    def let_go(self) -> Pending:
        """Return the operation, and forget it: what holds each other waits for the garbage collector."""
        pending = self.pending
        del self.pending
        return pending


@define(eq=False)
class Inbox:
    """The payloads that a hook was sent, in order.

    Attributes:
        encode: Turns a payload into JSON, and refuses what does not fit the hook's type.
        many: Whether the hook takes more than one payload; else each `take` gives the same one.
        name: The hook's name.
        token: Its token, as stored.
        own: The token is the workflow's own, and not one by default.
        on_close: Called once when the workflow wants no more.
    """

    encode: Callable[[Any], Plain]
    many: bool
    name: str
    token: str
    own: bool = False
    on_close: Callable[[], None] = lambda: None
    is_closed: bool = False
    _payloads: deque[Plain] = field(factory=deque, init=False)
    _error: BaseException | None = field(default=None, init=False)
    _read: bool = field(default=False, init=False)
    _waiting: list[asyncio.Future[None]] = field(factory=list, init=False)

    def cancelled(self) -> bool:
        """Whether nobody listens any more."""
        return self.is_closed

    def put(self, payload: Plain) -> None:
        """Add a payload, and wake who waits for it."""
        self._payloads.append(payload)
        self._wake()

    def fail(self, error: BaseException) -> None:
        """Have *error* raised once the payloads that are there have been taken."""
        self._error = error
        self._wake()

    async def take(self) -> Plain:
        """Wait for a payload and return it."""
        while not self._payloads:
            if self._error is not None:
                raise self._error
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self._read = True
        return self._payloads.popleft() if self.many else self._payloads[0]

    def unread(self) -> list[Plain]:
        """Return the payloads that nobody has taken, and that somebody may want."""
        return [] if self.is_closed or (self._read and not self.many) else [*self._payloads]

    def wants(self, posted: Posted) -> bool:
        """Whether a payload that came before this hook was opened is for it."""
        return posted.token == self.token if self.own else posted.name == self.name

    def close(self) -> None:
        """Take no more payloads."""
        if not self.is_closed:
            self.is_closed = True
            self.on_close()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)


Listener = Answer | Inbox | asyncio.TimerHandle


@define(eq=False)
class Pending:
    """An operation that the workflow asked for and that is not answered.

    Attributes:
        listener: Who waits for the answer.
        kind: What is asked for.
        fields: All of the command but its number.
        lane: Where in the workflow it was asked for, and
        turn: as which one there: operations that were asked for at the same moment are numbered by that.
        task: The workflow's task that asked, for error messages.
        op: Its number; 0 before the workflow has come to rest.
        command: What was asked for; unset before the workflow has come to rest.
        at: When the request was recorded; None: it is not in the history yet.
        attempt: The number of the attempt that history knows of, from 1.
        due: When that attempt begins, if it was put off.
        begun: Of a child: its run is there.
        goes_on: Of a child that has continued: the run that it goes on as.
        away: Of a step: it has a job of its own, whose holder sees to its attempts.
    """

    listener: Listener
    kind: type[Command]
    fields: tuple[Any, ...]
    lane: Lane
    turn: int
    task: asyncio.Task[Any] | None
    op: int = 0
    command: Command | None = None
    at: datetime | None = None
    attempt: int = 1
    due: datetime | None = None
    begun: bool = False
    goes_on: str = ""
    away: bool = False

    @property
    def wakes(self) -> datetime | None:
        """When somebody has to see to it; None: at once, if it is a step."""
        if isinstance(self.command, StartTimer | OpenHook) and self.at is not None:
            return self.command.fires_at(self.at)
        return self.due
