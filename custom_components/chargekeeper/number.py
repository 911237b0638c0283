"""The charging current: the highest current that the car may draw."""

from dataclasses import dataclass
from math import floor
from typing import override

from homeassistant.components.number import NumberDeviceClass, NumberEntity, NumberEntityDescription, NumberMode
from homeassistant.const import Platform, UnitOfElectricCurrent
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import ChargeKeeperConfigEntry
from .core.limits import HIGHEST_CURRENT, MINIMUM_CURRENT, Limits, ceiling
from .core.model import CHARGING_CURRENT, Capability
from .core.transport import SetCurrent
from .entity import (
    PROVENANCE,
    ChargerEntity,
    ChargerEntityDescription,
    add_when_supported,
    capable,
    confirmation,
    provenance,
    remove_control_entities_if_read_only,
)

PARALLEL_UPDATES = 0  # the charger queues and merges commands: only the last value of a moving slider is sent


@dataclass(frozen=True, kw_only=True)
class ChargerNumberDescription(ChargerEntityDescription, NumberEntityDescription):
    """Describes a number entity of a charger."""


CHARGING_CURRENT_NUMBER = ChargerNumberDescription(
    key="charging_current",
    exists_fn=capable(Capability.CURRENT),
    device_class=NumberDeviceClass.CURRENT,
    mode=NumberMode.SLIDER,
    native_min_value=MINIMUM_CURRENT,
    native_step=1,
    native_unit_of_measurement=UnitOfElectricCurrent.AMPERE,
)


async def async_setup_entry(
    hass: HomeAssistant, entry: ChargeKeeperConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the number entity."""
    if not remove_control_entities_if_read_only(hass, entry, Platform.NUMBER):
        add_when_supported(
            hass, entry, Platform.NUMBER, (CHARGING_CURRENT_NUMBER,), ChargingCurrent, async_add_entities
        )


class ChargingCurrent(ChargerEntity, NumberEntity):
    """The highest current that the car may draw, up to the ceiling of the installation."""

    _unrecorded_attributes = PROVENANCE

    @property
    @override
    def native_value(self) -> float | None:
        commanded = self.snapshot.commanded.current
        return self.snapshot.value(CHARGING_CURRENT) if commanded is None else commanded

    @property
    @override
    def native_max_value(self) -> float:
        highest, _ = ceiling(Limits.of(self.snapshot.readings))
        return HIGHEST_CURRENT if highest is None else max(floor(highest), MINIMUM_CURRENT)

    @property
    @override
    def extra_state_attributes(self) -> dict[str, str | bool]:
        reported = provenance(self.snapshot.readings.get(CHARGING_CURRENT))
        return {**reported, **confirmation(self.snapshot.commanded.current)}

    @override
    def state_key(self) -> object:
        return self.native_value, self.native_max_value, self.extra_state_attributes

    @override
    async def async_set_native_value(self, value: float) -> None:
        await self.async_command(SetCurrent(round(value)))
