"""Events as JSON text, the form in which every storage keeps them.

``{"spec":1,"events":[{"type":"completed","at":"2026-01-01T00:00:00+00:00","op":1,"value":42}]}``, in ASCII. Fields that
have their default are left out. Readers take every spec up to their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import attrs

from pyworkflow.errors import StorageError
from pyworkflow.model import Command, ErrorRecord, Event, Plain

SPEC = 1
"""The newest form of events that this version reads, and the one it writes."""

_dump = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode
_load = json.JSONDecoder().decode

_Write = Callable[[Any], Any]
_Read = Callable[[Any], Any]


def dumps(events: Sequence[Event]) -> str:
    """Return *events* as JSON text."""
    return _dump({"spec": SPEC, "events": [_WRITERS[type(event)](event) for event in events]})


def loads(text: str | bytes) -> list[Event]:
    """Return the events of a JSON text that `dumps` wrote, now or in an earlier version.

    Raises:
        StorageError: The text is damaged, or a newer version wrote it.
    """
    data = _parse(text)
    if type(data) is not dict or type(data.get("spec")) is not int:
        raise StorageError(f"damaged events: no spec in {_cut(text)}")
    if data["spec"] > SPEC:
        msg = f"written by a newer pyworkflow (spec {data['spec']}; this one reads up to {SPEC}); upgrade it to read them"
        raise StorageError(msg)
    try:
        return [_READERS[event["type"]](event) for event in data["events"]]
    except KeyError as error:
        raise StorageError(f"damaged events: no {error}, or it is not known, in {_cut(text)}") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
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
        return _load(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError) as error:
        raise StorageError(f"damaged JSON: {error} in {_cut(text)}") from None


def _cut(text: str | bytes) -> str:
    return repr(text if len(text) <= 80 else text[:80])  # noqa: PLR2004


# -- the table of classes ------------------------------------------------------------
# Writing its own functions for each class is three times as fast as a general converter.


def _tag(cls: type) -> str:
    return getattr(cls, "kind", None) or re.sub(r"(?<=.)([A-Z])", r"_\1", cls.__name__).lower()


@cache
def _writer(cls: type, tag_key: str) -> _Write:
    """Compile ``def write(o): ...`` for *cls*; its dict begins with *tag_key*, if there is one."""
    scope: dict[str, Any] = {}
    always = [f"{tag_key!r}: {_tag(cls)!r}"] if tag_key else []
    sometimes = []
    hints = get_type_hints(cls)
    for field in attrs.fields(cls):
        hook = _write_hook(hints[field.name])
        scope[f"write_{field.name}"] = hook
        scope[f"default_{field.name}"] = field.default
        value = f"o.{field.name}"
        written = f"write_{field.name}({value})" if hook else value
        if field.default is attrs.NOTHING:
            always.append(f"{field.name!r}: {written}")
        else:
            sometimes.append(f" if {value} != default_{field.name}: d[{field.name!r}] = {written}")
    source = "\n".join(["def write(o):", f" d = {{{', '.join(always)}}}", *sometimes, " return d"])
    exec(source, scope)  # noqa: S102 -- made of the names of our own classes
    return cast("_Write", scope["write"])


@cache
def _reader(cls: type) -> _Read:
    """Compile ``def read(d): ...`` for *cls*."""
    scope: dict[str, Any] = {"cls": cls}
    arguments = []
    hints = get_type_hints(cls)
    for field in attrs.fields(cls):
        scope[f"read_{field.name}"] = _read_hook(hints[field.name])
        scope[f"default_{field.name}"] = field.default
        value = f"read_{field.name}(d[{field.name!r}])" if scope[f"read_{field.name}"] else f"d[{field.name!r}]"
        if field.default is not attrs.NOTHING:
            value += f" if {field.name!r} in d else default_{field.name}"
        arguments.append(value)
    exec(f"def read(d): return cls({', '.join(arguments)})", scope)  # noqa: S102 -- made of the names of our own classes
    return cast("_Read", scope["read"])


def _write_hook(tp: Any) -> _Write | None:
    """Return how a field of type *tp* is written; None: as it is."""
    if tp is datetime:
        return datetime.isoformat
    if _is_union(tp):
        members = [member for member in get_args(tp) if member is not NoneType]
        if all(map(attrs.has, members)) and len(members) > 1:
            return _write_command
        inner = _write_hook(members[0])
        return inner and (lambda value: None if value is None else inner(value))
    if get_origin(tp) is tuple:
        item = get_args(tp)[0]
        return lambda values: [_write_record(item, value) for value in values]
    return (lambda value: _write_record(tp, value)) if attrs.has(tp) else None


def _write_record(cls: Any, value: Any) -> Any:
    return _writer(cls, "")(value)


def _write_command(command: Any) -> Any:
    return _writer(type(command), "kind")(command)


def _read_hook(tp: Any) -> _Read | None:
    """Return how a field of type *tp* is read; None: as it is."""
    if tp is Plain or tp is Any:
        return None
    if tp is datetime:
        return _read_time
    if _is_union(tp):
        members = [member for member in get_args(tp) if member is not NoneType]
        if all(map(attrs.has, members)) and len(members) > 1:
            return _read_command
        inner = _read_hook(members[0])
        return inner and (lambda value: None if value is None else inner(value))
    if get_origin(tp) is tuple:
        item = get_args(tp)[0]
        return lambda values: tuple([_read_record(item, value) for value in _exactly(list, values)])
    if attrs.has(tp):
        return lambda value: _read_record(tp, value)
    if tp is float:
        return lambda value: value if type(value) is int else _exactly(float, value)
    return lambda value: value if type(value) is tp else _exactly(tp, value)


def _read_record(cls: Any, value: Any) -> Any:
    return _reader(cls)(_exactly(dict, value))


def _read_command(value: Any) -> Any:
    return _COMMANDS[value["kind"]](value)


def _read_time(value: Any) -> datetime:
    at = datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    return at


def _exactly(tp: type, value: Any) -> Any:
    if type(value) is not tp:
        raise TypeError(f"{value!r:.40} where there should be a value of type {tp.__name__}")
    return value


def _is_union(tp: Any) -> bool:
    return get_origin(tp) in (Union, UnionType)


def _classes(union: Any) -> tuple[type, ...]:
    return get_args(union) or (union,)


_COMMANDS: Mapping[str, _Read] = {_tag(cls): _reader(cls) for cls in _classes(Command)}
_WRITERS: Mapping[type, _Write] = {cls: _writer(cls, "type") for cls in _classes(Event)}
_READERS: Mapping[str, _Read] = {_tag(cls): _reader(cls) for cls in _classes(Event)}
_reader(ErrorRecord)
