"""Random workflows for the simulation, and what each of them has to come to.

A workflow is a tree: ``["seq", [...]]``, ``["step", "a", 0.3, 1]``. A part of it that depends on nothing but itself has
one right result, whatever went wrong meanwhile; a race has as many as it has runners.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from random import Random
from typing import Any
from zlib import crc32

import pyworkflow
from pyworkflow import current_step, hook, sleep, step, workflow
from pyworkflow.errors import FatalError, HookExpired, StepInterrupted
from pyworkflow.testing.simulation.virtual import Process

Tree = list[Any]

_PATIENT = 100  # retries: however often a worker is lost, a step is not given up


class Broken(Exception):
    """What a workflow fails with that is to fail."""


# -- steps: each tells the simulation that it begins -------------------------------------------------


def _begin() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Process)
    loop.begins(current_step())


@step(name="sim.act", retries=_PATIENT, retry_policy="fixed?delay=300ms")
async def act(key: str, seconds: float, failures: int) -> str:
    _begin()
    await asyncio.sleep(seconds)
    if current_step().attempt <= failures:
        msg = f"attempt {current_step().attempt}"
        raise OSError(msg)
    return key


@step(name="sim.act_sync", retries=_PATIENT)
def act_sync(key: str) -> str:
    _begin()
    return key


@step(name="sim.act_once", at_most_once=True)
async def act_once(key: str, seconds: float) -> str:
    _begin()
    await asyncio.sleep(seconds)
    return key


@step(name="sim.refuse", retries=_PATIENT)
async def refuse(key: str) -> str:
    _begin()
    raise FatalError(key)


@step(name="sim.release", retries=_PATIENT)
async def release(key: str, seconds: float, result: str) -> None:  # noqa: ARG001 -- as its step is called
    _begin()
    await asyncio.sleep(seconds)


@step(name="sim.reserve", retries=_PATIENT, undo=release)
async def reserve(key: str, seconds: float) -> str:
    _begin()
    await asyncio.sleep(seconds)
    return key


# -- workflows ---------------------------------------------------------------------------------------


@workflow(name="sim.tree")
async def tree(name: str, parts: Tree, times: int = 0, fails: bool = False) -> Any:  # noqa: FBT001, FBT002 -- stored
    result = await perform(parts, name)
    if times:
        await pyworkflow.continue_as_new(f"{name}+", parts, times - 1, fails)
    if fails:
        raise Broken(name)
    return result


async def perform(parts: Tree, path: str) -> Any:  # noqa: C901, PLR0911, PLR0912 -- one case a kind
    match parts:
        case ["step", key, seconds, failures]:
            return await act(key, seconds, failures)
        case ["sync", key]:
            return await act_sync(key)
        case ["reserve", key, seconds]:
            return await reserve(key, seconds)
        case ["once", key, seconds]:
            try:
                return await act_once(key, seconds)
            except StepInterrupted:
                return "interrupted"
        case ["refused", key]:
            try:
                return await refuse(key)
            except FatalError as error:
                return f"refused {error}"
        case ["sleep", seconds]:
            await sleep(seconds)
            return "slept"
        case ["chance"]:
            clock = asyncio.get_running_loop().time()
            return [pyworkflow.random(), str(pyworkflow.uuid4()), str(pyworkflow.now()), clock]
        case ["hook", timeout]:
            return await (wait_again if crc32(path.encode()) % 2 else wait_once)(path, timeout)
        case ["child", inner]:
            return await tree(f"{path}/", inner)
        case ["seq", inner]:
            return await in_turn([partial(perform, part, f"{path}.{n}") for n, part in enumerate(inner)], path)
        case ["gather", inner]:
            return await _TOGETHER[crc32(path.encode()) % len(_TOGETHER)](
                [partial(perform, part, f"{path}.{n}") for n, part in enumerate(inner)]
            )
        case ["race", inner]:
            return await race([perform(part, f"{path}.{n}") for n, part in enumerate(inner)])
        case ["limit", seconds, inner]:
            try:
                async with asyncio.timeout(seconds):
                    return await perform(inner, f"{path}.t")
            except TimeoutError:
                return "late"
    raise ValueError(parts)


async def wait_once(path: str, limit: float | None) -> str:
    try:
        return await hook(path, str, token=path, timeout=limit)
    except HookExpired:
        return "expired"


async def wait_again(path: str, limit: float | None) -> str:
    """As `wait_once`, on a hook whose token another one of the workflow had until the same decision."""
    before = hook(path, str, token=path, many=True)
    await act_sync(f"opened {path}")
    before.close()
    async for message in before:
        return message
    return await wait_once(path, limit)


async def in_turn(parts: list[Callable[[], Coroutine[Any, Any, Any]]], path: str) -> list[Any]:
    """Return what *parts* come to, one after the other, as a generator gives them that is left before its end."""
    if crc32(path.encode()) % 2:
        return [await part() for part in parts]

    async def one_by_one() -> AsyncIterator[Any]:
        try:
            for part in parts:
                yield await part()
        finally:
            await act_sync(f"left {path}")
            await act_sync(f"left {path} for good")

    results = []
    async for result in one_by_one():
        results.append(result)
        if len(results) == len(parts):
            break
    return results


async def gather(parts: list[Any]) -> list[Any]:
    return await asyncio.gather(*(part() for part in parts))


async def group(parts: list[Any]) -> list[Any]:
    """As `gather`, by a group whose tasks clean up in the order in which they are cancelled, which is recorded."""
    ended: list[int] = []

    async def one(number: int, part: Any) -> Any:
        try:
            return await part()
        finally:
            ended.append(number)

    try:
        async with asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(one(number, part)) for number, part in enumerate(parts)]
    except asyncio.CancelledError:
        await act_sync(f"cancelled {ended}")
        raise
    return [task.result() for task in made]


async def wait(parts: list[Any]) -> list[Any]:
    """As `gather`, by sets of tasks."""
    tasks = [asyncio.create_task(part()) for part in parts]
    left = set(tasks)
    try:
        while left:
            _, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await asyncio.gather(*(task for task in left if task.cancel()), return_exceptions=True)
        raise
    return [task.result() for task in tasks]


async def as_completed(parts: list[Any]) -> list[Any]:
    """As `gather`, by what ends first."""

    async def numbered(number: int, part: Any) -> tuple[int, Any]:
        return number, await part()

    tasks = [asyncio.create_task(numbered(number, part)) for number, part in enumerate(parts)]
    try:
        return [result for _, result in sorted([await one for one in asyncio.as_completed(tasks)])]
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        raise


_TOGETHER = [gather, group, wait, as_completed]


async def race(parts: list[Any]) -> list[Any]:
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await pyworkflow.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        first = done[0]
        return [tasks.index(first), first.result()]
    finally:
        for task in tasks:
            task.cancel()


# -- what they are, and what they come to --------------------------------------------------------------


def random_tree(chance: Random, depth: int = 3, prefix: str = "") -> Tree:
    """Return a workflow."""
    key = f"k{prefix}"
    if depth == 0 or chance.random() < 0.25:
        return _leaf(chance, key)
    kind = chance.choice(["seq", "seq", "gather", "gather", "race", "limit", "child"])
    if kind == "child":
        return ["child", random_tree(chance, depth - 1, f"{prefix}c")]
    if kind == "limit":
        return ["limit", _time(chance), random_tree(chance, depth - 1, f"{prefix}t")]
    return [kind, [random_tree(chance, depth - 1, f"{prefix}{n}") for n in range(chance.choice([1, 2, 2, 3]))]]


def _leaf(chance: Random, key: str) -> Tree:
    kind = chance.choice(["step"] * 4 + ["sync", "once", "refused", "sleep", "chance", "hook", "reserve"])
    match kind:
        case "step":
            return ["step", key, _time(chance), chance.choice([0, 0, 0, 1, 2])]
        case "reserve" | "once":
            return [kind, key, _time(chance)]
        case "sync" | "refused":
            return [kind, key]
        case "sleep":
            return ["sleep", _time(chance)]
        case "hook":
            return ["hook", chance.choice([None, 2.0])]
        case _:
            return ["chance"]


def _time(chance: Random) -> float:
    return chance.choice([0.01, 0.1, 0.5, 1.0, 3.0, 8.0])


def fits(parts: Tree, path: str, result: Any) -> bool:  # noqa: PLR0911 -- one case a kind
    """Whether *result* is one that the workflow may come to."""
    match parts:
        case ["step" | "sync" | "reserve", key, *_]:
            return bool(result == key)
        case ["once", key, _]:
            return result in (key, "interrupted")
        case ["refused", key]:
            return bool(result == f"refused {key}")
        case ["sleep", _]:
            return bool(result == "slept")
        case ["chance"]:
            return isinstance(result, list)
        case ["hook", timeout]:
            return bool(result == f"to {path}") or (timeout is not None and result == "expired")
        case ["child", inner]:
            return fits(inner, f"{path}/", result)
        case ["seq" | "gather", inner]:
            return len(result) == len(inner) and all(
                fits(part, f"{path}.{n}", value) for n, (part, value) in enumerate(zip(inner, result, strict=True))
            )
        case ["race", inner]:
            return fits(inner[result[0]], f"{path}.{result[0]}", result[1])
        case ["limit", _, inner]:
            return result == "late" or fits(inner, f"{path}.t", result)
    raise ValueError(parts)
