"""Linked entities as a local transport of a charger: sensors to read, and a number, a switch and a button to command.

A subentry stores the registry ids of the entities, so that the user may rename them. The entities belong to other
integrations. Values that cannot be understood are left out. Values that are no longer reported age like any other live
value.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from math import inf
import re
from typing import Any, cast, override

from homeassistant.components.button.const import DOMAIN as BUTTON_DOMAIN, SERVICE_PRESS
from homeassistant.components.number.const import ATTR_VALUE, DOMAIN as NUMBER_DOMAIN, SERVICE_SET_VALUE
from homeassistant.const import (
    ATTR_ENTITY_ID,
    ATTR_RESTORED,
    ATTR_UNIT_OF_MEASUREMENT,
    SERVICE_TURN_OFF,
    SERVICE_TURN_ON,
    STATE_OFF,
    STATE_UNAVAILABLE,
    STATE_UNKNOWN,
    UnitOfElectricCurrent,
    UnitOfPower,
)
from homeassistant.core import (
    CALLBACK_TYPE,
    Context,
    Event,
    EventStateChangedData,
    EventStateReportedData,
    HomeAssistant,
    State,
    callback,
)
from homeassistant.exceptions import HomeAssistantError, ServiceNotFound, ServiceValidationError
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.entity import Entity
from homeassistant.helpers.entity_component import DATA_INSTANCES
from homeassistant.helpers.event import async_track_state_change_event, async_track_state_report_event
from homeassistant.helpers.restore_state import RestoreEntity
from homeassistant.helpers.update_coordinator import CoordinatorEntity, DataUpdateCoordinator
from homeassistant.util.unit_conversion import BaseUnitConverter, ElectricCurrentConverter, PowerConverter

from ..const import LOGGER
from ..core import schedule
from ..core.breaker import Breaker
from ..core.charger import Charger
from ..core.clock import Clock
from ..core.errors import ChargerError, NoConnection, NotApplicable, TransportDown, Unsupported
from ..core.limits import HIGHEST_CURRENT
from ..core.model import (
    CAR_CONNECTED,
    CHARGING_CURRENT,
    CURRENT,
    LIVE_AGE,
    POWER,
    POWER_FLOWS,
    PROBLEM,
    SCHEDULE,
    STATUS,
    WIRE_RATING,
    Capability,
    Identity,
    Property,
    Reading,
    ReadingClass,
    Readings,
    Schedule,
    Source,
    Status,
)
from ..core.reading_builder import Timestamp
from ..core.signal import subscribe
from ..core.transport import (
    LOCAL_READ_BACK,
    Command,
    Presence,
    Restart,
    SetCharging,
    SetCurrent,
    SetOverride,
    StatusReport,
    Transport,
    TransportListener,
)
from .echoes import Echoes, only_repeats

SUBENTRY_LINKED = "linked"

CONF_MAKER = "maker"
CONF_STATUS = "status"
CONF_POWER = "power"
CONF_CURRENT = "current"
CONF_CURRENT_NUMBER = "current_number"
CONF_CHARGE_SWITCH = "charge_switch"
CONF_RESTART_BUTTON = "restart_button"
CONF_POWER_SWITCH = "power_switch"
CONF_ALLOW_POWER_CYCLE = "allow_power_cycle"

LINKS = (CONF_STATUS, CONF_POWER, CONF_CURRENT, CONF_CURRENT_NUMBER, CONF_CHARGE_SWITCH, CONF_RESTART_BUTTON)
"""The entities that can be linked to a Wallbox charger, each by its registry id."""

BOX_LINKS = (CONF_POWER, CONF_CURRENT, CONF_RESTART_BUTTON, CONF_POWER_SWITCH)
"""The entities that can be linked to a JuiceBox. A box reports its own status and is commanded by the replies to it."""

ALL_LINKS = (*LINKS, CONF_POWER_SWITCH)

COMMANDED = frozenset({CONF_CURRENT_NUMBER, CONF_CHARGE_SWITCH})
"""The links whose entities are commanded, and also report what the charger is set to."""

FLOWING: Mapping[str, float] = {CONF_POWER: 100.0, CONF_CURRENT: 0.5}
"""Power (W) and current (A) from which power counts as flowing."""

CHECK_PATIENCE = 10.0
"""Maximum seconds for a fresh read by the integration of a linked entity."""

STATUS_WORDS: Mapping[str, Status] = {
    # The status texts of Home Assistant, OCPP, Wallbox and common integrations, normalized by `slug`.
    # Texts that integrations use with different meanings ("waiting", "disconnected", "suspended") are left out.
    "available": Status.AVAILABLE,
    "ready": Status.AVAILABLE,
    "not connected": Status.AVAILABLE,
    "no car connected": Status.AVAILABLE,
    "no ev connected": Status.AVAILABLE,
    "preparing": Status.PLUGGED_IN,
    "connected": Status.PLUGGED_IN,
    "plugged in": Status.PLUGGED_IN,
    "car connected": Status.PLUGGED_IN,
    "scheduled": Status.WAITING_SCHEDULE,
    "schedule end": Status.WAITING_SCHEDULE,
    "waiting schedule": Status.WAITING_SCHEDULE,
    "waiting for schedule": Status.WAITING_SCHEDULE,
    "connected waiting schedule": Status.WAITING_SCHEDULE,
    "waiting car": Status.WAITING_CAR,
    "waiting for car": Status.WAITING_CAR,
    "waiting for car demand": Status.WAITING_CAR,
    "connected waiting car": Status.WAITING_CAR,
    "suspendedev": Status.WAITING_CAR,
    "suspended ev": Status.WAITING_CAR,
    "waiting power": Status.WAITING_POWER,
    "waiting for power": Status.WAITING_POWER,
    "connected waiting current assignation": Status.WAITING_POWER,
    "waiting in queue by power sharing": Status.WAITING_POWER,
    "waiting in queue by power boost": Status.WAITING_POWER,
    "waiting in queue by eco smart": Status.WAITING_POWER,
    "queue by power boost": Status.WAITING_POWER,
    "queue by eco smart": Status.WAITING_POWER,
    "paused": Status.PAUSED,
    "charging": Status.CHARGING,
    "discharging": Status.DISCHARGING,
    "completed": Status.COMPLETED,
    "complete": Status.COMPLETED,
    "finishing": Status.COMPLETED,
    "locked": Status.LOCKED,
    "locked car connected": Status.LOCKED,
    "updating": Status.UPDATING,
    "error": Status.ERROR,
    "faulted": Status.ERROR,
}

PLUGGED_IN = frozenset(
    {
        *POWER_FLOWS,
        *(Status.PLUGGED_IN, Status.WAITING_SCHEDULE, Status.WAITING_CAR, Status.WAITING_POWER),
        *(Status.PAUSED, Status.COMPLETED),
    }
)
"""The statuses that a charger reports only while a car is plugged in."""

type Call = tuple[str, str, str, dict[str, Any]]
"""A link, and the domain, the action and the data of the call that commands its entity."""


@dataclass(frozen=True, slots=True)
class _Measured:
    """How the state of a linked number or sensor becomes a reading: property, unit, and the plausible range."""

    prop: Property[float]
    converter: type[BaseUnitConverter]
    unit: str
    lowest: float
    highest: float


MEASURED: Mapping[str, _Measured] = {
    CONF_POWER: _Measured(POWER, PowerConverter, UnitOfPower.WATT, -100_000, 100_000),
    CONF_CURRENT: _Measured(CURRENT, ElectricCurrentConverter, UnitOfElectricCurrent.AMPERE, -200, 200),
    CONF_CURRENT_NUMBER: _Measured(
        CHARGING_CURRENT, ElectricCurrentConverter, UnitOfElectricCurrent.AMPERE, 0, HIGHEST_CURRENT
    ),
}


class EntityTransport(Transport):
    """A charger reached through entities that the user linked.

    The transport tracks the entities from `listen` on: under any entity id, and also if they appear later. The charger
    counts as present while the linked status is available. Without a linked status, any available linked entity counts.
    """

    source = Source.LINKED
    meters_lifetime = False
    frees_schedule = False
    read_back_delays = LOCAL_READ_BACK

    def __init__(self, hass: HomeAssistant, clock: Clock, charger: Charger, links: Mapping[str, object]) -> None:
        """Create the transport; it starts to track the entities with `listen`.

        Args:
            hass: the Home Assistant that has the entities.
            clock: the source of time.
            charger: gives the identity and the schedule.
            links: registry ids by the keys of `ALL_LINKS`; other keys are ignored.
        """
        self.breaker = Breaker(clock)  # never opens: `presence` is what counts
        self._hass = hass
        self._clock = clock
        self._charger = charger
        self._registry = er.async_get(hass)
        self._links = {link: str(links[link]) for link in ALL_LINKS if links.get(link)}
        self._listener: TransportListener | None = None
        self._tracked: dict[str, str] = {}  # link by entity id
        self._untrack: list[CALLBACK_TYPE] = []
        self._last_reports: dict[str, Timestamp] = {}
        self._echoes = Echoes(clock)
        self._before_echo: dict[str, State] = {}  # by link, the last report of an entity that now shows an echo
        self._unproven: set[str] = set()  # links whose entity has reported only its initial state
        self._is_lost = True
        self._lost_at = -inf
        self._published: dict[str, Reading[object]] = {}  # the last published readings, by property key
        self._is_broken = False
        self._has_unknown_text = False
        self._health_listeners: list[Callable[[], None]] = []

    @property
    @override
    def identity(self) -> Identity:
        return self._charger.identity

    @property
    @override
    def capabilities(self) -> frozenset[Capability]:
        found = set()
        if CONF_CURRENT_NUMBER in self._links:
            found.add(Capability.CURRENT)
        if CONF_CHARGE_SWITCH in self._links:
            found |= {Capability.CHARGING, Capability.OVERRIDE}
        if CONF_RESTART_BUTTON in self._links:
            found.add(Capability.RESTART)
        return frozenset(found)

    @property
    @override
    def presence(self) -> Presence:
        presence_links = (CONF_STATUS,) if self._fault(CONF_STATUS) is None else tuple(self._links)
        if not any(self._state(link) is not None for link in presence_links):
            return Presence.OFFLINE
        at = self.charger_reported_at
        fresh = at is not None and at + LIVE_AGE[Source.LINKED] > self._clock.monotonic()
        return Presence.ONLINE if fresh else Presence.UNKNOWN

    @property
    @override
    def last_report(self) -> StatusReport | None:
        """Return the status report; None until an entity has reported in this run, so that a start is no outage."""
        if not self._last_reports:
            return None
        if self.presence is Presence.OFFLINE:
            return StatusReport(Status.OFFLINE)
        status = self._status()
        return StatusReport(status, self._is_plugged_in(status))

    @property
    @override
    def charger_reported_at(self) -> float | None:
        return max((timestamp.observed_mono for timestamp in self._last_reports.values()), default=None)

    @override
    def proves(self, capability: Capability) -> bool:
        """Return False if the entity that shows the effect only repeats what it was told."""
        link = CONF_CURRENT_NUMBER if capability is Capability.CURRENT else self._status_link
        state = self._state(link)
        return state is not None and not only_repeats(state)

    @property
    @override
    def status_received_at(self) -> float | None:
        last_report_at = self._last_reports.get(self._status_link)
        at = max(-inf if last_report_at is None else last_report_at.observed_mono, self._lost_at)
        return None if at == -inf else at

    @property
    @override
    def endpoint_contact_at(self) -> datetime | None:
        return max((timestamp.observed_at for timestamp in self._last_reports.values()), default=None)

    @property
    def broken(self) -> bool:
        """True if a linked entity was deleted or disabled, or measures in a unit that is not understood."""
        return any(self._fault(link) is not None for link in self._links)

    def listen_health(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when `broken` changes. Return a function that removes the listener."""
        return subscribe(self._health_listeners, callback)

    def diagnostics(self) -> dict[str, object]:
        """Return the state of each linked entity, without anything that identifies the entity."""
        return {link: self._link_diagnostics(link) for link in self._links}

    @override
    def listen(self, listener: TransportListener) -> Callable[[], None]:
        self._listener = listener
        cancel_registry = self._hass.bus.async_listen(
            er.EVENT_ENTITY_REGISTRY_UPDATED, self._on_registry, event_filter=self._concerns_linked_entity
        )
        self._track_entities()
        self._is_lost = self.presence is Presence.OFFLINE
        self._is_broken = self.broken
        if self._last_reports:
            listener.readings_received(self, self._read())

        def cancel() -> None:
            cancel_registry()
            self._stop_tracking()
            self._tracked = {}
            self._listener = None

        return cancel

    @override
    async def execute(self, command: Command, *, patience: float, urgent: float = 0.0) -> None:
        if isinstance(command, SetOverride) and not command.on and self._inside_window():
            switch = self._state(CONF_CHARGE_SWITCH)
            if switch is not None and switch.state != STATE_OFF:
                return  # the schedule allows charging now, as the user requested
            command = SetOverride(on=True)
        link, domain, service, data = self._call_for(command)
        if (state := self._state(link)) is None:
            raise NoConnection("linked_unavailable")
        context = self._echoes.begin(link)
        try:
            call = (domain, service, data)
            await async_call_entity(self._hass, self._clock, patience, state.entity_id, call, context=context)
        finally:
            self._echoes.end(link)

    @override
    async def check(self) -> None:
        """Refresh the entity that reports the status, if Home Assistant polls that entity.

        An entity with pushed states reports by itself. Writing the old state again would only make the charger look
        alive.

        Raises:
            NoConnection: `linked_unavailable`.
            TransportDown: `linked_failed`, `linked_timeout`.
        """
        link = self._status_link
        if (state := self._state(link)) is None:
            raise NoConnection("linked_unavailable")
        entity = _available(self._hass, state.entity_id)
        coordinator = _polling_coordinator(entity)
        if coordinator is not None:
            poll = coordinator.async_refresh()
        elif _can_be_polled(entity):
            poll = entity.async_update_ha_state(force_refresh=True)
        else:
            return
        if (err := await _in_time(self._clock, poll, CHECK_PATIENCE)) is not None:
            LOGGER.debug("A linked entity could not be read: %s", type(err).__name__)
            raise TransportDown("linked_failed") from err
        if coordinator is not None and coordinator.last_update_success and self._listener is not None:
            self._note_report(link)  # also if nothing changed: the coordinator may then write no state
            self._notify()

    # Commands

    def _call_for(self, command: Command) -> Call:
        """Return the call for a command.

        Raises:
            Unsupported: no linked entity can do this.
            NoConnection: the unit of the linked number is not understood.
        """
        match command:
            case SetCurrent(amps) if CONF_CURRENT_NUMBER in self._links:
                return CONF_CURRENT_NUMBER, NUMBER_DOMAIN, SERVICE_SET_VALUE, {ATTR_VALUE: self._in_unit(amps)}
            case SetCharging(on) | SetOverride(on) if CONF_CHARGE_SWITCH in self._links:
                entity_id = self._entity_id(CONF_CHARGE_SWITCH) or ""
                service = SERVICE_TURN_ON if on else SERVICE_TURN_OFF
                return CONF_CHARGE_SWITCH, entity_id.partition(".")[0], service, {}
            case Restart() if CONF_RESTART_BUTTON in self._links:
                return CONF_RESTART_BUTTON, BUTTON_DOMAIN, SERVICE_PRESS, {}
            case _:
                raise Unsupported("unsupported")

    def _in_unit(self, amps: int) -> float:
        """Return a current in the unit of the linked number. Raises NoConnection if that unit is not understood."""
        state = self._state(CONF_CURRENT_NUMBER)
        try:
            return ElectricCurrentConverter.convert(amps, UnitOfElectricCurrent.AMPERE, _unit(state))
        except HomeAssistantError:
            raise NoConnection("linked_unavailable") from None

    # Tracking of the entities

    @callback
    def _concerns_linked_entity(self, data: er.EventEntityRegistryUpdatedData) -> bool:
        """Return True if a registry change may concern a linked entity.

        A re-created entity may have another entity id.
        """
        if data["action"] == "create":
            return len(self._tracked) < len(self._links)
        return data["entity_id"] in self._tracked or data.get("old_entity_id") in self._tracked

    @callback
    def _on_registry(self, event: Event[er.EventEntityRegistryUpdatedData]) -> None:
        """Track the entities again. The state of a renamed or re-created entity follows as an event of its own."""
        if self._listener is None:
            return  # the event was under way when the listener was removed
        self._track_entities()
        if event.data["action"] == "remove":
            self._notify()
        self._update_health()

    @callback
    def _track_entities(self) -> None:
        """Track the entities under their present entity ids, and take in the states that exist already."""
        entity_ids = {link: entity_id for link in self._links if (entity_id := self._entity_id(link)) is not None}
        before = self._tracked
        tracked = {entity_id: link for link, entity_id in entity_ids.items()}
        if tracked == before:
            return
        self._stop_tracking()
        self._tracked = tracked
        self._untrack = [
            async_track_state_change_event(self._hass, list(tracked), self._on_state),
            async_track_state_report_event(self._hass, list(tracked), self._on_state),
        ]
        for entity_id, link in tracked.items():
            state = self._state(link)
            if entity_id not in before and link != CONF_RESTART_BUTTON and state is not None and _is_known(state):
                self._note_existing(link, state)

    @callback
    def _stop_tracking(self) -> None:
        for remove in self._untrack:
            remove()
        self._untrack = []

    def _note_existing(self, link: str, state: State) -> None:
        """Record when an entity last reported, for an entity that existed before it was tracked.

        A state that was written only once may be a restored one. `last_reported` is a wall clock time and may lie in
        the future.
        """
        restored = state.last_reported == state.last_changed and self._restores(state.entity_id)
        if restored or (link in COMMANDED and only_repeats(state)):
            self._unproven.add(link)
            return
        self._unproven.discard(link)
        now = Timestamp.of(self._clock)
        self._last_reports[link] = now.earlier(max((now.observed_at - state.last_reported).total_seconds(), 0.0))

    def _note_report(self, link: str) -> None:
        self._unproven.discard(link)
        self._before_echo.pop(link, None)
        self._last_reports[link] = Timestamp.of(self._clock)

    def _restores(self, entity_id: str) -> bool:
        """Return True if the first state of an entity may have been restored instead of polled."""
        entity = _entity(self._hass, entity_id)
        if not isinstance(entity, RestoreEntity):
            return False
        coordinator = _polling_coordinator(entity)
        return coordinator is None or not coordinator.last_update_success

    @callback
    def _on_state(self, event: Event[EventStateChangedData] | Event[EventStateReportedData]) -> None:
        link = self._tracked.get(event.data["entity_id"])
        state = event.data["new_state"]
        if link is None:
            return  # the event was under way when the entity was no longer tracked
        old = old_state(event)
        if link == CONF_RESTART_BUTTON:
            pass  # its state is the time of our own call
        elif link in COMMANDED and state is not None and _is_known(state) and only_repeats(state):
            self._unproven.add(link)
        elif link in COMMANDED and state is not None and self._echoes.is_echo(link, event.context):
            self._keep_report(link, old)
        elif state is not None and _is_known(state):
            restores = self._restores(state.entity_id)
            if is_own_report(old, state, restores=restores, unproven=link in self._unproven):
                self._note_report(link)
            else:
                self._unproven.add(link)
            if link == CONF_STATUS:
                self._warn_of_unknown_text(state.state)
        elif state is not None and is_first_state(old) and self._restores(state.entity_id):
            self._unproven.add(link)
        self._notify()
        self._update_health()

    def _keep_report(self, link: str, reported: State | None) -> None:
        """Keep what an entity reported last, while its state may be an echo."""
        if reported is not None and _is_known(reported) and link not in self._before_echo:
            self._before_echo[link] = reported

    def _warn_of_unknown_text(self, text: str) -> None:
        if not self._has_unknown_text and slug(text) not in STATUS_WORDS:
            self._has_unknown_text = True
            LOGGER.warning("A linked status has a text that is not understood; the charger status is unknown")

    @callback
    def _notify(self) -> None:
        was_lost = self._is_lost
        self._is_lost = self.presence is Presence.OFFLINE
        if self._is_lost and not was_lost:
            self._lost_at = self._clock.monotonic()
        assert self._listener is not None
        self._listener.readings_received(self, self._read())

    @callback
    def _update_health(self) -> None:
        if self.broken is not self._is_broken:
            self._is_broken = not self._is_broken
            for listener in tuple(self._health_listeners):
                listener()

    # Reading

    def _read(self) -> Readings:
        """Return the readings of the linked entities, each with the time of its last report."""
        readings = Readings()
        for link, measured in MEASURED.items():
            if link in self._links:
                self._publish(readings, measured.prop, self._amount(link), link)
        status = self._status()
        link = self._status_link
        self._publish(readings, STATUS, status, link)
        self._publish(readings, CAR_CONNECTED, self._is_plugged_in(status), link)
        has_status_entity = link == CONF_STATUS and status is not None
        self._publish(readings, PROBLEM, status is Status.ERROR if has_status_entity else None, link)
        return readings

    def _publish[T](self, readings: Readings, prop: Property[T], value: T | None, link: str) -> None:
        """Publish a value. Without a value, retract or age only readings that this transport published."""
        last_report_at = self._last_reports.get(link)
        if last_report_at is not None and last_report_at.observed_mono < self._clock.divergence.at:
            last_report_at = None  # nobody knows its age
        if value is not None and last_report_at is not None:
            max_age = LIVE_AGE[Source.LINKED] if prop.kind is ReadingClass.LIVE else inf
            reading = Reading(value, Source.LINKED, last_report_at.observed_at, last_report_at.observed_mono, max_age)
            readings.put(prop, reading)
            self._published[prop.key] = reading
        elif (published := self._published.pop(prop.key, None)) is None:
            return
        elif prop.kind is ReadingClass.LIVE:
            readings.retract(prop, published.observed_mono)
        else:
            readings.put(prop, replace(cast("Reading[T]", published), source=Source.CACHE))

    @property
    def _status_link(self) -> str:
        """Return the link that gives the status: the linked status if it is usable, else the linked power."""
        return CONF_STATUS if self._fault(CONF_STATUS) is None else CONF_POWER

    def _status(self) -> Status | None:
        """Return the status of the charger; None if it is unknown."""
        if self._status_link == CONF_STATUS:
            state = self._reported_state(CONF_STATUS)
            return None if state is None else STATUS_WORDS.get(slug(state.state))
        power = self._amount(CONF_POWER)
        switch = self._reported_state(CONF_CHARGE_SWITCH)
        if power is None:
            return None
        if is_flowing(CONF_POWER, power):
            return Status.CHARGING if power > 0 else None  # negative: discharging, or a reversed meter
        # Without power, the car may be missing or paused. Only a switch that is off outside the schedule is conclusive.
        is_off = switch is not None and switch.state == STATE_OFF
        return Status.WAITING_SCHEDULE if is_off and self._is_blocked_by_schedule() else None

    def _is_plugged_in(self, status: Status | None) -> bool | None:
        """Return True while a car is plugged in; None if the status leaves it open.

        A status that was inferred from power proves a car only while power flows.
        """
        if status in (PLUGGED_IN if self._status_link == CONF_STATUS else POWER_FLOWS):
            return True
        return False if status is Status.AVAILABLE else None

    @property
    def _windows(self) -> Schedule:
        return self._charger.snapshot.value(SCHEDULE) or ()

    def _inside_window(self) -> bool:
        return schedule.inside(self._windows, self._clock.now())

    def _is_blocked_by_schedule(self) -> bool:
        """Return True if the charger has an enabled schedule that does not allow charging now."""
        return any(window.enabled for window in self._windows) and not self._inside_window()

    def _amount(self, link: str) -> float | None:
        """Return a measured value in the unit of its property; None if it is not a plausible number."""
        state = self._reported_state(link)
        measured = MEASURED[link]
        if state is None or not _is_known(state):
            return None
        try:
            value = measured.converter.convert(float(state.state), _unit(state), measured.unit)
        except ValueError, HomeAssistantError:
            return None
        return round(value, 3) if measured.lowest <= value <= self._highest(link) else None

    def _highest(self, link: str) -> float:
        """Return the highest plausible value. No charger is set to more than its wire rating."""
        wire_rating = self._charger.snapshot.value(WIRE_RATING) if link == CONF_CURRENT_NUMBER else None
        return MEASURED[link].highest if wire_rating is None else wire_rating

    # The entities

    def _entry(self, link: str) -> er.RegistryEntry | None:
        registry_id = self._links.get(link)
        return None if registry_id is None else self._registry.entities.get_entry(registry_id)

    def _entity_id(self, link: str) -> str | None:
        entry = self._entry(link)
        return None if entry is None else entry.entity_id

    def _state(self, link: str) -> State | None:
        """Return the state of a linked entity; None while the entity is not available."""
        entity_id = self._entity_id(link)
        state = None if entity_id is None else self._hass.states.get(entity_id)
        return None if state is None or state.state == STATE_UNAVAILABLE else state

    def _reported_state(self, link: str) -> State | None:
        """Return the state that a linked entity reported; None if the entity has only its initial state."""
        state = None if link in self._unproven else self._state(link)
        return None if state is None else self._before_echo.get(link, state)

    def _fault(self, link: str) -> str | None:
        """Return the fault of a linked entity that only the user can correct; None if there is none."""
        entry = self._entry(link)
        state = self._state(link)
        if entry is None:
            return "deleted"
        if entry.disabled:
            return "disabled"
        if state is not None and link in MEASURED and _unit(state) not in MEASURED[link].converter.VALID_UNITS:
            return "wrong_unit"
        return None

    def _link_diagnostics(self, link: str) -> dict[str, object]:
        state = self._state(link)
        last_report_at = self._last_reports.get(link)
        found: dict[str, object] = {
            "fault": self._fault(link),
            "available": state is not None,
            "reported_age": None
            if last_report_at is None
            else round(self._clock.monotonic() - last_report_at.observed_mono),
        }
        if link == CONF_STATUS:
            found["understood"] = state is not None and slug(state.state) in STATUS_WORDS
        return found


