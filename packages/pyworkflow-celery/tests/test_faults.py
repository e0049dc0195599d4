"""Workers, messages and brokers that die, and nothing that is lost by it."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery_flows as flows
import pytest
from celery_servers import Redis, Workers, paused

from pyworkflow import App
from pyworkflow.errors import RunTerminated, StepInterrupted
from pyworkflow.events import Attempted, Completed
from pyworkflow.handle import RunHandle
from pyworkflow.testing.runtime_kit.workflows import notes
from pyworkflow.testing.until import until

pytestmark = pytest.mark.asyncio

QUEUE = "pyworkflow"


@pytest.fixture(scope="module")
def settings(redis: Redis, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        "storage": f"sqlite:///{tmp_path_factory.mktemp('faults')}/flows.db?silent_limit=5s",
        "default_runtime": "celery",
        "default_retry": "fixed?delay=1ms",
        "celery_broker": redis.url(0),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inside")


@pytest.fixture(scope="module")
def all_workers(settings: dict[str, str], folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    workers = Workers(tmp_path_factory.mktemp("workers"), **settings)
    launch(workers, folder)
    yield workers
    workers.close()


def launch(workers: Workers, folder: Path, count: int = 2) -> None:
    launched = [workers.launch("-c", "2", TEST_FOLDER=str(folder)) for _ in range(count)]
    for process in launched:
        workers.ready(process)


@pytest.fixture
def workers(all_workers: Workers, folder: Path) -> Iterator[Workers]:
    """Two workers of two processes each, whole again after each test."""
    if len(all_workers.running) < 2:
        launch(all_workers, folder, 2 - len(all_workers.running))
    yield all_workers
    for flag in folder.glob("die*"):
        flag.unlink()


@pytest.fixture
def app(settings: dict[str, str]) -> App:
    return App(**settings)


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "effects")


async def holder(log: str, count: int = 1) -> int:
    """Return the process that began the step begun last, of *count*."""
    await until(lambda: len(notes(log)) >= count)
    return int(notes(log)[-1].split()[3])


def completions(history: Any) -> list[int]:
    return [event.op for event in history if isinstance(event, Completed)]


# -- workers that die --------------------------------------------------------------------------------------


async def test_a_step_whose_process_is_killed_is_attempted_again(
    app: App, workers: Workers, log: str, tmp_path: Path
) -> None:
    async with app:
        handle = await app.start(flows.waiting, (log, str(tmp_path / "go")))
        os.kill(await holder(log), signal.SIGKILL)
        await until(lambda: len(notes(log)) == 2)
        (tmp_path / "go").touch()
        assert await handle.result(timeout=20) == [2, 2]
        history = await handle.history()
    assert [event.attempt for event in history if isinstance(event, Attempted)] == [2]


async def test_a_result_that_was_not_committed_is_made_again(
    app: App, workers: Workers, log: str, folder: Path
) -> None:
    (folder / "die-before").touch()
    async with app:
        handle = await app.start(flows.sums, (log, 3))
        assert await handle.result(timeout=20) == 3
        assert completions(await handle.history()) == [1, 2, 3]
    assert len(notes(log)) == 4


async def test_a_result_that_was_committed_is_not_made_again(
    app: App, workers: Workers, log: str, folder: Path
) -> None:
    (folder / "die-after").touch()
    async with app:
        handle = await app.start(flows.sums, (log, 3))
        assert await handle.result(timeout=20) == 3
        assert completions(await handle.history()) == [1, 2, 3]
    keys = [line.split()[1] for line in notes(log)]
    assert keys.count(keys[0]) == 1, "the first step was committed"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_handed_out_steps_survive_the_death_of_their_process(
    app: App, workers: Workers, log: str, folder: Path, when: str
) -> None:
    (folder / f"die-{when}").touch()
    async with app:
        handle = await app.start(flows.fan, (log, 8))
        assert len(await handle.result(timeout=20)) == 8
        assert sorted(completions(await handle.history())) == list(range(1, 9))


async def test_all_workers_are_killed_and_new_ones_go_on(
    app: App, workers: Workers, log: str, folder: Path, tmp_path: Path
) -> None:
    async with app:
        handles = [await app.start(flows.waiting, (log, str(tmp_path / "go"))) for _ in range(6)]
        await until(lambda: len(notes(log)) == 4)
        for process in list(workers.running):
            workers.kill(process)
        (tmp_path / "go").touch()
        launch(workers, folder)
        results = [await handle.result(timeout=20) for handle in handles]
    assert sorted(first for first, _ in results) == [1, 1, 2, 2, 2, 2]


async def test_a_step_that_kills_its_worker_each_time_runs_out_of_attempts(
    app: App, workers: Workers, log: str
) -> None:
    async with app:
        handle = await app.start(flows.dies, (log,))
        with pytest.raises(StepInterrupted, match="attempt 4"):
            await handle.result(timeout=40)
        assert [type(event) for event in await handle.history()].count(Attempted) == 3
    assert [int(line.split()[2]) for line in notes(log)] == [1, 2, 3, 4]


async def test_a_worker_that_sleeps_past_its_lease_is_replaced_in_time_and_cannot_write(
    app: App, workers: Workers, log: str, tmp_path: Path
) -> None:
    async with app:
        handle = await app.start(flows.waiting, (log, str(tmp_path / "go")))
        pid = await holder(log)
        with paused(workers.database, pid):
            begun = time.monotonic()
            await until(lambda: len(notes(log)) == 2)
            taken_over = time.monotonic() - begun
            (tmp_path / "go").touch()
            assert await handle.result(timeout=20) == [2, 2]
        assert await app.call(flows.sums, (log, 5)) == 10
        assert completions(await handle.history()) == [1, 2]
    assert taken_over <= 15


# -- messages that are lost, doubled, late -----------------------------------------------------------------


async def start_some(app: App, log: str, count: int) -> list[RunHandle[int]]:
    return [await app.start(flows.sums, (log, 3)) for _ in range(count)]


async def each_once(handles: list[RunHandle[int]], log: str) -> None:
    assert [await handle.result(timeout=20) for handle in handles] == [3] * len(handles)
    keys = [line.split()[1] for line in notes(log)]
    assert len(keys) == len(set(keys)) == 3 * len(handles)


async def test_every_message_may_be_lost(app: App, workers: Workers, redis: Redis, log: str) -> None:
    async with app:
        with workers.pause(), redis.client() as client:
            handles = await start_some(app, log, 10)
            client.delete(QUEUE)
        await each_once(handles, log)


async def test_messages_may_come_twice_and_in_any_order(app: App, workers: Workers, redis: Redis, log: str) -> None:
    async with app:
        with workers.pause(), redis.client() as client:
            handles = await start_some(app, log, 10)
            messages = client.lrange(QUEUE, 0, -1) * 2
            random.Random(4).shuffle(messages)
            client.delete(QUEUE)
            client.rpush(QUEUE, *messages)
        await each_once(handles, log)


async def test_a_message_of_a_durable_run_says_nothing_but_which_run(
    app: App, workers: Workers, redis: Redis, log: str
) -> None:
    canary = f"{log}-c4n4ry"
    async with app:
        with workers.pause(), redis.client() as client:
            handles = await start_some(app, canary, 10)
            messages = client.lrange(QUEUE, 0, -1)
        await each_once(handles, canary)
    said = [base64.b64decode(json.loads(message)["body"]).decode() + message.decode() for message in messages]
    assert any(handle.id in text for handle in handles for text in said), "the paused workers took some of them"
    assert not any("c4n4ry" in text for text in said)


async def test_messages_may_come_when_all_is_done(app: App, workers: Workers, redis: Redis, log: str) -> None:
    async with app:
        with workers.pause(), redis.client() as client:
            handles = await start_some(app, log, 3)
            messages = client.lrange(QUEUE, 0, -1)
        await each_once(handles, log)
        lengths = [(await handle.run()).length for handle in handles]
        with redis.client() as client:
            client.rpush(QUEUE, *messages)
            await until(lambda: not client.llen(QUEUE))
        await each_once(await start_some(app, log + "2", 1), log + "2")
        assert [(await handle.run()).length for handle in handles] == lengths


async def test_sweepers_that_find_the_same_work_do_it_once(app: App, workers: Workers, redis: Redis, log: str) -> None:
    async with app:
        with workers.pause(), redis.client() as client:
            handles = await start_some(app, log, 40)
            client.flushall()
        await each_once(handles, log)


async def test_runs_go_on_while_the_broker_is_away_and_when_it_is_back(
    app: App, workers: Workers, redis: Redis, log: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with app:
        redis.stop()
        try:
            await each_once(await start_some(app, log, 4), log)
        finally:
            redis.start()
        assert "workers find the work by themselves" in caplog.text
        await each_once(await start_some(app, log + "2", 4), log + "2")
        with redis.client() as client:  # they consume again
            await until(lambda: client.exists(f"_kombu.binding.{QUEUE}") and not client.llen(QUEUE))


async def test_a_sequence_costs_one_message_and_one_look_at_its_history(
    app: App, workers: Workers, redis: Redis, log: str, folder: Path
) -> None:
    def pushed() -> int:
        with redis.client() as client:
            return client.info("commandstats").get("cmdstat_lpush", {}).get("calls", 0)

    async with app:
        await app.call(flows.sums, (log, 1))
        before = pushed()
        handle = await app.start(flows.sums, (log, 20))
        assert await handle.result(timeout=20) == 190
    assert pushed() - before == 1
    queries = [line for line in notes(str(folder / "queries")) if handle.id in line]
    assert queries.count(f"load {handle.id} 0") == 1
    assert queries.count(f"append {handle.id}") == 21
    assert len(queries) == 22


# -- runs that are stopped ---------------------------------------------------------------------------------


async def test_a_terminated_run_stops_its_step_wherever_that_is(
    app: App, workers: Workers, log: str, tmp_path: Path
) -> None:
    async with app:
        handle = await app.start(flows.fan, (log, 4, 60))
        await until(lambda: len(notes(log)) == 4)
        await app.recorded().terminate(handle.id)
        with pytest.raises(RunTerminated):
            await handle.result(timeout=20)
        again = await app.start(flows.fan, (log, 4, 60))
        await until(lambda: len(notes(log)) == 8)  # all four slots are free again
        await app.recorded().terminate(again.id)
