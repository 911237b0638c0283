"""Energy per quarter hour of the last day. A box reports one slot with each status, and all slots in turn.

The energies survive restarts of the box and of ChargeKeeper. A power cut erases them in the box only
(docs/protocols/juicebox.md, section 2.3.1).
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
"""A box knows the time to the minute, by the last command. Near the beginning of a slot, its energy may be that of
yesterday or of today. The box reports the slot again within the hour, with the right energy."""

HIGHEST_ENERGY = HIGHEST_CURRENT * 300 // 4
"""Wh; no box can deliver more in a quarter of an hour (at 300 V), so that a larger number is damaged."""


@dataclass(frozen=True, slots=True)
class EnergyInterval:
    """Energy of one quarter hour in Wh, and when the box reported it. Both times are in UTC."""

    start: datetime
    energy: int
    reported_at: datetime

    @property
    def complete(self) -> bool:
        """True if the quarter hour was over when the box reported it."""
        return self.reported_at >= self.start + QUARTER


@dataclass(slots=True)
class IntervalEnergy:
    """Reported energies by slot of the day; each slot is overwritten every day."""

    _slots: dict[int, EnergyInterval] = field(default_factory=dict)

    def record(self, slot: int, energy: int, now: datetime, zone: str) -> None:
        """Record the energy of one slot.

        Args:
            slot: 0 to 95 of the day in the zone of the box.
            energy: in that slot, in Wh; a value out of range is ignored.
            now: when the status arrived.
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
        if start_utc.astimezone(tz).replace(tzinfo=None) == start:  # otherwise daylight saving skipped this time
            self._slots[slot] = EnergyInterval(start_utc, energy, now.replace(microsecond=0))

    def known(self, now: datetime) -> list[EnergyInterval]:
        """Return the known quarter hours of the last day, oldest first."""
        recent = (interval for interval in self._slots.values() if interval.start > now - DAY)
        return sorted(recent, key=lambda interval: interval.start)

    def export(self) -> dict[str, list[int]]:
        """Return JSON: by slot its start, energy and report time; times in seconds since 1970."""
        return {
            str(slot): [round(each.start.timestamp()), each.energy, round(each.reported_at.timestamp())]
            for slot, each in self._slots.items()
        }

    def restore(self, stored: object) -> None:
        """Load what `export` returned; damaged entries are left out."""
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
