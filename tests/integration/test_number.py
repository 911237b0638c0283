"""The charging current: bounded by the limits, cached like them, never raised above them."""

from homeassistant.const import STATE_UNKNOWN
from homeassistant.core import HomeAssistant, State
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
import pytest

from custom_components.chargekeeper.core.errors import TransportBusy
from custom_components.chargekeeper.core.model import (
    CHARGING_CURRENT,
    LOAD_GROUP_LIMIT,
    STATUS,
    WIRE_RATING,
    Status,
)
from custom_components.chargekeeper.core.transport import SetCurrent
from custom_components.chargekeeper.number import ChargingCurrent

from .fakes import BASIC, CLOUD_VALUES, House, move_in

pytestmark = pytest.mark.usefixtures("hass_storage")


def number(house: House) -> State:
    return house.state("number", "charging_current")


async def test_current_bounds_follow_the_limits_of_the_charger(hass: HomeAssistant) -> None:
    house = await move_in(hass, BASIC)
    state = number(house)
    assert state.state == "16.0"
    bounds = {key: state.attributes[key] for key in ("min", "max", "step", "mode", "unit_of_measurement")}
    assert bounds == {"min": 6, "max": 32, "step": 1, "mode": "slider", "unit_of_measurement": "A"}
    await house.show({LOAD_GROUP_LIMIT: 20.7})
    assert number(house).attributes["max"] == 20
    await house.show({LOAD_GROUP_LIMIT: 4.0})
    assert number(house).attributes["max"] == 6


async def test_current_bound_is_80_a_while_no_limit_is_known(hass: HomeAssistant) -> None:
    house = await move_in(hass, {STATUS: Status.AVAILABLE})
    assert number(house).state == STATE_UNKNOWN
    assert number(house).attributes["max"] == 80


async def test_current_sent_and_shown(hass: HomeAssistant) -> None:
    house = await move_in(hass, BASIC)
    await house.call("number", "set_value", number(house), value=20)
    assert house.transport.executed == [SetCurrent(20)]
    await house.show({CHARGING_CURRENT: 20.0})
    assert number(house).state == "20.0"


async def test_i1_current_not_raised_without_a_wire_rating(hass: HomeAssistant) -> None:
    """I1: without a wire rating the current is never raised; lowering is always allowed."""
    house = await move_in(hass, {STATUS: Status.AVAILABLE, CHARGING_CURRENT: 16.0})
    with pytest.raises(ServiceValidationError) as caught:
        await house.call("number", "set_value", number(house), value=17)
    assert caught.value.translation_key == "wire_rating_unknown"
    await house.call("number", "set_value", number(house), value=10)
    assert house.transport.executed == [SetCurrent(10)]


@pytest.mark.parametrize("amps", [5, 33])
async def test_i1_current_outside_the_bounds_refused(hass: HomeAssistant, amps: int) -> None:
    """I1: a current above the limits is refused; 1 to 5 A would be a pause."""
    house = await move_in(hass, BASIC)
    with pytest.raises(ServiceValidationError):
        await house.call("number", "set_value", number(house), value=amps)
    assert house.transport.executed == []


async def test_cached_current_shows_cache_as_its_source(hass: HomeAssistant) -> None:
    house = await move_in(hass, CLOUD_VALUES)
    assert number(house).attributes["source"] == "cloud"
    seen_at = house.clock.now()
    await house.lose_cloud()
    state = number(house)
    assert (state.state, state.attributes["source"]) == ("16.0", "cache")
    assert state.attributes["since"] == seen_at.isoformat()
    assert {"source", "since"} <= ChargingCurrent._unrecorded_attributes


async def test_busy_cloud_raises_an_error_with_the_retry_time(hass: HomeAssistant) -> None:
    house = await move_in(hass, {**BASIC, WIRE_RATING: 32.0})
    house.transport.refusal = TransportBusy("throttled", 119)
    with pytest.raises(HomeAssistantError) as caught:
        await house.call("number", "set_value", number(house), value=20)
    assert caught.value.translation_key == "throttled"
    assert caught.value.translation_placeholders == {"charger": "Garage", "retry": "2"}
