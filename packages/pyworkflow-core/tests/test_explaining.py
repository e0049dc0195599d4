"""Why a run is where it is, in sentences; and what of its log is said once."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from pyworkflow import App, logger, sleep, step, workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.codec.exceptions import record_of
from pyworkflow.events import (
    Attempted,
    CallStep,
    CancelRequested,
    ChildContinued,
    Completed,
    Event,
    Failed,
    HandedOut,
    OpenHook,
    Received,
    Requested,
    Retrying,
    RunBlocked,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunStarted,
    RunTerminated,
    StartChild,
    StartTimer,
)
from pyworkflow.inspection.explain import explain, open_children_of
from pyworkflow.model import Run, Status

T0 = datetime(2026, 1, 1, tzinfo=UTC)
NOW = T0 + timedelta(minutes=5)
STARTED = RunStarted(T0, "flow", [], {}, "seed")
STEP = Requested(T0, CallStep(1, "charge", [], {}))
HOOK = Requested(T0, OpenHook(1, "approval", "digest", delay=3600.0))
MANY = Requested(T0, OpenHook(1, "chat", "digest", many=True))
CHILD = Requested(T0, StartChild(1, "invoice", [], {}))
BROKE = record_of(OSError("no route"))


@pytest.mark.parametrize(
    "events, sentence",
    [
        ([STEP], "Step 'charge' (operation 1) began 5m ago, attempt 1, and has not ended."),
        ([STEP, Retrying(T0, 1, 1, BROKE, NOW + timedelta(seconds=30))],
         "is tried again at 2026-01-01 00:05:30 UTC, in 30s: attempt 2, after OSError: no route."),
        ([STEP, Attempted(T0, 1, 3)], "Step 'charge' (operation 1) began 5m ago, attempt 3, and has not ended."),
        ([STEP, Attempted(T0, 1, 3)], "The attempt before was lost with its worker."),
        ([STEP, HandedOut(T0, (1,))], "to workers that serve the queue of runs"),
        ([STEP, HandedOut(NOW, (1,), ("gpu",))], "Step 'charge' (operation 1) was dispatched 0s ago, attempt 1"),
        ([STEP, HandedOut(NOW, (1,), ("gpu",))], "that serve the queue 'gpu'; it waits while there are none."),
        ([CHILD, ChildContinued(T0, 1, "r.1~2")], "It has waited for its child r.1~2 of workflow 'invoice'"),
        ([Requested(T0, StartTimer(1, "sleep", 3600.0))], "it wakes at 2026-01-01 01:00:00 UTC, in 55m"),
        ([Requested(T0, StartTimer(1, "sleep", 60.0))], "as soon as a worker looks (it was due at 2026-01-01 00:01:00"),
        ([HOOK], "Hook 'approval' (operation 1) has waited for a payload for 5m, and gives up at 2026-01-01"),
        ([MANY, Received(T0, 1, "hi")], "Hook 'chat' (operation 1) has waited for payloads"),
        ([CHILD], "It has waited for its child r.1 of workflow 'invoice' (operation 1) for 5m; that one is running."),
        ([STEP, CancelRequested(T0, "too late", NOW + timedelta(minutes=1))],
         "It was asked to stop 5m ago: too late, and cleans up."),
        ([STEP, Completed(T0, 1, 1)], "Nothing that it asked for is open"),
        ([HOOK, Received(T0, 1, "yes")], "Nothing that it asked for is open"),
    ],
)  # fmt: skip
def test_a_run_under_way_says_what_it_waits_for(events: list[Event], sentence: str) -> None:
    known = {"r.1": Run("r.1", "invoice", T0)}
    said = explain(Run("r", "flow", T0), [STARTED, *events], NOW, known)
    assert any(sentence in one for one in said), said
    assert "worker that knows workflow 'flow'" in said[-1] or "any other that knows workflow 'flow'" in said[-1]


def test_many_children_are_counted_and_the_odd_ones_named() -> None:
    asked = [Requested(T0, StartChild(op, "invoice", [], {})) for op in range(1, 201)]
    known = {f"r.{op}": Run(f"r.{op}", "invoice", T0) for op in range(1, 191)}
    known["r.7"] = evolve(known["r.7"], status=Status.BLOCKED)
    said = explain(Run("r", "flow", T0), [STARTED, *asked], NOW, known)
    assert said[0] == (
        "It has waited for 200 children of workflow 'invoice' for 5m: 189 running, 1 blocked (r.7), 10 not there yet."
    )
    assert len(said) == 2


def test_many_calls_of_a_step_are_counted() -> None:
    asked = [Requested(T0, CallStep(op, "charge", [], {})) for op in range(1, 101)]
    said = explain(Run("r", "flow", T0), [STARTED, *asked], NOW)
    assert said[0] == "100 calls of step 'charge' have not ended; the first began 5m ago."


def test_a_blocked_child_is_pointed_at() -> None:
    known = {"r.1": Run("r.1", "invoice", T0, Status.BLOCKED)}
    said = explain(Run("r", "flow", T0), [STARTED, CHILD], NOW, known)
    assert any("that one is blocked, and `pyworkflow runs explain r.1` says why." in one for one in said)


def test_a_blocked_run_that_was_cancelled_says_how_to_end_it() -> None:
    events = [STARTED, STEP, RunBlocked(T0, BROKE), CancelRequested(T0, "enough")]
    said = explain(Run("r", "flow", T0, Status.BLOCKED), events, NOW)
    assert said[-1] == (
        "It was asked to stop 5m ago: enough. A retry lets it clean up, if it can; "
        "`pyworkflow runs terminate r` ends it as it is."
    )


def test_a_failed_run_says_what_it_undid() -> None:
    undo = Requested(T0, CallStep(2, "release", [], {}))
    events = [STARTED, STEP, Failed(T0, 1, BROKE), undo, Completed(T0, 2, None), RunFailed(T0, BROKE, 1)]
    said = explain(Run("r", "flow", T0, Status.FAILED), events, NOW)
    assert said[-1] == "Since that failure it ran release; a retry does not undo that."


@pytest.mark.parametrize(
    "end, status, sentences",
    [
        (RunCompleted(T0, 1), Status.COMPLETED, ["It completed at 2026-01-01 00:00:00 UTC."]),
        (RunFailed(T0, BROKE, 1), Status.FAILED,
         ["It failed at 2026-01-01 00:00:00 UTC with OSError: no route, from 'charge' (operation 1).",
          "`pyworkflow runs retry r`"]),
        (RunCancelled(T0), Status.CANCELLED, ["It was cancelled"]),
        (RunTerminated(T0, "enough"), Status.TERMINATED, ["terminated at 2026-01-01 00:00:00 UTC: enough."]),
        (RunContinued(T0, "r~2", [], {}), Status.CONTINUED, ["It goes on as run r~2."]),
        (RunBlocked(T0, BROKE), Status.BLOCKED, ["no route", "`pyworkflow runs retry r` lets it go on"]),
    ],
    ids=lambda value: getattr(value, "value", ""),
)  # fmt: skip
def test_a_run_that_ended_says_how(end: Event, status: Status, sentences: list[str]) -> None:
    said = explain(Run("r", "flow", T0, status), [STARTED, STEP, end], NOW)
    for sentence in sentences:
        assert any(sentence in one for one in said), said


def test_the_causes_of_a_failure_are_said() -> None:
    error: Any = LookupError("no order")
    error.__cause__ = OSError("no route")
    said = explain(Run("r", "flow", T0, Status.FAILED), [STARTED, RunFailed(T0, record_of(error))], NOW)
    assert "That was caused by OSError: no route." in said


def test_what_the_workflow_says_comes_first() -> None:
    said = explain(Run("r", "flow", T0, attributes={"status": "packing"}), [STARTED, STEP], NOW)
    assert said[0] == "Its workflow says: packing."


def test_only_children_that_are_waited_for_are_named() -> None:
    detached = Requested(T0, StartChild(2, "mail", [], {}, detached=True))
    assert open_children_of(Run("r", "flow", T0), [STARTED, CHILD, detached]) == {1: "r.1"}


# -- the log -------------------------------------------------------------------------------


@step(name="log.speak")
async def speak() -> None:
    logger.info("in the step")


@workflow(name="log.flow")
async def flow() -> None:
    logger.info("begins")
    await speak()
    logger.info("sleeps")
    await sleep("20ms")
    await asyncio.gather(sleep("20ms"), speak())
    logger.info("ends")


@pytest.mark.asyncio
@pytest.mark.parametrize("runtime", ["local", "local?kept=0&sweep=50ms&lease=1s"], ids=["kept", "rebuilt"])
async def test_a_line_of_a_workflow_is_logged_once(caplog: pytest.LogCaptureFixture, runtime: str) -> None:
    caplog.set_level(logging.INFO, "pyworkflow.run")
    async with App(storage=MemoryStorage(), default_durable=True, default_runtime=runtime) as app:
        handle = await app.start(flow)
        await handle.result("20s")
    assert [record.message for record in caplog.records] == [
        "begins", "in the step", "sleeps", "in the step", "ends",
    ]  # fmt: skip
    assert {record.run_id for record in caplog.records} == {handle.id}
    assert [getattr(record, "step", None) for record in caplog.records][1] == "log.speak"


@pytest.mark.asyncio
async def test_a_line_of_a_transient_run_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pyworkflow.run")
    async with App(default_durable=False) as app:
        await app.call(flow)
    assert len(caplog.records) == 5
