"""The config flow for load groups: every step, every refusal, and changes to a group."""

from typing import Any

from homeassistant.config_entries import ConfigEntry, ConfigEntryDisabler, ConfigFlowResult
from homeassistant.data_entry_flow import FlowResultType, InvalidData
from homeassistant.helpers import device_registry as dr, entity_registry as er
import pytest

from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.core.model import CHARGING_CURRENT, WIRE_RATING, Maker

from .boxes import FIRST, SECOND, BoxHouse
from .conftest import CHARGING, FREE, WAITING, House
from .groups import add_earlier_group, add_group, answer_all, answers, begin, submit

SLUGS = {serial: f"wallbox_{serial}" for serial in (FREE, WAITING, CHARGING)}


async def live_in(house: House) -> None:
    await house.add_account()
    await house.settle_in()


async def at_members(house: House, limit: float = 32) -> ConfigFlowResult:
    """Go through the flow to the step that asks for the members."""
    return await submit(house, await begin(house), {"name": "Garage circuit", "limit": limit})


async def choose(house: House, form: ConfigFlowResult, *serials: str) -> ConfigFlowResult:
    return await submit(house, form, {"members": [SLUGS[serial] for serial in serials]})


def fields(form: ConfigFlowResult) -> dict[str, Any]:
    """Return the prefilled values of a form."""
    assert form["data_schema"] is not None
    found = {}
    for key in form["data_schema"].schema:
        suggested = (key.description or {}).get("suggested_value")
        found[str(key.schema)] = key.default() if suggested is None and callable(key.default) else suggested
    return found


def member(serial: str, name: str, weight: float = 1.0) -> dict[str, object]:
    return {"maker": "wallbox", "serial": serial, "name": name, "weight": weight}


async def reconfigure(house: House, entry: ConfigEntry) -> ConfigFlowResult:
    flow = house.hass.config_entries.flow
    return await flow.async_init(DOMAIN, context={"source": "reconfigure", "entry_id": entry.entry_id})


async def test_load_group_added(house: House) -> None:
    await live_in(house)
    house.shared_state.chargers[Maker.WALLBOX, WAITING].group_share = 8  # its own share does not count
    form = await begin(house)
    assert (form["step_id"], form["errors"]) == ("load_group", {})
    form = await submit(house, form, {"name": " Garage circuit ", "limit": 32})
    assert (form["step_id"], form["errors"]) == ("members", {})
    assert form["data_schema"] is not None
    [selector] = form["data_schema"].schema.values()
    assert selector.config["options"] == [
        {"value": SLUGS[FREE], "label": "Garage"},
        {"value": SLUGS[WAITING], "label": "Driveway"},
        {"value": SLUGS[CHARGING], "label": "Carport"},
    ]
    form = await choose(house, form, CHARGING, FREE)
    assert form["step_id"] == "weights"
    assert fields(form) == {"Carport": 1.0, "Garage": 1.0}
    result = await submit(house, form, {"Carport": 1, "Garage": 3})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    entry = result["result"]
    assert entry.title == "Garage circuit"
    assert entry.data == {
        "kind": "load_group",
        "limit": 32.0,
        "members": [member(CHARGING, "Carport"), member(FREE, "Garage", 3.0)],
    }
    assert entry.unique_id
    assert not entry.supports_options
    assert entry.supports_reconfigure
    assert {key[1]: charger.group_share for key, charger in house.shared_state.chargers.items()} == {
        FREE: 24,
        WAITING: None,
        CHARGING: 8,
    }


async def test_load_group_refused_without_a_name(house: House) -> None:
    await live_in(house)
    form = await begin(house)
    for limit in (5, 1001):
        with pytest.raises(InvalidData):
            await submit(house, form, {"name": "Garage circuit", "limit": limit})
    form = await submit(house, form, {"name": "  ", "limit": 32})
    assert form["errors"] == {"name": "name_missing"}
    assert fields(form) == {"name": "  ", "limit": 32}
    result = await answer_all(house, await submit(house, form, {"name": "Garage", "limit": 32}), answers(32, CHARGING))
    assert result["type"] is FlowResultType.CREATE_ENTRY, "one member needs no weight"


async def test_load_group_flow_aborts_without_chargers(house: House) -> None:
    assert (await begin(house))["reason"] == "no_chargers_known"
    entry = await house.add_account()
    await house.hass.config_entries.async_set_disabled_by(entry.entry_id, ConfigEntryDisabler.USER)
    assert (await begin(house))["reason"] == "no_chargers_known"


