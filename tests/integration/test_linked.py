"""Linked entities as the local transport of a charger: values, commands, and changes to the entities."""

import asyncio
from datetime import timedelta
import json
from typing import Any

from homeassistant.config_entries import SOURCE_USER
from homeassistant.core import Event, HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import entity_registry as er, issue_registry as ir
import pytest

from custom_components.chargekeeper import async_remove_config_entry_device
from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.core.charger.intents import IntentState
from custom_components.chargekeeper.core.errors import NoConnection, Unsupported
from custom_components.chargekeeper.core.model import (
    CAR_CONNECTED,
    CHARGING_CURRENT,
    CURRENT,
    POWER,
    PROBLEM,
    STATUS,
    Property,
    Snapshot,
    Source,
    Status,
)
from custom_components.chargekeeper.core.transport import (
    Command,
    Install,
    Presence,
    Restart,
    SetCharging,
    SetCurrent,
    SetLock,
)
from custom_components.chargekeeper.diagnostics import async_get_config_entry_diagnostics
from custom_components.chargekeeper.linked.entity_transport import EntityTransport, slug
from tests.simulators.clock import VirtualClock
from tests.simulators.http_server import Fault
from tests.simulators.local_side import LocalSide
from tests.simulators.world import Eco, RestartPlan, State

from .conftest import FREE, WAITING, House
from .local_entities import KINDS, LocalIntegration


