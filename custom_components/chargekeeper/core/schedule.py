"""Weekly schedules: windows in local time, across midnight and daylight-saving changes.

Each window opens once on the night of a clock change. A skipped time of day stands for the first instant after the gap.
A repeated time of day stands for its first occurrence.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from .model import Schedule, Window

HORIZON = timedelta(days=15)
"""How far ahead to search: two weeks, since a clock change can remove a weekly window once, plus a day for the zone."""

DAY = timedelta(days=1)

LONGEST_GAP = 24 * 60 * 60
"""Longest gap in seconds: a zone that moved across the date line skipped a whole day."""

INSTANTS_CACHED = 1024
"""Number of cached instants. Each snapshot asks for the same 34 instants of each window: start and end on 17 days."""


@lru_cache(maxsize=64)
def zone(key: str) -> tzinfo:
    """Return the time zone of an IANA name; UTC if the name is unknown.

    The first look-up of a name other than UTC reads a file. Do it in an executor before the event loop uses the name;
    later look-ups use the cache.
    """
    if key == "UTC":
        return UTC
    try:
        return ZoneInfo(key)
    except KeyError, ValueError, OSError:
        return UTC


def inside(schedule: Schedule, now: datetime) -> bool:
    """Return True if an enabled window is open at `now` (aware)."""
    return any(start <= now < end for start, end in _openings(schedule, now, DAY))


def next_start(schedule: Schedule, now: datetime) -> datetime | None:
    """Return the next time (UTC) after `now` (aware) at which an enabled window opens; None if no window ever opens."""
    return min((start for start, _ in _openings(schedule, now, HORIZON) if start > now), default=None)


def next_end(schedule: Schedule, now: datetime) -> datetime | None:
    """Return the time (UTC) from which no enabled window is open.

    The result is None if no enabled window is open now, or if the windows never close.

    Windows that overlap or follow each other without a break count as one.
    """
    end = now
    while ends := [closes for opens, closes in _openings(schedule, end, DAY) if opens <= end < closes]:
        end = max(ends)
        if end - now > HORIZON:
            return None
    return None if end == now else end


def disabled(schedule: Schedule) -> Schedule:
    """Return the enabled windows, disabled. Once the charger has them, its schedule blocks nothing."""
    return tuple(replace(window, enabled=False) for window in schedule if window.enabled)


def changed(schedule: Schedule, changes: Schedule) -> Schedule:
    """Return the schedule with its windows enabled or disabled as in `changes`, found by their content."""
    wanted = Counter((window.content, window.enabled) for window in changes)
    found = []
    for window in schedule:
        key = window.content, not window.enabled
        if wanted[key]:
            wanted[key] -= 1
            found.append(replace(window, enabled=not window.enabled))
        else:
            found.append(window)
    return tuple(found)


def disabled_of(originals: Schedule, present: Schedule) -> Schedule:
    """Return the enabled windows of `originals` that are disabled in `present`, found by their content."""
    on = Counter(window.content for window in present if window.enabled)
    off = Counter(window.content for window in present if not window.enabled)
    found = []
    for window in originals:
        if on[window.content]:
            on[window.content] -= 1
        elif off[window.content]:
            off[window.content] -= 1
            found.append(window)
    return tuple(found)


def missing(windows: Schedule, present: Schedule) -> Schedule:
    """Return the windows whose content is not in `present`, enabled or disabled."""
    left = Counter(window.content for window in present)
    found = []
    for window in windows:
        if left[window.content]:
            left[window.content] -= 1
        else:
            found.append(window)
    return tuple(found)


def same(schedule: Schedule, other: Schedule) -> bool:
    """Return True if both contain the same windows with the same enabled states, in any order."""
    contents = [Counter((window.content, window.enabled) for window in each) for each in (schedule, other)]
    return contents[0] == contents[1]


def encode(schedule: Schedule) -> list[dict[str, object]]:
    """Return the schedule as JSON."""
    return [
        {
            "slot": window.slot,
            "enabled": window.enabled,
            "days": sorted(window.days),
            "start": window.start.isoformat(),
            "end": window.end.isoformat(),
            "zone": window.zone,
            "max_current": window.max_current,
            "max_energy": window.max_energy,
        }
        for window in schedule
    ]


def decode(stored: object) -> Schedule | None:
    """Return the schedule that `encode` stored; None if any part is damaged. Never raises."""
    if not isinstance(stored, list):
        return None
    windows = [_decode_window(item) for item in stored]
    good = tuple(window for window in windows if window is not None)
    return good if len(good) == len(windows) else None


def _decode_window(stored: object) -> Window | None:
    match stored:
        case {
            "slot": int(slot),
            "enabled": bool(enabled),
            "days": list(days),
            "start": str(start),
            "end": str(end),
            "zone": str(name),
            "max_current": int(max_current),
            "max_energy": int(max_energy),
        } if all(type(day) is int and 0 <= day <= 6 for day in days):
            if any(isinstance(number, bool) for number in (slot, max_current, max_energy)):
                return None
            opens = _decode_time(start)
            closes = _decode_time(end)
            if opens is None or closes is None:
                return None
            return Window(slot, enabled, frozenset(days), opens, closes, name, max_current, max_energy)
    return None


def _decode_time(text: str) -> time | None:
    try:
        parsed = time.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is None else None


def _openings(schedule: Schedule, now: datetime, ahead: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Yield start and end (UTC) of each opening that may include `now` or begins within `ahead`."""
    for window in schedule:
        if not window.enabled or not window.days:
            continue
        local = zone(window.zone)
        today = now.astimezone(local).date()
        for offset in range(-1, ahead.days + 1):
            day = today + timedelta(days=offset)
            if day.weekday() not in window.days:
                continue
            start, end = _opening(window, day, local)
            if start < end:  # else the whole window is in a gap
                yield start, end


def _opening(window: Window, day: date, local: tzinfo) -> tuple[datetime, datetime]:
    last_day = day if window.start < window.end else day + DAY
    return _first_instant(datetime.combine(day, window.start), local), _first_instant(
        datetime.combine(last_day, window.end), local
    )


@lru_cache(maxsize=INSTANTS_CACHED)
def _first_instant(wall: datetime, local: tzinfo) -> datetime:
    """Return the instant (UTC) at which clocks in the zone first show `wall` or, in a gap, a later time."""
    instant = wall.replace(tzinfo=local).astimezone(UTC)
    if instant.astimezone(local).replace(tzinfo=None) == wall:
        return instant
    # In a gap, the wall time with the offset after the change and with the offset before it enclose the change.
    earliest = wall.replace(tzinfo=local, fold=1).astimezone(UTC).replace(microsecond=0)
    before = earliest.astimezone(local).utcoffset()

    def has_changed(second: int) -> bool:
        return (earliest + timedelta(seconds=second)).astimezone(local).utcoffset() != before

    return earliest + timedelta(seconds=bisect_left(range(LONGEST_GAP), True, key=has_changed))
