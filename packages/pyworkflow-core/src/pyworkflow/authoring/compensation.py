"""Undoing: when a workflow fails or is cancelled, what its completed steps did is undone in reverse (a saga)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyworkflow.authoring.context import Undo
from pyworkflow.codec.signature import required_parameters
from pyworkflow.errors import DefinitionError, UndoFailed

if TYPE_CHECKING:
    from pyworkflow.authoring.context import WorkflowContext

RESULT = "result"
"""The parameter of an undo step that is given the result of the step to undo."""


def check_undo(step: Any, undo: Any) -> None:
    """Refuse an undo step that could not be called.

    Raises:
        DefinitionError: It is no step, or has a parameter that is neither ``result`` nor one of *step*.
    """
    if getattr(undo, "kind", None) != "step":
        msg = f"undo={undo!r} of step {step.name!r}: give a step, declared above it"
        raise DefinitionError(msg)
    known = {RESULT, *inspect.signature(step.function).parameters}
    if unknown := [name for name in required_parameters(undo.function) if name not in known]:
        msg = (
            f"step {undo.name!r} cannot undo step {step.name!r}: its parameter {unknown[0]!r} is neither a parameter "
            f"of that step nor {RESULT!r}, which is given that step's result"
        )
        raise DefinitionError(msg)


async def call_undoable(context: WorkflowContext, step: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Request *step*, and note how to undo it."""
    result = await context.call_step(step, args, kwargs)
    undo = step.options.undo
    assert undo is not None  # noqa: S101 -- why this is called
    bound = inspect.signature(step.function).bind(*args, **kwargs)
    bound.apply_defaults()
    given = {**bound.arguments, RESULT: result}
    wanted = inspect.signature(undo.function).parameters
    context.undos.append(Undo(undo, {name: given[name] for name in wanted if name in given}))
    return result


async def undo_all(context: WorkflowContext | None, error: BaseException) -> None:
    """Undo what is noted, last first; one that fails does not keep the others from being undone.

    Raises:
        UndoFailed: One or more failed for good; its cause is the first one's error, whose context is *error*.
    """
    if context is None or not context.undos:
        return
    failures: list[tuple[str, Exception]] = []
    while context.undos:
        undo = context.undos.pop()
        try:
            await context.call_step(undo.step, (), undo.kwargs)
        except Exception as failure:  # noqa: BLE001 -- a step may raise anything
            failures.append((undo.step.name, failure))
    if failures:
        raise UndoFailed(_report(failures, error)) from failures[0][1]


def _report(failures: Sequence[tuple[str, Exception]], error: BaseException) -> str:
    failed = ", ".join(f"step {name!r} failed: {failure}" for name, failure in failures)
    return f"the workflow ended by {type(error).__name__}: {error}; while it was undone, {failed}"
