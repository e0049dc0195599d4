"""Error texts of a replay that differs from its history: what was requested, and at which line a task waits."""

from __future__ import annotations

import asyncio
import os
import traceback
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from pyworkflow.errors import RunBlocked
from pyworkflow.events import (
    CallStep,
    Command,
    Event,
    OpenHook,
    Plain,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    StartChild,
    StartTimer,
)

_ENDED: dict[type[Event], str] = {
    RunCompleted: "returned",
    RunFailed: "failed",
    RunCancelled: "was cancelled",
    RunContinued: "continued as a new run",
}

_OURS = str(Path(__file__).parent.parent)
_STDLIB = str(Path(asyncio.__file__).parent)
_NOBODYS = _OURS, str(Path(os.__file__).parent)
_LINE = 80


def ends_its_process(error: BaseException) -> RunBlocked:
    """Return what to raise for a workflow that calls ``sys.exit()``: its run is blocked, and its worker goes on."""
    frames = traceback.extract_tb(error.__traceback__)
    users = [one for one in frames if not one.filename.startswith(_NOBODYS) and "site-packages" not in one.filename]
    where = "".join(f" at {frame.filename}:{frame.lineno}" for frame in (users or frames)[-1:])
    msg = f"the workflow raised {error!r}{where}; a workflow that is to end returns, or raises an error of its own"
    return RunBlocked(msg)


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


def difference(recorded: Command, asked: Command | None, task: asyncio.Task[Any] | None) -> str:
    """Return what a history has, what the workflow asks for in its place, at which line of *task*, and what to do."""
    now = "asks for nothing more" if asked is None else f"asks for {describe(asked, recorded)}"
    if type(asked) is type(recorded) and asked is not None and asked.name == recorded.name:
        advice = (
            "Does it pass on what differs from time to time, or from process to process? `pyworkflow check` finds "
            "that; have it from a @step. If its code was changed while the run was in progress, put the old code back. "
            "Then retry the run"
        )
    else:
        advice = (
            "Was its code changed while the run was in progress? Put the old order back, or let new runs take the new "
            "code, then retry the run"
        )
    was = describe(recorded, asked)
    return f"operation {recorded.op} was recorded as {was}; now the workflow {now}{where_it_waits(task)}. {advice}"


def difference_of_ends(recorded: Event, outcome: Event | None, task: asyncio.Task[Any] | None) -> str:
    """Return how a history ends, and what the workflow, which is *task*, does in place of that."""
    now = "goes on" if outcome is None else _ENDED[type(outcome)]
    was = _ENDED[type(recorded)]
    return f"when it was recorded the workflow {was} here; now it {now}{where_it_waits(task)}"


def describe(command: Command, other: Command | None = None) -> str:
    """Return a request in words that tell it from the *other* one."""
    match command:
        case CallStep(name=name) | StartChild(name=name):
            what = "step" if isinstance(command, CallStep) else "workflow"
            args, same = _arguments(command), {} if other is None else _arguments(other)
            text = ", ".join(f"{key}={value}" if key.isidentifier() else value for key, value in args.items())
            if len(text) > _LINE and type(other) is type(command) and same.keys() == args.keys():
                text = ", ".join(_apart(key, value, same[key]) for key, value in args.items())
            return f"{what} {name}({_cut(text)})"
        case OpenHook(name=name):
            return f"hook {name!r}"
        case StartTimer(delay=None, until=until):
            return f"a timer until {until}"
        case StartTimer(delay=delay):
            return f"a timer of {delay:g} s"


def _arguments(command: Command) -> dict[str, str]:
    """Return the arguments of a call: positional ones by number."""
    if not isinstance(command, CallStep | StartChild):
        return {}
    named: dict[str, Plain] = {**{str(place): value for place, value in enumerate(command.args)}, **command.kwargs}
    return {key: repr(value) for key, value in named.items()}


def _apart(key: str, value: str, other: str) -> str:
    """Return an argument from a little before where it differs from another one, or an ellipsis if it does not."""
    label = f"{key}=" if key.isidentifier() else ""
    if value == other:
        return f"{label}..."
    begin = max(0, next((n for n, (a, b) in enumerate(zip(value, other, strict=False)) if a != b), len(other)) - 10)
    return f"{label}{'...' if begin else ''}{_cut(value[begin:], _LINE // 2)}"


def _cut(text: str, limit: int = _LINE) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
