"""Steps, and machines whose operations are answered one after another, for the tests of the machine."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from pyworkflow.authoring.context import workflow_context
from pyworkflow.codec.exceptions import record_of
from pyworkflow.events import (
    RULES,
    Command,
    Completed,
    Event,
    Failed,
    Fired,
    OpenHook,
    Received,
    Requested,
    RunStarted,
    StartTimer,
)
from pyworkflow.replay.machine import Machine

T0 = datetime(2026, 1, 1, tzinfo=UTC)
STARTED = RunStarted(T0, "flow", [], {}, "seed", rules=RULES)


class _Signature:
    def keeps_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        return not kwargs

    def encode_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        return list(args), dict(kwargs)

    def keeps_result(self, value: Any) -> bool:
        return True


class _Step:
    """As much of a step as the machine needs."""

    def signature_for(self, codec: Any) -> Any:
        return _Signature()

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        return workflow_context.get().call_step(self, args, kwargs)


a, b, c, d = (_Step(name) for name in "abcd")


def machine(flow: Callable[[], Coroutine[Any, Any, Any]]) -> Machine:
    return Machine(lambda _args, _kwargs: flow(), "run-1")


def play(flow: Callable[[], Coroutine[Any, Any, Any]], answers: dict[int, Any] | None = None) -> list[Event]:
    """Answer the oldest open operation again and again until the workflow ends; return the history."""
    history: list[Event] = []
    m, news = machine(flow), [STARTED]
    for second in range(1, 200):
        at = T0 + timedelta(seconds=second)
        requests = [Requested(at, command) for command in m.feed(news)]
        m.feed(requests)
        history += [*news, *requests]
        if outcome := m.outcome(at):
            history.append(outcome)
            break
        op, pending = min(m.pending.items())
        answer = (answers or {}).get(op, op)
        if isinstance(pending.command, OpenHook):
            news = [Received(at, op, answer)]
        elif isinstance(pending.command, StartTimer):
            news = [Fired(pending.command.fires_at(pending.at), op)]
        elif isinstance(answer, Exception):
            news = [Failed(at, op, record_of(answer))]
        else:
            news = [Completed(at, op, answer)]
    m.close()
    return history


def asked(history: list[Event]) -> list[Command]:
    return [event.command for event in history if isinstance(event, Requested)]
