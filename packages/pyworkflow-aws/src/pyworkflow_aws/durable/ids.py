"""Under which id the SDK records an operation of ours, so that nobody needs the SDK to read a history."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b


@lru_cache(4096)  # each is asked for several times while a run is at it
def operation_id(key: str) -> str:
    """Return the id of the operation *key*: the first one of the virtual context of that name."""
    return blake2b(f"{key}-1".encode()).hexdigest()[:64]
