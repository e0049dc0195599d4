"""Where code goes through a set in whatever order it has."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from pyworkflow.check.breach import Breach, shown
from pyworkflow.check.names import Scope
from pyworkflow.check.shapes import Shape, shape_of

_CALM = frozenset(
    f"builtins.{name}" for name in ("all", "any", "frozenset", "len", "max", "min", "set", "sorted", "sum")
)
"""Give the same result in whatever order they are given things."""

_ORDERED = frozenset(
    [f"builtins.{name}" for name in ("enumerate", "filter", "iter", "list", "map", "next", "tuple", "zip")]
    + ["builtins.dict.fromkeys", "collections.deque", "collections.OrderedDict", "functools.reduce"]
)
"""Go through what they are given."""


def order_kept(node: ast.AST, scope: Scope) -> Iterator[ast.expr]:
    """Yield the arguments of a call whose order makes no difference, such as that of ``sorted(x for x in names)``."""
    if isinstance(node, ast.Call) and scope.dotted(node.func) in _CALM:
        for arg in node.args:
            if not any(isinstance(part, ast.Await) for part in ast.walk(arg)):
                yield arg


def sets_gone_through(node: ast.AST, scope: Scope) -> Iterator[Breach]:
    """Yield the sets that a node goes through one by one."""
    for iterated in _iterated(node, scope):
        if shape_of(iterated, scope) is Shape.SET:
            yield Breach("PW302", iterated, shown(iterated))


def _iterated(node: ast.AST, scope: Scope) -> Iterator[ast.expr]:
    match node:
        case ast.For(iter=iterated) | ast.AsyncFor(iter=iterated):
            yield iterated
        case ast.ListComp() | ast.DictComp() | ast.GeneratorExp():
            yield from (generator.iter for generator in node.generators)
        case ast.SetComp(elt=element) if any(isinstance(part, ast.Await) for part in ast.walk(element)):
            yield from (generator.iter for generator in node.generators)
        case ast.Assign(targets=[ast.Tuple() | ast.List(), *_], value=value):
            yield value
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            yield from (element.value for element in elements if isinstance(element, ast.Starred))
        case ast.YieldFrom(value=value):
            yield value
        case ast.Call():
            yield from _given(node, scope)


def _given(call: ast.Call, scope: Scope) -> Iterator[ast.expr]:
    name = scope.dotted(call.func) or ""
    if name in _CALM:
        return
    yield from (arg.value for arg in call.args if isinstance(arg, ast.Starred))
    if name in _ORDERED or name.startswith("itertools."):
        yield from call.args
    match call:
        case ast.Call(func=ast.Attribute(attr="join"), args=[joined], keywords=[]):
            yield joined
        case ast.Call(func=ast.Attribute(value=value, attr="pop"), args=[], keywords=[]):
            yield value
