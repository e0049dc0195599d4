"""The pytest plugin: ``workflow_env``, ``--pyworkflow-report``, and definitions that end with the test that made them.

It imports nothing before it has to.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pyworkflow.testing.environment import WorkflowEnvironment


@pytest.fixture
def workflow_env() -> WorkflowEnvironment:
    """Return an environment to be entered: ``async with workflow_env as env:``."""
    from pyworkflow.testing.environment import WorkflowEnvironment

    return WorkflowEnvironment()


_KNOWN = pytest.StashKey[list[tuple[dict[str, Any], dict[str, Any]]]]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Note which workflows and steps there are before the body of a test."""
    if (definitions := sys.modules.get("pyworkflow.authoring.definitions")) is not None:
        registry = definitions.default_registry
        item.stash[_KNOWN] = [(known, dict(known)) for known in (registry.workflows, registry.steps)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Forget those that the body declared: they close over its variables, and the next test may declare them again."""
    try:
        return (yield)
    finally:
        for known, before in item.stash.get(_KNOWN, []):
            for name, definition in list(known.items()):
                if before.get(name) is not definition and "<locals>" in definition.function.__qualname__:
                    known.pop(name)
                    known.update({name: before[name]} if name in before else {})


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
