"""Imports modules as ``python -m`` would, and finds workflows in them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from pyworkflow.authoring.definitions import Step, Workflow
from pyworkflow.cli.view.wording import one_line
from pyworkflow.config.coercion import did_you_mean
from pyworkflow.errors import ConfigError, WorkflowError


def load_workflow(target: str) -> Workflow[..., Any]:
    """Return the workflow of ``MODULE:WORKFLOW``; a module is a dotted name or a path that ends in ``.py``.

    Raises:
        ConfigError: There is no such module or workflow; the message lists what the module has.
    """
    place, colon, name = target.rpartition(":")
    if not colon:
        place = target
    module = load_module(place)
    found = workflows_of(module)
    if not name or not colon:
        msg = f"{target!r} does not say which workflow: write MODULE:WORKFLOW; {_has(place, found)}"
        raise ConfigError(msg)
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part, None)
    if isinstance(value, Workflow):
        return value
    by_name = {workflow.name: workflow for workflow in found.values()}
    if name in by_name:
        return by_name[name]
    if value is None:
        msg = f"there is no workflow {name!r} in {place!r}{did_you_mean(name, found)}; {_has(place, found)}"
    elif isinstance(value, Step):
        msg = f"{name!r} in {place!r} is a step, and only workflows can be run; {_has(place, found)}"
    else:
        msg = f"{name!r} in {place!r} is not a workflow: put @workflow on it; {_has(place, found)}"
    raise ConfigError(msg)


def workflows_of(module: ModuleType) -> dict[str, Workflow[..., Any]]:
    """Return the workflows that *module* declares or imports, by attribute."""
    return {name: value for name, value in vars(module).items() if isinstance(value, Workflow)}


def _has(place: str, found: dict[str, Workflow[..., Any]]) -> str:
    if not found:
        return f"{place!r} has no workflows at all"
    return f"{place!r} has: {', '.join(sorted(found))}"


def load_module(place: str) -> ModuleType:
    """Import a module by its dotted name, looked for in the current directory first, or by its path.

    Raises:
        ConfigError: There is none, or importing it failed.
    """
    if place.endswith(".py"):
        return _from_file(place)
    _prefer(str(Path.cwd()))
    if not all(part.isidentifier() for part in place.split(".")):
        hint = f"; did you mean {place + '.py'!r}?" if Path(f"{place}.py").is_file() else ""
        msg = f"{place!r} is neither a module's dotted name nor a path that ends in .py{hint}"
        raise ConfigError(msg)
    return _import(place, place)


def _from_file(place: str) -> ModuleType:
    path = Path(place).resolve()
    if not path.is_file():
        others = [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
        msg = f"there is no file {place!r}{did_you_mean(path.name, others)}"
        raise ConfigError(msg)
    # Within a package a module is imported by its full name, so that its relative imports work.
    parts, root = [path.stem], path.parent
    while (root / "__init__.py").is_file() and root != root.parent:
        parts.insert(0, root.name)
        root = root.parent
    if path.name == "__init__.py":
        parts.pop()
    _prefer(str(root))
    name = ".".join(parts)
    if not all(part.isidentifier() for part in parts):
        return _execute(name, path, place)
    module = _import(name, place)
    file = getattr(module, "__file__", None)
    if file is None or Path(file).resolve() != path:
        msg = (
            f"{place!r} cannot be imported, as there is another module {name!r}: {file or 'a built-in one'}; rename it"
        )
        raise ConfigError(msg)
    return module


def _execute(name: str, path: Path, place: str) -> ModuleType:
    """Import a file whose name no import statement could say."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        msg = f"{place!r} cannot be imported"
        raise ConfigError(msg)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise _failed(place, error) from error
    return module


def _import(name: str, place: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            folder = Path.cwd()
            others = [file.stem for file in folder.glob("*.py")] + [
                file.parent.name for file in folder.glob("*/__init__.py")
            ]
            guess = did_you_mean(name, others) if "." not in name else ""
            msg = f"there is no module {error.name!r}{guess}, neither in {str(folder)!r} nor installed"
            raise ConfigError(msg) from None
        raise _failed(place, error) from error
    except BaseException as error:
        raise _failed(place, error) from error


def _failed(place: str, error: BaseException) -> BaseException:
    if isinstance(error, WorkflowError | KeyboardInterrupt):
        return error  # it says enough itself: a workflow that is declared wrongly, a setting
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames and not isinstance(error, SyntaxError) else ""
    what = one_line(f"{type(error).__name__}: {error}")
    return ConfigError(f"{place!r} could not be imported: {what}{where}; with -v the whole traceback is shown")


def _prefer(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)
