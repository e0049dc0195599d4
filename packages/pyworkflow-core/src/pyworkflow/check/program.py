"""The modules that are checked together, and which of their functions are workflows and steps."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path

from attrs import define, frozen

from pyworkflow.check.names import Function, Scope, scope_of
from pyworkflow.check.noqa import Exceptions, exceptions_in
from pyworkflow.check.sources import Source

_DEPTH = 8
API = frozenset(
    {
        "cancel",
        "continue_as_new",
        "get_run",
        "history",
        "list_hooks",
        "list_runs",
        "resume_hook",
        "retry_run",
        "sleep",
        "start",
        "terminate",
        "wait",
    }
)
"""What of the package has to be awaited."""

_COROUTINES = frozenset({"asyncio.sleep", "asyncio.wait_for"} | {f"pyworkflow.{name}" for name in API})


class Kind(Enum):
    """What a function is to a run."""

    WORKFLOW = "workflow"
    STEP = "step"
    COROUTINE = "coroutine"


_DECORATORS = {
    f"{module}.{kind.value}": kind
    for module in ("pyworkflow", "pyworkflow.decorators")
    for kind in (Kind.WORKFLOW, Kind.STEP)
}


@frozen(eq=False)
class Module:
    """A file that could be parsed."""

    path: Path
    scope: Scope
    lines: list[bytes]
    exceptions: Exceptions

    def column(self, line: int, offset: int) -> int:
        """Return the column, in characters from 1, of a place given in bytes from 0."""
        return len(self.lines[line - 1][:offset].decode(errors="replace")) + 1


def parse(source: Source) -> Module:
    """Read a file.

    Raises:
        SyntaxError: It is not Python, or not of the version that this runs on.
        ValueError: It has a NUL byte, or is not text.
        OSError: It cannot be read.
        RecursionError: It is nested too deeply; `MemoryError` where the parser notices.
    """
    content = source.path.read_bytes()
    tree = ast.parse(content, str(source.path))
    scope = scope_of(tree, source.module, package=source.path.name == "__init__.py")
    return Module(source.path, scope, content.splitlines(), exceptions_in(content))


@define
class Program:
    """Modules that may import each other."""

    modules: dict[str, Module]

    @classmethod
    def of(cls, modules: Iterable[Module]) -> Program:
        """Return the program of these modules."""
        return cls({module.scope.module: module for module in modules})

    def kind_of(self, node: ast.expr, scope: Scope) -> Kind | None:
        """Return what is called by calling *node*; None: something else."""
        if isinstance(node, ast.Name) and (owner := scope.owner(node.id)) is not None:
            kind = self._declared(owner, node.id)
            if kind is not None:
                return kind
        name = scope.dotted(node)
        return None if name is None else self._imported(name, _DEPTH)

    def _imported(self, name: str, depth: int) -> Kind | None:
        if name in _COROUTINES:
            return Kind.COROUTINE
        module, _, last = name.rpartition(".")
        if module not in self.modules or not depth:
            return None
        scope = self.modules[module].scope
        if last in scope.imports:  # it passes on what it imports itself
            return self._imported(scope.imports[last], depth - 1)
        return self._declared(scope, last)

    def _declared(self, scope: Scope, name: str) -> Kind | None:
        functions = scope.functions.get(name, [])
        for function in functions:
            if (kind := function_kind(function, scope)) is not None:
                return kind
        match scope.values.get(name, []):
            case [ast.Call(func=func, args=[_, *_])]:  # name = step(function)
                return decorator_kind(func, scope)
        if functions and all(isinstance(function, ast.AsyncFunctionDef) for function in functions):
            return Kind.COROUTINE
        return None


def workflows_in(module: Module) -> Iterator[tuple[Function, Scope]]:
    """Yield the workflows of a module, each with the scope that it is declared in."""
    for scope in [module.scope, *module.scope.inner.values()]:
        for functions in scope.functions.values():
            for function in functions:
                if function_kind(function, scope) is Kind.WORKFLOW:
                    yield function, scope
        for values in scope.values.values():
            for value in values:
                match value:
                    case ast.Call(func=func, args=[ast.Name(id=name), *_]) if (
                        decorator_kind(func, scope) is Kind.WORKFLOW and (owner := scope.owner(name)) is not None
                    ):
                        yield from ((function, owner) for function in owner.functions.get(name, []))


def function_kind(function: Function, scope: Scope) -> Kind | None:
    """Return what a function is by its decorators."""
    kinds = (decorator_kind(decorator, scope) for decorator in function.decorator_list)
    return next((kind for kind in kinds if kind is not None), None)


def decorator_kind(node: ast.expr, scope: Scope, depth: int = _DEPTH) -> Kind | None:
    """Return what a decorator makes of a function: bare, with arguments, or kept under a name of its own."""
    kind = _DECORATORS.get(scope.dotted(node) or "")
    if kind is not None or not depth:
        return kind
    match node:
        case ast.Call(func=func):
            return decorator_kind(func, scope, depth - 1)
        case ast.Name(id=name):
            match scope.assigned(name):
                case [ast.Call(args=[]) as value]:
                    return decorator_kind(value, scope, depth - 1)
    return None
