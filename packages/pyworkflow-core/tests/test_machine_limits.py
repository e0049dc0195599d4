"""What a workflow cannot do, and values that follow from its history: time and chance."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from datetime import datetime, timedelta
from typing import Any

import pytest
from machine_play import STARTED, T0, a, b, c, machine, play

import pyworkflow
from pyworkflow.errors import NotInWorkflow, RunBlocked
from pyworkflow.events import (
    CallStep,
    Completed,
    Patched,
    Requested,
    RunCompleted,
    RunFailed,
)
from pyworkflow.replay.machine import Machine
from pyworkflow.replay.state import first_difference, state_of

# -- what a workflow cannot do ------------------------------------------------------------------------------


async def opens_a_socket() -> None:
    await asyncio.open_connection("127.0.0.1", 1)


async def uses_a_thread() -> None:
    await asyncio.to_thread(print)


async def starts_a_process() -> None:
    await asyncio.create_subprocess_exec("true")


async def waits_for_what_has_no_order() -> None:
    await asyncio.wait([asyncio.gather(a()), asyncio.gather(b())])


async def takes_from_a_set_as_completed() -> None:
    for future in asyncio.as_completed({a(), b()}):
        await future


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize(
    "flow",
    [opens_a_socket, uses_a_thread, starts_a_process, waits_for_what_has_no_order, takes_from_a_set_as_completed],
    ids=lambda f: f.__name__,
)
def test_a_workflow_that_does_what_belongs_into_a_step_gets_a_clear_error(flow: Any) -> None:
    m = machine(flow)
    m.feed([STARTED])
    failed = m.outcome(T0)
    assert isinstance(failed, RunFailed)
    assert failed.error.type == f"{NotInWorkflow.__module__}:NotInWorkflow"
    m.close()
    gc.collect()  # finds coroutines that were never awaited, where warnings of them are ignored


# -- facts of hosts whose clocks differ ---------------------------------------------------------------------


async def stamps() -> None:
    async def one(n: int) -> None:
        await a(n)
        await asyncio.gather(b(pyworkflow.now().isoformat()), c(asyncio.get_running_loop().time()))

    await asyncio.gather(one(1), one(2))


async def limits() -> None:
    async def one(n: int) -> None:
        await a(n)
        async with asyncio.timeout(5.1):
            await b()

    await asyncio.gather(one(1), one(2))


async def deadlines() -> None:
    until = asyncio.get_running_loop().time() + 60

    async def one(n: int) -> None:
        await a(n)
        async with asyncio.timeout_at(until):
            await b()

    await asyncio.gather(one(1), one(2))


@pytest.mark.parametrize("behind", [0, 1, 37, 1000, 250_000])
@pytest.mark.parametrize("flow", [stamps, limits, deadlines], ids=lambda f: f.__name__)
def test_a_fact_older_than_the_last_decision_leaves_the_same_state_live_and_in_replay(flow: Any, behind: int) -> None:
    def at(micros: int) -> datetime:
        return T0 + timedelta(microseconds=micros)

    live, history = machine(flow), []
    for fact, decided in [
        (STARTED, 0),
        (Completed(at(100), 1, None), 300),
        (Completed(at(300 - behind), 2, None), 500),
    ]:
        history += live.advance([fact], at(decided)).events
        rebuilt = machine(flow)
        rebuilt.replay(history)
        assert first_difference(state_of(live), state_of(rebuilt)) == ""
        rebuilt.close()
    live.close()


async def exits() -> None:
    await a()
    sys.exit("enough")


def test_a_workflow_that_exits_is_blocked_by_an_error_that_names_the_line() -> None:
    m = machine(exits)
    m.feed([STARTED])
    line = exits.__code__.co_firstlineno + 2
    with pytest.raises(RunBlocked, match=rf"raised SystemExit\('enough'\) at .*test_machine_limits\.py:{line};"):
        m.feed([Completed(T0, 1, None)])
    m.close()


# -- replayed values ------------------------------------------------------------------------------------------


async def by_chance() -> list[Any]:
    async def one() -> list[Any]:
        return [pyworkflow.random(), str(pyworkflow.uuid4()), (await a(), pyworkflow.now().isoformat())[1]]

    return await asyncio.gather(one(), one())


def test_chance_and_time_are_replayed() -> None:
    history = play(by_chance)
    m = machine(by_chance)
    m.feed(history)
    assert m.outcome(history[-1].at) == history[-1]


def test_every_task_has_its_own_chance() -> None:
    first, second = play(by_chance)[-1].value
    assert first[:2] != second[:2]


def test_time_never_goes_backwards() -> None:
    times = []

    async def flow() -> None:
        for _ in range(2):
            await a()
            times.append(pyworkflow.now())

    m = machine(flow)
    m.feed([STARTED])
    with contextlib.suppress(StopIteration):
        m.feed([Requested(T0, CallStep(1, "a", [], {})), Completed(T0 + timedelta(hours=1), 1, None)])
        m.feed([Requested(T0, CallStep(2, "a", [], {})), Completed(T0 - timedelta(hours=1), 2, None)])
    assert times == [T0 + timedelta(hours=1)] * 2


def test_time_is_the_same_in_replay_where_the_clock_of_the_next_worker_is_behind() -> None:
    times = []

    async def flow() -> None:
        await a()
        times.append(pyworkflow.now())

    live, later = machine(flow), T0 + timedelta(hours=1)
    history = [*live.advance([STARTED], later).events, Completed(T0 + timedelta(minutes=1), 1, None)]
    live.feed(history[-1:])
    machine(flow).feed(history)
    assert times == [later, later]


async def changed() -> list[bool]:
    return [pyworkflow.patched("one"), pyworkflow.patched("two"), pyworkflow.patched("one")]


def test_who_knows_which_changes_a_run_has_seen_is_asked_once_for_each() -> None:
    asked_for: list[str] = []
    m = Machine(lambda _args, _kwargs: changed(), "run-1", lambda change: asked_for.append(change) or change == "two")
    turn = m.advance([STARTED], T0)
    assert turn.outcome == RunCompleted(T0, [False, True, False])
    assert asked_for == ["one", "two"]
    assert turn.events == [STARTED, Patched(T0, "two")]
    m.close()
