"""Every kind of value at every place where one enters a run: it comes back the same, or is refused with its name.

What a workflow sees the first time is what it sees on every replay.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest

from pyworkflow import App, hook, step, workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.errors import PayloadTooLarge, Unstorable
from pyworkflow.testing.until import until

Point = namedtuple("Point", "x y")  # noqa: PYI024 -- the old kind is one


class Colour(Enum):
    RED = 1


@dataclass
class Box:
    inner: Any


class Own:
    """Something of the user's that nobody knows how to store."""


def a_cycle() -> Any:
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    return cycle


def deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


SAME: dict[str, Callable[[], Any]] = {
    "none, true, numbers": lambda: [None, True, 0, -1.5, 2**63, -(2**70)],
    "a huge number": lambda: 10**5000,
    "text": lambda: "ünï\x00\u202e\U0001f600",
    "a lone surrogate": lambda: "\ud800",
    "a tuple": lambda: (1, ("a", [])),
    "keys that are no text": lambda: {1: "a", None: "b", (1, 2): "c", 2.5: 2},
    "a set": lambda: {1, "a", (2, 3)},
    "bytes": lambda: b"\xff\x00",
    "a decimal": lambda: Decimal("1.10"),
    "a time": lambda: datetime(2026, 10, 25, 2, 30, tzinfo=UTC),
    "a dict like a tag of ours": lambda: {"~tuple": [1], "~": {"~set": []}},
    "a dict like a tag of others": lambda: {"__type__": "cloudpickle", "__class__": "os.system", "py/object": "os"},
    "nan and infinity": lambda: [math.nan, -math.inf],
    "empty things": lambda: ["", [], {}, (), set(), b""],
}
REFUSED: dict[str, Callable[[], Any]] = {
    "a lambda": lambda: lambda: None,
    "a generator": lambda: (n for n in ()),
    "a lock": threading.Lock,
    "a cycle": a_cycle,
    "5000 levels": lambda: deep(5000),
    "10 MB": lambda: "x" * 10_000_000,
    "an object of one's own": Own,
    "a coroutine function": lambda: asyncio.sleep,
}
EITHER: dict[str, Callable[[], Any]] = {  # the same, or refused; never something else
    "a named tuple": lambda: Point(1, 2),
    "an enum without annotation": lambda: Colour.RED,
    "a dataclass without annotation": lambda: Box(1),
    "a bytearray": lambda: bytearray(b"a"),
    "an ordered dict": lambda: OrderedDict(a=1),
    "a range": lambda: range(3),
    "an exception": lambda: ValueError("x"),
}
KINDS = {**SAME, **REFUSED, **EITHER}


@step(name="payload.takes", retries=0)
async def takes(value: Any) -> Any:
    seen.append(value)  # noqa: PW401 -- what the workflow saw is what is tested
    return "done"


@step(name="payload.gives", retries=0)
async def gives(kind: str) -> Any:
    return KINDS[kind]()


@workflow(name="payload.given")
async def given(value: Any) -> str:
    seen.append(value)  # noqa: PW401 -- what the workflow saw is what is tested
    return "done"


@workflow(name="payload.step_argument")
async def step_argument(kind: str) -> Any:
    return await takes(KINDS[kind]())


@workflow(name="payload.step_result")
async def step_result(kind: str) -> str:
    seen.append(await gives(kind))  # noqa: PW401 -- the same
    return "done"


@workflow(name="payload.result")
async def result(kind: str) -> Any:
    return KINDS[kind]()


@workflow(name="payload.child")
async def child(kind: str) -> str:
    return await given(KINDS[kind]())


@workflow(name="payload.hooked")
async def hooked() -> str:
    seen.append(await hook("payload", token="payload"))  # noqa: PW401 -- the same
    return "done"


seen: list[Any] = []


async def enter(app: App, place: str, kind: str) -> Any:
    """Have a value enter a run at a place; return what was seen there of it."""
    match place:
        case "start":
            await app.call(given, (KINDS[kind](),))
        case "step argument":
            await app.call(step_argument, (kind,))
        case "step result":
            await app.call(step_result, (kind,))
        case "result":
            return await app.call(result, (kind,))
        case "child":
            await app.call(child, (kind,))
        case _:
            handle = await app.start(hooked)
            await until(app.recorded().hooks)
            try:
                await app.resume_hook("payload", KINDS[kind]())
            except Unstorable:
                assert await app.recorded().hooks(), "the hook stays open"
                await app.resume_hook("payload", "fine")
                assert await handle.result("20s") == "done"
                raise
            await handle.result("20s")
    return seen[-1]


PLACES = ["start", "step argument", "step result", "result", "child", "hook"]


@pytest.mark.asyncio
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_value_comes_back_the_same_or_is_refused(place: str, kind: str) -> None:
    seen.clear()
    came, refusal = None, ""
    async with App(storage=MemoryStorage(), default_durable=True, default_runtime="local?replay=true") as app:
        try:
            came = await enter(app, place, kind)
        except (Unstorable, PayloadTooLarge) as error:
            refusal = str(error)
    if refusal:
        assert kind not in SAME, refusal
        assert "payload." in refusal or "hook" in refusal, "it says where"
        return
    assert kind not in REFUSED
    expected = KINDS[kind]()
    assert type(came) is type(expected)
    assert came == expected or repr(came) == repr(expected)
