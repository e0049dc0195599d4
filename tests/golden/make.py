"""Makes the golden runs of this version: `python tests/golden/make.py` writes tests/golden/VERSION.

To be run at each release, as `make_table.py` is, which makes the same runs in DynamoDB; and never again for a released
version. There are runs in every state: ended in each way, waiting, asleep, blocked, and one whose worker was killed in
the middle of its steps. Each is exported, and the database is kept as text: base64 of what zlib makes of the file.
"""

from __future__ import annotations

import asyncio
import base64
import sqlite3
import sys
import tempfile
import textwrap
import zlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import golden_flows as flows  # noqa: E402 -- found by the path above

import pyworkflow  # noqa: E402 -- as above
from pyworkflow import App  # noqa: E402 -- as above
from pyworkflow.engine import StoredRuntime, WorkerOptions  # noqa: E402 -- as above
from pyworkflow.events import HandedOut  # noqa: E402 -- as above
from pyworkflow.handle import RunHandle  # noqa: E402 -- as above
from pyworkflow.inspection.export import to_json  # noqa: E402 -- as above
from pyworkflow.model import RunQuery, Status  # noqa: E402 -- as above
from pyworkflow.ports import Mode, RuntimeOffer, hookimpl  # noqa: E402 -- as above
from pyworkflow.testing.until import until  # noqa: E402 -- as above


class Small:
    """Offers a runtime that hands out all steps but one."""

    @hookimpl
    def pyworkflow_runtimes(self) -> Mapping[str, RuntimeOffer]:
        """Offer ``small``."""

        def make(app: App) -> StoredRuntime:
            second = timedelta(seconds=1)
            return StoredRuntime(app, WorkerOptions(lease=second, sweep=second / 10, capacity=1))

        return {"small": RuntimeOffer(make, frozenset({Mode.DURABLE}), Mode.DURABLE)}


def app_on(storage: str, runtime: str = "local") -> App:
    """Return an app on a storage."""
    return App(
        plugins=[Small()],
        storage=storage,
        default_durable=True,
        default_runtime=runtime,
        default_retry="fixed?delay=1ms",
    )


async def those_that_end(app: App) -> None:
    """Make runs that end in each way."""
    flows.FAULTS["closed"] = True
    for run_id, flow, args in (
        ("everything", flows.everything, (flows.ORDER,)),
        ("counts", flows.counts, (2,)),
        ("fails", flows.fails, ()),
    ):
        handle = await app.start(flow, args, run_id=run_id, idempotency_key=f"key-of-{run_id}")
        try:
            await handle.result(timeout=20)
        except ConnectionError:
            assert run_id == "fails"
    for run_id in ("cancelled", "terminated"):
        handle = await app.start(flows.cancelled, run_id=run_id)
        await (handle.cancel("enough") if run_id == "cancelled" else app.recorded().terminate(run_id, "enough"))
        await until(_is(handle, lambda status: status.is_final))


async def those_that_wait(app: App) -> None:
    """Make runs that wait for people and for time."""
    for run_id, flow in (
        ("approval", flows.approval),
        ("parent", flows.parent),
        ("chat", flows.chat),
        ("changed", flows.changed),
    ):
        await app.start(flow, (f"token of {run_id}",), run_id=run_id)

    async def all_are_open() -> bool:
        return len(await app.recorded().hooks()) == 4

    await until(all_are_open)
    await app.resume_hook("token of chat", "hello")
    await app.start(flows.sleeper, run_id="sleeper")


async def one_that_is_blocked(app: App) -> None:
    """Have a run meet code that is not its own."""
    await app.resume_hook("token of changed", "second")  # there is no worker yet
    flows.FAULTS["new code"] = True
    async with app.worker():
        await until(_is(RunHandle("changed", app.recorded(), None), lambda status: status is Status.BLOCKED))
    flows.FAULTS["new code"] = False


async def one_that_is_lost(app: App) -> None:
    """Make a run whose worker dies while it carries one step out, the other one being handed out."""
    handle = await app.start(flows.lost, run_id="lost")

    async def is_handed_out() -> bool:
        return any(isinstance(event, HandedOut) for event in await handle.history())

    await until(is_handed_out)
    runtime: Any = app.recorded()
    await runtime.crash()


def _is(handle: Any, holds: Callable[[Status], bool]) -> Callable[[], Any]:
    async def look() -> bool:
        return holds((await handle.run()).status)

    return look


def forget_the_machine(database: Path) -> None:
    """Take out where this was made: the folder in tracebacks, the host in the names of workers."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("update events set data = replace(data, ?, '')", (f"{HERE.parents[1]}/",))
    connection.execute("update jobs set worker = 'killed' where worker is not null")
    connection.execute("delete from workers")
    connection.execute("insert into workers values ('killed', 0)")
    connection.execute("vacuum")
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()


async def play(storage: str) -> None:
    """Make the golden runs in *storage*."""
    for runtime, part in (
        ("local", those_that_end),
        ("local", those_that_wait),
        ("local", one_that_is_blocked),
        ("small", one_that_is_lost),
    ):
        async with app_on(storage, runtime) as app:
            await part(app)


async def make(folder: Path) -> None:
    """Write the golden runs into *folder*."""
    with tempfile.TemporaryDirectory() as scratch:
        database = Path(scratch) / "runs.db"
        await play(f"sqlite:///{database}")
        forget_the_machine(database)
        async with app_on(f"sqlite:///{database}") as app:
            for run in (await app.runs(RunQuery(limit=1000))).runs:
                text = to_json(*await app.recorded().history(run.id))
                (folder / f"{run.id}.json").write_text(text)
        packed = base64.b64encode(zlib.compress(database.read_bytes(), 9)).decode()
    (folder / "runs.db.base64").write_text(textwrap.fill(packed, 100) + "\n")


if __name__ == "__main__":
    place = HERE / pyworkflow.__version__
    place.mkdir()
    asyncio.run(make(place))
