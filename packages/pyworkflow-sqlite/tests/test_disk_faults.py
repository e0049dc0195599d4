"""Power cuts, full disks and failing writes, under the storage's own code: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

import pyworkflow_sqlite.connection
from pyworkflow import App, step, workflow
from pyworkflow.errors import StorageError
from pyworkflow.events import Completed, RunStarted
from pyworkflow.model import Append, Job, Run, Status
from pyworkflow_sqlite import SQLiteStorage
from pyworkflow_sqlite.renewals import Renewals

_spec = importlib.util.spec_from_file_location("faulty_disk", Path(__file__).with_name("faulty_disk.py"))
assert _spec is not None
assert _spec.loader is not None
faulty_disk = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(faulty_disk)
Disk, Change = faulty_disk.Disk, faulty_disk.Change

CUTS = int(os.environ.get("PYWORKFLOW_POWER_CUTS", "200"))
POINTS = int(os.environ.get("PYWORKFLOW_DISK_FAULTS", "20"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)

Faulty = Callable[[], AbstractContextManager[Any]]


def one_connection(renewals: Renewals, operation: Any) -> Any:
    """Renew by the connection of all else: the disk that fails is one connection's."""
    database = renewals.database
    database.insist_open()
    with database._in_use:
        return database.write_by(database._connection, operation)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Faulty:
    """A context in which the storage's files are on a disk of its own, which it gives."""

    @contextmanager
    def faulty() -> Iterator[Any]:
        disk = Disk()
        with monkeypatch.context() as patched:
            patched.setattr(pyworkflow_sqlite.connection, "sqlite3", faulty_disk.FaultySqlite(disk))
            patched.setattr(Renewals, "write", one_connection)
            yield disk

    return faulty


@step(name="disk.add", retries=0)
async def add(a: int, b: int) -> int:
    return a + b


@workflow(name="disk.sums", durable=True)
async def sums() -> int:
    total = 0
    for i in range(4):
        total = await add(total, i)
    return total + sum(await asyncio.gather(*(add(i, i) for i in range(3))))


RESULT = 6 + 6


# -- the power goes --------------------------------------------------------------------------------------


async def written(path: Path, disk: Any, synchronous: Any) -> list[tuple[int, str, int]]:
    """Write runs; return what was acknowledged: after how many changes of the disk, which run, how many events."""
    acknowledged = []
    storage = SQLiteStorage(path, synchronous=synchronous)
    await storage.open()
    for n in range(12):
        run_id = f"run-{n}"
        started = RunStarted(NOW, "disk.sums", [n], {}, "x" * 200)
        await storage.create(Run(run_id, "disk.sums", NOW, length=1), [started], [Job(run_id, due=NOW)])
        acknowledged.append((len(disk.changes), run_id, 1))
        for length in range(1, 6):
            await storage.append(Append(run_id, [Completed(NOW, length, "y" * 300)], expected=length))
            acknowledged.append((len(disk.changes), run_id, length + 1))
    await storage.close()
    return acknowledged


async def lost(folder: Path, acknowledged: list[tuple[int, str, int]]) -> list[str]:
    """Open what a power cut left, and return what is not there of what was acknowledged."""
    check = sqlite3.connect(folder / "runs.db")
    assert check.execute("pragma integrity_check").fetchall() == [("ok",)]
    check.close()
    storage = SQLiteStorage(folder / "runs.db")
    await storage.open()
    missing = []
    try:
        for run_id, length in {run_id: length for _, run_id, length in acknowledged}.items():
            try:
                run, events = await storage.load(run_id)
            except LookupError:
                missing.append(run_id)
                continue
            assert len(events) == run.length
            if run.length < length:
                missing.append(f"{run_id} from {run.length + 1} on")
    finally:
        await storage.close()
    return missing


