"""Subentry flow: links the user's own entities to a charger, as a local transport.

The flow checks the chosen entities before it accepts them. It accepts entities of a cloud integration with a warning.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from homeassistant.config_entries import SOURCE_RECONFIGURE, ConfigSubentryFlow, SubentryFlowResult
from homeassistant.const import ATTR_UNIT_OF_MEASUREMENT, STATE_UNAVAILABLE, STATE_UNKNOWN, Platform
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.selector import (
    BooleanSelector,
    EntitySelector,
    EntitySelectorConfig,
    EntityWithDeviceFilterSelectorConfig,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
)
from homeassistant.loader import Integration, async_get_integrations
import voluptuous as vol

from ..const import CONF_SERIAL, DOMAIN, KIND_JUICEBOX
from ..coordinator import charger_name
from ..entries.kind import kind_of
from ..ha.shared_state import linkable, linked_subentry
from ..linked.echoes import only_repeats
from ..linked.entity_transport import (
    ALL_LINKS,
    BOX_LINKS,
    COMMANDED,
    CONF_ALLOW_POWER_CYCLE,
    CONF_CHARGE_SWITCH,
    CONF_CURRENT,
    CONF_CURRENT_NUMBER,
    CONF_MAKER,
    CONF_POWER,
    CONF_POWER_SWITCH,
    CONF_RESTART_BUTTON,
    CONF_STATUS,
    LINKS,
    MEASURED,
    STATUS_WORDS,
    SUBENTRY_LINKED,
    slug,
)

CONF_CHARGER = "charger"

DOMAINS: Mapping[str, tuple[str, ...]] = {
    CONF_STATUS: (Platform.SENSOR,),
    CONF_POWER: (Platform.SENSOR,),
    CONF_CURRENT: (Platform.SENSOR,),
    CONF_CURRENT_NUMBER: (Platform.NUMBER,),
    CONF_CHARGE_SWITCH: (Platform.SWITCH, "input_boolean"),
    CONF_POWER_SWITCH: (Platform.SWITCH, "input_boolean"),
    CONF_RESTART_BUTTON: (Platform.BUTTON,),
}
"""The domains from which an entity may be linked, per link."""

REQUIRED: Mapping[str, tuple[frozenset[str], str]] = {
    CONF_CHARGE_SWITCH: (frozenset({CONF_STATUS, CONF_POWER}), "needs_status_or_power"),
    CONF_RESTART_BUTTON: (frozenset({CONF_STATUS}), "needs_status"),
}
"""For each link that commands: the links that show its effect, and the error if all of them are missing."""

BOX_REQUIRED: Mapping[str, tuple[tuple[frozenset[str], str], ...]] = {
    CONF_ALLOW_POWER_CYCLE: (
        (frozenset({CONF_POWER_SWITCH}), "needs_power_switch"),
        (frozenset({CONF_POWER, CONF_CURRENT}), "needs_meter"),
    ),
}
"""The same for a JuiceBox, which reports its status itself. Every listed requirement must be met."""


class LinkedSubentryFlow(ConfigSubentryFlow):
    """Adds and changes the entities that are linked to a charger."""

    def __init__(self) -> None:
        self._data: dict[str, Any] = {}
        self._title = ""
        self._cloud_based: list[str] = []
        self._unproving: list[str] = []

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Choose a charger and its entities."""
        entry = self._get_entry()
        errors = dict[str, str]()
        chargers = {each.serial: each for each in linkable(entry)}
        if not chargers:
            return self.async_abort(reason="all_linked")
        names = {serial: charger_name(self.hass, entry, charger) for serial, charger in chargers.items()}
        if user_input is not None:
            if (charger := chargers.get(user_input[CONF_CHARGER])) is None:
                return self.async_abort(reason="already_linked")  # another flow linked it in the meantime
            links = self._registry_ids(user_input, errors)
            if not errors:
                self._title = names[charger.serial]
                self._data = {CONF_MAKER: charger.maker, CONF_SERIAL: charger.serial, **links}
                return await self._warn_or_finish()
        options = [SelectOptionDict(value=serial, label=name) for serial, name in names.items()]
        selector = SelectSelector(SelectSelectorConfig(options=options, mode=SelectSelectorMode.DROPDOWN))
        schema = vol.Schema({vol.Required(CONF_CHARGER, default=options[0]["value"]): selector, **self._fields()})
        return self.async_show_form(
            step_id="user", data_schema=self.add_suggested_values_to_schema(schema, user_input), errors=errors
        )

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Choose other entities for the charger. The field of an entity that no longer exists is empty."""
        subentry = self._get_reconfigure_subentry()
        errors = dict[str, str]()
        if user_input is not None:
            links = self._registry_ids(user_input, errors)
            if not errors:
                self._data = {key: subentry.data[key] for key in (CONF_MAKER, CONF_SERIAL)} | links
                return await self._warn_or_finish()
        registry = er.async_get(self.hass)
        entities = {link: registry.entities.get_entry(subentry.data.get(link, "")) for link in self._offered_links}
        present: dict[str, Any] = {link: entity.entity_id for link, entity in entities.items() if entity is not None}
        present[CONF_ALLOW_POWER_CYCLE] = subentry.data.get(CONF_ALLOW_POWER_CYCLE, False)
        schema = self.add_suggested_values_to_schema(
            vol.Schema(self._fields()), present if user_input is None else user_input
        )
        return self.async_show_form(
            step_id="reconfigure",
            data_schema=schema,
            errors=errors,
            description_placeholders={"charger": subentry.title},
        )

    async def async_step_cloud_based(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Warn about entities of a cloud integration, which are of no use while that cloud is down."""
        if user_input is not None:
            return await self._name_unproving_or_finish()
        return self.async_show_form(
            step_id="cloud_based",
            data_schema=vol.Schema({}),
            description_placeholders={"entities": ", ".join(self._cloud_based)},
        )

    async def async_step_unproving(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Name the entities that only show what they were told, so that no command can be verified by them."""
        if user_input is not None:
            return self._finish()
        return self.async_show_form(
            step_id="unproving",
            data_schema=vol.Schema({}),
            description_placeholders={"entities": ", ".join(self._unproving)},
        )

    async def _warn_or_finish(self) -> SubentryFlowResult:
        registry = er.async_get(self.hass)
        chosen = (registry.entities.get_entry(self._data.get(link, "")) for link in self._offered_links)
        entities = [entity for entity in chosen if entity is not None]
        integrations = await async_get_integrations(self.hass, {entity.platform for entity in entities})
        clouds = {domain for domain, integration in integrations.items() if _is_cloud_based(integration)}
        self._cloud_based = sorted(entity.entity_id for entity in entities if entity.platform in clouds)
        known = self._get_reconfigure_subentry().data.values() if self.source == SOURCE_RECONFIGURE else ()
        ids = {self._data.get(link) for link in COMMANDED}.difference(known)
        states = (self.hass.states.get(entity.entity_id) for entity in entities if entity.id in ids)
        self._unproving = sorted(state.entity_id for state in states if state is not None and only_repeats(state))
        return await self.async_step_cloud_based() if self._cloud_based else await self._name_unproving_or_finish()

    async def _name_unproving_or_finish(self) -> SubentryFlowResult:
        return await self.async_step_unproving() if self._unproving else self._finish()

    def _finish(self) -> SubentryFlowResult:
        if self.source == SOURCE_RECONFIGURE:
            return self.async_update_and_abort(self._get_entry(), self._get_reconfigure_subentry(), data=self._data)
        if linked_subentry(self._get_entry(), self._data[CONF_SERIAL]) is not None:
            return self.async_abort(reason="already_linked")
        unique_id = f"{SUBENTRY_LINKED}_{self._data[CONF_MAKER]}_{self._data[CONF_SERIAL]}"
        return self.async_create_entry(title=self._title, data=self._data, unique_id=unique_id)

    @property
    def _is_for_boxes(self) -> bool:
        return kind_of(self._get_entry()) == KIND_JUICEBOX

    @property
    def _offered_links(self) -> tuple[str, ...]:
        return BOX_LINKS if self._is_for_boxes else LINKS

    def _fields(self) -> dict[vol.Marker, Any]:
        fields: dict[vol.Marker, Any] = {
            vol.Optional(link): EntitySelector(EntitySelectorConfig(filter=_entity_filter(link)))
            for link in self._offered_links
        }
        if self._is_for_boxes:
            fields[vol.Required(CONF_ALLOW_POWER_CYCLE, default=False)] = BooleanSelector()
        return fields

    def _registry_ids(self, user_input: Mapping[str, Any], errors: dict[str, str]) -> dict[str, Any]:
        """Return the registry ids of the chosen entities. Add an error to `errors` for each invalid choice."""
        registry = er.async_get(self.hass)
        ids_elsewhere = self._ids_linked_elsewhere()
        links: dict[str, Any] = {}
        for link in self._offered_links:
            if (entity_id := user_input.get(link)) is None:
                continue
            entity = registry.async_get(entity_id)
            if entity is None:
                errors[link] = "not_registered"
            elif (error := self._link_error(link, entity, ids_elsewhere)) is not None:
                errors[link] = error
            else:
                links[link] = entity.id
        if not links and not errors:
            errors["base"] = "nothing_linked"
        if self._is_for_boxes:
            links[CONF_ALLOW_POWER_CYCLE] = user_input[CONF_ALLOW_POWER_CYCLE]
        for link, alternatives, error in self._requirements:
            if links.get(link) and alternatives.isdisjoint(user_input):
                errors.setdefault(link, error)
        return links

    @property
    def _requirements(self) -> Iterator[tuple[str, frozenset[str], str]]:
        """Yield each link, the alternatives of which it needs at least one, and the error if all are missing."""
        if self._is_for_boxes:
            for link, needs in BOX_REQUIRED.items():
                yield from ((link, alternatives, error) for alternatives, error in needs)
            return
        yield from ((link, alternatives, error) for link, (alternatives, error) in REQUIRED.items())

    def _link_error(self, link: str, entity: er.RegistryEntry, ids_elsewhere: Collection[str]) -> str | None:
        """Return the error if an entity cannot be linked, else None."""
        if entity.platform == DOMAIN:
            return "own_entity"
        if entity.domain not in DOMAINS[link]:
            return "wrong_kind"
        if entity.disabled:
            return "disabled"
        if entity.id in ids_elsewhere:
            return "linked_elsewhere"
        if link in MEASURED and self._unit_of(entity) not in MEASURED[link].converter.VALID_UNITS:
            return "wrong_unit"
        if link == CONF_STATUS and not self._has_known_status(entity):
            return "unknown_words"
        return None

    def _ids_linked_elsewhere(self) -> set[str]:
        """Return the registry ids of all entities that are linked to other chargers."""
        own_id = self._get_reconfigure_subentry().subentry_id if self.source == SOURCE_RECONFIGURE else None
        return {
            subentry.data[link]
            for entry in self.hass.config_entries.async_entries(DOMAIN)
            for subentry in entry.subentries.values()
            if subentry.subentry_type == SUBENTRY_LINKED and subentry.subentry_id != own_id
            for link in ALL_LINKS
            if link in subentry.data
        }

    def _unit_of(self, entity: er.RegistryEntry) -> str | None:
        state = self.hass.states.get(entity.entity_id)
        unit = None if state is None else state.attributes.get(ATTR_UNIT_OF_MEASUREMENT)
        return unit or entity.unit_of_measurement  # the registry keeps the unit of an unavailable entity

    def _has_known_status(self, entity: er.RegistryEntry) -> bool:
        """Return True if the state or an option of a sensor is a known status. Accept a sensor without a state."""
        state = self.hass.states.get(entity.entity_id)
        if state is None or state.state in {STATE_UNAVAILABLE, STATE_UNKNOWN}:
            return True
        return any(slug(str(word)) in STATUS_WORDS for word in (state.state, *state.attributes.get("options", ())))


def _is_cloud_based(integration: Integration | Exception) -> bool:
    iot_class = integration.iot_class if isinstance(integration, Integration) else None
    return iot_class is not None and iot_class.startswith("cloud")


def _entity_filter(link: str) -> EntityWithDeviceFilterSelectorConfig:
    """Return the filter of entities for a link. A measured link accepts only entities with a convertible unit."""
    config = EntityWithDeviceFilterSelectorConfig(domain=list(DOMAINS[link]))
    if link in MEASURED:
        config["unit_of_measurement"] = sorted(str(unit) for unit in MEASURED[link].converter.VALID_UNITS)
    return config
