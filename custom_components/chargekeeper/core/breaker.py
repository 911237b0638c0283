"""Is a path worth trying? A breaker counts whether its far end can be reached, and says when to ask again.

It sends nothing itself: whoever owns the path reports every answer here and looks at `due` for the next attempt.
"""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
import random

from .clock import Clock


class BreakerState(StrEnum):
    """How much a path can be trusted."""

    CLOSED = "closed"  # it carries
    DOUBTFUL = "doubtful"  # it failed just now; still used until that is confirmed
    OPEN = "open"  # it does not carry; only probes go out
    HALF_OPEN = "half_open"  # it carries again; used, and watched more closely


class Failure(StrEnum):
    """In which way the far end was not reached."""

    CONNECT = "connect"  # refused, or its name not found: told at once and cheap, so asked again soon
    OTHER = "other"  # timed out, 5xx, nonsense: may be a hiccup of the far end, so given some time


CONFIRMATIONS = {Failure.CONNECT: (2.0, 10.0), Failure.OTHER: (20.0,)}
"""Seconds after the first failure at which it is confirmed; when the last one fails too, the breaker opens."""

FIRST_PROBE = 15.0
"""Seconds of the first wait while open, before jitter: an outage of a minute is over soon after it ends."""

LONGEST_PROBE = 120.0
"""Seconds to which the wait doubles: a path is used again at most about two minutes after it came back."""

HALF_OPEN_PROBE = 15.0
"""Seconds between the good answers that close a half-open breaker."""

GOOD_TO_CLOSE = 3
"""Good answers in a row, the one that ended the outage included, until the path counts as whole."""

SHORTEST_BUSY = 1.0
LONGEST_BUSY = 3600.0
"""Seconds between which a `Backoff-After` is believed."""

BUSY_LADDER = (120.0, 240.0, 480.0, 900.0)
"""Seconds without requests after the first, second … throttling answer in a row that names no time itself."""

HURRY_EVERY = 5.0
"""Seconds at least between two moments at which the next attempt is brought forward."""

TIMER_SLACK = 0.1
"""Seconds by which a timer may fire before its moment; a failure that early still answers the attempt that was due."""


