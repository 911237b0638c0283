"""Shared state of all entries that outlives reloads: clock, accounts with their request budgets, chargers and stores.

An object stays here from its first use until its entry is removed. A reload neither signs in again nor forgets how many
requests were made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from homeassistant.config_entries import ConfigEntry, ConfigSubentry
from homeassistant.const import CONF_EMAIL, CONF_PASSWORD
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.util.hass_dict import HassKey

from ..const import (
    CONF_API_URL,
    CONF_CHARGERS,
    CONF_LOAD_GROUP_LIMITS,
    CONF_PREFER,
    CONF_READ_ONLY,
    CONF_RESTART_WHILE_CHARGING,
    CONF_SERIAL,
    CONF_SERVER,
    CONF_USER_API_URL,
    DOMAIN,
    SUBENTRY_JUICEBOX,
    SUBENTRY_JUICENET,
)
from ..core.charger import Charger, ChargerOptions, unlimited
from ..core.clock import Clock, SystemClock
from ..core.load_group.group import LoadGroup
from ..core.model import Identity, Maker, Prefer
from ..core.outage_log import OutageLog
from ..linked.entity_transport import SUBENTRY_LINKED, EntityTransport
from ..wallbox.account import WallboxAccount
from .boxes import Boxes
from .storage import EntryStores

type Credentials = Mapping[str, object]
"""`email`, `password` and `server`, as in the data of an entry."""


@dataclass(frozen=True, slots=True)
class AccountRuntime:
    """Everything of one Wallbox entry; `chargers` and `linked` are by serial.

    `linked` holds the transports of the chargers that have linked entities.
    """

    stores: EntryStores
    account: WallboxAccount
    chargers: dict[str, Charger]
    outages: OutageLog
    linked: dict[str, EntityTransport] = field(default_factory=dict)


@dataclass(slots=True)
class SharedState:
    """All objects by their identity: chargers by maker and serial, the rest by the entry's unique id."""

    clock: Clock
    accounts: dict[str, WallboxAccount] = field(default_factory=dict)
    chargers: dict[tuple[Maker, str], Charger] = field(default_factory=dict)
    stores: dict[str, EntryStores] = field(default_factory=dict)
    started: dict[tuple[Maker, str], Charger] = field(default_factory=dict)
    """The started chargers. All other chargers wait until their entry is set up again."""
    groups: dict[str, LoadGroup] = field(default_factory=dict)
    """Load groups by the unique id of their entry."""
    outages: dict[str, OutageLog] = field(default_factory=dict)
    boxes: Boxes | None = None
    """The JuiceBoxes with their sockets."""
    trials: dict[tuple[str, str, str], WallboxAccount] = field(default_factory=dict)
    """Accounts without an entry, by e-mail and hosts: a config flow tried them, or their entry was removed.

    A further attempt spends from the same budgets."""

    @callback
    def trial(self, hass: HomeAssistant, credentials: Credentials) -> WallboxAccount:
        """Return the account for an attempt with these credentials. The account belongs to no entry yet."""
        key = account_key(credentials)
        account = self.trials.get(key)
        if account is None:
            account = self.trials[key] = self.make_account(hass, credentials)
        else:
            account.set_credentials(str(credentials[CONF_EMAIL]), str(credentials[CONF_PASSWORD]))
        return account

    @callback
    def account_at(self, hass: HomeAssistant, entry: ConfigEntry, credentials: Credentials) -> WallboxAccount:
        """Return the account for an attempt with new credentials of an entry.

        This is the entry's own account, unless the addresses differ.
        """
        account = self.accounts.get(entry_key(entry))
        if account is not None and account.server == _server(credentials):
            return account
        return self.trial(hass, credentials)

    @callback
    def adopt(self, user_id: str, account: WallboxAccount) -> None:
        """Assign an account to an entry."""
        account.user_id = user_id
        self.accounts[user_id] = account
        self.trials = {key: trial for key, trial in self.trials.items() if trial is not account}

    @callback
    def release(self, user_id: str, credentials: Credentials) -> None:
        """Keep only the account of a removed entry, for its budgets."""
        self.trials[account_key(credentials)] = self.accounts.pop(user_id)
        self.stores.pop(user_id)
        self.outages.pop(user_id, None)

    @callback
    def make_account(self, hass: HomeAssistant, credentials: Credentials) -> WallboxAccount:
        """Return a new account. It saves its budgets as soon as it belongs to an entry."""
        user_api_url, api_url = _server(credentials)

        async def save_budgets(budgets: dict[str, object]) -> None:
            if account.user_id is not None and (stores := self.stores.get(account.user_id)) is not None:
                await stores.save_budgets(budgets)

        account = WallboxAccount(
            async_get_clientsession(hass),
            self.clock,
            email=str(credentials[CONF_EMAIL]),
            password=str(credentials[CONF_PASSWORD]),
            user_api_url=user_api_url,
            api_url=api_url,
            save_budgets=save_budgets,
        )
        return account

    @callback
    def begin(self, charger: Charger) -> None:
        """Start a charger. The share of its load group applies from the start."""
        key = charger.identity.key
        self.started[key] = charger
        for group in self.groups.values():
            if group.has(key):
                group.attach(charger)
        charger.start()

    async def end(self, charger: Charger) -> None:
        """Stop a charger. Its load group counts the charger as offline from now on."""
        key = charger.identity.key
        self.started.pop(key, None)
        for group in self.groups.values():
            if group.has(key):
                group.detach(key)
        await charger.stop()

    @callback
    def open_group(self, unique_id: str, group: LoadGroup) -> None:
        """Add a load group; its shares apply from now on."""
        self.groups[unique_id] = group
        for key, charger in self.started.items():
            if group.has(key):
                group.attach(charger)
        self.release_members()

    async def close_group(self, unique_id: str) -> None:
        """Stop a load group that may come back at once. Its shares apply until `release_members`."""
        await self.groups.pop(unique_id).stop()

    @callback
    def release_members(self) -> None:
        """Release chargers that belong to no load group from their shares. This raises no current."""
        for key, charger in self.chargers.items():
            if charger.group_share is not None and not any(group.has(key) for group in self.groups.values()):
                charger.group_share = None
                charger.group_room = unlimited

    async def stop(self) -> None:
        """Stop sending, for all entries, and save the budgets."""
        for charger in self.chargers.values():
            charger.close()
        for charger in self.chargers.values():
            await charger.stop()
        for group in self.groups.values():
            await group.stop()
        for account in self.accounts.values():
            await account.stop()
        if self.boxes is not None:
            await self.boxes.close()


