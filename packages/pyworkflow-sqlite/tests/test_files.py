"""The file: its mode, its layout, what is said when it cannot be used, and what one transaction holds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pyworkflow import App, step, workflow
from pyworkflow.errors import ConfigError, Conflict, DamagedHistory, StorageBusy, StorageError
from pyworkflow.events import Completed, RunCompleted, RunStarted
from pyworkflow.model import Append, Job, Run, RunQuery, Status
from pyworkflow_sqlite import SQLiteStorage
from pyworkflow_sqlite import database as database_module
from pyworkflow_sqlite.schema import APPLICATION_ID, MIGRATIONS

pytestmark = pytest.mark.asyncio
T0 = datetime(2026, 1, 1, tzinfo=UTC)


@step(name="files.add")
async def add(a: int, b: int) -> int:
    return a + b


@workflow(name="files.sums", durable=True)
async def sums(n: int) -> int:
    total = 0
    for i in range(n):
        total = await add(total, i)
    return total


async def with_run(path: Path, *run_ids: str) -> None:
    storage = SQLiteStorage(path)
    await storage.open()
    for run_id in run_ids:
        await storage.create(Run(run_id, "flow", T0, length=1), [RunStarted(T0, "flow", [], {}, "")], [])
    await storage.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def opened(path: object) -> SQLiteStorage:
    storage = SQLiteStorage(str(path))
    await storage.open()
    return storage


# -- the file ------------------------------------------------------------------------------------------


async def test_only_the_owner_may_read_the_files(tmp_path):
    before = os.umask(0)
    try:
        storage = await opened(tmp_path / "runs.db")
        storage.renew("w", T0, timedelta(seconds=1))
        modes = {path.name: mode(path) for path in tmp_path.iterdir()}
        await storage.close()
    finally:
        os.umask(before)
    assert set(modes) >= {"runs.db", "runs.db-wal", "runs.db-workers"}
    assert set(modes.values()) == {0o600}


async def test_every_commit_is_synced_by_default(tmp_path):
    storage = await opened(tmp_path / "runs.db")
    assert storage._database.call(lambda db: db.execute("pragma synchronous").fetchone(), writes=False) == (2,)
    assert storage._database.call(lambda db: db.execute("pragma journal_mode").fetchone(), writes=False) == ("wal",)
    await storage.close()


async def test_the_config_string_says_where_and_how(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = App(storage="sqlite:///here.db?synchronous=normal&busy_timeout=2s")
    storage = await app.open_storage()
    assert storage._database.call(lambda db: db.execute("pragma synchronous").fetchone(), writes=False) == (1,)
    await app.close()
    assert (tmp_path / "here.db").exists()


@pytest.mark.parametrize(
    "text, message",
    [
        ("sqlite://", r"sqlite:///workflows\.db"),
        ("sqlite", r"sqlite:///workflows\.db"),
        ("sqlite://workflows.db", r"sqlite:///workflows\.db"),
        ("sqlite:///x.db?synchronus=full", "synchronous"),
        ("sqlite:///x.db?synchronous=maybe", "full.*normal"),
        ("sqlite:///x.db?busy_timeout=soon", "busy_timeout"),
    ],
)
async def test_a_wrong_config_string_is_explained(text, message):
    with pytest.raises(ConfigError, match=message):
        _ = App(storage=text).storage


async def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"the folder .*nowhere does not exist; create it first"):
        await opened(tmp_path / "nowhere" / "runs.db")


async def test_a_folder_instead_of_a_file_is_named(tmp_path):
    with pytest.raises(StorageError, match="it is a folder"):
        await opened(tmp_path)


async def test_what_is_not_a_database_is_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but somebody's notes\n" * 100)
    with pytest.raises(StorageError, match=r"notes\.txt.*not a SQLite database"):
        await opened(path)
    assert path.read_text().startswith("not a database")


async def test_a_database_of_another_program_is_left_alone(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table theirs (a)")
    connection.close()
    with pytest.raises(StorageError, match="of another program"):
        await opened(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("select name from sqlite_master").fetchall() == [("theirs",)]
    connection.close()


async def test_a_newer_file_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "runs.db"
    await with_run(path, "r")
    with sqlite3.connect(path) as connection:
        connection.execute(f"pragma user_version = {len(MIGRATIONS) + 6}")
    connection.close()
    with pytest.raises(StorageError, match=rf"newer version \(layout {len(MIGRATIONS) + 6}; .* upgrade"):
        await opened(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("select count(*) from runs").fetchone() == (1,)
    connection.close()


async def test_a_migration_that_did_not_end_is_done_anew(tmp_path, monkeypatch):
    path = tmp_path / "runs.db"
    broken = "create table half (a);\nthis is not sql;\n"
    monkeypatch.setattr("pyworkflow_sqlite.schema.MIGRATIONS", (MIGRATIONS[0], broken))
    with pytest.raises(StorageError):
        await opened(path)
    monkeypatch.undo()
    await with_run(path, "r")
    with sqlite3.connect(path) as connection:
        assert connection.execute("pragma application_id").fetchone() == (APPLICATION_ID,)
        assert not connection.execute("select 1 from sqlite_master where name = 'half'").fetchone()
    connection.close()


UNPRIVILEGED = """
import asyncio, os, sys
from pyworkflow.errors import StorageError
from pyworkflow_sqlite import SQLiteStorage

