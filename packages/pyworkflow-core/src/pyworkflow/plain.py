"""JSON values, which is what arguments and results are outside of user code."""

from __future__ import annotations

from typing import Any, TypeAlias

Plain: TypeAlias = Any
"""None, bool, int, float, str, list of Plain, or dict of str to Plain. Made by the codec."""
