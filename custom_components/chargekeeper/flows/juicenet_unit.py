"""Subentry flow for units: boxes that ChargeKeeper reaches only through the user's JuiceNet server."""

from collections.abc import Mapping
from typing import Any

from homeassistant.config_entries import ConfigEntry, ConfigSubentryFlow, SubentryFlowResult
from homeassistant.const import CONF_NAME
from homeassistant.helpers.selector import (
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
)
import voluptuous as vol

from ..const import CONF_JUICENET, CONF_LOAD_GROUP_LIMIT, CONF_SERIAL, CONF_WIRE_RATING
from ..core.errors import ChargerError
from ..entries.juicebox import box_subentries, unit_subentries
from ..ha.juicenet import async_suggestions, async_units, objection
from .juicebox_box import CONF_BOX, current_selector, require_answers

UNIT_SCHEMA = vol.Schema(
    {
        vol.Required(CONF_NAME): TextSelector(),
        vol.Optional(CONF_WIRE_RATING): current_selector(),  # required: see `REQUIRED_ANSWERS` in juicebox_box.py
        vol.Optional(CONF_LOAD_GROUP_LIMIT): current_selector(),
    }
)


class JuiceNetSubentryFlow(ConfigSubentryFlow):
    """Adds a unit of the JuiceNet account, and changes the settings of a unit."""

    def __init__(self) -> None:
        self._units: dict[str, str] = {}
        self._serial = ""

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Choose one of the units of the account."""
        if user_input is not None:
            self._serial = user_input[CONF_BOX]
            return await self.async_step_unit()
        entry = self._get_entry()
        try:
            units = await async_units(self.hass, entry.data[CONF_JUICENET])
        except ChargerError as err:
            return self.async_abort(reason=objection(err))
        self._units = {serial: name for serial, name in units.items() if not _is_known(entry, serial)}
        if not self._units:
            return self.async_abort(reason="no_unit_left")
        options = [SelectOptionDict(value=serial, label=f"{name} ({serial})") for serial, name in self._units.items()]
        selector = SelectSelector(SelectSelectorConfig(options=options, mode=SelectSelectorMode.DROPDOWN))
        schema = vol.Schema({vol.Required(CONF_BOX, default=options[0]["value"]): selector})
        return self.async_show_form(step_id="user", data_schema=schema)

    async def async_step_unit(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask for what only the user knows about the unit."""
        entry = self._get_entry()
        errors = dict[str, str]()
        if user_input is not None and _is_valid(user_input, errors):
            if _is_known(entry, self._serial):
                return self.async_abort(reason="box_known")
            title, data = _as_subentry(user_input, self._serial)
            return self.async_create_entry(title=title, data=data, unique_id=self._serial)
        suggested = user_input
        if suggested is None:
            known = await async_suggestions(self.hass, entry.data[CONF_JUICENET], self._serial)
            suggested = {CONF_NAME: self._units[self._serial], **known}
        schema = self.add_suggested_values_to_schema(UNIT_SCHEMA, suggested)
        return self.async_show_form(step_id="unit", data_schema=schema, errors=errors)

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Change the settings of the unit."""
        subentry = self._get_reconfigure_subentry()
        errors = dict[str, str]()
        if user_input is not None and _is_valid(user_input, errors):
            title, data = _as_subentry(user_input, subentry.data[CONF_SERIAL])
            return self.async_update_and_abort(self._get_entry(), subentry, title=title, data=data)
        suggested = {CONF_NAME: subentry.title, **subentry.data} if user_input is None else user_input
        schema = self.add_suggested_values_to_schema(UNIT_SCHEMA, suggested)
        return self.async_show_form(step_id="reconfigure", data_schema=schema, errors=errors)


def _is_known(entry: ConfigEntry, serial: str) -> bool:
    boxes = (*box_subentries(entry), *unit_subentries(entry))
    return any(box.data[CONF_SERIAL] == serial for box in boxes)


def _is_valid(user_input: Mapping[str, Any], errors: dict[str, str]) -> bool:
    require_answers(user_input, {CONF_WIRE_RATING: "wire_rating_missing"}, errors)
    if not user_input[CONF_NAME].strip():
        errors[CONF_NAME] = "name_missing"
    return not errors


def _as_subentry(user_input: Mapping[str, Any], serial: str) -> tuple[str, dict[str, Any]]:
    """Return the title and the data of the subentry."""
    data = {CONF_SERIAL: serial, **user_input}
    return data.pop(CONF_NAME).strip(), data
