"""The record of outages of a maker's cloud: when, what was served from the cache, what was carried out afterwards."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from .clock import Clock
from .coerce import moment

KEPT = 50
"""Outages that are remembered; the oldest give way."""

REPLAY_WITHIN = timedelta(minutes=30)
"""After the end of an outage; what is carried out later has other causes."""

type ByCharger = Mapping[str, tuple[str, ...]]
"""Names by serial number."""


@dataclass(frozen=True, slots=True)
class Outage:
    """One outage: keys of the properties `served` from the cache, names of what was `replayed` after it."""

    started_at: datetime
    ended_at: datetime | None = None
    served: ByCharger = field(default_factory=dict)
    replayed: ByCharger = field(default_factory=dict)

    def export(self) -> dict[str, object]:
        """The outage as JSON."""
        return {
            "started_at": self.started_at.isoformat(),
            "ended_at": None if self.ended_at is None else self.ended_at.isoformat(),
            "served": {serial: list(keys) for serial, keys in self.served.items()},
            "replayed": {serial: list(names) for serial, names in self.replayed.items()},
        }


class OutageLog:
    """The outages of one cloud, newest last. `changed` is called after each change."""

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self.outages: list[Outage] = []

    @property
    def open(self) -> bool:
        """Whether an outage is under way."""
        return bool(self.outages) and self.outages[-1].ended_at is None

    def begin(self, since: datetime | None) -> None:
        """The cloud was lost; `since` is when it first failed to answer. An outage under way goes on."""
        if not self.open:
            self.outages = [*self.outages[1 - KEPT :], Outage(since or self._clock.now())]
            self._changed()

    def serve(self, serial: str, keys: Iterable[str]) -> None:
        """These properties of a charger are served from the cache."""
        if self.open and (keys := tuple(keys)):
            last = self.outages[-1]
            self._put(replace(last, served=_with(last.served, serial, keys)))

    def end(self) -> None:
        """The cloud is back."""
        if self.open:
            self._put(replace(self.outages[-1], ended_at=self._clock.now()))

    def replay(self, serial: str, name: str) -> None:
        """Something that the user wants to hold was carried out (again) in the last outage, or soon after it."""
        last = self.outages[-1] if self.outages else None
        if last is not None and (last.ended_at is None or self._clock.now() <= last.ended_at + REPLAY_WITHIN):
            self._put(replace(last, replayed=_with(last.replayed, serial, [name])))

    def forget(self, serial: str) -> None:
        """A charger was given up."""
        before = self.outages
        self.outages = [
            replace(outage, served=_without(outage.served, serial), replayed=_without(outage.replayed, serial))
            for outage in before
        ]
        if self.outages != before:
            self._changed()

    def export(self) -> list[dict[str, object]]:
        """All outages as JSON, oldest first."""
        return [outage.export() for outage in self.outages]

    def restore(self, stored: object) -> None:
        """Take what `export` gave; what is garbled is left out."""
        entries = stored if isinstance(stored, list) else []
        self.outages = [outage for entry in entries if (outage := _outage_from(entry)) is not None][-KEPT:]

    def _put(self, outage: Outage) -> None:
        if outage != self.outages[-1]:
            self.outages[-1] = outage
            self._changed()


def _with(noted: ByCharger, serial: str, names: Iterable[str]) -> ByCharger:
    """What is noted, and these names too."""
    known = noted.get(serial, ())
    return {**noted, serial: known + tuple(sorted(set(names) - set(known)))}


def _without(noted: ByCharger, serial: str) -> ByCharger:
    return {other: names for other, names in noted.items() if other != serial}


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
