"""The threads of one invocation, on which its operations run."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class Threads:
    """Threads for the operations of one invocation: as many as there are calls at once, up to *most*, ended by `close`.

    Lighter than an executor, which makes objects for each call: every step of a run is one.
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
        """Note that one of the calls has ended."""
        self._busy -= 1

    def close(self) -> None:
        """Wait for the running calls, and end the threads: the sandbox is frozen after the invocation."""
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _work(self) -> None:
        while (function := self._calls.get()) is not None:
            function()
