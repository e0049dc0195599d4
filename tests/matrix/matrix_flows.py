"""The workflows of the matrix. They know nothing of where they run; every runtime and storage runs them as they are.

Steps that have an effect write a line to a file, so that what was done can be counted, by whatever process it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from attrs import frozen

import pyworkflow
from pyworkflow import FatalError, RetryableError, current_step, hook, now, sleep, step, workflow
from pyworkflow.errors import HookExpired, HookTaken
from pyworkflow.testing.runtime_kit.workflows import note

# -- an order: the README's, and a realistic one --------------------------------------------------------------


@step(name="m.charge_card", retries=3, retry_delay="5ms", timeout="30s")
async def charge_card(log: str, order: str) -> str:
    note(log, f"charge {order}")
    return f"payment for {order}"


@step(name="m.send_receipt")
def send_receipt(log: str, payment: str) -> str:
    note(log, f"receipt {payment}")
    return f"receipt for the {payment}"


@workflow(name="m.checkout")
async def checkout(log: str, order: str) -> str:
    payment = await charge_card(log, order)
    await sleep("20ms")
    return await send_receipt(log, payment)


class Carrier(Enum):
    POST = "post"
    BIKE = "bike"


@frozen
class Item:
    name: str
    price: Decimal
    grams: int = 500


@frozen
class Order:
    id: str
    items: tuple[Item, ...]
    placed: datetime
    carrier: Carrier = Carrier.POST


@frozen
class Payment:
    id: str
    amount: Decimal


@frozen
class Shipment:
    order: str
    payment: Payment
    parcels: list[str]
    carrier: Carrier
    due: datetime


class OutOfStock(Exception):
    def __init__(self, item: str, left: int) -> None:
        super().__init__(item, left)
        self.item = item
        self.left = left


@step(name="m.release")
async def release(log: str, item: Item, result: str) -> None:
    note(log, f"release {item.name}")


@step(name="m.reserve", retries=0, undo=release)
async def reserve(log: str, item: Item) -> str:
    if item.grams > 10_000:
        raise OutOfStock(item.name, 0)
    note(log, f"reserve {item.name}")
    return f"reservation of {item.name}"


@step(name="m.pay", retries=3)
async def pay(log: str, order: Order) -> Payment:
    note(log, f"pay {current_step().attempt}")
    if current_step().attempt < 3:
        msg = "the bank's line is busy"
        raise ConnectionError(msg)
    return Payment(f"pay-{order.id}", sum((item.price for item in order.items), Decimal(0)))


@step(name="m.pack")
def pack(log: str, item: Item, carrier: Carrier) -> str:
    note(log, f"pack {item.name}")
    return f"{item.name} by {carrier.value}"


@workflow(name="m.fulfil")
async def fulfil(log: str, order: Order) -> Shipment:
    pyworkflow.set_attributes(order=order.id, items=len(order.items))
    for item in order.items:
        await reserve(log, item)
    payment = await pay(log, order)
    parcels = await asyncio.gather(*(pack(log, item, order.carrier) for item in order.items))
    pyworkflow.set_status("on its way")
    await sleep(timedelta(milliseconds=20))
    return Shipment(order.id, payment, parcels, order.carrier, order.placed + timedelta(days=2))


# -- onboarding: children, reminders, a limit -----------------------------------------------------------------


@step(name="m.mail")
async def mail(log: str, to: str, text: str) -> str:
    note(log, f"mail {to}: {text}")
    return f"{text} to {to}"


@workflow(name="m.provision")
async def provision(log: str, user: str, tool: str) -> str:
    await mail(log, "admin", f"{tool} for {user}")
    return f"{tool}:{user}"


@workflow(name="m.onboarding", timeout="1 minute")
async def onboarding(log: str, user: str) -> list[str]:
    accounts = [await provision(log, user, tool) for tool in ("mail", "wiki")]
    for day in (1, 2):
        await sleep("10ms")
        await mail(log, user, f"tip {day}")
    return accounts


@workflow(name="m.invoice")
async def invoice(log: str, order: str) -> str:
    return await send_receipt(log, order)


@workflow(name="m.month_end")
async def month_end(log: str, orders: list[str]) -> list[str]:
    return await asyncio.gather(*(invoice(log, order) for order in orders))


# -- ETL: a fan-out in stages ----------------------------------------------------------------------------------


@step(name="m.extract")
async def extract(log: str, page: int) -> list[int]:
    note(log, f"extract {page}")
    await asyncio.sleep(0.001 * (page % 3))
    return list(range(page * 10, page * 10 + 10))


@step(name="m.transform")
def transform(rows: list[int]) -> dict[str, int]:
    return {"rows": len(rows), "sum": sum(rows)}


@step(name="m.load")
async def load(log: str, parts: list[dict[str, int]]) -> dict[str, int]:
    note(log, f"load {len(parts)}")
    return {key: sum(part[key] for part in parts) for key in ("rows", "sum")}


@workflow(name="m.etl")
async def etl(log: str, pages: int) -> dict[str, int]:
    extracted = await asyncio.gather(*(extract(log, page) for page in range(pages)))
    transformed = await asyncio.gather(*(transform(rows) for rows in extracted))
    return await load(log, transformed)


@step(name="m.thumbnail")
def thumbnail(url: str) -> str:
    return f"small {url}"


@workflow(name="m.thumbnails")
async def thumbnails(urls: list[str]) -> list[str]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(thumbnail(url)) for url in urls]
    return [task.result() for task in tasks]


# -- people ----------------------------------------------------------------------------------------------------


@frozen
class Decision:
    by: str
    ok: bool = True


@workflow(name="m.purchase")
async def purchase(log: str, token: str) -> str:
    asked = hook("approval", Decision, token=token, timeout="7 days")
    await mail(log, "boss", "please approve")
    decision = await asked
    return f"{'approved' if decision.ok else 'refused'} by {decision.by}"


@workflow(name="m.ignored")
async def ignored(log: str, token: str) -> str:
    try:
        await hook("approval", Decision, token=token, timeout="30ms")
    except HookExpired:
        return await mail(log, "boss", "too late")
    return "?"


@workflow(name="m.support")
async def support(log: str, token: str) -> list[str]:
    channel, said = hook("messages", str, token=token, many=True), []
    await mail(log, "customer", "how can I help?")
    async for message in channel:
        said.append(await mail(log, "agent", message))
        if message == "bye":
            channel.close()
    return said


@workflow(name="m.cancelled")
async def cancelled(log: str) -> None:
    try:
        await mail(log, "us", "begun")
        await sleep("30 days")
    finally:
        await mail(log, "us", "cleaned up")


# -- an agent: a loop that a model steers ----------------------------------------------------------------------


@step(name="m.model")
async def model(messages: list[dict[str, Any]]) -> dict[str, Any]:
    results = [message["content"] for message in messages if message["role"] == "tool"]
    if len(results) < 3:
        return {"role": "assistant", "tool": "add", "args": [len(results), sum(results)]}
    return {"role": "assistant", "content": f"it is {results[-1]}"}


@step(name="m.tool")
async def tool(log: str, name: str, args: list[int]) -> int:
    note(log, f"{name} {args}")
    return sum(args) + 1


@workflow(name="m.agent")
async def agent(log: str, question: str) -> str:
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    while True:
        answer = await model(messages)
        messages.append(answer)
        if "content" in answer:
            return str(answer["content"])
        result = await tool(log, answer["tool"], answer["args"])
        messages.append({"role": "tool", "content": result})


# -- what goes wrong -------------------------------------------------------------------------------------------


@step(name="m.flaky", retries=2)
async def flaky(log: str, fails: int) -> int:
    note(log, f"flaky {current_step().attempt}")
    if current_step().attempt <= fails:
        msg = f"attempt {current_step().attempt}"
        raise ConnectionError(msg)
    return current_step().attempt


@workflow(name="m.retried")
async def retried(log: str, fails: int) -> int:
    return await flaky(log, fails)


@step(name="m.fatal", retries=5)
async def fatal(log: str) -> None:
    note(log, "fatal")
    msg = "never again"
    raise FatalError(msg)


@workflow(name="m.gives_up")
async def gives_up(log: str) -> None:
    await fatal(log)


@step(name="m.later", retries=1)
async def later(log: str) -> str:
    note(log, f"later {current_step().attempt}")
    if current_step().attempt == 1:
        msg = "come back"
        raise RetryableError(msg, retry_after="20ms")
    return current_step().idempotency_key.rpartition("/")[2]


@workflow(name="m.comes_back")
async def comes_back(log: str) -> str:
    return await later(log)


@workflow(name="m.compensates")
async def compensates(log: str, items: Sequence[Item]) -> None:
    for item in items:
        await reserve(log, item)


@workflow(name="m.explains")
async def explains(log: str, item: Item) -> None:
    try:
        await reserve(log, item)
    except OutOfStock as error:
        msg = f"no {error.item}, {error.left} left"
        raise LookupError(msg) from error


@step(name="m.hangs", retries=0, timeout="20ms")
async def hangs() -> None:
    await asyncio.sleep(60)


@workflow(name="m.too_slow")
async def too_slow() -> None:
    await hangs()


@step(name="m.long")
async def long(log: str) -> None:
    note(log, "long begins")
    await asyncio.sleep(600)


@workflow(name="m.time_limit")
async def time_limit(log: str) -> str:
    try:
        async with asyncio.timeout(0.5):
            await long(log)
    except TimeoutError:
        return await mail(log, "us", "gave up")
    return "?"


@workflow(name="m.out_of_time", timeout="40ms")
async def out_of_time(log: str) -> None:
    try:
        await sleep("10s")
    finally:
        await mail(log, "us", "out of time")


@workflow(name="m.unstorable")
async def unstorable() -> str:
    try:
        await thumbnail(object())  # type: ignore[arg-type]
    except TypeError as error:
        return type(error).__name__
    return "?"


@workflow(name="m.group_fails")
async def group_fails(log: str, item: Item) -> list[str]:
    failed: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(reserve(log, item))
            group.create_task(sleep("1 minute"))
    except* OutOfStock as errors:
        failed += [str(error) for error in errors.exceptions]
    return failed


# -- waiting for several things --------------------------------------------------------------------------------


@workflow(name="m.race")
async def race(log: str) -> list[bool]:
    quick: asyncio.Task[Any] = asyncio.create_task(mail(log, "us", "quick"))
    slow: asyncio.Task[Any] = asyncio.create_task(sleep("1 minute"))
    done, pending = await pyworkflow.wait([slow, quick], return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return [quick in done, slow in done]


@workflow(name="m.as_they_end")
async def as_they_end() -> list[int]:
    async def after(n: int) -> int:
        await sleep(0.15 * n)
        return n

    return [await item for item in pyworkflow.as_completed([after(3), after(1), after(2)])]


@workflow(name="m.pipeline")
async def pipeline(log: str) -> list[str]:
    line: asyncio.Queue[str | None] = asyncio.Queue(1)

    async def make() -> None:
        for n in range(3):
            await line.put(await mail(log, "line", str(n)))
        await line.put(None)

    async def take() -> list[str]:
        taken = []
        while (item := await line.get()) is not None:
            taken.append(item)
        return taken

    return (await asyncio.gather(make(), take()))[1]


# -- what else there is ----------------------------------------------------------------------------------------


@workflow(name="m.subscription")
async def subscription(log: str, months: int) -> str:
    await mail(log, "customer", f"{months} months left")
    if months:
        await pyworkflow.continue_as_new(log, months - 1)
    return "ended"


@workflow(name="m.subscribers")
async def subscribers(log: str, months: int) -> list[str]:
    return [await subscription(log, months), await subscription(log, 0)]


@workflow(name="m.token_twice")
async def token_twice(log: str, token: str) -> str:
    first = hook("first", str, token=token)
    await mail(log, "boss", "opened")
    try:
        return await hook("second", str, token=token)
    except HookTaken:
        first.close()
    await mail(log, "boss", "closed")
    try:
        return await hook("third", str, token=token, timeout="30ms")
    except HookExpired:
        return "taken, then free"


@workflow(name="m.chance")
async def chance(log: str) -> list[bool]:
    first = pyworkflow.random(), pyworkflow.uuid4(), now()
    await mail(log, "us", "later")
    second = pyworkflow.random(), pyworkflow.uuid4(), now()
    return [first[0] != second[0], first[1] != second[1], first[2] <= second[2], first[1].version == 4]


@workflow(name="m.patched")
async def patched(log: str) -> str:
    if pyworkflow.patched("mails are sent"):
        await mail(log, "us", "patched")
    return "done"


@step(name="m.echo")
async def echo(value: Any) -> Any:
    return value


@workflow(name="m.values")
async def values(value: Any) -> Any:
    return await echo(value)


@workflow(name="m.naps")
async def naps() -> bool:
    before = now()
    for pause in (0.01, "10ms", timedelta(milliseconds=10), 0, -5, datetime(2020, 1, 1, tzinfo=UTC)):
        await sleep(pause)
    await asyncio.sleep(0.01)
    return now() - before >= timedelta(milliseconds=39)
