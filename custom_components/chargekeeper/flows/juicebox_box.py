"""The form of a JuiceBox, shared by all flows, and the subentry flow that adds and changes a box."""

from collections.abc import Mapping
from typing import Any

from homeassistant.config_entries import (
    ConfigEntry,
    ConfigSubentryData,
    ConfigSubentryFlow,
    SubentryFlowResult,
)
from homeassistant.const import CONF_HOST, CONF_NAME
from homeassistant.core import HomeAssistant, callback
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
    TimeSelector,
)
import voluptuous as vol

from ..const import (
    CONF_IN_MAKER_LOAD_GROUP,
    CONF_JUICENET,
    CONF_LOAD_GROUP_LIMIT,
    CONF_MINIMAL_ENERGY,
    CONF_SERIAL,
    CONF_WIRE_RATING,
    SUBENTRY_JUICEBOX,
    SharedCircuit,
)
from ..core.errors import ChargerError
from ..core.limits import HIGHEST_CURRENT, MINIMUM_CURRENT
from ..entries.juicebox import WINDOWS, box_subentries, unit_subentries
from ..ha.juicenet import async_suggestions
from ..ha.shared_state import get_shared_state
from ..juicebox.box import Box
from ..juicebox.hub import MOST_BOXES
from ..juicebox.listener import Discovered
from ..juicebox.resolver import is_address

CONF_BOX = "box"
CONF_AMPS = "amps"
CONF_ACCEPT = "accept"

SERVER_NAMES = (
    "jbv1.emotorwerks.com",
    "device-backend-udp-evos.juice.net",
    "juicenet-udp-prod3-usa.enelx.com",
    "juicenet-udp-prod4-usa.enelx.com",
    "juicenet-udp-prod5-usa.enelx.com",
    "juicenet-udp-prod6-usa.enelx.com",
    "juicenet-udp-prod-usa.enelx.com",
    "juicenet-udp-prod4-exw.enelx.com",
    "ohm.voltie.us",
    "dummy.voltie.us",
)
"""The host names of the servers that boxes contact (docs/protocols/juicebox.md, section 2.2)."""

UNKNOWN = "?"
"""Shown for a value that a box did not report."""

OFFLINE_ERRORS: Mapping[str, str] = {
    "current_too_low": CONF_AMPS,
    "above_ceiling": CONF_AMPS,
    "once_a_day": "base",
    "learning": "base",
    "known": "base",
    "server_in_charge": "base",
    "charger_offline": "base",
    "ignored": "base",
    "read_only": "base",
}
"""The form field of each error that prevents a change of the offline current."""


def current_selector(highest: float = HIGHEST_CURRENT) -> NumberSelector:
    """Return a selector for a current of at most `highest` A."""
    config = NumberSelectorConfig(
        min=MINIMUM_CURRENT, max=highest, step=1, unit_of_measurement="A", mode=NumberSelectorMode.BOX
    )
    return NumberSelector(config)


BOX_FIELDS: Mapping[vol.Marker, object] = {
    vol.Optional(CONF_WIRE_RATING): current_selector(),
    vol.Optional(CONF_LOAD_GROUP_LIMIT): current_selector(),
    vol.Optional(CONF_IN_MAKER_LOAD_GROUP): SelectSelector(
        SelectSelectorConfig(
            options=[answer.value for answer in SharedCircuit],
            translation_key="shared_circuit",
            mode=SelectSelectorMode.LIST,
        )
    ),
    **{vol.Optional(end): TimeSelector() for ends in WINDOWS for end in ends},
    vol.Optional(CONF_MINIMAL_ENERGY): NumberSelector(
        NumberSelectorConfig(min=0, max=100, step=0.5, unit_of_measurement="kWh", mode=NumberSelectorMode.BOX)
    ),
}
"""The schema marks the fields of `REQUIRED_ANSWERS` as optional, although they are required.

The frontend fills a required field without a default with its lowest value or its first option.
"""
REQUIRED_ANSWERS: Mapping[str, str] = {
    CONF_WIRE_RATING: "wire_rating_missing",
    CONF_IN_MAKER_LOAD_GROUP: "answer_missing",
}
"""The error for each field that only the user can fill in, if that field is empty."""
BOX_SCHEMA = vol.Schema({vol.Required(CONF_NAME): TextSelector(), **BOX_FIELDS})
SETTINGS_SCHEMA = vol.Schema(
    {vol.Required(CONF_NAME): TextSelector(), vol.Required(CONF_HOST): TextSelector(), **BOX_FIELDS}
)


