"""The machine: histories in, commands out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

import pyworkflow
from pyworkflow.authoring.context import HookSpec, workflow_context
from pyworkflow.authoring.hooks import OpenedHook
from pyworkflow.codec import Codec
from pyworkflow.codec.exceptions import record_of
from pyworkflow.errors import HookClosed, NonDeterminism, NotInWorkflow, RunBlocked
from pyworkflow.events import (
    RULES,
    Attempted,
    CallStep,
    CancelRequested,
    Command,
    Completed,
    Event,
    Failed,
    Fired,
    OpenHook,
    Patched,
    Received,
    Requested,
    Retrying,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    StartTimer,
)
from pyworkflow.replay.machine import Machine
from pyworkflow.replay.state import first_difference, state_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)
STARTED = RunStarted(T0, "flow", [], {}, "seed", rules=RULES)


class _Signature:
    def keeps_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        return not kwargs

    def encode_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        return list(args), dict(kwargs)

    def keeps_result(self, value: Any) -> bool:
        return True


class _Step:
    """As much of a step as the machine needs."""

    def signature_for(self, codec: Any) -> Any:
        return _Signature()

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        return workflow_context.get().call_step(self, args, kwargs)


a, b, c, d = (_Step(name) for name in "abcd")


def machine(flow: Callable[[], Coroutine[Any, Any, Any]]) -> Machine:
    return Machine(lambda _args, _kwargs: flow(), "run-1")


def play(flow: Callable[[], Coroutine[Any, Any, Any]], answers: dict[int, Any] | None = None) -> list[Event]:
    """Answer the oldest open operation again and again until the workflow ends; return the history."""
    history: list[Event] = []
    m, news = machine(flow), [STARTED]
    for second in range(1, 200):
        at = T0 + timedelta(seconds=second)
        requests = [Requested(at, command) for command in m.feed(news)]
        m.feed(requests)
        history += [*news, *requests]
        if outcome := m.outcome(at):
            history.append(outcome)
            break
        op, pending = min(m.pending.items())
        answer = (answers or {}).get(op, op)
        if isinstance(pending.command, OpenHook):
            news = [Received(at, op, answer)]
        elif isinstance(pending.command, StartTimer):
            news = [Fired(pending.command.fires_at(pending.at), op)]
        elif isinstance(answer, Exception):
            news = [Failed(at, op, record_of(answer))]
        else:
            news = [Completed(at, op, answer)]
    m.close()
    return history


def asked(history: list[Event]) -> list[Command]:
    return [event.command for event in history if isinstance(event, Requested)]


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


# -- sets ---------------------------------------------------------------------------------------------------


async def cleans_up_in_a_group() -> list[int]:
    order: list[int] = []

    async def branch(n: int) -> None:
        try:
            await pyworkflow.sleep(3600)
        finally:
            order.append(n)

    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            for n in range(20):
                group.create_task(branch(n))
            await a()
            raise ValueError
    return order


async def waits_for_a_set() -> list[list[int]]:
    tasks = {asyncio.create_task(a()) for _ in range(20)}
    numbers = {task: n for n, task in enumerate(tasks)}
    rounds = []
    while tasks:
        done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        rounds += [[numbers[task] for task in done], [numbers[task] for task in tasks]]
    return rounds


async def takes_as_completed() -> list[int]:
    begun: list[int] = []

    async def numbered(n: int) -> int:
        begun.append(n)
        return n + 0 * await a()

    return [*[await one for one in asyncio.as_completed([numbered(n) for n in range(20)])], *begun]


async def keeps_futures_in_a_set() -> list[int]:
    futures = [asyncio.get_running_loop().create_future() for _ in range(20)]
    return [futures.index(future) for future in set(futures)]


@pytest.mark.parametrize(
    "flow",
    [cleans_up_in_a_group, waits_for_a_set, takes_as_completed, keeps_futures_in_a_set],
    ids=lambda f: f.__name__,
)
def test_what_is_kept_in_sets_has_the_same_order_on_every_replay(flow: Any) -> None:
    history, kept = play(flow), []
    for n in range(5):
        kept += [[object()] * (n * 37), history]  # so that the next machine's tasks have other addresses
        m = machine(flow)
        m.feed(history)
        assert m.outcome(history[-1].at) == history[-1]
        kept.append(m)


def test_a_set_of_tasks_has_the_order_in_which_they_were_created() -> None:
    history = play(cleans_up_in_a_group)
    assert history[-1].value == [*range(20)]  # type: ignore[attr-defined]


def test_tasks_of_many_runs_hash_apart() -> None:
    """All tasks of a process are in one set of asyncio's, where equal hashes would be compared one by one."""
    machines = [machine(waits_for_all) for _ in range(100)]
    for n, m in enumerate(machines):
        m.feed([evolve(STARTED, seed=f"seed {n}")])
    assert len({hash(m._loop.main) for m in machines}) == 100
    for m in machines:
        m.close()


async def exits() -> None:
    await a()
    sys.exit("enough")


def test_a_workflow_that_exits_is_blocked_by_an_error_that_names_the_line() -> None:
    m = machine(exits)
    m.feed([STARTED])
    line = exits.__code__.co_firstlineno + 2
    with pytest.raises(RunBlocked, match=rf"raised SystemExit\('enough'\) at .*test_machine\.py:{line};"):
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
