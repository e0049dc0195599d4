"""What runs cost, as the emulator counts it: by DynamoDB's own rules, two units an item for transactions.

``pytest -rP`` shows the figures; those of docs/dynamodb.md are these.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from attrs import define, field

from pyworkflow import App, step, workflow
from pyworkflow.events import RunCompleted
from pyworkflow.model import Append, Effects, Status
from pyworkflow.testing.storage import FOREVER, LEASE, T0, add, add_held, facts, hook, job, take
from pyworkflow_aws.dynamodb import DynamoDBStorage

pytestmark = pytest.mark.asyncio

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

    def watch(self, storage):
        events = storage._client.boto.meta.events
        events.register("provide-client-params.dynamodb.*", self.ask)
        events.register("after-call.dynamodb.*", self.count)
        return self

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


async def test_a_run_of_ten_steps_costs_at_most_21_writes_and_2_reads(new_table):
    storage = DynamoDBStorage(new_table())
    # A sweep and a heartbeat cost by the hour, not by the run.
    async with App(storage=storage, default_durable=True, default_runtime="local?sweep=300s&lease=900s") as app:
        await app.call(ten_steps)  # the worker comes to be known
        meter = Meter().watch(storage)
        for _ in range(RUNS):
            assert await app.call(ten_steps) == 10
        calls = {name: count / RUNS for name, count in meter.calls.items()}
    print(f"a run of 10 steps: {meter.written / RUNS} WCU, {meter.read / RUNS} RCU, {calls}")  # noqa: T201 -- the figures
    assert meter.written / RUNS <= 21
    assert meter.read / RUNS <= 2
    assert calls == {"PutItem": 10, "Query": 1, "TransactWriteItems": 1}  # the start, one for each next step, the end


async def start(s, lease):
    await add_held(s, "new")


async def start_with_a_key(s, lease):
    await add_held(s, "new", idempotency_key="k")


async def go_on(s, lease):
    await s.append(Append("r", facts(2), expected=1, lease=lease))


async def park(s, lease):
    await s.append(Append("r", facts(1), [job(due=FOREVER)], expected=1, lease=lease))


async def end(s, lease):
    ended = [RunCompleted(T0, 1)]
    await s.append(Append("r", ended, expected=1, lease=lease, finish=True, status=Status.COMPLETED, now=T0))


async def open_a_hook(s, lease):
    await s.append(Append("r", facts(1), expected=1, lease=lease, effects=Effects(hooks=[hook()])))


async def hand_a_step_out(s, lease):
    await s.append(Append("r", facts(1), [job(op=5)], expected=1, lease=lease))


async def tell_a_run_that_is_held(s, lease):
    await s.append(Append("r", facts(1), [job()]))


async def claim_one(s, lease):
    await add(s, "new")
    s.meter.written = s.meter.read = 0.0
    assert len(await take(s, now=T0 + LEASE / 2)) == 1


async def read_a_run_without_its_events(s, lease):
    await s.append(Append("r", facts(2), expected=1, lease=lease))
    s.meter.written = s.meter.read = 0.0
    assert (await s.run("r")).length == 3


async def renew(s, lease):
    s.renew("w", T0 + LEASE / 2, LEASE)


async def look_for_work(s, lease):
    assert await take(s) == []
    await s.due()


async def give_back(s, lease):
    s.renew("w", T0, timedelta(0))


@pytest.mark.parametrize(
    "what, written, read",
    [
        (start, 3, 0),
        (start_with_a_key, 6, 0),
        (go_on, 1, 0),
        (park, 6, 0),
        (end, 6, 1),
        (open_a_hook, 9, 1),
        (hand_a_step_out, 7, 0),
        (tell_a_run_that_is_held, 6, 1),
        (claim_one, 6, 4),
        (read_a_run_without_its_events, 0, 1),
        (renew, 3, 1),
        (look_for_work, 0, 8.5),
        (give_back, 5, 2.5),
    ],
    ids=lambda value: value.__name__.replace("_", " ") if callable(value) else "",
)
async def test_each_thing_costs(new_table, what, written, read):
    s = DynamoDBStorage(new_table(shards=8))
    await s.open()
    s.renew("w", T0, LEASE)
    await add(s)
    (lease,) = await take(s)
    s.meter = Meter().watch(s)
    await what(s, lease)
    print(f"{what.__name__}: {s.meter.written} WCU, {s.meter.read} RCU, {dict(s.meter.calls)}")  # noqa: T201 -- the figures
    await s.close()
    assert (s.meter.written, s.meter.read) == (written, read)
