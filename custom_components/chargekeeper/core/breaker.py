"""Track whether a transport is worth trying, and when to ask its endpoint again.

The breaker sends nothing itself. The owner of the transport reports every answer to the breaker and reads `due` for the
time of the next attempt.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from math import inf
import random

from .clock import Clock


class BreakerState(StrEnum):
    """How far a transport can be trusted."""

    CLOSED = "closed"  # requests succeed
    DOUBTFUL = "doubtful"  # a request has just failed; used until the failure is confirmed
    OPEN = "open"  # requests fail; only probes are sent
    HALF_OPEN = "half_open"  # requests succeed again; used, and probed more often


class Failure(StrEnum):
    """Why the endpoint was not reached."""

    CONNECT = "connect"  # refused, or name not found: known at once and cheap, so asked again soon
    OTHER = "other"  # timeout, 5xx or garbage: perhaps a short disturbance, so asked again later


CONFIRMATIONS = {Failure.CONNECT: (2.0, 10.0), Failure.OTHER: (20.0,)}
"""Seconds after the first failure at which further requests check the endpoint. The breaker opens when the last of
these requests fails too."""

FIRST_PROBE = 15.0
"""First wait in seconds while the breaker is open, before jitter. The wait is short, so that the end of a short outage
is noticed soon."""

LONGEST_PROBE = 120.0
"""Seconds to which the wait doubles: a transport is used again at most about two minutes after it recovered."""

HALF_OPEN_PROBE = 15.0
"""Seconds between the good answers that close a half-open breaker."""

GOOD_TO_CLOSE = 3
"""Good answers in a row that close the breaker, including the answer that ended the outage."""

SHORTEST_BUSY = 1.0
LONGEST_BUSY = 3600.0
"""Limits in seconds to which a `Retry-After` is clamped."""

BUSY_LADDER = (120.0, 240.0, 480.0, 900.0)
"""Seconds without requests after the first, second … throttling answer in a row that names no time."""

PROBE_NOW_SPACING = 5.0
"""Minimum seconds between two calls that bring the next attempt forward."""

TIMER_SLACK = 0.1
"""Seconds by which a timer may fire early; a failure that early still belongs to the attempt that was due."""


@dataclass(slots=True)
class _Throttle:
    """The wait that the endpoint asks for with one kind of request: reads, or writes.

    Attributes:
        until: monotonic time at which the wait ends; None if no wait was set.
        in_a_row: number of throttling answers since the last good one.
    """

    until: float | None = None
    in_a_row: int = 0


class Breaker:
    """The state of one endpoint: closed, doubtful, open or half-open; and busy while the endpoint is throttling.

    Reads and writes are busy separately: endpoints limit them separately. Any answer that proves the endpoint reachable
    is `good`. This includes an error of the request itself (4xx).
    """

    def __init__(self, clock: Clock, random: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._random = random
        self._state = BreakerState.CLOSED
        self._due: float | None = None
        self._confirmations: tuple[float, ...] = ()
        self._wait = FIRST_PROBE
        self._good_in_a_row = 0
        self._opened_at: datetime | None = None
        self._reads = _Throttle()
        self._writes = _Throttle()
        self._probed_now_at: float | None = None
        self._listeners: dict[object, Callable[[], None]] = {}
        self._cancel_busy_timer: Callable[[], None] | None = None

    @property
    def state(self) -> BreakerState:
        """The present state."""
        return self._state

    @property
    def usable(self) -> bool:
        """True unless open. The endpoint may still be busy."""
        return self._state is not BreakerState.OPEN

    @property
    def closed(self) -> bool:
        """True while the breaker is closed."""
        return self._state is BreakerState.CLOSED

    @property
    def busy_until(self) -> float | None:
        """Monotonic time until which the endpoint throttles reads; None if that time is past."""
        return self._ahead(self._reads)

    @property
    def writes_busy_until(self) -> float | None:
        """Monotonic time until which the endpoint throttles writes; None if that time is past."""
        return self._ahead(self._writes)

    @property
    def busy(self) -> bool:
        """True while the endpoint throttles reads or writes."""
        return self.busy_until is not None or self.writes_busy_until is not None

    @property
    def opened_at(self) -> datetime | None:
        """Wall clock time of the first failure of this outage or doubt; None while closed."""
        return self._opened_at

    @property
    def due(self) -> float | None:
        """Monotonic time of the next confirmation or probe; None while closed.

        The time may be in the past, but is never before the endpoint stops throttling reads.
        """
        if self._due is None:
            return None
        return max(self._due, self.busy_until or self._due)

    def good(self, *, write: bool = False) -> None:
        """Record an answer: the endpoint is reachable, and not busy for this kind of request: a read or a `write`."""
        before = self._visible()
        throttle = self._writes if write else self._reads
        throttle.in_a_row = 0
        throttle.until = None
        self._arm_busy_timer()
        self._record_reached()
        self._notify_if_changed(before)

    def bad(self, failure: Failure) -> None:
        """Record that the endpoint was not reached.

        Failures before the confirmation or probe was due belong to the same disturbance and change nothing.
        """
        before = self._visible()
        now = self._clock.monotonic()
        if self._due is None:
            self._start_doubt(now, CONFIRMATIONS[failure])
        elif self._state is BreakerState.HALF_OPEN or now >= self._due - TIMER_SLACK:
            self._confirmations = self._confirmations[1:]
            if self._confirmations:
                self._due = self._confirmations[0]
            else:
                self._open(now)
        self._notify_if_changed(before)

    def slow(self) -> None:
        """Record that an answer is late, although the request has not timed out. Probe soon, but assume no outage."""
        if self._due is None:
            self._start_doubt(self._clock.monotonic(), CONFIRMATIONS[Failure.OTHER])
            self._notify()
        else:
            self.probe_now()

    def throttled(self, retry_after: float | None, *, write: bool = False) -> None:
        """Record that the endpoint answered but wants fewer requests of this kind.

        Args:
            retry_after: seconds that the endpoint asked to wait, clamped to 1…3600. None if it named no time: then the
                wait is 2, 4 and 8 min after the first three such answers in a row, and 15 min after each further one.
            write: True if the request was a write. Reads then go on, and the other way round.
        """
        before = self._visible()
        throttle = self._writes if write else self._reads
        step = BUSY_LADDER[min(throttle.in_a_row, len(BUSY_LADDER) - 1)]
        throttle.in_a_row += 1
        seconds = step if retry_after is None else min(LONGEST_BUSY, max(SHORTEST_BUSY, retry_after))
        until = self._clock.monotonic() + seconds
        throttle.until = max(until, self._ahead(throttle) or until)
        self._arm_busy_timer()
        self._record_reached()
        self._notify_if_changed(before)

    def probe_now(self) -> None:
        """Bring the next confirmation or probe forward to now, at most every 5 s. Call this on any hint of a change."""
        now = self._clock.monotonic()
        if self._due is None or self._due <= now:
            return
        if self._probed_now_at is not None and now - self._probed_now_at < PROBE_NOW_SPACING:
            return
        self._probed_now_at = now
        self._due = now
        self._notify()

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when the state or `busy` changes, and when `probe_now` brings `due` forward.

        A timer reports the end of busy; the timer exists only while there are listeners.
        Return a function that removes the listener.
        """
        key = object()
        self._listeners[key] = callback
        self._arm_busy_timer()

        def remove() -> None:
            self._listeners.pop(key, None)
            self._arm_busy_timer()

        return remove

    def _record_reached(self) -> None:
        if self._state is BreakerState.CLOSED:
            return
        if self._state is BreakerState.OPEN:
            self._state = BreakerState.HALF_OPEN
            self._good_in_a_row = 0
        self._good_in_a_row += 1
        if self._state is BreakerState.HALF_OPEN and self._good_in_a_row < GOOD_TO_CLOSE:
            self._due = self._clock.monotonic() + HALF_OPEN_PROBE
            return
        self._state = BreakerState.CLOSED
        self._due = self._opened_at = None
        self._confirmations = ()
        self._wait = FIRST_PROBE

    def _start_doubt(self, now: float, confirmations: tuple[float, ...]) -> None:
        self._state = BreakerState.DOUBTFUL
        self._opened_at = self._clock.now()
        self._confirmations = tuple(now + delay for delay in confirmations)
        self._due = self._confirmations[0]

    def _open(self, now: float) -> None:
        """Open, or stay open. The next probe is due after half the wait plus a random part of the other half."""
        self._state = BreakerState.OPEN
        half = self._wait / 2
        self._due = now + half + half * self._random()
        self._wait = min(self._wait * 2, LONGEST_PROBE)

    def _ahead(self, throttle: _Throttle) -> float | None:
        until = throttle.until
        return None if until is None or self._clock.monotonic() >= until else until

    def _arm_busy_timer(self) -> None:
        """Run a timer for the next end of a wait, but only while there are listeners."""
        if self._cancel_busy_timer is not None:
            self._cancel_busy_timer()
            self._cancel_busy_timer = None
        ends = [throttle.until for throttle in (self._reads, self._writes) if throttle.until is not None]
        if ends and self._listeners:
            self._cancel_busy_timer = self._clock.call_later(min(ends) - self._clock.monotonic(), self._end_busy)

    def _end_busy(self) -> None:
        self._cancel_busy_timer = None
        ended = min((self._reads, self._writes), key=lambda throttle: inf if throttle.until is None else throttle.until)
        ended.until = None
        self._arm_busy_timer()
        self._notify()

    def _visible(self) -> tuple[BreakerState, float | None, float | None]:
        return self._state, self.busy_until, self.writes_busy_until

    def _notify_if_changed(self, before: tuple[BreakerState, float | None, float | None]) -> None:
        if self._visible() != before:
            self._notify()

    def _notify(self) -> None:
        for callback in tuple(self._listeners.values()):
            callback()
