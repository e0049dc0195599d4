"""Random programs that are interrupted, changed, told things, and now and then cancelled, at random moments."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from aws_durable_execution_sdk_python_testing.executor import Executor

from pyworkflow import App
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.errors import HookClosed, RunCancelled, RunEnded
from pyworkflow.inspection.replay import replay_history
from pyworkflow_aws.durable.client import runtime
from pyworkflow_aws.durable.execution.function import durable_function
from pyworkflow_aws.testing import Endpoint, InProcess

PROGRAMS = int(os.environ.get("PYWORKFLOW_FUZZ", "25"))
FIRST = int(os.environ.get("PYWORKFLOW_FUZZ_SEED", "1"))

CANCELS = 1 / 6
"""Which part of the programs is cancelled."""

CANCELLED = "cancelled"

AT_ONCE = 4
"""How many programs are under way at a time."""

HERE = {"default_durable": True, "default_retry": "fixed?delay=1ms"}


@pytest.fixture(scope="module")
def skipping() -> Iterator[Endpoint]:
    """A local Lambda on which sleeps end at once, and so does the pause after an invocation that failed."""
    with pytest.MonkeyPatch.context() as patch, Endpoint(skip_time=True) as endpoint:
        patch.setattr(Executor, "RETRY_BACKOFF_SECONDS", 0)
        patch.setattr(runtime, "_LAST_PAUSE", 0.05)
        yield endpoint


@pytest.mark.timeout(30 * 60)
def test_interrupted_programs_end_as_on_the_local_runtime_and_record_each_step_once(skipping, programs):
    failures = asyncio.run(failing(skipping, programs, range(FIRST, FIRST + PROGRAMS)))
    assert not failures, failures


async def failing(endpoint: Endpoint, programs: Any, seeds: range) -> list[str]:
    """Return what went wrong, and with which seeds."""
    free, failures = asyncio.Semaphore(AT_ONCE), []

    async def one(seed: int) -> None:
        async with free:
            try:
                await interrupted(endpoint, programs, seed)
            except Exception as error:  # noqa: BLE001 -- it belongs to its seed
                failures.append(f"seed {seed}: {type(error).__name__}: {str(error)[:300]}")

    await asyncio.gather(*map(one, seeds))
    return failures


async def interrupted(endpoint: Endpoint, programs: Any, seed: int) -> None:
    """Carry out the program of a seed.

    Its sandbox is lost once, its code changes, payloads come at any time, and one in six is cancelled.
    """
    rng = random.Random(seed)
    todo = ["seq", [programs.program(rng, 3, names, told=True) for names in [[0]] for _ in range(2)]]
    name, changes_at = f"fuzz-{seed}", rng.choice([1, 1, 2, 3, 4])
    programs.crash[name] = rng.randint(1, 8)
    programs.old.add(name)
    settings = {"aws_endpoint_url": endpoint.url, "aws_region": "us-east-1", "aws_function": name}
    async with App(**settings, default_runtime="durable-lambda") as app:
        runtime = app.runtime()
        handler = durable_function(app, runtime.settings, runtime.clients)

        def invoked(event: Any, context: Any) -> Any:
            if function.invocations >= changes_at:
                programs.old.discard(name)
            return handler(event, context)

        function = endpoint.functions[name] = InProcess(invoked)
        there = await told(app, programs, (todo, 1.0, name), rng, cancels=rng.random() < CANCELS)
        _, events = await runtime.history(name)
        steps = await asyncio.to_thread(recorded, runtime.clients.functions(), (await runtime._execution(name)).arn)
    programs.crash[name] = 0
    programs.old.discard(name)
    async with App(storage=MemoryStorage(), **HERE) as app:
        here = await told(app, programs, (todo, 1e-7, name), rng)
    assert here == programs.expected(todo)
    assert there in (here, CANCELLED)
    assert set(steps.values()) <= {1}
    replay_history(programs.run, events)


async def told(
    app: App, programs: Any, args: tuple[Any, float, str], rng: random.Random, *, cancels: bool = False
) -> Any:
    """Return the result of a program that is sent what its hooks wait for; `CANCELLED` if it *cancels* it in time."""
    run_id = args[-1]
    handle = await app.start(programs.run, args, run_id=run_id)
    sending = asyncio.create_task(send(app, programs, run_id, rng))
    cancelling = asyncio.create_task(cancel(handle, rng.uniform(0, 0.5))) if cancels else None
    result = asyncio.create_task(handle.result(timeout=60))
    await asyncio.wait([sending, result], return_when=asyncio.FIRST_COMPLETED)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    if not sending.cancelled():
        result.cancel()
        sending.result()
    if cancelling is not None:
        await cancelling
    try:
        return await result
    except RunCancelled:
        if cancels:
            return CANCELLED
        raise


async def cancel(handle: Any, after: float) -> None:
    """Cancel a run after that many seconds, unless it has ended."""
    await asyncio.sleep(after)
    with suppress(RunEnded):
        await handle.cancel("enough")


async def send(app: App, programs: Any, run_id: str, rng: random.Random) -> None:
    """Send to each hook what is for it, sooner or later once it is open; and now and then before."""
    sent: Counter[str] = Counter()
    while True:
        opened = [hook.name for hook in await app.recorded().hooks()]
        for name in [*opened, f"hook{rng.randint(1, 30)}"]:
            if rng.random() < 0.5 or sent[name] == len(programs.payloads(name)):
                continue
            try:
                await app.resume_hook(f"{run_id}:{name}", programs.payloads(name)[sent[name]])
            except HookClosed:
                continue
            sent[name] += 1
        await asyncio.sleep(rng.uniform(0, 0.02))


def recorded(lambda_: Any, arn: str) -> Counter[str]:
    """Return how often each step of a program has a result in what AWS keeps."""
    pages = lambda_.get_paginator("get_durable_execution_history").paginate(
        DurableExecutionArn=arn, IncludeExecutionData=True
    )
    return Counter(
        json.loads(event["StepSucceededDetails"]["Result"]["Payload"])["value"]
        for page in pages
        for event in page["Events"]
        if event["EventType"] == "StepSucceeded" and event["Name"] == "fuzz.work"
    )


def test_a_race_is_decided_the_same_way_on_every_replay(official, programs):
    for seed in range(5):
        rng = random.Random(seed)
        races = [
            ["race", f"r{b}{k}", [["step", f"s{b}{k}{i}", rng.choice([0, 0.0005, 0.001]), 0] for i in range(3)]]
            for b in range(3)
            for k in range(3)
        ]
        todo = ["gather", [["seq", [races[3 * b + k] for k in range(3)] + [["sleep", 60]]] for b in range(3)]]
        result = official.run(programs.run, todo, 1.0)
        assert result.status.value == "SUCCEEDED", (seed, result.error)
