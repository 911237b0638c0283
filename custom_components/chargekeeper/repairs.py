"""Fix flows: the issues that the user can confirm in Settings > Repairs."""

from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir

from .const import DOMAIN
from .coordinator import chargers_runtime
from .ha.issues import FIXES, IssueData


class ConfirmFlow(RepairsFlow):
    """Let the user confirm an issue of a charger."""

    def __init__(self, issue: ir.IssueEntry) -> None:
        assert issue.data is not None
        assert issue.translation_key is not None
        self._entry_id = str(issue.data["entry_id"])
        self._serial = str(issue.data["serial"])
        self._fix = FIXES[issue.translation_key]
        self._placeholders = issue.translation_placeholders

    async def async_step_init(self, user_input: dict[str, str] | None = None) -> RepairsFlowResult:
        """Start with the confirmation."""
        return await self.async_step_confirm()

    async def async_step_confirm(self, user_input: dict[str, str] | None = None) -> RepairsFlowResult:
        """Ask for the confirmation, then carry out the fix of the issue."""
        if user_input is None:
            return self.async_show_form(step_id="confirm", description_placeholders=self._placeholders)
        entry = self.hass.config_entries.async_get_entry(self._entry_id)
        is_loaded = entry is not None and entry.state is ConfigEntryState.LOADED
        coordinator = (
            chargers_runtime(entry).coordinators.get(self._serial) if entry is not None and is_loaded else None
        )
        if coordinator is None:  # or the charger was removed meanwhile
            return self.async_abort(reason="not_loaded", description_placeholders=self._placeholders)
        self._fix(coordinator.charger)
        return self.async_create_entry(data={})


async def async_create_fix_flow(hass: HomeAssistant, issue_id: str, data: IssueData | None) -> RepairsFlow:
    """Return the flow for an issue that can be fixed. Home Assistant calls this function of the platform."""
    issue = ir.async_get(hass).async_get_issue(DOMAIN, issue_id)
    assert issue is not None
    return ConfirmFlow(issue)
