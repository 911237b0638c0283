"""The outage report with served and replayed values, and the repair after half an hour."""

from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import device_registry as dr, issue_registry as ir
import pytest

from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.core.breaker import Failure
from custom_components.chargekeeper.core.model import Source
from custom_components.chargekeeper.ha.issues import CLOUD_LOST_AFTER
from tests.core.fake_transport import FakeDevice, FakeTransport
from tests.simulators.wallbox_cloud import Fault

from .conftest import CHARGING, FREE, WAITING, House, OwnHouse

SERIALS = (FREE, WAITING, CHARGING)


async def report(hass: HomeAssistant, **data: object) -> list[dict[str, Any]]:
    answer = await hass.services.async_call(DOMAIN, "outage_report", data, blocking=True, return_response=True)
    assert answer is not None
    outages = answer["outages"]
    assert isinstance(outages, list)
    return [outage for outage in outages if isinstance(outage, dict)]


async def lose_cloud(house: House) -> None:
    await house.cloud.set_fault(Fault.REFUSE)
    await house.pass_until_usable(False)


async def regain_cloud(house: House) -> None:
    await house.cloud.set_fault(Fault.NONE)
    await house.pass_until_usable(True)
    await house.pass_time(60)


def cloud_lost(hass: HomeAssistant) -> ir.IssueEntry | None:
    issues = [issue for (domain, _), issue in ir.async_get(hass).issues.items() if domain == DOMAIN and issue.active]
    return next((issue for issue in issues if issue.translation_key == "cloud_lost"), None)


async def test_i12_outage_report_lists_outages_without_serial_numbers(hass: HomeAssistant, house: House) -> None:
    await house.add_account()
    await house.settle_in()
    assert await report(hass) == []
    device = house.device(WAITING)
    assert device is not None
    dr.async_get(hass).async_update_device(device.id, name_by_user="At the back")
    before = house.clock.now()
    await lose_cloud(house)
    await house.call("switch", "turn_on", "tou_override", WAITING)
    [outage] = await report(hass)
    assert outage["start"] >= before.isoformat()
    assert (outage["end"], outage["replayed"]) == (None, {})
    assert {"wire_rating", "charging_current", "schedule"} <= set(outage["served"]["At the back"])
    assert len(outage["served"]) == 3
    await regain_cloud(house)
    [outage] = await report(hass, config_entry_id=house.entry.entry_id)
    assert outage["end"] > outage["start"]
    assert outage["replayed"] == {"At the back": ["tou_override"]}
    assert not any(serial in str(outage) for serial in SERIALS)


async def test_outage_report_lists_a_current_lowered_after_the_outage(hass: HomeAssistant, house: House) -> None:
    await house.add_account()
    await house.settle_in()
    await lose_cloud(house)
    await house.options(load_group_limits={CHARGING: 8})
    await regain_cloud(house)
    await house.pass_time(20 * 60)
    [outage] = await report(hass)
    assert list(outage["replayed"].values()) == [["charging_current"]]


async def test_outage_across_restarts_reported_once(own_house: OwnHouse) -> None:
    house = own_house
    await house.add_account()
    await house.settle_in()
    await lose_cloud(house)
    begun = (await report(house.hass))[0]["start"]
    await house.restart()
    await house.pass_time(120)
    [outage] = await report(house.hass)
    assert (outage["start"], outage["end"]) == (begun, None)
    await house.restart()
    await house.cloud.set_fault(Fault.NONE)
    await house.pass_time(180)
    [outage] = await report(house.hass)
    assert (outage["start"], outage["end"] is None) == (begun, False)


async def test_outage_report_omits_an_unknown_charger(hass: HomeAssistant, house: House) -> None:
    await house.add_account()
    await house.settle_in()
    await lose_cloud(house)
    log = house.entry.runtime_data.account_runtime.outages
    log.serve("700999", ["wire_rating"])
    [outage] = await report(hass)
    assert len(outage["served"]) == 3


async def test_outage_report_refused_without_an_existing_entry(hass: HomeAssistant, house: House) -> None:
    entry = await house.add_account()
    with pytest.raises(ServiceValidationError):
        await report(hass, config_entry_id="nothing")
    await hass.config_entries.async_remove(entry.entry_id)
    with pytest.raises(ServiceValidationError):
        await report(hass)


async def test_repair_raised_after_half_an_hour_without_any_transport(hass: HomeAssistant, house: House) -> None:
    await house.add_account()
    await house.settle_in()
    await lose_cloud(house)
    await house.pass_time(CLOUD_LOST_AFTER - 120)
    assert cloud_lost(hass) is None
    await house.pass_time(120)
    issue = cloud_lost(hass)
    assert issue is not None
    assert issue.translation_placeholders is not None
    assert issue.translation_placeholders["chargers"] == "Carport, Driveway, Garage"
    assert issue.translation_placeholders["since"].startswith("2026-11-02 ")
    issues = [key for key in ir.async_get(hass).issues if key[0] == DOMAIN]
    assert len(issues) == 1, "one per account"
    await regain_cloud(house)
    assert cloud_lost(hass) is None


async def test_short_outage_raises_no_repair(hass: HomeAssistant, house: House) -> None:
    await house.add_account()
    await house.settle_in()
    await lose_cloud(house)
    await house.pass_time(600)
    await regain_cloud(house)
    await house.pass_time(3600)
    assert cloud_lost(hass) is None


async def test_outage_repair_omits_chargers_with_a_local_transport(hass: HomeAssistant, house: House) -> None:
    await house.add_account()
    await house.settle_in()
    transports = {}
    for key, charger in house.shared_state.chargers.items():
        local = transports[key[1]] = FakeTransport(FakeDevice(clock=house.clock), source=Source.LINKED)
        charger.add_transport(local)
        local.tell()
    await lose_cloud(house)
    await house.pass_time(CLOUD_LOST_AFTER)
    assert cloud_lost(hass) is None
    transports[WAITING].breaker.bad(Failure.OTHER)
    await house.pass_time(20)
    transports[WAITING].breaker.bad(Failure.OTHER)
    await hass.async_block_till_done()
    issue = cloud_lost(hass)
    assert issue is not None
    assert issue.translation_placeholders is not None
    assert "," not in issue.translation_placeholders["chargers"]
    transports[WAITING].tell()
    await hass.async_block_till_done()
    assert cloud_lost(hass) is None


async def test_half_hour_before_the_repair_continues_across_a_restart(own_house: OwnHouse) -> None:
    house = own_house
    await house.add_account()
    await house.settle_in()
    await lose_cloud(house)
    await house.pass_time(20 * 60)
    await house.restart()
    await house.pass_time(120)
    assert cloud_lost(house.hass) is None
    await house.pass_time(8 * 60)
    assert cloud_lost(house.hass) is not None


async def test_outage_repair_removed_with_the_account(hass: HomeAssistant, house: House) -> None:
    entry = await house.add_account()
    await house.settle_in()
    await lose_cloud(house)
    await house.pass_time(CLOUD_LOST_AFTER + 60)
    assert cloud_lost(hass) is not None
    removal = hass.config_entries.async_remove(entry.entry_id)
    await house.finish(removal)
    assert cloud_lost(hass) is None
