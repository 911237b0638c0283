"""The only source of time in ChargeKeeper: no other module asks the event loop, `time` or Home Assistant for it.

One object provides the wall clock, the monotonic clock and every wait. Tests therefore run hours in milliseconds, and
the demo shows a restart in seconds.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from math import inf
from pathlib import Path
import time
from typing import Protocol, override

from .signal import subscribe

DIVERGED = 10.0
"""Seconds by which the wall clock departs from the monotonic clock between two looks when the clocks have diverged.

Corrections of a running clock are smaller: a leap second, a step or the drift of NTP. A longer suspension of the host
would make a status seem fresh (60 s) that is much older.
"""

LOOK_EVERY = 60.0
"""Seconds between two looks at the clocks at the most, while somebody listens."""


BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class BootTime:
    """A moment in seconds of one boot of the host. It counts suspensions of the host, and nobody can set it."""

    boot: str
    seconds: float


class Clock(Protocol):
    """Interface of the clock: the only access of ChargeKeeper to time."""

    factor: float = 1.0
    """Seconds of `monotonic` in one second of `now`. Only the clock of a demonstration runs faster."""

    @cached_property
    def divergence(self) -> Divergence:
        """What tells if the two clocks departed from each other."""
        return Divergence(self)

    def now(self) -> datetime:
        """Return the wall clock time (aware, UTC).

        This time may jump: show and store it, but never measure a duration with it.
        """

    def monotonic(self) -> float:
        """Return seconds that never run backwards: for ages, deadlines and intervals."""

    def boot_time(self) -> BootTime | None:
        """Return the present moment in this boot of the host; None if the host cannot tell."""
        return None

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` in the event loop after `seconds`.

        Return a function that cancels the call; it does nothing once the callback ran.
        """

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Return a context manager that raises `TimeoutError` when its block takes longer than `seconds`."""


class SystemClock(Clock):
    """The clock of the computer that runs Home Assistant."""

    @override
    def now(self) -> datetime:
        return datetime.now(UTC)

    @override
    def monotonic(self) -> float:
        return time.monotonic()

    @override
    def boot_time(self) -> BootTime | None:
        boot = _boot_id()
        return None if boot is None else BootTime(boot, time.clock_gettime(time.CLOCK_BOOTTIME))

    @override
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @override
    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        return asyncio.get_running_loop().call_later(seconds, callback).cancel

    @override
    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds)  # noqa: TID251 - the one place where it is allowed


class Divergence:
    """Tells when the wall clock departs from the monotonic clock, which means that ages are not known any more.

    A host that was suspended has no monotonic time for the suspension: a status of hours ago seems to be seconds old.
    Somebody may also have set the wall clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = self._measure()
        self._at = -inf
        self._told_at = -inf
        self._listeners: list[Callable[[], None]] = []
        self._cancel_look: Callable[[], None] = _nothing

    @property
    def at(self) -> float:
        """Monotonic time at which the last divergence was noticed; minus infinity if there was none.

        Each access looks at the clocks.
        """
        offset = self._measure()
        if abs(offset - self._offset) > DIVERGED:
            self._at = self._clock.monotonic()
        self._offset = offset
        return self._at

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` at most `LOOK_EVERY` after a divergence. Return a function that removes the listener."""
        if not self._listeners:
            self._told_at = self.at
            self._look_later()
        remove = subscribe(self._listeners, callback)

        def remove_listener() -> None:
            remove()
            if not self._listeners:
                self._cancel_look()

        return remove_listener

    def _measure(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic() / self._clock.factor

    def _look_later(self) -> None:
        self._cancel_look = self._clock.call_later(LOOK_EVERY, self._look)

    def _look(self) -> None:
        self._look_later()
        if self.at > self._told_at:
            self._told_at = self._at
            for listener in tuple(self._listeners):
                listener()


class DivergenceMark:
    """Tells its owner once of each divergence since the mark was made."""

    def __init__(self, clock: Clock) -> None:
        self._divergence = clock.divergence
        self._seen_at = self._divergence.at

    @property
    def is_new(self) -> bool:
        """True at the first access after a divergence."""
        before = self._seen_at
        self._seen_at = self._divergence.at
        return self._seen_at > before


def _nothing() -> None:
    """Cancel a look that was never planned."""


@cache
def _boot_id() -> str | None:
    """Return what names this boot of the host; None on a host that is not Linux."""
    try:
        return BOOT_ID.read_text().strip()[:8]
    except OSError:
        return None


def monotonic_of(clock: Clock, wall_time: datetime, boot_time: BootTime | None = None) -> float:
    """Return the monotonic time of a stored moment.

    The time within the host's boot counts, if it is stored and the host still runs. Otherwise the wall clock counts. A
    wall clock time in the future counts as now, since the wall clock has jumped.
    """
    passed = _passed_in_boot(clock, boot_time)
    if passed is None:
        passed = (clock.now() - wall_time).total_seconds()
    return clock.monotonic() - max(passed, 0.0) * clock.factor


def latest_monotonic_of(clock: Clock, wall_time: datetime, boot_time: BootTime | None) -> float:
    """Return the latest monotonic time that a stored moment may have, for a duration that must not end too soon.

    After another boot of the host, only the time since that boot has surely passed: the wall clock may have jumped.
    """
    present = clock.boot_time()
    if present is None or boot_time is None or present.boot == boot_time.boot:
        return monotonic_of(clock, wall_time, boot_time)
    return clock.monotonic() - present.seconds * clock.factor


def _passed_in_boot(clock: Clock, boot_time: BootTime | None) -> float | None:
    """Return the seconds since a moment of this boot; None if the moment is none of this boot."""
    present = clock.boot_time()
    if present is None or boot_time is None or present.boot != boot_time.boot:
        return None
    return present.seconds - boot_time.seconds
