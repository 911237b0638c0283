"""What all entries share and what outlives their reloads: the clock, accounts with their purses, keepers, stores.

An object stays here from its first use until its entry is removed, so that a reload neither signs in again nor forgets
how many requests were made.
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
    """What belongs to one entry; `chargers` by serial, and `linked` those of its chargers that have a linked path."""

    stores: EntryStores
    account: WallboxAccount
    chargers: dict[str, Charger]
    outages: OutageLog
    linked: dict[str, EntityTransport] = field(default_factory=dict)


@dataclass(slots=True)
class SharedState:
    """Everything by its identity: keepers by maker and serial, the rest by the entry's unique id."""

    clock: Clock
    accounts: dict[str, WallboxAccount] = field(default_factory=dict)
    chargers: dict[tuple[Maker, str], Charger] = field(default_factory=dict)
    stores: dict[str, EntryStores] = field(default_factory=dict)
    at_work: dict[tuple[Maker, str], Charger] = field(default_factory=dict)
    """The keepers that are started; the others wait for their entry to be set up again."""
    groups: dict[str, LoadGroup] = field(default_factory=dict)
    """Load groups by the unique id of their entry."""
    outages: dict[str, OutageLog] = field(default_factory=dict)
    boxes: Boxes | None = None
    """The JuiceBoxes with their sockets."""
    trials: dict[tuple[str, str, str], WallboxAccount] = field(default_factory=dict)
    """Accounts that a config flow tried, or whose entry was removed, by e-mail and hosts: a further try spends from the
    same purses."""

    @callback
    def trial(self, hass: HomeAssistant, credentials: Credentials) -> WallboxAccount:
        """The account to try these credentials with, not belonging to an entry yet."""
        key = account_key(credentials)
        account = self.trials.get(key)
        if account is None:
            account = self.trials[key] = self.make_account(hass, credentials)
        else:
            account.set_credentials(str(credentials[CONF_EMAIL]), str(credentials[CONF_PASSWORD]))
        return account

    @callback
    def account_at(self, hass: HomeAssistant, entry: ConfigEntry, credentials: Credentials) -> WallboxAccount:
        """The account to try new credentials of an entry with: the entry's own, unless the addresses differ."""
        account = self.accounts.get(entry_key(entry))
        if account is not None and account.server == _server(credentials):
            return account
        return self.trial(hass, credentials)

    @callback
    def adopt(self, user_id: str, account: WallboxAccount) -> None:
        """An account belongs to an entry from now on."""
        account.user_id = user_id
        self.accounts[user_id] = account
        self.trials = {key: trial for key, trial in self.trials.items() if trial is not account}

    @callback
    def release(self, user_id: str, credentials: Credentials) -> None:
        """The entry of an account was removed; only the purses matter from now on."""
        self.trials[account_key(credentials)] = self.accounts.pop(user_id)
        self.stores.pop(user_id)
        self.outages.pop(user_id, None)

    @callback
    def make_account(self, hass: HomeAssistant, credentials: Credentials) -> WallboxAccount:
        """A new account object; it saves its purses as soon as it belongs to an entry."""
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
        """Start a keeper; the share that its load group allows it binds from the first moment."""
        key = charger.identity.key
        self.at_work[key] = charger
        for group in self.groups.values():
            if group.has(key):
                group.attach(charger)
        charger.start()

    async def end(self, charger: Charger) -> None:
        """Stop a keeper; to its load group it is a member that is not heard."""
        key = charger.identity.key
        self.at_work.pop(key, None)
        for group in self.groups.values():
            if group.has(key):
                group.detach(key)
        await charger.stop()

    @callback
    def open_group(self, unique_id: str, group: LoadGroup) -> None:
        """A load group is there: its shares bind from now on."""
        self.groups[unique_id] = group
        for key, charger in self.at_work.items():
            if group.has(key):
                group.attach(charger)
        self.release_members()

    async def close_group(self, unique_id: str) -> None:
        """A load group goes, perhaps to come back at once: its shares bind until `release_members`."""
        await self.groups.pop(unique_id).stop()

    @callback
    def release_members(self) -> None:
        """Chargers that belong to no load group any more are bound by none; nothing is raised by that."""
        for key, charger in self.chargers.items():
            if charger.group_share is not None and not any(group.has(key) for group in self.groups.values()):
                charger.group_share = None
                charger.group_room = unlimited

    async def stop(self) -> None:
        """Send nothing from now on, of whichever entry; the purses are saved."""
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
    """The one registry; made with the machine's clock unless one (with another clock) was put there before."""
    if SHARED_STATE not in hass.data:
        hass.data[SHARED_STATE] = SharedState(SystemClock())
    return hass.data[SHARED_STATE]


