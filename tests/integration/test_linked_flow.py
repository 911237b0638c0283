"""The subentry flow that links entities of the user: every step, and every mistake corrected."""

from collections.abc import Mapping
from typing import Any

from homeassistant.config_entries import SOURCE_RECONFIGURE, SOURCE_USER, ConfigSubentry, SubentryFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType, UnknownHandler
from homeassistant.helpers import device_registry as dr, entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.chargekeeper.config_flow import ChargeKeeperConfigFlow
from custom_components.chargekeeper.linked.entity_transport import LINKS
from tests.simulators.local_side import LocalSide

from .conftest import CHARGING, FREE, WAITING, House
from .local_entities import LocalIntegration

OTHERS = {
    "template": "sensor.template_status",
    "numeric": "sensor.numeric_status",
    "options": "sensor.options_status",
    "volts": "sensor.volts",
    "light": "light.kitchen",
}


@pytest.fixture
async def local(hass: HomeAssistant, house: House) -> LocalIntegration:
    """Return the local integration of the waiting charger; the account is added."""
    await house.add_account()
    integration = LocalIntegration(hass, LocalSide(house.world, WAITING))
    await integration.set_up()
    return integration


async def begin(house: House) -> SubentryFlowResult:
    """Open the form."""
    flow = house.hass.config_entries.subentries
    return await flow.async_init((house.entry.entry_id, "linked"), context={"source": SOURCE_USER})


async def enter(house: House, form: SubentryFlowResult, entered: Mapping[str, object]) -> SubentryFlowResult:
    """Fill a form in."""
    result = await house.hass.config_entries.subentries.async_configure(form["flow_id"], dict(entered))
    await house.hass.async_block_till_done()
    return result


async def reconfigure(house: House, subentry: ConfigSubentry) -> SubentryFlowResult:
    """Open the form of an existing link."""
    return await house.hass.config_entries.subentries.async_init(
        (house.entry.entry_id, "linked"),
        context={"source": SOURCE_RECONFIGURE, "subentry_id": subentry.subentry_id},
    )


def the_link(house: House) -> ConfigSubentry:
    """Return the only subentry."""
    [subentry] = house.entry.subentries.values()
    return subentry


def suggested(form: SubentryFlowResult) -> dict[str, Any]:
    """Return the suggested values of a form."""
    schema = form["data_schema"]
    assert schema is not None
    fields = {str(key): key.description for key in schema.schema}
    return {key: found["suggested_value"] for key, found in fields.items() if found}


def chargers(form: SubentryFlowResult) -> dict[str, str]:
    """Return the offered chargers: labels by serial."""
    schema = form["data_schema"]
    assert schema is not None
    selector = next(selector for key, selector in schema.schema.items() if key == "charger")
    return {option["value"]: option["label"] for option in selector.config["options"]}


def other_entity(hass: HomeAssistant, name: str, state: str, **attributes: object) -> str:
    """Add an entity of another integration and return its entity id."""
    entity_id = OTHERS[name]
    domain, object_id = entity_id.split(".")
    er.async_get(hass).async_get_or_create(domain, "other", name, suggested_object_id=object_id)
    hass.states.async_set(entity_id, state, attributes)
    return entity_id


async def test_charger_linked_to_local_entities(house: House, local: LocalIntegration) -> None:
    device = house.device(WAITING)
    assert device is not None
    dr.async_get(house.hass).async_update_device(device.id, name_by_user="Drive")
    form = await begin(house)
    assert (form["type"], form["step_id"], form["errors"]) == (FlowResultType.FORM, "user", {})
    assert chargers(form) == {FREE: "Garage", WAITING: "Drive", CHARGING: "Carport"}
    result = await enter(house, form, {"charger": WAITING, **local.chosen()})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    subentry = the_link(house)
    assert (subentry.title, subentry.unique_id) == ("Drive", f"linked_wallbox_{WAITING}")
    ids = {link: local.entry(link).id for link in LINKS}
    assert subentry.data == {"maker": "wallbox", "serial": WAITING, **ids}
    assert house.state("binary_sensor", "local", WAITING).state == "on"
    assert chargers(await begin(house)).keys() == {FREE, CHARGING}


