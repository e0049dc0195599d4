"""Who lives: a process keeps its runs while it holds its lock, whatever else opens, copies or removes its files."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from pyworkflow.errors import StorageError
from pyworkflow.events import RunStarted
from pyworkflow.model import Job, Run
from pyworkflow_sqlite import SQLiteStorage
from pyworkflow_sqlite.liveness import Life, Liveness

pytestmark = pytest.mark.asyncio
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=10)
STARTED = [RunStarted(NOW, "flow", [], {}, "seed")]
HOLDER = """
import asyncio, os, shutil, signal, sys
from datetime import UTC, datetime, timedelta
from pyworkflow_sqlite import SQLiteStorage

NOW, LEASE = datetime(2026, 1, 1, tzinfo=UTC), timedelta(seconds=10)

async def main():
    storage = SQLiteStorage({path!r})
    await storage.open()
    storage.renew("holder", NOW, LEASE)
    assert len(await storage.claim("holder", NOW, LEASE, 9)) == 1
    print("claimed", flush=True)
    for line in sys.stdin:
        command, at = line.split()
        if command == "copy":
            shutil.copytree({folder!r}, {folder!r} + "-copy")
        elif command == "fork":
            if os.fork():
                continue
            print(command, flush=True)
            signal.pause()
        elif command == "renew":
            storage.renew("holder", NOW + timedelta(seconds=int(at)), LEASE)
        print(command, flush=True)
asyncio.run(main())
"""


class Holder:
    """A process that holds the only run of a file by a lease from `NOW`, and does what it is told."""

    def __init__(self, path: Path) -> None:
        script = HOLDER.format(path=str(path), folder=str(path.parent))
        command = [sys.executable, "-c", script]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True
        )
        assert self.process.stdout.readline() == "claimed\n"

    def do(self, command: str, at: int = 0) -> None:
        self.process.stdin.write(f"{command} {at}\n")
        assert self.process.stdout.readline() == f"{command}\n"

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # and its child
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


async def add_run(storage: SQLiteStorage, run_id: str = "r") -> None:
    await storage.create(Run(run_id, "flow", NOW), STARTED, [Job(run_id, workflow="flow", due=NOW)])


@pytest_asyncio.fixture
async def storage(tmp_path):
    (tmp_path / "data").mkdir()
    storage = SQLiteStorage(tmp_path / "data" / "runs.db")
    await storage.open()
    await add_run(storage)
    yield storage
    await storage.close()


@pytest.fixture
def holder(storage):
    holder = Holder(Path(storage.path))
    yield holder
    holder.end()


def path_of(storage: SQLiteStorage, suffix: str = "") -> Path:
    return Path(storage.path + suffix)


def visit(path: Path) -> None:
    """Have another process open the database, read it, and close it."""
    script = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('select count(*) from runs').fetchone()"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)


def remove(path: Path) -> None:
    path.unlink()


def move(path: Path, to: str) -> Path:
    return path.rename(path.with_name(to))


def there(path: Path) -> bool:
    return path.exists()


async def claimed_after(storage: SQLiteStorage, seconds: int) -> int:
    return len(await storage.claim("other", NOW + timedelta(seconds=seconds), LEASE, 9))


async def test_a_lapsed_lease_of_a_living_process_is_left_alone_until_the_limit(storage, holder):
    assert await claimed_after(storage, 59) == 0
    assert await claimed_after(storage, 60) == 1


async def test_a_dead_process_loses_its_runs_at_once(storage, holder):
    holder.process.kill()
    holder.process.wait()
    assert await claimed_after(storage, 1) == 1


async def test_copying_the_files_in_the_process_does_not_end_its_life(storage, holder):
    holder.do("copy")
    assert await claimed_after(storage, 59) == 0


async def test_a_child_does_not_inherit_the_life_of_its_parent(storage, holder):
    holder.do("fork")
    holder.process.kill()
    holder.process.wait()
    assert await claimed_after(storage, 1) == 1


async def test_a_removed_lock_file_is_made_again_and_shows_nothing_until_then(storage, holder):
    remove(path_of(storage, "-workers"))
    assert await claimed_after(storage, 9) == 0
    holder.do("renew", 9)
    assert await claimed_after(storage, 68) == 0


async def test_a_worker_that_is_silent_with_its_lock_file_removed_loses_its_runs_with_its_lease(storage, holder):
    remove(path_of(storage, "-workers"))
    assert await claimed_after(storage, 10) == 1


async def test_a_symbolic_link_is_the_same_file(storage, holder, tmp_path):
    (tmp_path / "link.db").symlink_to(storage.path)
    other = SQLiteStorage(tmp_path / "link.db")
    await other.open()
    assert await claimed_after(other, 59) == 0
    await other.close()


async def test_a_copy_within_the_process_leaves_the_log_where_it_is(storage, tmp_path):
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    visit(path_of(storage))
    await add_run(storage, "later")
    reader = sqlite3.connect(storage.path)
    assert reader.execute("select count(*) from runs").fetchone() == (2,)
    reader.close()


async def test_closing_moves_the_log_into_the_file(storage, tmp_path):
    await storage.close()
    assert not there(path_of(storage, "-wal"))


def replace(path: Path) -> None:
    shutil.copy(path, str(path) + "-new")
    Path(str(path) + "-new").replace(path)


@pytest.mark.parametrize("lose", [remove, replace, lambda path: move(path, "moved")])
@pytest.mark.parametrize("suffix", ["", "-wal"])
async def test_nothing_is_acknowledged_once_a_file_is_gone(storage, caplog, lose, suffix):
    lose(path_of(storage, suffix))
    for run_id in ("a", "b"):
        with pytest.raises(StorageError, match="was removed, moved or replaced"):
            await add_run(storage, run_id)
    with pytest.raises(StorageError, match="was removed, moved or replaced"):
        storage.renew("me", NOW, LEASE)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_file_that_is_put_back_is_written_again(storage):
    moved = move(path_of(storage), "moved")
    with pytest.raises(StorageError):
        storage.renew("me", NOW, LEASE)
    move(moved, "runs.db")
    storage.renew("me", NOW, LEASE)
    await add_run(storage, "later")
    assert (await storage.run("later")).id == "later"


async def test_a_lease_is_renewed_while_the_thread_of_the_storage_is_busy(storage):
    connection = storage._database
    connection._in_use.acquire()
    try:
        storage.renew("me", NOW, LEASE)
    finally:
        connection._in_use.release()


async def test_a_lock_is_released_by_leaving_only(tmp_path):
    first, second = Liveness(str(tmp_path / "w")), Liveness(str(tmp_path / "w"))
    file = first.enter("a")
    shutil.copy(tmp_path / "w", tmp_path / "copy")
    assert second.life("a", file) is Life.ALIVE
    first.leave("a")
    assert second.life("a", file) is Life.DEAD
