"""Hands the snapshots of keepers and accounts to the entities. Push-fed: nothing here asks for anything.

`RuntimeData` is what an entry holds while it is set up; platforms use `for_each_charger` to make entities for the
chargers there are and for those that appear later.
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
"""Context for listeners that show `last_…_contact`: only they are told when nothing but such a moment has moved."""

type ChargeKeeperConfigEntry = ConfigEntry[RuntimeData]
"""The entry of an account."""


class PushCoordinator[T](DataUpdateCoordinator[T]):
    """A coordinator that is told, and tells on only what concerns whom."""

    config_entry: ConfigEntry

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry, name: str, data: T) -> None:
        super().__init__(hass, LOGGER, config_entry=entry, name=name, always_update=False)
        self.data = data
        self._contact_listeners: dict[object, CALLBACK_TYPE] = {}
        self._sources: list[CALLBACK_TYPE] = []

    @callback
    @override
    def async_add_listener(self, update_callback: CALLBACK_TYPE, context: Any = None) -> Callable[[], None]:
        """Listen for changes; with the context `CONTACT` also for moments that moved."""
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
        """Take new data, and tell everybody if it differs, else only those who show moments."""
        if data != self.data:
            self.async_set_updated_data(data)
            return
        self.data = data
        for tell in tuple(self._contact_listeners.values()):
            tell()

    @override
    async def async_shutdown(self) -> None:
        """Listen no more."""
        while self._sources:
            self._sources.pop()()
        await super().async_shutdown()


class ChargerCoordinator(PushCoordinator[Snapshot]):
    """What is known of one charger, and its device. Commands go to `charger`."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        charger: Charger,
        account_device_id: str | None = None,
        subentry_id: str | None = None,
    ) -> None:
        """Belong to the account with this device, or to this subentry, where there is one."""
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
        """Which charger this is."""
        return self.data.identity

    @property
    def device_info(self) -> DeviceInfo:
        """The charger's device, for its entities."""
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
        """Take new data; a new name, model or firmware goes to the device (a name that the user gave stays)."""
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
    """What is known of one account, and its service device."""

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
    """What an entry that has chargers holds while it is set up."""

    coordinators: dict[str, ChargerCoordinator]
    """One per charger, by serial."""
    saver: SnapshotSaver
    fingerprint: object
    """What the entry was set up with; the update listener reloads when it has changed."""
    _new_listeners: list[Callable[[ChargerCoordinator], None]] = field(default_factory=list)

    @callback
    def listen_new(self, tell: Callable[[ChargerCoordinator], None]) -> CALLBACK_TYPE:
        """Be told of each charger that appears from now on; the answer ends it."""
        self._new_listeners.append(tell)
        return lambda: self._new_listeners.remove(tell)

    @callback
    def add(self, coordinator: ChargerCoordinator) -> None:
        """Take in a charger that has appeared and have its entities made."""
        self.coordinators[coordinator.identity.serial] = coordinator
        for tell in tuple(self._new_listeners):
            tell(coordinator)


@dataclass(kw_only=True)
class RuntimeData(ChargersRuntime):
    """What the entry of an account holds while it is set up."""

    account_runtime: AccountRuntime
    """The entry's account, stores and keepers; they are in the registry too and outlive a reload."""
    account_coordinator: AccountCoordinator
    """The account's coordinator; `device_id` is that of the account's service device."""
    skipped: frozenset[str] = frozenset()
    """Serials of chargers of the account that belong to another entry."""


def chargers_runtime(entry: ConfigEntry) -> ChargersRuntime:
    """What an entry that has chargers holds; it must be set up."""
    runtime: ChargersRuntime = entry.runtime_data
    return runtime


def account_coordinator(entry: ConfigEntry) -> AccountCoordinator | None:
    """The coordinator of an entry's account; None for an entry without one. It must be set up."""
    runtime: object = entry.runtime_data
    return runtime.account_coordinator if isinstance(runtime, RuntimeData) else None


@callback
def for_each_charger(entry: ConfigEntry, make: Callable[[ChargerCoordinator], None]) -> None:
    """Call `make` for each charger of the entry: now, and until it is unloaded for those that appear.

    For `async_setup_entry` of the platforms: `make` adds the entities of one charger.
    """
    runtime = chargers_runtime(entry)
    for coordinator in runtime.coordinators.values():
        make(coordinator)
    entry.async_on_unload(runtime.listen_new(make))


def charger_identifier(maker: Maker, serial: str) -> tuple[str, str]:
    """The identifier of a charger's device."""
    return DOMAIN, f"{maker}_{serial}"


@callback
def charger_name(hass: HomeAssistant, entry: ConfigEntry, identity: Identity) -> str:
    """A charger's name as the user knows it: the one that he gave its device, else the maker's."""
    identifier = charger_identifier(identity.maker, identity.serial)
    device = dr.async_get(hass).async_get_device_by_identifier(identifier, entry.entry_id)
    return (device and (device.name_by_user or device.name)) or identity.name


def account_identifier(user_id: str) -> tuple[str, str]:
    """The identifier of an account's service device."""
    return DOMAIN, f"account_{user_id}"
