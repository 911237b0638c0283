"""Boxes that do not report to Home Assistant, over the JuiceNet server of the user."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

from homeassistant.config_entries import (
    SOURCE_RECONFIGURE,
    SOURCE_USER,
    ConfigEntry,
    ConfigEntryDisabler,
    ConfigEntryState,
)
from homeassistant.const import STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry as dr, entity_registry as er
import pytest

from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.core.model import Maker
from custom_components.chargekeeper.diagnostics import (
    async_get_config_entry_diagnostics,
    async_get_device_diagnostics,
)
from tests.integration.machine import Machine
from tests.simulation.clocks import RunClock
from tests.simulators.clock import VirtualClock
from tests.simulators.http_server import Fault
from tests.simulators.juicebox import JuiceBox
from tests.simulators.juicebox_server import Day, Schedule
from tests.simulators.juicenet_cloud import JuiceNetCloud

from .boxes import DETAILS, FIRST, SECOND, BoxHouse

TOKEN = "a-token"
NIGHT = Schedule(custom=True, weekday=Day(start=22 * 60, end=120), weekend=Day(start=22 * 60, end=120))
OPEN = Schedule(custom=True, weekday=Day(start=2 * 60, end=20 * 60), weekend=Day(start=2 * 60, end=20 * 60))
"""A schedule whose window is open while a test runs."""


async def begin(house: BoxHouse, **account: str) -> ConfigEntry:
    """Add the entry with an account and no box; the first box reports to the maker's server."""
    await house.maker.start()
    sim = JuiceBox(clock=house.clock, serial=FIRST, server=house.maker.address, stored=16)
    house.sims[FIRST] = sim
    sim.plug_in()
    sim.start()
    settings = house.listening(upstream={"port": 8042}, juicenet=account)
    menu = await house.wait(await house.submit(await house.begin(), settings))
    await house.submit(menu, {"next_step_id": "without_box"})
    return house.entry


async def flow(house: BoxHouse, serial: str | None = None) -> Any:
    """Begin to add a box of the account, or to change one."""
    context: Any = {"source": SOURCE_USER}
    if serial is not None:
        context = {"source": SOURCE_RECONFIGURE, "subentry_id": house.subentry(serial).subentry_id}
    handler = (house.entry.entry_id, "juicenet")
    return await house.hass.config_entries.subentries.async_init(handler, context=context)


async def add(house: BoxHouse, juicenet: JuiceNetCloud) -> JuiceBox:
    """Add the first box of the account and wait until its values were read."""
    await begin(house, server_url=juicenet.url, account_token=TOKEN)
    form = await house.submit_subentry(await flow(house), {"box": FIRST})
    result = await house.submit_subentry(form, {"name": "Garage", "wire_rating": 24})
    assert result["type"] is FlowResultType.CREATE_ENTRY, result
    await house.pass_time(31)
    return house.sims[FIRST]


async def add_both(house: BoxHouse, juicenet: JuiceNetCloud, *, limit: int) -> tuple[JuiceBox, JuiceBox]:
    """Add both boxes of the account; both charge, limited by the server."""
    for unit in house.units:
        unit.wire_rating = limit
    await begin(house, server_url=juicenet.url, account_token=TOKEN)
    other = JuiceBox(clock=house.clock, serial=SECOND, server=house.maker.address, stored=16)
    house.sims[SECOND] = other
    other.plug_in()
    other.start()
    for serial, name in ((FIRST, "Garage"), (SECOND, "Yard")):
        form = await house.submit_subentry(await flow(house), {"box": serial})
        await house.submit_subentry(form, {"name": name, "wire_rating": 16})
        await house.pass_time(62)
    assert [house.value("status", serial) for serial in (FIRST, SECOND)] == ["charging"] * 2
    return house.sims[FIRST], other


def types(house: BoxHouse) -> dict[str | None, str]:
    """Return the subentry types of the boxes by serial."""
    return {each.unique_id: each.subentry_type for each in house.entry.subentries.values()}


