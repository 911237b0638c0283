"""Request budgets of one Wallbox account. They survive reloads, restarts and power cuts.

The cloud's limits are undocumented and tight: one GET and five other requests per minute
(docs/protocols/wallbox-cloud.md, section 11). Every request therefore takes a slot from a budget before it is sent. The
budgets are sliding windows on the local clock. Their timestamps are stored, so that a restart does not refill them.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from math import inf
from typing import override

from ..core.clock import Clock
from ..core.transport import SAVE_WITHIN

READ_EVERY = 60.0
"""Seconds between two regular GETs."""
SHARED_COMMANDS = 3
"""Commands of any kind per minute."""
RESERVED_COMMANDS = 2
"""Reductions per minute beyond that. A reduction takes a shared slot if no reserved one is free."""
URGENT_LOGIN_EVERY = 300.0
"""Seconds between two refreshes for reductions, beyond the other sign-ins."""
PROBES_PER_HOUR = 60
RESERVE_PER_HOUR = 20
RESERVE_AFTER_GET = 20.0
"""Seconds to wait after any GET before an extra read may be sent."""
RESERVE_CLOSED_AFTER_429 = 24 * 3600.0
LOGIN_EVERY = 60.0
"""Seconds between two calls that sign in or refresh."""
MAX_EPOCH_SECONDS = 1e11
"""Highest valid stored time, in seconds since 1970."""


class SlidingWindow:
    """A budget of at most `room` requests in any `window` seconds."""

    def __init__(self, room: int, window: float) -> None:
        self._room = room
        self._window = window
        self.stamps: deque[float] = deque(maxlen=room + 1)  # one more than `room`, for `refund`

    def free_at(self, now: float) -> float:
        """Return the monotonic time at which a slot is free; `now` if a slot is already free."""
        if len(self.stamps) < self._room:
            return now
        return max(self.stamps[-self._room] + self._window, now)

    def take(self, now: float) -> None:
        """Take a slot at the monotonic time `now`."""
        self.stamps.append(now)

    def refund(self) -> None:
        """Refund the slot taken last, because the request was not sent."""
        self.stamps.pop()

    def exhaust(self, now: float) -> None:
        """Mark all slots as used at the monotonic time `now`."""
        self.stamps.extend([now] * self._room)


class PacedWindow(SlidingWindow):
    """A budget whose second half is spread evenly, so that the wait for the next slot stays short.

    With 60 slots per hour the longest wait is 120 s, the longest time between two probes of a breaker.
    """

    @override
    def free_at(self, now: float) -> float:
        """Return the monotonic time at which a slot is free; `now` if a slot is already free."""
        half = self._room // 2
        free_at = super().free_at(now)
        if len(self.stamps) < half or self.stamps[-half] + self._window <= now:
            return free_at
        return max(self.stamps[-1] + self._window / half, free_at)


class RequestBudgets:
    """All budgets of one account. `save` persists the result of `export` and returns after the data is on disk."""

    def __init__(self, clock: Clock, save: Callable[[dict[str, object]], Awaitable[None]] | None = None) -> None:
        self._clock = clock
        self._save = save
        self.reads = SlidingWindow(1, READ_EVERY)
        self.commands = SlidingWindow(SHARED_COMMANDS, 60.0)
        self.reductions = SlidingWindow(RESERVED_COMMANDS, 60.0)
        self.probes = PacedWindow(PROBES_PER_HOUR, 3600.0)
        self.reserve = SlidingWindow(RESERVE_PER_HOUR, 3600.0)
        self.logins = SlidingWindow(1, LOGIN_EVERY)
        self.urgent_logins = SlidingWindow(1, URGENT_LOGIN_EVERY)
        self.unclean_stops = SlidingWindow(1, 60.0)
        self.last_get = -inf
        self.reserve_closed_until = -inf
        self.owed_slots = 0
        """Slots of the slow round that sign-ins and refreshes have already used."""
        self._is_started = False

    def reserve_free_at(self, now: float) -> float:
        """Return the monotonic time at which an extra read may be sent; infinity if the reserve is closed or empty."""
        if now < self.reserve_closed_until or self.reserve.free_at(now) > now:
            return inf
        return max(self.last_get + RESERVE_AFTER_GET, now)

    def command_slot(self, now: float, *, urgent: bool) -> tuple[SlidingWindow, float]:
        """Return the budget that has a slot first for a command, and the monotonic time at which the slot is free.

        `urgent` is True for a reduction: it may use both budgets, the reserved one first.
        """
        shared = self.commands.free_at(now)
        reserved = self.reductions.free_at(now)
        if urgent and reserved <= shared:
            return self.reductions, reserved
        return self.commands, shared

    def close_reserve(self) -> None:
        """Close the reserve for a day, because the cloud throttles this account."""
        self.reserve_closed_until = self._clock.monotonic() + RESERVE_CLOSED_AFTER_429

    def start_run(self) -> None:
        """Start a run. `prepare_request` persists the budgets before the first request of the run."""
        self._is_started = False

    async def prepare_request(self, *, urgent: bool = False) -> None:
        """Persist the budgets before the first request of a run. Call this before each request.

        From then on, a stop without `close` is an unclean stop. `urgent` is as in `save`.
        """
        if not self._is_started:
            self._is_started = True
            await self.save(urgent=urgent)

    async def close(self) -> None:
        """Persist the budgets at a clean stop, after which all used slots are known exactly."""
        self._is_started = False
        await self.save()

    async def save(self, *, urgent: bool = False) -> None:
        """Persist the budgets. An `urgent` request, a reduction, waits at most `SAVE_WITHIN` seconds for that."""
        if self._save is None:
            return
        if not urgent:
            await self._save(self.export())
            return
        with suppress(TimeoutError):
            async with self._clock.timeout(SAVE_WITHIN):
                await self._save(self.export())

    def export(self) -> dict[str, object]:
        """Return the budgets as JSON, with times in epoch seconds of the wall clock."""
        now = self._clock.monotonic()
        wall = self._clock.now().timestamp()
        named = self._windows_by_name()
        closed = self.reserve_closed_until
        return {
            "clean": not self._is_started,
            "stamps": {
                name: [round(wall - (now - stamp), 3) for stamp in budget.stamps] for name, budget in named.items()
            },
            "last_get": None if self.last_get == -inf else round(wall - (now - self.last_get), 3),
            "reserve_closed_until": None if closed == -inf else round(wall - (now - closed), 3),
        }

    def restore(self, stored: object) -> None:
        """Restore the result of `export` from an earlier run.

        None means that there was no earlier run. After an unclean stop, or if the record is invalid, all read and
        command slots count as just used. The reserved slots of reductions stay free, except after a second unclean stop
        within a minute.
        """
        if stored is None:
            return
        now = self._clock.monotonic()
        record = stored if isinstance(stored, Mapping) else {}
        stamps = record.get("stamps")
        for name, budget in self._windows_by_name().items():
            times = stamps.get(name) if isinstance(stamps, Mapping) else None
            for used_at in sorted(self._monotonic(time) for time in _numbers(times)):
                budget.take(used_at)
        for last_get in _numbers([record.get("last_get")]):
            self.last_get = self._monotonic(last_get)
        for closed in _numbers([record.get("reserve_closed_until")]):
            left = min(closed - self._clock.now().timestamp(), RESERVE_CLOSED_AFTER_429)
            self.reserve_closed_until = now + left
        if record.get("clean") is not True:
            self.reads.exhaust(now)
            self.commands.exhaust(now)
            self.last_get = now
            if self.unclean_stops.free_at(now) > now:
                self.reductions.exhaust(now)
            self.unclean_stops.take(now)

    def _monotonic(self, epoch: float) -> float:
        """Convert a stored time to the monotonic clock. A future time counts as now: the wall clock jumped."""
        return self._clock.monotonic() - max(self._clock.now().timestamp() - epoch, 0.0)

    def _windows_by_name(self) -> dict[str, SlidingWindow]:
        return {
            "reads": self.reads,
            "commands": self.commands,
            "reductions": self.reductions,
            "probes": self.probes,
            "reserve": self.reserve,
            "logins": self.logins,
            "urgent_logins": self.urgent_logins,
            "unclean_stops": self.unclean_stops,
        }


def _numbers(values: object) -> list[float]:
    """Return the valid times (epoch seconds) in a stored list."""
    listed = values if isinstance(values, list) else []
    return [
        float(value)
        for value in listed
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_EPOCH_SECONDS
    ]
