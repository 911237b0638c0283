"""Sensors: live values expire at their age, all others keep their value and show its source."""

from datetime import timedelta
from typing import Any

from homeassistant.components.sensor import SensorStateClass
from homeassistant.const import STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
import pytest

from custom_components.chargekeeper.core.model import (
    CHARGING_CURRENT,
    CURRENT,
    HOUSE_LIMIT,
    LIFETIME_ENERGY,
    LIVE_AGE,
    LOAD_GROUP_LIMIT,
    POWER,
    PROPERTIES,
    SESSION_ENERGY,
    STATUS,
    UNIT_RATING,
    WIRE_RATING,
    LimitingFactor,
    ReadingClass,
    Source,
    Status,
)
from custom_components.chargekeeper.sensor import SENSORS, ChargerSensor

from .fakes import BASIC, CLOUD_VALUES, EVERYTHING, move_in

pytestmark = pytest.mark.usefixtures("hass_storage")

LIMITS = ("wire_rating", "load_group_limit", "house_limit", "offline_current")


@pytest.mark.parametrize("status", list(Status))
async def test_status_sensor_shows_every_status(hass: HomeAssistant, status: Status) -> None:
    house = await move_in(hass, {**BASIC, STATUS: status})
    assert house.state("sensor", "status").state == status


async def test_sensors_show_values_with_units(hass: HomeAssistant) -> None:
    house = await move_in(hass, {**CLOUD_VALUES, STATUS: Status.CHARGING, POWER: 7234.0, CURRENT: 31.4})
    shown = {key: house.state("sensor", key) for key in ("power", "current", "session_energy", "lifetime_energy")}
    assert {key: (state.state, state.attributes["unit_of_measurement"]) for key, state in shown.items()} == {
        "power": ("7234.0", "W"),
        "current": ("31.4", "A"),
        "session_energy": ("7.25", "kWh"),
        "lifetime_energy": ("1234.5", "kWh"),
    }


def test_only_lifetime_energy_offered_to_the_energy_dashboard() -> None:
    meters = {SensorStateClass.TOTAL, SensorStateClass.TOTAL_INCREASING}
    assert [sensor.key for sensor in SENSORS if sensor.state_class in meters] == ["lifetime_energy"]


def test_sensors_expire_as_their_model_class_requires() -> None:
    """I3: every live value expires; only the status is shown as unknown instead."""
    of_model = {sensor.key: PROPERTIES[sensor.key].kind for sensor in SENSORS if sensor.key in PROPERTIES}
    live = {key for key, kind in of_model.items() if kind is ReadingClass.LIVE}
    assert {sensor.key for sensor in SENSORS if sensor.expires} == live - {"status"}


async def test_i3_live_values_expire_at_their_age_and_others_stay(hass: HomeAssistant) -> None:
    """I2 and I3 at the same time."""
    house = await move_in(hass, {**EVERYTHING, STATUS: Status.CHARGING, POWER: 7000.0, CURRENT: 30.0})
    await house.pass_time(LIVE_AGE[Source.CLOUD] - 1)
    assert house.state("sensor", "power").state == "7000.0"
    await house.pass_time(1)
    assert house.state("sensor", "power").state == STATE_UNAVAILABLE
    assert house.state("sensor", "current").state == STATE_UNAVAILABLE
    assert house.state("sensor", "status").state == STATE_UNKNOWN
    assert house.state("sensor", "session_energy").state == "7.25"
    assert house.state("sensor", "wire_rating").state == "32.0"

    await house.show({STATUS: Status.CHARGING, POWER: 6900.0})
    assert house.state("sensor", "power").state == "6900.0"
    assert house.state("sensor", "status").state == "charging"


async def test_limits_show_their_source_and_age(hass: HomeAssistant) -> None:
    house = await move_in(hass, EVERYTHING)
    for key in LIMITS:
        attributes = house.state("sensor", key).attributes
        assert attributes["source"] == "cloud"
        assert "since" not in attributes
    seen_at = house.clock.now()

    await house.lose_cloud()
    for key in LIMITS:
        state = house.state("sensor", key)
        assert float(state.state) == EVERYTHING[PROPERTIES[key]]
        assert state.attributes["source"] == "cache"
        assert state.attributes["since"] == seen_at.isoformat()


async def test_limit_entered_by_the_user_shows_user_as_its_source(hass: HomeAssistant) -> None:
    house = await move_in(hass, BASIC, options={"load_group_limits": {"1001": 12}})
    state = house.state("sensor", "load_group_limit")
    assert (state.state, state.attributes["source"]) == ("12.0", "user")


