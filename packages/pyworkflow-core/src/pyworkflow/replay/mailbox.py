"""Payloads for hooks that are buffered in a history: until a hook is opened, or for the run that continues this one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from attrs import define, field

from pyworkflow.authoring.inbox import Inbox
from pyworkflow.events import Posted, Received
from pyworkflow.replay.operations import Pending


@define(eq=False)
class Mailbox:
    """The payloads of one run.

    Attributes:
        buffered: Those that no hook has been opened for, in the order in which they came.
        inboxes: Those of the hooks that were sent something, by operation.
    """

    buffered: list[Posted] = field(factory=list)
    inboxes: dict[int, Inbox] = field(factory=dict)

    def receive(self, op: int, inbox: Inbox, event: Received) -> None:
        """Put a payload into *inbox*, and before it those that were buffered for it."""
        earlier = [posted for posted in self.buffered if inbox.wants(posted)]
        if event.posted:
            self.buffered.remove(earlier[0])  # it is this one, by `due`
        elif inbox.many:
            for posted in earlier:
                self.buffered.remove(posted)
                inbox.put(posted.value)
        self.inboxes[op] = inbox
        inbox.put(event.value)

    def due(self, pending: Mapping[int, Pending], at: datetime) -> list[Received]:
        """Return, as facts, buffered payloads for the hooks that are *pending*, the first one for each."""
        found: dict[int, Received] = {}
        for posted in self.buffered:
            for op, one in pending.items():
                if op not in found and isinstance(one.receiver, Inbox) and one.receiver.wants(posted):
                    found[op] = Received(at, op, posted.value, posted=True)
                    break
        return [*found.values()]

    def unread(self, at: datetime) -> list[Posted]:
        """Return the payloads that the workflow has not read."""
        unread = [(inbox, value) for inbox in self.inboxes.values() for value in inbox.unread()]
        return [*(Posted(at, inbox.name, inbox.token, value) for inbox, value in unread), *self.buffered]
