"""Sensors: status, electrical values, energy, limits and connections of a charger; currents of a load group."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.config_entries import ConfigEntry
from homeassistant.const import (
    EntityCategory,
    Platform,
    UnitOfElectricCurrent,
    UnitOfElectricPotential,
    UnitOfEnergy,
    UnitOfFrequency,
    UnitOfPower,
    UnitOfTemperature,
    UnitOfTime,
)
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .const import CONF_MEMBERS, KIND_LOAD_GROUP
from .coordinator import CONTACT, AccountCoordinator, ChargeKeeperConfigEntry, ChargerCoordinator, account_coordinator
from .core.load_group.group import GroupView
from .core.model import (
    CURRENCY,
    CURRENT,
    CURRENT_L1,
    CURRENT_L2,
    CURRENT_L3,
    GRID_FREQUENCY,
    HOUSE_LIMIT,
    LIFETIME_ENERGY,
    LOAD_GROUP_LIMIT,
    OFFLINE_CURRENT,
    POWER,
    POWER_FACTOR,
    PROPERTIES,
    SESSION_COST,
    SESSION_DURATION,
    SESSION_ENERGY,
    STATUS,
    TEMPERATURE,
    UNIT_RATING,
    VOLTAGE,
    WIRE_RATING,
    Capability,
    LimitingFactor,
    Property,
    Reading,
    RestartAvailability,
    Snapshot,
    Source,
    Status,
)
from .entity import (
    PROVENANCE,
    AccountEntity,
    ChargerEntity,
    ChargerEntityDescription,
    PushedEntity,
    add_when_supported,
    capable,
    provenance,
    shown,
)
from .entries.kind import kind_of
from .entries.load_group import GroupCoordinator, group_runtime, member_key, member_name

PARALLEL_UPDATES = 0

NO_TRANSPORT = "none"

type Value = str | float | datetime | None


@dataclass(frozen=True, kw_only=True)
class ChargerSensorDescription(ChargerEntityDescription, SensorEntityDescription):
    """Describes a sensor entity of a charger.

    Attributes:
        value_fn: returns the value to show.
        expires: the sensor is unavailable without a value; set for live values.
        reading_fn: returns the reading whose source and time are shown as attributes; set for limits.
        unit_fn: returns the unit that the charger reports.
        contact: the sensor is also updated when only the time of the last contact changes.
    """

    value_fn: Callable[[Snapshot], Value]
    expires: bool = False
    reading_fn: Callable[[Snapshot], Reading[Any] | None] | None = None
    unit_fn: Callable[[Snapshot], str | None] | None = None
    contact: bool = False


def value_of(prop: Property[Any]) -> Callable[[Snapshot], Value]:
    """Return a function that returns the value of a property."""
    return lambda snapshot: snapshot.value(prop)


def _limiting_reading(snapshot: Snapshot) -> Reading[Any] | None:
    """Return the reading of the limiting factor, whose value is the key of a property."""
    factor = snapshot.limiting_factor
    return None if factor is None else snapshot.readings.get(PROPERTIES[factor])


def _current(prop: Property[float], *, enabled: bool = True) -> ChargerSensorDescription:
    """Describe a sensor of the current that flows, in total or in one phase."""
    return ChargerSensorDescription(
        key=prop.key,
        exists_fn=shown(prop),
        value_fn=value_of(prop),
        expires=True,
        device_class=SensorDeviceClass.CURRENT,
        native_unit_of_measurement=UnitOfElectricCurrent.AMPERE,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=1,
        entity_registry_enabled_default=enabled,
    )


def _limit(prop: Property[float], *, enabled: bool = True) -> ChargerSensorDescription:
    """Describe a sensor of a current that a limit allows."""
    return ChargerSensorDescription(
        key=prop.key,
        exists_fn=shown(prop),
        value_fn=value_of(prop),
        reading_fn=lambda snapshot: snapshot.readings.get(prop),
        device_class=SensorDeviceClass.CURRENT,
        native_unit_of_measurement=UnitOfElectricCurrent.AMPERE,
        suggested_display_precision=0,
        entity_registry_enabled_default=enabled,
    )


SENSORS = (
    ChargerSensorDescription(
        key="status",
        exists_fn=lambda _: True,
        value_fn=value_of(STATUS),
        device_class=SensorDeviceClass.ENUM,
        options=[status.value for status in Status],
    ),
    ChargerSensorDescription(
        key="power",
        exists_fn=shown(POWER),
        value_fn=value_of(POWER),
        expires=True,
        device_class=SensorDeviceClass.POWER,
        native_unit_of_measurement=UnitOfPower.WATT,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
    ),
    _current(CURRENT),
    _current(CURRENT_L1, enabled=False),
    _current(CURRENT_L2, enabled=False),
    _current(CURRENT_L3, enabled=False),
    ChargerSensorDescription(
        key="voltage",
        exists_fn=shown(VOLTAGE),
        value_fn=value_of(VOLTAGE),
        expires=True,
        device_class=SensorDeviceClass.VOLTAGE,
        native_unit_of_measurement=UnitOfElectricPotential.VOLT,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
        entity_registry_enabled_default=False,
    ),
    ChargerSensorDescription(
        key="grid_frequency",
        exists_fn=shown(GRID_FREQUENCY),
        value_fn=value_of(GRID_FREQUENCY),
        expires=True,
        device_class=SensorDeviceClass.FREQUENCY,
        native_unit_of_measurement=UnitOfFrequency.HERTZ,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=2,
        entity_registry_enabled_default=False,
    ),
    ChargerSensorDescription(
        key="power_factor",
        exists_fn=shown(POWER_FACTOR),
        value_fn=value_of(POWER_FACTOR),
        expires=True,
        device_class=SensorDeviceClass.POWER_FACTOR,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=2,
        entity_registry_enabled_default=False,
    ),
    # No state class: the value starts again at zero with each session and is not a running total. The energy dashboard
    # must offer the lifetime energy only.
    ChargerSensorDescription(
        key="session_energy",
        exists_fn=shown(SESSION_ENERGY),
        value_fn=value_of(SESSION_ENERGY),
        device_class=SensorDeviceClass.ENERGY,
        native_unit_of_measurement=UnitOfEnergy.KILO_WATT_HOUR,
        suggested_display_precision=2,
    ),
    ChargerSensorDescription(
        key="lifetime_energy",
        exists_fn=shown(LIFETIME_ENERGY),
        value_fn=value_of(LIFETIME_ENERGY),
        device_class=SensorDeviceClass.ENERGY,
        native_unit_of_measurement=UnitOfEnergy.KILO_WATT_HOUR,
        state_class=SensorStateClass.TOTAL_INCREASING,
        suggested_display_precision=1,
    ),
    ChargerSensorDescription(
        key="session_duration",
        exists_fn=shown(SESSION_DURATION),
        value_fn=value_of(SESSION_DURATION),
        expires=True,
        device_class=SensorDeviceClass.DURATION,
        native_unit_of_measurement=UnitOfTime.SECONDS,
        suggested_unit_of_measurement=UnitOfTime.MINUTES,
        suggested_display_precision=0,
        entity_registry_enabled_default=False,
    ),
    ChargerSensorDescription(
        key="session_cost",
        exists_fn=shown(SESSION_COST),
        value_fn=value_of(SESSION_COST),
        unit_fn=lambda snapshot: snapshot.value(CURRENCY),
        device_class=SensorDeviceClass.MONETARY,
        suggested_display_precision=2,
        entity_registry_enabled_default=False,
    ),
    ChargerSensorDescription(
        key="temperature",
        exists_fn=shown(TEMPERATURE),
        value_fn=value_of(TEMPERATURE),
        expires=True,
        device_class=SensorDeviceClass.TEMPERATURE,
        native_unit_of_measurement=UnitOfTemperature.CELSIUS,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
        entity_registry_enabled_default=False,
    ),
    ChargerSensorDescription(
        key="effective_limit",
        exists_fn=lambda snapshot: snapshot.effective_limit is not None,
        value_fn=lambda snapshot: snapshot.effective_limit,
        reading_fn=_limiting_reading,
        device_class=SensorDeviceClass.CURRENT,
        native_unit_of_measurement=UnitOfElectricCurrent.AMPERE,
        suggested_display_precision=0,
    ),
    ChargerSensorDescription(
        key="limiting_factor",
        exists_fn=lambda snapshot: snapshot.limiting_factor is not None,
        value_fn=lambda snapshot: snapshot.limiting_factor,
        device_class=SensorDeviceClass.ENUM,
        options=[factor.value for factor in LimitingFactor],
    ),
    _limit(LOAD_GROUP_LIMIT),
    _limit(WIRE_RATING),
    _limit(UNIT_RATING, enabled=False),
    _limit(HOUSE_LIMIT),
    _limit(OFFLINE_CURRENT),
    ChargerSensorDescription(
        key="next_window",
        exists_fn=lambda snapshot: snapshot.next_window is not None,
        value_fn=lambda snapshot: snapshot.next_window,
        device_class=SensorDeviceClass.TIMESTAMP,
    ),
    ChargerSensorDescription(
        key="restart_availability",
        exists_fn=lambda snapshot: (
            capable(Capability.RESTART)(snapshot) or snapshot.restart is not RestartAvailability.NO_TRANSPORT
        ),
        value_fn=lambda snapshot: snapshot.restart,
        device_class=SensorDeviceClass.ENUM,
        options=[availability.value for availability in RestartAvailability],
    ),
    ChargerSensorDescription(
        key="connection_path",
        exists_fn=lambda _: True,
        value_fn=lambda snapshot: snapshot.connection_path or NO_TRANSPORT,
        device_class=SensorDeviceClass.ENUM,
        options=[Source.CLOUD, Source.BLUETOOTH, Source.UDP, Source.LINKED, NO_TRANSPORT],
        entity_category=EntityCategory.DIAGNOSTIC,
    ),
    ChargerSensorDescription(
        key="last_cloud_contact",
        exists_fn=lambda snapshot: snapshot.cloud is not None,
        value_fn=lambda snapshot: snapshot.last_cloud_contact,
        contact=True,
        device_class=SensorDeviceClass.TIMESTAMP,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
    ),
    ChargerSensorDescription(
        key="last_local_contact",
        exists_fn=lambda snapshot: snapshot.local is not None,
        value_fn=lambda snapshot: snapshot.last_local_contact,
        contact=True,
        device_class=SensorDeviceClass.TIMESTAMP,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
    ),
)

ACCOUNT_CONTACT = SensorEntityDescription(
    key="last_cloud_contact",
    device_class=SensorDeviceClass.TIMESTAMP,
    entity_category=EntityCategory.DIAGNOSTIC,
    entity_registry_enabled_default=False,
)


@dataclass(frozen=True, kw_only=True)
class GroupSensorDescription(SensorEntityDescription):
    """Describes a sensor entity of a load group."""

    value_fn: Callable[[GroupView], float | None]


def _group_sensor(key: str, value_fn: Callable[[GroupView], float | None]) -> GroupSensorDescription:
    """Describe a sensor of a current in a load group."""
    return GroupSensorDescription(
        key=key,
        value_fn=value_fn,
        device_class=SensorDeviceClass.CURRENT,
        native_unit_of_measurement=UnitOfElectricCurrent.AMPERE,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
    )


GROUP_SENSORS = (
    _group_sensor("allocated", lambda view: view.allocated),
    _group_sensor("headroom", lambda view: view.headroom),
)
SHARE = "share"


async def async_setup_entry(
    hass: HomeAssistant, entry: ChargeKeeperConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the sensors."""
    if kind_of(entry) == KIND_LOAD_GROUP:
        async_add_entities(_group_sensors(hass, entry))
        return
    if (account := account_coordinator(entry)) is not None:
        async_add_entities([AccountContactSensor(account)])
    add_when_supported(hass, entry, Platform.SENSOR, SENSORS, ChargerSensor, async_add_entities)


