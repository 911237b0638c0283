"""Repair issues: what the user should know and can act on. An issue disappears when its cause is gone."""

from collections.abc import Callable, Collection, Iterable, Mapping
from math import inf

from homeassistant.config_entries import (
    SIGNAL_CONFIG_ENTRY_CHANGED,
    ConfigEntry,
    ConfigEntryChange,
)
from homeassistant.const import CONF_EMAIL, CONF_USERNAME
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.dispatcher import async_dispatcher_connect

from ..const import CONF_LIMIT, CONF_MEMBERS, DOMAIN
from ..coordinator import ChargeKeeperConfigEntry, ChargerCoordinator, charger_name, for_each_charger
from ..core.charger import Charger
from ..core.errors import NoConnection
from ..core.model import STATUS, ChargerIssue, Identity, Maker, Status
from ..juicebox.box import Box, BoxIssue, Mode
from ..juicebox.juicenet.account import JuiceNetAccount
from ..juicebox.listener import PortBusy
from ..linked.entity_transport import EntityTransport
from ..linked.power_cycle import PowerCycle
from .errors import local_time
from .shared_state import get_shared_state, known_chargers

OTHER_DOMAIN = "wallbox"
OTHER_INTEGRATION = "other_integration"
GROUP_MEMBER_MISSING = "group_member_missing"
STORED_ABOVE_GROUP = "stored_above_group"
GROUP_LIMIT_TOO_LOW = "group_limit_too_low"
LINK_BROKEN = "link_broken"
POWER_OFF = "power_off"
OVERRIDE_BY_HAND = "override_by_hand"
CLOUD_LOST = "cloud_lost"
PORT_BUSY = "port_busy"
ADDRESS_GONE = "address_gone"
TOKEN_REFUSED = "juicenet_token_refused"  # noqa: S105 - the key of an issue

CHARGER_ISSUES: Mapping[Maker, frozenset[ChargerIssue]] = {
    Maker.WALLBOX: frozenset(ChargerIssue),
    Maker.JUICEBOX: frozenset(ChargerIssue) - {ChargerIssue.COMMANDS_IGNORED},
}
"""The issues of a charger by its manufacturer. For ignored commands, a JuiceBox has an issue of its own."""

CLOUD_LOST_AFTER = 30 * 60.0
"""Seconds of an outage after which chargers without another transport get an issue."""


type IssueData = dict[str, str | int | float | None]

FIXES: Mapping[str, Callable[[Charger], None]] = {ChargerIssue.UPDATE_DOUBTED: Charger.dismiss_update}
"""The action that confirms an issue, by the key of the issue. Other issues cannot be confirmed."""


@callback
def track_charger_issues(hass: HomeAssistant, coordinator: ChargerCoordinator) -> Callable[[], None]:
    """Keep the issues of a charger in line with its snapshot. Return a function that removes the listener."""

    @callback
    def sync() -> None:
        for issue in CHARGER_ISSUES[coordinator.identity.maker]:
            is_there = issue in coordinator.data.issues
            name = charger_name(hass, coordinator.config_entry, coordinator.identity)
            placeholders = {"charger": name} if is_there else None
            data: IssueData | None = None
            if issue in FIXES:
                data = {"entry_id": coordinator.config_entry.entry_id, "serial": coordinator.identity.serial}
            _sync_issue(hass, _issue_id(issue, coordinator.identity.serial), issue, placeholders, data)

    sync()
    return coordinator.async_add_listener(sync)


@callback
def track_link_issues(
    hass: HomeAssistant, coordinator: ChargerCoordinator, transport: EntityTransport | None
) -> Callable[[], None]:
    """Raise an issue while a linked entity of a charger is unusable. Return a function that removes the listener."""
    serial = coordinator.identity.serial

    @callback
    def sync() -> None:
        name = charger_name(hass, coordinator.config_entry, coordinator.identity)
        placeholders = {"charger": name} if transport is not None and transport.broken else None
        _sync_issue(hass, f"{LINK_BROKEN}_{serial}", LINK_BROKEN, placeholders)

    sync()
    return _do_nothing if transport is None else transport.listen_health(sync)


