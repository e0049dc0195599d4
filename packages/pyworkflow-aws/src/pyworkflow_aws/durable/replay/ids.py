"""The id under which the SDK records an operation of ours, computed without the SDK."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b


@lru_cache(4096)  # each is needed several times in an invocation
def operation_id(key: str) -> str:
    """Return the id of the operation *key*: the first one of the virtual context of that name."""
    return blake2b(f"{key}-1".encode()).hexdigest()[:64]
