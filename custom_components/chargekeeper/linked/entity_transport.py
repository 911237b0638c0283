"""The user's own entities as a local path of a charger: sensors to read, a number, a switch and a button to command.

A subentry names them by their registry ids, so that renaming one does no harm. They are foreign: whatever they hold,
what cannot be understood is left out, and what is not reported any more ages like any other live value.
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
"""What may be linked to a charger of Wallbox, each by the registry id of an entity."""

BOX_LINKS = (CONF_POWER, CONF_CURRENT, CONF_RESTART_BUTTON, CONF_POWER_SWITCH)
"""What may be linked to a JuiceBox: it tells its status itself, and is commanded by the answers to that."""

ALL_LINKS = (*LINKS, CONF_POWER_SWITCH)

FLOWING: Mapping[str, float] = {CONF_POWER: 100.0, CONF_CURRENT: 0.5}
"""W and A from which power flows."""

CHECK_PATIENCE = 10.0
"""Seconds that the integration of a linked entity has to read it anew."""

STATUS_WORDS: Mapping[str, Status] = {
    # Home Assistant's own words for chargers, OCPP's, Wallbox's and those of common integrations, as `slug` gives them.
    # A word that integrations use for different things ("waiting", "disconnected", "suspended") is left out.
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
"""What a charger reports only while a car is plugged in."""

type Call = tuple[str, str, str, dict[str, Any]]
"""A link, and the domain, the action and the data that command its entity."""


@dataclass(frozen=True, slots=True)
class _Measured:
    """A linked entity that holds a number: what it becomes, in which unit, and what would be absurd."""

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
    """A charger through entities that the user named.

    It follows them from `listen` on, under whatever name they have, whenever they appear. The charger counts as there
    while the linked status is available; without one, while any linked entity is.
    """

    source = Source.LINKED
    meters_lifetime = False
    frees_schedule = False
    read_back_delays = LOCAL_READ_BACK

    def __init__(self, hass: HomeAssistant, clock: Clock, charger: Charger, links: Mapping[str, object]) -> None:
        """Make it.

        Args:
            hass: where the entities are.
            clock: gives the time.
            charger: gives the identity and the schedule.
            links: registry ids by the keys of `ALL_LINKS`; other keys are left alone.
        """
        self.breaker = Breaker(clock)  # there is nothing to probe: whether it carries is told by `presence`
        self._hass = hass
        self._clock = clock
        self._charger = charger
        self._registry = er.async_get(hass)
        self._links = {link: str(links[link]) for link in ALL_LINKS if links.get(link)}
        self._listener: TransportListener | None = None
        self._followed: dict[str, str] = {}  # entity id to link
        self._unfollow: list[CALLBACK_TYPE] = []
        self._heard: dict[str, Timestamp] = {}
        self._unproven: set[str] = set()  # links whose entity shows what it was set up with, not what it heard since
        self._is_lost = True
        self._lost_at = -inf
        self._given: dict[str, Reading[object]] = {}  # what was last shown, by the key of the property
        self._is_broken = False
        self._has_odd_words = False
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
        tellers = (CONF_STATUS,) if self._fault(CONF_STATUS) is None else tuple(self._links)
        if not any(self._state(link) is not None for link in tellers):
            return Presence.OFFLINE
        at = self.charger_reported_at
        fresh = at is not None and at + LIVE_AGE[Source.LINKED] > self._clock.monotonic()
        return Presence.ONLINE if fresh else Presence.UNKNOWN

    @property
    @override
    def last_report(self) -> StatusReport | None:
        """An entity that is not available says that it is not heard: away, where it was heard before in this run."""
        if not self._heard:
            return None
        if self.presence is Presence.OFFLINE:
            return StatusReport(Status.OFFLINE)
        status = self._status()
        return StatusReport(status, self._is_plugged_in(status))

    @property
    @override
    def charger_reported_at(self) -> float | None:
        return max((moment.observed_mono for moment in self._heard.values()), default=None)

    @property
    @override
    def status_received_at(self) -> float | None:
        heard = self._heard.get(self._status_link)
        at = max(-inf if heard is None else heard.observed_mono, self._lost_at)
        return None if at == -inf else at

    @property
    @override
    def endpoint_contact_at(self) -> datetime | None:
        return max((moment.observed_at for moment in self._heard.values()), default=None)

    @property
    def broken(self) -> bool:
        """Whether a linked entity was deleted or disabled, or measures in a unit that is not understood."""
        return any(self._fault(link) is not None for link in self._links)

    def listen_health(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Be told when `broken` has changed; the answer ends it."""
        return subscribe(self._health_listeners, callback)

    def diagnostics(self) -> dict[str, object]:
        """Per link the state of its entity, without anything that names it."""
        return {link: self._link_diagnostics(link) for link in self._links}

    @override
    def listen(self, listener: TransportListener) -> Callable[[], None]:
        self._listener = listener
        cancel_registry = self._hass.bus.async_listen(
            er.EVENT_ENTITY_REGISTRY_UPDATED, self._on_registry, event_filter=self._is_about_us
        )
        self._follow()
        self._is_lost = self.presence is Presence.OFFLINE
        self._is_broken = self.broken
        if self._heard:
            listener.readings_received(self, self._read())

        def cancel() -> None:
            cancel_registry()
            self._stop_following()
            self._followed = {}
            self._listener = None

        return cancel

    @override
    async def execute(self, command: Command, *, patience: float) -> None:
        if isinstance(command, SetOverride) and not command.on and self._inside_window():
            switch = self._state(CONF_CHARGE_SWITCH)
            if switch is not None and switch.state != STATE_OFF:
                return  # the schedule lets it charge now: that is what was asked for
            command = SetOverride(on=True)
        link, domain, service, data = self._call_for(command)
        if (state := self._state(link)) is None:
            raise NoConnection("linked_unavailable")
        await async_call_entity(self._hass, self._clock, patience, state.entity_id, (domain, service, data))

    @override
    async def check(self) -> None:
        """Have the entity that tells the status polled, where Home Assistant polls it anyway.

        An entity that is pushed reports by itself: to write again what it holds would only make it look alive.
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
            self._note_report(link)  # also where nothing changed, which a coordinator need not write
            self._tell()

    # Commands

    def _call_for(self, command: Command) -> Call:
        """What a command becomes. Raises Unsupported; NoConnection where the number has no unit that is understood."""
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
        """A current in the unit of the linked number."""
        state = self._state(CONF_CURRENT_NUMBER)
        try:
            return ElectricCurrentConverter.convert(amps, UnitOfElectricCurrent.AMPERE, _unit(state))
        except HomeAssistantError:
            raise NoConnection("linked_unavailable") from None

    # Following

    @callback
    def _is_about_us(self, data: er.EventEntityRegistryUpdatedData) -> bool:
        """Whether a change of the registry concerns a linked entity; one that comes back may have another name."""
        if data["action"] == "create":
            return len(self._followed) < len(self._links)
        return data["entity_id"] in self._followed or data.get("old_entity_id") in self._followed

    @callback
    def _on_registry(self, event: Event[er.EventEntityRegistryUpdatedData]) -> None:
        """Follow anew. Of an entity that got another name, or came back, its state is told as soon as it is there."""
        if self._listener is None:
            return  # an event that was on its way when this ended
        self._follow()
        if event.data["action"] == "remove":
            self._tell()
        self._see_to_health()

    @callback
    def _follow(self) -> None:
        """Follow the entities under the names that they have now, and take in what they show already."""
        names = {link: entity_id for link in self._links if (entity_id := self._entity_id(link)) is not None}
        before = self._followed
        followed = {entity_id: link for link, entity_id in names.items()}
        if followed == before:
            return
        self._stop_following()
        self._followed = followed
        self._unfollow = [
            async_track_state_change_event(self._hass, list(followed), self._on_state),
            async_track_state_report_event(self._hass, list(followed), self._on_state),
        ]
        for entity_id, link in followed.items():
            state = self._state(link)
            if entity_id not in before and state is not None and _is_known(state):
                self._note_found(link, state)

    @callback
    def _stop_following(self) -> None:
        for end in self._unfollow:
            end()
        self._unfollow = []

    def _note_found(self, link: str, state: State) -> None:
        """Note when an entity was reported that was there before us.

        A state that was written once only may be what the entity restored. The stamp is of the wall clock, and may lie
        in the future.
        """
        if state.last_reported == state.last_changed and self._restores(state.entity_id):
            self._unproven.add(link)
            return
        self._unproven.discard(link)
        now = Timestamp.of(self._clock)
        self._heard[link] = now.earlier(max((now.observed_at - state.last_reported).total_seconds(), 0.0))

    def _note_report(self, link: str) -> None:
        """Note that an entity was reported now."""
        self._unproven.discard(link)
        self._heard[link] = Timestamp.of(self._clock)

    def _restores(self, entity_id: str) -> bool:
        """True if the first state of an entity may be one that Home Assistant stored, not one that was polled."""
        entity = _entity(self._hass, entity_id)
        if not isinstance(entity, RestoreEntity):
            return False
        coordinator = _polling_coordinator(entity)
        return coordinator is None or not coordinator.last_update_success

    @callback
    def _on_state(self, event: Event[EventStateChangedData] | Event[EventStateReportedData]) -> None:
        link = self._followed.get(event.data["entity_id"])
        state = event.data["new_state"]
        if link is None:
            return  # likewise
        old = old_state(event)
        if state is not None and _is_known(state):
            restores = self._restores(state.entity_id)
            if is_own_report(old, state, restores=restores, unproven=link in self._unproven):
                self._note_report(link)
            else:
                self._unproven.add(link)
            if link == CONF_STATUS:
                self._note_word(state.state)
        elif state is not None and is_set_up(old) and self._restores(state.entity_id):
            self._unproven.add(link)
        self._tell()
        self._see_to_health()

    def _note_word(self, word: str) -> None:
        if not self._has_odd_words and slug(word) not in STATUS_WORDS:
            self._has_odd_words = True
            LOGGER.warning("A linked status shows a word that is not understood; the status is unknown while it does")

    @callback
    def _tell(self) -> None:
        was_lost = self._is_lost
        self._is_lost = self.presence is Presence.OFFLINE
        if self._is_lost and not was_lost:
            self._lost_at = self._clock.monotonic()
        assert self._listener is not None
        self._listener.readings_received(self, self._read())

    @callback
    def _see_to_health(self) -> None:
        if self.broken is not self._is_broken:
            self._is_broken = not self._is_broken
            for tell in tuple(self._health_listeners):
                tell()

    # Reading

    def _read(self) -> Readings:
        """What the entities show, each with the moment at which it was last reported."""
        readings = Readings()
        for link, measured in MEASURED.items():
            if link in self._links:
                self._put(readings, measured.prop, self._amount(link), link)
        status = self._status()
        link = self._status_link
        self._put(readings, STATUS, status, link)
        self._put(readings, CAR_CONNECTED, self._is_plugged_in(status), link)
        is_told = link == CONF_STATUS and status is not None
        self._put(readings, PROBLEM, status is Status.ERROR if is_told else None, link)
        return readings

    def _put[T](self, readings: Readings, prop: Property[T], value: T | None, link: str) -> None:
        """Show a value; where there is none any more, what was shown is live no more; that of others stays."""
        heard = self._heard.get(link)
        if value is not None and heard is not None:
            max_age = LIVE_AGE[Source.LINKED] if prop.kind is ReadingClass.LIVE else inf
            reading = Reading(value, Source.LINKED, heard.observed_at, heard.observed_mono, max_age)
            readings.put(prop, reading)
            self._given[prop.key] = reading
        elif (given := self._given.pop(prop.key, None)) is None:
            return
        elif prop.kind is ReadingClass.LIVE:
            readings.retract(prop, given.observed_mono)
        else:
            readings.put(prop, replace(cast("Reading[T]", given), source=Source.CACHE))

    @property
    def _status_link(self) -> str:
        """The link that tells what the charger does: the power, as far as that goes, where there is no status."""
        return CONF_STATUS if self._fault(CONF_STATUS) is None else CONF_POWER

    def _status(self) -> Status | None:
        """What the charger does; None where that is not known."""
        if self._status_link == CONF_STATUS:
            state = self._shown(CONF_STATUS)
            return None if state is None else STATUS_WORDS.get(slug(state.state))
        power = self._amount(CONF_POWER)
        switch = self._shown(CONF_CHARGE_SWITCH)
        if power is None:
            return None
        if is_flowing(CONF_POWER, power):
            return Status.CHARGING if power > 0 else None  # backwards: it discharges, or the meter is mounted so
        # Whether a car is there, or paused, power alone does not tell; that a schedule holds it back, only like this.
        is_off = switch is not None and switch.state == STATE_OFF
        return Status.WAITING_SCHEDULE if is_off and self._is_held_back() else None

    def _is_plugged_in(self, status: Status | None) -> bool | None:
        """Whether a car is plugged in, as far as a status tells; what was inferred tells it only where power flows."""
        if status in (PLUGGED_IN if self._status_link == CONF_STATUS else POWER_FLOWS):
            return True
        return False if status is Status.AVAILABLE else None

    @property
    def _windows(self) -> Schedule:
        return self._charger.snapshot.value(SCHEDULE) or ()

    def _inside_window(self) -> bool:
        return schedule.inside(self._windows, self._clock.now())

    def _is_held_back(self) -> bool:
        """Whether the charger has a schedule that does not let it charge now."""
        return any(window.enabled for window in self._windows) and not self._inside_window()

    def _amount(self, link: str) -> float | None:
        """A measured value in our unit; None for text, an unknown unit or an absurd number."""
        state = self._shown(link)
        measured = MEASURED[link]
        if state is None or not _is_known(state):
            return None
        try:
            value = measured.converter.convert(float(state.state), _unit(state), measured.unit)
        except ValueError, HomeAssistantError:
            return None
        return round(value, 3) if measured.lowest <= value <= self._highest(link) else None

    def _highest(self, link: str) -> float:
        """Above this a value is absurd; no charger is set to more than its wire rating."""
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
        """The state of a linked entity, as long as it is available."""
        entity_id = self._entity_id(link)
        state = None if entity_id is None else self._hass.states.get(entity_id)
        return None if state is None or state.state == STATE_UNAVAILABLE else state

    def _shown(self, link: str) -> State | None:
        """The state of a linked entity as it reported it; None for one that it was only set up with."""
        return None if link in self._unproven else self._state(link)

    def _fault(self, link: str) -> str | None:
        """What is wrong with a linked entity that only the user can put right."""
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
        heard = self._heard.get(link)
        found: dict[str, object] = {
            "fault": self._fault(link),
            "available": state is not None,
            "reported_age": None if heard is None else round(self._clock.monotonic() - heard.observed_mono),
        }
        if link == CONF_STATUS:
            found["understood"] = state is not None and slug(state.state) in STATUS_WORDS
        return found


def is_flowing(link: str, amount: float) -> bool:
    """True if a measured power (W) or current (A) flows, in whichever direction the meter is mounted."""
    return abs(amount) >= FLOWING[link]


async def async_call_entity(
    hass: HomeAssistant,
    clock: Clock,
    patience: float,
    entity_id: str,
    call: tuple[str, str, dict[str, Any]],
    guard: Callable[[], None] | None = None,
) -> None:
    """Command an entity of another integration.

    Args:
        hass: where it is.
        clock: time.
        patience: seconds that it has.
        entity_id: which.
        call: domain, action and data.
        guard: is called last of all before the call, and raises ChargerError to prevent it.

    Raises:
        ChargerError: what `guard` raises.
        NoConnection: `linked_unavailable`, nothing was sent.
        NotApplicable: `linked_refused`.
        TransportDown: `linked_timeout`, `linked_failed`.
    """
    match await _in_time(clock, _call_available(hass, entity_id, call, guard), patience):
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
    """Return what a call of another integration raises, if anything. Raises TransportDown if the call hangs."""
    try:
        async with clock.timeout(patience):
            [result] = await asyncio.gather(work, return_exceptions=True)
    except TimeoutError:
        raise TransportDown("linked_timeout") from None
    return result if isinstance(result, BaseException) else None


async def _call_available(
    hass: HomeAssistant, entity_id: str, call: tuple[str, str, dict[str, Any]], guard: Callable[[], None] | None
) -> None:
    """Command an entity. Raises NoConnection where it is not available now: Home Assistant would drop the call."""
    _available(hass, entity_id)
    if guard is not None:
        guard()
    await hass.services.async_call(*call, blocking=True, target={ATTR_ENTITY_ID: entity_id})


def _available(hass: HomeAssistant, entity_id: str) -> Entity:
    """The entity itself, which is what Home Assistant asks whether it is available: its state may lag behind.

    Raises:
        NoConnection: it is not available, or not there.
    """
    entity = _entity(hass, entity_id)
    if entity is None or not entity.available:
        raise NoConnection("linked_unavailable")
    return entity


def _entity(hass: HomeAssistant, entity_id: str) -> Entity | None:
    component = hass.data.get(DATA_INSTANCES, {}).get(entity_id.partition(".")[0])
    return None if component is None else component.get_entity(entity_id)


def old_state(event: Event[EventStateChangedData] | Event[EventStateReportedData]) -> State | None:
    """Return the state before an event; the present one where the same value was reported again."""
    if "old_state" in event.data:
        return cast("EventStateChangedData", event.data)["old_state"]
    return event.data["new_state"]


def is_set_up(old: State | None) -> bool:
    """True if a state that follows `old` is the first one of an entity that was just set up."""
    return old is None or ATTR_RESTORED in old.attributes


def is_own_report(old: State | None, new: State | None, *, restores: bool, unproven: bool = False) -> bool:
    """True if a state write says that the entity's integration heard from its device.

    The first state of an entity that restores its states says nothing, nor does the one that follows when such an
    entity becomes available.

    Args:
        old: the state before; the new one itself where the same value was reported again.
        new: the state now.
        restores: whether the first state of the entity may be a stored one.
        unproven: whether the state before was no report either.
    """
    if new is None or not _is_known(new):
        return False
    if not restores:
        return True
    return old is not None and not is_set_up(old) and not (unproven and old.state == STATE_UNAVAILABLE)


def _polling_coordinator(entity: Entity) -> DataUpdateCoordinator[object] | None:
    """Return the coordinator that polls for an entity; None where values are pushed."""
    coordinator = entity.coordinator if isinstance(entity, CoordinatorEntity) else None
    return None if coordinator is None or coordinator.update_interval is None else coordinator


def _can_be_polled(entity: Entity) -> bool:
    """True if Home Assistant polls the entity itself and no poll is under way.

    A second poll would return at once and write the old state.
    """
    has_update = hasattr(entity, "async_update") or hasattr(entity, "update")
    return entity.should_poll and has_update and not getattr(entity, "_update_staged", True)


def slug(text: str) -> str:
    """A status word as `STATUS_WORDS` has it: in small letters, its parts divided by one blank."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def _is_known(state: State) -> bool:
    return state.state not in {STATE_UNAVAILABLE, STATE_UNKNOWN}


def _unit(state: State | None) -> str | None:
    return None if state is None else state.attributes.get(ATTR_UNIT_OF_MEASUREMENT)
