"""The restart button: pressed once, sent once; refused with the reason."""

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
import pytest

from custom_components.chargekeeper.core.model import STATUS, Status
from custom_components.chargekeeper.core.transport import Restart

from .fakes import CLOUD_VALUES, move_in

pytestmark = pytest.mark.usefixtures("hass_storage")


async def test_i5_button_press_restarts_once(hass: HomeAssistant) -> None:
    """I5: at most one restart per press."""
    house = await move_in(hass)
    await house.call("button", "press", house.state("button", "restart"))
    assert house.transport.executed == [Restart()]
    await house.settle()
    assert house.state("sensor", "status").state == "restarting"
    assert house.state("sensor", "restart_availability").state == "restarting"
    with pytest.raises(ServiceValidationError) as caught:
        await house.call("button", "press", house.state("button", "restart"))
    assert caught.value.translation_key == "restart_restarting"
    await house.pass_time(700)
    assert house.transport.executed == [Restart()]


@pytest.mark.parametrize(
    ("status", "key", "until"),
    [
        (Status.CHARGING, "restart_charging", {}),
        (Status.UPDATING, "restart_updating", {"until": "2026-11-02 07:00"}),
    ],
)
async def test_i5_restart_refused_while_charging_or_updating(
    hass: HomeAssistant, status: Status, key: str, until: dict[str, str]
) -> None:
    """I5: the error names the transport that reported the danger, and until when the report counts."""
    house = await move_in(hass, {**CLOUD_VALUES, STATUS: status})
    with pytest.raises(ServiceValidationError) as caught:
        await house.call("button", "press", house.state("button", "restart"))
    assert caught.value.translation_key == key
    assert caught.value.translation_placeholders == {"charger": "Garage", "transport": "the cloud", **until}
    assert house.transport.executed == []
