"""Whether two functions under one name are one definition that was read twice, or two."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from types import CellType
from typing import Any

_RENAME = '; give one of them another name: @{what}(name="…")'


def difference_of(old: Callable[..., Any], new: Callable[..., Any]) -> str:
    """Return the end of a sentence that says why *new* may not take the place of *old*, or nothing if it may.

    It may if it is the same code read again: a module that is reloaded, or run as a script and imported, the cell of a
    notebook, a function that is declared each time that another one is called. That one has to close over the same
    values each time, as there is one definition for all of its runs.
    """
    if not _is_same_code(old, new):
        return _RENAME
    if differing := _differing(old, new):
        return (
            f", which close over other values of {differing}; there is one {{what}} of a name, so pass the value as an "
            'argument, or give each a name: @{what}(name=f"…")'
        )
    return ""


def place_of(function: Callable[..., Any]) -> str:
    """Return where a function is defined, as ``flows.py:12``."""
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def _is_same_code(old: Callable[..., Any], new: Callable[..., Any]) -> bool:
    a, b = old.__code__, new.__code__
    if b.co_filename.startswith("<") or "ipykernel" in b.co_filename:
        return old.__qualname__ == new.__qualname__ and old.__module__ == new.__module__
    if (a.co_filename, old.__qualname__) != (b.co_filename, new.__qualname__):
        return False
    # Its lines move where a file is changed and read again; if both lines are there now, they are two functions.
    return a.co_firstlineno == b.co_firstlineno or _definitions(b.co_filename, new.__qualname__) == 1


def _definitions(file: str, qualname: str) -> int:
    """Return how many functions of *file* have a qualified name, as it is on disk now."""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return 0
    return sum(1 for name in _names(tree, "") if name == qualname)


def _names(node: ast.AST, prefix: str) -> list[str]:
    found = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            found += [prefix + child.name, *_names(child, f"{prefix}{child.name}.<locals>.")]
        elif isinstance(child, ast.ClassDef):
            found += _names(child, f"{prefix}{child.name}.")
        else:
            found += _names(child, prefix)
    return found


def _differing(old: Callable[..., Any], new: Callable[..., Any]) -> str:
    """Return the names of what two functions of the same code close over, or have as defaults, and that differs."""
    cells = zip(new.__code__.co_freevars, old.__closure__ or (), new.__closure__ or (), strict=False)
    names = [name for name, one, other in cells if not _is_same_cell(one, other)]
    if not _is_same((old.__defaults__, old.__kwdefaults__), (new.__defaults__, new.__kwdefaults__)):
        names.append("its defaults")
    return ", ".join(repr(name) if name.isidentifier() else name for name in names)


def _is_same_cell(one: CellType, other: CellType) -> bool:
    try:
        return _is_same(one.cell_contents, other.cell_contents)
    except ValueError:  # one is empty still: a function that closes over itself, or over what is defined below it
        return True


def _is_same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if callable(one) and callable(other) and hasattr(one, "__code__") and hasattr(other, "__code__"):
        return one.__code__ is other.__code__ and not _differing(one, other)
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # noqa: BLE001 -- a user's __eq__ may raise anything
        return False
