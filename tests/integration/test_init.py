"""Set-up, unloading, removal; new and removed chargers; restarts and power cuts of Home Assistant."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
import json
import logging
from unittest.mock import AsyncMock

from homeassistant.config_entries import ConfigEntryDisabler, ConfigEntryState, ConfigFlowResult
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry as dr, entity_registry as er, issue_registry as ir
import pytest

from custom_components.chargekeeper import async_remove_config_entry_device, async_unload_entry
from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.entries import wallbox
from custom_components.chargekeeper.wallbox.account import AWAITED_EVERY
from tests.simulators.wallbox_cloud import Fault, Resume, Schedules, WallboxCloud
from tests.simulators.world import Manual, SimulatedCharger

from .conftest import CHARGING, FREE, WAITING, House, OwnHouse
from .machine import files, multiply

NEW = "700199"
DEAD = (Fault.REFUSE, Fault.HANG, Fault.ERROR_500, Fault.GARBAGE, Fault.TOO_MANY, Fault.FORBIDDEN)
POLLS = 8 * 60.0  # seconds within which the groups are polled three times
LIMITS = ((FREE, "wire_rating"), (FREE, "effective_limit"), (WAITING, "wire_rating"), (WAITING, "house_limit"))


def ours() -> list[asyncio.Task[object]]:
    """Return all running tasks of ChargeKeeper."""
    codes = ((task, getattr(task.get_coro(), "cr_code", None)) for task in asyncio.all_tasks())
    return [task for task, code in codes if code is not None and "custom_components/chargekeeper" in code.co_filename]


def entity_ids(house: House) -> set[str]:
    """Return the ids of our entities that are provided, not only restored."""
    registry = er.async_get(house.hass)
    return {
        state.entity_id
        for state in house.hass.states.async_all()
        if not state.attributes.get("restored")
        and (entity := registry.async_get(state.entity_id)) is not None
        and entity.platform == DOMAIN
    }


def reauth_flows(house: House) -> list[ConfigFlowResult]:
    return [flow for flow in house.hass.config_entries.flow.async_progress() if flow["context"]["source"] == "reauth"]


@pytest.fixture(params=Schedules)
def either_cloud(request: pytest.FixtureRequest, cloud: WallboxCloud) -> None:
    """Run the test with a cloud that merges written schedules and one that replaces them."""
    cloud.schedules = request.param


async def override_by_disabling(house: House) -> None:
    """Start an override for which the schedule of the charger must be disabled."""
    house.cloud.resume[WAITING] = Resume.CONFLICT
    await house.call("switch", "turn_on", "tou_override", WAITING)
    await house.pass_time(180)
    assert not any(window.enabled for window in house.world.charger(WAITING).schedules)
    assert house.state("switch", "tou_override", WAITING).attributes["applied"] is True


# Set-up without a network


@pytest.mark.parametrize("fault", DEAD)
async def test_i8_set_up_awaits_no_network(own_house: OwnHouse, fault: Fault) -> None:
    """I8: no second of virtual time passes until all entities exist."""
    house = own_house
    await house.add_account()
    await house.settle_in()
    before = entity_ids(house)
    await house.cloud.set_fault(fault)
    began = house.clock.monotonic()
    await house.restart()
    assert house.entry.state is ConfigEntryState.LOADED
    assert entity_ids(house) == before
    assert house.clock.monotonic() == began

    await house.pass_time(600)
    assert house.entry.state is ConfigEntryState.LOADED
    assert entity_ids(house) == before


async def test_i8_hundred_chargers_set_up_in_two_seconds(own_house: OwnHouse, caplog: pytest.LogCaptureFixture) -> None:
    """I8: the cloud hangs. Processor time counts, since other work may load the machine."""
    house = own_house
    house.cloud.accounts[0].serials = frozenset({FREE})
    await house.add_account()
    await house.settle_in()
    of_charger = len(er.async_get(house.hass).entities.get_entries_for_device_id(house_device(house).id))
    await house.cloud.set_fault(Fault.HANG)
    await house.machine.shut_down()
    multiply(house.machine.disk, FREE, [str(710000 + number) for number in range(100)])

    caplog.set_level(logging.INFO)  # without a line for each state
    asyncio.get_running_loop().set_debug(False)
    await house.start()
    assert len(house.shared_state.chargers) == 100
    assert len(entity_ids(house)) >= 100 * of_charger
    assert house.state("sensor", "wire_rating", "710099").state == "32.0"
    assert house.machine.set_up_cpu < 2.0


def house_device(house: House, serial: str = FREE) -> dr.DeviceEntry:
    device = house.device(serial)
    assert device is not None
    return device


async def test_actions_registered_before_any_entry(own_house: OwnHouse) -> None:
    """Automations stay valid while no entry is set up (quality scale: action-setup)."""
    hass = own_house.hass
    assert not hass.config_entries.async_entries(DOMAIN)
    for action in ("restart", "set_tou_override"):
        assert hass.services.has_service(DOMAIN, action)


async def test_outage_logged_once_at_start_and_end(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Quality scale: log-when-unavailable."""
    await house.add_account()
    await house.settle_in()
    await house.cloud.set_fault(Fault.REFUSE)
    await house.pass_time(3600)
    await house.cloud.set_fault(Fault.NONE)
    await house.pass_time(600)
    logged = [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.INFO and "reachable" in record.getMessage()
    ]
    assert logged == ["The Wallbox cloud is not reachable", "The Wallbox cloud is reachable again"]


