"""More workflows of the kit: those that wait for people, have children, clean up, go on for ever, and undo."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

from attrs import frozen

import pyworkflow
from pyworkflow import current_step, hook, sleep, step, workflow
from pyworkflow.errors import HookExpired, HookTaken, StepInterrupted, Unstorable
from pyworkflow.testing.runtime_kit.workflows import Declined, decline, note, notes


@frozen
class Decision:
    """What a person says."""

    by: str
    ok: bool = True


@step(name="kit.write")
async def write(log: str, line: str) -> str:
    note(log, line)
    return line


# -- steps ---------------------------------------------------------------------------------


@step(name="kit.at_once", retries=0)
async def at_once(log: str) -> None:
    note(log, "at once")
    msg = "no second try"
    raise ConnectionError(msg)


@workflow(name="kit.no_retries")
async def no_retries(log: str) -> None:
    await at_once(log)


@step(name="kit.no_result", retries=3, retry_delay=0)
async def no_result(log: str) -> Any:
    note(log, "no result")
    return lambda: None


@workflow(name="kit.hopeless")
async def hopeless(log: str) -> list[str]:
    """What no second attempt can mend: a call that does not fit, and a result that cannot be stored."""
    met = []
    try:
        await write(log)  # type: ignore[call-arg]
    except TypeError as error:
        met.append(type(error).__name__)
    try:
        await no_result(log)
    except Unstorable as error:
        met.append(type(error).__name__)
    return met


@step(name="kit.here")
async def here() -> int:
    return threading.get_ident()


@step(name="kit.aside")
def aside() -> int:
    return threading.get_ident()


@workflow(name="kit.threads")
async def threads() -> list[int]:
    return [await here(), await aside()]


@step(name="kit.only_once", at_most_once=True)
async def only_once(log: str) -> None:
    note(log, f"once {current_step().idempotency_key}")
    await asyncio.sleep(3600)


@step(name="kit.once_more")
async def once_more(log: str) -> None:
    note(log, f"again {current_step().idempotency_key}")
    if len([line for line in notes(log) if line.startswith("again")]) == 1:
        await asyncio.sleep(3600)


@workflow(name="kit.left")
async def left(log: str) -> list[str]:
    """Two steps whose first attempts last until their process is gone."""

    async def interrupted() -> str:
        with suppress(StepInterrupted):
            await only_once(log)
            return "ended"
        return "interrupted"

    async def again() -> str:
        await once_more(log)
        return "ended"

    return [*await asyncio.gather(interrupted(), again())]


# -- hooks ---------------------------------------------------------------------------------


@workflow(name="kit.approval")
async def approval(log: str, token: str | None = None) -> str:
    asked = hook("approval", Decision, token=token)
    await write(log, asked.token)
    decision = await asked
    return f"{decision.by} says {decision.ok}"


@workflow(name="kit.late")
async def late(log: str, token: str) -> str:
    asked = hook("late", str, token=token)
    await write(log, "opened")
    await sleep("50ms")
    return await asked


@workflow(name="kit.expiring")
async def expiring(token: str) -> str:
    try:
        return await hook("quick", str, token=token, timeout="30ms")
    except HookExpired:
        return "nobody came"


@workflow(name="kit.reopened")
async def reopened(log: str, token: str) -> list[str]:
    came = []
    try:
        await hook("gate", str, token=token, timeout="20ms")
    except HookExpired:
        came.append("expired")
    for turn in range(3):
        gate = hook("gate", str, token=token, many=True)
        await write(log, f"turn {turn}")
        came.append(await gate)
        gate.close()
    return came


@workflow(name="kit.chat")
async def chat(log: str, token: str) -> list[str]:
    messages = []
    channel = hook("chat", str, token=token, many=True)
    await write(log, "opened")
    async for message in channel:
        messages.append(await write(log, message))
        if message == "bye":
            channel.close()
    return messages


@workflow(name="kit.both")
async def both(token: str) -> str:
    first, second = hook("first", str, token=token), hook("second", str, token=token)
    try:
        return await second
    except HookTaken:
        return f"first: {await first}"


@workflow(name="kit.taken")
async def taken(token: str) -> str:
    try:
        return await hook("second", str, token=token)
    except HookTaken:
        return "taken"


# -- children ------------------------------------------------------------------------------


@workflow(name="kit.double")
async def double(log: str, n: int) -> int:
    await write(log, f"double {n}")
    return 2 * n


@workflow(name="kit.family")
async def family(log: str, n: int) -> list[int]:
    return await asyncio.gather(*(double(log, i) for i in range(n)))


@workflow(name="kit.failing_child")
async def failing_child() -> None:
    await decline(402)


@workflow(name="kit.failing_parent")
async def failing_parent() -> None:
    try:
        await failing_child()
    except Declined as error:
        msg = "no order"
        raise LookupError(msg) from error


@workflow(name="kit.waiting_child")
async def waiting_child(log: str) -> None:
    try:  # around the first step too: it may be cancelled between what the step did and the record of it
        await write(log, "child waits")
        await sleep("1 day")
    finally:
        await write(log, "child cleaned up")


@workflow(name="kit.waiting_parent")
async def waiting_parent(log: str) -> None:
    await waiting_child(log)


@workflow(name="kit.starter")
async def starter(log: str) -> str:
    return (await pyworkflow.start(double, log, 21)).id


# -- cancelling ----------------------------------------------------------------------------


@workflow(name="kit.tidy")
async def tidy(log: str) -> None:
    await write(log, "begins")
    try:
        await sleep("1 day")
    finally:
        await write(log, "tidying")
        await sleep("20ms")
        await write(log, "tidied")


@workflow(name="kit.stubborn")
async def stubborn(log: str) -> None:
    await write(log, "begins")
    try:
        await sleep("1 day")
    finally:
        await sleep("1 day")


# -- going on as new -----------------------------------------------------------------------


@workflow(name="kit.countdown")
async def countdown(log: str, n: int) -> str:
    await write(log, str(n))
    if n:
        await pyworkflow.continue_as_new(log, n - 1)
    return "lift off"


@workflow(name="kit.endless_child")
async def endless_child(log: str, n: int) -> None:
    try:
        await write(log, str(n))
        await sleep("1ms" if n < 2 else "1 day")
    except asyncio.CancelledError:
        await write(log, "stopped")
        raise
    await pyworkflow.continue_as_new(log, n + 1)


@workflow(name="kit.endless_parent")
async def endless_parent(log: str) -> None:
    await endless_child(log, 0)


# -- undoing -------------------------------------------------------------------------------


@step(name="kit.release")
async def release(log: str, item: str, result: str) -> None:
    note(log, f"release {item} of {result}")


@step(name="kit.reserve", undo=release)
async def reserve(log: str, item: str) -> str:
    note(log, f"reserve {item}")
    return f"reservation {item}"


@workflow(name="kit.saga")
async def saga(log: str, ends: str) -> str:
    await reserve(log, "chair")
    await reserve(log, "table")
    if ends == "fails":
        await decline(402)
    if ends == "waits":
        await sleep("1 day")
    return "bought"


@workflow(name="kit.told")
async def told(log: str) -> str:
    pyworkflow.set_attributes(customer="c-1", amount=12)
    pyworkflow.set_status("begun")
    await write(log, "told")
    pyworkflow.set_status("ended")
    return "done"


# -- time ----------------------------------------------------------------------------------


@workflow(name="kit.nap")
async def nap(log: str) -> float:
    began = pyworkflow.now()
    await write(log, "asleep")
    await sleep("500ms")
    return (pyworkflow.now() - began).total_seconds()


@workflow(name="kit.out_of_time", timeout="40ms")
async def out_of_time(log: str) -> None:
    try:
        await sleep("1 day")
    finally:
        await write(log, "out of time")


@step(name="kit.hangs", heartbeat="300ms", retries=0)
async def hangs(beats: int) -> str:
    for _ in range(beats):
        await asyncio.sleep(0.1)
        current_step().heartbeat()
    if beats < 4:
        await asyncio.sleep(3600)
    return "alive"


@workflow(name="kit.watched")
async def watched(beats: int) -> str:
    return await hangs(beats)


@step(name="kit.lengthen")
async def lengthen(items: list[int]) -> list[int]:
    items.append(2)
    return items


@workflow(name="kit.lists")
async def lists() -> list[list[int]]:
    given = [1]
    result = await lengthen(given)
    result.append(3)
    return [given, await lengthen(result), result]
