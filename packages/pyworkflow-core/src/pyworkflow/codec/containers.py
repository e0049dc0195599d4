"""Hooks for lists, sets, tuples and dicts. A list is not taken for a tuple, nor a string for a list."""

# ruff: noqa: D103 -- each makes the hook, or tells the types, that its name says

from __future__ import annotations

from collections import abc
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, get_args, get_origin

from cattrs import Converter
from cattrs.errors import IterableValidationError, IterableValidationNote

from pyworkflow.codec.hooks import Structure, Unstructure, each, each_typed, same
from pyworkflow.codec.refusals import Refused, mismatch, name_of
from pyworkflow.codec.tags import Members

_SCALARS: frozenset[Any] = frozenset({str, int, float, bool, NoneType})

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


def is_items(cl: Any) -> bool:
    return (get_origin(cl) or cl) in _ITEMS


def is_mapping(cl: Any) -> bool:
    return (get_origin(cl) or cl) in _MAPPINGS


def is_tuple(cl: Any) -> bool:
    return (get_origin(cl) or cl) is tuple


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


def items_unstructure(cl: Any, converter: Converter) -> Unstructure:
    check = _items_check(cl, _ITEMS[get_origin(cl) or cl])
    hooks = _Always(converter.get_unstructure_hook((get_args(cl) or (Any,))[0]))
    as_they_are = hooks.hook is same
    scalar = {(get_args(cl) or (None,))[0]} & _SCALARS

    def unstructure(value: Any) -> Any:
        kind = check(value)
        if as_they_are or scalar.issuperset(map(type, value)):
            return value if type(value) is kind else kind(value)
        out = each(value, hooks)
        if kind is list:
            return out
        try:
            made = kind(out)
        except TypeError:
            made = ()
        return made if len(made) == len(value) else Members(out)

    return unstructure


def items_structure(cl: Any, converter: Converter) -> Structure:
    kinds = _ITEMS[get_origin(cl) or cl]
    check = _items_check(cl, kinds)
    tp = (get_args(cl) or (Any,))[0]
    hooks = _Always((converter.get_structure_hook(tp), tp))
    scalar = {tp} & _SCALARS

    def structure(value: Any, _: Any) -> Any:
        kind = kinds[0] if type(value) is list else check(value)
        if scalar.issuperset(map(type, value)) and kind is type(value):
            return value
        out = each_typed(value, hooks, cl)
        try:
            return out if kind is list else kind(out)
        except TypeError:
            raise mismatch(name_of(cl), value) from None

    return structure


def tuple_unstructure(cl: Any, converter: Converter) -> Unstructure:
    check, types = _tuple_check(cl)
    hooks = _per_item([converter.get_unstructure_hook(tp) for tp in types], cl)

    def unstructure(value: Any) -> Any:
        check(value)
        return tuple(each(value, hooks))

    return unstructure


def tuple_structure(cl: Any, converter: Converter) -> Structure:
    check, types = _tuple_check(cl)
    hooks = _per_item([(converter.get_structure_hook(tp), tp) for tp in types], cl)

    def structure(value: Any, _: Any) -> Any:
        check(tuple(value) if type(value) is list else value)
        return tuple(each_typed(value, hooks, cl))

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


def mapping_unstructure(cl: Any, converter: Converter) -> Unstructure:
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


def mapping_structure(cl: Any, converter: Converter) -> Structure:
    key_type, item_type = get_args(cl) or (Any, Any)
    key_hook, item_hook = converter.get_structure_hook(key_type), converter.get_structure_hook(item_type)

    def structure(value: Any, _: Any) -> Any:
        pairs: Iterable[Any]
        if type(value) is list and value and all(type(pair) is list and len(pair) == 2 for pair in value):  # noqa: PLR2004
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
