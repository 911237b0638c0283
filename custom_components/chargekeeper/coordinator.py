"""Pass the snapshots of chargers and accounts to the entities. Push-driven: nothing here polls.

`RuntimeData` is the runtime data of an entry. Platforms use `for_each_charger` to add entities for present and later
chargers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, override

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.device_registry import DeviceEntryType, DeviceInfo
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator

from .const import DOMAIN, LOGGER
from .core.charger import Charger
from .core.model import FIRMWARE, Identity, Maker, Snapshot
from .ha.shared_state import AccountRuntime
from .ha.storage import SnapshotSaver
from .wallbox.account import AccountSnapshot, WallboxAccount

MANUFACTURERS = {Maker.WALLBOX: "Wallbox", Maker.JUICEBOX: "JuiceBox"}

CONTACT = "contact"
"""Context of listeners that show `last_…_contact`. If only such a timestamp has changed, no other listeners are
notified."""

type ChargeKeeperConfigEntry = ConfigEntry[RuntimeData]
"""The entry of an account."""


class PushCoordinator[T](DataUpdateCoordinator[T]):
    """Push-driven coordinator that notifies only the listeners affected."""

    config_entry: ConfigEntry

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry, name: str, data: T) -> None:
        super().__init__(hass, LOGGER, config_entry=entry, name=name, always_update=False)
        self.data = data
        self._contact_listeners: dict[object, CALLBACK_TYPE] = {}
        self._sources: list[CALLBACK_TYPE] = []

    @callback
    @override
    def async_add_listener(self, update_callback: CALLBACK_TYPE, context: Any = None) -> Callable[[], None]:
        """Listen for changes; with the context `CONTACT` also for changed contact timestamps.

        Return a function that removes the listener.
        """
        end = super().async_add_listener(update_callback, context)
        if context != CONTACT:
            return end
        key = object()
        self._contact_listeners[key] = update_callback

        def end_both() -> None:
            self._contact_listeners.pop(key, None)
            end()

        return end_both

    @callback
    def push(self, data: T) -> None:
        """Take new data.

        Notify all listeners if the data has changed, else only the listeners with the context `CONTACT`.
        """
        if data != self.data:
            self.async_set_updated_data(data)
            return
        self.data = data
        for listener in tuple(self._contact_listeners.values()):
            listener()

    @override
    async def async_shutdown(self) -> None:
        """Stop listening."""
        while self._sources:
            self._sources.pop()()
        await super().async_shutdown()


class ChargerCoordinator(PushCoordinator[Snapshot]):
    """The snapshot of one charger, and its device. Commands go to `charger`."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        charger: Charger,
        account_device_id: str | None = None,
        subentry_id: str | None = None,
    ) -> None:
        """Create the coordinator of `charger`.

        `account_device_id` is the device of the account that has the charger; None if there is no account.
        `subentry_id` is the subentry of the charger; None if the charger has no subentry.
        """
        identity = charger.identity
        super().__init__(hass, entry, f"{identity.maker} charger …{identity.serial[-3:]}", charger.snapshot)
        self.charger = charger
        self.subentry_id = subentry_id
        self._account_device_id = account_device_id
        self._registered: DeviceInfo = {}
        self._register_device()
        self._sources += [charger.listen(self.push), charger.listen_contact(lambda: self.push(charger.snapshot))]

    @property
    def identity(self) -> Identity:
        """Return the identity of the charger."""
        return self.data.identity

    @property
    def device_info(self) -> DeviceInfo:
        """Return the device of the charger, for its entities."""
        identity = self.identity
        info = DeviceInfo(
            identifiers={charger_identifier(identity.maker, identity.serial)},
            manufacturer=MANUFACTURERS[identity.maker],
            model=identity.model,
            model_id=identity.part_number,
            name=identity.name,
            serial_number=identity.serial,
            sw_version=self.data.value(FIRMWARE),
        )
        if self._account_device_id is not None:
            info["via_device_id"] = self._account_device_id
        return info

    @callback
    @override
    def push(self, data: Snapshot) -> None:
        """Take new data. Update the device with a new name, model or firmware; a name that the user chose stays."""
        super().push(data)
        self._register_device()

    @callback
    def _register_device(self) -> None:
        info = self.device_info
        if info != self._registered:
            self._registered = info
            dr.async_get(self.hass).async_get_or_create(
                config_entry_id=self.config_entry.entry_id, config_subentry_id=self.subentry_id, **info
            )


