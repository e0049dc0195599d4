"""Shows that a worker lives, from a thread of its own: a busy event loop cannot keep a lease from being renewed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Heartbeat(threading.Thread):
    """Calls *beat* every *interval* seconds until stopped, sooner again after an error; in the end calls *last*."""

    def __init__(self, beat: Callable[[], object], last: Callable[[], object], interval: float) -> None:
        super().__init__(name="pyworkflow-heartbeat", daemon=True)
        self._beat = beat
        self._last = last
        self._interval = interval
        self._stopped = threading.Event()

    def run(self) -> None:
        """Beat until `stop`."""
        pause = self._interval
        while not self._stopped.wait(pause):
            try:
                self._beat()
                pause = self._interval
            except Exception as error:  # noqa: BLE001 -- a storage may fail in any way, and may recover
                logger.warning("the lease could not be renewed, trying again: %s", error)
                pause = self._interval / 4

    def stop(self, *, release: bool = True) -> None:
        """Beat no more; returns when the last beat is over."""
        self._stopped.set()
        if self.is_alive():
            self.join()
        if not release:
            return
        try:
            self._last()
        except Exception as error:  # noqa: BLE001 -- others have to wait for the lease to lapse then, no more
            logger.warning("the lease could not be released; it will lapse: %s", error)
