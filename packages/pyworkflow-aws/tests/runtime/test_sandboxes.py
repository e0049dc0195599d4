"""Deployed handlers under AWS's runtime client, in processes of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pyworkflow import App
from pyworkflow.errors import RunBlocked, Unsupported
from pyworkflow.events import Attempted, Completed, RunCompleted
from pyworkflow.testing.runtime_kit.workflows import notes
from pyworkflow.testing.until import until
from pyworkflow_aws.local_lambda import functions_of
from pyworkflow_aws.testing import Endpoint
from pyworkflow_aws.transient_lambda import OutOfTime

HERE = Path(__file__).parent


@pytest.fixture
def log(tmp_path):
    return str(tmp_path / "effects")


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A local Lambda with the workflows of `programs`."""
    from aws_durable_execution_sdk_python_testing.executor import Executor

    before, Executor.RETRY_BACKOFF_SECONDS = Executor.RETRY_BACKOFF_SECONDS, 0  # of an invocation that failed
    log = tmp_path_factory.mktemp("lambda") / "log"
    names = {"PYTHONWARNINGS": "default"}
    durable, transient = functions_of("programs", HERE, timeout=20, log=log, **names)
    short, _ = functions_of("programs", HERE, timeout=3, log=log, **names)
    brief = functions_of("programs", HERE, timeout=3, log=log, **names)[1]
    functions = {"durable": durable, "transient": transient, "short": short, "brief": brief}
    with Endpoint(functions) as endpoint:
        yield endpoint
    Executor.RETRY_BACKOFF_SECONDS = before


@pytest.fixture
def app(local, monkeypatch):
    def make(function, runtime="durable-lambda"):
        return App(default_runtime=runtime, aws_endpoint_url=local.url, aws_region="us-east-1", aws_function=function)

    return make


@pytest.mark.asyncio
async def test_a_run_goes_on_in_a_new_sandbox_when_the_one_it_slept_in_is_gone(local, app, programs, log):
    async with app("durable") as client:
        handle = await client.start(programs.sleeps, (log, 2))
        await until(lambda: "before" in notes(log))
        await until(lambda: not local.functions["durable"]._busy)
        local.functions["durable"].forget()
        assert await handle.result(timeout=20) == "awake"
    assert notes(log) == ["before", "after"]
    assert local.functions["durable"].cold_starts >= 2


@pytest.mark.asyncio
async def test_a_step_is_tried_again_after_its_sandbox_was_killed(local, app, programs, log):
    async with app("durable") as client:
        assert await client.call(programs.lost, (log,), {"twice": True}) == "before, survived"
    assert notes(log) == ["tries", "tries"]


@pytest.mark.asyncio
async def test_nothing_is_left_of_a_sandbox_that_was_killed(local, app, programs, log):
    async with app("durable") as client:
        await client.call(programs.lost, (log,), {"twice": True})
    local.functions["durable"].forget()
    apis = [thread for thread in threading.enumerate() if thread.name == "pyworkflow-runtime-api"]
    others = sum(len(function._idle) for function in local.functions.values())
    assert len(apis) == others


@pytest.mark.asyncio
async def test_a_timer_that_is_set_anew_while_it_fires_is_not_lost(local, app, programs, log, monkeypatch):
    from aws_durable_execution_sdk_python_testing.execution import Execution

    executor, complete = local._runner._executor, Execution.complete_due_operations

    def completing(execution, now):
        completed = complete(execution, now)
        executor._schedule_earliest_pending(execution.durable_execution_arn)  # as an invocation does that ends now
        return completed

    monkeypatch.setattr(Execution, "complete_due_operations", completing)
    async with app("durable") as client:
        assert await (await client.start(programs.sleeps, (log, 1))).result(timeout=20) == "awake"


@pytest.mark.asyncio
async def test_a_step_at_most_once_is_not_tried_again(local, app, programs, log):
    async with app("durable") as client:
        with pytest.raises(Exception, match="declared at_most_once"):
            await client.call(programs.lost, (log,), {"twice": False})
    assert notes(log) == ["dies"]