def suggested(form: Mapping[str, Any]) -> dict[str, Any]:
    """Return the suggested values of a form."""
    keys = form["data_schema"].schema
    return {str(key): (key.description or {}).get("suggested_value") for key in keys}


async def test_box_of_the_account_added_and_shown(box_house: BoxHouse, juicenet: JuiceNetCloud) -> None:
    entry = await begin(box_house, server_url=juicenet.url, account_token=TOKEN)
    assert set(entry.supported_subentry_types) == {"juicebox", "juicenet", "linked"}
    form = await flow(box_house)
    options = next(iter(form["data_schema"].schema.values())).config["options"]
    assert [option["value"] for option in options] == [FIRST, SECOND]
    form = await box_house.submit_subentry(form, {"box": FIRST})
    assert suggested(form) == {"name": "JuiceBox", "wire_rating": 32, "load_group_limit": None}
    form = await box_house.submit_subentry(form, {"name": "Garage"})
    assert form["errors"] == {"wire_rating": "wire_rating_missing"}
    form = await box_house.submit_subentry(form, {"name": " ", "wire_rating": 24})
    assert form["errors"] == {"name": "name_missing"}
    assert suggested(form)["wire_rating"] == 24
    await box_house.submit_subentry(form, {"name": " Garage ", "wire_rating": 24, "load_group_limit": 20})
    subentry = box_house.subentry()
    assert (subentry.title, subentry.subentry_type) == ("Garage", "juicenet")
    assert dict(subentry.data) == {"serial": FIRST, "wire_rating": 24, "load_group_limit": 20}
    await box_house.pass_time(31)
    sim = box_house.sims[FIRST]
    assert {key: box_house.value(key) for key in ("status", "connection_path", "wire_rating", "load_group_limit")} == {
        "status": "charging",
        "connection_path": "cloud",
        "wire_rating": "24.0",
        "load_group_limit": "20.0",
    }
    assert float(box_house.value("power")) == pytest.approx(sim.watts, rel=0.01)
    assert box_house.state("binary_sensor", "cloud").state == "on"
    absent = {"number": "charging_current", "button": "restart", "binary_sensor": "local"}
    assert [box_house.entity_id(platform, key) for platform, key in absent.items()] == [None] * 3
    entities = er.async_entries_for_config_entry(er.async_get(box_house.hass), entry.entry_id)
    assert {entity.config_subentry_id for entity in entities} == {subentry.subentry_id}


async def test_box_added_only_once_and_only_from_the_account(box_house: BoxHouse, juicenet: JuiceNetCloud) -> None:
    await add(box_house, juicenet)
    late = await box_house.submit_subentry(await flow(box_house), {"box": SECOND})
    form = await box_house.submit_subentry(await flow(box_house), {"box": SECOND})
    await box_house.submit_subentry(form, {"name": "Yard", "wire_rating": 16})
    result = await box_house.submit_subentry(late, {"name": "Yard", "wire_rating": 16})
    assert result["reason"] == "box_known"
    assert (await flow(box_house))["reason"] == "no_unit_left"
    juicenet.accounts.clear()
    assert (await flow(box_house))["reason"] == "juicenet_token"
    await juicenet.set_fault(Fault.REFUSE)
    assert (await flow(box_house))["reason"] == "juicenet_unreachable"


