"""What workflows and steps are outside of runs: to sync code, and to code that calls a step by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import pyworkflow
from pyworkflow import App, step, workflow
from pyworkflow.app import set_default_app
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.errors import WorkflowError


@step(name="outside.double", retries=0)
def double(n: int) -> int:
    if n < 0:
        raise ValueError("too little")
    return 2 * n


@step(name="outside.halve")
async def halve(n: int) -> float:
    return n / 2


@workflow(name="outside.both")
async def both(n: int) -> float:
    return await halve(await double(n))


@pytest.fixture(params=[True, False], ids=["durable", "transient"])
def app(request: pytest.FixtureRequest) -> Iterator[App]:
    app = App(storage=MemoryStorage(), default_durable=request.param)
    before = set_default_app(app)
    yield app
    set_default_app(before)


def test_a_step_called_outside_a_workflow_is_a_plain_call() -> None:
    assert double(2) == 4
    assert asyncio.run(halve(2)) == 1.0
    with pytest.raises(ValueError, match="too little"):
        double(-1)


def test_sync_code_runs_a_workflow_and_gets_its_result(app: App) -> None:
    assert pyworkflow.run(both, 21) == 21.0


def test_sync_code_sees_what_a_workflow_raises(app: App) -> None:
    with pytest.raises(ValueError, match="too little"):
        pyworkflow.run(both, -1)


@pytest.mark.asyncio
async def test_running_a_workflow_from_a_coroutine_is_refused_with_what_to_do(app: App) -> None:
    with pytest.raises(WorkflowError, match="await"):
        pyworkflow.run(both, 1)
