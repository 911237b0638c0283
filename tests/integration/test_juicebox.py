"""JuiceBoxes in Home Assistant: values, commands, loss of their server, reloads and restarts."""

import asyncio
import json
from pathlib import Path
import socket
from typing import Any, cast

from homeassistant.config_entries import ConfigEntryDisabler, ConfigEntryState
from homeassistant.const import STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import device_registry as dr, entity_registry as er, issue_registry as ir
from homeassistant.helpers.translation import async_get_translations
import pytest

from custom_components.chargekeeper import async_remove_config_entry_device, async_unload_entry
from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.core.errors import NoConnection, UnsafeRequest
from custom_components.chargekeeper.core.model import Maker
from custom_components.chargekeeper.diagnostics import (
    async_get_config_entry_diagnostics,
    async_get_device_diagnostics,
)
from custom_components.chargekeeper.ha.storage import file_name
from custom_components.chargekeeper.juicebox.box import Mode
from custom_components.chargekeeper.system_health import _info
from tests.integration.machine import Machine
from tests.juicebox.rig import Sender, line
from tests.simulation.clocks import RunClock
from tests.simulators.clock import VirtualClock
from tests.simulators.juicebox import Car, JuiceBox
from tests.simulators.juicebox_server import BoxIssue as ServerTrouble, Day, Schedule
from tests.simulators.juicebox_wire import Wire

from .boxes import ADDRESS, DETAILS, FIRST, NIGHT, SECOND, BoxHouse

BOXES_FILE = f"{DOMAIN}.boxes.{file_name('juicebox', ())}"


async def with_server(box_house: BoxHouse, **details: Any) -> JuiceBox:
    """Return a box that its maker's server commands."""
    await box_house.maker.start()
    await box_house.add(**details)
    await box_house.pass_time(31)
    return box_house.sims[FIRST]


async def without_server(box_house: BoxHouse, **details: Any) -> JuiceBox:
    """Return a box that only we command, because its offline current is known."""
    await box_house.add(**details)
    await box_house.pass_time(400)
    return box_house.sims[FIRST]


async def waiting(box_house: BoxHouse) -> JuiceBox:
    """Return a box that only we command, with a car, outside its window."""
    sim = await without_server(box_house, **NIGHT)
    await box_house.pass_time(400)
    assert (box_house.value("status"), sim.amperes) == ("waiting_schedule", 0)
    return sim


async def test_box_values_shown_by_entities_of_its_subentry(box_house: BoxHouse) -> None:
    sim = await with_server(box_house)
    box_house.units[0].limit = 12
    await box_house.pass_time(60)
    shown = {key: box_house.value(key) for key in ("status", "connection_path", "wire_rating", "offline_current")}
    assert shown == {"status": "charging", "connection_path": "cloud", "wire_rating": "32.0", "offline_current": "16.0"}
    assert float(box_house.value("current")) == 12.0
    assert float(box_house.value("power")) == pytest.approx(sim.watts, rel=0.01)
    assert float(box_house.value("lifetime_energy")) == pytest.approx(sim.lifetime_wh / 1000, abs=0.05)
    assert box_house.state("binary_sensor", "cloud").state == "on"
    assert box_house.state("binary_sensor", "local").state == "on"
    assert box_house.state("binary_sensor", "car_connected").state == "on"
    registry = er.async_get(box_house.hass)
    entities = er.async_entries_for_config_entry(registry, box_house.entry.entry_id)
    assert {entity.config_subentry_id for entity in entities} == {box_house.subentry().subentry_id}
    off = {entity.translation_key for entity in entities if entity.disabled_by is not None}
    assert {"grid_frequency", "power_factor", "voltage"} <= off
    assert sum(entity.disabled_by is None for entity in entities) <= 25
    assert box_house.entity_id("button", "restart") is None, "no box can be restarted over the network"
    device = dr.async_get(box_house.hass).async_get_device_by_identifier(
        (DOMAIN, f"juicebox_{FIRST}"), box_house.entry.entry_id
    )
    assert device is not None
    assert (device.name, device.manufacturer, device.serial_number) == ("Garage", "JuiceBox", FIRST)
    assert device.config_subentry_id == box_house.subentry().subentry_id


async def test_grid_frequency_and_power_factor_shown_once_enabled(box_house: BoxHouse) -> None:
    await with_server(box_house)
    registry = er.async_get(box_house.hass)
    for key in ("grid_frequency", "power_factor"):
        registry.async_update_entity(box_house.entity_id("sensor", key) or "", disabled_by=None)
    await box_house.hass.config_entries.async_reload(box_house.entry.entry_id)
    await box_house.pass_time(31)
    assert (box_house.value("grid_frequency"), box_house.value("power_factor")) == ("59.99", "0.996")