def is_flowing(link: str, amount: float) -> bool:
    """Return True if a measured power (W) or current (A) flows in either direction.

    The meter may be mounted reversed.
    """
    return abs(amount) >= FLOWING[link]


async def async_call_entity(
    hass: HomeAssistant,
    clock: Clock,
    patience: float,
    entity_id: str,
    call: tuple[str, str, dict[str, Any]],
    guard: Callable[[], None] | None = None,
    context: Context | None = None,
) -> None:
    """Command an entity of another integration.

    Args:
        hass: the Home Assistant that has the entity.
        clock: the source of time.
        patience: seconds after which the call counts as failed.
        entity_id: the entity.
        call: domain, action and data.
        guard: called last before the call; raises ChargerError to prevent it.
        context: the context of the call; Home Assistant copies it to the states that the call causes.

    Raises:
        ChargerError: the error of `guard`; nothing was sent.
        NoConnection: `linked_unavailable`, nothing was sent.
        NotApplicable: `linked_refused`.
        TransportDown: `linked_timeout`, `linked_failed`.
    """
    match await _in_time(clock, _call_available(hass, entity_id, call, guard, context), patience):
        case None:
            pass
        case ChargerError() as err:
            raise err
        case ServiceNotFound():
            raise NoConnection("linked_unavailable")
        case ServiceValidationError() as err:
            raise NotApplicable("linked_refused") from err
        case err:
            LOGGER.debug("A linked entity failed: %s", type(err).__name__)
            raise TransportDown("linked_failed") from err


