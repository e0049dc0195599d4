"""The clock that the shell goes by; another one may be put in its place."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Protocol


class Clock(Protocol):
    """Tells the time, and waits for it."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Return once *event* is set or *seconds* have passed; None: only when it is set."""


class SystemClock:
    """The machine's clock."""

    now = staticmethod(partial(datetime.now, UTC))  # asked several times a step

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Return once *event* is set or *seconds* have passed; None: only when it is set."""
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return


async def sleep_until(until: datetime) -> None:
    """Sleep on the event loop until the wall clock shows *until*, and not less."""
    while (left := (until - datetime.now(UTC)).total_seconds()) > 0:  # noqa: ASYNC110 -- a clock tells nobody
        await asyncio.sleep(left)


def pauses() -> Iterator[float]:
    """Yield, in seconds, how long to wait before each new try of what failed: longer and longer, with jitter."""
    pause = 0.05
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 -- jitter
        pause = min(2 * pause, 5.0)
