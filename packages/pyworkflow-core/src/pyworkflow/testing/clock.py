"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

_START = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualClock:
    """The clock of a test; whoever waits goes on when it is moved far enough.

    Args:
        start: The time at first, aware.
    """

    def __init__(self, start: datetime = _START) -> None:
        self._now = start
        self._moved = asyncio.Event()
        self._waiting: dict[asyncio.Event, datetime | None] = {}

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        return self._now

    def move(self, to: datetime) -> None:
        """Let it be *to*, unless that is past."""
        self._now = max(self._now, to)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Return once *event* is set or *seconds* have passed on this clock."""
        until = None if seconds is None else self._now.timestamp() + seconds
        self._waiting[event] = None if until is None else datetime.fromtimestamp(min(until, 2.5e11), UTC)
        try:
            while not event.is_set() and (until is None or self._now.timestamp() < until):
                set_, moved = asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._moved.wait())
                try:
                    await asyncio.wait([set_, moved], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    set_.cancel()
                    moved.cancel()
        finally:
            self._waiting.pop(event, None)

    @property
    def all_wait(self) -> bool:
        """Whether somebody waits, and nobody could go on."""
        return bool(self._waiting) and not any(
            event.is_set() or (until is not None and until <= self._now) for event, until in self._waiting.items()
        )
