"""Parents on one runtime and children on another one, for `test_across_runtimes`."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from pyworkflow import hook, step, workflow
from pyworkflow.testing.runtime_kit.workflows import Declined, note
from pyworkflow_celery import celery_app

app = celery_app()


class NoOrder(Exception):
    """What a child raises because of something else."""


@step(name="across.where")
async def where(n: int) -> tuple[int, int]:
    return n, os.getpid()


@step(name="across.write")
async def write(log: str, line: str) -> None:
    note(log, f"{os.getpid()} {line}")


@step(name="across.decline", retries=0)
async def decline() -> None:
    raise Declined(402, "no money")


async def _works(n: int) -> tuple[int, int]:
    return await where(n)


async def _fails() -> None:
    try:
        await decline()
    except Declined as error:
        raise NoOrder("not today") from error


async def _waits(log: str, token: str) -> Any:
    asked = hook("asked", token=token)
    try:
        await write(log, "waits")
        return await asked
    finally:
        await write(log, "cleaned up")


class On:
    """The same workflows, for a child on the runtime *child* and a parent on *parent*."""

    def __init__(self, parent: str, child: str) -> None:
        def flow(name: str, runtime: str) -> Any:
            return workflow(name=f"across.{runtime}.{name}", runtime=runtime, durable=True)

        self.works, self.fails = flow("works", child)(_works), flow("fails", child)(_fails)
        self.waits = flow("waits", child)(_waits)

        @flow("fan", parent)
        async def fan(n: int) -> list[list[int]]:
            here = await where(-1)
            return [list(here), *(list(found) for found in await asyncio.gather(*(self.works(i) for i in range(n))))]

        @flow("failing", parent)
        async def failing() -> None:
            await self.fails()

        @flow("waiting", parent)
        async def waiting(log: str, token: str) -> Any:
            return await self.waits(log, token)

        self.fan, self.failing, self.waiting = fan, failing, waiting


LOCAL_TO_CELERY = On("local", "celery")
CELERY_TO_LOCAL = On("celery", "local")