async def power_cuts(faulty: Faulty, tmp_path: Path, synchronous: str, cuts: int) -> int:
    """Cut the power at *cuts* moments; return after how many of them something acknowledged was lost."""
    (tmp_path / "whole").mkdir()
    with faulty() as disk:
        acknowledged = await written(tmp_path / "whole" / "runs.db", disk, synchronous)
    chance, losses = Random(20260101), 0
    first = acknowledged[0][0]
    assert {change.name for change in disk.changes} >= {"runs.db", "runs.db-wal"}
    assert sum(change.kind == "sync" and change.name == "runs.db" for change in disk.changes) > 5, "checkpoints"
    for n in range(cuts):
        after = chance.randint(first, len(disk.changes))
        folder = tmp_path / f"cut-{n}"
        folder.mkdir()
        disk.cut_power(after, chance, folder)
        losses += bool(await lost(folder, [known for known in acknowledged if known[0] <= after]))
    return losses


@pytest.mark.asyncio
@pytest.mark.timeout(600)
async def test_no_acknowledged_commit_is_lost_when_the_power_goes(faulty: Faulty, tmp_path: Path) -> None:
    assert await power_cuts(faulty, tmp_path, "full", CUTS) == 0


@pytest.mark.asyncio
async def test_with_synchronous_normal_the_last_commits_may_be_lost_and_nothing_is_damaged(
    faulty: Faulty, tmp_path: Path
) -> None:
    assert await power_cuts(faulty, tmp_path, "normal", 20) > 0


# -- writing fails ---------------------------------------------------------------------------------------


def failing_at(point: int, what: str, times: int) -> Callable[[Any], str | None]:
    """Return what lets the disk fail *times* times, from the change number *point* on."""
    kinds = {"sync"} if what == faulty_disk.UNSYNCED else {"write", "cut"}
    seen = 0

    def fails(change: Any) -> str | None:
        nonlocal seen
        if change.kind not in kinds:
            return None
        seen += 1
        return what if point <= seen < point + times else None

    return fails


@pytest.mark.asyncio
@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", [faulty_disk.FULL, faulty_disk.BROKEN, faulty_disk.UNSYNCED])
async def test_a_run_goes_on_after_the_disk_has_failed_at_any_of_its_writes(
    faulty: Faulty, tmp_path: Path, what: str
) -> None:
    failed = 0
    for point in range(1, POINTS + 1):
        path = tmp_path / f"{point}.db"
        with faulty() as disk:
            if not await one_failure(path, disk, failing_at(point, what, 2)):
                break  # there are no more of them
            failed += 1
        check = sqlite3.connect(path)
        assert check.execute("pragma integrity_check").fetchall() == [("ok",)]
        check.close()
    assert failed >= 10


async def one_failure(path: Path, disk: Any, fails: Callable[[Any], str | None]) -> bool:
    """Have a run carried out on a disk that fails; return whether it did fail."""
    async with App(storage=SQLiteStorage(path), default_retries=0) as app:
        await app.open_storage()
        disk.fails = fails
        handle = None
        while handle is None:
            with suppress(StorageError):
                handle = await app.start(sums, idempotency_key="one")
        assert await handle.result(timeout=30) == RESULT
        run, history = await handle.run(), await handle.history()
    assert run.status is Status.COMPLETED
    assert run.length == len(history)
    answers = [event.op for event in history if isinstance(event, Completed)]
    assert sorted(answers) == list(range(1, 8))
    return disk.failed > 0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "what, says", [(faulty_disk.FULL, "the disk is full"), (faulty_disk.BROKEN, "check the disk"),
                   (faulty_disk.UNSYNCED, "check the disk")],
)  # fmt: skip
async def test_what_is_said_of_a_disk_that_fails_names_the_file_and_what_to_do(
    faulty: Faulty, tmp_path: Path, what: str, says: str
) -> None:
    storage = SQLiteStorage(tmp_path / "runs.db")
    with faulty() as disk:
        await storage.open()
        disk.fails = failing_at(1, what, 1)
        with pytest.raises(StorageError, match=says) as caught:
            await storage.create(Run("one", "disk.sums", NOW), [], [])
        assert "runs.db" in str(caught.value)
        assert await storage.create(Run("one", "disk.sums", NOW), [], []) is None, "and then it goes on"
        await storage.close()
