"""Standard Python values as JSON values and back.

JSON values stand for themselves. Everything else is written as a dict with one key that begins with ``~``, its tag:
``{"~tuple": [1, 2]}``. A dict of the user's that looks like one is escaped. Only the tags listed here are read, and
none of them imports or calls anything of the user's.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from math import isfinite
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from attrs import frozen

from pyworkflow.codec.refusals import Refused, TooLarge, describe
from pyworkflow.codec.zones import zone

UNION = "~union"
"""The tag of a member of a union. Only annotations give it a meaning, so it is passed on like an ordinary dict."""

_INT_LIMIT = 10**4000  # beyond some 4300 digits Python itself does not turn decimal text into an int
_SHORT = 1000  # a string up to this length needs no look at the size limit
_INT64 = 1 << 63
_READ_DEPTH = 200

Spent = list[int]
"""The size of what was walked so far, in its one item."""


class Members(list[Any]):
    """The members of a set that are not hashable any more; written as a list, in an order of its own."""


@frozen
class Walks:
    """The way to JSON, and back. *write* and *read* both make new containers throughout.

    Raises:
        Refused: A value cannot be written or read; the path is in it.
    """

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def walks(*, allow_nan: bool, max_bytes: int, max_depth: int) -> Walks:
    """Return the walks for these limits (see `Codec`)."""
    return Walks(
        _writer(allow_nan=allow_nan, max_bytes=max_bytes, max_depth=max_depth), _reader(max(max_depth, _READ_DEPTH))
    )


# -- writing -----------------------------------------------------------------------


def _writer(*, allow_nan: bool, max_bytes: int, max_depth: int) -> Callable[[Any], Any]:  # noqa: C901, PLR0915 -- one closure, for speed
    def spend(spent: Spent, size: int) -> None:
        spent[0] += size
        if spent[0] > max_bytes:
            raise TooLarge(spent[0], max_bytes)

    def write_str(value: str, _depth: int, spent: Spent) -> str:
        spend(spent, len(value))
        return value

    def write_int(value: int, _depth: int, spent: Spent) -> Any:
        if -_INT64 < value < _INT64:
            return value
        spend(spent, value.bit_length() // 3)
        return value if -_INT_LIMIT < value < _INT_LIMIT else {"~int": hex(value)}

    def write_float(value: float, _depth: int, _spent: Spent) -> Any:
        if isfinite(value):
            return value
        if not allow_nan:
            raise Refused(f"cannot store {value}", "NaN and infinities are not allowed here; use None")
        return {"~float": repr(value)}

    def write_items(value: Iterable[Any], depth: int, spent: Spent) -> list[Any]:
        if not depth:
            raise Refused(f"cannot store what is nested deeper than {max_depth} levels", deep=True)
        out: list[Any] = []
        add, below, size = out.append, depth - 1, 2
        try:
            for item in value:
                kind = type(item)
                if kind is str and len(item) < _SHORT:
                    size += len(item)
                    add(item)
                elif (kind is int and -_INT64 < item < _INT64) or kind is bool or item is None:
                    add(item)
                else:
                    add(write(item, below, spent))
        except Refused as refused:
            refused.within(len(out))
            raise
        spend(spent, size + 3 * len(out))
        return out

    def write_dict(value: dict[Any, Any], depth: int, spent: Spent) -> Any:
        if not depth:
            raise Refused(f"cannot store what is nested deeper than {max_depth} levels", deep=True)
        if len(value) == 1 and _looks_like_a_tag(value):
            return write_pairs(value, depth, spent)
        out: dict[str, Any] = {}
        below, size = depth - 1, 2
        key: Any = None
        try:
            for key, item in value.items():
                if type(key) is not str:
                    break
                kind = type(item)
                if kind is str and len(item) < _SHORT:
                    size += len(item)
                    out[key] = item
                elif (kind is int and -_INT64 < item < _INT64) or kind is bool or item is None:
                    out[key] = item
                else:
                    out[key] = write(item, below, spent)
                size += len(key)
            else:
                spend(spent, size + 6 * len(out))
                return out
        except Refused as refused:
            refused.within(key)
            raise
        return write_pairs(value, depth, spent)

    def write_pairs(value: dict[Any, Any], depth: int, spent: Spent) -> Any:
        pairs = []
        key: Any = None
        try:
            for key, item in value.items():
                pairs.append([write(key, depth - 1, spent), write(item, depth - 1, spent)])
        except Refused as refused:
            refused.within(key)
            raise
        spend(spent, 8 * len(pairs))
        return {"~dict": pairs}

    def write_members(tag: str) -> Callable[[Any, int, Spent], Any]:
        def write_set(value: Iterable[Any], depth: int, spent: Spent) -> Any:
            # The order of a set differs from process to process.
            return {tag: _sorted(write_items(value, depth, spent))}

        return write_set

    def write_bytes(tag: str) -> Callable[[Any, int, Spent], Any]:
        def write_blob(value: bytes, _depth: int, spent: Spent) -> Any:
            spend(spent, len(value) * 4 // 3)
            return {tag: b64encode(value).decode()}

        return write_blob

    def write_zoned(tag: str) -> Callable[[Any, int, Spent], Any]:
        def write_time(value: Any, _depth: int, _spent: Spent) -> Any:
            found = value.tzinfo
            if type(found) is ZoneInfo and found.key:
                return {tag: [value.replace(tzinfo=None).isoformat(), found.key, value.fold]}
            if found is not None and type(found) is not timezone:
                raise Refused(
                    f"cannot store a {type(value).__name__} with time zone {found!r}",
                    "use zoneinfo.ZoneInfo, or convert it to UTC",
                )
            text = value.isoformat()
            return {tag: [text, None, 1]} if value.fold else {tag: text}

        return write_time

    def text_of(tag: str) -> Callable[[Any, int, Spent], Any]:
        def write_text(value: Any, _depth: int, spent: Spent) -> Any:
            text = str(value)
            spend(spent, len(text))
            return {tag: text}

        return write_text

    writers: dict[type, Callable[[Any, int, Spent], Any]] = {
        dict: write_dict,
        list: write_items,
        str: write_str,
        int: write_int,
        float: write_float,
        bool: lambda value, _depth, _spent: value,
        type(None): lambda _value, _depth, _spent: None,
        Members: lambda value, depth, spent: _sorted(write_items(value, depth, spent)),
        tuple: lambda value, depth, spent: {"~tuple": write_items(value, depth, spent)},
        set: write_members("~set"),
        frozenset: write_members("~frozenset"),
        bytes: write_bytes("~bytes"),
        bytearray: write_bytes("~bytearray"),
        datetime: write_zoned("~datetime"),
        time: write_zoned("~time"),
        date: lambda value, _depth, _spent: {"~date": value.isoformat()},
        timedelta: lambda value, _depth, _spent: {"~timedelta": [value.days, value.seconds, value.microseconds]},
        Decimal: text_of("~decimal"),
        UUID: text_of("~uuid"),
        PosixPath: text_of("~path"),
        WindowsPath: text_of("~path"),
        PurePosixPath: text_of("~posixpath"),
        PureWindowsPath: text_of("~windowspath"),
        complex: lambda value, depth, spent: {"~complex": write_items((value.real, value.imag), depth, spent)},
    }

    def write(value: Any, depth: int, spent: Spent) -> Any:
        try:
            writer = writers[type(value)]
        except KeyError:
            raise Refused(*describe(value)) from None
        return writer(value, depth, spent)

    def top(value: Any) -> Any:
        try:
            return write(value, max_depth, [0])
        except Refused as refused:
            if refused.deep and (cycle := cycle_in(value)) is not None:
                raise cycle from None
            raise

    return top


def _sorted(members: list[Any]) -> list[Any]:
    if all(type(member) is str for member in members):
        return sorted(members)
    return sorted(members, key=_text_of)


_text_of = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def _looks_like_a_tag(value: dict[Any, Any]) -> bool:
    key = next(iter(value))
    return type(key) is str and key[:1] == "~" and key != UNION


def cycle_in(value: Any) -> Refused | None:
    """Return the complaint about a container in *value* that contains itself, if there is one."""
    seen: set[int] = set()  # what has been left, and has no cycle
    path: dict[int, Any] = {}  # the keys from *value* to where we are
    todo: list[tuple[Any, Any, bool]] = [(value, None, False)]
    while todo:
        item, key, left = todo.pop()
        if left:
            del path[id(item)]
            seen.add(id(item))
            continue
        if not isinstance(item, (dict, list, tuple, set, frozenset)) or id(item) in seen:
            continue
        if id(item) in path:
            refused = Refused("cannot store what contains itself", "pass plain data without a cycle")
            refused.path = list(path.values())[1 : [*path].index(id(item)) + 1][::-1]
            return refused
        path[id(item)] = key
        todo.append((item, None, True))
        inner = item.items() if isinstance(item, dict) else enumerate(item)
        todo.extend((one, at, False) for at, one in inner)
    return None


# -- reading -----------------------------------------------------------------------


def _reader(max_depth: int) -> Callable[[Any], Any]:  # noqa: C901 -- one closure, for speed
    def read_items(plain: Any, depth: int) -> list[Any]:
        if not depth:
            raise Refused(f"what is nested deeper than {max_depth} levels is not read")
        out: list[Any] = []
        try:
            for item in plain:
                out.append(item if type(item) is str or type(item) is int else read(item, depth - 1))  # noqa: PERF401 -- its length tells where
        except Refused as refused:
            refused.within(len(out))
            raise
        return out

    def read_dict(plain: dict[str, Any], depth: int) -> Any:
        if not depth:
            raise Refused(f"what is nested deeper than {max_depth} levels is not read")
        if len(plain) == 1 and _looks_like_a_tag(plain):
            ((tag, body),) = plain.items()
            return read_tag(tag, body, depth)
        out: dict[str, Any] = {}
        key = ""
        try:
            for key, item in plain.items():
                out[key] = item if type(item) is str or type(item) is int else read(item, depth - 1)
        except Refused as refused:
            refused.within(key)
            raise
        return out

    def read_tag(tag: str, body: Any, depth: int) -> Any:
        if tag in ("~set", "~frozenset", "~tuple") and type(body) is list:
            make: Callable[[list[Any]], Any] = {"~set": set, "~frozenset": frozenset, "~tuple": tuple}[tag]
            try:
                return make(read_items(body, depth))
            except TypeError as error:
                raise Refused(f"a damaged {tag!r}: {error}") from None
        if tag == "~dict" and type(body) is list and all(type(pair) is list and len(pair) == 2 for pair in body):  # noqa: PLR2004
            try:
                return {read(key, depth - 1): read(item, depth - 1) for key, item in body}
            except TypeError as error:
                raise Refused(f"a damaged {tag!r}: {error}") from None
        parse = _LEAVES.get(tag)
        if parse is None:
            if tag in ("~set", "~frozenset", "~tuple", "~dict"):
                raise Refused(f"a damaged {tag!r}")
            raise Refused(f"an unknown tag {tag!r}", "a newer version may have written it")
        try:
            return parse(body)
        except Exception as error:  # noqa: BLE001 -- the body can be anything, and so can the complaint
            raise Refused(f"a damaged {tag!r}: {error}") from None

    def read(plain: Any, depth: int) -> Any:
        kind = type(plain)
        if kind is dict:
            return read_dict(plain, depth)
        if kind is list:
            return read_items(plain, depth)
        if kind in _JSON_SCALARS:
            return plain
        raise Refused(f"what is not JSON: {describe(plain)[0].removeprefix('cannot store ')}")

    return lambda plain: read(plain, max_depth)


_JSON_SCALARS = frozenset({str, int, float, bool, type(None)})


def _zoned(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    def read_time(body: Any) -> Any:
        if type(body) is str:
            return parse(body)
        text, key, fold = body
        if key is None:
            return parse(text).replace(fold=fold)
        return parse(text).replace(tzinfo=zone(key), fold=fold)

    return read_time


def _text(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    def read_text(body: Any) -> Any:
        if type(body) is not str:
            raise TypeError(f"expected a string, got {body!r:.40}")
        return parse(body)

    return read_text


def _timedelta(body: Any) -> timedelta:
    days, seconds, microseconds = body
    return timedelta(days, seconds, microseconds)


def _complex(body: Any) -> complex:
    real, imaginary = (_LEAVES["~float"](part["~float"]) if type(part) is dict else float(part) for part in body)
    return complex(real, imaginary)


_LEAVES: dict[str, Callable[[Any], Any]] = {
    "~int": _text(lambda text: int(text, 16)),
    "~float": {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}.__getitem__,
    "~bytes": _text(lambda text: b64decode(text, validate=True)),
    "~bytearray": _text(lambda text: bytearray(b64decode(text, validate=True))),
    "~datetime": _zoned(datetime.fromisoformat),
    "~time": _zoned(time.fromisoformat),
    "~date": _text(date.fromisoformat),
    "~timedelta": _timedelta,
    "~decimal": _text(Decimal),
    "~uuid": _text(UUID),
    "~path": _text(Path),
    "~posixpath": _text(PurePosixPath),
    "~windowspath": _text(PureWindowsPath),
    "~complex": _complex,
}
