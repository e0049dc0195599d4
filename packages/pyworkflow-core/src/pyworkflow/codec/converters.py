"""Values of annotated types as standard Python values and back: one cattrs converter that guesses nothing.

Going out, attrs classes, dataclasses, enums and the like become dicts, lists and scalars; what `tags` can write stays.
A value that does not fit its annotation is refused on the way out already, so that what was written can be read.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cattrs import Converter, transform_error

from pyworkflow.codec import containers, records, scalars
from pyworkflow.codec.hooks import Structure, Unstructure, same, same_typed
from pyworkflow.codec.refusals import Refused, mismatch, name_of
from pyworkflow.codec.unions import is_union, union_structure, union_unstructure


def strict_converter() -> Converter:
    """Return a converter with the hooks of this module; further hooks take precedence over them."""
    converter = Converter(
        unstructure_fallback_factory=_instance_unstructure,
        structure_fallback_factory=_instance_structure,
    )
    for base in (str, int, float):  # these go by inheritance, so they meet subclasses and mixed-in enums, too
        converter.register_unstructure_hook(base, scalars.scalar_unstructure(base))
        converter.register_structure_hook(base, scalars.scalar_structure(base))
    for kind in (bool, type(None), bytes, Path, *scalars.LEAVES):
        unstructure, structure = scalars.leaf(kind)
        if kind in (bool, bytes, Path):  # cattrs has hooks of its own for them
            converter.register_unstructure_hook(kind, unstructure)
            converter.register_structure_hook(kind, structure)
        else:
            converter.register_unstructure_hook_func(_is(kind), unstructure)
            converter.register_structure_hook_func(_is(kind), structure)
    factories: list[tuple[Callable[[Any], bool], Any, Any]] = [
        (_is_anything, lambda _: same, lambda _: same_typed),
        (scalars.is_enum, scalars.enum_unstructure, scalars.enum_structure),
        (records.is_class, records.class_unstructure, records.class_structure),
        (containers.is_items, containers.items_unstructure, containers.items_structure),
        (containers.is_tuple, containers.tuple_unstructure, containers.tuple_structure),
        (containers.is_mapping, containers.mapping_unstructure, containers.mapping_structure),
        (typing.is_typeddict, records.typeddict_unstructure, records.typeddict_structure),
        (records.is_namedtuple, records.namedtuple_unstructure, records.namedtuple_structure),
        (scalars.is_literal, scalars.literal_unstructure, scalars.literal_structure),
        (is_union, union_unstructure, union_structure),
    ]
    for predicate, unstructure_factory, structure_factory in factories:
        # Bound here, since cattrs tells by the parameters of a factory what to call it with.
        converter.register_unstructure_hook_factory(predicate, _bind(unstructure_factory, converter))
        converter.register_structure_hook_factory(predicate, _bind(structure_factory, converter))
    return converter


def _bind(factory: Any, converter: Converter) -> Callable[[Any], Any]:
    if factory.__code__.co_argcount == 1:
        return factory  # type: ignore[no-any-return]
    return lambda cl: factory(cl, converter)


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda cl: cl is kind


def _is_anything(cl: Any) -> bool:
    unknown = isinstance(cl, (typing.TypeVar, typing.ForwardRef, str)) or getattr(cl, "_is_protocol", False)
    return unknown or cl in (Any, object, typing.NoReturn, typing.Never)


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


def problems(error: BaseException) -> list[str]:
    """Return what went wrong while structuring, each as ``what @ path``."""
    return transform_error(error, format_exception=_explain)


def _explain(error: BaseException, _: Any = None) -> str:
    match error:
        case Refused():
            return str(error)
        case KeyError():
            return "a required field is missing"
        case _:
            return f"{type(error).__name__}: {error}"
