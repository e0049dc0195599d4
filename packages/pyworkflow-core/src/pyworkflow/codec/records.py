"""Hooks for classes with fields: attrs classes, dataclasses, typed dicts, named tuples.

They are completed at first use, since a class may contain itself.
"""

# ruff: noqa: D103 -- each makes the hook, or tells the types, that its name says

from __future__ import annotations

import typing
from typing import Any, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from pyworkflow.codec.hooks import Structure, Unstructure, each, each_typed, same, same_typed
from pyworkflow.codec.refusals import Refused, mismatch, name_of

_ANYTHING: tuple[Structure, Any] = (same_typed, Any)


def is_class(cl: Any) -> bool:
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


def class_unstructure(cl: Any, converter: Converter) -> Unstructure:
    origin = get_origin(cl) or cl
    inner: Unstructure | None = None

    def make(**overrides: Any) -> Unstructure:
        for name, annotation in _field_types(origin).items():
            if annotation is None:  # cattrs would look at the value instead
                overrides.setdefault(name, override(unstruct_hook=same))
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


def class_structure(cl: Any, converter: Converter) -> Structure:
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


def typeddict_unstructure(cl: Any, converter: Converter) -> Unstructure:
    hooks: dict[str, Unstructure] = {}
    required: set[str] | None = None

    def unstructure(value: Any) -> Any:
        nonlocal required
        if required is None:
            types, needed = _typeddict_types(cl)
            hooks.update((key, converter.get_unstructure_hook(tp)) for key, tp in types.items())
            required = needed
        if not isinstance(value, dict):
            raise mismatch(name_of(cl), value)
        if not required <= value.keys():
            raise Refused(f"expected {name_of(cl)}, got a dict without {min(required - value.keys())!r}")
        out = {}
        key = ""
        try:
            for key, item in value.items():
                out[key] = hooks.get(key, same)(item)
        except Refused as refused:
            refused.within(key)
            raise
        return out

    return unstructure


def typeddict_structure(cl: Any, converter: Converter) -> Structure:
    hooks: dict[str, tuple[Structure, Any]] = {}
    required: set[str] | None = None

    def structure(value: Any, _: Any) -> Any:
        nonlocal required
        if required is None:
            types, needed = _typeddict_types(cl)
            hooks.update((key, (converter.get_structure_hook(tp), tp)) for key, tp in types.items())
            required = needed
        if not isinstance(value, dict):
            raise mismatch(name_of(cl), value)
        if not required <= value.keys():
            raise Refused(f"expected {name_of(cl)}, got a dict without {min(required - value.keys())!r}")
        keys = list(value)
        items = each_typed(value.values(), (hooks.get(key, _ANYTHING) for key in keys), cl, keys)
        return dict(zip(keys, items, strict=True))

    return structure


def is_namedtuple(cl: Any) -> bool:
    return isinstance(cl, type) and issubclass(cl, tuple) and hasattr(cl, "_fields")


def namedtuple_unstructure(cl: Any, converter: Converter) -> Unstructure:
    hooks: list[Unstructure] | None = None

    def unstructure(value: Any) -> Any:
        nonlocal hooks
        if type(value) is not cl:
            raise mismatch(name_of(cl), value)
        if hooks is None:
            hints = typing.get_type_hints(cl, include_extras=True)
            hooks = [converter.get_unstructure_hook(hints.get(name, Any)) for name in cl._fields]
        return each(value, hooks)

    return unstructure


def namedtuple_structure(cl: Any, converter: Converter) -> Structure:
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
        return cl(*each_typed(value, hooks, cl))

    return structure
