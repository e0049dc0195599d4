"""Where the engine of an App lives: which loop, thread and process, and what calls from elsewhere do to it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import pyworkflow
from pyworkflow import App, step, workflow
from pyworkflow.app import set_default_app
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.errors import WorkflowError
from pyworkflow.model import RunQuery, Status
from pyworkflow.testing.until import until

begun: list[str] = []
threads: list[threading.Thread] = []
gate = threading.Event()
fork_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")


@step(name="engine.add", retries=0)
def add(n: int) -> int:
    return n + 1


@workflow(name="engine.quick")
async def quick(n: int) -> int:
    return await add(n)


@step(name="engine.where")
async def where() -> None:
    threads.append(threading.current_thread())


@workflow(name="engine.located")
async def located() -> None:
    await where()


@step(name="engine.charge", at_most_once=True)
def charge(n: int) -> int:
    begun.append(f"charge {n}")
    assert gate.wait(20)
    return n


@workflow(name="engine.pay", durable=True)
async def pay(n: int) -> int:
    return await charge(n)


@step(name="engine.hold", retries=0)
def hold(n: int) -> int:
    begun.append(f"hold {n}")
    assert gate.wait(20)
    return n


@workflow(name="engine.holding", durable=True)
async def holding(n: int) -> int:
    return await hold(n)


@step(name="engine.outer")
def outer(n: int) -> int:
    return pyworkflow.run(quick, n)


@workflow(name="engine.nested")
async def nested(n: int) -> int:
    return await outer(n)


@pytest.fixture(autouse=True)
def nothing_happened() -> Iterator[None]:
    begun.clear()
    threads.clear()
    gate.clear()
    yield
    gate.set()


@pytest.fixture(params=[True, False], ids=["durable", "transient"])
def app(request: pytest.FixtureRequest) -> Iterator[App]:
    app = App(storage=MemoryStorage(), default_durable=request.param)
    before = set_default_app(app)
    yield app
    gate.set()
    asyncio.run(app.close())
    set_default_app(before)


def engine_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pyworkflow-engine"]


def in_thread(call: Callable[..., Any], *args: Any) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call, *args).result(20)


def test_any_number_of_threads_may_run_workflows_at_once(app: App) -> None:
    before = len(engine_threads())
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda n: pyworkflow.run(quick, n), range(160))) == list(range(1, 161))
    assert len(engine_threads()) == before + 1


def test_closing_ends_the_thread_and_the_next_use_makes_another(app: App) -> None:
    before = len(engine_threads())
    assert pyworkflow.run(quick, 1) == 2
    asyncio.run(app.close())
    assert len(engine_threads()) == before
    assert pyworkflow.run(quick, 1) == 2


def test_async_code_uses_its_own_loop_though_sync_code_came_first(app: App) -> None:
    pyworkflow.run(located)
    asyncio.run(app.call(located))
    assert [thread is threading.main_thread() for thread in threads] == [False, True]


def test_each_asyncio_run_has_the_engine_on_its_loop(app: App) -> None:
    for n in range(3):
        assert asyncio.run(app.call(quick, (n,))) == n + 1


def test_a_loop_that_comes_while_the_thread_is_busy_leaves_the_step_alone(app: App) -> None:
    with ThreadPoolExecutor(1) as pool:
        paying = pool.submit(pyworkflow.run, pay, 1)

        async def beside() -> None:
            await until(lambda: begun)
            async with pyworkflow.worker():
                assert await app.call(quick, (1,)) == 2
            gate.set()

        asyncio.run(beside())
        assert paying.result(20) == 1
    assert begun == ["charge 1"]


@pytest.mark.asyncio
async def test_sync_code_uses_the_loop_of_the_worker_that_is_there(app: App) -> None:
    before = len(engine_threads())
    async with pyworkflow.worker():
        await asyncio.to_thread(pyworkflow.run, located)
    assert threads == [threading.current_thread()]
    assert len(engine_threads()) == before


@pytest.mark.asyncio
async def test_what_other_threads_and_loops_do_disturbs_no_step(app: App) -> None:
    def others() -> None:
        assert pyworkflow.run(quick, 1) == 2
        asyncio.run(elsewhere())

    async def elsewhere() -> None:
        assert await app.call(quick, (2,)) == 3
        async with pyworkflow.worker(), app:
            assert await app.call(quick, (3,)) == 4

    async with pyworkflow.worker():
        handle = await pyworkflow.start(holding, 1)
        await until(lambda: begun)
        await asyncio.to_thread(others)
        gate.set()
        assert await handle.result(timeout=5) == 1
    assert begun == ["hold 1"]


@pytest.mark.asyncio
async def test_a_handle_may_be_awaited_on_another_loop(app: App) -> None:
    handle = await pyworkflow.start(pay, 1)
    waiting = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(handle.result())))
    await until(lambda: begun)
    gate.set()
    assert await asyncio.wait_for(waiting, 20) == 1


@pytest.mark.asyncio
async def test_a_sync_step_may_run_a_workflow(app: App) -> None:
    async with pyworkflow.worker():
        assert await app.call(nested, (1,)) == 2


def test_a_start_whose_loop_closes_at_once_begins_nothing() -> None:
    storage = MemoryStorage()
    asyncio.run(App(storage=storage, default_durable=True).start(pay, (1,), run_id="p"))
    assert begun == []
    gate.set()
    assert asyncio.run(waited(storage)) == 1
    assert begun == ["charge 1"]


async def waited(storage: MemoryStorage) -> Any:
    async with App(storage=storage) as app, app.worker():
        return await app.recorded().result("p")


@pytest.mark.parametrize("configured, given", [(False, None), (True, False)])
def test_a_process_may_start_runs_and_leave_them_to_workers(*, configured: bool, given: bool | None) -> None:
    storage = MemoryStorage()
    gate.set()

    async def main() -> None:
        async with App(storage=storage, default_durable=True, begin=configured) as web:
            handle = await web.start(pay, (1,), run_id="p", begin=given)
            assert web.recorded().worker_here is None  # type: ignore[attr-defined]
            assert (await handle.run()).length == 1
            assert await waited(storage) == 1
            assert await handle.result(timeout=20) == 1

    asyncio.run(main())


def test_who_waits_for_a_loop_that_is_closed_is_told(app: App) -> None:
    errors: list[BaseException] = []

    def wait() -> None:
        with pytest.raises(WorkflowError, match="was closed") as raised:
            pyworkflow.run(pay, 1)
        errors.append(raised.value)

    async def left() -> threading.Thread:
        async with pyworkflow.worker(grace=0):
            waiting = threading.Thread(target=wait)
            waiting.start()
            await until(lambda: begun)
        return waiting

    waiting = asyncio.run(left())
    waiting.join(20)
    assert len(errors) == 1


@fork_only
def test_a_forked_child_leaves_the_runs_of_its_parent_alone() -> None:
    storage = MemoryStorage()
    app = App(storage=storage, default_durable=True)

    async def parent() -> None:
        async with app.worker():
            handle = await app.start(pay, (1,))
            await until(lambda: begun)
            status = await asyncio.to_thread(forked, lambda: app.engine_loop.run_sync(app.call(quick, (1,))) == 2)
            assert status == 0
            gate.set()
            assert await handle.result(timeout=20) == 1
            page = await app.runs(RunQuery(workflow=pay.name))
            assert [run.status for run in page.runs] == [Status.COMPLETED]

    asyncio.run(parent())
    assert begun == ["charge 1"]


def forked(call: Callable[[], bool]) -> int:
    """Return the exit code of a forked child that calls *call*."""
    pid = os.fork()
    if not pid:
        try:
            os._exit(0 if call() else 3)
        finally:
            os._exit(4)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
