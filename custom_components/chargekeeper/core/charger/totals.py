"""The lifetime counters of a charger's paths, each believed as far as physics allows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..coerce import member, moment, number
from ..model import Reading, Source
from .energy import HIGHEST_TOTAL, could_have_flowed, moment_before


@dataclass(frozen=True, slots=True)
class _Counter:
    """What the counter of a path read last, and what is added to that, kWh."""

    reading: Reading[float]
    offset: float = 0.0
    fall: Reading[float] | None = None  # the first answer that read less
    fell_from: float = 0.0  # the lifetime energy at that moment


class LifetimeTotals:
    """Turns what each path's lifetime counter reads into the lifetime energy, which never falls.

    A total may rise by what could have flowed since the last total of the same path: what happened in between was not
    always seen. Where one is refused the last one stands, so that a value that stays is believed in time. A counter
    that falls, stays low and grows has started again, and the old total goes on with it.
    """

    def __init__(self) -> None:
        self._counters: dict[Source, _Counter] = {}

    def take(self, new: Reading[float], lifetime: Reading[float] | None) -> float | None:
        """Take what the counter of a path reads.

        Args:
            new: the counter, kWh.
            lifetime: the lifetime energy so far.

        Returns:
            The lifetime energy by this counter, perhaps less than `lifetime`. None where it is not to be believed.
        """
        counter = self._counters.get(new.source)
        if counter is None:
            return self._take_first(new, lifetime)
        last = replace(counter.reading, observed_mono=moment_before(counter.reading, new))
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
        """Take what `export` gave; what is garbled is left out."""
        for name, entry in stored.items() if isinstance(stored, Mapping) else ():
            source = member(Source, name)
            details = entry if isinstance(entry, Mapping) else {}
            value = number(details.get("value"))
            observed_at = moment(details.get("observed_at"))
            if source is not None and value is not None and observed_at is not None:
                offset = number(details.get("offset")) or 0.0
                self._counters[source] = _Counter(Reading(value, source, observed_at), offset)

    def _take_first(self, new: Reading[float], lifetime: Reading[float] | None) -> float | None:
        """Take the first total of a path: nothing but the lifetime energy says how high it may be."""
        if lifetime is None:
            possible = new.value <= HIGHEST_TOTAL
        else:
            since = moment_before(lifetime, new)
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
