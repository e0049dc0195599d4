"""Handing results from the thread of the database to who waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

Waiting = asyncio.Future[Any] | Future[Any] | None
"""Who waits for a result: on an event loop, in a thread, or nobody."""


def deliver(results: Sequence[tuple[asyncio.AbstractEventLoop | None, Waiting, Any]]) -> None:
    """Hand results, or errors, to who waits on their loops, with one wake-up for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Waiting, Any]]] = {}
    for loop, future, result in results:
        if loop is None:
            settle([(future, result)])
        else:
            by_loop.setdefault(loop, []).append((future, result))
    for loop, settled in by_loop.items():
        try:
            loop.call_soon_threadsafe(settle, settled)
        except RuntimeError:  # the loop was closed; nobody waits any more
            continue


def settle(results: Sequence[tuple[Waiting, Any]]) -> None:
    """Set the results, or errors, of futures that are not done, on the thread that they belong to."""
    for future, result in results:
        if future is None or future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
