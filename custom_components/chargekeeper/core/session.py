"""The energy of one session, added up from counters that begin anew at a pause and differ from path to path."""

from .model import Reading, Source

RESTARTS_AT_PAUSE = frozenset({Source.UDP})
"""Paths whose counter begins anew whenever charging stops, not only with a new session (juicebox.md, field `E`)."""

type Durations = tuple[float | None, float | None]
"""How long the session lasted (s), by the last word and by the new one; None where that is not told."""


class SessionEnergy:
    """Adds up; what it gives never falls but with a new session. `unplugged` is set when the car was seen to leave."""

    def __init__(self) -> None:
        self.unplugged = False
        self._raw: dict[Source, float] = {}  # what each path's counter read last in this session
        self._before: dict[Source, float] = {}  # what the session had when that counter began

    def take(self, new: Reading[float], old: Reading[float] | None, durations: Durations) -> tuple[float | None, bool]:
        """Take what a path's counter reads.

        Args:
            new: the counter, kWh.
            old: what was given last.
            durations: they tell a new session from a glitch, where no path saw the car leave.

        Returns:
            The energy of the session, None where the counter is not to be believed; and whether a new one began.
        """
        source = new.source
        if old is None:
            return self._begin(new), False
        last = self._raw.get(source, old.value if old.source is source else None)
        if new.value < (old.value if last is None else last):
            restarts = source in RESTARTS_AT_PAUSE
            if self.unplugged or (not restarts and _is_new(durations, other_path=last is None)):
                return self._begin(new), True
            if restarts:
                self._before[source] = old.value if source in self._raw else old.value - new.value
            elif last is not None:
                return None, False
        self._raw[source] = new.value
        return max(old.value, self._before.get(source, 0.0) + new.value), False

    def _begin(self, new: Reading[float]) -> float:
        self.unplugged, self._before, self._raw = False, {}, {new.source: new.value}
        return new.value


def _is_new(durations: Durations, *, other_path: bool) -> bool:
    """Whether a counter that reads less than before belongs to a later session although nobody saw the car leave.

    Another path may be behind, or count otherwise: there only a session that is clearly shorter is another one.
    """
    before, after = durations
    if other_path:
        return before is not None and after is not None and after < before / 2
    return before is None or after is None or after < before
