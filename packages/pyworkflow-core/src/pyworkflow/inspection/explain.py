"""Why a run is where it is, in sentences: what it waits for, since when, who will wake it, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from pyworkflow.config.durations import text as duration
from pyworkflow.events import (
    CallStep,
    CancelRequested,
    ErrorRecord,
    Event,
    Failed,
    OpenHook,
    Requested,
    RunBlocked,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunTerminated,
    StartChild,
    StartTimer,
)
from pyworkflow.ids import child_id
from pyworkflow.inspection.operations import Operation, Outcome, fold
from pyworkflow.model import Run, Status
from pyworkflow.replay.history import effective

_FEW = 4
"""So many operations of one kind have a sentence each."""


def open_children_of(run: Run, events: Sequence[Event]) -> dict[int, str]:
    """Return the ids of the children that a run waits for, by operation."""
    return {
        op: _child(run, op, one)
        for op, one in fold(effective(events)).open().items()
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
        yield from _end(
            run, end, {event.command.op: event.command.name for event in events if isinstance(event, Requested)}
        )
        yield from _since_the_end(run, events, end, now)
        return
    story = fold(effective(events))
    found = story.open()
    if story.cancellations:
        cancel = story.cancellations[0]
        why = f": {cancel.reason}" if cancel.reason else ""
        yield f"It was asked to stop {_ago(cancel.at, now)}{why}, and cleans up."
        if cancel.deadline is not None:
            yield f"It is terminated {_when(cancel.deadline, now)} if it has not ended by then."
    if not found:
        last = f"; the last thing that happened was {_ago(events[-1].at, now)}" if events else ""
        yield f"Nothing that it asked for is open, so a worker has yet to go on with it{last}."
    for ops in _alike(found):
        if len(ops) > _FEW:
            yield _wait_for_many(run, [(op, found[op]) for op in ops], now, children)
        else:
            for op in ops:
                yield from _waits(run, op, found[op], now, children)
    if any(one.is_running for one in found.values()):
        who = f"any other that knows workflow {run.workflow!r}"
        yield f"Should its worker be gone, {who} takes over, once the lease of that one has lapsed."
    else:
        yield f"Any worker that knows workflow {run.workflow!r} goes on with it."


def _since_the_end(run: Run, events: Sequence[Event], end: Event, now: datetime) -> Iterator[str]:
    asked = next((event for event in events[events.index(end) :] if isinstance(event, CancelRequested)), None)
    if isinstance(end, RunBlocked) and asked is not None:
        why = f": {asked.reason}" if asked.reason else ""
        yield (
            f"It was asked to stop {_ago(asked.at, now)}{why}. A retry lets it clean up, if it can; "
            f"`pyworkflow runs terminate {run.id}` ends it as it is."
        )
    if isinstance(end, RunFailed) and (later := since_failure(events)):
        yield f"Since that failure it ran {later}; a retry does not undo that."


def _alike(found: Mapping[int, Operation]) -> list[list[int]]:
    """Return the operations, those together that are waited for in the same way."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for op, one in sorted(found.items()):
        many = isinstance(one.command, StartChild) or one.is_running
        groups.setdefault((type(one.command), one.command.name) if many else (op,), []).append(op)
    return [*groups.values()]


def _wait_for_many(run: Run, found: Sequence[tuple[int, Operation]], now: datetime, children: Mapping[str, Run]) -> str:
    _, first = found[0]
    since, name = _for(min(one.since for _, one in found), now), first.command.name
    if isinstance(first.command, CallStep):
        return f"{len(found)} calls of step {name!r} have not ended; the first began {since} ago."
    doing: dict[str, list[str]] = {}
    for op, one in found:
        child = _child(run, op, one)
        status = children[child].status.value if child in children else "not there yet"
        doing.setdefault(status, []).append(child)
    words = [
        f"{len(ids)} {status}" + (f" ({', '.join(ids)})" if len(ids) <= _FEW else "") for status, ids in doing.items()
    ]
    return f"It has waited for {len(found)} children of workflow {name!r} for {since}: {', '.join(words)}."


def _child(run: Run, op: int, one: Operation) -> str:
    given = one.command.run_id if isinstance(one.command, StartChild) else ""
    return one.continued_as or given or child_id(run.id, op)


def since_failure(events: Sequence[Event]) -> str:
    """Return the names of what was asked for after the failure that ended a run, to undo things or to clean up."""
    end = events[-1] if events and isinstance(events[-1], RunFailed) else None
    failed = [n for n, event in enumerate(events) if end and isinstance(event, Failed) and event.op == end.op]
    later = [event.command.name for event in events[failed[-1] :] if isinstance(event, Requested)] if failed else []
    return ", ".join(dict.fromkeys(later))


def _waits(run: Run, op: int, one: Operation, now: datetime, children: Mapping[str, Run]) -> Iterator[str]:
    match one.command:
        case CallStep(name=name):
            before = one.before
            number = one.attempts[-1].number
            if one.due is not None:
                wrong = "" if before is None or before.error is None else f", after {error_text(before.error)}"
                yield f"Step {name!r} (operation {op}) is tried again {_when(one.due, now)}: attempt {number}{wrong}."
                return
            since = _for(one.since, now)
            if one.queue is None:
                yield f"Step {name!r} (operation {op}) began {since} ago, attempt {number}, and has not ended."
            else:
                yield (
                    f"Step {name!r} (operation {op}) was dispatched {since} ago, attempt {number}, as a job of its "
                    f"own, to workers that serve {_queue(one.queue)}; it waits while there are none."
                )
            if before is not None and before.outcome is Outcome.LOST:
                yield "The attempt before was lost with its worker."
        case StartTimer() as timer:
            wakes = _when(timer.fires_at(one.since), now)
            yield f"It sleeps (operation {op}); it wakes {wakes}, by whatever worker there is."
        case OpenHook(name=name, many=many) as hook:
            expires = hook.fires_at(one.since)
            until = "" if expires is None else f", and gives up {_when(expires, now)}"
            what = "payloads" if many else "a payload"
            yield (
                f"Hook {name!r} (operation {op}) has waited for {what} for {_for(one.since, now)}{until}; "
                "whoever has its token wakes it, by `pyworkflow hooks resume` or resume_hook()."
            )
        case StartChild(name=name, detached=False):
            child = _child(run, op, one)
            known = children.get(child)
            doing = "not there yet" if known is None else known.status.value
            if known is not None and known.status is Status.BLOCKED:
                doing += f", and `pyworkflow runs explain {child}` says why"
            since = _for(one.since, now)
            which = f"its child {child} of workflow {name!r} (operation {op})"
            yield f"It has waited for {which} for {since}; that one is {doing}."
        case StartChild(name=name):
            yield f"It starts a run of workflow {name!r} (operation {op})."


def _queue(name: str) -> str:
    return f"the queue {name!r}" if name else "the queue of runs"


_ENDS = (RunCompleted, RunFailed, RunCancelled, RunTerminated, RunContinued, RunBlocked)


def _end(run: Run, end: Event, names: Mapping[int, str]) -> Iterator[str]:
    match end:
        case RunCompleted(at=at):
            yield f"It completed at {at:%Y-%m-%d %H:%M:%S %Z}."
        case RunFailed(at=at, error=error, op=op):
            of = "" if op is None else f", from {names.get(op, '')!r} (operation {op})"
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