@callback
def track_box_issues(hass: HomeAssistant, coordinator: ChargerCoordinator, box: Box) -> Callable[[], None]:
    """Keep the issues of a JuiceBox in line with its state. Return a function that removes the listeners."""
    serial = coordinator.identity.serial

    @callback
    def sync() -> None:
        placeholders = {
            "charger": charger_name(hass, coordinator.config_entry, coordinator.identity),
            "limit": f"{box.installation_limit or 0:g}",
            "wire": f"{box.config.wire_rating or 0:g}",
            "asked": f"{box.state.served or 0}",
            "offline": f"{box.state.stored or 0}",
            "asked_offline": f"{box.refused_stored or 0}",
            "not_stored": f"{box.not_stored or 0}",
            "pinned": box.config.host,
            "address": box.state.host,
        }
        issues = set(box.issues)
        if ChargerIssue.COMMANDS_IGNORED in coordinator.data.issues:
            issues.add(BoxIssue.IGNORES_COMMANDS)
        for issue in BoxIssue:
            _sync_issue(hass, f"{issue}_{serial}", issue, placeholders if issue in issues else None)
        override = coordinator.data.override
        out_of_reach = coordinator.data.value(STATUS) is Status.OFFLINE or box.mode is Mode.LEARNING
        charges_alone = BoxIssue.STORED_ZERO not in box.issues  # an offline current of 0 A prevents charging anyway
        waits = override.on and not override.applied and out_of_reach and charges_alone
        _sync_issue(hass, f"{OVERRIDE_BY_HAND}_{serial}", OVERRIDE_BY_HAND, placeholders if waits else None)

    sync()
    removers = (box.listen(sync), coordinator.async_add_listener(sync))

    def end() -> None:
        for remove in removers:
            remove()

    return end


@callback
def track_power_issues(hass: HomeAssistant, entry: ConfigEntry, serial: str, cycle: PowerCycle) -> Callable[[], None]:
    """Raise an issue while a box may be without power after a power cycle.

    Return a function that removes the listener.
    """

    @callback
    def sync() -> None:
        if cycle.stuck:
            report_power_off(hass, entry, serial, cycle)
        elif not cycle.active:
            _sync_issue(hass, f"{POWER_OFF}_{serial}", POWER_OFF, None)

    sync()
    return cycle.listen(sync)


@callback
def report_power_off(hass: HomeAssistant, entry: ConfigEntry, serial: str, cycle: PowerCycle) -> None:
    """Raise the issue that a box may be without power. `track_power_issues` removes it when the power is back.

    The issue outlives a restart of Home Assistant, because the integration may not be set up after the restart.
    """
    assert cycle.last is not None
    identity = Identity(Maker.JUICEBOX, serial, cycle.last.name or serial)
    placeholders = {"charger": charger_name(hass, entry, identity), "switch": cycle.switch_name}
    _sync_issue(hass, f"{POWER_OFF}_{serial}", POWER_OFF, placeholders, is_persistent=True)


@callback
def track_token_issue(hass: HomeAssistant, entry: ConfigEntry, account: JuiceNetAccount | None) -> Callable[[], None]:
    """Raise an issue while a JuiceNet server refuses the account token. Return a function that removes the listener."""

    @callback
    def sync() -> None:
        refused = account is not None and account.token_refused
        _sync_issue(
            hass, f"{TOKEN_REFUSED}_{entry.entry_id}", TOKEN_REFUSED, {"entry": entry.title} if refused else None
        )

    sync()
    return _do_nothing if account is None else account.listen(sync)


@callback
def sync_listen_issue(hass: HomeAssistant, entry: ConfigEntry, error: NoConnection | None) -> None:
    """Raise the issue that the ports for boxes cannot be opened; remove the issue if there is no error."""
    busy = isinstance(error, PortBusy)
    detail = "" if error is None else error.detail
    _sync_issue(hass, f"{PORT_BUSY}_{entry.entry_id}", PORT_BUSY, {"port": detail} if busy else None)
    gone = {"address": detail} if error is not None and not busy else None
    _sync_issue(hass, f"{ADDRESS_GONE}_{entry.entry_id}", ADDRESS_GONE, gone)


