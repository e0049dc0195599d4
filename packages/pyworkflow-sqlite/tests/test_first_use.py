"""First use by many threads at once: the storage is found, opened and closed once."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pyworkflow.plugins.manager import Plugins

SCRIPT = """
import sys, threading, pyworkflow
from pyworkflow import step, workflow

@step
def inc(n: int) -> int: return n + 1

@workflow(durable=True)
async def flow(n: int) -> int: return await inc(n)

pyworkflow.configure(storage="sqlite:///runs.db")
results = []
first = [threading.Thread(target=lambda: results.append(pyworkflow.run(flow, 1))) for _ in range(16)]
for thread in first: thread.start()
for thread in first: thread.join()
print(results == [2] * 16)
"""


def test_first_use_by_many_threads_is_safe_and_the_process_ends_cleanly(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-W", "error", "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    assert not (tmp_path / "runs.db-wal").exists()  # the storage was closed


def test_plugins_that_are_looked_for_by_many_threads_are_loaded_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = Plugins()
    found = plugins._installed

    def slow() -> Any:
        time.sleep(0.01)  # in which the others come
        return found()

    monkeypatch.setattr(plugins, "_installed", slow)
    with ThreadPoolExecutor(8) as pool:
        assert len([*pool.map(lambda _: plugins.storage("sqlite"), range(8))]) == 8