SHARED_STATE: HassKey[SharedState] = HassKey("chargekeeper")


@callback
def get_shared_state(hass: HomeAssistant) -> SharedState:
    """Return the shared state; create it with the system clock if there is none yet."""
    if SHARED_STATE not in hass.data:
        hass.data[SHARED_STATE] = SharedState(SystemClock())
    return hass.data[SHARED_STATE]


async def async_open(hass: HomeAssistant, entry: ConfigEntry) -> AccountRuntime:
    """Return everything of an entry, from the shared state or the stores. Await no network."""
    shared_state = get_shared_state(hass)
    user_id = entry_key(entry)
    stores = shared_state.stores.setdefault(user_id, EntryStores(hass, user_id))
    await stores.load()
    account = shared_state.accounts.get(user_id)
    if account is None or account.server != _server(entry.data):
        account = shared_state.make_account(hass, entry.data)
        shared_state.adopt(user_id, account)
        account.restore_budgets(stores.budgets)
    account.set_credentials(str(entry.data[CONF_EMAIL]), str(entry.data[CONF_PASSWORD]))
    account_runtime = AccountRuntime(stores, account, {}, _outage_log(shared_state, user_id, stores))
    for identity in identities(entry):
        open_charger(hass, entry, account_runtime, identity)
    return account_runtime


def _outage_log(shared_state: SharedState, user_id: str, stores: EntryStores) -> OutageLog:
    """Return the outage log of an account, from the shared state or the store."""
    if user_id not in shared_state.outages:
        log = OutageLog(shared_state.clock, lambda: stores.save_outages_soon(log.export()))
        log.restore(stores.outages)
        shared_state.outages[user_id] = log
    return shared_state.outages[user_id]


