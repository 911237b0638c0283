"""Linked entities around a JuiceBox: a meter, and a button or a power switch that restarts the box.

The box reports its own status and is commanded by the replies, so no other command uses the linked entities. While the
box does not report, the meter still shows if power flows. The power switch can then clear the box's schedule, as the
manufacturer advises: by 20 s without power (docs/design.md, section 5.7).
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from math import inf
from typing import override

from homeassistant.core import Event, EventStateChangedData, EventStateReportedData, HomeAssistant, callback

from ..core.charger import Charger
from ..core.clock import Clock
from ..core.errors import NoConnection, NotApplicable, TransportBusy, UnsafeRequest
from ..core.limits import Limits, ceiling
from ..core.model import CURRENT, POWER, POWER_FLOWS, Capability, Readings, Status
from ..core.transport import Command, Presence, Restart, SetOverride, StatusReport, TransportListener
from ..juicebox.box import Box
from ..juicebox.transport import NEXT_STATUS, JuiceBoxTransport
from .entity_transport import (
    CONF_ALLOW_POWER_CYCLE,
    CONF_CURRENT,
    CONF_POWER,
    CONF_POWER_SWITCH,
    CONF_RESTART_BUTTON,
    FLOWING,
    EntityTransport,
    is_flowing,
    is_own_report,
    old_state,
)
from .power_cycle import CYCLE, PowerCycle

REST = 60.0
"""Seconds without flow that a power cut requires, and for which one report of the meter counts."""

STARTS_WITHIN = 90.0
"""Seconds after the start of a power cycle in which the meter proves nothing: power off, on, start of the box and the
car."""


class BoxEntityTransport(EntityTransport):
    """A JuiceBox reached through linked entities; `cycle` switches its power and outlives this transport."""

    frees_schedule = True  # no linked entity can pause a box

    def __init__(
        self,
        hass: HomeAssistant,
        clock: Clock,
        charger: Charger,
        links: Mapping[str, object],
        box_parts: tuple[Box, JuiceBoxTransport, PowerCycle],
    ) -> None:
        super().__init__(hass, clock, charger, links)
        self._box, self._udp, self.cycle = box_parts
        self._may_cycle = links.get(CONF_ALLOW_POWER_CYCLE) is True
        self._metered_at = -inf
        self._flowed_at = -inf
        self._reported_at: dict[str, float] = {}  # by link, only reports of the meter itself
        self._rested_at = -inf
        self._resting_since = inf
        self._reports_offline = False
        # The start count of the box before the restart that is under way.
        self._boots_before = self._box.counts["boots"] if self.cycle.active else None

    @property
    def _is_box_offline(self) -> bool:
        """True if the box does not report, although it had time to report."""
        return self._udp.presence is Presence.OFFLINE

    @property
    @override
    def capabilities(self) -> frozenset[Capability]:
        found = set()
        if self._links.keys() & {CONF_RESTART_BUTTON, CONF_POWER_SWITCH}:
            found.add(Capability.RESTART)
        has_meter = bool(self._links.keys() & {CONF_POWER, CONF_CURRENT})
        if self._is_box_offline and self._may_cycle and has_meter and CONF_POWER_SWITCH in self._links:
            found.add(Capability.OVERRIDE)
        return frozenset(found)

    @property
    @override
    def presence(self) -> Presence:
        """Return ONLINE only while the box itself reports: a linked switch alone cannot command the box."""
        if all(self._state(link) is None for link in self._links):
            return Presence.OFFLINE
        return Presence.ONLINE if self._udp.presence is Presence.ONLINE else Presence.UNKNOWN

    @property
    @override
    def last_report(self) -> StatusReport | None:
        if self._reports_offline:
            return StatusReport(Status.OFFLINE)
        if self._is_starting:
            return StatusReport(Status.RESTARTING)
        if self._flows:
            return StatusReport(Status.CHARGING)
        if not self._is_box_offline:
            return self._udp.last_report
        return StatusReport(Status.WAITING_SCHEDULE) if self.at_rest else None

    @property
    @override
    def charger_reported_at(self) -> float | None:
        """Return the time of the last sign of life. Flowing power is a sign of life; absent power is not."""
        if not self._is_box_offline:
            return self._udp.charger_reported_at
        return None if self._flowed_at == -inf else self._flowed_at

    @property
    @override
    def status_received_at(self) -> float | None:
        if not self._is_box_offline:
            return self._udp.status_received_at
        return None if self._metered_at == -inf else self._metered_at

    @property
    @override
    def endpoint_contact_at(self) -> datetime | None:
        return self._udp.endpoint_contact_at

    @property
    @override
    def at_rest(self) -> bool:
        return self._rests and not self._is_starting

    @property
    def _rests(self) -> bool:
        """True if the meter has reported for a minute, until now, that nothing flows."""
        now = self._clock.monotonic()
        return not self._flows and now - self._rested_at <= REST <= now - self._resting_since

    @property
    def _flows(self) -> bool:
        """True if the latest report of the meter, within a minute, shows that power flows."""
        return self._flowed_at == self._metered_at and self._clock.monotonic() - self._flowed_at <= REST

    @property
    def _is_starting(self) -> bool:
        since = self.cycle.since_last
        return self.cycle.trying or (since is not None and since < STARTS_WITHIN)

    @override
    def listen(self, listener: TransportListener) -> Callable[[], None]:
        removers = [
            super().listen(listener),
            self._box.listen(self._box_changed),
            self.cycle.listen(self._cycle_changed),
        ]

        def cancel() -> None:
            for remove in removers:
                remove()

        return cancel

    @override
    async def execute(self, command: Command, *, patience: float) -> None:
        """Restart the box, or clear its schedule by a power cycle.

        Raises:
            NoConnection: `linked_unavailable`; `offline_too_high`; `charger_offline` for an override while a power
                cycle is unsafe, so that the override waits.
            TransportBusy: `cycled`, the last power cycle is too recent.
            UnsafeRequest: `restart_charging`, `restart_status_unknown`: power flows, or may flow.
            ChargerError: the linked entity failed; see `async_call_entity`.
        """
        if isinstance(command, SetOverride):
            if not command.on:
                raise NoConnection("charger_offline")
            guard = self._require_safe_override
        elif isinstance(command, Restart) and CONF_RESTART_BUTTON not in self._links:
            guard = self._require_safe_restart
        else:
            self._boots_before = self._box.counts["boots"]
            await super().execute(command, patience=patience)
            return
        guard()
        since = self.cycle.since_last
        if since is not None and since < CYCLE:
            raise TransportBusy("cycled", CYCLE - since)
        entry = self._entry(CONF_POWER_SWITCH)
        if entry is None or self._state(CONF_POWER_SWITCH) is None:
            raise NoConnection("linked_unavailable")
        self._boots_before = self._box.counts["boots"]
        await self.cycle.begin(entry.id, self.identity.name, guard)
        if isinstance(command, SetOverride):
            with suppress(NotApplicable, UnsafeRequest):  # then the server, or the box's learned state, decides
                self._box.set_override(on=True)  # the first reply to the box must not stop charging again

    @override
    async def check(self) -> None:
        """Send nothing: the meter reports by itself, and a forced read proves nothing. Raises TransportBusy."""
        if not self._is_box_offline:
            raise TransportBusy("next_status", NEXT_STATUS)

    def _require_safe_override(self) -> None:
        """Raise NoConnection unless an automatic power cycle is safe now."""
        last = self.cycle.last
        is_spent = last is not None and last.spent
        if not (self._is_box_offline and self._may_cycle and self._rests) or is_spent:
            raise NoConnection("charger_offline")
        self._require_safe_offline_current()

    def _require_safe_restart(self) -> None:
        """Raise UnsafeRequest while power flows or may flow, and NoConnection if the offline current is unsafe."""
        last_report = None if self._is_box_offline else self._udp.last_report
        status = None if last_report is None else last_report.status
        if self._flows or status in POWER_FLOWS:
            if not self._charger.options.restart_while_charging:
                raise UnsafeRequest("restart_charging")
        elif not self._rests and (status is None or not self._is_fresh):
            raise UnsafeRequest("restart_status_unknown")
        if self._is_box_offline:
            self._require_safe_offline_current()

    @property
    def _is_fresh(self) -> bool:
        """True if the box itself reported within a minute."""
        status_received_at = self._udp.status_received_at
        return status_received_at is not None and self._clock.monotonic() - status_received_at <= REST

    def _require_safe_offline_current(self) -> None:
        """Raise NoConnection if the offline current is unknown or exceeds a limit.

        The box would charge with its offline current after a power cycle, and nothing could lower it.
        """
        limits = Limits.of(self._charger.snapshot.readings)
        highest, _ = ceiling(limits)
        offline_current = limits.offline_current
        if offline_current is None or highest is None or offline_current > highest:
            raise NoConnection("offline_too_high")

    def _box_changed(self) -> None:
        """Report that the box was without power if it has started again since the power cycle."""
        if self._boots_before is not None and self._box.counts["boots"] > self._boots_before:
            self._report_power_loss()

    def _cycle_changed(self) -> None:
        """Report the power loss when the power is back: a later status then shows that the box has returned."""
        assert self._listener is not None
        if self.cycle.active and self.cycle.went_off and self._boots_before is not None:
            self._report_power_loss()
        else:
            self._listener.transport_changed(self)

    def _report_power_loss(self) -> None:
        """Report once that the box is offline, because the box had no power until now."""
        assert self._listener is not None
        self._boots_before = None
        self._reports_offline = True
        self._listener.readings_received(self, Readings())
        self._reports_offline = False

    @override
    def _read(self) -> Readings:
        """Return the readings of the meter, only while the box does not report its own."""
        self._update_from_meter()
        readings = Readings()
        if self._is_box_offline:
            self._publish(readings, POWER, self._amount(CONF_POWER), CONF_POWER)
            self._publish(readings, CURRENT, self._amount(CONF_CURRENT), CONF_CURRENT)
        return readings

    @override
    @callback
    def _on_state(self, event: Event[EventStateChangedData] | Event[EventStateReportedData]) -> None:
        link = self._tracked.get(event.data["entity_id"])
        # Power cuts depend on this report: the first state of any meter may be stored or retained.
        if (
            link is not None
            and link in FLOWING
            and is_own_report(old_state(event), event.data["new_state"], restores=True)
        ):
            self._reported_at[link] = self._clock.monotonic()
        super()._on_state(event)

    def _update_from_meter(self) -> None:
        """Record if power flows, and since when it does not.

        Any state can show that power flows. Only reports of the meter itself can show that nothing flows.
        """
        measured = {
            link: amount
            for link in FLOWING.keys() & self._links.keys()
            if link in self._last_reports and (amount := self._amount(link)) is not None
        }
        if not measured:
            self._resting_since = inf
            return
        self._metered_at = max(self._last_reports[link].observed_mono for link in measured)
        flowing = {link for link, amount in measured.items() if is_flowing(link, amount)}
        reported_at = max(self._reported_at.get(link, -inf) for link in flowing or measured)
        if flowing:
            self._flowed_at = self._metered_at
            self._resting_since = inf
            self.cycle.power_reported(reported_at)
            return
        if reported_at <= max(self._flowed_at, self._rested_at):
            return  # not a new report of the meter itself
        if self._resting_since == inf or reported_at - self._rested_at > REST:  # unknown in between
            self._resting_since = reported_at
        self._rested_at = reported_at
