"""An outage as the user sees it: values that stay or expire, commands, and the return of the cloud."""

from homeassistant.const import STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
import pytest

from custom_components.chargekeeper.core.model import CAR_CONNECTED, POWER, STATUS, Status
from custom_components.chargekeeper.core.transport import SetOverride

from .fakes import EVERYTHING, House, move_in

pytestmark = pytest.mark.usefixtures("hass_storage")

CHARGING = {**EVERYTHING, STATUS: Status.CHARGING, CAR_CONNECTED: True, POWER: 7200.0}
LIVE = {"power", "current", "car_connected", "problem"}
UNKNOWN_WITHOUT_STATUS = {"status", "charging", "lock"}


def shown(house: House) -> dict[tuple[str, str], str]:
    """Return the states of all enabled entities of the charger, by platform and key."""
    prefix = f"wallbox_{house.serial}_"
    return {
        (entity.domain, entity.unique_id.removeprefix(prefix)): state.state
        for entity in house.registered()
        if entity.unique_id.startswith(prefix) and (state := house.hass.states.get(entity.entity_id)) is not None
    }


def lost(house: House) -> set[str]:
    """Return the keys of unknown or unavailable entities, without events and buttons, which have no value."""
    nothing = {STATE_UNKNOWN, STATE_UNAVAILABLE}
    return {
        key
        for (platform, key), state in shown(house).items()
        if state in nothing and platform not in {"event", "button"}
    }


async def test_i2_outage_removes_only_live_values(hass: HomeAssistant) -> None:
    """I2: no config-class value becomes unknown or unavailable in an outage of any length."""
    house = await move_in(hass, CHARGING)
    assert lost(house) == set()
    before = shown(house)

    await house.lose_cloud()
    assert lost(house) == set(), "nothing is too old yet"
    assert house.state("sensor", "status").state == "charging", "a cloud outage alone is not offline"

    await house.pass_time(24 * 3600)
    assert lost(house) == LIVE | UNKNOWN_WITHOUT_STATUS
    kept = {key: state for key, state in shown(house).items() if key[1] not in LIVE | UNKNOWN_WITHOUT_STATUS}
    changed = {key for key, state in kept.items() if before[key] != state}
    assert changed <= {
        *(("binary_sensor", "cloud"), ("sensor", "connection_path"), ("sensor", "restart_availability")),
        *(("sensor", "next_window"), ("sensor", "effective_limit"), ("sensor", "limiting_factor")),
    }


async def test_commands_raise_an_error_that_names_the_outage(hass: HomeAssistant) -> None:
    house = await move_in(hass, CHARGING)
    await house.lose_cloud()
    await house.pass_time(3600)
    for domain, service, state, data in (
        ("switch", "turn_off", house.state("switch", "charging"), {}),
        ("number", "set_value", house.state("number", "charging_current"), {"value": 10}),
        ("lock", "lock", house.state("lock", "lock"), {}),
        ("select", "select_option", house.state("select", "eco_mode"), {"option": "eco"}),
        ("button", "press", house.state("button", "restart"), {}),
        ("update", "install", house.state("update", "firmware"), {}),
    ):
        assert state.state != STATE_UNAVAILABLE, "Home Assistant drops calls to unavailable entities silently"
        with pytest.raises(HomeAssistantError) as caught:
            await house.call(domain, service, state, **data)
        assert caught.value.translation_key == "no_path_since", domain
    assert house.transport.executed == []


async def test_override_accepted_in_an_outage_and_applied_afterwards(hass: HomeAssistant) -> None:
    house = await move_in(hass, {**EVERYTHING, STATUS: Status.WAITING_SCHEDULE, CAR_CONNECTED: True})
    await house.lose_cloud()
    await house.call("switch", "turn_on", house.state("switch", "tou_override"))
    await house.settle()
    assert house.state("event", "connection").attributes["event_type"] == "override_pending"

    house.account.breaker.good()
    await house.show({STATUS: Status.WAITING_SCHEDULE, CAR_CONNECTED: True})
    await house.pass_time(5)
    assert house.transport.executed == [SetOverride(on=True)]
    assert house.state("switch", "tou_override").attributes["applied"] is True
    assert house.state("binary_sensor", "cloud").state == "on"
    assert house.state("sensor", "wire_rating").attributes["source"] == "cloud"


async def test_limits_and_override_kept_when_home_assistant_restarts_in_an_outage(hass: HomeAssistant) -> None:
    """I2 and I4: limits and the override intent are restored before anything answers."""
    house = await move_in(hass, {**EVERYTHING, STATUS: Status.WAITING_SCHEDULE, CAR_CONNECTED: True})
    await house.lose_cloud()
    await house.call("switch", "turn_on", house.state("switch", "tou_override"))
    before = shown(house)
    await house.restart_home_assistant()

    after = shown(house)
    assert after.keys() == before.keys()
    assert lost(house) == LIVE | UNKNOWN_WITHOUT_STATUS | {"cloud"}, "nobody has asked the cloud yet"
    assert after["switch", "tou_override"] == "on"
    for key in ("wire_rating", "load_group_limit", "house_limit", "session_energy", "lifetime_energy"):
        assert after["sensor", key] == before["sensor", key]
