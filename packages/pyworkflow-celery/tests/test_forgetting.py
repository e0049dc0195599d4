"""What a process that sends transient runs remembers of them."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from pyworkflow import workflow
from pyworkflow.ports import Mode, StartRequest
from pyworkflow_celery import transient
from pyworkflow_celery.transient import CeleryTransient


@workflow(name="forgetting.nothing", durable=False)
async def nothing() -> None:
    """Do nothing."""


def send(*_: Any, **__: Any) -> Future[None]:
    sent: Future[None] = Future()
    sent.set_result(None)
    return sent


@pytest.mark.asyncio
async def test_of_the_runs_that_were_sent_only_the_last_ones_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transient, "REMEMBERED", 3)
    broker: Any = SimpleNamespace(sender=SimpleNamespace(send=send), queue="q")
    runtime = CeleryTransient(SimpleNamespace(), broker, SimpleNamespace(), lambda: False)  # type: ignore[arg-type]
    for n in range(9):
        await runtime.start(StartRequest(nothing, [], {}, Mode.TRANSIENT, f"r-{n}"))
    assert [n for n in range(9) if runtime.knows(f"r-{n}")] == [6, 7, 8]
