"""Workers as users start them: the command line, plain Celery, queues, pools, and how they stop."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import celery_flows as flows
import pytest
from celery import Celery
from celery.concurrency.base import BasePool
from celery_servers import HERE, Redis, Workers

from pyworkflow import App
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.engine.scheduler import run_id_of
from pyworkflow.errors import ConfigError, Unsupported
from pyworkflow.events import Attempted
from pyworkflow.testing.runtime_kit import workflows as kit
from pyworkflow.testing.runtime_kit.workflows import notes
from pyworkflow.testing.until import until
from pyworkflow_celery import install
from pyworkflow_celery.bootstep import Begin
from pyworkflow_celery.settings import CelerySettings

MakeWorkers = Callable[..., Workers]


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "effects")


def command(*options: str) -> list[str]:
    modules = [str(HERE / "celery_flows.py"), str(HERE / "celery_schedules.py")]
    return ["-m", "pyworkflow", "-v", "worker", *modules, "--concurrency", "1", *options]


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Two workers of the command line on the folder that is the default broker, one of them for the queue ``gpu``."""
    folder = tmp_path_factory.mktemp("embedded")
    workers = Workers(
        folder,
        storage=f"sqlite:///{folder}/flows.db",
        default_runtime="celery",
        default_retry="fixed?delay=1ms",
        celery_broker=f"filesystem://{folder}/broker",
    )
    launched = [workers.launch(command=command()), workers.launch(command=command("--queues", "gpu"))]
    for process in launched:
        workers.ready(process)
    yield workers
    workers.close()


@pytest.fixture
def app(workers: Workers) -> App:
    return App(**{key.removeprefix("PYWORKFLOW_").lower(): value for key, value in workers.env.items()})


@pytest.mark.asyncio
async def test_the_password_of_a_broker_is_in_no_row(tmp_path: Path, log: str) -> None:
    settings = {"storage": f"sqlite:///{tmp_path}/flows.db", "celery_broker": "redis://me:c4n4ry@127.0.0.1:1/0"}
    async with App(default_durable=True, **settings) as app:
        assert await app.call(flows.sums, (log, 3)) == 3
    with closing(sqlite3.connect(tmp_path / "flows.db")) as db:
        rows = [row for table in ("runs", "events", "jobs") for row in db.execute(f"select * from {table}")]  # noqa: S608 -- constants
    assert rows
    assert "c4n4ry" not in repr(rows)


@pytest.mark.asyncio
async def test_closing_an_app_ends_the_thread_that_sends(tmp_path: Path, log: str) -> None:
    def sending() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "pyworkflow-sender"}

    before = sending()
    settings = {"storage": f"sqlite:///{tmp_path}/flows.db", "celery_broker": f"filesystem://{tmp_path}/broker"}
    async with App(default_runtime="celery", **settings) as app:
        await app.start(flows.sums, (log, 1))
        (mine,) = sending() - before
    await until(lambda: not mine.is_alive())


class TestWithoutAServer:
    pytestmark = pytest.mark.asyncio

    async def test_a_workflow_with_a_bit_of_everything_runs(self, app: App, workers: Workers, log: str) -> None:
        async with app:
            assert await app.call(flows.mixed, (log, 1)) == 114

    async def test_a_step_goes_to_the_worker_of_its_queue(self, app: App, workers: Workers, log: str) -> None:
        async with app:
            here, there = await app.call(flows.routed, (log,))
        normal, gpu = (workers.children(process) for process in workers.running)
        assert here in normal
        assert there in gpu

    async def test_a_celery_task_serves_as_a_step_with_retries_of_the_run(
        self, app: App, workers: Workers, log: str
    ) -> None:
        async with app:
            handle = await app.start(flows.adopted, (log, 5))
            result = await handle.result(timeout=20)
        assert result == {"amount": 5, "key": f"{handle.id}/1"}
        assert notes(log) == ["charge 0", "charge 1", "charge 2"]

    async def test_a_schedule_is_kept_by_the_workers(self, app: App, workers: Workers) -> None:
        async def waits() -> bool:
            return (await app.recorded().run(run_id_of("faults.daily"))).length >= 3

        async with app:
            await until(waits)

    async def test_a_transient_run_needs_a_result_backend_for_its_result(
        self, app: App, workers: Workers, log: str
    ) -> None:
        async with app:
            handle = await app.start(flows.transient, (log, 0.01))
            await until(lambda: notes(log))
            with pytest.raises(Unsupported, match="celery_result_backend"):
                await handle.result()
            with pytest.raises(Unsupported, match="celery_result_backend"):
                await handle.cancel()

    async def test_a_transient_run_takes_no_idempotency_key(self, app: App, workers: Workers, log: str) -> None:
        async with app:
            with pytest.raises(Unsupported, match="durable"):
                await app.start(flows.transient, (log, 0.01), idempotency_key="once")

    async def test_it_stops_when_told_to(self, workers: Workers) -> None:
        process = workers.start(command=command())
        assert workers.stop(process) == 0

    async def test_it_stops_when_its_pool_is_told_to_at_the_same_time(self, workers: Workers) -> None:
        process = workers.start(command=command())
        workers.running.remove(process)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(40) == 0


def test_a_local_runtime_has_neither_queues_nor_concurrency(make_workers: MakeWorkers, tmp_path: Path) -> None:
    workers = make_workers(default_runtime="local")
    process = workers.launch(command=command())
    assert process.wait(20) == 2
    assert "--concurrency is for runtimes with workers of their own kind" in workers.log()


