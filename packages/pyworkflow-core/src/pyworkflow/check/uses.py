"""Uses of names that workflows must not use, and calls that nobody awaits."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from pyworkflow.check.breach import Breach, shown
from pyworkflow.check.forbidden import METHODS, PATH_METHODS, broken_by
from pyworkflow.check.names import Scope
from pyworkflow.check.program import Program
from pyworkflow.check.shapes import Shape, shape_of


def forbidden_uses(node: ast.AST, scope: Scope) -> Iterator[Breach]:
    """Yield what is wrong with a call, or with a name that is only mentioned."""
    match node:
        case ast.Call(func=func):
            name = scope.dotted(func)
            if name is not None:
                yield from _named(name, func, node)
            if isinstance(func, ast.Attribute):
                yield from _method(func, node, scope)
        case ast.Name(ctx=ast.Load()) | ast.Attribute(ctx=ast.Load()):
            name = scope.dotted(node)
            if name is not None:
                yield from _named(name, node, None)


def _named(name: str, node: ast.expr, call: ast.Call | None) -> Iterator[Breach]:
    broken = broken_by(name, call)
    if broken is None:
        return
    rule, part = broken
    while isinstance(node, ast.Attribute) and part != name:  # of os.environ.get, os.environ is at fault
        name, node, call = name.rpartition(".")[0], node.value, None
    what = shown(node) + ("()" if call is not None else "")
    if call is None and part.rpartition(".")[2] != shown(node).rpartition(".")[2]:
        what += f" ({part.removeprefix('builtins.')})"
    yield Breach(rule, call or node, what)


def _method(func: ast.Attribute, call: ast.Call, scope: Scope) -> Iterator[Breach]:
    rule = METHODS.get(func.attr)
    if rule is None and func.attr in PATH_METHODS and shape_of(func.value, scope) is Shape.PATH:
        rule = "PW201"
    if rule is not None:
        yield Breach(rule, call, f"{shown(func)}()")


def not_awaited(node: ast.AST, scope: Scope, program: Program) -> Iterator[Breach]:
    """Yield a statement that calls a step, a workflow or another coroutine and does nothing with it."""
    match node:
        case ast.Expr(value=ast.Call(func=func) as call) if program.kind_of(func, scope) is not None:
            yield Breach("PW402", call, shown(call))
