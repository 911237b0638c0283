"""The lock entity."""

from homeassistant.const import STATE_UNKNOWN
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
import pytest

from custom_components.chargekeeper.core.model import LIVE_AGE, LOCKED, Source
from custom_components.chargekeeper.core.transport import SetLock

from .fakes import move_in

pytestmark = pytest.mark.usefixtures("hass_storage")


async def test_lock_commands_sent_and_state_shown(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    assert house.state("lock", "lock").state == "unlocked"
    await house.call("lock", "lock", house.state("lock", "lock"))
    await house.show({LOCKED: True})
    assert house.state("lock", "lock").state == "locked"
    await house.call("lock", "unlock", house.state("lock", "lock"))
    await house.show({LOCKED: False})
    assert house.state("lock", "lock").state == "unlocked"
    assert house.transport.executed == [SetLock(locked=True), SetLock(locked=False)]


async def test_lock_unknown_and_command_refused_when_the_cloud_is_lost(hass: HomeAssistant) -> None:
    house = await move_in(hass)
    await house.lose_cloud()
    await house.pass_time(LIVE_AGE[Source.CLOUD])
    assert house.state("lock", "lock").state == STATE_UNKNOWN
    with pytest.raises(HomeAssistantError) as caught:
        await house.call("lock", "lock", house.state("lock", "lock"))
    assert caught.value.translation_key == "no_path_since"
