"""Unions: which member a value is of, on the way out and on the way in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, is_typeddict
from uuid import UUID

import attrs
from attrs import frozen

from pyworkflow.codec.refusals import Refused, mismatch, name_of
from pyworkflow.codec.tags import UNION

if TYPE_CHECKING:
    from cattrs import Converter

# Values of these classes say themselves what they are, once they are read.
_TELLING: frozenset[type] = frozenset(
    {
        *(str, int, float, bool, NoneType, bytes, bytearray, complex),
        *(datetime, date, time, timedelta, Decimal, UUID, PosixPath, WindowsPath, PurePosixPath, PureWindowsPath),
    }
)


@frozen(eq=False)
class _Member:
    """One type of a union, with its hooks."""

    type: Any
    name: str
    kind: type | None  # the class of its values, where that is certain
    unstructure: Callable[[Any], Any]
    structure: Callable[[Any, Any], Any]
    fields: frozenset[str] | None  # of a class

    @property
    def is_literal(self) -> bool:
        return get_origin(self.type) is Literal


def is_union(cl: Any) -> bool:
    """Whether *cl* is ``A | B``, ``Optional[A]`` or ``Union[A, B]``."""
    return get_origin(cl) in (Union, UnionType)


def union_unstructure(cl: Any, converter: Converter) -> Callable[[Any], Any]:
    """Return the hook that writes ``{"~union": [member, value]}``, unless the value alone says what it is."""
    members = _members(cl, converter)
    by_kind: dict[Any, list[_Member]] = {}
    for member in members:
        by_kind.setdefault(member.kind, []).append(member)
    optional = _the_only(member for member in members if member.kind is not NoneType) if NoneType in by_kind else None

    def unstructure(value: Any) -> Any:
        kind = type(value)
        candidates = by_kind.get(kind, ())
        if kind in _TELLING and candidates:
            return value
        if optional is not None:
            return optional.unstructure(value)
        if len(candidates) == 1:
            return {UNION: [candidates[0].name, candidates[0].unstructure(value)]}
        for member in candidates or members:
            try:
                plain = member.unstructure(value)
            except Refused:
                continue
            if type(plain) in _TELLING and (member.is_literal or type(plain) is member.kind):
                return plain  # 1 for a float, say
            return {UNION: [member.name, plain]}
        raise mismatch(name_of(cl), value)

    return unstructure


def union_structure(cl: Any, converter: Converter) -> Callable[[Any, Any], Any]:  # noqa: C901 -- the ways in, one after another
    """Return the hook that reads what the other one writes, and what else fits exactly one member."""
    members = _members(cl, converter)
    names = {member.name: member for member in members}
    telling = {member.kind: member for member in members if member.kind in _TELLING}
    literals = [member for member in members if member.is_literal]
    optional = _the_only(member for member in members if member.kind is not NoneType) if NoneType in telling else None

    def structure(value: Any, _: Any) -> Any:
        kind = type(value)
        if kind in telling:
            return value
        if optional is not None:
            return optional.structure(value, optional.type)
        if kind is dict and len(value) == 1 and UNION in value:
            return tagged(value[UNION])
        for member in literals:
            try:
                return member.structure(value, member.type)
            except Refused:
                continue
        return untagged(value)

    def tagged(body: Any) -> Any:
        if type(body) is not list or len(body) != 2 or type(body[0]) is not str:  # noqa: PLR2004
            raise Refused(f"a damaged {UNION!r}")
        member = names.get(body[0])
        if member is None:
            raise Refused(f"{body[0]!r} is not one of {', '.join(sorted(names))}")
        return member.structure(body[1], member.type)

    def untagged(value: Any) -> Any:
        fits: list[tuple[str, Any]] = []
        for member in members:
            if member.fields is not None and not (type(value) is dict and value.keys() <= member.fields):
                continue
            try:
                fits.append((member.name, member.structure(value, member.type)))
            except Exception:  # noqa: BLE001, S112 -- it is not this one, then
                continue
        if len(fits) == 1:
            return fits[0][1]
        if fits:
            both = " and ".join(name for name, _ in fits)
            raise Refused(f"a value that fits {both} alike", f'write it as {{"{UNION}": [name, value]}}')
        raise mismatch(name_of(cl), value)

    return structure


def _members(cl: Any, converter: Converter) -> list[_Member]:
    types = [tp for arg in get_args(cl) for tp in [_bare(arg)]]
    counts = Counter(name_of(tp) for tp in types)
    return [
        _Member(
            tp,
            name_of(tp) if counts[name_of(tp)] == 1 else f"{getattr(tp, '__module__', '')}.{name_of(tp)}",
            _kind(tp),
            converter.get_unstructure_hook(tp),
            converter.get_structure_hook(tp),
            _fields(tp),
        )
        for tp in types
    ]


def _bare(tp: Any) -> Any:
    while True:
        if get_origin(tp) is Annotated:
            tp = get_args(tp)[0]
        elif (base := getattr(tp, "__supertype__", None)) is not None:
            tp = base
        else:
            return NoneType if tp is None else tp


def _kind(tp: Any) -> type | None:
    origin = get_origin(tp) or tp
    if is_typeddict(origin):
        return dict
    if not isinstance(origin, type):
        return None
    exact = origin in _TELLING or origin in (list, dict, tuple, set, frozenset)
    return origin if exact or issubclass(origin, Enum) or _is_record(origin) else None


def _fields(tp: Any) -> frozenset[str] | None:
    origin = get_origin(tp) or tp
    if not isinstance(origin, type):
        return None
    if attrs.has(origin):
        return frozenset(field.name for field in attrs.fields(origin))
    return frozenset(origin.__dataclass_fields__) if is_dataclass(origin) else None


def _is_record(origin: type) -> bool:
    return attrs.has(origin) or is_dataclass(origin) or (issubclass(origin, tuple) and hasattr(origin, "_fields"))


def _the_only(members: Iterable[_Member]) -> _Member | None:
    found = list(members)
    return found[0] if len(found) == 1 else None