@callback
def _group_sensors(hass: HomeAssistant, entry: ConfigEntry) -> list[GroupSensor]:
    """Return the sensors of a load group. Remove the entities of members that left the group."""
    coordinator = group_runtime(entry).coordinator
    sensors = [GroupSensor(coordinator, description) for description in GROUP_SENSORS]
    sensors += [GroupShareSensor(coordinator, member) for member in entry.data[CONF_MEMBERS]]
    present = {sensor.unique_id for sensor in sensors}
    registry = er.async_get(hass)
    for entity in er.async_entries_for_config_entry(registry, entry.entry_id):
        if entity.unique_id not in present:
            registry.async_remove(entity.entity_id)
    return sensors


class ChargerSensor(ChargerEntity, SensorEntity):
    """A sensor of a charger."""

    entity_description: ChargerSensorDescription
    _unrecorded_attributes = PROVENANCE

    def __init__(self, coordinator: ChargerCoordinator, description: ChargerSensorDescription) -> None:
        super().__init__(coordinator, description, CONTACT if description.contact else None)

    @property
    @override
    def available(self) -> bool:
        return not self.entity_description.expires or self.native_value is not None

    @property
    @override
    def native_value(self) -> Value:
        return self.entity_description.value_fn(self.snapshot)

    @property
    @override
    def native_unit_of_measurement(self) -> str | None:
        if self.entity_description.unit_fn is not None:
            return self.entity_description.unit_fn(self.snapshot)
        return self.entity_description.native_unit_of_measurement

    @property
    @override
    def extra_state_attributes(self) -> dict[str, str] | None:
        if self.entity_description.reading_fn is None:
            return None
        return provenance(self.entity_description.reading_fn(self.snapshot))

    @override
    def state_key(self) -> object:
        return self.native_value, self.native_unit_of_measurement, self.extra_state_attributes


