"""Base of transports that cache their readings, and publish them to the present listener and to each later one."""

from collections.abc import Callable
from typing import override

from .clock import Clock, DivergenceMark
from .model import Readings
from .transport import StatusReport, Transport, TransportListener


class CachingTransport(Transport):
    """A transport with a cache of readings and one listener; a new listener replaces the previous listener."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._divergence = DivergenceMark(clock)
        self._known = Readings()
        self._last_report: StatusReport | None = None
        self._status_received_at: float | None = None
        self._listener: TransportListener | None = None

    @property
    @override
    def last_report(self) -> StatusReport | None:
        return self._last_report

    @property
    @override
    def status_received_at(self) -> float | None:
        return self._status_received_at

    @override
    def listen(self, listener: TransportListener) -> Callable[[], None]:
        self._listener = listener
        self._forget_after_divergence()
        if self._known or self._known.retracted or self._known.unreadable:
            listener.readings_received(self, self._known)

        def remove() -> None:
            if self._listener is listener:
                self._listener = None

        return remove

    def _forget_after_divergence(self) -> None:
        """Forget what was reported before the clocks diverged, as far as it counts by its age."""
        if self._divergence.is_new:
            self._forget_live()

    def _forget_live(self) -> None:
        """Forget the live values. Transports forget more that has an age."""
        self._known.remove_live()

    def _publish(self, readings: Readings) -> None:
        """Cache readings, drop the cached readings that `readings` retracts, and pass `readings` to the listener."""
        self._forget_after_divergence()
        for prop, reading in readings.items():
            self._known.put(prop, reading)
            self._known.retracted.pop(prop.key, None)
            self._known.unreadable.pop(prop.key, None)
        for key, at in readings.retracted.items():
            self._known.discard(key)
            self._known.retracted[key] = at
        self._known.unreadable.update(readings.unreadable)
        if self._listener is not None:
            self._listener.readings_received(self, readings)

    def _notify_change(self) -> None:
        """Notify the listener that presence, capabilities or breaker changed."""
        if self._listener is not None:
            self._listener.transport_changed(self)
