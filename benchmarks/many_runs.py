"""Many runs at once on one SQLite file in one process: how long they take, and how much memory.

python benchmarks/many_runs.py [RUNS [STEPS]]     by default 200 runs of 10 steps
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time

from pyworkflow import App, step, workflow
from pyworkflow.model import RunQuery, Status


@step
async def add(total: int, number: int) -> int:
    return total + number


@workflow(durable=True)
async def sums(steps: int) -> int:
    total = 0
    for number in range(steps):
        total = await add(total, number)
    return total


def peak() -> float:
    """Return the most memory that this process has had so far, in MB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2**20 if sys.platform == "darwin" else used / 2**10


async def main(runs: int, steps: int) -> None:
    """Run them and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        async with App(storage=f"sqlite:///{folder}/runs.db") as app:
            await app.call(sums, (steps,))  # everything is imported, and the file is there
            before, started = peak(), time.perf_counter()
            results = await asyncio.gather(*(app.call(sums, (steps,)) for _ in range(runs)))
            took = time.perf_counter() - started
            assert results == [sum(range(steps))] * runs
            ended = await app.runs(RunQuery(Status.COMPLETED, limit=runs + 2))
            assert len(ended.runs) == runs + 1
    print(f"{runs} runs of {steps} steps, each result synced to disk: {took:.2f} s, {runs * steps / took:,.0f} steps/s")
    print(f"memory: {before:.0f} MB before, {peak():.0f} MB at most")


if __name__ == "__main__":
    asyncio.run(main(*(int(argument) for argument in (sys.argv[1:] + ["200", "10"][len(sys.argv) - 1 :]))))
