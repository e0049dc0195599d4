"""Promises that take a change of the code, a limit or a lost process, on each storage, with machines kept and rebuilt.

What every runtime can be asked for is in the conformance kit; docs/reliability.md says which test holds what.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

import pyworkflow
from pyworkflow import App, current_step, sleep, step, workflow
from pyworkflow.authoring.definitions import Registry, Workflow
from pyworkflow.errors import HistoryTooLong, RunBlocked
from pyworkflow.events import Attempted, CancelRequested, Completed, Patched, RunStarted
from pyworkflow.model import RunQuery
from pyworkflow.ports import Storage
from pyworkflow.testing.runtime_kit.workflows import note, notes
from pyworkflow.testing.until import until

pytestmark = pytest.mark.asyncio

MakeApp = Callable[[], App]


@step(name="promise.add")
async def add(a: int, b: int) -> int:
    return a + b


# -- continue: a warning at some length of a history, and a refusal at another one ---------------------------


@workflow(name="promise.long")
async def long(steps: int) -> int:
    total = 0
    for _ in range(steps):
        total = await add(total, 1)
    return total


async def test_a_long_history_is_warned_of_once(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    async with make_app() as app:
        runtime: Any = app.recorded()
        runtime.options = evolve(runtime.options, warn_events=10)
        with caplog.at_level(logging.WARNING, "pyworkflow"):
            assert await app.call(long, (12,)) == 12
    (warning,) = [record.message for record in caplog.records if "continue_as_new()" in record.message]
    assert "has 10 events" in warning or "has 11 events" in warning


async def test_a_history_that_is_too_long_is_refused_and_says_what_to_do(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyworkflow.replay.machine.MAX_EVENTS", 20)
    async with make_app() as app:
        assert await app.call(long, (9,)) == 9
        with pytest.raises(HistoryTooLong, match=r"continue_as_new\(\)"):
            await app.call(long, (30,))


# -- code change ---------------------------------------------------------------------------------------------


@pytest.fixture
def deploy() -> Any:
    """Put other code behind a workflow's name, as a deployment does."""
    replaced: dict[str, Workflow[..., Any]] = {}

    def deploy(flow: Workflow[..., Any], function: Callable[..., Any]) -> None:
        workflows = flow.registry.workflows
        replaced.setdefault(flow.name, workflows[flow.name])
        workflows[flow.name] = Workflow(function, flow.name, Registry(), runtime=None, durable=None)

    yield deploy
    for name, flow in replaced.items():
        flow.registry.workflows[name] = flow


async def before() -> int:
    total = await add(1, 1)
    await sleep("30ms")
    return await add(total, 10)


async def reordered() -> int:
    await sleep("30ms")
    return await add(await add(1, 1), 10)


async def patched() -> int:
    total = await add(1, 1)
    if pyworkflow.patched("it costs more"):
        total = await add(total, 100)
    await sleep("30ms")
    if pyworkflow.patched("and more"):
        total = await add(total, 1000)
    return await add(total, 10)


changing: Workflow[[], int] = workflow(name="promise.changing")(before)


async def asleep(app: App) -> str:
    """Start a run of ``promise.changing`` and leave it while it sleeps."""
    handle = await app.start(changing)

    async def sleeps() -> bool:
        return (await handle.run()).length == 4

    await until(sleeps)
    return handle.id


async def test_changed_code_blocks_the_run_and_the_right_code_lets_it_go_on(make_app: MakeApp, deploy: Any) -> None:
    async with make_app() as app:
        run_id = await asleep(app)
    deploy(changing, reordered)
    async with make_app() as app, app.worker():
        with pytest.raises(
            RunBlocked, match=r"promise\.add\(1, 1\).* a timer .*not the one that the run was started with"
        ):
            await app.recorded().result(run_id)
    deploy(changing, before)
    async with make_app() as app, app.worker():
        await app.recorded().retry(run_id)
        assert await app.recorded().result(run_id) == 12


async def test_a_run_knows_the_fingerprint_of_its_code(make_app: MakeApp, deploy: Any) -> None:
    seen = []
    async with make_app() as app:
        for function in (before, before, reordered):
            deploy(changing, function)
            handle = await app.start(app.registry.workflows[changing.name])
            started = (await handle.history())[0]
            assert isinstance(started, RunStarted)
            seen.append(started.fingerprint)
    first, again, other = seen
    assert first == again != other
    assert first


async def test_a_change_under_patched_is_seen_from_where_a_run_is(make_app: MakeApp, deploy: Any) -> None:
    async with make_app() as app:
        run_id = await asleep(app)
    deploy(changing, patched)
    async with make_app() as app, app.worker():
        assert await app.recorded().result(run_id) == 1012
        handle = await app.start(changing.registry.workflows[changing.name])
        assert await handle.result(timeout=20) == 1112
        for one, knows in ((run_id, ["and more"]), (handle.id, ["it costs more", "and more"])):
            _, events = await app.recorded().history(one)
            assert [event.id for event in events if isinstance(event, Patched)] == knows


# -- what is recorded ----------------------------------------------------------------------------------------


@step(name="promise.unlucky", retries=0)
async def unlucky(log: str) -> int:
    note(log, current_step().idempotency_key)
    if len(notes(log)) < 3:
        await asyncio.sleep(3600)
    return current_step().attempt


@workflow(name="promise.tried")
async def tried(log: str) -> int:
    return await unlucky(log)


async def test_a_step_that_loses_its_process_begins_again_and_has_one_result(make_app: MakeApp, tmp_path: Path) -> None:
    log = str(tmp_path / "effects")
    async with make_app() as app:
        run_id = (await app.start(tried, (log,))).id
        for lost in (1, 2):
            await until(lambda lost=lost: len(notes(log)) == lost)
            await app.recorded().crash()  # type: ignore[attr-defined]  # as a killed process does
            await app.recorded().work()
        assert await app.recorded().result(run_id) == 3
        _, events = await app.recorded().history(run_id)
    assert [event.attempt for event in events if isinstance(event, Attempted)] == [2, 3]
    assert sum(isinstance(event, Completed) for event in events) == 1
    assert notes(log) == [f"{run_id}/1"] * 3


async def test_a_cancellation_is_recorded_with_its_reason(make_app: MakeApp) -> None:
    async with make_app() as app:
        handle = await app.start(changing)
        await handle.cancel("nobody wants it")
        asked = [event for event in await handle.history() if isinstance(event, CancelRequested)]
    assert [event.reason for event in asked] == ["nobody wants it"]


# -- transient -----------------------------------------------------------------------------------------------


async def test_a_transient_run_stores_nothing(make_app: MakeApp, storage: Storage) -> None:
    passing: Workflow[[int], int] = Workflow(long.function, "promise.passing", Registry(), runtime=None, durable=False)
    async with make_app() as app:
        handle = await app.start(passing, (3,))
        assert await handle.result(timeout=20) == 3
        await storage.open()
        assert not (await storage.runs(RunQuery())).runs
