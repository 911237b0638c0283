"""Add up the energy of one session from counters that restart at a pause and differ between transports."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..coerce import member, number
from ..model import Reading, Source
from .energy import could_have_flowed, mono_before

RESTARTS_AT_PAUSE = frozenset({Source.UDP})
"""Transports whose counter restarts each time charging stops, even within a session (docs/protocols/juicebox.md,
section 2.3, field `E`)."""

LAG = 300.0
"""Maximum seconds by which a transport may lag behind a charger."""


@dataclass(frozen=True, slots=True)
class SessionStep:
    """Effect of one counter reading.

    `total` is the session energy, and `gained` the energy delivered since the last reading, in kWh. `is_new` is True
    for a new session.
    """

    total: float
    gained: float
    is_new: bool = False


@dataclass(slots=True)
class _Count:
    """What is known of one session."""

    total: float
    at: float  # monotonic time of the last reading that was believed and did not lag behind
    duration: float | None = None  # s, from the same answer
    restored_from: Source | None = None  # transport of the total that was restored
    raw: dict[Source, float] = field(default_factory=dict)  # last reading of each transport's counter
    before: dict[Source, float] = field(default_factory=dict)  # session energy when that counter began


@dataclass(frozen=True, slots=True)
class _Fall:
    """A counter that read less than before: the reading, and the session duration (s) from the same answer."""

    reading: Reading[float]
    duration: float | None


class SessionEnergy:
    """Adds up the session energy, which falls only with a new session.

    `unplugged` is set once the car was seen to leave. One answer alone does not end a session. An answer is ignored if
    it adds more energy than could have flowed since the last answer. A value that stays is believed as soon as enough
    time has passed, so that no energy is lost.
    """

    def __init__(self) -> None:
        self.unplugged = False
        self._count: _Count | None = None
        self._previous: _Count | None = None  # the session before this one, which may continue
        self._fall: _Fall | None = None  # seen once
        self._stored_raw: dict[Source, float] = {}
        self._stored_before: dict[Source, float] = {}

    def take(self, new: Reading[float], old: Reading[float] | None, duration: float | None) -> SessionStep | None:
        """Take the reading of a transport's counter.

        Args:
            new: the counter, in kWh.
            old: the session energy that was returned last.
            duration: the session duration from the same answer, in s.

        Returns:
            The effect of the reading; None if the reading is not plausible.
        """
        if old is None:
            return self._begin(new, duration)
        if self._count is None:
            at = mono_before(old, new)
            self._count = _Count(old.value, at, None, old.source, self._stored_raw, self._stored_before)
        count = self._count
        if new.value < count.raw.get(new.source, count.total):
            return self._take_fall(count, new, duration)
        if self._fall is not None and self._fall.reading.source is new.source:
            self._fall = None
        return self._resume(count, new, duration) or self._follow(count, new, duration)

    def export(self) -> dict[str, object]:
        """Return the last reading of each transport's counter, as JSON."""
        raw = self._stored_raw if self._count is None else self._count.raw
        before = self._stored_before if self._count is None else self._count.before
        return {source: {"value": value, "before": before.get(source, 0.0)} for source, value in raw.items()}

    def restore(self, stored: object) -> None:
        """Restore what `export` returned. Skip garbled entries."""
        for name, entry in stored.items() if isinstance(stored, Mapping) else ():
            source = member(Source, name)
            value = number(entry.get("value")) if isinstance(entry, Mapping) else None
            if source is not None and value is not None:
                self._stored_raw[source] = value
                self._stored_before[source] = number(entry.get("before")) or 0.0

    def _take_fall(self, count: _Count, new: Reading[float], duration: float | None) -> SessionStep | None:
        """Return the effect of a counter that reads less than before; None if the reading is not plausible."""
        possible = new.value <= could_have_flowed(new.observed_mono - count.at)
        if self.unplugged:
            return self._begin(new, duration) if possible else None
        if new.source in RESTARTS_AT_PAUSE:
            known = new.source in count.raw
            return self._follow(count, new, duration, before=count.total if known else count.total - new.value)
        is_other_transport = new.source not in count.raw and new.source is not count.restored_from
        if is_other_transport and not _is_shorter(count.duration, duration):
            count.raw[new.source] = new.value  # another transport lags behind or counts differently
            return SessionStep(count.total, 0.0)
        first = self._fall
        self._fall = _Fall(new, duration)
        if first is None or not possible or not _agree(first, self._fall):
            return None
        if count.duration is not None and duration is not None and duration >= count.duration:
            if new.value > first.reading.value:
                return self._follow(count, new, duration, before=count.total)
            self._fall = first  # a repeated reading; a counter that restarted also grows
            return None
        # A session longer than the gap between the readings is not new: the transport lags behind.
        is_new = duration is None or duration <= new.observed_mono - count.at + LAG
        return self._begin(new, duration) if is_new else None

    def _follow(
        self, count: _Count, new: Reading[float], duration: float | None, before: float | None = None
    ) -> SessionStep | None:
        """Let the session grow by a reading, unless that much energy cannot have flowed.

        `before` is the session energy at which the counter restarted; None if the counter did not restart.
        """
        base = count.before.get(new.source, 0.0) if before is None else before
        total = base + new.value
        gained = total - count.total
        if gained > could_have_flowed(new.observed_mono - count.at):
            return None
        count.before[new.source] = base
        count.raw[new.source] = new.value
        if gained >= 0:
            count.total = total
            count.at = new.observed_mono
            count.duration = duration if duration is not None else count.duration
        self._fall = None if before is not None else self._fall
        return SessionStep(count.total, max(gained, 0.0))

    def _resume(self, count: _Count, new: Reading[float], duration: float | None) -> SessionStep | None:
        """Continue the previous session if the counter shows that the previous session never ended."""
        previous = self._previous
        last = None if previous is None else previous.raw.get(new.source)
        if previous is None or last is None or new.value < last:
            return None
        rise = new.value - count.raw.get(new.source, 0.0)
        back_without_car = self.unplugged and new.value == last
        if rise <= could_have_flowed(new.observed_mono - count.at) and not back_without_car:
            return None
        gained_since = count.total
        step = self._follow(previous, new, duration)
        if step is None:
            return None
        self._count = previous
        self._previous = None
        return SessionStep(step.total, max(step.gained - gained_since, 0.0))

    def _begin(self, new: Reading[float], duration: float | None) -> SessionStep:
        is_new = self._count is not None
        self.unplugged = False
        self._fall = None
        self._previous = self._count
        self._count = _Count(new.value, new.observed_mono, duration, raw={new.source: new.value})
        return SessionStep(new.value, new.value if is_new else 0.0, is_new)


def _agree(first: _Fall, second: _Fall) -> bool:
    """Return True if one counter can have shown both readings without a restart in between."""
    before = first.reading
    after = second.reading
    if before.source is not after.source or after.observed_mono <= before.observed_mono:
        return False
    return 0 <= after.value - before.value <= could_have_flowed(after.observed_mono - before.observed_mono)


def _is_shorter(before: float | None, after: float | None) -> bool:
    """Return True if the session in another transport's answer is clearly a later one."""
    return before is not None and after is not None and after < before / 2
