"""Plays all stories at once somewhere, and tells what came of each, in a form that can be compared."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from matrix_stories import LOG, TOKEN, Cell, Story

from pyworkflow import App
from pyworkflow.errors import RunCancelled
from pyworkflow.events import (
    Completed,
    Described,
    Event,
    Failed,
    Fired,
    OpenHook,
    Patched,
    Received,
    Requested,
    RunCompleted,
    RunContinued,
    RunFailed,
    StartChild,
    StartTimer,
)
from pyworkflow.events import RunCancelled as CancelledEvent
from pyworkflow.testing.runtime_kit.workflows import notes

PATIENCE = 60.0
PATCHED = "patched"


@frozen
class Told:
    """What came of a run.

    Attributes:
        result: Its result, or its error as a tuple of class name, arguments, and cause if it has one.
        effects: What its steps wrote, sorted.
        decisions: What the workflow decided, in order, and how the run ended; None where nothing is recorded.
        answers: How each operation was answered.
    """

    result: Any
    effects: Sequence[str]
    decisions: Sequence[Any] | None = None
    answers: dict[int, Any] | None = None


async def play(app: App, stories: Sequence[Story], folder: Path, *, recorded: bool) -> dict[str, Told]:
    """Play *stories* on the default runtime of *app*."""
    async with app:
        told = await asyncio.gather(*(_one(app, story, folder, recorded=recorded) for story in stories))
    return dict(zip((story.name for story in stories), told, strict=True))


async def _one(app: App, story: Story, folder: Path, *, recorded: bool) -> Told:
    cell = Cell(str(folder / story.name), f"{folder.name} {story.name}", recorded)
    given = {id(LOG): cell.log, id(TOKEN): cell.token}
    args = [given.get(id(arg), arg) for arg in story.args]
    handle = await app.start(story.flow, args)
    try:
        if story.meanwhile is not None:
            await story.meanwhile(app, handle, cell)
        result = await handle.result(timeout=PATIENCE)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 -- it is what is compared
        result = error_of(error)
    effects = sorted(notes(cell.log))
    if not recorded:
        return Told(result, effects)
    history = await handle.history()
    return Told(result, effects, decisions(history, cell), answers(history, cell))


def error_of(error: BaseException) -> tuple[Any, ...]:
    """Return an error as it is compared: a run that is cancelled in the caller's own task ends by asyncio's."""
    if isinstance(error, RunCancelled | asyncio.CancelledError):
        return ("RunCancelled",)
    cause = () if error.__cause__ is None else (error_of(error.__cause__),)
    return (type(error).__name__, *error.args, *cause)


def decisions(history: Sequence[Event], cell: Cell) -> list[Any]:
    """Return what a workflow decided, in order, without what differs from run to run."""
    found: list[Any] = []
    for event in history:
        match event:
            case Requested(command=StartTimer(op=op, name=name)):
                found.append((op, "timer", name))
            case Requested(command=OpenHook(op=op, name=name, typed=typed, many=many)):
                found.append((op, "hook", name, typed, many))
            case Requested(command=StartChild(op=op, name=name, args=args)):
                found.append((op, "child", name, scrubbed(args, cell)))
            case Requested(command=command):
                found.append((command.op, "step", command.name, scrubbed(command.args, cell)))
            case Patched(id=change):
                found.append((PATCHED, change))
            case Described(attributes=attributes):
                found.append(("says", attributes))
            case RunCompleted() | RunFailed() | CancelledEvent() | RunContinued():
                found.append(type(event).__name__)
    return found


def answers(history: Sequence[Event], cell: Cell) -> dict[int, Any]:
    """Return how each operation was answered, whenever that was."""
    found: dict[int, Any] = {}
    for event in history:
        match event:
            case Completed(op=op, value=value) | Received(op=op, value=value):
                found.setdefault(op, []).append((type(event).__name__, scrubbed(value, cell)))
            case Failed(op=op, error=error):
                found.setdefault(op, []).append(("Failed", error.type.rpartition(".")[2].rpartition(":")[2]))
            case Fired(op=op):
                found.setdefault(op, []).append(("Fired",))
    return dict(sorted(found.items()))


def scrubbed(value: Any, cell: Cell) -> str:
    """Return a value as text, without what differs from cell to cell."""
    text = json.dumps(value, sort_keys=True)
    return text.replace(json.dumps(cell.log)[1:-1], "LOG").replace(cell.token, "TOKEN")
