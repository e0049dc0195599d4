"""Timers of any length: every mode sees the same, and what makes no sense is refused where it is called."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

import pyworkflow
from pyworkflow import App, RetryableError, hook, step, workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.events import StartTimer, later
from pyworkflow.model import Status
from pyworkflow.testing.until import until

pytestmark = pytest.mark.asyncio


@step(name="timers.quick", retries=0)
async def quick() -> str:
    return "quick"


@step(name="timers.puts_off", retries=1)
async def puts_off() -> None:
    raise RetryableError(retry_after=timedelta.max)


async def limited(seconds: float) -> str:
    async with asyncio.timeout(seconds):
        return await quick()


async def short(waiting: Awaitable[Any]) -> str:
    try:
        await asyncio.wait_for(waiting, 0.02)
    except TimeoutError:
        return "too long"
    return "over"


END = datetime.max.replace(tzinfo=UTC)
ODD: dict[str, tuple[Callable[[], Awaitable[Any]], str]] = {
    "timeout(inf)": (lambda: limited(math.inf), "quick"),
    "timeout(1e300)": (lambda: limited(1e300), "quick"),
    "timeout(1e12)": (lambda: limited(1e12), "quick"),
    "wait_for(inf)": (lambda: asyncio.wait_for(quick(), math.inf), "quick"),
    "asyncio.sleep(inf)": (lambda: short(asyncio.sleep(math.inf)), "too long"),
    "asyncio.sleep(1e300)": (lambda: short(asyncio.sleep(1e300)), "too long"),
    "asyncio.sleep(-inf)": (lambda: short(asyncio.sleep(-math.inf)), "over"),
    "sleep(1e12)": (lambda: short(pyworkflow.sleep(1e12)), "too long"),
    "sleep(timedelta.max)": (lambda: short(pyworkflow.sleep(timedelta.max)), "too long"),
    "sleep(timedelta.min)": (lambda: short(pyworkflow.sleep(timedelta.min)), "over"),
    "sleep(the last moment)": (lambda: short(pyworkflow.sleep(END)), "too long"),
    "sleep(1e-9)": (lambda: short(pyworkflow.sleep(1e-9)), "over"),
    "hook(timeout=timedelta.max)": (lambda: short(hook("odd", timeout=timedelta.max).take()), "too long"),
    "sleep(inf)": (lambda: pyworkflow.sleep(math.inf), "ConfigError"),
    "sleep(nan)": (lambda: pyworkflow.sleep(math.nan), "ConfigError"),
    "sleep(after the end)": (
        lambda: pyworkflow.sleep(datetime.max.replace(tzinfo=timezone(timedelta(hours=-14)))),
        "ConfigError",
    ),
}


@workflow(name="timers.odd")
async def odd(name: str) -> str:
    try:
        return str(await ODD[name][0]())
    except Exception as error:  # noqa: BLE001 -- which one is what is tested
        return type(error).__name__


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "transient"])
@pytest.mark.parametrize("name", ODD)
async def test_a_timer_of_any_length_is_the_same_in_every_mode(name: str, durable: bool) -> None:  # noqa: FBT001
    async with App(storage=MemoryStorage(), default_durable=durable) as app:
        assert await app.call(odd, (name,)) == ODD[name][1]


@workflow(name="timers.nan")
async def nan() -> str:
    try:
        await limited(math.nan)
    except ValueError as error:
        return str(error)
    return ""


async def test_a_timer_of_nan_is_refused_where_it_is_asked_for() -> None:
    async with App(storage=MemoryStorage(), default_durable=True) as app:
        assert "Invalid delay: NaN" in await app.call(nan)


@workflow(name="timers.for_ever")
async def for_ever() -> None:
    await asyncio.sleep(math.inf)


@workflow(name="timers.retries_never")
async def retries_never() -> None:
    await puts_off()


@pytest.mark.parametrize("flow", [for_ever, retries_never], ids=lambda flow: str(flow.name))
async def test_a_run_that_waits_for_longer_than_there_are_dates_waits_and_can_be_cancelled(flow: Any) -> None:
    async with App(storage=MemoryStorage(), default_durable=True) as app:
        handle = await app.start(flow)

        async def waits() -> bool:
            return len(await handle.history()) == (3 if flow is retries_never else 2)

        await until(waits)
        assert (await handle.run()).status is Status.RUNNING
        await handle.cancel()

        async def is_cancelled() -> bool:
            return (await handle.run()).status is Status.CANCELLED

        await until(is_cancelled)


async def test_the_last_time_of_all_is_the_end_of_the_year_9999() -> None:
    assert StartTimer(1, "timer", 1e300).fires_at(datetime(2026, 1, 1, tzinfo=UTC)) == END
    assert later(END, 1.0) == END
