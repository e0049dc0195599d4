"""Celery runtime for pyworkflow: workflows on Celery workers, over any broker."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyworkflow_celery.celery_application import celery_app, install
    from pyworkflow_celery.steps import step_from_celery

__all__ = ["celery_app", "install", "step_from_celery"]

_HOMES = {"celery_app": "celery_application", "install": "celery_application", "step_from_celery": "steps"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
