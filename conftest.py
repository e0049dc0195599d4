"""Every test finds the application behind the package's functions as a new process does: nothing configured it yet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pyworkflow.app import set_default_app


@pytest.fixture(autouse=True)
def default_app() -> Iterator[None]:
    """Have no default application yet."""
    before = set_default_app(None)
    yield
    set_default_app(before)