async def test_pause_override_and_settings_of_a_juicenet_box_applied(
    box_house: BoxHouse, juicenet: JuiceNetCloud
) -> None:
    sim = await add(box_house, juicenet)
    await box_house.call("switch", "turn_off", "charging")
    await box_house.pass_time(60)
    assert (box_house.value("status"), sim.amperes) == ("paused", 0)
    await box_house.call("switch", "turn_on", "charging")
    await box_house.pass_time(60)
    assert (box_house.value("status"), box_house.units[0].limit) == ("charging", 24)
    box_house.units[0].schedule = NIGHT
    await box_house.pass_time(60)
    assert box_house.value("status") == "waiting_schedule"
    await box_house.call("switch", "turn_on", "tou_override")
    await box_house.pass_time(90)
    assert box_house.value("status") == "charging"
    assert box_house.state("switch", "tou_override").attributes["applied"] is True
    form = await flow(box_house, FIRST)
    assert suggested(form) == {"name": "Garage", "wire_rating": 24, "load_group_limit": None}
    assert (await box_house.submit_subentry(form, {"name": "", "wire_rating": 20}))["errors"] == {
        "name": "name_missing"
    }
    result = await box_house.submit_subentry(form, {"name": "Carport", "wire_rating": 20})
    assert result["reason"] == "reconfigure_successful"
    await box_house.pass_time(31)
    assert (box_house.value("wire_rating"), box_house.value("status")) == ("20.0", "charging")
    assert box_house.subentry().title == "Carport"
    await box_house.hass.config.async_update(time_zone="Europe/Lisbon")
    await box_house.pass_time(31)
    unit = box_house.shared_state.boxes and box_house.shared_state.boxes.units[FIRST]
    assert unit
    assert unit.transport
    assert unit.transport.config.zone == "Europe/Lisbon"


async def test_outage_and_reload_keep_limits_but_no_live_values(box_house: BoxHouse, juicenet: JuiceNetCloud) -> None:
    await add(box_house, juicenet)
    await juicenet.set_fault(Fault.REFUSE)
    await box_house.pass_time(60)
    assert box_house.state("binary_sensor", "cloud").state == "off"
    await box_house.hass.config_entries.async_reload(box_house.entry.entry_id)
    await box_house.pass_time(20 * 60)
    assert (box_house.value("status"), box_house.value("power")) == (STATE_UNKNOWN, STATE_UNAVAILABLE)
    assert (box_house.value("wire_rating"), box_house.value("connection_path")) == ("24.0", "none")
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("switch", "turn_off", "charging")
    assert refused.value.translation_key == "no_path_since"
    assert box_house.issues() == set(), "an outage never asks for a token"
    await juicenet.set_fault(Fault.NONE)
    await box_house.pass_time(150)
    assert box_house.value("status") == "charging"


async def test_refused_token_raises_a_repair_until_replaced(box_house: BoxHouse, juicenet: JuiceNetCloud) -> None:
    await add(box_house, juicenet)
    juicenet.accounts = {"another-token": None}
    await box_house.pass_time(9 * 60)
    assert box_house.issues() == set()
    await box_house.pass_time(12 * 60)
    assert box_house.issues() == {"juicenet_token_refused"}
    entry, context = box_house.entry, {"source": SOURCE_RECONFIGURE, "entry_id": box_house.entry.entry_id}
    form = await box_house.hass.config_entries.flow.async_init(DOMAIN, context=context)  # type: ignore[arg-type]
    account = {"server_url": juicenet.url, "account_token": "another-token"}
    settings = box_house.listening(upstream={"port": 8042}, juicenet=account)
    assert (await box_house.submit(form, settings))["reason"] == "reconfigure_successful"
    await box_house.pass_time(31)
    assert (box_house.issues(), box_house.value("status")) == (set(), "charging")
    form = await box_house.hass.config_entries.flow.async_init(DOMAIN, context=context)  # type: ignore[arg-type]
    settings = box_house.listening(upstream={"port": 8042}, juicenet={})
    assert (await box_house.submit(form, settings))["reason"] == "reconfigure_successful"
    await box_house.pass_time(60)
    assert (set(entry.supported_subentry_types), box_house.value("wire_rating")) == ({"juicebox", "linked"}, "24.0")
    await box_house.hass.config.async_update(time_zone="Europe/Lisbon")
    found = await async_get_config_entry_diagnostics(box_house.hass, entry)
    assert found["boxes"][0]["juicenet"] is None


