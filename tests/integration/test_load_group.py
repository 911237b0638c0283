"""Load groups with the simulated cloud: the current of all members in every situation."""

import json
from unittest.mock import AsyncMock

from homeassistant.config_entries import ConfigEntry, ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import device_registry as dr, entity_registry as er, issue_registry as ir
import pytest

from custom_components.chargekeeper import async_remove_config_entry_device, async_unload_entry
from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.diagnostics import (
    async_get_config_entry_diagnostics,
    async_get_device_diagnostics,
)
from custom_components.chargekeeper.ha.shared_state import SharedState
from tests.simulators.wallbox_cloud import Fault
from tests.simulators.world import Car, Manual, State

from .conftest import CHARGING, FREE, WAITING, House, OwnHouse
from .groups import add_earlier_group, add_group, amperes, group_state, group_values, highest_sum
from .machine import files
from .test_init import ours

SETTLED = 240.0
"""Seconds within which commands were sent and two polls showed their outcome."""


def busy(house: House) -> None:
    """Plug in two cars that charge with the highest current allowed."""
    house.world.charger(FREE).plug_in(Car(wants_kwh=900.0))
    house.world.charger(CHARGING).plug_in(Car(wants_kwh=900.0))


async def settled_group(house: House, limit: float, *serials: str) -> ConfigEntry:
    """Add a load group and wait until its first reductions are done."""
    await house.add_account()
    busy(house)
    await house.settle_in()
    serials = serials or (FREE, CHARGING)
    add = add_group if limit >= 6 * len(serials) else add_earlier_group
    entry = await add(house, limit, *serials)
    await house.pass_time(2 * SETTLED)
    return entry


def issues(hass: HomeAssistant) -> dict[str, dict[str, str] | None]:
    return {
        issue.translation_key or "": issue.translation_placeholders
        for (domain, _), issue in ir.async_get(hass).issues.items()
        if domain == DOMAIN and issue.active
    }


def writes(house: House) -> int:
    return house.cloud.count("PUT") + house.cloud.count("POST")


async def test_i1_two_charging_chargers_stay_within_the_group_limit(house: House) -> None:
    await house.add_account()
    busy(house)
    await house.settle_in()
    assert amperes(house) == 48
    entry = await add_group(house, 16, FREE, CHARGING)
    await house.pass_time(SETTLED)
    assert group_values(house, entry, FREE, CHARGING) == ("16.0", "0.0", "8", "8")
    assert await highest_sum(house, 3 * 3600) == 16
    house.world.charger(CHARGING).max_charging_current = 16  # somebody changes the setting elsewhere
    await house.pass_time(SETTLED)
    assert await highest_sum(house, 3600) == 16
    assert house.cloud.violations == []


async def test_i1_share_shown_and_applied_as_a_limit_of_the_charger(house: House) -> None:
    entry = await settled_group(house, 16)
    state = house.state("sensor", "load_group_limit")
    assert (state.state, state.attributes["source"]) == ("8.0", "user")
    assert house.state("sensor", "limiting_factor").state == "load_group_limit"
    assert house.state("number", "charging_current").attributes["max"] == 8
    charger = next(charger for charger in house.shared_state.chargers.values() if charger.identity.serial == FREE)
    assert charger.group_share == 8
    await house.hass.config_entries.async_remove(entry.entry_id)
    await house.hass.async_block_till_done()
    assert house.state("sensor", "load_group_limit").state == "unknown"


async def test_i1_charger_paused_below_six_amperes_until_the_other_leaves(house: House) -> None:
    """A reduction is verified before any current is raised; a pause lasts at least 5 min."""
    entry = await settled_group(house, 10)
    assert group_values(house, entry, FREE, CHARGING) == ("12.0", "-2.0", "6", "0")
    assert house.world.charger(FREE).amperes == 6
    assert house.state("sensor", "status", CHARGING).state == "paused"
    assert house.state("sensor", "effective_limit", CHARGING).state == "0.0"
    with pytest.raises(ServiceValidationError) as refused:
        await house.call("switch", "turn_on", "charging", CHARGING)
    assert refused.value.translation_key == "no_group_share"

    house.world.charger(FREE).unplug()
    await house.clock.advance_until(lambda: house.world.charger(CHARGING).state is State.CHARGING, within=900)
    await house.pass_time(SETTLED)
    assert group_values(house, entry, FREE, CHARGING) == ("12.0", "-2.0", "0", "6")
    assert house.world.charger(CHARGING).amperes == 6
    assert await highest_sum(house, 1800) == 6


