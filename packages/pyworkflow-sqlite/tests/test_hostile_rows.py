"""Rows that are damaged in every way: only the run that they belong to is affected, and the others go on.

And names that mean something to SQL, shells and paths: they are values, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from pyworkflow import App, hook, workflow
from pyworkflow.errors import DamagedHistory, RunNotFound, StorageError, WorkflowError
from pyworkflow.events import RunStarted
from pyworkflow.model import RUN_OP, Job, Lease, Run, RunQuery, Status, StepCall
from pyworkflow_sqlite import SQLiteStorage

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@workflow(name="rows.waits", durable=True)
async def waits(token: str) -> str:
    return await hook("answer", str, token=token)


def an_app(path: Path) -> App:
    return App(storage=SQLiteStorage(path), default_runtime="local?lease=1s&sweep=50ms")


def events(**changes: object) -> Callable[[str], str]:
    """Return what changes the first event of a row's text."""

    def change(text: str) -> str:
        data = json.loads(text)
        data["events"][0] |= changes
        return json.dumps(data)

    return change


def text(new: Callable[[str], object]) -> Callable[[sqlite3.Connection], None]:
    """Return what changes the text of the events of the run ``bad``."""

    def change(db: sqlite3.Connection) -> None:
        (old,) = db.execute("select data from events where run_id = 'bad' and seq = 1").fetchone()
        db.execute("update events set data = ? where run_id = 'bad' and seq = 1", (new(old),))

    return change


def sql(statement: str) -> Callable[[sqlite3.Connection], None]:
    return lambda db: [db.execute(part) for part in statement.split(";")] and None


