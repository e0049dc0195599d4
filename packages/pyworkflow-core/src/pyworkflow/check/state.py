"""Where code changes what is there beyond its run: variables of the module, or of a function around the workflow."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from pyworkflow.check.breach import Breach, shown
from pyworkflow.check.forbidden import MUTATORS
from pyworkflow.check.names import Scope
from pyworkflow.check.shapes import Shape, shape_of


def outside_changes(node: ast.AST, scope: Scope, within: Scope) -> Iterator[Breach]:
    """Yield the changes that a node makes outside of the function that has the scope *within*."""
    match node:
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            for name in names:
                if _is_outside(name, scope, within) and _is_rebound(name, scope.node):
                    yield Breach("PW401", node, f"{type(node).__name__.lower()} {name}")
        case ast.Subscript(ctx=ast.Store() | ast.Del()) | ast.Attribute(ctx=ast.Store() | ast.Del()):
            if (root := _root(node)) is not None and _is_outside(root.id, scope, within):
                yield Breach("PW401", node, f"{'del ' if isinstance(node.ctx, ast.Del) else 'setting '}{shown(node)}")
        case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in MUTATORS:
            root = _root(value)
            if root is not None and _is_outside(root.id, scope, within) and _is_container(root, scope):
                yield Breach("PW401", node, f"{shown(node.func)}()")
        case ast.Call(func=func, args=[ast.Name(id=name), *_]) if scope.dotted(func) == "builtins.next":
            if _is_outside(name, scope, within):
                yield Breach("PW401", node, shown(node))


def _root(node: ast.expr) -> ast.Name | None:
    """Return the name that a chain such as ``STATE.of[key]`` begins with."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node if isinstance(node, ast.Name) else None


def is_within(owner: Scope, scope: Scope, within: Scope) -> bool:
    """Return whether *owner*, a scope around *scope*, is *within* or inside it."""
    around: Scope | None = scope
    while around is not None and around is not within.parent:
        if around is owner:
            return True
        around = around.parent
    return False


def _is_outside(name: str, scope: Scope, within: Scope) -> bool:
    owner = scope.owner(name)
    if owner is None:
        return name in scope.borrowed  # only functions set it
    return not is_within(owner, scope, within)


def _is_rebound(name: str, function: ast.AST) -> bool:
    """Return whether *function* does more with a name than read it."""
    names = (part for part in ast.walk(function) if isinstance(part, ast.Name) and part.id == name)
    return any(isinstance(part.ctx, ast.Store | ast.Del) for part in names)


def _is_container(name: ast.Name, scope: Scope) -> bool:
    return shape_of(name, scope) in {Shape.SET, Shape.CONTAINER}
