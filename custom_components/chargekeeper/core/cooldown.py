"""How soon ChargeKeeper does something by itself again: raises and starts, and what has failed.

What the user asks for is never held up.
"""

from math import inf

from .clock import Clock

RAISE_SPACING = 60.0
"""Seconds at least between two automatic raises of the current."""

START_SPACING = 300.0
"""Seconds at least from an automatic start or stop to the next automatic start. The keeper holds no stop up."""

RETRY_AFTER = 30.0
LONGEST_RETRY = 300.0
"""Seconds between which the wait doubles after each failure."""


class Backoff:
    """When a step that failed may be tried again: after a wait that doubles, and only with a newer word of the path."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """The next try may be made at once: it is for something new, or the last one succeeded."""
        self._heard_at = self._due_at = -inf
        self._wait = RETRY_AFTER

    def failed(self, heard_at: float = -inf, *, at_least: float = 0.0) -> None:
        """A try failed; the next one waits `at_least` so many seconds.

        `heard_at` is the monotonic moment of the word on which the try was made, where that matters.
        """
        self._heard_at = heard_at
        self._due_at = self._clock.monotonic() + max(self._wait, at_least)
        self._wait = min(2 * self._wait, LONGEST_RETRY)

    def is_due(self, heard_at: float = inf) -> bool:
        """Whether the next try may be made, on a word of this moment."""
        return heard_at > self._heard_at and self._clock.monotonic() >= self._due_at


class Cooldown:
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
