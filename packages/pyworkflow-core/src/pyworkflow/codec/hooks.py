"""What the hooks of a converter are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cattrs.errors import IterableValidationError, IterableValidationNote

from pyworkflow.codec.refusals import Refused

Unstructure = Callable[[Any], Any]
Structure = Callable[[Any, Any], Any]


def same(value: Any) -> Any:
    """Leave it as it is, on the way out."""
    return value


def same_typed(value: Any, _: Any) -> Any:
    """Leave it as it is, on the way in."""
    return value


def each(items: Iterable[Any], hooks: Iterable[Unstructure]) -> list[Any]:
    """Unstructure *items*, each by its hook; a refusal learns which one it was."""
    out: list[Any] = []
    try:
        for hook, item in zip(hooks, items, strict=False):
            out.append(hook(item))
    except Refused as refused:
        refused.within(len(out))
        raise
    return out


def each_typed(
    items: Iterable[Any], hooks: Iterable[tuple[Structure, Any]], cl: Any, keys: Sequence[Any] | None = None
) -> list[Any]:
    """Structure *items*, each by its hook, for a *cl*; what went wrong is gathered, as cattrs does."""
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
