"""The policy keeps the contract, and is found by name."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pyworkflow import App, current_step, step, workflow
from pyworkflow.errors import ConfigError
from pyworkflow.testing.retries import RetryPolicyConformance
from pyworkflow_fibonacci import Fibonacci


class TestFibonacci(RetryPolicyConformance):
    @pytest.fixture
    def policy(self):
        return Fibonacci()


def test_the_pauses_are_fibonacci_numbers_up_to_the_cap():
    policy = Fibonacci(timedelta(seconds=2), timedelta(seconds=20))
    delays = [policy.delay(attempt, OSError()).total_seconds() for attempt in range(1, 9)]
    assert delays == [2, 2, 4, 6, 10, 16, 20, 20]


@pytest.mark.parametrize("unit, cap", [(0, 1), (-1, 1), (2, 1)])
def test_what_makes_no_sense_is_refused(unit, cap):
    with pytest.raises(ConfigError, match="fibonacci"):
        Fibonacci(timedelta(seconds=unit), timedelta(seconds=cap))


@step(retries=3, retry_policy="fibonacci?unit=1ms&cap=1s")
async def flaky() -> int:
    if current_step().attempt < 4:
        raise ConnectionError
    return current_step().attempt


@workflow
async def flow() -> int:
    return await flaky()


@pytest.mark.asyncio
async def test_a_step_chooses_it_by_name():
    async with App(storage="memory://", default_durable=True) as app:
        assert await app.call(flow) == 4