async def async_open(hass: HomeAssistant, entry: ConfigEntry) -> AccountRuntime:
    """Everything of an entry: from the registry, or made from the stores and the entry. Awaits no network."""
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
    account_runtime = AccountRuntime(stores, account, {}, _outages(shared_state, user_id, stores))
    for identity in identities(entry):
        open_charger(hass, entry, account_runtime, identity)
    return account_runtime


def _outages(shared_state: SharedState, user_id: str, stores: EntryStores) -> OutageLog:
    """The record of an account's outages, from the registry or the store."""
    if user_id not in shared_state.outages:
        log = OutageLog(shared_state.clock, lambda: stores.save_outages_soon(log.export()))
        log.restore(stores.outages)
        shared_state.outages[user_id] = log
    return shared_state.outages[user_id]


@callback
def open_charger(
    hass: HomeAssistant, entry: ConfigEntry, account_runtime: AccountRuntime, identity: Identity
) -> Charger:
    """The keeper of one charger, with the entry's options and its paths; it is one of the holdings then."""
    shared_state = get_shared_state(hass)
    serial = identity.serial
    options = keeper_options(entry, serial)
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
    """The subentry that links the user's own entities to a charger, if there is one."""
    return next((link for link in linked_subentries(entry) if link.data[CONF_SERIAL] == serial), None)


def linked_subentries(entry: ConfigEntry) -> list[ConfigSubentry]:
    """The subentries that link the user's own entities to chargers of an entry."""
    return [each for each in entry.subentries.values() if each.subentry_type == SUBENTRY_LINKED]


@callback
def owned_elsewhere(hass: HomeAssistant, entry: ConfigEntry | None = None) -> set[str]:
    """The serials of the chargers that belong to other entries than `entry`: a charger belongs to one."""
    others = (other for other in hass.config_entries.async_entries(DOMAIN) if other is not entry)
    return {charger["serial"] for other in others for charger in other.data.get(CONF_CHARGERS, ())}


def entry_key(entry: ConfigEntry) -> str:
    """By what an entry is known here: its unique id."""
    return entry.unique_id or entry.entry_id


def identities(entry: ConfigEntry) -> list[Identity]:
    """The chargers that an entry knows."""
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
    """The chargers of an entry to which entities may be linked: without a link, and none that only a server reaches."""
    units = {each.unique_id for each in entry.subentries.values() if each.subentry_type == SUBENTRY_JUICENET}
    return [
        each for each in identities(entry) if each.serial not in units and linked_subentry(entry, each.serial) is None
    ]


@callback
def known_chargers(hass: HomeAssistant) -> dict[tuple[Maker, str], Identity]:
    """The chargers of all entries that are not disabled."""
    entries = hass.config_entries.async_entries(DOMAIN, include_disabled=False)
    return {identity.key: identity for entry in entries for identity in identities(entry)}


def as_entry_data(chargers: list[Identity]) -> list[dict[str, str | None]]:
    """Chargers as `identities` expects them in the data of an entry."""
    return [
        {
            "serial": identity.serial,
            "name": identity.name,
            "model": identity.model,
            "part_number": identity.part_number,
        }
        for identity in chargers
    ]


def keeper_options(entry: ConfigEntry, serial: str) -> ChargerOptions:
    """The options of an entry as they apply to one of its chargers."""
    limit = entry.options.get(CONF_LOAD_GROUP_LIMITS, {}).get(serial)
    return ChargerOptions(
        prefer=Prefer(entry.options.get(CONF_PREFER, Prefer.AUTO)),
        read_only=entry.options.get(CONF_READ_ONLY, False),
        restart_while_charging=entry.options.get(CONF_RESTART_WHILE_CHARGING, False),
        load_group_limit=None if limit is None else float(limit),
    )


def account_key(credentials: Credentials) -> tuple[str, str, str]:
    """By what two accounts are told apart before they sign in: e-mail and addresses."""
    return str(credentials[CONF_EMAIL]).lower(), *_server(credentials)


def _server(credentials: Credentials) -> tuple[str, str]:
    server = credentials[CONF_SERVER]
    assert isinstance(server, Mapping)
    return str(server[CONF_USER_API_URL]), str(server[CONF_API_URL])
