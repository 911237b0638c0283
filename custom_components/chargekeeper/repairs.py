"""Repairs: what the user should know and can act on. Each issue goes by itself when its cause is gone."""

from collections.abc import Callable, Iterable

from homeassistant.config_entries import SIGNAL_CONFIG_ENTRY_CHANGED, ConfigEntry, ConfigEntryChange
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.dispatcher import async_dispatcher_connect

from .const import DOMAIN
from .coordinator import ChargerCoordinator
from .core.model import Problem

OTHER_DOMAIN = "wallbox"
OTHER_INTEGRATION = "other_integration"


@callback
def follow_problems(hass: HomeAssistant, coordinator: ChargerCoordinator) -> Callable[[], None]:
    """Keep the issues of a charger as its snapshot says; the answer ends it."""

    @callback
    def sync() -> None:
        for problem in Problem:
            issue_id = _issue_id(problem, coordinator.identity.serial)
            if problem in coordinator.data.problems:
                ir.async_create_issue(
                    hass,
                    DOMAIN,
                    issue_id,
                    is_fixable=False,
                    severity=ir.IssueSeverity.WARNING,
                    translation_key=problem.value,
                    translation_placeholders={"charger": coordinator.identity.name},
                )
            else:
                ir.async_delete_issue(hass, DOMAIN, issue_id)

    sync()
    return coordinator.async_add_listener(sync)


@callback
def follow_other_integration(hass: HomeAssistant, entry: ConfigEntry) -> Callable[[], None]:
    """Tell while Home Assistant's own Wallbox integration is at work: it shares the cloud's request limit."""
    issue_id = f"{OTHER_INTEGRATION}_{entry.entry_id}"

    @callback
    def sync(_change: ConfigEntryChange | None = None, _changed: ConfigEntry | None = None) -> None:
        if other_integration_is_used(hass):
            ir.async_create_issue(
                hass,
                DOMAIN,
                issue_id,
                is_fixable=False,
                severity=ir.IssueSeverity.WARNING,
                translation_key=OTHER_INTEGRATION,
            )
        else:
            ir.async_delete_issue(hass, DOMAIN, issue_id)

    sync()
    return async_dispatcher_connect(hass, SIGNAL_CONFIG_ENTRY_CHANGED, sync)


def other_integration_is_used(hass: HomeAssistant) -> bool:
    """Whether an entry of Home Assistant's own Wallbox integration exists and is not disabled."""
    return any(entry.disabled_by is None for entry in hass.config_entries.async_entries(OTHER_DOMAIN))


@callback
def delete_issues(hass: HomeAssistant, entry: ConfigEntry, serials: Iterable[str]) -> None:
    """The chargers are given up, and with them what was said of them; likewise of the entry once it is gone."""
    for serial in serials:
        for problem in Problem:
            ir.async_delete_issue(hass, DOMAIN, _issue_id(problem, serial))
    if hass.config_entries.async_get_entry(entry.entry_id) is None:
        ir.async_delete_issue(hass, DOMAIN, f"{OTHER_INTEGRATION}_{entry.entry_id}")


def _issue_id(problem: Problem, serial: str) -> str:
    return f"{problem}_{serial}"
