"""Finds the folder that a module is imported from, without importing it."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from attrs import frozen

from pyworkflow.config.coercion import did_you_mean
from pyworkflow.errors import ConfigError


@frozen
class Source:
    """The user's code: *module* is imported with *root* on the path."""

    root: Path
    module: str


def find_source(place: str) -> Source:
    """Return where the code of *place* is: a dotted name, searched in the current directory first, or a ``.py`` path.

    Raises:
        ConfigError: There is no such module, or its folder is not one to ship.
    """
    source = _by_path(place) if place.endswith(".py") else _by_name(place)
    root, parts = source.root, source.module.split(".")
    file = root.joinpath(*parts)
    if not (file.with_suffix(".py").is_file() or (file / "__init__.py").is_file()):
        others = [path.stem for path in file.parent.glob("*.py")]
        msg = f"there is no module {source.module!r} in {str(root)!r}{did_you_mean(parts[-1], others)}"
        raise ConfigError(msg)
    if {"site-packages", "dist-packages"} & set(root.parts):
        msg = f"{place!r} is installed in {str(root)!r}: deploy it from the folder that has its source"
        raise ConfigError(msg)
    if root in {Path.home().resolve(), Path(root.anchor)}:
        msg = f"{place!r} lies in {str(root)!r}, which holds more than its code: move it to a folder of its own"
        raise ConfigError(msg)
    return source


def _by_path(place: str) -> Source:
    path = Path(place).resolve()
    if not path.is_file():
        others = [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
        msg = f"there is no file {place!r}{did_you_mean(path.name, others)}"
        raise ConfigError(msg)
    parts, root = [path.stem], path.parent
    while (root / "__init__.py").is_file() and root != root.parent:
        parts.insert(0, root.name)
        root = root.parent
    if path.name == "__init__.py":
        parts.pop()
    return Source(root, _dotted(".".join(parts), place))


def _by_name(place: str) -> Source:
    top = _dotted(place, place).partition(".")[0]
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 -- a text, as the others there
    try:
        spec = importlib.util.find_spec(top)  # of a module in no package it runs nothing
    except ValueError:  # loaded by other means than a file
        spec = None
    finally:
        sys.path[:] = before
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    if places:
        return Source(Path(places[0]).resolve().parent, place)
    if spec is None or spec.origin is None or not spec.has_location:
        others = [file.stem for file in Path.cwd().glob("*.py")]
        msg = f"there is no module {top!r}{did_you_mean(top, others)} in {str(Path.cwd())!r}; a path ends in .py"
        raise ConfigError(msg)
    return Source(Path(spec.origin).resolve().parent, place)


def _dotted(name: str, place: str) -> str:
    if not all(part.isidentifier() for part in name.split(".")):
        msg = f"{place!r} is no name that Python can import: a module's dotted name, or a path that ends in .py"
        raise ConfigError(msg)
    return name
