"""What released versions wrote opens and goes on; what newer ones wrote is refused; migrations lose nothing."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from attrs import frozen

from pyworkflow import App, wire
from pyworkflow.authoring.definitions import Workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.errors import ConfigError, DamagedHistory, RunCancelled, RunTerminated, StorageError
from pyworkflow.events import Attempted
from pyworkflow.inspection.export import from_json
from pyworkflow.inspection.replay import replay_history
from pyworkflow.model import RunQuery, Status
from pyworkflow_sqlite import SQLiteStorage
from pyworkflow_sqlite.schema import MIGRATIONS

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).with_name("golden")
sys.path[:0] = [str(GOLDEN), str(GOLDEN.parents[1] / "packages" / "pyworkflow-aws" / "tests")]

import golden_flows as flows  # noqa: E402 -- found by the path above
import ministack  # noqa: E402 -- as above
from make_table import one_text  # noqa: E402 -- as above

FOLDERS = sorted(path.parent for path in GOLDEN.glob("*/runs.db.base64"))
TABLES = sorted(GOLDEN.glob("*/dynamodb/table.json"))
HISTORIES = sorted(GOLDEN.glob("*/*.json"))
FLOWS = {flow.name: flow for flow in vars(flows).values() if isinstance(flow, Workflow)}
EVERYTHING = ["o-1", 2, True, 4, *flows.VALUES, 42]
CHILD = Path(__file__).with_name("migrating_child.py")


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def golden(request):
    """The folder of a released version."""
    return request.param


@pytest.fixture
def database(golden, tmp_path):
    """The database that it wrote."""
    return unpack(golden, tmp_path / "runs.db")


@frozen
class Written:
    """Golden runs in a storage, and what they were exported as."""

    storage: str
    exported: dict[str, str | bytes]


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """An emulator of AWS, which the environment speaks of."""
    scratch = tmp_path_factory.mktemp("ministack")
    with ministack.running(scratch) as url, pytest.MonkeyPatch.context() as environment:
        for name, value in ministack.owner(url, "500000000000", scratch).items():
            environment.setenv(name, value)
        yield url


@pytest.fixture(params=[*FOLDERS, *TABLES], ids=lambda path: f"{path.relative_to(GOLDEN)}")
def stored(request, tmp_path):
    """What a released version wrote, in each storage that several versions may share."""
    if request.param in FOLDERS:
        path = unpack(request.param, tmp_path / "runs.db")
        return Written(f"sqlite:///{path}", {file.stem: file.read_bytes() for file in request.param.glob("*.json")})
    request.getfixturevalue("aws")
    data = json.loads(request.param.read_text(encoding="ascii"))
    name = f"runs-{next(_NUMBERS)}"
    fill(name, data)
    return Written(f"dynamodb://{name}", {run_id: one_text(text) for run_id, text in data["runs"].items()})


_NUMBERS = itertools.count(1)


def fill(name: str, data: dict[str, Any]) -> None:
    """Make a table as that version did, with the items that it wrote."""
    client = boto3.Session().client("dynamodb")  # the default session keeps the credentials that it saw first
    client.create_table(TableName=name, BillingMode="PAY_PER_REQUEST", **data["table"])
    client.get_waiter("table_exists").wait(TableName=name)
    for at in range(0, len(data["items"]), 25):
        puts = [{"PutRequest": {"Item": decoded(item)}} for item in data["items"][at : at + 25]]
        assert not client.batch_write_item(RequestItems={name: puts})["UnprocessedItems"]
    client.close()


def decoded(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item as boto3 takes it."""
    return {
        name: {kind: base64.b64decode(one_text(value)) if kind == "B" else one_text(value)}
        for name, coded in item.items()
        for kind, value in coded.items()
    }


def unpack(golden: Path, path: Path) -> Path:
    path.write_bytes(zlib.decompress(base64.b64decode((golden / "runs.db.base64").read_text())))
    return path


def app_on(storage: object) -> App:
    return App(storage=storage, default_durable=True, default_runtime="local?lease=2s&sweep=50ms")


