"""Many processes write to one SQLite file: none is told of an error, and every event has one number.

``RELIABILITY_WRITERS=32 RELIABILITY_SECONDS=60`` for more of it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pyworkflow_sqlite import SQLiteStorage

WRITERS = int(os.environ.get("RELIABILITY_WRITERS", "8"))
SECONDS = float(os.environ.get("RELIABILITY_SECONDS", "10"))
SHARED = 4
"""Runs that everybody writes to, beside one of each process's own."""

WRITER = """
import asyncio, sys, time
from datetime import UTC, datetime
from pyworkflow.events import Completed, RunStarted
from pyworkflow.model import Append, Run
from pyworkflow_sqlite import SQLiteStorage

async def write(path, own, shared, seconds):
    storage, until, told, now = SQLiteStorage(path), time.monotonic() + seconds, 0, datetime.now(UTC)
    await storage.open()
    await storage.create(Run(own, "flow", now, length=1), [RunStarted(now, "flow", [], {}, "")], [])
    while time.monotonic() < until:
        run = shared[told % len(shared)] if told % 2 else own
        await storage.append(Append(run, [Completed(now, told, f"{own} {told}")]))
        told += 1
    await storage.close()
    print(told)

asyncio.run(write(sys.argv[1], sys.argv[2], sys.argv[4:], float(sys.argv[3])))
"""


@pytest.mark.timeout(120 + 2 * SECONDS)
def test_writers_are_told_of_no_error_and_every_event_has_one_number(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    path, shared = str(tmp_path / "runs.db"), [f"shared-{n}" for n in range(SHARED)]
    asyncio.run(prepared(path, shared))
    command = [sys.executable, "-c", WRITER, path]
    writers = [
        subprocess.Popen([*command, f"own-{n}", str(SECONDS), *shared], stdout=subprocess.PIPE, text=True)
        for n in range(WRITERS)
    ]
    told = [writer.communicate()[0].strip() for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * WRITERS
    values = asyncio.run(stored(path, [*shared, *(f"own-{n}" for n in range(WRITERS))]))
    assert len(values) == len(set(values)) == sum(map(int, told))
    figure(f"{WRITERS} processes, {len(values):,} commits")


async def prepared(path: str, shared: list[str]) -> None:
    from pyworkflow.testing.storage import run, started

    storage = SQLiteStorage(path)
    await storage.open()
    for name in shared:
        await storage.create(run(name), [started()], [])
    await storage.close()


async def stored(path: str, run_ids: list[str]) -> list[str]:
    """Return what was written; reading a run checks that its numbers have neither gaps nor doubles."""
    storage, values = SQLiteStorage(path), []
    await storage.open()
    for run_id in run_ids:
        run, (_, *events) = await storage.load(run_id)
        assert run.length == len(events) + 1
        values += [event.value for event in events]
    await storage.close()
    return values
