"""The environment for tests of workflows: virtual time, doubles of steps, crashes."""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import timedelta
from pathlib import Path

import pytest

import pyworkflow
from pyworkflow import hook, sleep, step, workflow
from pyworkflow.errors import ConfigError, HookExpired, WorkflowError
from pyworkflow.inspection.export import to_json
from pyworkflow.testing import WorkflowEnvironment, assert_replays

pytestmark = pytest.mark.asyncio


@step(name="env.charge", retries=3, retry_delay="1h")
def charge(order: str) -> str:
    pytest.fail("the real step ran")


@step(name="env.mail", timeout="1 day")
async def mail(order: str, text: str) -> None:
    pytest.fail("the real step ran")


@workflow(name="env.order")
async def order_flow(order: str) -> str:
    payment = await charge(order)
    await sleep("30 days")
    await mail(order, "how was it?")
    return payment


@workflow(name="env.approval")
async def approval() -> str:
    try:
        return await hook("approval", str, token="t", timeout="7d")
    except HookExpired:
        return "nobody"


@workflow(name="env.for_ever")
async def for_ever() -> str:
    return await hook("never", str, token="never")


async def test_thirty_days_take_no_time(workflow_env: WorkflowEnvironment) -> None:
    began = time.monotonic()
    async with workflow_env as env:
        env.step(charge).returns("paid")
        env.step("env.mail")
        start = env.now
        assert await env.run(order_flow, "o-1") == "paid"
        assert env.now - start == timedelta(days=30)
    assert time.monotonic() - began < 5


async def test_a_double_tells_how_it_was_called(workflow_env: WorkflowEnvironment) -> None:
    async with workflow_env as env:
        charges, mails = env.step(charge).returns("paid"), env.step(mail)
        await env.run(order_flow, "o-1")
    assert charges.calls == [(("o-1",), {})]
    assert mails.calls == [(("o-1", "how was it?"), {})]


async def test_a_double_fails_and_is_retried_on_the_clock(workflow_env: WorkflowEnvironment) -> None:
    async with workflow_env as env:
        charges = env.step(charge).raises(ConnectionError("one"), ConnectionError("two"), then="paid")
        env.step(mail)
        start = env.now
        assert await env.run(order_flow, "o-1") == "paid"
        assert env.now - start == timedelta(days=30, hours=2)
    assert len(charges.calls) == 3


async def test_a_double_may_be_a_function(workflow_env: WorkflowEnvironment) -> None:
    async with workflow_env as env:
        env.step(charge).calls_to(lambda order: f"paid {order}")
        env.step(mail)
        assert await env.run(order_flow, "o-9") == "paid o-9"


async def test_the_result_of_a_double_has_to_fit_the_step(workflow_env: WorkflowEnvironment) -> None:
    async with workflow_env as env:
        env.step(charge).returns(42)
        with pytest.raises(pyworkflow.WorkflowError, match=r"env\.charge"):
            await env.run(order_flow, "o-1")


async def test_a_step_that_is_not_there_is_named(workflow_env: WorkflowEnvironment) -> None:
    async with workflow_env as env:
        with pytest.raises(ConfigError, match=r"did you mean 'env\.charge'"):
            env.step("env.charg")


async def test_time_passes_only_when_the_test_lets_it(workflow_env: WorkflowEnvironment) -> None:
    async with workflow_env as env:
        charges, mails = env.step(charge).returns("paid"), env.step(mail)
        handle = await env.start(order_flow, "o-1")
        assert len(charges.calls) == 1
        await env.skip("29 days")
        assert mails.calls == []
        await env.skip("1 day")
        assert len(mails.calls) == 1
        assert await env.result(handle) == "paid"


async def test_a_hook_is_resumed_in_time(workflow_env: WorkflowEnvironment) -> None:
    async with workflow_env as env:
        handle = await env.start(approval)
        await env.skip("6d")
        await env.resume_hook("t", "ada")
        assert await env.result(handle) == "ada"


