"""The life cycle of the entry of a Wallbox account.

Set-up awaits no network: every entity is made from stored readings.
"""

import asyncio
from collections.abc import Iterable
from functools import partial

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import EVENT_HOMEASSISTANT_FINAL_WRITE
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers.device_registry import DeviceEntry

from ..const import CONF_CHARGERS, CONF_READ_ONLY, LOGGER, PLATFORMS
from ..coordinator import (
    AccountCoordinator,
    ChargeKeeperConfigEntry,
    ChargerCoordinator,
    RuntimeData,
    account_identifier,
    charger_identifier,
)
from ..core.charger import Charger
from ..core.model import ChargerIssue, Identity
from ..ha.issues import (
    delete_issues,
    track_charger_issues,
    track_cloud_issue,
    track_link_issues,
    track_other_integration_issue,
)
from ..ha.notifications import async_create_notification
from ..ha.outage_report import track_outages
from ..ha.shared_state import (
    as_entry_data,
    async_open,
    entry_key,
    get_shared_state,
    identities,
    linked_subentry,
    open_charger,
    owned_elsewhere,
)
from ..ha.storage import SnapshotSaver
from ..wallbox.account import AccountSnapshot
from .juicebox import is_same_setup

END_OVERRIDE_TIMEOUT = 135.0
"""Seconds within which an override of an entry must end.

The schedule is read before and after it is written. Each of the two reads may wait a minute.
"""


async def async_setup_account(hass: HomeAssistant, entry: ChargeKeeperConfigEntry) -> bool:
    """Set up an account with all its known chargers."""
    account_runtime = await async_open(hass, entry)
    saver = SnapshotSaver(hass, get_shared_state(hass).clock, account_runtime.stores, account_runtime.chargers)
    runtime = entry.runtime_data = RuntimeData(
        account_runtime=account_runtime,
        account_coordinator=AccountCoordinator(hass, entry, account_runtime.account, entry_key(entry)),
        coordinators={},
        saver=saver,
        fingerprint=_fingerprint(entry),
    )
    for serial, charger in account_runtime.chargers.items():
        runtime.coordinators[serial] = _start_charger(hass, entry, charger)

    async def save_last(_event: Event) -> None:
        await saver.stop()

    entry.async_on_unload(account_runtime.account.listen(partial(_account_changed, hass, entry)))
    entry.async_on_unload(track_other_integration_issue(hass, entry))
    entry.async_on_unload(track_outages(entry))
    entry.async_on_unload(track_cloud_issue(hass, entry))
    entry.async_on_unload(entry.add_update_listener(_entry_updated))
    entry.async_on_unload(hass.bus.async_listen_once(EVENT_HOMEASSISTANT_FINAL_WRITE, save_last))
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    saver.start()
    account_runtime.account.start()
    _request_login_if_needed(hass, entry, account_runtime.account.snapshot)
    return True


async def async_unload_account(hass: HomeAssistant, entry: ChargeKeeperConfigEntry) -> bool:
    """Stop an account. The account and its chargers stay in the shared state, with their budgets and readings."""
    if not await hass.config_entries.async_unload_platforms(entry, PLATFORMS):
        return False
    runtime = entry.runtime_data
    await runtime.account_runtime.account.stop()
    for coordinator in runtime.coordinators.values():
        await coordinator.async_shutdown()
        await get_shared_state(hass).end(coordinator.charger)
    await runtime.account_coordinator.async_shutdown()
    await runtime.saver.stop()
    if entry.disabled_by is not None:
        delete_issues(hass, entry, runtime.account_runtime.chargers)
    return True


async def async_remove_account(hass: HomeAssistant, entry: ChargeKeeperConfigEntry) -> None:
    """Remove an account: end the overrides of its chargers, then delete what is stored."""
    shared_state = get_shared_state(hass)
    account_runtime = await async_open(hass, entry)
    chargers = list(account_runtime.chargers.values())
    for charger in chargers:
        shared_state.begin(charger)
    await _end_overrides(hass, entry, chargers)
    await _notify_left_paused(hass, entry, chargers)
    for charger in chargers:
        await shared_state.end(charger)
        shared_state.chargers.pop(charger.identity.key, None)
    await account_runtime.account.stop()
    await account_runtime.stores.remove()
    shared_state.release(entry_key(entry), entry.data)
    delete_issues(hass, entry, account_runtime.chargers)


async def async_remove_account_device(hass: HomeAssistant, entry: ChargeKeeperConfigEntry, device: DeviceEntry) -> bool:
    """Allow the user to delete a charger that has left the account. A charger in the account would return at once."""
    if account_identifier(entry_key(entry)) in device.identifiers:
        return False
    for coordinator in entry.runtime_data.coordinators.values():
        identity = coordinator.identity
        if charger_identifier(identity.maker, identity.serial) in device.identifiers:
            has_left = ChargerIssue.GONE in coordinator.data.issues
            if has_left:
                await _remove_charger(hass, entry, identity)
            return has_left
    return True


def _start_charger(hass: HomeAssistant, entry: ChargeKeeperConfigEntry, charger: Charger) -> ChargerCoordinator:
    """Start a charger and return its coordinator."""
    runtime = entry.runtime_data
    get_shared_state(hass).begin(charger)
    coordinator = ChargerCoordinator(hass, entry, charger, runtime.account_coordinator.device_id)
    entry.async_on_unload(track_charger_issues(hass, coordinator))
    entry.async_on_unload(
        track_link_issues(hass, coordinator, runtime.account_runtime.linked.get(charger.identity.serial))
    )
    entry.async_on_unload(coordinator.async_add_listener(runtime.saver.changed))
    return coordinator


