"""A held run: each transition of its phases, and what its marks mean."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from pyworkflow.engine.held_run import HeldRun, Phase
from pyworkflow.events import Fired
from pyworkflow.model import RUN_OP, Lease
from pyworkflow.replay.machine import Machine

FACT = Fired(datetime(2026, 1, 1, tzinfo=UTC), 1)


async def nothing(args: Any, kwargs: Any) -> None:
    return None


def held(phase: Phase = Phase.IDLE, *, length: int = 3) -> HeldRun:
    workflow: Any = None
    return HeldRun("r", workflow, Machine(nothing, "r"), Lease("r", RUN_OP, "w", 1, length=length), length, phase)


# -- transitions -----------------------------------------------------------------------------------


def test_a_resuming_run_is_idle_once_its_history_is_read() -> None:
    run = held(Phase.RESUMING)
    run.resumed()
    assert run.phase is Phase.IDLE


def test_an_idle_run_can_be_acquired() -> None:
    run = held()
    assert run.acquire([FACT])
    assert (run.phase, run.waiting) == (Phase.ADVANCING, [])


@pytest.mark.parametrize("phase", [Phase.RESUMING, Phase.ADVANCING, Phase.RELEASED])
def test_a_run_that_is_not_idle_keeps_the_facts_of_who_wants_to_acquire_it(phase: Phase) -> None:
    run = held(phase)
    assert not run.acquire([FACT])
    assert (run.phase, run.waiting) == (phase, [FACT])


def test_a_turn_ends_where_nothing_came_meanwhile() -> None:
    run = held()
    run.acquire([])
    run.starting = 2
    assert run.yield_turn()
    assert (run.phase, run.starting) == (Phase.IDLE, 0)


def test_a_turn_goes_on_where_somebody_wanted_the_run_meanwhile() -> None:
    run = held()
    run.acquire([])
    run.acquire([])
    assert not run.yield_turn()
    assert run.phase is Phase.ADVANCING
    assert run.yield_turn(), "they are told of it once"


def test_a_turn_goes_on_where_facts_wait() -> None:
    run = held()
    run.acquire([])
    run.acquire([FACT])
    assert not run.yield_turn()
    assert run.take_waiting([]) == [FACT]
    assert run.yield_turn()


def test_a_turn_goes_on_where_the_history_has_grown() -> None:
    run = held()
    run.acquire([])
    run.stale = True
    assert not run.yield_turn()
    assert run.phase is Phase.ADVANCING


def test_a_turn_that_is_aborted_leaves_the_run_idle() -> None:
    run = held()
    run.acquire([])
    run.abort_turn()
    assert run.phase is Phase.IDLE


def test_the_machine_of_a_turn_that_is_aborted_is_rebuilt() -> None:
    run = held()
    run.acquire([])
    run.abort_turn()
    assert (run.stale, run.is_ahead) == (True, True)


@pytest.mark.parametrize("end", [HeldRun.release, HeldRun.park])
def test_a_run_that_is_released_stays_so(end: Any) -> None:
    run = held()
    run.acquire([])
    end(run)
    run.abort_turn()
    run.resumed()
    assert run.is_released
    assert not run.acquire([])


@pytest.mark.asyncio
async def test_releasing_cancels_the_tasks_of_a_run_but_for_the_one_that_releases() -> None:
    run = held()
    other = asyncio.ensure_future(asyncio.sleep(3600))
    mine: Any = asyncio.current_task()
    run.running = {1: other, 2: mine}
    run.release()
    await asyncio.gather(other, return_exceptions=True)
    assert (other.cancelled(), mine.cancelling(), run.running) == (True, 0, {})


def test_a_parked_run_leaves_its_machine_open() -> None:
    run = held()
    run.park()
    assert run.machine.is_new


# -- marks -----------------------------------------------------------------------------------------


def test_waiting_facts_follow_those_that_are_at_hand() -> None:
    run = held(Phase.ADVANCING)
    run.acquire([FACT])
    second = Fired(FACT.at, 2)
    assert run.take_waiting([second]) == [second, FACT]
    assert run.waiting == []


@pytest.mark.parametrize("length, unproven", [(3, False), (4, True)])
def test_a_history_that_grew_since_the_claim_leaves_the_lease_unproven(length: int, *, unproven: bool) -> None:
    run = held()
    run.grown(length)
    assert (run.unproven, run.length) == (unproven, length)


def test_a_held_run_takes_at_least_one_of_its_workers_capacity() -> None:
    run = held()
    assert run.busy_with == 1
    run.starting = 2
    assert run.busy_with == 2


def test_steps_at_most_once_are_forgotten_when_their_end_is_durable() -> None:
    run = held()
    run.once = {1: "charge", 2: "ship"}
    run.forget_answered([1, 7])
    assert run.once == {2: "ship"}
