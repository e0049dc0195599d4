"""What the names of a module stand for, as far as its source tells."""

from __future__ import annotations

import ast
import builtins
from typing import TypeAlias

from attrs import Factory, define

import pyworkflow

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_DEPTH = 8
"""How many names in a row are followed that stand for one another."""


@define(eq=False)
class Scope:
    """The names that a module, class, function or lambda binds; the variables of comprehensions count as its own.

    Attributes:
        node: What has this scope.
        module: The dotted name of the module.
        parent: The scope around it.
        imports: Dotted names, by what they are called here.
        functions: The functions that are declared here, by name.
        values: What is assigned to a name; None where that is not a plain assignment.
        annotations: Of names and parameters.
        borrowed: Names declared ``global`` or ``nonlocal``.
        stars: The modules of which everything is imported.
        inner: The scopes of all functions and lambdas of the module, by node.
    """

    node: ast.AST
    module: str
    parent: Scope | None = None
    imports: dict[str, str] = Factory(dict)
    functions: dict[str, list[Function]] = Factory(dict)
    values: dict[str, list[ast.expr | None]] = Factory(dict)
    annotations: dict[str, ast.expr] = Factory(dict)
    borrowed: set[str] = Factory(set)
    stars: list[str] = Factory(list)
    inner: dict[ast.AST, Scope] = Factory(dict)

    def owner(self, name: str) -> Scope | None:
        """Return the scope that binds *name* for code in this one; None: it is built in, or unknown."""
        scope: Scope | None = self
        while scope is not None:
            visible = scope is self or not isinstance(scope.node, ast.ClassDef)
            if visible and name not in scope.borrowed and scope.binds(name):
                return scope
            scope = scope.parent
        return None

    def binds(self, name: str) -> bool:
        """Return whether *name* is bound here."""
        return any(name in kind for kind in (self.imports, self.functions, self.values, self.annotations))

    def assigned(self, name: str) -> list[ast.expr | None]:
        """Return what is assigned to *name* in the scope that binds it."""
        owner = self.owner(name)
        return [] if owner is None else owner.values.get(name, [])

    def dotted(self, node: ast.expr, depth: int = _DEPTH) -> str | None:
        """Return the dotted name that an expression stands for, such as ``datetime.datetime.now``."""
        match node:
            case ast.Name(id=name):
                return self._origin(name, depth)
            case ast.Attribute(value=value, attr=attr):
                base = self.dotted(value, depth)
                return None if base is None else f"{base}.{attr}"
        return None

    def _origin(self, name: str, depth: int) -> str | None:
        owner = self.owner(name)
        if owner is None:
            if hasattr(builtins, name):
                return f"builtins.{name}"
            return self._starred(name)
        if name in owner.imports:
            return owner.imports[name]
        match owner.values.get(name, []):
            case [ast.Name() | ast.Attribute() as value] if depth:
                return owner.dotted(value, depth - 1)
        return f"{self.module}.{name}" if owner.parent is None else None

    def _starred(self, name: str) -> str | None:
        """Return where a name comes from that nothing here binds: our own first, else whatever was imported last."""
        stars = self.root().stars
        if "pyworkflow" in stars and name in pyworkflow.__all__:
            return f"pyworkflow.{name}"
        return f"{stars[-1]}.{name}" if stars else None

    def root(self) -> Scope:
        """Return the scope of the module."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope


def scope_of(tree: ast.Module, module: str, *, package: bool) -> Scope:
    """Return the scope of a module, with all inner ones.

    Args:
        tree: Its source.
        module: Its dotted name.
        package: Whether it is the ``__init__`` of a package, which decides what a relative import means.
    """
    root = Scope(tree, module)
    binder = _Binder(root, module if package else module.rpartition(".")[0])
    for statement in tree.body:
        binder.visit(statement)
    return root


class _Binder(ast.NodeVisitor):
    """Fills a scope, and those inside it."""

    def __init__(self, scope: Scope, package: str) -> None:
        self.scope = scope
        self.package = package

    def _value(self, name: str, value: ast.expr | None) -> None:
        self.scope.values.setdefault(name, []).append(value)

    # -- what has a scope of its own ---------------------------------------------

    def _function(self, node: Function) -> None:
        self.scope.functions.setdefault(node.name, []).append(node)
        for decorator in node.decorator_list:
            self.visit(decorator)
        self._inner(node, node.args, node.body)

    visit_FunctionDef = _function  # noqa: N815 -- ast asks for this name
    visit_AsyncFunctionDef = _function  # noqa: N815 -- the same

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._inner(node, node.args, [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._value(node.name, None)
        for expression in [*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)]:
            self.visit(expression)
        self._child(node, node.body)

    def _inner(self, node: ast.AST, args: ast.arguments, body: list[ast.stmt] | list[ast.expr]) -> None:
        for default in [*args.defaults, *(default for default in args.kw_defaults if default is not None)]:
            self.visit(default)
        scope = self._child(node, body)
        for arg in [*args.posonlyargs, *args.args, *args.kwonlyargs]:
            scope.values.setdefault(arg.arg, []).append(None)
            if arg.annotation is not None:
                scope.annotations[arg.arg] = arg.annotation
        for variadic in (args.vararg, args.kwarg):
            if variadic is not None:
                scope.values.setdefault(variadic.arg, []).append(None)

    def _child(self, node: ast.AST, body: list[ast.stmt] | list[ast.expr]) -> Scope:
        scope = Scope(node, self.scope.module, self.scope, inner=self.scope.inner)
        self.scope.inner[node] = scope
        binder = _Binder(scope, self.package)
        for item in body:
            binder.visit(item)
        return scope

    # -- what binds names --------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            first = alias.name.partition(".")[0]
            self.scope.imports[alias.asname or first] = alias.name if alias.asname else first

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            parts = self.package.split(".") if self.package else []
            base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
        for alias in node.names:
            if alias.name == "*":
                self.scope.stars.append(base)
            else:
                self.scope.imports[alias.asname or alias.name] = f"{base}.{alias.name}" if base else alias.name

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self._value(target.id, node.value)
            else:
                self.visit(target)
        self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.scope.annotations[node.target.id] = node.annotation
            self._value(node.target.id, node.value)
        else:
            self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):  # what it is stays, mostly
            self.scope.values.setdefault(node.target.id, [])
        else:
            self.visit(node.target)
        self.visit(node.value)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._value(node.target.id, node.value)
        self.visit(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self._value(node.id, None)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name is not None:
            self._value(node.name, None)
        self.generic_visit(node)

    def _captured(self, node: ast.MatchAs | ast.MatchStar) -> None:
        if node.name is not None:
            self._value(node.name, None)
        self.generic_visit(node)

    visit_MatchAs = _captured  # noqa: N815 -- the same
    visit_MatchStar = _captured  # noqa: N815 -- the same

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest is not None:
            self._value(node.rest, None)
        self.generic_visit(node)

    def _borrowed(self, node: ast.Global | ast.Nonlocal) -> None:
        self.scope.borrowed.update(node.names)

    visit_Global = _borrowed  # noqa: N815 -- the same
    visit_Nonlocal = _borrowed  # noqa: N815 -- the same
