"""The restart button. A restart that would do harm is refused with a reason."""

from dataclasses import dataclass
from typing import override

from homeassistant.components.button import ButtonEntity, ButtonEntityDescription
from homeassistant.components.button.const import ButtonDeviceClass
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import ChargeKeeperConfigEntry
from .core.charger import RestartRun
from .core.model import Capability
from .entity import (
    ChargerEntity,
    ChargerEntityDescription,
    add_when_supported,
    capable,
    remove_control_entities_if_read_only,
)

PARALLEL_UPDATES = 0  # each charger guards its own restart, which must not delay other chargers


@dataclass(frozen=True, kw_only=True)
class ChargerButtonDescription(ChargerEntityDescription, ButtonEntityDescription):
    """Describes a button entity of a charger."""


RESTART = ChargerButtonDescription(
    key="restart", exists_fn=capable(Capability.RESTART), device_class=ButtonDeviceClass.RESTART
)


async def async_setup_entry(
    hass: HomeAssistant, entry: ChargeKeeperConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the button."""
    if not remove_control_entities_if_read_only(hass, entry, Platform.BUTTON):
        add_when_supported(hass, entry, Platform.BUTTON, (RESTART,), RestartButton, async_add_entities)


class RestartButton(ChargerEntity, ButtonEntity):
    """Restart the charger."""

    @override
    def state_key(self) -> object:
        return None

    @override
    async def async_press(self) -> None:
        await self.async_restart()

    async def async_restart(self) -> RestartRun:
        """Restart the charger. Return when the charger has accepted the restart.

        `RestartRun.wait` then waits for the outcome.

        Raises:
            HomeAssistantError: the restart was refused; the message is translated.
        """
        with self.translate_errors():
            return await self.charger.restart()
