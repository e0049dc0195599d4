"""What a worker tells others of: ends, events, times at which to sweep, jobs for other workers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any

from attrs import frozen

from pyworkflow.engine.host import Listener
from pyworkflow.events import Event
from pyworkflow.model import Job


@frozen
class Signals:
    """Callbacks of a worker.

    Attributes:
        settle: Called with the id of a run that is released and, if it ended here, the event that ended it.
        wake_at: Called with a time at which to sweep for due jobs.
        notify: Called with jobs that became due for others. A hint: every worker's sweep finds them too.
        observe: Called with events that are now part of a history.
        ended: Called with the whole history of a run that ended here.
    """

    settle: Callable[[str, Event | None], None]
    wake_at: Callable[[datetime], None] = lambda _: None
    notify: Callable[[Sequence[Job]], Coroutine[Any, Any, None]] | None = None
    observe: Listener | None = None
    ended: Listener | None = None