# -- how they stop -----------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
async def test_a_step_may_end_when_its_worker_is_told_to_stop(
    make_workers: MakeWorkers, redis: Redis, tmp_path: Path, log: str, pool: str
) -> None:
    workers = make_workers(default_runtime="celery", celery_broker=redis.url(2))
    process = workers.start("--pool", pool, "--concurrency", "1")
    settings = {key.removeprefix("PYWORKFLOW_").lower(): value for key, value in workers.env.items()}
    async with App(**settings) as app:
        handle = await app.start(flows.waiting, (log, str(tmp_path / "go")))
        await until(lambda: notes(log))
        process.send_signal(signal.SIGTERM)
        await until(lambda: "shutdown" in workers.log())
        (tmp_path / "go").touch()
        assert workers.stop(process) == 0
        history = await handle.history()
        assert (await handle.run()).length == 4, "the step's result and the next step, which is not begun"
        assert not any(isinstance(event, Attempted) for event in history)


@pytest.mark.asyncio
async def test_a_step_that_takes_longer_is_handed_back_without_costing_an_attempt(
    make_workers: MakeWorkers, redis: Redis, tmp_path: Path, log: str
) -> None:
    workers = make_workers(default_runtime="celery", celery_broker=redis.url(3), celery_grace="100ms")
    settings = {key.removeprefix("PYWORKFLOW_").lower(): value for key, value in workers.env.items()}
    async with App(**settings) as app:
        first, second = workers.launch("-c", "1"), workers.launch("-c", "1")
        handle = await app.start(flows.waiting, (log, str(tmp_path / "go")))
        await until(lambda: notes(log))
        workers.ready(first)
        workers.ready(second)
        holder = int(notes(log)[0].split()[3])
        stopped = first if holder in workers.children(first) else second
        assert workers.stop(stopped) == 0
        await until(lambda: len(notes(log)) == 2)
        (tmp_path / "go").touch()
        assert await handle.result(timeout=20) == [1, 2]
        assert not any(isinstance(event, Attempted) for event in await handle.history())


# -- a Celery app of the user's --------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_workflows_live_in_the_users_own_app(
    make_workers: MakeWorkers, redis: Redis, log: str, tmp_path: Path
) -> None:
    workers = make_workers(default_runtime="celery")
    plain = ["-m", "celery", "-A", "celery_shop", "worker", "-l", "INFO", "--pool", "solo"]
    process = workers.start(command=plain, SHOP_BROKER=redis.url(4))
    shop = Celery("shop", broker=redis.url(4), set_as_current=False)
    async with App(storage=workers.env["PYWORKFLOW_STORAGE"], default_runtime="celery", celery_app=shop) as app:
        assert await app.call(kit.sequence, (log, 3)) == 3
    shop.send_task("shop.note", (log,))
    await until(lambda: "a task of the shop" in notes(log))
    assert workers.stop(process) == 0
    shop.close()


def test_an_app_that_takes_pickle_is_refused() -> None:
    shop = Celery("shop", broker="memory://", set_as_current=False)
    shop.conf.accept_content = ["json", "pickle"]
    with pytest.raises(ConfigError, match=r"'pickle' in accept_content"):
        install(shop)


@pytest.mark.asyncio
async def test_a_storage_in_memory_is_refused() -> None:
    async with App(default_runtime="celery", storage=MemoryStorage()) as app:
        with pytest.raises(ConfigError, match="see nothing of a storage in memory"):
            await app.start(kit.nothing)


def test_what_is_no_celery_app_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a Celery app"):
        install(object())  # type: ignore[arg-type]


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_a_green_pool_is_refused_with_the_reason(pool: str) -> None:
    green = type("TaskPool", (BasePool,), {"__module__": f"celery.concurrency.{pool}"})
    with pytest.raises(ConfigError, match=rf"{pool} pool: it needs threads.*prefork, threads or solo"):
        Begin(SimpleNamespace(pool_cls=green, concurrency=2))


# -- settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, match",
    [
        ({"celery_lease": "1s"}, "celery_lease .* at least twice celery_sweep"),
        ({"celery_concurrency": 0}, "celery_concurrency is 0"),
        ({"celery_capacity": 0}, "celery_capacity is 0"),
        ({"celery_grace": "-1s"}, "celery_grace"),
        ({"celery_app": "shop"}, "module:attribute"),
        ({"celery_app": "shop:app", "celery_broker": "redis://h"}, "brings its own broker"),
        ({"celery_app": "shop:app", "celery_visibility_timeout": "1m"}, "brings its own visibility_timeout"),
        ({"celery_brokr": "redis://h"}, "celery_broker"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        App(**given)


def test_an_app_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(ConfigError, match=r"'no\.such:app'.*No module named"):
        App(default_runtime="celery", celery_app="no.such:app").runtime().celery  # noqa: B018 -- it is made when asked for


def test_passwords_are_not_shown() -> None:
    settings = CelerySettings(broker="redis://me:hunter2@h/0", result_backend="redis://:hunter2@h/1")
    assert "hunter2" not in repr(settings)


@pytest.mark.asyncio
async def test_a_password_is_in_no_log_when_the_broker_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(
        storage=f"sqlite:///{tmp_path}/flows.db",
        default_runtime="celery",
        celery_broker="redis://me:hunter2@127.0.0.1:1/0",
    )
    async with app:
        await app.start(kit.nothing)
        await until(lambda: "cannot be reached" in caplog.text)
    assert "hunter2" not in caplog.text
