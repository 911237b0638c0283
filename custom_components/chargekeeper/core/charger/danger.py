"""Track reports that make a restart harmful: a firmware update, or flowing power.

A different report of another transport ends neither. An update outlives outages and restarts of Home Assistant.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import inf

from ..clock import Clock
from ..model import FIRMWARE, POWER_FLOWS, STATUS, Reading, Readings, Source, Status
from ..transport import Transport
from .context import Context, SingleFlight
from .evidence import report_time
from .intents import UpdateRecord

UPDATE_WITHIN = 3 * 3600.0
"""Seconds after the last update report during which the charger counts as updating. After that, the update is in
doubt."""

SAVE_EVERY = 15 * 60.0
"""Seconds after which the age of an update is saved again. A restart of Home Assistant loses at most that much."""


@dataclass(frozen=True, slots=True)
class Danger:
    """Why a restart would do harm: the transport that reported the danger, and when the danger ends, if known."""

    source: Source
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Update:
    """An update that a transport reported at the monotonic time `at`.

    For a restored update, `at` is before the start.
    """

    at: float
    firmware: str | None
    dismissed: bool = False
    """The user said at `at` that the update is over. Only a later report of the charger counts again."""


class DangerWatch:
    """Remembers what each transport reported of updates and of flowing power."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._clock: Clock = context.clock
        self._updates: dict[Source, _Update] = {}
        self._flowing: dict[Source, Reading[Status]] = {}
        self._saving = SingleFlight(context, self._save)

    @property
    def updating(self) -> Danger | None:
        """The update whose time limit ends last; None unless the charger counts as updating."""
        latest = self._latest
        if latest is None or self._age(self._updates[latest]) >= UPDATE_WITHIN:
            return None
        left = timedelta(seconds=UPDATE_WITHIN - self._age(self._updates[latest]))
        return Danger(latest, self._clock.now() + left)

    @property
    def update_doubted(self) -> Danger | None:
        """An update whose end no transport reported in time."""
        latest = self._latest
        return None if latest is None or self.updating is not None else Danger(latest)

    @property
    def flowing(self) -> Danger | None:
        """A transport whose last unexpired status says that power flows."""
        now = self._clock.monotonic()
        sources = (source for source, reading in self._flowing.items() if reading.expires_at > now)
        source = next(sources, None)
        return None if source is None else Danger(source)

    def marks(self) -> list[float]:
        """Return the monotonic times at which a danger may end or a save is due even if no report arrives."""
        found = [reading.expires_at for reading in self._flowing.values()]
        for source, update in self._updates.items():
            found += [update.at + UPDATE_WITHIN, update.at + self._saved_age(source) + SAVE_EVERY]
        return found

    def restore(self) -> None:
        """Restore the updates from the intent store."""
        now = self._clock.monotonic()
        for record in self._context.intents.entries.updates:
            self._updates[record.source] = _Update(now - record.age, record.firmware, record.dismissed)

    def on_readings(self, transport: Transport, readings: Readings) -> None:
        """Record what a transport reported.

        An update ends when the same transport reports a status that excludes an update, or when the firmware version
        changes.
        """
        self._note_firmware()
        status = None if transport.last_report is None else transport.last_report.status
        if status is Status.UPDATING:
            self._note_update(transport)
        elif status is not None and status is not Status.OFFLINE:
            self._updates.pop(transport.source, None)
        reading = readings.get(STATUS)
        if reading is not None and reading.value in POWER_FLOWS:
            self._flowing[transport.source] = reading
        elif reading is not None and reading.value is not Status.OFFLINE:
            self._flowing.pop(transport.source, None)
        self.save_if_due()

    def save_if_due(self) -> None:
        """Save the updates if they differ from the intent store, or if a saved age is too old or too young."""
        saved = {record.source: record for record in self._context.intents.entries.updates}
        known = self._updates
        if saved.keys() != known.keys() or any(self._is_due(saved[source], known[source]) for source in known):
            self._saving.start()

    def dismiss(self) -> None:
        """Ignore the updates that are in doubt: the user says that these updates are over.

        A transport that only repeats its old report does not bring an update back.
        """
        now = self._clock.monotonic()
        for source, update in self._updates.items():
            if self._age(update) >= UPDATE_WITHIN:
                self._updates[source] = replace(update, at=now, dismissed=True)
        self.save_if_due()

    @property
    def _latest(self) -> Source | None:
        """The transport of the last reported update that the user did not dismiss."""
        open_updates = {source: update.at for source, update in self._updates.items() if not update.dismissed}
        return max(open_updates, key=open_updates.__getitem__, default=None)

    def _note_update(self, transport: Transport) -> None:
        known = self._updates.get(transport.source)
        if known is None or _reported_at(transport) > known.at:
            self._updates[transport.source] = _Update(self._clock.monotonic(), self._firmware())

    def _note_firmware(self) -> None:
        """Forget each update that was reported with another firmware version."""
        firmware = self._firmware()
        if firmware is None:
            return
        for source, update in list(self._updates.items()):
            if update.firmware is None:
                self._updates[source] = replace(update, firmware=firmware)
            elif update.firmware != firmware:
                del self._updates[source]

    def _firmware(self) -> str | None:
        """Return the version that a transport reported in this run. A stored version may be older than the update."""
        reading = self._context.readings_store.get(FIRMWARE)
        return None if reading is None or reading.observed_mono == -inf else reading.value

    def _age(self, update: _Update) -> float:
        return min(self._clock.monotonic() - update.at, UPDATE_WITHIN)

    def _saved_age(self, source: Source) -> float:
        records = self._context.intents.entries.updates
        return next((record.age for record in records if record.source is source), 0.0)

    def _is_due(self, record: UpdateRecord, update: _Update) -> bool:
        age = self._age(update)
        changed = (record.firmware, record.dismissed) != (update.firmware, update.dismissed)
        return changed or age < record.age or record.age < age >= min(record.age + SAVE_EVERY, UPDATE_WITHIN)

    async def _save(self) -> None:
        updates = tuple(
            UpdateRecord(source, self._age(update), update.firmware, update.dismissed)
            for source, update in self._updates.items()
        )
        await self._context.intents.write(updates=updates)


def _reported_at(transport: Transport) -> float:
    """Return the monotonic time at which the charger itself last reported its status; minus infinity if unknown."""
    received_at = transport.status_received_at
    return -inf if received_at is None else report_time(transport, received_at)
