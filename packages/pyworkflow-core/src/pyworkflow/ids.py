"""Run ids: UUIDs of version 7 (RFC 9562), which sort by the time they were made."""

from __future__ import annotations

import os
import re
import time
from uuid import UUID

from pyworkflow.errors import ConfigError

_VALID = re.compile(r"[A-Za-z0-9._:~-]{1,200}")


def new_run_id() -> str:
    """Return a fresh run id."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (time.time_ns() // 1_000_000) << 80 | random
    value = value & ~(0xF << 76) | 7 << 76  # version
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant
    return str(UUID(int=value))


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
