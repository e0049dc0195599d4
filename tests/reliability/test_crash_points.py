"""Processes are killed with SIGKILL before and after each of their writes, on each storage and runtime.

Nothing is lost, nothing is stuck, and no step runs again whose result is recorded. ``RELIABILITY_POINTS=3000`` for
more of them.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery_servers import Redis, Workers
from fleet import fleet, histories, results, to_do, wrong
from kit_flows import FLOWS

from pyworkflow import App
from pyworkflow_aws.local_lambda import functions_of
from pyworkflow_aws.testing import Endpoint

POINTS = int(os.environ.get("RELIABILITY_POINTS", "300"))
MOST_WRITES = 7
"""How many writes of a run, and of its children, there are in any case; before and after each is a point."""

ROUND = 150
"""So many runs are tried on one storage: an emulator of DynamoDB takes the longer, the more a table has."""

AT_ONCE = 8  # runs that are open, of those that are started from here
LOCAL = "local?lease=1s&sweep=100ms"


class Scene:
    """Somewhere that runs are carried out, and are killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marks = folder / "marks"
        self.marks.mkdir()
        self.log = str(folder / "effects")
        self.settings: dict[str, str] = {"default_retry": "fixed?delay=1ms"}

    def environment(self, deadly: str) -> dict[str, str]:
        """What tells the workers where they are to kill themselves."""
        return {"RELIABILITY_MARKS": str(self.marks), "RELIABILITY_DEADLY": deadly}

    def killed(self) -> int:
        """How many processes have killed themselves."""
        return len(list(self.marks.glob("*.killed")))

    def app(self) -> App:
        return App(**self.settings)


@contextmanager
def local(scene: Scene, deadly: str, plans: list[tuple[str, str]]) -> Iterator[None]:
    """Worker processes, which start the runs too."""
    scene.settings["default_runtime"] = LOCAL
    to_do(scene.folder, [(n % 3, f"proof.{flow}", run_id, [scene.log]) for n, (flow, run_id) in enumerate(plans)])
    with fleet(scene.folder, 3, scene.settings, **scene.environment(deadly)):
        yield


class CeleryWorkers(Workers):
    module = "celery_worker"
    place = Path(__file__).parent


@contextmanager
def celery(scene: Scene, deadly: str, redis: Redis, plans: list[tuple[str, str]]) -> Iterator[None]:
    """Celery workers with a pool of processes each; the runs are started from here, some at a time."""
    scene.settings |= {"default_runtime": "celery", "celery_broker": redis.url()}
    scene.settings |= {"celery_lease": "1s", "celery_sweep": "100ms"}
    workers = CeleryWorkers(scene.folder, **scene.settings)

    def keep_two() -> None:  # Celery exits when the processes of its pool die while it starts
        workers.running = [worker for worker in workers.running if worker.poll() is None]
        while len(workers.running) < 2:
            workers.launch("-c", "3", "-l", "WARNING", **scene.environment(deadly))

    try:
        with started_from_here(scene, plans, keep_two):
            yield
    finally:
        workers.close()