async def open_and_close(path):
    storage = SQLiteStorage(path)
    await storage.open()
    await storage.close()

asyncio.run(open_and_close(sys.argv[2]))  # all that is imported on the way is, before the user is changed
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    asyncio.run(open_and_close(sys.argv[1]))
except StorageError as error:
    print(error)
"""


def refusal(path: Path, scratch: Path) -> str:
    """What a user who is not root is told when opening the file."""
    command = [sys.executable, "-c", UNPRIVILEGED, str(path), str(scratch / "other.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def open_folder():
    """A folder that every user can reach, which pytest's own cannot be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path
        path.chmod(0o755)


async def test_a_folder_that_cannot_be_written_is_named(open_folder, tmp_path):
    open_folder.chmod(0o555)
    told = await asyncio.to_thread(refusal, open_folder / "runs.db", tmp_path)
    assert f"{open_folder}/runs.db cannot be opened" in told
    assert "check the permissions" in told


async def test_a_file_that_cannot_be_written_is_named_and_stays_as_it_is(open_folder, tmp_path):
    path = open_folder / "runs.db"
    await with_run(path, "r")
    for file in open_folder.iterdir():
        file.chmod(0o444)
    open_folder.chmod(0o555)
    told = await asyncio.to_thread(refusal, path, tmp_path)
    assert str(path) in told
    assert "check the permissions" in told
    open_folder.chmod(0o755)
    path.chmod(0o600)
    storage = await opened(path)
    assert (await storage.load("r"))[0].id == "r"
    await storage.close()


# -- damage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "update events set data = 'gibberish' where run_id = 'bad'",
        """update events set data = '{"spec":99,"events":[]}' where run_id = 'bad'""",
        "update events set n = 7 where run_id = 'bad'",
        "update events set seq = 5 where run_id = 'bad'",
        "update runs set status = 'confused' where id = 'bad'",
        "update runs set created_at = 'once upon a time' where id = 'bad'",
    ],
)
async def test_a_damaged_run_does_not_hurt_the_others(tmp_path, damage):
    await with_run(tmp_path / "runs.db", "bad", "good")
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        connection.execute(damage)
    connection.close()
    storage = await opened(tmp_path / "runs.db")
    with pytest.raises(DamagedHistory, match="'bad'"):
        await storage.load("bad")
    assert "good" in {run.id for run in (await storage.runs(RunQuery())).runs}
    assert (await storage.load("good"))[0].id == "good"
    await storage.close()


# -- a full disk ---------------------------------------------------------------------------------------


def limit_pages(storage: SQLiteStorage, more: int) -> None:
    def limit(db: sqlite3.Connection) -> None:
        pages = db.execute("pragma page_count").fetchone()[0]
        db.execute(f"pragma max_page_count = {pages + more}")

    storage._database.call(limit, writes=False)


async def test_a_full_disk_is_named_and_loses_nothing(tmp_path, caplog):
    storage = SQLiteStorage(tmp_path / "runs.db")
    async with App(storage=storage) as app:
        assert await app.call(sums, (3,)) == 3
        limit_pages(storage, 0)
        before = await kept(storage)
        with pytest.raises(StorageError, match=r"runs\.db.*full; free some space"):
            await fill(storage)
        after = await kept(storage)
        assert before.items() <= after.items()
        limit_pages(storage, 10_000)
        assert await app.call(sums, (3,)) == 3


async def fill(storage: SQLiteStorage) -> None:
    for n in range(1000):
        run = Run(f"big{n}", "flow", T0, length=1)
        await storage.create(run, [RunStarted(T0, "flow", ["x" * 9999], {}, "")], [])


