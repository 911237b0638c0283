"""The only source of time in ChargeKeeper: no other module asks the event loop, `time` or Home Assistant for it.

One object provides the wall clock, the monotonic clock and every wait. Tests therefore run hours in milliseconds, and
the demo shows a restart in seconds.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
import time
from typing import Protocol, override


class Clock(Protocol):
    """Interface of the clock: the only access of ChargeKeeper to time."""

    def now(self) -> datetime:
        """Return the wall clock time (aware, UTC).

        This time may jump: show and store it, but never measure a duration with it.
        """

    def monotonic(self) -> float:
        """Return seconds that never run backwards: for ages, deadlines and intervals."""

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
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @override
    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        return asyncio.get_running_loop().call_later(seconds, callback).cancel

    @override
    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds)  # noqa: TID251 - the one place where it is allowed


def monotonic_of(clock: Clock, wall_time: datetime) -> float:
    """Return the monotonic time of a stored wall clock time.

    A time in the future counts as now, since the wall clock has jumped.
    """
    return clock.monotonic() - max((clock.now() - wall_time).total_seconds(), 0.0)