class JuiceBoxSubentryFlow(ConfigSubentryFlow):
    """Adds a discovered box, and changes the settings of a box."""

    def __init__(self) -> None:
        self._found: Discovered | None = None

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Choose one of the discovered boxes."""
        boxes = get_shared_state(self.hass).boxes
        found = {} if boxes is None else {each.serial: each for each in boxes.server.listener.discovered}
        if not found:
            return self.async_abort(reason="no_box_heard", description_placeholders={"names": "\n".join(SERVER_NAMES)})
        if user_input is not None and (chosen := found.get(user_input[CONF_BOX])) is not None:
            self._found = chosen
            return await self.async_step_box()
        options = [SelectOptionDict(value=serial, label=f"{serial} ({each.host})") for serial, each in found.items()]
        selector = SelectSelector(SelectSelectorConfig(options=options, mode=SelectSelectorMode.DROPDOWN))
        schema = vol.Schema({vol.Required(CONF_BOX, default=options[0]["value"]): selector})
        return self.async_show_form(step_id="user", data_schema=schema)

    async def async_step_box(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Show what the box reported, and ask for what only the user knows."""
        found = self._found
        errors = dict[str, str]()
        assert found is not None
        if user_input is not None and is_valid(user_input, errors):
            if (reason := abort_reason(self._get_entry(), found.serial)) is not None:
                return self.async_abort(reason=reason)
            box = as_subentry(user_input, found.serial, found.host)
            remove_unit(self.hass, self._get_entry(), found.serial)
            return self.async_create_entry(title=box["title"], data=box["data"], unique_id=box["unique_id"])
        suggested = user_input
        if suggested is None:
            suggested = await suggested_values(self.hass, found, self._get_entry().data.get(CONF_JUICENET, {}))
        return self.async_show_form(
            step_id="box",
            data_schema=self.add_suggested_values_to_schema(BOX_SCHEMA, suggested),
            errors=errors,
            description_placeholders=reported_values(found),
        )

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Choose what to change."""
        return self.async_show_menu(
            step_id="reconfigure",
            menu_options=["settings", "offline_current"],
            description_placeholders={"charger": self._get_reconfigure_subentry().title},
        )

    async def async_step_settings(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Change the settings of the box."""
        subentry = self._get_reconfigure_subentry()
        errors = dict[str, str]()
        if user_input is not None and is_valid(user_input, errors):
            serial = subentry.data[CONF_SERIAL]
            host = user_input[CONF_HOST].strip()
            box = as_subentry(user_input, serial, host)
            boxes = get_shared_state(self.hass).boxes
            if boxes is not None:
                boxes.server.trust(serial, host)  # an unchanged address counts too: the user has confirmed it
            return self.async_update_and_abort(self._get_entry(), subentry, title=box["title"], data=box["data"])
        suggested = user_input
        if suggested is None:
            answer = SharedCircuit.of(subentry.data)
            suggested = {CONF_NAME: subentry.title, **subentry.data, CONF_IN_MAKER_LOAD_GROUP: answer}
        schema = self.add_suggested_values_to_schema(SETTINGS_SCHEMA, suggested)
        return self.async_show_form(step_id="settings", data_schema=schema, errors=errors)

    async def async_step_offline_current(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Let the user confirm the offline current of the box, or change it."""
        subentry = self._get_reconfigure_subentry()
        errors = dict[str, str]()
        boxes = get_shared_state(self.hass).boxes
        box = None if boxes is None else boxes.server.boxes.get(subentry.data[CONF_SERIAL])
        if box is None:
            return self.async_abort(reason="not_set_up")
        if user_input is not None:
            require_answers(user_input, {CONF_AMPS: "amps_missing"}, errors)
            if not user_input[CONF_ACCEPT]:
                errors[CONF_ACCEPT] = "not_accepted"
            if not errors and _is_offline_current_set(box, round(user_input[CONF_AMPS]), errors):
                return self.async_abort(reason="offline_current_set")
        stored = box.state.offline
        suggested = {CONF_AMPS: box.offline_candidate if stored is None else stored}
        schema = vol.Schema(
            {
                vol.Optional(CONF_AMPS): current_selector(box.config.wire_rating or HIGHEST_CURRENT),
                vol.Required(CONF_ACCEPT, default=False): BooleanSelector(),
            }
        )
        return self.async_show_form(
            step_id="offline_current",
            data_schema=self.add_suggested_values_to_schema(schema, user_input or suggested),
            errors=errors,
            description_placeholders={
                "charger": subentry.title,
                "stored": UNKNOWN if stored is None else f"{stored} A",
                "limit": f"{box.config.wire_rating:g}",
            },
        )


def _is_offline_current_set(box: Box, amps: int, errors: dict[str, str]) -> bool:
    """Return True if the offline current is confirmed, or its change accepted. Otherwise add an error to `errors`.

    A change is written to the box with the next answer.
    """
    try:
        if box.state.offline is None:
            box.confirm_offline(amps)
        else:
            box.change_offline(amps)
    except ChargerError as err:
        errors[OFFLINE_ERRORS[err.reason]] = err.reason
        return False
    return True


def is_valid(user_input: Mapping[str, Any], errors: dict[str, str]) -> bool:
    """Return True if the fields of a box are complete and consistent. Otherwise add the errors to `errors`."""
    require_answers(user_input, REQUIRED_ANSWERS, errors)
    if not user_input[CONF_NAME].strip():
        errors[CONF_NAME] = "name_missing"
    if not is_address(user_input.get(CONF_HOST, "127.0.0.1").strip()):
        errors[CONF_HOST] = "bad_host"
    for start, end in WINDOWS:
        if (start in user_input) is not (end in user_input):
            errors[end if start in user_input else start] = "window_incomplete"
        elif start in user_input and user_input[start] == user_input[end]:
            errors[end] = "window_empty"
    return not errors


def require_answers(user_input: Mapping[str, Any], required: Mapping[str, str], errors: dict[str, str]) -> None:
    """Add the error of each required field that is empty to `errors`."""
    errors |= {field: error for field, error in required.items() if field not in user_input}


def as_subentry(user_input: Mapping[str, Any], serial: str, host: str) -> ConfigSubentryData:
    """Return the subentry of a box with this input."""
    data = {CONF_SERIAL: serial, **user_input, CONF_HOST: host}
    title = data.pop(CONF_NAME).strip()
    return ConfigSubentryData(data=data, subentry_type=SUBENTRY_JUICEBOX, title=title, unique_id=serial)


def abort_reason(entry: ConfigEntry, serial: str) -> str | None:
    """Return the reason why a box cannot be added to the entry, or None."""
    boxes = box_subentries(entry)
    if any(box.data[CONF_SERIAL] == serial for box in boxes):
        return "box_known"
    return "too_many_boxes" if len(boxes) >= MOST_BOXES else None


@callback
def remove_unit(hass: HomeAssistant, entry: ConfigEntry, serial: str) -> None:
    """Remove the JuiceNet unit of a box. A box that sends to ChargeKeeper needs no JuiceNet server."""
    for unit in unit_subentries(entry):
        if unit.data[CONF_SERIAL] == serial:
            hass.config_entries.async_remove_subentry(entry, unit.subentry_id)


async def suggested_values(hass: HomeAssistant, found: Discovered, account: Mapping[str, str]) -> dict[str, Any]:
    """Return the suggested values of the form of a box."""
    return {CONF_NAME: default_name(found.serial), **await async_suggestions(hass, account, found.serial)}


def default_name(serial: str) -> str:
    """Return the name that is suggested for a box."""
    return f"JuiceBox {serial[-4:]}"


def reported_values(found: Discovered) -> dict[str, str]:
    """Return the placeholders with what a box reported, so that the user can identify the box."""
    status = found.status
    energy = status.lifetime_energy
    return {
        "serial": found.serial,
        "host": found.host,
        "version": status.version or UNKNOWN,
        "voltage": UNKNOWN if status.voltage is None else f"{status.voltage:g}",
        "energy": UNKNOWN if energy is None else f"{energy / 1000:.0f}",
        "rating": UNKNOWN if status.unit_rating is None else str(status.unit_rating),
    }
