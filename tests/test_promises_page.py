"""The promises in docs/reliability.md: each names tests, and they are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_PLACES = (
    "packages/*/tests/**/test_*.py",
    "tests/promises/test_*.py",
    "packages/pyworkflow-core/src/pyworkflow/testing/**/*.py",
)


def rows() -> dict[str, list[str]]:
    """Return the tests that each promise names."""
    _, _, page = (ROOT / "docs" / "reliability.md").read_text().partition("## What is promised")
    _, *promises = re.split(r"^- \*\*", page.partition("## ")[0], flags=re.MULTILINE)
    return {text.partition("**")[0]: re.findall(r"`(test_\w+)`", text) for text in promises}


ROWS = rows()


def test_there_are_fourteen_promises() -> None:
    assert len(ROWS) == 14


@pytest.mark.parametrize("row", ROWS)
def test_a_promise_names_tests_and_they_are_there(row: str) -> None:
    files = [path for place in _PLACES for path in ROOT.glob(place)]
    known = {name for path in files for name in re.findall(r"def (test_\w+)\(", path.read_text())}
    assert ROWS[row]
    assert set(ROWS[row]) <= known
