"""Code that changes under a run, and code that is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from worker_flows import add, durable, left_by_a_lost_worker, outcome_of, sums

from pyworkflow import App, RunHandle, sleep, workflow
from pyworkflow.authoring.definitions import Registry, Step, StepOptions, Workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.errors import NonDeterminism, RunBlocked
from pyworkflow.events import RunStarted
from pyworkflow.model import Job, Run

pytestmark = pytest.mark.asyncio


def replaced(app: App, flow: Workflow[..., Any], function: Callable[..., Any]) -> None:
    """Put other code behind a workflow's name, as a deployment would."""
    app.registry.workflows[flow.name] = Workflow(function, flow.name, Registry(), runtime=None, durable=None)


async def changed_while_asleep(app: App, changing: Workflow[[], int], changed: Callable[..., Any]) -> RunHandle[int]:
    """Start a run, and put other code behind its workflow's name once it sleeps."""
    handle = await app.start(changing)
    while (await handle.run()).length < 4:
        await asyncio.sleep(0)
    replaced(app, changing, changed)
    return handle


@pytest.fixture
def changing() -> Any:
    @workflow(name="worker.changing")
    async def changing() -> int:
        first = await add(1, 1)
        await sleep("20ms")
        return await add(first, 1)

    yield changing
    replaced(App(), changing, changing.function)


async def test_changed_code_blocks_the_run_and_the_old_code_lets_it_go_on(changing: Workflow[[], int]) -> None:
    async def changed() -> int:
        return await add(7, 7)

    async with durable(MemoryStorage(), default_runtime="local?kept=0") as app:
        handle = await changed_while_asleep(app, changing, changed)
        with pytest.raises(RunBlocked, match=r"worker.add\(1, 1\).*worker.add\(7, 7\)"):
            await handle.result(timeout=20)
        replaced(app, changing, changing.function)
        await app.recorded().retry(handle.id)
        assert await handle.result(timeout=20) == 3


async def test_a_blocked_run_says_it_is_non_determinism(changing: Workflow[[], int]) -> None:
    async def changed() -> int:
        return 0

    async with durable(MemoryStorage(), default_runtime="local?kept=0") as app:
        handle = await changed_while_asleep(app, changing, changed)
        with pytest.raises(RunBlocked):
            await handle.result(timeout=20)
        assert (await handle.history())[-1].error.type == f"{NonDeterminism.__module__}:NonDeterminism"


async def test_a_step_that_is_not_known_here_blocks_the_run() -> None:
    storage = MemoryStorage()

    async def nothing() -> None:
        pass

    gone = Step(nothing, "worker.gone", Registry(), StepOptions())

    @workflow(name="worker.strange")
    async def strange() -> Any:
        return await gone()

    run_id = await left_by_a_lost_worker(storage, strange)
    with pytest.raises(RunBlocked, match=r"'worker.gone' is not known in this process"):
        await outcome_of(durable(storage), run_id)


async def test_runs_of_unknown_workflows_are_left_alone() -> None:
    storage = MemoryStorage()
    now = datetime.now(UTC)
    run = Run("foreign", "somebody.else", now, length=1)
    await storage.create(
        run, [RunStarted(now, run.workflow, [], {}, "")], [Job("foreign", due=now, workflow=run.workflow)]
    )
    async with durable(storage) as app, app.worker():
        await app.call(sums, (1,))
    assert len(await storage.claim("w", datetime.now(UTC), timedelta(1), 9)) == 1
