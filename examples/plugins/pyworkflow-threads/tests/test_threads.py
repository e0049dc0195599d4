"""The runtime keeps the contract, and its runs are advanced in threads of its own."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pyworkflow import App, step, workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.errors import ConfigError, DefinitionError
from pyworkflow.testing.runtime import DurableConformance


class TestThreads(DurableConformance):
    @pytest.fixture
    def make_app(self):
        storage = MemoryStorage()
        return lambda: App(storage=storage, default_runtime="threads?threads=3", default_retry="fixed?delay=1ms")


meeting = threading.Barrier(3, timeout=20)


@step(retries=0)
async def meets() -> str:
    meeting.wait()  # blocks its whole event loop until two others, on loops of their own, are here too
    return threading.current_thread().name


@workflow
async def one() -> str:
    return await meets()


@workflow
async def three() -> list[str]:
    return await asyncio.gather(*(meets() for _ in range(3)))


@pytest.mark.asyncio
async def test_runs_are_advanced_at_the_same_time_in_threads_of_their_own():
    async with App(storage="memory://", default_runtime="threads?threads=3&capacity=1") as app:
        names = await asyncio.gather(*(app.call(one) for _ in range(3)))
    assert sorted(names) == ["pyworkflow-1", "pyworkflow-2", "pyworkflow-3"]


@pytest.mark.asyncio
async def test_the_steps_of_one_run_are_shared_by_the_threads():
    async with App(storage="memory://", default_runtime="threads?threads=3&capacity=1") as app:
        names = await app.call(three)
    assert sorted(names) == ["pyworkflow-1", "pyworkflow-2", "pyworkflow-3"]


@pytest.mark.asyncio
async def test_closing_ends_the_threads():
    async with App(storage="memory://", default_runtime="threads?threads=2") as app, app.worker():
        assert sum(thread.name in {"pyworkflow-1", "pyworkflow-2"} for thread in threading.enumerate()) == 2
    assert not [thread for thread in threading.enumerate() if thread.name in {"pyworkflow-1", "pyworkflow-2"}]


@workflow(durable=False)
async def transient() -> None: ...


@pytest.mark.asyncio
async def test_transient_runs_are_refused_with_a_reason():
    async with App(default_runtime="threads") as app:
        with pytest.raises(DefinitionError, match="Threads runtime is always durable"):
            await app.start(transient)


@pytest.mark.parametrize("options", ["threads=0", "capacity=0"])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError, match="1 or more"):
        App(default_runtime=f"threads?{options}").runtime()