class AccountContactSensor(AccountEntity, SensorEntity):
    """The time of the last answer from the manufacturer's cloud."""

    entity_description: SensorEntityDescription

    def __init__(self, coordinator: AccountCoordinator) -> None:
        super().__init__(coordinator, ACCOUNT_CONTACT, CONTACT)

    @property
    @override
    def native_value(self) -> datetime | None:
        return self.coordinator.data.endpoint_contact_at

    @override
    def state_key(self) -> object:
        return self.native_value


class GroupSensor(PushedEntity[GroupCoordinator], SensorEntity):
    """A current of a load group."""

    entity_description: GroupSensorDescription

    def __init__(self, coordinator: GroupCoordinator, description: GroupSensorDescription) -> None:
        super().__init__(coordinator, description, coordinator.identifier)

    @property
    @override
    def native_value(self) -> float | None:
        return self.entity_description.value_fn(self.coordinator.data)

    @override
    def state_key(self) -> object:
        return self.native_value


class GroupShareSensor(GroupSensor):
    """The current that a member of a load group may draw, A."""

    def __init__(self, coordinator: GroupCoordinator, member: Mapping[str, str]) -> None:
        key = member_key(member)
        super().__init__(coordinator, _group_sensor(SHARE, lambda view: view.shares[key]))
        self._attr_unique_id = f"{coordinator.identifier[1]}_{'_'.join(key)}_{SHARE}"
        self._attr_translation_placeholders = {"charger": member_name(coordinator.hass, member)}
