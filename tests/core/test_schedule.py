"""Weekly windows: across midnight, in skipped and repeated hours, compared with a clock read minute by minute."""

from bisect import bisect_left
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import accumulate
import json
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings, strategies as st
import pytest

from custom_components.chargekeeper.core import schedule as module
from custom_components.chargekeeper.core.model import Schedule, Window
from custom_components.chargekeeper.core.schedule import (
    changed,
    decode,
    disabled,
    disabled_of,
    encode,
    inside,
    missing,
    next_end,
    next_start,
    same,
    zone,
)

ALL_DAYS = frozenset(range(7))
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

CHANGES = (
    ("UTC", date(2026, 6, 1)),
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("America/New_York", date(2026, 3, 8)),
    ("America/New_York", date(2026, 11, 1)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),  # half an hour repeated
    ("Australia/Lord_Howe", date(2026, 10, 4)),  # half an hour skipped
    ("America/Havana", date(2026, 3, 8)),  # midnight skipped
    ("America/Havana", date(2026, 11, 1)),
    ("Pacific/Apia", date(2011, 12, 30)),  # a whole day skipped
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def window(start: str, end: str, key: str = "UTC", days: frozenset[int] = ALL_DAYS, *, enabled: bool = True) -> Window:
    return Window(0, enabled, days, time.fromisoformat(start), time.fromisoformat(end), key)


@cache
def wall_clock(key: str, day: date) -> tuple[datetime, list[datetime]]:
    """Return for each minute the latest local time shown so far, from 4 days before the change to 4 weeks after."""
    begin = datetime.combine(day - 4 * DAY, time(), UTC)
    local = ZoneInfo(key)
    shown = ((begin + n * MINUTE).astimezone(local).replace(tzinfo=None) for n in range(32 * 24 * 60))
    return begin, list(accumulate(shown, max))


def openings(schedule: Schedule, key: str, day: date) -> list[tuple[datetime, datetime]]:
    """Return when windows are open: from the first minute at or after the start until one at or after the end."""
    begin, shown = wall_clock(key, day)
    found = []
    for one in schedule:
        for offset in range(-3, 26):
            first = day + offset * DAY
            last = first if one.end > one.start else first + DAY
            start = bisect_left(shown, datetime.combine(first, one.start))
            end = bisect_left(shown, datetime.combine(last, one.end))
            if one.enabled and first.weekday() in one.days and start < end:
                found.append((begin + start * MINUTE, begin + end * MINUTE))
    return found


minutes = st.integers(0, 24 * 60 - 1).map(lambda minute: time(minute // 60, minute % 60))
night = st.integers(0, 5 * 60).map(lambda minute: time(minute // 60, minute % 60))
some_days = st.just(ALL_DAYS) | st.frozensets(st.integers(0, 6))


def cases_of(key: str, day: date) -> st.SearchStrategy[tuple[str, date, Schedule, datetime]]:
    """Return up to three windows in a zone, and a moment near a change of its clock."""
    windows = st.builds(Window, st.just(0), st.booleans(), some_days, minutes | night, minutes | night, st.just(key))
    moments = st.integers(-24 * 60, 48 * 60).map(lambda offset: datetime.combine(day, time(), UTC) + offset * MINUTE)
    return st.tuples(st.just(key), st.just(day), st.lists(windows, max_size=3).map(tuple), moments)


@given(st.sampled_from(CHANGES).flatmap(lambda change: cases_of(*change)))
@settings(deadline=None)
def test_schedule_agrees_with_clock_read_minute_by_minute(case: tuple[str, date, Schedule, datetime]) -> None:
    key, day, schedule, now = case
    found = openings(schedule, key, day)
    assert inside(schedule, now) is any(start <= now < end for start, end in found)
    coming = [start for start, _ in found if now < start <= now + 15 * DAY]
    assert next_start(schedule, now) == min(coming, default=None)
    closes = now
    for start, end in sorted(found):
        if start <= closes < end:
            closes = end
    assert next_end(schedule, now) == (closes if now < closes <= now + 15 * DAY else None)


def test_window_across_midnight_belongs_to_day_of_start() -> None:
    friday_night = (window("22:00", "06:00", days=frozenset({4})),)
    assert not inside(friday_night, at("2026-11-06T21:59:59Z"))
    assert inside(friday_night, at("2026-11-06T22:00:00Z"))
    assert inside(friday_night, at("2026-11-07T05:59:59Z"))  # Saturday morning
    assert not inside(friday_night, at("2026-11-07T06:00:00Z"))
    assert not inside(friday_night, at("2026-11-06T05:00:00Z"))  # Friday morning belongs to Thursday
    assert next_start(friday_night, at("2026-11-06T22:00:00Z")) == at("2026-11-13T22:00:00Z")
    assert next_end(friday_night, at("2026-11-06T23:00:00Z")) == at("2026-11-07T06:00:00Z")


def test_window_with_equal_times_lasts_whole_day() -> None:
    monday = (window("08:00", "08:00", days=frozenset({0})),)
    assert inside(monday, at("2026-11-02T08:00:00Z"))
    assert inside(monday, at("2026-11-03T07:59:00Z"))
    assert not inside(monday, at("2026-11-03T08:00:00Z"))


def test_zone_of_window_counts_whatever_zone_of_now() -> None:
    evening = (window("18:00", "20:00", "America/New_York"),)
    now = datetime(2026, 7, 1, 22, 30, tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo("Asia/Tokyo"))
    assert inside(evening, now)
    assert next_end(evening, now) == at("2026-07-02T00:00:00Z")


@pytest.mark.parametrize(
    ("start", "end", "opens", "closes"),
    [
        ("02:30", "05:00", "2026-03-29T03:00+02:00", "2026-03-29T05:00+02:00"),  # the start is skipped
        ("01:00", "02:30", "2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"),  # the end is skipped
        (
            "02:10",
            "02:50",
            "2026-04-05T02:10+02:00",
            "2026-04-05T02:50+02:00",
        ),  # the whole window is skipped: opens a week later
    ],
)
def test_window_in_skipped_hour_shortened_or_left_out(start: str, end: str, opens: str, closes: str) -> None:
    sunday = (window(start, end, "Europe/Berlin", frozenset({6})),)
    assert next_start(sunday, at("2026-03-28T12:00+01:00")) == at(opens)
    assert next_end(sunday, at(opens)) == at(closes)


def test_window_in_repeated_hour_opens_once() -> None:
    sunday = (window("02:15", "02:45", "Europe/Berlin", frozenset({6})),)
    assert next_start(sunday, at("2026-10-24T12:00+02:00")) == at("2026-10-25T02:15+02:00")
    assert next_end(sunday, at("2026-10-25T02:15+02:00")) == at("2026-10-25T02:45+02:00")
    assert not inside(sunday, at("2026-10-25T02:30+01:00"))
    assert next_start(sunday, at("2026-10-25T02:45+02:00")) == at("2026-11-01T02:15+01:00")


@pytest.mark.parametrize(
    "schedule",
    [
        (),
        (window("22:00", "06:00", enabled=False),),
        (window("22:00", "06:00", days=frozenset()),),
    ],
)
def test_schedule_without_usable_window_never_opens(schedule: Schedule) -> None:
    now = at("2026-11-02T23:00Z")
    assert not inside(schedule, now)
    assert next_start(schedule, now) is None
    assert next_end(schedule, now) is None


def test_adjoining_windows_count_as_single_window() -> None:
    both = (window("20:00", "23:00"), window("23:00", "01:00"), window("22:00", "22:30"))
    assert next_end(both, at("2026-11-02T20:30Z")) == at("2026-11-03T01:00Z")


def test_window_that_never_closes_has_no_end() -> None:
    always = (window("00:00", "00:00", "Europe/Berlin"),)
    now = at("2026-10-24T12:00+02:00")
    assert inside(always, now)
    assert next_end(always, now) is None
    assert next_start(always, now) == at("2026-10-25T00:00+02:00")


@pytest.mark.parametrize(
    "key", ["", ".", "Europe", "Europe/Nowhere", "../etc/passwd", "/etc/passwd", "a" * 5000, "\0", "\ud800"]
)
def test_unknown_zone_counts_as_utc(key: str) -> None:
    assert zone(key) is UTC
    assert inside((window("12:00", "13:00", key),), at("2026-11-02T12:30Z"))


def test_zone_read_from_disk_once_and_utc_never(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counting(key: str) -> ZoneInfo:
        read.append(key)
        return ZoneInfo(key)

    monkeypatch.setattr(module, "ZoneInfo", counting)
    zone.cache_clear()
    for _ in range(3):
        inside((window("12:00", "13:00", "Asia/Tokyo"), window("12:00", "13:00")), at("2026-11-02T12:30Z"))
    assert read == ["Asia/Tokyo"]
    zone.cache_clear()


def test_disabled_returns_enabled_windows_switched_off() -> None:
    on, off = Window(0, True, ALL_DAYS, time(1), time(2)), Window(1, False, ALL_DAYS, time(3), time(4))
    assert disabled((on, off)) == (Window(0, False, ALL_DAYS, time(1), time(2)),)
    assert disabled((off,)) == ()


EVENING = window("22:00", "05:00")
NOON = window("11:30", "13:00")
SHUT = replace(EVENING, enabled=False)


def test_changed_windows_found_by_content() -> None:
    elsewhere = replace(SHUT, slot=3)
    assert changed((EVENING, NOON), (elsewhere,)) == (SHUT, NOON)
    assert changed((EVENING, EVENING), (elsewhere,)) == (SHUT, EVENING), "one of two alike"
    assert changed((SHUT, NOON), (elsewhere, replace(NOON, max_energy=1))) == (SHUT, NOON)


@pytest.mark.parametrize(
    ("present", "found"),
    [
        ((SHUT, NOON), (EVENING,)),
        ((EVENING, NOON), ()),
        ((replace(SHUT, slot=3, max_current=1),), (EVENING,)),
        ((replace(SHUT, max_current=6),), ()),
        ((EVENING, SHUT), ()),
        ((), ()),
    ],
    ids=["off", "on", "elsewhere", "edited", "a twin that is on", "gone"],
)
def test_windows_disabled_by_us_distinguished_from_external_changes(present: Schedule, found: Schedule) -> None:
    """Of two equal windows, one may have been disabled before; only the other is enabled again."""
    assert disabled_of((EVENING,), present) == found


def test_missing_window_is_neither_enabled_nor_disabled() -> None:
    assert missing((EVENING, EVENING, NOON), (SHUT,)) == (EVENING, NOON)


def test_schedules_equal_despite_order_and_slots() -> None:
    assert same((EVENING, NOON), (NOON, replace(EVENING, slot=7, max_current=1)))
    assert not same((EVENING, NOON), (EVENING,))
    assert not same((EVENING,), (SHUT,))


stored_windows = st.builds(
    Window,
    st.integers(0, 9),
    st.booleans(),
    st.frozensets(st.integers(0, 6)),
    st.times(),
    st.times(),
    st.text(),
    st.integers(0, 80),
    st.integers(0, 10**6),
)


@given(st.lists(stored_windows, max_size=5).map(tuple))
def test_schedule_decoded_unchanged_from_store(schedule: Schedule) -> None:
    assert decode(json.loads(json.dumps(encode(schedule)))) == schedule


GOOD = encode((window("22:00", "06:00"),))[0]


@pytest.mark.parametrize(
    "damage",
    [
        {"slot": "0"},
        {"slot": True},
        {"enabled": 1},
        {"days": None},
        {"days": [7]},
        {"days": [-1]},
        {"days": [True]},
        {"days": ["monday"]},
        {"start": "25:00"},
        {"start": 22},
        {"end": "06:00+01:00"},
        {"zone": None},
        {"max_current": 1.5},
        {"max_current": False},
        {"max_energy": True},
    ],
)
def test_schedule_with_damaged_window_rejected(damage: dict[str, object]) -> None:
    assert decode([GOOD]) is not None
    assert decode([GOOD, GOOD | damage]) is None


@pytest.mark.parametrize("key", GOOD)
def test_schedule_with_missing_field_rejected(key: str) -> None:
    assert decode([{name: value for name, value in GOOD.items() if name != key}]) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(sorted(GOOD)) | st.text(), inner),
)


@given(json_values)
@example(None)
@example({})
@example([None])
@example("[]")
def test_schedule_decoding_never_raises(stored: object) -> None:
    decoded = decode(stored)
    assert decoded is None or decode(encode(decoded)) == decoded
    if not isinstance(stored, list):
        assert decoded is None
