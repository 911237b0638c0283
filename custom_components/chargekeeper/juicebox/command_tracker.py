"""Check that a box obeys commands, by the limits in its next statuses.

Sources disagree about which of the two limits is in force (docs/protocols/juicebox.md, section 2.3). The tracker finds
out which limit is in force.
"""

from ..core.limits import HIGHEST_CURRENT
from .datagram import StatusMessage

SHOWS_WITHIN = 3
"""At least one of this number of statuses after a command shows the command. The first or the second status shows the
command (section 2.5), or the third if one status is lost."""
IGNORED_IN_A_ROW = 3
"""The box counts as ignoring commands after this number of consecutive statuses without the commanded limits."""


class CommandTracker:
    """Compares the statuses of one box with the commands sent to it."""

    def __init__(self) -> None:
        self._swapped = False  # the second limit is the one in force
        self._statuses_since_command: int | None = None  # since the user's change was sent; None if nothing is pending
        self._ignored = 0

    @property
    def pending(self) -> bool:
        """True after a change of the user was sent, until a status shows the change or `SHOWS_WITHIN` statuses came."""
        return self._statuses_since_command is not None

    @property
    def confirmed(self) -> bool:
        """True if the last status showed the commanded limits."""
        return self._ignored == 0

    @property
    def ignored(self) -> bool:
        """True if the box ignores commands."""
        return self._ignored >= IGNORED_IN_A_ROW

    def in_force(self, message: StatusMessage) -> int | None:
        """Return the limit in force that a status shows, in A."""
        return message.second_limit if self._swapped else message.limit_in_force

    def record_command(self) -> None:
        """Record that a change of the user was sent."""
        self._statuses_since_command = 0

    def cancel(self) -> None:
        """Stop waiting: no command holds, so no status can show a command."""
        self._statuses_since_command = None

    def check_status(self, message: StatusMessage, online: int, offline: int) -> None:
        """Compare a status with the limits that the box should obey, in A."""
        rating = HIGHEST_CURRENT if message.unit_rating is None else message.unit_rating
        expected = {min(online, rating), min(online, offline, rating)}
        first = message.limit_in_force in expected
        second = message.second_limit in expected
        if first is not second and min(offline, rating) not in expected:
            self._swapped = second
        if self._statuses_since_command is not None:
            self._statuses_since_command += 1
            if self.in_force(message) in expected or self._statuses_since_command >= SHOWS_WITHIN:
                self._statuses_since_command = None
        self._ignored = 0 if first or second else self._ignored + 1