async def test_diagnostics_contain_neither_token_nor_box(box_house: BoxHouse, juicenet: JuiceNetCloud) -> None:
    await add(box_house, juicenet)
    entry: Any = box_house.entry
    found = await async_get_config_entry_diagnostics(box_house.hass, entry)
    identifier = (DOMAIN, f"juicebox_{FIRST}")
    device = dr.async_get(box_house.hass).async_get_device_by_identifier(identifier, entry.entry_id)
    assert device is not None
    of_device = await async_get_device_diagnostics(box_house.hass, entry, device)
    silence = of_device["juicenet"].pop("silence")
    assert 0 <= silence <= 31
    assert of_device["juicenet"] == {"unknown_words": 0, "token_refused": False}
    assert found["boxes"][0]["snapshot"]["readings"]["status"]["value"] == "charging"
    text = json.dumps([found, of_device])
    secrets = (TOKEN, juicenet.token(FIRST), FIRST, "Garage", "127.0.0")
    assert not any(secret in text for secret in secrets)


async def test_link_refused_for_a_box_reached_only_over_a_server(box_house: BoxHouse, juicenet: JuiceNetCloud) -> None:
    await add(box_house, juicenet)
    handler, context = (box_house.entry.entry_id, "linked"), {"source": SOURCE_USER}
    result = await box_house.hass.config_entries.subentries.async_init(handler, context=context)  # type: ignore[arg-type]
    assert result["reason"] == "all_linked"
    answer: Any = await box_house.hass.services.async_call(
        DOMAIN, "quarter_hours", {}, blocking=True, return_response=True
    )
    assert answer == {"chargers": []}


async def test_resume_after_a_pause_limited_by_the_load_group(box_house: BoxHouse, juicenet: JuiceNetCloud) -> None:
    sim = await add(box_house, juicenet)
    await box_house.call("switch", "turn_off", "charging")
    await box_house.pass_time(60)
    assert (box_house.units[0].limit, sim.amperes) == (0, 0)
    await box_house.add_group(10, FIRST)
    await box_house.pass_time(600)
    assert box_house.value("load_group_limit") == "10.0"
    await box_house.call("switch", "turn_on", "charging")
    await box_house.pass_time(60)
    assert (box_house.units[0].limit, sim.amperes) == (10, 10), "24 A before the pause"


async def test_removed_box_forgotten_and_no_longer_requested(
    box_house: BoxHouse, juicenet: JuiceNetCloud, hass_storage: dict[str, Any]
) -> None:
    await add(box_house, juicenet)
    hass = box_house.hass
    hass.config_entries.async_remove_subentry(box_house.entry, box_house.subentry().subentry_id)
    await box_house.pass_time(1)
    assert (Maker.JUICEBOX, FIRST) not in box_house.shared_state.chargers
    assert er.async_entries_for_config_entry(er.async_get(hass), box_house.entry.entry_id) == []
    begun = box_house.clock.monotonic()
    await box_house.pass_time(300)
    assert juicenet.count(since=begun) == 0
    form = await box_house.submit_subentry(await flow(box_house), {"box": FIRST})
    await box_house.submit_subentry(form, {"name": "Garage", "wire_rating": 24})
    await box_house.pass_time(31)
    stored = {key for key in hass_storage if key.startswith(f"{DOMAIN}.")}
    assert stored
    await hass.config_entries.async_remove(box_house.entry.entry_id)
    assert stored & hass_storage.keys() == set()
    assert (box_house.shared_state.boxes, box_house.shared_state.chargers) == (None, {})


async def test_pause_ended_at_the_server_when_the_car_leaves(box_house: BoxHouse, juicenet: JuiceNetCloud) -> None:
    sim, unit = await add(box_house, juicenet), box_house.units[0]
    await box_house.call("switch", "turn_off", "charging")
    await box_house.pass_time(62)
    assert (box_house.value("status"), unit.limit) == ("paused", 0)
    sim.unplug()
    await juicenet.set_fault(Fault.REFUSE)
    await box_house.pass_time(300)
    await juicenet.set_fault(Fault.NONE)
    await box_house.pass_time(300)
    assert (box_house.value("status"), unit.limit) == ("available", 24)
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("switch", "turn_off", "charging")
    assert refused.value.translation_key == "no_car"
    sim.plug_in()
    await box_house.pass_time(62)
    assert (box_house.value("status"), sim.amperes) == ("charging", 16)


