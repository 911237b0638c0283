"""The user's own entities as a local path of a charger: sensors to read, a number, a switch and a button to command.

A subentry names them by their registry ids, so that renaming one does no harm. They are foreign: whatever they hold,
what cannot be understood is left out, and what is not reported any more ages like any other live value.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any, override

from homeassistant.components.button.const import DOMAIN as BUTTON_DOMAIN, SERVICE_PRESS
from homeassistant.components.number.const import ATTR_VALUE, DOMAIN as NUMBER_DOMAIN, SERVICE_SET_VALUE
from homeassistant.const import (
    ATTR_ENTITY_ID,
    ATTR_UNIT_OF_MEASUREMENT,
    SERVICE_TURN_OFF,
    SERVICE_TURN_ON,
    STATE_OFF,
    STATE_ON,
    STATE_UNAVAILABLE,
    STATE_UNKNOWN,
    UnitOfElectricCurrent,
    UnitOfPower,
)
from homeassistant.core import CALLBACK_TYPE, Event, HomeAssistant, State, callback
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.event import async_track_state_change_event, async_track_state_report_event
from homeassistant.util.unit_conversion import BaseUnitConverter, ElectricCurrentConverter, PowerConverter

from .core import schedule
from .core.breaker import Breaker
from .core.clock import Clock
from .core.keeper import Keeper
from .core.model import (
    CHARGING_CURRENT,
    CURRENT,
    LIVE_AGE,
    POWER,
    POWER_FLOWS,
    SCHEDULE,
    STATUS,
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
from .core.paths import (
    ChargerPath,
    Command,
    Install,
    NotApplicable,
    PathDown,
    PathListener,
    Presence,
    Restart,
    SetCharging,
    SetCurrent,
    SetEcoMode,
    SetLock,
    SetOverride,
    Unsupported,
    Word,
)

SUBENTRY_LINKED = "linked"

CONF_STATUS = "status"
CONF_POWER = "power"
CONF_CURRENT = "current"
CONF_CURRENT_NUMBER = "current_number"
CONF_CHARGE_SWITCH = "charge_switch"
CONF_RESTART_BUTTON = "restart_button"

LINKS = (CONF_STATUS, CONF_POWER, CONF_CURRENT, CONF_CURRENT_NUMBER, CONF_CHARGE_SWITCH, CONF_RESTART_BUTTON)
"""What may be linked, each by the registry id of an entity."""

FLOWING_POWER = 100.0
"""Watts from which a charger counts as charging where no linked status says what it does."""

STATUS_WORDS: Mapping[str, Status] = {
    # Home Assistant's own words for chargers, OCPP's, and those of common integrations; compared without case.
    "available": Status.AVAILABLE,
    "ready": Status.AVAILABLE,
    "not connected": Status.AVAILABLE,
    "preparing": Status.PLUGGED_IN,
    "connected": Status.PLUGGED_IN,
    "plugged in": Status.PLUGGED_IN,
    "scheduled": Status.WAITING_SCHEDULE,
    "waiting schedule": Status.WAITING_SCHEDULE,
    "waiting for schedule": Status.WAITING_SCHEDULE,
    "waiting": Status.WAITING_CAR,
    "waiting car": Status.WAITING_CAR,
    "waiting for car": Status.WAITING_CAR,
    "waiting for car demand": Status.WAITING_CAR,
    "suspendedev": Status.WAITING_CAR,
    "waiting power": Status.WAITING_POWER,
    "waiting in queue by power sharing": Status.WAITING_POWER,
    "waiting in queue by power boost": Status.WAITING_POWER,
    "waiting in queue by eco-smart": Status.WAITING_POWER,
    "suspendedevse": Status.WAITING_POWER,
    "paused": Status.PAUSED,
    "charging": Status.CHARGING,
    "discharging": Status.DISCHARGING,
    "completed": Status.COMPLETED,
    "finishing": Status.COMPLETED,
    "locked": Status.LOCKED,
    "locked, car connected": Status.LOCKED,
    "updating": Status.UPDATING,
    "error": Status.ERROR,
    "faulted": Status.ERROR,
}

NOT_PLUGGED_IN = frozenset({Status.AVAILABLE})
PLUGGED_IN = frozenset(
    {
        *POWER_FLOWS,
        *(Status.PLUGGED_IN, Status.WAITING_SCHEDULE, Status.WAITING_CAR, Status.WAITING_POWER),
        *(Status.PAUSED, Status.COMPLETED),
    }
)


@dataclass(frozen=True, slots=True)
class _Measured:
    """A linked sensor that measures: what it becomes, and in which unit."""

    prop: Property[float]
    converter: type[BaseUnitConverter]
    unit: str


MEASURED = {
    CONF_POWER: _Measured(POWER, PowerConverter, UnitOfPower.WATT),
    CONF_CURRENT: _Measured(CURRENT, ElectricCurrentConverter, UnitOfElectricCurrent.AMPERE),
    CONF_CURRENT_NUMBER: _Measured(CHARGING_CURRENT, ElectricCurrentConverter, UnitOfElectricCurrent.AMPERE),
}


class LinkedPath(ChargerPath):
    """A charger through entities that the user named. `links` maps a key of `LINKS` to a registry id."""

    source = Source.LINKED
    meters_lifetime = False
    read_back_delays = (2.0, 7.0, 15.0, 60.0)

    def __init__(self, hass: HomeAssistant, clock: Clock, keeper: Keeper, links: Mapping[str, str]) -> None:
        self.breaker = Breaker(clock)  # nothing to probe: whether it carries is told by `presence`
        self._hass = hass
        self._clock = clock
        self._keeper = keeper
        self._links = {link: links[link] for link in LINKS if links.get(link)}
        self._listener: PathListener | None = None
        self._reported: dict[str, float] = {}

    @property
    @override
    def identity(self) -> Identity:
        return self._keeper.identity

    @property
    @override
    def capabilities(self) -> frozenset[Capability]:
        found = set()
        if CONF_CURRENT_NUMBER in self._links:
            found.add(Capability.CURRENT)
        if CONF_CHARGE_SWITCH in self._links:
            found.add(Capability.CHARGING)
            if {CONF_STATUS, CONF_POWER} & self._links.keys():  # otherwise its effect could not be seen
                found.add(Capability.OVERRIDE)
        if CONF_RESTART_BUTTON in self._links:
            found.add(Capability.RESTART)
        return frozenset(found)

    @property
    @override
    def presence(self) -> Presence:
        states = [self._state(link) for link in self._links]
        if not any(state is not None and state.state != STATE_UNAVAILABLE for state in states):
            return Presence.OFFLINE
        at = self.asked_at
        fresh = at is not None and at + LIVE_AGE[Source.LINKED] > self._clock.monotonic()
        return Presence.ONLINE if fresh else Presence.UNKNOWN

    @property
    @override
    def gone(self) -> bool:
        return False

    @property
    @override
    def said(self) -> Word | None:
        if self.presence is Presence.OFFLINE:
            return Word(Status.OFFLINE)
        status = self._status()
        connected = True if status in PLUGGED_IN else False if status in NOT_PLUGGED_IN else None
        return Word(status, connected)

    @property
    @override
    def synced_at(self) -> float | None:
        return self.asked_at

    @property
    @override
    def asked_at(self) -> float | None:
        return max(self._reported.values(), default=None)

    @property
    @override
    def last_contact(self) -> datetime | None:
        states = [state for link in self._links if (state := self._state(link)) is not None and _is_known(state)]
        return max((state.last_reported for state in states), default=None)

    @callback
    def start(self) -> CALLBACK_TYPE:
        """Follow the entities; the answer ends it. Called anew when the registry changed what they are called."""
        for link in self._links:
            if (state := self._state(link)) is not None and _is_known(state):
                age = max((self._clock.now() - state.last_reported).total_seconds(), 0.0)
                self._reported[link] = self._clock.monotonic() - age
        entity_ids = [entity_id for link in self._links if (entity_id := self._entity_id(link)) is not None]
        ends = [
            async_track_state_change_event(self._hass, entity_ids, self._on_state),
            async_track_state_report_event(self._hass, entity_ids, self._on_state),
        ]

        @callback
        def stop() -> None:
            for end in ends:
                end()

        return stop

    @property
    def entity_ids(self) -> frozenset[str]:
        """What the linked entities are called now."""
        return frozenset(entity_id for link in self._links if (entity_id := self._entity_id(link)) is not None)

    @override
    def listen(self, listener: PathListener) -> Callable[[], None]:
        self._listener = listener
        if self._reported:
            listener.path_read(self, self._read())

        def cancel() -> None:
            if self._listener is listener:
                self._listener = None

        return cancel

    @override
    async def execute(self, command: Command, *, patience: float) -> None:
        link, domain, service, data = self._call_for(command)
        entity_id = self._entity_id(link)
        if entity_id is None or (state := self._hass.states.get(entity_id)) is None or state.state == STATE_UNAVAILABLE:
            raise PathDown("linked_unavailable")
        try:
            async with self._clock.timeout(patience):
                target = {ATTR_ENTITY_ID: entity_id}
                await self._hass.services.async_call(domain, service, data, blocking=True, target=target)
        except TimeoutError:
            raise PathDown("timeout") from None
        except ServiceValidationError as err:
            raise NotApplicable("linked_refused") from err
        except HomeAssistantError as err:
            raise PathDown("linked_failed") from err

    @override
    async def check(self) -> None:
        """The entities tell by themselves: what they show now is all there is."""
        if self._listener is not None:
            self._listener.path_read(self, self._read())

    @override
    async def read_schedule(self) -> Schedule:
        raise Unsupported("unsupported")

    @override
    async def write_schedule(self, windows: Schedule) -> None:
        raise Unsupported("unsupported")

    @override
    def watch(self) -> Callable[[], None]:
        return lambda: None

    def _call_for(self, command: Command) -> tuple[str, str, str, dict[str, Any]]:
        """The linked entity, domain, action and data that a command becomes. Raises Unsupported."""
        match command:
            case SetCurrent(amps):
                unit = self._unit(CONF_CURRENT_NUMBER)
                value = ElectricCurrentConverter.convert(amps, UnitOfElectricCurrent.AMPERE, unit)
                call = CONF_CURRENT_NUMBER, NUMBER_DOMAIN, SERVICE_SET_VALUE, {ATTR_VALUE: value}
            case SetCharging(on):
                call = self._switch(on=on)
            case SetOverride(on):
                call = self._switch(on=on or self._inside_window())
            case Restart():
                call = CONF_RESTART_BUTTON, BUTTON_DOMAIN, SERVICE_PRESS, {}
            case SetLock() | SetEcoMode() | Install():
                raise Unsupported("unsupported")
        if call[0] not in self._links:
            raise Unsupported("unsupported")
        return call

    def _switch(self, *, on: bool) -> tuple[str, str, str, dict[str, Any]]:
        entity_id = self._entity_id(CONF_CHARGE_SWITCH) or ""
        return CONF_CHARGE_SWITCH, entity_id.partition(".")[0], SERVICE_TURN_ON if on else SERVICE_TURN_OFF, {}

    @callback
    def _on_state(self, event: Event[Any]) -> None:
        state: State | None = event.data["new_state"]
        for link in self._links:
            if state is not None and _is_known(state) and self._entity_id(link) == state.entity_id:
                self._reported[link] = self._clock.monotonic()
        if self._listener is not None:
            self._listener.path_read(self, self._read())

    def _read(self) -> Readings:
        """What the entities show, each with the moment at which it was last reported."""
        readings = Readings()
        for link, measured in MEASURED.items():
            if (amount := self._amount(link, measured)) is not None:
                self._put(readings, measured.prop, amount, link)
        status_link = CONF_STATUS if CONF_STATUS in self._links else CONF_POWER
        status = Status.OFFLINE if self.presence is Presence.OFFLINE else self._status()
        if status is Status.OFFLINE:
            now = self._clock
            offline = Reading(status, Source.LINKED, now.now(), now.monotonic(), LIVE_AGE[Source.LINKED])
            readings.put(STATUS, offline)
        elif status is not None:
            self._put(readings, STATUS, status, status_link)
        return readings

    def _put[T](self, readings: Readings, prop: Property[T], value: T, link: str) -> None:
        state, at = self._state(link), self._reported.get(link)
        if state is None or at is None:
            return
        if prop.kind is ReadingClass.LIVE:
            readings.put(prop, Reading(value, Source.LINKED, state.last_reported, at, LIVE_AGE[Source.LINKED]))
        else:
            readings.put(prop, Reading(value, Source.LINKED, state.last_reported, at))

    def _status(self) -> Status | None:
        """What the charger does: by the linked status, else by the power and the switch."""
        if CONF_STATUS in self._links:
            state = self._state(CONF_STATUS)
            return None if state is None else STATUS_WORDS.get(state.state.casefold().replace("_", " ").strip())
        power = self._amount(CONF_POWER, MEASURED[CONF_POWER])
        switch = self._state(CONF_CHARGE_SWITCH)
        if power is None:
            return None
        if power >= FLOWING_POWER:
            return Status.CHARGING
        if switch is not None and switch.state == STATE_OFF and self._has_schedule() and not self._inside_window():
            return Status.WAITING_SCHEDULE
        return Status.WAITING_CAR if switch is not None and switch.state == STATE_ON else None

    def _has_schedule(self) -> bool:
        return any(window.enabled for window in self._keeper.snapshot.value(SCHEDULE) or ())

    def _inside_window(self) -> bool:
        windows = self._keeper.snapshot.value(SCHEDULE) or ()
        return schedule.inside(windows, self._clock.now())

    def _amount(self, link: str, measured: _Measured) -> float | None:
        """A measured value in our unit; None for text, an unknown unit or an absurd number."""
        state = self._state(link)
        if state is None or not _is_known(state):
            return None
        try:
            value = measured.converter.convert(float(state.state), self._unit(link), measured.unit)
        except ValueError, HomeAssistantError:
            return None
        return value if isfinite(value) else None

    def _unit(self, link: str) -> str | None:
        state = self._state(link)
        return None if state is None else state.attributes.get(ATTR_UNIT_OF_MEASUREMENT)

    def _state(self, link: str) -> State | None:
        entity_id = self._entity_id(link)
        return None if entity_id is None else self._hass.states.get(entity_id)

    def _entity_id(self, link: str) -> str | None:
        registry_id = self._links.get(link)
        return None if registry_id is None else er.async_resolve_entity_id(er.async_get(self._hass), registry_id)


def _is_known(state: State) -> bool:
    return state.state not in {STATE_UNAVAILABLE, STATE_UNKNOWN}
