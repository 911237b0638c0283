"""The log of outages of a manufacturer's cloud: when, what the cache served, and what was carried out afterwards."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from .clock import Clock
from .coerce import moment

MAX_OUTAGES = 50
"""Number of outages that are kept; the oldest are dropped."""

REPLAY_WITHIN = timedelta(minutes=30)
"""An action that is repeated within this time after an outage counts as part of the outage."""

type ByCharger = Mapping[str, tuple[str, ...]]
"""Names by serial number."""


@dataclass(frozen=True, slots=True)
class Outage:
    """One outage: keys of the properties `served` from the cache, and names of the actions `replayed` afterwards."""

    started_at: datetime
    ended_at: datetime | None = None
    served: ByCharger = field(default_factory=dict)
    replayed: ByCharger = field(default_factory=dict)

    def export(self) -> dict[str, object]:
        """Return the outage as JSON."""
        return {
            "started_at": self.started_at.isoformat(),
            "ended_at": None if self.ended_at is None else self.ended_at.isoformat(),
            "served": {serial: list(keys) for serial, keys in self.served.items()},
            "replayed": {serial: list(names) for serial, names in self.replayed.items()},
        }


class OutageLog:
    """The outages of one cloud, newest last. The log calls `changed` after each change."""

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self.outages: list[Outage] = []

    @property
    def open(self) -> bool:
        """True while an outage lasts."""
        return bool(self.outages) and self.outages[-1].ended_at is None

    def begin(self, since: datetime | None) -> None:
        """Begin an outage unless one is open already.

        `since` is when the cloud first failed to answer; None for now.
        """
        if not self.open:
            self.outages = [*self.outages[1 - MAX_OUTAGES :], Outage(since or self._clock.now())]
            self._changed()

    def serve(self, serial: str, keys: Iterable[str]) -> None:
        """Record that the cache serves these properties of a charger during the present outage."""
        if self.open and (keys := tuple(keys)):
            last = self.outages[-1]
            self._put(replace(last, served=_with_names(last.served, serial, keys)))

    def end(self) -> None:
        """End the present outage, if any."""
        if self.open:
            self._put(replace(self.outages[-1], ended_at=self._clock.now()))

    def replay(self, serial: str, name: str) -> None:
        """Record the action `name` of a charger, which was sent late or again.

        The action is recorded only during an outage and up to `REPLAY_WITHIN` after the last one.
        """
        last = self.outages[-1] if self.outages else None
        if last is not None and (last.ended_at is None or self._clock.now() <= last.ended_at + REPLAY_WITHIN):
            self._put(replace(last, replayed=_with_names(last.replayed, serial, [name])))

    def forget(self, serial: str) -> None:
        """Remove a charger from all outages."""
        before = self.outages
        self.outages = [
            replace(
                outage,
                served=_without_charger(outage.served, serial),
                replayed=_without_charger(outage.replayed, serial),
            )
            for outage in before
        ]
        if self.outages != before:
            self._changed()

    def export(self) -> list[dict[str, object]]:
        """Return all outages as JSON, oldest first."""
        return [outage.export() for outage in self.outages]

    def restore(self, stored: object) -> None:
        """Restore what `export` returned, without damaged entries."""
        entries = stored if isinstance(stored, list) else []
        self.outages = [outage for entry in entries if (outage := _outage_from(entry)) is not None][-MAX_OUTAGES:]

    def _put(self, outage: Outage) -> None:
        if outage != self.outages[-1]:
            self.outages[-1] = outage
            self._changed()


def _with_names(by_charger: ByCharger, serial: str, names: Iterable[str]) -> ByCharger:
    """Return `by_charger` with these names added for one charger; new names are sorted."""
    known = by_charger.get(serial, ())
    return {**by_charger, serial: known + tuple(sorted(set(names) - set(known)))}


def _without_charger(by_charger: ByCharger, serial: str) -> ByCharger:
    return {other: names for other, names in by_charger.items() if other != serial}


def _outage_from(stored: object) -> Outage | None:
    if not isinstance(stored, Mapping) or (started_at := moment(stored.get("started_at"))) is None:
        return None
    served = _names(stored.get("served"))
    replayed = _names(stored.get("replayed"))
    return Outage(started_at, moment(stored.get("ended_at")), served, replayed)


def _names(stored: object) -> dict[str, tuple[str, ...]]:
    by_serial = stored if isinstance(stored, Mapping) else {}
    return {
        str(serial): tuple(name for name in names if isinstance(name, str))
        for serial, names in by_serial.items()
        if isinstance(names, list)
    }