def test_load_group_entry_has_no_subentry_types() -> None:
    entry = MockConfigEntry(domain="chargekeeper", data={"kind": "load_group"})
    assert ChargeKeeperConfigFlow.async_get_supported_subentry_types(entry) == {}


async def test_unknown_subentry_type_refused(house: House, local: LocalIntegration) -> None:
    with pytest.raises(UnknownHandler):
        await house.hass.config_entries.subentries.async_init(
            (house.entry.entry_id, "nonsense"), context={"source": SOURCE_USER}
        )


async def test_single_entity_is_enough_for_a_link(house: House, local: LocalIntegration) -> None:
    result = await enter(house, await begin(house), {"charger": FREE, **local.chosen("power")})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert the_link(house).data.keys() == {"maker", "serial", "power"}


async def test_charger_linked_at_most_once(house: House, local: LocalIntegration) -> None:
    second, third = await begin(house), await begin(house)
    for serial, link in ((FREE, "status"), (WAITING, "power"), (CHARGING, "current")):
        result = await enter(house, await begin(house), {"charger": serial, **local.chosen(link)})
        assert result["type"] is FlowResultType.CREATE_ENTRY
        if serial == FREE:
            slow = await enter(house, third, {"charger": FREE, **local.chosen("current_number")})
            assert (slow["type"], slow["reason"]) == (FlowResultType.ABORT, "already_linked")
    late = await begin(house)
    assert (late["type"], late["reason"]) == (FlowResultType.ABORT, "all_linked")
    slow = await enter(house, second, {"charger": FREE, **local.chosen("current_number")})
    assert (slow["type"], slow["reason"]) == (FlowResultType.ABORT, "all_linked")


async def test_charger_linked_meanwhile_aborts_the_slower_flow(house: House, local: LocalIntegration) -> None:
    await local.set_up("cloud_polling")
    slow = await enter(house, await begin(house), {"charger": FREE, **local.chosen("status")})
    assert slow["step_id"] == "cloud_based"
    quick = await enter(house, await begin(house), {"charger": FREE, **local.chosen("power")})
    await enter(house, quick, {})
    result = await enter(house, slow, {})
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "already_linked")
    assert "status" not in the_link(house).data


async def test_link_form_names_each_mistake_and_accepts_the_correction(house: House, local: LocalIntegration) -> None:
    hass, registry = house.hass, er.async_get(house.hass)
    hass.states.async_set("sensor.without_unique_id", "charging")
    other_entity(hass, "volts", "230", unit_of_measurement="V")
    other_entity(hass, "light", "on")
    other_entity(hass, "numeric", "17")
    disabled = registry.async_get_or_create("button", "other", "x", disabled_by=er.RegistryEntryDisabler.USER)
    await enter(house, await begin(house), {"charger": FREE, **local.chosen("current")})
    form = await begin(house)
    mistakes: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, {"base": "nothing_linked"}),
        ({"status": house.entity_id("sensor", "status", WAITING)}, {"status": "own_entity"}),
        ({"status": "sensor.without_unique_id"}, {"status": "not_registered"}),
        ({"status": OTHERS["numeric"]}, {"status": "unknown_words"}),
        ({"power": OTHERS["volts"]}, {"power": "wrong_unit"}),
        ({"current_number": local.entry("charge_switch").entity_id}, {"current_number": "wrong_kind"}),
        ({"charge_switch": OTHERS["light"], **local.chosen("status")}, {"charge_switch": "wrong_kind"}),
        ({"restart_button": disabled.entity_id}, {"restart_button": "disabled"}),
        (local.chosen("power", "current"), {"current": "linked_elsewhere"}),
        (local.chosen("charge_switch"), {"charge_switch": "needs_status_or_power"}),
        (local.chosen("restart_button", "power"), {"restart_button": "needs_status"}),
    ]
    for entered, errors in mistakes:
        form = await enter(house, form, {"charger": WAITING, **entered})
        assert (form["type"], form["errors"]) == (FlowResultType.FORM, errors)
        assert suggested(form) == {"charger": WAITING, **entered}, "nothing has to be entered again"
    result = await enter(house, form, {"charger": WAITING, **local.chosen("status", "restart_button")})
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_status_entity_accepted_by_its_options_or_while_unknown(house: House, local: LocalIntegration) -> None:
    registry = er.async_get(house.hass)
    options = other_entity(house.hass, "options", "booting", options=["booting", "charging"])
    silent = other_entity(house.hass, "template", "unknown")  # it may show a known status later
    for entity_id in (options, silent):
        entry = registry.async_get(entity_id)
        assert entry is not None
        assert await linked(house, {"status": entity_id}) == {"status": entry.id}


