"""Fakes below the real chargers: an account and transports whose values the test sets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast, override

from homeassistant.core import HomeAssistant, State
from homeassistant.helpers import entity_registry as er
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.core.breaker import Breaker, Failure
from custom_components.chargekeeper.core.charger import Charger
from custom_components.chargekeeper.core.errors import ChargerError
from custom_components.chargekeeper.core.model import (
    CAR_CONNECTED,
    CHARGING_CURRENT,
    CURRENCY,
    CURRENT,
    CURRENT_L1,
    CURRENT_L2,
    CURRENT_L3,
    ECO_MODE,
    FIRMWARE,
    GRID_FREQUENCY,
    HOUSE_LIMIT,
    LATEST_FIRMWARE,
    LIFETIME_ENERGY,
    LIVE_AGE,
    LOAD_GROUP_LIMIT,
    LOCKED,
    OFFLINE_CURRENT,
    POWER,
    POWER_FACTOR,
    PROBLEM,
    ROLE,
    SCHEDULE,
    SESSION_COST,
    SESSION_DURATION,
    SESSION_ENERGY,
    STATUS,
    TEMPERATURE,
    UNIT_RATING,
    VOLTAGE,
    WIRE_RATING,
    Capability,
    EcoMode,
    Identity,
    Maker,
    Property,
    Reading,
    ReadingClass,
    Readings,
    Role,
    Schedule,
    Source,
    Status,
    Window,
)
from custom_components.chargekeeper.core.schedule import changed
from custom_components.chargekeeper.core.transport import Command, Presence, StatusReport, TransportListener
from custom_components.chargekeeper.ha.shared_state import SHARED_STATE, SharedState
from custom_components.chargekeeper.wallbox.account import AccountSnapshot, WallboxAccount
from tests.core.fake_transport import ScriptedPath
from tests.simulators.clock import VirtualClock

USER = "0b6f1c1e-0000-4000-8000-000000000001"
SERIAL = "1001"
SERVER = ("http://127.0.0.1:1", "http://127.0.0.1:1")
ALL = frozenset(Capability)

type Values = Mapping[Property[Any], object]

SCHEDULED: Schedule = (
    Window(
        slot=0,
        enabled=True,
        days=frozenset(range(7)),
        start=datetime(2026, 11, 2, 22).time(),
        end=datetime(2026, 11, 2, 6).time(),
    ),
)

BASIC: Values = {
    STATUS: Status.AVAILABLE,
    CAR_CONNECTED: False,
    PROBLEM: False,
    LOCKED: False,
    WIRE_RATING: 32.0,
    CHARGING_CURRENT: 16.0,
    ROLE: Role.ADMIN,
}
"""The values that every charger shows."""

CLOUD_VALUES: Values = {
    **BASIC,
    POWER: 0.0,
    CURRENT: 0.0,
    CURRENT_L1: 0.0,
    CURRENT_L2: 0.0,
    CURRENT_L3: 0.0,
    SESSION_DURATION: 3600.0,
    SESSION_ENERGY: 7.25,
    SESSION_COST: 1.75,
    LIFETIME_ENERGY: 1234.5,
    LOAD_GROUP_LIMIT: 20.0,
    HOUSE_LIMIT: 25.0,
    ECO_MODE: EcoMode.OFF,
    FIRMWARE: "6.4.10",
    LATEST_FIRMWARE: "6.5.2",
    SCHEDULE: SCHEDULED,
    CURRENCY: "EUR",
}
"""All values that a charger can show over a maker's cloud."""

EVERYTHING: Values = {
    **CLOUD_VALUES,
    VOLTAGE: 231.0,
    TEMPERATURE: 31.0,
    UNIT_RATING: 32.0,
    OFFLINE_CURRENT: 10.0,
    GRID_FREQUENCY: 59.99,
    POWER_FACTOR: 0.996,
}
"""All values that any charger can show."""