async def test_i1_load_group_pauses_boxes_then_resumes_them_with_their_shares(
    box_house: BoxHouse, juicenet: JuiceNetCloud
) -> None:
    boxes = await add_both(box_house, juicenet, limit=16)
    assert [each.amperes for each in boxes] == [16, 16]
    await box_house.add_group(20, SECOND, FIRST)
    await box_house.pass_time(62)
    assert [each.amperes for each in boxes] == [0, 0]
    await box_house.pass_time(600)
    assert [each.amperes for each in boxes] == [10, 10]
    assert [box_house.value("status", serial) for serial in (FIRST, SECOND)] == ["charging"] * 2


async def test_i1_second_box_waits_when_the_load_group_has_room_for_one(
    box_house: BoxHouse, juicenet: JuiceNetCloud
) -> None:
    first, second = await add_both(box_house, juicenet, limit=10)
    await box_house.add_group(10, SECOND, FIRST)
    await box_house.pass_time(900)
    assert (first.amperes, second.amperes) == (0, 10)
    second.unplug()
    await box_house.pass_time(900)
    assert (first.amperes, box_house.value("status")) == (10, "charging")


async def test_box_paused_by_a_load_group_resumes_inside_its_window(
    box_house: BoxHouse, juicenet: JuiceNetCloud
) -> None:
    box_house.units[0].schedule = OPEN
    first, second = await add_both(box_house, juicenet, limit=6)
    await box_house.add_group(8, SECOND, FIRST)
    await box_house.pass_time(900)
    assert (box_house.value("status"), box_house.units[0].limit) == ("paused", 0)
    second.unplug()
    await box_house.pass_time(900)
    assert (box_house.value("status"), first.amperes) == ("charging", 6)


async def test_box_resumes_when_the_car_returns_and_a_share_is_free(
    box_house: BoxHouse, juicenet: JuiceNetCloud
) -> None:
    first, second = await add_both(box_house, juicenet, limit=6)
    await box_house.call("switch", "turn_off", "charging")
    await box_house.pass_time(62)
    await box_house.add_group(8, SECOND, FIRST)
    await box_house.pass_time(600)
    first.unplug()
    await box_house.pass_time(600)
    assert (box_house.value("status"), box_house.units[0].limit) == ("available", 0)
    second.unplug()
    await box_house.pass_time(600)
    assert box_house.units[0].limit == 0, "of those without a car the other one comes first"
    first.plug_in()
    await box_house.clock.advance_until(lambda: first.amperes == 6, within=1800)
    await box_house.pass_time(62)
    assert box_house.value("status") == "charging"


async def overridden(house: BoxHouse, juicenet: JuiceNetCloud) -> int:
    """Start an override of a box of the account and return the time that the server stores for it."""
    await add(house, juicenet)
    unit = house.units[0]
    unit.schedule = NIGHT
    await house.pass_time(60)
    with pytest.raises(HomeAssistantError) as refused:
        await house.call("switch", "turn_on", "tou_override")
    assert refused.value.translation_key == "cannot_lower", "the server would let it draw 32 A"
    unit.wire_rating = 24
    await house.pass_time(60)
    await house.call("switch", "turn_on", "tou_override")
    await house.pass_time(60)
    assert unit.override_time
    return unit.override_time


async def remove(house: BoxHouse, how: str) -> None:
    """Remove the box, the account or the entry that an override depends on."""
    hass, entry = house.hass, house.entry
    if how == "box":
        hass.config_entries.async_remove_subentry(entry, house.subentry().subentry_id)
    elif how == "account":
        hass.config_entries.async_update_entry(entry, data={**entry.data, "juicenet": {}})
    else:
        task = hass.async_create_task(hass.config_entries.async_remove(entry.entry_id))
        await house.clock.advance_until(task.done, within=60)
    await house.clock.advance(60)
    await hass.async_block_till_done()


