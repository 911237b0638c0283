"""How much energy can have flowed at most: no counter is believed further."""

from ..limits import HIGHEST_CURRENT
from ..model import Reading

HIGHEST_POWER = HIGHEST_CURRENT * 3 * 250 / 1000
"""Power that no charger exceeds, kW: the highest current on three phases of 250 V."""

ROUNDING = 1e-6
"""Energy by which sums may be off, kWh."""

HIGHEST_TOTAL = 1e6
"""Total that no charger reaches, kWh: two years without a break at the highest power."""


def could_have_flowed(seconds: float) -> float:
    """Return the most energy that can flow within some seconds, kWh."""
    return HIGHEST_POWER * max(seconds, 0.0) / 3600 + ROUNDING


def moment_before(old: Reading[float], new: Reading[float]) -> float:
    """Return the monotonic moment of a reading that came before `new`.

    For a reading from the store only the wall clock says how long ago that was. A wall clock that was set back says
    nothing: then no time has passed yet.
    """
    if old.observed_mono > float("-inf"):
        return old.observed_mono
    return new.observed_mono - max((new.observed_at - old.observed_at).total_seconds(), 0.0)
