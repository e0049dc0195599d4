"""How hooks end: what was sent before is kept, and what comes after is refused to its sender."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from attrs import define, field

from pyworkflow import App, hook, step, workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.errors import HookClosed
from pyworkflow.model import History
from pyworkflow.testing.until import until

pytestmark = pytest.mark.asyncio


@define(eq=False)
class SlowSender(MemoryStorage):
    """Whoever loads a history is held up by what is in `meanwhile`, once."""

    meanwhile: Callable[[], Awaitable[Any]] | None = field(default=None, init=False)

    async def load(self, run_id: str, after: int = 0) -> History:
        found = await super().load(run_id, after)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return found


@step(name="ends.note")
async def note(text: str) -> str:
    return text


@workflow(name="ends.chat")
async def chat() -> list[str]:
    box, got = hook("chat", str, token="chat", many=True), []
    async for message in box:
        got.append(await note(message))
        if message == "bye":
            box.close()
    await hook("go", token="go")
    return got


@workflow(name="ends.gates")
async def gates(*, many: bool) -> list[str]:
    got = []
    for _ in range(3):
        gate = hook("gate", str, token="gate", many=many)
        got.append(await gate)
        gate.close()
    return got


def app_on(storage: MemoryStorage) -> App:
    return App(storage=storage, default_durable=True)


async def closed(app: App, run_id: str) -> None:
    async def is_closed() -> bool:
        return all(hook.name != "chat" for hook in await app.recorded().hooks(run_id))

    await until(is_closed)


async def test_a_payload_that_comes_while_a_hook_for_many_closes_is_refused_to_its_sender() -> None:
    storage = SlowSender()
    async with app_on(storage) as app:
        handle = await app.start(chat)
        await until(app.recorded().hooks)

        async def closes() -> None:
            await app.resume_hook("chat", "bye")
            await closed(app, handle.id)

        storage.meanwhile = closes
        with pytest.raises(HookClosed):
            await app.resume_hook("chat", "pay 100 EUR")
        await app.resume_hook("go", None)
        assert await handle.result("20s") == ["bye"]


@pytest.mark.parametrize("many", [False, True])
async def test_a_payload_that_comes_while_its_token_is_opened_again_reaches_the_new_hook(many: bool) -> None:  # noqa: FBT001
    storage = SlowSender()
    async with app_on(storage) as app:
        handle = await app.start(gates, (), {"many": many})
        (first,) = await until(app.recorded().hooks)

        async def moves_on() -> None:
            await app.resume_hook("gate", "first")
            await until(again)

        async def again() -> bool:
            return any(hook.op != first.op for hook in await app.recorded().hooks())

        storage.meanwhile = moves_on
        await app.resume_hook("gate", "second")
        await until(lambda: send(app, "gate", "third"))
        assert await handle.result("20s") == ["first", "second", "third"]


async def send(app: App, token: str, payload: str) -> bool:
    try:
        await app.resume_hook(token, payload)
    except HookClosed:
        return False
    return True


@workflow(name="ends.idle")
async def idle(*, by_timeout: bool) -> list[str]:
    got, messages = [], aiter(hook("idle", str, token="idle", many=True))
    while "last" not in got:
        try:
            if by_timeout:
                async with asyncio.timeout(0.02):
                    got.append(await anext(messages))
            else:
                got.append(await asyncio.wait_for(anext(messages), 0.02))
        except TimeoutError:
            await timed_out()
    return got


@step(name="ends.timed_out")
async def timed_out() -> None:
    timeouts.append(1)


timeouts: list[int] = []


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("by_timeout", [False, True])
async def test_a_time_limit_for_the_next_payload_does_not_end_the_iteration(durable: bool, by_timeout: bool) -> None:  # noqa: FBT001
    async with App(storage=MemoryStorage(), default_durable=durable) as app:
        running = asyncio.create_task(app.call(idle, (), {"by_timeout": by_timeout}))
        for text in ("first", "last"):
            timeouts.clear()
            await until(lambda: len(timeouts) > 1)
            await app.resume_hook("idle", text)
        assert await running == ["first", "last"]
