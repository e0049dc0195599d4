"""Events as JSON text, the form in which every storage keeps them.

``{"spec":1,"events":[{"at":"2026-01-01T00:00:00+00:00","op":1,"value":42,"type":"completed"}]}``, in ASCII. Fields that
have their default are left out. Readers take every spec up to their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from cattrs import Converter
from cattrs.strategies import configure_tagged_union

from pyworkflow.errors import StorageError
from pyworkflow.model import CallStep, Command, Completed, Event, Fired, Requested, RunCompleted
from pyworkflow.plain import Plain

SPEC = 1
"""The newest form of events that this version reads, and the one it writes."""

_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)
_parse_from = json.JSONDecoder().raw_decode
_quote = json.encoder.encode_basestring_ascii


def _made_once() -> Callable[[Any], str]:
    """Return what encodes; `json.JSONEncoder.encode` makes it anew for each call, which takes as long as the rest."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # an interpreter without the C part
        return _encoder.encode
    encode = make(None, _encoder.default, _quote, None, ":", ",", *(False, False, False))  # sort, skip, allow NaN
    return lambda value: "".join(encode(value, 0))


_dump = _made_once()


def dumps(events: Sequence[Event]) -> str:
    """Return *events* as JSON text."""
    texts = [write(event) if (write := _WRITERS.get(type(event))) else _dump(_write(event)) for event in events]
    return f'{{"spec":{SPEC},"events":[{",".join(texts)}]}}'


def loads(text: str | bytes) -> list[Event]:
    """Return the events of a JSON text that `dumps` wrote, now or in an earlier version.

    Raises:
        StorageError: The text is damaged, or a newer version wrote it.
    """
    data = _parse(text)
    if type(data) is not dict or type(data.get("spec")) is not int:
        raise StorageError(f"damaged events: no spec in {_cut(text)}")
    if data["spec"] > SPEC:
        raise StorageError(f"written by a newer pyworkflow (spec {data['spec']}; this one reads up to {SPEC})")
    try:
        return [
            read(event) if (read := _READERS.get(event["type"])) else _read(event, Event) for event in data["events"]
        ]
    except KeyError as error:
        raise StorageError(f"damaged events: {error} is missing or unknown in {_cut(text)}") from None
    except Exception as error:  # noqa: BLE001 -- the text can be anything, and so can the complaint
        raise StorageError(f"damaged events: {error} in {_cut(text)}") from None


def dumps_plain(plain: Plain) -> str:
    """Return *plain* as JSON text, such as the data of a job."""
    return _dump(plain)


def loads_plain(text: str | bytes) -> Plain:
    """Return what `dumps_plain` wrote.

    Raises:
        StorageError: The text is damaged.
    """
    return cast("Plain", _parse(text))


def _parse(text: str | bytes) -> Any:
    try:
        text = text if isinstance(text, str) else text.decode()
        data, end = _parse_from(text)  # what `decode` does beside this is about white space
    except (ValueError, RecursionError) as error:
        raise StorageError(f"damaged JSON: {error} in {_cut(text)}") from None
    if end != len(text):
        raise StorageError(f"damaged JSON: extra data at character {end} in {_cut(text)}")
    return data


def _cut(text: str | bytes) -> str:
    return repr(text[:80])


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
_read: Callable[[Any, Any], Any] = _events.get_structure_hook(Event)


# -- the events of every step and timer, by hand: they are what a run is made of -----------------------


def _text(value: Plain) -> str:
    kind = type(value)
    if kind is int:
        return int.__repr__(value)
    return _quote(value) if kind is str else _dump(value)


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
        return _dump(_write(event))
    kwargs = _dump(command.kwargs) if command.kwargs else "{}"
    return (
        f'{{"at":"{_time(event.at)}","command":{{"op":{command.op},"name":{_quote(command.name)},'
        f'"args":{_dump(command.args)},"kwargs":{kwargs},"kind":"step"}},"type":"requested"}}'
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
        return cast("Event", _read(data, Event))
    op, name = _whole(command["op"]), command["name"]
    if type(name) is not str:
        raise TypeError(f"{name!r:.40} is no str")
    step = CallStep(op, name, command["args"], command["kwargs"])
    return Requested(_read_time(data["at"], None), step)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r:.40} is no int")
    return value


_WRITERS: dict[type, Callable[[Any], str]] = {
    Completed: _write_completed,
    Requested: _write_requested,
    Fired: _write_fired,
    RunCompleted: _write_run_completed,
}
_READERS: dict[str, Callable[[Any], Event]] = {
    "completed": _read_completed,
    "requested": _read_requested,
    "fired": _read_fired,
}