class Home(House):
    """A house in which the charger that waits for its schedule also has a local integration."""

    local: LocalIntegration
    serial = WAITING

    async def begin(self) -> None:
        """Add the account and the local integration, without a link."""
        await self.add_account()
        await self.settle_in()
        self.local = LocalIntegration(self.hass, LocalSide(self.world, WAITING))
        await self.local.set_up()

    async def link(self, *links: str) -> None:
        """Link all entities of the local integration, or some, through the flow and let them report."""
        flow = self.hass.config_entries.subentries
        form = await flow.async_init((self.entry.entry_id, "linked"), context={"source": SOURCE_USER})
        done = await flow.async_configure(form["flow_id"], {"charger": WAITING, **self.local.chosen(*links)})
        assert done["type"] is FlowResultType.CREATE_ENTRY, done
        await self.hass.async_block_till_done()
        self.local.report()

    @property
    def transport(self) -> EntityTransport:
        """The linked transport."""
        return self.entry.runtime_data.account_runtime.linked[WAITING]

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot of the charger."""
        return self.entry.runtime_data.coordinators[WAITING].data

    def shown[T](self, prop: Property[T]) -> tuple[T | None, Source | None]:
        """Return the value and the source of a reading."""
        reading = self.snapshot.readings.get(prop)
        return (None, None) if reading is None else (reading.value, reading.source)

    def from_link[T](self, prop: Property[T]) -> T | None:
        """Return the value of a reading, None unless the linked transport is its source."""
        value, source = self.shown(prop)
        return value if source is Source.LINKED else None

    @property
    def is_reachable(self) -> bool:
        """True while the linked transport reaches the charger."""
        return self.transport.presence is Presence.ONLINE

    def does(self) -> State:
        """Return the state of the simulated charger."""
        return self.world.charger(WAITING).state

    async def lose_cloud(self) -> None:
        """Let the cloud refuse connections until the outage is noticed."""
        await self.cloud.set_fault(Fault.REFUSE)
        await self.pass_until_usable(False)

    async def link_and_lose_cloud(self, *links: str) -> None:
        """Link all entities, or some, lose the cloud, and let the entities report."""
        await self.link(*links)
        await self.lose_cloud()
        self.local.report()

    async def override_over_link(self) -> None:
        """Start the override over the link in an outage and wait until the override is verified."""
        await self.link_and_lose_cloud()
        await self.override()
        self.local.report()
        await self.pass_time(60)

    async def heal(self) -> None:
        """Restore the cloud and wait until its status is read."""
        await self.cloud.set_fault(Fault.NONE)
        await self.pass_until_usable(True)
        await self.pass_time(180)

    async def override(self, *, on: bool = True) -> None:
        """Switch the override as the user does."""
        await self.call("switch", "turn_on" if on else "turn_off", "tou_override", WAITING)

    def commands(self) -> list[str]:
        """Return the commands for the charger that the cloud received."""
        return [
            f"{request.method} {request.body}"
            for request in self.cloud.requests
            if request.method != "GET" and WAITING in request.path
        ]

    async def report_for(self, seconds: float, every: float = 60.0) -> None:
        """Let time pass while the local integration reports regularly."""
        for _ in range(round(seconds / every)):
            await self.pass_time(every)
            self.local.report()

    def intent_state(self) -> IntentState:
        """Return the state of the override intent."""
        intents = self.entry.runtime_data.coordinators[WAITING].charger.diagnostics()["journal"]
        assert isinstance(intents, dict)
        return IntentState(intents["override"]["state"])

    def issues(self) -> set[str]:
        """Return the translation keys of the repairs."""
        issues = ir.async_get(self.hass).issues
        return {issue.translation_key or "" for (domain, _), issue in issues.items() if domain == DOMAIN}

    async def refusal(self, work: Any) -> str:
        """Return the translation key of the error that refused an action."""
        with pytest.raises(HomeAssistantError) as caught:
            await work
        placeholders = dict(caught.value.translation_placeholders or {})
        assert placeholders.pop("charger") == "Driveway"
        assert placeholders in ({}, {"transport": "the linked entities"})
        return str(caught.value.translation_key)


@pytest.fixture
async def home(house: House) -> Home:
    home = Home(house.hass, house.clock, house.world, house.cloud)
    await home.begin()
    return home


# Values


async def test_linked_values_converted_to_our_units_and_statuses(home: Home) -> None:
    await home.link()
    assert home.shown(STATUS) == (Status.WAITING_SCHEDULE, Source.LINKED)
    await home.lose_cloud()
    home.local.side.set_charging(on=True)
    home.local.report()
    assert home.shown(STATUS) == (Status.CHARGING, Source.LINKED)
    assert home.shown(POWER) == (11040.0, Source.LINKED)
    assert home.shown(CURRENT) == (16.0, Source.LINKED)
    assert home.shown(CHARGING_CURRENT) == (32.0, Source.LINKED)
    assert home.shown(CAR_CONNECTED) == (True, Source.LINKED)
    assert home.shown(PROBLEM) == (False, Source.LINKED)
    assert home.state("sensor", "power", WAITING).state == "11040.0"
    assert home.state("sensor", "connection_path", WAITING).state == "linked"
    assert home.state("binary_sensor", "local", WAITING).state == "on"
    assert home.state("switch", "charging", WAITING).state == "on"
    home.world.charger(WAITING).unplug()
    home.local.report()
    assert home.state("binary_sensor", "car_connected", WAITING).state == "off"


async def test_i3_linked_live_values_expire_15_minutes_after_the_last_report(home: Home) -> None:
    await home.link_and_lose_cloud()
    await home.pass_time(10 * 60)
    home.local.report("power")
    await home.pass_time(5 * 60)
    assert home.from_link(STATUS) is None
    assert home.from_link(POWER) == 0.0, "a report of the same value counts"
    assert home.is_reachable, "something of it was heard"
    await home.pass_time(10 * 60)
    assert home.from_link(POWER) is None
    assert home.transport.presence is Presence.UNKNOWN
    assert home.shown(CHARGING_CURRENT) == (32.0, Source.CACHE)
    assert home.state("binary_sensor", "local", WAITING).state == "off"
    home.local.report("power")
    assert home.from_link(POWER) == 0.0


async def test_i3_values_of_before_a_suspension_of_the_host_are_not_repeated(home: Home) -> None:
    await home.link_and_lose_cloud()
    home.local.report()
    assert home.from_link(STATUS) is not None
    await home.pass_time(5)
    home.clock.jump(3 * 3600)
    home.local.report("power")
    assert (home.from_link(STATUS), home.from_link(POWER)) == (None, 0.0)
    home.local.report("status")
    assert home.from_link(STATUS) is not None


async def test_newer_observation_shown_from_either_transport(home: Home) -> None:
    await home.link()
    home.world.charger(WAITING).window_open = True
    home.local.report()
    assert home.shown(STATUS) == (Status.CHARGING, Source.LINKED)
    await home.pass_time(5 * 60)
    home.world.charger(WAITING).window_open = False
    await home.pass_time(5 * 60)
    assert home.shown(STATUS) == (Status.WAITING_SCHEDULE, Source.CLOUD)
    home.local.report()
    assert home.from_link(STATUS) is Status.WAITING_SCHEDULE


async def test_linked_state_from_before_the_link_keeps_its_age(hass: HomeAssistant, home: Home) -> None:
    registry = er.async_get(hass)
    stamp = (home.clock.now() - timedelta(minutes=14)).timestamp()
    await home.local.unload()
    for link, word in (("status", "Charging"), ("power", "7")):
        entity_id = home.local.entry(link).entity_id
        unit = {} if link == "status" else {"unit_of_measurement": "kW"}
        hass.states.async_set(entity_id, word, unit, timestamp=stamp)
        assert registry.async_get(entity_id) is not None
    flow = hass.config_entries.subentries
    form = await flow.async_init((home.entry.entry_id, "linked"), context={"source": SOURCE_USER})
    chosen = home.local.chosen("status", "power")
    await flow.async_configure(form["flow_id"], {"charger": WAITING, **chosen})
    await hass.async_block_till_done()
    assert home.transport.endpoint_contact_at == home.clock.now() - timedelta(minutes=14)
    await home.lose_cloud()
    assert home.from_link(POWER) is None
    assert home.transport.presence is Presence.UNKNOWN


async def test_linked_nonsense_ignored_and_logged_once(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    await home.link()
    await home.lose_cloud()
    states = home.hass.states
    power, status = (home.local.entry(link).entity_id for link in ("power", "status"))
    for odd in ("nan", "inf", "-inf", "1e9", "much", "", "unknown"):
        home.local.report()
        assert home.from_link(POWER) == 0.0
        states.async_set(power, odd, {"unit_of_measurement": "kW"})
        assert home.from_link(POWER) is None, odd
    for unit in ("V", "kWh", None):
        states.async_set(power, "1", {"unit_of_measurement": unit})
        assert home.from_link(POWER) is None, unit
    for word in ("Booting the firmware", "Still booting", "unknown"):
        home.local.report()
        assert home.from_link(STATUS) is Status.WAITING_SCHEDULE
        states.async_set(status, word)
        assert home.from_link(STATUS) is None
        assert home.from_link(CAR_CONNECTED) is None
    last_report = [record.getMessage() for record in caplog.records if "not understood" in record.getMessage()]
    assert len(last_report) == 1, "once, and without the word"
    assert "oot" not in last_report[0]


async def test_cloud_values_kept_when_linked_entities_are_lost(home: Home) -> None:
    await home.link()
    home.world.charger(WAITING).window_open = True
    await home.pass_time(5 * 60)
    assert home.shown(STATUS) == (Status.CHARGING, Source.CLOUD)
    home.local.lose()
    assert home.shown(STATUS) == (Status.CHARGING, Source.CLOUD)
    assert home.state("binary_sensor", "local", WAITING).state == "off"
    assert home.state("binary_sensor", "cloud", WAITING).state == "on"


async def test_i2_setting_kept_from_cache_when_its_linked_entity_is_unavailable(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.link_and_lose_cloud()
    seen_at = home.clock.now()
    assert home.state("number", "charging_current", WAITING).attributes["source"] == "linked"
    await home.pass_time(60)
    number = home.local.entities["current_number"]
    with monkeypatch.context() as patched:
        patched.setattr(type(number), "available", False)
        home.local.report()
        assert home.shown(CHARGING_CURRENT) == (32.0, Source.CACHE)
        remembered = home.state("number", "charging_current", WAITING)
        assert remembered.state == "32.0"
        assert remembered.attributes["source"] == "cache"
        assert remembered.attributes["since"] == seen_at.isoformat()
    home.local.report()
    assert home.shown(CHARGING_CURRENT) == (32.0, Source.LINKED)


async def test_i3_live_value_dropped_when_its_linked_entity_is_unavailable(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.link_and_lose_cloud()
    home.local.side.set_charging(on=True)
    home.local.report()
    assert home.state("sensor", "power", WAITING).state == "11040.0"
    monkeypatch.setattr(type(home.local.entities["power"]), "available", False)
    home.local.report()
    assert home.shown(POWER) == (None, None)
    assert home.state("sensor", "power", WAITING).state == "unavailable"
    assert home.from_link(CURRENT) == 16.0, "that one is shown"
    assert home.from_link(STATUS) is Status.CHARGING


async def test_newer_cloud_setting_kept_when_its_linked_entity_is_unavailable(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.link()
    await home.pass_time(60)
    home.world.charger(WAITING).max_charging_current = 20
    await home.pass_time(30 * 60)
    assert home.shown(CHARGING_CURRENT) == (20.0, Source.CLOUD)
    monkeypatch.setattr(type(home.local.entities["current_number"]), "available", False)
    home.local.report()
    assert home.shown(CHARGING_CURRENT) == (20.0, Source.CLOUD)


async def test_i1_linked_current_above_the_wire_rating_ignored(home: Home) -> None:
    await home.link_and_lose_cloud()
    assert home.shown(CHARGING_CURRENT)[0] == 32
    number = home.local.entry("current_number").entity_id
    home.hass.states.async_set(number, "40000", {"unit_of_measurement": "mA"})
    assert home.shown(CHARGING_CURRENT)[0] == 32
    with pytest.raises(ServiceValidationError):
        await home.call("number", "set_value", "charging_current", WAITING, value=40)
    assert home.world.charger(WAITING).max_charging_current == 32


async def test_status_words_of_other_integrations_mapped_or_ignored(home: Home) -> None:
    await home.link("status")
    await home.lose_cloud()
    words: dict[str, Status | None] = {
        "CHARGING": Status.CHARGING,
        "waiting_for_car": Status.WAITING_CAR,
        "Waiting in queue by Eco-Smart": Status.WAITING_POWER,
        " Locked,  car connected ": Status.LOCKED,
        "SuspendedEV": Status.WAITING_CAR,
        "not-connected": Status.AVAILABLE,
        "waiting": None,
        "Paused": Status.PAUSED,
        "disconnected": None,
    }
    for word, status in words.items():
        home.hass.states.async_set(home.local.entry("status").entity_id, word)
        assert home.from_link(STATUS) is status, word
        assert home.transport.last_report is not None
        assert home.transport.last_report.status is status, word


def test_status_words_compared_without_case_and_punctuation() -> None:
    assert slug("  Eco-Smart__On (now) ") == "eco smart on now"


async def test_status_derived_from_power_when_no_status_is_linked(home: Home) -> None:
    await home.link_and_lose_cloud("power", "charge_switch")
    assert home.from_link(STATUS) is Status.WAITING_SCHEDULE, "no power, switched off, outside the window"
    assert home.from_link(CAR_CONNECTED) is None, "that is not observed"
    assert home.from_link(PROBLEM) is None
    home.local.side.set_charging(on=True)
    home.local.report()
    assert home.from_link(STATUS) is Status.CHARGING
    assert home.from_link(CAR_CONNECTED) is True
    home.hass.states.async_set(home.local.entry("power").entity_id, "0.09", {"unit_of_measurement": "kW"})
    assert home.from_link(STATUS) is None, "switched on and no power: the car, or nobody there"
    assert home.transport.last_report is not None
    assert home.transport.last_report.car_connected is None


async def test_status_unknown_while_a_reversed_meter_shows_power(home: Home) -> None:
    await home.link_and_lose_cloud("power", "charge_switch")
    assert home.from_link(STATUS) is Status.WAITING_SCHEDULE
    home.hass.states.async_set(home.local.entry("power").entity_id, "-3.8", {"unit_of_measurement": "kW"})
    assert home.from_link(STATUS) is None, "it discharges, or the meter is mounted backwards: no rest"


async def test_status_unknown_when_neither_status_nor_power_is_linked(home: Home) -> None:
    await home.link_and_lose_cloud("current", "current_number")
    assert home.from_link(STATUS) is None
    assert home.is_reachable
    assert home.transport.status_received_at is None
    await home.call("number", "set_value", "charging_current", WAITING, value=10)
    assert home.world.charger(WAITING).max_charging_current == 10


# Commands


async def test_override_sent_over_the_link_needs_no_cloud_command_afterwards(home: Home) -> None:
    await home.link_and_lose_cloud()
    before = len(home.commands())
    await home.override()
    assert home.does() is State.CHARGING
    await home.pass_time(1)
    home.local.report()
    await home.pass_time(1)
    assert home.state("switch", "tou_override", WAITING).attributes["applied"] is True
    await home.report_for(20 * 60)
    await home.heal()
    await home.report_for(5 * 60)
    assert home.does() is State.CHARGING
    assert home.state("switch", "tou_override", WAITING).state == "on"
    assert home.state("sensor", "connection_path", WAITING).state == "cloud"
    assert len(home.commands()) == before, "it charges: nothing is to be sent"
    assert home.intent_state() is IntentState.VERIFIED


async def test_override_sent_once_by_the_cloud_after_a_power_cycle_in_the_outage(home: Home) -> None:
    await home.override_over_link()
    home.local.lose()
    home.world.charger(WAITING).power_cycle()
    await home.pass_time(10 * 60)
    assert home.does() is State.WAITING_SCHEDULE
    before = len(home.commands())
    await home.heal()
    await home.pass_time(10 * 60)
    assert home.commands()[before:] == ['POST {"action":1}']
    assert home.does() is State.CHARGING
    assert home.intent_state() is IntentState.VERIFIED


async def test_override_kept_when_the_cloud_returns_with_an_old_status(home: Home) -> None:
    """The charger has not reported to the cloud yet; the linked status is newer."""
    await home.link()
    await home.lose_cloud()
    home.world.charger(WAITING).cloud_link = False
    home.local.report()
    await home.override()
    home.local.report()
    await home.report_for(5 * 60)
    await home.heal()
    await home.report_for(5 * 60)
    assert home.does() is State.CHARGING
    assert home.state("switch", "tou_override", WAITING).state == "on"
    assert home.issues() == set()


async def test_override_ended_over_the_link_pauses_until_the_window(home: Home, virtual_clock: VirtualClock) -> None:
    """A switch can only pause: it is switched on again when the window opens."""
    await home.override_over_link()
    await home.override(on=False)
    assert home.does() is State.PAUSED, "outside the window: switched off"
    await home.report_for(5 * 60)
    assert home.does() is State.PAUSED
    virtual_clock.jump(11 * 3600)  # 23:00: the window from 22:00 to 05:00 is open
    home.world.charger(WAITING).window_open = True
    await home.report_for(5 * 60)
    assert home.does() is State.CHARGING


async def test_override_ended_inside_the_window_keeps_the_charger_charging(
    home: Home, virtual_clock: VirtualClock
) -> None:
    await home.override_over_link()
    virtual_clock.jump(11 * 3600)  # 23:00: the window from 22:00 to 05:00 is open
    home.world.charger(WAITING).window_open = True
    home.local.report()
    await home.override(on=False)
    assert home.does() is State.CHARGING
    assert home.state("switch", "tou_override", WAITING).state == "off"


async def test_override_applied_when_the_link_becomes_available(home: Home) -> None:
    await home.link()
    home.local.lose()
    await home.lose_cloud()
    await home.override()
    assert home.state("switch", "tou_override", WAITING).attributes["applied"] is False
    await home.pass_time(300)
    home.local.find()
    await home.pass_time(5)
    assert home.does() is State.CHARGING


async def test_current_and_pause_sent_over_the_link_in_an_outage(home: Home) -> None:
    await home.link()
    home.world.charger(WAITING).window_open = True
    await home.lose_cloud()
    home.local.report()
    await home.call("number", "set_value", "charging_current", WAITING, value=10)
    assert home.world.charger(WAITING).max_charging_current == 10
    home.local.report()
    assert home.state("number", "charging_current", WAITING).state == "10.0"
    await home.call("switch", "turn_off", "charging", WAITING)
    assert home.does() is State.PAUSED
    home.local.report()
    await home.call("switch", "turn_on", "charging", WAITING)
    assert home.does() is State.CHARGING


async def test_lower_current_sent_over_every_usable_transport(home: Home) -> None:
    await home.link()
    home.local.report()
    before = len(home.commands())
    await home.call("number", "set_value", "charging_current", WAITING, value=12)
    assert len(home.commands()) == before + 1
    home.world.charger(WAITING).max_charging_current = 32
    home.local.report()
    await home.cloud.set_fault(Fault.ERROR_500)
    await home.call("number", "set_value", "charging_current", WAITING, value=11)
    assert home.world.charger(WAITING).max_charging_current == 11, "over the link, although the cloud has an error"


async def test_restart_over_the_link_verified(home: Home) -> None:
    home.world.charger(WAITING).unplug()
    await home.link_and_lose_cloud()
    await home.call("button", "press", "restart", WAITING)
    assert home.world.charger(WAITING).restarts == 1
    assert home.state("sensor", "status", WAITING).state == "restarting"
    for _ in range(18):
        await home.pass_time(10)
        home.local.report()
    assert home.state("event", "restart", WAITING).attributes["event_type"] == "verified"
    assert home.state("sensor", "status", WAITING).state == "available"
    assert home.issues() == set()


async def test_i5_restart_reads_the_linked_status_first(home: Home) -> None:
    home.local.entities["status"]._attr_should_poll = True
    home.world.charger(WAITING).unplug()
    await home.link_and_lose_cloud()
    await home.pass_time(120)
    home.world.charger(WAITING).plug_in()
    home.world.charger(WAITING).window_open = True
    assert home.state("sensor", "restart_availability", WAITING).state == "available"
    press = home.call("button", "press", "restart", WAITING)
    assert await home.refusal(press) == "restart_charging"
    assert home.local.entities["status"].asked == 1
    assert home.world.charger(WAITING).restarts == 0


async def test_restart_over_the_link_without_return_raises_a_repair(home: Home) -> None:
    home.world.charger(WAITING).unplug()
    home.world.charger(WAITING).restart_plan = RestartPlan(comes_back=False)
    await home.link_and_lose_cloud()
    await home.call("button", "press", "restart", WAITING)
    await home.report_for(660)
    assert home.issues() == {"restart_failed"}
    home.world.charger(WAITING).power_cycle()
    await home.report_for(60)
    assert home.issues() == set()


async def test_commands_without_a_linked_entity_refused_in_an_outage(home: Home) -> None:
    await home.link("status", "charge_switch")
    home.world.charger(WAITING).eco = Eco()
    await home.lose_cloud()
    home.local.report()
    calls: list[tuple[str, str, str, dict[str, object]]] = [
        ("number", "set_value", "charging_current", {"value": 8}),
        ("button", "press", "restart", {}),
        ("lock", "lock", "lock", {}),
    ]
    for domain, service, key, data in calls:
        with pytest.raises(HomeAssistantError) as caught:
            await home.call(domain, service, key, WAITING, **data)
        assert caught.value.translation_key == "no_path_since", key
    assert home.world.charger(WAITING).max_charging_current == 32


async def test_linked_status_alone_supports_no_command(home: Home) -> None:
    await home.link("status")
    assert home.transport.identity.serial == WAITING
    assert not home.transport.removed_from_account
    for command in (SetCurrent(8), SetCharging(on=True), Restart(), SetLock(locked=True), Install()):
        with pytest.raises(Unsupported):
            await home.transport.execute(command, patience=5)
    with pytest.raises(Unsupported):
        await home.transport.read_schedule()
    with pytest.raises(Unsupported):
        await home.transport.write_schedule(())


async def test_command_refused_when_its_linked_entity_is_unavailable(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.link_and_lose_cloud()
    monkeypatch.setattr(type(home.local.entities["charge_switch"]), "available", False)
    home.local.report()
    assert home.is_reachable
    await home.override()
    assert home.state("switch", "tou_override", WAITING).attributes["applied"] is False, "it waits"
    assert await home.refusal(home.call("switch", "turn_on", "charging", WAITING)) == "linked_unavailable"
    home.hass.services.async_remove("number", "set_value")
    with pytest.raises(NoConnection, match="linked_unavailable"):
        await home.transport.execute(SetCurrent(8), patience=5)


@pytest.mark.parametrize("link", ["current_number", "charge_switch", "restart_button"])
async def test_command_refused_when_the_linked_entity_is_lost_but_not_yet_written(home: Home, link: str) -> None:
    """Home Assistant would drop the call and only log that."""
    home.world.charger(WAITING).unplug()
    await home.link_and_lose_cloud()
    commands: dict[str, Command] = {
        "current_number": SetCurrent(8),
        "charge_switch": SetCharging(on=True),
        "restart_button": Restart(),
    }
    home.local.side.link = False
    assert home.is_reachable, "as far as the states tell"
    with pytest.raises(NoConnection, match="linked_unavailable"):
        await home.transport.execute(commands[link], patience=5)
    with pytest.raises(NoConnection, match="linked_unavailable"):
        await home.transport.check()
    home.local.side.link = True
    await home.transport.execute(commands["current_number"], patience=5)
    assert home.world.charger(WAITING).max_charging_current == 8
    await home.local.unload()
    with pytest.raises(NoConnection, match="linked_unavailable"):
        await home.transport.execute(commands[link], patience=5)


async def test_command_fails_when_its_linked_entity_disappears_meanwhile(home: Home) -> None:
    await home.link_and_lose_cloud()
    command = asyncio.ensure_future(home.transport.execute(SetCurrent(8), patience=5))
    asyncio.get_running_loop().call_soon(setattr, home.local.side, "link", False)
    with pytest.raises(NoConnection, match="linked_unavailable"):
        await command
    assert home.world.charger(WAITING).max_charging_current == 32


async def test_override_waits_while_a_timed_out_command_left_the_entity_unavailable(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coordinator cancelled in its refresh counts as failed, and updates its entities at the next poll."""
    await home.link_and_lose_cloud()
    number = home.local.entities["current_number"]

    async def hang(*_: object, **__: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            home.local.side.link = False

    with monkeypatch.context() as patched:
        patched.setattr(number, "carry_out", hang)
        call = home.call("number", "set_value", "charging_current", WAITING, value=8)
        assert await home.refusal(call) == "linked_timeout"
    call = home.call("number", "set_value", "charging_current", WAITING, value=8)
    assert await home.refusal(call) == "linked_unavailable"
    await home.override()
    assert home.state("switch", "tou_override", WAITING).attributes["applied"] is False
    home.local.find()
    await home.report_for(120, every=10)
    assert home.does() is State.CHARGING
    assert home.state("switch", "tou_override", WAITING).attributes["applied"] is True


async def test_error_of_a_linked_entity_reported_as_translated_error(home: Home) -> None:
    await home.link_and_lose_cloud()
    failures: list[tuple[BaseException, str]] = [
        (ServiceValidationError("not in this state"), "linked_refused"),
        (HomeAssistantError("modbus says no"), "linked_failed"),
        (ConnectionResetError("by peer"), "linked_failed"),
        (TimeoutError(), "linked_failed"),
        (KeyError("a bug of theirs"), "linked_failed"),
        (asyncio.CancelledError(), "linked_failed"),
    ]
    for happens, key in failures:
        home.local.entities["current_number"].failure = happens
        call = home.call("number", "set_value", "charging_current", WAITING, value=8)
        assert await home.refusal(call) == key, happens
    home.local.entities["current_number"].failure = None
    await home.call("number", "set_value", "charging_current", WAITING, value=8)
    assert home.world.charger(WAITING).max_charging_current == 8


async def test_linked_entity_that_hangs_times_out(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    await home.link_and_lose_cloud()
    ended: list[str] = []

    async def hang(*_: object, **__: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    monkeypatch.setattr(home.local.entities["current_number"], "carry_out", hang)
    began = home.clock.monotonic()
    assert (
        await home.refusal(home.call("number", "set_value", "charging_current", WAITING, value=8)) == "linked_timeout"
    )
    assert home.clock.monotonic() - began <= 6
    assert ended == ["cancelled"]


async def test_restart_refused_when_reading_the_linked_status_fails_or_hangs(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.world.charger(WAITING).unplug()
    await home.link_and_lose_cloud()
    status = home.local.entities["status"]
    status._attr_should_poll = True

    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    async def fail(*_: object, **__: object) -> None:
        raise ValueError("the state is too long")

    for instead, key in ((hang, "linked_timeout"), (fail, "linked_failed")):
        await home.pass_time(120)
        monkeypatch.setattr(status, "async_update_ha_state", instead)
        assert await home.refusal(home.call("button", "press", "restart", WAITING)) == key
    assert home.world.charger(WAITING).restarts == 0


# Changes to the entities


async def test_commands_refused_while_all_linked_entities_are_unavailable(home: Home) -> None:
    await home.link_and_lose_cloud()
    assert home.from_link(STATUS) is Status.WAITING_SCHEDULE
    home.local.lose()
    assert home.transport.presence is Presence.OFFLINE
    assert home.shown(STATUS) == (None, None), "not heard is not known; a lost link is no word that it is offline"
    assert home.state("sensor", "connection_path", WAITING).state == "none"
    with pytest.raises(HomeAssistantError) as caught:
        await home.call("number", "set_value", "charging_current", WAITING, value=8)
    assert caught.value.translation_key == "no_path_since"
    home.local.find()
    await home.call("number", "set_value", "charging_current", WAITING, value=8)
    assert home.world.charger(WAITING).max_charging_current == 8


async def test_unavailable_linked_status_makes_the_transport_offline(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.link_and_lose_cloud()
    for link in ("current_number", "status"):
        monkeypatch.setattr(type(home.local.entities[link]), "available", False)
    home.local.report("current_number")
    call = home.call("number", "set_value", "charging_current", WAITING, value=8)
    assert await home.refusal(call) == "linked_unavailable"
    home.local.report("status")
    with pytest.raises(HomeAssistantError):
        await home.call("switch", "turn_on", "charging", WAITING)
    assert home.transport.presence is Presence.OFFLINE, "the status tells whether the charger is there"
    with pytest.raises(NoConnection, match="linked_unavailable"):
        await home.transport.check()
    assert home.from_link(POWER) == 0.0, "what the others show is shown"


async def test_linked_entities_followed_when_they_appear_after_our_start(home: Home) -> None:
    await home.link()
    await home.local.unload()
    await home.hass.config_entries.async_reload(home.entry.entry_id)
    await home.hass.async_block_till_done()
    await home.lose_cloud()
    assert home.transport.presence is Presence.OFFLINE
    assert home.transport.last_report is None, "nothing was heard yet: that is no word"
    assert home.transport.endpoint_contact_at is None
    await home.local.load()
    assert home.is_reachable
    assert home.from_link(STATUS) is Status.WAITING_SCHEDULE
    await home.override()
    assert home.does() is State.CHARGING


async def test_linked_entity_followed_after_a_rename(home: Home) -> None:
    await home.link_and_lose_cloud()
    lost: list[Presence] = []
    registry = er.async_get(home.hass)
    for link, (platform, _) in KINDS.items():
        registry.async_update_entity(home.local.entry(link).entity_id, new_entity_id=f"{platform}.renamed_{link}")
        await home.hass.async_block_till_done()
        lost.append(home.transport.presence)
    assert set(lost) == {Presence.ONLINE}
    home.local.side.set_charging(on=True)
    home.local.report()
    assert home.from_link(STATUS) is Status.CHARGING
    await home.call("number", "set_value", "charging_current", WAITING, value=8)
    assert home.world.charger(WAITING).max_charging_current == 8
    assert home.issues() == set()


@pytest.mark.parametrize("what", ["deleted", "disabled"])
async def test_lost_linked_entity_raises_a_repair_until_restored(home: Home, what: str) -> None:
    await home.link_and_lose_cloud()
    registry, entry = er.async_get(home.hass), home.local.entry("status")
    if what == "deleted":
        registry.async_remove(entry.entity_id)
    else:
        registry.async_update_entity(entry.entity_id, disabled_by=er.RegistryEntryDisabler.USER)
    await home.hass.async_block_till_done()
    assert home.issues() == {"link_broken"}
    assert home.transport.diagnostics()["status"] == {
        "fault": what,
        "available": False,
        "reported_age": 0,
        "understood": False,
    }
    assert home.is_reachable, "the others are"
    home.local.report("power", "charge_switch")
    assert home.from_link(STATUS) is Status.WAITING_SCHEDULE, "as far as the power tells"
    await home.hass.config_entries.async_reload(home.entry.entry_id)
    await home.hass.async_block_till_done()
    assert home.issues() == {"link_broken"}
    if what == "disabled":
        registry.async_update_entity(entry.entity_id, disabled_by=None)
    await home.local.unload()
    await home.local.load()
    assert home.issues() == set()
    assert home.from_link(STATUS) is Status.WAITING_SCHEDULE
    assert home.transport.last_report is not None
    assert home.transport.last_report.car_connected is True


async def test_transport_offline_when_all_linked_entities_are_deleted(home: Home) -> None:
    await home.link_and_lose_cloud("status", "charge_switch")
    registry = er.async_get(home.hass)
    for link in ("status", "charge_switch"):
        registry.async_remove(home.local.entry(link).entity_id)
    await home.hass.async_block_till_done()
    assert home.transport.presence is Presence.OFFLINE
    assert home.from_link(STATUS) is None
    with pytest.raises(HomeAssistantError) as caught:
        await home.call("switch", "turn_on", "charging", WAITING)
    assert caught.value.translation_key == "no_path_since"


async def test_changed_unit_of_a_linked_entity_converted_or_raised_as_a_repair(home: Home) -> None:
    await home.link()
    await home.lose_cloud()
    number = home.local.entities["current_number"]
    number._attr_native_unit_of_measurement = "A"  # type: ignore[attr-defined]
    home.hass.states.async_set(number.entity_id, "16", {"unit_of_measurement": "A"})
    assert home.shown(CHARGING_CURRENT) == (16.0, Source.LINKED)
    assert home.issues() == set()
    home.hass.states.async_set(number.entity_id, "70", {"unit_of_measurement": "%"})
    assert home.shown(CHARGING_CURRENT)[0] == 16.0
    assert home.issues() == {"link_broken"}
    call = home.call("number", "set_value", "charging_current", WAITING, value=8)
    assert await home.refusal(call) == "linked_unavailable"
    home.hass.states.async_set(number.entity_id, "16", {"unit_of_measurement": "A"})
    assert home.issues() == set()


async def test_i13_linked_transport_stops_listening_after_unload(home: Home) -> None:
    def listeners() -> int:
        return home.hass.bus.async_listeners()["entity_registry_updated"]

    before = listeners()
    await home.link()
    assert listeners() > before
    transport = home.transport
    await home.hass.config_entries.async_unload(home.entry.entry_id)
    received_at = transport.status_received_at
    await home.pass_time(60)
    home.local.report()
    assert transport.status_received_at == received_at
    status = home.local.entry("status").entity_id
    transport._on_state(Event[Any]("state_changed", {"entity_id": status, "old_state": None, "new_state": None}))
    transport._on_registry(Event("entity_registry_updated", {"action": "remove", "entity_id": status}))
    assert listeners() == before, "nor does what was on its way wake it up"
    await home.hass.config_entries.async_setup(home.entry.entry_id)
    await home.hass.async_block_till_done()
    again = listeners()
    await home.hass.config_entries.async_reload(home.entry.entry_id)
    await home.hass.async_block_till_done()
    assert listeners() == again


async def test_removed_link_ends_at_once(home: Home) -> None:
    await home.link()
    [subentry] = home.entry.subentries.values()
    home.hass.config_entries.async_remove_subentry(home.entry, subentry.subentry_id)
    await home.hass.async_block_till_done()
    assert WAITING not in home.entry.runtime_data.account_runtime.linked
    assert home.snapshot.local is None
    await home.lose_cloud()
    with pytest.raises(HomeAssistantError) as caught:
        await home.call("number", "set_value", "charging_current", WAITING, value=8)
    assert caught.value.translation_key == "no_path_since"


async def test_override_ended_over_the_link_when_the_entry_is_removed(home: Home) -> None:
    await home.override_over_link()
    assert home.does() is State.CHARGING
    await home.finish(home.hass.config_entries.async_remove(home.entry.entry_id))
    assert home.does() is State.PAUSED
    assert home.issues() == set()
    [notice] = home.notices
    assert notice.startswith("Driveway may still be paused")


async def test_link_removed_with_a_deleted_charger(home: Home) -> None:
    [account] = home.cloud.accounts
    await home.link()
    account.unshared.add(WAITING)
    await home.pass_time(10 * 60)
    device = home.device(WAITING)
    assert device is not None
    assert await async_remove_config_entry_device(home.hass, home.entry, device)
    await home.hass.async_block_till_done()
    assert home.entry.subentries == {}
    assert home.entry.runtime_data.account_runtime.linked == {}
    assert home.entry.state.value == "loaded"


async def test_i12_diagnostics_contain_no_linked_entity_id(home: Home) -> None:
    await home.link()
    await home.pass_time(30)
    diagnostics: dict[str, Any] = await async_get_config_entry_diagnostics(home.hass, home.entry)
    linked = diagnostics["chargers"][1]["linked"]
    assert set(linked) == set(KINDS)
    assert linked["status"] == {"fault": None, "available": True, "reported_age": 30, "understood": True}
    assert linked["restart_button"]["reported_age"] is None
    assert diagnostics["chargers"][0]["linked"] is None
    assert diagnostics["chargers"][1]["paths"]["linked"]["presence"] == "online"
    text = json.dumps(diagnostics)
    ids = [home.local.entry(link) for link in KINDS]
    assert [entry for entry in ids if entry.entity_id in text or entry.id in text] == []


# The preferred connection


async def test_commands_refused_with_local_only_and_no_link(home: Home) -> None:
    await home.options(prefer="local_only")
    await home.pass_time(60)
    calls: list[tuple[str, str, str, dict[str, object]]] = [
        ("number", "set_value", "charging_current", {"value": 8}),
        ("switch", "turn_off", "charging", {}),
        ("switch", "turn_on", "tou_override", {}),
        ("button", "press", "restart", {}),
    ]
    for domain, service, key, data in calls:
        assert await home.refusal(home.call(domain, service, key, WAITING, **data)) == "no_admitted_path", key
    assert home.state("switch", "tou_override", WAITING).state == "off"
    assert home.commands() == []


@pytest.mark.parametrize("prefer", ["local_only", "local_first"])
async def test_override_sent_over_the_link_when_local_is_preferred(home: Home, prefer: str) -> None:
    await home.link()
    await home.options(prefer=prefer)
    home.local.report()
    await home.pass_time(1)
    assert home.state("sensor", "connection_path", WAITING).state == "linked"
    await home.override()
    home.local.report()
    await home.pass_time(60)
    assert home.does() is State.CHARGING
    assert home.commands() == []


async def test_commands_refused_with_local_only_and_the_link_lost(home: Home) -> None:
    await home.link()
    await home.options(prefer="local_only")
    home.local.lose()
    call = home.call("number", "set_value", "charging_current", WAITING, value=8)
    assert await home.refusal(call) == "local_lost"
    assert await home.refusal(home.call("lock", "lock", "lock", WAITING)) == "no_admitted_path"


async def test_cloud_only_shows_linked_values_but_commands_the_cloud(home: Home) -> None:
    await home.link()
    await home.options(prefer="cloud_only")
    home.local.report()
    assert home.from_link(STATUS) is Status.WAITING_SCHEDULE
    await home.call("number", "set_value", "charging_current", WAITING, value=8)
    assert len(home.commands()) == 1


async def test_charger_without_a_link_has_no_local_transport(home: Home) -> None:
    await home.link()
    assert home.entry.runtime_data.account_runtime.linked.keys() == {WAITING}
    assert home.entry.runtime_data.coordinators[FREE].data.local is None
