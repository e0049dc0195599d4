"""The workflows that are killed, and where their processes kill themselves.

A run whose id is ``x-3-before`` has its process killed before its third write, and ``x-3-after`` after it, once.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pyworkflow import current_step, sleep, step, workflow
from pyworkflow.model import Append
from pyworkflow.ports import Storage
from pyworkflow.testing.runtime_kit.workflows import note

LOG = os.environ.get("RELIABILITY_LOG", "")
MARKS = Path(os.environ.get("RELIABILITY_MARKS", "."))
PLAN = re.compile(r"[a-z]+-(\d+)-(before|after)\b")


def begin(log: str, name: str) -> None:
    here = current_step()
    note(log, f"{here.idempotency_key} {name} {here.attempt} {os.getpid()} {time.time()}")


PATIENT = 100  # retries: losing a worker counts as one


@step(name="proof.work", retries=PATIENT, retry_delay=0.01)
async def work(log: str, name: str, value: int) -> int:
    begin(log, name)
    if name == "flaky" and current_step().attempt == 1:
        raise ConnectionError(name)
    return value


@step(name="proof.waits", retries=PATIENT, retry_delay=0.01)
async def waits(log: str, name: str, until: str) -> str:
    """Last until the file *until* is there."""
    begin(log, name)
    while not os.path.exists(until):  # noqa: ASYNC240, PTH110 -- a look that takes microseconds
        await asyncio.sleep(0.02)
    return name


@workflow(name="proof.row", durable=True)
async def row(log: str) -> int:
    total = await work(log, "first", 1)
    total += await work(log, "flaky", 2)
    await sleep(0.02)
    total += sum(await asyncio.gather(*(work(log, f"gathered-{i}", i) for i in range(3))))
    return total + await work(log, "last", 10)


@workflow(name="proof.part", durable=True)
async def part(log: str, value: int) -> int:
    return await work(log, "inner", value) + await work(log, "inner-too", 1)


@workflow(name="proof.family", durable=True)
async def family(log: str) -> int:
    total, *rest = await asyncio.gather(part(log, 20), work(log, "beside", 3), work(log, "beside-too", 4))
    try:
        async with asyncio.timeout(0.05):
            await sleep(3600)
    except TimeoutError:
        total += await work(log, "late", 5)
    return total + sum(rest)


@workflow(name="proof.sleeps", durable=True)
async def sleeps(seconds: float) -> str:
    await sleep(seconds)
    return "awake"


@workflow(name="proof.held", durable=True)
async def held(log: str, until: str) -> str:
    return await waits(log, "held", until)


FLOWS = {"row": (row, 16), "family": (family, 33)}
"""The workflows that are killed, and what they come to."""


# -- where processes kill themselves ---------------------------------------------------------------------


def crossing(run_id: str) -> Callable[[], None]:
    """Kill this process if that is planned before this write; return what does so after it."""
    plan = PLAN.match(run_id)
    if plan is None:
        return lambda: None
    mark = MARKS / run_id.replace("/", "_")
    with mark.open("ab") as writes:
        writes.write(b".")
        number = writes.tell()

    def here(when: str) -> None:
        if plan.groups() == (str(number), when) and _first(MARKS / f"{mark.name}.killed"):
            os.kill(os.getpid(), signal.SIGKILL)

    here("before")
    return lambda: here("after")


def _first(path: Path) -> bool:
    """Whether nobody was here; whoever comes after a kill is let pass."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def deadly(cls: type[Storage]) -> None:
    """Have the writes of a storage cross the points at which processes are to be killed."""
    create, append = cls.create, cls.append

    async def created(self: Any, run: Any, *args: Any, **options: Any) -> Any:
        return await _crossed(run.id, lambda: create(self, run, *args, **options))

    async def appended(self: Any, new: Append) -> Any:
        return await _crossed(new.run_id, lambda: append(self, new))

    cls.create, cls.append = created, appended  # type: ignore[method-assign]


async def _crossed(run_id: str, act: Callable[[], Awaitable[Any]]) -> Any:
    after = crossing(run_id)
    result = await act()
    after()
    return result


def deadly_checkpoints() -> None:
    """The same for a durable function, which writes by calling AWS."""
    from botocore.client import BaseClient

    from pyworkflow_aws.durable.execution import function

    call, run, ids = BaseClient._make_api_call, function._run, dict[str, str]()

    def called(self: Any, operation: str, parameters: Any) -> Any:
        if operation != "CheckpointDurableExecution":
            return call(self, operation, parameters)
        after = crossing(ids.get(parameters["DurableExecutionArn"], ""))
        answer = call(self, operation, parameters)
        after()
        return answer

    def noted(app: Any, settings: Any, clients: Any, event: Any, journal: Any) -> Any:
        ids[journal.arn] = event["run_id"]
        return run(app, settings, clients, event, journal)

    BaseClient._make_api_call, function._run = called, noted


match os.environ.get("RELIABILITY_DEADLY"):
    case "sqlite":
        from pyworkflow_sqlite import SQLiteStorage

        deadly(SQLiteStorage)
    case "dynamodb":
        from pyworkflow_aws.dynamodb import DynamoDBStorage

        deadly(DynamoDBStorage)
    case "lambda":
        deadly_checkpoints()
