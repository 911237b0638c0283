"""Entities of a local integration for a simulated charger, on Home Assistant's real platforms."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, override

from homeassistant.components.button import ButtonEntity
from homeassistant.components.number import NumberEntity
from homeassistant.components.sensor import SensorEntity
from homeassistant.components.switch import SwitchEntity
from homeassistant.config_entries import ConfigEntry, ConfigFlow
from homeassistant.const import Platform, UnitOfElectricCurrent, UnitOfPower
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.entity import Entity
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    MockModule,
    mock_config_flow,
    mock_integration,
    mock_platform,
    setup_test_component_platform,
)

from tests.simulators.local_side import LocalSide, Refused

DOMAIN = "test"


class LocalEntity(Entity):
    """Common base: the charger, and its availability."""

    _attr_should_poll = False
    key: str

    def __init__(self, side: LocalSide) -> None:
        self.side = side
        self.failure: BaseException | None = None
        self.asked = 0
        """Number of updates requested."""
        self._attr_unique_id = f"{side.serial}_{self.key}"
        self._attr_name = f"Local {side.serial} {self.key}"

    @property
    @override
    def available(self) -> bool:
        return self.side.answers

    async def async_update(self) -> None:
        self.asked += 1

    async def carry_out(self, work: Any, *args: Any, **kwargs: Any) -> None:
        """Do the work, or raise the failure that the test has set."""
        if self.failure is not None:
            raise self.failure
        try:
            work(*args, **kwargs)
        except Refused:
            raise ServiceValidationError("not now") from None


class StatusSensor(LocalEntity, SensorEntity):
    key = "status"

    @property
    @override
    def native_value(self) -> str:
        return self.side.status


class PowerSensor(LocalEntity, SensorEntity):
    key = "power"
    _attr_native_unit_of_measurement = UnitOfPower.KILO_WATT

    @property
    @override
    def native_value(self) -> float:
        return self.side.power


class CurrentSensor(LocalEntity, SensorEntity):
    key = "current"
    _attr_native_unit_of_measurement = UnitOfElectricCurrent.MILLIAMPERE

    @property
    @override
    def native_value(self) -> float:
        return self.side.current * 1000


class CurrentNumber(LocalEntity, NumberEntity):
    key = "current_number"
    _attr_native_unit_of_measurement = UnitOfElectricCurrent.MILLIAMPERE
    _attr_native_min_value = 0
    _attr_native_max_value = 32000

    @property
    @override
    def native_value(self) -> float:
        return self.side.max_current * 1000

    @override
    async def async_set_native_value(self, value: float) -> None:
        await self.carry_out(self.side.set_max_current, round(value / 1000))


class ChargeSwitch(LocalEntity, SwitchEntity):
    key = "charge_switch"

    @property
    @override
    def is_on(self) -> bool:
        return self.side.may_charge

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        await self.carry_out(self.side.set_charging, on=True)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        await self.carry_out(self.side.set_charging, on=False)


class RestartButton(LocalEntity, ButtonEntity):
    key = "restart_button"

    @override
    async def async_press(self) -> None:
        await self.carry_out(self.side.restart)


KINDS: dict[str, tuple[str, type[LocalEntity]]] = {
    "status": ("sensor", StatusSensor),
    "power": ("sensor", PowerSensor),
    "current": ("sensor", CurrentSensor),
    "current_number": ("number", CurrentNumber),
    "charge_switch": ("switch", ChargeSwitch),
    "restart_button": ("button", RestartButton),
}
"""Link to platform and entity."""
PLATFORMS = (Platform.BUTTON, Platform.NUMBER, Platform.SENSOR, Platform.SWITCH)


@dataclass
class LocalIntegration:
    """The local integration of one charger, whose entities report on request of the test."""

    hass: HomeAssistant
    side: LocalSide
    entities: dict[str, LocalEntity] = field(default_factory=dict)
    config_entry: MockConfigEntry | None = None

    async def set_up(self, iot_class: str = "local_push") -> None:
        """Add the entry to Home Assistant; set an existing entry up again."""
        module = MockModule(
            DOMAIN,
            async_setup_entry=self._set_up_entry,
            async_unload_entry=self._unload_entry,
            partial_manifest={"iot_class": iot_class},
        )
        mock_integration(self.hass, module, built_in=False)
        mock_platform(self.hass, f"{DOMAIN}.config_flow", None, built_in=False)
        if self.config_entry is None:
            self.config_entry = MockConfigEntry(domain=DOMAIN)
            self.config_entry.add_to_hass(self.hass)
        else:
            await self.unload()
        await self.load()

    async def load(self) -> None:
        """Set the entry up."""
        assert self.config_entry is not None
        with mock_config_flow(DOMAIN, ConfigFlow):
            assert await self.hass.config_entries.async_setup(self.config_entry.entry_id)
        await self.hass.async_block_till_done()

    async def unload(self) -> None:
        """Unload the entry: the entities stay registered and become unavailable."""
        assert self.config_entry is not None
        assert await self.hass.config_entries.async_unload(self.config_entry.entry_id)
        await self.hass.async_block_till_done()

    async def _set_up_entry(self, hass: HomeAssistant, entry: ConfigEntry) -> bool:
        self.entities = {link: kind(self.side) for link, (_, kind) in KINDS.items()}
        for platform in PLATFORMS:
            group = [self.entities[link] for link, (each, _) in KINDS.items() if each == platform]
            setup_test_component_platform(hass, platform, group, from_config_entry=True, built_in=False)
        await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
        return True

    async def _unload_entry(self, hass: HomeAssistant, entry: ConfigEntry) -> bool:
        return await hass.config_entries.async_unload_platforms(entry, PLATFORMS)

    def entry(self, link: str) -> er.RegistryEntry:
        """Return the registry entry of an entity."""
        platform, kind = KINDS[link]
        registry = er.async_get(self.hass)
        entity_id = registry.async_get_entity_id(platform, DOMAIN, f"{self.side.serial}_{kind.key}")
        assert entity_id is not None
        entry = registry.async_get(entity_id)
        assert entry is not None
        return entry

    def chosen(self, *links: str) -> dict[str, str]:
        """Return what a user chooses in the form: all entities, or some."""
        return {link: self.entry(link).entity_id for link in links or KINDS}

    def report(self, *links: str) -> None:
        """Write the states of all entities, or some, changed or not."""
        for entity in self._some(links):
            entity.async_write_ha_state()

    def lose(self) -> None:
        """Break the local connection to the charger."""
        self.side.link = False
        self.report()

    def find(self) -> None:
        """Restore the local connection to the charger."""
        self.side.link = True
        self.report()

    def _some(self, links: tuple[str, ...]) -> Iterator[LocalEntity]:
        for link in links or KINDS:
            yield self.entities[link]
