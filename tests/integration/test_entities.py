"""The entities of a charger and an account: their ids, and when they are added."""

from collections import Counter
from collections.abc import Generator
import json
import logging
from pathlib import Path
from typing import Any
from unittest.mock import PropertyMock, patch

from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er
import pytest
from syrupy.assertion import SnapshotAssertion

import custom_components.chargekeeper
from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.core.model import (
    FIRMWARE,
    OFFLINE_CURRENT,
    TEMPERATURE,
    Capability,
    LimitingFactor,
    Source,
)
from custom_components.chargekeeper.entity import ChargerEntity
from custom_components.chargekeeper.sensor import GROUP_SENSORS, SHARE

from .fakes import BASIC, CLOUD_VALUES, EVERYTHING, SERIAL, USER, House, charger, move_in

pytestmark = pytest.mark.usefixtures("hass_storage")

INTEGRATION = Path(custom_components.chargekeeper.__file__).parent
TEXTS = json.loads((INTEGRATION / "translations" / "en.json").read_text(encoding="utf-8"))
ICONS = json.loads((INTEGRATION / "icons.json").read_text(encoding="utf-8"))

COMMANDS = {"tou_override", "charging", "restart", "charging_current", "lock", "eco_mode"}


@pytest.fixture(name="all_enabled")
def all_enabled_fixture() -> Generator[None]:
    """Enable the entities that are disabled by default."""
    with patch("homeassistant.helpers.entity.Entity.entity_registry_enabled_default", PropertyMock(return_value=True)):
        yield


def keys(house: House, serial: str = SERIAL) -> set[str]:
    prefix = f"wallbox_{serial}_"
    return {
        entity.unique_id.removeprefix(prefix)
        for entity in house.registered()
        if entity.unique_id.startswith(prefix) and entity.domain != "event"
    }


async def test_all_entities_match_the_snapshot(hass: HomeAssistant, snapshot: SnapshotAssertion) -> None:
    house = await move_in(hass, EVERYTHING)
    found = [
        {
            "entity_id": entity.entity_id,
            "unique_id": entity.unique_id,
            "key": entity.translation_key,
            "name": entity.original_name,
            "device_class": entity.original_device_class,
            "unit": entity.unit_of_measurement,
            "category": entity.entity_category,
            "capabilities": entity.capabilities,
            "enabled": entity.disabled_by is None,
        }
        for entity in house.registered()
    ]
    assert found == snapshot


