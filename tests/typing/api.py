"""The public API as type checkers see it: checked by mypy and pyright, never run."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, assert_type

import pyworkflow
from pyworkflow import RunHandle, configure, sleep, step, workflow


@step
async def charge(order: str, amount: int = 0) -> float:
    return float(amount)


@step(retries=3, retry_delay="5s", timeout="30s")
async def charge_later(order: str) -> float:
    return 1.0


@step
def pack(item: str) -> bytes:
    return item.encode()


@step(queue="gpu")
def render(item: str) -> bytes:
    return item.encode()


@workflow
async def bare(order: str) -> float:
    return await charge(order, amount=3)


@workflow(durable=True)
async def flow(order: str, *, fast: bool = False) -> int:
    assert_type(await charge(order), float)
    assert_type(await charge_later(order), float)
    assert_type(await pack(order), bytes)
    assert_type(await render(order), bytes)
    await sleep("1h")
    first, second = await asyncio.gather(charge(order), charge_later(order))
    assert_type((first, second), tuple[float, float])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(charge(order))
    assert_type(task.result(), float)
    return 1


async def use() -> None:
    call = charge("o")
    assert_type(call, Coroutine[Any, Any, float])  # type: ignore[unused-coroutine]
    await call
    assert_type(await flow("o-1", fast=True), int)
    handle = await pyworkflow.start(flow, "o-1", run_id="mine")
    assert_type(handle, RunHandle[int])
    assert_type(await handle.result(timeout="2h"), int)
    assert_type(pyworkflow.run(flow, "o-1"), int)


async def misuse() -> None:
    await charge(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await flow()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    pyworkflow.run(flow, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


configure(storage="sqlite:///workflows.db", default_retries=3)
