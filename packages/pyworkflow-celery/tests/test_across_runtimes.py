"""Parents and children on different runtimes that share a storage: in this process, and on real Celery workers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import across_flows as flows
import pytest
import pytest_asyncio
from celery_servers import Workers

from pyworkflow import App
from pyworkflow.errors import RunCancelled
from pyworkflow.testing.runtime_kit.workflows import Declined, notes
from pyworkflow.testing.until import until

pytestmark = pytest.mark.asyncio

BOTH = pytest.mark.parametrize("on", [flows.LOCAL_TO_CELERY, flows.CELERY_TO_LOCAL], ids=["to celery", "to local"])


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    folder = tmp_path_factory.mktemp("across")
    workers = Workers(folder, storage=f"sqlite:///{folder}/flows.db", celery_broker=f"filesystem://{folder}/broker")
    workers.module = "across_flows"
    launched = [workers.launch("--pool", "prefork", "--concurrency", "1") for _ in range(2)]
    for process in launched:
        workers.ready(process)
    yield workers
    workers.close()


@pytest_asyncio.fixture
async def app(workers: Workers) -> AsyncIterator[App]:
    """This process, which works on the runs of the runtime ``local``."""
    settings = {key.removeprefix("PYWORKFLOW_").lower(): value for key, value in workers.env.items()}
    async with App(**settings) as app, app.worker(runtime="local"):
        yield app


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "effects")


@BOTH
async def test_children_give_their_results_and_run_where_they_belong(app: App, workers: Workers, on: flows.On) -> None:
    (_, parent), *found = await (await app.start(on.fan, (10,))).result(timeout=30)
    pool = {pid for process in workers.running for pid in workers.children(process)}
    assert [n for n, _ in found] == list(range(10))
    if on is flows.LOCAL_TO_CELERY:
        assert parent == os.getpid()
        assert {pid for _, pid in found} <= pool
    else:
        assert parent in pool
        assert {pid for _, pid in found} == {os.getpid()}


@BOTH
async def test_a_failure_reaches_the_parent_with_its_chain_of_causes(app: App, on: flows.On) -> None:
    with pytest.raises(flows.NoOrder, match="not today") as caught:
        await (await app.start(on.failing)).result(timeout=30)
    assert isinstance(caught.value.__cause__, Declined)
    assert caught.value.__cause__.code == 402


@BOTH
async def test_a_payload_reaches_the_child_and_its_result_the_parent(app: App, on: flows.On, log: str) -> None:
    token = f"pay {log}"
    handle = await app.start(on.waiting, (log, token))
    await until(lambda: notes(log))
    await app.resume_hook(token, {"paid": 12})
    assert await handle.result(timeout=30) == {"paid": 12}


@BOTH
async def test_a_cancelled_parent_cancels_its_child_which_cleans_up(app: App, on: flows.On, log: str) -> None:
    handle = await app.start(on.waiting, (log, f"cancel {log}"))
    await until(lambda: notes(log))
    await handle.cancel("enough")
    with pytest.raises(RunCancelled):
        await handle.result(timeout=30)
    await until(lambda: len(notes(log)) == 2)
    waits, cleaned = notes(log)
    assert (waits.partition(" ")[2], cleaned.partition(" ")[2]) == ("waits", "cleaned up")
    assert cleaned.startswith(f"{os.getpid()} ") is (on is flows.CELERY_TO_LOCAL)