class Breaker:
    """Closed, doubtful, open or half-open; and besides that, busy while the far end asks to be left alone.

    Any answer that proves the far end reachable is `good`, an error of the request itself (4xx) included.
    """

    def __init__(self, clock: Clock, random: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._random = random
        self._state = BreakerState.CLOSED
        self._due: float | None = None
        self._confirmations: tuple[float, ...] = ()
        self._wait = FIRST_PROBE
        self._good = 0
        self._opened_at: datetime | None = None
        self._busy_until: float | None = None
        self._throttles = 0
        self._hurried_at: float | None = None
        self._listeners: dict[object, Callable[[], None]] = {}
        self._cancel_timer: Callable[[], None] | None = None

    @property
    def state(self) -> BreakerState:
        """What is thought of the path now."""
        return self._state

    @property
    def usable(self) -> bool:
        """Whether requests may take this path (it may be busy nevertheless)."""
        return self._state is not BreakerState.OPEN

    @property
    def closed(self) -> bool:
        """Whether nothing is wrong with the path."""
        return self._state is BreakerState.CLOSED

    @property
    def busy_until(self) -> float | None:
        """Monotonic moment until which the far end asked to be left alone; None when that is past."""
        if self._busy_until is None or self._clock.monotonic() >= self._busy_until:
            return None
        return self._busy_until

    @property
    def busy(self) -> bool:
        """Whether the far end asked to be left alone for now."""
        return self.busy_until is not None

    @property
    def opened_at(self) -> datetime | None:
        """Wall clock moment of the first failed answer of this outage or doubt; None while closed."""
        return self._opened_at

    @property
    def due(self) -> float | None:
        """Monotonic moment (it may be past) of the next confirmation or probe, never while busy; None while closed."""
        if self._due is None:
            return None
        return max(self._due, self.busy_until or self._due)

    def good(self) -> None:
        """The far end answered: it is reachable and not busy any more."""
        before = self._visible()
        self._throttles = 0
        self._set_busy(None)
        self._reached()
        self._tell_if_changed(before)

    def bad(self, failure: Failure) -> None:
        """The far end was not reached.

        Failures before the confirmation or probe was due are other requests of the same hiccup and say nothing new.
        """
        before = self._visible()
        now = self._clock.monotonic()
        if self._due is None:
            self._doubt(now, CONFIRMATIONS[failure])
        elif self._state is BreakerState.HALF_OPEN or now >= self._due - TIMER_SLACK:
            self._confirmations = self._confirmations[1:]
            if self._confirmations:
                self._due = self._confirmations[0]
            else:
                self._open(now)
        self._tell_if_changed(before)

    def slow(self) -> None:
        """No answer came within a patience shorter than a time-out: reason to look soon, but no proof of an outage."""
        if self._due is None:
            self._doubt(self._clock.monotonic(), CONFIRMATIONS[Failure.OTHER])
            self._tell()
        else:
            self.probe_now()

    def throttled(self, retry_after: float | None) -> None:
        """The far end is there but wants fewer requests.

        Args:
            retry_after: seconds for which it asked to be left alone, held to 1…3600. None where it named no time: then
                2, 4, 8 and 15 min after the first, second, third and each further such answer in a row.
        """
        before = self._visible()
        step = BUSY_LADDER[min(self._throttles, len(BUSY_LADDER) - 1)]
        self._throttles += 1
        seconds = step if retry_after is None else min(LONGEST_BUSY, max(SHORTEST_BUSY, retry_after))
        until = self._clock.monotonic() + seconds
        self._set_busy(max(until, self.busy_until or until))
        self._reached()
        self._tell_if_changed(before)

    def probe_now(self) -> None:
        """Bring the next confirmation or probe forward to now, at most every 5 s: something hints at a change."""
        now = self._clock.monotonic()
        if self._due is None or self._due <= now:
            return
        if self._hurried_at is not None and now - self._hurried_at < HURRY_EVERY:
            return
        self._hurried_at = now
        self._due = now
        self._tell()

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each change of state or of busy, and when `probe_now` moved `due`; the answer ends it.

        The end of busy is told by a timer, which exists only while somebody listens.
        """
        key = object()
        self._listeners[key] = callback
        self._arm()

        def end() -> None:
            self._listeners.pop(key, None)
            self._arm()

        return end

    def _reached(self) -> None:
        if self._state is BreakerState.CLOSED:
            return
        if self._state is BreakerState.OPEN:
            self._state = BreakerState.HALF_OPEN
            self._good = 0
        self._good += 1
        if self._state is BreakerState.HALF_OPEN and self._good < GOOD_TO_CLOSE:
            self._due = self._clock.monotonic() + HALF_OPEN_PROBE
            return
        self._state = BreakerState.CLOSED
        self._due = self._opened_at = None
        self._confirmations = ()
        self._wait = FIRST_PROBE

    def _doubt(self, now: float, confirmations: tuple[float, ...]) -> None:
        self._state = BreakerState.DOUBTFUL
        self._opened_at = self._clock.now()
        self._confirmations = tuple(now + delay for delay in confirmations)
        self._due = self._confirmations[0]

    def _open(self, now: float) -> None:
        """Open, or stay open: the next probe after half the wait and a random part of the other half."""
        self._state = BreakerState.OPEN
        half = self._wait / 2
        self._due = now + half + half * self._random()
        self._wait = min(self._wait * 2, LONGEST_PROBE)

    def _set_busy(self, until: float | None) -> None:
        self._busy_until = until
        self._arm()

    def _arm(self) -> None:
        """Have the end of busy told exactly when it is needed: while busy and listened to."""
        if self._cancel_timer is not None:
            self._cancel_timer()
            self._cancel_timer = None
        until = self.busy_until
        if until is not None and self._listeners:
            self._cancel_timer = self._clock.call_later(until - self._clock.monotonic(), self._busy_over)

    def _busy_over(self) -> None:
        self._cancel_timer = None
        self._busy_until = None
        self._tell()

    def _visible(self) -> tuple[BreakerState, float | None]:
        return self._state, self.busy_until

    def _tell_if_changed(self, before: tuple[BreakerState, float | None]) -> None:
        if self._visible() != before:
            self._tell()

    def _tell(self) -> None:
        for callback in tuple(self._listeners.values()):
            callback()
