"""Many runs under random kills of workers, pools and messages: all end as without faults, nothing is done again.

``PYWORKFLOW_CHAOS_RUNS=10000 PYWORKFLOW_CHAOS_FLOW=sums`` runs as many of five steps each; a mixed one has fifteen
operations.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import celery_flows as flows
import pytest
from celery_servers import Redis, Workers

from pyworkflow import App
from pyworkflow.events import Completed, Event, Requested, RunStarted
from pyworkflow.model import RunQuery, Status
from pyworkflow.testing.runtime_kit.workflows import note, notes

FLOW = os.environ.get("PYWORKFLOW_CHAOS_FLOW", "mixed")
RUNS = int(os.environ.get("PYWORKFLOW_CHAOS_RUNS", "150"))
SEED = int(os.environ.get("PYWORKFLOW_CHAOS_SEED", random.SystemRandom().randrange(2**32)))
LIMIT = 60 + RUNS  # seconds
PAUSE = 1.0 if RUNS < 5_000 else 0.75
"""Seconds from one kill to the next."""

FLOWS = {"mixed": (flows.mixed, lambda n: n, lambda n: 5 * n + 109), "sums": (flows.sums, lambda _: 5, lambda _: 10)}
"""Workflows, their argument, and their result, by the number of the run."""


@pytest.fixture
def workers(redis: Redis, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(
        tmp_path,
        storage=f"sqlite:///{tmp_path}/flows.db",
        default_runtime="celery",
        default_retry="fixed?delay=1ms",
        celery_broker=redis.url(),
    )
    for _ in range(3):
        workers.launch("-c", "2", "-l", "WARNING")
    yield workers
    workers.close()


async def kills(workers: Workers, chance: random.Random) -> Counter[str]:
    """Again and again kill a process of a pool, or now and then a whole worker, until cancelled."""
    done: Counter[str] = Counter()
    with suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(PAUSE)
            victim = chance.choice(workers.running)
            children = [] if victim.poll() is not None else workers.children(victim)
            fault = chance.choices(["child", "worker"], [8, 1])[0]
            if fault == "child" and children:
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(children), signal.SIGKILL)
            elif fault == "worker":
                workers.kill(victim)
                workers.launch("-c", "2", "-l", "WARNING")
            else:
                continue
            done[fault] += 1
    return done


async def flushes(redis: Redis) -> int:
    """Lose all messages every five seconds, until cancelled; return how often that was."""
    count = 0
    with suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(5)
            with redis.client() as client:
                client.flushdb()
            count += 1
    return count


@pytest.mark.asyncio
@pytest.mark.timeout(LIMIT + 60)
async def test_runs_end_as_without_faults_whatever_is_killed(workers: Workers, redis: Redis, tmp_path: Path) -> None:
    print(f"seed {SEED}")  # noqa: T201 -- shown when it fails
    log, chance = str(tmp_path / "effects"), random.Random(SEED)
    flow, argument, result = FLOWS[FLOW]
    settings = {key.removeprefix("PYWORKFLOW_").lower(): value for key, value in workers.env.items()}
    async with App(**settings) as app, asyncio.timeout(LIMIT):
        begun_at = time.monotonic()
        disturbing = [asyncio.create_task(kills(workers, chance)), asyncio.create_task(flushes(redis))]
        handles = [await app.start(flow, (log, argument(n))) for n in range(RUNS)]
        results = await asyncio.gather(*(handle.result() for handle in handles))
        seconds = time.monotonic() - begun_at
        for task in disturbing:
            task.cancel()
        killed, flushed = await asyncio.gather(*disturbing)
        histories = [await handle.history() for handle in handles]
        left = await app.runs(RunQuery(status=Status.RUNNING, workflow="faults.part"))
    what = f"{RUNS:,} runs in {seconds:.0f} s, {killed.total()} kills, messages lost {flushed} times"
    print(what)  # noqa: T201 -- shown when it fails
    assert results == [result(n) for n in range(RUNS)]
    assert not left.runs, "the children have ended too"
    begun = [[*line.split()[1:3], line.split()[4]] for line in notes(log)]
    for history in histories:
        check(history)
    completed = {
        (handle.id, event.op): event.at.timestamp()
        for handle, history in zip(handles, histories, strict=True)
        for event in history
        if isinstance(event, Completed)
    }
    again = [
        key
        for key, _, at in begun
        if float(at) > completed.get((key.split("/")[0], int(key.split("/")[1])), float("inf")) + 0.05
    ]
    assert not again, "a completed step ran again"
    assert killed.total() >= max(3, min(100, RUNS // 50))
    if "RELIABILITY_FIGURES" in os.environ:
        note(os.environ["RELIABILITY_FIGURES"], what)


def check(history: list[Event]) -> None:
    """See that a history is as it should be: each operation is asked for once, and completed at most once."""
    assert isinstance(history[0], RunStarted)
    requested = [event.command.op for event in history if isinstance(event, Requested)]
    assert requested == list(range(1, len(requested) + 1))
    answers = Counter(event.op for event in history if isinstance(event, Completed))
    assert not answers or max(answers.values()) == 1
