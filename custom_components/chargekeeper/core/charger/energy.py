"""Limit how much energy can have flowed: no counter is believed beyond that limit."""

from ..limits import HIGHEST_CURRENT
from ..model import Reading

HIGHEST_POWER = HIGHEST_CURRENT * 3 * 250 / 1000
"""Power that no charger exceeds, in kW: the highest current on three phases of 250 V."""

ROUNDING = 1e-6
"""Tolerance of energy sums, in kWh."""

HIGHEST_TOTAL = 1e6
"""Total that no charger reaches, in kWh: two years without a break at the highest power."""


def could_have_flowed(seconds: float) -> float:
    """Return the most energy that can flow within `seconds`, in kWh."""
    return HIGHEST_POWER * max(seconds, 0.0) / 3600 + ROUNDING


def mono_before(old: Reading[float], new: Reading[float]) -> float:
    """Return the monotonic time of `old`, a reading from before `new`.

    Only the wall clock tells the age of a stored reading. If the wall clock was set back, no time counts as passed.
    """
    if old.observed_mono > float("-inf"):
        return old.observed_mono
    return new.observed_mono - max((new.observed_at - old.observed_at).total_seconds(), 0.0)
