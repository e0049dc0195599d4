"""JSON values as text: quick to write and to import, as every storage and every function needs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from math import isinf
from typing import NoReturn

from pyworkflow.errors import StorageError
from pyworkflow.events import Plain


def _finite(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise ValueError(f"{text:.40} is no number that can be stored")
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)
_parse_from = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse).raw_decode

quote = json.encoder.encode_basestring_ascii
"""Returns a text as JSON has it, in quotes."""


def _made_once() -> Callable[[Plain, int], Iterable[str]]:
    """Return the C part of the encoder; `json.JSONEncoder.encode` makes one a call, which takes as long as the rest."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # an interpreter without the C part
        return lambda value, _: (_encoder.encode(value),)
    encode: Callable[[Plain, int], Iterable[str]] = make(
        None,
        _encoder.default,
        quote,
        None,
        ":",
        ",",
        *(False, False, False),  # sort, skip, allow NaN
    )
    return encode


pieces = _made_once()
"""Returns the pieces of a JSON value's text, in ASCII; the number is the indentation, of which there is none: 0."""


def dumps_plain(value: Plain) -> str:
    """Return a JSON value as text, in ASCII."""
    return "".join(pieces(value, 0))


def loads_plain(text: str | bytes) -> Plain:
    """Return what `dumps_plain` wrote.

    Raises:
        StorageError: The text is damaged.
    """
    try:
        text = text if isinstance(text, str) else text.decode()
        data, end = _parse_from(text)  # what `decode` does beside this is about white space
    except (ValueError, RecursionError) as error:
        raise StorageError(f"damaged JSON: {error} in {cut(text)}") from None
    if end != len(text):
        raise StorageError(f"damaged JSON: extra data at character {end} in {cut(text)}")
    return data


def cut(text: str | bytes) -> str:
    """Return the beginning of *text*, for errors."""
    return repr(text[:80])
