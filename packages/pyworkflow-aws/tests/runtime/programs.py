"""Random programs of steps, timers, hooks, gathers, races and children, and a workflow that carries one out."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pyworkflow
from pyworkflow import hook, sleep, step, workflow
from pyworkflow.testing.runtime_kit.workflows import note, notes


class Crash(BaseException):
    """What a lost sandbox is like."""


crash: dict[str, int] = {}
"""For each run, after how many of its steps the sandbox is lost."""

old: set[str] = set()
"""Runs that are carried out by the code from before the change, without what it asks for under `patched`."""


@step(name="fuzz.work", retries=2, retry_delay=1)
async def work(name: str, pause: float, fails: int) -> str:
    await asyncio.sleep(pause)
    root = pyworkflow.current_step().run_id.partition(".")[0]
    crash[root] = crash.get(root, 0) - 1
    if crash[root] == 0:
        raise Crash
    if pyworkflow.current_step().attempt <= fails:
        msg = f"{name} fails"
        raise OSError(msg)
    return name


def program(  # noqa: PLR0911 -- one for each kind
    rng: random.Random, depth: int, names: list[int], *, told: bool = False
) -> list[Any]:
    """Return a program; each of its steps has a name of its own. *told*: with hooks, and changes of the code."""
    if told and rng.random() < 0.3:
        names[0] += 1
        kind = rng.choice(["hook", "hook", "letters", "deadline", "change", "change"])
        return [kind, f"{kind}{names[0]}"]
    names[0] += 1
    name = f"s{names[0]}"
    chance = rng.random()
    if depth == 0 or chance < 0.35:
        return ["step", name, rng.choice([0, 0, 0.001, 0.003]), rng.choice([0, 0, 0, 0, 1])]
    if chance < 0.48:
        return ["sleep", rng.choice([1, 3600, 86400])]
    if chance < 0.68:
        return ["seq", [program(rng, depth - 1, names, told=told) for _ in range(rng.randint(1, 3))]]
    if chance < 0.82:
        return ["gather", [program(rng, depth - 1, names, told=told) for _ in range(rng.randint(2, 4))]]
    if chance < 0.90:
        return ["child", program(rng, depth - 1, names, told=told)]
    return ["race", name, [["step", f"{name}.{i}", rng.choice([0, 0.001, 0.002]), 0] for i in range(3)]]


async def carry_out(todo: list[Any], scale: float, root: str) -> Any:  # noqa: PLR0911 -- one for each kind
    """Carry a program out; a race tells who won by the name of the step that follows."""
    match todo:
        case ["step", name, pause, fails]:
            return await work(name, pause, fails)
        case ["sleep", seconds]:
            await sleep(seconds * scale)
            return None
        case ["seq", parts]:
            return [await carry_out(part, scale, root) for part in parts]
        case ["gather", parts]:
            return list(await asyncio.gather(*(carry_out(part, scale, root) for part in parts)))
        case ["child", part]:
            return await child(part, scale, root)
        case ["race", name, parts]:
            tasks = [asyncio.create_task(carry_out(part, scale, root)) for part in parts]
            done, _ = await pyworkflow.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await work(f"{name} won by {tasks.index(done[0])} of {len(done)}", 0, 0)
            await asyncio.gather(*tasks)
            return "race"
        case ["change", name]:
            if root not in old and pyworkflow.patched(name):
                await work(f"{name} changed", 0, 0)
            return None
        case [kind, name]:
            return await be_told(kind, name, scale, root)
    raise AssertionError(todo)


async def be_told(kind: str, name: str, scale: float, root: str) -> Any:
    """Wait for what is sent to the hook *name*."""
    opened = hook(name, str, token=f"{root}:{name}", many=kind == "letters")
    match kind:
        case "letters":
            letters = [await opened for _ in range(LETTERS)]
            opened.close()
            return letters
        case "deadline":
            try:
                await asyncio.wait_for(opened.take(), 3600 * scale)
            except TimeoutError:
                await work(f"{name} was late", 0, 0)
            return None
        case _:
            return await opened


LETTERS = 3
"""How many payloads a hook takes that takes many."""


def payloads(name: str) -> list[str]:
    """Return what is to be sent to the hook *name*, in order."""
    return [f"{name}.{number}" for number in range(LETTERS)] if name.startswith("letters") else [name]


def expected(todo: list[Any]) -> Any:  # noqa: PLR0911 -- one for each kind
    """Return what a program gives, whoever wins its races."""
    match todo:
        case ["step", name, *_]:
            return name
        case ["seq" | "gather", parts]:
            return [expected(part) for part in parts]
        case ["child", part]:
            return expected(part)
        case ["race", *_]:
            return "race"
        case ["hook", name]:
            return name
        case ["letters", name]:
            return payloads(name)
    return None


@workflow(name="fuzz.child")
async def child(todo: list[Any], scale: float, root: str) -> Any:
    return await carry_out(todo, scale, root)


@workflow(name="fuzz.run")
async def run(todo: list[Any], scale: float, root: str = "") -> Any:
    return await carry_out(todo, scale, root)


@step(name="fuzz.tell")
async def tell(log: str, text: str) -> None:
    note(log, text)


@step(name="fuzz.die", at_most_once=True, retries=3)
async def die_once(log: str) -> str:
    note(log, "dies")
    os._exit(17)


@step(name="fuzz.survive")
async def survive(log: str) -> str:
    note(log, "tries")
    if notes(log).count("tries") == 1:
        os._exit(17)
    return "survived"


@step(name="fuzz.slow", retries=0)
async def slow(log: str, seconds: float) -> str:
    note(log, "slow")
    await asyncio.sleep(seconds)
    return "done"


@workflow(name="fuzz.lost")
async def lost(log: str, *, twice: bool) -> str:
    before = await work("before", 0, 0)
    return before + ", " + await (survive(log) if twice else die_once(log))


@workflow(name="fuzz.asks")
async def asks(log: str) -> str:
    approval = hook("approval", str)
    await tell(log, approval.token)
    return await approval


@workflow(name="fuzz.sleeps")
async def sleeps(log: str, seconds: float) -> str:
    await tell(log, "before")
    await sleep(seconds)
    await tell(log, "after")
    return "awake"


@workflow(name="fuzz.slowly")
async def slowly(log: str, seconds: float) -> str:
    return await slow(log, seconds)


@workflow(name="fuzz.many")
async def many(log: str, steps: int, seconds: float) -> str:
    for _ in range(steps):
        await slow(log, seconds)
    return "done"


@step(name="fuzz.text", retries=0)
async def text(size: int) -> str:
    return "x" * size


@step(name="fuzz.fail", retries=0)
async def fail(size: int) -> None:
    raise ValueError("x" * size)


@workflow(name="fuzz.much")
async def much(size: int) -> int:
    return len(await text(size))


@workflow(name="fuzz.fails_at_length")
async def fails_at_length(size: int) -> None:
    await fail(size)


@workflow(name="fuzz.asks_for")
async def asks_for(token: str) -> str:
    return await hook("approval", str, token=f"live-{token}:{token}")
