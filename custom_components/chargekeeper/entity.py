"""What all entities have in common: their device, when they come into being, when they are written, how they command.

An entity exists once its charger has ever shown what it stands for; the entity registry is the memory of that, so that
a start with the cloud dead makes them all again.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, override

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.device_registry import DeviceInfo
from homeassistant.helpers.entity import EntityDescription
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.update_coordinator import CoordinatorEntity, DataUpdateCoordinator

from .const import CONF_READ_ONLY, DOMAIN
from .coordinator import (
    AccountCoordinator,
    ChargerCoordinator,
    account_identifier,
    charger_identifier,
    charger_name,
    for_each_charger,
)
from .core.charger import Charger
from .core.model import Capability, Property, Reading, Snapshot, Source
from .core.transport import Setting
from .ha.errors import translated

type Exists = Callable[[Snapshot], bool]

PROVENANCE = frozenset({"source", "since"})
"""The attributes that `provenance` gives; not worth the recorder's space."""


@dataclass(frozen=True, kw_only=True)
class ChargerEntityDescription(EntityDescription):
    """Describes an entity of a charger; `exists_fn` tells whether a snapshot shows what the entity stands for."""

    exists_fn: Exists


def shown(prop: Property[Any]) -> Exists:
    """For an entity that exists once the charger has shown `prop`."""
    return lambda snapshot: prop in snapshot.readings


def capable(capability: Capability) -> Exists:
    """For an entity that exists once some path can do this with the charger."""
    return lambda snapshot: capability in snapshot.capabilities


def provenance(reading: Reading[Any] | None) -> dict[str, str]:
    """Attributes that say where a limit came from and, while only the store vouches for it, since when."""
    if reading is None:
        return {}
    if reading.source is Source.CACHE:
        return {"source": reading.source, "since": reading.observed_at.isoformat()}
    return {"source": reading.source}


class PushedEntity[C: DataUpdateCoordinator[Any]](CoordinatorEntity[C]):
    """An entity that is written when what it shows has changed, not whenever anything of its device has."""

    _attr_has_entity_name = True
    _written: object = None

    def __init__(
        self, coordinator: C, description: EntityDescription, device: tuple[str, str], context: object = None
    ) -> None:
        """Belong to the device with this identifier; the coordinator has registered it."""
        super().__init__(coordinator, context)
        self.entity_description = description
        self._attr_translation_key = description.key
        self._attr_unique_id = unique_id(device, description)
        self._attr_device_info = DeviceInfo(identifiers={device})

    @property
    @override
    def available(self) -> bool:
        return True

    @abstractmethod
    def state_key(self) -> object:
        """All that the entity's state depends on, comparable."""

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self._written = self.state_key()

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        state_key = self.state_key()
        if state_key != self._written:
            self._written = state_key
            self.async_write_ha_state()


class ChargerEntity(PushedEntity[ChargerCoordinator]):
    """An entity of a charger."""

    def __init__(
        self, coordinator: ChargerCoordinator, description: ChargerEntityDescription, context: object = None
    ) -> None:
        super().__init__(coordinator, description, _device(coordinator), context)

    @property
    def snapshot(self) -> Snapshot:
        """What is known of the charger."""
        return self.coordinator.data

    @property
    def charger(self) -> Charger:
        """Who keeps the charger going."""
        return self.coordinator.charger

    @property
    def charger_name(self) -> str:
        """The charger's name as the user knows it."""
        return charger_name(self.hass, self.coordinator.config_entry, self.snapshot.identity)

    def translate_errors(self) -> AbstractContextManager[None]:
        """Tells the user in his language why a command of the block was not carried out (HomeAssistantError)."""
        return translated(self.charger_name)

    async def async_command(self, setting: Setting) -> None:
        """Have a setting carried out.

        Raises:
            HomeAssistantError: why it was not, translated.
        """
        with self.translate_errors():
            await self.charger.command(setting)


class AccountEntity(PushedEntity[AccountCoordinator]):
    """An entity of an account with a maker's cloud."""

    def __init__(self, coordinator: AccountCoordinator, description: EntityDescription, context: object = None) -> None:
        super().__init__(coordinator, description, account_identifier(coordinator.user_id), context)


def unique_id(device: tuple[str, str], description: EntityDescription) -> str:
    """The unique id of an entity: that of its device and its own key."""
    return f"{device[1]}_{description.key}"


def add_when_supported[D: ChargerEntityDescription](
    hass: HomeAssistant,
    entry: ConfigEntry,
    platform: Platform,
    descriptions: Iterable[D],
    make: Callable[[ChargerCoordinator, D], ChargerEntity],
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add what each charger shows or has ever shown, now; the rest, and further chargers, when they show it."""
    registry = er.async_get(hass)

    @callback
    def begin(coordinator: ChargerCoordinator) -> None:
        device = _device(coordinator)
        waiting = list(descriptions)

        @callback
        def add_due(*, at_start: bool = False) -> None:
            due = [
                description
                for description in waiting
                if description.exists_fn(coordinator.data)
                or (at_start and registry.async_get_entity_id(platform, DOMAIN, unique_id(device, description)))
            ]
            if due:
                waiting[:] = [description for description in waiting if description not in due]
                entities = [make(coordinator, description) for description in due]
                async_add_entities(entities, config_subentry_id=coordinator.subentry_id)

        add_due(at_start=True)
        if waiting:
            entry.async_on_unload(coordinator.async_add_listener(add_due))

    for_each_charger(entry, begin)


def remove_control_entities_if_read_only(hass: HomeAssistant, entry: ConfigEntry, platform: Platform) -> bool:
    """Whether the entry is read-only and so has no entities of this platform; those of earlier are cleared away."""
    if not entry.options.get(CONF_READ_ONLY, False):
        return False
    registry = er.async_get(hass)
    for entity in er.async_entries_for_config_entry(registry, entry.entry_id):
        if entity.domain == platform:
            registry.async_remove(entity.entity_id)
    return True


def _device(coordinator: ChargerCoordinator) -> tuple[str, str]:
    identity = coordinator.identity
    return charger_identifier(identity.maker, identity.serial)
