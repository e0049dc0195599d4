"""Standard Python values as JSON values: the way in. What the tags mean is in `tags`."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from math import isfinite
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from attrs import define, field

from pyworkflow.codec.refusals import Refused, TooLarge, describe
from pyworkflow.codec.tags import Members, looks_like_a_tag

_INT_LIMIT = 10**4000  # beyond some 4300 digits Python itself does not turn decimal text into an int
_SHORT = 1000  # a string up to this length needs no look at the size limit
_INT64 = 1 << 63

Spent = list[int]
"""The size of what was walked so far, in its one item."""

Write = Callable[[Any, int, Spent], Any]
"""Writes a value; the second argument is how many levels there may be below it."""


@define(eq=False)
class TagWriter:
    """Writes values as JSON values, in new containers throughout.

    Items of containers that stand for themselves are written in place, without a call: most of what is stored is that.

    Attributes:
        allow_nan: NaN and infinities are written.
        max_bytes: About how large the JSON text may become.
        max_depth: How many levels of containers there may be.
    """

    allow_nan: bool
    max_bytes: int
    max_depth: int
    _writers: dict[type, Write] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._writers = self._by_type()

    def write(self, value: Any) -> Any:
        """Return *value* as a JSON value.

        Raises:
            Refused: It cannot be written; the path is in it.
        """
        try:
            return self._write(value, self.max_depth, [0])
        except Refused as refused:
            if refused.deep and (cycle := cycle_in(value)) is not None:
                raise cycle from None
            raise

    def _write(self, value: Any, depth: int, spent: Spent) -> Any:
        try:
            writer = self._writers[type(value)]
        except KeyError:
            raise Refused(*describe(value)) from None
        return writer(value, depth, spent)

    def _by_type(self) -> dict[type, Write]:
        return {
            dict: self._write_dict,
            list: self._write_items,
            str: self._write_str,
            int: self._write_int,
            float: self._write_float,
            bool: lambda value, _depth, _spent: value,
            type(None): lambda _value, _depth, _spent: None,
            Members: lambda value, depth, spent: _sorted(self._write_items(value, depth, spent)),
            tuple: lambda value, depth, spent: {"~tuple": self._write_items(value, depth, spent)},
            set: self._write_members("~set"),
            frozenset: self._write_members("~frozenset"),
            bytes: self._write_bytes("~bytes"),
            bytearray: self._write_bytes("~bytearray"),
            datetime: self._write_zoned("~datetime"),
            time: self._write_zoned("~time"),
            date: lambda value, _depth, _spent: {"~date": value.isoformat()},
            timedelta: lambda value, _depth, _spent: {"~timedelta": [value.days, value.seconds, value.microseconds]},
            Decimal: self._text_of("~decimal"),
            UUID: self._text_of("~uuid"),
            PosixPath: self._text_of("~path"),
            WindowsPath: self._text_of("~path"),
            PurePosixPath: self._text_of("~posixpath"),
            PureWindowsPath: self._text_of("~windowspath"),
            complex: lambda value, depth, spent: {
                "~complex": self._write_items((value.real, value.imag), depth, spent)
            },
        }

    def _spend(self, spent: Spent, size: int) -> None:
        spent[0] += size
        if spent[0] > self.max_bytes:
            raise TooLarge(spent[0], self.max_bytes)

    def _write_str(self, value: str, _depth: int, spent: Spent) -> str:
        self._spend(spent, len(value))
        return value

    def _write_int(self, value: int, _depth: int, spent: Spent) -> Any:
        if -_INT64 < value < _INT64:
            return value
        self._spend(spent, value.bit_length() // 3)
        return value if -_INT_LIMIT < value < _INT_LIMIT else {"~int": hex(value)}

    def _write_float(self, value: float, _depth: int, _spent: Spent) -> Any:
        if isfinite(value):
            return value
        if not self.allow_nan:
            raise Refused(f"cannot store {value}", "NaN and infinities are not allowed here; use None")
        return {"~float": repr(value)}

    def _write_items(self, value: Iterable[Any], depth: int, spent: Spent) -> list[Any]:
        if not depth:
            raise Refused(f"cannot store what is nested deeper than {self.max_depth} levels", deep=True)
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
                    add(self._write(item, below, spent))
        except Refused as refused:
            refused.within(len(out))
            raise
        self._spend(spent, size + 3 * len(out))
        return out

    def _write_dict(self, value: dict[Any, Any], depth: int, spent: Spent) -> Any:
        if not depth:
            raise Refused(f"cannot store what is nested deeper than {self.max_depth} levels", deep=True)
        if len(value) == 1 and looks_like_a_tag(value):
            return self._write_pairs(value, depth, spent)
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
                    out[key] = self._write(item, below, spent)
                size += len(key)
            else:
                self._spend(spent, size + 6 * len(out))
                return out
        except Refused as refused:
            refused.within(key)
            raise
        return self._write_pairs(value, depth, spent)

    def _write_pairs(self, value: dict[Any, Any], depth: int, spent: Spent) -> Any:
        pairs = []
        key: Any = None
        try:
            for key, item in value.items():
                pairs.append([self._write(key, depth - 1, spent), self._write(item, depth - 1, spent)])
        except Refused as refused:
            refused.within(key)
            raise
        self._spend(spent, 8 * len(pairs))
        return {"~dict": pairs}

    def _write_members(self, tag: str) -> Callable[[Any, int, Spent], Any]:
        def write_set(value: Iterable[Any], depth: int, spent: Spent) -> Any:
            # The order of a set differs from process to process.
            return {tag: _sorted(self._write_items(value, depth, spent))}

        return write_set

    def _write_bytes(self, tag: str) -> Callable[[Any, int, Spent], Any]:
        def write_blob(value: bytes, _depth: int, spent: Spent) -> Any:
            self._spend(spent, len(value) * 4 // 3)
            return {tag: b64encode(value).decode()}

        return write_blob

    def _write_zoned(self, tag: str) -> Callable[[Any, int, Spent], Any]:
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

    def _text_of(self, tag: str) -> Callable[[Any, int, Spent], Any]:
        def write_text(value: Any, _depth: int, spent: Spent) -> Any:
            text = str(value)
            self._spend(spent, len(text))
            return {tag: text}

        return write_text


def _sorted(members: list[Any]) -> list[Any]:
    if all(type(member) is str for member in members):
        return sorted(members)
    return sorted(members, key=_text_of)


_text_of = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


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
