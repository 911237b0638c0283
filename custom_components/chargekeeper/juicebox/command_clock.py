"""When a box started, was heard and was commanded, and so whether a status shows the limit that is stored in it.

That shows at the start, before the first command, and after a long silence (docs/protocols/juicebox.md, section 2.6).
"""

from math import inf

from .datagram import StatusMessage

SILENCE_SHOWS_OFFLINE = 360.0
"""Seconds without a command after which a box surely obeys its stored limit, and reports it."""
OFFLINE_AFTER = 300.0
"""Seconds after a command until which the box obeys it."""
ONE_START = 60.0
"""Seconds in which further lines of a start belong to the same one; by then the box may have been commanded."""


class CommandClock:
    """One box; all moments are monotonic. `commanded_at` is when it was last sent a command, by whomever."""

    def __init__(self, commanded_at: float) -> None:
        self.commanded_at = commanded_at
        self.status_received_at: float | None = None
        """When its last status came."""
        self._uptime: float | None = None  # at the last status, s
        self._uncommanded_since = inf  # since when, in this run, it was heard and had no command
        self._booted = False  # the next status shows the stored limit
        self._booted_at = -inf

    def forget(self) -> None:
        """What it was told no longer holds."""
        self.commanded_at = -inf
        self._uncommanded_since = inf

    def record_status(self, message: StatusMessage, now: float) -> None:
        """A status came."""
        self.status_received_at = now
        self._uptime = None if message.uptime is None else message.uptime[0]
        self._uncommanded_since = min(self._uncommanded_since, now)

    def record_boot(self, now: float) -> bool:
        """A line of its start came; whether that is news, so that what it was told no longer holds."""
        if now - self._booted_at < ONE_START or self._commanded_since_boot(now):
            return False
        self._booted_at = now
        self._booted = True
        return True

    def mark_learned(self) -> None:
        """The stored limit is known."""
        self._booted = False

    def obeys(self, now: float) -> bool:
        """Whether a command holds: the box has not fallen back to its stored limit."""
        return now - self.commanded_at < OFFLINE_AFTER

    @property
    def knows_time(self) -> bool:
        """Whether it had a command since it started: each tells the time."""
        return self.commanded_at >= self._booted_at

    @property
    def served_at(self) -> float:
        """When it last had a command, or was first heard without one."""
        return self._uncommanded_since if self.commanded_at == -inf else self.commanded_at

    def surely_fell_back(self, now: float) -> bool:
        """Whether it had no command for so long that it obeys its stored limit."""
        return now - max(self._uncommanded_since, self.commanded_at) >= SILENCE_SHOWS_OFFLINE

    def sent_since_boot(self, message: StatusMessage, now: float) -> bool:
        """Whether it was sent since the start that was told, and not before: datagrams overtake each other."""
        if not self._booted or message.uptime is None:
            return False
        return message.uptime[0] <= now - self._booted_at + ONE_START

    def _commanded_since_boot(self, now: float) -> bool:
        """Whether it was commanded since it started: a line of the start came late then, and its limit is known."""
        if self.status_received_at is None or self._uptime is None:
            return False
        if now - self.status_received_at >= ONE_START or self._uptime >= ONE_START:
            return False
        return self.commanded_at >= self.status_received_at - self._uptime
