"""How hooks end, and generators that are left early, in a machine."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from attrs import evolve
from machine_play import STARTED, T0, a, asked, b, c, d, machine, play

import pyworkflow
from pyworkflow.authoring.context import HookSpec, workflow_context
from pyworkflow.authoring.hooks import OpenedHook
from pyworkflow.codec import Codec
from pyworkflow.errors import HookClosed
from pyworkflow.events import (
    RULES,
    CallStep,
    Completed,
    Received,
    RunCompleted,
)
from pyworkflow.replay.machine import Machine

# -- how hooks end ------------------------------------------------------------------------------------------


async def chats() -> list[Any]:
    box, got = workflow_context.get().open_hook(HookSpec("chat", many=True), "token", lambda value: value), []
    messages = OpenedHook("chat", "token", box, Any, Codec())
    async for message in messages:
        got.append(message)
        await a()
        if message == "bye":
            messages.close()
    return got


def closing(rules: int) -> Machine:
    """Return a machine whose hook is closed when two payloads are left."""
    m = machine(chats)
    m.advance([evolve(STARTED, rules=rules)], T0)
    m.advance([Received(T0, 1, text) for text in ("bye", "pay", "thanks")], T0)
    m.advance([Completed(T0, 2, None)], T0)
    return m


def test_payloads_that_came_before_a_hook_is_closed_are_iterated_over() -> None:
    m = closing(RULES)
    for op in (3, 4):
        m.advance([Completed(T0, op, None)], T0)
    assert m.outcome(T0) == RunCompleted(T0, ["bye", "pay", "thanks"])
    m.close()


def test_a_run_of_the_first_version_keeps_to_the_rules_by_which_it_began() -> None:
    m = closing(0)
    assert m.outcome(T0) == RunCompleted(T0, ["bye"])
    m.close()


async def leaves_what_came() -> None:
    inbox = workflow_context.get().open_hook(HookSpec("chat", many=True), "token", lambda value: value)
    await a()
    inbox.close()


def test_payloads_that_a_closed_hook_has_left_go_to_the_run_that_continues() -> None:
    m = machine(leaves_what_came)
    m.advance([STARTED], T0)
    m.advance([Received(T0, 1, "pay"), Completed(T0, 2, None)], T0)
    assert [event.value for event in m.undelivered(T0)] == ["pay"]  # type: ignore[union-attr]
    m.close()


async def is_closed_by_another_task() -> str:
    inbox = workflow_context.get().open_hook(HookSpec("chat", many=True), "token", lambda value: value)
    messages = OpenedHook("chat", "token", inbox, Any, Codec())

    async def reads() -> list[Any]:
        return [message async for message in messages]

    reading = asyncio.create_task(reads())
    await a()
    messages.close()
    await reading
    try:
        await messages
    except HookClosed as error:
        return str(error)
    return ""


def test_who_waits_for_a_hook_that_is_closed_learns_of_it() -> None:
    m = machine(is_closed_by_another_task)
    m.advance([STARTED], T0)
    m.advance([Completed(T0, 2, None)], T0)
    assert "has closed hook 'chat'" in m.outcome(T0).value  # type: ignore[union-attr]
    m.close()


# -- generators that are left early -------------------------------------------------------------------------


async def pages() -> AsyncIterator[int]:
    try:
        for n in range(5):
            yield n
    finally:
        await a("release")
        await b("release")


async def leaves_a_generator() -> str:
    async for n in pages():
        if n == 1:
            break
    return await c()


async def leaves_a_generator_at_its_end() -> str:
    async for n in pages():
        if n == 1:
            break
    return "done"


async def leaves_by_an_error() -> str:
    with contextlib.suppress(ZeroDivisionError):
        async for n in pages():
            n / 0
    return "done"


async def leaves_one_that_never_ends() -> str:
    async def waits() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.Event().wait()

    async for _ in waits():
        break
    return "done"


@pytest.mark.parametrize(
    "flow, steps",
    [
        (leaves_a_generator, ["c", "a", "b"]),
        (leaves_a_generator_at_its_end, ["a", "b"]),
        (leaves_by_an_error, ["a", "b"]),
    ],
    ids=["and goes on", "and ends", "by an error"],
)
def test_a_generator_that_is_left_early_runs_the_whole_of_its_finally(flow: Any, steps: list[str]) -> None:
    history = play(flow)
    assert [command.name for command in asked(history) if isinstance(command, CallStep)] == steps
    assert isinstance(history[-1], RunCompleted)
    m = machine(flow)
    m.replay(history)
    assert m.outcome(history[-1].at) == history[-1]
    m.close()


def test_a_generator_of_a_run_of_the_first_version_is_left_as_it_was_then() -> None:
    m = machine(leaves_a_generator)
    turn = m.advance([evolve(STARTED, rules=0)], T0)
    assert [pending.command.name for pending in turn.requested] == ["a", "c"]  # type: ignore[union-attr]
    turn = m.advance([Completed(T0, op, None) for op in (1, 2)], T0)
    assert not turn.requested
    assert turn.outcome is not None
    m.close()


def test_a_run_waits_for_the_generators_that_it_left() -> None:
    m = machine(leaves_one_that_never_ends)
    m.advance([STARTED], T0)
    assert m.outcome(T0) is None
    assert m.is_stuck
    m.close()


@pytest.mark.filterwarnings("error")
def test_closing_a_machine_in_a_generator_prints_nothing(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def reads() -> None:
        async for _ in pages():
            await d()

    m = machine(reads)
    m.advance([STARTED], T0)
    m.close()
    gc.collect()
    assert capsys.readouterr() == ("", "")
    assert not caplog.records


async def gathers_at_its_end() -> None:
    try:
        await pyworkflow.sleep(5)
    finally:
        await asyncio.gather(chats(), chats())


@pytest.mark.filterwarnings("error")
def test_closing_a_machine_leaves_no_coroutine_that_was_never_awaited(caplog: pytest.LogCaptureFixture) -> None:
    m = machine(gathers_at_its_end)
    m.advance([STARTED], T0)
    m.close()
    gc.collect()
    assert not caplog.records


async def keeps_a_generator_in_a_cycle() -> str:
    cycle: list[Any] = [pages()]
    cycle.append(cycle)
    await anext(cycle[0])
    del cycle
    gc.collect()
    return await c()


def test_a_generator_that_the_garbage_collector_finds_requests_nothing() -> None:
    """When that comes by does not follow from history."""
    assert [command.name for command in asked(play(keeps_a_generator_in_a_cycle))] == ["c"]
