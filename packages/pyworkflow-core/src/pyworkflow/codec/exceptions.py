"""Exceptions as records in a history, and back.

Nothing of the user's runs on the way back, and nothing is imported: a class is used if its module is loaded, and its
instances are made without its ``__init__``. So an error is the same the first time and after a crash.
"""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from inspect import getattr_static
from types import MemberDescriptorType
from typing import Any, cast

from attrs import define, evolve

from pyworkflow.codec import Codec
from pyworkflow.errors import StepFailed, Unstorable
from pyworkflow.events import ErrorRecord, Plain

_MAX_TEXT = 8_000
_MAX_DEPTH = 8
_MAX_ERRORS = 100
_MAX_FRAMES = 100
_MAX_ROOM = 200_000
_REPR = "~repr"
_NOTE = "Recorded traceback:\n"
_LIMITS = Codec(max_bytes=16_000, max_depth=20)  # an error is a message, not a place for data
_encode = _LIMITS.encoder()
_decode = _LIMITS.decoder()
# Attributes that builtin exceptions keep neither in their args nor in their dict.
_HIDDEN: tuple[tuple[type[BaseException], tuple[str, ...]], ...] = (
    (OSError, ("filename", "filename2")),
    (ImportError, ("name", "path")),
    (AttributeError, ("name",)),
    (NameError, ("name",)),
)


class _Shown:
    """Stands for an argument that cannot be stored; it prints as that one did."""

    def __init__(self, as_repr: str, as_str: str) -> None:
        self._texts = (as_repr, as_str)

    def __repr__(self) -> str:
        return self._texts[0]

    def __str__(self) -> str:
        return self._texts[1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shown) and self._texts == other._texts

    def __hash__(self) -> int:
        return hash(self._texts)


# -- recording -----------------------------------------------------------------------


def record_of(error: BaseException, *, retryable: bool = True) -> ErrorRecord:
    """Return what there is to keep of *error*, its causes and the members of a group included. Never raises."""
    return _Recording().record(error, (), retryable=retryable)


@define
class _Recording:
    """One error being recorded, with what it may still grow by: errors within it, and characters."""

    errors: int = _MAX_ERRORS
    room: int = _MAX_ROOM

    def record(self, error: BaseException, above: tuple[BaseException, ...], *, retryable: bool) -> ErrorRecord:
        if isinstance(error, StepFailed) and isinstance(error.__dict__.get("record"), ErrorRecord):
            return evolve(cast("ErrorRecord", error.record), retryable=retryable)
        above = (*above, error)
        kind = type(error)
        group: tuple[BaseException, ...] = ()
        args: tuple[Any, ...] = error.args
        if isinstance(error, BaseExceptionGroup):
            group, args = error.exceptions, (error.message,)
        return ErrorRecord(
            type=f"{kind.__module__}:{kind.__qualname__}",
            message=_text(error),
            args=cast("Plain", [self._fitting(_lenient(arg)) for arg in args]),
            state=cast("Plain", self._fitting(_state(error)) or None),
            traceback=self._fitting(_traceback(error)) or "",
            retryable=retryable,
            cause=self._inner(_cause(error), above),
            group=tuple(record for member in group if (record := self._inner(member, above)) is not None),
        )

    def _inner(self, error: BaseException | None, above: tuple[BaseException, ...]) -> ErrorRecord | None:
        if error is None or not self.errors or len(above) > _MAX_DEPTH or any(error is one for one in above):
            return None
        self.errors -= 1
        return self.record(error, above, retryable=True)

    def _fitting(self, plain: Any) -> Any:
        size = len(plain) if isinstance(plain, str) else len(repr(plain))
        if size > self.room:
            return None
        self.room -= size
        return plain


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as broken:  # noqa: BLE001 -- a user's __str__ may raise anything
        if type(error).__str__ is BaseException.__str__:  # one of its args is at fault
            return _head(str(Exception(*(_Shown(_call(repr, arg), _call(str, arg)) for arg in error.args))))
        return f"<{type(error).__qualname__} whose str() raises {type(broken).__qualname__}>"
    return _head(text)


def _head(text: str) -> str:
    text = str.__str__(text)
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def _lenient(value: Any) -> Any:
    if isinstance(value, _Shown):
        texts = [repr(value), str(value)]
    else:
        try:
            return _encode(value)
        except Unstorable:
            texts = [_head(_call(repr, value)), _head(_call(str, value))]
    return {_REPR: texts}


