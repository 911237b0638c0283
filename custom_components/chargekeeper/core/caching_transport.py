"""A path that keeps what it showed of its charger for whoever listens later, and tells it to whoever listens now."""

from collections.abc import Callable
from typing import override

from .clock import Clock
from .model import Readings
from .transport import ChargerPath, PathListener, Word


class ShowingPath(ChargerPath):
    """What such paths have in common; the last listener that came is the one that is told."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known = Readings()
        self._said: Word | None = None
        self._asked_at: float | None = None
        self._listener: PathListener | None = None

    @property
    @override
    def said(self) -> Word | None:
        return self._said

    @property
    @override
    def asked_at(self) -> float | None:
        return self._asked_at

    @override
    def listen(self, listener: PathListener) -> Callable[[], None]:
        self._listener = listener
        if self._known or self._known.retracted:
            listener.path_read(self, self._known)

        def cancel() -> None:
            if self._listener is listener:
                self._listener = None

        return cancel

    def _show(self, readings: Readings) -> None:
        """The charger showed these, and showed that it has not those that are retracted."""
        for prop, reading in readings.items():
            self._known.put(prop, reading)
            self._known.retracted.pop(prop.key, None)
        for key, at in readings.retracted.items():
            self._known.discard(key)
            self._known.retracted[key] = at
        if self._listener is not None:
            self._listener.path_read(self, readings)

    def _tell_change(self) -> None:
        """Something else about the path changed."""
        if self._listener is not None:
            self._listener.path_changed(self)
