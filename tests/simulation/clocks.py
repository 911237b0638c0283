"""The two clocks of the simulated house: the true time of the world, and the time of one run of Home Assistant."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from itertools import count
from math import inf
from typing import override

from custom_components.chargekeeper.core.clock import BootTime, Clock
from tests.simulators.clock import VirtualClock


class TrueClock(Clock):
    """The time of chargers and clouds, which never jumps when the clock of Home Assistant's host is set."""

    def __init__(self, virtual: VirtualClock) -> None:
        self._virtual = virtual
        self._wall_start = virtual.now()
        self._started_at = virtual.monotonic()

    @override
    def now(self) -> datetime:
        return self._wall_start + timedelta(seconds=self._virtual.monotonic() - self._started_at)

    @override
    def monotonic(self) -> float:
        return self._virtual.monotonic()

    @override
    async def sleep(self, seconds: float) -> None:
        await self._virtual.sleep(seconds)

    @override
    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        return self._virtual.call_later(seconds, callback)

    @override
    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return self._virtual.timeout(seconds)


class RunClock(Clock):
    """The clock of one run of Home Assistant: its monotonic time begins anywhere, and its timers end with the run."""

    def __init__(self, virtual: VirtualClock, ahead: float) -> None:
        """Create the clock of a run.

        Args:
            virtual: the source of time; its `now`, which may jump, is the host's wall clock.
            ahead: seconds by which the monotonic time of this run is ahead of the virtual clock.
        """
        self._virtual = virtual
        self._ahead = ahead
        self._timers: dict[int, tuple[float, Callable[[], None], Callable[[], None]]] = {}
        """Per timer when it is due by the virtual clock, how to cancel it, and what is called."""
        self._resumes_at = -inf  # by the virtual clock
        self._numbers = count()
        self._dead = False

    @property
    def pending(self) -> list[str]:
        """Return the names of the callbacks of all pending timers."""
        return [getattr(callback, "__qualname__", repr(callback)) for _, _, callback in self._timers.values()]

    def kill(self) -> None:
        """Stop all timers: no timer fires any more."""
        self._dead = True
        for _, cancel, _ in self._timers.values():
            cancel()
        self._timers.clear()

    def suspend(self, seconds: float) -> None:
        """Let the host sleep from now on: the monotonic clock and all timers stand still for so long."""
        now = self._virtual.monotonic()
        self._resumes_at = now + seconds
        self._ahead -= seconds
        for number, (due, cancel, callback) in list(self._timers.items()):
            cancel()
            self._arm(number, due + seconds, callback)

    @override
    def now(self) -> datetime:
        return self._virtual.now()

    @override
    def monotonic(self) -> float:
        return max(self._virtual.monotonic(), self._resumes_at) + self._ahead

    @override
    def boot_time(self) -> BootTime:
        return self._virtual.boot_time()

    @override
    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        cancel = self.call_later(max(seconds, 0), lambda: None if woken.done() else woken.set_result(None))
        try:
            await woken
        finally:
            cancel()

    @override
    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        if self._dead:
            return _nothing
        number = next(self._numbers)
        self._arm(number, max(self._virtual.monotonic(), self._resumes_at) + seconds, callback)

        def cancel() -> None:
            if (timer := self._timers.pop(number, None)) is not None:
                timer[1]()

        return cancel

    def _arm(self, number: int, due: float, callback: Callable[[], None]) -> None:
        def fire() -> None:
            del self._timers[number]
            callback()

        wait = due - self._virtual.monotonic()
        self._timers[number] = (due, self._virtual.call_later(wait, fire), callback)

    @override
    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return self._timeout(seconds)

    @asynccontextmanager
    async def _timeout(self, seconds: float) -> AsyncIterator[object]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as limit:  # noqa: TID251 - the virtual timer below ends it
            cancel = self.call_later(seconds, lambda: limit.reschedule(loop.time()))
            try:
                yield limit
            finally:
                cancel()


def _nothing() -> None:
    """Cancel nothing, for a timer that does not exist."""
