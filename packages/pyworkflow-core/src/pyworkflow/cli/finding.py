"""Runs by their ids, which people abbreviate."""

from __future__ import annotations

from typing import Any

from pyworkflow.engine.runtime import StoredRuntime
from pyworkflow.errors import ConfigError, RunNotFound, Unsupported
from pyworkflow.events import Event
from pyworkflow.model import Run, RunQuery
from pyworkflow.ports import DurableRuntime

_ABBREVIATED = 1000
"""Among so many of the newest runs an abbreviated id is looked for."""


async def tell(runtime: DurableRuntime, text: str, what: str, *args: Any) -> str:
    """Call the method *what* of a runtime for a run; return the run's id."""
    run_id = await find(runtime, text)
    await getattr(runtime, what)(run_id, *args)
    return run_id


async def find_history(runtime: DurableRuntime, text: str) -> tuple[Run, list[Event]]:
    """Return the run that *text* is the id of, or an abbreviation, and its events."""
    try:
        return await runtime.history(text)
    except RunNotFound:
        return await runtime.history(await find(runtime, text))


async def find(runtime: DurableRuntime, text: str) -> str:
    """Return the id of the run that *text* is the id of, or an abbreviation."""
    try:
        return (await runtime.run(text)).id
    except RunNotFound as error:
        newest = (await runtime.runs(RunQuery(limit=_ABBREVIATED))).runs
        found = [run.id for run in newest if text and run.id.startswith(text)]
        if not found:
            raise RunNotFound(f"{error}; see: pyworkflow runs list, or name another place with --storage") from None
        if len(found) > 1:
            shown = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")  # noqa: PLR2004 -- a line's worth
            msg = f"{text!r} may be any of {len(found)} runs: {shown}"
            raise ConfigError(msg) from None
        return found[0]


def stored(runtime: DurableRuntime) -> StoredRuntime:
    """Return *runtime* if its runs are in a storage of ours.

    Raises:
        Unsupported: It keeps them itself.
    """
    if not isinstance(runtime, StoredRuntime):
        msg = f"{type(runtime).__name__} keeps its runs itself, so this cannot be done with them"
        raise Unsupported(msg)
    return runtime
