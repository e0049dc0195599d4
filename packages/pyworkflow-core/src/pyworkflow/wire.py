"""Events as JSON text, the form in which every storage keeps them.

``{"spec":1,"events":[{"at":"2026-01-01T00:00:00+00:00","op":1,"value":42,"type":"completed"}]}``, in ASCII. Fields that
have their default are left out. Readers take every spec up to their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast, get_args

from cattrs import Converter
from cattrs.strategies import configure_tagged_union

from pyworkflow.codec.json_text import cut, dumps_plain, loads_plain, quote
from pyworkflow.errors import StorageError
from pyworkflow.events import CallStep, Command, Completed, Event, Fired, Plain, Requested, RunCompleted

__all__ = ["SPEC", "dumps", "dumps_plain", "loads", "loads_plain"]

SPEC = 1
"""The newest form of events that this version reads, and the one it writes."""


def dumps(events: Sequence[Event]) -> str:
    """Return *events* as JSON text."""
    texts = ",".join([_WRITERS[type(event)](event) for event in events])
    return f'{{"spec":{SPEC},"events":[{texts}]}}'


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


# -- the converter -------------------------------------------------------------------


def _tag_of_event(cls: type) -> str:
    return re.sub(r"(?<=.)([A-Z])", r"_\1", cls.__name__).lower()


def _tag_of_command(cls: Any) -> str:
    return cast("str", cls.kind)


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
    configure_tagged_union(Command, converter, tag_name="kind", tag_generator=_tag_of_command)
    configure_tagged_union(Event, converter, tag_name="type", tag_generator=_tag_of_event)
    return converter


_events = _converter()
_write: Callable[[Any], Any] = _events.get_unstructure_hook(Event)


def _reader(cls: type[Event]) -> Callable[[Any], Event]:
    read: Callable[[Any, Any], Event] = _events.get_structure_hook(cls)
    return lambda data: read(data, cls)


_read_any_requested = _reader(Requested)


# -- the events of every step and timer, by hand: they are what a run is made of -----------------------


def _text(value: Plain) -> str:
    kind = type(value)
    if kind is int:
        return int.__repr__(value)
    return quote(value) if kind is str else dumps_plain(value)


_EPOCH = datetime.fromtimestamp(0, UTC)
_lately: list[tuple[datetime, str]] = [(_EPOCH, _EPOCH.isoformat())]


def _time(at: datetime) -> str:
    known, text = _lately[0]
    if known is not at:  # a result and the request of the next step have one
        text = at.isoformat()
        _lately[0] = at, text
    return text


def _write_completed(event: Completed) -> str:
    return f'{{"at":"{_time(event.at)}","op":{event.op},"value":{_text(event.value)},"type":"completed"}}'


def _write_requested(event: Requested) -> str:
    command = event.command
    if type(command) is not CallStep:
        return _write_any(event)
    kwargs = dumps_plain(command.kwargs) if command.kwargs else "{}"
    return (
        f'{{"at":"{_time(event.at)}","command":{{"op":{command.op},"name":{quote(command.name)},'
        f'"args":{dumps_plain(command.args)},"kwargs":{kwargs},"kind":"step"}},"type":"requested"}}'
    )


def _write_fired(event: Fired) -> str:
    return f'{{"at":"{_time(event.at)}","op":{event.op},"type":"fired"}}'


def _write_run_completed(event: RunCompleted) -> str:
    return f'{{"at":"{_time(event.at)}","value":{_text(event.value)},"type":"run_completed"}}'


def _read_fired(data: Any) -> Fired:
    return Fired(_read_time(data["at"], None), _whole(data["op"]))


def _read_completed(data: Any) -> Completed:
    return Completed(_read_time(data["at"], None), _whole(data["op"]), data["value"])


def _read_requested(data: Any) -> Event:
    command = data["command"]
    if command["kind"] != CallStep.kind:
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
    **dict.fromkeys(get_args(Event), _write_any),
    Completed: _write_completed,
    Requested: _write_requested,
    Fired: _write_fired,
    RunCompleted: _write_run_completed,
}
_READERS: dict[str, Callable[[Any], Event]] = {
    **{_tag_of_event(cls): _reader(cls) for cls in get_args(Event)},
    "completed": _read_completed,
    "requested": _read_requested,
    "fired": _read_fired,
}
