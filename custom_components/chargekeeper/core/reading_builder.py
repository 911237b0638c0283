"""What one answer of a path shows, put together as readings of one moment."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf

from .clock import Clock
from .model import LIVE_AGE, Property, Reading, ReadingClass, Readings, Source


@dataclass(frozen=True, slots=True)
class Timestamp:
    """One moment on both clocks: the wall's, aware, and the monotonic one in seconds."""

    observed_at: datetime
    observed_mono: float

    @classmethod
    def of(cls, clock: Clock) -> Timestamp:
        """The present moment."""
        return cls(clock.now(), clock.monotonic())

    def earlier(self, seconds: float) -> Timestamp:
        """The moment so many seconds before."""
        return Timestamp(self.observed_at - timedelta(seconds=seconds), self.observed_mono - seconds)


class ReadingBuilder:
    """Readings of one source that the charger showed at one moment; live ones expire at the age of the source."""

    def __init__(self, source: Source, seen: Timestamp, live_age: float | None = None) -> None:
        """Begin; `live_age` (s) where it is another than that of the source."""
        self.readings = Readings()
        self._source = source
        self._seen = seen
        self._live_age = live_age

    def put[T](self, prop: Property[T], value: T | None) -> None:
        """Note a value, unless there is none."""
        if value is None:
            return
        max_age = inf
        if prop.kind is ReadingClass.LIVE:
            max_age = LIVE_AGE[self._source] if self._live_age is None else self._live_age
        self.readings.put(prop, Reading(value, self._source, self._seen.observed_at, self._seen.observed_mono, max_age))

    def retract_missing(self, props: Iterable[Property[object]], at: float) -> None:
        """Of these, what is not noted is known to be unknown since the monotonic moment `at`."""
        for prop in props:
            if prop not in self.readings:
                self.readings.retract(prop, at)
