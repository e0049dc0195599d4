"""Sets of tasks and futures have one order, live and on every replay."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from attrs import evolve
from machine_play import STARTED, a, machine, play

import pyworkflow

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
    machines = [machine(waits_for_a_set) for _ in range(100)]
    for n, m in enumerate(machines):
        m.feed([evolve(STARTED, seed=f"seed {n}")])
    assert len({hash(m._loop.main) for m in machines}) == 100
    for m in machines:
        m.close()
