"""Health of the manufacturer's server, judged by its answers to the statuses of one box.

See docs/protocols/juicebox.md, section 2.8.

A server that stops answering is first suspect, then gone. The box is handed back to the server only after several
consecutive good answers.
"""

from math import inf

from ..core.reading_builder import Timestamp

SUSPECT_AFTER = 2
TAKE_OVER_AFTER = 3
"""Unanswered statuses after which the server is suspect, and after which it counts as gone."""
SHORTEST_OUTAGE = 20.0
"""Seconds that the unanswered statuses must span: when its state changes, a box sends several at once."""
GOOD_TO_HAND_BACK = 3
HAND_BACK_AFTER = 60.0
"""Conditions to hand the box back: good answers of the server in a row, and seconds since the first of them.

One answer may be missing: a box may send its next status before the answer to the last one arrives.
"""


class ServerHealth:
    """Health of the server. `lost` is True if the server was gone before this run."""

    def __init__(self, *, lost: bool) -> None:
        self.answered_at: Timestamp | None = None
        """Time of the last good answer."""
        self._lost = lost  # until several good answers arrive
        self._unanswered = 0
        self._unanswered_since = inf
        self._good = 0
        self._good_since = inf
        self._last_status_answered = True  # the last status

    def reset(self) -> None:
        """Start again for another server, or for none."""
        self._unanswered = 0
        self._good = 0
        self._last_status_answered = True
        self.answered_at = None

    @property
    def answers(self) -> bool | None:
        """True if the server answers; None if nothing is known of it yet."""
        if self.answered_at is None and not self.suspect:
            return None
        return self.answered_at is not None and not self.silent and not self._lost

    @property
    def has_unanswered_status(self) -> bool:
        """True while a status waits for its answer."""
        return self._unanswered > 0

    @property
    def suspect(self) -> bool:
        """True after two unanswered statuses."""
        return self._unanswered >= SUSPECT_AFTER

    @property
    def silent(self) -> bool:
        """True after three unanswered statuses."""
        return self._unanswered >= TAKE_OVER_AFTER

    def is_gone(self, now: float) -> bool:
        """Return True if the server is silent and the unanswered statuses span `SHORTEST_OUTAGE`."""
        return self.silent and now - self._unanswered_since >= SHORTEST_OUTAGE

    def may_return(self, now: float) -> bool:
        """Return True if the server has given enough good answers for long enough."""
        return self._good >= GOOD_TO_HAND_BACK and now - self._good_since >= HAND_BACK_AFTER

    def record_status(self, now: float) -> None:
        """Record that a status was sent to the server."""
        if self.suspect:
            self._good = 0
        if not self._unanswered:
            self._unanswered_since = now
        self._unanswered += 1
        self._last_status_answered = False

    def record_answer(self, received: Timestamp) -> None:
        """Record a good answer of the server."""
        self.answered_at = received
        self._unanswered = 0
        if not self._last_status_answered:
            self._last_status_answered = True
            self._good_since = received.observed_mono if self._good == 0 else self._good_since
            self._good += 1
            self._lost = self._lost and self._good < GOOD_TO_HAND_BACK

    def record_take_over(self) -> None:
        """Record that ChargeKeeper answers the box in place of the server."""
        self._good = 0
        self._lost = True
