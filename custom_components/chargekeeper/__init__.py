"""ChargeKeeper: keeps EV chargers working when the cloud of their manufacturer does not.

Each kind of entry has a life cycle of its own in entries/; this module chooses it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from homeassistant.config_entries import ConfigEntry, ConfigEntryState
from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import Event, HassJob, HomeAssistant
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.device_registry import DeviceEntry
from homeassistant.helpers.typing import ConfigType

from .const import DOMAIN, KIND_JUICEBOX, KIND_LOAD_GROUP, KIND_WALLBOX_ACCOUNT
from .entries.juicebox import async_remove_boxes, async_setup_boxes, async_unload_boxes
from .entries.kind import kind_of
from .entries.load_group import async_open_groups, async_remove_group, async_setup_group, async_unload_group
from .entries.wallbox import (
    async_remove_account,
    async_remove_account_device,
    async_setup_account,
    async_unload_account,
)
from .ha.shared_state import get_shared_state
from .services import async_setup_services

CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)


@dataclass(frozen=True, kw_only=True)
class EntryKind:
    """The life cycle of one kind of entry."""

    setup: Callable[[HomeAssistant, ConfigEntry], Awaitable[bool]]
    unload: Callable[[HomeAssistant, ConfigEntry], Awaitable[bool]]
    remove: Callable[[HomeAssistant, ConfigEntry], Awaitable[None]]
    remove_device: Callable[[HomeAssistant, ConfigEntry, DeviceEntry], Awaitable[bool]] | None = None
    """Returns True if the user may delete a device of a loaded entry. None: no device can be deleted."""


ENTRY_KINDS: Mapping[str | None, EntryKind] = {
    KIND_WALLBOX_ACCOUNT: EntryKind(
        setup=async_setup_account,
        unload=async_unload_account,
        remove=async_remove_account,
        remove_device=async_remove_account_device,
    ),
    KIND_JUICEBOX: EntryKind(setup=async_setup_boxes, unload=async_unload_boxes, remove=async_remove_boxes),
    KIND_LOAD_GROUP: EntryKind(setup=async_setup_group, unload=async_unload_group, remove=async_remove_group),
}


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Register the actions and the shutdown, and open the load groups before any charger is set up."""
    async_setup_services(hass)
    await async_open_groups(hass)

    async def stop(_event: Event) -> None:
        await get_shared_state(hass).stop()

    async def restore_power() -> None:
        """Restore the power of all boxes, while the integrations of the power switches still run."""
        if (boxes := get_shared_state(hass).boxes) is not None:
            await boxes.finish()

    hass.bus.async_listen_once(EVENT_HOMEASSISTANT_STOP, stop)
    hass.async_add_shutdown_job(HassJob(restore_power))
    return True


async def async_setup_entry(hass: HomeAssistant, entry: ConfigEntry) -> bool:
    """Set up an entry."""
    return await ENTRY_KINDS[kind_of(entry)].setup(hass, entry)


async def async_unload_entry(hass: HomeAssistant, entry: ConfigEntry) -> bool:
    """Stop an entry."""
    return await ENTRY_KINDS[kind_of(entry)].unload(hass, entry)


async def async_remove_entry(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Remove an entry, with all that is stored for it."""
    await ENTRY_KINDS[kind_of(entry)].remove(hass, entry)


async def async_remove_config_entry_device(hass: HomeAssistant, entry: ConfigEntry, device: DeviceEntry) -> bool:
    """Return True if the user may delete the device."""
    remove_device = ENTRY_KINDS[kind_of(entry)].remove_device
    if remove_device is None or entry.state is not ConfigEntryState.LOADED:
        return False
    return await remove_device(hass, entry, device)
