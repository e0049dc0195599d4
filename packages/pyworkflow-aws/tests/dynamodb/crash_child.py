"""A process that carries one run to its end, unless it is told to die at one of its calls of DynamoDB.

Usage: crash_child.py TABLE LOG [NUMBER before|after]
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys

from botocore.client import BaseClient

from pyworkflow import App, sleep, step, workflow
from pyworkflow.errors import RunExists
from pyworkflow.testing.runtime_kit.workflows import note

WRITES = {"PutItem", "UpdateItem", "TransactWriteItems"}


@step
async def work(log: str, name: str, value: int) -> int:
    note(log, f"begin {name}")
    return value


@workflow(durable=True)
async def six_steps(log: str) -> int:
    total = await work(log, "first", 1)
    await sleep("20ms")
    total += await work(log, "second", 2)
    total += sum(await asyncio.gather(*(work(log, f"gathered {i}", i) for i in range(3))))
    return total + await work(log, "last", 10)


def die_at(number: int, when: str) -> None:
    """Kill this process right before or right after its write *number*, whatever it is of: the run or the lease."""
    call, numbers = BaseClient._make_api_call, itertools.count(1)

    def counted(self, operation, parameters):
        count = next(numbers) if operation in WRITES else 0
        if (count, when) == (number, "before"):
            os.kill(os.getpid(), signal.SIGKILL)
        answer = call(self, operation, parameters)
        if (count, when) == (number, "after"):
            os.kill(os.getpid(), signal.SIGKILL)
        if count:
            print(f"write {count}", flush=True)
        return answer

    BaseClient._make_api_call = counted


async def main(table: str, log: str) -> None:
    async with App(storage=f"dynamodb://{table}", default_runtime="local?lease=2s&sweep=100ms") as app:
        try:
            handle = await app.start(six_steps, (log,), run_id="the-run")
            result = await handle.result(timeout=30)
        except RunExists:
            async with app.worker(grace=0):
                result = await app.recorded().result("the-run")
        print(f"result {result}", flush=True)


if __name__ == "__main__":
    die_at(int(sys.argv[3]) if len(sys.argv) > 3 else 0, sys.argv[4] if len(sys.argv) > 4 else "")
    asyncio.run(main(sys.argv[1], sys.argv[2]))
