"""A process that forks while it works on runs of a SQLite file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import asyncio, os, threading, pyworkflow
from pyworkflow import step, workflow

gate = threading.Event()
begun = []

@step
def other(n: int) -> int: return n

@workflow(durable=True)
async def small(n: int) -> int: return await other(n)

@step(retries=0)
def held() -> int:
    begun.append(pyworkflow.current_step().attempt)
    return int(gate.wait(30))

@workflow(durable=True)
async def big() -> int: return await held()

def fork() -> int:
    pid = os.fork()
    if not pid:
        code = 4
        try:
            code = 0 if pyworkflow.run(small, 7) == 7 else 3
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

async def main() -> None:
    pyworkflow.configure(storage="sqlite:///runs.db", default_runtime="local?lease=1s&sweep=100ms")
    async with pyworkflow.worker():
        handle = await pyworkflow.start(big)
        while not begun:
            await asyncio.sleep(0.01)
        codes = [await asyncio.to_thread(fork) for _ in range(2)]
        for _ in range(5):  # sweeps, which would find what was released
            assert await pyworkflow.start(small, 1)
            await asyncio.sleep(0.1)
        gate.set()
        print(codes, await handle.result(timeout=20), begun)

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
def test_a_forked_child_runs_workflows_and_releases_nothing_of_its_parent(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    # From Python 3.12 on a fork beside threads is warned of: that is what is tried here.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 0] 1 [1]\n", "")
