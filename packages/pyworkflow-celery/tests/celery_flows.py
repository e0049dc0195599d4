"""What the workers of the tests import: the workflows of the conformance kit, and those of the faults."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from celery import Celery

from pyworkflow import current_step, hook, sleep, step, workflow
from pyworkflow.events import Completed
from pyworkflow.model import Append
from pyworkflow.testing.runtime_kit import odd_ends, stories, workflows
from pyworkflow.testing.runtime_kit.workflows import note
from pyworkflow_celery import celery_app, step_from_celery
from pyworkflow_sqlite.storage import SQLiteStorage

app = celery_app()
__all__ = ["app", "odd_ends", "stories", "workflows"]


def begin(log: str, text: str = "") -> None:
    """Note which attempt of which operation begins in which process, and when."""
    here = current_step()
    note(log, f"begin {here.idempotency_key} {here.attempt} {os.getpid()} {time.time()} {text}".rstrip())


def once(path: str) -> bool:
    """Whether this is the first call for *path*, in whatever process."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# -- steps and workflows ---------------------------------------------------------------------------------


@step(name="faults.add")
def add(log: str, a: int, b: int) -> int:
    begin(log)
    return a + b


@step(name="faults.takes")
async def takes(log: str, seconds: float) -> int:
    begin(log)
    await asyncio.sleep(seconds)
    return os.getpid()


@step(name="faults.waits")
def waits(log: str, until: str) -> int:
    """Last until the file *until* is there."""
    begin(log)
    while not Path(until).exists() and not current_step().cancelled:
        time.sleep(0.01)
    return current_step().attempt


@step(name="faults.deadly")
def deadly(log: str) -> None:
    begin(log)
    die()


@step(name="faults.flaky")
def flaky(log: str) -> int:
    begin(log)
    if current_step().attempt == 1:
        raise ConnectionError("once")
    return 1


@step(name="faults.gpu", queue="gpu")
def on_gpu(log: str) -> int:
    begin(log, "gpu")
    return os.getpid()


@workflow(name="faults.sums")
async def sums(log: str, n: int) -> int:
    total = 0
    for i in range(n):
        total = await add(log, total, i)
    return total


@workflow(name="faults.fan")
async def fan(log: str, n: int, seconds: float = 0.0) -> list[int]:
    return list(await asyncio.gather(*(takes(log, seconds) for _ in range(n))))


@workflow(name="faults.waiting")
async def waiting(log: str, until: str) -> list[int]:
    return [await waits(log, until), await add(log, 1, 1)]


@workflow(name="faults.dies")
async def dies(log: str) -> None:
    await deadly(log)


@workflow(name="faults.routed")
async def routed(log: str) -> list[int]:
    return list(await asyncio.gather(takes(log, 0), on_gpu(log)))


@workflow(name="faults.approved")
async def approved(token: str) -> Any:
    return await hook("approval", token=token)


@workflow(name="faults.part")
async def part(log: str, n: int) -> int:
    return await add(log, n, 100)


@workflow(name="faults.mixed")
async def mixed(log: str, n: int) -> int:
    """A bit of everything: a sequence, a fan-out of chains, a retry, a sleep, a child, a timeout."""

    async def chain(i: int) -> int:
        return await add(log, await add(log, n, i), 1)

    total = await add(log, n, 1)
    total += sum(await asyncio.gather(*(chain(i) for i in range(3))))
    total += await flaky(log)
    await sleep(0.05)
    total += await part(log, n)
    try:
        async with asyncio.timeout(0.05):
            await takes(log, 60)
    except TimeoutError:
        total += 1
    return total


@workflow(name="faults.transient", durable=False)
async def transient(log: str, seconds: float) -> int:
    return await takes(log, seconds)


# -- a Celery task of old, as a step -----------------------------------------------------------------------

legacy = Celery("legacy", set_as_current=False, broker="memory://")


@legacy.task(bind=True, name="legacy.charge", max_retries=9)
def charge(self: Any, log: str, amount: int) -> dict[str, Any]:
    note(log, f"charge {self.request.retries}")
    if self.request.retries < 2:
        raise self.retry(exc=ConnectionError("the bank is closed"))
    return {"amount": amount, "key": self.request.id}


charge_step = step_from_celery(charge)


@workflow(name="faults.adopted")
async def adopted(log: str, amount: int) -> dict[str, Any]:
    return await charge_step(log, amount)


# -- what tests do to a worker from inside -----------------------------------------------------------------

_append, _load, _load_many = SQLiteStorage.append, SQLiteStorage.load, SQLiteStorage.load_many


async def _deadly_append(self: SQLiteStorage, append: Append) -> int:
    folder, run_id = Path(os.environ["TEST_FOLDER"]), append.run_id
    note(str(folder / "queries"), f"append {run_id}")
    answers = any(isinstance(event, Completed) for event in append.events)
    if answers and (folder / "die-before").exists() and once(str(folder / f"died-before-{run_id}")):
        die()
    length = await _append(self, append)
    if answers and (folder / "die-after").exists() and once(str(folder / f"died-after-{run_id}")):
        die()
    return length


async def _noted_load(self: SQLiteStorage, run_id: str, after: int = 0) -> Any:
    note(str(Path(os.environ["TEST_FOLDER"]) / "queries"), f"load {run_id} {after}")
    return await _load(self, run_id, after)


async def _noted_load_many(self: SQLiteStorage, run_ids: Sequence[str]) -> Any:
    for run_id in run_ids:
        note(str(Path(os.environ["TEST_FOLDER"]) / "queries"), f"load {run_id} 0")
    return await _load_many(self, run_ids)


if "TEST_FOLDER" in os.environ:
    SQLiteStorage.append, SQLiteStorage.load = _deadly_append, _noted_load  # type: ignore[method-assign]
    SQLiteStorage.load_many = _noted_load_many  # type: ignore[method-assign]
