"""Switch that allows or pauses charging."""

from typing import Any, override

from homeassistant.components.switch import SwitchEntity
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddEntitiesCallback
from homeassistant.helpers.typing import ConfigType, DiscoveryInfoType

from . import CHARGERS, LocalEntity


async def async_setup_platform(
    hass: HomeAssistant,
    config: ConfigType,
    async_add_entities: AddEntitiesCallback,
    discovery_info: DiscoveryInfoType | None = None,
) -> None:
    """Add the switches."""
    chargers = hass.data[CHARGERS]
    async_add_entities(ChargeSwitch(chargers, serial, "charging") for serial in chargers.data)


class ChargeSwitch(LocalEntity, SwitchEntity):
    """The charge switch. On charges regardless of the schedule, off pauses."""

    @property
    @override
    def is_on(self) -> bool:
        return bool(self.shown["may_charge"])

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        await self.coordinator.command(self.serial, "charging", value=True)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        await self.coordinator.command(self.serial, "charging", value=False)
