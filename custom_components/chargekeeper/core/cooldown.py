"""Limit how soon ChargeKeeper acts again by itself: automatic raises and starts, and retries after a failure.

Actions of the user are never delayed.
"""

from math import inf

from .clock import Clock

RAISE_SPACING = 60.0
"""Minimum seconds between two automatic raises of the current."""

START_SPACING = 300.0
"""Minimum seconds from an automatic start or stop to the next automatic start. A stop is never delayed."""

FIRST_RETRY = 30.0
LONGEST_RETRY = 300.0
"""First and longest wait in seconds; the wait doubles after each failure."""


class Backoff:
    """Decide when a failed step may be tried again: after a growing wait, and only on a newer status report."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Allow the next attempt at once. Call this after a success and before the first attempt at something new."""
        self._report_at = self._due_at = -inf
        self._wait = FIRST_RETRY

    def failed(self, report_at: float = -inf, *, at_least: float = 0.0) -> None:
        """Record a failed attempt.

        Args:
            report_at: monotonic time of the status report that caused the attempt, where a newer one is required.
            at_least: minimum seconds until the next attempt.
        """
        self._report_at = report_at
        self._due_at = self._clock.monotonic() + max(self._wait, at_least)
        self._wait = min(2 * self._wait, LONGEST_RETRY)

    def is_due(self, report_at: float = inf) -> bool:
        """Return True if the next attempt may be made on a status report of the monotonic time `report_at`."""
        return report_at > self._report_at and self._clock.monotonic() >= self._due_at


class Cooldown:
    """Remember when one charger was last raised, started or stopped automatically (monotonic seconds)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._raised_at = self._switched_at = -inf

    def raised(self) -> None:
        """Record that the current was just raised automatically."""
        self._raised_at = self._clock.monotonic()

    def switched(self) -> None:
        """Record that charging was just started or stopped automatically."""
        self._switched_at = self._clock.monotonic()

    @property
    def raise_at(self) -> float:
        """Monotonic time from which the current may be raised automatically."""
        return self._raised_at + RAISE_SPACING

    @property
    def start_at(self) -> float:
        """Monotonic time from which charging may be started automatically."""
        return self._switched_at + START_SPACING
