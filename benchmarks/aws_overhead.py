"""What pyworkflow adds to AWS's durable execution SDK, side by side in one run on AWS's in-process local runner.

    python benchmarks/aws_overhead.py [--steps 50] [--rounds 15]

Two programs of the same steps: one written with the SDK, one with pyworkflow; each invocation is timed inside the
handler's function, so that the runner's own work and the SDK's end of an invocation count for neither. The second
invocation replays all steps. The least of several rounds counts, as noise only adds.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("AWS_ACCESS_KEY_ID", "local")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "local")

from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python.config import Duration
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner

from pyworkflow import App, sleep, step, workflow
from pyworkflow_aws.durable.execution import function

MOST_PER_STEP, MOST_PER_REPLAYED_STEP = 0.5e-3, 100e-6

Timed = Callable[[Callable[[Any, Any], Any]], Callable[[Any, Any], Any]]


@step(name="bench.sync", retries=0)
def sync_step(n: int) -> int:
    return n + 1


@step(name="bench.async", retries=0)
async def async_step(n: int) -> int:
    return n + 1


@workflow(name="bench.sync_run")
async def sync_run(steps: int) -> int:
    n = 0
    for _ in range(steps):
        n = await sync_step(n)
    await sleep(60)
    return n


@workflow(name="bench.async_run")
async def async_run(steps: int) -> int:
    n = 0
    for _ in range(steps):
        n = await async_step(n)
    await sleep(60)
    return n


class Clock:
    """Times each invocation of a handler's function."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Return *run*, timed."""

        def timed(*args: Any) -> Any:
            began = time.perf_counter()
            try:
                return run(*args)
            finally:
                self.times.append(time.perf_counter() - began)

        return timed


def bare(clock: Clock) -> Callable[[Any, Any], Any]:
    def run(event: Any, context: DurableContext) -> int:
        n = 0
        for _ in range(event["args"][0]):
            n = context.step(lambda _, n=n: n + 1, name="bench")
        context.wait(Duration(60), name="wait")
        return n

    return durable_execution(clock(run))


def ours(clock: Clock) -> Callable[[Any, Any], Any]:
    app = App(aws_region="us-east-1", aws_function="f", aws_cancellable=False)
    runtime = app.runtime("durable-lambda")
    kept, function.durable_execution = function.durable_execution, lambda run, **_: durable_execution(clock(run))
    try:
        return function.durable_function(app, runtime.settings, runtime.clients)  # type: ignore[attr-defined]
    finally:
        function.durable_execution = kept


def measure(make: Callable[[Clock], Callable[[Any, Any], Any]], name: str, steps: int) -> tuple[float, float]:
    """Return the seconds of the first invocation and of the one that replays."""
    clock = Clock()
    payload = json.dumps({"workflow": name, "args": [steps], "kwargs": {}, "run_id": "run"})
    with DurableFunctionTestRunner(make(clock)) as runner:
        result = runner.run(payload)
    assert result.status.value == "SUCCEEDED", result.error
    first, again = clock.times
    return first, again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    programs = {"SDK": (bare, ""), "sync steps": (ours, "bench.sync_run"), "async steps": (ours, "bench.async_run")}
    least = dict.fromkeys(programs, (float("inf"), float("inf")))
    for _ in range(options.rounds):
        for label, (make, name) in programs.items():
            first, again = measure(make, name, options.steps)
            least[label] = min(least[label][0], first), min(least[label][1], again)
    base_first, base_again = (value / options.steps for value in least["SDK"])
    print(f"{options.steps} steps, least of {options.rounds} rounds; times for each step")
    print(f"{'':12}{'carried out':>14}{'added':>12}{'replayed':>14}{'added':>12}")
    for label, (first, again) in least.items():
        once, more = first / options.steps, again / options.steps
        print(
            f"{label:12}{once * 1e3:11.3f} ms{(once - base_first) * 1e3:9.3f} ms"
            f"{more * 1e6:11.0f} us{(more - base_again) * 1e6:9.0f} us"
        )
    for label in ("sync steps", "async steps"):
        first, again = (value / options.steps for value in least[label])
        assert first - base_first <= MOST_PER_STEP, f"{label}: {first - base_first:.6f} s added to a step"
        assert again <= MOST_PER_REPLAYED_STEP, f"{label}: {again:.6f} s to replay a step"


if __name__ == "__main__":
    main()