async def test_a_hook_expires_on_the_clock(workflow_env: WorkflowEnvironment) -> None:
    async with workflow_env as env:
        assert await env.run(approval) == "nobody"


async def test_waiting_for_what_no_time_brings_is_an_error_and_not_a_hang(workflow_env: WorkflowEnvironment) -> None:
    async with workflow_env as env:
        with pytest.raises(WorkflowError, match="a payload for hook 'never'"):
            await env.run(for_ever)


async def test_a_step_that_hangs_runs_into_its_timeout(workflow_env: WorkflowEnvironment) -> None:
    @workflow(name="env.impatient")
    async def impatient() -> str:
        try:
            async with asyncio.timeout(3600):
                return await charge("o-1")
        except TimeoutError:
            return "gave up"

    async def hang(order: str) -> str:
        await asyncio.Event().wait()
        return order

    workflow_env = WorkflowEnvironment()  # it knows what was declared before it
    async with workflow_env as env:
        env.step(charge).calls_to(hang)
        assert await env.run(impatient) == "gave up"


async def test_a_run_survives_a_crash_and_no_completed_step_runs_again(workflow_env: WorkflowEnvironment) -> None:
    async with workflow_env as env:
        charges, mails = env.step(charge).returns("paid"), env.step(mail)
        handle = await env.start(order_flow, "o-1")
        await env.crash()
        assert await env.result(handle) == "paid"
    assert (len(charges.calls), len(mails.calls)) == (1, 1)


async def test_a_step_that_was_lost_in_a_crash_is_tried_again(workflow_env: WorkflowEnvironment) -> None:
    async def hang_once(order: str) -> str:
        if len(charges.calls) == 1:
            await asyncio.Event().wait()
        return f"paid at attempt {pyworkflow.current_step().attempt}"

    async with workflow_env as env:
        charges = env.step(charge).calls_to(hang_once)
        env.step(mail)
        handle = await env.start(order_flow, "o-1")
        await env.crash()
        assert await env.result(handle) == "paid at attempt 2"


calls = itertools.count()


@workflow(name="env.counts_calls")
async def counts_calls() -> None:
    for _ in range(next(calls)):  # noqa: PW401 -- that this shows is tested
        pyworkflow.random()


async def test_what_a_workflow_takes_from_outside_its_history_is_named(
    workflow_env: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with workflow_env as env:
        handle = await env.start(counts_calls)
        await env.result(handle)
        (tmp_path / "history.json").write_text(to_json(await handle.run(), await handle.history()))
    with pytest.raises(AssertionError, match=r"two replays of the history differ.*lanes"):
        assert_replays(counts_calls, tmp_path)


async def test_histories_are_replayed_as_tests(workflow_env: WorkflowEnvironment, tmp_path: Path) -> None:
    async with workflow_env as env:
        env.step(charge).returns("paid")
        env.step(mail)
        handle = await env.start(order_flow, "o-1")
        await env.result(handle)
        (tmp_path / "o-1.json").write_text(to_json(await handle.run(), await handle.history()))
    assert_replays(order_flow, tmp_path)
    with pytest.raises(AssertionError, match=r"o-1\.json does not replay"):
        assert_replays(approval, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AssertionError, match="no histories"):
        assert_replays(order_flow, tmp_path / "empty")


@step(name="env.unhurried", retries=0)
async def unhurried(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "at last"


@workflow(name="env.patient")
async def patient(seconds: float) -> str:
    return await unhurried(seconds)


async def test_a_step_may_take_real_time_if_there_is_nothing_else_to_wait_for(
    workflow_env: WorkflowEnvironment,
) -> None:
    async with workflow_env as env:
        assert await env.run(patient, 0.3) == "at last"


async def test_a_step_that_hangs_is_an_error_that_says_what_to_do(
    workflow_env: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyworkflow.testing.environment._PATIENCE", 0.2)
    async with workflow_env as env:
        with pytest.raises(WorkflowError, match=r"has not ended within 0\.2 s of real time; put a double"):
            await env.run(patient, 3600)
