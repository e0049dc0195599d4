"""No circle of imports, anywhere, those for type checkers included; computed from the sources alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGES = {path.parent.name: path.parent for path in Path(__file__).parents[1].glob("packages/*/src/*/__init__.py")}


def modules_of(package: Path) -> dict[str, Path]:
    """Return the files of a package by the names of their modules."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    """Yield the modules among *modules* that the file imports, wherever in it and for whatever purpose.

    The packages above an imported module are not counted, though Python imports them: that is how a package's own
    modules import each other.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names if alias.name in modules)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                for alias in names:
                    name = f"{module}.{alias.name}"
                    if name in modules:
                        yield name
                    elif module in modules:
                        yield module


def graph_of(package: Path) -> dict[str, set[str]]:
    """Return what each module of a package imports of it."""
    modules = modules_of(package)
    return {name: {*imports_of(path, modules)} - {name} for name, path in modules.items()}


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the sets of modules that can reach each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def rooms(graph: Mapping[str, set[str]], depth: int = 1) -> dict[str, set[str]]:
    """Return *graph* with each package that is *depth* levels below the top one in one piece."""

    def room(name: str) -> str:
        return ".".join(name.split(".")[: depth + 1])

    found: dict[str, set[str]] = {room(name): set() for name in graph}
    for name, imports in graph.items():
        found[room(name)] |= {room(other) for other in imports} - {room(name)}
    return found


def levels(graph: Mapping[str, set[str]]) -> int:
    """Return how many levels of import there are; *graph* has no circle."""
    depth: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in depth:
            depth[name] = 1 + max((of(other) for other in graph[name]), default=0)
        return depth[name]

    return max(map(of, graph))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other_in_a_circle(package):
    assert circles(graph_of(PACKAGES[package])) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_packages_import_each_other_in_a_circle(package):
    assert circles(rooms(graph_of(PACKAGES[package]))) == []
    assert circles(rooms(graph_of(PACKAGES[package]), depth=2)) == []


def test_the_core_has_few_rooms_on_few_levels():
    graph = rooms(graph_of(PACKAGES["pyworkflow"]))
    del graph["pyworkflow"]  # the face, which imports all that is public when it is asked for
    assert len(graph) <= 24
    assert levels({name: imports - {"pyworkflow"} for name, imports in graph.items()}) <= 12


def test_a_circle_is_found_and_named():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert circles(graph) == [["a", "b", "c"]]
