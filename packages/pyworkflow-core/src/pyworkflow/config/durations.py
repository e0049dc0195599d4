"""Durations as people write them: ``90``, ``"30s"``, ``"1h30m"``, ``"PT1H30M"``."""

from __future__ import annotations

import functools
import math
import re
from datetime import timedelta
from typing import Any

from pyworkflow.errors import ConfigError

Duration = float | str | timedelta
"""What `seconds` takes."""

FORMS = 'seconds (90, 1.5), units ("500ms", "30s", "1h30m", "2 days", "1w"), ISO 8601 ("PT1H30M"), or a timedelta'

_SECONDS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+"
_WORDS = {
    "w": "weeks?|w",
    "d": "days?|d",
    "h": "hours?|hrs?|h",
    "m": "minutes?|mins?|m",
    "s": "seconds?|secs?|s",
    "ms": "milliseconds?|ms",
    "us": "microseconds?|us|µs",
}
_LIMIT = timedelta.max.total_seconds()


def seconds(value: Duration, *, name: str = "duration") -> float:
    """Return *value* in seconds; it may be negative.

    Args:
        value: Seconds, text such as ``"1h30m"``, or a `timedelta`.
        name: What an error calls it.

    Raises:
        ConfigError: It is none of these, is not finite, or is longer than a `timedelta` can be.
    """
    given: Any = value  # who calls this has it from somebody else
    match given:
        case bool():
            result = None
        case timedelta():
            result = given.total_seconds()
        case str():
            result = _parsed(given.strip())
        case int() | float():
            result = _finite(given)
        case _:
            result = None
    if result is None or abs(result) > _LIMIT:
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."  # noqa: PLR2004 -- a line's worth
        msg = f"the {name} {shown} is not valid; give {FORMS}"
        raise ConfigError(msg)
    return result


def delta(value: Duration, *, name: str = "duration") -> timedelta:
    """Return *value*, which is anything that `seconds` takes, as a `timedelta`."""
    if isinstance(value, timedelta):
        return value
    result = seconds(value, name=name)
    try:
        return timedelta(seconds=result)
    except OverflowError:  # the limit itself, rounded up
        return timedelta.max if result > 0 else timedelta.min


def _finite(value: float) -> float | None:
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of a number, of units, and of ISO 8601; compiled on first use, as that takes a while."""
    units = (rf"(?:(?P<{unit}>{_NUMBER}) *(?:{words})(?![a-zµ]) *)?" for unit, words in _WORDS.items())
    days, hours = ("".join(rf"(?:(?P<{unit.lower()}>{_NUMBER}){unit})?" for unit in part) for part in ("WD", "HMS"))
    return (
        re.compile(rf"[+-]?(?:{_NUMBER})"),
        # Each unit at most once and the longest first: "30m1h" and "1h1h" are more likely slips than wishes.
        re.compile("([+-]?) *" + "".join(units)),
        # Without years and months, which are not of one length.
        re.compile(rf"([+-]?)P{days}(?:T{hours})?"),
    )


def _parsed(text: str) -> float | None:
    number, units, iso = _patterns()
    if number.fullmatch(text):
        return _finite(float(text))
    match = units.fullmatch(text) or iso.fullmatch(text)
    if match is None:
        return None
    parts = [float(count) * _SECONDS[unit] for unit, count in match.groupdict().items() if count]
    if not parts or text.endswith("T"):
        return None
    return _finite(-math.fsum(parts) if match[1] == "-" else math.fsum(parts))


def text(duration: float) -> str:
    """Return *duration*, in seconds, for people: ``250ms``, ``1.5s``, ``1h 30m``, ``2d 3h``; rounded to two units."""
    if duration < 0:
        return "-" + text(-duration)
    for unit, long, part, short in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if duration >= long:
            whole = round(duration / short) * short
            if whole != duration:
                return text(whole)  # rounding up may have reached the next unit
            count, rest = divmod(whole, long)
            return f"{count}{unit} {rest // short}{part}" if rest else f"{count}{unit}"
    for unit, size, digits in (("s", 1.0, 1 if duration >= 10 else 2), ("ms", 1e-3, 0), ("us", 1e-6, 0)):  # noqa: PLR2004
        number = round(duration / size, digits)
        if number >= 1:
            return f"{number:g}{unit}" if number < 60 or unit != "s" else text(60.0)  # noqa: PLR2004
    return "0s"
