"""Clocks for tests and the demo: a virtual one that a test advances, and a real one that runs fast."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
import heapq
from itertools import count
import time
from typing import Any, override

from custom_components.chargekeeper.core.clock import Clock

START = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)  # a Monday far from any change of summer time
QUIET_ROUNDS = 6


class VirtualClock(Clock):
    """A clock that stands still until `advance`, which waits until real sockets are silent."""

    def __init__(self, start: datetime = START, monotonic: float = 1000.0) -> None:
        self._started_at = monotonic
        self._monotonic = monotonic
        self._wall_start = start
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()
        self._numbers = count()
        self._io_events = 0
        self._watched: asyncio.AbstractEventLoop | None = None

    @override
    def now(self) -> datetime:
        return self._wall_start + timedelta(seconds=self._monotonic - self._started_at)

    @override
    def monotonic(self) -> float:
        return self._monotonic

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
        number = next(self._numbers)
        heapq.heappush(self._timers, (self._monotonic + seconds, number, callback))
        return lambda: self._cancelled.add(number)

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

    def jump(self, seconds: float) -> None:
        """Set the wall clock (not the monotonic one) forward or back."""
        self._wall_start += timedelta(seconds=seconds)

    @property
    def pending(self) -> int:
        """The number of timers that wait."""
        return sum(1 for _, number, _ in self._timers if number not in self._cancelled)

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass: run each timer when it is due, and let its effects settle before the next."""
        end = self._monotonic + seconds
        await self.settle()
        while self._timers and self._timers[0][0] <= end:
            due, number, callback = heapq.heappop(self._timers)
            if number in self._cancelled:
                self._cancelled.discard(number)
                continue
            self._monotonic = max(self._monotonic, due)
            callback()
            await self.settle()
        self._monotonic = end
        await self.settle()

    async def advance_until(self, condition: Callable[[], object], *, within: float, step: float = 1.0) -> float:
        """Advance until `condition` holds, and return the seconds that have passed.

        Raises `AssertionError` after `within` seconds.
        """
        begun = self._monotonic
        await self.settle()
        while not condition():
            if self._monotonic - begun >= within:
                raise AssertionError(f"not within {within} s: {condition}")
            await self.advance(step)
        return self._monotonic - begun

    async def settle(self) -> None:
        """Run the loop until no callback is ready and no socket has been active for `QUIET_ROUNDS` iterations."""
        loop: Any = asyncio.get_running_loop()
        self._watch(loop)
        quiet = 0
        while quiet < QUIET_ROUNDS:
            seen = self._io_events
            await asyncio.sleep(0)
            quiet = 0 if self._io_events != seen or len(loop._ready) > 0 else quiet + 1

    def _watch(self, loop: Any) -> None:
        """Count the events of the selector, so that `settle` notices when the sockets are silent."""
        if self._watched is loop:
            return
        self._watched = loop
        selector = loop._selector
        select = selector.select

        def counted(timeout: float | None = None) -> Any:
            events = select(timeout)
            self._io_events += len(events)
            return events

        selector.select = counted


class FastClock(Clock):
    """A clock whose monotonic time and waits run `factor` times as fast; the wall clock stays real.

    Time-outs never shrink below `shortest_timeout` real seconds, because sockets and a busy machine need real time.
    """

    def __init__(self, factor: float = 20.0, shortest_timeout: float = 3.0) -> None:
        self.factor = factor
        self._shortest_timeout = shortest_timeout
        self._started_at = time.monotonic()

    @override
    def now(self) -> datetime:
        return datetime.now(UTC)

    @override
    def monotonic(self) -> float:
        return self._started_at + (time.monotonic() - self._started_at) * self.factor

    @override
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.factor)

    @override
    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        return asyncio.get_running_loop().call_later(seconds / self.factor, callback).cancel

    @override
    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(max(seconds / self.factor, self._shortest_timeout))  # noqa: TID251
