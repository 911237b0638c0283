"""Merge the lifetime counters of a charger's transports, each only as far as its rise is physically possible."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..coerce import member, moment, number
from ..model import Reading, Source
from .energy import HIGHEST_TOTAL, could_have_flowed, mono_before


@dataclass(frozen=True, slots=True)
class _Counter:
    """The last reading of a transport's counter, and the offset added to it, in kWh."""

    reading: Reading[float]
    offset: float = 0.0
    fall: Reading[float] | None = None  # the first lower reading
    fell_from: float = 0.0  # the lifetime energy at that time


class LifetimeTotals:
    """Turns the lifetime counter of each transport into the lifetime energy, which never falls.

    A total may rise by the energy that could have flowed since the last total of the same transport. Transports do
    not always see what happens in between. A refused total does not replace the last total, so that a value that stays
    is believed later. A counter that falls, stays low and grows has started again. The lifetime energy then continues
    from the old total.
    """

    def __init__(self) -> None:
        self._counters: dict[Source, _Counter] = {}

    def take(self, new: Reading[float], lifetime: Reading[float] | None) -> float | None:
        """Take the reading of a transport's counter.

        Args:
            new: the counter, in kWh.
            lifetime: the lifetime energy so far.

        Returns:
            The lifetime energy in kWh according to this counter; may be less than `lifetime`. None if the reading is
            not plausible.
        """
        counter = self._counters.get(new.source)
        if counter is None:
            return self._take_first(new, lifetime)
        last = replace(counter.reading, observed_mono=mono_before(counter.reading, new))
        counter = replace(counter, reading=last)
        self._counters[new.source] = counter
        if new.observed_mono < last.observed_mono:
            return None
        if new.value < last.value:
            return self._take_fall(counter, new, last.value if lifetime is None else lifetime.value)
        if new.value - last.value > could_have_flowed(new.observed_mono - last.observed_mono):
            return None
        self._counters[new.source] = _Counter(new, counter.offset)
        return _sum(new, counter.offset)

    def export(self) -> dict[str, object]:
        """Return what must outlive a restart, as JSON."""
        return {
            source: {
                "value": counter.reading.value,
                "offset": counter.offset,
                "observed_at": counter.reading.observed_at.isoformat(),
            }
            for source, counter in self._counters.items()
        }

    def restore(self, stored: object) -> None:
        """Restore what `export` returned. Skip garbled entries."""
        for name, entry in stored.items() if isinstance(stored, Mapping) else ():
            source = member(Source, name)
            details = entry if isinstance(entry, Mapping) else {}
            value = number(details.get("value"))
            observed_at = moment(details.get("observed_at"))
            if source is not None and value is not None and observed_at is not None:
                offset = number(details.get("offset")) or 0.0
                self._counters[source] = _Counter(Reading(value, source, observed_at), offset)

    def _take_first(self, new: Reading[float], lifetime: Reading[float] | None) -> float | None:
        """Take the first total of a transport: only the lifetime energy limits how high it may be."""
        if lifetime is None:
            possible = new.value <= HIGHEST_TOTAL
        else:
            since = mono_before(lifetime, new)
            possible = new.value - lifetime.value <= could_have_flowed(new.observed_mono - since)
            if not possible:
                base = Reading(lifetime.value, new.source, lifetime.observed_at, since)
                self._counters[new.source] = _Counter(base)
        if not possible:
            return None
        self._counters[new.source] = _Counter(new)
        return new.value

    def _take_fall(self, counter: _Counter, new: Reading[float], lifetime: float) -> float | None:
        """Decide whether a counter that reads less than before has started again."""
        fall = counter.fall
        if fall is None or not 0 <= new.value - fall.value <= could_have_flowed(new.observed_mono - fall.observed_mono):
            self._counters[new.source] = replace(counter, fall=new, fell_from=lifetime)
            return None
        if new.value == fall.value:
            return None
        offset = counter.fell_from - fall.value
        self._counters[new.source] = _Counter(new, offset)
        return _sum(new, offset)


def _sum(counter: Reading[float], offset: float) -> float:
    return round(counter.value + offset, 3) if offset else counter.value
