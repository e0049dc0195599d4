"""Who can write to the broker, or to the result backend, and to nothing else."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.exceptions import InvalidTaskError

from pyworkflow import App, current_step, step, wire, workflow
from pyworkflow.errors import RunBlocked, WorkflowError
from pyworkflow_celery.celery_application import celery_of
from pyworkflow_celery.requests import NO_LIMIT, OurRequest
from pyworkflow_celery.settings import CelerySettings
from pyworkflow_celery.tasks import CALL, RUN, STEP


class Message:
    """As much of a message of the broker as a request reads."""

    content_type, content_encoding = "application/json", "utf-8"
    delivery_info = properties = None

    def __init__(self, task: str, **headers: Any) -> None:
        self.headers = {"id": str(uuid4()), "task": task, **headers}
        self.body = "[[], {}, {}]"
        self.payload = [[], {}, {}]


@pytest.fixture
def celery(tmp_path: Any) -> Celery:
    return celery_of(CelerySettings(broker=f"filesystem://{tmp_path}/broker", result_backend="cache+memory://"))


def received(celery: Celery, message: Message) -> Any:
    task = celery.tasks[message.headers["task"]]
    assert task.Request is OurRequest
    return task.Request(message, app=celery, task=task)


@pytest.mark.parametrize("task", [RUN, STEP, CALL])
def test_options_of_a_message_are_ignored(celery: Celery, task: str) -> None:
    forged = received(
        celery, Message(task, timelimit=[1, 1], eta="2099-01-01T00:00:00", expires="1999-01-01T00:00:00", retries=9,
                        shadow="forged\n2026-01-01 CRITICAL"),
    )  # fmt: skip
    assert tuple(forged.time_limits) == (None, None)
    assert (forged.eta, forged.expires, forged.name) == (None, None, task)


@pytest.mark.parametrize("task", [RUN, STEP])
def test_an_apps_time_limit_for_tasks_does_not_hold_for_durable_work(celery: Celery, task: str) -> None:
    celery.conf.update(task_time_limit=1, task_soft_time_limit=1)
    assert (celery.tasks[task].time_limit, celery.tasks[task].soft_time_limit) == (NO_LIMIT, NO_LIMIT)


@pytest.mark.parametrize("task_id", ["", "x" * 100_000, "a\nforged line", "a\x1b[2J", 5, None])
def test_an_id_that_would_forge_a_line_of_the_log_is_refused(celery: Celery, task_id: Any) -> None:
    with pytest.raises(InvalidTaskError, match="1 to 200 letters"):
        received(celery, Message(RUN, id=task_id))


def test_our_workers_take_no_commands_from_the_broker(celery: Celery) -> None:
    assert celery.conf.worker_enable_remote_control is False


# -- forged calls --------------------------------------------------------------------------------------------


@step(name="forged.key")
async def key() -> str:
    return current_step().idempotency_key


@workflow(name="forged.by_default")
async def by_default() -> str:
    return await key()


@workflow(name="forged.durable", durable=True)
async def durable() -> str:
    return await key()


@workflow(name="forged.transient", durable=False)
async def transient() -> str:
    return await key()


@pytest.fixture
def app(tmp_path: Any) -> App:
    return App(
        default_runtime="celery",
        storage=f"sqlite:///{tmp_path}/runs.db",
        celery_broker=f"filesystem://{tmp_path}/broker",
        celery_result_backend="cache+memory://",
    )


async def executed(app: App, run_id: Any, name: Any) -> Any:
    (event,) = wire.loads(await app.runtime().execute(run_id, name, [], {}))
    return event


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["forged.durable", "forged.by_default"])
async def test_a_forged_call_runs_nothing_durable(app: App, name: str) -> None:
    async with app:
        event = await executed(app, "order-77", name)
    assert event.error.type == f"{RunBlocked.__module__}:RunBlocked"
    assert "is durable in this worker" in event.error.message


@pytest.mark.asyncio
@pytest.mark.parametrize("run_id", ["x" * 100_000, "a\n\x1b[2J", 5])
async def test_the_run_id_of_a_forged_call_is_checked(app: App, run_id: Any) -> None:
    async with app:
        event = await executed(app, run_id, "forged.transient")
    assert "is not valid" in event.error.message


@pytest.mark.asyncio
async def test_the_idempotency_keys_of_a_forged_call_are_not_those_of_a_durable_run(app: App) -> None:
    async with app:
        assert (await executed(app, "order-77", "forged.transient")).value == "transient/order-77/1"


# -- forged results ------------------------------------------------------------------------------------------


called: list[Any] = []


class Bomb(Exception):
    def __init__(self, *args: Any) -> None:
        called.append(args)


@pytest.mark.asyncio
@pytest.mark.parametrize("result", ["", "[]", "{}", "null", '{"spec":1,"events":[]}', 5, None, {"a": 1}])
async def test_a_damaged_result_is_one_error(app: App, result: Any) -> None:
    async with app:
        runtime = app.runtime()
        runtime.celery.backend.store_result("r", result, "SUCCESS")  # type: ignore[attr-defined]
        with pytest.raises(WorkflowError, match="is damaged"):
            await runtime.transient.result("r")  # type: ignore[attr-defined]


@pytest.mark.asyncio
async def test_no_class_is_called_with_what_the_result_backend_says(app: App) -> None:
    error = {"exc_type": "Bomb", "exc_module": __name__, "exc_message": ["now"]}
    async with app:
        runtime = app.runtime()
        backend = runtime.celery.backend  # type: ignore[attr-defined]
        forged = {"status": "FAILURE", "result": error, "task_id": "r"}
        backend.set(backend.get_key_for_task("r"), backend.encode(forged))
        with pytest.raises(WorkflowError, match="was lost with its worker"):
            await runtime.transient.result("r")  # type: ignore[attr-defined]
    assert not called
