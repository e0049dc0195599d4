"""A Celery worker of concurrency 2 beside a measuring script. Standard library only."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def worker(*command: str, **environment: str) -> Iterator[None]:
    """Run a worker, as ``python -m COMMAND``, in this folder of modules; its output goes to ``worker.log``."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with Path("worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, **environment, "PYTHONPATH": path, "C_FORCE_ROOT": "1"},
            stdout=log,
            stderr=log,
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def until(condition: Callable[[], Any], pause: float = 0.002) -> None:
    """Look again and again until *condition* holds."""
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(Path("worker.log").read_text()[-2000:])
        time.sleep(pause)
