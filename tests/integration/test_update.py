"""The firmware entity: versions, and an install that is guarded like a restart."""

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
import pytest

from custom_components.chargekeeper.core.model import FIRMWARE, STATUS, Status
from custom_components.chargekeeper.core.transport import Install

from .fakes import CLOUD_VALUES, move_in

pytestmark = pytest.mark.usefixtures("hass_storage")


async def test_update_entity_shows_versions_also_in_an_outage(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    state = house.state("update", "firmware")
    assert state.state == "on"
    assert state.attributes["installed_version"] == "6.4.10"
    assert state.attributes["latest_version"] == "6.5.2"
    assert state.attributes["title"] == "Pulsar Plus"
    await house.lose_cloud()
    await house.pass_time(3600)
    assert house.state("update", "firmware").state == "on"


async def test_install_in_progress_until_the_new_version_shows(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    await house.call("update", "install", house.state("update", "firmware"))
    await house.settle()
    assert house.transport.executed == [Install()]
    assert house.state("update", "firmware").attributes["in_progress"] is True
    with pytest.raises(HomeAssistantError):
        await house.call("update", "install", house.state("update", "firmware"))
    await house.pass_time(300)
    await house.show({FIRMWARE: "6.5.2", STATUS: Status.AVAILABLE})
    state = house.state("update", "firmware")
    assert (state.state, state.attributes["in_progress"]) == ("off", False)
    assert house.transport.executed == [Install()]


async def test_install_refused_while_charging(hass: HomeAssistant) -> None:
    house = await move_in(hass, {**CLOUD_VALUES, STATUS: Status.CHARGING})
    with pytest.raises(ServiceValidationError) as caught:
        await house.call("update", "install", house.state("update", "firmware"))
    assert caught.value.translation_key == "install_charging"
    assert house.transport.executed == []


async def test_install_refused_for_a_read_only_entry(hass: HomeAssistant) -> None:
    house = await move_in(hass, options={"read_only": True})
    with pytest.raises(HomeAssistantError):
        await house.call("update", "install", house.state("update", "firmware"))
    assert house.transport.executed == []
