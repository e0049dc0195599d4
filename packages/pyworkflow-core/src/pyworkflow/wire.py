"""Events as JSON text, the form in which every storage keeps them.

``{"spec":1,"events":[{"at":"2026-01-01T00:00:00+00:00","op":1,"value":42,"type":"completed"}]}``, in ASCII. Fields that
have their default are left out. Readers take every spec up to their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, cast

from cattrs import Converter
from cattrs.strategies import configure_tagged_union

from pyworkflow.errors import StorageError
from pyworkflow.model import Command, Event
from pyworkflow.plain import Plain

SPEC = 1
"""The newest form of events that this version reads, and the one it writes."""

_dump = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode
_load = json.JSONDecoder().decode


def dumps(events: Sequence[Event]) -> str:
    """Return *events* as JSON text."""
    return _dump({"spec": SPEC, "events": [_write(event) for event in events]})


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
        return [_read(event, Event) for event in data["events"]]
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
        return _load(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError) as error:
        raise StorageError(f"damaged JSON: {error} in {_cut(text)}") from None


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