DAMAGE: dict[str, Callable[[sqlite3.Connection], None]] = {
    "no text": text(lambda _: ""),
    "no JSON": text(lambda _: "{"),
    "cut off": text(lambda old: old[: len(old) // 2]),
    "bytes that are no text": text(lambda _: b"\xff\xfe\x00"),
    "a number": text(lambda _: 42),
    "a list": text(lambda _: "[]"),
    "null": text(lambda _: "null"),
    "deep nesting": text(lambda _: "[" * 100_000),
    "no spec": text(lambda old: old.replace('"spec":', '"sp":')),
    "a newer spec": text(lambda old: old.replace('"spec":1', '"spec":99')),
    "a spec that is text": text(lambda old: old.replace('"spec":1', '"spec":"1"')),
    "no events": text(lambda _: '{"spec":1}'),
    "events that are a dict": text(lambda _: '{"spec":1,"events":{}}'),
    "fewer events than counted": text(lambda _: '{"spec":1,"events":[]}'),
    "an event of an unknown type": text(events(type="exploded")),
    "an event without a type": text(events(type=None)),
    "a time that is none": text(events(at="yesterday")),
    "a time without a zone": text(events(at="2026-01-01T00:00:00")),
    "a flipped bit": text(lambda old: old.replace("r", "s", 1)),
    "a pickle": text(lambda _: b"cos\nsystem\n(S'true'\ntR."),
    "a seed that is a number": text(events(seed=5)),
    "the first events missing": sql("delete from events where run_id = 'bad' and seq = 1"),
    "a gap": sql("update events set seq = seq + 5 where run_id = 'bad' and seq > 1;"
                 "insert into events select run_id, seq + 100, 1, data from events where run_id = 'bad' limit 1"),
    "a negative count": sql("update events set n = -3 where run_id = 'bad'"),
    "a count that is text": sql("update events set n = 'many' where run_id = 'bad'"),
    "no events at all": sql("delete from events where run_id = 'bad'"),
    "an unknown status": sql("update runs set status = 'sideways' where id = 'bad'"),
    "a status that is a number": sql("update runs set status = 7 where id = 'bad'"),
    "a time beyond all calendars": sql("update runs set created_at = 9223372036854775807 where id = 'bad'"),
    "a creation time that is text": sql("update runs set created_at = 'soon' where id = 'bad'"),
    "an end that is text": sql("update runs set ended_at = 'never' where id = 'bad'"),
    "job data that is no JSON": sql("update jobs set data = '{' where run_id = 'bad'"),
}  # fmt: skip

HARMLESS = "job data that is no JSON"  # the job that advances a run needs none


async def prepared(path: Path) -> None:
    """Leave two runs that wait, ``bad`` and ``good``, as a process does that ends."""
    async with an_app(path) as app:
        for name in ("bad", "good"):
            await app.start(waits, (name,), run_id=name)
        while len(await app.recorded().hooks()) < 2:
            await asyncio.sleep(0)


async def told_and_awaited(app: App, name: str) -> None:
    await app.resume_hook(name, "anything")
    await app.recorded().result(name)


def damage(path: Path, how: Callable[[sqlite3.Connection], None]) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    how(db)
    db.execute("update jobs set due = 0 where run_id = 'bad'")  # so that a worker takes it up
    db.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", DAMAGE)
async def test_a_damaged_run_is_set_aside_and_the_others_go_on(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "runs.db"
    await prepared(path)
    damage(path, DAMAGE[kind])
    async with an_app(path) as app, app.worker(), asyncio.timeout(20):
        runtime = app.recorded()
        await app.resume_hook("good", "fine")
        assert await runtime.result("good") == "fine"
        listed = await runtime.runs(RunQuery())
        assert "good" in {run.id for run in listed.runs}
        assert len(await runtime.hooks("bad")) <= 1
        if kind == HARMLESS:
            await app.resume_hook("bad", "anything")
            assert await runtime.result("bad") == "anything"
            return
        with pytest.raises(WorkflowError):
            await told_and_awaited(app, "bad")
        try:
            assert (await runtime.run("bad")).status in {Status.BLOCKED, Status.RUNNING}
        except (DamagedHistory, RunNotFound) as error:
            assert "bad" in str(error)  # noqa: PT017 -- it may be readable or not
        handle = await app.start(waits, ("another",))
        await app.resume_hook("another", "fine too")
        assert await handle.result() == "fine too"
        await runtime.purge(NOW + timedelta(days=36500), [Status.COMPLETED])


MISSING = {
    "the first events missing": "its first events are missing",
    "no events at all": "its first events are missing",
    "fewer events than counted": "0 events at number 1 instead of 2",
    "a gap": "events 3 to 100 are missing",
}


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", MISSING)
async def test_an_error_names_the_events_that_are_missing(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    await prepared(path)
    damage(path, DAMAGE[kind])
    async with an_app(path) as app:
        with pytest.raises(DamagedHistory, match=f"history of run 'bad' is damaged: {MISSING[kind]}"):
            await app.recorded().history("bad")


# -- names -----------------------------------------------------------------------------------------------

NAMES = [
    "'; drop table runs; --", '" or 1=1 --', "%", "_", "\\", "\n", "../../etc/passwd", "$(touch x)", "`id`",
    "\x1b[31mred", "\u202egnp.exe", "é", "e\u0301", "😀", "NULL", "null", "0x41", "1e5", " ", "*", "?", "[a-z]", "{}",
    "%s%s%n", "<script>", "a" * 900, "--", ";", "/* x */", ":name", "?1", "@v", "$v", "json", "[1]", '{"a":1}',
]  # fmt: skip


def names(count: int = 200) -> list[str]:
    """The names, and more that are put together from them."""
    chance, made = Random(1), list(NAMES)
    while len(made) < count:
        name = "".join(chance.sample(NAMES, 2))
        made += [name] if name not in made else []
    return made


def call_of(name: str) -> StepCall:
    return StepCall(name, [name], {name: name}, 1)


@pytest.mark.asyncio
async def test_hostile_names_are_values_and_nothing_else(tmp_path: Path) -> None:
    storage = SQLiteStorage(tmp_path / "runs.db")
    await storage.open()
    for n, name in enumerate(names()):
        run = Run(f"run-{n}", name, NOW + timedelta(seconds=n), length=1, idempotency_key=name, parent=name)
        job = Job(run.id, due=NOW, workflow=name, queue=name, call=call_of(name))
        assert await storage.create(run, [RunStarted(NOW, name, [name], {name: name}, name)], [job]) is None
    for n, name in enumerate(names()):
        page = await storage.runs(RunQuery(workflow=name))
        assert [run.id for run in page.runs] == [f"run-{n}"]
        (claimed,) = await storage.claim(name, NOW, timedelta(9), 9, workflows=[name], queues=[name])
        assert claimed == Lease(f"run-{n}", RUN_OP, name, 1, name, name, call_of(name), length=1)
        _, (event,) = await storage.load(f"run-{n}")
        assert event == RunStarted(NOW, name, [name], {name: name}, name)
        with pytest.raises(RunNotFound):
            await storage.load(name)
        assert await storage.find_hook(name) is None
    assert len((await storage.runs(RunQuery(limit=1000))).runs) == len(names())
    await storage.close()


@pytest.mark.asyncio
async def test_tokens_are_in_no_row(tmp_path: Path) -> None:
    path, canary = tmp_path / "runs.db", "c4n4ry"
    async with an_app(path) as app:
        handle = await app.start(waits, (f"token-{canary}",))
        while not await app.recorded().hooks():
            await asyncio.sleep(0)
        db = sqlite3.connect(path)
        rows = [row for table in ("runs", "events", "jobs", "hooks") for row in db.execute(f"select * from {table}")]  # noqa: S608 -- constants
        db.close()
        await app.resume_hook(f"token-{canary}", "fine")
        await handle.result("20s")
    assert rows
    # The token was an argument too, and those are stored as they are: that one place, and no other.
    assert repr(rows).count(canary) == 1


@pytest.mark.asyncio
async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    contents = [b"hello" * 500, os.urandom(5000), b"SQLite format 3\0" + b"\xff" * 5000, b"PK\x03\x04" * 99]
    for n, content in enumerate(contents):
        path = tmp_path / f"{n}.db"
        path.write_bytes(content)
        with pytest.raises(StorageError, match=path.name):
            await SQLiteStorage(path).open()
        assert path.read_bytes() == content


def modes_in(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.asyncio
async def test_all_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        await prepared(tmp_path / "runs.db")
        async with an_app(tmp_path / "runs.db") as app:
            await app.open_storage()
            modes = modes_in(tmp_path)
    finally:
        os.umask(before)
    assert len(modes) >= 2
    assert set(modes.values()) == {0o600}, modes
