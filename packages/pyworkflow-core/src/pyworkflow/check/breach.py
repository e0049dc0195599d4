"""A place where a workflow breaks a rule, as the rules' functions yield it."""

from __future__ import annotations

import ast

from attrs import frozen


@frozen(eq=False)
class Breach:
    """A place in the source.

    Attributes:
        rule: The id of the rule.
        node: Where it is broken.
        what: The code at fault, for the rule's text.
    """

    rule: str
    node: ast.expr | ast.stmt
    what: str


def shown(node: ast.AST, limit: int = 60) -> str:
    """Return source code in one line, cut to *limit* characters."""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
