"""The workflows that our worker carries out."""

import asyncio

from pyworkflow import step, workflow


@step
async def add_one(number: int) -> int:
    return number + 1


@workflow(durable=True)
async def steps(count: int) -> int:
    number = 0
    for _ in range(count):
        number = await add_one(number)
    return number


@workflow(durable=True)
async def fan_out(count: int) -> int:
    return sum(await asyncio.gather(*(add_one(number) for number in range(count))))


@workflow(durable=False)
async def transient(count: int) -> int:
    number = 0
    for _ in range(count):
        number = await add_one(number)
    return number
