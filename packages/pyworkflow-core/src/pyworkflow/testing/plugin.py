"""The pytest plugin: the fixture ``workflow_env``. Imports nothing of the package before the fixture is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyworkflow.testing.environment import WorkflowEnvironment


@pytest.fixture
def workflow_env() -> WorkflowEnvironment:
    """Return an environment to be entered: ``async with workflow_env as env:``."""
    from pyworkflow.testing.environment import WorkflowEnvironment

    return WorkflowEnvironment()
