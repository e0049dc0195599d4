"""Durable runs on a storage: workers, leases, steps, and control from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyworkflow.engine.options import WorkerOptions
    from pyworkflow.engine.runtime import StoredRuntime

__all__ = ["StoredRuntime", "WorkerOptions"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    homes = {"StoredRuntime": "pyworkflow.engine.runtime", "WorkerOptions": "pyworkflow.engine.options"}
    if name not in homes:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(homes[name]), name)
