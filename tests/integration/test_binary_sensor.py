"""Binary sensors."""

from homeassistant.const import STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import HomeAssistant
import pytest

from custom_components.chargekeeper.core.model import (
    CAR_CONNECTED,
    LIVE_AGE,
    PROBLEM,
    STATUS,
    Identity,
    Maker,
    Source,
    Status,
)

from .fakes import SERIAL, FakeTransport, move_in

pytestmark = pytest.mark.usefixtures("hass_storage")


@pytest.mark.parametrize(("value", "state"), [(True, "on"), (False, "off")])
async def test_car_and_problem_shown_until_too_old(hass: HomeAssistant, value: bool, state: str) -> None:
    house = await move_in(hass)
    await house.show({CAR_CONNECTED: value, PROBLEM: value})
    assert house.state("binary_sensor", "car_connected").state == state
    assert house.state("binary_sensor", "problem").state == state
    await house.pass_time(LIVE_AGE[Source.CLOUD])
    assert house.state("binary_sensor", "car_connected").state == STATE_UNAVAILABLE
    assert house.state("binary_sensor", "problem").state == STATE_UNAVAILABLE


async def test_cloud_sensor_shows_if_the_charger_is_reachable(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    assert house.state("binary_sensor", "cloud").state == "on"
    await house.show({STATUS: Status.OFFLINE})
    assert house.state("binary_sensor", "cloud").state == "off"
    await house.show({STATUS: Status.AVAILABLE})
    assert house.state("binary_sensor", "cloud").state == "on"
    await house.lose_cloud()
    assert house.state("binary_sensor", "cloud").state == "off"


async def test_local_sensors_added_with_a_local_transport(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    assert house.entity_id("binary_sensor", "local") is None
    assert house.entity_id("sensor", "last_local_contact") is None
    identity = Identity(Maker.WALLBOX, SERIAL, "Garage", "Pulsar Plus")
    local = FakeTransport(house.clock, house.account.breaker, identity, Source.BLUETOOTH)
    house.charger.add_transport(local)
    await house.settle()
    assert house.state("binary_sensor", "local").state == "off"
    assert house.entity_id("sensor", "last_local_contact") is not None
    local.show({CAR_CONNECTED: True})
    await house.settle()
    assert house.state("binary_sensor", "local").state == "on"


@pytest.mark.parametrize(("cloud", "state"), [(None, STATE_UNKNOWN), (True, "on"), (False, "off")])
async def test_account_cloud_sensor_shows_if_the_cloud_answers(
    hass: HomeAssistant, cloud: bool | None, state: str
) -> None:
    house = await move_in(hass)
    house.account.push(cloud=cloud)
    await house.settle()
    assert house.account_state("binary_sensor", "cloud").state == state
