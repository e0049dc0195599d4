"""``# noqa`` comments: the exceptions that a file makes, line by line."""

from __future__ import annotations

import io
import re
import tokenize
from typing import TypeAlias

Exceptions: TypeAlias = dict[int, frozenset[str]]
"""The rules that are not looked for, by line; an empty set stands for all of them."""

_CODE = r"[a-z]+[0-9]+"
_COMMENT = re.compile(rf"#\s*noqa(?:\s*:\s*(?P<list>{_CODE}(?:[\s,]+{_CODE})*))?(?![\w:])", re.IGNORECASE)


def exceptions_in(content: bytes) -> Exceptions:
    """Return the exceptions of a file that can be parsed."""
    found: Exceptions = {}
    if b"noqa" not in content.lower():
        return found
    for token in tokenize.tokenize(io.BytesIO(content).readline):
        if token.type == tokenize.COMMENT and (match := _COMMENT.search(token.string)):
            found[token.start[0]] = frozenset(re.split(r"[\s,]+", (match["list"] or "").upper())) - {""}
    return found


def is_excepted(rule: str, lines: tuple[int, ...], exceptions: Exceptions) -> bool:
    """Return whether *rule* is not looked for in code whose first and last lines are *lines*."""
    return any(line in exceptions and (not exceptions[line] or rule in exceptions[line]) for line in lines)
