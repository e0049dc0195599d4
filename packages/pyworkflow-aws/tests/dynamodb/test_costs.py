"""What a run costs, as the emulator counts it: by DynamoDB's own rules, two units an item for transactions."""

from __future__ import annotations

from collections import Counter

import pytest
from attrs import define, field

from pyworkflow import App, step, workflow
from pyworkflow_aws.dynamodb import DynamoDBStorage

RUNS = 20
READS = {"GetItem", "Query"}


@step(name="costs.bump")
async def bump(number: int) -> int:
    return number + 1


@workflow(name="costs.ten_steps")
async def ten_steps() -> int:
    number = 0
    for _ in range(10):
        number = await bump(number)
    return number


@define
class Meter:
    """Counts calls and the units they consume, indexes included."""

    calls: Counter = field(factory=Counter)
    written: float = 0.0
    read: float = 0.0

    def watch(self, boto):
        events = boto.meta.events
        events.register("provide-client-params.dynamodb.*", self.ask)
        events.register("after-call.dynamodb.*", self.count)

    def ask(self, params, **_):
        params["ReturnConsumedCapacity"] = "INDEXES"

    def count(self, parsed, model, **_):
        consumed = parsed.get("ConsumedCapacity", [])
        units = sum(one["CapacityUnits"] for one in (consumed if isinstance(consumed, list) else [consumed]))
        self.calls[model.name] += 1
        if model.name in READS:
            self.read += units
        else:
            self.written += units


@pytest.mark.asyncio
async def test_a_run_of_ten_steps_costs_at_most_21_writes_and_2_reads(new_table):
    storage, meter = DynamoDBStorage(new_table()), Meter()
    # A sweep and a heartbeat cost by the hour, not by the run.
    async with App(storage=storage, default_durable=True, default_runtime="local?sweep=300s&lease=900s") as app:
        await app.call(ten_steps)  # the worker comes to be known
        meter.watch(storage._client.boto)
        for _ in range(RUNS):
            assert await app.call(ten_steps) == 10
        calls = {name: count / RUNS for name, count in meter.calls.items()}
    print(f"a run of 10 steps: {meter.written / RUNS} WCU, {meter.read / RUNS} RCU, {calls}")  # noqa: T201 -- pytest -rP shows it
    assert meter.written / RUNS <= 21
    assert meter.read / RUNS <= 2
    assert calls == {"PutItem": 10, "Query": 1, "TransactWriteItems": 1}  # the start, one for each next step, the end
