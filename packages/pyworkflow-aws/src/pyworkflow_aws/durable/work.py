"""Carries out what a run asks for: bodies of steps on one event loop of the process, operations on threads."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from attrs import define, field

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_tasks: set[asyncio.Task[Any]] = set()
"""Those of the loop: it keeps none itself."""


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
        on_stop: Called when that happens.
    """

    running: bool = False
    stopped: bool = False
    on_stop: Callable[[], None] | None = None
    _task: asyncio.Task[Any] | None = field(default=None, init=False)

    def run(self, body: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run *body* on the loop of steps; return, or raise, what it does, once it has come to an end.

        Raises:
            asyncio.CancelledError: `stop` was called.
        """
        loop, done = step_loop(), queue.SimpleQueue[tuple[Any, BaseException | None]]()

        async def carry() -> None:
            self._task = task = asyncio.current_task()
            assert task is not None  # noqa: S101 -- tells the type checker
            try:
                if self.stopped:
                    raise asyncio.CancelledError  # noqa: TRY301 -- as if it had come a moment later
                done.put((await body(), None))
            except BaseException as error:  # noqa: BLE001 -- it belongs to who waits
                done.put((None, error))
            finally:
                _tasks.discard(task)  # here: a callback would take another turn of the loop

        loop.call_soon_threadsafe(lambda: _tasks.add(loop.create_task(carry())))
        value, error = done.get()
        if error is not None:
            raise error
        return value

    def stop(self) -> None:
        """Interrupt an async body, and have a sync one's result thrown away."""
        self.stopped = True
        if self.on_stop is not None:
            self.on_stop()
        if self._task is not None:
            step_loop().call_soon_threadsafe(self._task.cancel)


class Threads:
    """Threads for the operations of one invocation: as many as are under way, up to *most*, all ended by `close`.

    Lighter than an executor: nothing is made for each call, as every step of a run is one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0

    def call(self, function: Callable[[], None]) -> None:
        """Have *function*, which must not raise, called on a thread; to be used by one thread only."""
        self._busy += 1
        if self._busy > len(self._threads) and len(self._threads) < self._most:
            thread = threading.Thread(target=self._work, name="pyworkflow-operation", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._calls.put(function)

    def done(self) -> None:
        """Note that one of the calls has come to its end."""
        self._busy -= 1

    def close(self) -> None:
        """Wait for what is under way, and end the threads: the sandbox is frozen after the invocation."""
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _work(self) -> None:
        while (function := self._calls.get()) is not None:
            function()
