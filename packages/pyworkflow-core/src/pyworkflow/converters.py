"""Values of annotated types as standard Python values and back: one cattrs converter that guesses nothing.

Going out, attrs classes, dataclasses, enums and the like become dicts, lists and scalars; what `tags` can write stays.
A value that does not fit its annotation is refused on the way out already, so that what was written can be read.
"""

from __future__ import annotations

import collections.abc as abc
import typing
from base64 import b64decode
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

import attrs
from cattrs import Converter
from cattrs.errors import IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from pyworkflow.refusals import Refused, mismatch, name_of
from pyworkflow.tags import Members
from pyworkflow.unions import union_structure, union_unstructure

Unstructure = Callable[[Any], Any]
Structure = Callable[[Any, Any], Any]

_SCALARS: frozenset[Any] = frozenset({str, int, float, bool, NoneType})


def strict_converter() -> Converter:
    """Return a converter with the hooks of this module; further hooks take precedence over them."""
    converter = Converter(
        unstructure_fallback_factory=_instance_unstructure,
        structure_fallback_factory=_instance_structure,
    )
    for base in (str, int, float):  # these go by inheritance, so they meet subclasses and mixed-in enums, too
        converter.register_unstructure_hook(base, _scalar_unstructure(base))
        converter.register_structure_hook(base, _scalar_structure(base))
    for kind in (bool, NoneType, bytes, Path, *_LEAVES):
        unstructure, structure = _leaf(kind)
        if kind in (bool, bytes, Path):  # cattrs has hooks of its own for them
            converter.register_unstructure_hook(kind, unstructure)
            converter.register_structure_hook(kind, structure)
        else:
            converter.register_unstructure_hook_func(_is(kind), unstructure)
            converter.register_structure_hook_func(_is(kind), structure)
    factories: list[tuple[Callable[[Any], bool], Any, Any]] = [
        (_is_anything, lambda _: _same, lambda _: _same_typed),
        (_is_enum, _enum_unstructure, _enum_structure),
        (_is_class, _class_unstructure, _class_structure),
        (_is_items, _items_unstructure, _items_structure),
        (_is_tuple, _tuple_unstructure, _tuple_structure),
        (_is_mapping, _mapping_unstructure, _mapping_structure),
        (typing.is_typeddict, _typeddict_unstructure, _typeddict_structure),
        (_is_namedtuple, _namedtuple_unstructure, _namedtuple_structure),
        (_is_literal, _literal_unstructure, _literal_structure),
        (_is_union, union_unstructure, union_structure),
    ]
    for predicate, unstructure_factory, structure_factory in factories:
        # cattrs counts the parameters of a factory; bound here, each has exactly two.
        converter.register_unstructure_hook_factory(predicate, _bind(unstructure_factory, converter))
        converter.register_structure_hook_factory(predicate, _bind(structure_factory, converter))
    return converter


def _bind(factory: Any, converter: Converter) -> Callable[[Any], Any]:
    if factory.__code__.co_argcount == 1:
        return factory  # type: ignore[no-any-return]
    return lambda cl: factory(cl, converter)


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda cl: cl is kind


def _same(value: Any) -> Any:
    return value


def _same_typed(value: Any, _: Any) -> Any:
    return value


_ANYTHING: tuple[Structure, Any] = (_same_typed, Any)


def _is_anything(cl: Any) -> bool:
    return cl in (Any, object, typing.NoReturn, typing.Never) or isinstance(cl, (typing.TypeVar, str, typing.ForwardRef))


def _instance_unstructure(cl: Any) -> Unstructure:
    """For classes that nobody has a hook for: the walk will say whether their instances can be stored."""

    def unstructure(value: Any) -> Any:
        if not _could_be(value, cl):
            raise mismatch(name_of(cl), value)
        return value

    return unstructure


def _instance_structure(cl: Any) -> Structure:
    unstructure = _instance_unstructure(cl)
    return lambda value, _: unstructure(value)


