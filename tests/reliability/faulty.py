"""A storage that fails one call in fourteen of those that workers make, in three ways."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from pyworkflow import engine
from pyworkflow.engine import StoredRuntime
from pyworkflow.errors import StorageError
from pyworkflow.ports import Storage
from pyworkflow.testing.simulation.faults import Faults, FaultyStorage

T = TypeVar("T")

RATE = 0.07
_WORKERS = Path(engine.__file__).parent


class Unreliable(FaultyStorage):
    """Stands before a storage.

    A client that a call fails for is told so, and calls again; there is nobody to do that in a suite that knows of no
    faults, so only what workers do fails here. The simulation lets both fail.

    Attributes:
        seen: How often each kind of fault has happened.
    """

    def __init__(self, inner: Storage, seed: int) -> None:
        super().__init__(inner, Faults(Random(seed)))
        self.chance = Random(seed)
        self.seen: Counter[str] = Counter()

    async def _call(self, name: str, act: Callable[[], Awaitable[T]]) -> T:
        match self._fault() if _is_of_a_worker() else None:
            case "error":
                raise StorageError(f"{name} failed")
            # A claim whose answer is lost counts as an attempt of a step that is due, and the kit's cases count those.
            case "applied" if name == "claim":
                raise StorageError(f"{name} failed")
            case "timeout":
                await asyncio.sleep(0.05)
                raise StorageError(f"{name} took too long")
            case "applied":
                await act()
                raise StorageError(f"the answer of {name} was lost")
        return await act()

    def renew(self, worker: str, now: datetime, lease: timedelta) -> list[tuple[str, int]]:
        if threading.current_thread() is threading.main_thread() or not self._fault():  # no heartbeat
            return self.inner.renew(worker, now, lease)
        if self.chance.random() < 0.5:
            self.inner.renew(worker, now, lease)
        raise StorageError("renew failed")

    async def close(self) -> None:
        await self.inner.close()

    def _fault(self) -> str | None:
        if self.chance.random() >= RATE:
            return None
        what = self.chance.choice(["error", "timeout", "applied"])
        self.seen[what] += 1
        return what

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def _is_of_a_worker() -> bool:
    """Whether the task that calls is one of a worker, and not of who started runs or waits for them."""
    task = asyncio.current_task()
    code = None if task is None else getattr(task.get_coro(), "cr_code", None)
    if code is None or code is StoredRuntime._begin.__code__:  # the task in which a start creates its run
        return False
    return Path(code.co_filename).parent == _WORKERS