# Unloading


async def test_i13_unload_leaves_nothing_running(house: House) -> None:
    """I13: also when the entry is set up and unloaded again."""
    entry = await house.add_account()
    await house.settle_in()
    await house.call("switch", "turn_on", "tou_override", WAITING)
    await house.settle_in()
    listeners = house.hass.bus.async_listeners()
    assert [task.get_name() for task in ours()] == ["chargekeeper rounds: the Wallbox cloud"]

    for _ in range(2):
        assert await house.hass.config_entries.async_unload(entry.entry_id)
        await house.hass.async_block_till_done()
        assert ours() == []
        assert house.clock.pending == 0
        seen = len(house.cloud.requests)
        await house.clock.advance(3600)
        assert len(house.cloud.requests) == seen

        assert await house.hass.config_entries.async_setup(entry.entry_id)
        await house.settle_in()
        assert [task.get_name() for task in ours()] == ["chargekeeper rounds: the Wallbox cloud"]
        assert not Counter(house.hass.bus.async_listeners()) - Counter(listeners), "not one more than before"
        assert house.state("sensor", "status").state == "available"


async def test_entry_goes_on_when_unload_fails(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = await house.add_account()
    with monkeypatch.context() as stuck:
        stuck.setattr(house.hass.config_entries, "async_unload_platforms", AsyncMock(return_value=False))
        assert not await house.hass.config_entries.async_unload(entry.entry_id)
    await house.settle_in()
    assert house.state("sensor", "status").state == "available"
    await async_unload_entry(house.hass, entry)


async def test_i6_reload_adds_no_request_budget(house: House) -> None:
    """I6: the budgets survive reloads at any moment."""
    house.cloud.enforce_limits = True
    entry = await house.add_account()
    for _ in range(40):
        await house.pass_time(17)
        await house.hass.config_entries.async_reload(entry.entry_id)
    assert house.cloud.violations == []
    assert house.cloud.count("GET", "/users/") == 1
    assert house.cloud.count("GET") > 8


# New and removed chargers


async def test_new_charger_appears_without_a_reload(house: House) -> None:
    entry = await house.add_account()
    await house.settle_in()
    loaded = entry.runtime_data
    house.world.add(SimulatedCharger(serial=NEW, name="Shed"))
    await house.pass_time(POLLS)
    assert house.state("sensor", "status", NEW).state == "available"
    assert house_device(house, NEW).name == "Shed"
    assert entry.runtime_data is loaded
    assert [charger["serial"] for charger in entry.data["chargers"]] == [FREE, WAITING, CHARGING, NEW]
    assert house.hass.data["chargekeeper"].chargers.keys() >= {("wallbox", NEW)}


async def test_new_charger_name_shown_by_device_and_entry(house: House) -> None:
    entry = await house.add_account()
    await house.settle_in()
    loaded = entry.runtime_data
    house.world.charger(FREE).name = "Left garage"
    await house.pass_time(POLLS)
    assert house_device(house).name == "Left garage"
    assert entry.data["chargers"][0]["name"] == "Left garage"
    assert entry.runtime_data is loaded


async def test_charger_that_left_the_account_can_be_deleted(house: House, issue_registry: ir.IssueRegistry) -> None:
    hass = house.hass
    entry = await house.add_account()
    await house.settle_in()
    device = house_device(house)
    assert not await async_remove_config_entry_device(hass, entry, device), "it would come back at once"

    account = house.cloud.accounts[0]
    account.serials = frozenset({WAITING, CHARGING})
    await house.pass_time(150)
    assert not await async_remove_config_entry_device(hass, entry, device), "one poll is no proof"
    await house.pass_time(POLLS)
    issue = issue_registry.async_get_issue(DOMAIN, f"gone_{FREE}")
    assert issue is not None
    assert issue.translation_placeholders == {"charger": "Garage"}
    assert house.state("sensor", "wire_rating").state == "32.0", "what is known of it stays"
    assert house.state("sensor", "status", WAITING).state == "waiting_schedule", "others are not touched"

    assert await async_remove_config_entry_device(hass, entry, device)
    dr.async_get(hass).async_remove_device(device.id)
    await hass.async_block_till_done()
    assert issue_registry.async_get_issue(DOMAIN, f"gone_{FREE}") is None
    assert [charger["serial"] for charger in entry.data["chargers"]] == [WAITING, CHARGING]
    assert not [e for e in er.async_entries_for_config_entry(er.async_get(hass), entry.entry_id) if FREE in e.unique_id]

    await house.pass_time(1800)
    await hass.config_entries.async_reload(entry.entry_id)
    assert house.device() is None

    account.serials = None
    await house.settle_in()
    assert house.state("sensor", "status").state == "available", "shared again, it is back"
    assert len(entry.data["chargers"]) == 3


async def test_repair_of_a_missing_charger_cleared_when_the_charger_returns(
    house: House, issue_registry: ir.IssueRegistry
) -> None:
    await house.add_account()
    await house.settle_in()
    house.cloud.accounts[0].serials = frozenset({WAITING, CHARGING})
    await house.pass_time(POLLS)
    assert issue_registry.async_get_issue(DOMAIN, f"gone_{FREE}") is not None
    house.cloud.accounts[0].serials = None
    await house.pass_time(POLLS)
    assert issue_registry.async_get_issue(DOMAIN, f"gone_{FREE}") is None
    assert house.state("sensor", "status").state == "available"


async def test_device_deletion_refused_for_the_account_and_an_unloaded_entry(house: House) -> None:
    hass = house.hass
    entry = await house.add_account()
    devices = dr.async_get(hass)
    account = devices.async_get_device_by_identifier((DOMAIN, f"account_{entry.unique_id}"), entry.entry_id)
    assert account is not None
    assert not await async_remove_config_entry_device(hass, entry, account)
    orphan = devices.async_get_or_create(config_entry_id=entry.entry_id, identifiers={(DOMAIN, "wallbox_1")})
    assert await async_remove_config_entry_device(hass, entry, orphan)
    await hass.config_entries.async_unload(entry.entry_id)
    assert not await async_remove_config_entry_device(hass, entry, house_device(house))


async def test_charger_shared_by_two_accounts_belongs_to_the_first_entry(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """A charger shared with a second account moves there only when the first entry is removed."""
    house.cloud.accounts[0].serials = frozenset({FREE})
    first = await house.add_account()
    second_account = house.cloud.add_account("second@example.org", "battery staple", serials=[CHARGING])
    second = await house.add_account("second@example.org", "battery staple")
    second_account.serials = frozenset({CHARGING, FREE})
    await house.settle_in()
    assert [charger["serial"] for charger in second.data["chargers"]] == [CHARGING]
    assert second.runtime_data.skipped == {FREE}
    assert house_device(house).config_entry_id == first.entry_id
    assert caplog.text.count("belong to another entry") == 1

    for entry in (second, first):
        await house.hass.config_entries.async_reload(entry.entry_id)
    await house.settle_in()
    assert house.state("sensor", "status").state == "available"
    assert house_device(house).config_entry_id == first.entry_id

    await house.hass.config_entries.async_set_disabled_by(first.entry_id, ConfigEntryDisabler.USER)
    await house.settle_in()
    assert house_device(house).config_entry_id == first.entry_id, "switched off, not given up"

    await house.hass.config_entries.async_remove(first.entry_id)
    await house.settle_in()
    assert house_device(house).config_entry_id == second.entry_id
    assert house.state("sensor", "status").state == "available"
    assert second.runtime_data.skipped == frozenset()
    assert [charger["serial"] for charger in second.data["chargers"]] == [CHARGING, FREE]


# Removal


@pytest.mark.usefixtures("either_cloud")
async def test_removal_ends_overrides_and_deletes_all_data(own_house: OwnHouse) -> None:
    house = own_house
    entry = await house.add_account()
    await house.settle_in()
    await override_by_disabling(house)
    assert files(house.machine.disk)
    # Where the schedule must be read first, removal waits for a free request slot.
    await house.finish(house.hass.config_entries.async_remove(entry.entry_id))
    await house.hass.async_block_till_done()
    assert [window.enabled for window in house.world.charger(WAITING).schedules] == [True]
    assert house.world.charger(WAITING).manual is Manual.NONE
    assert house.notices == []
    assert files(house.machine.disk) == {}
    assert house.shared_state.chargers == {}
    assert house.shared_state.accounts == {}
    assert ours() == []
    assert house.device(WAITING) is None

    seen = len(house.cloud.requests)
    await house.pass_time(3600)
    assert len(house.cloud.requests) == seen
    await house.add_account()
    assert house.state("switch", "tou_override", WAITING).state == "off", "added anew, nothing is left of the old entry"


async def test_i6_removing_and_adding_an_entry_adds_no_request_budget(house: House) -> None:
    """I6: the budgets survive even the entry."""
    entry = await house.add_account()
    await house.hass.config_entries.async_remove(entry.entry_id)
    form = await house.begin_flow()
    result = await house.hass.config_entries.flow.async_configure(form["flow_id"], house.credentials())
    assert result["errors"] == {"base": "throttled"}
    assert house.cloud.violations == []


@pytest.mark.usefixtures("either_cloud")
@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.HANG])
@pytest.mark.parametrize("noticed", [True, False])
async def test_removal_with_the_cloud_down_names_the_disabled_schedules(
    house: House, fault: Fault, noticed: bool
) -> None:
    entry = await house.add_account()
    await house.settle_in()
    await override_by_disabling(house)
    await house.cloud.set_fault(fault)
    if noticed:
        await house.pass_until_usable(False)
    await house.finish(house.hass.config_entries.async_remove(entry.entry_id))
    await house.hass.async_block_till_done()
    schedules, *pauses = house.notices
    assert "Driveway" in schedules
    assert "22:00 to 05:00 UTC" in schedules
    in_doubt = fault is Fault.HANG and not noticed  # the pause was sent, and its answer was lost
    assert ["Driveway may still be paused" in text for text in pauses] == [True] * in_doubt
    assert house.shared_state.chargers == {}