@callback
def _account_changed(hass: HomeAssistant, entry: ChargeKeeperConfigEntry, snapshot: AccountSnapshot) -> None:
    """Add new chargers, store new names and models, and ask for the password if the cloud refused it."""
    runtime = entry.runtime_data
    chargers = runtime.account_runtime.chargers
    skipped = _skip_owned_elsewhere(hass, entry, snapshot)
    for identity in snapshot.chargers:
        if identity.serial not in chargers and identity.serial not in skipped:
            runtime.add(_start_charger(hass, entry, open_charger(hass, entry, runtime.account_runtime, identity)))
    known = {identity.serial: identity for identity in (*identities(entry), *snapshot.chargers)}
    records = as_entry_data([identity for serial, identity in known.items() if serial in chargers])
    if records != entry.data[CONF_CHARGERS]:
        hass.config_entries.async_update_entry(entry, data={**entry.data, CONF_CHARGERS: records})
    _request_login_if_needed(hass, entry, snapshot)


@callback
def _request_login_if_needed(hass: HomeAssistant, entry: ConfigEntry, snapshot: AccountSnapshot) -> None:
    """Ask for the password if the cloud refused it.

    Home Assistant cancels the request at each reload, and shows only one request at a time.
    """
    if snapshot.needs_login:
        entry.async_start_reauth(hass)


def _skip_owned_elsewhere(
    hass: HomeAssistant, entry: ChargeKeeperConfigEntry, snapshot: AccountSnapshot
) -> frozenset[str]:
    """Store and return the serials of the account's chargers that another entry has or is still removing."""
    runtime = entry.runtime_data
    shared_chargers = get_shared_state(hass).chargers
    serials_elsewhere = owned_elsewhere(hass, entry)
    skipped = frozenset(
        identity.serial
        for identity in snapshot.chargers
        if identity.serial not in runtime.account_runtime.chargers
        and (identity.serial in serials_elsewhere or identity.key in shared_chargers)
    )
    if skipped - runtime.skipped:
        LOGGER.warning("Skipped chargers of this account that belong to another entry: %d", len(skipped))
    runtime.skipped = skipped
    return skipped


def _fingerprint(entry: ChargeKeeperConfigEntry) -> object:
    """Return the configuration that an entry is set up with.

    The known chargers are left out, because their changes need no reload.
    """
    connection = {key: value for key, value in entry.data.items() if key != CONF_CHARGERS}
    subentries = {key: dict(subentry.data) for key, subentry in entry.subentries.items()}
    return connection, dict(entry.options), subentries


async def _entry_updated(hass: HomeAssistant, entry: ChargeKeeperConfigEntry) -> None:
    """Reload the entry if its configuration has changed."""
    runtime = entry.runtime_data
    if _fingerprint(entry) == runtime.fingerprint:
        return
    if entry.options.get(CONF_READ_ONLY, False):
        # These chargers keep running after the reload, and then check themselves that their schedules were restored.
        await _end_overrides(hass, entry, runtime.account_runtime.chargers.values(), read_back=False)
    if is_same_setup(entry, runtime):
        await hass.config_entries.async_reload(entry.entry_id)


async def _remove_charger(hass: HomeAssistant, entry: ChargeKeeperConfigEntry, identity: Identity) -> None:
    """Remove one charger of an entry, with its linked entities. If the charger returns, it is a new charger."""
    runtime = entry.runtime_data
    serial = identity.serial
    if (link := linked_subentry(entry, serial)) is not None:
        hass.config_entries.async_remove_subentry(entry, link.subentry_id)
    coordinator = runtime.coordinators.pop(serial)
    records = [record for record in entry.data[CONF_CHARGERS] if record["serial"] != serial]
    hass.config_entries.async_update_entry(entry, data={**entry.data, CONF_CHARGERS: records})
    await coordinator.async_shutdown()
    await get_shared_state(hass).end(coordinator.charger)
    runtime.account_runtime.chargers.pop(serial)
    runtime.account_runtime.linked.pop(serial, None)
    get_shared_state(hass).chargers.pop(identity.key)
    runtime.account_runtime.account.forget(serial)
    runtime.account_runtime.outages.forget(serial)
    await runtime.account_runtime.stores.forget(serial)
    delete_issues(hass, entry, [serial])


async def _end_overrides(
    hass: HomeAssistant, entry: ConfigEntry, chargers: Iterable[Charger], *, read_back: bool = True
) -> None:
    """End the overrides of these chargers concurrently, so that a slow charger does not delay the others."""
    await asyncio.gather(*(_end_override(hass, entry, charger, read_back=read_back) for charger in chargers))


async def _end_override(hass: HomeAssistant, entry: ConfigEntry, charger: Charger, *, read_back: bool) -> None:
    """End the override of a charger. If that fails, create a notification about the schedules that stay disabled."""
    try:
        async with get_shared_state(hass).clock.timeout(END_OVERRIDE_TIMEOUT):
            windows = await charger.cancel_override(read_back=read_back)
    except TimeoutError:
        windows = charger.disabled_windows
    if windows:
        await async_create_notification(hass, entry, charger.identity, "schedules_left", windows=", ".join(windows))


async def _notify_left_paused(hass: HomeAssistant, entry: ConfigEntry, chargers: Iterable[Charger]) -> None:
    """Create a notification for each charger that stays paused, because ChargeKeeper will not resume it."""
    for charger in chargers:
        if charger.left_paused:
            await async_create_notification(hass, entry, charger.identity, "left_paused")
        elif charger.group_paused:
            await async_create_notification(hass, entry, charger.identity, "left_paused_by_group")
