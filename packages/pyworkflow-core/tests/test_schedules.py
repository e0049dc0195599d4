import itertools
import subprocess
import sys
import zoneinfo
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyworkflow.authoring.schedule import Overlap, Schedule
from pyworkflow.codec import zones
from pyworkflow.errors import ConfigError

NEW_YORK, VIENNA, LORD_HOWE = "America/New_York", "Europe/Vienna", "Australia/Lord_Howe"
APIA, CAIRO, HAVANA, SAO_PAULO = "Pacific/Apia", "Africa/Cairo", "America/Havana", "America/Sao_Paulo"

# Each: expression, zone, what the clocks there show at first, and what they show when it is due.
TABLE = [
    # plain
    ("0 9 * * *", "UTC", "2026-01-01T08:59:59", ["2026-01-01T09:00+00:00", "2026-01-02T09:00+00:00"]),
    ("0 9 * * *", "UTC", "2026-01-01T09:00", ["2026-01-02T09:00+00:00"]),
    ("0 9 * * *", "UTC", "2026-01-01T08:59:59.999999", ["2026-01-01T09:00+00:00"]),
    ("0 9 * * *", "UTC", "2026-01-01T09:00:00.000001", ["2026-01-02T09:00+00:00"]),
    ("*/15 * * * *", "UTC", "2026-01-01T00:00", ["2026-01-01T00:15+00:00", "2026-01-01T00:30+00:00"]),
    ("5-10/5 0 * * *", "UTC", "2026-01-01T00:00", ["2026-01-01T00:05+00:00", "2026-01-01T00:10+00:00"]),
    ("0 0 1,15 * *", "UTC", "2026-01-01T00:00", ["2026-01-15T00:00+00:00", "2026-02-01T00:00+00:00"]),
    ("0 0 13 * FRI", "UTC", "2026-02-01T00:00", ["2026-02-06T00:00+00:00", "2026-02-13T00:00+00:00"]),
    ("0 0 L * *", "UTC", "2026-01-31T12:00", ["2026-02-28T00:00+00:00", "2026-03-31T00:00+00:00"]),
    ("0 0 * * 5L", "UTC", "2026-01-01T00:00", ["2026-01-30T00:00+00:00", "2026-02-27T00:00+00:00"]),
    ("0 0 * * FRI#2", "UTC", "2026-01-01T00:00", ["2026-01-09T00:00+00:00", "2026-02-13T00:00+00:00"]),
    ("0 0 * * 0", "UTC", "2026-01-01T00:00", ["2026-01-04T00:00+00:00"]),
    ("0 0 * * 7", "UTC", "2026-01-01T00:00", ["2026-01-04T00:00+00:00"]),
    ("59 23 31 12 *", "UTC", "2026-12-31T23:59", ["2027-12-31T23:59+00:00"]),
    # nicknames
    ("@hourly", "UTC", "2026-01-01T00:30", ["2026-01-01T01:00+00:00"]),
    ("@daily", "UTC", "2026-01-01T00:30", ["2026-01-02T00:00+00:00"]),
    ("@midnight", VIENNA, "2026-06-01T00:30", ["2026-06-02T00:00+02:00"]),
    ("@weekly", "UTC", "2026-01-01T00:30", ["2026-01-04T00:00+00:00"]),
    ("@monthly", "UTC", "2026-01-01T00:30", ["2026-02-01T00:00+00:00"]),
    ("@yearly", "UTC", "2026-01-01T00:30", ["2027-01-01T00:00+00:00"]),
    ("@Annually", "UTC", "2026-01-01T00:30", ["2027-01-01T00:00+00:00"]),
    # leap days
    ("0 0 29 2 *", "UTC", "2096-02-28T00:00", ["2096-02-29T00:00+00:00", "2104-02-29T00:00+00:00"]),
    ("0 12 29 2 *", VIENNA, "2027-01-01T00:00", ["2028-02-29T12:00+01:00", "2032-02-29T12:00+01:00"]),
    ("0 0 29 2 */7", "UTC", "2072-03-01T00:00", ["2088-02-29T00:00+00:00", "2128-02-29T00:00+00:00"]),
    # working days, over a weekend, and over both changes of the clocks
    ("0 9 * * MON-FRI", VIENNA, "2026-01-02T10:00", ["2026-01-05T09:00+01:00", "2026-01-06T09:00+01:00"]),
    ("0 9 * * MON-FRI", VIENNA, "2026-03-27T09:00", ["2026-03-30T09:00+02:00"]),
    ("0 9 * * MON-FRI", VIENNA, "2026-10-23T09:00", ["2026-10-26T09:00+01:00"]),
    # a time that the clocks skip
    ("30 2 * * *", NEW_YORK, "2026-03-07T03:00", ["2026-03-08T03:00-04:00", "2026-03-09T02:30-04:00"]),
    ("0 2 * * *", NEW_YORK, "2026-03-07T03:00", ["2026-03-08T03:00-04:00", "2026-03-09T02:00-04:00"]),
    ("30 2 * * *", VIENNA, "2026-03-28T03:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
    ("30 2 8 3 *", NEW_YORK, "2026-03-08T01:59:59", ["2026-03-08T03:00-04:00", "2027-03-08T02:30-05:00"]),
    ("30 2 * * *", NEW_YORK, "2026-03-08T03:00", ["2026-03-09T02:30-04:00"]),
    ("0,30 2 * * *", NEW_YORK, "2026-03-08T00:00", ["2026-03-08T03:00-04:00", "2026-03-09T02:00-04:00"]),
    ("0,30 2,3 * * *", NEW_YORK, "2026-03-08T00:00", ["2026-03-08T03:00-04:00", "2026-03-08T03:30-04:00"]),
    ("*/30 * * * *", NEW_YORK, "2026-03-08T01:00", ["2026-03-08T01:30-05:00", "2026-03-08T03:00-04:00"]),
    ("0 * * * *", NEW_YORK, "2026-03-08T01:00", ["2026-03-08T03:00-04:00", "2026-03-08T04:00-04:00"]),
    ("*/20 2 * * *", NEW_YORK, "2026-03-08T00:00", ["2026-03-09T02:00-04:00", "2026-03-09T02:20-04:00"]),
    ("0 */2 * * *", NEW_YORK, "2026-03-08T00:00", ["2026-03-08T04:00-04:00"]),
    # a midnight that they skip
    ("@daily", CAIRO, "2026-04-23T12:00", ["2026-04-24T01:00+03:00", "2026-04-25T00:00+03:00"]),
    ("*/15 0 * * *", CAIRO, "2026-04-23T12:00", ["2026-04-25T00:00+03:00"]),
    # a time that they show twice
    ("30 1 * * *", NEW_YORK, "2026-10-31T02:00", ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"]),
    ("30 2 * * *", VIENNA, "2026-10-24T03:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
    ("20,50 1 * * *", NEW_YORK, "2026-11-01T01:30", ["2026-11-01T01:50-04:00", "2026-11-02T01:20-05:00"]),
    ("0 2 * * *", NEW_YORK, "2026-10-31T03:00", ["2026-11-01T02:00-05:00"]),
    (
        "*/30 * * * *",
        NEW_YORK,
        "2026-11-01T01:00",
        ["2026-11-01T01:30-04:00", "2026-11-01T01:00-05:00", "2026-11-01T01:30-05:00", "2026-11-01T02:00-05:00"],
    ),
    ("0 * * * *", VIENNA, "2026-10-25T01:30", ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00"]),
    ("*/30 1 * * *", NEW_YORK, "2026-11-01T01:30", ["2026-11-01T01:00-05:00", "2026-11-01T01:30-05:00"]),
    # a midnight that they show twice
    ("@daily", HAVANA, "2026-10-31T12:00", ["2026-11-01T00:00-04:00", "2026-11-02T00:00-05:00"]),
    ("30 23 * * *", SAO_PAULO, "2018-02-17T12:00", ["2018-02-17T23:30-02:00", "2018-02-18T23:30-03:00"]),
    # clocks that are changed by half an hour
    ("15 2 * * *", LORD_HOWE, "2026-10-03T12:00", ["2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"]),
    ("45 1 * * *", LORD_HOWE, "2026-04-04T12:00", ["2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"]),
    ("*/15 2 * * *", LORD_HOWE, "2026-10-03T12:00", ["2026-10-04T02:30+11:00", "2026-10-04T02:45+11:00"]),
    ("*/15 2 * * *", LORD_HOWE, "2026-04-04T12:00", ["2026-04-05T02:00+10:30", "2026-04-05T02:15+10:30"]),
    (
        "*/15 * * * *",
        LORD_HOWE,
        "2026-04-05T01:30",
        ["2026-04-05T01:45+11:00", "2026-04-05T01:30+10:30", "2026-04-05T01:45+10:30", "2026-04-05T02:00+10:30"],
    ),
    # a day that did not happen, and zones off the hour
    (
        "0 9 * * *",
        APIA,
        "2011-12-29T08:00",
        ["2011-12-29T09:00-10:00", "2011-12-31T00:00+14:00", "2011-12-31T09:00+14:00"],
    ),
    ("0 */6 * * *", APIA, "2011-12-29T12:00", ["2011-12-29T18:00-10:00", "2011-12-31T00:00+14:00"]),
    ("0 9 * * FRI", APIA, "2011-12-24T00:00", ["2011-12-31T00:00+14:00", "2012-01-06T09:00+14:00"]),
    ("0 0 * * *", "Asia/Kathmandu", "2026-01-01T12:00", ["2026-01-02T00:00+05:45"]),
    ("*/30 * * * *", "Asia/Kolkata", "2026-01-01T00:00", ["2026-01-01T00:30+05:30"]),
]


@pytest.mark.parametrize("cron, zone, start, expected", TABLE)
def test_a_schedule_is_due_at_these_times(cron, zone, start, expected):
    at = datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(zone))
    schedule = Schedule(cron, zone)
    found = []
    for _ in expected:
        at = schedule.next_after(at)
        found.append(at)
    assert [due.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes") for due in found] == expected
    assert all(due.tzinfo is UTC for due in found)


@pytest.mark.parametrize("minute", range(0, 60, 10))
def test_a_fixed_time_does_not_fire_again_when_the_clocks_show_it_again(minute):
    again = datetime(2026, 11, 1, 1, minute, tzinfo=ZoneInfo(NEW_YORK), fold=1)
    assert Schedule("20,50 1 * * *", NEW_YORK).next_after(again) == datetime(2026, 11, 2, 6, 20, tzinfo=UTC)


def test_a_year_has_as_many_days_for_a_daily_schedule_as_for_people():
    for zone in (NEW_YORK, VIENNA, LORD_HOWE, CAIRO, HAVANA):
        for cron in ("30 1 * * *", "15 2 * * *", "0 0 * * *", "30 2 * * *"):
            year = (datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2027, 1, 1, 12, tzinfo=UTC))
            assert len(Schedule(cron, zone).between(*year)) == 365, (zone, cron)


def test_a_year_has_as_many_quarters_of_an_hour_as_pass():
    for zone in (NEW_YORK, LORD_HOWE):
        year = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
        found = Schedule("*/15 * * * *", zone).between(*year, limit=1_000_000)
        assert len(found) == 365 * 24 * 4, zone
        assert {later - before for before, later in itertools.pairwise(found)} == {timedelta(minutes=15)}


# -- against a clock that is looked at every minute -------------------------------------

CHANGES = [
    (NEW_YORK, datetime(2026, 3, 8, 7, tzinfo=UTC)),
    (NEW_YORK, datetime(2026, 11, 1, 6, tzinfo=UTC)),
    (LORD_HOWE, datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    (LORD_HOWE, datetime(2026, 4, 4, 15, tzinfo=UTC)),
    (CAIRO, datetime(2026, 4, 23, 22, tzinfo=UTC)),
    (HAVANA, datetime(2026, 11, 1, 5, tzinfo=UTC)),
    (APIA, datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ("Antarctica/Troll", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Antarctica/Troll", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("Pacific/Kwajalein", datetime(1993, 8, 21, 12, tzinfo=UTC)),
]
MINUTES = st.sets(st.integers(0, 59), min_size=1, max_size=4)
HOURS = st.sets(st.integers(0, 23), min_size=1, max_size=5)


def text_of(numbers):
    return ",".join(map(str, sorted(numbers)))


def minutes_from(start, count):
    return [start + timedelta(minutes=i) for i in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CHANGES), st.integers(1, 30), HOURS, st.integers(-180, 180))
def test_an_interval_fires_whenever_the_clocks_show_a_time_that_fits(change, every, hours, shift):
    name, instant = change
    zone, start = ZoneInfo(name), instant - timedelta(hours=26, minutes=shift)
    wanted = [
        minute
        for minute in minutes_from(start + timedelta(minutes=1), 52 * 60)
        if (shown := minute.astimezone(zone)).minute % every == 0 and shown.hour in hours
    ]
    schedule = Schedule(f"*/{every} {text_of(hours)} * * *", name)
    assert schedule.between(start, start + timedelta(hours=52), limit=10_000) == wanted


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CHANGES), MINUTES, HOURS, st.integers(-180, 180))
def test_a_fixed_time_fires_once_a_day_whatever_the_clocks_do(change, minutes, hours, shift):
    name, instant = change
    zone, start = ZoneInfo(name), instant - timedelta(hours=26, minutes=shift)
    end = start + timedelta(hours=52)
    first = {}  # what the clocks show, and when they show it first; seen from far enough before
    last = None
    for minute in minutes_from(start - timedelta(hours=30), 112 * 60):
        shown = minute.astimezone(zone).replace(tzinfo=None)
        while last is not None and (last := last + timedelta(minutes=1)) < shown:
            first.setdefault(last, minute)  # they skip it
        first.setdefault(shown, minute)
        last = shown
    wanted = {
        minute
        for shown, minute in first.items()
        if shown.minute in minutes and shown.hour in hours and start < minute <= end
    }
    schedule = Schedule(f"{text_of(minutes)} {text_of(hours)} * * *", name)
    assert schedule.between(start, end, limit=10_000) == sorted(wanted)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(CHANGES),
    st.sampled_from(["*/7 * * * *", "0 * * * *", "10,40 1,2 * * *", "*/30 0-3 * * *", "0 0 * * *"]),
    st.lists(st.integers(0, 2 * 86400), min_size=3, max_size=3).map(sorted),
)
def test_what_is_between_two_times_is_what_follows_one_after_another(change, cron, seconds):
    name, instant = change
    a, b, c = (instant - timedelta(days=1) + timedelta(seconds=second) for second in seconds)
    schedule = Schedule(cron, name)
    whole = schedule.between(a, c, limit=10_000)
    assert schedule.between(a, b, limit=10_000) + schedule.between(b, c, limit=10_000) == whole
    assert whole == sorted(set(whole))
    if whole:
        assert schedule.next_after(a) == whole[0]
        assert schedule.next_after(whole[0] - timedelta(microseconds=1)) == whole[0]


def test_between_begins_after_the_start_includes_the_end_and_stops_at_the_limit():
    schedule = Schedule("@hourly")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert schedule.between(start, start + timedelta(hours=2)) == [
        start + timedelta(hours=1),
        start + timedelta(hours=2),
    ]
    assert len(schedule.between(start, start + timedelta(days=365), limit=3)) == 3
    assert len(schedule.between(start, start + timedelta(days=365))) == 1000
    assert schedule.between(start, start + timedelta(days=1), limit=0) == []
    assert schedule.between(start, start - timedelta(days=1)) == []


@pytest.mark.parametrize("cron", ["0 0 */40 2 MON#5", "*/5 0 */40 2 MON#5"])
def test_there_is_no_next_time_if_none_comes_in_fifty_years(cron):
    assert Schedule(cron).next_after(datetime(2026, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize("cron", ["0 0 1 1 *", "*/5 * 1 1 *", "@daily"])
@pytest.mark.parametrize("zone", ["UTC", NEW_YORK, APIA])
def test_there_is_no_next_time_after_the_last_year(cron, zone):
    assert Schedule(cron, zone).next_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)) is None


# -- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    "cron, said",
    [
        ("61 * * * *", "the cron expression '61 * * * *' is not valid: the minute '61' does not exist"),
        ("0 24 * * *", "the hour '24' does not exist"),
        ("0 0 32 * *", "the day-of-month '32' does not exist"),
        ("0 0 30 2 *", "the day-of-month '30' does not exist"),
        ("0 0 31 4,6 *", "the day-of-month '31' does not exist"),
        ("0 0 * 13 *", "the month '13' does not exist"),
        ("0 0 * * FRY", "the day-of-week 'FRY' does not exist"),
        ("*/0 * * * *", "the minute '*/0' does not exist"),
        ("5-1 * * * *", "the minute '5-1' does not exist"),
        ("every day", "has 2 fields instead of 5"),
        ("* * * * * *", "has 6 fields instead of 5"),
        ("", "has 0 fields instead of 5"),
        ("@dayly", "there is no schedule '@dayly' (did you mean '@daily'?)"),
        ("@reboot", "there is no schedule '@reboot'"),
        (5, "a cron expression is text, and this is 5"),
        (None, "a cron expression is text, and this is None"),
    ],
)
def test_a_bad_expression_is_refused_with_what_is_wrong_and_how_to_write_it(cron, said):
    with pytest.raises(ConfigError) as caught:
        Schedule(cron)
    assert said in str(caught.value)
    assert "as in '0 9 * * MON-FRI'" in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.text("0123456789*/-,#LWMONJAFB@ ", max_size=20) | st.text(max_size=12))
