"""Load groups in tests: added through the real flow, and watched at the simulated chargers."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from homeassistant.config_entries import SOURCE_USER, ConfigEntry, ConfigFlowResult
from homeassistant.core import State
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import entity_registry as er
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.chargekeeper.const import DOMAIN
from tests.simulators.world import State as WorldState

from .conftest import CHARGING, FREE, WAITING, House

names = {FREE: "Garage", WAITING: "Driveway", CHARGING: "Carport"}


async def submit(house: House, form: ConfigFlowResult, data: Mapping[str, object]) -> ConfigFlowResult:
    """Answer a form."""
    result = await house.hass.config_entries.flow.async_configure(form["flow_id"], dict(data))
    await house.hass.async_block_till_done()
    return result


async def begin(house: House) -> ConfigFlowResult:
    """Go through the menu to the first form of a load group."""
    menu = await house.hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    return await submit(house, menu, {"next_step_id": "load_group"})


async def answer_all(house: House, form: ConfigFlowResult, answers: Mapping[str, Mapping[str, object]]) -> Any:
    """Answer each form by its step until the flow shows no further form; return its result."""
    while form["type"] is FlowResultType.FORM:
        assert form["errors"] in ({}, None), form
        form = await submit(house, form, answers[str(form["step_id"])])
    return form


def answers(limit: float, *serials: str, weights: Mapping[str, float] | None = None) -> dict[str, dict[str, object]]:
    """Return what a user enters who accepts everything."""
    return {
        "load_group": {"name": "Garage circuit", "limit": limit},
        "members": {"members": [f"wallbox_{serial}" for serial in serials]},
        "weights": dict(weights or {}),
        "pausing": {},
        "offline_currents": {"accept": True},
    }


async def add_group(
    house: House, limit: float, *serials: str, weights: Mapping[str, float] | None = None
) -> ConfigEntry:
    """Add a load group, accepting everything."""
    result = await answer_all(house, await begin(house), answers(limit, *serials, weights=weights))
    assert result["type"] is FlowResultType.CREATE_ENTRY, result
    await house.hass.async_block_till_done()
    entry: ConfigEntry = result["result"]
    return entry


async def add_earlier_group(house: House, limit: float, *serials: str) -> ConfigEntry:
    """Add a load group as an earlier version could, which accepted any limit of at least 6 A."""
    entry: Any = MockConfigEntry(
        domain=DOMAIN,
        title="Garage circuit",
        unique_id=uuid4().hex,
        data={
            "kind": "load_group",
            "limit": limit,
            "members": [
                {"maker": "wallbox", "serial": serial, "name": names[serial], "weight": 1.0} for serial in serials
            ],
        },
    )
    entry.add_to_hass(house.hass)
    assert await house.hass.config_entries.async_setup(entry.entry_id)
    await house.hass.async_block_till_done()
    added: ConfigEntry = entry
    return added


def group_state(house: House, entry: ConfigEntry, key: str) -> State:
    """Return the state of a sensor of a load group, which must exist."""
    entity_id = er.async_get(house.hass).async_get_entity_id("sensor", DOMAIN, f"group_{entry.unique_id}_{key}")
    assert entity_id is not None, f"no {key}"
    state = house.hass.states.get(entity_id)
    assert state is not None, f"no state of {key}"
    return state


def group_values(house: House, entry: ConfigEntry, *serials: str) -> tuple[str, ...]:
    """Return the states of a load group: allocated, headroom, and the shares of these chargers."""
    keys = ("allocated", "headroom", *(f"wallbox_{serial}_share" for serial in serials))
    return tuple(group_state(house, entry, key).state for key in keys)


def amperes(house: House) -> int:
    """Return the current in A, per phase, that all charging cars draw together now."""
    house.world.advance()
    chargers = house.world.chargers.values()
    return sum(charger.amperes for charger in chargers if charger.state is WorldState.CHARGING)


async def highest_sum(house: House, seconds: float, *, step: float = 5.0) -> int:
    """Let time pass and return the highest current that the cars drew together."""
    highest = amperes(house)
    for _ in range(round(seconds / step)):
        await house.clock.advance(step)
        highest = max(highest, amperes(house))
    await house.hass.async_block_till_done()
    return highest
