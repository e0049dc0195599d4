"""What is told to a run in the very instant in which it continues as a new one: nothing of it is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import pyworkflow
from pyworkflow import App, RunHandle, hook, sleep, step, workflow
from pyworkflow.authoring.context import token_digest
from pyworkflow.authoring.definitions import Workflow
from pyworkflow.engine.scheduler import Control, look, run_id_of, tell
from pyworkflow.errors import HookClosed, RunCancelled, RunTerminated
from pyworkflow.events import CancelRequested, Event, Posted, Received, RunContinued
from pyworkflow.events import RunTerminated as TerminatedEvent
from pyworkflow.model import Append, RunQuery, Status
from pyworkflow.ports import Storage
from pyworkflow.testing.until import until

pytestmark = pytest.mark.asyncio

MakeApp = Callable[[], App]
Act = Callable[[], Awaitable[Any]]
Between = Callable[[type[Event], Act], None]

said: list[str] = []


@pytest.fixture(autouse=True)
def silence() -> None:
    said.clear()


@step(name="cont.say")
async def say(text: str) -> None:
    said.append(text)


@workflow(name="cont.reader")
async def reader(token: str | None, read: list[str]) -> list[str]:
    """Read one message in each run of a chain, once it is allowed to."""
    messages = hook("messages", str, token=token, many=True)
    await hook(f"go {len(read)}", token=f"go {len(read)}")
    read = [*read, await messages]
    if read[-1] != "bye":
        await pyworkflow.continue_as_new(token, read)
    return read


@workflow(name="cont.patient")
async def patient(n: int) -> str:
    """Open a hook for one payload, and read it in the second run only."""
    answer = hook("answer", str, token="answer")
    if n:
        return await answer
    await hook("go", token="go")
    await pyworkflow.continue_as_new(1)
    return "never"


@workflow(name="cont.endless")
async def endless(n: int) -> None:
    """Go on as a new run when told to; the second run sleeps."""
    await say(f"run {n}")
    if n:
        await sleep("1 day")
    await hook("go", token="go")
    await pyworkflow.continue_as_new(n + 1)


@asynccontextmanager
async def begun(make_app: MakeApp, flow: Workflow[..., Any]) -> AsyncIterator[tuple[App, RunHandle[Any]]]:
    """Start a chain; its first run goes on as the second once hook ``go`` is resumed."""
    async with make_app() as app:
        handle = await app.start(flow, (0,))
        await opened("go", app)
        yield app, handle


async def opened(token: str, app: App) -> None:
    """Wait until the hook with a token is open."""

    async def is_open() -> bool:
        return await app.storage.find_hook(token_digest(token)) is not None

    await until(is_open)


async def continued(app: App, run_id: str) -> None:
    """Wait until a run has gone on as another."""

    async def has() -> bool:
        return (await app.recorded().run(run_id)).status is Status.CONTINUED

    await until(has)


async def has_events(app: App, run_id: str, count: int) -> None:
    """Wait until a run has so many events."""

    async def has() -> bool:
        return (await app.recorded().run(run_id)).length >= count

    await until(has)


async def go_on(app: App, handle: RunHandle[Any]) -> None:
    """Have the first run of a chain go on as the second."""
    await app.resume_hook("go")
    await continued(app, handle.id)


async def read_one_each(app: App, runs: int) -> None:
    """Allow so many runs of `reader` to read their message."""
    for n in range(runs):
        await opened(f"go {n}", app)
        await app.resume_hook(f"go {n}")


@pytest.fixture
def between(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Between:
    """Has something carried out once, right before an event of a kind is written."""

    def interrupt(kind: type[Event], act: Act) -> None:
        append, done = storage.append, False

        async def interrupted(addition: Append) -> int:
            nonlocal done
            if not done and any(isinstance(event, kind) for event in addition.events):
                done = True
                await act()
            return await append(addition)

        monkeypatch.setattr(storage, "append", interrupted)

    return interrupt


@pytest.fixture
def brief_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of schedules continue as new ones after each round."""
    monkeypatch.setattr("pyworkflow.engine.scheduler._ROUNDS", 1)


