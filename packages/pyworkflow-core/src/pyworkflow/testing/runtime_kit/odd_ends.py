"""Steps and workflows that end as no code of a workflow should, and libraries let it."""

from __future__ import annotations

import asyncio
import sys

from pyworkflow import sleep, step, workflow


class Panic(BaseException):
    """As libraries have them that are written in other languages."""


_ODD: dict[str, BaseException] = {
    "panic": Panic("index out of range"),
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "generator": GeneratorExit(),
    "stop": StopIteration(1),
    "cancelled": asyncio.CancelledError("by the step"),
}


@step(name="kit.ends_oddly", retries=0)
async def ends_oddly(kind: str) -> None:
    raise _ODD[kind]


@step(name="kit.ends_oddly_sync", retries=0)
def ends_oddly_sync(kind: str) -> None:
    raise _ODD[kind]


@workflow(name="kit.odd_ends")
async def odd_ends() -> list[str]:
    caught = []
    for kind in _ODD:
        for called in (ends_oddly, ends_oddly_sync):
            try:
                await called(kind)
            except Exception as error:  # noqa: BLE001 -- that it is one is tested
                caught.append(type(error).__name__)
    return caught


@workflow(name="kit.exits")
async def exits() -> None:
    await sleep(0.001)
    sys.exit(3)
