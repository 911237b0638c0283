"""Entity actions: restart with a response, and the override with its end."""

import asyncio
from datetime import timedelta
import json
from pathlib import Path

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceNotSupported, ServiceValidationError
from homeassistant.helpers.service import async_get_all_descriptions
from homeassistant.setup import async_setup_component
import pytest
import voluptuous as vol

import custom_components.chargekeeper
from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.core.model import CAR_CONNECTED, STATUS, Status
from custom_components.chargekeeper.core.transport import Restart, SetOverride

from .fakes import CLOUD_VALUES, move_in

pytestmark = pytest.mark.usefixtures("hass_storage")

INTEGRATION = Path(custom_components.chargekeeper.__file__).parent
WAITING = {**CLOUD_VALUES, STATUS: Status.WAITING_SCHEDULE, CAR_CONNECTED: True}


async def test_actions_registered_before_any_entry(hass: HomeAssistant) -> None:
    assert await async_setup_component(hass, DOMAIN, {})
    assert hass.services.async_services_for_domain(DOMAIN).keys() >= {"restart", "set_tou_override"}


async def test_actions_have_descriptions_texts_and_icons(hass: HomeAssistant) -> None:
    """Actions and fields of the code match their descriptions, texts and icons."""
    assert await async_setup_component(hass, DOMAIN, {})
    described = (await async_get_all_descriptions(hass))[DOMAIN]
    texts = json.loads((INTEGRATION / "translations" / "en.json").read_text(encoding="utf-8"))
    icons = json.loads((INTEGRATION / "icons.json").read_text(encoding="utf-8"))["services"]
    registered = hass.services.async_services_for_domain(DOMAIN)
    assert registered.keys() == described.keys() == texts["services"].keys() == icons.keys()
    for name in ("restart", "set_tou_override", "outage_report"):
        fields = described[name].get("fields", {})
        assert fields.keys() == texts["services"][name].get("fields", {}).keys()
    options = described["set_tou_override"]["fields"]["until"]["selector"]["select"]["options"]
    assert options == list(texts["selector"]["override_until"]["options"])


async def test_restart_returns_on_acceptance(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    assert await house.call(DOMAIN, "restart", house.state("button", "restart")) is None
    assert house.transport.executed == [Restart()]


async def test_restart_with_response_returns_the_outcome(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    state = house.state("button", "restart")
    answer = hass.async_create_task(house.call(DOMAIN, "restart", state, return_response=True))
    await house.clock.advance(60)
    assert not answer.done()
    await house.clock.advance(700)
    assert await answer == {state.entity_id: {"outcome": "failed", "seconds": 600}}


async def test_restarts_of_two_chargers_do_not_wait_for_each_other(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    house.account.transport("1002").show(CLOUD_VALUES)
    house.account.appear(house.transport.identity.__class__(house.transport.identity.maker, "1002", "Carport"))
    await house.settle()
    first = hass.async_create_task(
        house.call(DOMAIN, "restart", house.state("button", "restart"), return_response=True)
    )
    await house.clock.advance(1)
    other = house.entity_id("button", "restart", serial="1002")
    await hass.services.async_call("button", "press", {"entity_id": other}, blocking=True)
    assert house.account.transport("1002").executed == [Restart()]
    assert not first.done()
    await house.clock.advance(700)
    await asyncio.wait_for(first, 1)


async def test_restart_refused_while_charging(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    await house.show({STATUS: Status.CHARGING})
    with pytest.raises(ServiceValidationError) as caught:
        await house.call(DOMAIN, "restart", house.state("button", "restart"))
    assert caught.value.translation_key == "restart_charging"


async def test_override_until_unplugged_continues_when_the_car_is_full(hass: HomeAssistant) -> None:
    house = await move_in(hass, WAITING)
    state = house.state("switch", "tou_override")
    await house.call(DOMAIN, "set_tou_override", state, enabled=True, until="unplugged")
    assert house.transport.executed == [SetOverride(on=True)]
    await house.pass_time(30)
    await house.show({STATUS: Status.CHARGING, CAR_CONNECTED: True})
    await house.show({STATUS: Status.COMPLETED, CAR_CONNECTED: True})
    assert house.state("switch", "tou_override").state == "on"
    await house.show({STATUS: Status.AVAILABLE, CAR_CONNECTED: False})
    await house.settle()
    assert house.state("switch", "tou_override").state == "off"


async def test_override_until_a_time_ends_at_that_time(hass: HomeAssistant) -> None:
    await hass.config.async_set_time_zone("America/New_York")
    house = await move_in(hass, WAITING)
    state = house.state("switch", "tou_override")
    # 12:00 UTC is 7:00 in New York.
    await house.call(DOMAIN, "set_tou_override", state, enabled=True, until="time", until_time="2026-11-02 07:30:00")
    await house.show({STATUS: Status.CHARGING, CAR_CONNECTED: True})
    await house.pass_time(timedelta(minutes=29).total_seconds())
    assert house.state("switch", "tou_override").state == "on"
    await house.show({STATUS: Status.CHARGING, CAR_CONNECTED: True})
    await house.pass_time(timedelta(minutes=1, seconds=5).total_seconds())
    assert house.state("switch", "tou_override").state == "off"


async def test_override_ended_by_the_action(hass: HomeAssistant) -> None:
    house = await move_in(hass, WAITING)
    state = house.state("switch", "tou_override")
    await house.call(DOMAIN, "set_tou_override", state, enabled=True)
    await house.show({STATUS: Status.CHARGING})
    await house.call(DOMAIN, "set_tou_override", state, enabled=False, until="time")
    assert house.state("switch", "tou_override").state == "off"


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"until": "time"}, "until_time_missing"),
        ({"until": "time", "until_time": "2026-11-02T11:59:00+00:00"}, "until_time_past"),
    ],
)
async def test_override_refused_without_a_future_end_time(
    hass: HomeAssistant, data: dict[str, object], key: str
) -> None:
    house = await move_in(hass, WAITING)
    with pytest.raises(ServiceValidationError) as caught:
        await house.call(DOMAIN, "set_tou_override", house.state("switch", "tou_override"), enabled=True, **data)
    assert caught.value.translation_key == key
    assert caught.value.translation_placeholders == {"charger": "Garage"}
    texts = json.loads((INTEGRATION / "translations" / "en.json").read_text(encoding="utf-8"))
    assert "{charger}" in texts["exceptions"][key]["message"]
    assert house.transport.executed == []


async def test_override_refused_with_an_unknown_end(hass: HomeAssistant) -> None:
    house = await move_in(hass, WAITING)
    with pytest.raises(vol.Invalid):
        await house.call(
            DOMAIN, "set_tou_override", house.state("switch", "tou_override"), enabled=True, until="forever"
        )


async def test_override_action_refused_on_another_switch(hass: HomeAssistant) -> None:
    house = await move_in(hass, WAITING)
    with pytest.raises(ServiceNotSupported):
        await house.call(DOMAIN, "set_tou_override", house.state("switch", "charging"), enabled=True)
    assert house.transport.executed == []