async def _in_time(clock: Clock, work: Coroutine[Any, Any, object], patience: float) -> BaseException | None:
    """Return the exception that a call of another integration raises, or None.

    Raises TransportDown if the call hangs.
    """
    try:
        async with clock.timeout(patience):
            [result] = await asyncio.gather(work, return_exceptions=True)
    except TimeoutError:
        raise TransportDown("linked_timeout") from None
    return result if isinstance(result, BaseException) else None


async def _call_available(
    hass: HomeAssistant,
    entity_id: str,
    call: tuple[str, str, dict[str, Any]],
    guard: Callable[[], None] | None,
    context: Context | None,
) -> None:
    """Command an entity. Raises NoConnection if it is not available now: Home Assistant would drop the call."""
    _available(hass, entity_id)
    if guard is not None:
        guard()
    await hass.services.async_call(*call, blocking=True, context=context, target={ATTR_ENTITY_ID: entity_id})


def _available(hass: HomeAssistant, entity_id: str) -> Entity:
    """Return the entity object. Home Assistant asks this object for its availability; its state may lag behind.

    Raises:
        NoConnection: the entity is not available, or does not exist.
    """
    entity = _entity(hass, entity_id)
    if entity is None or not entity.available:
        raise NoConnection("linked_unavailable")
    return entity


