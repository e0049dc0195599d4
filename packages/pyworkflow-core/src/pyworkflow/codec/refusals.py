"""Why a value cannot be stored, where in it, and what to do about that."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import is_dataclass
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import attrs

_PATH_LIMIT = 60
_LOCKS = (
    type(threading.Lock()),
    type(threading.RLock()),
    threading.Condition,
    threading.Event,
    threading.Semaphore,
    asyncio.Lock,
    asyncio.Event,
    asyncio.Condition,
    asyncio.Semaphore,
    asyncio.Queue,
)
_STANDARD = (bool, int, float, str, bytes, bytearray, tuple, list, dict, set, frozenset)


_PLAIN = (str, int, bytes, list)  # what stands in the brackets of Literal and Callable without being a type
_SCALARS = frozenset({str, int, float, bool, NoneType})


class Refused(Exception):
    """A value is refused; each container it unwinds through adds where in it that was."""

    def __init__(self, problem: str, advice: str = "", *, deep: bool = False) -> None:
        super().__init__(problem, advice)
        self.problem = problem
        self.advice = advice
        self.deep = deep
        self.path: list[Any] = []

    def within(self, key: Any) -> None:
        """Add the key, the index, or the field's name (as a string) of where it was, from the inside to the outside."""
        self.path.append(key)

    def __str__(self) -> str:
        where = f" at {spell(self.path)}" if self.path else ""
        return f"{self.problem}{where}" + (f"; {self.advice}" if self.advice else "")


class TooLarge(Refused):
    """The value is larger than what may be stored."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"cannot store a value of {size:,} bytes or more, the limit is {limit:,}",
            "keep large data elsewhere, and pass where it is",
        )

    def within(self, key: Any) -> None:
        """Forget *key*: it is the whole that is too large."""


def spell(path: list[Any]) -> str:
    """Return ``$.items[3].price`` for the path that a `Refused` has gathered."""
    steps = [_spell_step(key) for key in reversed(path)]
    if len(steps) > _PATH_LIMIT:
        steps[_PATH_LIMIT // 2 : -_PATH_LIMIT // 2] = ["…"]
    return "$" + "".join(steps)


def _spell_step(key: Any) -> str:
    if type(key) is str and key.isidentifier():
        return f".{key}"
    text = _repr(key) if type(key) in _STANDARD else f"<{type(key).__name__}>"
    return f"[{text}]" if len(text) <= _PATH_LIMIT else f"[{text[:_PATH_LIMIT]}…]"


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 -- Python does not print an int of very many digits
        return f"<{type(value).__name__}>"


def describe(value: Any) -> tuple[str, str]:
    """Return what is wrong with storing *value*, and what to do instead."""
    what, advice = _describe(value)
    return f"cannot store {what}", advice


def _describe(value: Any) -> tuple[str, str]:  # noqa: C901, PLR0911 -- a table
    kind = type(value)
    name = kind.__qualname__
    if isinstance(value, (FunctionType, MethodType, BuiltinFunctionType)):
        what = "a lambda" if getattr(value, "__name__", "") == "<lambda>" else "a function"
        return what, "pass a name, and look the function up where it is called"
    if isinstance(value, type):
        return f"the class {value.__qualname__!r}", "pass its name, and look it up where it is used"
    if isinstance(value, ModuleType):
        return "a module", "import it where it is used"
    if isinstance(value, Enum) or attrs.has(kind) or is_dataclass(kind) or _is_namedtuple(value):
        return f"an object of class {name!r} without its annotation", "annotate the argument or result with its type"
    for base in _STANDARD:
        if isinstance(value, base):
            return (
                f"an object of class {name!r}, a kind of {base.__name__}",
                f"annotate the argument or result with its type, or convert it with {base.__name__}()",
            )
    if isinstance(value, io.IOBase):
        return "an open file", "pass its path or its contents"
    if isinstance(value, _LOCKS):
        return f"a lock ({name})", "make it where it is used"
    if isinstance(value, BaseException):
        return f"an exception ({name})", "raise it, or pass str() of it"
    if isinstance(value, Awaitable):
        return f"something to be awaited ({name})", "await it first"
    if isinstance(value, AsyncIterator):
        return f"an async iterator ({name})", "make a list of it: [x async for x in it]"
    if isinstance(value, Iterator):
        return f"a generator or iterator ({name})", "make a list of it"
    return (
        f"an object of class {name!r}",
        "pass plain data, or make it an attrs class or a dataclass and annotate the argument or result with it",
    )


def _is_namedtuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def mismatch(expected: str, value: Any) -> Refused:
    """Return the complaint that *value* is not what was *expected*."""
    text = _repr(value) if type(value) in _SCALARS else ""
    got = text if text and len(text) <= _PATH_LIMIT else f"a value of type {type(value).__qualname__}"
    return Refused(f"expected {expected}, got {got}")


def name_of(annotation: Any) -> str:
    """Return how *annotation* is called in messages and in the tags of unions."""
    if annotation is NoneType or annotation is ...:
        return "None" if annotation is NoneType else "..."
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation.__qualname__.rpartition("<locals>.")[2]
    if args := get_args(annotation):
        origin = get_origin(annotation)
        if origin in (Union, UnionType):
            return " | ".join(name_of(arg) for arg in args)
        inner = ", ".join(repr(arg) if isinstance(arg, _PLAIN) else name_of(arg) for arg in args)
        return f"{getattr(origin, '__name__', None) or origin}[{inner}]"
    return getattr(annotation, "__name__", None) or str(annotation)
