"""Keeps passwords and other secrets out of what is shown: reprs, logs and errors."""

from __future__ import annotations

import re
from urllib.parse import unquote

MASK = "***"

_WORDS = "password|passwd|secret|token|key|credential"
_SECRET = re.compile(_WORDS, re.IGNORECASE)
_OPTION = re.compile(rf"([^?&=\s]*(?:{_WORDS})[^?&=\s]*=)[^&]*", re.IGNORECASE)
# Up to the last @: a password with an unescaped @ or / in it has to be masked whole.
_PASSWORD = re.compile(r"(://[^:/?@\s]*):([^\n]*)@")
_LONGEST = 80
_LOOKED_AT = 4000  # the patterns are slow on long text


def is_secret(name: str) -> bool:
    """Whether an option or setting of this name is to be masked."""
    return _SECRET.search(name) is not None


def masked(text: str) -> str:
    """Return *text*, a URL or config string, without the password of its user and the values of secret options."""
    hidden = _PASSWORD.sub(rf"\1:{MASK}@", _OPTION.sub(rf"\1{MASK}", text))
    # A URL in an option may be percent-encoded, and its password with it.
    return hidden if (plain := unquote(hidden)) == hidden or masked(plain) == plain else masked(plain)


def password(url: str) -> str:
    """Return the password of the user in *url*, or nothing."""
    found = _PASSWORD.search(url)
    return found[2] if found else ""


def shown(value: object, name: str = "") -> str:
    """Return *value* as an error or a repr may show it: masked if *name* says that it is a secret, and not too long."""
    if is_secret(name):
        return MASK
    result = masked(repr(value)[:_LOOKED_AT])
    return result if len(result) <= _LONGEST else result[: _LONGEST - 3] + "..."