@pytest.mark.parametrize("how", ["box", "account", "entry"])
@pytest.mark.parametrize("fault", [Fault.NONE, Fault.HANG])
async def test_override_ended_at_removal_or_named_in_a_notice(
    box_house: BoxHouse, juicenet: JuiceNetCloud, fault: Fault, how: str
) -> None:
    begun = await overridden(box_house, juicenet)
    await juicenet.set_fault(fault)
    await remove(box_house, how)
    assert box_house.units[0].override_time == (begun if fault is Fault.HANG else 0)
    assert ["could not be ended" in notice for notice in box_house.notices] == [True] * (fault is Fault.HANG)
    assert ((Maker.JUICEBOX, FIRST) in box_house.shared_state.chargers) is (how == "account")


async def test_override_of_a_disabled_entry_named_in_a_notice_at_removal(
    box_house: BoxHouse, juicenet: JuiceNetCloud
) -> None:
    begun = await overridden(box_house, juicenet)
    await box_house.hass.config_entries.async_set_disabled_by(box_house.entry.entry_id, ConfigEntryDisabler.USER)
    await remove(box_house, "entry")
    assert (box_house.units[0].override_time, len(box_house.notices)) == (begun, 1)


@pytest.mark.parametrize("gone", ["disabled", "removed"])
async def test_entry_unloads_while_the_end_of_an_override_waits_for_the_server(
    box_house: BoxHouse, juicenet: JuiceNetCloud, gone: str
) -> None:
    """The entry cannot be set up again, but a notice names the override that continues."""
    await overridden(box_house, juicenet)
    await juicenet.set_fault(Fault.HANG)
    entries, entry = box_house.hass.config_entries, box_house.entry
    entries.async_remove_subentry(entry, box_house.subentry().subentry_id)
    await box_house.clock.advance(2)
    if gone == "disabled":
        await entries.async_set_disabled_by(entry.entry_id, ConfigEntryDisabler.USER)
    else:
        await entries.async_remove(entry.entry_id)
    await box_house.clock.advance(60)
    await box_house.hass.async_block_till_done()
    assert (entry.state, box_house.shared_state.boxes) == (ConfigEntryState.NOT_LOADED, None)
    assert ["could not be ended" in notice for notice in box_house.notices] == [True]


async def add_second(house: BoxHouse) -> None:
    """Add the second box of the account."""
    form = await house.submit_subentry(await flow(house), {"box": SECOND})
    await house.submit_subentry(form, {"name": "Yard", "wire_rating": 16})


async def begin_to_report(house: BoxHouse) -> None:
    """Redirect the reports of the first box to Home Assistant and add the box from the offer."""
    house.sims.pop(FIRST).stop()
    house.power_up()
    await house.pass_time(61)
    [offer] = house.offers()
    assert (await house.submit(offer, DETAILS))["reason"] == "added_to_entry"
    await house.pass_time(61)
    assert types(house) == {FIRST: "juicebox", SECOND: "juicenet"}


@pytest.mark.parametrize("reports", [False, True])
async def test_load_group_pause_named_in_a_notice_only_when_the_box_is_removed(
    box_house: BoxHouse, juicenet: JuiceNetCloud, reports: bool
) -> None:
    await add(box_house, juicenet)
    await add_second(box_house)
    await box_house.add_group(10, SECOND, FIRST)
    await box_house.pass_time(600)
    assert box_house.value("status") == "paused"
    await (begin_to_report(box_house) if reports else remove(box_house, "box"))
    assert ["paused by its load group" in notice for notice in box_house.notices] == [True] * (not reports)


@pytest.mark.parametrize("how", ["box", "account", "entry"])
async def test_pause_left_at_the_server_named_in_a_notice_at_removal(
    box_house: BoxHouse, juicenet: JuiceNetCloud, how: str
) -> None:
    """Nothing of ours ends the pause when the car leaves."""
    await add(box_house, juicenet)
    await box_house.call("switch", "turn_off", "charging")
    await box_house.pass_time(62)
    await remove(box_house, how)
    assert box_house.units[0].limit == 0
    assert ["paused on its JuiceNet server" in notice for notice in box_house.notices] == [True]


