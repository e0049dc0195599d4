"""Random workflows, answered in random order: whatever happened live, every replay of it comes to the same.

A program is a tree of steps, timers, hooks and children that run one after another, together, against each other, or
under a time limit. Its trace, the order in which its parts ended as the workflow saw it, is its result.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pyworkflow
from pyworkflow.authoring.context import HookSpec, workflow_context
from pyworkflow.codec.exceptions import record_of
from pyworkflow.events import (
    RULES,
    Abandoned,
    CallStep,
    CancelRequested,
    Completed,
    Event,
    Failed,
    Fired,
    OpenHook,
    Received,
    Requested,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    StartChild,
    StartTimer,
)
from pyworkflow.replay.machine import Machine
from pyworkflow.replay.state import State, first_difference, state_of

EXAMPLES = int(os.environ.get("PYWORKFLOW_EXAMPLES", "2000"))
T0 = datetime(2026, 1, 1, tzinfo=UTC)
STARTED = RunStarted(T0, "program", [], {}, "seed", rules=RULES)

Program = tuple[Any, ...]


class _Plain:
    """As much of a signature as the machine needs."""

    def keeps_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        return not kwargs

    def keeps_result(self, value: Any) -> bool:
        return True


class _Named:
    def signature_for(self, codec: Any) -> Any:
        return _Plain()

    def __init__(self, name: str) -> None:
        self.name = name


leaves = st.one_of(
    st.tuples(st.just("step"), st.integers(0, 3)),
    st.tuples(st.just("sleep"), st.integers(0, 5)),
    st.tuples(st.just("child"), st.integers(0, 3)),
    st.tuples(st.just("hook"), st.booleans()),
    st.tuples(st.just("chance")),
)
programs = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.just("seq"), st.lists(inner, max_size=3)),
        st.tuples(st.just("gather"), st.lists(inner, max_size=3)),
        st.tuples(st.just("group"), st.lists(inner, max_size=3)),
        st.tuples(st.just("race"), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("wait"), st.lists(inner, max_size=4)),
        st.tuples(st.just("completed"), st.lists(inner, max_size=4)),
        st.tuples(st.just("limit"), inner, st.integers(1, 4)),
        st.tuples(st.just("until"), inner, st.integers(1, 4)),
        st.tuples(st.just("tidy"), inner),
        st.tuples(st.just("shield"), inner),
        st.tuples(st.just("leave"), inner, inner),
    ),
    max_leaves=8,
)


async def perform(program: Program, trace: list[Any], path: str = "") -> None:  # noqa: C901, PLR0912, PLR0915 -- one case a kind
    context: Any = workflow_context.get()
    kind, *rest = program
    try:
        match kind:
            case "step":
                trace.append([path, "step", await context.call_step(_Named("step"), (path, *rest), {})])
            case "child":
                trace.append([path, "child", await context.call_child(_Named("child"), (path, *rest), {})])
            case "sleep":
                await pyworkflow.sleep(rest[0])
            case "hook":
                await wait_for_hook(context, trace, path, many=rest[0])
            case "chance":
                clock = asyncio.get_running_loop().time()
                seen = [pyworkflow.random(), str(pyworkflow.uuid4()), str(pyworkflow.now()), clock]
                trace.append([path, "chance", *seen])
            case "seq":
                for n, part in enumerate(rest[0]):
                    await perform(part, trace, f"{path}.{n}")
            case "gather":
                parts = [perform(part, trace, f"{path}.{n}") for n, part in enumerate(rest[0])]
                await asyncio.gather(*parts, return_exceptions=True)
            case "group":
                async with asyncio.TaskGroup() as group:
                    for n, part in enumerate(rest[0]):
                        group.create_task(perform(part, trace, f"{path}.{n}"))
            case "race":
                await race([perform(part, trace, f"{path}.{n}") for n, part in enumerate(rest[0])])
            case "wait":
                tasks = {asyncio.create_task(perform(part, trace, f"{path}.{n}")) for n, part in enumerate(rest[0])}
                names = {task: n for n, task in enumerate(tasks)}
                while tasks:
                    done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    trace.append([path, "done", [names[task] for task in done]])
            case "completed":
                parts = [perform(part, trace, f"{path}.{n}") for n, part in enumerate(rest[0])]
                for part in asyncio.as_completed(parts):
                    await part
            case "limit":
                async with asyncio.timeout(rest[1]):
                    await perform(rest[0], trace, path + ".t")
            case "until":
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + rest[1]):
                    await perform(rest[0], trace, path + ".u")
            case "tidy":
                try:
                    await perform(rest[0], trace, path + ".b")
                finally:
                    trace.append([path, "tidied", await context.call_step(_Named("tidy"), (path,), {})])
            case "shield":
                await asyncio.shield(asyncio.ensure_future(perform(rest[0], trace, path + ".s")))
            case "leave":
                async for _ in left_early(rest[1], trace, path + ".l"):
                    await perform(rest[0], trace, path + ".b")
                    break
    except (OSError, TimeoutError, ExceptionGroup) as error:
        trace.append([path, type(error).__name__])


async def left_early(cleanup: Program, trace: list[Any], path: str) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await perform(cleanup, trace, path)


async def wait_for_hook(context: Any, trace: list[Any], path: str, *, many: bool) -> None:
    inbox = context.open_hook(HookSpec("hook", many=many, delay=30.0), context.new_token(), lambda value: value)
    trace.append([path, "hook", await inbox.take()])
    if many:
        trace.append([path, "hook", await inbox.take()])
        inbox.close()


async def race(parts: list[Any]) -> None:
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await pyworkflow.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def machine_of(program: Program) -> Machine:
    async def body(_args: Any, _kwargs: Any) -> Any:
        trace: list[Any] = []
        await perform(program, trace)
        return [*trace]  # what runs when the machine is closed adds to it

    return Machine(body, "run-1")


def live(program: Program, chance: Random, states: dict[int, State] | None = None) -> list[Event]:
    """Answer what is open, in an order that *chance* picks, until the workflow ends; return the history.

    The states of the machine, by the length of history, go to *states*. Facts come from hosts whose clocks differ.
    """
    machine, history, now, answered = machine_of(program), [], T0, []
    news: list[Event] = [STARTED]
    for _ in range(400):
        turn = machine.advance(news, now)
        history += turn.events
        if states is not None:
            states[len(history)] = state_of(machine)
        if turn.outcome is not None:
            history.append(turn.outcome)
            break
        now += timedelta(seconds=chance.random())
        news = happens(machine, now + timedelta(seconds=chance.choice([0, 0, 0.3, -0.3, -5])), chance, answered)
    else:
        pytest.fail(f"the workflow did not end: {program}")
    machine.close()
    return history


def happens(machine: Machine, now: datetime, chance: Random, answered: list[Event]) -> list[Event]:
    """Return something that may happen next, sometimes twice, sometimes long after anybody cared."""
    roll = chance.random()
    if roll < 0.03 and answered:
        return [chance.choice(answered)]
    if roll < 0.05:
        return [CancelRequested(now)]
    choices: list[Event] = []
    for op, pending in machine.pending.items():
        command = pending.command
        if isinstance(command, StartTimer):
            choices.append(Fired(max(now, command.fires_at(pending.at or now)), op))
        elif isinstance(command, OpenHook):
            choices += [Received(now, op, f"payload {chance.randrange(100)}")] * 3 + [Fired(now, op)]
        elif isinstance(command, CallStep | StartChild) and chance.random() < 0.2:
            choices.append(Failed(now, op, record_of(OSError("no"), retryable=False)))
        else:
            choices.append(Completed(now, op, chance.randrange(1000)))
    assert choices, "a workflow that goes on waits for something"
    news = chance.sample(choices, min(len(choices), chance.choice([1, 1, 1, 2, 3])))
    answered += news
    return news


def end_of(machine: Machine, history: list[Event]) -> Event | None:
    end = machine.outcome(history[-1].at)
    if isinstance(end, RunFailed):
        return RunFailed(end.at, record_of(ValueError(end.error.message)), end.op)
    return end


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs, seed=st.integers(0, 1 << 30), cuts=st.lists(st.floats(0, 1), max_size=3))
@pytest.mark.timeout(600)
def test_live_and_replay_are_the_same_wherever_history_is_cut(program: Program, seed: int, cuts: list[float]) -> None:
    states: dict[int, State] = {}
    history = live(program, Random(seed), states)
    *past, last = history

    whole = machine_of(program)
    assert whole.replay(past) == [], "all that is asked is recorded"
    assert type(whole.outcome(last.at)) is type(last)
    if isinstance(last, RunCompleted):
        assert whole.outcome(last.at) == last
    assert not [gone for gone in whole.operations.abandoned if isinstance(gone.command, StartChild | OpenHook)]

    for cut in cuts:
        parts = machine_of(program)
        at = int(cut * len(past))
        parts.replay(past[:at])
        for length, event in enumerate(past[at:], at + 1):
            parts.feed([event])
            if length in states:
                assert first_difference(states[length], state_of(parts)) == ""
        assert parts.pending.keys() == whole.pending.keys()
        assert end_of(parts, history) == end_of(whole, history)
        parts.close()
    whole.close()


EVERYTHING: Program = (
    "seq",
    [
        ("race", [("step", 1), ("child", 1), ("hook", False)]),
        ("limit", ("tidy", ("gather", [("sleep", 5), ("hook", True)])), 2),
        ("group", [("step", 2), ("chance",)]),
    ],
)


def test_what_happens_to_the_programs_is_of_every_kind() -> None:
    seen = {type(event) for seed in range(200) for event in live(EVERYTHING, Random(seed))}
    assert seen >= {
        Completed,
        Failed,
        Fired,
        Received,
        Requested,
        Abandoned,
        CancelRequested,
        RunCompleted,
        RunCancelled,
    }
