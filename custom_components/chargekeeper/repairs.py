"""Repairs: what the user should know and can act on. Each issue goes by itself when its cause is gone."""

from collections.abc import Callable, Iterable

from homeassistant.config_entries import SIGNAL_CONFIG_ENTRY_CHANGED, ConfigEntry, ConfigEntryChange
from homeassistant.const import CONF_EMAIL, CONF_USERNAME
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.dispatcher import async_dispatcher_connect

from .const import DOMAIN
from .coordinator import ChargerCoordinator, charger_name
from .core.model import Problem
from .linked import LinkedPath

OTHER_DOMAIN = "wallbox"
OTHER_INTEGRATION = "other_integration"
LINK_BROKEN = "link_broken"


@callback
def follow_problems(hass: HomeAssistant, coordinator: ChargerCoordinator) -> Callable[[], None]:
    """Keep the issues of a charger as its snapshot says; the answer ends it."""

    @callback
    def sync() -> None:
        for problem in Problem:
            is_there = problem in coordinator.data.problems
            name = charger_name(hass, coordinator.config_entry, coordinator.identity)
            placeholders = {"charger": name} if is_there else None
            _keep(hass, _issue_id(problem, coordinator.identity.serial), problem, placeholders)

    sync()
    return coordinator.async_add_listener(sync)


@callback
def follow_links(hass: HomeAssistant, coordinator: ChargerCoordinator, path: LinkedPath | None) -> Callable[[], None]:
    """Tell while an entity that is linked to a charger is deleted or disabled; the answer ends it."""
    serial = coordinator.identity.serial

    @callback
    def sync() -> None:
        name = charger_name(hass, coordinator.config_entry, coordinator.identity)
        placeholders = {"charger": name} if path is not None and path.broken else None
        _keep(hass, f"{LINK_BROKEN}_{serial}", LINK_BROKEN, placeholders)

    sync()
    return _nothing if path is None else path.listen_health(sync)


@callback
def follow_other_integration(hass: HomeAssistant, entry: ConfigEntry) -> Callable[[], None]:
    """Tell while Home Assistant's own Wallbox integration uses the account too: they share its request limit."""

    @callback
    def sync(_change: ConfigEntryChange | None = None, _changed: ConfigEntry | None = None) -> None:
        other = other_integration(hass, entry.data[CONF_EMAIL])
        placeholders = None if other is None else {"entry": other.title}
        _keep(hass, _other_issue_id(entry), OTHER_INTEGRATION, placeholders)

    sync()
    return async_dispatcher_connect(hass, SIGNAL_CONFIG_ENTRY_CHANGED, sync)


def other_integration(hass: HomeAssistant, email: str) -> ConfigEntry | None:
    """The entry of Home Assistant's own Wallbox integration that uses this account, unless it is disabled."""
    entries = hass.config_entries.async_entries(OTHER_DOMAIN, include_ignore=False, include_disabled=False)
    names = ((entry, str(entry.data.get(CONF_USERNAME))) for entry in entries)
    return next((entry for entry, name in names if name.strip().casefold() == email.casefold()), None)


@callback
def delete_issues(hass: HomeAssistant, entry: ConfigEntry, serials: Iterable[str]) -> None:
    """The chargers are given up, and with them what was said of them; likewise of the entry once it is gone."""
    for serial in serials:
        for problem in Problem:
            ir.async_delete_issue(hass, DOMAIN, _issue_id(problem, serial))
        ir.async_delete_issue(hass, DOMAIN, f"{LINK_BROKEN}_{serial}")
    if hass.config_entries.async_get_entry(entry.entry_id) is None:
        ir.async_delete_issue(hass, DOMAIN, _other_issue_id(entry))


@callback
def _keep(hass: HomeAssistant, issue_id: str, key: str, placeholders: dict[str, str] | None) -> None:
    """Have an issue with these placeholders, or none where there are none.

    One that Home Assistant only remembers, since the user chose to ignore it, is left alone: what it is about may not
    have shown yet since the start.
    """
    if placeholders is not None:
        ir.async_create_issue(
            hass,
            DOMAIN,
            issue_id,
            is_fixable=False,
            severity=ir.IssueSeverity.WARNING,
            translation_key=key,
            translation_placeholders=placeholders,
        )
        return
    issue = ir.async_get(hass).async_get_issue(DOMAIN, issue_id)
    if issue is not None and issue.active:
        ir.async_delete_issue(hass, DOMAIN, issue_id)


def _nothing() -> None:
    """End what never began."""


def _other_issue_id(entry: ConfigEntry) -> str:
    return f"{OTHER_INTEGRATION}_{entry.entry_id}"


def _issue_id(problem: Problem, serial: str) -> str:
    return f"{problem}_{serial}"
