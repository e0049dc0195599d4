"""Events as JSON text, the form in which every storage keeps them.

``{"spec":1,"events":[{"at":"2026-01-01T00:00:00+00:00","op":1,"value":42,"type":"completed"}]}``, in ASCII. Fields that
have their default are left out. Readers take every spec up to their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from cattrs import Converter
from cattrs.strategies import configure_tagged_union

from pyworkflow.codec.json_text import cut, dumps_plain, loads_plain, pieces, quote
from pyworkflow.errors import StorageError
from pyworkflow.events import (
    Abandoned,
    Attempted,
    CallStep,
    CancelRequested,
    ChildContinued,
    Command,
    Completed,
    Described,
    Event,
    Failed,
    Fired,
    HandedOut,
    OpenHook,
    Patched,
    Plain,
    Posted,
    Received,
    Requested,
    Retrying,
    RunBlocked,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunRetried,
    RunStarted,
    RunTerminated,
    StartChild,
    StartTimer,
)
from pyworkflow.model import StepCall

__all__ = ["SPEC", "dumps", "dumps_call", "dumps_plain", "loads", "loads_call", "loads_plain"]

SPEC = 1
"""The newest form of events that this version reads, and the one it writes."""


def dumps(events: Sequence[Event]) -> str:
    """Return *events* as JSON text."""
    texts = []
    for event in events:
        texts.append(_WRITERS[type(event)](event))  # noqa: PERF401 -- a comprehension is one call more
    return f'{{"spec":{SPEC},"events":[{",".join(texts)}]}}'


def loads(text: str | bytes) -> list[Event]:
    """Return the events of a JSON text that `dumps` wrote, now or in an earlier version.

    Raises:
        StorageError: The text is damaged, or a newer version wrote it.
    """
    data = loads_plain(text)
    if type(data) is not dict or type(data.get("spec")) is not int:
        raise StorageError(f"damaged events: no spec in {cut(text)}")
    if data["spec"] > SPEC:
        raise StorageError(f"written by a newer pyworkflow (spec {data['spec']}; this one reads up to {SPEC})")
    try:
        return [_READERS[event["type"]](event) for event in data["events"]]
    except KeyError as error:
        raise StorageError(f"damaged events: {error} is missing or unknown in {cut(text)}") from None
    except Exception as error:  # noqa: BLE001 -- the text can be anything, and so can the complaint
        raise StorageError(f"damaged events: {error} in {cut(text)}") from None


def dumps_call(call: StepCall | None) -> str | None:
    """Return the call of a dispatched step as JSON text, the form in which every storage keeps it; None stays None."""
    return None if call is None else dumps_plain([call.name, call.args, call.kwargs, call.attempt])


def loads_call(text: str | bytes | None) -> StepCall | None:
    """Return the call in a JSON text that `dumps_call` wrote.

    Raises:
        StorageError: The text is damaged.
    """
    if text is None:
        return None
    data = loads_plain(text)
    if type(data) is not list or [type(part) for part in data] != [str, list, dict, int]:
        raise StorageError(f"damaged call of a step: {cut(text)}")
    return StepCall(*data)


# -- what is stored as what ----------------------------------------------------------

EVENT_NAMES: dict[type[Event], str] = {
    RunStarted: "run_started",
    Requested: "requested",
    Completed: "completed",
    Failed: "failed",
    Fired: "fired",
    Received: "received",
    Posted: "posted",
    Patched: "patched",
    Described: "described",
    Abandoned: "abandoned",
    ChildContinued: "child_continued",
    HandedOut: "handed_out",
    Attempted: "attempted",
    Retrying: "retrying",
    CancelRequested: "cancel_requested",
    RunCompleted: "run_completed",
    RunFailed: "run_failed",
    RunCancelled: "run_cancelled",
    RunTerminated: "run_terminated",
    RunContinued: "run_continued",
    RunBlocked: "run_blocked",
    RunRetried: "run_retried",
}
"""The name under which each event is stored, its ``"type"``. A class may be renamed; its name here never changes."""

COMMAND_NAMES: dict[type[Command], str] = {
    CallStep: "step",
    StartTimer: "timer",
    OpenHook: "hook",
    StartChild: "child",
}
"""The name under which each command is stored, its ``"kind"``; the same holds."""


# -- the converter -------------------------------------------------------------------


def _is_plain(cls: Any) -> bool:
    return cls is Plain


def _read_time(value: Any, _: Any) -> datetime:
    at = datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    return at


def _exactly(*kinds: type) -> Callable[[Any, Any], Any]:
    def read(value: Any, _: Any) -> Any:
        if type(value) not in kinds:
            raise TypeError(f"{value!r:.40} is no {kinds[0].__name__}")
        return value

    return read


def _converter() -> Converter:
    converter = Converter(omit_if_default=True, detailed_validation=False)
    converter.register_unstructure_hook_func(_is_plain, lambda value: value)
    converter.register_structure_hook_func(_is_plain, lambda value, _: value)
    converter.register_unstructure_hook(datetime, datetime.isoformat)
    converter.register_structure_hook(datetime, _read_time)
    converter.register_structure_hook(float, _exactly(float, int))
    for kind in (bool, int, str):
        converter.register_structure_hook(kind, _exactly(kind))
    configure_tagged_union(Command, converter, tag_name="kind", tag_generator=COMMAND_NAMES.__getitem__)
    configure_tagged_union(Event, converter, tag_name="type", tag_generator=EVENT_NAMES.__getitem__)
    return converter


_events = _converter()
_write: Callable[[Any], Any] = _events.get_unstructure_hook(Event)


def _reader(cls: type[Event]) -> Callable[[Any], Event]:
    read: Callable[[Any, Any], Event] = _events.get_structure_hook(cls)
    return lambda data: read(data, cls)


_read_any_requested = _reader(Requested)


# -- the events of every step and timer, by hand: they are what a run is made of -----------------------


def _write_completed(event: Completed) -> str:
    value = "".join(pieces(event.value, 0))
    return f'{{"at":"{event.at.isoformat()}","op":{event.op},"value":{value},"type":"completed"}}'


def _write_requested(event: Requested) -> str:
    command = event.command
    if type(command) is not CallStep:
        return _write_any(event)
    args = "".join(pieces(command.args, 0))
    kwargs = "".join(pieces(command.kwargs, 0)) if command.kwargs else "{}"
    return (
        f'{{"at":"{event.at.isoformat()}","command":{{"op":{command.op},"name":{quote(command.name)},'
        f'"args":{args},"kwargs":{kwargs},"kind":"step"}},"type":"requested"}}'
    )


def _write_fired(event: Fired) -> str:
    return f'{{"at":"{event.at.isoformat()}","op":{event.op},"type":"fired"}}'


def _write_run_completed(event: RunCompleted) -> str:
    value = "".join(pieces(event.value, 0))
    return f'{{"at":"{event.at.isoformat()}","value":{value},"type":"run_completed"}}'


def _read_fired(data: Any) -> Fired:
    return Fired(_read_time(data["at"], None), _whole(data["op"]))


def _read_completed(data: Any) -> Completed:
    return Completed(_read_time(data["at"], None), _whole(data["op"]), data["value"])


def _read_requested(data: Any) -> Event:
    command = data["command"]
    if command["kind"] != COMMAND_NAMES[CallStep]:
        return _read_any_requested(data)
    op, name = _whole(command["op"]), command["name"]
    if type(name) is not str:
        raise TypeError(f"{name!r:.40} is no str")
    step = CallStep(op, name, command["args"], command["kwargs"])
    return Requested(_read_time(data["at"], None), step)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r:.40} is no int")
    return value


def _write_any(event: Any) -> str:
    return dumps_plain(_write(event))


_WRITERS: dict[type, Callable[[Any], str]] = {
    **dict.fromkeys(EVENT_NAMES, _write_any),
    Completed: _write_completed,
    Requested: _write_requested,
    Fired: _write_fired,
    RunCompleted: _write_run_completed,
}
_READERS: dict[str, Callable[[Any], Event]] = {
    **{name: _reader(cls) for cls, name in EVENT_NAMES.items()},
    "completed": _read_completed,
    "requested": _read_requested,
    "fired": _read_fired,
}
