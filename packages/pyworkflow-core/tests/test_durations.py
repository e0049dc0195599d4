"""Durations as people write them."""

from __future__ import annotations

import contextlib
import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyworkflow.config.durations import delta, seconds, text
from pyworkflow.errors import ConfigError


@pytest.mark.parametrize(
    "value,expected",
    [
        (90, 90.0),
        (1.5, 1.5),
        (0, 0.0),
        (-3, -3.0),
        ("45", 45.0),
        ("2.5", 2.5),
        ("-5", -5.0),
        ("30s", 30.0),
        ("500ms", 0.5),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        (" 1h30m ", 5400.0),
        ("2 days", 172800.0),
        ("1 day 12 hours", 129600.0),
        ("1w2d", 777600.0),
        ("1.5h", 5400.0),
        ("5 mins 2 secs", 302.0),
        ("1m500ms", 60.5),
        ("-5s", -5.0),
        ("0s", 0.0),
        ("PT1H30M", 5400.0),
        ("P1DT12H", 129600.0),
        ("P2W", 1209600.0),
        ("PT0.5S", 0.5),
        ("-PT5M", -300.0),
        (timedelta(hours=1), 3600.0),
        (timedelta(seconds=-1), -1.0),
    ],
)
def test_duration_is_read_as_seconds(value, expected):
    assert seconds(value) == pytest.approx(expected)
    assert delta(value) == timedelta(seconds=expected)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "soon",
        "1x",
        "h",
        "30m1h",
        "1h1h",
        "1h-30m",
        "1,5s",
        "--5s",
        "5S",
        "P",
        "PT",
        "P1DT",
        "P1Y",
        "P1M",
        "٣s",
        "nan",
        "inf",
        "1e5",
        "9" * 400 + "s",
        "99999999999w",
        math.nan,
        math.inf,
        -math.inf,
        10**400,
        1e300,
        True,
        None,
        b"1s",
        [1],
    ],
    ids=ascii,
)
def test_what_is_no_duration_is_refused_with_the_forms(value):
    with pytest.raises(ConfigError, match=r"(?s)^the pause .* is not valid; give seconds .*1h30m.*PT1H30M") as caught:
        seconds(value, name="pause")
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 300


def test_longest_timedelta_stays_one():
    assert delta(timedelta.max.total_seconds()) == timedelta.max
    assert delta(timedelta.min.total_seconds()) == timedelta.min


@pytest.mark.parametrize(
    "duration,expected",
    [
        (0, "0s"),
        (2e-7, "0s"),
        (0.00025, "250us"),
        (0.25, "250ms"),
        (0.9999, "1s"),
        (1.5, "1.5s"),
        (1.234, "1.23s"),
        (12.34, "12.3s"),
        (59.97, "1m"),
        (60, "1m"),
        (65.4, "1m 5s"),
        (3599.9, "1h"),
        (5400, "1h 30m"),
        (85000, "23h 37m"),
        (86399, "1d"),
        (183600, "2d 3h"),
        (-5, "-5s"),
    ],
)
def test_duration_is_written_in_two_units(duration, expected):
    assert text(duration) == expected


@given(st.text() | st.text("0123456789.+-PTWDHMSwdhms uµ", max_size=12))
def test_any_text_is_a_duration_or_a_config_error(value):
    with contextlib.suppress(ConfigError):
        assert math.isfinite(seconds(value))


@given(st.timedeltas(timedelta(0), timedelta(days=10_000)))
def test_what_is_written_is_read_back_to_within_a_rounding(duration):
    written = text(duration.total_seconds())
    assert seconds(written) == pytest.approx(duration.total_seconds(), rel=0.05, abs=1e-6)