@callback
def track_other_integration_issue(hass: HomeAssistant, entry: ConfigEntry) -> Callable[[], None]:
    """Raise an issue while Home Assistant's own Wallbox integration uses the same account and so its request limit.

    Return a function that removes the listener.
    """

    @callback
    def sync(_change: ConfigEntryChange | None = None, _changed: ConfigEntry | None = None) -> None:
        other = other_integration(hass, entry.data[CONF_EMAIL])
        placeholders = None if other is None else {"entry": other.title}
        _sync_issue(hass, _other_issue_id(entry), OTHER_INTEGRATION, placeholders)

    sync()
    return async_dispatcher_connect(hass, SIGNAL_CONFIG_ENTRY_CHANGED, sync)


@callback
def track_member_issues(hass: HomeAssistant, entry: ConfigEntry) -> Callable[[], None]:
    """Raise an issue for each member of a load group that no enabled entry has.

    Such a member counts with the most it could draw. Return a function that removes the listener.
    """

    @callback
    def sync(_change: ConfigEntryChange | None = None, _changed: ConfigEntry | None = None) -> None:
        known = known_chargers(hass)
        missing = {
            _member_issue_id(entry, member["serial"]): {"charger": member["name"], "group": entry.title}
            for member in entry.data[CONF_MEMBERS]
            if (Maker(member["maker"]), member["serial"]) not in known
        }
        _delete_member_issues(hass, entry, missing)
        for issue_id, placeholders in missing.items():
            _sync_issue(hass, issue_id, GROUP_MEMBER_MISSING, placeholders)

    sync()
    return async_dispatcher_connect(hass, SIGNAL_CONFIG_ENTRY_CHANGED, sync)


@callback
def sync_stored_excess_issue(hass: HomeAssistant, entry: ConfigEntry, excess: float, stored: str) -> None:
    """Raise the issue that the offline currents of a load group exceed its limit, or remove it.

    Args:
        hass: Home Assistant.
        entry: the entry of the load group.
        excess: the amperes above the limit while the members are offline; 0 removes the issue.
        stored: the members with their offline currents, as text.
    """
    placeholders = {
        "group": entry.title,
        "limit": f"{entry.data[CONF_LIMIT]:g}",
        "excess": f"{excess:g}",
        "stored": stored,
    }
    issue_id = f"{STORED_ABOVE_GROUP}_{entry.entry_id}"
    _sync_issue(hass, issue_id, STORED_ABOVE_GROUP, placeholders if excess > 0 else None)


@callback
def sync_group_limit_issue(hass: HomeAssistant, entry: ConfigEntry, lowest: float, overrun: float) -> None:
    """Raise the issue that a load group cannot keep its limit, or remove it.

    Args:
        hass: Home Assistant.
        entry: the entry of the load group.
        lowest: the lowest limit that the group can keep, in A.
        overrun: the amperes by which the members may exceed the limit; 0 removes the issue.
    """
    placeholders = {
        "group": entry.title,
        "limit": f"{entry.data[CONF_LIMIT]:g}",
        "lowest": f"{lowest:g}",
        "overrun": f"{overrun:g}",
    }
    issue_id = f"{GROUP_LIMIT_TOO_LOW}_{entry.entry_id}"
    _sync_issue(hass, issue_id, GROUP_LIMIT_TOO_LOW, placeholders if overrun > 0 else None)


