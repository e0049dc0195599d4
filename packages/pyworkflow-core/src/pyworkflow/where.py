"""Says at which line of a user's workflow a task waits."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

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