def test_any_text_is_a_schedule_or_refused_by_our_own_error(text):
    try:
        schedule = Schedule(text)
    except ConfigError:
        return
    due = schedule.next_after(datetime(2026, 1, 1, tzinfo=UTC))
    assert due is None or due > datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "zone, said",
    [
        ("Europe/Wien", "there is no time zone 'Europe/Wien' (did you mean 'Europe/Vienna'?)"),
        ("Mars/Phobos", "there is no time zone 'Mars/Phobos'"),
        ("Europe", "there is no time zone 'Europe'"),
        ("", "there is no time zone ''"),
        ("../etc/passwd", "there is no time zone '../etc/passwd'"),
        ("a\0b", "there is no time zone 'a\\x00b'"),
        (None, "there is no time zone None"),
    ],
)
def test_an_unknown_zone_is_refused_with_what_is_wrong_and_what_to_give(zone, said):
    with pytest.raises(ConfigError) as caught:
        Schedule("@daily", zone)
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith("give an IANA name such as 'Europe/Vienna'")


def forget_zones():
    zoneinfo.ZoneInfo.clear_cache()
    zones.zone.cache_clear()
    zones._all.cache_clear()


@pytest.fixture
def no_zones(monkeypatch):
    """A machine without time zones, and without the package that brings some."""
    path = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(())
    forget_zones()
    for name in [name for name in sys.modules if name.partition(".")[0] == "tzdata"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tzdata", None)
    yield
    zoneinfo.reset_tzpath(path)
    forget_zones()


def test_a_machine_without_time_zones_is_told_to_install_them(no_zones):
    with pytest.raises(
        ConfigError, match="no time zones, and 'Europe/Vienna' is asked for: install the package 'tzdata'"
    ):
        Schedule("@daily", "Europe/Vienna")


def test_utc_needs_no_time_zones(no_zones):
    assert Schedule("@daily").next_after(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2026, 1, 2, tzinfo=UTC)


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(ConfigError, match=r"'cronsim': install pyworkflow-core with its extra 'schedules'"):
        Schedule("@daily")


def test_what_parses_expressions_is_imported_with_the_first_schedule():
    code = "import sys, pyworkflow, pyworkflow.app, pyworkflow.authoring.schedule; sys.exit('cronsim' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("method", ["next_after", "between"])
def test_a_naive_time_is_refused(method):
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 -- that is the point
    arguments = [naive] if method == "next_after" else [naive, datetime(2026, 1, 2, tzinfo=UTC)]
    with pytest.raises(ConfigError, match=rf"{method}\(\) was given the naive datetime 2026-01-01T00:00:00"):
        getattr(Schedule("@daily"), method)(*arguments)


# -- the rest of the value ------------------------------------------------------------


@pytest.mark.parametrize("given_as", ["skip", Overlap.SKIP])
def test_an_overlap_policy_is_given_by_name_or_as_itself(given_as):
    assert Schedule("@daily", overlap=given_as).overlap is Overlap.SKIP


def test_a_schedule_skips_overlaps_and_catches_up_for_a_day_unless_it_says_otherwise():
    schedule = Schedule("@daily")
    assert (schedule.timezone, schedule.overlap, schedule.catch_up) == ("UTC", Overlap.SKIP, timedelta(days=1))


def test_an_unknown_overlap_policy_is_refused():
    with pytest.raises(
        ConfigError, match=r"'skp' is unknown \(did you mean 'skip'\?\); give 'skip', 'allow' or 'cancel'"
    ):
        Schedule("@daily", overlap="skp")


@pytest.mark.parametrize("given_as", ["2h", 7200, timedelta(hours=2), "PT2H"])
def test_a_catch_up_window_is_a_duration(given_as):
    assert Schedule("@daily", catch_up=given_as).catch_up == timedelta(hours=2)


@pytest.mark.parametrize("window", ["-1h", "soon", None])
def test_a_window_that_makes_no_sense_is_refused(window):
    with pytest.raises(ConfigError, match="catch-up window"):
        Schedule("@daily", catch_up=window)


def test_schedules_are_equal_if_they_say_the_same():
    assert Schedule("0  9 * * *", "UTC") == Schedule(" 0 9 * *  *") != Schedule("0 9 * * *", VIENNA)
    assert hash(Schedule("@daily")) == hash(Schedule("@daily"))