async def kept(storage: SQLiteStorage) -> dict[str, list[object]]:
    """Every run's history."""
    page = await storage.runs(RunQuery(limit=10_000))
    return {run.id: (await storage.load(run.id))[1] for run in page.runs}


async def test_a_run_goes_on_when_there_is_space_again(tmp_path, caplog):
    storage = SQLiteStorage(tmp_path / "runs.db")
    begun, full = asyncio.Event(), asyncio.Event()

    @step(name="files.waits")
    async def waits() -> str:
        begun.set()
        await full.wait()
        return "x" * 100_000

    @workflow(name="files.large", durable=True)
    async def large() -> int:
        return len(await waits())

    async with App(storage=storage) as app:
        handle = await app.start(large)
        await begun.wait()
        limit_pages(storage, 0)
        full.set()
        while "is full" not in caplog.text:
            await asyncio.sleep(0.01)
        limit_pages(storage, 10_000)
        assert await handle.result(timeout=20) == 100_000


# -- transactions ----------------------------------------------------------------------------------------


async def test_a_sequential_step_is_one_transaction(tmp_path):
    storage = SQLiteStorage(tmp_path / "runs.db")
    async with App(storage=storage) as app:
        await app.call(sums, (1,))
        before = storage.commits
        await app.call(sums, (10,))
        assert storage.commits - before == 11


async def test_commits_that_wait_at_the_same_moment_are_one(tmp_path):
    storage = SQLiteStorage(tmp_path / "runs.db")
    async with App(storage=storage) as app:
        await app.call(sums, (1,))
        before = storage.commits
        await asyncio.gather(*(app.call(sums, (10,)) for _ in range(200)))
        assert storage.commits - before < 2200 / 10


async def test_of_many_steps_at_once_only_the_one_that_is_refused_is_not_written(tmp_path):
    storage = await opened(tmp_path / "runs.db")
    for run_id in "abc":
        run, started = Run(run_id, "flow", T0, length=1), RunStarted(T0, "flow", [], {}, "")
        await storage.create(run, [started], [Job(run_id, due=T0, workflow="flow")])
    leases = {lease.run_id: lease for lease in await storage.claim("w", T0, timedelta(seconds=9), 3)}
    before = storage.commits
    storage._database._took = 1.0  # as on a disk so slow that none of them is carried out at once
    told = await asyncio.gather(
        *(
            storage.append(Append(run_id, [Completed(T0, 1, 1)], expected=7 if run_id == "b" else 1, lease=lease))
            for run_id, lease in leases.items()
        ),
        return_exceptions=True,
    )
    lengths = [(await storage.load(run_id))[0].length for run_id in "abc"]
    assert [str(one) for one in told] == ["2", "the history of run 'b' is 1 events long, not 7", "2"]
    assert (lengths, storage.commits - before) == ([2, 1, 2], 1)
    await storage.close()


async def test_an_append_of_a_step_is_one_statement(tmp_path):
    storage = await opened(tmp_path / "runs.db")
    await storage.create(
        Run("r", "flow", T0, length=1), [RunStarted(T0, "flow", [], {}, "")], [Job("r", due=T0, workflow="flow")]
    )
    (lease,) = await storage.claim("w", T0, timedelta(seconds=9), 1)
    seen: list[str] = []
    storage._database.call(lambda db: db.set_trace_callback(seen.append), writes=False)
    await storage.append(Append("r", [Completed(T0, 1, 1)], expected=1, lease=lease))
    storage._database.call(lambda db: db.set_trace_callback(None), writes=False)
    await storage.close()
    assert [statement.split()[0].lower() for statement in seen] == ["insert"]


async def test_what_was_submitted_before_closing_is_written(tmp_path):
    await with_run(tmp_path / "runs.db", "r")
    storage = await opened(tmp_path / "runs.db")
    writing = asyncio.ensure_future(storage.append(Append("r", [Completed(T0, 1, 1)], expected=1)))
    await asyncio.sleep(0)  # it is submitted, and not handed over
    storage._database.close()
    assert await writing == 2


async def test_a_run_that_ends_leaves_no_job_behind(tmp_path):
    storage = await opened(tmp_path / "runs.db")
    await storage.create(
        Run("r", "flow", T0, length=1), [RunStarted(T0, "flow", [], {}, "")], [Job("r", due=T0, workflow="flow")]
    )
    (lease,) = await storage.claim("w", T0, timedelta(seconds=9), 1)
    await storage.append(
        Append("r", [RunCompleted(T0, 1)], expected=1, lease=lease, finish=True, status=Status.COMPLETED, now=T0)
    )
    assert await storage.due() is None
    await storage.close()


