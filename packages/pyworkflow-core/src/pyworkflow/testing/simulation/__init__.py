"""Deterministic simulation: several processes on one storage, in virtual time, while everything fails that can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyworkflow.testing.simulation.seeds import shrink, simulate
    from pyworkflow.testing.simulation.world import Report

__all__ = ["Report", "shrink", "simulate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module("pyworkflow.testing.simulation.seeds"), name)
