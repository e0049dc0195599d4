"""Hooks for what has no parts: numbers, text, times, paths, enums, literals. Nothing is converted silently."""

# ruff: noqa: D103 -- each makes the hook, or tells the types, that its name says

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Literal, get_args, get_origin
from uuid import UUID

from pyworkflow.codec.hooks import Structure, Unstructure, same
from pyworkflow.codec.refusals import Refused, mismatch, name_of


def scalar_unstructure(base: Any) -> Unstructure:
    convert = {str: str.__str__, int: int.__int__, float: float.__float__}[base]
    name = base.__name__

    def unstructure(value: Any) -> Any:
        kind = type(value)
        if kind is base:
            return value
        if isinstance(value, Enum):
            if isinstance(value, base):
                return value.value
        elif isinstance(value, base) and kind is not bool:
            return convert(value)
        elif base is float and kind is int:
            return _to_float(value)
        raise mismatch(name, value)

    return unstructure


def scalar_structure(base: Any) -> Structure:
    def structure(value: Any, cl: Any) -> Any:
        if issubclass(cl, Enum):
            return _enum_member(value, cl)
        kind = type(value)
        if kind is not base:
            if base is not float or kind is not int:
                raise mismatch(name_of(cl), value)
            value = _to_float(value)
        return value if cl is base else cl(value)

    return structure


def _to_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise mismatch("float", value) from None


def _seconds(value: Any) -> timedelta:
    return timedelta(seconds=value)


# From which JSON types each one is read beside its own tag, and how.
LEAVES: dict[Any, tuple[tuple[type, ...], Callable[[Any], Any]]] = {
    datetime: ((str,), datetime.fromisoformat),
    date: ((str,), date.fromisoformat),
    time: ((str,), time.fromisoformat),
    timedelta: ((int, float), _seconds),
    Decimal: ((str, int), Decimal),
    UUID: ((str,), UUID),
    bytes: ((str,), lambda text: b64decode(text, validate=True)),
    bytearray: ((str,), lambda text: bytearray(b64decode(text, validate=True))),
    complex: ((int, float), complex),
    **{kind: ((str,), kind) for kind in (PurePath, PurePosixPath, PureWindowsPath, Path, PosixPath, WindowsPath)},
}
# Path() makes one of these, and each of them is a PurePath.
_CONCRETE: dict[type, tuple[type, ...]] = {
    Path: (PosixPath, WindowsPath),
    PurePath: (PurePosixPath, PureWindowsPath, PosixPath, WindowsPath),
}


def leaf(kind: type) -> tuple[Unstructure, Structure]:
    sources, parse = LEAVES.get(kind, ((), same))
    made = _CONCRETE.get(kind, (kind,))
    name = name_of(kind)

    def unstructure(value: Any) -> Any:
        if type(value) not in made:
            raise mismatch(name, value)
        return value

    def structure(value: Any, _: Any) -> Any:
        if type(value) in sources:
            try:
                return parse(value)
            except Exception as error:  # noqa: BLE001 -- Decimal's complaint is an ArithmeticError, UUID's a ValueError
                raise Refused(f"{mismatch(name, value)} ({error})") from None
        return unstructure(value)

    return unstructure, structure


def is_enum(cl: Any) -> bool:
    return isinstance(cl, type) and issubclass(cl, Enum)


def enum_unstructure(cl: Any) -> Unstructure:
    def unstructure(value: Any) -> Any:
        if type(value) is not cl and not isinstance(value, cl):
            raise mismatch(name_of(cl), value)
        return value.value

    return unstructure


def enum_structure(_: Any) -> Structure:
    return _enum_member


def _enum_member(value: Any, cl: Any) -> Any:
    try:
        member = cl(value)
    except Exception:  # noqa: BLE001 -- a user's _missing_ may raise anything
        raise mismatch(name_of(cl), value) from None
    if (type(value) is bool) is not (type(member.value) is bool):  # 1 and True are equal
        raise mismatch(name_of(cl), value)
    return member


def is_literal(cl: Any) -> bool:
    return get_origin(cl) is Literal


def literal_unstructure(cl: Any) -> Unstructure:
    known = {(type(choice), choice) for choice in get_args(cl)}

    def unstructure(value: Any) -> Any:
        try:
            if (type(value), value) in known:
                return value.value if isinstance(value, Enum) else value
        except TypeError:  # not hashable
            pass
        raise mismatch(_choices(cl), value)

    return unstructure


def literal_structure(cl: Any) -> Structure:
    plain = [choice.value if isinstance(choice, Enum) else choice for choice in get_args(cl)]
    known = {(type(raw), raw): choice for raw, choice in zip(plain, get_args(cl), strict=True)}

    def structure(value: Any, _: Any) -> Any:
        try:
            return known[type(value), value]
        except (KeyError, TypeError):
            raise mismatch(_choices(cl), value) from None

    return structure


def _choices(cl: Any) -> str:
    return "one of " + ", ".join(map(repr, get_args(cl)))