def _could_be(value: Any, cl: Any) -> bool:
    try:
        return isinstance(value, cl)
    except TypeError:  # not a class, or a Protocol that cannot be asked
        return True


# -- scalars -------------------------------------------------------------------------


def _scalar_unstructure(base: Any) -> Unstructure:
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


def _scalar_structure(base: Any) -> Structure:
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
_LEAVES: dict[type, tuple[tuple[type, ...], Callable[[Any], Any]]] = {
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


def _leaf(kind: type) -> tuple[Unstructure, Structure]:
    sources, parse = _LEAVES.get(kind, ((), _same))
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


def _is_enum(cl: Any) -> bool:
    return isinstance(cl, type) and issubclass(cl, Enum)


def _enum_unstructure(cl: Any) -> Unstructure:
    def unstructure(value: Any) -> Any:
        if type(value) is not cl and not isinstance(value, cl):
            raise mismatch(name_of(cl), value)
        return value.value

    return unstructure


def _enum_structure(_: Any) -> Structure:
    return _enum_member


def _enum_member(value: Any, cl: Any) -> Any:
    try:
        member = cl(value)
    except Exception:  # noqa: BLE001 -- a user's _missing_ may raise anything
        raise mismatch(name_of(cl), value) from None
    if (type(value) is bool) is not (type(member.value) is bool):  # 1 and True are equal
        raise mismatch(name_of(cl), value)
    return member


def _is_literal(cl: Any) -> bool:
    return get_origin(cl) is Literal


def _literal_unstructure(cl: Any) -> Unstructure:
    known = {(type(choice), choice) for choice in get_args(cl)}

    def unstructure(value: Any) -> Any:
        try:
            if (type(value), value) in known:
                return value.value if isinstance(value, Enum) else value
        except TypeError:  # not hashable
            pass
        raise mismatch(_choices(cl), value)

    return unstructure


def _literal_structure(cl: Any) -> Structure:
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


# -- classes ---------------------------------------------------------------------------
# Their hooks are made at first use: a class may contain itself.


def _is_class(cl: Any) -> bool:
    origin = get_origin(cl) or cl
    return isinstance(origin, type) and (attrs.has(origin) or hasattr(origin, "__dataclass_fields__"))


def _field_types(cl: Any) -> dict[str, Any]:
    if attrs.has(cl):
        return {field.name: field.type for field in attrs.fields(cl) if field.init}
    return {field.name: field.type for field in cl.__dataclass_fields__.values() if field.init}


def _closed(cl: Any) -> Any:
    """Fill the type parameters of a generic class that is used without brackets."""
    if get_origin(cl) is None and (parameters := getattr(cl, "__parameters__", ())):
        return cl[(Any,) * len(parameters)]
    return cl


def _class_unstructure(cl: Any, converter: Converter) -> Unstructure:
    origin = get_origin(cl) or cl
    inner: Unstructure | None = None

    def make(**overrides: Any) -> Unstructure:
        for name, annotation in _field_types(origin).items():
            if annotation is None:  # cattrs would look at the value instead
                overrides.setdefault(name, override(unstruct_hook=_same))
        closed = _closed(cl)
        if attrs.has(origin):
            attrs.resolve_types(origin)
        return make_dict_unstructure_fn(closed, converter, **overrides)

    def blame(value: Any, refused: Refused) -> None:
        # The generated function does not say which field it was at: let each go alone.
        names = list(_field_types(origin))
        for name in names:
            try:
                make(**{other: override(omit=True) for other in names if other != name})(value)
            except Refused as again:
                again.within(name)
                refused.path[:] = again.path
                return

    def unstructure(value: Any) -> Any:
        nonlocal inner
        if type(value) is not origin:
            raise mismatch(name_of(cl), value)
        if inner is None:
            inner = make()
        try:
            return inner(value)
        except Refused as refused:
            blame(value, refused)
            raise

    return unstructure


def _class_structure(cl: Any, converter: Converter) -> Structure:
    origin = get_origin(cl) or cl
    inner: Structure | None = None

    def structure(value: Any, _: Any) -> Any:
        nonlocal inner
        if type(value) is not dict:
            raise mismatch(name_of(cl), value)
        if inner is None:
            if attrs.has(origin):
                attrs.resolve_types(origin)
            inner = make_dict_structure_fn(_closed(cl), converter, _cattrs_detailed_validation=True)
        return inner(value, cl)

    return structure


def _typeddict_types(cl: Any) -> tuple[dict[str, Any], set[str]]:
    """Return the types of its keys, and which of them have to be there."""
    types, required = {}, set()
    for key, annotation in typing.get_type_hints(cl, include_extras=True).items():
        need, tp = key in cl.__required_keys__, annotation
        while get_origin(tp) in (typing.Required, typing.NotRequired):
            need, tp = get_origin(tp) is typing.Required, get_args(tp)[0]
        types[key] = tp
        if need:
            required.add(key)
    return types, required


def _typeddict_unstructure(cl: Any, converter: Converter) -> Unstructure:
    hooks: dict[str, Unstructure] = {}
    required: set[str] | None = None

    def unstructure(value: Any) -> Any:
        nonlocal required
        if required is None:
            types, required = _typeddict_types(cl)
            hooks.update((key, converter.get_unstructure_hook(tp)) for key, tp in types.items())
        if not isinstance(value, dict):
            raise mismatch(name_of(cl), value)
        if not required <= value.keys():
            raise Refused(f"expected {name_of(cl)}, got a dict without {min(required - value.keys())!r}")
        out = {}
        key = ""
        try:
            for key, item in value.items():
                out[key] = hooks.get(key, _same)(item)
        except Refused as refused:
            refused.within(key)
            raise
        return out

    return unstructure


def _typeddict_structure(cl: Any, converter: Converter) -> Structure:
    hooks: dict[str, tuple[Structure, Any]] = {}
    required: set[str] | None = None

    def structure(value: Any, _: Any) -> Any:
        nonlocal required
        if required is None:
            types, required = _typeddict_types(cl)
            hooks.update((key, (converter.get_structure_hook(tp), tp)) for key, tp in types.items())
        if not isinstance(value, dict):
            raise mismatch(name_of(cl), value)
        if not required <= value.keys():
            raise Refused(f"expected {name_of(cl)}, got a dict without {min(required - value.keys())!r}")
        keys = list(value)
        items = _each_typed(value.values(), (hooks.get(key, _ANYTHING) for key in keys), cl, keys)
        return dict(zip(keys, items, strict=True))

    return structure


def _is_namedtuple(cl: Any) -> bool:
    return isinstance(cl, type) and issubclass(cl, tuple) and hasattr(cl, "_fields")


def _namedtuple_unstructure(cl: Any, converter: Converter) -> Unstructure:
    hooks: list[Unstructure] | None = None

    def unstructure(value: Any) -> Any:
        nonlocal hooks
        if type(value) is not cl:
            raise mismatch(name_of(cl), value)
        if hooks is None:
            hints = typing.get_type_hints(cl, include_extras=True)
            hooks = [converter.get_unstructure_hook(hints.get(name, Any)) for name in cl._fields]
        return _each(value, hooks)

    return unstructure


def _namedtuple_structure(cl: Any, converter: Converter) -> Structure:
    hooks: list[tuple[Structure, Any]] | None = None
    needed = len(cl._fields) - len(cl._field_defaults)

    def structure(value: Any, _: Any) -> Any:
        nonlocal hooks
        if type(value) not in (list, tuple) or not needed <= len(value) <= len(cl._fields):
            raise mismatch(f"{name_of(cl)} as a list of {len(cl._fields)} items", value)
        if hooks is None:
            hints = typing.get_type_hints(cl, include_extras=True)
            types = [hints.get(name, Any) for name in cl._fields]
            hooks = [(converter.get_structure_hook(tp), tp) for tp in types]
        return cl(*_each_typed(value, hooks, cl))

    return structure


# -- containers ------------------------------------------------------------------------

# What each annotation takes; the first class is what a value of a subclass becomes.
_ITEMS: dict[Any, tuple[type, ...]] = {
    list: (list,),
    set: (set,),
    frozenset: (frozenset,),
    abc.Sequence: (list, tuple),
    abc.MutableSequence: (list,),
    abc.Set: (set, frozenset),
    abc.MutableSet: (set,),
    abc.Collection: (list, tuple, set, frozenset),
    abc.Iterable: (list, tuple, set, frozenset),
    abc.Container: (list, tuple, set, frozenset),
    abc.Reversible: (list, tuple),
}
_MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)