async def everything_in(database: Path | str) -> dict[str, object]:
    """Return all runs and their histories."""
    async with app_on(database if isinstance(database, str) else SQLiteStorage(database)) as app:
        storage = await app.open_storage()
        page = await storage.runs(RunQuery(limit=1000))
        return {run.id: await storage.load(run.id) for run in page.runs}


# -- what was written before ---------------------------------------------------------------------------------


def test_there_are_golden_runs_of_each_released_version():
    released = re.findall(r"^## (\S+) \(", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert "0.1.0" in released
    assert [version for version in released if GOLDEN / version not in FOLDERS] == []
    assert [version for version in released if GOLDEN / version / "dynamodb" / "table.json" not in TABLES] == []


@pytest.mark.asyncio
async def test_every_run_is_read_as_it_was_exported(stored):
    exported = {run_id: from_json(text) for run_id, text in stored.exported.items()}
    assert len(exported) >= 15
    assert await everything_in(stored.storage) == exported


@pytest.mark.asyncio
async def test_every_run_of_a_table_replays(stored):
    for run, events in (await everything_in(stored.storage)).values():
        replay_history(FLOWS[run.workflow], events)


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: f"{file.parent.name} {file.stem}")
def test_every_history_is_written_as_it_was(file):
    stored = json.loads(file.read_bytes())["history"]
    assert json.loads(wire.dumps(wire.loads(json.dumps(stored)))) == stored


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: f"{file.parent.name} {file.stem}")
def test_every_history_replays(file):
    run, events = from_json(file.read_bytes())
    replay_history(FLOWS[run.workflow], events)


@pytest.mark.asyncio
async def test_runs_that_ended_give_their_results(stored):
    async with app_on(stored.storage) as app:
        runtime = app.recorded()
        found = flows.everything.signature_for(app.codec).decode_result(await runtime.result("everything"))
        assert found == EVERYTHING
        assert list(map(type, found)) == list(map(type, EVERYTHING))
        assert await runtime.result("counts") == "lift off"
        for run_id, error in (("cancelled", RunCancelled), ("terminated", RunTerminated), ("fails", ConnectionError)):
            with pytest.raises(error):
                await runtime.result(run_id)
        (listed,) = (await app.runs(RunQuery(attributes={"order": "o-1", "vip": True}))).runs
        assert listed.id == "everything"


@pytest.mark.asyncio
async def test_an_idempotency_key_still_belongs_to_its_run(stored):
    async with app_on(stored.storage) as app:
        again = await app.start(flows.everything, (flows.ORDER,), idempotency_key="key-of-everything")
        assert again.id == "everything"


@pytest.mark.asyncio
async def test_runs_under_way_go_on(stored):
    async with app_on(stored.storage) as app, app.worker(grace=0):
        await goes_on(app, [1, 2, 1])  # the second attempt of the step that was cut short
        _, events = await app.recorded().history("lost")
        assert sum(isinstance(event, Attempted) for event in events) == 1


@pytest.mark.asyncio
async def test_runs_under_way_go_on_elsewhere(golden):
    async with app_on(MemoryStorage()) as app, app.worker(grace=0):
        runtime = app.recorded()
        for file in sorted(golden.glob("*.json")):
            await runtime.control.adopt(*from_json(file.read_bytes()))
        await goes_on(app, [1, 1, 1])


async def goes_on(app: App, lost: list[int]) -> None:
    """See that every run goes on to its end, once it is told what it waits for."""
    runtime = app.recorded()
    assert await runtime.result("sleeper") == "good morning"
    assert await runtime.result("lost") == lost
    for run_id in ("approval", "parent"):
        await app.resume_hook(f"token of {run_id}", flows.Decision("ada"))
    assert await runtime.result("approval") == "ada says True"
    assert await runtime.result("parent") == "child: ada says True"
    await app.resume_hook("token of chat", "bye")
    assert await runtime.result("chat") == ["hello", "bye"]
    for run_id, result in (("changed", "second"), ("fails", "open")):
        await runtime.retry(run_id)
        assert await runtime.result(run_id) == result
    page = await app.runs(RunQuery(limit=1000))
    assert {run.status for run in page.runs if not run.workflow.endswith(":schedule")} == {
        Status.COMPLETED, Status.CANCELLED, Status.TERMINATED, Status.CONTINUED
    }  # fmt: skip


