"""The record of outages of a maker's cloud: when, what was served from the cache meanwhile, what was replayed after."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from .clock import Clock

KEPT = 50
"""Outages that are remembered; the oldest give way."""


@dataclass(frozen=True, slots=True)
class Outage:
    """One outage. `served` and `replayed` hold, by serial, keys of properties and names of what was carried out late."""

    started_at: datetime
    ended_at: datetime | None = None
    served: Mapping[str, tuple[str, ...]] | None = None
    replayed: Mapping[str, tuple[str, ...]] | None = None

    def export(self) -> dict[str, object]:
        """The outage as JSON."""
        return {
            "started_at": self.started_at.isoformat(),
            "ended_at": None if self.ended_at is None else self.ended_at.isoformat(),
            "served": {serial: list(keys) for serial, keys in (self.served or {}).items()},
            "replayed": {serial: list(names) for serial, names in (self.replayed or {}).items()},
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
        """The cloud was lost; `since` is when it first failed to answer. One that is under way goes on."""
        if not self.open:
            self.outages = [*self.outages[1 - KEPT :], Outage(since or self._clock.now())]
            self._changed()

    def serve(self, serial: str, keys: Iterable[str]) -> None:
        """These properties of a charger are served from the cache."""
        if self.open:
            self._note("served", serial, keys)

    def end(self) -> None:
        """The cloud is back."""
        if self.open:
            self.outages[-1] = replace(self.outages[-1], ended_at=self._clock.now())
            self._changed()

    def replay(self, serial: str, name: str) -> None:
        """Something that was asked for during the last outage was carried out."""
        if self.outages:
            self._note("replayed", serial, [name])

    def export(self) -> list[dict[str, object]]:
        """All outages as JSON, oldest first."""
        return [outage.export() for outage in self.outages]

    def restore(self, stored: object) -> None:
        """Take what `export` gave; what is garbled is left out."""
        entries = stored if isinstance(stored, list) else []
        self.outages = [outage for entry in entries if (outage := _outage_from(entry)) is not None][-KEPT:]

    def _note(self, field: str, serial: str, names: Iterable[str]) -> None:
        last = self.outages[-1]
        noted: Mapping[str, tuple[str, ...]] = getattr(last, field) or {}
        known = noted.get(serial, ())
        fresh = tuple(sorted(set(names) - set(known)))
        if fresh:
            self.outages[-1] = replace(last, **{field: {**noted, serial: known + fresh}})
            self._changed()


def _outage_from(stored: object) -> Outage | None:
    if not isinstance(stored, Mapping) or (started_at := _moment(stored.get("started_at"))) is None:
        return None
    return Outage(
        started_at, _moment(stored.get("ended_at")), _names(stored.get("served")), _names(stored.get("replayed"))
    )


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None


def _names(stored: object) -> dict[str, tuple[str, ...]]:
    by_serial = stored if isinstance(stored, Mapping) else {}
    return {
        str(serial): tuple(name for name in names if isinstance(name, str))
        for serial, names in by_serial.items()
        if isinstance(names, list)
    }
