"""What this package offers to pyworkflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyworkflow.ports import RetryPolicy, hookimpl
from pyworkflow_fibonacci import Fibonacci


@hookimpl
def pyworkflow_retry_policies() -> Mapping[str, Callable[..., RetryPolicy]]:
    """Offer ``fibonacci``."""
    return {"fibonacci": Fibonacci}
