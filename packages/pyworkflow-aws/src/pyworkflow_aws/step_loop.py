"""Where steps run: the event loop and the threads of this process, which survive invocations."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from attrs import define, field

from pyworkflow.engine.step_runner import StepThreads

step_threads = StepThreads(64)
"""The threads of all sync steps of this process."""

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
    """The execution of one operation.

    Attributes:
        running: A thread executes it.
        stopped: Its result is not needed any more.
        on_stop: Called when `stop` is.
    """

    running: bool = False
    stopped: bool = False
    on_stop: Callable[[], None] | None = None
    _task: asyncio.Task[Any] | None = field(default=None, init=False)

    def run(self, body: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run *body* on the loop of steps; return, or raise, what it does, once it has ended.

        Raises:
            asyncio.CancelledError: `stop` was called.
        """
        loop, done = step_loop(), queue.SimpleQueue[tuple[Any, BaseException | None]]()

        async def execute() -> None:
            self._task = task = asyncio.current_task()
            assert task is not None  # noqa: S101 -- tells the type checker
            try:
                if self.stopped:
                    raise asyncio.CancelledError  # noqa: TRY301 -- as if it had come a moment later
                done.put((await body(), None))
            except BaseException as error:  # noqa: BLE001 -- raised on the thread that waits
                done.put((None, error))
            finally:
                _tasks.discard(task)  # here: a callback would take another turn of the loop

        loop.call_soon_threadsafe(lambda: _tasks.add(loop.create_task(execute())))
        value, error = done.get()
        if error is not None:
            raise error
        return value

    def stop(self) -> None:
        """Interrupt an async body, and discard the result of a sync one."""
        self.stopped = True
        if self.on_stop is not None:
            self.on_stop()
        if self._task is not None:
            step_loop().call_soon_threadsafe(self._task.cancel)