@contextmanager
def started_from_here(
    scene: Scene, plans: list[tuple[str, str]], look: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Start runs, some at a time, and have a look at their workers now and then."""
    room, over = asyncio.Semaphore(AT_ONCE), threading.Event()

    async def one(app: App, flow: str, run_id: str) -> None:
        async with room:
            await app.start(FLOWS[flow][0], (scene.log,), run_id=run_id)
            await app.recorded().result(run_id)

    async def drive() -> None:
        async with scene.app() as app:
            starting = asyncio.gather(*(one(app, *plan) for plan in plans), return_exceptions=True)
            while not over.is_set():
                look()
                await asyncio.sleep(0.1)
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)

    driving = threading.Thread(target=lambda: asyncio.run(drive()))
    driving.start()
    try:
        yield
    finally:
        over.set()
        driving.join()


@contextmanager
def durable_lambda(scene: Scene, plans: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sandboxes under AWS's runtime client, with AWS's local runner behind them."""
    from aws_durable_execution_sdk_python_testing.executor import Executor

    monkeypatch.setattr(Executor, "RETRY_BACKOFF_SECONDS", 0)  # of an invocation that failed
    for name, value in {
        "ACCESS_KEY_ID": "local",
        "SECRET_ACCESS_KEY": "local",
        "EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    for name in ("aws_durable_execution_sdk_python", "pyworkflow_aws.testing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    names = {**scene.environment("lambda"), "PYWORKFLOW_DEFAULT_RETRY": "fixed?delay=1ms"}
    function, _ = functions_of("kit_flows", Path(__file__).parent, timeout=60, log=scene.folder / "log", **names)
    with Endpoint({"crashes": function}) as endpoint:
        scene.settings |= {"default_runtime": "durable-lambda", "aws_function": "crashes"}
        scene.settings |= {"aws_endpoint_url": endpoint.url, "aws_region": "us-east-1"}
        with started_from_here(scene, plans):
            yield


def planned(count: int) -> list[tuple[str, str]]:
    """Return *count* runs, by workflow and id; the id says where their process is killed."""
    points = [(flow, n, when) for n in range(1, MOST_WRITES + 1) for when in ("before", "after") for flow in FLOWS]
    return [
        (flow, f"{flow}-{n}-{when}-{number}")
        for number in range(count)
        for flow, n, when in [points[number % len(points)]]
    ]


async def checked(scene: Scene, plans: list[tuple[str, str]], seconds: float) -> list[str]:
    """Wait for the ends of the runs; return what is wrong."""
    async with scene.app() as app:
        found = await results(app.recorded(), [run_id for _, run_id in plans], seconds)
        problems = [
            f"{run_id} came to {found.get(run_id, 'no end: it is lost or stuck')}"
            for flow, run_id in plans
            if found.get(run_id) != FLOWS[flow][1]
        ]
        async for run_id, history in histories(app):
            problems += wrong(run_id, history, scene.log)
    return problems


Carry = Callable[[Scene, list[tuple[str, str]]], Any]


PLACES = ["local-sqlite", "local-dynamodb", "celery-sqlite", "celery-dynamodb", "durable-lambda"]


@pytest.fixture(params=PLACES)
def carry(request: pytest.FixtureRequest, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Carry:
    """What has the runs carried out while it lasts."""
    runtime, _, storage = request.param.partition("-")
    if runtime == "durable":
        return lambda scene, plans: durable_lambda(scene, plans, monkeypatch)
    redis = request.getfixturevalue("redis") if runtime == "celery" else None
    new_table = request.getfixturevalue("new_table") if storage == "dynamodb" else None
    tables = itertools.count()

    def carry(scene: Scene, plans: list[tuple[str, str]]) -> Any:
        if new_table is None:
            scene.settings["storage"] = f"sqlite:///{scene.folder}/runs.db"
        else:
            scene.settings["storage"] = f"dynamodb://{new_table(f'crashes-{next(tables)}')}"
        if redis is None:
            return local(scene, storage, plans)
        return celery(scene, storage, redis, plans)

    return carry


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.timeout(60 + 3 * POINTS)
def test_nothing_is_lost_stuck_or_done_again_wherever_processes_are_killed(
    carry: Carry, scene: Scene, figure: Callable[[str], None]
) -> None:
    plans = planned(math.ceil(1.1 * POINTS / len(PLACES)))  # not every run has as many writes
    problems: list[str] = []
    for first in range(0, len(plans), ROUND):
        part = plans[first : first + ROUND]
        with carry(scene, part):
            problems += asyncio.run(checked(scene, part, 30 + POINTS))
    assert problems == []
    assert scene.killed() >= POINTS / len(PLACES)
    figure(f"{scene.killed()} kills of {len(plans)} runs and their children")
