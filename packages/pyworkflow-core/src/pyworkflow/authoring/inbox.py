"""The payloads that a hook was sent, for the workflow that waits for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field

from pyworkflow.errors import HookClosed
from pyworkflow.events import Plain, Posted


@define(eq=False)
class Inbox:
    """The payloads that a hook was sent, in order.

    Attributes:
        encode: Turns a payload into JSON, and refuses what does not fit the hook's type.
        many: Whether the hook takes more than one payload; else each `take` gives the same one.
        name: The hook's name.
        token: Its token, as stored.
        own: The token is the workflow's own, and not one by default.
        drops: What was not taken when it is closed is dropped, and who waits then waits for ever: rules of 0.1.0.
        on_close: Called once when the workflow wants no more.
    """

    encode: Callable[[Any], Plain]
    many: bool
    name: str
    token: str
    own: bool = False
    drops: bool = False
    on_close: Callable[[], None] = lambda: None
    is_closed: bool = False
    _payloads: deque[Plain] = field(factory=deque, init=False)
    _error: BaseException | None = field(default=None, init=False)
    _read: bool = field(default=False, init=False)
    _waiting: list[asyncio.Future[None]] = field(factory=list, init=False)

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
        dropped = self.is_closed and self.drops
        return [] if dropped or (self._read and not self.many) else [*self._payloads]

    @property
    def is_over(self) -> bool:
        """Whether iterating over the payloads ends here."""
        return self.is_closed and (self.drops or not self._payloads)

    def wants(self, posted: Posted) -> bool:
        """Whether a payload that came before this hook was opened is for it."""
        return posted.token == self.token if self.own else posted.name == self.name

    def close(self) -> None:
        """Take no more payloads; those that came are still there."""
        if not self.is_closed:
            self.is_closed = True
            self.on_close()
            if not self.drops and self._error is None:
                self.fail(HookClosed(f"the workflow has closed hook {self.name!r}, and no payload is left"))

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)
