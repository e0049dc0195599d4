"""Options and settings as annotations ask for them, out of text, TOML or Python values."""

from __future__ import annotations

import enum
import functools
import inspect
import math
import sys
import types
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import attrs
from attrs import frozen

from pyworkflow.config.durations import Duration, delta
from pyworkflow.config.masking import shown
from pyworkflow.errors import ConfigError

if TYPE_CHECKING:
    from cattrs import Converter

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


def read(value: Any, type_: Any, name: str) -> Any:
    """Return *value* as *type_*; text is parsed, anything else has to be of the type already.

    Args:
        value: Text from a config string or the environment, a TOML value, or a Python object.
        type_: An annotation.
        name: What an error calls it; if it sounds like a secret, the value is not shown.

    Raises:
        ConfigError: It does not fit.
    """
    try:
        return _converter().structure(value, type_)
    except Exception:  # noqa: BLE001 -- whatever a converter raises, the value does not fit
        msg = f"{name} is {shown(value, name)}, but has to be {describe(type_)}"
        raise ConfigError(msg) from None


def describe(type_: Any) -> str:
    """Return what a value of *type_* is, in words for an error."""
    if type_ == Duration:
        type_ = timedelta
    if _is_union(type_):
        return " or ".join(describe(member) for member in get_args(type_) if member is not types.NoneType)
    if _is_list(type_):
        return f"a list of {describe(get_args(type_)[0])}"
    if _is_literal(type_):
        return "one of " + ", ".join(str(choice) for choice in get_args(type_))
    if _is_enum(type_):
        return "one of " + ", ".join(str(member.value) for member in type_)
    return _WORDS.get(type_) or f"a {getattr(type_, '__name__', type_)}"