def _is_items(cl: Any) -> bool:
    return (get_origin(cl) or cl) in _ITEMS


def _is_mapping(cl: Any) -> bool:
    return (get_origin(cl) or cl) in _MAPPINGS


def _is_tuple(cl: Any) -> bool:
    return (get_origin(cl) or cl) is tuple


def _is_union(cl: Any) -> bool:
    return get_origin(cl) in (Union, UnionType)


def _each(items: Iterable[Any], hooks: Iterable[Unstructure]) -> list[Any]:
    out: list[Any] = []
    try:
        for hook, item in zip(hooks, items, strict=False):
            out.append(hook(item))  # noqa: PERF401 -- the length of out says where it failed
    except Refused as refused:
        refused.within(len(out))
        raise
    return out


def _each_typed(
    items: Iterable[Any], hooks: Iterable[tuple[Structure, Any]], cl: Any, keys: Sequence[Any] | None = None
) -> list[Any]:
    out, errors = [], []
    for index, ((hook, tp), item) in enumerate(zip(hooks, items, strict=False)):
        try:
            out.append(hook(item, tp))
        except Exception as error:  # noqa: BLE001 -- gathered, as cattrs does
            key = keys[index] if keys else index
            error.add_note(IterableValidationNote(f"structuring {cl} @ {key!r}", key, tp))
            errors.append(error)
    if errors:
        raise IterableValidationError(f"While structuring {cl}", errors, cl)
    return out


