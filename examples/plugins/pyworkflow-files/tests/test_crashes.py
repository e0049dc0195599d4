"""What crashes leave behind: nothing acknowledged is lost, and nothing is there by half."""

from __future__ import annotations

import asyncio
import random
import resource
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zlib import crc32

import pytest

from pyworkflow.errors import DamagedHistory, StorageError
from pyworkflow.events import Completed, RunStarted
from pyworkflow.model import Append, Effects, Hook, Job, Message, Run
from pyworkflow_files import FileStorage

pytestmark = pytest.mark.asyncio
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WRITER = Path(__file__).with_name("writer.py")


async def opened(folder: Path, **options: int) -> FileStorage:
    storage = FileStorage(folder, **options)
    await storage.open()
    return storage


async def add(storage: FileStorage, run_id: str) -> None:
    assert await storage.create(Run(run_id, "flow", NOW, length=1), [RunStarted(NOW, "flow", [], {}, "")], []) is None


async def length(folder: Path, run_id: str = "r") -> int:
    storage = await opened(folder)
    run, events = await storage.load(run_id)
    await storage.close()
    assert run.length == len(events)
    return run.length


def write_and_die(folder: Path, transactions: int) -> int:
    """Kill a writer after it has acknowledged so many transactions; return the length of history it told last."""
    with subprocess.Popen([sys.executable, WRITER, folder], stdout=subprocess.PIPE, text=True) as writer:
        for _ in range(transactions):
            acknowledged = int(writer.stdout.readline())
        writer.kill()
        for line in writer.stdout:
            acknowledged = int(line)
    return acknowledged


@pytest.mark.parametrize("seed", range(8))
async def test_what_was_acknowledged_survives_sigkill(tmp_path, seed):
    chance = random.Random(seed)
    for _ in range(3):
        acknowledged = await asyncio.to_thread(write_and_die, tmp_path / "runs", chance.randrange(1, 120))
        assert await length(tmp_path / "runs") in {acknowledged, acknowledged + 1}, f"seed {seed}"


async def test_a_transaction_that_was_cut_short_counts_for_nothing(tmp_path):
    journal = tmp_path / "runs" / "journal"
    storage = await opened(tmp_path / "runs")
    await add(storage, "r")
    await add(storage, "other")
    before = journal.stat().st_size
    also = Effects(hooks=[Hook("t", "r", 1, "approval")], messages=[Message("other", [Completed(NOW, 1, 1)])])
    await storage.append(Append("r", [Completed(NOW, 1, 1)], [Job("r", 1, NOW)], now=NOW, effects=also))
    await storage.close()
    whole = journal.read_bytes()
    for size in range(before, len(whole)):
        journal.write_bytes(whole[:size])
        storage = await opened(tmp_path / "runs")
        assert [await length(tmp_path / "runs", run) for run in ("r", "other")] == [1, 1]
        assert (await storage.hooks(), await storage.due()) == ([], None)
        await add(storage, "next")
        await storage.close()
        assert await length(tmp_path / "runs", "next") == 1
    journal.write_bytes(whole)
    assert [await length(tmp_path / "runs", run) for run in ("r", "other")] == [2, 2]


async def test_damage_before_the_end_is_refused(tmp_path):
    storage = await opened(tmp_path / "runs")
    for number in range(3):
        await add(storage, f"r{number}")
    await storage.close()
    journal = tmp_path / "runs" / "journal"
    journal.write_bytes(journal.read_bytes().replace(b'"r1"', b'"r9"', 1))
    with pytest.raises(StorageError, match=r"journal is damaged at byte \d+: restore it"):
        await opened(tmp_path / "runs")


@pytest.mark.parametrize(
    "text", [b"somebody's notes\n", b'%08x "notes"\n' % crc32(b'"notes"')], ids=["text", "a line as ours"]
)
async def test_what_is_no_journal_is_left_alone(tmp_path, text):
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / "journal").write_bytes(text + text)
    with pytest.raises(StorageError, match="journal"):
        await opened(folder)
    assert (folder / "journal").read_bytes() == text + text


async def test_a_newer_journal_is_refused(tmp_path):
    await (await opened(tmp_path / "runs")).close()
    text = b'{"form":"pyworkflow-files","layout":2}'
    (tmp_path / "runs" / "journal").write_bytes(b"%08x %s\n" % (crc32(text), text))
    with pytest.raises(StorageError, match=r"newer version \(layout 2; this one reads 1\): upgrade"):
        await opened(tmp_path / "runs")


async def test_events_of_a_newer_version_hurt_only_their_run(tmp_path):
    storage = await opened(tmp_path / "runs")
    await add(storage, "good")
    await add(storage, "bad")
    await storage.close()
    journal = tmp_path / "runs" / "journal"
    *lines, last = journal.read_bytes().splitlines()
    text = last[9:].replace(b'{\\"spec\\":1,', b'{\\"spec\\":99,')
    assert text != last[9:]
    journal.write_bytes(b"\n".join([*lines, b"%08x %s\n" % (crc32(text), text)]))
    storage = await opened(tmp_path / "runs")
    with pytest.raises(DamagedHistory, match="newer"):
        await storage.load("bad")
    assert (await storage.load("good"))[0].length == 1
    await storage.close()


async def test_a_write_that_fails_is_told_and_leaves_nothing(tmp_path):
    storage = await opened(tmp_path / "runs")
    await add(storage, "r")
    size = (tmp_path / "runs" / "journal").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, before[1]))  # as a full disk: a part of the line fits
    try:
        with pytest.raises(StorageError, match="cannot be written"):
            await storage.append(Append("r", [Completed(NOW, 1, "x" * 500)]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "runs" / "journal").stat().st_size == size
    assert (await storage.load("r"))[0].length == 1
    assert await storage.append(Append("r", [Completed(NOW, 1, "x" * 500)])) == 2
    await storage.close()
    assert await length(tmp_path / "runs") == 2


async def test_a_journal_that_another_process_wrote_anew_is_read_anew(tmp_path):
    one, other = await opened(tmp_path / "runs"), await opened(tmp_path / "runs", compact=2000)
    await add(one, "r")
    for number in range(1, 40):
        assert (
            await (one if number % 2 else other).append(Append("r", [Completed(NOW, number, "x" * 50)])) == number + 1
        )
        assert (await one.load("r")) == (await other.load("r"))
    assert await length(tmp_path / "runs") == 40
    await one.close()
    await other.close()


async def test_history_of_jobs_and_leases_does_not_pile_up(tmp_path):
    storage = await opened(tmp_path / "runs", compact=4000)
    await add(storage, "r")
    for number in range(500):
        storage.renew("w", NOW + timedelta(seconds=number), timedelta(seconds=10))
    await storage.close()
    assert (tmp_path / "runs" / "journal").stat().st_size < 5000


async def test_only_the_owner_may_read_the_files(tmp_path):
    storage = await opened(tmp_path / "runs", compact=10)
    await add(storage, "r")
    await storage.close()
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "runs", *(tmp_path / "runs").iterdir()]
    }
    assert modes == {"runs": 0o700, "journal": 0o600, "lock": 0o600}
