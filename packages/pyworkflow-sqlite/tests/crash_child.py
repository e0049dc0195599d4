"""A process that carries one run to its end, unless it is told to die at one of its commits.

Usage: crash_child.py DATABASE LOG [NUMBER before|after]
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from pyworkflow import App, current_step, sleep, step, workflow
from pyworkflow.errors import RunExists
from pyworkflow.testing.runtime_kit.workflows import note
from pyworkflow_sqlite.database import Database


@step(retries=3, retry_delay="10ms")
async def work(log: str, name: str, value: int) -> int:
    note(log, f"{os.getpid()} begin {name}")
    if name == "flaky" and current_step().attempt == 1:
        raise ConnectionError(name)
    note(log, f"{os.getpid()} end {name}")
    return value


@workflow(durable=True)
async def ten_steps(log: str) -> int:
    total = await work(log, "first", 1)
    total += await work(log, "second", 2)
    total += await work(log, "flaky", 3)
    await sleep("20ms")
    total += sum(await asyncio.gather(*(work(log, f"gathered {i}", i) for i in range(4))))
    total += await work(log, "eighth", 8)
    total += await work(log, "ninth", 9)
    return total + await work(log, "tenth", 10)


def die_at(number: int, when: str) -> None:
    """Kill this process right before or right after its commit *number*."""
    commit, count = Database._commit, 0

    def counted(self: Database, *args: Any) -> Any:
        nonlocal count
        count += 1
        if (count, when) == (number, "before"):
            os.kill(os.getpid(), signal.SIGKILL)
        result = commit(self, *args)
        if (count, when) == (number, "after"):
            os.kill(os.getpid(), signal.SIGKILL)
        print(f"commit {count}", flush=True)
        return result

    Database._commit = counted  # type: ignore[method-assign]


async def main(database: str, log: str) -> None:
    async with App(storage=f"sqlite:///{database}", default_runtime="local?lease=2s&sweep=50ms") as app:
        try:
            handle = await app.start(ten_steps, (log,), run_id="the-run")
            result = await handle.result(timeout=30)
        except RunExists:
            async with app.worker(grace=0):
                result = await app.recorded().result("the-run")
        print(f"result {result}", flush=True)


if __name__ == "__main__":
    die_at(int(sys.argv[3]) if len(sys.argv) > 3 else 0, sys.argv[4] if len(sys.argv) > 4 else "")
    asyncio.run(main(sys.argv[1], sys.argv[2]))
