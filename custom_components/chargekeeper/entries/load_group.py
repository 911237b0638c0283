"""The entry of a load group: its group, device and coordinator.

A group applies from before the first charger is set up until after the last one is stopped. Chargers join and leave the
group through the shared state.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.device_registry import DeviceEntryType

from ..const import CONF_KIND, CONF_LIMIT, CONF_MEMBERS, CONF_WEIGHT, DOMAIN, KIND_LOAD_GROUP
from ..coordinator import PushCoordinator, charger_name
from ..core.load_group.group import GroupView, LoadGroup
from ..core.load_group.shares import GroupSpec, Key, Member
from ..core.model import Identity, Maker
from ..ha.issues import (
    delete_group_issues,
    sync_group_limit_issue,
    sync_stored_excess_issue,
    track_member_issues,
)
from ..ha.shared_state import entry_key, get_shared_state, identities
from ..ha.storage import EntryStores

PLATFORMS = (Platform.SENSOR,)

RECORD = "group"
"""The key in the intent store for the settings that the group changed on its members."""


class GroupCoordinator(PushCoordinator[GroupView]):
    """The shares of a load group, and its service device."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry, group: LoadGroup) -> None:
        super().__init__(hass, entry, "load group", group.view)
        self.identifier = group_identifier(entry)
        dr.async_get(hass).async_get_or_create(
            config_entry_id=entry.entry_id,
            identifiers={self.identifier},
            manufacturer="ChargeKeeper",
            model="Load group",
            name=entry.title,
            entry_type=DeviceEntryType.SERVICE,
        )
        self._sources.append(group.listen(self.push))


@dataclass(kw_only=True)
class GroupRuntime:
    """The runtime data of the entry of a load group."""

    group: LoadGroup
    coordinator: GroupCoordinator
    fingerprint: object
    """The configuration that the entry was set up with. The update listener reloads the entry if it has changed."""


def group_runtime(entry: ConfigEntry) -> GroupRuntime:
    """Return the runtime data of the entry of a load group. The entry must be set up."""
    runtime: GroupRuntime = entry.runtime_data
    return runtime


async def async_open_groups(hass: HomeAssistant) -> None:
    """Open all enabled load groups, so that their shares apply before any charger is set up."""
    for entry in hass.config_entries.async_entries(DOMAIN, include_ignore=False, include_disabled=False):
        if entry.data[CONF_KIND] == KIND_LOAD_GROUP:
            await _async_open(hass, entry)


async def async_setup_group(hass: HomeAssistant, entry: ConfigEntry) -> bool:
    """Set up a load group and start to control its members."""
    group = await _async_open(hass, entry)
    coordinator = GroupCoordinator(hass, entry, group)
    entry.runtime_data = GroupRuntime(group=group, coordinator=coordinator, fingerprint=_fingerprint(entry))
    sync_group_limit_issue(hass, entry, group.spec.lowest_limit, group.spec.overrun)
    entry.async_on_unload(track_member_issues(hass, entry))
    entry.async_on_unload(_track_stored_excess(hass, entry, coordinator))
    entry.async_on_unload(entry.add_update_listener(_entry_updated))
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    group.start()
    return True


async def async_unload_group(hass: HomeAssistant, entry: ConfigEntry) -> bool:
    """Stop a load group. Its members keep their settings.

    The shares still apply unless the group is disabled or removed.
    """
    if not await hass.config_entries.async_unload_platforms(entry, PLATFORMS):
        return False
    await get_shared_state(hass).close_group(entry_key(entry))
    await group_runtime(entry).coordinator.async_shutdown()
    if entry.disabled_by is not None:
        get_shared_state(hass).release_members()
        delete_group_issues(hass, entry)
    return True


async def async_remove_group(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Delete a load group and its stored state."""
    key = entry_key(entry)
    await _stores(hass, key).remove()
    get_shared_state(hass).stores.pop(key)
    get_shared_state(hass).release_members()
    delete_group_issues(hass, entry)


def group_spec(entry: ConfigEntry) -> GroupSpec:
    """Return the load group that an entry describes. Raises GroupError."""
    members = tuple(Member(member_key(member), float(member[CONF_WEIGHT])) for member in entry.data[CONF_MEMBERS])
    return GroupSpec(entry.title, float(entry.data[CONF_LIMIT]), members)


def member_key(member: Mapping[str, str]) -> Key:
    """Return the key of a member charger. `member` comes from the data of a load group entry."""
    return Maker(member["maker"]), member["serial"]


def group_identifier(entry: ConfigEntry) -> tuple[str, str]:
    """Return the identifier of a load group's device."""
    return DOMAIN, f"group_{entry_key(entry)}"


@callback
def member_name(hass: HomeAssistant, member: Mapping[str, str]) -> str:
    """Return the name of a member as the user knows it.

    Without the charger, return the name that was stored when the user added the member.
    """
    key = member_key(member)
    for entry in hass.config_entries.async_entries(DOMAIN):
        if any(identity.key == key for identity in identities(entry)):
            return charger_name(hass, entry, Identity(*key, member["name"]))
    return member["name"]


@callback
def _track_stored_excess(hass: HomeAssistant, entry: ConfigEntry, coordinator: GroupCoordinator) -> Callable[[], None]:
    """Raise an issue while the offline currents of the members exceed the limit of the load group.

    Return a function that removes the listener.
    """

    @callback
    def sync() -> None:
        view = coordinator.data
        names = {member_key(member): member_name(hass, member) for member in entry.data[CONF_MEMBERS]}
        stored = ", ".join(f"{names[key]} {amps:g} A" for key, amps in view.offline_currents.items())
        sync_stored_excess_issue(hass, entry, view.stored_excess, stored)

    sync()
    return coordinator.async_add_listener(sync)


async def _async_open(hass: HomeAssistant, entry: ConfigEntry) -> LoadGroup:
    """Return the load group of an entry, with its stored state."""
    shared_state = get_shared_state(hass)
    key = entry_key(entry)
    if (group := shared_state.groups.get(key)) is None:
        stores = _stores(hass, key)
        await stores.load()
        group = LoadGroup(shared_state.clock, group_spec(entry), partial(stores.save_intents, RECORD))
        group.restore(stores.intents_by_serial.get(RECORD))
        shared_state.open_group(key, group)
    return group


def _stores(hass: HomeAssistant, key: str) -> EntryStores:
    return get_shared_state(hass).stores.setdefault(key, EntryStores(hass, key))


def _fingerprint(entry: ConfigEntry) -> object:
    return entry.title, dict(entry.data)


async def _entry_updated(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Reload the entry if its configuration has changed."""
    if _fingerprint(entry) != group_runtime(entry).fingerprint:
        await hass.config_entries.async_reload(entry.entry_id)