async def test_load_group_pause_ends_by_returning_to_the_schedule(house: House) -> None:
    driveway = house.world.charger(WAITING)
    driveway.window_open = True
    entry = await settled_group(house, 10, FREE, WAITING)
    assert house.state("sensor", "status", WAITING).state == "paused"
    driveway.window_open = False
    house.world.charger(FREE).unplug()
    await house.pass_time(20 * 60)
    assert group_state(house, entry, f"wallbox_{WAITING}_share").state == "6"
    assert house.world.charger(WAITING).manual is Manual.NONE
    assert house.state("sensor", "status", WAITING).state == "waiting_schedule"


async def test_override_waits_for_a_share(house: House) -> None:
    await settled_group(house, 10, FREE, WAITING)
    await house.call("switch", "turn_on", "tou_override", WAITING)
    await house.pass_time(900)
    assert house.state("switch", "tou_override", WAITING).state == "on"
    assert house.state("sensor", "status", WAITING).state == "paused"
    assert amperes(house) <= 6 + 16, "the carport is no member"
    house.world.charger(FREE).unplug()
    await house.pass_time(20 * 60)
    assert house.state("switch", "tou_override", WAITING).attributes["applied"] is True
    assert house.state("sensor", "status", WAITING).state == "charging"
    assert house.world.charger(WAITING).amperes == 6


async def test_members_not_commanded_during_an_outage(house: House) -> None:
    entry = await settled_group(house, 16)
    await house.cloud.set_fault(Fault.REFUSE)
    await house.pass_until_usable(False)
    sent = writes(house)
    assert await highest_sum(house, 3600, step=30) == 16
    assert group_values(house, entry, FREE, CHARGING) == ("16.0", "0.0", "8", "8")
    assert [member["heard"] for member in (await async_get_config_entry_diagnostics(house.hass, entry))["members"]] == [
        False,
        False,
    ]
    house.world.charger(FREE).max_charging_current = 32  # at the charger itself
    await house.cloud.set_fault(Fault.NONE)
    await house.pass_until_usable(True)
    await house.pass_time(SETTLED)
    assert amperes(house) <= 16, "perhaps the other was paused to make room"
    await house.pass_time(20 * 60)
    assert amperes(house) == 16
    assert 1 <= writes(house) - sent <= 6


@pytest.mark.parametrize("in_order", [True, False])
async def test_shares_and_pause_restored_after_restart_or_power_cut(own_house: OwnHouse, in_order: bool) -> None:
    house = own_house
    entry = await settled_group(house, 10)
    before = group_values(house, entry, FREE, CHARGING)
    await house.cloud.set_fault(Fault.REFUSE)
    await (house.restart() if in_order else house.lose_power())
    if not in_order:
        await house.start()
    [entry] = (e for e in house.hass.config_entries.async_entries(DOMAIN) if e.data["kind"] == "load_group")
    # No member reports, so the pause may be over: after a power cut the second charger would charge.
    # The limit then leaves nothing for the first charger until both report.
    assert group_values(house, entry, FREE, CHARGING) == ("12.0", "-2.0", "6", "0")
    assert house.state("sensor", "load_group_limit", CHARGING).state == "0.0"
    await house.cloud.set_fault(Fault.NONE)
    await house.pass_time(30 * 60)
    assert group_values(house, entry, FREE, CHARGING) == before
    assert amperes(house) == 6
    house.world.charger(FREE).unplug()
    await house.pass_time(20 * 60)
    assert house.state("sensor", "status", CHARGING).state == "charging", "it is remembered whose pause it was"
    assert amperes(house) == 6


