"""Runs as files: exported, replayed, and gone on with in another storage."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

import pyworkflow
from pyworkflow import App, hook, sleep, step, workflow
from pyworkflow.authoring.definitions import Workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.errors import ConfigError, NonDeterminism, RunBlocked, RunExists
from pyworkflow.events import CallStep, HandedOut, Patched, Requested, RunStarted
from pyworkflow.inspection.export import from_json, to_json
from pyworkflow.inspection.replay import replay_history
from pyworkflow.model import Run
from pyworkflow.testing.until import until

T0 = datetime(2026, 1, 1, tzinfo=UTC)


@step(name="port.note")
async def note(text: str) -> str:
    return text


@workflow(name="port.asking")
async def asking(token: str) -> str:
    await note("begun")
    answer = await hook("answer", str, token=token)
    return await note(answer)


def an_app(storage: MemoryStorage) -> App:
    return App(storage=storage, default_durable=True, default_runtime="local?sweep=50ms&lease=1s")


async def parked(app: App, token: str) -> Any:
    handle = await app.start(asking, (token,), run_id="port-1", idempotency_key="key")
    await until(lambda: app.recorded().hooks("port-1"))
    return handle


@pytest.mark.asyncio
async def test_a_run_is_the_same_after_export_and_import() -> None:
    async with an_app(MemoryStorage()) as app:
        await parked(app, "t")
        run, events = await app.recorded().history("port-1")
    assert from_json(to_json(run, events)) == (run, events)


@pytest.mark.asyncio
async def test_a_parked_run_goes_on_in_another_storage_and_not_in_the_first() -> None:
    async with an_app(MemoryStorage()) as first, an_app(MemoryStorage()) as second:
        handle = await parked(first, "t")
        run, events = await first.recorded().history(handle.id)
        await first.recorded().control.leave(run)
        await second.recorded().control.adopt(*from_json(to_json(run, events)))
        await second.resume_hook("t", "hello")
        async with second.worker():
            assert await second.recorded().result(handle.id) == "hello"
        with pytest.raises(RunBlocked, match="go on elsewhere"):
            await handle.result("20s")


@pytest.mark.asyncio
async def test_steps_that_were_handed_out_are_carried_out_where_the_run_goes_on() -> None:
    events = [
        RunStarted(T0, "port.asking", ["t"], {}, "seed"),
        Requested(T0, CallStep(1, "port.note", ["begun"], {})),
        HandedOut(T0, (1,)),
    ]
    async with an_app(MemoryStorage()) as app, app.worker():
        await app.recorded().control.adopt(Run("port-1", "port.asking", T0), events)
        await until(lambda: app.recorded().hooks("port-1"))
        await app.resume_hook("t", "hello")
        assert await app.recorded().result("port-1") == "hello"


@pytest.mark.asyncio
async def test_a_run_is_not_imported_twice() -> None:
    async with an_app(MemoryStorage()) as app:
        await parked(app, "t")
        with pytest.raises(RunExists, match="port-1"):
            await app.recorded().control.adopt(*await app.recorded().history("port-1"))


@pytest.mark.parametrize(
    "text, match",
    [
        ("", "not JSON"),
        ("[]", "not an exported run"),
        ('{"form": "pyworkflow-run"}', "damaged"),
        ('{"form": "pyworkflow-run", "history": {"spec": 99, "events": []}, "run": {}}', "newer"),
        ('{"form": "pyworkflow-run", "history": {"spec": 1, "events": []}, "run": {}}', "damaged"),
    ],
)
def test_a_file_that_is_no_run_is_refused_by_name(text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        from_json(text, "run.json")
    assert "run.json" in str(caught.value)


def test_an_id_in_a_file_is_checked() -> None:
    data = json.loads(to_json(Run("ok", "w", T0, length=1), [RunStarted(T0, "w", [], {}, "s")]))
    data["run"]["id"] = "../../etc"
    with pytest.raises(ConfigError, match="not valid"):
        from_json(json.dumps(data))


# -- changed code --------------------------------------------------------------------------


def flow(body: Any) -> Workflow[..., Any]:
    """Declare *body* as the workflow port.changing, in the place of what was declared before."""
    pyworkflow.decorators.default_registry.workflows.pop("port.changing", None)
    return workflow(name="port.changing")(body)


async def before() -> list[str]:
    got = [await note("a")]
    await sleep(0.05)
    return [*got, await note("z")]


async def reordered() -> list[str]:
    await sleep(0.05)
    return [await note("a"), await note("z")]


async def patched() -> list[str]:
    got = [await note("a")]
    if pyworkflow.patched("notes b too"):
        got.append(await note("b"))
    await sleep(0.05)
    if pyworkflow.patched("notes y too"):
        got.append(await note("y"))
    return [*got, await note("z")]


async def retired() -> list[str]:
    got = [await note("a"), await note("b")]
    await sleep(0.05)
    return [*got, await note("y"), await note("z")]


async def recorded(app: App, body: Any) -> Any:
    handle = await app.start(flow(body))
    await handle.result("20s")
    return await handle.history()


@pytest.mark.asyncio
async def test_a_recorded_history_replays_against_the_code_that_made_it() -> None:
    async with an_app(MemoryStorage()) as app:
        events = await recorded(app, before)
        replay_history(flow(before), events)


@pytest.mark.asyncio
async def test_a_history_does_not_replay_against_code_that_does_something_else() -> None:
    async with an_app(MemoryStorage()) as app:
        events = await recorded(app, before)
        with pytest.raises(NonDeterminism, match=r"recorded as step port\.note"):
            replay_history(flow(reordered), events)


@pytest.mark.asyncio
async def test_a_history_is_not_replayed_against_another_workflow() -> None:
    async with an_app(MemoryStorage()) as app:
        events = await recorded(app, before)
    with pytest.raises(NonDeterminism, match=r"port\.asking"):
        replay_history(asking, events)


@pytest.mark.asyncio
async def test_a_change_under_patched_is_not_seen_by_runs_that_went_past_it() -> None:
    async with an_app(MemoryStorage()) as app:
        events = await recorded(app, before)
        replay_history(flow(patched), events)


@pytest.mark.asyncio
async def test_a_new_run_sees_a_change_and_records_that() -> None:
    async with an_app(MemoryStorage()) as app:
        handle = await app.start(flow(patched))
        assert await handle.result("20s") == ["a", "b", "y", "z"]
        events = await handle.history()
    assert [event.id for event in events if isinstance(event, Patched)] == ["notes b too", "notes y too"]


@pytest.mark.asyncio
async def test_a_run_under_way_sees_only_changes_that_come_later() -> None:
    storage = MemoryStorage()
    async with an_app(storage) as app:
        handle = await app.start(flow(before))
        await until(lambda: at_least(app, handle.id, 4))
    flow(patched)
    async with an_app(storage) as app, app.worker():
        assert await app.recorded().result(handle.id) == ["a", "y", "z"]


@pytest.mark.asyncio
async def test_a_change_can_be_retired() -> None:
    async with an_app(MemoryStorage()) as app:
        events = await recorded(app, patched)
        replay_history(flow(retired), events)


@pytest.mark.asyncio
async def test_changed_code_blocks_a_run_and_the_right_code_lets_it_go_on() -> None:
    storage = MemoryStorage()
    async with an_app(storage) as app:
        handle = await app.start(flow(before))
        await until(lambda: at_least(app, handle.id, 4))
    flow(reordered)
    async with an_app(storage) as app, app.worker():
        with pytest.raises(RunBlocked, match="not the one that the run was started with"):
            await app.recorded().result(handle.id)
    flow(before)
    async with an_app(storage) as app, app.worker():
        await app.recorded().retry(handle.id)
        assert await app.recorded().result(handle.id) == ["a", "z"]


async def at_least(app: App, run_id: str, length: int) -> bool:
    return (await app.recorded().run(run_id)).length >= length