async def test_devices_show_identity_and_firmware(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    registry = dr.async_get(hass)
    device = registry.async_get_device_by_identifier((DOMAIN, f"wallbox_{SERIAL}"), house.entry.entry_id)
    account = registry.async_get_device_by_identifier((DOMAIN, f"account_{USER}"), house.entry.entry_id)
    assert device is not None
    assert account is not None
    assert (device.name, device.manufacturer, device.model) == ("Garage", "Wallbox", "Pulsar Plus")
    assert (device.serial_number, device.sw_version, device.via_device_id) == (SERIAL, "6.4.10", account.id)
    assert account.entry_type is dr.DeviceEntryType.SERVICE
    per_device = Counter(entity.device_id for entity in house.registered())
    assert per_device.keys() == {device.id, account.id}
    assert per_device[account.id] == 3

    await house.show({FIRMWARE: "6.5.2"})
    updated = registry.async_get_device_by_identifier((DOMAIN, f"wallbox_{SERIAL}"), house.entry.entry_id)
    assert updated is not None
    assert updated.sw_version == "6.5.2"


async def test_charger_has_at_most_25_entities_enabled_by_default(hass: HomeAssistant) -> None:
    house = await move_in(hass, CLOUD_VALUES)
    of_charger = [e for e in house.registered() if e.unique_id.startswith("wallbox_")]
    enabled = [entity for entity in of_charger if entity.disabled_by is None]
    assert len(enabled) <= 25
    assert len(of_charger) > len(enabled)


async def test_charger_has_entities_only_for_values_shown(hass: HomeAssistant) -> None:
    house = await move_in(hass, BASIC, capabilities=frozenset({Capability.CURRENT}))
    assert keys(house) == {
        *("status", "connection_path", "cloud", "last_cloud_contact", "restart_availability"),
        *("car_connected", "problem", "wire_rating", "effective_limit", "limiting_factor", "charging_current"),
    }


async def test_entity_added_without_a_reload_when_its_value_first_appears(
    hass: HomeAssistant, all_enabled: None
) -> None:
    house = await move_in(hass, BASIC, capabilities=frozenset())
    before = keys(house)
    assert not before & {"temperature", "restart", "lock"}

    await house.show({TEMPERATURE: 30.0})
    assert keys(house) - before == {"temperature"}
    assert house.state("sensor", "temperature").state == "30.0"

    house.transport.can = frozenset({Capability.RESTART, Capability.LOCK})
    house.transport.changed()
    await house.settle()
    assert keys(house) - before == {"temperature", "restart", "lock"}

    await house.show({TEMPERATURE: 31.0})
    assert house.state("sensor", "temperature").state == "31.0"


async def test_charger_added_to_the_account_gets_its_entities(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    house.account.transport("1002").show(CLOUD_VALUES)
    house.account.appear(charger("1002", "Carport"))
    await house.settle()
    assert keys(house, "1002") == keys(house)
    entity_id = house.entity_id("sensor", "status", serial="1002")
    assert entity_id is not None
    state = hass.states.get(entity_id)
    assert state is not None
    assert state.state == "available"


async def test_i8_all_entities_restored_when_the_cloud_does_not_answer(
    hass: HomeAssistant, hass_storage: dict[str, Any]
) -> None:
    """I8: set-up without a cloud creates all entities, even without stores."""
    house = await move_in(hass, EVERYTHING)
    before = house.registered()
    house.transport.can = frozenset()
    hass_storage.clear()
    await house.restart_home_assistant()

    assert house.registered() == before
    enabled = {entity.entity_id for entity in before if entity.disabled_by is None}
    provided = {state.entity_id for state in hass.states.async_all() if not state.attributes.get("restored")}
    assert enabled <= provided


async def test_read_only_entry_has_no_command_entities(hass: HomeAssistant) -> None:
    house = await move_in(hass, options={"read_only": True})
    assert not keys(house) & COMMANDS
    assert house.state("update", "firmware").attributes["supported_features"] == 4, "progress, no install"


async def test_command_entities_removed_by_read_only_and_restored_after(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    before = keys(house)
    entity_id = house.entity_id("switch", "tou_override")
    assert entity_id is not None
    er.async_get(hass).async_update_entity(entity_id, new_entity_id="switch.charge_now")

    for read_only, expected in ((True, before - COMMANDS), (False, before)):
        await house.unload()
        hass.config_entries.async_update_entry(house.entry, options={"read_only": read_only})
        await house.set_up()
        assert keys(house) == expected
    assert house.entity_id("switch", "tou_override") == "switch.charge_now"


async def test_entity_written_only_when_its_value_changes(hass: HomeAssistant) -> None:
    house = await move_in(hass, EVERYTHING)
    with patch.object(ChargerEntity, "async_write_ha_state", autospec=True) as write:
        await house.show({OFFLINE_CURRENT: 11.0})
    assert [call.args[0].entity_id for call in write.call_args_list] == [house.entity_id("sensor", "offline_current")]


async def test_entities_cause_no_warnings_in_the_log(
    hass: HomeAssistant, all_enabled: None, caplog: pytest.LogCaptureFixture
) -> None:
    """No deprecation and no mismatch of unit, class or precision is logged."""
    house = await move_in(hass, EVERYTHING)
    await house.show({OFFLINE_CURRENT: 11.0})
    await house.unload()
    complaints = [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING
        and record.name != "asyncio"  # warns of a slow machine
        and "has not been tested by Home Assistant" not in record.getMessage()
    ]
    assert complaints == []


async def test_texts_and_icons_match_the_entities(hass: HomeAssistant) -> None:
    """Every key has a name and every state a text; every text and icon belongs to an entity."""
    house = await move_in(hass, EVERYTHING)
    named: dict[str, set[str]] = {}
    for entity in house.registered():
        assert entity.translation_key is not None
        named.setdefault(entity.domain, set()).add(entity.translation_key)
        text = TEXTS["entity"][entity.domain][entity.translation_key]
        assert text["name"] == entity.original_name
        if options := (entity.capabilities or {}).get("options"):
            assert set(options) == text["state"].keys()
        if event_types := (entity.capabilities or {}).get("event_types"):
            assert set(event_types) == text["state_attributes"]["event_type"]["state"].keys()
    # The registry has no `local` entities while only the cloud reaches the charger.
    named["sensor"].add("last_local_contact")
    named["binary_sensor"].add("local")
    named["sensor"] |= {description.key for description in GROUP_SENSORS} | {SHARE}
    assert {domain: set(texts) for domain, texts in TEXTS["entity"].items()} == named
    for domain, icons in ICONS["entity"].items():
        assert icons.keys() <= named[domain]
        for key, icon in icons.items():
            states = TEXTS["entity"][domain][key].get("state", {"on": "", "off": ""})
            assert icon.get("state", {}).keys() <= states.keys(), key
            assert icon["default"] not in icon.get("state", {}).values(), key


async def test_every_source_has_a_text() -> None:
    for platform, key in [
        *(("sensor", key) for key in LimitingFactor if key is not LimitingFactor.CHARGING_CURRENT),
        ("sensor", "effective_limit"),
        ("number", "charging_current"),
    ]:
        texts = TEXTS["entity"][platform][key]["state_attributes"]
        assert texts["source"]["state"].keys() == {source.value for source in Source}
        assert texts["since"]["name"]


def test_entity_names_short_and_in_sentence_case() -> None:
    names = [text["name"] for texts in TEXTS["entity"].values() for text in texts.values()]
    assert all(len(name) <= 24 for name in names)
    capitals = {"L1", "L2", "L3"}
    assert [
        name for name in names if any(word[0].isupper() and word not in capitals for word in name.split()[1:])
    ] == []
