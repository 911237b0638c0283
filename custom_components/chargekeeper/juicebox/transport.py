"""Transports of a box: its own datagrams, and the manufacturer's server.

A command is part of the answer to the next status, so `execute` only records the change. The first or second status
after that shows the effect (docs/protocols/juicebox.md, section 2.5).
"""

from collections.abc import Callable
from datetime import datetime
from typing import override

from ..core.breaker import Breaker
from ..core.caching_transport import CachingTransport
from ..core.clock import Clock
from ..core.errors import NoConnection, TransportBusy, Unsupported
from ..core.model import LIVE_AGE, OFFLINE_CURRENT, Capability, Identity, Source, Status
from ..core.reading_builder import Timestamp
from ..core.transport import Command, Presence, SetCharging, SetCurrent, SetOverride, StatusReport
from .box import Box, Mode
from .mapping import (
    box_readings,
    capabilities,
    car_connected,
    identity,
    offline_readings,
    status,
    stored_limit,
    stored_readings,
    user_readings,
)

SILENT_AFTER = LIVE_AGE[Source.UDP]
"""Seconds without a status after which the box is unreachable."""

NEXT_STATUS = 30.0
"""Seconds until the next status at the latest, while the box is reachable (section 2.3.5)."""


class _BoxTransport(CachingTransport):
    """Common base of both transports of a box."""

    meters_lifetime = True
    frees_schedule = True
    read_back_delays = ()  # the box sends its next statuses unasked

    def __init__(self, box: Box, clock: Clock) -> None:
        super().__init__(clock)
        self.breaker = Breaker(clock)
        self._box = box
        self._unsubscribe: Callable[[], None]

    def close(self) -> None:
        """Stop listening to the box."""
        self._unsubscribe()
        self._listener = None

    @property
    @override
    def identity(self) -> Identity:
        return identity(self._box)

    @override
    async def check(self) -> None:
        raise TransportBusy("next_status", NEXT_STATUS)

    @property
    @override
    def restart_needs_link(self) -> bool:
        return True


class JuiceBoxTransport(_BoxTransport):
    """Transport over the datagrams of the box."""

    source = Source.UDP

    def __init__(self, box: Box, clock: Clock) -> None:
        super().__init__(box, clock)
        self._config = box.config
        self._status = box.status
        self._last_seen: Timestamp | None = None
        self._started_at = clock.monotonic()
        self._cancel_silence = clock.call_later(SILENT_AFTER, self._report_offline)
        self._show_config()
        self._unsubscribe = box.listen(self._box_changed)

    @override
    def close(self) -> None:
        super().close()
        self._cancel_silence()

    @property
    @override
    def capabilities(self) -> frozenset[Capability]:
        return capabilities(self._box)

    @property
    @override
    def presence(self) -> Presence:
        since = self._started_at if self._last_seen is None else self._last_seen.observed_mono
        if self._clock.monotonic() - since >= SILENT_AFTER:
            return Presence.OFFLINE
        return Presence.UNKNOWN if self._last_seen is None else Presence.ONLINE

    @property
    @override
    def charger_reported_at(self) -> float | None:
        return None if self._last_seen is None else self._last_seen.observed_mono

    @override
    def proves(self, capability: Capability) -> bool:
        return self._box.proves_command

    @property
    @override
    def booted_at(self) -> float | None:
        return self._box.command_clock.booted_at

    @property
    @override
    def endpoint_contact_at(self) -> datetime | None:
        return None if self._last_seen is None else self._last_seen.observed_at

    @override
    async def execute(self, command: Command, *, patience: float, urgent: float = 0.0) -> None:
        """Send the command with the answer to the next status.

        Raises:
            NoConnection: `charger_offline`, the box is silent; `not_heard`, there was no status since the start;
                `learning`, its stored limit is unknown.
            UnsafeRequest: the override would collide with the manufacturer's load group.
            NotApplicable: the box cannot carry out the command in its present state.
            Unsupported: no box can carry out the command.
        """
        if self.presence is not Presence.ONLINE:
            raise NoConnection("charger_offline" if self.presence is Presence.OFFLINE else "not_heard")
        if self._box.mode is Mode.LEARNING and not (isinstance(command, SetOverride) and not command.on):
            raise NoConnection("learning")
        match command:
            case SetCurrent(amps):
                self._box.set_current(amps)
            case SetCharging(on):
                self._box.set_charging(on=on)
            case SetOverride(on):
                self._box.set_override(on=on)
            case _:
                raise Unsupported("unsupported", command.capability)

    def _box_changed(self) -> None:
        if self._box.config != self._config:
            self._config = self._box.config
            self._show_config()
        if self._box.status is not None and self._box.status is not self._status:
            self._status = self._box.status
            self._process_status()
        elif self._offline_limit_changed():
            self._publish(stored_readings(self._box, Timestamp.of(self._clock)))
        else:
            self._notify_change()

    def _offline_limit_changed(self) -> bool:
        """Return True if the highest possible stored limit differs from the shown one.

        A box that falls silent now may continue with that limit.
        """
        shown = self._known.value(OFFLINE_CURRENT)
        return self._last_seen is not None and stored_limit(self._box) not in {None, shown}

    def _process_status(self) -> None:
        assert self._status is not None
        self._last_seen = seen = Timestamp.of(self._clock)
        self._cancel_silence()
        self._cancel_silence = self._clock.call_later(SILENT_AFTER, self._report_offline)
        self._last_report = StatusReport(status(self._box, seen.observed_mono), car_connected(self._status.state))
        if not self._box.change_pending or self._status_received_at is None:  # the status can show the last change
            self._status_received_at = seen.observed_mono
        self._publish(box_readings(self._box, self._status, seen))

    def _report_offline(self) -> None:
        now = Timestamp.of(self._clock)
        self._last_report = StatusReport(Status.OFFLINE)
        self._status_received_at = now.observed_mono
        self._publish(offline_readings(now))

    def _show_config(self) -> None:
        self._publish(user_readings(self._config, Timestamp.of(self._clock)))


class ServerTransport(_BoxTransport):
    """The manufacturer's server, as far as it answers this box. It has no readings and takes no commands."""

    source = Source.CLOUD
    capabilities = frozenset()

    def __init__(self, box: Box, clock: Clock) -> None:
        super().__init__(box, clock)
        self._published = box.server_answers, self.identity
        self._unsubscribe = box.listen(self._box_changed)

    @property
    @override
    def presence(self) -> Presence:
        received_at = self._box.command_clock.status_received_at
        silent = received_at is None or self._clock.monotonic() - received_at >= SILENT_AFTER
        if silent or self._box.server_answers is None:
            return Presence.UNKNOWN  # a silent box sends the server nothing to answer
        return Presence.ONLINE if self._box.server_answers else Presence.OFFLINE

    @property
    @override
    def last_report(self) -> StatusReport | None:
        return None if self.presence is Presence.UNKNOWN else StatusReport()

    @property
    @override
    def charger_reported_at(self) -> float | None:
        answered_at = self._box.server_health.answered_at
        return None if answered_at is None else answered_at.observed_mono

    @property
    @override
    def endpoint_contact_at(self) -> datetime | None:
        answered_at = self._box.server_health.answered_at
        return None if answered_at is None else answered_at.observed_at

    @override
    async def execute(self, command: Command, *, patience: float, urgent: float = 0.0) -> None:
        raise Unsupported("unsupported", command.capability)

    def _box_changed(self) -> None:
        shown = self._box.server_answers, self.identity
        if shown != self._published:
            self._published = shown
            self._notify_change()
