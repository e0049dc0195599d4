"""Waiting in tests, for conditions instead of times."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Return what *condition*, a function or a coroutine function, returns, once that is true.

    Raises:
        TimeoutError: It is not within *seconds*.
    """
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.005)
