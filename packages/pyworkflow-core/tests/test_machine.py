"""The machine: histories in, commands out."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine_play import STARTED, T0, a, asked, b, c, d, machine, play

import pyworkflow
from pyworkflow.codec.exceptions import record_of
from pyworkflow.errors import NonDeterminism
from pyworkflow.events import (
    Attempted,
    CallStep,
    CancelRequested,
    Completed,
    Fired,
    Requested,
    Retrying,
    RunCancelled,
    RunCompleted,
    RunFailed,
)


async def sequence() -> list[Any]:
    return [await a(1), await b(2), await c(3)]


async def chains() -> list[Any]:
    async def chain(i: int) -> Any:
        return [await a(i), await b(i)]

    return await asyncio.gather(*(chain(i) for i in range(3)))


async def naps() -> str:
    await pyworkflow.sleep("1h")
    await asyncio.sleep(5)
    return "rested"


async def limited() -> Any:
    try:
        async with asyncio.timeout(30):
            return await a()
    except TimeoutError:
        return await b()


async def raced() -> str:
    tasks = [asyncio.create_task(a()), asyncio.create_task(b())]
    done, pending = await pyworkflow.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return f"{len(done)} {await c()}"


async def waited_for() -> list[Any]:
    async def slow() -> Any:
        return await asyncio.wait_for(b(), 10)

    return await asyncio.gather(asyncio.wait_for(a(), 5), slow(), c())


async def shared_queue() -> list[Any]:
    queue: asyncio.Queue[Any] = asyncio.Queue(1)

    async def make() -> None:
        for i in range(3):
            await queue.put(await a(i))

    async def take() -> list[Any]:
        return [await queue.get() for _ in range(3)]

    return (await asyncio.gather(make(), take()))[1]


async def bounded() -> list[Any]:
    few = asyncio.Semaphore(2)

    async def one(i: int) -> Any:
        async with few:
            return await a(i)

    return await asyncio.gather(*(one(i) for i in range(4)))


async def grouped() -> list[Any]:
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        tasks = [group.create_task(step()) for step in (a, b)]
    return [task.result() for task in tasks]


async def shielded() -> Any:
    return await asyncio.shield(a())


FLOWS = [sequence, chains, naps, limited, raced, waited_for, shared_queue, bounded, grouped, shielded]


def test_a_sequence_asks_for_one_step_after_the_other() -> None:
    m = machine(sequence)
    assert m.feed([STARTED]) == [CallStep(1, "a", [1], {})]
    assert m.feed([Requested(T0, CallStep(1, "a", [1], {}))]) == []
    assert m.feed([Completed(T0, 1, "x")]) == [CallStep(2, "b", [2], {})]


def test_gather_asks_for_all_at_once_in_order() -> None:
    assert [(cmd.op, cmd.name) for cmd in machine(chains).feed([STARTED])] == [(1, "a"), (2, "a"), (3, "a")]


def test_the_outcome_is_the_return_value() -> None:
    assert play(sequence)[-1] == RunCompleted(T0 + timedelta(seconds=4), [1, 2, 3])


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
def test_replaying_a_history_gives_the_same_commands_and_outcome(flow: Any) -> None:
    history = play(flow)
    m = machine(flow)
    assert m.feed(history) == []
    assert m.outcome(history[-1].at) == history[-1]


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
@given(data=st.data())
def test_however_events_are_batched_replay_is_the_same(flow: Any, data: Any) -> None:
    history = play(flow)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(history)))))
    m = machine(flow)
    for start, end in zip([0, *cuts], [*cuts, len(history)], strict=True):
        m.feed(history[start:end])
    assert m.outcome(history[-1].at) == history[-1]


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
def test_a_history_cut_anywhere_asks_for_what_was_cut(flow: Any) -> None:
    history = play(flow)
    for cut in range(1, len(history)):
        m = machine(flow)
        commands = m.feed(history[:cut])
        recorded = asked(history)
        assert commands == recorded[len(asked(history[:cut])) :][: len(commands)]
        m.close()


# -- operation numbers are the same on every Python ------------------------------------------------


@pytest.mark.parametrize(
    "flow, expected",
    [
        (sequence, ["1 a", "2 b", "3 c"]),
        (chains, ["1 a", "2 a", "3 a", "4 b", "5 b", "6 b"]),
        (naps, ["1 sleep", "2 timer"]),
        (limited, ["1 timer", "2 a", "3 b"]),
        (raced, ["1 a", "2 b", "3 c"]),
        (waited_for, ["1 timer", "2 a", "3 timer", "4 b", "5 c"]),
        (shared_queue, ["1 a", "2 a", "3 a"]),
        (bounded, ["1 a", "2 a", "3 a", "4 a"]),
        (grouped, ["1 timer", "2 a", "3 b"]),
        (shielded, ["1 a"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_operations_have_the_same_numbers_on_every_python(flow: Any, expected: list[str]) -> None:
    assert [f"{command.op} {command.name}" for command in asked(play(flow))] == expected, sys.version


# -- answers -----------------------------------------------------------------------------------------


def test_the_first_answer_wins_and_later_ones_leave_no_trace() -> None:
    m = machine(sequence)
    m.feed([STARTED, Requested(T0, CallStep(1, "a", [1], {}))])
    commands = m.feed([Completed(T0, 1, "first"), Completed(T0, 1, "second"), Fired(T0, 1)])
    assert commands == [CallStep(2, "b", [2], {})]


def test_a_failed_step_raises_its_error_in_the_workflow() -> None:
    async def flow() -> str:
        try:
            await a()
        except LookupError as error:
            return str(error)
        return "?"

    assert play(flow, {1: LookupError("gone")})[-1] == RunCompleted(T0 + timedelta(seconds=2), "gone")


def test_a_failed_run_names_the_operation_to_blame() -> None:
    async def flow() -> None:
        await a()
        try:
            await b()
        except LookupError as error:
            msg = "of the workflow"
            raise ValueError(msg) from error

    failed = play(flow, {2: LookupError("gone")})[-1]
    assert isinstance(failed, RunFailed)
    assert (failed.op, failed.error.type) == (2, "builtins:ValueError")


def test_a_lost_race_is_abandoned() -> None:
    m = machine(raced)
    m.advance([STARTED], T0)
    assert [pending.op for pending in m.advance([Completed(T0, 1, 1)], T0).abandoned] == [2]
    assert m.advance([], T0).abandoned == ()


def test_attempts_and_their_due_times_are_known() -> None:
    m = machine(sequence)
    m.feed([STARTED, Requested(T0, CallStep(1, "a", [1], {}))])
    due = T0 + timedelta(minutes=5)
    m.feed([Retrying(T0, 1, 1, record_of(OSError()), due)])
    assert (m.pending[1].attempt, m.next_wake()) == (2, due)
    m.feed([Attempted(due, 1, 3)])
    assert (m.pending[1].attempt, m.next_wake()) == (3, None)


def test_a_timer_counts_from_when_it_was_recorded() -> None:
    m = machine(naps)
    commands = m.feed([STARTED])
    later = T0 + timedelta(days=1)
    m.feed([Requested(later, commands[0])])
    assert m.next_wake() == later + timedelta(hours=1)
    assert [p.op for p in m.operations.due(later + timedelta(hours=1))] == [1]
    assert m.operations.due(later + timedelta(minutes=59)) == []


def test_a_cancelled_workflow_may_clean_up() -> None:
    async def flow() -> None:
        try:
            await a()
        finally:
            await b()

    m = machine(flow)
    m.feed([STARTED, Requested(T0, CallStep(1, "a", [], {}))])
    assert m.feed([CancelRequested(T0)]) == [CallStep(2, "b", [], {})]
    m.feed([Requested(T0, CallStep(2, "b", [], {})), Completed(T0, 2, None)])
    assert m.outcome(T0) == RunCancelled(T0)


def test_a_workflow_that_waits_for_nothing_that_comes_is_stuck() -> None:
    async def flow() -> None:
        await asyncio.Event().wait()

    m = machine(flow)
    m.feed([STARTED])
    assert m.is_stuck


# -- non-determinism -----------------------------------------------------------------------------------


async def renamed() -> list[Any]:
    return [await a(1), await d(2), await c(3)]


async def other_arguments() -> list[Any]:
    return [await a(1), await b(99), await c(3)]


async def inserted() -> list[Any]:
    return [await a(1), await d(), await b(2), await c(3)]


async def removed() -> list[Any]:
    return [await a(1), await c(3)]


async def shorter() -> list[Any]:
    return [await a(1), await b(2)]


async def longer() -> list[Any]:
    return [await a(1), await b(2), await c(3), await d(4)]


async def beside() -> list[Any]:
    return [await asyncio.gather(a(1), d()), await b(2), await c(3)]


async def another_kind() -> list[Any]:
    await a(1)
    await pyworkflow.sleep(5)
    return []


@pytest.mark.parametrize(
    "changed, recorded, now",
    [
        (renamed, "step b(2)", "step d(2)"),
        (other_arguments, "step b(2)", "step b(99)"),
        (inserted, "step b(2)", "step d()"),
        (removed, "step b(2)", "step c(3)"),
        (shorter, "step c(3)", "asks for nothing more"),
        (beside, "step b(2)", "step d()"),
        (another_kind, "step b(2)", "a timer of 5 s"),
        (longer, "returned", "goes on"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_changed_workflow_is_told_what_was_recorded_and_what_is_asked(changed: Any, recorded: str, now: str) -> None:
    with pytest.raises(NonDeterminism) as caught:
        machine(changed).feed(play(sequence))
    assert recorded in str(caught.value)
    assert now in str(caught.value)


def noting(word: str) -> Callable[[], Coroutine[Any, Any, Any]]:
    async def flow() -> None:
        await c("/a/long/way/" * 9 + word, lines=[*range(40)])

    return flow


def test_a_mismatch_of_long_arguments_shows_where_they_differ() -> None:
    with pytest.raises(NonDeterminism) as caught:
        machine(noting("new")).feed(play(noting("old")))
    assert "recorded as step c(.../long/way/old', lines=...)" in str(caught.value)
    assert "asks for step c(.../long/way/new', lines=...)" in str(caught.value)
    assert "`pyworkflow check` finds that" in str(caught.value)


def test_a_mismatch_names_the_line() -> None:
    with pytest.raises(NonDeterminism, match=rf"test_machine\.py:{renamed.__code__.co_firstlineno + 1}, in 'renamed'"):
        machine(renamed).feed(play(sequence))


# -- being put away --------------------------------------------------------------------------------------


def test_a_machine_that_is_put_away_unwinds_but_asks_for_nothing() -> None:
    seen = []

    async def flow() -> None:
        try:
            await a()
        finally:
            seen.append("finally")
            await b()
            seen.append("never")

    m = machine(flow)
    m.feed([STARTED])
    m.close()
    assert seen == ["finally"]


async def waits_for_all() -> list[Any]:
    waiting = pyworkflow.hook("hook").take()
    return await asyncio.gather(a(), pyworkflow.sleep(5), b(), waiting)


async def waits_for_a_hook() -> Any:
    return await pyworkflow.hook("hook")


@pytest.mark.parametrize(
    "flow, until",
    [
        (sequence, 0),
        (sequence, 1),
        (sequence, 3),
        (waits_for_a_hook, 1),
        (limited, 1),
        (naps, 1),
        (waits_for_all, None),
    ],
)
def test_a_closed_machine_leaves_nothing_to_the_garbage_collector(flow: Any, until: int | None) -> None:
    history = play(flow)[:until]
    gc.collect()
    gc.disable()
    try:
        m = machine(flow)
        m.feed(history)
        m.close()
        del m
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_putting_away_does_not_look_like_an_error_to_the_workflow() -> None:
    seen = []

    async def flow() -> None:
        try:
            await a()
        except Exception as error:  # noqa: BLE001
            seen.append(error)

    m = machine(flow)
    m.feed([STARTED])
    m.close()
    assert seen == []


async def test_feeding_inside_a_running_loop_leaves_it_as_it_was() -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    machine(chains).feed(play(chains))
    assert asyncio.get_running_loop() is loop
    assert asyncio.current_task() is task
    await asyncio.sleep(0)


test_feeding_inside_a_running_loop_leaves_it_as_it_was = pytest.mark.asyncio(
    test_feeding_inside_a_running_loop_leaves_it_as_it_was
)


async def reads_on() -> list[Any]:
    async def results() -> AsyncIterator[Any]:
        for step in (a, b):
            yield await step()

    return [result async for result in results()]


@pytest.mark.asyncio
async def test_an_asynchronous_generator_of_a_workflow_is_not_closed_by_the_loop_outside() -> None:
    outer, complaints = asyncio.get_running_loop(), []
    outer.set_exception_handler(lambda _, context: complaints.append(context))
    m = machine(reads_on)
    (asked,) = m.feed([STARTED])
    await outer.shutdown_asyncgens()  # as at the end of asyncio.run()
    m.feed([Requested(T0, asked), Completed(T0, 1, "first")])
    m.close()
    await asyncio.sleep(0)
    assert complaints == []
