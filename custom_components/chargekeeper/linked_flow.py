"""Subentry flow: names the user's own entities as a local path of one charger."""

from collections.abc import Mapping
from typing import Any

from homeassistant.config_entries import ConfigSubentryFlow, SubentryFlowResult
from homeassistant.const import ATTR_UNIT_OF_MEASUREMENT, Platform
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.selector import (
    EntityFilterSelectorConfig,
    EntitySelector,
    EntitySelectorConfig,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
)
from homeassistant.loader import async_get_integration
import voluptuous as vol

from .const import DOMAIN
from .core.model import Maker
from .linked import (
    CONF_CHARGE_SWITCH,
    CONF_CURRENT,
    CONF_CURRENT_NUMBER,
    CONF_POWER,
    CONF_RESTART_BUTTON,
    CONF_STATUS,
    LINKS,
    MEASURED,
    SUBENTRY_LINKED,
)
from .registry import identities

CONF_CHARGER = "charger"
CONF_MAKER = "maker"
CONF_SERIAL = "serial"

DOMAINS: Mapping[str, tuple[str, ...]] = {
    CONF_STATUS: (Platform.SENSOR,),
    CONF_POWER: (Platform.SENSOR,),
    CONF_CURRENT: (Platform.SENSOR,),
    CONF_CURRENT_NUMBER: (Platform.NUMBER,),
    CONF_CHARGE_SWITCH: (Platform.SWITCH, "input_boolean"),
    CONF_RESTART_BUTTON: (Platform.BUTTON,),
}
"""From which domains an entity may be linked."""


class LinkedSubentryFlow(ConfigSubentryFlow):
    """Links entities to a charger, and changes which."""

    def __init__(self) -> None:
        self._data: dict[str, str] = {}
        self._title = ""
        self._cloud_based: list[str] = []

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Choose a charger and its entities."""
        entry = self._get_entry()
        linked = {
            subentry.data[CONF_SERIAL]
            for subentry in entry.subentries.values()
            if subentry.subentry_type == SUBENTRY_LINKED
        }
        chargers = [charger for charger in identities(entry) if charger.serial not in linked]
        if not chargers:
            return self.async_abort(reason="all_linked")
        errors: dict[str, str] = {}
        if user_input is not None:
            charger = next(charger for charger in chargers if charger.serial == user_input[CONF_CHARGER])
            self._title = charger.name
            self._data = {CONF_MAKER: charger.maker, CONF_SERIAL: charger.serial, **self._links(user_input, errors)}
            if not errors:
                return await self._confirm_or_finish()
        options = [SelectOptionDict(value=charger.serial, label=charger.name) for charger in chargers]
        selector = SelectSelector(SelectSelectorConfig(options=options, mode=SelectSelectorMode.DROPDOWN))
        schema = vol.Schema({vol.Required(CONF_CHARGER, default=chargers[0].serial): selector, **_fields()})
        return self.async_show_form(
            step_id="user", data_schema=self.add_suggested_values_to_schema(schema, user_input), errors=errors
        )

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Choose other entities for the charger."""
        subentry = self._get_reconfigure_subentry()
        errors: dict[str, str] = {}
        if user_input is not None:
            self._title = subentry.title
            known = {key: subentry.data[key] for key in (CONF_MAKER, CONF_SERIAL)}
            self._data = {**known, **self._links(user_input, errors)}
            if not errors:
                return await self._confirm_or_finish()
        registry = er.async_get(self.hass)
        shown = user_input or {
            link: entity_id
            for link in LINKS
            if link in subentry.data
            and (entity_id := er.async_resolve_entity_id(registry, subentry.data[link])) is not None
        }
        schema = self.add_suggested_values_to_schema(vol.Schema(_fields()), shown)
        return self.async_show_form(
            step_id="reconfigure",
            data_schema=schema,
            errors=errors,
            description_placeholders={"charger": subentry.title},
        )

    async def async_step_cloud_based(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Warn of entities that a cloud feeds: in an outage of that cloud they are of no use."""
        if user_input is not None:
            return self._finish()
        return self.async_show_form(
            step_id="cloud_based",
            data_schema=vol.Schema({}),
            description_placeholders={"entities": ", ".join(sorted(self._cloud_based))},
        )

    async def _confirm_or_finish(self) -> SubentryFlowResult:
        registry = er.async_get(self.hass)
        for link in LINKS:
            entity = registry.entities.get_entry(self._data.get(link, ""))
            if entity is None:
                continue
            iot_class = (await async_get_integration(self.hass, entity.platform)).iot_class
            if iot_class is not None and iot_class.startswith("cloud"):
                self._cloud_based.append(entity.entity_id)
        return await self.async_step_cloud_based() if self._cloud_based else self._finish()

    def _finish(self) -> SubentryFlowResult:
        if self.source == "reconfigure":
            return self.async_update_and_abort(self._get_entry(), self._get_reconfigure_subentry(), data=self._data)
        unique_id = f"{SUBENTRY_LINKED}_{Maker(self._data[CONF_MAKER])}_{self._data[CONF_SERIAL]}"
        return self.async_create_entry(title=self._title, data=self._data, unique_id=unique_id)

    def _links(self, user_input: Mapping[str, Any], errors: dict[str, str]) -> dict[str, str]:
        """The registry ids of the chosen entities; `errors` says what is wrong with which."""
        registry = er.async_get(self.hass)
        links: dict[str, str] = {}
        for link in LINKS:
            entity_id = user_input.get(link)
            if entity_id is None:
                continue
            entity = registry.async_get(entity_id)
            if entity is None:
                errors[link] = "not_registered"
            elif entity.platform == DOMAIN:
                errors[link] = "own_entity"
            elif not self._has_right_unit(link, entity_id):
                errors[link] = "wrong_unit"
            else:
                links[link] = entity.id
        if not links and not errors:
            errors["base"] = "nothing_linked"
        return links

    def _has_right_unit(self, link: str, entity_id: str) -> bool:
        """Whether what the entity measures can be converted; one without a state now is given the benefit of doubt."""
        if link not in MEASURED or (state := self.hass.states.get(entity_id)) is None:
            return True
        unit = state.attributes.get(ATTR_UNIT_OF_MEASUREMENT)
        return unit in MEASURED[link].converter.VALID_UNITS


def _fields() -> dict[Any, Any]:
    return {
        vol.Optional(link): EntitySelector(
            EntitySelectorConfig(filter=EntityFilterSelectorConfig(domain=list(domains)))
        )
        for link, domains in DOMAINS.items()
    }
