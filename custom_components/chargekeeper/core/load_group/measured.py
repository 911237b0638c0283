"""The current that a charger is measured to draw, where that exceeds its setting."""

from dataclasses import dataclass
from math import inf

from ..limits import HIGHEST_CURRENT
from ..model import (
    CURRENT,
    CURRENT_L1,
    CURRENT_L2,
    CURRENT_L3,
    NOMINAL_VOLTAGE,
    PHASES,
    POWER,
    STATUS,
    UNIT_RATING,
    VOLTAGE,
    Readings,
    Status,
)

REPEATED_AFTER = 30.0
"""Seconds between two measurements above the setting that confirm each other. A car needs some to follow a setting."""

TOLERANCE = 0.1
"""Share of the setting by which a measurement may exceed it: tolerances of meters, cars and the mains voltage."""

LEAST_TOLERANCE = 1.0
"""Lowest tolerance in A."""


def measured_current(readings: Readings) -> tuple[float, float] | None:
    """Return the measured current of the busiest phase in A, and the monotonic time of the measurement.

    The current is that of the phases where they are reported. Otherwise it follows from the power, if the number of
    phases and the voltage are known. The sign is ignored, since clamps may be mounted the wrong way round. While the
    charger discharges, or above the unit rating, the result is None.
    """
    if readings.value(STATUS) is Status.DISCHARGING:
        return None
    found = [each for prop in (CURRENT, CURRENT_L1, CURRENT_L2, CURRENT_L3) if (each := readings.get(prop)) is not None]
    power = readings.get(POWER)
    if found:
        highest = max(found, key=lambda reading: abs(reading.value))
        amps = abs(highest.value)
        at = highest.observed_mono
    elif power is not None and (per_amp := _watts_per_amp(readings)) is not None:
        amps = abs(power.value) / per_amp
        at = power.observed_mono
    else:
        return None
    rating = readings.value(UNIT_RATING) or HIGHEST_CURRENT
    return (amps, at) if amps <= rating else None


def _watts_per_amp(readings: Readings) -> float | None:
    phases = readings.value(PHASES)
    volts = readings.value(VOLTAGE) or readings.value(NOMINAL_VOLTAGE)
    return None if not phases or not volts else phases * volts


@dataclass(slots=True)
class MeasuredExcess:
    """Finds out if a charger draws more than its setting. One measurement alone may be wrong, so two must agree."""

    amps: float = 0.0
    """The current in A that was measured repeatedly above the present setting; 0 if none was."""
    is_within: bool = False
    """True if the last measurement shows a current that flows and keeps to the setting."""
    _setting: float = inf
    _first_at: float = inf
    _lowest: float = inf
    _last_at: float = -inf

    @property
    def is_unconfirmed(self) -> bool:
        """True while the last measurement exceeds the setting by more than any that was repeated."""
        return self.amps < self._lowest < inf

    def update(self, setting: float, measured: tuple[float, float] | None) -> None:
        """Process a measurement (current in A, monotonic time) while the charger has a setting in A."""
        if setting != self._setting:
            self._setting = setting
            self._restart()
        if measured is None or measured[1] < self._last_at:
            return
        amps, at = measured
        self._last_at = at
        is_above = amps > setting + max(LEAST_TOLERANCE, TOLERANCE * setting)
        self.is_within = amps > LEAST_TOLERANCE and not is_above
        if not is_above:
            self._restart()
            return
        self._first_at = min(self._first_at, at)
        self._lowest = min(self._lowest, amps)
        if at >= self._first_at + REPEATED_AFTER:
            self.amps = self._lowest
            self._first_at = at
            self._lowest = amps

    def _restart(self) -> None:
        self.amps = 0.0
        self._first_at = self._lowest = inf