async def test_unavailable_entities_accepted_by_their_registry_entries(house: House, local: LocalIntegration) -> None:
    local.lose()
    assert {house.hass.states.get(entity_id).state for entity_id in local.chosen().values()} == {"unavailable"}  # type: ignore[union-attr]
    assert await linked(house, local.chosen()) == {link: local.entry(link).id for link in LINKS}


async def linked(house: House, entered: Mapping[str, object]) -> dict[str, object]:
    """Return the links that the flow stores for this input, and remove the subentry again."""
    result = await enter(house, await begin(house), {"charger": WAITING, **entered})
    assert result["type"] is FlowResultType.CREATE_ENTRY, result
    subentry = the_link(house)
    house.hass.config_entries.async_remove_subentry(house.entry, subentry.subentry_id)
    await house.hass.async_block_till_done()
    return {link: entity for link, entity in subentry.data.items() if link not in {"maker", "serial"}}


async def test_cloud_based_entities_accepted_with_a_warning(house: House, local: LocalIntegration) -> None:
    await local.set_up("cloud_polling")
    warning = await enter(house, await begin(house), {"charger": WAITING, **local.chosen("status", "power")})
    assert (warning["type"], warning["step_id"]) == (FlowResultType.FORM, "cloud_based")
    entities = ", ".join(sorted(local.chosen("status", "power").values()))
    assert warning["description_placeholders"] == {"entities": entities}
    assert (await enter(house, warning, {}))["type"] is FlowResultType.CREATE_ENTRY
    assert the_link(house).data["status"] == local.entry("status").id


async def test_entity_of_an_unknown_integration_accepted_as_local(house: House, local: LocalIntegration) -> None:
    entity_id = other_entity(house.hass, "template", "charging")
    result = await enter(house, await begin(house), {"charger": WAITING, "status": entity_id})
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_linked_entities_replaced_by_reconfigure(house: House, local: LocalIntegration) -> None:
    await enter(house, await begin(house), {"charger": WAITING, **local.chosen("status", "power", "charge_switch")})
    registry = er.async_get(house.hass)
    registry.async_update_entity(local.entry("status").entity_id, new_entity_id="sensor.drive_state")
    registry.async_remove(local.entry("power").entity_id)
    await house.hass.async_block_till_done()
    form = await reconfigure(house, the_link(house))
    assert (form["step_id"], form["description_placeholders"]) == ("reconfigure", {"charger": "Driveway"})
    assert suggested(form) == local.chosen("status", "charge_switch")
    assert suggested(form)["status"] == "sensor.drive_state"
    form = await enter(house, form, local.chosen("charge_switch"))
    assert form["errors"] == {"charge_switch": "needs_status_or_power"}
    result = await enter(house, form, local.chosen("status", "restart_button"))
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "reconfigure_successful")
    assert the_link(house).data == {
        "maker": "wallbox",
        "serial": WAITING,
        "status": local.entry("status").id,
        "restart_button": local.entry("restart_button").id,
    }
    transport = house.entry.runtime_data.account_runtime.linked[WAITING]
    assert sorted(transport.capabilities) == ["restart"], "the entry was set up again"


async def test_reconfigure_warns_of_cloud_based_entities(house: House, local: LocalIntegration) -> None:
    await enter(house, await begin(house), {"charger": WAITING, **local.chosen("status")})
    await local.set_up("cloud_push")
    form = await reconfigure(house, the_link(house))
    warning = await enter(house, form, local.chosen("status", "power"))
    assert warning["step_id"] == "cloud_based"
    assert (await enter(house, warning, {}))["reason"] == "reconfigure_successful"
    assert "power" in the_link(house).data
