"""Config flow steps for a load group: name, limit, members, weights, and what the user must confirm.

The same steps add a group and change a group. For a change the forms show the present values.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import inf
from typing import Any
from uuid import uuid4

from homeassistant.config_entries import ConfigFlowResult
from homeassistant.const import CONF_NAME
from homeassistant.helpers.selector import (
    BooleanSelector,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
)
import voluptuous as vol

from ..const import CONF_KIND, CONF_LIMIT, CONF_MEMBERS, CONF_WEIGHT, DOMAIN, KIND_LOAD_GROUP
from ..core.limits import MINIMUM_CURRENT, Limits
from ..core.load_group.shares import HIGHEST_LIMIT, GroupError, GroupSpec, Key, Member, offline_excess
from ..entries.load_group import member_key, member_name
from ..ha.shared_state import get_shared_state, known_chargers
from .user_flow import UserFlow

CONF_ACCEPT = "accept"
LOWEST_WEIGHT = 0.1
HIGHEST_WEIGHT = 10.0

GROUP_SCHEMA = vol.Schema(
    {
        vol.Required(CONF_NAME): TextSelector(),
        vol.Required(CONF_LIMIT): NumberSelector(
            NumberSelectorConfig(
                min=MINIMUM_CURRENT,
                max=HIGHEST_LIMIT,
                step="any",
                unit_of_measurement="A",
                mode=NumberSelectorMode.BOX,
            )
        ),
    }
)
WEIGHT_SELECTOR = NumberSelector(
    NumberSelectorConfig(min=LOWEST_WEIGHT, max=HIGHEST_WEIGHT, step=0.1, mode=NumberSelectorMode.BOX)
)
CONFIRMATION_SCHEMA = vol.Schema({vol.Required(CONF_ACCEPT, default=False): BooleanSelector()})


class LoadGroupSteps(UserFlow):
    """Config flow steps for load groups."""

    def __init__(self) -> None:
        super().__init__()
        self._name = ""
        self._limit = 0.0
        self._labels: dict[str, str] = {}
        self._members: list[dict[str, Any]] = []

    async def async_step_load_group(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the name and the limit."""
        errors: dict[str, str] = {}
        if user_input is not None:
            self._name = user_input[CONF_NAME].strip()
            self._limit = float(user_input[CONF_LIMIT])
            if self._name:
                return await self.async_step_members()
            errors[CONF_NAME] = "name_missing"
        elif (entry := self._reconfigured_entry) is not None:
            user_input = {CONF_NAME: entry.title, CONF_LIMIT: entry.data[CONF_LIMIT]}
        elif not known_chargers(self.hass):
            return self.async_abort(reason="no_chargers_known")
        return self._limit_form(user_input, errors)

    async def async_step_members(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the members, in the order in which they are served."""
        if user_input is None:
            present = [] if self._reconfigured_entry is None else self._reconfigured_entry.data[CONF_MEMBERS]
            chosen = self._members or present
            self._labels = self._candidates(present)
            return self._members_form([_slug(member_key(member)) for member in chosen])
        chosen_slugs: list[str] = user_input[CONF_MEMBERS]
        self._members = [self._member(slug) for slug in chosen_slugs]
        if (error := self._members_error()) is not None:
            return self._members_form(chosen_slugs, *error)
        if self._limit < (lowest := self._spec().lowest_limit):
            values = {CONF_NAME: self._name, CONF_LIMIT: self._limit}
            return self._limit_form(values, {CONF_LIMIT: "limit_too_low"}, lowest)
        return await self.async_step_weights() if len(self._members) > 1 else await self._check_limit()

    async def async_step_weights(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the weights by which the limit is divided."""
        labels = [self._labels[_slug(member_key(member))] for member in self._members]
        if user_input is not None:
            for member, label in zip(self._members, labels, strict=True):
                member[CONF_WEIGHT] = float(user_input[label])
            return await self._check_limit()
        fields = {
            vol.Required(label, default=member[CONF_WEIGHT]): WEIGHT_SELECTOR
            for member, label in zip(self._members, labels, strict=True)
        }
        return self.async_show_form(step_id="weights", data_schema=vol.Schema(fields))

    async def async_step_pausing(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Tell the user that the limit is too low for all members at once, and which members are served first."""
        if user_input is not None:
            return await self._check_offline_currents()
        return self.async_show_form(
            step_id="pausing",
            data_schema=vol.Schema({}),
            description_placeholders={
                "limit": f"{self._limit:g}",
                "places": str(int(self._limit // MINIMUM_CURRENT)),
                "order": ", ".join(self._labels[_slug(member_key(member))] for member in self._members),
            },
        )

    async def async_step_offline_currents(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask the user to accept that the offline currents of the members together exceed the limit."""
        errors: dict[str, str] = {}
        if user_input is not None:
            if user_input[CONF_ACCEPT]:
                return await self._finish()
            errors[CONF_ACCEPT] = "offline_excess"
        excess = offline_excess(self._spec(), self._limits())
        return self.async_show_form(
            step_id="offline_currents",
            data_schema=CONFIRMATION_SCHEMA,
            errors=errors,
            description_placeholders={"limit": f"{self._limit:g}", "excess": f"{excess:g}"},
        )

    async def _check_limit(self) -> ConfigFlowResult:
        too_small = self._limit < MINIMUM_CURRENT * len(self._members)
        return await self.async_step_pausing() if too_small else await self._check_offline_currents()

    async def _check_offline_currents(self) -> ConfigFlowResult:
        exceeds = offline_excess(self._spec(), self._limits()) > 0
        return await self.async_step_offline_currents() if exceeds else await self._finish()

    async def _finish(self) -> ConfigFlowResult:
        """Add or change the entry. Show the members again if they became invalid in the meantime."""
        if (error := self._members_error()) is not None:
            return self._members_form([_slug(member_key(member)) for member in self._members], *error)
        data = {CONF_KIND: KIND_LOAD_GROUP, CONF_LIMIT: self._limit, CONF_MEMBERS: self._members}
        if (entry := self._reconfigured_entry) is not None:
            return self.async_update_and_abort(entry, title=self._name, data=data)
        await self.async_set_unique_id(uuid4().hex)
        return self.async_create_entry(title=self._name, data=data)

    def _limit_form(
        self, values: Mapping[str, Any] | None, errors: dict[str, str], lowest: float = MINIMUM_CURRENT
    ) -> ConfigFlowResult:
        """Show the form for the name and the limit. `lowest` is the lowest possible limit in A."""
        return self.async_show_form(
            step_id="load_group",
            data_schema=self.add_suggested_values_to_schema(GROUP_SCHEMA, values),
            errors=errors,
            description_placeholders={"lowest": f"{lowest:g}"},
        )

    def _members_form(self, chosen: list[str], error: str | None = None, charger: str = "") -> ConfigFlowResult:
        options = [SelectOptionDict(value=slug, label=label) for slug, label in self._labels.items()]
        config = SelectSelectorConfig(options=options, multiple=True, mode=SelectSelectorMode.DROPDOWN)
        schema = vol.Schema({vol.Required(CONF_MEMBERS): SelectSelector(config)})
        return self.async_show_form(
            step_id="members",
            data_schema=self.add_suggested_values_to_schema(schema, {CONF_MEMBERS: chosen}),
            errors={} if error is None else {CONF_MEMBERS: error},
            description_placeholders={"charger": charger},
        )

    def _candidates(self, present: Iterable[Mapping[str, str]]) -> dict[str, str]:
        """Return the names of the selectable chargers by slug: all known chargers and all existing members."""
        names = {_slug(member_key(member)): member_name(self.hass, member) for member in present}
        for maker, serial in (known := known_chargers(self.hass)):
            name = {"maker": maker, "serial": serial, "name": known[maker, serial].name}
            names[_slug((maker, serial))] = member_name(self.hass, name)
        counts = Counter(names.values())
        return {
            slug: f"{name} ({slug.partition('_')[2]})" if counts[name] > 1 else name for slug, name in names.items()
        }

    def _member(self, slug: str) -> dict[str, Any]:
        """Return a member as it is stored in the data of the entry. An existing member keeps its weight."""
        maker, _, serial = slug.partition("_")
        present = [] if self._reconfigured_entry is None else self._reconfigured_entry.data[CONF_MEMBERS]
        weight = next((member[CONF_WEIGHT] for member in present if _slug(member_key(member)) == slug), 1.0)
        return {"maker": maker, "serial": serial, "name": self._labels[slug], CONF_WEIGHT: weight}

    def _members_error(self) -> tuple[str, str] | None:
        """Return the error of the chosen members and the name of the charger concerned, or None."""
        try:
            spec = self._spec()
        except GroupError as err:
            return err.reason, next((member["name"] for member in self._members if member["serial"] == err.detail), "")
        members_elsewhere = self._members_elsewhere()
        known = self._limits()
        for member in self._members:
            if member_key(member) in members_elsewhere:
                return "member_in_group", member["name"]
            if offline_excess(GroupSpec(spec.name, spec.limit, (Member(member_key(member)),)), known) == inf:
                return "member_unknown", member["name"]
        return None

    def _members_elsewhere(self) -> set[Key]:
        """Return the chargers that belong to other groups, including disabled groups."""
        others = (
            entry for entry in self.hass.config_entries.async_entries(DOMAIN) if entry is not self._reconfigured_entry
        )
        return {member_key(member) for entry in others for member in entry.data.get(CONF_MEMBERS, ())}

    def _limits(self) -> dict[Key, Limits]:
        chargers = get_shared_state(self.hass).chargers
        return {key: Limits.of(charger.snapshot.readings) for key, charger in chargers.items()}

    def _spec(self) -> GroupSpec:
        """Return the group with the values of the input. Raise GroupError if they are invalid."""
        members = (Member(member_key(member), member[CONF_WEIGHT]) for member in self._members)
        return GroupSpec(self._name, self._limit, tuple(members))


def _slug(key: Key) -> str:
    """Return the value that stands for a charger in a selector."""
    return "_".join(key)
