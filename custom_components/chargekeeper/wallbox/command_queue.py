"""Give the slots of an account's command budgets to the commands that wait: reductions first, then in order of arrival.

A reduction lowers what a charger may draw (docs/design.md, section 0.4). `GaveWay` tells a wait for a slot that a
reduction of the same charger must not wait behind it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from ..core.clock import Clock
from ..core.errors import GaveWay, TransportBusy
from .rate_limit import RequestBudgets, SlidingWindow


class RightOfWay:
    """Ends the waits of one charger's other requests while a reduction of this charger waits."""

    def __init__(self) -> None:
        self._claims = 0
        self._waits: set[asyncio.Event] = set()

    def claim(self) -> Callable[[], None]:
        """End all waits, and let none begin. Return a function that ends the claim."""
        self._claims += 1
        for wait in self._waits:
            wait.set()
        ended = False

        def end() -> None:
            nonlocal ended
            self._claims -= not ended
            ended = True

        return end

    def require(self) -> None:
        """Raise GaveWay while a reduction waits."""
        if self._claims:
            raise GaveWay

    async def wait(self, woken: asyncio.Event) -> None:
        """Wait for an event, or until a reduction claims the way."""
        self._waits.add(woken)
        try:
            await woken.wait()
        finally:
            self._waits.discard(woken)

    async def sleep(self, clock: Clock, seconds: float) -> None:
        """Wait for `seconds`. Raise GaveWay if a reduction claims the way before."""
        self.require()
        woken = asyncio.Event()
        cancel = clock.call_later(seconds, woken.set)
        try:
            await self.wait(woken)
        finally:
            cancel()
        self.require()


@dataclass(eq=False, slots=True)
class _Waiter:
    """A command that waits for a slot. `relief` is more than 0 for a reduction, see `CommandQueue.turn`."""

    relief: float
    number: int
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class CommandQueue:
    """The commands of one account that wait for a slot."""

    def __init__(self, clock: Clock, budgets: RequestBudgets) -> None:
        self._clock = clock
        self._budgets = budgets
        self._numbers = count()
        self._waiting: list[_Waiter] = []

    async def turn(
        self, way: RightOfWay, *, relief: float = 0.0, deadline: float, may_wait: bool = True
    ) -> SlidingWindow:
        """Wait for the turn of a command. Return the budget with a free slot, which the caller takes without waiting.

        Args:
            way: the right of way of the command's charger.
            relief: current in A that a reduction relieves; 0 for any other command.
            deadline: latest monotonic time at which the command may be sent.
            may_wait: False for a command that is sent now or not at all.

        Raises:
            TransportBusy: `no_room` if no slot is free in time.
            GaveWay: a reduction of the same charger comes first.
        """
        waiter = _Waiter(relief, next(self._numbers))
        now = self._clock.monotonic()
        _, free_at = self._budgets.command_slot(now, urgent=relief > 0)
        if not may_wait and (self._waiting or free_at > now):
            raise TransportBusy("no_room", free_at - now)
        self._waiting.append(waiter)
        try:
            return await self._await_slot(waiter, way, deadline)
        finally:
            self._waiting.remove(waiter)
            for each in self._waiting:
                each.woken.set()

    async def _await_slot(self, waiter: _Waiter, way: RightOfWay, deadline: float) -> SlidingWindow:
        while True:
            if not waiter.relief:
                way.require()
            now = self._clock.monotonic()
            budget, free_at = self._budgets.command_slot(now, urgent=waiter.relief > 0)
            is_next = min(self._waiting, key=lambda each: (-each.relief, each.number)) is waiter
            if is_next and max(now, free_at) > deadline:
                raise TransportBusy("no_room", free_at - now)
            if is_next and free_at <= now:
                return budget
            waiter.woken.clear()
            cancel = self._clock.call_later(free_at - now, waiter.woken.set) if is_next else None
            try:
                await way.wait(waiter.woken)
            finally:
                if cancel is not None:
                    cancel()