async def test_invalid_members_refused_then_valid_members_accepted(house: House) -> None:
    await live_in(house)
    form = await at_members(house)
    for chosen, error, charger in (
        ((), "no_members", ""),
        ((FREE, CHARGING, FREE), "member_twice", "Garage"),
    ):
        form = await choose(house, form, *chosen)
        assert (form["step_id"], form["errors"]) == ("members", {"members": error})
        assert form["description_placeholders"] == {"charger": charger}
        assert fields(form) == {"members": [SLUGS[serial] for serial in chosen]}
    with pytest.raises(InvalidData):
        await submit(house, form, {"members": ["wallbox_999999"]})
    form = await choose(house, form, CHARGING)
    assert form["type"] is FlowResultType.CREATE_ENTRY


async def test_charger_of_another_load_group_refused_as_member(house: House) -> None:
    await live_in(house)
    first = await add_group(house, 32, FREE, CHARGING)
    await house.hass.config_entries.async_set_disabled_by(first.entry_id, ConfigEntryDisabler.USER)
    form = await choose(house, await at_members(house), WAITING, CHARGING)
    assert form["errors"] == {"members": "member_in_group"}
    assert form["description_placeholders"] == {"charger": "Carport"}
    form = await choose(house, form, WAITING)
    assert form["type"] is FlowResultType.CREATE_ENTRY


async def test_two_flows_cannot_take_the_same_charger(house: House) -> None:
    await live_in(house)
    slow = await choose(house, await at_members(house), FREE, CHARGING)
    assert slow["step_id"] == "weights"
    await add_group(house, 32, CHARGING)
    form = await submit(house, slow, {"Garage": 1, "Carport": 1})
    assert (form["step_id"], form["errors"]) == ("members", {"members": "member_in_group"})
    assert fields(form) == {"members": [SLUGS[FREE], SLUGS[CHARGING]]}
    form = await choose(house, form, FREE)
    assert form["type"] is FlowResultType.CREATE_ENTRY


async def test_charger_without_known_limits_refused_as_member(house: House) -> None:
    await live_in(house)
    charger = house.shared_state.chargers[Maker.WALLBOX, FREE]
    known = charger.snapshot.readings.copy()
    for prop in (CHARGING_CURRENT, WIRE_RATING):
        charger.snapshot.readings.remove(prop)
    form = await choose(house, await at_members(house), CHARGING, FREE)
    assert form["errors"] == {"members": "member_unknown"}
    assert form["description_placeholders"] == {"charger": "Garage"}
    for prop in (CHARGING_CURRENT, WIRE_RATING):
        reading = known.get(prop)
        assert reading is not None
        charger.snapshot.readings.put(prop, reading)
    form = await choose(house, form, CHARGING, FREE)
    assert form["step_id"] == "weights"


async def test_chargers_of_the_same_name_shown_with_their_serials(house: House) -> None:
    await live_in(house)
    for serial in (FREE, CHARGING):
        device = house.device(serial)
        assert device is not None
        dr.async_get(house.hass).async_update_device(device.id, name_by_user="Charger")
    form = await choose(house, await at_members(house), FREE, CHARGING)
    assert list(fields(form)) == [f"Charger ({FREE})", f"Charger ({CHARGING})"]


async def test_limit_refused_below_what_chargers_draw_that_anybody_can_start(house: House) -> None:
    await live_in(house)
    form = await at_members(house, 13)
    form = await choose(house, form, WAITING, FREE, CHARGING)
    assert (form["step_id"], form["errors"]) == ("load_group", {"limit": "limit_too_low"})
    assert form["description_placeholders"] == {"lowest": "18"}
    assert fields(form) == {"name": "Garage circuit", "limit": 13}
    form = await submit(house, form, {"name": "Garage circuit", "limit": 17.9})
    assert fields(form) == {"members": [SLUGS[serial] for serial in (WAITING, FREE, CHARGING)]}, "chosen before"
    form = await choose(house, form, WAITING, FREE, CHARGING)
    assert form["errors"] == {"limit": "limit_too_low"}
    form = await submit(house, form, {"name": "Garage circuit", "limit": 18})
    form = await choose(house, form, WAITING, FREE, CHARGING)
    result = await submit(house, form, {"Driveway": 1, "Garage": 1, "Carport": 1})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert [entry["serial"] for entry in result["result"].data["members"]] == [WAITING, FREE, CHARGING]


async def test_limit_accepted_once_fewer_chargers_are_chosen(house: House) -> None:
    await live_in(house)
    form = await choose(house, await at_members(house, 13), WAITING, FREE, CHARGING)
    form = await submit(house, form, {"name": "Garage circuit", "limit": 13})
    form = await choose(house, form, WAITING, FREE)
    assert form["step_id"] == "weights"


