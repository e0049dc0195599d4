"""A lane is stored, in a way: chance, UUIDs and tokens of a task follow from it, and no release may shift them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from pyworkflow import hook, random, step, uuid4
from pyworkflow.events import CallStep, Completed, Requested, RunStarted
from pyworkflow.replay.machine import Machine

T0 = datetime(2026, 1, 1, tzinfo=UTC)

# What version 0.1.0 gives for the workflow below and the seed "seed": in both tasks of a gather, under timeout() and
# wait_for(), in a TaskGroup, and in the workflow's own function.
OF_0_1_0 = [
    (0.9965431886448045, "133976e8-b09d-44bd-b6bf-9907fd1ff380", "L9M3nY6Uo-3OmMVc0mb0z9pVEuKCJXpxF8zhZR2lScU"),
    (0.4990966602389829, "3a56be95-76d0-4005-9cc0-0533b25442c6", "hJAfaWLFZeTFvPFRfdOywCbCut1lnbr6rvCVF3zrop0"),
    (0.24351419767679738, "49582f93-d989-499e-a340-e88c0497b2a2", "pJYY7mJ-IOwkxKourFA7mbBjsvQyr733YayFdTwof3s"),
    (0.7484150197578003, "bb9fc822-489b-49c7-8f28-10f328fa9f84", "sXFxnd3T2nN-oyn6vaK4FWPcVLom_M1np53I3dQIpo8"),
    (0.9388508909318336, "de82f894-8b1c-48d9-a642-afad7fccf420", "z1yD7eiS5m2R7A_nzvHB5O2DdPptApfrw5oQSyrZ2e0"),
]


@step(name="lanes.keep")
async def keep(values: list[Any]) -> list[Any]:
    return values


async def draw() -> Any:
    number, unique = random(), str(uuid4())
    return await keep([number, unique, hook("h", str).token])


async def in_every_kind_of_task() -> None:
    await asyncio.gather(draw(), draw())
    async with asyncio.timeout(50):
        await asyncio.wait_for(draw(), 5)
    async with asyncio.TaskGroup() as group:
        group.create_task(draw())
    await draw()


def drawn() -> list[tuple[Any, ...]]:
    """Run the workflow, answering one step after another; return what it drew, in the order of the steps."""
    machine = Machine(lambda _args, _kwargs: in_every_kind_of_task(), "run-1")
    news: list[Any] = [RunStarted(T0, "flow", [], {}, "seed")]
    seen: list[tuple[Any, ...]] = []
    while news:
        commands = machine.feed(news)
        seen += [tuple(command.args[0]) for command in commands if isinstance(command, CallStep)]
        machine.feed([Requested(T0, command) for command in commands])
        open_steps = [op for op, pending in sorted(machine.pending.items()) if isinstance(pending.command, CallStep)]
        news = [Completed(T0, op, []) for op in open_steps[:1]]
    machine.close()
    return seen


def test_tasks_draw_what_they_drew_in_0_1_0() -> None:
    assert drawn() == OF_0_1_0