@pytest.mark.usefixtures("either_cloud")
async def test_removal_times_out_when_the_cloud_hangs(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wallbox, "END_OVERRIDE_TIMEOUT", 5.0)
    entry = await house.add_account()
    await house.settle_in()
    await override_by_disabling(house)
    await house.cloud.set_fault(Fault.HANG)
    began = house.clock.monotonic()
    await house.finish(house.hass.config_entries.async_remove(entry.entry_id))
    assert house.clock.monotonic() - began <= 6
    [schedules, pause] = house.notices
    assert "22:00 to 05:00 UTC" in schedules
    assert "Driveway may still be paused" in pause, "the answer to the pause was lost"


@pytest.mark.usefixtures("either_cloud")
async def test_removal_of_an_entry_never_loaded_in_this_run_leaves_a_notice(own_house: OwnHouse) -> None:
    house = own_house
    entry = await house.add_account()
    await house.settle_in()
    await override_by_disabling(house)
    await house.hass.config_entries.async_set_disabled_by(entry.entry_id, ConfigEntryDisabler.USER)
    await house.restart()
    assert house.shared_state.chargers == {}
    assert await house.hass.config_entries.async_remove(house.entry.entry_id) == {"require_restart": False}
    [message] = house.notices
    assert "Driveway" in message
    assert files(house.machine.disk) == {}


