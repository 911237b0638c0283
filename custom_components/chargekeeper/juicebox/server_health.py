"""Whether the maker's server is alive, by whether it answers the statuses of one box.

See docs/protocols/juicebox.md, section 2.8.

It is suspect, then gone, and has the box back only after some good answers in a row.
"""

from math import inf

from ..core.reading_builder import Timestamp

SUSPECT_AFTER = 2
TAKE_OVER_AFTER = 3
"""Statuses without an answer after which the server is suspect, and after which it counts as gone."""
SHORTEST_OUTAGE = 20.0
"""Seconds that those must span: at a change of state boxes send several at once."""
GOOD_TO_HAND_BACK = 3
HAND_BACK_AFTER = 60.0
"""Good answers of the server in a row, and seconds since the first of them, after which it is the master again.

One may be missing: a box may send its next status before the answer to the last is there.
"""


class ServerHealth:
    """The signs of life of the server. `lost` says that it was gone before this run."""

    def __init__(self, *, lost: bool) -> None:
        self.answered_at: Timestamp | None = None
        """When it last gave a good answer."""
        self._lost = lost  # until it gave some good answers
        self._unanswered = 0
        self._unanswered_since = inf
        self._good = 0
        self._good_since = inf
        self._last_status_answered = True  # the last status

    def reset(self) -> None:
        """It is another server from now on, or none."""
        self._unanswered = 0
        self._good = 0
        self._last_status_answered = True
        self.answered_at = None

    @property
    def answers(self) -> bool | None:
        """Whether it is there; None where nothing was heard of it yet."""
        if self.answered_at is None and not self.suspect:
            return None
        return self.answered_at is not None and not self.silent and not self._lost

    @property
    def has_unanswered_status(self) -> bool:
        """Whether a status waits for its answer."""
        return self._unanswered > 0

    @property
    def suspect(self) -> bool:
        """Whether it left the last statuses unanswered."""
        return self._unanswered >= SUSPECT_AFTER

    @property
    def silent(self) -> bool:
        """Whether it left so many unanswered that it may be gone."""
        return self._unanswered >= TAKE_OVER_AFTER

    def is_gone(self, now: float) -> bool:
        """Whether it is silent for long enough."""
        return self.silent and now - self._unanswered_since >= SHORTEST_OUTAGE

    def may_return(self, now: float) -> bool:
        """Whether it answers well, and has for a while."""
        return self._good >= GOOD_TO_HAND_BACK and now - self._good_since >= HAND_BACK_AFTER

    def record_status(self, now: float) -> None:
        """It was sent a status."""
        if self.suspect:
            self._good = 0
        if not self._unanswered:
            self._unanswered_since = now
        self._unanswered += 1
        self._last_status_answered = False

    def record_answer(self, received: Timestamp) -> None:
        """It sent a good answer."""
        self.answered_at = received
        self._unanswered = 0
        if not self._last_status_answered:
            self._last_status_answered = True
            self._good_since = received.observed_mono if self._good == 0 else self._good_since
            self._good += 1
            self._lost = self._lost and self._good < GOOD_TO_HAND_BACK

    def record_take_over(self) -> None:
        """Its place was taken."""
        self._good = 0
        self._lost = True
