"""I12: diagnostics, log and system health contain no name and no secret."""

import json
import logging
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import get_system_health_info

from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.diagnostics import (
    async_get_config_entry_diagnostics,
    async_get_device_diagnostics,
)
from tests.simulators.http_server import Fault

from .conftest import EMAIL, PASSWORD, House

NAME = "Ada's drive 4711"


def _secrets(house: House) -> list[str]:
    [account] = house.cloud.accounts
    return [EMAIL, PASSWORD, NAME, account.uuid, *house.world.chargers, house.cloud.url.removeprefix("http://")]


async def test_i12_diagnostics_contain_the_state_and_no_secret(hass: HomeAssistant, house: House) -> None:
    house.world.charger("700101").name = NAME
    entry = await house.add_account()
    await house.settle_in()
    diagnostics: dict[str, Any] = await async_get_config_entry_diagnostics(hass, entry)
    text = json.dumps(diagnostics)
    assert [secret for secret in _secrets(house) if secret in text] == []
    assert len(diagnostics["chargers"]) == 3
    assert diagnostics["account"]["breaker"] == "closed"
    assert diagnostics["chargers"][2]["snapshot"]["readings"]["status"]["value"] == "charging"
    assert diagnostics["chargers"][0]["paths"]["cloud"]["presence"] == "online"


async def test_i12_device_diagnostics_contain_no_serial_number(hass: HomeAssistant, house: House) -> None:
    entry = await house.add_account()
    await house.settle_in()
    registry = dr.async_get(hass)
    devices = {device.serial_number: device for device in dr.async_entries_for_config_entry(registry, entry.entry_id)}
    charger = await async_get_device_diagnostics(hass, entry, devices["700103"])
    assert charger["model"] == "Commander 2"
    assert "700103" not in json.dumps(charger)
    account = await async_get_device_diagnostics(hass, entry, devices[None])
    assert set(account) == {"account"}


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.SLOW])
async def test_i12_log_contains_no_secret_in_any_failure(
    hass: HomeAssistant, house: House, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    caplog.set_level(logging.DEBUG, "custom_components.chargekeeper")
    house.world.charger("700101").name = NAME
    await house.add_account()
    await house.pass_time(300)
    await house.cloud.set_fault(fault)
    await house.pass_time(900)
    await house.cloud.set_fault(Fault.NONE)
    await house.pass_time(300)
    ours = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("custom_components.chargekeeper")
    )
    assert ours
    tokens = [token for token in house.cloud._tokens if len(token) > 8]
    assert [secret for secret in (*_secrets(house), *tokens) if secret in ours] == []


async def test_system_health_counts_accounts_and_chargers(hass: HomeAssistant, house: House) -> None:
    hass.config.components.add("http")
    assert await async_setup_component(hass, "system_health", {})
    await house.add_account()
    await house.settle_in()
    assert await get_system_health_info(hass, DOMAIN) == {
        "accounts": 1,
        "accounts_reached": 1,
        "load_groups": 0,
        "chargers": 3,
    }
