"""The lock: restricts charging to authorized users."""

from dataclasses import dataclass
from typing import Any, override

from homeassistant.components.lock import LockEntity, LockEntityDescription
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import ChargeKeeperConfigEntry
from .core.model import LOCKED, Capability
from .core.transport import SetLock
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
class ChargerLockDescription(ChargerEntityDescription, LockEntityDescription):
    """Describes a lock entity of a charger."""


LOCK = ChargerLockDescription(key="lock", exists_fn=capable(Capability.LOCK))


async def async_setup_entry(
    hass: HomeAssistant, entry: ChargeKeeperConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the lock."""
    if not remove_control_entities_if_read_only(hass, entry, Platform.LOCK):
        add_when_supported(hass, entry, Platform.LOCK, (LOCK,), ChargerLock, async_add_entities)


class ChargerLock(ChargerEntity, LockEntity):
    """The lock of a charger. While locked, only authorized users can charge."""

    @property
    @override
    def is_locked(self) -> bool | None:
        commanded = self.snapshot.commanded.locked
        return self.snapshot.value(LOCKED) if commanded is None else commanded

    @property
    @override
    def extra_state_attributes(self) -> dict[str, bool]:
        return confirmation(self.snapshot.commanded.locked)

    @override
    def state_key(self) -> object:
        return self.is_locked, self.extra_state_attributes

    @override
    async def async_lock(self, **kwargs: Any) -> None:
        await self.async_command(SetLock(locked=True))

    @override
    async def async_unlock(self, **kwargs: Any) -> None:
        await self.async_command(SetLock(locked=False))
