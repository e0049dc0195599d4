"""The words of a command line as the arguments of a workflow."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any, cast

from pyworkflow.authoring.definitions import Workflow
from pyworkflow.codec import Codec
from pyworkflow.codec.json_text import loads_plain
from pyworkflow.errors import ConfigError, StorageError, Unstorable
from pyworkflow.events import Plain


def read_call(
    workflow: Workflow[..., Any], codec: Codec, texts: Sequence[str], named: Sequence[str]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call.

    A word is a JSON value, or else the text itself. What is JSON and does not fit the annotation, but does as text, is
    text: ``42`` is the order ``"42"`` where an order is a `str`.

    Args:
        workflow: What to call; its annotations say what the values become.
        codec: That of the application.
        texts: The positional arguments.
        named: The keyword arguments, as ``name=value``.

    Raises:
        ConfigError: They do not fit the workflow; the message shows its signature.
    """
    names = [_name(item) for item in named]
    if twice := next((name for name in names if names.count(name) > 1), None):
        msg = f"the argument {twice!r} is given twice"
        raise ConfigError(msg)
    words = [*texts, *(item.partition("=")[2] for item in named)]
    values = [value_of(word) for word in words]
    complaint = _complaint(workflow, codec, values, names)
    for at, (word, name) in enumerate(zip(words, _parameters(workflow, len(texts), names), strict=True)):
        if complaint is None:
            break
        if isinstance(values[at], str) or not _is_about(complaint, name):
            continue
        as_text = [*values[:at], word, *values[at + 1 :]]
        other = _complaint(workflow, codec, as_text, names)
        if other is None or not _is_about(other, name):  # this one fits as text, and something else is wrong
            values, complaint = as_text, other
    if complaint is not None:
        raise ConfigError(complaint)
    args, kwargs = _split(values, names)
    return workflow.signature_for(codec).decode_call(cast("Plain", args), cast("Plain", kwargs))


def value_of(word: str) -> Any:
    """Return what a word means: a JSON value, or else the text itself."""
    try:
        return loads_plain(word.strip())
    except StorageError:
        return word


def _name(item: str) -> str:
    name, equals, _ = item.partition("=")
    if not equals or not name.isidentifier():
        msg = f"{item!r} is not a keyword argument; write -k name=value"
        raise ConfigError(msg)
    return name


def _parameters(workflow: Workflow[..., Any], count: int, names: list[str]) -> list[str]:
    """Return the parameter of each of *count* positional arguments, and then *names*."""
    positional = [
        one.name for one in signature(workflow.function).parameters.values() if one.kind <= one.VAR_POSITIONAL
    ]
    return [positional[min(at, len(positional) - 1)] if positional else "" for at in range(count)] + names


def _is_about(complaint: str, name: str) -> bool:
    return complaint.startswith(f"argument {name!r} ")


def _split(values: list[Any], names: list[str]) -> tuple[list[Any], dict[str, Any]]:
    first = len(values) - len(names)
    return values[:first], dict(zip(names, values[first:], strict=True))


def _complaint(workflow: Workflow[..., Any], codec: Codec, values: list[Any], names: list[str]) -> str | None:
    args, kwargs = _split(values, names)
    try:
        workflow.signature_for(codec).decode_call(cast("Plain", args), cast("Plain", kwargs))
    except (TypeError, Unstorable) as error:
        return str(error)
    return None


def attribute(word: str) -> tuple[str, Any]:
    """Return the name and the value of ``name=value``.

    Raises:
        ConfigError: It is not written so.
    """
    name, equals, value = word.partition("=")
    if not equals or not name:
        msg = f"{word!r} is not an attribute; write NAME=VALUE"
        raise ConfigError(msg)
    return name, value_of(value)
