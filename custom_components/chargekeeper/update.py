"""The firmware update: installed version, latest version, installation."""

from dataclasses import dataclass
from typing import Any, override

from homeassistant.components.update import (
    UpdateDeviceClass,
    UpdateEntity,
    UpdateEntityDescription,
    UpdateEntityFeature,
)
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import ChargeKeeperConfigEntry
from .core.model import FIRMWARE, LATEST_FIRMWARE, Capability
from .entity import ChargerEntity, ChargerEntityDescription, add_when_supported, capable

PARALLEL_UPDATES = 0  # each charger guards its own installation, which must not delay other chargers


@dataclass(frozen=True, kw_only=True)
class ChargerUpdateDescription(ChargerEntityDescription, UpdateEntityDescription):
    """Describes an update of a charger."""


FIRMWARE_UPDATE = ChargerUpdateDescription(
    key="firmware", exists_fn=capable(Capability.INSTALL), device_class=UpdateDeviceClass.FIRMWARE
)


async def async_setup_entry(
    hass: HomeAssistant, entry: ChargeKeeperConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the update."""
    add_when_supported(hass, entry, Platform.UPDATE, (FIRMWARE_UPDATE,), FirmwareUpdate, async_add_entities)


class FirmwareUpdate(ChargerEntity, UpdateEntity):
    """The charger's firmware. The installation is in progress until the charger reports the new version."""

    @property
    @override
    def supported_features(self) -> UpdateEntityFeature:
        if self.charger.options.read_only:
            return UpdateEntityFeature.PROGRESS
        return UpdateEntityFeature.INSTALL | UpdateEntityFeature.PROGRESS

    @property
    @override
    def title(self) -> str:
        return self.snapshot.identity.model or self.snapshot.identity.name

    @property
    @override
    def installed_version(self) -> str | None:
        return self.snapshot.value(FIRMWARE)

    @property
    @override
    def latest_version(self) -> str | None:
        return self.snapshot.value(LATEST_FIRMWARE)

    @property
    @override
    def in_progress(self) -> bool:
        return self.snapshot.installing

    @override
    def state_key(self) -> object:
        return self.title, self.installed_version, self.latest_version, self.in_progress

    @override
    async def async_install(self, version: str | None, backup: bool, **kwargs: Any) -> None:
        with self.translate_errors():
            await self.charger.install()