def _entity(hass: HomeAssistant, entity_id: str) -> Entity | None:
    component = hass.data.get(DATA_INSTANCES, {}).get(entity_id.partition(".")[0])
    return None if component is None else component.get_entity(entity_id)


def old_state(event: Event[EventStateChangedData] | Event[EventStateReportedData]) -> State | None:
    """Return the state before an event, or the present state if the same value was reported again."""
    if "old_state" in event.data:
        return cast("EventStateChangedData", event.data)["old_state"]
    return event.data["new_state"]


def is_first_state(old: State | None) -> bool:
    """Return True if a state that follows `old` is the first one of an entity that was just set up."""
    return old is None or ATTR_RESTORED in old.attributes


def is_own_report(old: State | None, new: State | None, *, restores: bool, unproven: bool = False) -> bool:
    """Return True if a state write proves that the entity's integration received something from its device.

    The first state of an entity that restores its states proves nothing. Neither does the state that follows when such
    an entity becomes available.

    Args:
        old: the state before, or the new state itself if the same value was reported again.
        new: the state now.
        restores: the first state of the entity may be a stored one.
        unproven: the state before was no report either.
    """
    if new is None or not _is_known(new):
        return False
    if not restores:
        return True
    return old is not None and not is_first_state(old) and not (unproven and old.state == STATE_UNAVAILABLE)


def _polling_coordinator(entity: Entity) -> DataUpdateCoordinator[object] | None:
    """Return the coordinator that polls for an entity; None if its values are pushed."""
    coordinator = entity.coordinator if isinstance(entity, CoordinatorEntity) else None
    return None if coordinator is None or coordinator.update_interval is None else coordinator


def _can_be_polled(entity: Entity) -> bool:
    """Return True if Home Assistant polls the entity itself and no poll is under way.

    A second poll would return at once and write the old state.
    """
    has_update = hasattr(entity, "async_update") or hasattr(entity, "update")
    return entity.should_poll and has_update and not getattr(entity, "_update_staged", True)


def slug(text: str) -> str:
    """Return a status text in lower case with single spaces, as the keys of `STATUS_WORDS`."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def _is_known(state: State) -> bool:
    return state.state not in {STATE_UNAVAILABLE, STATE_UNKNOWN}


def _unit(state: State | None) -> str | None:
    return None if state is None else state.attributes.get(ATTR_UNIT_OF_MEASUREMENT)
