"""Finds the files to check: by path, by folder, or by a module's name, without importing anything."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from attrs import frozen

from pyworkflow.config.coercion import did_you_mean
from pyworkflow.errors import ConfigError


@frozen
class Source:
    """A file, and the dotted name that its module is imported by."""

    path: Path
    module: str


def sources(target: str) -> list[Source]:
    """Return the files of a target, sorted by path.

    Args:
        target: A file, a folder, which is searched with all that is in it, or the dotted name of a module or package,
            looked for in the current directory first.

    Raises:
        ConfigError: There is no such thing, or no Python in it.
    """
    path = Path(target)
    if not path.exists():
        path = _located(target)
    if path.is_dir():
        files = sorted(_python_in(path))
        if not files:
            msg = f"there are no Python files in {target!r}; give a file, a folder or a module that has some"
            raise ConfigError(msg)
        return [Source(file, module_name(file)) for file in files]
    return [Source(path, module_name(path))]


def _python_in(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = [name for name in folders if not _skipped(here / name)]
        yield from (here / name for name in files if name.endswith(".py"))


def _skipped(folder: Path) -> bool:
    """Return whether a folder holds code of others: environments, caches, what is hidden."""
    name = folder.name
    return name.startswith(".") or name in {"__pycache__", "node_modules"} or (folder / "pyvenv.cfg").exists()


def module_name(path: Path) -> str:
    """Return the dotted name of the module in a file, by the packages around it."""
    path = path.resolve()
    parts, folder = ([] if path.name == "__init__.py" else [path.stem]), path.parent
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)


def _located(name: str) -> Path:
    """Return the file, or the folder, of a module."""
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(_missing(name))
    spec: ModuleSpec | None = None
    done: list[str] = []
    for part in name.split("."):
        done.append(part)
        inside = list(spec.submodule_search_locations or []) if spec is not None else None
        spec = _spec(".".join(done), inside)
        if spec is None:
            where = f"in {'.'.join(done[:-1])!r}" if done[1:] else "neither in the current directory nor installed"
            msg = f"there is no module {'.'.join(done)!r}{_guess(name)}, {where}; give its name, or a path"
            raise ConfigError(msg)
    assert spec is not None  # noqa: S101 -- a name has at least one part
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    if spec.origin is None or not spec.origin.endswith(".py"):
        msg = f"module {name!r} has no Python source to check; it is {spec.origin or 'of unknown origin'}"
        raise ConfigError(msg)
    return Path(spec.origin)


def _spec(name: str, inside: list[str] | None) -> ModuleSpec | None:
    """Ask the finders one by one: `importlib.util.find_spec` imports the packages around a module."""
    if inside is None and (found := PathFinder.find_spec(name, [str(Path.cwd())])) is not None and found.origin:
        return found
    specs = (finder.find_spec(name, inside) for finder in sys.meta_path)
    return next((spec for spec in specs if spec is not None), None)


def _guess(name: str) -> str:
    here = Path.cwd()
    others = [file.stem for file in here.glob("*.py")] + [file.parent.name for file in here.glob("*/*.py")]
    return did_you_mean(name, others)


def _missing(target: str) -> str:
    module, colon, _ = target.rpartition(":")
    if colon and module:
        return f"{target!r} names one workflow, and whole modules are checked: give {module!r}"
    path = Path(target)
    others = [file.name for file in path.parent.glob("*")] if path.parent.is_dir() else []
    return f"there is no file or folder {target!r}{did_you_mean(path.name, others)}, and it is no module's dotted name"
