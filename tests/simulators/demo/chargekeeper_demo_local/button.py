"""Button that restarts the charger."""

from typing import override

from homeassistant.components.button import ButtonEntity
from homeassistant.components.button.const import ButtonDeviceClass
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
    """Add the buttons."""
    chargers = hass.data[CHARGERS]
    async_add_entities(RestartButton(chargers, serial, "restart") for serial in chargers.data)


class RestartButton(LocalEntity, ButtonEntity):
    """The restart button of a charger."""

    _attr_device_class = ButtonDeviceClass.RESTART

    @override
    async def async_press(self) -> None:
        await self.coordinator.command(self.serial, "restart")
