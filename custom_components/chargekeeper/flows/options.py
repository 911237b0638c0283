"""Options flow: how ChargeKeeper treats the chargers of an entry."""

from typing import Any

from homeassistant.config_entries import ConfigFlowResult, OptionsFlow
from homeassistant.helpers.selector import (
    BooleanSelector,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
)
import voluptuous as vol

from ..const import (
    CONF_LIMIT,
    CONF_LOAD_GROUP_LIMITS,
    CONF_PREFER,
    CONF_READ_ONLY,
    CONF_RESTART_WHILE_CHARGING,
    KIND_JUICEBOX,
)
from ..core.limits import HIGHEST_CURRENT, MINIMUM_CURRENT
from ..core.model import Identity, Prefer
from ..entries.kind import kind_of
from ..ha.shared_state import identities

CONF_CHARGER = "charger"

SETTINGS_SCHEMA = vol.Schema(
    {
        vol.Required(CONF_PREFER, default=Prefer.AUTO.value): SelectSelector(
            SelectSelectorConfig(
                options=[prefer.value for prefer in Prefer],
                translation_key="prefer",
                mode=SelectSelectorMode.DROPDOWN,
            )
        ),
        vol.Required(CONF_READ_ONLY, default=False): BooleanSelector(),
        vol.Required(CONF_RESTART_WHILE_CHARGING, default=False): BooleanSelector(),
    }
)
BOXES_SCHEMA = vol.Schema(
    {
        vol.Required(CONF_READ_ONLY, default=False): BooleanSelector(),
        vol.Required(CONF_RESTART_WHILE_CHARGING, default=False): BooleanSelector(),
    }
)


class ChargeKeeperOptionsFlow(OptionsFlow):
    """Changes how ChargeKeeper treats the chargers of an entry. The update listener of the entry reloads the entry."""

    def __init__(self) -> None:
        self._chargers: dict[str, Identity] = {}
        self._charger: Identity | None = None

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Choose what to set."""
        if kind_of(self.config_entry) == KIND_JUICEBOX:
            return await self.async_step_boxes()
        return self.async_show_menu(step_id="init", menu_options=["settings", "load_group"])

    async def async_step_settings(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change the settings that apply to all chargers of the account."""
        if user_input is not None:
            return self.async_create_entry(data={**self.config_entry.options, **user_input})
        schema = self.add_suggested_values_to_schema(SETTINGS_SCHEMA, self.config_entry.options)
        return self.async_show_form(step_id="settings", data_schema=schema)

    async def async_step_boxes(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change the settings that apply to all JuiceBoxes. The transport of their commands cannot be chosen."""
        if user_input is not None:
            return self.async_create_entry(data={**self.config_entry.options, **user_input})
        schema = self.add_suggested_values_to_schema(BOXES_SCHEMA, self.config_entry.options)
        return self.async_show_form(step_id="boxes", data_schema=schema)

    async def async_step_load_group(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Choose the charger whose load-group limit the user wants to set."""
        if user_input is not None:
            self._charger = self._chargers[user_input[CONF_CHARGER]]
            return await self.async_step_load_group_limit()
        self._chargers = {charger.serial: charger for charger in identities(self.config_entry)}
        if not self._chargers:
            return self.async_abort(reason="no_chargers")
        options = [SelectOptionDict(value=serial, label=charger.name) for serial, charger in self._chargers.items()]
        selector = SelectSelector(SelectSelectorConfig(options=options, mode=SelectSelectorMode.DROPDOWN))
        schema = vol.Schema({vol.Required(CONF_CHARGER, default=options[0]["value"]): selector})
        return self.async_show_form(step_id="load_group", data_schema=schema)

    async def async_step_load_group_limit(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Set the load-group limit of the chosen charger. An empty field removes the limit."""
        charger = self._charger
        limits = dict(self.config_entry.options.get(CONF_LOAD_GROUP_LIMITS, {}))
        assert charger is not None
        if user_input is not None:
            limits.pop(charger.serial, None)
            if (limit := user_input.get(CONF_LIMIT)) is not None:
                limits[charger.serial] = limit
            return self.async_create_entry(data={**self.config_entry.options, CONF_LOAD_GROUP_LIMITS: limits})
        config = NumberSelectorConfig(
            min=MINIMUM_CURRENT, max=HIGHEST_CURRENT, step=1, unit_of_measurement="A", mode=NumberSelectorMode.BOX
        )
        schema = self.add_suggested_values_to_schema(
            vol.Schema({vol.Optional(CONF_LIMIT): NumberSelector(config)}), {CONF_LIMIT: limits.get(charger.serial)}
        )
        return self.async_show_form(
            step_id="load_group_limit", data_schema=schema, description_placeholders={"charger": charger.name}
        )
