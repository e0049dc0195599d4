"""What the pages say holds a promise is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = ["packages/*/tests", "tests"]


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md", "docs/reliability.md"])
def test_every_test_that_a_page_names_is_there(page: str) -> None:
    named = set(re.findall(r"\btest_\w+\.py\b", (ROOT / page).read_text(encoding="utf-8")))
    there = {path.name for place in PLACES for folder in ROOT.glob(place) for path in folder.rglob("test_*.py")}
    assert named
    assert named - there == set()
