"""Thousands of runs sleep while their workers are killed: none wakes early, none twice, none never.

``RELIABILITY_TIMERS=100000`` for more of them.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from fleet import fleet, histories
from kit_flows import sleeps

from pyworkflow import App
from pyworkflow.events import Event, Fired, Requested, RunCompleted, StartTimer
from pyworkflow.model import RunQuery, Status

TIMERS = int(os.environ.get("RELIABILITY_TIMERS", "2000"))
SEED = int(os.environ.get("RELIABILITY_SEED", random.SystemRandom().randrange(2**32)))
STARTS = 500
"""How many runs a second are started at least, on a machine that does other things too."""

SPREAD = max(15.0, TIMERS / 1000)
"""Seconds within which all of them are due."""


@pytest.mark.timeout(120 + 3 * (TIMERS / STARTS + SPREAD))
def test_no_timer_fires_early_twice_or_never_while_workers_are_killed(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    print(f"seed {SEED}")  # noqa: T201 -- shown when it fails
    settings = {"storage": f"sqlite:///{tmp_path}/runs.db", "default_runtime": "local?lease=1s&sweep=100ms"}
    begin = time.time() + 2 + TIMERS / STARTS
    asyncio.run(started(settings, begin))
    with fleet(tmp_path, 3, settings) as workers:
        problems, late = asyncio.run(watched(settings, workers, begin))
        kills = workers.kills
    assert problems == []
    assert kills >= SPREAD / 3
    figure(f"{TIMERS:,} timers, {kills} kills, late p50 {late[0]:.2f} s, p99 {late[1]:.2f} s")


async def started(settings: dict[str, str], begin: float) -> None:
    """Start all runs; each sleeps until some moment from *begin* on."""
    chance = random.Random(SEED)
    async with App(**settings) as app:
        for _ in range(0, TIMERS, 200):
            some = min(200, TIMERS)
            waits = [begin + chance.uniform(0, SPREAD) - time.time() for _ in range(some)]
            await asyncio.gather(*(app.start(sleeps, (seconds,)) for seconds in waits))
    assert time.time() < begin, "some were due before all were started: RELIABILITY_TIMERS is too much for this machine"


async def watched(settings: dict[str, str], workers: object, begin: float) -> tuple[list[str], tuple[float, float]]:
    """Kill workers until all runs have ended; return what is wrong, and how late timers were."""
    async with App(**settings) as app:
        killing = asyncio.create_task(workers.kill_now_and_then(random.Random(SEED), 1.0))
        async with asyncio.timeout(begin - time.time() + 2 * SPREAD + 60):
            while (await app.runs(RunQuery(status=Status.RUNNING, limit=1))).runs:
                await asyncio.sleep(0.2)
        killing.cancel()
        problems, late = [], []
        async for run_id, history in histories(app):
            problems += [f"{run_id}: {problem}" for problem in wrong(history)]
            late += lateness(history)
    late.sort()
    return problems, (late[len(late) // 2], late[len(late) * 99 // 100])


def wrong(history: Sequence[Event]) -> list[str]:
    fired = [event for event in history if isinstance(event, Fired)]
    problems = [] if len(fired) == 1 else [f"it woke {len(fired)} times"]
    if [type(event) for event in history][-1] is not RunCompleted:
        problems.append("it did not end")
    if any(seconds < 0 for seconds in lateness(history)):
        problems.append("it woke early")
    return problems


def lateness(history: Sequence[Event]) -> list[float]:
    """Return how long after its time each timer fired, in seconds."""
    due = {
        event.command.op: event.command.fires_at(event.at)
        for event in history
        if isinstance(event, Requested) and isinstance(event.command, StartTimer)
    }
    return [(event.at - due[event.op]).total_seconds() for event in history if isinstance(event, Fired)]