async def test_i2_limits_survive_a_restart_of_home_assistant(hass: HomeAssistant) -> None:
    """I2: the last known values are shown before anything answers."""
    house = await move_in(hass, EVERYTHING)
    seen_at = house.clock.now()
    await house.pass_time(20 * 60)
    await house.restart_home_assistant()
    for key in (*LIMITS, "session_energy", "lifetime_energy", "effective_limit"):
        assert house.state("sensor", key).state not in {STATE_UNKNOWN, STATE_UNAVAILABLE}, key
    state = house.state("sensor", "wire_rating")
    assert (state.state, state.attributes["source"]) == ("32.0", "cache")
    assert state.attributes["since"] == seen_at.isoformat()
    assert house.state("sensor", "power").state == STATE_UNAVAILABLE


@pytest.mark.parametrize(
    ("values", "amps", "factor"),
    [
        ({CHARGING_CURRENT: 16.0}, 16, "charging_current"),
        ({CHARGING_CURRENT: 32.0}, 32, "wire_rating"),
        ({CHARGING_CURRENT: 32.0, UNIT_RATING: 24.0}, 24, "unit_rating"),
        ({CHARGING_CURRENT: 32.0, LOAD_GROUP_LIMIT: 20.0}, 20, "load_group_limit"),
        ({CHARGING_CURRENT: 32.0, HOUSE_LIMIT: 25.0}, 25, "house_limit"),
    ],
)
async def test_effective_limit_shown_with_its_limiting_factor(
    hass: HomeAssistant, values: Any, amps: float, factor: str
) -> None:
    house = await move_in(hass, {**BASIC, WIRE_RATING: 32.0, **values})
    state = house.state("sensor", "effective_limit")
    assert float(state.state) == amps
    assert state.attributes["source"] == "cloud"
    assert house.state("sensor", "limiting_factor").state == factor


def test_every_limiting_factor_is_a_property() -> None:
    assert {factor.value for factor in LimitingFactor} <= PROPERTIES.keys()


def test_source_and_age_not_recorded() -> None:
    assert {"source", "since"} <= ChargerSensor._unrecorded_attributes  # the recorder looks there


async def test_next_window_follows_the_schedule(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    assert house.state("sensor", "next_window").state == "2026-11-02T22:00:00+00:00"
    await house.pass_time(timedelta(hours=11).total_seconds())
    assert house.state("sensor", "next_window").state == "2026-11-03T22:00:00+00:00"


async def test_restart_availability_and_connection_path_follow_the_charger(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    assert house.state("sensor", "restart_availability").state == "available"
    assert house.state("sensor", "connection_path").state == "cloud"
    await house.show({STATUS: Status.CHARGING})
    assert house.state("sensor", "restart_availability").state == "charging"
    await house.show({STATUS: Status.OFFLINE})
    assert house.state("sensor", "connection_path").state == "none"
    assert house.state("sensor", "restart_availability").state == "offline"
    await house.lose_cloud()
    assert house.state("sensor", "restart_availability").state == "no_path"


async def test_session_cost_has_the_currency_of_the_charger(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    entity_id = house.entity_id("sensor", "session_cost")
    assert entity_id is not None
    er.async_get(hass).async_update_entity(entity_id, disabled_by=None)
    await house.unload()
    await house.set_up()
    state = house.state("sensor", "session_cost")
    assert (state.state, state.attributes["unit_of_measurement"]) == ("1.75", "EUR")


async def test_last_contact_updated_without_other_entities(hass: HomeAssistant) -> None:
    """The last contact makes no new snapshot, so only its own entity is written."""
    house = await move_in(hass)
    entity_id = house.entity_id("sensor", "last_cloud_contact")
    assert entity_id is not None
    er.async_get(hass).async_update_entity(entity_id, disabled_by=None)
    await house.unload()
    await house.set_up()
    assert house.state("sensor", "last_cloud_contact").state == "2026-11-02T12:00:00+00:00"

    written: list[str] = []
    hass.bus.async_listen("state_changed", lambda event: written.append(event.data["entity_id"]))
    await house.pass_time(60)
    house.transport.touch()
    await house.settle()
    assert house.state("sensor", "last_cloud_contact").state == "2026-11-02T12:01:00+00:00"
    assert written == [entity_id]


async def test_last_contact_of_the_account_shown(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    entity_id = er.async_get(hass).async_get_entity_id(
        "sensor", "chargekeeper", f"account_{house.entry.unique_id}_last_cloud_contact"
    )
    assert entity_id is not None
    er.async_get(hass).async_update_entity(entity_id, disabled_by=None)
    await house.unload()
    await house.set_up()
    assert house.account_state("sensor", "last_cloud_contact").state == STATE_UNKNOWN
    house.account.push(endpoint_contact_at=house.clock.now())
    await house.settle()
    assert house.account_state("sensor", "last_cloud_contact").state == "2026-11-02T12:00:00+00:00"


async def test_lifetime_energy_never_falls(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    await house.pass_time(60)
    await house.show({LIFETIME_ENERGY: 1200.0, SESSION_ENERGY: 0.0})
    assert house.state("sensor", "lifetime_energy").state == "1234.5"
