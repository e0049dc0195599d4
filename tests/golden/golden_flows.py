"""The workflows of the golden runs. Their code stays as it is: runs of every released version have to go on with it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from attrs import frozen

import pyworkflow
from pyworkflow import current_step, hook, sleep, step, workflow

FAULTS = {"new code": False, "closed": False}
"""What is wrong while the golden runs are made, so that some of them do not end."""


class Colour(Enum):
    RED = "red"


@frozen
class Order:
    id: str
    amount: Decimal
    at: datetime
    colour: Colour
    tags: tuple[str, ...] = ()


@frozen
class Decision:
    by: str
    ok: bool = True


ORDER = Order("o-1", Decimal("9.90"), datetime(2026, 1, 2, 3, 4, 5, 6, UTC), Colour.RED, ("a", "ü\x00"))
VALUES: list[Any] = [
    None, True, -1, 1.5, "ünï\x00", [1, [2]], (1, "a"), {"a": (1,)}, {1, 2}, b"\xff", {1: "int key"}, {"~tuple": [1]},
    Decimal("1.10"), timedelta(days=1), datetime(2026, 1, 2, tzinfo=UTC), UUID(int=7), Path("a/b"),
]  # fmt: skip


@step(name="golden.echo")
async def echo(value: Any) -> Any:
    return value


@step(name="golden.ship")
def ship(order: Order) -> Order:
    return order


@step(name="golden.flaky", retries=1, retry_delay="1ms")
async def flaky() -> int:
    if current_step().attempt == 1:
        raise ConnectionError(111, "refused")
    return current_step().attempt


@step(name="golden.opens", retries=0)
async def opens() -> str:
    if FAULTS["closed"]:
        raise ConnectionError(111, "the shop is closed")
    return "open"


@step(name="golden.hangs")
async def hangs() -> int:
    if FAULTS["closed"]:
        await asyncio.sleep(3600)
    return current_step().attempt


@workflow(name="golden.everything")
async def everything(order: Order) -> list[Any]:
    pyworkflow.set_attributes(order=order.id, amount=9.9, vip=True)
    if pyworkflow.patched("orders are shipped"):
        order = await ship(order)
    found = [await flaky(), pyworkflow.random() < 1, pyworkflow.uuid4().version]
    found += await asyncio.gather(*(echo(value) for value in VALUES))
    await sleep("1ms")
    try:
        async with asyncio.timeout(0.01):
            await sleep("1 hour")
    except TimeoutError:
        found.append(await double(21))
    return [order.id, *found]


@workflow(name="golden.double")
async def double(n: int) -> int:
    return 2 * await echo(n)


@workflow(name="golden.approval")
async def approval(token: str) -> str:
    decision = await hook("approval", Decision, token=token)
    return await echo(f"{decision.by} says {decision.ok}")


@workflow(name="golden.parent")
async def parent(token: str) -> str:
    return f"child: {await approval(token)}"


@workflow(name="golden.chat")
async def chat(token: str) -> list[str]:
    channel, said = hook("chat", str, token=token, many=True), []
    async for message in channel:
        said.append(await echo(message))
        if message == "bye":
            channel.close()
    return said


@workflow(name="golden.sleeper")
async def sleeper() -> str:
    await echo("good night")
    await sleep("10s")
    return await echo("good morning")


@workflow(name="golden.fails")
async def fails() -> str:
    await echo("knock")
    return await opens()


@workflow(name="golden.changed")
async def changed(token: str) -> str:
    await (opens() if FAULTS["new code"] else echo("first"))
    return await echo(await hook("changed", str, token=token))


@workflow(name="golden.lost")
async def lost() -> list[int]:
    return [await echo(1), *await asyncio.gather(hangs(), hangs())]


@workflow(name="golden.cancelled")
async def cancelled() -> None:
    try:
        await sleep("1 hour")
    finally:
        await echo("cleaned up")


@workflow(name="golden.counts")
async def counts(n: int) -> str:
    if await echo(n):
        await pyworkflow.continue_as_new(n - 1)
    return "lift off"
