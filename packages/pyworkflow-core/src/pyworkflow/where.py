"""Says what a workflow asked for, and at which line of it a task waits."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from pyworkflow.model import CallStep, Command, OpenHook, StartChild, StartTimer
from pyworkflow.plain import Plain

_OURS = str(Path(__file__).parent)
_STDLIB = str(Path(asyncio.__file__).parent)


def where_it_waits(task: asyncio.Task[Any] | None) -> str:
    """Return `` at flows.py:12, in 'payment_flow'`` for the innermost line of user code, or an empty string."""
    found: tuple[CodeType, int] | None = None
    awaited: Any = None if task is None else task.get_coro()
    while awaited is not None:
        frame: FrameType | None = getattr(awaited, "cr_frame", None)
        if frame is not None and not frame.f_code.co_filename.startswith((_OURS, _STDLIB)):
            found = frame.f_code, frame.f_lineno
        awaited = getattr(awaited, "cr_await", None)
    if found is None:
        return ""
    code, line = found
    return f" at {code.co_filename}:{line}, in {code.co_name!r}"


def describe(command: Command) -> str:
    """Return what a workflow asked for, in words."""
    match command:
        case CallStep(name=name, args=args, kwargs=kwargs):
            return f"step {_call(name, args, kwargs)}"
        case StartChild(name=name, args=args, kwargs=kwargs):
            return f"workflow {_call(name, args, kwargs)}"
        case OpenHook(name=name):
            return f"hook {name!r}"
        case StartTimer(delay=None, until=until):
            return f"a timer until {until}"
        case StartTimer(delay=delay):
            return f"a timer of {delay:g} s"


def _call(name: str, args: Plain, kwargs: Plain) -> str:
    shown = [repr(value) for value in args]
    shown += [f"{key}={value!r}" for key, value in kwargs.items()]
    text = ", ".join(shown)
    return f"{name}({text if len(text) <= 80 else text[:77] + '...'})"  # noqa: PLR2004 -- a line's worth