def _call(show: Any, value: Any) -> str:
    try:
        return cast("str", show(value))
    except BaseException:  # noqa: BLE001 -- a user's __repr__ may raise anything
        return f"<{type(value).__qualname__}>"


def _state(error: BaseException) -> dict[str, Any]:
    """Return the attributes that can be stored; those under ``__slots__``, as attrs makes them, included."""
    names = [name for base, hidden in _HIDDEN if isinstance(error, base) for name in hidden]
    for cls in type(error).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    values = {name: getattr(error, name) for name in names if not _is_dunder(name) and hasattr(error, name)}
    values.update(error.__dict__)
    notes = [note for note in _notes(error) if not note.startswith(_NOTE)]
    state = {}
    for name, value in values.items():
        if (value is None and name not in error.__dict__) or _is_dunder(name):
            continue
        try:
            state[name] = _encode(value)
        except Unstorable:
            continue
    if notes:
        state["__notes__"] = cast("Plain", [_head(note) for note in notes])
    return state


def _notes(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", ())
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, (list, tuple)) else []


def _is_dunder(name: Any) -> bool:
    return not isinstance(name, str) or (name.startswith("__") and name.endswith("__"))


def _traceback(error: BaseException) -> str:
    try:
        frames = traceback.format_tb(error.__traceback__, -_MAX_FRAMES)
        # Not by format_exception: it formats all members of a group, and theirs, and all causes. They have records.
        lines = [f"{type(error).__qualname__}: {_text(error)}\n", *(f"{note}\n" for note in _notes(error))]
        text = "".join(["Traceback (most recent call last):\n", *frames, *lines] if frames else lines)
    except Exception:  # noqa: BLE001 -- a source file may be at fault
        return ""
    return text if len(text) <= _MAX_TEXT else "…" + text[1 - _MAX_TEXT :]


# -- rebuilding ----------------------------------------------------------------------


def rebuild(record: ErrorRecord) -> Exception:
    """Return the exception of *record*: of its own class if that is loaded, else `StepFailed`. Never raises."""
    return _rebuild(record, 2 * _MAX_DEPTH)


def _rebuild(record: ErrorRecord, depth: int) -> Exception:
    group = [_rebuild(member, depth - 1) for member in record.group] if depth else []
    error = _original(record, group)
    if error is None:
        error = StepFailed(f"{record.type.replace(':', '.')}: {record.message}", record)
    if record.cause is not None and depth:
        # Past a class's own __setattr__, which a frozen one has.
        object.__setattr__(error, "__cause__", _rebuild(record.cause, depth - 1))
    if record.traceback:
        with suppress(Exception):  # a frozen class takes no notes
            error.add_note(_NOTE + record.traceback)
    return error


def _original(record: ErrorRecord, group: list[Exception]) -> Exception | None:
    cls = _loaded(record.type)
    if cls is None:
        return None
    try:
        args: list[Any] = [_read_arg(arg) for arg in cast("list[Any]", record.args or [])]
        base = _builtin_base(cls)
        if issubclass(cls, BaseExceptionGroup):
            args = [*args[:1], group]
        error = cast("Exception", base.__new__(cls, *args))
        if not issubclass(cls, BaseExceptionGroup):
            base.__init__(error, *args)
        _set_state(error, cast("dict[str, Any]", record.state or {}))
        str(error)
    except Exception:  # noqa: BLE001 -- whatever it is, the record can still be shown
        return None
    return error


def _loaded(name: str) -> type[Exception] | None:
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        try:
            # A module may import something in its __getattr__, or at any look at it if it is a lazy one.
            found = object.__getattribute__(found, "__dict__").get(part)
        except AttributeError:
            return None
    is_usable = isinstance(found, type) and issubclass(found, Exception) and not issubclass(found, StopIteration)
    return found if is_usable else None  # no future takes a StopIteration, and what is no Exception ends processes


def _builtin_base(cls: type[Exception]) -> Any:
    return next(base for base in cls.__mro__ if base.__module__ == "builtins")


def _read_arg(plain: Any) -> Any:
    if type(plain) is dict and len(plain) == 1 and _REPR in plain:
        as_repr, as_str = plain[_REPR]
        return _Shown(str(as_repr), str(as_str))
    return _decode(plain)


def _set_state(error: Exception, state: dict[str, Any]) -> None:
    for name, plain in state.items():
        value = _decode(plain)
        if name == "__notes__":
            for note in value:
                error.add_note(note)
        elif _is_dunder(name):
            continue
        elif isinstance(getattr_static(type(error), name, None), MemberDescriptorType):
            object.__setattr__(error, name, value)
        else:
            error.__dict__[name] = value