@pytest.mark.usefixtures("either_cloud")
async def test_read_only_option_ends_overrides_first(house: House) -> None:
    await house.add_account()
    await house.settle_in()
    await override_by_disabling(house)
    await house.options(read_only=True)
    await house.pass_time(70)
    assert [window.enabled for window in house.world.charger(WAITING).schedules] == [True]
    assert house.world.charger(WAITING).manual is Manual.NONE
    assert house.notices == []
    registry = er.async_get(house.hass)
    assert registry.async_get_entity_id("switch", DOMAIN, f"wallbox_{WAITING}_tou_override") is None
    await house.pass_time(AWAITED_EVERY - 70)  # the listing shows what we wrote; the status proves it
    assert house.state("sensor", "status", WAITING).state == "waiting_schedule"


@pytest.mark.usefixtures("either_cloud")
async def test_entry_removable_while_read_only_waits_for_the_cloud(house: House) -> None:
    """Setting the removed entry up again would log an error."""
    entry, hass = await house.add_account(), house.hass
    await house.settle_in()
    await override_by_disabling(house)
    await house.cloud.set_fault(Fault.HANG)
    hass.config_entries.async_update_entry(entry, options={"read_only": True})
    await house.clock.advance(2)
    removal = hass.async_create_task(hass.config_entries.async_remove(entry.entry_id))
    await house.clock.advance_until(removal.done, within=200)
    await house.clock.advance(120)
    await house.hass.async_block_till_done()
    assert not hass.config_entries.async_entries(DOMAIN)
    schedules, pause = house.notices
    assert "did not confirm that it is enabled again" in schedules
    assert "Driveway may still be paused" in pause, "the answer to the pause was lost"


