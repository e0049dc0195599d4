"""Callers that go away: something awaited whose task is cancelled at one of its awaits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class CancelledAt:
    """Awaits *coroutine*, and cancels the task that does so where it waits for the *number*th time.

    Attributes:
        waits: How often it has waited.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], number: int) -> None:
        self.waits = 0
        self._coroutine = coroutine
        self._number = number

    def __await__(self) -> Generator[Any, Any, Any]:
        error: BaseException | None = None
        while True:
            try:
                future = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
            except StopIteration as ended:
                return ended.value
            self.waits += 1
            if self.waits == self._number:
                asyncio.current_task().cancel()  # type: ignore[union-attr]  # a task awaits this
            error = None
            try:
                yield future
            except BaseException as raised:  # noqa: BLE001 -- it goes on to the coroutine
                error = raised

    async def result(self) -> Any:
        """Await it: the coroutine that a task needs."""
        return await self


async def is_cancelled_at(number: int, coroutine: Coroutine[Any, Any, Any]) -> bool:
    """Await *coroutine* in a task that is cancelled at its await with this number, from 1 on; whether it has so many.

    What it raises is nobody's business here.
    """
    cancelled = CancelledAt(coroutine, number)
    await asyncio.gather(cancelled.result(), return_exceptions=True)
    return cancelled.waits >= number
