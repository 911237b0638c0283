"""Time for everything of ours: nothing here or above asks the loop, `time` or Home Assistant for it.

One object gives the wall clock, the monotonic clock and every wait, so that tests run hours in milliseconds and the
demo watches a restart in seconds.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
import time
from typing import Protocol, override


class Clock(Protocol):
    """What ChargeKeeper may know about time."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC. It may jump: for showing and storing, never for measuring."""

    def monotonic(self) -> float:
        """Seconds that never run backwards: for ages, deadlines and intervals."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` in the event loop after `seconds`; the answer cancels it (harmless once it ran)."""

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Raise `TimeoutError` from the block when it takes longer than `seconds`."""


class SystemClock(Clock):
    """The clock of the machine."""

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
        return asyncio.timeout(seconds)  # noqa: TID251 - this is the one place


def monotonic_of(clock: Clock, moment: datetime) -> float:
    """A stored moment on the monotonic clock; one in the future (the wall clock jumped) counts as now."""
    return clock.monotonic() - max((clock.now() - moment).total_seconds(), 0.0)
