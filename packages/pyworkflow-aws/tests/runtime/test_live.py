"""What no emulator can show; runs only with PYWORKFLOW_AWS_LIVE=1, against a function that has `programs.py`.

pyworkflow deploy packages/pyworkflow-aws/tests/runtime/programs.py --name pyworkflow-live
PYWORKFLOW_AWS_LIVE=1 PYWORKFLOW_AWS_FUNCTION=pyworkflow-live pytest packages/pyworkflow-aws/tests/runtime/test_live.py
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets

import pytest
import pytest_asyncio

from pyworkflow import App
from pyworkflow.errors import PayloadTooLarge, RunCancelled, RunExists, RunTerminated
from pyworkflow.model import RunQuery, Status

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(600)]


@pytest_asyncio.fixture
async def app():
    async with App(default_runtime="durable-lambda") as app:
        yield app


@pytest.fixture
def log():
    return os.devnull  # the function's own


async def test_random_programs_end_as_they_should(app, programs):
    todo = [["seq", [programs.program(random.Random(seed), 3, [0]) for _ in range(2)]] for seed in range(10)]
    results = await asyncio.gather(*(app.call(programs.run, (one, 1e-4)) for one in todo))
    assert results == [programs.expected(one) for one in todo]


async def test_a_result_as_large_as_we_say_is_kept_and_a_larger_one_refused(app, programs):
    assert await app.call(programs.much, (261_000,)) == 261_000
    with pytest.raises(PayloadTooLarge):
        await app.call(programs.much, (263_000,))


async def test_an_error_as_large_as_we_say_is_kept(app, programs):
    with pytest.raises(ValueError, match="xxx"):
        await app.call(programs.fails_at_length, (100_000,))


async def test_the_same_start_gives_the_same_run_and_another_one_is_refused(app, programs, log):
    key = secrets.token_hex(8)
    first = await app.start(programs.sleeps, (log, 1), idempotency_key=key)
    again = await app.start(programs.sleeps, (log, 1), idempotency_key=key)
    assert first.id == again.id
    with pytest.raises(RunExists):
        await app.start(programs.sleeps, (log, 1), run_id=first.id)
    assert await first.result(timeout=60) == "awake"
    assert first.id in {run.id for run in (await app.runs(RunQuery(status=Status.COMPLETED))).runs}


async def test_a_sleeping_run_is_cancelled_and_another_one_terminated(app, programs, log):
    cancelled = await app.start(programs.sleeps, (log, 3600))
    terminated = await app.start(programs.sleeps, (log, 3600))
    await cancelled.cancel("enough")
    with pytest.raises(RunCancelled):
        await cancelled.result(timeout=60)
    await app.recorded().terminate(terminated.id, "enough")
    with pytest.raises(RunTerminated, match="enough"):
        await terminated.result(timeout=60)


async def test_a_hook_is_answered(app, programs):
    token = f"{secrets.token_hex(8)}"
    handle = await app.start(programs.asks_for, (token,), run_id=f"live-{token}")

    async def open_hooks():
        return await app.recorded().hooks(handle.id)

    while not await open_hooks():
        await asyncio.sleep(0.5)
    await app.resume_hook(f"live-{token}:{token}", "yes")
    assert await handle.result(timeout=60) == "yes"
