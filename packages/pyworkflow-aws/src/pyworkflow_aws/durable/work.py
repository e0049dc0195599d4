"""Carries out what a run asks for: bodies of steps on one event loop of the process, operations on threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from attrs import define, field

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def step_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of all async steps of this process, so that the clients they keep survive invocations."""
    global _loop  # noqa: PLW0603 -- one for the process
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="pyworkflow-steps", daemon=True).start()
        return _loop


@define(eq=False)
class Work:
    """What carries one operation out.

    Attributes:
        running: A thread is at it.
        stopped: Nobody wants it any more.
    """

    running: bool = False
    stopped: bool = False
    _task: asyncio.Task[Any] | None = field(default=None, init=False)

    def run(self, body: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run *body* on the loop of steps; return, or raise, what it does, once it has come to an end.

        Raises:
            asyncio.CancelledError: `stop` was called.
        """
        loop, done = step_loop(), Future[Any]()

        async def carry() -> None:
            self._task = asyncio.current_task()
            try:
                if self.stopped:
                    raise asyncio.CancelledError  # noqa: TRY301 -- as if it had come a moment later
                done.set_result(await body())
            except BaseException as error:  # noqa: BLE001 -- it belongs to who waits
                done.set_exception(error)

        loop.call_soon_threadsafe(lambda: _keep(loop.create_task(carry())))
        return done.result()

    def stop(self) -> None:
        """Interrupt an async body, and have a sync one's result thrown away."""
        self.stopped = True
        if self._task is not None:
            step_loop().call_soon_threadsafe(self._task.cancel)


_tasks: set[asyncio.Task[None]] = set()


def _keep(task: asyncio.Task[None]) -> None:
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
