"""Many runs under random kills of workers, pools and messages: all end as without faults, nothing is done again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import celery_flows as flows
import pytest
from celery_servers import Redis, Workers

from pyworkflow import App
from pyworkflow.model import Completed, Event, Requested, RunQuery, RunStarted, Status
from pyworkflow.testing.workflows import notes

RUNS = int(os.environ.get("PYWORKFLOW_CHAOS_RUNS", "150"))
SEED = int(os.environ.get("PYWORKFLOW_CHAOS_SEED", random.SystemRandom().randrange(2**32)))
LIMIT = 60 + RUNS  # seconds


@pytest.fixture
def workers(redis: Redis, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(
        tmp_path,
        storage=f"sqlite:///{tmp_path}/flows.db",
        default_runtime="celery",
        default_retry="fixed?delay=1ms",
        celery_broker=redis.url(),
    )
    for _ in range(2):
        workers.launch("-c", "3", "-l", "WARNING")
    yield workers
    workers.close()


async def kills(workers: Workers, redis: Redis, chance: random.Random) -> Counter[str]:
    """Every second kill a process of a pool, or now and then a whole worker, or lose all messages; until cancelled."""
    done: Counter[str] = Counter()
    with suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(1)
            victim = chance.choice(workers.running)
            children = [] if victim.poll() is not None else workers.children(victim)
            fault = chance.choices(["child", "worker", "flush"], [8, 1, 1])[0]
            if fault == "child" and children:
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(children), signal.SIGKILL)
            elif fault == "worker":
                workers.kill(victim)
                workers.launch("-c", "3", "-l", "WARNING")
            elif fault == "flush":
                with redis.client() as client:
                    client.flushdb()
            else:
                continue
            done[fault] += 1
    return done


@pytest.mark.asyncio
@pytest.mark.timeout(LIMIT + 60)
async def test_runs_end_as_without_faults_whatever_is_killed(workers: Workers, redis: Redis, tmp_path: Path) -> None:
    print(f"seed {SEED}")  # noqa: T201 -- shown when it fails
    log, chance = str(tmp_path / "effects"), random.Random(SEED)
    settings = {key.removeprefix("PYWORKFLOW_").lower(): value for key, value in workers.env.items()}
    async with App(**settings) as app, asyncio.timeout(LIMIT):
        killing = asyncio.create_task(kills(workers, redis, chance))
        handles = [await app.start(flows.mixed, (log, n)) for n in range(RUNS)]
        results = await asyncio.gather(*(handle.result() for handle in handles))
        killing.cancel()
        faults = await killing
        histories = [await handle.history() for handle in handles]
        left = await app.runs(RunQuery(status=Status.RUNNING, workflow="faults.part"))
    print(f"faults: {dict(faults)}")  # noqa: T201 -- shown when it fails
    assert results == [5 * n + 109 for n in range(RUNS)]
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
    assert sum(faults.values()) >= 3


def check(history: list[Event]) -> None:
    """See that a history is as it should be: each operation is asked for once, and completed at most once."""
    assert isinstance(history[0], RunStarted)
    requested = [event.command.op for event in history if isinstance(event, Requested)]
    assert requested == list(range(1, len(requested) + 1))
    answers = Counter(event.op for event in history if isinstance(event, Completed))
    assert not answers or max(answers.values()) == 1