@callback
def delete_group_issues(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Delete all issues of a load group and its members."""
    sync_stored_excess_issue(hass, entry, 0.0, "")
    sync_group_limit_issue(hass, entry, 0.0, 0.0)
    _delete_member_issues(hass, entry, ())


@callback
def _delete_member_issues(hass: HomeAssistant, entry: ConfigEntry, but: Collection[str]) -> None:
    """Delete the issues of the members of a load group, except those in `but`."""
    prefix = _member_issue_id(entry, "")
    for domain, issue_id in list(ir.async_get(hass).issues):
        if domain == DOMAIN and issue_id.startswith(prefix) and issue_id not in but:
            _sync_issue(hass, issue_id, GROUP_MEMBER_MISSING, None)


@callback
def track_cloud_issue(hass: HomeAssistant, entry: ChargeKeeperConfigEntry) -> Callable[[], None]:
    """Raise an issue after a cloud outage of 30 min that leaves chargers without any transport.

    Return a function that removes the listeners.
    """
    runtime = entry.runtime_data
    clock = get_shared_state(hass).clock
    account = runtime.account_runtime.account
    log = runtime.account_runtime.outages
    cancel_timer: Callable[[], None] = lambda: None  # noqa: E731 - replaced by each timer

    @callback
    def sync() -> None:
        nonlocal cancel_timer
        cancel_timer()
        since = log.outages[-1].started_at if log.open and account.snapshot.cloud is False else None
        without_transport = [coordinator for coordinator in runtime.coordinators.values() if not coordinator.data.local]
        waits = inf if since is None else CLOUD_LOST_AFTER - (clock.now() - since).total_seconds()
        if 0 < waits < inf:
            cancel_timer = clock.call_later(waits, sync)
        placeholders = None
        if since is not None and waits <= 0 and without_transport:
            names = sorted(charger_name(hass, entry, coordinator.identity) for coordinator in without_transport)
            placeholders = {"since": local_time(since), "chargers": ", ".join(names)}
        _sync_issue(hass, _cloud_issue_id(entry), CLOUD_LOST, placeholders)

    removers = [account.listen(lambda _: sync())]

    @callback
    def begin(coordinator: ChargerCoordinator) -> None:
        removers.append(coordinator.async_add_listener(sync))

    for_each_charger(entry, begin)
    sync()

    def end() -> None:
        cancel_timer()
        while removers:
            removers.pop()()

    return end


def other_integration(hass: HomeAssistant, email: str) -> ConfigEntry | None:
    """Return the enabled entry of Home Assistant's own Wallbox integration for this account; None if there is none."""
    entries = hass.config_entries.async_entries(OTHER_DOMAIN, include_ignore=False, include_disabled=False)
    names = ((entry, str(entry.data.get(CONF_USERNAME))) for entry in entries)
    return next((entry for entry, name in names if name.strip().casefold() == email.casefold()), None)


@callback
def delete_issues(hass: HomeAssistant, entry: ConfigEntry, serials: Iterable[str]) -> None:
    """Delete the issues of removed chargers, and those of the entry if it is disabled or removed."""
    for serial in serials:
        for charger_issue in ChargerIssue:
            ir.async_delete_issue(hass, DOMAIN, _issue_id(charger_issue, serial))
        for box_issue in BoxIssue:
            ir.async_delete_issue(hass, DOMAIN, f"{box_issue}_{serial}")
        for key in (LINK_BROKEN, OVERRIDE_BY_HAND):
            ir.async_delete_issue(hass, DOMAIN, f"{key}_{serial}")
    if entry.disabled_by is not None or hass.config_entries.async_get_entry(entry.entry_id) is None:
        sync_listen_issue(hass, entry, None)
        track_token_issue(hass, entry, None)
        ir.async_delete_issue(hass, DOMAIN, _other_issue_id(entry))
        ir.async_delete_issue(hass, DOMAIN, _cloud_issue_id(entry))


@callback
def _sync_issue(
    hass: HomeAssistant,
    issue_id: str,
    key: str,
    placeholders: dict[str, str] | None,
    data: IssueData | None = None,
    *,
    is_persistent: bool = False,
) -> None:
    """Create or update an issue; delete it if `placeholders` is None. An issue with `data` can be fixed.

    An inactive issue is not deleted: Home Assistant only remembers that the user chose to ignore it. Soon after a
    start, the cause of such an issue may still exist without having been found again.
    """
    if placeholders is not None:
        ir.async_create_issue(
            hass,
            DOMAIN,
            issue_id,
            data=data,
            is_fixable=data is not None,
            is_persistent=is_persistent,
            severity=ir.IssueSeverity.WARNING,
            translation_key=key,
            translation_placeholders=placeholders,
        )
        return
    issue = ir.async_get(hass).async_get_issue(DOMAIN, issue_id)
    if issue is not None and issue.active:
        ir.async_delete_issue(hass, DOMAIN, issue_id)


def _cloud_issue_id(entry: ConfigEntry) -> str:
    return f"{CLOUD_LOST}_{entry.entry_id}"


def _do_nothing() -> None:
    """Remove a listener that was never added."""


def _other_issue_id(entry: ConfigEntry) -> str:
    return f"{OTHER_INTEGRATION}_{entry.entry_id}"


def _member_issue_id(entry: ConfigEntry, serial: str) -> str:
    return f"{GROUP_MEMBER_MISSING}_{entry.entry_id}_{serial}"


def _issue_id(issue: ChargerIssue, serial: str) -> str:
    return f"{issue}_{serial}"
