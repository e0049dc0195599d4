"""Payloads for hooks that wait in a history: for a hook to be opened, or for the run that continues theirs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from attrs import define, field

from pyworkflow.authoring.inbox import Inbox
from pyworkflow.events import Posted, Received
from pyworkflow.replay.operations import Pending


@define(eq=False)
class Post:
    """The payloads of one run.

    Attributes:
        waiting: Those that no hook has been opened for, in the order in which they came.
        boxes: The hooks that were sent something, by operation.
    """

    waiting: list[Posted] = field(factory=list)
    boxes: dict[int, Inbox] = field(factory=dict)

    def receive(self, op: int, inbox: Inbox, event: Received) -> None:
        """Put a payload into *inbox*, and before it those that were posted for it earlier."""
        waiting = [posted for posted in self.waiting if inbox.wants(posted)]
        if event.posted:
            self.waiting.remove(waiting[0])  # it is this one, by `due`
        elif inbox.many:
            for posted in waiting:
                self.waiting.remove(posted)
                inbox.put(posted.value)
        self.boxes[op] = inbox
        inbox.put(event.value)

    def due(self, pending: Mapping[int, Pending], at: datetime) -> list[Received]:
        """Return, as facts, the payloads that are for one of the hooks which are *pending*, the first one for each."""
        found: dict[int, Received] = {}
        for posted in self.waiting:
            for op, one in pending.items():
                if op not in found and isinstance(one.listener, Inbox) and one.listener.wants(posted):
                    found[op] = Received(at, op, posted.value, posted=True)
                    break
        return [*found.values()]

    def left(self, at: datetime) -> list[Posted]:
        """Return the payloads that nobody has read."""
        unread = [(box, value) for box in self.boxes.values() for value in box.unread()]
        return [*(Posted(at, box.name, box.token, value) for box, value in unread), *self.waiting]