@pytest.mark.asyncio
async def test_a_run_of_many_steps_goes_on_in_another_invocation_before_its_time_is_up(local, app, programs, log):
    async with app("short") as client:
        assert await client.call(programs.many, (log, 25, 0.15)) == "done"
    assert notes(log) == ["slow"] * 25
    assert local.functions["short"].invocations >= 2


@pytest.mark.asyncio
async def test_a_hook_is_a_callback(local, app, programs, log):
    async with app("durable") as client:
        handle = await client.start(programs.asks, (log,))
        (token,) = await until(lambda: notes(log))
        assert [hook.name for hook in await client.recorded().hooks(handle.id)] == ["approval"]
        assert await client.resume_hook(token, "yes") == handle.id
        assert await handle.result(timeout=20) == "yes"
        history = await handle.history()
    assert isinstance(history[-1], RunCompleted)
    assert not any(isinstance(event, Attempted) for event in history)


@pytest.mark.asyncio
async def test_a_history_can_be_told_by_those_who_do_not_have_the_code(local, app, programs, log):
    from pyworkflow.authoring.definitions import Registry

    async with app("durable") as client:
        handle = await client.start(programs.sleeps, (log, 0.01))
        await handle.result(timeout=20)
        known = await handle.history()
    stranger = App(
        registry=Registry(), default_runtime="durable-lambda", aws_endpoint_url=local.url, aws_region="us-east-1",
        aws_function="durable",
    )  # fmt: skip
    async with stranger:
        run, told = await stranger.recorded().history(handle.id)
    assert run.workflow == "fuzz.sleeps"
    assert sum(isinstance(e, Completed) for e in told) >= sum(isinstance(e, Completed) for e in known)


@pytest.mark.asyncio
async def test_an_invocation_that_takes_too_long_is_ended_and_told(local, app, programs, log):
    async with app("brief", "lambda") as client:
        with pytest.raises(OutOfTime, match="time is up"):
            await client.call(programs.slowly, (log, 30.0))


@pytest.mark.asyncio
async def test_a_sleep_longer_than_the_function_has_is_refused_before_it_begins(local, app, programs, log):
    async with app("transient", "lambda") as client:
        with pytest.raises(OutOfTime, match="3600 s, and the function has"):
            await client.call(programs.sleeps, (log, 3600.0))
    assert notes(log) == ["before"]


@pytest.mark.asyncio
async def test_a_transient_run_fails_with_its_sandbox_and_is_not_repeated(local, app, programs, log):
    async with app("transient", "lambda") as client:
        with pytest.raises(RunBlocked, match=r"Runtime\.ExitError"):
            await client.call(programs.lost, (log,), {"twice": True})
    assert notes(log) == ["tries"]


@pytest.mark.asyncio
async def test_a_run_started_by_an_event_has_no_result(local, app, programs, log):
    async with app("transient", "lambda?invocation=event") as client:
        handle = await client.start(programs.sleeps, (log, 0.01))
        with pytest.raises(Unsupported, match="keeps no result"):
            await handle.result()
        await until(lambda: notes(log) == ["before", "after"])


def test_pyworkflow_dev_says_how_to_use_it_and_runs_workflows(tmp_path):
    flows = tmp_path / "flows.py"
    flows.write_text(
        "from pyworkflow import step, workflow\n"
        "@step\ndef double(n: int) -> int:\n    return 2 * n\n"
        "@workflow\nasync def twice(n: int) -> int:\n    return await double(n)\n"
    )
    pyworkflow = [sys.executable, "-m", "pyworkflow"]
    serving = subprocess.Popen(
        [*pyworkflow, "dev", str(flows), "--port", "0"], stdout=subprocess.PIPE, cwd=tmp_path, text=True
    )
    try:
        lines = [serving.stdout.readline() for _ in range(6)]
        exported = dict(re.fullmatch(r"export (\w+)=(.*)\n", line).groups() for line in lines)
        command = [*pyworkflow, "run", f"{flows}:twice", "21"]
        done = subprocess.run(
            command, env={**os.environ, **exported}, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "42" in done.stdout
        assert re.fullmatch(r"run \S+ in AWS's history of function 'flows'\n", done.stderr)
    finally:
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(timeout=20) == 0
        serving.stdout.close()
