"""What a worker keeps and what it hands out: a decision in, a decision out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pyworkflow import App, workflow
from pyworkflow.authoring.definitions import default_registry
from pyworkflow.codec.exceptions import record_of
from pyworkflow.decorators import step
from pyworkflow.engine.dispatch import dispatch
from pyworkflow.engine.held_run import HeldRun
from pyworkflow.events import (
    Attempted,
    Completed,
    Event,
    HandedOut,
    Requested,
    Retrying,
    RunBlocked,
    RunCompleted,
    RunRetried,
    RunStarted,
)
from pyworkflow.model import RUN_OP, Job, Lease, StepCall
from pyworkflow.replay.decision import Decision, decide, facts_after_loss
from pyworkflow.replay.history import effective
from pyworkflow.replay.machine import Machine

T0 = datetime(2026, 1, 1, tzinfo=UTC)


@step(name="handout.one")
async def one(n: int) -> int:
    return n


@step(name="handout.gpu", queue="gpu")
async def gpu(n: int) -> int:
    return n


@workflow(name="handout.fan")
async def fan(n: int) -> list[int]:
    return list(await asyncio.gather(*(one(i) for i in range(n))))


@workflow(name="handout.mixed")
async def mixed() -> list[int]:
    return list(await asyncio.gather(one(1), gpu(2)))


@workflow(name="handout.race")
async def race() -> int:
    tasks = [asyncio.ensure_future(one(i)) for i in range(3)]
    result = await tasks[0]
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks[1:], return_exceptions=True)
    return result + await one(9)


def held(flow: Any) -> HeldRun:
    return HeldRun("r", flow, Machine(flow.body, "r"), Lease("r", RUN_OP, "w", 1))


def decided(
    execution: HeldRun, facts: Sequence[Event], room: int | None, queues: Sequence[str] | None = ("",)
) -> Decision:
    decision = decide(execution, facts, T0)
    return dispatch(execution, decision, default_registry.steps, T0, queues=queues, room=room)


def started(flow: Any, *args: Any) -> RunStarted:
    App()._prepare()
    return RunStarted(T0, flow.name, list(args), {}, "")


def test_what_there_is_room_for_is_kept_and_the_rest_handed_out() -> None:
    decision = decided(held(fan), [started(fan, 5)], room=2)
    assert [pending.op for pending in decision.todo] == [1, 2]
    assert [job.op for job in decision.jobs] == [3, 4, 5]
    assert decision.events[-1] == HandedOut(T0, (3, 4, 5))


def test_a_job_says_all_that_is_needed_to_carry_the_step_out() -> None:
    decision = decided(held(fan), [started(fan, 2)], room=1)
    assert decision.jobs == [Job("r", 2, T0, "handout.fan", "", StepCall("handout.one", [1], {}, 1))]


def test_with_any_room_nothing_is_handed_out() -> None:
    decision = decided(held(fan), [started(fan, 5)], room=None)
    assert len(decision.todo) == 5
    assert not decision.jobs
    assert not any(isinstance(event, HandedOut) for event in decision.events)


def test_without_any_room_the_run_is_parked() -> None:
    decision = decided(held(fan), [started(fan, 2)], room=0)
    assert decision.parked
    assert not decision.todo
    assert len(decision.jobs) == 2


def test_a_step_of_a_queue_that_is_not_served_is_handed_out_to_it() -> None:
    decision = decided(held(mixed), [started(mixed)], room=9)
    assert [pending.op for pending in decision.todo] == [1]
    assert [job.queue for job in decision.jobs] == ["gpu"]


def test_a_step_of_a_queue_that_is_served_is_kept() -> None:
    assert not decided(held(mixed), [started(mixed)], room=9, queues=("", "gpu")).jobs


def test_where_there_are_no_queues_all_steps_are_kept() -> None:
    assert not decided(held(mixed), [started(mixed)], room=9, queues=None).jobs


def test_a_handed_out_step_is_not_the_runs_own_after_a_loss() -> None:
    execution = held(fan)
    history = decided(execution, [started(fan, 3)], room=1).events
    machine = Machine(fan.body, "r")
    machine.feed(history)
    facts = facts_after_loss(machine, default_registry.steps, T0)
    assert facts == [Attempted(T0, 1, 2)]
    assert machine.operations.dispatched


def test_a_handed_out_step_is_not_begun_by_who_takes_the_run_over() -> None:
    history = decided(held(fan), [started(fan, 3)], room=1).events
    execution = held(fan)
    execution.machine.feed(history)
    assert [pending.op for pending in decide(execution, [], T0, all_steps=True).todo] == [1]


def test_the_retries_of_a_handed_out_step_do_not_wake_the_run() -> None:
    execution = held(fan)
    history = decided(execution, [started(fan, 1)], room=0).events
    machine = Machine(fan.body, "r")
    machine.feed([*history, Retrying(T0, 1, 1, record_of(OSError()), T0 + timedelta(hours=1))])
    assert machine.next_wake() is None
    assert machine.pending[1].attempt == 2


def test_an_answer_ends_the_dispatch() -> None:
    execution = held(fan)
    decided(execution, [started(fan, 2)], room=1)
    execution.machine.feed([Completed(T0, 2, 1)])
    assert not execution.machine.operations.dispatched


def test_handed_out_steps_that_nobody_waits_for_are_dropped() -> None:
    execution = held(race)
    decided(execution, [started(race)], room=1)
    decision = decided(execution, [Completed(T0, 1, 0)], room=1)
    assert decision.effects is not None
    assert list(decision.effects.drop) == [2, 3]


def test_a_step_that_is_dropped_while_the_worker_keeps_it_has_no_job_to_drop() -> None:
    execution = held(race)
    decided(execution, [started(race)], room=3)
    assert decided(execution, [Completed(T0, 1, 0)], room=3).effects is None


def test_after_a_retry_of_the_run_what_was_handed_out_is_its_own_again() -> None:
    history = list(decided(held(fan), [started(fan, 2)], room=0).events)
    blocked = RunBlocked(T0, record_of(RuntimeError()))
    machine = Machine(fan.body, "r")
    machine.feed(effective([*history, blocked, RunRetried(T0)]))
    assert [pending.op for pending in machine.operations.steps()] == [1, 2]


@pytest.mark.parametrize("split", range(1, 6))
def test_a_history_with_hand_outs_replays_the_same_wherever_it_is_split(split: int) -> None:
    execution = held(fan)
    history = [*decided(execution, [started(fan, 3)], room=1).events, Completed(T0, 3, 2)]
    machine = Machine(fan.body, "r")
    machine.feed(history[:split])
    commands = machine.feed(history[split:])
    requested = sum(isinstance(event, Requested) for event in history)
    assert not commands
    assert requested == 3
    assert [(p.op, p.dispatched) for p in machine.pending.values()] == [(1, False), (2, True)]


def test_a_run_does_not_end_before_what_others_wrote_meanwhile() -> None:
    execution, soon, late = held(fan), T0 + timedelta(seconds=1), T0 + timedelta(seconds=9)
    commands = execution.machine.feed([started(fan, 2)])
    execution.machine.replay([*(Requested(T0, command) for command in commands), Completed(late, 2, 1)])
    end = decide(execution, [Completed(soon, 1, 0)], late).events[-1]
    assert isinstance(end, RunCompleted)
    assert end.at == late