def thread_name(_: sqlite3.Connection) -> str:
    return threading.current_thread().name


async def test_what_is_alone_is_carried_out_where_it_was_asked_for_while_the_disk_is_quick(tmp_path):
    storage = await opened(tmp_path / "runs.db")
    database = storage._database
    database._took = 0.0
    assert await database.submit(thread_name, writes=True) == threading.current_thread().name
    database._took = 0.5
    assert await database.submit(thread_name, writes=True) == "pyworkflow-sqlite"
    await storage.close()


async def test_what_waits_at_the_same_moment_is_for_the_thread(tmp_path):
    storage = await opened(tmp_path / "runs.db")
    database = storage._database

    async def two_at_once() -> list[str]:
        database._took = 0.0
        return await asyncio.gather(*(database.submit(thread_name, writes=True) for _ in range(2)))

    await two_at_once()  # from which it learns that they are not alone
    assert await two_at_once() == ["pyworkflow-sqlite"] * 2
    await storage.close()


async def test_what_is_carried_out_at_once_lets_others_have_their_turn(tmp_path):
    storage = await opened(tmp_path / "runs.db")
    storage._database._took = 0.0
    turns: list[str] = []
    asyncio.get_running_loop().call_soon(turns.append, "another")
    turns.append(await storage._database.submit(thread_name, writes=True))
    assert turns == ["another", threading.current_thread().name]
    await storage.close()


async def test_an_event_loop_does_not_wait_for_others_who_keep_the_file_locked(tmp_path):
    await with_run(tmp_path / "runs.db", "r")
    storage = await opened(tmp_path / "runs.db")
    storage._database._took = 0.0
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        writing = asyncio.ensure_future(storage.append(Append("r", [Completed(T0, 1, 1)], expected=1)))
        for _ in range(100):
            await asyncio.sleep(0)  # turns of a loop that is not blocked
        assert not writing.done()
        other.execute("rollback")
    assert await writing == 2
    await storage.close()


async def test_the_thread_moves_what_was_written_into_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(database_module, "CHECKPOINT", 20)
    storage = await opened(tmp_path / "runs.db")
    async with App(storage=storage) as app:
        before = (tmp_path / "runs.db").stat().st_size
        await app.call(sums, (50,))
        while storage._database._written >= 20:
            await asyncio.sleep(0)
        assert (tmp_path / "runs.db").stat().st_size > before


async def test_an_append_that_is_refused_does_not_hurt_those_beside_it(tmp_path):
    storage = await opened(tmp_path / "runs.db")
    await with_run(tmp_path / "runs.db", "r1", "r2")
    results = await asyncio.gather(
        *(
            storage.append(Append(run, [Completed(T0, op, op)], expected=at))
            for run, op, at in [("r1", 1, 9), ("r2", 1, 1)] * 5
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Conflict) for result in results) == 9
    assert (await storage.load("r2"))[0].length == 2
    await storage.close()


@pytest.mark.parametrize(
    "statement",
    [
        """select run_id, op from jobs where worker is null and due <= 5
           and queue in (select value from json_each('[]')) order by due limit 9""",
        "select worker, epoch from jobs where run_id = 'r' and op = 0",
        "select seq + n - 1 from events where run_id = 'r' order by seq desc limit 1",
        "select seq, n, data from events where run_id = 'r' and seq >= 5 order by seq",
        "select run_id from jobs where worker = 'w' and woken and op = 0",
        "select * from runs where (created_at, id) < (5, 'r') order by created_at desc, id desc limit 9",
        "delete from jobs where run_id = 'r'",
    ],
)
async def test_hot_paths_use_an_index(tmp_path, statement):
    await with_run(tmp_path / "runs.db", "r")
    connection = sqlite3.connect(tmp_path / "runs.db")
    plan = [row[3] for row in connection.execute(f"explain query plan {statement}")]
    connection.close()
    assert not [line for line in plan if line.startswith("SCAN") and "json_each" not in line and "INDEX" not in line]


async def test_a_file_that_others_keep_locked_is_reported_as_busy(tmp_path):
    storage = SQLiteStorage(tmp_path / "runs.db", busy_timeout=0.05)
    await storage.open()
    other = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(StorageBusy, match="locked by other processes"):
        await storage.create(Run("r", "flow", T0, length=1), [RunStarted(T0, "flow", [], {}, "")], [])
    other.execute("rollback")
    other.close()
    assert await storage.create(Run("r", "flow", T0, length=1), [RunStarted(T0, "flow", [], {}, "")], []) is None
    await storage.close()