async def chain(app: App, flow: str) -> list[Status]:
    """Return the statuses of the runs of a chain, in order."""
    runs = (await app.runs(RunQuery(workflow=flow))).runs
    return [run.status for run in sorted(runs, key=lambda run: run.id)]


# -- payloads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["own", None])
async def test_payloads_that_a_run_did_not_read_are_for_the_one_that_continues_it(
    make_app: MakeApp, token: str | None
) -> None:
    async with make_app() as app:
        handle = await app.start(reader, (token, []))
        await opened("go 0", app)
        (found,) = [one for one in await app.recorded().hooks(handle.id) if one.name == "messages"]
        for text in ("a", "b", "c", "bye"):
            await app.recorded().control.send(found, text)  # type: ignore[attr-defined]
        await read_one_each(app, 4)
        assert await handle.result(timeout=20) == ["a", "b", "c", "bye"]
        assert await chain(app, "cont.reader") == [Status.CONTINUED] * 3 + [Status.COMPLETED]


async def test_a_hook_for_one_payload_has_it_when_it_is_opened_and_takes_no_second_one(make_app: MakeApp) -> None:
    async with begun(make_app, patient) as (app, handle):
        await app.resume_hook("answer", "42")
        await app.resume_hook("go")
        assert await handle.result(timeout=20) == "42"
        with pytest.raises(HookClosed):
            await app.resume_hook("answer", "43")


async def test_a_payload_that_comes_while_its_run_continues_is_for_the_next_one(
    make_app: MakeApp, between: Between
) -> None:
    async with begun(make_app, patient) as (app, handle):
        between(Received, lambda: go_on(app, handle))
        await app.resume_hook("answer", "late")
        assert await handle.result(timeout=20) == "late"


async def test_a_payload_that_comes_right_before_its_run_continues_is_for_the_next_one(
    make_app: MakeApp, between: Between
) -> None:
    async with begun(make_app, patient) as (app, handle):
        between(RunContinued, lambda: app.resume_hook("answer", "just in time"))
        await app.resume_hook("go")
        assert await handle.result(timeout=20) == "just in time"


@workflow(name="cont.brief")
async def brief(n: int) -> int:
    """Open a hook, and end or go on at once."""
    hook("brief", token="brief")
    if n:
        await pyworkflow.continue_as_new(n - 1)
    return n


async def test_a_hook_that_is_opened_as_its_run_ends_is_not_left_open(make_app: MakeApp) -> None:
    async with make_app() as app:
        for _ in range(2):
            assert await (await app.start(brief, (3,))).result(timeout=20) == 0
        assert await app.recorded().hooks() == []


@workflow(name="cont.agent")
async def agent(heard: list[str]) -> list[str]:
    """Read one message in each run of a chain, however fast they come."""
    heard = [*heard, await hook("inbox", str, token="agent", many=True)]
    if heard[-1] != "stop":
        await pyworkflow.continue_as_new(heard)
    return heard


async def test_every_payload_is_read_once_and_in_order_or_refused_to_its_sender(make_app: MakeApp) -> None:
    sent = []
    async with make_app() as app:
        handle = await app.start(agent, ([],))
        for text in (*map(str, range(30)), "stop"):
            while text not in sent:
                try:
                    await app.resume_hook("agent", text)
                    sent.append(text)
                except HookClosed:
                    await opened("agent", app)
        assert await handle.result(timeout=20) == sent


async def test_what_is_posted_for_an_open_hook_comes_before_what_it_is_sent_later(make_app: MakeApp) -> None:
    async with make_app() as app:
        handle = await app.start(reader, ("own", []))
        await opened("go 0", app)
        posted = Posted(app.clock.now(), "messages", token_digest("own"), "a")
        await app.storage.append(Append(handle.id, [posted]))  # nobody looks at it yet
        await app.resume_hook("own", "bye")
        await read_one_each(app, 2)
        assert await handle.result(timeout=20) == ["a", "bye"]


# -- cancelling and terminating ------------------------------------------------------------------------------


