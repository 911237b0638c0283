"""Binary sensors: car connected, problem, cloud connection and local connection."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import override

from homeassistant.components.binary_sensor import BinarySensorEntity, BinarySensorEntityDescription
from homeassistant.components.binary_sensor.const import BinarySensorDeviceClass
from homeassistant.const import EntityCategory, Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import AccountCoordinator, ChargeKeeperConfigEntry, account_coordinator
from .core.model import CAR_CONNECTED, PROBLEM, Snapshot
from .entity import AccountEntity, ChargerEntity, ChargerEntityDescription, add_when_supported, shown

PARALLEL_UPDATES = 0


@dataclass(frozen=True, kw_only=True)
class ChargerBinarySensorDescription(ChargerEntityDescription, BinarySensorEntityDescription):
    """Describes a binary sensor entity of a charger.

    If `expires` is True, the sensor is unavailable while it has no value.
    """

    value_fn: Callable[[Snapshot], bool | None]
    expires: bool = False


BINARY_SENSORS = (
    ChargerBinarySensorDescription(
        key="car_connected",
        exists_fn=shown(CAR_CONNECTED),
        value_fn=lambda snapshot: snapshot.value(CAR_CONNECTED),
        expires=True,
        device_class=BinarySensorDeviceClass.PLUG,
    ),
    ChargerBinarySensorDescription(
        key="problem",
        exists_fn=shown(PROBLEM),
        value_fn=lambda snapshot: snapshot.value(PROBLEM),
        expires=True,
        device_class=BinarySensorDeviceClass.PROBLEM,
    ),
    ChargerBinarySensorDescription(
        key="cloud",
        exists_fn=lambda snapshot: snapshot.cloud is not None,
        value_fn=lambda snapshot: snapshot.cloud,
        device_class=BinarySensorDeviceClass.CONNECTIVITY,
        entity_category=EntityCategory.DIAGNOSTIC,
    ),
    ChargerBinarySensorDescription(
        key="local",
        exists_fn=lambda snapshot: snapshot.local is not None,
        value_fn=lambda snapshot: snapshot.local,
        device_class=BinarySensorDeviceClass.CONNECTIVITY,
        entity_category=EntityCategory.DIAGNOSTIC,
    ),
)

ACCOUNT_CLOUD = BinarySensorEntityDescription(
    key="cloud",
    device_class=BinarySensorDeviceClass.CONNECTIVITY,
    entity_category=EntityCategory.DIAGNOSTIC,
)


async def async_setup_entry(
    hass: HomeAssistant, entry: ChargeKeeperConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the binary sensors."""
    if (account := account_coordinator(entry)) is not None:
        async_add_entities([AccountCloudSensor(account)])
    add_when_supported(hass, entry, Platform.BINARY_SENSOR, BINARY_SENSORS, ChargerBinarySensor, async_add_entities)


class ChargerBinarySensor(ChargerEntity, BinarySensorEntity):
    """A binary sensor of a charger."""

    entity_description: ChargerBinarySensorDescription

    @property
    @override
    def available(self) -> bool:
        return not self.entity_description.expires or self.is_on is not None

    @property
    @override
    def is_on(self) -> bool | None:
        return self.entity_description.value_fn(self.snapshot)

    @override
    def state_key(self) -> object:
        return self.is_on


class AccountCloudSensor(AccountEntity, BinarySensorEntity):
    """On while the manufacturer's cloud answers."""

    entity_description: BinarySensorEntityDescription

    def __init__(self, coordinator: AccountCoordinator) -> None:
        super().__init__(coordinator, ACCOUNT_CLOUD)

    @property
    @override
    def is_on(self) -> bool | None:
        return self.coordinator.data.cloud

    @override
    def state_key(self) -> object:
        return self.is_on
