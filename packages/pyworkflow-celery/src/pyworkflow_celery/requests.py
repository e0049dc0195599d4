"""How workers receive our messages: what one is about counts, and none of the options that it carries.

Whoever can write to the broker chooses the options of a message too: a time limit by which Celery kills the process
that executes the task, and with it a step of a durable run; a time before which it is kept in memory; names that are
logged. A message is a hint, so nothing is lost by ignoring them.
"""

from __future__ import annotations

import re
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker.request import Request

NO_LIMIT = 10 * 365 * 86_400
"""Seconds; Celery has no way to say that an app's `task_time_limit` is not meant for a task."""

_OPTIONS = ("timelimit", "eta", "expires", "retries", "shadow", "ignore_result", "argsrepr", "kwargsrepr", "origin")
_ID = re.compile(r"[A-Za-z0-9._:~-]{1,200}")


class OurRequest(Request):  # type: ignore[misc]  # Celery has no types
    """A message of one of our tasks, without its options."""

    def __init__(self, message: Any, headers: dict[str, Any] | None = None, **options: Any) -> None:
        found = message.headers if headers is None else headers
        if not isinstance(found.get("id"), str) or not _ID.fullmatch(found["id"]):
            msg = "the id of the task has to be 1 to 200 letters, digits and . _ : ~ -"
            raise InvalidTaskError(msg)
        kept = {name: value for name, value in found.items() if name not in _OPTIONS}
        super().__init__(message, headers=kept, **options)
