"""Run ids: UUIDs of version 7 (RFC 9562), which sort by the time they were made."""

from __future__ import annotations

import os
import re
import secrets
import time
from hashlib import blake2b

from pyworkflow.errors import ConfigError

_MOST = 200
_VALID = re.compile(r"[A-Za-z0-9._:~-]{1,200}")


def new_run_id() -> str:
    """Return a fresh run id."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (time.time_ns() // 1_000_000) << 80 | random
    value = value & ~(0xF << 76) | 7 << 76  # version
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_seed() -> str:
    """Return 256 random bits, from which all that a run draws is derived."""
    return secrets.token_urlsafe(32)


def checked_id(value: str, what: str) -> str:
    """Return *value* if it can serve as a run id or a key.

    Raises:
        ConfigError: It is empty, too long, or has characters that do not travel well.
    """
    if not isinstance(value, str) or not _VALID.fullmatch(value):
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."  # noqa: PLR2004 -- a line's worth
        msg = f"the {what} {shown} is not valid: use 1 to 200 letters, digits, and . _ : ~ -"
        raise ConfigError(msg)
    return value


def child_id(run_id: str, op: int) -> str:
    """Return the id of the run that operation *op* of a run starts."""
    return _fitting(f"{run_id}.{op}")


def next_id(run_id: str) -> str:
    """Return the id of the run that continues a run: ``order-1``, ``order-1~2``, ``order-1~3``."""
    stem, _, number = run_id.rpartition("~")
    if stem and number.isascii() and number.isdigit():
        return _fitting(f"{stem}~{int(number) + 1}")
    return _fitting(f"{run_id}~2")


def _fitting(run_id: str) -> str:
    if len(run_id) <= _MOST:
        return run_id
    digest = blake2b(run_id.encode(), digest_size=16).hexdigest()
    return f"{run_id[: _MOST - 80]}:{digest}:{run_id[-40:]}"
