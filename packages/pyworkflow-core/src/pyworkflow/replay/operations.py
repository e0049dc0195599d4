"""What a workflow waits for: operations that are not answered, and who listens for their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import define

from pyworkflow.authoring.inbox import Inbox
from pyworkflow.events import Command, OpenHook, StartTimer

if TYPE_CHECKING:
    from pyworkflow.replay.loop import Lane


class Answer(asyncio.Future[Any]):
    """What a workflow awaits; tells who asked when nobody wants the answer any more."""

    __slots__ = ("abandon", "pending")

    abandon: Callable[[Pending], None]
    pending: Pending

    def cancel(self, msg: Any = None) -> bool:
        """Give the answer up; who asked learns of it."""
        cancelled = super().cancel(msg)
        if cancelled:
            self.abandon(self.let_go())
        return cancelled

    def let_go(self) -> Pending:
        """Return the operation, and forget it: what holds each other waits for the garbage collector."""
        pending = self.pending
        del self.pending
        return pending


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
