"""Energy per quarter hour of the last day, as a box tells it: one slot of its day with each status, in rotation.

Kept over restarts of both sides: what the box forgets in a power cut was told before (docs/protocols/juicebox.md,
section 2.3.1).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ..core import schedule
from ..core.limits import HIGHEST_CURRENT

SLOTS = 96
QUARTER = timedelta(minutes=15)
DAY = timedelta(days=1)

DOUBT = timedelta(minutes=2)
"""A box knows the time to the minute, by the last command. So near to the beginning of a slot it may tell that of
yesterday or that of today; the next round, within the hour, tells for sure."""

HIGHEST_ENERGY = HIGHEST_CURRENT * 300 // 4
"""Wh; no box can give more in a quarter of an hour (at 300 V), so that a larger number is a damaged one."""


@dataclass(frozen=True, slots=True)
class EnergyInterval:
    """The energy of one quarter hour, Wh, and when the box told it. Both moments in UTC."""

    start: datetime
    energy: int
    reported_at: datetime

    @property
    def complete(self) -> bool:
        """Whether the quarter hour was over when it was told."""
        return self.reported_at >= self.start + QUARTER


@dataclass(slots=True)
class IntervalEnergy:
    """What a box told, slot by slot; a slot is written anew each day."""

    _slots: dict[int, EnergyInterval] = field(default_factory=dict)

    def record(self, slot: int, energy: int, now: datetime, zone: str) -> None:
        """Note what a status tells.

        Args:
            slot: 0 to 95 of the day in the zone of the box.
            energy: in that slot, Wh.
            now: when the status came.
            zone: IANA name.
        """
        if not 0 <= energy <= HIGHEST_ENERGY:
            return
        tz = schedule.zone(zone)
        local = now.astimezone(tz).replace(tzinfo=None)
        start = datetime.combine(local.date(), datetime.min.time()) + slot * QUARTER
        if abs(local - start) <= DOUBT or abs(local - start - DAY) <= DOUBT:
            return
        if start > local:
            start -= DAY
        start_utc = start.replace(tzinfo=tz).astimezone(UTC)
        if start_utc.astimezone(tz).replace(tzinfo=None) == start:  # else the clocks left it out that day
            self._slots[slot] = EnergyInterval(start_utc, energy, now.replace(microsecond=0))

    def known(self, now: datetime) -> list[EnergyInterval]:
        """The quarter hours of the last day that are known, oldest first."""
        recent = (interval for interval in self._slots.values() if interval.start > now - DAY)
        return sorted(recent, key=lambda interval: interval.start)

    def export(self) -> dict[str, list[int]]:
        """As JSON: by slot its start, its energy and when that was told; moments in seconds since 1970."""
        return {
            str(slot): [round(each.start.timestamp()), each.energy, round(each.reported_at.timestamp())]
            for slot, each in self._slots.items()
        }

    def restore(self, stored: object) -> None:
        """Take what `export` gave; whatever of it is damaged is left out."""
        for slot, entry in stored.items() if isinstance(stored, Mapping) else ():
            interval = _interval(entry)
            if interval is not None and slot in _NAMES:
                self._slots[int(slot)] = interval


_NAMES = frozenset(str(slot) for slot in range(SLOTS))


def _interval(entry: object) -> EnergyInterval | None:
    if not isinstance(entry, list) or len(entry) != 3 or not all(type(each) is int for each in entry):
        return None
    start, energy, reported_at = entry
    try:
        return EnergyInterval(datetime.fromtimestamp(start, UTC), energy, datetime.fromtimestamp(reported_at, UTC))
    except OverflowError, ValueError, OSError:
        return None
