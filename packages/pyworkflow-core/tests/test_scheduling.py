"""Scheduled workflows: started by a run of their own, on the clock, and not twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

import pyworkflow
from pyworkflow import Schedule, hook, sleep, step, workflow
from pyworkflow.authoring.definitions import default_registry
from pyworkflow.cli.commands.schedules import sentence
from pyworkflow.engine.scheduler import SUFFIX, Control, State, look, tell
from pyworkflow.errors import ConfigError, DefinitionError, RunNotFound
from pyworkflow.model import RunQuery, Status
from pyworkflow.testing import WorkflowEnvironment

pytestmark = pytest.mark.asyncio

START = datetime(2026, 3, 27, 12, 0, tzinfo=UTC)  # a Friday; summer time begins in Vienna on Sunday
started: list[str] = []


@step(name="sched.note")
async def note(text: str) -> None:
    started.append(text)


@workflow(name="sched.daily", schedule="0 9 * * *", timezone="Europe/Vienna")
async def daily() -> None:
    await note(f"{pyworkflow.now():%m-%d %H:%M}")


@workflow(name="sched.slow", schedule="*/10 * * * *")
async def slow() -> None:
    await note(f"{pyworkflow.now():%H:%M}")
    await sleep("25m")


@workflow(name="sched.impatient", schedule=Schedule("*/10 * * * *", overlap="cancel"))
async def impatient() -> None:
    try:
        await note(f"{pyworkflow.now():%H:%M}")
        await sleep("25m")
    except asyncio.CancelledError:
        await note("cancelled")
        raise


@workflow(name="sched.parallel", schedule=Schedule("*/10 * * * *", overlap="allow"))
async def parallel() -> None:
    await note(f"{pyworkflow.now():%H:%M}")
    await hook("never")


# Kept out of the registry, so that the workers of other tests do not start them.
SCHEDULED = {
    name: default_registry.workflows.pop(name)
    for flow in (daily, slow, impatient, parallel)
    for name in (flow.name, flow.name + SUFFIX)
}


@pytest_asyncio.fixture
async def env(request: pytest.FixtureRequest) -> AsyncIterator[WorkflowEnvironment]:
    """An environment that knows one of the scheduled workflows: what the test is marked with."""
    started.clear()
    wanted = f"sched.{request.param}"
    known = {name: SCHEDULED[name] for name in (wanted, wanted + SUFFIX)}
    default_registry.workflows.update(known)
    env = WorkflowEnvironment(start=START, schedules=True)
    for name in known:
        del default_registry.workflows[name]
    async with env:
        yield env


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("env", [name], indirect=True)


def runtime(env: WorkflowEnvironment) -> object:
    return env.app.recorded()


@of("daily")
async def test_a_workflow_is_started_at_its_times_by_the_clocks_of_its_zone(env: WorkflowEnvironment) -> None:
    await env.skip("3 days")
    assert started == ["03-28 08:00", "03-29 07:00", "03-30 07:00"]


@of("daily")
async def test_a_time_is_not_started_twice_by_a_crash(env: WorkflowEnvironment) -> None:
    await env.skip("1 day")
    await env.crash()
    await env.skip("1 day")
    assert started == ["03-28 08:00", "03-29 07:00"]


@of("daily")
async def test_times_missed_for_less_than_the_window_are_caught_up(env: WorkflowEnvironment) -> None:
    await env.app.recorded().crash()
    env.clock.move(START + timedelta(days=5))
    await env.crash()
    await env.skip("1s")
    assert started == ["04-01 12:00"], "the last one is less than a day late, the others are left out"


@of("slow")
async def test_a_time_is_left_out_while_the_run_before_goes_on(env: WorkflowEnvironment) -> None:
    await env.skip("1h")
    assert started == ["12:10", "12:40"]


@of("impatient")
async def test_the_run_before_is_cancelled_where_that_is_asked_for(env: WorkflowEnvironment) -> None:
    await env.skip("20m")
    assert sorted(started) == ["12:10", "12:20", "cancelled"]


@of("parallel")
async def test_runs_go_on_beside_each_other_where_that_is_asked_for(env: WorkflowEnvironment) -> None:
    await env.skip("30m")
    assert started == ["12:10", "12:20", "12:30"]


@of("daily")
async def test_a_schedule_is_paused_and_resumed(env: WorkflowEnvironment) -> None:
    await tell(env.app.recorded(), "sched.daily", Control("pause"))
    await env.skip("2 days")
    assert started == []
    assert (await look(env.app.recorded(), "sched.daily"))[0].paused
    await tell(env.app.recorded(), "sched.daily", Control("resume"))
    await env.skip("1 day")
    assert started == ["03-30 07:00"]


@of("daily")
async def test_a_run_is_triggered_at_any_time(env: WorkflowEnvironment) -> None:
    await tell(env.app.recorded(), "sched.daily", Control("trigger"))
    await env.settle()
    assert started == ["03-27 12:00"]


@of("daily")
async def test_a_stretch_of_the_past_is_backfilled_once(env: WorkflowEnvironment) -> None:
    for _ in range(2):
        control = Control("backfill", START - timedelta(days=3), START)
        await tell(env.app.recorded(), "sched.daily", control)
        await env.settle()
    assert len(started) == 3
    runs = (await env.app.runs(RunQuery(workflow="sched.daily"))).runs
    assert {run.id for run in runs} == {f"sched.daily:202603{day}T080000Z" for day in (25, 26, 27)}


@of("daily")
async def test_a_worker_that_knows_another_schedule_changes_it(env: WorkflowEnvironment) -> None:
    changed = SCHEDULED["sched.daily"]
    before, changed.schedule = changed.schedule, Schedule("0 18 * * *", "Europe/Vienna")
    try:
        await env.app.begin_work(env.app.recorded())
        await env.skip("1 day")
    finally:
        changed.schedule = before
    assert started == ["03-27 17:00"]


@of("slow")
async def test_the_history_of_a_schedule_begins_anew_from_time_to_time(env: WorkflowEnvironment) -> None:
    await env.skip("18h")
    runs = (await env.app.runs(RunQuery(workflow="sched.slow:schedule"))).runs
    assert [run.status for run in runs] == [Status.RUNNING, Status.CONTINUED]


@of("daily")
async def test_a_workflow_without_a_schedule_is_named(env: WorkflowEnvironment) -> None:
    with pytest.raises(RunNotFound, match=r"sched\.none"):
        await tell(env.app.recorded(), "sched.none", Control("pause"))


async def test_a_scheduled_workflow_needs_no_arguments() -> None:
    with pytest.raises(DefinitionError, match="'day'"):

        @workflow(name="sched.needs", schedule="@daily")
        async def needs(day: str) -> None: ...


async def test_a_scheduled_workflow_is_durable() -> None:
    with pytest.raises(DefinitionError, match="durable"):

        @workflow(name="sched.transient", schedule="@daily", durable=False)
        async def transient() -> None: ...


async def test_a_wrong_schedule_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="hour"):
        workflow(name="sched.wrong", schedule="0 25 * * *")


@pytest.mark.parametrize(
    "state, says",
    [
        (
            State(Schedule("0 9 * * *", "Europe/Vienna"), START),
            "It starts workflow 'w' when '0 9 * * *' in Europe/Vienna",
        ),
        (State(Schedule("0 9 * * *"), START, paused=True), "paused: see `pyworkflow schedules resume w`"),
    ],
    ids=["going on", "paused"],
)
async def test_the_run_of_a_schedule_is_explained_as_what_it_is(state: State, says: str) -> None:
    assert says in sentence("w", state)
