"""The event loop on which the engine of an application lives in this process, and how calls reach it from elsewhere."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from asyncio import _get_running_loop as running_loop
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from attrs import define, field

from pyworkflow.errors import WorkflowError

T = TypeVar("T")
logger = logging.getLogger(__name__)

_CHECK = 0.5  # seconds after which who waits for another loop asks whether that still runs
_PATIENCE = 10.0  # seconds in which the engine thread closes at the end of the process


@define(eq=False)
class EngineLoop:
    """One event loop a process: the first one in use, until it closes; a thread of its own if sync code comes first.

    Calls from other loops and threads cross to it by `call_soon_threadsafe`. A forked child begins with a new one.

    Args:
        close: Called on the loop of the engine thread before that ends; closes the engine.
        is_idle: Whether the engine could be closed without interrupting anything.
        leave: Takes the engine away, so that the next use makes a new one, and returns what closes the old one.
    """

    _close: Callable[[], Coroutine[Any, Any, None]]
    _is_idle: Callable[[], bool]
    _leave: Callable[[], Coroutine[Any, Any, None]]
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)  # ours; None: the loop is somebody else's
    _crossing: int = field(default=0, init=False)  # calls from elsewhere that have not ended
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the engine lives on another loop, which runs."""
        loop = self._loop
        return loop is not None and loop is not running_loop() and loop.is_running()

    @property
    def is_own_thread(self) -> bool:
        """Whether the engine lives on a thread of its own."""
        return self._thread is not None

    # -- calls ---------------------------------------------------------------------------

    def adopt(self) -> None:
        """Have the engine live on the running loop, unless it lives on one that runs."""
        running = running_loop()
        if self._loop is not running:
            with self._lock:
                if not self.is_elsewhere:
                    self._loop, self._thread = running, None

    async def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Await *call* where the engine lives: here, if it lives nowhere or on an idle thread of its own."""
        if self._loop is not running_loop():
            self.adopt()
            if self.is_elsewhere and not await self._moved_here():
                return await self._across(call)
        return await call

    async def _moved_here(self) -> bool:
        """Move the engine from a thread of its own, where it does nothing, to the running loop; whether that was so."""
        with self._lock:
            loop, thread = self._loop, self._thread
            if loop is None or thread is None or self._crossing or not self._is_idle():
                return False
            closing = asyncio.run_coroutine_threadsafe(_closed(self._leave(), loop), loop)
            self._loop, self._thread = asyncio.get_running_loop(), None
            _threads.discard(self)
        await asyncio.shield(asyncio.wrap_future(closing))
        return True

    async def _across(self, call: Coroutine[Any, Any, T]) -> T:
        future = self._submit(call)
        waiting = asyncio.wrap_future(future)
        while not (await asyncio.wait([waiting], timeout=_CHECK))[0]:
            if not self.is_elsewhere and not waiting.done():
                waiting.cancel()
                raise self._gone()
        if waiting.cancelled() and not self.is_elsewhere:
            raise self._gone()
        return waiting.result()

    def run_sync(self, call: Coroutine[Any, Any, T]) -> T:
        """Await *call* where the engine lives, and block until it has ended.

        Raises:
            WorkflowError: The loop that the engine lives on has ended meanwhile.
        """
        future = self._submit(call)
        try:
            while True:
                with suppress(TimeoutError):
                    return future.result(_CHECK)
                if future.done():
                    return future.result()  # a TimeoutError of its own
                if not self.is_elsewhere:
                    raise self._gone()
        except CancelledError:
            raise self._gone() from None
        finally:
            future.cancel()

    def _submit(self, call: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            loop = self._loop if self.is_elsewhere else self._begin_thread()
            assert loop is not None  # noqa: S101 -- one of both
            future = asyncio.run_coroutine_threadsafe(call, loop)
            self._crossing += 1
        future.add_done_callback(self._crossed)
        return future

    def _crossed(self, _: Future[Any]) -> None:
        with self._lock:
            self._crossing -= 1

    def _gone(self) -> WorkflowError:
        return WorkflowError(
            "the event loop that runs the workflows of this process was closed during the call; a durable run that was "
            "started goes on where a worker runs: try again, with the same idempotency_key if the call starts a run"
        )

    # -- the thread ------------------------------------------------------------------------

    def _begin_thread(self) -> asyncio.AbstractEventLoop:
        self._loop = loop = asyncio.new_event_loop()
        ready = threading.Event()
        loop.call_soon(ready.set)
        self._thread = threading.Thread(target=_serve, args=(loop,), name="pyworkflow-engine", daemon=True)
        self._thread.start()
        ready.wait()
        _threads.add(self)
        return loop

    async def end_thread(self) -> None:
        """Close the engine and end its thread; from another loop."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            _threads.discard(self)
            try:
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._close(), loop))
            finally:
                _stop(loop)
                await asyncio.to_thread(thread.join)

    def end_at_exit(self) -> None:
        """Close the engine and end its thread: the process ends."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None or loop.is_closed():
            return
        loop.call_soon_threadsafe(loop.set_default_executor, _Inline())
        try:
            asyncio.run_coroutine_threadsafe(self._close(), loop).result(_PATIENCE)
        except Exception as error:  # noqa: BLE001 -- the lease lapses then, and others go on
            logger.warning("the engine could not be closed at the end of the process; its lease will lapse: %r", error)
        _stop(loop)
        thread.join(_PATIENCE)

    def forget(self) -> None:
        """Live nowhere: this is a forked child, and the loop stayed with the parent."""
        self._loop = self._thread = None
        self._crossing, self._lock = 0, threading.Lock()


class _Inline(ThreadPoolExecutor):
    """Executes at once what is submitted: at the end of a process there are no new threads."""

    def submit(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call it now."""
        future: Future[T] = Future()
        try:
            future.set_result(call(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 -- as the executor of threads does
            future.set_exception(error)
        return future


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _closed(closing: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
    try:
        await closing
    finally:
        loop.stop()


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    with suppress(RuntimeError):  # it is closed
        loop.call_soon_threadsafe(loop.stop)


_threads: set[EngineLoop] = set()
"""Those with a thread of their own."""


@atexit.register
def _at_exit() -> None:
    for engine in list(_threads):
        engine.end_at_exit()
