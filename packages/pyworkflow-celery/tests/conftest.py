"""Fixtures: a Redis server, and workers that end with the test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for what the tests share, and the workers import too

from celery_servers import Redis, Workers


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def make_workers(tmp_path: Path) -> Iterator[Callable[..., Workers]]:
    made: list[Workers] = []

    def make(**settings: str) -> Workers:
        made.append(Workers(tmp_path, **{"storage": f"sqlite:///{tmp_path}/flows.db"} | settings))
        return made[-1]

    yield make
    for workers in made:
        workers.close()