async def test_changed_credentials_used_after_a_reload(house: House) -> None:
    """A restored backup changes the entry in the same way: only its data differ."""
    entry = await house.add_account()
    await house.settle_in()
    house.cloud.accounts[0].password = "battery staple"
    house.cloud.expire_access()
    house.cloud.revoke_refresh()
    loaded = entry.runtime_data
    house.hass.config_entries.async_update_entry(entry, data={**entry.data, "password": "battery staple"})
    await house.hass.async_block_till_done()
    assert entry.runtime_data is not loaded
    await house.settle_in()
    assert house.state("sensor", "status").state == "available"
    assert entry.runtime_data.account_coordinator.data.cloud is True
    assert not reauth_flows(house)


async def test_new_title_causes_no_reload(house: House) -> None:
    entry = await house.add_account()
    loaded = entry.runtime_data
    house.hass.config_entries.async_update_entry(entry, title="Home")
    await house.hass.async_block_till_done()
    assert entry.runtime_data is loaded


# Reauthentication


async def test_i7_reauth_starts_only_after_the_second_refusal(house: House) -> None:
    """I7: the second refusal comes at least 10 minutes after the first."""
    await house.add_account()
    await house.settle_in()
    house.cloud.accounts[0].password = "battery staple"
    house.cloud.expire_access()
    house.cloud.revoke_refresh()
    signed_in = house.cloud.count("GET", "/users/signin")
    await house.clock.advance_until(lambda: house.cloud.count("GET", "/users/signin") > signed_in, within=300)
    first = house.clock.monotonic()
    await house.pass_time(595)
    assert not reauth_flows(house)
    await house.clock.advance_until(lambda: reauth_flows(house), within=300)
    assert house.clock.monotonic() - first >= 600
    assert house.cloud.count("GET", "/users/signin") == signed_in + 2
    assert house.state("sensor", "wire_rating").state == "32.0"

    await house.pass_time(1800)
    assert len(reauth_flows(house)) == 1, "asked once"
    with pytest.raises(HomeAssistantError) as refused:
        await house.call("button", "press", "restart")
    assert refused.value.translation_domain == DOMAIN


async def test_i7_reauth_starts_again_after_a_reload_until_the_password_is_right(house: House) -> None:
    """Home Assistant aborts a reauth flow at every reload."""
    entry = await house.add_account()
    await house.settle_in()
    house.cloud.accounts[0].password = "battery staple"
    house.cloud.expire_access()
    house.cloud.revoke_refresh()
    await house.clock.advance_until(lambda: reauth_flows(house), within=1500)
    await house.hass.config_entries.async_reload(entry.entry_id)
    await house.pass_time(61)
    [flow] = reauth_flows(house)
    entered = await house.hass.config_entries.flow.async_configure(flow["flow_id"], {"password": "battery staple"})
    assert entered["reason"] == "reauth_successful"
    await house.pass_time(10)
    assert entry.state is ConfigEntryState.LOADED
    assert not reauth_flows(house)


