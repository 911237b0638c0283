"""Events: the outcome of a restart, the connection, the override, and outages."""

from homeassistant.const import STATE_UNKNOWN
from homeassistant.core import HomeAssistant
import pytest

from custom_components.chargekeeper.core.model import CAR_CONNECTED, STATUS, Status

from .fakes import CLOUD_VALUES, move_in

pytestmark = pytest.mark.usefixtures("hass_storage")


async def test_restart_event_shows_accepted_then_verified(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    assert house.state("event", "restart").state == STATE_UNKNOWN
    await house.call("button", "press", house.state("button", "restart"))
    await house.settle()
    accepted = house.state("event", "restart")
    assert accepted.attributes["event_type"] == "accepted"

    await house.pass_time(30)
    await house.show({STATUS: Status.OFFLINE})
    await house.pass_time(90)
    await house.show({STATUS: Status.AVAILABLE})
    await house.pass_time(5)
    verified = house.state("event", "restart")
    assert verified.attributes["event_type"] == "verified"
    assert verified.state > accepted.state
    assert house.state("sensor", "status").state == "available"


async def test_connection_event_shows_why_an_override_ended(hass: HomeAssistant) -> None:
    house = await move_in(hass, {**CLOUD_VALUES, STATUS: Status.WAITING_SCHEDULE, CAR_CONNECTED: True})
    await house.call("switch", "turn_on", house.state("switch", "tou_override"))
    await house.pass_time(10)
    await house.show({STATUS: Status.CHARGING, CAR_CONNECTED: True})
    await house.pass_time(60)
    await house.show({STATUS: Status.AVAILABLE, CAR_CONNECTED: False})
    await house.settle()
    attributes = house.state("event", "connection").attributes
    assert (attributes["event_type"], attributes["reason"]) == ("override_ended", "unplugged")
    assert house.state("event", "restart").state == STATE_UNKNOWN, "an event of another kind"


async def test_outage_event_shown_by_the_account(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    assert house.account_state("event", "outage").state == STATE_UNKNOWN
    for event in ("cloud_lost", "cloud_back"):
        house.account.outage(event)
        await house.settle()
        assert house.account_state("event", "outage").attributes["event_type"] == event


async def test_events_ignored_after_unload(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    await house.unload()
    house.account.outage("cloud_lost")
    await house.settle()
    assert house.account_state("event", "outage").state == "unavailable"