# -- what a newer version wrote ------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_database_of_a_newer_version_is_refused_and_left_alone(database):
    before = await everything_in(database)
    execute(database, f"pragma user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StorageError, match=r"was written by a newer version .*: upgrade the package"):
        await SQLiteStorage(database).open()
    execute(database, f"pragma user_version = {len(MIGRATIONS)}")
    assert await everything_in(database) == before


@pytest.mark.asyncio
async def test_a_run_that_a_newer_version_wrote_hurts_no_other(database):
    execute(database, """update events set data = replace(data, '{"spec":1,', '{"spec":2,') where run_id = 'chat'""")
    storage = SQLiteStorage(database)
    await storage.open()
    with pytest.raises(DamagedHistory, match=r"'chat'.*written by a newer pyworkflow \(spec 2; this one reads up to 1"):
        await storage.load("chat")
    assert (await storage.load("approval"))[0].id == "approval"
    await storage.close()


def test_an_exported_run_of_a_newer_version_is_refused(golden):
    newer = json.loads((golden / "chat.json").read_text())
    newer["history"]["spec"] += 1
    with pytest.raises(ConfigError, match=r"chat\.json cannot be read: written by a newer pyworkflow"):
        from_json(json.dumps(newer), "chat.json")


# -- a crash in the middle of a migration ----------------------------------------------------------------------


def execute(database: Path, sql: str) -> None:
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute(sql)
    connection.close()


def layout(database: Path) -> tuple[int, list[str]]:
    """Return the number of a file's layout, and the names of what is in it."""
    if not database.exists():
        return 0, []
    connection = sqlite3.connect(database)
    number = connection.execute("pragma user_version").fetchone()[0]
    names = [name for (name,) in connection.execute("select name from sqlite_master order by name")]
    connection.close()
    return number, names


def migrate(database: Path, statement: int) -> subprocess.CompletedProcess[str]:
    """Open a database with a migration to come, in a process that dies right before that statement; 0: it does not."""
    command = [sys.executable, str(CHILD), str(database), str(statement)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.asyncio
@pytest.mark.timeout(180)
@pytest.mark.parametrize("filled", [True, False], ids=["of a database with runs", "of a new database"])
async def test_sigkill_at_any_statement_of_a_migration_loses_nothing(tmp_path, filled):
    def fresh(name: str) -> Path:
        path = tmp_path / name
        return unpack(FOLDERS[-1], path) if filled else path

    before = await everything_in(fresh("before.db")) if filled else {}
    whole = fresh("whole.db")
    done = migrate(whole, 0)
    assert done.returncode == 0, done.stderr
    new, statements = layout(whole), int(done.stdout)
    assert new[0] == len(MIGRATIONS) + 1
    assert statements > 6
    databases = {statement: fresh(f"{statement}.db") for statement in range(1, statements + 1)}
    old = layout(databases[1])
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        killed = list(threads.map(lambda statement: migrate(databases[statement], statement), databases))
    assert {done.returncode for done in killed} == {-signal.SIGKILL}, killed
    for statement, database in databases.items():
        assert layout(database) == old, f"killed before statement {statement}"
        assert await everything_in(database) == before
    assert migrate(databases[statements], 0).returncode == 0
    assert layout(databases[statements])[0] == new[0]
    with pytest.raises(StorageError, match="newer version"):
        await SQLiteStorage(whole).open()
    assert count(whole, "runs") == count(whole, "more") == len(before)


def count(database: Path, table: str) -> int:
    connection = sqlite3.connect(database)
    (found,) = connection.execute(f"select count(*) from {table}").fetchone()  # noqa: S608 -- constants
    connection.close()
    return found
