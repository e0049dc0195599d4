"""What kind of value an expression has, where that is plain to see: a set, a path, another container."""

from __future__ import annotations

import ast
from enum import Enum

from pyworkflow.check.names import Scope


class Shape(Enum):
    """A kind of value that rules ask for."""

    SET = "set"
    PATH = "path"
    CONTAINER = "container"


_SETS = "builtins.frozenset builtins.set typing.AbstractSet typing.FrozenSet typing.MutableSet typing.Set"
_SETS += " collections.abc.MutableSet collections.abc.Set"
_PATHS = "pathlib.Path pathlib.PosixPath pathlib.WindowsPath"
_CONTAINERS = "builtins.bytearray builtins.dict builtins.list collections.Counter collections.OrderedDict"
_CONTAINERS += " collections.defaultdict collections.deque typing.Dict typing.List"

_TYPES: dict[str, Shape] = {
    name: shape
    for shape, names in ((Shape.SET, _SETS), (Shape.PATH, _PATHS), (Shape.CONTAINER, _CONTAINERS))
    for name in names.split()
}
_SET_METHODS = frozenset({"copy", "difference", "intersection", "symmetric_difference", "union"})
_PATH_METHODS = frozenset({"joinpath", "with_name", "with_stem", "with_suffix"})
_DEPTH = 12


def shape_of(node: ast.expr | None, scope: Scope, depth: int = _DEPTH) -> Shape | None:  # noqa: PLR0911 -- one a form
    """Return what *node* is; None: something else, or not plain to see."""
    if node is None or not depth:
        return None
    match node:
        case ast.Set() | ast.SetComp():
            return Shape.SET
        case ast.List() | ast.ListComp() | ast.Dict() | ast.DictComp():
            return Shape.CONTAINER
        case ast.Name(id=name):
            return _of_name(name, scope, depth - 1)
        case ast.NamedExpr(value=value):
            return shape_of(value, scope, depth - 1)
        case ast.IfExp(body=body, orelse=other):
            return _common([body, other], scope, depth - 1)
        case ast.BoolOp(values=values):
            return _common(values, scope, depth - 1)
        case ast.BinOp(left=left, op=op, right=right):
            return _of_operation(left, op, right, scope, depth - 1)
        case ast.Call(func=func):
            return _of_call(func, scope, depth - 1)
        case ast.Attribute(value=value, attr="parent") if shape_of(value, scope, depth - 1) is Shape.PATH:
            return Shape.PATH
    return None


def _common(nodes: list[ast.expr], scope: Scope, depth: int) -> Shape | None:
    shapes = {shape_of(node, scope, depth) for node in nodes}
    return shapes.pop() if len(shapes) == 1 else None


def _of_name(name: str, scope: Scope, depth: int) -> Shape | None:
    owner = scope.owner(name)
    if owner is None:
        return None
    if name in owner.annotations:
        return _of_annotation(owner.annotations[name], owner)
    shapes = {shape_of(value, owner, depth) for value in owner.values.get(name, [])}
    return shapes.pop() if len(shapes) == 1 else None


def _of_annotation(node: ast.expr, scope: Scope) -> Shape | None:
    match node:
        case ast.Constant(value=str(text)):
            try:
                return _of_annotation(ast.parse(text, mode="eval").body, scope)
            except SyntaxError:
                return None
        case ast.Subscript(value=value):
            return _of_annotation(value, scope)
        case ast.Name() | ast.Attribute():
            return _TYPES.get(scope.dotted(node) or "")
    return None


def _of_operation(left: ast.expr, op: ast.operator, right: ast.expr, scope: Scope, depth: int) -> Shape | None:
    match op:
        case ast.BitAnd() | ast.BitOr() | ast.BitXor() | ast.Sub():
            either = (_set_like(left, scope, depth), _set_like(right, scope, depth))
            return Shape.SET if any(either) else None
        case ast.Div() if shape_of(left, scope, depth) is Shape.PATH:
            return Shape.PATH
    return None


def _set_like(node: ast.expr, scope: Scope, depth: int) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr="keys"), args=[], keywords=[]):
            return True  # what is combined of keys is a set
    return shape_of(node, scope, depth) is Shape.SET


def _of_call(func: ast.expr, scope: Scope, depth: int) -> Shape | None:
    if isinstance(func, ast.Attribute):
        base = shape_of(func.value, scope, depth)
        if (base is Shape.SET and func.attr in _SET_METHODS) or (base is Shape.PATH and func.attr in _PATH_METHODS):
            return base
    name = scope.dotted(func)
    return None if name is None or name.startswith("typing.") else _TYPES.get(name)
