"""One operation as AWS records it, and the form in which commands are recorded."""

from __future__ import annotations

import json
import zlib
from typing import Any

from attrs import frozen

from pyworkflow.events import CallStep, OpenHook, StartChild, StartTimer

STEP, WAIT, CALLBACK = "STEP", "WAIT", "CALLBACK"

_WORDS = {STEP: "step", WAIT: "timer", CALLBACK: "hook"}

OURS = "pyworkflow."
"""The prefix of the names of our own operations, which are no commands of workflows."""

MAX_NAME = 256
SHORT = 1.0
"""Seconds below which a timer is waited for in the function: the service counts in whole seconds."""


@frozen
class Fault:
    """The error of an operation as it is recorded; *data* is ours, if we recorded it."""

    kind: str
    message: str
    data: str | None = None


@frozen
class Recorded:
    """An operation as it is recorded.

    Attributes:
        kind: ``STEP``, ``WAIT``, ``CALLBACK``.
        name: Its name.
        label: Its subtype.
        ended: Whether it has a result.
        at: When it ended, in milliseconds.
        payload: What it gave, or was sent.
        fault: How it failed.
        timed_out: It is a callback that was not answered in time.
        wakes: When, as a timestamp, the service resumes it by itself.
        put_off: It is a step that waits for its next attempt.
        callback: The id by which it is answered.
    """

    kind: str
    name: str
    label: str = ""
    ended: bool = False
    at: int = 0
    payload: str | None = None
    fault: Fault | None = None
    timed_out: bool = False
    wakes: float | None = None
    put_off: bool = False
    callback: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is our own, and not a command of a workflow."""
        return self.name.startswith(OURS)

    def __str__(self) -> str:
        return f"{_WORDS.get(self.kind, 'operation')} {self.name!r}"


@frozen
class Wanted:
    """The form in which a command is recorded.

    Attributes:
        kind: Its kind; a timer may be of two, as its length is rounded where it is waited for.
        name: Its name.
        label: Its subtype, with a digest of a step's arguments; empty: any.
    """

    kind: str
    name: str
    label: str = ""

    def fits(self, recorded: Recorded) -> bool:
        """Whether *recorded* may be this operation."""
        if self.name != recorded.name or (self.label and self.label != recorded.label):
            return False
        return self.kind == recorded.kind or (self.kind == WAIT and recorded.kind == STEP)

    def __str__(self) -> str:
        return f"{_WORDS[self.kind]} {self.name!r}"


def wanted(command: Any) -> Wanted:
    """Return the form in which a command is recorded."""
    match command:
        case CallStep(name=name, args=args, kwargs=kwargs):
            digest = zlib.crc32(json.dumps([args, kwargs], sort_keys=True).encode())
            return Wanted(STEP, printable(name), f"Step-{digest:08x}")
        case StartChild(name=name):
            return Wanted(STEP, printable(f"start {name}"))
        case StartTimer(name=name):
            return Wanted(WAIT, printable(name))
        case OpenHook(name=name, token=token):
            return Wanted(CALLBACK, hook_name(name, token))
    msg = f"{command!r} is no operation that is recorded"
    raise TypeError(msg)


def hook_name(name: str, digest: str) -> str:
    """Return the name of a hook's callback: by the digest of its token, its last word, it is found."""
    return f"{printable(name)[: MAX_NAME - 70]} {digest}"


def printable(name: str) -> str:
    """Return *name* as the service takes it: up to 256 printable characters of ASCII."""
    text = "".join(c if " " <= c <= "~" else "?" for c in name)[:MAX_NAME]
    return text or "?"