async def test_a_cancellation_right_before_a_run_continues_reaches_the_next_one(
    make_app: MakeApp, between: Between
) -> None:
    async with begun(make_app, endless) as (app, handle):
        between(RunContinued, lambda: handle.cancel("enough"))
        await app.resume_hook("go")
        with pytest.raises(RunCancelled):
            await handle.result(timeout=20)
        assert (await chain(app, "cont.endless"))[-1] is Status.CANCELLED
    assert "run 1" not in said


async def test_a_cancellation_while_a_run_continues_reaches_the_next_one(make_app: MakeApp, between: Between) -> None:
    async with begun(make_app, endless) as (app, handle):
        between(CancelRequested, lambda: go_on(app, handle))
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result(timeout=20)
        assert await chain(app, "cont.endless") == [Status.CONTINUED, Status.CANCELLED]


async def test_a_run_that_continues_while_it_is_terminated_is_terminated_where_it_goes_on(
    make_app: MakeApp, between: Between
) -> None:
    async with begun(make_app, endless) as (app, handle):
        between(TerminatedEvent, lambda: go_on(app, handle))
        await app.recorded().terminate(handle.id, "now")
        with pytest.raises(RunTerminated, match="now"):
            await handle.result(timeout=20)
        assert await chain(app, "cont.endless") == [Status.CONTINUED, Status.TERMINATED]


@workflow(name="cont.deaf")
async def deaf(n: int) -> None:
    """Go on as a new run when it is cancelled."""
    try:
        await sleep("1 day")
    finally:
        await pyworkflow.continue_as_new(n + 1)


async def test_a_chain_ends_at_the_deadline_of_a_cancellation_that_its_workflow_does_not_heed(
    make_app: MakeApp,
) -> None:
    async with make_app() as app:
        handle = await app.start(deaf, (0,))
        await handle.cancel("stop", grace="100ms")
        with pytest.raises(RunTerminated, match="deadline"):
            await handle.result(timeout=20)
        assert await chain(app, "cont.deaf") == [Status.CONTINUED, Status.TERMINATED]


# -- schedules -----------------------------------------------------------------------------------------------


@workflow(name="cont.daily", schedule="0 0 1 1 *")
async def daily() -> None:
    said.append("daily")


@pytest.mark.usefixtures("brief_schedules")
@pytest.mark.parametrize("kind", [RunContinued, Posted], ids=["right before", "while"])
async def test_what_a_schedule_is_told_when_its_run_continues_is_heard_by_the_next_one(
    make_app: MakeApp, between: Between, kind: type[Event]
) -> None:
    async with make_app() as app, app.worker():
        runtime: Any = app.recorded()
        first = run_id_of("cont.daily")

        async def asks() -> None:
            await tell(runtime, "cont.daily", Control("pause"))

        async def continues() -> None:
            await runtime.control.signal(first, [Posted(app.clock.now(), "control", "", {"do": "resume"})])
            await continued(app, first)

        await has_events(app, first, 4)
        if kind is RunContinued:
            between(kind, asks)
            await tell(runtime, "cont.daily", Control("trigger"))
        else:
            between(kind, continues)
            await asks()

        async def heard() -> bool:
            return (await look(runtime, "cont.daily"))[0].paused

        await until(heard)
        await continued(app, first)
        assert (await look(runtime, "cont.daily"))[0].paused


@pytest.mark.usefixtures("brief_schedules")
async def test_a_schedule_whose_first_runs_were_purged_goes_on_as_it_was(make_app: MakeApp) -> None:
    async with make_app() as app:
        async with app.worker():
            await has_events(app, run_id_of("cont.daily"), 4)
            await tell(app.recorded(), "cont.daily", Control("pause"))  # type: ignore[arg-type]
            await continued(app, run_id_of("cont.daily"))
        assert await app.purge(app.clock.now(), [Status.CONTINUED]) == 1
        async with app.worker():
            state, status = await look(app.recorded(), "cont.daily")  # type: ignore[arg-type]
            assert (state.paused, status) == (True, Status.RUNNING)
            assert len((await app.runs(RunQuery(workflow="cont.daily:schedule"))).runs) == 1
