"""What a run is charged for: its operations, and nothing that nobody asked for."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
import urllib3
from aws_durable_execution_sdk_python.identifier import OperationIdNamespace

import pyworkflow
from pyworkflow import App, FatalError, sleep, step, workflow
from pyworkflow.codec.exceptions import record_of
from pyworkflow.errors import PayloadTooLarge, StepInterrupted
from pyworkflow.events import CallStep
from pyworkflow.testing.runtime_kit import workflows as kit
from pyworkflow_aws.durable.replay import ids
from pyworkflow_aws.durable.replay.payloads import Payloads
from pyworkflow_aws.durable.replay.record import Recorded, printable, wanted
from pyworkflow_aws.error_records import ERROR_LIMIT, error_data, read_error


def names(result) -> list[str]:
    return sorted(operation.name for operation in result.get_all_operations())


@step(name="ops.one")
async def one() -> int:
    return 1


@step(name="ops.much")
async def much(size: int) -> str:
    return "x" * size


@step(name="ops.fails", retries=0)
async def fails(size: int) -> None:
    raise ValueError("é" * size, {"code": 7})


@workflow(name="ops.sequence")
async def sequence(n: int) -> int:
    return sum([await one() for _ in range(n)])


@workflow(name="ops.sleeps")
async def sleeps(n: int) -> int:
    for _ in range(n):
        await sleep("2h")
    return await one()


@workflow(name="ops.gathered")
async def gathered(n: int) -> int:
    return sum(await asyncio.gather(*(one() for _ in range(n))))


@workflow(name="ops.large")
async def large(size: int) -> str:
    try:
        return str(len(await much(size)))
    except PayloadTooLarge as error:
        return f"refused: {error}"


@workflow(name="ops.failing")
async def failing(size: int) -> list[Any]:
    try:
        await fails(size)
    except ValueError as error:
        return [type(error).__name__, len(str(error)) > 10, await one()]
    return []


def test_a_sequence_of_steps_costs_no_operation_but_its_steps(official):
    result = official.run(sequence, 10)
    assert json.loads(result.result)["value"] == 10
    assert names(result) == ["ops.one"] * 10
    assert official.invocations == 1


def test_a_run_that_sleeps_listens_for_being_cancelled_by_one_operation(official):
    result = official.run(sleeps, 3)
    assert names(result) == ["ops.one", "pyworkflow.cancel", "sleep", "sleep", "sleep"]
    assert official.invocations == 4


def test_a_run_that_need_not_be_cancelled_has_no_operation_for_it(official_with):
    official = official_with(aws_cancellable=False)
    assert names(official.run(sleeps, 2)) == ["ops.one", "sleep", "sleep"]


def test_what_ends_together_costs_at_most_one_operation_more_each_time_the_run_wakes(official):
    result = official.run(gathered, 10)
    counted = names(result)
    assert counted.count("ops.one") == 10
    assert counted.count("pyworkflow.order") <= 9
    assert len(counted) == 10 + counted.count("pyworkflow.order")


def test_a_result_that_aws_would_not_keep_is_refused_before_it_is_lost(official):
    result = official.run(large, 300_000)
    assert json.loads(result.result)["value"].startswith("refused: the result of step 'ops.much'")


def test_a_result_that_is_large_goes_to_the_bucket(official_with):
    objects = {}

    class Bucket:
        def put_object(self, *, Bucket, Key, Body, ContentType):  # noqa: N803 -- boto3's names
            objects[Bucket, Key] = Body

        def get_object(self, *, Bucket, Key):  # noqa: N803 -- boto3's names
            import io

            return {"Body": io.BytesIO(objects[Bucket, Key])}

    official = official_with(aws_bucket="large")
    official.clients._made["s3 ask"] = Bucket()
    result = official.run(large, 300_000)
    assert json.loads(result.result)["value"] == "300000"
    assert len(objects) == 1


def test_an_error_is_kept_within_what_aws_takes(official):
    assert json.loads(official.run(failing, 200_000).result)["value"] == ["ValueError", True, 1]


def test_an_error_too_long_keeps_its_class_and_its_message():
    error = ValueError("x" * 100_000)
    for number in range(50):
        cause = RuntimeError(f"{number} " + "y" * 5000)
        cause.__cause__, error.__cause__ = error.__cause__, cause
    data = error_data(record_of(error), datetime.now(UTC))
    assert len(data) <= ERROR_LIMIT
    assert read_error(data)[0].message.startswith("xxx")


def test_ids_are_those_of_the_sdk():
    for key in ("1", "3.1", "12~4", "order.7"):
        assert ids.operation_id(key) == OperationIdNamespace(key).create_id_for_step(1)


def test_names_are_what_the_service_takes():
    assert printable("naïve ☃ step") == "na?ve ? step"
    assert len(printable("x" * 1000)) == 256
    assert printable("") == "?"


def test_other_arguments_are_another_operation():
    asked = wanted(CallStep(1, "charge", ["o-1"], {}))
    assert asked.fits(Recorded("STEP", "charge", asked.label))
    assert not asked.fits(Recorded("STEP", "charge", wanted(CallStep(1, "charge", ["o-2"], {})).label))


flag = {"changed": False}


@workflow(name="ops.changed")
async def changed() -> int:
    await (kit.echo(1) if flag["changed"] else one())
    await sleep("1h")
    return await one()


@workflow(name="ops.shorter")
async def shorter() -> int:
    if not flag["changed"]:
        await one()
    await asyncio.sleep(0) if flag["changed"] else await sleep("1h")
    return 7


@pytest.mark.parametrize(
    "flow, match",
    [(changed, "operation 1 was recorded as step 'ops.one'; now the workflow asks for step 'kit.echo'"),
     (shorter, "recorded that the workflow does not ask for any more")],
    ids=["another step", "fewer steps"],
)  # fmt: skip
def test_code_that_changed_under_a_run_is_told_clearly(official, flow, match):
    flag["changed"] = False
    official.before = lambda: flag.update(changed=official.invocations > 1)
    result = official.run(flow)
    flag["changed"] = False
    assert result.error.type == "pyworkflow.run.Blocked"
    assert match in result.error.message


@step(name="ops.once", at_most_once=True, retries=3, retry_delay=1)
async def once(log: str) -> None:
    kit.note(log, "once")
    raise Lost


class Lost(BaseException):
    """What a lost sandbox is like."""


@workflow(name="ops.careful")
async def careful(log: str) -> str:
    try:
        await once(log)
    except StepInterrupted as error:
        return str(error)
    return "?"


def test_a_step_at_most_once_is_not_repeated_after_its_sandbox_was_lost(official, tmp_path):
    log = str(tmp_path / "log")
    result = official.run(careful, log)
    assert "declared at_most_once" in json.loads(result.result)["value"]
    assert kit.notes(log) == ["once"]


@workflow(name="ops.logs")
async def logs() -> None:
    logging.getLogger("shop").warning("before")
    await one()
    await sleep("1h")
    logging.getLogger("shop").warning("between")
    await sleep("1h")
    logging.getLogger("shop").warning("after")


def test_what_a_workflow_logs_is_logged_once(official, caplog):
    official.run(logs)
    assert official.invocations == 3
    assert [record.message for record in caplog.records if record.name == "shop"] == ["before", "between", "after"]


@workflow(name="ops.fatal")
async def fatal() -> None:
    raise FatalError("of the workflow")


def test_a_failure_shows_the_class_of_the_error(official):
    result = official.run(fatal)
    assert (result.error.type, result.error.message) == ("pyworkflow.errors.FatalError", "of the workflow")


def test_time_and_chance_are_the_same_on_every_replay(official):
    @workflow(name="ops.chance")
    async def chance() -> list[str]:
        drawn = [str(pyworkflow.uuid4()), str(pyworkflow.now())]
        await sleep("1h")
        await kit.echo(drawn)
        await sleep("1h")
        return drawn

    result = official.run(chance)
    echoed = next(operation for operation in result.get_all_operations() if operation.name == "kit.echo")
    assert json.loads(echoed.result)["value"] == json.loads(result.result)["value"]


def test_a_payload_in_a_bucket_says_where_it_is_to_those_who_cannot_read_it():
    with pytest.raises(PayloadTooLarge, match="s3://large/key"):
        Payloads().read('{"at": 0, "bucket": "large", "s3": "key"}')


def test_an_app_needs_a_function():
    from pyworkflow.errors import ConfigError

    with pytest.raises(ConfigError, match="aws_function"):
        asyncio.run(App(aws_region="eu-west-1", default_runtime="durable-lambda").start(fatal))


@pytest.mark.asyncio
async def test_runs_that_are_started_one_after_another_share_a_connection(make_app, monkeypatch):
    opened, connect = [], urllib3.HTTPConnectionPool._new_conn

    def counted(pool):
        opened.append(threading.current_thread().name)
        return connect(pool)

    async with make_app() as app:
        await app.start(sequence, (0,))
        monkeypatch.setattr(urllib3.HTTPConnectionPool, "_new_conn", counted)
        for _ in range(5):
            handle = await app.start(sequence, (0,))
        monkeypatch.undo()
        await handle.result()
    assert opened.count("pyworkflow-aws") == 0  # what is called there is called by us