async def test_box_taken_over_when_the_server_dies_and_handed_back_after(box_house: BoxHouse) -> None:
    sim = await with_server(box_house)
    assert box_house.box().mode is Mode.RELAY
    sim.fallbacks = 0
    await box_house.maker.set_trouble(ServerTrouble.DEAD)
    await box_house.pass_time(120)
    assert (box_house.box().mode, box_house.state("binary_sensor", "cloud").state) == (Mode.KEEP, "off")
    assert box_house.value("connection_path") == "udp"
    assert box_house.state("event", "connection").attributes["event_type"] == "taken_over"
    await box_house.pass_time(3600)
    assert (box_house.value("status"), sim.fallbacks, sim.writes) == ("charging", 0, 0)
    assert box_house.value("offline_current") == "16.0"
    await box_house.maker.set_trouble(ServerTrouble.NONE)
    await box_house.pass_time(180)
    assert (box_house.box().mode, box_house.state("binary_sensor", "cloud").state) == (Mode.RELAY, "on")


async def test_override_and_current_carried_out_without_a_server(box_house: BoxHouse) -> None:
    sim = await waiting(box_house)
    assert box_house.value("next_window") != STATE_UNKNOWN
    await box_house.call("switch", "turn_on", "tou_override")
    await box_house.pass_time(60)
    assert (box_house.value("status"), sim.amperes) == ("charging", 16)
    assert box_house.state("switch", "tou_override").attributes["applied"] is True
    await box_house.call("number", "set_value", "charging_current", value=10)
    await box_house.pass_time(31)
    assert sim.amperes == 10
    with pytest.raises(HomeAssistantError):
        await box_house.call("number", "set_value", "charging_current", value=40)
    await box_house.call("switch", "turn_off", "tou_override")
    await box_house.pass_time(400)
    assert (box_house.value("status"), sim.amperes) == ("waiting_schedule", 0)


async def test_override_kept_while_the_box_changes_between_relay_and_keep(box_house: BoxHouse) -> None:
    sim = await with_server(box_house, **NIGHT)
    await box_house.pass_time(61)
    assert (box_house.box().mode, sim.amperes) == (Mode.RELAY, 16)
    await box_house.call("switch", "turn_on", "tou_override")
    await box_house.pass_time(31)
    assert box_house.state("switch", "tou_override").attributes["applied"] is True
    for trouble, mode in ((ServerTrouble.HANG, Mode.KEEP), (ServerTrouble.NONE, Mode.RELAY)) * 2:
        await box_house.maker.set_trouble(trouble)
        await box_house.pass_time(900)
        assert (box_house.box().mode, sim.amperes) == (mode, 16)
        assert box_house.state("switch", "tou_override").state == "on"
    await box_house.maker.set_trouble(ServerTrouble.HANG)
    await box_house.call("switch", "turn_off", "tou_override")
    await box_house.pass_time(900)
    assert (box_house.value("status"), sim.amperes) == ("waiting_schedule", 0)


async def test_failed_override_does_not_start_later(box_house: BoxHouse) -> None:
    sim = await waiting(box_house)
    sim.obeys = False
    await box_house.call("switch", "turn_on", "tou_override")
    await box_house.pass_time(120)
    assert box_house.state("switch", "tou_override").state == "off"
    sim.obeys = True
    await box_house.pass_time(400)
    assert (box_house.value("status"), sim.amperes) == ("waiting_schedule", 0)


async def test_current_refused_while_the_box_is_learning(box_house: BoxHouse) -> None:
    await box_house.add()
    await box_house.pass_time(31)
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("number", "set_value", "charging_current", value=10)
    assert refused.value.translation_key == "learning"


async def test_override_set_while_learning_applies_from_the_first_command(
    box_house: BoxHouse,
) -> None:
    await box_house.add(**NIGHT)
    sim = box_house.sims[FIRST]
    assert (box_house.box().mode, list(sim.commands)) == (Mode.LEARNING, [])
    await box_house.call("switch", "turn_on", "tou_override")
    await box_house.pass_time(900)
    assert box_house.state("switch", "tou_override").attributes["applied"] is True
    assert (box_house.value("status"), {taken.command.online for taken in sim.commands}) == ("charging", {16})
    await box_house.call("switch", "turn_off", "tou_override")
    await box_house.pass_time(400)
    assert (box_house.value("status"), sim.amperes) == ("waiting_schedule", 0)


@pytest.mark.parametrize("answer", ["yes", "unknown"])
async def test_override_refused_for_a_box_in_a_load_group_of_its_maker(box_house: BoxHouse, answer: str) -> None:
    night = Day(start=22 * 60, end=6 * 60)
    box_house.units[0].schedule = Schedule(custom=True, weekday=night, weekend=night)
    await with_server(box_house, in_maker_load_group=answer)
    assert box_house.value("status") == "waiting_schedule"
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("switch", "turn_on", "tou_override")
    assert refused.value.translation_key == "load_group"
    texts = await async_get_translations(box_house.hass, "en", "config_subentries", {DOMAIN})
    field = "in_maker_load_group"
    assert texts[f"component.{DOMAIN}.config_subentries.juicebox.step.settings.data.{field}"] in str(refused.value)


async def test_box_answered_without_gaps_across_reloads(box_house: BoxHouse) -> None:
    sim = await without_server(box_house)
    sim.unanswered = 0
    statuses = sim.statuses
    for _ in range(4):
        await box_house.hass.config_entries.async_reload(box_house.entry.entry_id)
        assert box_house.value("status") == "charging"
        await box_house.pass_time(7)
    assert sim.statuses > statuses
    assert (sim.unanswered, sim.slowest_answer < 1) == (0, True)


