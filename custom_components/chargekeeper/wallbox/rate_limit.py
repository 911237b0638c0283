"""How many requests one Wallbox account may make: budgets that outlive reloads, restarts and power cuts.

The cloud's limits are undocumented and tight (docs/protocols/wallbox-cloud.md, section 11: one GET per minute, five
others per minute), so every request takes a slot from one of these purses before it is sent. They are sliding windows
on our clock; their stamps are kept in a small store, so that a restart does not fill them again.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import override

from ..core.clock import Clock

READ_EVERY = 60.0
"""Seconds between two regular GETs."""
COMMANDS_PER_MINUTE = 5
PROBES_PER_HOUR = 60
RESERVE_PER_HOUR = 20
RESERVE_AFTER_GET = 20.0
"""Seconds after any GET before one out of turn may be sent."""
RESERVE_CLOSED_AFTER_429 = 24 * 3600.0
LOGIN_EVERY = 60.0
"""Seconds between two calls that sign in or refresh."""
LAST_MOMENT = 1e11
"""Epoch seconds beyond which a stored moment is garbage."""


class SlidingWindow:
    """At most `room` requests in any `window` seconds."""

    def __init__(self, room: int, window: float) -> None:
        self._room = room
        self._window = window
        self.stamps: deque[float] = deque(maxlen=room + 1)  # one more than matters, for `refund`

    def free_at(self, now: float) -> float:
        """The monotonic moment from which a slot is free; `now` if one is."""
        if len(self.stamps) < self._room:
            return now
        return max(self.stamps[-self._room] + self._window, now)

    def take(self, now: float) -> None:
        """Use a slot."""
        self.stamps.append(now)

    def refund(self) -> None:
        """Return the slot taken last: the request never left."""
        self.stamps.pop()

    def empty(self, now: float) -> None:
        """Count all slots as just used."""
        self.stamps.extend([now] * self._room)


class PacedWindow(SlidingWindow):
    """A purse whose second half is spent evenly: whatever used up the first, the next slot is never far.

    With 60 in an hour that is 120 s, the longest wait between two probes of a breaker.
    """

    @override
    def free_at(self, now: float) -> float:
        """The monotonic moment from which a slot is free; `now` if one is."""
        half = self._room // 2
        free_at = super().free_at(now)
        if len(self.stamps) < half or self.stamps[-half] + self._window <= now:
            return free_at
        return max(self.stamps[-1] + self._window / half, free_at)


class RequestBudgets:
    """All purses of one account. `save` stores what `export` gives and returns when it is on the disk."""

    def __init__(self, clock: Clock, save: Callable[[dict[str, object]], Awaitable[None]] | None = None) -> None:
        self._clock = clock
        self._save = save
        self.reads = SlidingWindow(1, READ_EVERY)
        self.commands = SlidingWindow(COMMANDS_PER_MINUTE, 60.0)
        self.probes = PacedWindow(PROBES_PER_HOUR, 3600.0)
        self.reserve = SlidingWindow(RESERVE_PER_HOUR, 3600.0)
        self.logins = SlidingWindow(1, LOGIN_EVERY)
        self.last_get = -inf
        self.reserve_closed_until = -inf
        self.owed_slots = 0
        """Slots of the slow round that sign-ins and refreshes have used up."""
        self._begun = False

    def reserve_free_at(self, now: float) -> float:
        """When a GET out of turn may be sent; infinity where the reserve is closed or used up."""
        if now < self.reserve_closed_until or self.reserve.free_at(now) > now:
            return inf
        return max(self.last_get + RESERVE_AFTER_GET, now)

    def close_reserve(self) -> None:
        """The cloud throttles us: no request out of turn for a day."""
        self.reserve_closed_until = self._clock.monotonic() + RESERVE_CLOSED_AFTER_429

    def reopen(self) -> None:
        """A run starts: its first request is to be preceded by a save, whatever was spent before."""
        self._begun = False

    async def begin(self) -> None:
        """Before each request; the first of a run is saved: from here on a stop without `close` counts as unclean."""
        if not self._begun:
            self._begun = True
            await self.save()

    async def close(self) -> None:
        """A clean stop: what was used is known exactly."""
        self._begun = False
        await self.save()

    async def save(self) -> None:
        """Store the stamps."""
        if self._save is not None:
            await self._save(self.export())

    def export(self) -> dict[str, object]:
        """The stamps as JSON, in epoch seconds of the wall clock."""
        now = self._clock.monotonic()
        wall = self._clock.now().timestamp()
        named = self._named()
        closed = self.reserve_closed_until
        return {
            "clean": not self._begun,
            "stamps": {
                name: [round(wall - (now - stamp), 3) for stamp in budget.stamps] for name, budget in named.items()
            },
            "last_get": None if self.last_get == -inf else round(wall - (now - self.last_get), 3),
            "reserve_closed_until": None if closed == -inf else round(wall - (now - closed), 3),
        }

    def restore(self, stored: object) -> None:
        """Take what `export` gave in an earlier run.

        Without a record there was no earlier run. After an unclean stop, or where the record is garbled, all read and
        command slots count as just used.
        """
        if stored is None:
            return
        now = self._clock.monotonic()
        record = stored if isinstance(stored, Mapping) else {}
        stamps = record.get("stamps")
        for name, budget in self._named().items():
            times = stamps.get(name) if isinstance(stamps, Mapping) else None
            for moment in sorted(self._monotonic(time) for time in _numbers(times)):
                budget.take(moment)
        for moment in _numbers([record.get("last_get")]):
            self.last_get = self._monotonic(moment)
        for closed in _numbers([record.get("reserve_closed_until")]):
            left = min(closed - self._clock.now().timestamp(), RESERVE_CLOSED_AFTER_429)
            self.reserve_closed_until = now + left
        if record.get("clean") is not True:
            self.reads.empty(now)
            self.commands.empty(now)
            self.last_get = now

    def _monotonic(self, epoch: float) -> float:
        """A stored moment on the monotonic clock; one in the future (the wall clock jumped) counts as now."""
        return self._clock.monotonic() - max(self._clock.now().timestamp() - epoch, 0.0)

    def _named(self) -> dict[str, SlidingWindow]:
        return {
            "reads": self.reads,
            "commands": self.commands,
            "probes": self.probes,
            "reserve": self.reserve,
            "logins": self.logins,
        }


def _numbers(values: object) -> list[float]:
    """The moments (epoch seconds) in a stored list."""
    listed = values if isinstance(values, list) else []
    return [
        float(v) for v in listed if isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= LAST_MOMENT
    ]
