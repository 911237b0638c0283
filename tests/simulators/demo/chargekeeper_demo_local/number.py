"""Number for the charging current."""

from typing import override

from homeassistant.components.number import NumberDeviceClass, NumberEntity
from homeassistant.const import UnitOfElectricCurrent
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
    """Add the numbers."""
    chargers = hass.data[CHARGERS]
    async_add_entities(MaxCurrent(chargers, serial, "max current") for serial in chargers.data)


class MaxCurrent(LocalEntity, NumberEntity):
    """The highest current that the car may draw."""

    _attr_device_class = NumberDeviceClass.CURRENT
    _attr_native_unit_of_measurement = UnitOfElectricCurrent.AMPERE
    _attr_native_min_value = 6
    _attr_native_max_value = 32
    _attr_native_step = 1

    @property
    @override
    def native_value(self) -> float:
        return float(self.shown["max_current"])

    @override
    async def async_set_native_value(self, value: float) -> None:
        await self.coordinator.command(self.serial, "current", round(value))
