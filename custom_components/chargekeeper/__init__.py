"""ChargeKeeper: keeps EV chargers going when their maker's cloud does not.

Sets entries up and takes them down. Set-up awaits no network: every entity is made from what was stored.
"""

from functools import partial

from homeassistant.components import persistent_notification
from homeassistant.const import EVENT_HOMEASSISTANT_FINAL_WRITE, EVENT_HOMEASSISTANT_STOP
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.device_registry import DeviceEntry
from homeassistant.helpers.translation import async_get_exception_message
from homeassistant.helpers.typing import ConfigType

from .const import CONF_CHARGERS, CONF_READ_ONLY, DOMAIN, LOGGER, PLATFORMS
from .coordinator import (
    AccountCoordinator,
    ChargeKeeperConfigEntry,
    ChargerCoordinator,
    RuntimeData,
    charger_identifier,
)
from .core.keeper import Keeper
from .core.model import Identity
from .registry import Holdings, as_entry_data, async_open, entry_key, get_registry, identities, open_keeper
from .repairs import delete_issues, follow_other_integration, follow_problems
from .services import async_setup_services
from .storage import SnapshotSaver
from .wallbox.account import AccountSnapshot

CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)

LAST_WORDS_TIMEOUT = 10.0
"""Seconds that ending an override may take when a charger is given up."""


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Register what is there once: the actions, and the end."""
    async_setup_services(hass)

    async def stop(_event: Event) -> None:
        await get_registry(hass).stop()

    hass.bus.async_listen_once(EVENT_HOMEASSISTANT_STOP, stop)
    return True


async def async_setup_entry(hass: HomeAssistant, entry: ChargeKeeperConfigEntry) -> bool:
    """Set up an account with all chargers that it is known to have."""
    holdings = await async_open(hass, entry)
    account_coordinator = AccountCoordinator(hass, entry, holdings.account, entry_key(entry))
    runtime = RuntimeData(
        account=holdings.account,
        account_coordinator=account_coordinator,
        coordinators={},
        stores=holdings.stores,
        saver=SnapshotSaver(hass, get_registry(hass).clock, holdings.stores, holdings.keepers),
        fingerprint=_fingerprint(entry),
    )
    entry.runtime_data = runtime
    for serial, keeper in holdings.keepers.items():
        runtime.coordinators[serial] = _begin(hass, entry, keeper)
    entry.async_on_unload(holdings.account.listen(partial(_account_changed, hass, entry, holdings)))
    entry.async_on_unload(follow_other_integration(hass, entry))
    entry.async_on_unload(entry.add_update_listener(_entry_updated))
    entry.async_on_unload(hass.bus.async_listen_once(EVENT_HOMEASSISTANT_FINAL_WRITE, lambda _: runtime.saver.stop()))
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    runtime.saver.start()
    holdings.account.start()
    return True


async def async_unload_entry(hass: HomeAssistant, entry: ChargeKeeperConfigEntry) -> bool:
    """Stop everything of an entry; accounts and keepers stay in the registry, with their purses and readings."""
    if not await hass.config_entries.async_unload_platforms(entry, PLATFORMS):
        return False
    runtime = entry.runtime_data
    await runtime.account.stop()
    for coordinator in runtime.coordinators.values():
        await coordinator.async_shutdown()
        await coordinator.keeper.stop()
    await runtime.account_coordinator.async_shutdown()
    await runtime.saver.stop()
    return True


async def async_remove_entry(hass: HomeAssistant, entry: ChargeKeeperConfigEntry) -> None:
    """Give the chargers up: end what runs on them, then forget them."""
    holdings = await async_open(hass, entry)
    for keeper in holdings.keepers.values():
        keeper.start()
        await _end_override(hass, keeper)
        await keeper.stop()
        get_registry(hass).keepers.pop(keeper.identity.key, None)
    await holdings.account.stop()
    await holdings.stores.remove()
    get_registry(hass).release(entry_key(entry), entry.data)
    delete_issues(hass, entry, list(holdings.keepers))


async def async_remove_config_entry_device(
    hass: HomeAssistant, entry: ChargeKeeperConfigEntry, device: DeviceEntry
) -> bool:
    """Let the user delete a charger that is no longer in the account; one that is would come back at once."""
    listed = {identity.serial for identity in entry.runtime_data.account.snapshot.chargers}
    for identity in identities(entry):
        if charger_identifier(identity.maker, identity.serial) not in device.identifiers:
            continue
        if identity.serial in listed or entry.runtime_data.account.snapshot.cloud is not True:
            return False
        await _forget(hass, entry, identity)
        return True
    return False


def _begin(hass: HomeAssistant, entry: ChargeKeeperConfigEntry, keeper: Keeper) -> ChargerCoordinator:
    """Start a keeper and what hands its snapshots on."""
    runtime = entry.runtime_data
    keeper.start()
    coordinator = ChargerCoordinator(hass, entry, keeper, runtime.account_coordinator.device_id)
    entry.async_on_unload(follow_problems(hass, coordinator))
    entry.async_on_unload(coordinator.async_add_listener(runtime.saver.changed))
    return coordinator


@callback
def _account_changed(
    hass: HomeAssistant, entry: ChargeKeeperConfigEntry, holdings: Holdings, snapshot: AccountSnapshot
) -> None:
    """Take in chargers that appeared, note new names and models, and ask for the password where it is due."""
    runtime, registry = entry.runtime_data, get_registry(hass)
    for identity in snapshot.chargers:
        if identity.serial in holdings.keepers:
            continue
        if identity.key in registry.keepers:
            if identity.serial not in runtime.skipped:
                LOGGER.warning("A charger of this account belongs to another entry already and is left out here")
            runtime.skipped.add(identity.serial)
            continue
        keeper = holdings.keepers[identity.serial] = open_keeper(hass, entry, holdings, identity)
        runtime.add(_begin(hass, entry, keeper))
    known = {identity.serial: identity for identity in identities(entry)}
    known |= {identity.serial: identity for identity in snapshot.chargers if identity.serial in holdings.keepers}
    chargers = as_entry_data(list(known.values()))
    if chargers != entry.data[CONF_CHARGERS]:
        hass.config_entries.async_update_entry(entry, data={**entry.data, CONF_CHARGERS: chargers})
    if snapshot.needs_login:
        entry.async_start_reauth(hass)


def _fingerprint(entry: ChargeKeeperConfigEntry) -> object:
    """What an entry is set up with; a charger that appeared or a new name is no reason to set it up again."""
    connection = {key: value for key, value in entry.data.items() if key != CONF_CHARGERS}
    subentries = {key: dict(subentry.data) for key, subentry in entry.subentries.items()}
    return connection, dict(entry.options), subentries


async def _entry_updated(hass: HomeAssistant, entry: ChargeKeeperConfigEntry) -> None:
    """Set the entry up again where something changed that it is set up with."""
    runtime = entry.runtime_data
    if _fingerprint(entry) == runtime.fingerprint:
        return
    if entry.options.get(CONF_READ_ONLY, False):
        for coordinator in runtime.coordinators.values():
            await _end_override(hass, coordinator.keeper)
    await hass.config_entries.async_reload(entry.entry_id)


async def _forget(hass: HomeAssistant, entry: ChargeKeeperConfigEntry, identity: Identity) -> None:
    """Forget one charger of an entry."""
    runtime, registry = entry.runtime_data, get_registry(hass)
    coordinator = runtime.coordinators.pop(identity.serial, None)
    if coordinator is not None:
        await coordinator.async_shutdown()
        await coordinator.keeper.stop()
    registry.keepers.pop(identity.key, None)
    runtime.account.forget(identity.serial)
    await runtime.stores.forget(identity.serial)
    delete_issues(hass, entry, [identity.serial])
    chargers = [charger for charger in entry.data[CONF_CHARGERS] if charger["serial"] != identity.serial]
    hass.config_entries.async_update_entry(entry, data={**entry.data, CONF_CHARGERS: chargers})


async def _end_override(hass: HomeAssistant, keeper: Keeper) -> None:
    """End an override before a charger is given up; say what is left to do by hand where no path carries that."""
    left: tuple[str, ...] = ()
    try:
        async with get_registry(hass).clock.timeout(LAST_WORDS_TIMEOUT):
            left = await keeper.end_override_for_removal()
    except TimeoutError:
        left = keeper.disabled_windows
    if not left:
        return
    name = keeper.identity.name
    message = async_get_exception_message(DOMAIN, "schedules_left", {"charger": name, "windows": ", ".join(left)})
    notification_id = f"{DOMAIN}_{keeper.identity.serial}"
    persistent_notification.async_create(hass, message, title=name, notification_id=notification_id)
