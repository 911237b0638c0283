"""The base of all entities: their device, when they are added, when their state is written, and their commands.

An entity is added once its charger has ever reported the property behind it. The entity registry remembers this, so
that a start during a cloud outage adds the same entities again.
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
from .core.model import STATUS, Capability, Property, Reading, Snapshot, Source
from .core.transport import Setting
from .ha.errors import translated

type Exists = Callable[[Snapshot], bool]

PROVENANCE = frozenset({"source", "since"})
"""The attributes that `provenance` returns. The recorder does not store them."""


@dataclass(frozen=True, kw_only=True)
class ChargerEntityDescription(EntityDescription):
    """Description of a charger's entity; `exists_fn` returns True if a snapshot has the property behind the entity."""

    exists_fn: Exists


def shown(prop: Property[Any]) -> Exists:
    """Return the condition of an entity that is added once the charger has reported `prop`."""
    return lambda snapshot: prop in snapshot.readings


def capable(capability: Capability) -> Exists:
    """Return the condition of an entity that is added once some transport can do this with the charger."""
    return lambda snapshot: capability in snapshot.capabilities


def provenance(reading: Reading[Any] | None) -> dict[str, str]:
    """Return the attributes for the source of a limit; a limit from the store also has the time of its reading."""
    if reading is None:
        return {}
    if reading.source is Source.CACHE:
        return {"source": reading.source, "since": reading.observed_at.isoformat()}
    return {"source": reading.source}


def confirmation(commanded: object) -> dict[str, bool]:
    """Return the attribute of an entity that shows a commanded value; no attribute for a value of the charger."""
    return {} if commanded is None else {"confirmed": False}


class PushedEntity[C: DataUpdateCoordinator[Any]](CoordinatorEntity[C]):
    """An entity whose state is written only when the state has changed, not at each change of its device."""

    _attr_has_entity_name = True
    _written: object = None

    def __init__(
        self, coordinator: C, description: EntityDescription, device: tuple[str, str], context: object = None
    ) -> None:
        """Belong to the device with this identifier; the coordinator has registered the device."""
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
        """Return all values that the entity's state depends on, comparable."""

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
        """Return the snapshot of the charger."""
        return self.coordinator.data

    @property
    def charger(self) -> Charger:
        """Return the charger that carries out the commands."""
        return self.coordinator.charger

    @property
    def charger_name(self) -> str:
        """Return the charger's name as the user knows it."""
        return charger_name(self.hass, self.coordinator.config_entry, self.snapshot.identity)

    def translate_errors(self) -> AbstractContextManager[None]:
        """Turn a charger error of the block into a translated HomeAssistantError."""
        return translated(self.charger_name, self.snapshot.value(STATUS))

    async def async_command(self, setting: Setting) -> None:
        """Carry out a setting.

        Raises:
            HomeAssistantError: the setting was not carried out; the text is translated.
        """
        with self.translate_errors():
            await self.charger.command(setting)


class AccountEntity(PushedEntity[AccountCoordinator]):
    """An entity of an account with a manufacturer's cloud."""

    def __init__(self, coordinator: AccountCoordinator, description: EntityDescription, context: object = None) -> None:
        super().__init__(coordinator, description, account_identifier(coordinator.user_id), context)


def unique_id(device: tuple[str, str], description: EntityDescription) -> str:
    """Return the unique id of an entity: the id of its device and its own key."""
    return f"{device[1]}_{description.key}"


def add_when_supported[D: ChargerEntityDescription](
    hass: HomeAssistant,
    entry: ConfigEntry,
    platform: Platform,
    descriptions: Iterable[D],
    make: Callable[[ChargerCoordinator, D], ChargerEntity],
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the entities that each charger supports or has ever supported; add the others once the charger supports them.

    Chargers that appear later are included.
    """
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
    """Remove the entities of this platform if the entry is read-only. Return True if it is."""
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
