"""Check that a box obeys commands, by the limits in its next statuses.

Sources disagree about which of the two limits is in force (docs/protocols/juicebox.md, section 2.3). The tracker finds
out which limit is in force. A limit proves a command only if it had to change, and did: a limit that stays the same
may be a constant that happens to match (docs/design.md, section 0.1).
"""

from ..core.limits import HIGHEST_CURRENT
from .datagram import StatusMessage

SHOWS_WITHIN = 3
"""At least one of this number of statuses after a command shows the command. The first or the second status shows the
command (section 2.5), or the third if one status is lost."""
IGNORED_IN_A_ROW = 3
"""The box counts as ignoring commands after this number of consecutive statuses without the commanded limits."""


class CommandTracker:
    """Compares the statuses of one box with the commands sent to it.

    Args:
        second_in_force: True if the second limit of this box is the one in force, False if the first is. None while
            no command has shown it; then the first one is assumed.
    """

    def __init__(self, second_in_force: bool | None = None) -> None:
        self.second_in_force = second_in_force
        self.proven = False
        """True once a limit changed to what the last command demands, since that command and the user's last change."""
        self.follows = False
        """True if the last status shows what the last command demands, if only because nothing had to change."""
        self._statuses_since_command: int | None = None  # since the user's change was sent; None if nothing is pending
        self._ignored = 0
        self._sent: tuple[int, int] | None = None  # the online and the offline limit of the last command, in A
        self._stores_anew = True  # the last command may have changed the stored limit
        self._before: tuple[int | None, int | None] = (None, None)  # both limits, in the status before

    @property
    def pending(self) -> bool:
        """True after a change of the user was sent, until a status shows the change or `SHOWS_WITHIN` statuses came."""
        return self._statuses_since_command is not None

    @property
    def contradicted(self) -> bool:
        """True if the last status shows that the last command is not in force."""
        return self._ignored > 0

    @property
    def ignored(self) -> bool:
        """True if the box ignores commands."""
        return self._ignored >= IGNORED_IN_A_ROW

    def in_force(self, message: StatusMessage) -> int | None:
        """Return the limit in force that a status shows, in A."""
        return message.second_limit if self.second_in_force else message.limit_in_force

    def keeps_stored(self, message: StatusMessage, offline: int, overwritten: int) -> bool:
        """Return True if a status shows that the box still stores `overwritten`, and not `offline`; both in A.

        False if no limit of the status can show it.
        """
        rating = _rating(message)
        if min(offline, rating) == min(overwritten, rating):
            return False
        if self.second_in_force is None and message.limit_in_force == min(offline, rating):
            return False  # the first limit may be the stored one
        stored = message.limit_in_force if self.second_in_force else message.second_limit
        return stored == min(overwritten, rating)

    def record_user_change(self) -> None:
        """Record that a change of the user is sent with the next command."""
        self._statuses_since_command = 0
        self.proven = False

    def record_command(self, online: int, offline: int, answered: StatusMessage | None) -> None:
        """Record a command with its limits in A, and the status that it answers. A repeated command is no new one."""
        if self._sent == (online, offline):
            return
        self._stores_anew = self._sent is None or self._sent[1] != offline
        self._sent = (online, offline)
        self._before = (None, None) if answered is None else (answered.limit_in_force, answered.second_limit)
        self.proven = False

    def cancel(self) -> None:
        """Stop waiting: no command holds, so no status can show a command."""
        self._statuses_since_command = None
        self._sent = None
        self.proven = self.follows = False
        self._ignored = 0

    def check_status(self, message: StatusMessage, online: int, offline: int) -> None:
        """Compare a status with the limits that the box should obey, in A."""
        rating = _rating(message)
        stored = min(offline, rating)
        expected = {min(online, rating), min(online, stored)}
        first = self._has_moved(message.limit_in_force, self._before[0], expected, stored, second=False)
        second = self._has_moved(message.second_limit, self._before[1], expected, stored, second=True)
        if first is not second:
            self.second_in_force = second
        self.proven = self.proven or first or second
        self._before = (message.limit_in_force, message.second_limit)
        shown = self.in_force(message)
        is_expected = shown in expected
        self.follows = first or second or shown == min(online, rating)
        self.follows = self.follows or (is_expected and self.second_in_force is not None)
        if self._statuses_since_command is not None:
            self._statuses_since_command += 1
            if is_expected or self._statuses_since_command >= SHOWS_WITHIN:
                self._statuses_since_command = None
        # While the roles are unknown, the second limit may be in force, unless it is what the box stores.
        may_follow = self.second_in_force is None and message.second_limit in expected - {stored}
        self._ignored = 0 if shown is None or is_expected or may_follow else self._ignored + 1

    def _has_moved(self, now: int | None, before: int | None, expected: set[int], stored: int, *, second: bool) -> bool:
        """Return True if a limit changed to an expected value, and not because it is the stored one."""
        if now not in expected or before is None or now == before:
            return False
        if now != stored:
            return True
        is_in_force = second is bool(self.second_in_force)
        return is_in_force and (self.second_in_force is not None or not self._stores_anew)


def _rating(message: StatusMessage) -> int:
    return HIGHEST_CURRENT if message.unit_rating is None else message.unit_rating
