"""Orders on Celery workers: `demo.py` beside this file starts what it needs, or see docs/celery.md."""

from __future__ import annotations

import asyncio
import os

from pyworkflow import configure, step, workflow
from pyworkflow_celery import celery_app

configure(default_runtime="celery")  # PYWORKFLOW_CELERY_BROKER and PYWORKFLOW_STORAGE say the rest
app = celery_app()  # for `celery -A shop worker`


def say(text: str) -> None:
    print(f"[{os.getpid()}] {text}", flush=True)


@step
async def reserve(order: str, item: str) -> str:
    say(f"reserve {item} for {order}")
    await asyncio.sleep(2.5)
    return f"{item} reserved"


@step(retries=3, retry_delay="1s")
async def charge(order: str, amount: int) -> str:
    say(f"charge {amount} for {order}")
    return f"{amount} charged"


@step(queue="printer")
def print_label(order: str) -> str:
    say(f"print the label of {order}")
    return f"label of {order}"


@workflow
async def checkout(order: str, items: list[str]) -> list[str]:
    reserved = await asyncio.gather(*(reserve(order, item) for item in items))
    return [*reserved, await charge(order, 10 * len(items)), await print_label(order)]
