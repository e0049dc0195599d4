"""Own tokens on durable-lambda, where nothing finds a hook by its token."""

from __future__ import annotations

import asyncio

import pytest

import pyworkflow
from pyworkflow import hook, step, workflow
from pyworkflow.errors import HookClosed, HookTaken, Unsupported
from pyworkflow.events import Failed, Requested
from pyworkflow.testing.until import until

pytestmark = pytest.mark.asyncio


@step(name="tokens.note")
async def note(text: str) -> str:
    return text


@workflow(name="tokens.one")
async def one(token: str) -> str:
    return await hook("one", str, token=token)


@workflow(name="tokens.twice")
async def twice(token: str) -> list[str]:
    async def second() -> str:
        try:
            return await hook("second", str, token=token)
        except HookTaken:
            return await note("taken")

    return list(await asyncio.gather(hook("first", str, token=token).take(), second(), one_more(token)))


async def one_more(token: str) -> str:
    try:
        return await one(token)
    except HookTaken as error:
        return str(error)


@workflow(name="tokens.again")
async def again(token: str) -> list[str]:
    got = []
    for _ in range(2):
        opened = hook("again", str, token=token)
        got.append(await opened)
    return got


@workflow(name="tokens.both_at_once")
async def both_at_once(token: str) -> str:
    first, second = hook("first", token=token), hook("second", token=token)
    with pytest.raises(HookTaken):
        await second
    first.close()
    return await hook("third", str, token=token)


@workflow(name="tokens.careless")
async def careless(token: str) -> str:
    hook("first", str, token=token)
    hook("second", str, token=token)
    return "nobody waits"


@workflow(name="tokens.careful")
async def careful(token: str) -> str:
    outer = hook("outer", str, token=token)
    said = [await careless(token), await careless(token)]
    outer.close()
    return " and ".join(said)


@workflow(name="tokens.several")
async def several(token: str) -> str:
    hooks = [hook(f"hook {n}", str, token=token) for n in range(4)]
    told = await asyncio.gather(*(opened.take() for opened in hooks[1:]), return_exceptions=True)
    return ", ".join(type(error).__name__ for error in told)


@workflow(name="tokens.continues")
async def continues(token: str, times: int) -> str:
    if times:
        await pyworkflow.continue_as_new(token, times - 1)
    return await hook("late", str, token=token)


@workflow(name="tokens.fails")
async def fails() -> None:
    raise ValueError("for ever")


async def parked(app, *handles) -> None:
    for handle in handles:
        await until(lambda handle=handle: app.recorded().hooks(handle.id))


async def test_a_token_that_this_run_or_a_child_of_it_has_is_refused(make_app):
    async with make_app() as app:
        handle = await app.start(twice, ("same",))
        await parked(app, handle)
        assert [opened.name for opened in await app.recorded().hooks(handle.id)] == ["first"]
        await app.resume_hook("same", "x")
        first, second, of_child = await handle.result(timeout=20)
        assert (first, second) == ("x", "taken")
        assert of_child == f"the token of hook 'one' is in use by an open hook of run {handle.id!r}"
        events = await handle.history()
        assert [type(event) for event in events if isinstance(event, Failed)] == [Failed, Failed]
        asked = [event.command.op for event in events if isinstance(event, Requested)]
        assert asked == sorted(asked)


async def test_a_token_can_be_used_again_once_its_hook_is_closed(make_app):
    async with make_app() as app:
        handle, other = await app.start(again, ("again",)), await app.start(both_at_once, ("closed",))
        for payload in ("one", "two"):
            await parked(app, handle)
            await app.resume_hook("again", payload)
        assert await handle.result(timeout=20) == ["one", "two"]
        await parked(app, other)
        await app.resume_hook("closed", "x")
        assert await other.result(timeout=20) == "x"


async def test_a_workflow_that_ends_with_a_refused_hook_ends_once(make_app):
    async with make_app() as app:
        handle = await app.start(careless, ("both",))
        assert await handle.result(timeout=20) == "nobody waits"
        assert await app.call(careful, ("outer",)) == "nobody waits and nobody waits"
        assert await app.call(several, ("several",)) == "HookTaken, HookTaken, HookTaken"


async def test_of_two_runs_with_one_token_the_older_one_gets_the_first_payload(make_app):
    async with make_app() as app:
        older = await app.start(one, ("shared",))
        await parked(app, older)
        younger = await app.start(one, ("shared",))
        await parked(app, younger)
        assert await app.resume_hook("shared", "first") == older.id
        assert await app.resume_hook("shared", "second") == younger.id
        assert [await older.result(timeout=20), await younger.result(timeout=20)] == ["first", "second"]
        with pytest.raises(HookClosed):
            await app.resume_hook("shared", "third")


async def test_a_token_that_names_its_run_is_found_in_what_the_run_goes_on_as(make_app):
    async with make_app() as app:
        handle = await app.start(continues, ("order-1:late", 2), run_id="order-1")
        (late,) = await until(app.recorded().hooks)
        assert late.run_id == "order-1~3"
        await app.resume_hook("order-1:late", "x")
        assert await handle.result(timeout=20) == "x"


async def test_retrying_a_failed_run_says_what_to_do_instead(make_app):
    async with make_app() as app:
        handle = await app.start(fails, run_id="failed-once")
        with pytest.raises(ValueError, match="for ever"):
            await handle.result(timeout=20)
        with pytest.raises(Unsupported, match=r"start a new run of workflow 'tokens\.fails' with another run_id"):
            await app.recorded().retry("failed-once")
