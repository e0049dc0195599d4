"""Suppresses during replay what the workflow logged in an earlier invocation."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_depth = 0
_before = logging.NOTSET


@contextmanager
def muted(*, replaying: bool) -> Iterator[None]:
    """Log nothing if *replaying*: no step runs before a replay has ended, so that nothing else is lost."""
    if not replaying:
        yield
        return
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(step: int) -> None:
    global _depth, _before  # noqa: PLW0603 -- logging is the process's, too
    with _lock:
        if step > 0 and not _depth:
            _before = logging.root.manager.disable
            logging.disable(logging.CRITICAL)
        _depth += step
        if not _depth:
            logging.disable(_before)
