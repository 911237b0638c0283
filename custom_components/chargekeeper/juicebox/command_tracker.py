"""Whether a box does what it was sent, by the limits that its next statuses show.

Sources disagree about which of the two limits is the one in force (docs/protocols/juicebox.md, section 2.3), so that is
found out.
"""

from ..core.limits import HIGHEST_CURRENT
from .datagram import StatusMessage

SHOWS_WITHIN = 3
"""Statuses after a command of which one shows it: the first or second (section 2.5), the third if one is lost."""
IGNORED_IN_A_ROW = 3
"""Statuses that show nothing of what was sent, after which the box counts as one that cannot be commanded."""


class CommandTracker:
    """What the statuses of one box show of what it was sent."""

    def __init__(self) -> None:
        self._swapped = False  # the second limit is the one in force
        self._statuses_since_command: int | None = None  # statuses since a wish was sent; None where none is on its way
        self._ignored = 0

    @property
    def pending(self) -> bool:
        """Whether a wish of the user's was sent and cannot show yet."""
        return self._statuses_since_command is not None

    @property
    def confirmed(self) -> bool:
        """Whether the last status showed it."""
        return self._ignored == 0

    @property
    def ignored(self) -> bool:
        """Whether the box does not obey."""
        return self._ignored >= IGNORED_IN_A_ROW

    def in_force(self, message: StatusMessage) -> int | None:
        """The limit that it shows in force, A."""
        return message.second_limit if self._swapped else message.limit_in_force

    def record_command(self) -> None:
        """A wish of the user's was sent."""
        self._statuses_since_command = 0

    def cancel(self) -> None:
        """No command holds any more, so that none can show."""
        self._statuses_since_command = None

    def check_status(self, message: StatusMessage, online: int, offline: int) -> None:
        """A status came while the box was to keep to these limits, A."""
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
