"""Why a run is where it is, in sentences: what it waits for, since when, who will wake it, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from attrs import define, field

from pyworkflow._history import effective
from pyworkflow.durations import text as duration
from pyworkflow.ids import child_id
from pyworkflow.model import (
    Abandoned,
    Attempted,
    CallStep,
    CancelRequested,
    ChildContinued,
    Command,
    Completed,
    ErrorRecord,
    Event,
    Failed,
    Fired,
    HandedOut,
    OpenHook,
    Received,
    Requested,
    Retrying,
    Run,
    RunBlocked,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunTerminated,
    StartChild,
    StartTimer,
    Status,
)


@define
class _Open:
    """An operation that is not answered."""

    command: Command
    since: datetime
    attempt: int = 1
    due: datetime | None = None
    error: ErrorRecord | None = None
    away: bool = False
    goes_on: str = ""


@define
class _State:
    """What a history says of the present."""

    open: dict[int, _Open] = field(factory=dict)
    cancel: CancelRequested | None = None

    def see(self, event: Event) -> None:
        match event:
            case Requested(at=at, command=command):
                self.open[command.op] = _Open(command, at)
            case Completed(op=op) | Failed(op=op) | Fired(op=op) | Abandoned(op=op):
                self.open.pop(op, None)
            case Received(op=op) if op in self.open:
                command = self.open[op].command
                if not (isinstance(command, OpenHook) and command.many):
                    del self.open[op]
            case ChildContinued(op=op, run_id=run_id) if op in self.open:
                self.open[op].goes_on = run_id
            case Retrying(op=op) | Attempted(op=op) if op in self.open:
                self._again(self.open[op], event)
            case HandedOut(ops=ops):
                for op in ops:
                    if op in self.open:
                        self.open[op].away = True
            case CancelRequested():
                self.cancel = self.cancel or event
            case _:
                pass

    def _again(self, one: _Open, event: Retrying | Attempted) -> None:
        if isinstance(event, Retrying):
            one.attempt, one.due, one.error = event.attempt + 1, event.due, event.error
        else:
            one.attempt, one.due, one.since = event.attempt, None, event.at


def open_children_of(run: Run, events: Sequence[Event]) -> dict[int, str]:
    """Return the ids of the children that a run waits for, by operation."""
    return {
        op: one.goes_on or one.command.run_id or child_id(run.id, op)
        for op, one in _seen(events).open.items()
        if isinstance(one.command, StartChild) and not one.command.detached
    }


def explain(run: Run, events: Sequence[Event], now: datetime, children: Mapping[str, Run] | None = None) -> list[str]:
    """Return sentences on why *run* is where it is.

    Args:
        run: The run.
        events: Its history.
        now: The time.
        children: What is known of the children it waits for, by id.
    """
    return list(_sentences(run, events, now, children or {}))


def _sentences(run: Run, events: Sequence[Event], now: datetime, children: Mapping[str, Run]) -> Iterator[str]:
    if said := run.attributes.get("status"):
        yield f"Its workflow says: {said}."
    end = next((event for event in reversed(events) if isinstance(event, _ENDS)), None)
    if run.status is not Status.RUNNING and end is not None:
        yield from _end(run, end)
        return
    state = _seen(events)
    if state.cancel is not None:
        why = f": {state.cancel.reason}" if state.cancel.reason else ""
        yield f"It was asked to stop {_ago(state.cancel.at, now)}{why}, and cleans up."
        if state.cancel.deadline is not None:
            yield f"It is terminated {_when(state.cancel.deadline, now)} if it has not ended by then."
    if not state.open:
        last = f"; the last thing that happened was {_ago(events[-1].at, now)}" if events else ""
        yield f"Nothing that it asked for is open, so a worker has yet to go on with it{last}."
    for op, one in sorted(state.open.items()):
        yield from _waits(run, op, one, now, children)
    yield f"Any worker that knows workflow {run.workflow!r} goes on with it."


def _waits(run: Run, op: int, one: _Open, now: datetime, children: Mapping[str, Run]) -> Iterator[str]:
    match one.command:
        case CallStep(name=name):
            if one.due is not None:
                wrong = "" if one.error is None else f", after {error_text(one.error)}"
                when = _when(one.due, now)
                yield f"Step {name!r} (operation {op}) is tried again {when}: attempt {one.attempt}{wrong}."
            else:
                away = ", as a job of its own, for any worker that serves its queue" if one.away else ""
                since = _for(one.since, now)
                yield f"Step {name!r} (operation {op}) has been under way for {since}: attempt {one.attempt}{away}."
                if one.error is not None:
                    yield f"The attempt before failed with {error_text(one.error)}."
        case StartTimer() as timer:
            wakes = _when(timer.fires_at(one.since), now)
            yield f"It sleeps (operation {op}); it wakes {wakes}, by whatever worker there is."
        case OpenHook(name=name, many=many) as hook:
            expires = hook.fires_at(one.since)
            until = "" if expires is None else f", and gives up {_when(expires, now)}"
            what = "payloads" if many else "a payload"
            yield (
                f"Hook {name!r} (operation {op}) has waited for {what} for {_for(one.since, now)}{until}; "
                "whoever has its token wakes it by resume_hook()."
            )
        case StartChild(name=name, run_id=given, detached=False):
            child = one.goes_on or given or child_id(run.id, op)
            known = children.get(child)
            doing = "not there yet" if known is None else known.status.value
            since = _for(one.since, now)
            which = f"its child {child} of workflow {name!r} (operation {op})"
            yield f"It has waited for {which} for {since}; that one is {doing}."
        case StartChild(name=name):
            yield f"It starts a run of workflow {name!r} (operation {op})."


_ENDS = (RunCompleted, RunFailed, RunCancelled, RunTerminated, RunContinued, RunBlocked)


def _end(run: Run, end: Event) -> Iterator[str]:
    match end:
        case RunCompleted(at=at):
            yield f"It completed at {at:%Y-%m-%d %H:%M:%S %Z}."
        case RunFailed(at=at, error=error, op=op):
            of = "" if op is None else f", of operation {op}"
            yield f"It failed at {at:%Y-%m-%d %H:%M:%S %Z} with {error_text(error)}{of}."
            yield from _causes(error)
            yield f"`pyworkflow runs retry {run.id}` does once more what failed; what was completed stays completed."
        case RunCancelled(at=at):
            yield f"It was cancelled, and had cleaned up at {at:%Y-%m-%d %H:%M:%S %Z}."
        case RunTerminated(at=at, reason=reason):
            yield f"It was terminated at {at:%Y-%m-%d %H:%M:%S %Z}{': ' + reason if reason else ''}."
        case RunContinued(run_id=run_id):
            yield f"It goes on as run {run_id}."
        case RunBlocked(at=at, error=error):
            yield f"It is blocked since {at:%Y-%m-%d %H:%M:%S %Z}: {error.message}."
            yield f"Nothing of it is lost. Once the cause is mended, `pyworkflow runs retry {run.id}` lets it go on."


def _causes(error: ErrorRecord) -> Iterator[str]:
    cause = error.cause
    while cause is not None:
        yield f"That was caused by {error_text(cause)}."
        cause = cause.cause


def _seen(events: Sequence[Event]) -> _State:
    state = _State()
    for event in effective(events):
        state.see(event)
    return state


def error_text(record: ErrorRecord) -> str:
    """Return an error's class and message."""
    name = record.type.rpartition(":")[2].rpartition(".")[2]
    return f"{name}: {record.message}" if record.message else name


def _for(at: datetime, now: datetime) -> str:
    return duration(max(0.0, (now - at).total_seconds()))


def _ago(at: datetime, now: datetime) -> str:
    return f"{_for(at, now)} ago"


def _when(at: datetime, now: datetime) -> str:
    seconds = (at - now).total_seconds()
    clock = f"{at:%Y-%m-%d %H:%M:%S %Z}"
    return (
        f"at {clock}, in {duration(seconds)}" if seconds > 0 else f"as soon as a worker looks (it was due at {clock})"
    )
