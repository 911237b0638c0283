"""What all flows that a user begins have in common: they can be begun again."""

from homeassistant.config_entries import SOURCE_USER, ConfigFlow


class UserFlow(ConfigFlow):
    """A config flow that takes the place of an older one for the same entry."""

    async def async_claim(self, unique_id: str) -> None:
        """Set the unique id. An older flow of a user with the same one ends.

        Home Assistant offers no way back to a flow whose page was left or reloaded. It would block its successors
        until the next start.
        """
        flows = self.hass.config_entries.flow
        older = {"source": SOURCE_USER, "unique_id": unique_id}
        for flow in flows.async_progress_by_handler(self.handler, include_uninitialized=True, match_context=older):
            if flow["flow_id"] != self.flow_id:
                flows.async_abort(flow["flow_id"])
        await self.async_set_unique_id(unique_id)