async def test_i7_outage_never_starts_reauth(house: House) -> None:
    """I7: whatever a broken cloud answers."""
    await house.add_account()
    await house.settle_in()
    house.cloud.expire_access()
    for fault in (Fault.REFUSE, Fault.HANG, Fault.ERROR_500, Fault.TOO_MANY, Fault.UNAUTHORIZED, Fault.FORBIDDEN):
        await house.cloud.set_fault(fault)
        await house.pass_time(3600)
        assert not reauth_flows(house), fault
    await house.cloud.set_fault(Fault.NONE)
    await house.pass_time(1800)
    assert house.entry.runtime_data.account_coordinator.data.cloud is True
    assert house.state("sensor", "status").state == "available"
    assert not reauth_flows(house)


# Restarts of Home Assistant


async def test_i2_i4_restart_in_an_outage_keeps_limits_and_the_override(own_house: OwnHouse) -> None:
    """I2, I4: limits are kept and marked, live values are dropped, a waiting override is applied once."""
    house = own_house
    await house.add_account()
    await house.settle_in()
    await house.options(load_group_limits={WAITING: 30})
    await house.pass_time(180)
    before = {(serial, key): house.state("sensor", key, serial).state for serial, key in LIMITS}
    everything = entity_ids(house)

    await house.cloud.set_fault(Fault.REFUSE)
    await house.pass_until_usable(False)
    await house.call("switch", "turn_on", "tou_override", WAITING)
    assert house.state("switch", "tou_override", WAITING).attributes["applied"] is False
    await house.restart()

    assert entity_ids(house) == everything
    for serial, key in LIMITS:
        state = house.state("sensor", key, serial)
        assert state.state == before[serial, key], (serial, key)
        assert state.attributes["source"] == "cache"
        since = datetime.fromisoformat(state.attributes["since"])
        assert timedelta(0) < house.clock.now() - since < timedelta(hours=1)
    limit = house.state("sensor", "load_group_limit", WAITING)
    assert (limit.state, limit.attributes["source"], "since" in limit.attributes) == ("30.0", "user", False)
    for key, platform in (("power", "sensor"), ("car_connected", "binary_sensor")):
        assert house.state(platform, key, CHARGING).state == "unavailable"
    for key, platform in (("status", "sensor"), ("charging", "switch"), ("lock", "lock")):
        assert house.state(platform, key, CHARGING).state == "unknown"
    assert house.state("sensor", "session_energy", CHARGING).state not in {"unknown", "unavailable"}
    override = house.state("switch", "tou_override", WAITING)
    assert (override.state, override.attributes["applied"]) == ("on", False)
    assert house.state("sensor", "status", WAITING).state == "unknown"

    await house.pass_time(600)
    for domain, service, key, data in (
        ("button", "press", "restart", {}),
        ("number", "set_value", "charging_current", {"value": 10}),
        ("switch", "turn_off", "charging", {}),
        ("lock", "lock", "lock", {}),
    ):
        with pytest.raises(HomeAssistantError) as refused:
            await house.call(domain, service, key, FREE, **data)
        assert refused.value.translation_key == "no_path_since", key
        assert "Garage" in str(refused.value)

    sent = f"/v3/chargers/{WAITING}/remote-action"
    assert house.cloud.count("POST", sent) == 0
    await house.cloud.set_fault(Fault.NONE)
    await house.pass_until_usable(True)
    await house.pass_time(180)
    assert house.world.charger(WAITING).manual is Manual.CHARGE
    assert house.state("switch", "tou_override", WAITING).attributes["applied"] is True
    assert house.state("sensor", "status", WAITING).state == "charging"
    assert "since" not in house.state("sensor", "wire_rating", WAITING).attributes
    await house.pass_time(1800)
    assert house.cloud.count("POST", sent) == 1, "applied once"
    assert not reauth_flows(house)


