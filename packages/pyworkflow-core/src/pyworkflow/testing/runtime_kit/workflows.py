"""The workflows of the conformance kit: the same ones on every runtime.

Steps that have an effect write a line to a file, so that tests can count what was done by whatever process.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

from attrs import frozen

import pyworkflow
from pyworkflow import FatalError, RetryableError, current_step, sleep, step, workflow


class Declined(Exception):
    """An error of an application."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Currency(Enum):
    """A kind of money."""

    EUR = "eur"
    USD = "usd"


@frozen
class Order:
    """A value with typed fields."""

    id: str
    amount: Decimal
    currency: Currency
    placed: datetime
    tags: tuple[str, ...] = ()


def note(log: str, line: str) -> None:
    """Add *line* to the file *log*, whole, whoever else writes."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)


def notes(log: str) -> list[str]:
    """Return the lines of *log*."""
    return Path(log).read_text().splitlines() if Path(log).exists() else []


@step(name="kit.add")
async def add(log: str, a: int, b: int) -> int:
    note(log, f"add {a} {b}")
    return a + b


@step(name="kit.add_sync")
def add_sync(log: str, a: int, b: int) -> int:
    note(log, f"add {a} {b}")
    return a + b


@step(name="kit.echo")
async def echo(value: Any) -> Any:
    return value


@step(name="kit.ship")
async def ship(order: Order) -> Order:
    return order


@step(name="kit.flaky", retries=3, retry_delay=0.01)
async def flaky(log: str, fails: int) -> int:
    attempt = current_step().attempt
    note(log, f"flaky {attempt}")
    if attempt <= fails:
        msg = f"attempt {attempt}"
        raise ConnectionError(msg)
    return attempt


@step(name="kit.flaky_later", retries=1)
async def flaky_later(log: str) -> int:
    note(log, f"flaky {current_step().attempt}")
    if current_step().attempt == 1:
        raise RetryableError("come back", retry_after="20ms")
    return current_step().attempt


@step(name="kit.decline", retries=0)
async def decline(code: int) -> None:
    raise Declined(code, "no money")


@step(name="kit.fatal", retries=5, retry_delay=0)
async def fatal(log: str) -> None:
    note(log, "fatal")
    msg = "never again"
    raise FatalError(msg)


@step(name="kit.slow", retries=0, timeout=0.02)
async def slow() -> None:
    await asyncio.sleep(60)


@step(name="kit.forever")
async def forever(log: str) -> None:
    note(log, "forever begins")
    try:
        await asyncio.sleep(3600)
    finally:
        note(log, "forever ends")


@step(name="kit.key", retries=1, retry_delay=0)
async def key(log: str) -> str:
    context = current_step()
    note(log, context.idempotency_key)
    if context.attempt == 1:
        msg = "once more"
        raise OSError(msg)
    return context.idempotency_key


@workflow(name="kit.nothing")
async def nothing() -> str:
    return "done"


@workflow(name="kit.sequence")
async def sequence(log: str, n: int) -> int:
    total = 0
    for i in range(n):
        total = await add(log, total, i)
    return total


@workflow(name="kit.sync_steps")
async def sync_steps(log: str) -> int:
    return await add_sync(log, await add_sync(log, 1, 2), 3)


@workflow(name="kit.identical")
async def identical(log: str) -> list[int]:
    return [await add(log, 1, 1), await add(log, 1, 1)]


@workflow(name="kit.chains")
async def chains(log: str, n: int) -> list[int]:
    async def chain(i: int) -> int:
        return await add(log, await add(log, i, 1), 1)

    return await asyncio.gather(*(chain(i) for i in range(n)))


@workflow(name="kit.task_group")
async def task_group(log: str) -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(add(log, i, i)) for i in range(3)]
    return [task.result() for task in tasks]


@workflow(name="kit.group_fails")
async def group_fails(log: str) -> list[str]:
    failed: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(decline(7))
            group.create_task(forever(log))
    except* Declined as errors:
        failed += [type(error).__name__ for error in errors.exceptions]
    return failed


@workflow(name="kit.race")
async def race(log: str) -> str:
    quick: asyncio.Task[Any] = asyncio.create_task(add(log, 1, 1))
    never: asyncio.Task[Any] = asyncio.create_task(sleep("30 days"))
    done, pending = await pyworkflow.wait([never, quick], return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return "quick" if quick in done and never in pending else "never"


@workflow(name="kit.as_they_end")
async def as_they_end(log: str) -> list[int]:
    async def later(i: int) -> int:
        await sleep(0.15 * i)  # far enough apart where other processes do the steps
        return await add(log, i, 0)

    return [await item for item in pyworkflow.as_completed([later(3), later(1), later(2)])]


@workflow(name="kit.stdlib_wait")
async def stdlib_wait(log: str) -> list[int]:
    left, ended = {asyncio.create_task(add(log, i, 0)) for i in range(3)}, list[int]()
    while left:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        ended += [task.result() for task in done]
    ended += [await item for item in asyncio.as_completed([add(log, 3, 0), add(log, 4, 0)])]
    return sorted(ended)


@workflow(name="kit.time_limit")
async def time_limit(log: str) -> str:
    try:
        async with asyncio.timeout(0.05):
            await forever(log)
    except TimeoutError:
        return f"gave up, {await add(log, 1, 2)}"
    return "?"


@workflow(name="kit.wait_for")
async def wait_for(log: str) -> list[int]:
    return list(await asyncio.gather(asyncio.wait_for(add(log, 1, 1), 60), add(log, 2, 2)))


@workflow(name="kit.retried")
async def retried(log: str, fails: int) -> int:
    return await flaky(log, fails)


@workflow(name="kit.retried_later")
async def retried_later(log: str) -> int:
    return await flaky_later(log)


@workflow(name="kit.declined")
async def declined() -> None:
    await decline(402)


@workflow(name="kit.caught")
async def caught(log: str) -> list[Any]:
    try:
        await decline(402)
    except Declined as error:
        return [error.code, error.reason, await add(log, 1, 1)]
    return []


@workflow(name="kit.fatally")
async def fatally(log: str) -> None:
    await fatal(log)


@workflow(name="kit.too_slow")
async def too_slow() -> None:
    await slow()


@workflow(name="kit.own_error")
async def own_error() -> None:
    raise Declined(1, "by the workflow")


@workflow(name="kit.chained_error")
async def chained_error() -> None:
    try:
        await decline(402)
    except Declined as error:
        msg = "no order"
        raise LookupError(msg) from error


@workflow(name="kit.naps")
async def naps(log: str) -> int:
    await sleep(0.03)
    await sleep("20ms")
    await sleep(timedelta(milliseconds=10))
    await sleep(pyworkflow.now() + timedelta(milliseconds=10))
    await sleep(0)
    await sleep(-5)
    await sleep(datetime(2020, 1, 1, tzinfo=UTC))
    await asyncio.sleep(0.01)
    return await add(log, 1, 1)


@workflow(name="kit.long_sleep")
async def long_sleep(log: str) -> int:
    await add(log, 0, 0)
    await sleep("3650 days")
    return 1


@workflow(name="kit.values")
async def values(value: Any) -> list[Any]:
    return [value, await echo(value)]


@workflow(name="kit.typed")
async def typed(order: Order) -> Order:
    return await ship(order)


@workflow(name="kit.unstorable")
async def unstorable() -> str:
    try:
        await echo(lambda: None)
    except TypeError as error:
        return str(error)
    return "?"


@workflow(name="kit.chance")
async def chance(log: str) -> list[Any]:
    first = [pyworkflow.random(), str(pyworkflow.uuid4()), pyworkflow.now()]
    await add(log, 1, 1)
    return [*first, pyworkflow.random()]


@workflow(name="kit.keys")
async def keys(log: str) -> list[str]:
    return [await key(log), await key(log)]


@workflow(name="kit.stopped")
async def stopped(log: str) -> str:
    try:
        await forever(log)
    except asyncio.CancelledError:
        await add(log, 9, 9)
        raise
    return "?"


@workflow(name="kit.unstoppable")
async def unstoppable(log: str) -> str:
    try:
        await forever(log)
    except asyncio.CancelledError:
        asyncio.current_task().uncancel()  # type: ignore[union-attr]
    return f"ended anyway, {await add(log, 1, 1)}"


@workflow(name="kit.sockets")
async def sockets() -> None:
    await asyncio.open_connection("127.0.0.1", 9)  # noqa: PW202 -- the same


@workflow(name="kit.in_a_thread")
async def in_a_thread() -> None:
    await asyncio.to_thread(print)  # noqa: PW204 -- the same


@workflow(name="kit.stuck")
async def stuck(log: str) -> None:
    await add(log, 1, 1)
    await asyncio.Event().wait()


@workflow(name="kit.queue")
async def queue(log: str) -> list[int]:
    line: asyncio.Queue[int] = asyncio.Queue(1)
    lock = asyncio.Lock()

    async def make() -> None:
        for i in range(3):
            await line.put(await add(log, i, 0))

    async def take() -> list[int]:
        taken = []
        for _ in range(3):
            async with lock:
                taken.append(await line.get())
        return taken

    return (await asyncio.gather(make(), take()))[1]
