"""Repairs: each appears and disappears with its cause."""

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import device_registry as dr, issue_registry as ir
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.chargekeeper.const import DOMAIN
from tests.simulators.world import RestartPlan

from .conftest import House

FREE = "700101"


def _issues(hass: HomeAssistant) -> set[str]:
    return {issue.translation_key or "" for (domain, _), issue in ir.async_get(hass).issues.items() if domain == DOMAIN}


async def test_repair_raised_when_the_charger_does_not_return_from_a_restart(hass: HomeAssistant, house: House) -> None:
    house.world.charger(FREE).restart_plan = RestartPlan(comes_back=False)
    await house.add_account()
    await house.settle_in()
    device = house.device()
    assert device is not None
    dr.async_get(hass).async_update_device(device.id, name_by_user="Garage at the back")
    await house.call("button", "press", "restart")
    assert _issues(hass) == set()
    await house.pass_time(11 * 60)
    assert _issues(hass) == {"restart_failed"}
    [issue] = [issue for (domain, _), issue in ir.async_get(hass).issues.items() if domain == DOMAIN]
    assert issue.translation_placeholders == {"charger": "Garage at the back"}
    with pytest.raises(ServiceValidationError) as caught:
        await house.call("button", "press", "restart")
    assert caught.value.translation_placeholders == {"charger": "Garage at the back"}
    house.world.charger(FREE).power_cycle()
    await house.pass_time(20 * 60)
    assert _issues(hass) == set()


async def test_repair_raised_while_a_charger_is_gone_from_the_account(hass: HomeAssistant, house: House) -> None:
    entry = await house.add_account()
    await house.settle_in()
    [account] = house.cloud.accounts
    account.unshared.add(FREE)
    await house.pass_time(10 * 60)
    assert _issues(hass) == {"gone"}
    assert hass.states.get("sensor.garage_wire_rating") is not None
    account.unshared.clear()
    await house.pass_time(5 * 60)
    assert _issues(hass) == set()
    account.unshared.add(FREE)
    await house.pass_time(10 * 60)
    await hass.config_entries.async_remove(entry.entry_id)
    await hass.async_block_till_done()
    assert _issues(hass) == set()


async def test_repair_raised_while_another_integration_uses_the_account(hass: HomeAssistant, house: House) -> None:
    entry = await house.add_account()
    await house.settle_in()
    assert _issues(hass) == set()
    other = MockConfigEntry(domain="wallbox", title="Wallbox", data={"username": str(entry.data["email"])})
    other.add_to_hass(hass)
    hass.config_entries.async_update_entry(other, title="Wallbox portal")
    await hass.async_block_till_done()
    assert _issues(hass) == {"other_integration"}
    await hass.config_entries.async_remove(other.entry_id)
    await hass.async_block_till_done()
    assert _issues(hass) == set()