class _Always:
    """One hook for however many items there are."""

    def __init__(self, hook: Any) -> None:
        self.hook = hook

    def __iter__(self) -> _Always:
        return self

    def __next__(self) -> Any:
        return self.hook


def _items_check(cl: Any, kinds: tuple[type, ...]) -> Callable[[Any], type]:
    name = name_of(cl)

    def check(value: Any) -> type:
        kind = type(value)
        if kind in kinds:
            return kind
        for base in kinds:
            if isinstance(value, base):
                return base
        raise mismatch(name, value)

    return check


def _items_unstructure(cl: Any, converter: Converter) -> Unstructure:
    check = _items_check(cl, _ITEMS[get_origin(cl) or cl])
    hooks = _Always(converter.get_unstructure_hook((get_args(cl) or (Any,))[0]))
    as_they_are = hooks.hook is _same
    scalar = {(get_args(cl) or (None,))[0]} & _SCALARS

    def unstructure(value: Any) -> Any:
        kind = check(value)
        if as_they_are or scalar.issuperset(map(type, value)):
            return value if type(value) is kind else kind(value)
        out = _each(value, hooks)
        if kind is list:
            return out
        try:
            made = kind(out)
        except TypeError:
            made = ()
        return made if len(made) == len(value) else Members(out)

    return unstructure


