"""The solar mode: how much of the charging power must be solar."""

from dataclasses import dataclass
from typing import override

from homeassistant.components.select import SelectEntity, SelectEntityDescription
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import ChargeKeeperConfigEntry
from .core.model import ECO_MODE, Capability, EcoMode
from .core.transport import SetEcoMode
from .entity import (
    ChargerEntity,
    ChargerEntityDescription,
    add_when_supported,
    capable,
    confirmation,
    remove_control_entities_if_read_only,
)

PARALLEL_UPDATES = 0  # each charger queues and merges its own commands, so chargers need not wait for each other


@dataclass(frozen=True, kw_only=True)
class ChargerSelectDescription(ChargerEntityDescription, SelectEntityDescription):
    """Describes a select entity of a charger."""


ECO_MODE_SELECT = ChargerSelectDescription(
    key="eco_mode", exists_fn=capable(Capability.ECO_MODE), options=[mode.value for mode in EcoMode]
)


async def async_setup_entry(
    hass: HomeAssistant, entry: ChargeKeeperConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the select."""
    if not remove_control_entities_if_read_only(hass, entry, Platform.SELECT):
        add_when_supported(hass, entry, Platform.SELECT, (ECO_MODE_SELECT,), EcoModeSelect, async_add_entities)


class EcoModeSelect(ChargerEntity, SelectEntity):
    """The solar mode of a charger."""

    @property
    @override
    def current_option(self) -> str | None:
        return self.snapshot.commanded.eco_mode or self.snapshot.value(ECO_MODE)

    @property
    @override
    def extra_state_attributes(self) -> dict[str, bool]:
        return confirmation(self.snapshot.commanded.eco_mode)

    @override
    def state_key(self) -> object:
        return self.current_option, self.extra_state_attributes

    @override
    async def async_select_option(self, option: str) -> None:
        await self.async_command(SetEcoMode(EcoMode(option)))