async def test_i1_share_applies_from_the_first_moment_after_a_restart(
    own_house: OwnHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = own_house
    await settled_group(house, 16)
    begun: dict[str, float | None] = {}
    begin = SharedState.begin

    def note(shared_state: SharedState, charger: object) -> None:
        begin(shared_state, charger)  # type: ignore[arg-type]
        begun[charger.identity.serial] = charger.group_share  # type: ignore[attr-defined]

    monkeypatch.setattr(SharedState, "begin", note)
    await house.restart()
    assert begun == {FREE: 8, CHARGING: 8, WAITING: None}


async def test_removal_releases_the_shares_and_raises_no_current(own_house: OwnHouse) -> None:
    house = own_house
    entry = await settled_group(house, 10)
    assert f"journal.{entry.unique_id}" in files(house.machine.disk)
    sent = writes(house)
    await house.hass.config_entries.async_remove(entry.entry_id)
    await house.hass.async_block_till_done()
    assert {charger.group_share for charger in house.shared_state.chargers.values()} == {None}
    assert house.state("number", "charging_current").attributes["max"] == 32
    assert await highest_sum(house, 3600, step=30) == 6
    assert writes(house) == sent
    assert f"journal.{entry.unique_id}" not in files(house.machine.disk)
    assert house.shared_state.groups == {}
    await house.call("switch", "turn_on", "charging", CHARGING)
    await house.call("number", "set_value", "charging_current", CHARGING, value=16)
    await house.pass_time(SETTLED)
    assert amperes(house) == 22


async def test_i13_unload_during_commands_leaves_nothing_running(house: House) -> None:
    await house.add_account()
    busy(house)
    await house.settle_in()
    await house.hass.config_entries.async_unload(house.entry.entry_id)
    pending = house.clock.pending
    await house.hass.config_entries.async_setup(house.entry.entry_id)
    await house.hass.async_block_till_done()
    entry = await add_group(house, 12, FREE, CHARGING)
    await house.clock.advance(20)  # commands are under way
    for each in (entry, house.entry):
        assert await house.hass.config_entries.async_unload(each.entry_id)
    await house.hass.async_block_till_done()
    assert ours() == []
    assert house.clock.pending == pending
    sent = writes(house)
    await house.pass_time(3600)
    assert writes(house) == sent


async def test_load_group_unchanged_by_a_reload_of_the_account(house: House) -> None:
    entry = await settled_group(house, 10)
    [group] = house.shared_state.groups.values()
    await house.hass.config_entries.async_reload(house.entry.entry_id)
    await house.pass_time(SETTLED)
    assert [*house.shared_state.groups.values()] == [group]
    assert group_values(house, entry, FREE, CHARGING) == ("12.0", "-2.0", "6", "0")
    assert issues(house.hass).keys() == {"group_limit_too_low"}
    house.world.charger(FREE).unplug()
    await house.pass_time(20 * 60)
    assert house.state("sensor", "status", CHARGING).state == "charging"


async def test_member_of_a_disabled_account_raises_a_repair(house: House) -> None:
    entry = await settled_group(house, 16)
    device = house.device()
    assert device is not None
    dr.async_get(house.hass).async_update_device(device.id, name_by_user="Left")
    await house.hass.config_entries.async_set_disabled_by(house.entry.entry_id, ConfigEntryDisabler.USER)
    await house.hass.async_block_till_done()
    assert issues(house.hass).keys() == {"group_member_missing"}
    assert group_values(house, entry, FREE, CHARGING) == ("16.0", "0.0", "8", "8")
    await house.hass.config_entries.async_reload(entry.entry_id)
    await house.pass_time(60)
    assert issues(house.hass) == {"group_member_missing": {"charger": "Carport", "group": "Garage circuit"}}
    assert group_values(house, entry, FREE, CHARGING) == ("16.0", "0.0", "8", "8"), "as last seen"

    await house.hass.config_entries.async_set_disabled_by(house.entry.entry_id, None)
    await house.hass.async_block_till_done()
    assert not issues(house.hass)
    await house.pass_time(SETTLED)
    assert house.shared_state.groups[str(entry.unique_id)].diagnostics()[0]["heard"] is True


async def test_member_of_a_removed_account_raises_a_repair_until_the_group_is_removed(house: House) -> None:
    entry = await settled_group(house, 16)
    await house.hass.config_entries.async_remove(house.entry.entry_id)
    await house.hass.async_block_till_done()
    assert issues(house.hass).keys() == {"group_member_missing"}
    await house.hass.config_entries.async_set_disabled_by(entry.entry_id, ConfigEntryDisabler.USER)
    await house.hass.async_block_till_done()
    assert not issues(house.hass), "nothing is missed in a group that is not in force"
    await house.hass.config_entries.async_set_disabled_by(entry.entry_id, None)
    await house.hass.async_block_till_done()
    assert issues(house.hass).keys() == {"group_member_missing"}
    await house.hass.config_entries.async_remove(entry.entry_id)
    await house.hass.async_block_till_done()
    assert not issues(house.hass)


async def test_load_group_pause_named_in_a_notice_when_the_account_is_removed(house: House) -> None:
    await settled_group(house, 10)
    removal = house.hass.config_entries.async_remove(house.entry.entry_id)
    await house.finish(removal)
    assert ["paused by its load group" in notice for notice in house.notices] == [True]


async def test_load_group_device_has_its_sensors_and_follows_the_title(house: House) -> None:
    entry = await settled_group(house, 16)
    [device] = dr.async_entries_for_config_entry(dr.async_get(house.hass), entry.entry_id)
    assert (device.name, device.model, device.entry_type) == (
        "Garage circuit",
        "Load group",
        dr.DeviceEntryType.SERVICE,
    )
    entities = er.async_entries_for_config_entry(er.async_get(house.hass), entry.entry_id)
    assert {(entity.entity_id, entity.translation_key, entity.unit_of_measurement) for entity in entities} == {
        ("sensor.garage_circuit_allocated", "allocated", "A"),
        ("sensor.garage_circuit_headroom", "headroom", "A"),
        ("sensor.garage_circuit_share_of_garage", "share", "A"),
        ("sensor.garage_circuit_share_of_carport", "share", "A"),
    }
    assert not await async_remove_config_entry_device(house.hass, entry, device)

    house.hass.config_entries.async_update_entry(entry, title="Circuit 7")
    await house.hass.async_block_till_done()
    [device] = dr.async_entries_for_config_entry(dr.async_get(house.hass), entry.entry_id)
    assert device.name == "Circuit 7"
    names = {state.entity_id for state in house.hass.states.async_all("sensor")}
    assert "sensor.garage_circuit_allocated" in names, "ids stay"


async def test_i12_load_group_diagnostics_contain_no_name_or_serial(house: House) -> None:
    entry = await settled_group(house, 10)
    found = await async_get_config_entry_diagnostics(house.hass, entry)
    text = json.dumps(found)
    assert [secret for secret in (FREE, CHARGING, "Garage", "Carport") if secret in text] == []
    assert (found["limit"], found["allocated"], found["headroom"]) == (10.0, 12.0, -2.0)
    assert [(m["share"], m["paused"]) for m in found["members"]] == [(6, False), (0, True)]
    [device] = dr.async_entries_for_config_entry(dr.async_get(house.hass), entry.entry_id)
    assert await async_get_device_diagnostics(house.hass, entry, device) == found


async def test_deleted_member_of_a_load_group_raises_a_repair(house: House) -> None:
    """The charger left the account and its device is deleted."""
    await settled_group(house, 16)
    house.cloud.accounts[0].unshared.add(FREE)
    await house.pass_time(600)
    device = house.device()
    assert device is not None
    assert await async_remove_config_entry_device(house.hass, house.entry, device)
    await house.hass.async_block_till_done()
    assert issues(house.hass).keys() == {"group_member_missing"}


async def test_load_group_goes_on_when_unload_fails(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = await settled_group(house, 16)
    with monkeypatch.context() as stuck:
        stuck.setattr(house.hass.config_entries, "async_unload_platforms", AsyncMock(return_value=False))
        assert not await house.hass.config_entries.async_unload(entry.entry_id)
    house.world.charger(FREE).max_charging_current = 32
    await house.pass_time(SETTLED)
    assert amperes(house) == 16
    await async_unload_entry(house.hass, entry)
    assert house.shared_state.groups == {}


async def test_load_group_not_reloaded_by_an_unrelated_change(house: House) -> None:
    entry = await settled_group(house, 16)
    loaded = entry.runtime_data
    house.hass.config_entries.async_update_entry(entry, pref_disable_new_entities=True)
    await house.hass.async_block_till_done()
    assert entry.runtime_data is loaded


async def test_load_group_limit_kept_when_its_store_is_damaged(own_house: OwnHouse, expected_errors: list[str]) -> None:
    expected_errors += ["Could not parse JSON content", "Unrecoverable error decoding storage"]
    house = own_house
    entry = await settled_group(house, 10)
    await house.machine.shut_down()
    file = files(house.machine.disk)[f"journal.{entry.unique_id}"]
    file.write_text(file.read_text()[:50])
    await house.start()
    await house.pass_time(30 * 60)
    assert amperes(house) == 6
    [entry] = (e for e in house.hass.config_entries.async_entries(DOMAIN) if e.data["kind"] == "load_group")
    assert group_values(house, entry, FREE, CHARGING) == ("12.0", "-2.0", "6", "0")


async def test_outage_report_refused_for_a_load_group(house: House) -> None:
    entry = await settled_group(house, 16)
    ask = house.hass.services.async_call

    with pytest.raises(ServiceValidationError) as refused:
        await ask(DOMAIN, "outage_report", {"config_entry_id": entry.entry_id}, blocking=True, return_response=True)
    assert refused.value.translation_key == "no_account"
    assert await ask(DOMAIN, "outage_report", {}, blocking=True, return_response=True) == {"outages": []}


async def test_cars_that_arrive_at_once_stay_within_lowest_limit(house: House) -> None:
    await house.add_account()
    await house.settle_in()
    serials = (CHARGING, WAITING, FREE)
    for serial in serials:
        charger = house.world.charger(serial)
        charger.home_sharing = False
        charger.schedules = ()
        charger.max_charging_current = 16
        if charger.car is not None:
            charger.unplug()
    await house.pass_time(1500)
    entry = await add_group(house, 18, *serials)
    await house.pass_time(900)
    assert group_values(house, entry, *serials) == ("18.0", "0.0", "6", "6", "6")
    for serial in serials:
        house.world.charger(serial).plug_in(Car(wants_kwh=100, phases=1))
    assert await highest_sum(house, 1200, step=1) == 18
    assert group_values(house, entry, *serials)[:2] == ("18.0", "0.0")


async def test_earlier_group_with_too_low_limit_loads_and_raises_a_repair(house: House) -> None:
    entry = await settled_group(house, 13, FREE, WAITING, CHARGING)
    assert issues(house.hass) == {
        "group_limit_too_low": {"group": "Garage circuit", "limit": "13", "lowest": "18", "overrun": "5"}
    }
    assert group_values(house, entry, FREE, WAITING, CHARGING) == ("18.0", "-5.0", "6", "6", "0")
    house.hass.config_entries.async_update_entry(entry, data={**entry.data, "limit": 18.0})
    await house.hass.async_block_till_done()
    assert not issues(house.hass)
    house.hass.config_entries.async_update_entry(entry, data={**entry.data, "limit": 13.0})
    await house.hass.async_block_till_done()
    assert issues(house.hass).keys() == {"group_limit_too_low"}
    await house.hass.config_entries.async_remove(entry.entry_id)
    await house.hass.async_block_till_done()
    assert not issues(house.hass)
