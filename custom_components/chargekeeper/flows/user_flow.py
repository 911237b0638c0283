"""Base of the flows that a user starts: a new flow replaces an older one for the same entry."""

from homeassistant.config_entries import SOURCE_RECONFIGURE, SOURCE_USER, ConfigEntry, ConfigFlow


class UserFlow(ConfigFlow):
    """A config flow that replaces an older flow for the same entry."""

    @property
    def _reconfigured_entry(self) -> ConfigEntry | None:
        """The entry that is being changed, or None while an entry is being added."""
        return self._get_reconfigure_entry() if self.source == SOURCE_RECONFIGURE else None

    async def async_claim(self, unique_id: str) -> None:
        """Set the unique id, and abort an older user flow with the same unique id.

        Home Assistant offers no way back to a flow whose page was left or reloaded. Such a flow would block newer flows
        until the next start of Home Assistant.
        """
        flows = self.hass.config_entries.flow
        older = {"source": SOURCE_USER, "unique_id": unique_id}
        for flow in flows.async_progress_by_handler(self.handler, include_uninitialized=True, match_context=older):
            if flow["flow_id"] != self.flow_id:
                flows.async_abort(flow["flow_id"])
        await self.async_set_unique_id(unique_id)