async def test_clean_stop_saves_everything_and_sends_nothing(own_house: OwnHouse) -> None:
    """All stores are saved before the stop, and no request follows."""
    house = own_house
    entry = await house.add_account()
    await house.settle_in()
    await house.call("switch", "turn_on", "tou_override", WAITING)
    house.world.charger(FREE).max_charging_current = 13
    await house.clock.advance_until(lambda: house.state("number", "charging_current").state == "13.0", within=3600)
    seen = len(house.cloud.requests)
    await house.machine.shut_down()
    assert ours() == []
    assert house.run_clock.pending == []
    await house.clock.advance(3600)
    assert len(house.cloud.requests) == seen

    saved = {
        name.split(".")[0]: json.loads(path.read_text())["data"] for name, path in files(house.machine.disk).items()
    }
    assert saved.keys() == {"journal", "purses", "snapshot"}
    assert saved["purses"]["clean"] is True
    assert saved["snapshot"][FREE]["charging_current"]["value"] == 13
    assert saved["snapshot"][CHARGING]["lifetime_energy"]["value"] > 0
    assert saved["journal"][WAITING]["override"]["state"] == "verified"
    assert entry.unique_id is not None

    await house.start()
    await house.settle_in()
    assert house.state("switch", "tou_override", WAITING).state == "on"
    assert house.world.charger(WAITING).manual is Manual.CHARGE


async def test_power_cut_loses_no_override_and_adds_no_requests(own_house: OwnHouse) -> None:
    """I4, I6: an acknowledged override is restored, and the request limits hold."""
    house = own_house
    house.cloud.enforce_limits = True
    await house.add_account()
    await house.settle_in()
    await house.cloud.set_fault(Fault.REFUSE)
    await house.pass_until_usable(False)
    await house.call("switch", "turn_on", "tou_override", WAITING)
    await house.cloud.set_fault(Fault.NONE)
    for _ in range(8):
        await house.pass_time(13)
        await house.lose_power()
        await house.start()
        override = house.state("switch", "tou_override", WAITING)
        assert override.state == "on"
        assert house.state("sensor", "wire_rating", WAITING).state == "32.0"
    await house.settle_in()
    assert house.state("switch", "tou_override", WAITING).attributes["applied"] is True
    assert house.world.charger(WAITING).manual is Manual.CHARGE
    # Only the read that verifies the override follows another GET within a minute: from the reserve.
    early = [violation.path for violation in house.cloud.violations]
    assert early in ([], [f"/chargers/status/{WAITING}"])


async def test_command_in_progress_ends_when_home_assistant_stops(own_house: OwnHouse) -> None:
    house = own_house
    await house.add_account()
    await house.settle_in()
    await house.cloud.set_fault(Fault.HANG, method="PUT")
    target = {"entity_id": house.entity_id("number", "charging_current")}
    action = house.hass.services.async_call("number", "set_value", {"value": 10}, target=target, blocking=True)
    command = asyncio.get_running_loop().create_task(action)
    await house.clock.advance(1)
    assert house.cloud.count("PUT") == 1
    await house.machine.shut_down()
    with pytest.raises(HomeAssistantError) as stopped:
        await command
    assert stopped.value.translation_key == "stopping"
    assert ours() == []
    await house.clock.advance(600)
    assert house.cloud.count("PUT") == 1
    await house.start()


async def test_first_snapshot_saved_at_once(own_house: OwnHouse) -> None:
    """A power cut right after the account was added loses nothing."""
    house = own_house
    await house.add_account()
    await house.lose_power()
    await house.cloud.set_fault(Fault.REFUSE)
    await house.start()
    assert house.state("number", "charging_current", CHARGING).state == "16.0"
    assert house.state("number", "charging_current", CHARGING).attributes["source"] == "cache"


async def test_two_accounts_run_side_by_side(house: House) -> None:
    """Each account has its own devices, and the request limits hold."""
    house.cloud.accounts[0].serials = frozenset({FREE})
    house.cloud.add_account("second@example.org", "battery staple", serials=[CHARGING])
    entries = [await house.add_account(), await house.add_account("second@example.org", "battery staple")]
    await house.settle_in()
    assert house.state("sensor", "status", FREE).state == "available"
    assert house.state("sensor", "status", CHARGING).state == "charging"
    owners = Counter(device.config_entry_id for device in map(house.device, (FREE, CHARGING)) if device is not None)
    assert owners == Counter(entry.entry_id for entry in entries)
    assert house.cloud.violations == []
