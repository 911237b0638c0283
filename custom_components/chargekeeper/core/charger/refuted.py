"""Count the commands that the charger's own reports refuted: the second one within a day becomes an issue."""

from math import inf

from ..clock import monotonic_of
from ..model import ChargerIssue
from .context import Context, SingleFlight
from .intents import RefutedRecord

DAY = 24 * 3600.0


class RefutedCommands:
    """The refuted commands of one charger. They survive a restart, and end with a confirmed command."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._clock = context.clock
        self._record: RefutedRecord | None = None
        self._last_at = -inf
        self._saving = SingleFlight(context, self._save)

    def restore(self) -> None:
        """Restore what the intent store saved."""
        self._record = self._context.intents.entries.refuted
        if self._record is not None:
            self._last_at = monotonic_of(self._clock, self._record.at)
            self._sync()

    def refuted(self) -> None:
        """Record that a command had no effect."""
        now = self._clock.monotonic()
        again = self._record is not None and (self._record.again or now < self._last_at + DAY)
        self._last_at = now
        self._record = RefutedRecord(self._clock.now(), again)
        self._sync()

    def confirmed(self) -> None:
        """Record that a command had an effect: the charger follows commands."""
        if self._record is not None:
            self._record = None
            self._sync()

    def _sync(self) -> None:
        if self._record is not None and self._record.again:
            self._context.issues.add(ChargerIssue.COMMANDS_IGNORED)
        else:
            self._context.issues.discard(ChargerIssue.COMMANDS_IGNORED)
        if self._context.intents.entries.refuted != self._record:
            self._saving.start()
        self._context.publish()

    async def _save(self) -> None:
        while self._context.intents.entries.refuted != self._record:
            await self._context.intents.write(refuted=self._record)