def _items_structure(cl: Any, converter: Converter) -> Structure:
    kinds = _ITEMS[get_origin(cl) or cl]
    check = _items_check(cl, kinds)
    tp = (get_args(cl) or (Any,))[0]
    hooks = _Always((converter.get_structure_hook(tp), tp))
    scalar = {tp} & _SCALARS

    def structure(value: Any, _: Any) -> Any:
        kind = kinds[0] if type(value) is list else check(value)
        if scalar.issuperset(map(type, value)) and kind is type(value):
            return value
        out = _each_typed(value, hooks, cl)
        try:
            return out if kind is list else kind(out)
        except TypeError:
            raise mismatch(name_of(cl), value) from None

    return structure


def _tuple_unstructure(cl: Any, converter: Converter) -> Unstructure:
    check, types = _tuple_check(cl)
    hooks = _per_item([converter.get_unstructure_hook(tp) for tp in types], cl)

    def unstructure(value: Any) -> Any:
        check(value)
        return tuple(_each(value, hooks))

    return unstructure


def _tuple_structure(cl: Any, converter: Converter) -> Structure:
    check, types = _tuple_check(cl)
    hooks = _per_item([(converter.get_structure_hook(tp), tp) for tp in types], cl)

    def structure(value: Any, _: Any) -> Any:
        check(tuple(value) if type(value) is list else value)
        return tuple(_each_typed(value, hooks, cl))

    return structure


def _tuple_check(cl: Any) -> tuple[Callable[[Any], None], list[Any]]:
    args = get_args(cl)
    fixed = get_origin(cl) is tuple and args[-1:] != (...,)
    name = name_of(cl)

    def check(value: Any) -> None:
        if not isinstance(value, tuple) or (fixed and len(value) != len(args)):
            raise mismatch(name, value)

    return check, list(args) if fixed else [args[0] if args else Any]


def _per_item(hooks: list[Any], cl: Any) -> Any:
    return hooks if get_origin(cl) is tuple and get_args(cl)[-1:] != (...,) else _Always(hooks[0])


def _mapping_unstructure(cl: Any, converter: Converter) -> Unstructure:
    key_type, item_type = get_args(cl) or (Any, Any)
    key_hook, item_hook = converter.get_unstructure_hook(key_type), converter.get_unstructure_hook(item_type)

    def unstructure(value: Any) -> Any:
        if not isinstance(value, dict):
            raise mismatch(name_of(cl), value)
        pairs = []
        key: Any = None
        try:
            for key, item in value.items():
                pairs.append((key_hook(key), item_hook(item)))
        except Refused as refused:
            refused.within(key)
            raise
        try:
            made = dict(pairs)
        except TypeError:  # the keys are of a class, and have become dicts
            made = {}
        return made if len(made) == len(pairs) else [list(pair) for pair in pairs]

    return unstructure


def _mapping_structure(cl: Any, converter: Converter) -> Structure:
    key_type, item_type = get_args(cl) or (Any, Any)
    key_hook, item_hook = converter.get_structure_hook(key_type), converter.get_structure_hook(item_type)

    def structure(value: Any, _: Any) -> Any:
        pairs: Iterable[Any]
        if type(value) is list and all(type(pair) is list and len(pair) == 2 for pair in value):  # noqa: PLR2004
            pairs = value
        elif isinstance(value, dict):
            pairs = value.items()
        else:
            raise mismatch(name_of(cl), value)
        out: dict[Any, Any] = {}
        errors = []
        for key, item in pairs:
            try:
                out[key_hook(key, key_type)] = item_hook(item, item_type)
            except Exception as error:  # noqa: BLE001 -- gathered, as cattrs does
                error.add_note(IterableValidationNote(f"structuring {cl} @ key {key!r}", key, item_type))
                errors.append(error)
        if errors:
            raise IterableValidationError(f"While structuring {cl}", errors, cl)
        return out

    return structure


def explain(error: BaseException, _: Any = None) -> str:
    """Say what an exception of a structure hook means, for `cattrs.transform_error`."""
    match error:
        case Refused():
            return str(error)
        case KeyError():
            return "a required field is missing"
        case _:
            return f"{type(error).__name__}: {error}"
