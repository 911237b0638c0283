"""Times of boots, statuses and commands of a box, which tell if a status shows the stored limit.

A status shows it after a boot, before the first command, and after a long time without commands
(docs/protocols/juicebox.md, section 2.6).
"""

from math import inf

from .datagram import StatusMessage

SILENCE_SHOWS_OFFLINE = 360.0
"""Seconds without a command after which a box surely obeys its stored limit, and reports it."""
OFFLINE_AFTER = 300.0
"""Seconds for which a box obeys a command."""
ONE_START = 60.0
"""Seconds in which further boot lines belong to the same boot. By the end of these lines, the box may already have a
command."""


class CommandClock:
    """Times of one box, all monotonic. `commanded_at` is the time of the last command, whoever sent it."""

    def __init__(self, commanded_at: float) -> None:
        self.commanded_at = commanded_at
        self.status_received_at: float | None = None
        """Time of the last status."""
        self._uptime: float | None = None  # seconds, at the last status
        self._uncommanded_since = inf  # the first status of this run without a command
        self._booted = False  # the next status shows the stored limit
        self._booted_at = -inf

    def forget(self) -> None:
        """Forget the commands: they no longer hold."""
        self.commanded_at = -inf
        self._uncommanded_since = inf

    def record_status(self, message: StatusMessage, now: float) -> None:
        """Record a status."""
        self.status_received_at = now
        self._uptime = None if message.uptime is None else message.uptime[0]
        self._uncommanded_since = min(self._uncommanded_since, now)

    def record_boot(self, now: float) -> bool:
        """Record a boot line; return True if it is a new boot, after which no earlier command holds."""
        if now - self._booted_at < ONE_START or self._commanded_since_boot(now):
            return False
        self._booted_at = now
        self._booted = True
        return True

    def mark_learned(self) -> None:
        """Record that the stored limit is known."""
        self._booted = False

    def obeys(self, now: float) -> bool:
        """Return True while the last command holds: the box has not fallen back to its stored limit."""
        return now - self.commanded_at < OFFLINE_AFTER

    @property
    def knows_time(self) -> bool:
        """True if the box had a command since its boot: each command carries the time."""
        return self.commanded_at >= self._booted_at

    @property
    def served_at(self) -> float:
        """Time of the last command, or of the first status if there was no command."""
        return self._uncommanded_since if self.commanded_at == -inf else self.commanded_at

    def surely_fell_back(self, now: float) -> bool:
        """Return True if the box had no command for so long that it surely obeys its stored limit."""
        return now - max(self._uncommanded_since, self.commanded_at) >= SILENCE_SHOWS_OFFLINE

    def sent_since_boot(self, message: StatusMessage, now: float) -> bool:
        """Return True if the box sent `message` after the recorded boot: datagrams may overtake each other."""
        if not self._booted or message.uptime is None:
            return False
        return message.uptime[0] <= now - self._booted_at + ONE_START

    def _commanded_since_boot(self, now: float) -> bool:
        """Return True if the box had a command since its boot: the boot line is late and the limit already known."""
        if self.status_received_at is None or self._uptime is None:
            return False
        if now - self.status_received_at >= ONE_START or self._uptime >= ONE_START:
            return False
        return self.commanded_at >= self.status_received_at - self._uptime
