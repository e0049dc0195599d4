"""The pytest plugin: the fixture ``workflow_env``, and ``--pyworkflow-report``. Imports nothing before it has to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyworkflow.testing.environment import WorkflowEnvironment


@pytest.fixture
def workflow_env() -> WorkflowEnvironment:
    """Return an environment to be entered: ``async with workflow_env as env:``."""
    from pyworkflow.testing.environment import WorkflowEnvironment

    return WorkflowEnvironment()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for the capability report."""
    parser.getgroup("pyworkflow").addoption(
        "--pyworkflow-report",
        metavar="FILE",
        type=Path,
        help="Write to FILE, as JSON, what each conformance class says its backend can do, and how its cases ended.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begin a report, if one is asked for."""
    file: Path | None = config.getoption("--pyworkflow-report")
    if file is not None:
        from pyworkflow.testing.report import Report

        config.pluginmanager.register(Report(config.invocation_params.dir / file), "pyworkflow-report")