async def test_limit_of_earlier_group_refused_on_reconfigure(house: House) -> None:
    await live_in(house)
    entry = await add_earlier_group(house, 13, FREE, WAITING, CHARGING)
    form = await submit(house, await reconfigure(house, entry), {"name": "Garage circuit", "limit": 13})
    form = await choose(house, form, FREE, WAITING, CHARGING)
    assert form["errors"] == {"limit": "limit_too_low"}
    assert form["description_placeholders"] == {"lowest": "18"}


async def test_load_group_changed_by_reconfigure(house: House) -> None:
    await live_in(house)
    entry = await add_group(house, 32, FREE, CHARGING, weights={"Garage": 3, "Carport": 1})
    form = await reconfigure(house, entry)
    assert fields(form) == {"name": "Garage circuit", "limit": 32.0}
    form = await submit(house, form, {"name": "Circuit 7", "limit": 40})
    assert fields(form) == {"members": [SLUGS[FREE], SLUGS[CHARGING]]}
    form = await choose(house, form, WAITING, FREE)
    assert fields(form) == {"Driveway": 1.0, "Garage": 3.0}
    result = await submit(house, form, {"Driveway": 1, "Garage": 1})
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "reconfigure_successful")
    assert entry.title == "Circuit 7"
    assert entry.data == {
        "kind": "load_group",
        "limit": 40.0,
        "members": [member(WAITING, "Driveway"), member(FREE, "Garage")],
    }

    def shares() -> dict[str, float | None]:
        return {key[1]: charger.group_share for key, charger in house.shared_state.chargers.items()}

    assert shares() == {WAITING: 8, FREE: 20, CHARGING: None}, "the second could draw 32 A up to now"
    await house.pass_time(10 * 60)
    assert shares() == {WAITING: 20, FREE: 20, CHARGING: None}
    found = er.async_entries_for_config_entry(er.async_get(house.hass), entry.entry_id)
    assert {entity.unique_id.removeprefix(f"group_{entry.unique_id}_") for entity in found} == {
        "allocated",
        "headroom",
        f"wallbox_{FREE}_share",
        f"wallbox_{WAITING}_share",
    }


async def test_removed_member_refused_on_reconfigure(house: House) -> None:
    await live_in(house)
    entry = await add_group(house, 32, FREE, CHARGING)
    account = house.entry
    await house.hass.config_entries.async_remove(account.entry_id)
    await house.hass.async_block_till_done()
    form = await submit(house, await reconfigure(house, entry), {"name": "Garage circuit", "limit": 32})
    assert form["data_schema"] is not None
    [selector] = form["data_schema"].schema.values()
    assert [option["label"] for option in selector.config["options"]] == ["Garage", "Carport"], "still named"
    form = await choose(house, form, FREE)
    assert form["errors"] == {"members": "member_unknown"}


async def test_account_flow_ignores_load_group_entries(house: House) -> None:
    """The account flow finds the configured account among entries of other kinds."""
    await live_in(house)
    await add_group(house, 32, FREE)
    form = await house.begin_flow()
    result = await submit(house, form, house.credentials())
    assert result["reason"] == "already_configured"


async def test_limit_too_small_for_all_boxes_explained_and_accepted(box_house: BoxHouse) -> None:
    await box_house.add()
    box_house.power_up(SECOND)
    await box_house.pass_time(62)
    [offer] = box_house.offers()
    await box_house.submit(offer, {"name": "Yard", "wire_rating": 32, "in_maker_load_group": "no"})
    await box_house.pass_time(400)
    flow = box_house.hass.config_entries.flow
    form: Any = await flow.async_init(DOMAIN, context={"source": "user"})
    form = await box_house.submit(form, {"next_step_id": "load_group"})
    form = await box_house.submit(form, {"name": "Circuit", "limit": 8})
    form = await box_house.submit(form, {"members": [f"juicebox_{serial}" for serial in (FIRST, SECOND)]})
    form = await box_house.submit(form, {"Garage": 1, "Yard": 1})
    assert form["step_id"] == "pausing", "boxes are held at 0 A, so that 6 A are enough"
    assert form["description_placeholders"] == {"limit": "8", "places": "1", "order": "Garage, Yard"}
    form = await box_house.submit(form, {})
    assert (form["step_id"], form["errors"]) == ("offline_currents", {})
    assert form["description_placeholders"] == {"limit": "8", "excess": "24"}
    assert fields(form) == {"accept": False}
    form = await box_house.submit(form, {})
    assert form["errors"] == {"accept": "offline_excess"}
    assert box_house.shared_state.groups == {}
    result = await box_house.submit(form, {"accept": True})
    assert result["type"] is FlowResultType.CREATE_ENTRY
