"""Sensors for status, power and current."""

from typing import override

from homeassistant.components.sensor import SensorDeviceClass, SensorEntity
from homeassistant.const import UnitOfElectricCurrent, UnitOfPower
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddEntitiesCallback
from homeassistant.helpers.typing import ConfigType, DiscoveryInfoType

from . import CHARGERS, LocalChargers, LocalEntity

KINDS = {
    "status": (None, None),
    "power": (SensorDeviceClass.POWER, UnitOfPower.KILO_WATT),
    "current": (SensorDeviceClass.CURRENT, UnitOfElectricCurrent.AMPERE),
}


async def async_setup_platform(
    hass: HomeAssistant,
    config: ConfigType,
    async_add_entities: AddEntitiesCallback,
    discovery_info: DiscoveryInfoType | None = None,
) -> None:
    """Add the sensors."""
    chargers = hass.data[CHARGERS]
    async_add_entities(LocalSensor(chargers, serial, key) for serial in chargers.data for key in KINDS)


class LocalSensor(LocalEntity, SensorEntity):
    """A sensor for one value of a charger."""

    def __init__(self, coordinator: LocalChargers, serial: str, key: str) -> None:
        super().__init__(coordinator, serial, key)
        self._attr_device_class, self._attr_native_unit_of_measurement = KINDS[key]

    @property
    @override
    def native_value(self) -> str | float:
        return self.shown[self.key]
