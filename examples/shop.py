"""An order that is paid, packed and confirmed, however often its process dies on the way."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import datetime
from decimal import Decimal

from attrs import frozen

from pyworkflow import current_step, now, sleep, step, workflow


@frozen
class Payment:
    """Money that was taken."""

    id: str
    amount: Decimal


@frozen
class Receipt:
    """What the customer gets."""

    order: str
    payment: Payment
    parcels: list[str]
    at: datetime


def say(text: str) -> None:
    """Show what is done, and by which process."""
    print(f"    [process {os.getpid()}] {text}", flush=True)


@step
async def reserve_stock(order: str) -> list[str]:
    say(f"reserve_stock({order!r})")
    await asyncio.sleep(0.2)
    return ["book", "lamp"]


@step(retries=3, retry_delay="300ms")
async def charge_card(order: str) -> Payment:
    attempt = current_step().attempt
    say(f"charge_card({order!r}), attempt {attempt}, idempotency key {current_step().idempotency_key}")
    await asyncio.sleep(0.2)
    if attempt == 1:
        msg = "the bank's line is busy"
        raise ConnectionError(msg)
    return Payment(f"pay-{order}", Decimal("49.90"))


@step
def pack(item: str) -> str:  # a sync step runs in a thread
    say(f"pack({item!r})")
    time.sleep(0.3)
    return f"parcel with a {item}"


@step
async def send_receipt(order: str, payment: Payment) -> None:
    say(f"send_receipt({order!r}, {payment.amount})")


@workflow(durable=True)
async def checkout(order: str) -> Receipt:
    """Reserve, charge, pack everything at once, wait a moment, confirm."""
    items = await reserve_stock(order)
    payment = await charge_card(order)
    parcels = await asyncio.gather(*(pack(item) for item in items))
    await sleep("2s")
    await send_receipt(order, payment)
    return Receipt(order, payment, parcels, now())
