"""How soon ChargeKeeper may raise or start something by itself again; what the user asks for is never held up."""

from math import inf

from .clock import Clock

RAISE_SPACING = 60.0
"""Seconds at least between two automatic raises of the current."""

START_SPACING = 300.0
"""Seconds at least from an automatic start or stop to the next automatic start. A stop is never held up."""


class Pace:
    """When one charger was last raised, started or stopped automatically (monotonic seconds)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._raised_at = self._switched_at = -inf

    def raised(self) -> None:
        """The current was raised automatically, just now."""
        self._raised_at = self._clock.monotonic()

    def switched(self) -> None:
        """Charging was started or stopped automatically, just now."""
        self._switched_at = self._clock.monotonic()

    @property
    def raise_at(self) -> float:
        """From when on the current may be raised automatically."""
        return self._raised_at + RAISE_SPACING

    @property
    def start_at(self) -> float:
        """From when on charging may be started automatically."""
        return self._switched_at + START_SPACING
