"""Tests of workflows, and the conformance kit for backends.

For workflows: `WorkflowEnvironment` and `assert_replays`. For backends, plain pytest classes: ``StorageConformance`` in
`pyworkflow.testing.storage`, ``RuntimeConformance`` and ``DurableConformance`` in `pyworkflow.testing.runtime`,
``RetryPolicyConformance`` in `pyworkflow.testing.retries`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyworkflow.testing.environment import WorkflowEnvironment
    from pyworkflow.testing.replay import assert_replays

__all__ = ["WorkflowEnvironment", "assert_replays"]

_LATER = {"WorkflowEnvironment": "environment", "assert_replays": "replay"}


def __getattr__(name: str) -> Any:
    """Import what is asked for; the pytest plugin is loaded in every session of its environment."""
    if name not in _LATER:
        msg = f"module 'pyworkflow.testing' has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module(f"pyworkflow.testing.{_LATER[name]}"), name)
