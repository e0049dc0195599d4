"""Walks the body of a function that is replayed, and asks the rules about each part of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from pyworkflow.check.breach import Breach
from pyworkflow.check.names import Function, Scope
from pyworkflow.check.order import order_kept, sets_gone_through
from pyworkflow.check.program import Program, function_kind
from pyworkflow.check.state import is_within, outside_changes
from pyworkflow.check.uses import forbidden_uses, not_awaited


class Body(ast.NodeVisitor):
    """What is found in one function.

    Attributes:
        breaches: Where it breaks rules.
        helpers: The functions of the module that it uses and that are neither steps nor workflows, each with the scope
            that it is declared in.
    """

    def __init__(self, function: Function, scope: Scope, program: Program) -> None:
        self.breaches: list[Breach] = []
        self.helpers: list[tuple[Function, Scope]] = []
        self._within = self._scope = scope.inner[function]
        self._program = program
        self._calm: set[ast.AST] = set()
        for statement in function.body:
            self.visit(statement)

    def visit(self, node: ast.AST) -> None:
        """Ask every rule about *node*, then go on with its parts."""
        self._calm.update(order_kept(node, self._scope))
        self.breaches += self._broken(node)
        super().visit(node)

    def _broken(self, node: ast.AST) -> Iterator[Breach]:
        yield from forbidden_uses(node, self._scope)
        yield from not_awaited(node, self._scope, self._program)
        yield from outside_changes(node, self._scope, self._within)
        if node not in self._calm:
            yield from sets_gone_through(node, self._scope)

    # -- names -------------------------------------------------------------------

    def visit_Name(self, node: ast.Name) -> None:
        """Follow a name to the function that it stands for."""
        owner = self._scope.owner(node.id)
        if owner is None or not isinstance(node.ctx, ast.Load):
            return
        if is_within(owner, self._scope, self._within):
            return  # it is looked at where it is declared
        for function in owner.functions.get(node.id, []):
            if function_kind(function, owner) is None:
                self.helpers.append((function, owner))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Go on with what the attribute is of, unless the whole is one dotted name, which was looked at."""
        if self._scope.dotted(node) is None:
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        """Go on with the arguments, and with the function unless it is a name, which was looked at."""
        if isinstance(node.func, ast.Name):
            self.visit_Name(node.func)
        elif self._scope.dotted(node.func) is None:
            self.visit(node.func)
        for part in [*node.args, *node.keywords]:
            self.visit(part)

    # -- what is not carried out, or elsewhere -------------------------------------

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Leave out the annotation."""
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        """Leave out the classes: to catch an error is harmless."""
        for statement in node.body:
            self.visit(statement)

    def _function(self, node: Function) -> None:
        for part in [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]:
            self.visit(part)
        if function_kind(node, self._scope) is None:
            self._inner(node, node.body)

    visit_FunctionDef = _function  # noqa: N815 -- ast asks for this name
    visit_AsyncFunctionDef = _function  # noqa: N815 -- the same

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Go on with what it returns, among its own names."""
        for part in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
            self.visit(part)
        self._inner(node, [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Go on among the names of the class."""
        for part in [*node.decorator_list, *node.bases, *node.keywords]:
            self.visit(part)
        self._inner(node, node.body)

    def _inner(self, node: ast.AST, parts: list[ast.stmt] | list[ast.expr]) -> None:
        outer, self._scope = self._scope, self._scope.inner[node]
        for part in parts:
            self.visit(part)
        self._scope = outer
