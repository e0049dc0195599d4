"""The conformance kit on real workers: durable runs on SQLite, transient ones as tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from celery_servers import Redis, Workers, wipe

from pyworkflow import App
from pyworkflow.errors import RunCancelled
from pyworkflow.testing import workflows as kit
from pyworkflow.testing.runtime import DurableConformance, RuntimeConformance
from pyworkflow.testing.until import until
from pyworkflow.testing.workflows import notes


@pytest.fixture(scope="module")
def settings(redis: Redis, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("durable")
    return {
        "storage": f"sqlite:///{folder}/flows.db",
        "default_runtime": "celery",
        "default_retry": "fixed?delay=1ms",
        "celery_broker": redis.url(0),
        "celery_result_backend": redis.url(1),
    }


@pytest.fixture(scope="module")
def workers(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    workers = Workers(tmp_path_factory.mktemp("workers"), **settings)
    start(workers)
    yield workers
    workers.close()


def start(workers: Workers) -> None:
    launched = [workers.launch("--pool", pool, "--concurrency", "2") for pool in ("prefork", "threads")]
    for process in launched:
        workers.ready(process)


class TestDurable(DurableConformance):
    @pytest.fixture
    def make_app(self, workers: Workers, settings: dict[str, str]) -> Callable[[], App]:
        wipe(workers.database)
        return lambda: App(**settings)

    async def test_a_run_left_by_its_process_goes_on_in_another(
        self, make_app: Callable[[], App], log: str, workers: Workers
    ) -> None:
        async with make_app() as app:
            handle = await app.start(kit.stopped, (log,))
            await until(lambda: "forever begins" in notes(log))
            for process in list(workers.running):
                workers.kill(process)
            start(workers)
            await until(lambda: notes(log).count("forever begins") == 2)
            await handle.cancel()
            with pytest.raises(RunCancelled):
                await handle.result(timeout=20)


class TestTransient(RuntimeConformance):
    @pytest.fixture
    def make_app(self, workers: Workers, settings: dict[str, str]) -> Callable[[], App]:
        return lambda: App(**settings, default_durable=False)