class FakeTransport(ScriptedPath):
    """A transport that shows the values of the test and records the commands."""

    def __init__(self, clock: VirtualClock, breaker: Breaker, identity: Identity, source: Source) -> None:
        super().__init__(clock, breaker, identity, source)
        self.meters_lifetime = True
        self.executed: list[Command] = []
        self.refusal: ChargerError | None = None
        self.is_present = Presence.UNKNOWN
        self.schedule: Schedule = ()
        self._shown = Readings()

    def show(self, values: Values) -> None:
        """Let the charger report these values now."""
        now, wall = self._clock.monotonic(), self._clock.now()
        for prop, value in values.items():
            age = LIVE_AGE[self.source] if prop.kind is ReadingClass.LIVE else float("inf")
            self._shown.put(prop, Reading(value, self.source, wall, now, age))
        self._last_report = StatusReport(self._shown.value(STATUS), self._shown.value(CAR_CONNECTED))
        self.is_present = Presence.OFFLINE if self._last_report.status is Status.OFFLINE else Presence.ONLINE
        self._status_received_at = now
        if self.is_present is Presence.ONLINE:
            self._charger_reported_at = now
        readings = Readings()
        for prop in values:
            readings.put(prop, cast("Reading[Any]", self._shown.get(prop)))
        self.answer(readings)

    def touch(self) -> None:
        """Let the endpoint answer without new values."""
        self._contact = self._clock.now()
        self.changed()

    def rename(self, **changes: Any) -> None:
        """Change the identity of the charger."""
        self.who = replace(self.who, **changes)
        self.changed()

    @property
    @override
    def presence(self) -> Presence:
        return self.is_present

    @override
    def listen(self, listener: TransportListener) -> Callable[[], None]:
        end = super().listen(listener)
        if self._last_report is not None:
            listener.readings_received(self, self._shown.copy())
        return end

    @override
    async def execute(self, command: Command, *, patience: float, urgent: float = 0.0) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.executed.append(command)

    @override
    async def check(self) -> None:
        self.show({STATUS: self._shown.value(STATUS)})

    @override
    async def read_schedule(self) -> Schedule:
        return self.schedule

    @override
    async def write_schedule(self, windows: Schedule) -> None:
        self.schedule = changed(self.schedule, windows)

    @override
    def watch(self) -> Callable[[], None]:
        return lambda: None


class FakeAccount:
    """An account that knows the chargers given by the test."""

    def __init__(self, clock: VirtualClock, chargers: tuple[Identity, ...]) -> None:
        self.user_id: str | None = USER
        self.server = SERVER
        self.breaker = Breaker(clock, lambda: 1.0)
        self.snapshot = AccountSnapshot(cloud=None, needs_login=False, chargers=(), endpoint_contact_at=None)
        self.transports: dict[str, FakeTransport] = {}
        self.running = False
        self._clock = clock
        self._known = {charger.serial: charger for charger in chargers}
        self._listeners: list[Callable[[AccountSnapshot], None]] = []
        self._outage_listeners: list[Callable[[str], None]] = []

    def transport(self, serial: str, who: Identity | None = None) -> FakeTransport:
        """Return the transport of a charger, created on demand."""
        if serial not in self.transports:
            identity = self._known.get(serial, who or Identity(Maker.WALLBOX, serial, serial))
            self.transports[serial] = FakeTransport(self._clock, self.breaker, identity, Source.CLOUD)
        return self.transports[serial]

    def identity(self, serial: str) -> Identity | None:
        """Return the identity of a charger, None if the account does not know the charger."""
        return self._known.get(serial)

    def push(self, **changes: Any) -> None:
        """Change the snapshot of the account and notify the listeners."""
        self.snapshot = replace(self.snapshot, **changes)
        for listener in tuple(self._listeners):
            listener(self.snapshot)

    def appear(self, identity: Identity) -> None:
        """Add a charger to the account."""
        self._known[identity.serial] = identity
        self.push(chargers=tuple(self._known.values()))

    def outage(self, event: str) -> None:
        """Notify the listeners that the cloud is lost, or back."""
        for listener in tuple(self._outage_listeners):
            listener(event)

    def restore_budgets(self, stored: object) -> None:
        """Do nothing: no request is spent here."""

    def set_credentials(self, email: str, password: str) -> None:
        """Do nothing: no sign-in happens here."""

    def start(self) -> None:
        """Start the account."""
        self.running = True

    async def stop(self) -> None:
        """Stop the account."""
        self.running = False

    def listen(self, callback: Callable[[AccountSnapshot], None]) -> Callable[[], None]:
        """Call back when the snapshot changes; return what ends that."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def listen_outage(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call back at the start and the end of an outage; return what ends that."""
        self._outage_listeners.append(callback)
        return lambda: self._outage_listeners.remove(callback)

    def diagnostics(self) -> dict[str, object]:
        """Return no diagnostics."""
        return {}


