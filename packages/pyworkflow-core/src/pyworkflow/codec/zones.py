"""Time zones by their keys, as stored: a key becomes part of a file's name, and nothing is imported because of it."""

from __future__ import annotations

import re
import zoneinfo
from functools import cache, lru_cache
from pathlib import Path

_KEY = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")


@lru_cache(1024)
def zone(key: str) -> zoneinfo.ZoneInfo:
    """Return the time zone of a key.

    Raises:
        ValueError: There is none. `zoneinfo` would try to import a part of the package tzdata of that name.
    """
    if not _KEY.fullmatch(key) or not (any(Path(path, key).is_file() for path in zoneinfo.TZPATH) or key in _all()):
        raise ValueError(f"{key!r} is no time zone that this machine knows; the package tzdata has all of them")
    return zoneinfo.ZoneInfo(key)


@cache
def _all() -> set[str]:
    return zoneinfo.available_timezones()
