"""Switches: the override shows the intent of the user, charging the state of the charger."""

from unittest.mock import patch

from homeassistant.const import STATE_UNKNOWN
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
import pytest

from custom_components.chargekeeper.core.charger import Charger
from custom_components.chargekeeper.core.errors import NotAllowed, NotApplicable
from custom_components.chargekeeper.core.model import CAR_CONNECTED, LIVE_AGE, STATUS, Outcome, Source, Status
from custom_components.chargekeeper.core.transport import SetCharging, SetOverride

from .fakes import BASIC, CLOUD_VALUES, move_in

pytestmark = pytest.mark.usefixtures("hass_storage")

WAITING = {**CLOUD_VALUES, STATUS: Status.WAITING_SCHEDULE, CAR_CONNECTED: True}


async def test_override_switch_sends_the_choice_of_the_user(hass: HomeAssistant) -> None:
    house = await move_in(hass, WAITING)
    state = house.state("switch", "tou_override")
    assert (state.state, "applied" in state.attributes) == ("off", False)

    await house.call("switch", "turn_on", state)
    assert house.transport.executed == [SetOverride(on=True)]
    state = house.state("switch", "tou_override")
    assert (state.state, state.attributes["applied"]) == ("on", False)  # an acknowledgment proves nothing

    await house.pass_time(30)
    await house.show({STATUS: Status.CHARGING})
    await house.settle()
    state = house.state("switch", "tou_override")
    assert (state.state, state.attributes["applied"]) == ("on", True)
    await house.call("switch", "turn_off", state)
    await house.settle()
    assert house.transport.executed == [SetOverride(on=True), SetOverride(on=False)]
    assert house.state("switch", "tou_override").state == "off"


async def test_override_waits_while_no_transport_is_usable(hass: HomeAssistant) -> None:
    house = await move_in(hass, WAITING)
    await house.lose_cloud()
    await house.call("switch", "turn_on", house.state("switch", "tou_override"))
    state = house.state("switch", "tou_override")
    assert (state.state, state.attributes["applied"]) == ("on", False)
    assert house.transport.executed == []


async def test_override_refused_while_locked(hass: HomeAssistant) -> None:
    house = await move_in(hass, {**WAITING, STATUS: Status.LOCKED})
    with pytest.raises(ServiceValidationError) as caught:
        await house.call("switch", "turn_on", house.state("switch", "tou_override"))
    assert caught.value.translation_key == "locked"
    assert house.state("switch", "tou_override").state == "off"


async def test_override_refused_by_the_charger_raises_an_error(hass: HomeAssistant) -> None:
    house = await move_in(hass, WAITING)
    house.transport.refusal = NotAllowed("refused")
    with pytest.raises(HomeAssistantError) as caught:
        await house.call("switch", "turn_on", house.state("switch", "tou_override"))
    assert caught.value.translation_key is not None
    assert house.state("switch", "tou_override").state == "off"


async def test_failed_override_raises_an_error(hass: HomeAssistant) -> None:
    house = await move_in(hass, WAITING)
    with (
        patch.object(Charger, "set_override", return_value=Outcome.FAILED),
        pytest.raises(HomeAssistantError) as caught,
    ):
        await house.call("switch", "turn_on", house.state("switch", "tou_override"))
    assert caught.value.translation_key == "override_failed"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (Status.CHARGING, "on"),
        (Status.DISCHARGING, "on"),
        (Status.WAITING_CAR, "on"),
        (Status.WAITING_POWER, "on"),
        (Status.COMPLETED, "on"),
        (Status.PAUSED, "off"),
        (Status.WAITING_SCHEDULE, "off"),
        (Status.AVAILABLE, "off"),
        (Status.PLUGGED_IN, "off"),
        (Status.LOCKED, "off"),
        (Status.ERROR, "off"),
        (Status.OFFLINE, STATE_UNKNOWN),
        (Status.UPDATING, STATE_UNKNOWN),
        (Status.RESTARTING, STATE_UNKNOWN),
    ],
)
async def test_charging_switch_shows_if_the_car_may_charge(hass: HomeAssistant, status: Status, state: str) -> None:
    house = await move_in(hass, {**BASIC, STATUS: status})
    assert house.state("switch", "charging").state == state


async def test_charging_switch_unknown_when_the_status_is_too_old(hass: HomeAssistant) -> None:
    house = await move_in(hass, {**BASIC, STATUS: Status.CHARGING})
    await house.pass_time(LIVE_AGE[Source.CLOUD])
    assert house.state("switch", "charging").state == STATE_UNKNOWN


async def test_charging_switch_pauses_and_resumes(hass: HomeAssistant) -> None:
    house = await move_in(hass, {**CLOUD_VALUES, STATUS: Status.CHARGING, CAR_CONNECTED: True})
    await house.call("switch", "turn_off", house.state("switch", "charging"))
    assert house.transport.executed == [SetCharging(on=False)]
    await house.show({STATUS: Status.PAUSED})
    assert house.state("switch", "charging").state == "off"
    await house.call("switch", "turn_on", house.state("switch", "charging"))
    assert house.transport.executed == [SetCharging(on=False), SetCharging(on=True)]


async def test_refused_pause_names_the_charger(hass: HomeAssistant) -> None:
    house = await move_in(hass, {**BASIC, STATUS: Status.CHARGING})
    house.transport.refusal = NotApplicable("wrong_state")
    with pytest.raises(ServiceValidationError) as caught:
        await house.call("switch", "turn_off", house.state("switch", "charging"))
    assert caught.value.translation_key == "wrong_state_now"
    assert caught.value.translation_placeholders == {"charger": "Garage", "status": "charging"}


@pytest.mark.parametrize(
    ("status", "age", "text"),
    [
        (Status.CHARGING, LIVE_AGE[Source.CLOUD], "Garage cannot do that in its current state"),
        (Status.COMPLETED, 0.0, 'Garage cannot do that while its status is "fully charged"'),
        (
            Status.WAITING_SCHEDULE,
            0.0,
            (
                'Garage cannot do that while its status is "waiting for schedule". To charge outside the schedule, '
                "use the time-of-use override"
            ),
        ),
    ],
)
async def test_refusal_names_the_known_status_with_a_hint_only_where_it_helps(
    hass: HomeAssistant, status: Status, age: float, text: str
) -> None:
    house = await move_in(hass, {**BASIC, STATUS: status})
    await house.pass_time(age)
    house.transport.refusal = NotApplicable("wrong_state")
    with pytest.raises(ServiceValidationError) as caught:
        await house.call("switch", "turn_off", house.state("switch", "charging"))
    assert str(caught.value) == text
