"""The examples of the guide run, each alone, after the lines that the guide says they begin with."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
GUIDE = (DOCS / "guide.md").read_text()
(PRELUDE,) = re.findall(r"```python prelude\n(.*?)```", GUIDE, re.DOTALL)
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.findall(r"async def (\w+)", block)[0])
def test_an_example_of_the_guide_runs(tmp_path: Path, block: str) -> None:
    (tmp_path / "example.py").write_text(f"{PRELUDE}\n{block}\n\nasyncio.run(main())\n")
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_page_on_tests_shows_one_that_passes(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS / "testing.md").read_text(), re.DOTALL)
    (tmp_path / "test_example.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
