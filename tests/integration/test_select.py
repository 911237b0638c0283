"""The solar charging mode."""

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
import pytest

from custom_components.chargekeeper.core.errors import NotAllowed
from custom_components.chargekeeper.core.model import ECO_MODE, EcoMode
from custom_components.chargekeeper.core.transport import SetEcoMode

from .fakes import move_in

pytestmark = pytest.mark.usefixtures("hass_storage")


async def test_eco_mode_selection_sent_and_shown(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    state = house.state("select", "eco_mode")
    assert (state.state, state.attributes["options"]) == ("off", ["off", "eco", "full_solar"])
    await house.call("select", "select_option", state, option="full_solar")
    assert house.transport.executed == [SetEcoMode(EcoMode.FULL_SOLAR)]
    await house.show({ECO_MODE: EcoMode.FULL_SOLAR})
    assert house.state("select", "eco_mode").state == "full_solar"


async def test_eco_mode_stays_shown_in_an_outage(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    await house.lose_cloud()
    await house.pass_time(3600)
    assert house.state("select", "eco_mode").state == "off"


async def test_refused_eco_mode_raises_an_error(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    house.transport.refusal = NotAllowed("refused")
    with pytest.raises(HomeAssistantError) as caught:
        await house.call("select", "select_option", house.state("select", "eco_mode"), option="eco")
    assert caught.value.translation_key == "refused"
