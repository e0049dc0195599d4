"""The workflow that a worker of pyworkflow-engine carries out."""

from pyworkflow import step, workflow


@step()
async def add_one(number: int) -> int:
    return number + 1


@workflow(durable=True)
async def steps(count: int) -> int:
    number = 0
    for _ in range(count):
        number = await add_one(number)
    return number
