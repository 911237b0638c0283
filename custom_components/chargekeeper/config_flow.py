"""Config flow: the menu of what can be added, and the choice of the flow for an existing entry.

The steps of each kind of entry are in flows/.
"""

from collections.abc import Mapping
from typing import Any, override

from homeassistant.config_entries import ConfigEntry, ConfigFlowResult, ConfigSubentryFlow, OptionsFlow
from homeassistant.core import callback

from .const import (
    CONF_JUICENET,
    DOMAIN,
    KIND_JUICEBOX,
    KIND_LOAD_GROUP,
    KIND_WALLBOX_ACCOUNT,
    SUBENTRY_JUICEBOX,
    SUBENTRY_JUICENET,
)
from .entries.kind import kind_of
from .flows.entity_link import LinkedSubentryFlow
from .flows.juicebox import JuiceBoxSteps
from .flows.juicebox_box import JuiceBoxSubentryFlow
from .flows.juicenet_unit import JuiceNetSubentryFlow
from .flows.load_group import LoadGroupSteps
from .flows.options import ChargeKeeperOptionsFlow
from .flows.wallbox import WallboxSteps
from .linked.entity_transport import SUBENTRY_LINKED

SUBENTRY_FLOWS: Mapping[str | None, dict[str, type[ConfigSubentryFlow]]] = {
    KIND_WALLBOX_ACCOUNT: {SUBENTRY_LINKED: LinkedSubentryFlow},
    KIND_JUICEBOX: {SUBENTRY_JUICEBOX: JuiceBoxSubentryFlow, SUBENTRY_LINKED: LinkedSubentryFlow},
}
"""The flows of the subentries that an entry can have, by kind of entry."""


class ChargeKeeperConfigFlow(WallboxSteps, LoadGroupSteps, JuiceBoxSteps, domain=DOMAIN):
    """Adds an entry, and changes the connection of an entry."""

    VERSION = 1
    MINOR_VERSION = 1

    @staticmethod
    @callback
    @override
    def async_get_options_flow(config_entry: ConfigEntry) -> OptionsFlow:
        return ChargeKeeperOptionsFlow()

    @classmethod
    @callback
    @override
    def async_supports_options_flow(cls, config_entry: ConfigEntry) -> bool:
        return kind_of(config_entry) in {KIND_WALLBOX_ACCOUNT, KIND_JUICEBOX}

    @classmethod
    @callback
    @override
    def async_get_supported_subentry_types(cls, config_entry: ConfigEntry) -> dict[str, type[ConfigSubentryFlow]]:
        flows = SUBENTRY_FLOWS.get(kind_of(config_entry), {})
        return {**flows, SUBENTRY_JUICENET: JuiceNetSubentryFlow} if config_entry.data.get(CONF_JUICENET) else flows

    @override
    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Choose what to add."""
        return self.async_show_menu(step_id="user", menu_options=[KIND_WALLBOX_ACCOUNT, KIND_JUICEBOX, KIND_LOAD_GROUP])

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change the connection of the account, the connection of the JuiceBoxes, or the load group."""
        entry = self._get_reconfigure_entry()
        if kind_of(entry) == KIND_LOAD_GROUP:
            return await self.async_step_load_group()
        if kind_of(entry) == KIND_JUICEBOX:
            return await self.async_step_juicebox()
        return await self.async_reconfigure_account(entry, user_input)