async def test_ended_pause_leaves_no_notice_at_removal(box_house: BoxHouse, juicenet: JuiceNetCloud) -> None:
    await add(box_house, juicenet)
    await box_house.call("switch", "turn_off", "charging")
    await box_house.pass_time(62)
    await box_house.call("switch", "turn_on", "charging")
    await box_house.pass_time(62)
    await remove(box_house, "box")
    assert (box_house.units[0].limit, box_house.notices) == (24, [])


async def test_token_repair_cleared_when_no_box_uses_the_token(box_house: BoxHouse, juicenet: JuiceNetCloud) -> None:
    await add(box_house, juicenet)
    juicenet.accounts = {"another-token": None}
    await box_house.pass_time(21 * 60)
    assert box_house.issues() == {"juicenet_token_refused"}
    box_house.hass.config_entries.async_remove_subentry(box_house.entry, box_house.subentry().subentry_id)
    await box_house.pass_time(1)
    assert box_house.issues() == set()


@pytest.mark.parametrize("lost", [False, True])
async def test_i2_limits_entered_by_the_user_survive_a_restart_without_a_server(
    tmp_path: Path, virtual_clock: VirtualClock, socket_enabled: None, lost: bool
) -> None:
    """I2: also when the stores are lost."""
    machine = Machine(tmp_path)
    house = BoxHouse(await machine.boot(RunClock(virtual_clock, ahead=0.0)), virtual_clock)
    juicenet = JuiceNetCloud(house.maker)
    juicenet.add_account(TOKEN)
    await juicenet.start()
    await begin(house, server_url=juicenet.url, account_token=TOKEN)
    form = await house.submit_subentry(await flow(house), {"box": FIRST})
    await house.submit_subentry(form, {"name": "Garage", "wire_rating": 24, "load_group_limit": 20})
    await house.pass_time(31)
    entry = house.entry
    house.hass.config_entries.async_update_entry(entry, data={**entry.data, "juicenet": {}})
    await house.pass_time(60)
    await machine.shut_down()
    if lost:
        for stored in (machine.disk / ".storage").glob(f"{DOMAIN}.*"):
            stored.unlink()
    house.hass = await machine.boot(RunClock(virtual_clock, ahead=10_000.0))
    await house.pass_time(1)
    assert (house.value("wire_rating"), house.value("load_group_limit")) == ("24.0", "20.0")
    await machine.shut_down()
    house.sims[FIRST].stop()
    await juicenet.stop()
    await house.maker.stop()


async def test_juicenet_polling_stops_when_the_box_itself_reports(box_house: BoxHouse, juicenet: JuiceNetCloud) -> None:
    """Added from an offer or by the user, the reporting box replaces the box of the account."""
    await add(box_house, juicenet)
    await add_second(box_house)
    entity_id = box_house.entity_id("sensor", "status")
    await begin_to_report(box_house)
    assert (box_house.entity_id("sensor", "status"), box_house.value("status")) == (entity_id, "charging")
    since = box_house.clock.monotonic() - 60
    assert not [each for each in juicenet.requests if juicenet.token(FIRST) in each.body and each.at > since]
    box_house.hass.config_entries.async_remove_subentry(box_house.entry, box_house.subentry().subentry_id)
    await box_house.pass_time(1)
    form = await box_house.submit_subentry(await flow(box_house), {"box": FIRST})
    await box_house.submit_subentry(form, {"name": "Garage", "wire_rating": 24})
    await box_house.pass_time(61)
    form = await box_house.submit_subentry(await box_house.begin_subentry(), {"box": FIRST})
    await box_house.submit_subentry(form, DETAILS)
    await box_house.pass_time(61)
    assert types(box_house) == {FIRST: "juicebox", SECOND: "juicenet"}
    assert box_house.value("status") == "charging"
