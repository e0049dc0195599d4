"""The conformance kit on real workers: durable runs on SQLite, transient ones as tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from celery_servers import Redis, Workers, wipe

from pyworkflow import App
from pyworkflow.testing.runtime import DurableConformance, RuntimeConformance


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

    @pytest.fixture(autouse=True)
    def _workers(self, workers: Workers) -> None:
        self.workers = workers

    async def lose(self) -> None:
        for process in list(self.workers.running):
            self.workers.kill(process)
        start(self.workers)


@pytest.fixture(scope="module")
def transient(
    settings: dict[str, str], redis: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Settings with which workflows are transient, and workers that have them."""
    chosen = settings | {"celery_broker": redis.url(2), "default_durable": "false"}
    workers = Workers(tmp_path_factory.mktemp("transient"), **chosen)
    start(workers)
    yield chosen
    workers.close()


class TestTransient(RuntimeConformance):
    @pytest.fixture
    def make_app(self, transient: dict[str, str]) -> Callable[[], App]:
        return lambda: App(**transient | {"default_durable": False})
