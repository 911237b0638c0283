"""Build the readings that one answer of a transport contains, all with the same time."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf

from .clock import Clock
from .model import LIVE_AGE, Property, Reading, ReadingClass, Readings, Source


@dataclass(frozen=True, slots=True)
class Timestamp:
    """One point in time on both clocks: the wall clock (aware) and the monotonic clock (seconds)."""

    observed_at: datetime
    observed_mono: float

    @classmethod
    def of(cls, clock: Clock) -> Timestamp:
        """Return the present time."""
        return cls(clock.now(), clock.monotonic())

    def earlier(self, seconds: float) -> Timestamp:
        """Return this timestamp minus `seconds`."""
        return Timestamp(self.observed_at - timedelta(seconds=seconds), self.observed_mono - seconds)


class ReadingBuilder:
    """Builds readings of one source and one time. Live readings expire after the maximum age of the source."""

    def __init__(self, source: Source, seen: Timestamp, live_age: float | None = None) -> None:
        """Create a builder; `live_age` (s) replaces the maximum age of the source."""
        self.readings = Readings()
        self._source = source
        self._seen = seen
        self._live_age = live_age

    def put[T](self, prop: Property[T], value: T | None) -> None:
        """Add a value; ignore None."""
        if value is None:
            return
        max_age = inf
        if prop.kind is ReadingClass.LIVE:
            max_age = LIVE_AGE[self._source] if self._live_age is None else self._live_age
        self.readings.put(prop, Reading(value, self._source, self._seen.observed_at, self._seen.observed_mono, max_age))

    def retract_missing(self, props: Iterable[Property[object]], at: float) -> None:
        """Retract each of `props` that has no reading, as of the monotonic time `at`."""
        for prop in props:
            if prop not in self.readings:
                self.readings.retract(prop, at)

    def put_limit(self, limit: Property[float], amps: float | None) -> None:
        """Add a limit in A; if it is unreadable, its last value remains a bound."""
        self.put(limit, amps)
        if amps is None:
            self.readings.keep_as_bound(limit, self._seen.observed_mono)
