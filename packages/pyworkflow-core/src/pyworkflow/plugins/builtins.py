"""What the package itself offers, through the same hooks as any plugin."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyworkflow.config.config_string import Lazy
from pyworkflow.ports import Mode, RetryPolicy, RuntimeOffer, Storage, hookimpl


@hookimpl
def pyworkflow_storages() -> Mapping[str, Callable[..., Storage]]:
    """Offer the in-memory storage."""
    return {"memory": Lazy("pyworkflow.backends.memory:MemoryStorage")}


@hookimpl
def pyworkflow_runtimes() -> Mapping[str, RuntimeOffer]:
    """Offer the local runtime."""
    return {"local": RuntimeOffer(Lazy("pyworkflow.backends.local:LocalRuntime"), frozenset(Mode), Mode.TRANSIENT)}


@hookimpl
def pyworkflow_retry_policies() -> Mapping[str, Callable[..., RetryPolicy]]:
    """Offer the policies that most steps need."""
    return {
        "none": Lazy("pyworkflow.backends.retries:NoRetry"),
        "fixed": Lazy("pyworkflow.backends.retries:Fixed"),
        "exponential": Lazy("pyworkflow.backends.retries:Exponential"),
    }
