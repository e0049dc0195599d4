"""What a history tells of each operation, for `runs show`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pyworkflow.cli.view.timeline import Phase, State, timeline
from pyworkflow.codec.exceptions import record_of
from pyworkflow.events import (
    Attempted,
    CallStep,
    Completed,
    Event,
    HandedOut,
    OpenHook,
    Received,
    Requested,
    RunBlocked,
    RunRetried,
    RunStarted,
    StartTimer,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


STARTED = RunStarted(T0, "flow", [], {}, "seed")
STEP = Requested(T0, CallStep(1, "print", [], {}))
BROKE = record_of(OSError("no route"))


@pytest.mark.parametrize(
    "events, state, phases",
    [
        ([STEP], State.RUNNING, [Phase.WORKING]),
        ([STEP, HandedOut(T0, (1,), ("gpu",))], State.DISPATCHED, [Phase.WAITING]),
        ([STEP, HandedOut(T0, (1,)), Attempted(at(5), 1, 2)], State.DISPATCHED, [Phase.LOST, Phase.WAITING]),
        ([STEP, HandedOut(T0, (1,)), Completed(at(5), 1, 0)], State.DONE, [Phase.WORKING]),
        ([STEP, HandedOut(T0, (1,)), RunBlocked(at(4), BROKE), RunRetried(at(5))], State.RUNNING, None),
        ([Requested(T0, StartTimer(1, "sleep", 60.0))], State.SLEEPING, [Phase.WAITING]),
        ([Requested(T0, OpenHook(1, "ask", "digest"))], State.WAITING, [Phase.WAITING]),
        ([Requested(T0, OpenHook(1, "ask", "digest")), Received(at(3), 1, "yes")], State.DONE, [Phase.WAITING]),
    ],
    ids=["step", "handed out", "lost there", "done there", "taken back", "timer", "hook", "told"],
)
def test_an_operation_is_where_its_history_says(events: list[Event], state: State, phases: Any) -> None:
    (row,) = timeline([STARTED, *events], at(10)).rows
    assert row.state is state
    if phases is not None:
        assert [segment.phase for segment in row.segments] == phases
