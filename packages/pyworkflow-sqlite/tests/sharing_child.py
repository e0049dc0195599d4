"""A process that shares a file with others: it starts runs if it is told to, and works until its input ends.

Usage: sharing_child.py DATABASE LOG [WORKFLOW COUNT]
It prints "working", and "done RUN RESULT" for each run that it started.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading

from pyworkflow import App, sleep, step, workflow
from pyworkflow.testing.runtime_kit.workflows import note

RELEASED = threading.Event()
PID = os.getpid()


@step
async def work(log: str, run: str, number: int) -> int:
    note(log, f"{PID} begin {run} {number}")
    await asyncio.sleep(0)
    note(log, f"{PID} end {run} {number}")
    return number


@step
async def waits(log: str, run: str) -> int:
    """Goes on once this process is told to; the event loop stays free."""
    note(log, f"{PID} begin {run} waits")
    print("holding", flush=True)
    await asyncio.to_thread(RELEASED.wait)
    note(log, f"{PID} end {run} waits")
    return PID


@step
async def blocks(log: str, run: str) -> int:
    """Goes on once this process is told to, and keeps the event loop from doing anything meanwhile."""
    note(log, f"{PID} begin {run} blocks")
    print("holding", flush=True)
    RELEASED.wait()  # what a careless user does
    note(log, f"{PID} end {run} blocks")
    return PID


@workflow(durable=True)
async def naps(log: str, run: str) -> int:
    total = 0
    for number in range(5):
        await sleep("30ms")
        total += await work(log, run, number)
    return total


@workflow(durable=True)
async def holds(log: str, run: str) -> int:
    await work(log, run, 0)
    held_by = await waits(log, run)
    await work(log, run, 1)
    return held_by


@workflow(durable=True)
async def hogs(log: str, run: str) -> int:
    return await blocks(log, run)


@workflow(durable=True)
async def two_leases_long(log: str, run: str) -> int:
    await sleep("2200ms")
    return await work(log, run, 0)


async def main(database: str, log: str, name: str = "", count: str = "0") -> None:
    listener = threading.Thread(target=listen, args=(asyncio.get_running_loop(), done := asyncio.Event()), daemon=True)
    listener.start()
    app = App(storage=f"sqlite:///{database}?silent_limit=3s", default_runtime="local?lease=1s&sweep=50ms")
    async with app, app.worker(grace=0):
        print("working", flush=True)
        names = [f"{name}-{PID}-{i}" for i in range(int(count))]
        handles = [await app.start(app.registry.workflows[name], (log, run), run_id=run) for run in names]
        for handle in handles:
            print(f"done {handle.id} {await handle.result(timeout=60)}", flush=True)
        await done.wait()


def listen(loop: asyncio.AbstractEventLoop, done: asyncio.Event) -> None:
    """Release what waits at the first line; end the process when the input ends."""
    for _ in sys.stdin:
        RELEASED.set()
    loop.call_soon_threadsafe(done.set)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