async def test_boxes_served_for_a_minute_after_unload(box_house: BoxHouse) -> None:
    sim = await without_server(box_house)
    await box_house.hass.config_entries.async_unload(box_house.entry.entry_id)
    sim.unanswered = 0
    await box_house.pass_time(50)
    assert sim.unanswered == 0
    await box_house.pass_time(60)
    assert sim.unanswered > 0
    assert box_house.shared_state.boxes is None
    await box_house.hass.config_entries.async_setup(box_house.entry.entry_id)
    await box_house.pass_time(31)
    assert (box_house.box().mode, box_house.value("status")) == (Mode.KEEP, "charging")


async def test_boxes_served_on_when_unload_fails(box_house: BoxHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    sim = await without_server(box_house)

    async def no(*_args: object) -> bool:
        return False

    with monkeypatch.context() as patch:
        patch.setattr(box_house.hass.config_entries, "async_unload_platforms", no)
        assert not await async_unload_entry(box_house.hass, cast("Any", box_house.entry))
    sim.unanswered = 0
    await box_house.pass_time(120)
    assert (sim.unanswered, box_house.value("status")) == (0, "charging")


async def test_new_title_causes_no_reload(box_house: BoxHouse) -> None:
    await box_house.add()
    runtime = box_house.entry.runtime_data
    box_house.hass.config_entries.async_update_entry(box_house.entry, title="Boxes")
    await box_house.pass_time(1)
    assert box_house.entry.runtime_data is runtime


async def test_change_during_a_save_is_saved_after(box_house: BoxHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    await without_server(box_house)
    boxes, disk, saved = box_house.shared_state.boxes, asyncio.Event(), list[int]()
    assert boxes is not None

    async def slow(exported: dict[str, Any]) -> None:
        saved.append(exported[FIRST]["charging_current"])
        await disk.wait()

    monkeypatch.setattr(boxes.stores, "save_boxes", slow)
    for amps in (9, 10, 11):
        box_house.box().set_current(amps)
    assert saved == [9]
    disk.set()
    await box_house.hass.async_block_till_done()
    assert saved == [9, 11]


async def test_box_counters_saved_every_15_minutes(box_house: BoxHouse, hass_storage: dict[str, Any]) -> None:
    await without_server(box_house)
    before = hass_storage[BOXES_FILE]["data"][FIRST]["index"]
    await box_house.pass_time(15 * 60)
    assert hass_storage[BOXES_FILE]["data"][FIRST]["index"] != before


async def test_disabled_entry_frees_its_ports(box_house: BoxHouse) -> None:
    await box_house.add()
    await box_house.hass.config_entries.async_set_disabled_by(box_house.entry.entry_id, ConfigEntryDisabler.USER)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((ADDRESS, box_house.ports[0]))
    await box_house.hass.config_entries.async_remove(box_house.entry.entry_id)
    assert box_house.shared_state.boxes is None


async def test_repairs_removed_when_the_entry_is_disabled(box_house: BoxHouse) -> None:
    sim = await with_server(box_house)
    sim.encrypts = True
    await box_house.pass_time(31)
    assert box_house.issues() == {"encrypted"}
    await box_house.hass.config_entries.async_set_disabled_by(box_house.entry.entry_id, ConfigEntryDisabler.USER)
    assert box_house.issues() == set()


async def test_removed_box_forgotten_and_offered_again(box_house: BoxHouse) -> None:
    await without_server(box_house)
    subentry = box_house.subentry()
    box_house.hass.config_entries.async_remove_subentry(box_house.entry, subentry.subentry_id)
    await box_house.pass_time(1)
    assert (Maker.JUICEBOX, FIRST) not in box_house.shared_state.chargers
    assert er.async_entries_for_config_entry(er.async_get(box_house.hass), box_house.entry.entry_id) == []
    await box_house.pass_time(61)
    assert len(box_house.offers()) == 1


async def test_box_removed_from_a_disabled_entry_is_forgotten(box_house: BoxHouse) -> None:
    """Otherwise the box would return with an old override and an old offline current."""
    sim = await without_server(box_house)
    await box_house.call("switch", "turn_on", "tou_override")
    await box_house.call("number", "set_value", "charging_current", value=10)
    await box_house.pass_time(31)
    hass, entry = box_house.hass, box_house.entry
    await hass.config_entries.async_set_disabled_by(entry.entry_id, ConfigEntryDisabler.USER)
    hass.config_entries.async_remove_subentry(entry, box_house.subentry().subentry_id)
    await hass.config_entries.async_set_disabled_by(entry.entry_id, None)
    sim.stored = 20
    await box_house.pass_time(62)
    [offer] = box_house.offers()
    await box_house.submit(offer, DETAILS)
    await box_house.pass_time(31)
    assert (box_house.box().mode, box_house.state("switch", "tou_override").state) == (Mode.LEARNING, "off")
    await box_house.pass_time(400)
    assert (box_house.value("offline_current"), sim.amperes, sim.writes) == ("20.0", 20, 0)


async def test_removed_entry_deletes_its_files_and_frees_its_ports(
    box_house: BoxHouse, hass_storage: dict[str, Any]
) -> None:
    await without_server(box_house)
    assert BOXES_FILE in hass_storage
    await box_house.hass.config_entries.async_remove(box_house.entry.entry_id)
    assert [key for key in hass_storage if key.startswith(f"{DOMAIN}.")] == []
    assert (box_house.shared_state.boxes, box_house.shared_state.chargers, box_house.issues()) == (None, {}, set())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((ADDRESS, box_house.ports[0]))


async def test_box_device_cannot_be_deleted_while_its_subentry_exists(box_house: BoxHouse) -> None:
    await box_house.add()
    device = dr.async_get(box_house.hass).async_get_device_by_identifier(
        (DOMAIN, f"juicebox_{FIRST}"), box_house.entry.entry_id
    )
    assert device is not None
    assert not await async_remove_config_entry_device(box_house.hass, box_house.entry, device)


async def test_busy_port_raises_a_repair_and_is_retried(box_house: BoxHouse) -> None:
    await box_house.add()
    entry_id = box_house.entry.entry_id
    await box_house.hass.config_entries.async_unload(entry_id)
    await box_house.pass_time(61)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((ADDRESS, box_house.ports[1]))
        await box_house.hass.config_entries.async_setup(entry_id)
        assert box_house.value("wire_rating") == "32.0"
        assert box_house.issues() == {"port_busy"}
        await box_house.pass_time(31)
        assert box_house.issues() == {"port_busy"}
    await box_house.pass_time(31)
    assert box_house.issues() == set()
    await box_house.pass_time(31)
    assert box_house.value("status") == "charging"


async def test_missing_bind_address_raises_a_repair(box_house: BoxHouse) -> None:
    await box_house.add()
    entry = box_house.entry
    box_house.hass.config_entries.async_update_entry(entry, data={**entry.data, "bind_address": "192.0.2.1"})
    await box_house.pass_time(1)
    assert box_house.issues() == {"address_gone"}


async def test_bind_address_lost_later_raises_a_repair_until_restored(
    box_house: BoxHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    await box_house.add()

    def gone() -> None:
        raise NoConnection("bad_address", ADDRESS)

    assert box_house.shared_state.boxes is not None
    with monkeypatch.context() as patch:
        patch.setattr(box_house.shared_state.boxes.server.listener, "require_address", gone)
        await box_house.pass_time(301)
        assert box_house.issues() == {"address_gone"}
    await box_house.pass_time(31)
    assert box_house.issues() == set()


async def test_box_issues_raise_repairs_that_clear_themselves(box_house: BoxHouse) -> None:
    sim = await with_server(box_house)
    box_house.maker.unsafe = 48
    await box_house.maker.set_trouble(ServerTrouble.UNSAFE_CURRENT)
    await box_house.pass_time(31)
    assert box_house.issues() == {"unsafe_server"}
    [issue] = [each for each in ir.async_get(box_house.hass).issues.values() if each.domain == DOMAIN]
    shown = issue.translation_placeholders or {}
    assert (shown["charger"], shown["asked"], shown["limit"]) == ("Garage", "48", "32"), "both are named"
    assert sim.commands[-1].command.online == 32
    await box_house.maker.set_trouble(ServerTrouble.UNSAFE_STORED)
    box_house.units[0].limit = 0
    await box_house.pass_time(31)
    assert box_house.issues() == {"unsafe_stored"}
    [issue] = [each for each in ir.async_get(box_house.hass).issues.values() if each.domain == DOMAIN]
    shown = issue.translation_placeholders or {}
    assert (shown["asked_offline"], shown["offline"], shown["wire"]) == ("48", "16", "32"), "not the current of 0 A"
    assert (sim.commands[-1].command.online, sim.stored) == (0, 16)
    box_house.units[0].limit = None
    await box_house.maker.set_trouble(ServerTrouble.NONE)
    await box_house.pass_time(31)
    assert box_house.issues() == set()
    sim.encrypts = True
    await box_house.pass_time(31)
    assert box_house.issues() == {"encrypted"}


async def test_silent_box_shows_no_live_values(box_house: BoxHouse) -> None:
    sim = await without_server(box_house)
    sim.wifi = False
    await box_house.pass_time(130)
    assert (box_house.value("status"), box_house.value("power")) == ("offline", STATE_UNAVAILABLE)
    assert (box_house.value("wire_rating"), box_house.value("offline_current")) == ("32.0", "16.0")
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("number", "set_value", "charging_current", value=10)
    assert refused.value.translation_key == "charger_offline"


async def test_diagnostics_contain_no_box_serial_name_or_address(box_house: BoxHouse) -> None:
    await with_server(box_house)
    stranger = Sender("127.0.0.66")
    for data in (line(serial="9" * 28), b"nonsense"):
        stranger.send(data, box_house.ports[0])
    await box_house.pass_time(1)
    assert stranger.received() == []
    stranger.close()
    entry: Any = box_house.entry
    found = await async_get_config_entry_diagnostics(box_house.hass, entry)
    [box] = found["boxes"]
    assert (box["mode"], box["version"], box["stored_limit"]) == ("relay", "09u", 16)
    status = box_house.box().status
    assert status is not None
    assert (box["moved"], box["session_energy_of_box"]) == (False, status.fields["E"])
    assert found["dropped"] == {"unknown_box": 1, "not_a_box": 1}
    assert box_house.shared_state.boxes is not None
    box_house.shared_state.boxes.server.listener.add(FIRST, "127.0.0.9")
    [away] = (await async_get_config_entry_diagnostics(box_house.hass, entry))["boxes"]
    assert away["moved"] is True
    assert found["ports"] == list(box_house.ports)
    device = dr.async_get(box_house.hass).async_get_device_by_identifier((DOMAIN, f"juicebox_{FIRST}"), entry.entry_id)
    assert device is not None
    of_device = await async_get_device_diagnostics(box_house.hass, entry, device)
    assert of_device["letters"] == box["letters"]
    text = json.dumps([found, of_device])
    assert not any(secret in text for secret in (FIRST, "9" * 28, "127.0.0", "Garage"))
    assert (await _info(box_house.hass))["chargers"] == 1


async def test_box_schedule_uses_the_time_zone_of_home_assistant(box_house: BoxHouse) -> None:
    await without_server(box_house, weekend_start="22:00:00", weekend_end="06:00:00")
    await box_house.hass.config.async_update(time_zone="Europe/Lisbon")
    await box_house.pass_time(1)
    config = box_house.box().config
    assert config.zone == "Europe/Lisbon"
    assert {window.zone for window in config.schedule} == {"Europe/Lisbon"}
    await box_house.pass_time(60)
    assert box_house.value("status") == "charging", "days without a window are free"


async def test_load_group_share_limits_a_box_through_reloads(box_house: BoxHouse) -> None:
    sim = await without_server(box_house)
    group = await box_house.add_group(10, FIRST)
    await box_house.pass_time(62)
    assert (box_house.value("load_group_limit"), sim.amperes) == ("10.0", 10)
    drawn = {sim.amperes}
    for _ in range(3):
        await box_house.hass.config_entries.async_reload(box_house.entry.entry_id)
        await box_house.pass_time(11)
        drawn.add(sim.amperes)
    assert drawn == {10}
    await box_house.hass.config_entries.async_remove(group.entry_id)
    await box_house.pass_time(1)
    assert box_house.box().share is None


async def test_device_shows_the_firmware_after_the_first_box_start(box_house: BoxHouse) -> None:
    sim = await without_server(box_house)
    devices, entry_id = dr.async_get(box_house.hass), box_house.entry.entry_id

    def shown() -> tuple[str | None, str | None]:
        device = devices.async_get_device_by_identifier((DOMAIN, f"juicebox_{FIRST}"), entry_id)
        assert device is not None
        return device.sw_version, device.model

    assert shown() == (None, None)
    sim.switch_off()
    await box_house.pass_time(20)
    sim.switch_on()
    await box_house.pass_time(31)
    assert shown() == ("EMWERK-JB201-1.0.46", "JuiceBox JB201")
    await box_house.hass.config_entries.async_reload(entry_id)
    assert shown() == ("EMWERK-JB201-1.0.46", "JuiceBox JB201")


async def test_offline_currents_above_the_load_group_limit_raise_a_repair(box_house: BoxHouse) -> None:
    await without_server(box_house)
    group = await box_house.add_group(12, FIRST)
    await box_house.pass_time(31)
    assert box_house.issues() == {"stored_above_group"}
    issue = ir.async_get(box_house.hass).async_get_issue(DOMAIN, f"stored_above_group_{group.entry_id}")
    assert issue is not None
    assert issue.translation_placeholders == {
        "group": "Circuit",
        "limit": "12",
        "excess": "4",
        "stored": "Garage 16 A",
    }
    for entry in (box_house.entry, group):
        await box_house.hass.config_entries.async_reload(entry.entry_id)
        await box_house.pass_time(1)
        assert box_house.issues() == {"stored_above_group"}, "it is known as last seen"
    box_house.box().change_offline(12)
    await box_house.pass_time(11)
    assert box_house.sims[FIRST].stored == 12
    assert box_house.issues() == {"stored_above_group"}, "the box may not have heard of it"
    await box_house.pass_time(30)
    assert box_house.issues() == set()


async def test_disabled_or_removed_load_group_raises_no_repair(box_house: BoxHouse) -> None:
    await without_server(box_house)
    group = await box_house.add_group(12, FIRST)
    await box_house.pass_time(31)
    entries = box_house.hass.config_entries
    await entries.async_set_disabled_by(group.entry_id, ConfigEntryDisabler.USER)
    assert box_house.issues() == set()
    await entries.async_set_disabled_by(group.entry_id, None)
    await box_house.pass_time(1)
    assert box_house.issues() == {"stored_above_group"}
    await entries.async_remove(group.entry_id)
    assert box_house.issues() == set()


async def test_offline_current_above_the_wire_rating_or_of_zero_raises_a_repair(box_house: BoxHouse) -> None:
    await without_server(box_house, wire_rating=12)
    assert box_house.issues() == {"offline_above_wire"}
    box_house.box().change_offline(12)
    await box_house.pass_time(11)
    assert box_house.issues() == {"offline_above_wire"}, "the box may not have heard of it"
    await box_house.pass_time(30)
    assert box_house.issues() == set()
    sim = box_house.power_up(SECOND, stored=0)
    await box_house.pass_time(61)
    [offer] = box_house.offers()
    form = await box_house.submit(offer)
    await box_house.submit(form, {"name": "Yard", "wire_rating": 24, "in_maker_load_group": "no"})
    await box_house.pass_time(430)
    assert (box_house.issues(), sim.amperes) == ({"stored_zero"}, 0)
    box_house.box(SECOND).confirm_offline(16)
    await box_house.pass_time(61)
    assert (box_house.issues(), sim.stored, sim.amperes) == (set(), 16, 16)


async def read_only(box_house: BoxHouse, *, on: bool = True) -> None:
    """Set the read-only option through the flow."""
    options = box_house.hass.config_entries.options
    form: Any = await options.async_init(box_house.entry.entry_id)
    assert form["step_id"] == "boxes"
    entered = {"read_only": on, "restart_while_charging": False}
    result = await options.async_configure(form["flow_id"], entered)
    assert result["type"] == "create_entry"
    await box_house.clock.advance(80)  # the end of an override waits for a status report
    await box_house.hass.async_block_till_done()


async def test_read_only_box_ends_its_override_and_accepts_no_commands(box_house: BoxHouse) -> None:
    sim = await waiting(box_house)
    await box_house.call("switch", "turn_on", "tou_override")
    await box_house.pass_time(60)
    assert sim.amperes == 16
    await read_only(box_house)
    assert (box_house.value("status"), sim.amperes) == ("waiting_schedule", 0), "its override was ended first"
    for platform, key in (("switch", "tou_override"), ("switch", "charging"), ("number", "charging_current")):
        assert box_house.entity_id(platform, key) is None
    await box_house.pass_time(3 * 3600)
    assert (sim.amperes, sim.fallbacks) == (0, 0)
    assert {taken.command.online for taken in list(sim.commands)[-100:]} == {0}
    menu = await box_house.begin_subentry(FIRST)
    form = await box_house.submit_subentry(menu, {"next_step_id": "offline_current"})
    form = await box_house.submit_subentry(form, {"amps": 20, "accept": True})
    assert form["errors"] == {"base": "read_only"}
    await read_only(box_house, on=False)
    await box_house.call("switch", "turn_on", "tou_override")
    await box_house.pass_time(60)
    assert sim.amperes == 16


async def test_read_only_box_commanded_by_its_server(box_house: BoxHouse) -> None:
    sim = await with_server(box_house)
    await box_house.call("number", "set_value", "charging_current", value=10)
    await box_house.pass_time(60)
    assert sim.amperes == 10
    await read_only(box_house)
    assert (sim.amperes, box_house.box().mode) == (16, Mode.RELAY)


async def test_read_only_set_although_the_box_is_silent(box_house: BoxHouse) -> None:
    sim = await waiting(box_house)
    await box_house.call("switch", "turn_on", "tou_override")
    sim.wifi = False
    await box_house.pass_time(1)
    await read_only(box_house)
    assert box_house.entity_id("switch", "tou_override") is None
    sim.wifi = True
    await box_house.pass_time(400)
    assert (box_house.value("status"), sim.amperes) == ("waiting_schedule", 0)


@pytest.mark.parametrize("gone", ["disabled", "removed"])
async def test_entry_unloads_cleanly_while_read_only_waits_for_a_box(box_house: BoxHouse, gone: str) -> None:
    """Setting the entry up again would log an error."""
    sim = await waiting(box_house)
    await box_house.call("switch", "turn_on", "tou_override")
    sim.wifi = False
    await box_house.pass_time(1)
    entry, entries = box_house.entry, box_house.hass.config_entries
    entries.async_update_entry(entry, options={"read_only": True})
    await box_house.clock.advance(5)
    if gone == "disabled":
        await entries.async_set_disabled_by(entry.entry_id, ConfigEntryDisabler.USER)
    else:
        await entries.async_remove(entry.entry_id)
    await box_house.clock.advance(90)
    await box_house.hass.async_block_till_done()
    assert (entry.state, box_house.shared_state.boxes) == (ConfigEntryState.NOT_LOADED, None)


async def test_two_boxes_of_a_load_group_never_draw_more_than_its_limit(box_house: BoxHouse) -> None:
    await with_server(box_house)
    box_house.power_up(SECOND)
    await box_house.pass_time(61)
    [offer] = box_house.offers()
    form = await box_house.submit(offer)
    await box_house.submit(form, {"name": "Yard", "wire_rating": 32, "in_maker_load_group": "no"})
    await box_house.pass_time(31)
    assert box_house.circuit.drawn == 32
    await box_house.add_group(24, FIRST, SECOND)
    await box_house.pass_time(31)
    above = box_house.circuit.seconds_above(24)
    sims = [box_house.sims[serial] for serial in (FIRST, SECOND)]
    await box_house.maker.set_trouble(ServerTrouble.DEAD)
    await box_house.pass_time(300)
    assert [sim.amperes for sim in sims] == [12, 12]
    await box_house.hass.config_entries.async_reload(box_house.entry.entry_id)
    sims[0].unplug()
    await box_house.pass_time(300)
    sims[0].plug_in()
    await box_house.maker.set_trouble(ServerTrouble.NONE)
    await box_house.pass_time(900)
    assert [sim.amperes for sim in sims] == [12, 12]
    assert (box_house.circuit.seconds_above(24) - above, sims[0].fallbacks + sims[1].fallbacks) == (0, 0)


async def test_legacy_box_shown_but_not_commanded(box_house: BoxHouse) -> None:
    box_house.power_up(wire=Wire.LEGACY)
    await box_house.add()
    await box_house.pass_time(400)
    assert box_house.value("status") == "charging"
    assert box_house.box().mode is Mode.LEARNING
    menu = await box_house.begin_subentry(FIRST)
    form = await box_house.submit_subentry(menu, {"next_step_id": "offline_current"})
    form = await box_house.submit_subentry(form, {"amps": 16, "accept": True})
    assert form["errors"] == {"base": "learning"}
    assert box_house.entity_id("sensor", "offline_current") is None, "nobody knows it"
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("switch", "turn_off", "charging")
    assert refused.value.translation_key == "unsupported"
    sim = box_house.sims[FIRST]
    assert (list(sim.commands), list(sim.refusals)) == ([], []), "it was never answered"


async def test_box_keeps_its_current_across_restart_and_power_cut(
    tmp_path: Path, virtual_clock: VirtualClock, socket_enabled: None
) -> None:
    machine = Machine(tmp_path)
    house = BoxHouse(await machine.boot(RunClock(virtual_clock, ahead=0.0)), virtual_clock)
    await house.maker.start()
    await house.add(**NIGHT)
    await house.pass_time(31)
    sim = house.sims[FIRST]
    await house.maker.set_trouble(ServerTrouble.DEAD)
    await house.pass_time(200)
    await house.call("switch", "turn_on", "tou_override")
    await house.call("number", "set_value", "charging_current", value=9)
    await house.pass_time(31)
    assert sim.amperes == 9
    for run, stop in enumerate((machine.shut_down, machine.lose_power), start=1):
        await stop()
        sim.fallbacks, before = 0, sim.writes
        await virtual_clock.advance(60)
        house.hass = await machine.boot(RunClock(virtual_clock, ahead=10_000.0 * run))
        assert house.value("offline_current") == "16.0"
        assert house.state("switch", "tou_override").state == "on"
        await house.pass_time(31)
        assert (sim.amperes, sim.fallbacks, sim.writes - before) == (9, 0, 0)
        assert house.box().mode is Mode.KEEP
    await machine.shut_down()
    sim.stop()
    await house.maker.stop()


async def test_two_boxes_share_one_listener(box_house: BoxHouse) -> None:
    await with_server(box_house)
    box_house.power_up(SECOND, plugged=False, wire=Wire.V07)
    await box_house.pass_time(61)
    [offer] = box_house.offers()
    form = await box_house.submit(offer)
    await box_house.submit(form, {"name": "Yard", "wire_rating": 24, "in_maker_load_group": "no"})
    await box_house.pass_time(31)
    assert (box_house.value("status"), box_house.value("status", SECOND)) == ("charging", "available")
    box_house.sims[SECOND].plug_in(Car(max_amperes=10))
    await box_house.pass_time(31)
    assert box_house.value("status", SECOND) == "charging"
    assert box_house.value("current", SECOND) == "10.0"
    lines = [unit.addresses for unit in box_house.units]
    assert [len(line) for line in lines] == [1, 1]
    assert lines[0] != lines[1], "each has a line of its own to the maker's server"


async def test_interval_energy_survives_a_restart(
    tmp_path: Path, virtual_clock: VirtualClock, socket_enabled: None
) -> None:
    machine = Machine(tmp_path)
    house = BoxHouse(await machine.boot(RunClock(virtual_clock, ahead=0.0)), virtual_clock)
    await house.add()
    await house.pass_time(3 * 3600)
    [before] = await house.quarter_hours()
    assert before["charger"] == "Garage"
    quarters = before["quarter_hours"]
    assert {key for quarter in quarters for key in quarter} == {"start", "day", "energy", "reported_at", "complete"}
    assert [quarter["start"] for quarter in quarters] == sorted(quarter["start"] for quarter in quarters)
    assert {quarter["day"] for quarter in quarters} == {"today"}, "it knows nothing from before its clock was set"
    full = [quarter["energy"] for quarter in quarters if quarter["complete"]]
    assert len(full) >= 9
    assert full[-1] == pytest.approx(house.sims[FIRST].watts / 4, rel=0.05)
    await machine.shut_down()
    house.hass = await machine.boot(RunClock(virtual_clock, ahead=10_000.0))
    [after] = await house.quarter_hours()
    assert after == before
    group = await house.add_group(40, FIRST)
    with pytest.raises(ServiceValidationError) as refused:
        await house.quarter_hours(config_entry_id=group.entry_id)
    assert refused.value.translation_key == "no_boxes"
    await house.pass_time(20 * 3600)
    [late] = await house.quarter_hours(config_entry_id=house.entry.entry_id)
    assert {quarter["day"] for quarter in late["quarter_hours"]} == {"today", "yesterday"}
    assert len(late["quarter_hours"]) <= 96
    await machine.shut_down()
    house.sims[FIRST].stop()


async def test_effective_limit_names_the_lowest_limit_of_the_box(box_house: BoxHouse) -> None:
    def effective() -> tuple[str, str]:
        return box_house.value("effective_limit"), box_house.value("limiting_factor")

    sim = await with_server(box_house)
    assert (effective(), sim.amperes) == (("16.0", "offline_current"), 16), "its stored limit is below what it is told"
    await box_house.call("number", "set_value", "charging_current", value=10)
    await box_house.pass_time(31)
    assert (effective(), sim.amperes) == (("10.0", "charging_current"), 10)
    await box_house.call("number", "set_value", "charging_current", value=32)
    group = await box_house.add_group(8, FIRST)
    await box_house.pass_time(62)
    assert (effective(), sim.amperes) == (("8.0", "load_group_limit"), 8)
    await box_house.hass.config_entries.async_remove(group.entry_id)
    await box_house.call("number", "set_value", "charging_current", value=32)
    await box_house.call("switch", "turn_off", "charging")
    await box_house.pass_time(62)
    assert (effective(), sim.amperes) == (("32.0", "wire_rating"), 0), "a pause is no limit"
    sim.online_may_exceed = True
    await box_house.call("switch", "turn_on", "charging")
    await box_house.pass_time(400)
    assert (effective(), sim.amperes) == (("32.0", "wire_rating"), 32)
    sim.wifi = False
    await box_house.pass_time(130)
    assert effective() == ("16.0", "offline_current"), "alone it falls back"


async def test_session_energy_survives_pauses_restarts_and_power_cuts(
    tmp_path: Path, virtual_clock: VirtualClock, socket_enabled: None
) -> None:
    machine = Machine(tmp_path)
    house = BoxHouse(await machine.boot(RunClock(virtual_clock, ahead=0.0)), virtual_clock)
    sim = house.power_up(plugged=False)
    await house.add()
    await house.pass_time(400)
    sim.plug_in(Car(wants_kwh=100))
    await house.pass_time(31)
    begun = sim.lifetime_wh

    def charged() -> float:
        return (sim.lifetime_wh - begun) / 1000

    for run, stop in enumerate((machine.shut_down, machine.lose_power), start=1):
        await house.pass_time(1200)
        await house.call("switch", "turn_off", "charging")
        await house.pass_time(60)
        await stop()
        await virtual_clock.advance(60)
        house.hass = await machine.boot(RunClock(virtual_clock, ahead=10_000.0 * run))
        await house.pass_time(31)
        await house.call("switch", "turn_on", "charging")
        await house.pass_time(400)
        assert float(house.value("session_energy")) == pytest.approx(charged(), abs=0.1)
        assert charged() > 1.2 * run
    box, now = house.box(), house.clock.now()
    box.change_offline(20)
    await house.pass_time(31)
    await machine.lose_power()
    house.hass = await machine.boot(RunClock(virtual_clock, ahead=30_000.0))
    await house.pass_time(31)
    with pytest.raises(UnsafeRequest, match="once_a_day"):
        house.box().change_offline(16)
    assert house.clock.now() > now
    energy = house.value("session_energy")
    sim.unplug()
    await house.pass_time(62)
    assert float(house.value("session_energy")) == pytest.approx(float(energy), abs=0.1)
    sim.plug_in(Car(wants_kwh=100))
    await house.pass_time(120)
    assert float(house.value("session_energy")) < 0.5
    lifetime = house.state("sensor", "lifetime_energy")
    assert (lifetime.attributes["state_class"], lifetime.attributes["device_class"]) == ("total_increasing", "energy")
    assert lifetime.attributes["unit_of_measurement"] == "kWh"
    await machine.shut_down()
    sim.stop()


async def test_repair_of_a_zero_offline_current_stays_ignored_after_a_reload(box_house: BoxHouse) -> None:
    def ignored() -> bool:
        [issue] = [each for each in ir.async_get(box_house.hass).issues.values() if each.domain == DOMAIN]
        return issue.dismissed_version is not None

    box_house.power_up(stored=0)
    await box_house.add()
    await box_house.pass_time(900)
    assert (box_house.issues(), ignored()) == ({"stored_zero"}, False)
    await box_house.hass.config.async_update(location_name="Our house")
    await box_house.hass.async_block_till_done()
    [issue_id] = [issue_id for domain, issue_id in ir.async_get(box_house.hass).issues if domain == DOMAIN]
    ir.async_ignore_issue(box_house.hass, DOMAIN, issue_id, ignore=True)
    await box_house.hass.config_entries.async_reload(box_house.entry.entry_id)
    assert (box_house.issues(), ignored()) == ({"stored_zero"}, True)


async def test_device_shows_its_model_while_the_server_is_reachable(box_house: BoxHouse) -> None:
    sim = await with_server(box_house)
    sim.switch_off()
    await box_house.pass_time(20)
    sim.switch_on()
    await box_house.pass_time(62)
    devices, entry_id = dr.async_get(box_house.hass), box_house.entry.entry_id
    device = devices.async_get_device_by_identifier((DOMAIN, f"juicebox_{FIRST}"), entry_id)
    assert device is not None
    assert (device.sw_version, device.model) == ("EMWERK-JB201-1.0.46", "JuiceBox JB201")
