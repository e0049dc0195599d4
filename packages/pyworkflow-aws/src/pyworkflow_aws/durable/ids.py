"""Under which id the SDK records an operation of ours, for those who read histories without the SDK."""

from __future__ import annotations

from hashlib import blake2b


def operation_id(key: str) -> str:
    """Return the id of the operation *key*: the first one of the virtual context of that name."""
    return blake2b(f"{key}-1".encode()).hexdigest()[:64]
