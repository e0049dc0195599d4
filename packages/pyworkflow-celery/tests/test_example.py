"""The example of the guide, as users run it: a Redis, two workers, and one that is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).parents[3] / "examples" / "celery" / "demo.py"


def test_the_order_of_the_example_survives_its_worker() -> None:
    done = subprocess.run([sys.executable, str(DEMO)], capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "completed" in done.stdout
    assert "attempt 1 was lost with its worker" in done.stdout
