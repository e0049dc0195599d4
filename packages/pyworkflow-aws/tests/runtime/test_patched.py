"""`patched` on durable-lambda: what AWS has recorded tells which runs went past a change of the code."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import pyworkflow
from pyworkflow import hook, sleep, step, workflow
from pyworkflow.events import Patched
from pyworkflow.testing.until import until

CODE = {"new": False}
"""Whether the code is the changed one."""


class Lost(BaseException):
    """What a lost sandbox is like."""


@pytest.fixture(autouse=True)
def old_code():
    CODE["new"] = False
    yield
    CODE["new"] = False


def patched(change: str) -> bool:
    return CODE["new"] and pyworkflow.patched(change)


@step(name="patched.note", retries=0)
async def note(text: str) -> str:
    return text


lost = {"left": 0}


@step(name="patched.lost", retries=0)
async def lose() -> str:
    lost["left"] -= 1
    if lost["left"] >= 0:
        raise Lost
    return "survived"


@workflow(name="patched.asking")
async def asking() -> list[str]:
    got = []
    if patched("screened"):
        got.append(await note("screened"))
    got.append(await note("noted"))
    got.append(await hook("go", str, token="patched:go"))
    if patched("told"):
        got.append(await note("told"))
    await sleep(1)
    return [*got, await note("end")]


async def parked(app: Any, handle: Any) -> None:
    await until(lambda: opened(app, handle))


async def opened(app: Any, handle: Any) -> bool:
    return any(event.name == "go" for event in await app.recorded().hooks(handle.id))


async def changes(handle: Any) -> list[str]:
    return [event.id for event in await handle.history() if isinstance(event, Patched)]


@pytest.mark.asyncio
async def test_a_run_that_parked_before_the_change_goes_on_on_the_old_branch_and_sees_later_changes(make_app):
    async with make_app() as app:
        handle = await app.start(asking)
        await parked(app, handle)
        CODE["new"] = True
        assert await opened(app, handle)
        await app.resume_hook("patched:go", "x")
        assert await handle.result(timeout=20) == ["noted", "x", "told", "end"]
        assert await changes(handle) == ["told"]


@pytest.mark.asyncio
async def test_a_new_run_takes_the_new_branch_and_stays_on_it(make_app):
    CODE["new"] = True
    async with make_app() as app:
        handle = await app.start(asking)
        await parked(app, handle)
        assert await changes(handle) == ["screened"]
        await app.resume_hook("patched:go", "x")
        assert await handle.result(timeout=20) == ["screened", "noted", "x", "told", "end"]
        assert await changes(handle) == ["screened", "told"]


@pytest.mark.asyncio
async def test_who_does_not_know_the_code_is_told_of_changes_too(make_app):
    CODE["new"] = True
    async with make_app() as app:
        handle = await app.start(asking)
        await parked(app, handle)
        app.registry.workflows.pop("patched.asking")
        assert await changes(handle) == ["screened"]
        await app.recorded().terminate(handle.id)


@pytest.mark.asyncio
async def test_a_run_that_ended_before_the_change_does_not_know_it(make_app):
    async with make_app() as app:
        handle = await app.start(ending)
        assert await handle.result(timeout=20) == "end"
        CODE["new"] = True
        assert await changes(handle) == []
        again = await app.start(ending)
        assert await again.result(timeout=20) == "changed"
        assert await changes(again) == ["the end"]


@workflow(name="patched.ending")
async def ending() -> str:
    await note("first")
    return "changed" if patched("the end") else "end"


@workflow(name="patched.dies")
async def dies() -> list[str]:
    if pyworkflow.patched("at once"):
        return [await lose(), await note("new")]
    return [await note("old")]


def test_a_sandbox_that_is_lost_right_after_the_change_comes_back_to_the_new_branch(official):
    lost["left"] = 2
    result = official.run(dies)
    assert json.loads(result.result)["value"] == ["survived", "new"]
    assert official.invocations == 3
    assert [found.name for found in result.get_all_operations()].count("pyworkflow.patched") == 1


@workflow(name="patched.branches")
async def branches() -> list[Any]:
    async def one(name: str, pause: float) -> list[str]:
        got = []
        for number in range(3):
            if patched(f"{name}{number}"):
                got.append(await note(f"{name}{number}"))
            await sleep(pause)
        return got

    return list(await asyncio.gather(one("a", 10), one("b", 25)))


def test_each_branch_of_a_gather_knows_the_changes_that_it_has_not_gone_past(official):
    before = 7
    for at in range(1, 8):  # the invocation that finds the new code; the sleeps of both branches may end in one
        CODE["new"] = False
        official.before = lambda at=at: CODE.update(new=official.invocations >= at)
        told = json.loads(official.run(branches).result)["value"]
        assert told == [[f"{name}{n}" for n in range(3 - len(of), 3)] for name, of in zip("ab", told, strict=True)]
        assert sum(map(len, told)) <= before
        before = sum(map(len, told))
        if at <= 2:
            assert told == [[f"{name}{n}" for n in range(at - 1, 3)] for name in "ab"]
    assert told == [[], []]


@workflow(name="patched.child")
async def child(times: int) -> list[str]:
    got = [await note("child")]
    if patched("of the child"):
        got.append(await note(f"changed {times}"))
    await sleep(10)
    if times:
        await pyworkflow.continue_as_new(times - 1)
    return got


@workflow(name="patched.parent")
async def parent() -> list[str]:
    got = await child(2)
    return [*got, *(["of the parent"] if patched("of the child") else [])]


@pytest.mark.parametrize("at, told", [(1, True), (2, True), (3, True), (4, False)])
def test_each_run_of_a_child_that_continues_as_new_is_told_for_itself(official, at, told):
    official.before = lambda: CODE.update(new=official.invocations >= at)
    result = official.run(parent)
    assert json.loads(result.result)["value"] == ["child", *(["changed 0"] if told else []), "of the parent"]


def test_nothing_is_charged_for_a_change_that_a_run_went_past(official):
    official.before = lambda: CODE.update(new=official.invocations > 1)
    names = [found.name for found in official.run(branches).get_all_operations()]
    assert names.count("pyworkflow.patched") == 4