@callback
def open_charger(
    hass: HomeAssistant, entry: ConfigEntry, account_runtime: AccountRuntime, identity: Identity
) -> Charger:
    """Return a charger with the entry's options and its transports, and add it to `account_runtime`."""
    shared_state = get_shared_state(hass)
    serial = identity.serial
    options = charger_options(entry, serial)
    charger = shared_state.chargers.get(identity.key)
    if charger is None:
        charger = Charger(identity, shared_state.clock, options, partial(account_runtime.stores.save_intents, serial))
        charger.restore(
            account_runtime.stores.snapshots.get(serial), account_runtime.stores.intents_by_serial.get(serial)
        )
        shared_state.chargers[identity.key] = charger
    charger.options = options
    charger.add_transport(account_runtime.account.transport(serial, identity))
    if (link := linked_subentry(entry, serial)) is not None:
        transport = account_runtime.linked[serial] = EntityTransport(hass, shared_state.clock, charger, link.data)
        charger.add_transport(transport)
    account_runtime.chargers[serial] = charger
    return charger


def linked_subentry(entry: ConfigEntry, serial: str) -> ConfigSubentry | None:
    """Return the subentry that links entities to a charger; None if there is none."""
    return next((link for link in linked_subentries(entry) if link.data[CONF_SERIAL] == serial), None)


def linked_subentries(entry: ConfigEntry) -> list[ConfigSubentry]:
    """Return the subentries of an entry that link entities to chargers."""
    return [each for each in entry.subentries.values() if each.subentry_type == SUBENTRY_LINKED]


@callback
def owned_elsewhere(hass: HomeAssistant, entry: ConfigEntry | None = None) -> set[str]:
    """Return the serials of the chargers of all entries except `entry`. A charger belongs to one entry."""
    others = (other for other in hass.config_entries.async_entries(DOMAIN) if other is not entry)
    return {charger["serial"] for other in others for charger in other.data.get(CONF_CHARGERS, ())}


def entry_key(entry: ConfigEntry) -> str:
    """Return the key of an entry in the shared state: its unique id."""
    return entry.unique_id or entry.entry_id


def identities(entry: ConfigEntry) -> list[Identity]:
    """Return the chargers of an entry."""
    boxes = [
        Identity(Maker.JUICEBOX, box.data[CONF_SERIAL], box.title)
        for box in entry.subentries.values()
        if box.subentry_type in {SUBENTRY_JUICEBOX, SUBENTRY_JUICENET}
    ]
    return boxes or [
        Identity(
            maker=Maker.WALLBOX,
            serial=charger["serial"],
            name=charger["name"],
            model=charger.get("model"),
            part_number=charger.get("part_number"),
        )
        for charger in entry.data.get(CONF_CHARGERS, ())
    ]


def linkable(entry: ConfigEntry) -> list[Identity]:
    """Return the chargers of an entry to which entities can be linked.

    A charger has one link at most. A box that only a JuiceNet server reaches can have none.
    """
    units = {each.unique_id for each in entry.subentries.values() if each.subentry_type == SUBENTRY_JUICENET}
    return [
        each for each in identities(entry) if each.serial not in units and linked_subentry(entry, each.serial) is None
    ]


@callback
def known_chargers(hass: HomeAssistant) -> dict[tuple[Maker, str], Identity]:
    """Return the chargers of all enabled entries."""
    entries = hass.config_entries.async_entries(DOMAIN, include_disabled=False)
    return {identity.key: identity for entry in entries for identity in identities(entry)}


def as_entry_data(chargers: list[Identity]) -> list[dict[str, str | None]]:
    """Return the chargers as they are stored in the data of an entry."""
    return [
        {
            "serial": identity.serial,
            "name": identity.name,
            "model": identity.model,
            "part_number": identity.part_number,
        }
        for identity in chargers
    ]


def charger_options(entry: ConfigEntry, serial: str) -> ChargerOptions:
    """Return the options of an entry that apply to one of its chargers."""
    limit = entry.options.get(CONF_LOAD_GROUP_LIMITS, {}).get(serial)
    return ChargerOptions(
        prefer=Prefer(entry.options.get(CONF_PREFER, Prefer.AUTO)),
        read_only=entry.options.get(CONF_READ_ONLY, False),
        restart_while_charging=entry.options.get(CONF_RESTART_WHILE_CHARGING, False),
        load_group_limit=None if limit is None else float(limit),
    )


def account_key(credentials: Credentials) -> tuple[str, str, str]:
    """Return the key of an account before it signs in: e-mail and addresses."""
    return str(credentials[CONF_EMAIL]).lower(), *_server(credentials)


def _server(credentials: Credentials) -> tuple[str, str]:
    server = credentials[CONF_SERVER]
    assert isinstance(server, Mapping)
    return str(server[CONF_USER_API_URL]), str(server[CONF_API_URL])
