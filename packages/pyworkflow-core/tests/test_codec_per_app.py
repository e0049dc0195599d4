"""Each application has its own codec, though applications share workflows and steps."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from attrs import frozen

from pyworkflow import App, Schedule, continue_as_new, hook, sleep, start, step, workflow
from pyworkflow.engine.scheduler import Control, look, tell
from pyworkflow.errors import Unstorable
from pyworkflow.ports import hookimpl

pytestmark = pytest.mark.asyncio


class Money:
    """A type that no codec knows by itself."""

    def __init__(self, cents: int) -> None:
        self.cents = cents


@frozen
class Teaches:
    """Teaches a codec to store money, times a factor: so that it shows whose codec has done it."""

    factor: int = 1

    @hookimpl
    def pyworkflow_converter(self, converter: Any) -> None:
        converter.register_unstructure_hook(Money, lambda money: money.cents)
        converter.register_structure_hook(Money, lambda cents, _: Money(cents * self.factor))


@step(name="codecs.cents")
async def cents(money: Money) -> int:
    return money.cents


@workflow(name="codecs.pays")
async def pays(n: int) -> int:
    await sleep(0.001)
    return await cents(Money(n))


@workflow(name="codecs.gives_back")
async def gives_back(number: float) -> float:
    return number


@workflow(name="codecs.returns_money")
async def returns_money(n: int) -> Money:
    return Money(n)


@workflow(name="codecs.asks", durable=True)
async def asks(token: str) -> int:
    return (await hook("pay", Money, token=token)).cents


@workflow(name="codecs.has_a_child")
async def has_a_child(n: int) -> int:
    return (await returns_money(n)).cents


@workflow(name="codecs.starts_another", durable=True)
async def starts_another(n: int) -> str:
    return (await start(takes_money, Money(n))).id


@workflow(name="codecs.takes_money", durable=True)
async def takes_money(money: Money) -> int:
    return money.cents


@workflow(name="codecs.continues", durable=True)
async def continues(money: Money, rounds: int) -> int:
    if rounds:
        await continue_as_new(money, rounds - 1)
    return money.cents


@workflow(name="codecs.scheduled", schedule=Schedule("0 0 1 1 *"), durable=True)
async def scheduled() -> None: ...


def app_that(*plugins: Any, durable: bool = True, **settings: Any) -> App:
    return App(storage="memory://", plugins=list(plugins), default_durable=durable, **settings)


@pytest.mark.parametrize("durable", [True, False])
async def test_an_app_keeps_its_setting_after_another_one_was_used(*, durable: bool) -> None:
    async with app_that(durable=durable, allow_nan=False) as strict, app_that(durable=durable) as loose:
        assert math.isnan(await loose.call(gives_back, (math.nan,)))
        with pytest.raises(Unstorable):
            await strict.call(gives_back, (math.nan,))
        assert math.isnan(await loose.call(gives_back, (math.nan,)))


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("flow", [pays, has_a_child])
async def test_apps_with_converters_of_their_own_work_side_by_side(flow: Any, *, durable: bool) -> None:
    async with app_that(Teaches(1), durable=durable) as one, app_that(Teaches(10), durable=durable) as ten:
        results = await asyncio.gather(*(app.call(flow, (n,)) for n in range(1, 9) for app in (one, ten)))
    assert results == [number for n in range(1, 9) for number in (n, 10 * n)]


async def test_an_app_without_a_converter_refuses_what_another_one_stores() -> None:
    async with app_that(Teaches()) as knows, app_that() as does_not:
        assert await knows.call(pays, (5,)) == 5
        with pytest.raises(Unstorable):
            await does_not.call(pays, (5,))


async def read(handle: Any) -> int:
    return (await handle.result(10)).cents


async def test_a_handle_reads_the_result_by_the_codec_of_its_app() -> None:
    async with app_that(Teaches(1)) as one, app_that(Teaches(10)) as ten:
        handles = [await app.start(returns_money, (5,)) for app in (one, ten)]
        assert [await read(handle) for handle in handles] == [5, 50]


async def opened(app: App) -> None:
    async with asyncio.timeout(10):
        while not await app.recorded().hooks():
            await asyncio.sleep(0)


async def test_a_payload_is_stored_by_the_codec_of_the_app_that_runs_the_workflow() -> None:
    async with app_that(Teaches(1)) as one, app_that(Teaches(10)) as ten:
        for app, expected in ((one, 5), (ten, 50), (one, 5)):
            handle = await app.start(asks, (f"t{expected}",))
            await opened(app)
            await app.resume_hook(f"t{expected}", Money(5))
            assert await handle.result(10) == expected


async def test_arguments_of_a_started_run_are_stored_by_the_codec_of_its_app() -> None:
    async with app_that(Teaches(1)) as one, app_that(Teaches(10)) as ten:
        for app, expected in ((one, 5), (ten, 50)):
            child = await app.call(starts_another, (5,))
            assert await app.recorded().result(child) == expected


async def test_a_run_that_continues_keeps_the_codec_of_its_app() -> None:
    async with app_that(Teaches(1)) as one, app_that(Teaches(10)) as ten:
        for app, expected in ((one, 5), (ten, 500)):
            assert await app.call(continues, (Money(5), 1)) == expected


async def test_a_schedule_is_stored_by_the_codec_of_its_app() -> None:
    async with app_that(default_runtime="local") as one, app_that(default_runtime="local") as other:
        for app in (one, other):
            runtime: Any = app.recorded()
            async with app.worker():
                await tell(runtime, "codecs.scheduled", Control("pause"))
                await until(lambda runtime=runtime: paused(runtime))


async def paused(runtime: Any) -> bool:
    return (await look(runtime, "codecs.scheduled"))[0].paused


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await holds():
            await asyncio.sleep(0.001)


async def test_configuring_an_app_again_changes_its_codec_alone() -> None:
    async with app_that(allow_nan=False) as strict, app_that(allow_nan=False) as other:
        with pytest.raises(Unstorable):
            await strict.call(gives_back, (math.nan,))
        strict.configure(allow_nan=True)
        assert math.isnan(await strict.call(gives_back, (math.nan,)))
        with pytest.raises(Unstorable):
            await other.call(gives_back, (math.nan,))
