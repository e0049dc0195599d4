"""The names that users import."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import pyworkflow


def test_no_module_stands_in_the_way_of_a_public_name() -> None:
    for module in pkgutil.iter_modules(pyworkflow.__path__):
        if module.name != "__main__":
            importlib.import_module(f"pyworkflow.{module.name}")
    assert [name for name in pyworkflow.__all__ if isinstance(getattr(pyworkflow, name), ModuleType)] == []


def test_the_public_names_are_sorted() -> None:
    assert list(pyworkflow.__all__) == sorted(pyworkflow.__all__)
