"""Values, calls, errors, times and events in words, each on one line and safe to print on a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from pyworkflow.config.durations import text as duration
from pyworkflow.events import (
    Abandoned,
    Attempted,
    CallStep,
    CancelRequested,
    ChildContinued,
    Command,
    Completed,
    Described,
    ErrorRecord,
    Event,
    Failed,
    Fired,
    HandedOut,
    OpenHook,
    Patched,
    Plain,
    Posted,
    Received,
    Requested,
    Retrying,
    RunBlocked,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunRetried,
    RunStarted,
    RunTerminated,
    StartChild,
    StartTimer,
)
from pyworkflow.model import Run


def cut(text: str, limit: int) -> str:
    """Return *text* in at most *limit* characters."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


def one_line(text: str) -> str:
    """Return *text* with its line breaks as spaces and without anything that a terminal would obey."""
    text = " ".join(text.split())
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def value(plain: Plain | None, limit: int = 200) -> str:
    """Return a stored value as JSON."""
    # Cut before the slow part: a value may have megabytes.
    return cut(one_line(json.dumps(plain, ensure_ascii=False)[: 2 * limit]), limit)


def arguments(args: Plain, kwargs: Plain, limit: int = 60, each: int = 24) -> str:
    """Return the arguments of a call, each cut to *each* and all to *limit* characters."""
    shown = [value(arg, each) for arg in cast("list[Plain]", args)]
    shown += [f"{one_line(name)}={value(arg, each)}" for name, arg in cast("Mapping[str, Plain]", kwargs).items()]
    return cut(", ".join(shown), limit)


def call(name: str, args: Plain, kwargs: Plain, limit: int = 60) -> str:
    """Return a call in at most *limit* characters."""
    name = cut(one_line(name), limit - 2)
    return f"{name}({arguments(args, kwargs, max(1, limit - len(name) - 2))})"


def operation(command: Command, limit: int = 60) -> str:
    """Return what a workflow asked for."""
    match command:
        case CallStep(name=name, args=args, kwargs=kwargs):
            return call(name, args, kwargs, limit)
        case StartTimer(name=name, until=datetime() as until):
            return cut(f"{one_line(name)} until {moment(until)}", limit)
        case StartTimer(name=name, delay=delay):
            return cut(f"{one_line(name)} {duration(delay or 0.0)}", limit)
        case OpenHook(name=name):
            return cut(f"hook {one_line(name)}", limit)
        case StartChild(name=name, args=args, kwargs=kwargs):
            return f"run {call(name, args, kwargs, limit - 4)}"


def type_name(record: ErrorRecord) -> str:
    """Return the name of an error's class as a traceback would: with its module, unless that is ``builtins``."""
    module, _, name = record.type.partition(":")
    return name if module in {"builtins", "__main__"} else f"{module}.{name}"


def error(record: ErrorRecord, limit: int = 500) -> str:
    """Return an error's class and message."""
    name = type_name(record).rpartition(".")[2]
    return cut(one_line(f"{name}: {record.message}" if record.message else name), limit)


def moment(at: datetime) -> str:
    """Return a time, to the second, in the time zone of this machine."""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def between(start: datetime, end: datetime) -> str:
    """Return how long it is from *start* to *end*."""
    return duration(max(0.0, (end - start).total_seconds()))


def happened(event: Event, names: Mapping[int, str]) -> tuple[str, str]:  # noqa: C901, PLR0911, PLR0912 -- one for each event
    """Return a word for *event* and the rest of its line; *names* has the name of each operation."""

    def which(op: int) -> str:
        return f"#{op} {names.get(op, '')}".rstrip()

    match event:
        case RunStarted(workflow=workflow, args=args, kwargs=kwargs):
            return "started", call(workflow, args, kwargs, 200)
        case Requested(command=command):
            return "requested", f"#{command.op} {operation(command, 200)}"
        case Completed(op=op, value=result):
            return "completed", f"{which(op)}: {value(result)}"
        case Failed(op=op, error=record):
            return "failed", f"{which(op)}: {error(record)}"
        case Fired(op=op):
            return "fired", which(op)
        case Received(op=op, value=payload):
            return "received", f"{which(op)}: {value(payload)}"
        case Posted(name=name, value=payload):
            return "posted", f"for hook {one_line(name)}: {value(payload)}"
        case Abandoned(op=op):
            return "abandoned", which(op)
        case ChildContinued(op=op, run_id=run_id):
            return "went on", f"{which(op)} as {run_id}"
        case Described(attributes=attributes):
            return "described", ", ".join(f"{name}: {value(one)}" for name, one in attributes.items())
        case Patched(id=name):
            return "patched", one_line(name)
        case HandedOut(ops=ops):
            return "dispatched", ", ".join(map(which, ops))
        case Attempted(op=op, attempt=number):
            return "recovered", f"{which(op)}: its worker was lost; attempt {number} begins"
        case Retrying(at=at, op=op, attempt=number, error=record, due=due):
            after = between(at, due)
            return "retrying", f"{which(op)}: attempt {number} failed: {error(record)}; the next one in {after}"
        case RunFailed(error=record) | RunBlocked(error=record):
            return ("run failed" if isinstance(event, RunFailed) else "run blocked"), error(record)
        case RunCompleted(value=result):
            return "run completed", value(result)
        case CancelRequested(reason=reason):
            return "cancel asked", one_line(reason)
        case RunCancelled():
            return "run cancelled", ""
        case RunTerminated(reason=reason):
            return "run terminated", one_line(reason)
        case RunContinued(run_id=run_id):
            return "run continued", f"as {run_id}"
        case RunRetried(cut=number):
            return "run retried", f"events from {number} on count no more" if number else ""


def names_of(events: Any) -> dict[int, str]:
    """Return the names of the operations in a history, by number."""
    return {event.command.op: one_line(event.command.name) for event in events if isinstance(event, Requested)}


def status(run: Run) -> str:
    """Return how a run is doing, with what its workflow says of that."""
    said = run.attributes.get("status")
    return f"{run.status.value}: {cut(one_line(str(said)), 40)}" if said is not None else run.status.value
