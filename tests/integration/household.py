"""Common base of the houses of these tests."""

from dataclasses import dataclass

from homeassistant.components.persistent_notification import _async_get_or_create_notifications
from homeassistant.core import HomeAssistant

from custom_components.chargekeeper.ha.shared_state import SHARED_STATE, SharedState
from tests.simulators.clock import VirtualClock


@dataclass
class Household:
    """Home Assistant with ChargeKeeper on virtual time."""

    hass: HomeAssistant
    clock: VirtualClock

    @property
    def shared_state(self) -> SharedState:
        """The state that all entries of ChargeKeeper share."""
        return self.hass.data[SHARED_STATE]

    @property
    def notices(self) -> list[str]:
        """The texts of the notifications."""
        return [notice["message"] for notice in _async_get_or_create_notifications(self.hass).values()]

    async def pass_time(self, seconds: float) -> None:
        """Let time pass for Home Assistant and all simulators."""
        await self.hass.async_block_till_done()
        await self.clock.advance(seconds)
        await self.hass.async_block_till_done()
