"""When a workflow is due by the clock: a cron expression in a time zone, summer time included.

What happens on the days on which clocks are changed:

- An expression for *fixed times*, in which neither minute nor hour begins with ``*``, as in ``30 2 * * *``, fires once
  for each time that it names: right after the gap for all that the clocks skip, the first time for what they repeat.
- Any other is an *interval*, as in ``*/15 * * * *`` or ``0 * * * *``, and keeps firing in real time: whenever the
  clocks show a time that fits, so twice for what they repeat, and not for what they skip.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from enum import Enum
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from pyworkflow.config.coercion import did_you_mean
from pyworkflow.config.durations import delta
from pyworkflow.errors import ConfigError

if TYPE_CHECKING:
    from cronsim import CronSim

_FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EXAMPLE = "write minute, hour, day of month, month and day of week, as in '0 9 * * MON-FRI'"
_SECOND = timedelta(seconds=1)
_STEP = timedelta(days=3)
"""No zone leaves an offset and comes back to it within so short a time."""


class Overlap(Enum):
    """What happens when a run is due while the one before is still going on."""

    SKIP = "skip"
    ALLOW = "allow"
    CANCEL = "cancel"


def _overlap(value: Any) -> Overlap:
    try:
        return Overlap(value)
    except ValueError:
        known = [overlap.value for overlap in Overlap]
        guess = did_you_mean(value, known) if isinstance(value, str) else ""
        msg = f"the overlap policy {value!r} is unknown{guess}; give 'skip', 'allow' or 'cancel'"
        raise ConfigError(msg) from None


def _window(value: Any) -> timedelta:
    window = delta(value, name="catch-up window")
    if window < timedelta(0):
        msg = f"the catch-up window {value!r} is negative; give 0 to leave out every time that was missed"
        raise ConfigError(msg)
    return window


def _text(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value


@frozen
class Schedule:
    """Times at which a workflow is due.

    Attributes:
        cron: Five fields, minute, hour, day of month, month, day of week, as in ``0 9 * * MON-FRI``; with ``L`` for the
            last day of a month, ``5L`` for its last Friday, ``FRI#2`` for the second one; or ``@yearly``, ``@monthly``,
            ``@weekly``, ``@daily``, ``@hourly``. Where both days are given, either is enough.
        timezone: An IANA name such as ``Europe/Vienna``: the clock that *cron* is about.
        overlap: What happens to a time that comes while the run before is still going on: ``"skip"`` leaves it out,
            ``"allow"`` starts another run beside it, ``"cancel"`` cancels the old run first.
        catch_up: How late a time may still start a run that nobody was there for, as `durations.seconds` takes it.

    Raises:
        ConfigError: The expression or the zone makes no sense, or what reads them is not installed.
    """

    cron: str = field(converter=_text)
    timezone: str = "UTC"
    overlap: Overlap = field(default=Overlap.SKIP, converter=_overlap, kw_only=True)
    catch_up: timedelta = field(default=timedelta(days=1), converter=_window, kw_only=True)

    def __attrs_post_init__(self) -> None:
        _zone(self.timezone)
        _parsed(self.cron, datetime(2000, 1, 1))  # noqa: DTZ001 -- what a clock shows

    def next_after(self, at: datetime) -> datetime | None:
        """Return the first time after *at*, in UTC; None: there is none within 50 years.

        Args:
            at: An aware time.
        """
        return next(self._after(_aware(at, "next_after")), None)

    def between(self, start: datetime, end: datetime, *, limit: int = 1000) -> list[datetime]:
        """Return the times after *start* up to, and with, *end*: the first *limit* of them, in UTC.

        So what is between A and B, and between B and C, is together what is between A and C.

        Args:
            start: An aware time.
            end: An aware time; before *start* there is nothing.
            limit: How many at most.
        """
        start, end = _aware(start, "between"), _aware(end, "between")
        found: list[datetime] = []
        for due in self._after(start):
            if due > end or len(found) >= limit:
                break
            found.append(due)
        return found

    def _after(self, at: datetime) -> Iterator[datetime]:
        """Yield the times after *at*, as long as there are any."""
        zone = _zone(self.timezone)
        try:
            yield from _fixed(self.cron, zone, at) if _is_fixed(self.cron) else _interval(self.cron, zone, at)
        except OverflowError:  # the end of the year 9999
            return


# -- from what clocks show to instants ---------------------------------------------


def _fixed(cron: str, zone: tzinfo, at: datetime) -> Iterator[datetime]:
    last = at
    for shown in _parsed(cron, _shown(at, zone)):
        due = _instant(shown, zone)
        if due > last:
            last = due
            yield due


def _interval(cron: str, zone: tzinfo, at: datetime) -> Iterator[datetime]:
    offset = _offset(at, zone)
    after = at + offset
    while True:  # once for each stretch in which what clocks show goes along with real time
        for shown in _parsed(cron, after.replace(tzinfo=None)):
            due = shown.replace(tzinfo=UTC) - offset
            change = _change(zone, at, due)
            if change is not None:
                break
            yield due
            at = due
        else:
            return
        at, offset = change, _offset(change, zone)
        after = at + offset - _SECOND  # the change itself may be due


def _shown(at: datetime, zone: tzinfo) -> datetime:
    """Return what the clocks of *zone* show, without the zone."""
    return at.astimezone(zone).replace(tzinfo=None)


def _offset(at: datetime, zone: tzinfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta(0)


def _instant(shown: datetime, zone: tzinfo) -> datetime:
    """Return when clocks show a time: the first time if they do twice, or right after the gap if they skip it."""
    due = shown.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _shown(due, zone) == shown:
        return due
    before = shown.replace(tzinfo=zone, fold=1).astimezone(UTC)  # in a gap these two stand on either side of it
    return _change(zone, before, due) or due


def _change(zone: tzinfo, after: datetime, until: datetime) -> datetime | None:
    """Return the first time after *after* and up to *until*, which is a whole second, that has another offset."""
    offset = _offset(after, zone)
    low = high = after.replace(microsecond=0)  # clocks are changed at whole seconds
    while _offset(high, zone) == offset:
        if high >= until:
            return None
        low, high = high, min(high + _STEP, until)
    while high - low > _SECOND:
        middle = low + (high - low) // _SECOND // 2 * _SECOND
        if _offset(middle, zone) == offset:
            low = middle
        else:
            high = middle
    return high


def _aware(at: datetime, name: str) -> datetime:
    if at.tzinfo is None:
        msg = f"{name}() was given the naive datetime {at.isoformat()}; say in which time zone, e.g. tzinfo=UTC"
        raise ConfigError(msg)
    return at.astimezone(UTC)


# -- what is written -----------------------------------------------------------------


def _is_fixed(cron: str) -> bool:
    minute, hour, *_ = _fields(cron)
    return not minute.startswith("*") and not hour.startswith("*")


def _fields(cron: str) -> list[str]:
    if not isinstance(cron, str):
        msg = f"a cron expression is text, and this is {cron!r}; {_EXAMPLE}"
        raise ConfigError(msg)
    if cron.startswith("@"):
        text = _NICKNAMES.get(cron.lower())
        if text is None:
            guess = did_you_mean(cron.lower(), _NICKNAMES)
            msg = f"there is no schedule {cron!r}{guess}; there are {', '.join(_NICKNAMES)}, or {_EXAMPLE}"
            raise ConfigError(msg)
        return text.split()
    fields = cron.split()
    if len(fields) != len(_FIELDS):
        msg = f"the cron expression {cron!r} has {len(fields)} fields instead of 5; {_EXAMPLE}"
        raise ConfigError(msg)
    return fields


def _parsed(cron: str, after: datetime) -> CronSim:
    """Return what clocks show when *cron* is due, after they show *after*."""
    fields = _fields(cron)
    try:
        from cronsim import CronSim, CronSimError
    except ModuleNotFoundError as error:
        msg = (
            "schedules need the package 'cronsim': install pyworkflow-core with its extra 'schedules', "
            "e.g. pip install --find-links dist 'pyworkflow-core[schedules]', "
            "after python3 dev.py nox -s dist in a clone"
        )
        raise ConfigError(msg) from error
    try:
        return CronSim(" ".join(fields), after)
    except CronSimError as error:
        wrong = str(error).removeprefix("Bad ")
        what = f"the {wrong} {fields[_FIELDS.index(wrong)]!r} does not exist" if wrong in _FIELDS else str(error)
    except Exception as error:  # noqa: BLE001 -- what the library does not expect is no expression either
        what = f"{type(error).__name__} {error}".strip()
    msg = f"the cron expression {cron!r} is not valid: {what}; {_EXAMPLE}"
    raise ConfigError(msg)


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # known without any data
    import zoneinfo

    from pyworkflow.codec.zones import zone

    try:
        return zone(name)  # a stored schedule names one, too
    except (LookupError, ValueError, OSError, TypeError, AttributeError):
        known = zoneinfo.available_timezones()
    if not known:
        msg = f"this machine has no time zones, and {name!r} is asked for: install the package 'tzdata'"
    else:
        guess = did_you_mean(name, known) if isinstance(name, str) else ""
        msg = f"there is no time zone {name!r}{guess}; give an IANA name such as 'Europe/Vienna'"
    raise ConfigError(msg)
