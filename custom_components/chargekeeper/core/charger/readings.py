"""Merge the readings of all transports of one charger, by time and reading class.

An older observation never replaces a newer one, whichever transport brought it. Live values expire at their maximum
age, and counters do not fall. Configuration values stay; their source is `cache` while the transport that reported them
is not usable.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from enum import StrEnum
from math import inf
from typing import cast

from ..coerce import member, moment, number
from ..model import (
    CAR_CONNECTED,
    LIFETIME_ENERGY,
    PROPERTIES,
    SCHEDULE,
    SESSION_COST,
    SESSION_DURATION,
    SESSION_ENERGY,
    STATUS,
    Property,
    Reading,
    ReadingClass,
    Readings,
    Schedule,
    Source,
    Status,
)
from ..schedule import decode as decode_schedule, encode as encode_schedule
from .session import SessionEnergy, SessionStep
from .totals import LifetimeTotals

METER_FRESH = 900.0
"""Seconds after the reading of a real meter during which nothing is added to the lifetime energy."""

AHEAD = "ahead"
"""Key in the stored lifetime energy: True if that total is newer than the session energy."""

COUNTERS = "counters"
"""Key in a stored energy: the last reading of each transport's counter."""


class ReadingsStore:
    """The merged readings of one charger. `revision` grows with every change of a configuration value."""

    def __init__(self) -> None:
        self._readings = Readings()
        self._was_ahead = False
        self._session = SessionEnergy()
        self._totals = LifetimeTotals()
        self._metered_at = -inf
        self._may_fall: set[str] = set()  # session counters that have not started again yet
        self.revision = 0
        self.refused: Counter[str] = Counter()
        """Number of refused values by counter: a fall that was seen only once, or more energy than could have
        flowed."""

    def take(self, readings: Readings, *, meters_lifetime: bool) -> None:
        """Merge the readings of a transport.

        `meters_lifetime` is False for a transport whose charger has no meter that ChargeKeeper can read often. The
        lifetime energy then grows with the session energy, between the totals that the transport sometimes brings.
        """
        before = self._readings.get(SESSION_ENERGY)
        readings = readings.copy()
        step = self._merge_session(readings)
        self._merge_lifetime(readings)
        metered = readings.get(LIFETIME_ENERGY)
        if step is not None and step.is_new:
            self._may_fall = {SESSION_ENERGY.key, SESSION_COST.key}
        for prop, reading in readings.items():
            self._merge(prop, reading)
        for key, at in readings.retracted.items():
            self._retract(PROPERTIES[key], at)
        for key, at in readings.unreadable.items():
            self._keep_as_bound(PROPERTIES[key], at)
        status = readings.get(STATUS)
        if status is not None and status.value is Status.OFFLINE and self._readings.get(STATUS) is status:
            self._forget_live(status)
        if not meters_lifetime:
            self._add_session_gain(before, readings, step)
        elif metered is not None:
            self._metered_at = max(self._metered_at, metered.observed_mono)

    def get[T](self, prop: Property[T]) -> Reading[T] | None:
        """Return the newest reading of a property, whatever its age."""
        return self._readings.get(prop)

    def fresh[T](self, prop: Property[T], now: float) -> T | None:
        """Return the value of a property, or None if it is missing or has expired by the monotonic time `now`."""
        reading = self._readings.get(prop)
        return None if reading is None or reading.expires_at <= now else reading.value

    def visible(self, now: float, usable: Collection[Source]) -> tuple[Readings, float]:
        """Return the readings to show at the monotonic time `now`, and the time at which the first of them expires."""
        shown = Readings()
        until = inf
        for prop, reading in self._readings.items():
            if prop.kind is ReadingClass.LIVE:
                if reading.expires_at <= now:
                    continue
                until = min(until, reading.expires_at)
                shown.put(prop, reading)
            elif reading.source in usable or reading.source is Source.USER:
                shown.put(prop, reading)
            else:
                shown.put(prop, replace(reading, source=Source.CACHE))
        return shown, until

    def expire_live(self) -> None:
        """Remove all live values: nobody knows their age any more."""
        self._readings.remove_live()

    def export(self) -> dict[str, object]:
        """Return all that outlives a restart, as JSON."""
        session = self._readings.get(SESSION_ENERGY)
        lifetime = self._readings.get(LIFETIME_ENERGY)
        ahead = session is not None and lifetime is not None and self._is_ahead(lifetime, session)
        counters = {LIFETIME_ENERGY.key: self._totals.export(), SESSION_ENERGY.key: self._session.export()}
        return {
            prop.key: {
                "value": encode_schedule(self._schedule()) if prop is PROPERTIES[SCHEDULE.key] else reading.value,
                "source": reading.source,
                "observed_at": reading.observed_at.isoformat(),
                **({AHEAD: True} if ahead and prop.key == LIFETIME_ENERGY.key else {}),
                **({COUNTERS: counters[prop.key]} if counters.get(prop.key) else {}),
            }
            for prop, reading in self._readings.items()
            if prop.kind is not ReadingClass.LIVE and reading.source is not Source.USER
        }

    def restore(self, stored: object) -> None:
        """Restore what `export` returned. Skip garbled entries, and never replace known readings."""
        lifetime = _entry(stored, LIFETIME_ENERGY)
        self._was_ahead = lifetime.get(AHEAD) is True
        self._totals.restore(lifetime.get(COUNTERS))
        self._session.restore(_entry(stored, SESSION_ENERGY).get(COUNTERS))
        for key, entry in stored.items() if isinstance(stored, Mapping) else ():
            prop = PROPERTIES.get(key)
            if prop is None or prop.kind is ReadingClass.LIVE or prop in self._readings:
                continue
            if (reading := _reading_from(prop, entry)) is not None:
                self._readings.put(prop, reading)

    def _schedule(self) -> Schedule:
        return self._readings.value(SCHEDULE) or ()

    def _merge(self, prop: Property[object], new: Reading[object]) -> None:
        old = self._readings.get(prop)
        status = self._readings.get(STATUS)
        if prop.kind is ReadingClass.LIVE and status is not None and status.value is Status.OFFLINE:
            old = old or cast("Reading[object]", status)  # `offline` removed the values from before it
        if old is not None:
            if new.observed_mono < old.observed_mono:
                return
            falls = prop.kind is ReadingClass.CUMULATIVE and _number(new.value) < _number(old.value)
            if falls and prop.key not in self._may_fall:
                return
        self._may_fall.discard(prop.key)
        self._readings.put(prop, new)
        if prop.kind is ReadingClass.CONFIG and new != old:
            self.revision += 1

    def _keep_as_bound(self, limit: Property[object], at: float) -> None:
        """Mark a limit that became unreadable as cached. It never vanishes because an answer lacked it."""
        old = self._readings.get(limit)
        if old is not None and old.observed_mono <= at and old.source is not Source.USER:
            self._readings.put(limit, replace(old, source=Source.CACHE))

    def _retract(self, prop: Property[object], at: float) -> None:
        old = self._readings.get(prop)
        if old is not None and old.observed_mono <= at:
            self._readings.remove(prop)
            self.revision += prop.kind is ReadingClass.CONFIG

    def _merge_session(self, readings: Readings) -> SessionStep | None:
        """Replace the reading of one counter by the session energy over all transports."""
        if readings.value(CAR_CONNECTED) is False:
            self._session.unplugged = True
        new = readings.get(SESSION_ENERGY)
        old = self._readings.get(SESSION_ENERGY)
        if new is None or (old is not None and new.observed_mono < old.observed_mono):
            return None
        step = self._session.take(new, old, readings.value(SESSION_DURATION))
        if step is None:
            self.refused[SESSION_ENERGY.key] += 1
            readings.remove(SESSION_ENERGY)
        else:
            readings.put(SESSION_ENERGY, replace(new, value=step.total))
        return step

    def _merge_lifetime(self, readings: Readings) -> None:
        """Replace the reading of a lifetime counter by the lifetime energy that it stands for."""
        new = readings.get(LIFETIME_ENERGY)
        if new is None:
            return
        total = self._totals.take(new, self._readings.get(LIFETIME_ENERGY))
        if total is None:
            self.refused[LIFETIME_ENERGY.key] += 1
            readings.remove(LIFETIME_ENERGY)
        else:
            readings.put(LIFETIME_ENERGY, replace(new, value=total))

    def _add_session_gain(self, before: Reading[float] | None, readings: Readings, step: SessionStep | None) -> None:
        """Add the energy that the session gained to the lifetime energy.

        A total newer than the session reading `before` may already contain a part of that gain. Then nothing is added:
        the next total corrects a lifetime energy that is too low, but never one that is too high.
        """
        session = self._readings.get(SESSION_ENERGY)
        lifetime = self._readings.get(LIFETIME_ENERGY)
        if step is None or step.gained <= 0 or session is None or lifetime is None or before is None:
            return
        total_is_newer = self._is_ahead(lifetime, before)
        metered = session.observed_mono < self._metered_at + METER_FRESH  # a transport with a meter reports the total
        if LIFETIME_ENERGY not in readings and not total_is_newer and not metered:
            total = round(lifetime.value + step.gained, 3)
            self._readings.put(LIFETIME_ENERGY, replace(session, value=max(total, lifetime.value)))

    def _is_ahead(self, lifetime: Reading[float], session: Reading[float]) -> bool:
        """Return True if the total is newer than the session energy.

        The wall clock is not used, because somebody may have set it.
        """
        return (
            self._was_ahead
            if lifetime.observed_mono == session.observed_mono == -inf
            else lifetime.observed_mono > session.observed_mono
        )

    def _forget_live(self, offline: Reading[Status]) -> None:
        """Remove the live values from before `offline`, so that no old value is shown beside this status."""
        for prop, reading in self._readings.items():
            if (
                prop.kind is ReadingClass.LIVE
                and prop.key != STATUS.key
                and reading.observed_mono <= offline.observed_mono
            ):
                self._readings.remove(prop)


def _entry(stored: object, prop: Property[float]) -> Mapping[str, object]:
    """Return the stored entry of a property; empty if it is garbled."""
    entry = stored.get(prop.key) if isinstance(stored, Mapping) else None
    return entry if isinstance(entry, Mapping) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _reading_from(prop: Property[object], entry: object) -> Reading[object] | None:
    if not isinstance(entry, Mapping):
        return None
    observed_at = moment(entry.get("observed_at"))
    source = member(Source, entry.get("source"))
    value = _value_from(prop, entry.get("value"))
    if value is None or source is None or observed_at is None:
        return None
    return Reading(value, source, observed_at)


def _value_from(prop: Property[object], value: object) -> object | None:
    """Return the stored value in the property's type, or None."""
    if prop.key == SCHEDULE.key:
        return decode_schedule(value)
    if issubclass(prop.type, StrEnum):
        return member(prop.type, value)
    if prop.type is float:
        return number(value)
    return value if isinstance(value, prop.type) else None