@dataclass
class House:
    """Home Assistant with one account, set up."""

    hass: HomeAssistant
    clock: VirtualClock
    account: FakeAccount
    entry: MockConfigEntry
    serial: str = SERIAL
    maker: str = field(default="wallbox", init=False)

    @property
    def transport(self) -> FakeTransport:
        """The cloud transport of the (first) charger."""
        return self.account.transport(self.serial)

    @property
    def charger(self) -> Charger:
        """The (first) charger."""
        return self.hass.data[SHARED_STATE].chargers[Maker.WALLBOX, self.serial]

    async def show(self, values: Values) -> None:
        """Let the charger report these values and Home Assistant process them."""
        self.transport.show(values)
        await self.settle()

    async def settle(self) -> None:
        """Wait until Home Assistant and the chargers, whose tasks it does not know, have no work left."""
        await self.clock.settle()
        await self.hass.async_block_till_done()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        await self.clock.advance(seconds)
        await self.settle()

    async def lose_cloud(self) -> None:
        """Let the cloud fail until the breaker confirms the outage."""
        for _ in range(4):
            self.account.breaker.bad(Failure.CONNECT)
            await self.clock.advance(12)
        assert not self.account.breaker.usable
        await self.settle()

    async def set_up(self) -> None:
        """Set the entry up (again)."""
        assert await self.hass.config_entries.async_setup(self.entry.entry_id)
        await self.settle()

    async def unload(self) -> None:
        """Unload the entry."""
        assert await self.hass.config_entries.async_unload(self.entry.entry_id)
        await self.settle()

    async def restart_home_assistant(self) -> None:
        """Restart Home Assistant: stores and registries are kept, and the charger has not reported yet."""
        await self.unload()
        self.clock = VirtualClock(start=self.clock.now(), monotonic=5.0)
        can = {serial: transport.can for serial, transport in self.account.transports.items()}
        self.account = FakeAccount(
            self.clock, tuple(transport.identity for transport in self.account.transports.values())
        )
        for serial, capabilities in can.items():
            self.account.transport(serial).can = capabilities
        _install(self.hass, self.clock, self.account)
        await self.set_up()

    def entity_id(self, platform: str, key: str, *, serial: str | None = None) -> str | None:
        """Return the entity id of a charger's entity, None where there is none."""
        unique_id = f"{self.maker}_{serial or self.serial}_{key}"
        return er.async_get(self.hass).async_get_entity_id(platform, DOMAIN, unique_id)

    def registered(self) -> list[er.RegistryEntry]:
        """Return all registered entities of the entry, in order."""
        found = er.async_entries_for_config_entry(er.async_get(self.hass), self.entry.entry_id)
        return sorted(found, key=lambda entity: (entity.domain, entity.unique_id))

    def state(self, platform: str, key: str) -> State:
        """Return the state of an entity of the charger, which must exist."""
        entity_id = self.entity_id(platform, key)
        assert entity_id is not None, f"no {platform} {key}"
        state = self.hass.states.get(entity_id)
        assert state is not None, f"no state of {entity_id}"
        return state

    def account_state(self, platform: str, key: str) -> State:
        """Return the state of an entity of the account, which must exist."""
        entity_id = er.async_get(self.hass).async_get_entity_id(platform, DOMAIN, f"account_{USER}_{key}")
        assert entity_id is not None, f"no {platform} {key}"
        state = self.hass.states.get(entity_id)
        assert state is not None, f"no state of {entity_id}"
        return state

    async def call(self, domain: str, service: str, target: State, **data: object) -> Any:
        """Call an action on an entity."""
        response = data.pop("return_response", False)
        return await self.hass.services.async_call(
            domain,
            service,
            {"entity_id": target.entity_id, **data},
            blocking=True,
            return_response=bool(response),
        )


def charger(serial: str = SERIAL, name: str = "Garage") -> Identity:
    """Return the identity of a charger of the account."""
    return Identity(Maker.WALLBOX, serial, name, "Pulsar Plus", "PLP1-0-2-4-9-002-A")


async def prepare(
    hass: HomeAssistant,
    *,
    chargers: tuple[Identity, ...] = (charger(),),
    options: Mapping[str, object] | None = None,
) -> House:
    """Return a house whose entry is not set up yet."""
    clock = VirtualClock()
    account = FakeAccount(clock, chargers)
    _install(hass, clock, account)
    entry = MockConfigEntry(
        domain=DOMAIN,
        unique_id=USER,
        title="driver@example.com",
        data={
            "kind": "wallbox_account",
            "email": "driver@example.com",
            "password": "not a secret",
            "server": {"user_api_url": SERVER[0], "api_url": SERVER[1]},
            "chargers": [
                {
                    "serial": identity.serial,
                    "name": identity.name,
                    "model": identity.model,
                    "part_number": identity.part_number,
                }
                for identity in chargers
            ],
        },
        options=dict(options or {}),
    )
    entry.add_to_hass(hass)
    return House(hass, clock, account, entry, chargers[0].serial)


async def move_in(
    hass: HomeAssistant,
    values: Values = CLOUD_VALUES,
    *,
    capabilities: frozenset[Capability] = ALL,
    options: Mapping[str, object] | None = None,
) -> House:
    """Return a house with one charger that shows these values."""
    house = await prepare(hass, options=options)
    house.transport.can = capabilities
    house.transport.show(values)
    await house.set_up()
    return house


def _install(hass: HomeAssistant, clock: VirtualClock, account: FakeAccount) -> None:
    """Put the fake account where the entry's setup finds the account."""
    shared_state = hass.data[SHARED_STATE] = SharedState(clock)
    shared_state.accounts[USER] = cast("WallboxAccount", account)
