"""Sends messages from a thread of its own, so that a broker that does not answer holds nobody up."""

from __future__ import annotations

import logging
import os
import queue
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pyworkflow.config.masking import masked

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger(__name__)

_Message = tuple[Future[None], str, dict[str, Any]]

_WAITING = 1000  # hints that wait for a broker; what is more is dropped, as sweeps find the work all the same


class Sender:
    """Sends the messages of a process, one after the other; as a daemon it keeps no process from ending."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._queue: queue.Queue[_Message | None] = queue.Queue(_WAITING)
        self._pid = 0
        self._guard = threading.Lock()
        self._is_down = False

    def send(self, task: str, **options: Any) -> Future[None]:
        """Send a message; the future has the error if that failed."""
        self._start()
        future: Future[None] = Future()
        try:
            self._queue.put_nowait((future, task, options))
        except queue.Full:
            future.set_exception(ConnectionError("too many messages wait for the broker"))
        return future

    def close(self) -> None:
        """Have the thread end once it has sent what waits; the next message begins another one."""
        with self._guard:
            if self._pid == os.getpid():
                self._pid = 0
                with suppress(queue.Full):  # as the broker does not answer: then it stays, a daemon
                    self._queue.put_nowait(None)

    def _start(self) -> None:
        with self._guard:
            if self._pid != os.getpid():  # a fork takes no threads with it
                self._pid = os.getpid()
                self._queue = queue.Queue(_WAITING)
                threading.Thread(target=self._run, name="pyworkflow-sender", daemon=True, args=(self._queue,)).start()

    def _run(self, messages: queue.Queue[_Message | None]) -> None:
        while (message := messages.get()) is not None:
            future, task, options = message
            if not future.set_running_or_notify_cancel():
                continue
            try:
                self._app.send_task(task, serializer="json", retry=False, **options)
            except Exception as error:  # noqa: BLE001 -- each broker has errors of its own
                if not self._is_down:
                    logger.warning(
                        "the broker cannot be reached; workers find the work by themselves: %s", _text(error)
                    )
                self._is_down = True
                future.set_exception(ConnectionError(_text(error)))
            else:
                self._is_down = False
                future.set_result(None)


def _text(error: Exception) -> str:
    return masked(f"{type(error).__name__}: {error}")
