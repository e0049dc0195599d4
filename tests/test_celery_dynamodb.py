"""Celery workers on DynamoDB, as several hosts have it: there no file lock tells of a death, only the lease."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyworkflow import App
from pyworkflow.events import Attempted
from pyworkflow.testing.runtime_kit.workflows import notes
from pyworkflow.testing.until import until
from pyworkflow_aws.dynamodb.client import Client
from pyworkflow_aws.dynamodb.table import initialise

PACKAGES = Path(__file__).parents[1] / "packages"
sys.path[:0] = [str(PACKAGES / f"pyworkflow-{name}" / "tests") for name in ("celery", "aws")]  # flows and servers

import celery_flows as flows  # noqa: E402 -- found by the path above
import ministack  # noqa: E402 -- as above
from celery_servers import Workers  # noqa: E402 -- as above

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    folder = tmp_path_factory.mktemp("celery-dynamodb")
    with ministack.running(tmp_path_factory.mktemp("ministack")) as url, pytest.MonkeyPatch.context() as environment:
        for name, value in ministack.owner(url, "200000000000", folder).items():
            environment.setenv(name, value)
        client = Client("runs", None, None, 1, None)
        client.open()
        initialise(client, 2, pitr=False, kms_key=None)
        client.close()
        workers = Workers(
            folder,
            storage="dynamodb://runs",
            default_runtime="celery",
            default_retry="fixed?delay=1ms",
            celery_broker=f"filesystem://{folder}/broker",
        )
        launched = [workers.launch("-c", "2", "--queues", "pyworkflow,gpu") for _ in range(2)]
        for process in launched:
            workers.ready(process)
        yield workers
        workers.close()


@pytest.fixture
def app(workers: Workers) -> App:
    return App(**{key.removeprefix("PYWORKFLOW_").lower(): value for key, value in workers.env.items()})


async def test_a_workflow_with_a_bit_of_everything_runs(app: App, tmp_path: Path) -> None:
    async with app:
        assert await app.call(flows.mixed, (str(tmp_path / "effects"), 1)) == 114


async def test_a_fan_out_is_spread(app: App, tmp_path: Path) -> None:
    async with app:
        assert len(set(await app.call(flows.fan, (str(tmp_path / "effects"), 8, 0.5)))) > 1


async def test_a_killed_workers_step_is_taken_over_when_its_lease_has_lapsed(
    app: App, workers: Workers, tmp_path: Path
) -> None:
    log, go = str(tmp_path / "effects"), tmp_path / "go"
    async with app:
        handle = await app.start(flows.waiting, (log, str(go)))
        await until(lambda: notes(log))
        holder = int(notes(log)[0].split()[3])
        (victim,) = [process for process in workers.running if holder in workers.children(process)]
        killed = time.monotonic()
        workers.kill(victim)
        await until(lambda: len(notes(log)) == 2)
        assert time.monotonic() - killed <= 15
        go.touch()
        assert await handle.result(timeout=20) == [2, 2]
        assert [event.attempt for event in await handle.history() if isinstance(event, Attempted)] == [2]