_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    timedelta: "a duration such as 30s or 1h30m",
    Path: "a path",
    Any: "any value",
}


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return which of *known* somebody may have meant by *name*."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, sorted(known), 1)), None)


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return `` (did you mean 'x'?)``, or nothing if none of *known* is like *name*."""
    close = nearest(name, known)
    return f" (did you mean {close!r}?)" if close not in {None, name} else ""


# -- what a factory takes ------------------------------------------------------


@frozen
class Parameter:
    """An option that a factory takes."""

    type: Any
    required: bool

    def __str__(self) -> str:
        return describe(self.type) + (", required" if self.required else "")


def parameters(factory: Callable[..., Any]) -> tuple[dict[str, Parameter], bool]:
    """Return what *factory* can be given by keyword, and whether it takes any other keyword too.

    An annotation that cannot be evaluated, such as one imported for type checkers alone, counts as `Any`.
    """
    found: dict[str, Parameter] = {}
    scope = _scope(factory)
    signature = inspect.signature(factory)
    for name, parameter in signature.parameters.items():
        if parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            found[name] = Parameter(_annotation(parameter.annotation, scope), parameter.default is parameter.empty)
    return found, any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())


def _scope(factory: Any) -> dict[str, Any]:
    """Return the names that the annotations of *factory* may use."""
    while isinstance(factory, functools.partial):
        factory = factory.func
    factory = inspect.unwrap(factory)
    if isinstance(factory, type):
        scope: dict[str, Any] = {}
        for base in reversed(factory.__mro__):  # an attrs class has its bases' fields in its own signature
            scope |= vars(sys.modules.get(base.__module__, types))
        return scope
    factory = getattr(factory, "__func__", factory)
    return dict(getattr(factory, "__globals__", None) or getattr(type(factory).__call__, "__globals__", {}))


def _annotation(annotation: Any, scope: dict[str, Any]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, scope)  # noqa: S307 -- source code of the factory's own module
    except Exception:  # noqa: BLE001 -- names that only type checkers import
        return Any


# -- reading -------------------------------------------------------------------


@functools.cache
def _converter() -> Converter:
    from cattrs import Converter  # it takes its time to import, and who sets nothing needs none

    converter = Converter(detailed_validation=False)
    for type_ in _READERS:
        converter.register_structure_hook(type_, _scalar)
    # Of those that follow, the last one registered is asked first.
    converter.register_structure_hook_func(_is_class, _instance)
    converter.register_structure_hook_func(_is_enum, _enum)
    converter.register_structure_hook_func(_is_list, _listed)
    converter.register_structure_hook_func(_is_literal, _literal)
    converter.register_structure_hook_func(_is_union, _union)
    converter.register_structure_hook_func(_is_duration, lambda value, _: delta(value))
    return converter


def _is_duration(type_: Any) -> bool:
    return bool(type_ == Duration)


def _is_enum(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, enum.Enum)


def _is_list(type_: Any) -> bool:
    return get_origin(type_) in (tuple, list)


def _is_literal(type_: Any) -> bool:
    origin: Any = get_origin(type_)
    return origin is Literal


def _is_union(type_: Any) -> bool:
    origin: Any = get_origin(type_)
    return origin is Union or origin is types.UnionType


def _is_class(type_: Any) -> bool:
    return isinstance(type_, type) and type_ is not Any and not attrs.has(type_)


def _instance(value: Any, type_: Any) -> Any:
    if getattr(type_, "_is_protocol", False):
        return _checked(value, not isinstance(value, str | bytes | int | float | list | dict | None))
    return _checked(value, isinstance(value, type_))


def _checked(value: Any, good: Any) -> Any:
    if not good:
        raise ValueError
    return value


def _scalar(value: Any, type_: Any) -> Any:
    """Read a value of one of the simple types, or of an enum that is one of them, for which cattrs asks here too."""
    return _enum(value, type_) if _is_enum(type_) else _READERS[type_](value)


def _bool(value: Any) -> bool:
    if isinstance(value, str):
        word = value.strip().lower()
        return bool(_checked(word, word in _TRUE | _FALSE) in _TRUE)
    return bool(_checked(value, isinstance(value, bool)))


def _int(value: Any) -> int:
    return int(_checked(value, isinstance(value, int | str) and not isinstance(value, bool)))


def _float(value: Any) -> float:
    number = float(_checked(value, isinstance(value, int | float | str) and not isinstance(value, bool)))
    return float(_checked(number, math.isfinite(number)))


def _str(value: Any) -> str:
    return str(_checked(value, isinstance(value, str)))


def _path(value: Any) -> Path:
    return Path(_checked(value, isinstance(value, str | Path) and str(value)))


_READERS: Mapping[Any, Callable[[Any], Any]] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    Path: _path,
    timedelta: delta,
}


def _enum(value: Any, type_: Any) -> Any:
    return value if isinstance(value, type_) else next(m for m in type_ if str(m.value) == str(value))


def _literal(value: Any, type_: Any) -> Any:
    choices = get_args(type_)
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    return next(choice for choice in choices if isinstance(value, str) and str(choice) == value)


def _union(value: Any, type_: Any) -> Any:
    members = get_args(type_)
    if value is None and types.NoneType in members:
        return None
    for member in sorted(members, key=lambda member: member is str):  # any text is a str, so that comes last
        if member is not types.NoneType:
            try:
                return _converter().structure(value, member)
            except Exception:  # noqa: BLE001, S112 -- the next one may fit
                continue
    raise ValueError


def _listed(value: Any, type_: Any) -> Any:
    """Read a list; in text, commas stand between its members."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    members, origin = get_args(type_), get_origin(type_)
    if origin is tuple and members[1:] != (Ellipsis,):
        _checked(value, len(value) == len(members))
        return tuple(_converter().structure(v, m) for v, m in zip(value, members, strict=True))
    _checked(value, isinstance(value, list | tuple))
    items = (_converter().structure(item, members[0]) for item in value)
    return tuple(items) if origin is tuple else list(items)