class AccountCoordinator(PushCoordinator[AccountSnapshot]):
    """The snapshot of one account, and its service device."""

    def __init__(
        self, hass: HomeAssistant, entry: ChargeKeeperConfigEntry, account: WallboxAccount, user_id: str
    ) -> None:
        super().__init__(hass, entry, "account", account.snapshot)
        self.account = account
        self.user_id = user_id
        self.device_info = DeviceInfo(
            identifiers={account_identifier(user_id)},
            manufacturer=MANUFACTURERS[Maker.WALLBOX],
            model="Cloud account",
            name="Wallbox account",
            entry_type=DeviceEntryType.SERVICE,
        )
        device = dr.async_get(hass).async_get_or_create(config_entry_id=entry.entry_id, **self.device_info)
        self.device_id = device.id
        self._sources.append(account.listen(self.push))


@dataclass(kw_only=True)
class ChargersRuntime:
    """The runtime data of an entry that has chargers."""

    coordinators: dict[str, ChargerCoordinator]
    """One per charger, by serial."""
    saver: SnapshotSaver
    fingerprint: object
    """The configuration that the entry was set up with. The update listener reloads the entry if it has changed."""
    _new_listeners: list[Callable[[ChargerCoordinator], None]] = field(default_factory=list)

    @callback
    def listen_new(self, listener: Callable[[ChargerCoordinator], None]) -> CALLBACK_TYPE:
        """Call back for each charger that appears from now on. Return a function that removes the listener."""
        self._new_listeners.append(listener)
        return lambda: self._new_listeners.remove(listener)

    @callback
    def add(self, coordinator: ChargerCoordinator) -> None:
        """Add a charger that has appeared, and its entities."""
        self.coordinators[coordinator.identity.serial] = coordinator
        for listener in tuple(self._new_listeners):
            listener(coordinator)


@dataclass(kw_only=True)
class RuntimeData(ChargersRuntime):
    """The runtime data of the entry of an account."""

    account_runtime: AccountRuntime
    """The entry's account, stores and chargers. The shared state holds the same objects, which outlive a reload."""
    account_coordinator: AccountCoordinator
    """The account's coordinator; its `device_id` is that of the account's service device."""
    skipped: frozenset[str] = frozenset()
    """Serials of chargers of the account that belong to another entry."""


def chargers_runtime(entry: ConfigEntry) -> ChargersRuntime:
    """Return the runtime data of an entry that has chargers. The entry must be set up."""
    runtime: ChargersRuntime = entry.runtime_data
    return runtime


def account_coordinator(entry: ConfigEntry) -> AccountCoordinator | None:
    """Return the coordinator of an entry's account; None for an entry without one. The entry must be set up."""
    runtime: object = entry.runtime_data
    return runtime.account_coordinator if isinstance(runtime, RuntimeData) else None


@callback
def for_each_charger(entry: ConfigEntry, make: Callable[[ChargerCoordinator], None]) -> None:
    """Call `make` for each charger of the entry: now, and until the entry is unloaded for later chargers.

    For `async_setup_entry` of the platforms: `make` adds the entities of one charger.
    """
    runtime = chargers_runtime(entry)
    for coordinator in runtime.coordinators.values():
        make(coordinator)
    entry.async_on_unload(runtime.listen_new(make))


def charger_identifier(maker: Maker, serial: str) -> tuple[str, str]:
    """Return the identifier of a charger's device."""
    return DOMAIN, f"{maker}_{serial}"


@callback
def charger_name(hass: HomeAssistant, entry: ConfigEntry, identity: Identity) -> str:
    """Return a charger's name as the user knows it: the name that they gave its device, else the manufacturer's."""
    identifier = charger_identifier(identity.maker, identity.serial)
    device = dr.async_get(hass).async_get_device_by_identifier(identifier, entry.entry_id)
    return (device and (device.name_by_user or device.name)) or identity.name


def account_identifier(user_id: str) -> tuple[str, str]:
    """Return the identifier of an account's service device."""
    return DOMAIN, f"account_{user_id}"
