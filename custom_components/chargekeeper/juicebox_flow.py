"""The steps of the config flow for JuiceBoxes: where to listen, what was heard, and what the user knows of a box.

The same fields add a box with the entry, from a discovery, or as a subentry, and change it later.
"""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, override

from homeassistant.components import network
from homeassistant.config_entries import (
    SOURCE_INTEGRATION_DISCOVERY,
    SOURCE_RECONFIGURE,
    ConfigEntry,
    ConfigFlow,
    ConfigFlowResult,
    ConfigSubentry,
    ConfigSubentryData,
    ConfigSubentryFlow,
    SubentryFlowResult,
)
from homeassistant.const import CONF_HOST, CONF_NAME, CONF_PORT
from homeassistant.core import HomeAssistant, callback
from homeassistant.data_entry_flow import section
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
    TextSelectorConfig,
    TextSelectorType,
    TimeSelector,
)
import voluptuous as vol

from .boxes import resolver
from .const import (
    CONF_ACCOUNT_TOKEN,
    CONF_BIND_ADDRESS,
    CONF_IN_MAKER_LOAD_GROUP,
    CONF_JUICENET,
    CONF_KIND,
    CONF_LOAD_GROUP_LIMIT,
    CONF_MINIMAL_ENERGY,
    CONF_PORTS,
    CONF_RESOLVER,
    CONF_SERIAL,
    CONF_SERVER_URL,
    CONF_UPSTREAM,
    CONF_WIRE_RATING,
    DOMAIN,
    KIND_JUICEBOX,
    SUBENTRY_JUICEBOX,
)
from .core.limits import MINIMUM_CURRENT
from .core.paths import ChargerError, NoConnection
from .juicebox.box import Box
from .juicebox.listener import Discovered, PortBusy
from .juicebox.memory import HIGHEST_CURRENT
from .juicebox.resolver import is_address
from .juicebox.server import MOST_BOXES, JuiceBoxServer, leads_to
from .juicebox_entry import WINDOWS, box_subentries, discovery_id, unit_subentries
from .juicenet_account import async_objection, async_suggestions, tidied
from .registry import get_registry

TITLE = "JuiceBoxes"
CONF_BOX = "box"
CONF_AMPS = "amps"
CONF_ACCEPT = "accept"

DEFAULT_PORTS = (8042, 8047, 8051, 8055, 9004)
HIGHEST_PORT = 65535
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
"""The names under which boxes look for their server (fact sheet juicebox.md, 2.2)."""

UNKNOWN = "?"
"""Shown for what a box did not say."""

WAIT = 100.0
"""Seconds in which a box that is there has sent the three statuses that show it to be one."""

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
"""Why a stored limit cannot be written, and the field that the error belongs to."""


def amperes(highest: float = HIGHEST_CURRENT) -> NumberSelector:
    """A field for a current, A."""
    config = NumberSelectorConfig(
        min=MINIMUM_CURRENT, max=highest, step=1, unit_of_measurement="A", mode=NumberSelectorMode.BOX
    )
    return NumberSelector(config)


UPSTREAM_SCHEMA = vol.Schema(
    {
        vol.Optional(CONF_HOST): TextSelector(),
        vol.Required(CONF_PORT, default=DEFAULT_PORTS[0]): NumberSelector(
            NumberSelectorConfig(min=1, max=HIGHEST_PORT, step=1, mode=NumberSelectorMode.BOX)
        ),
        vol.Optional(CONF_RESOLVER): TextSelector(),
    }
)
JUICENET_SCHEMA = vol.Schema(
    {
        vol.Optional(CONF_SERVER_URL): TextSelector(TextSelectorConfig(type=TextSelectorType.URL)),
        vol.Optional(CONF_ACCOUNT_TOKEN): TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD)),
    }
)
BOX_FIELDS: Mapping[vol.Marker, object] = {
    vol.Required(CONF_WIRE_RATING): amperes(),
    vol.Optional(CONF_LOAD_GROUP_LIMIT): amperes(),
    vol.Required(CONF_IN_MAKER_LOAD_GROUP, default=True): BooleanSelector(),
    **{vol.Optional(end): TimeSelector() for ends in WINDOWS for end in ends},
    vol.Optional(CONF_MINIMAL_ENERGY): NumberSelector(
        NumberSelectorConfig(min=0, max=100, step=0.5, unit_of_measurement="kWh", mode=NumberSelectorMode.BOX)
    ),
}
BOX_SCHEMA = vol.Schema({vol.Required(CONF_NAME): TextSelector(), **BOX_FIELDS})
SETTINGS_SCHEMA = vol.Schema(
    {vol.Required(CONF_NAME): TextSelector(), vol.Required(CONF_HOST): TextSelector(), **BOX_FIELDS}
)


class JuiceBoxSteps(ConfigFlow):
    """The part of the config flow that deals with JuiceBoxes."""

    def __init__(self) -> None:
        super().__init__()
        self._settings: dict[str, Any] = {}
        self._trial: JuiceBoxServer | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._found: Discovered | None = None
        self._port = ""

    async def async_step_juicebox(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask where to listen and where the maker's server is; both are tried."""
        entry, errors = self._boxes, dict[str, str]()
        if entry is None:
            await self.async_set_unique_id(KIND_JUICEBOX)
            self._abort_if_unique_id_configured(reload_on_update=False, error="juicebox_configured")
        if user_input is not None and (settings := await self._tried(user_input, errors)) is not None:
            if entry is not None:
                return self.async_update_and_abort(entry, data={CONF_KIND: KIND_JUICEBOX, **settings})
            self._settings = settings
            return await self.async_step_wait()
        shown = user_input
        if shown is None and entry is not None:
            shown = {**entry.data, CONF_PORTS: [str(port) for port in entry.data[CONF_PORTS]]}
        schema = self.add_suggested_values_to_schema(await self._listening_schema(), shown)
        return self.async_show_form(
            step_id="juicebox", data_schema=schema, errors=errors, description_placeholders={"port": self._port}
        )

    async def async_step_wait(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Wait for a box."""
        if self._waiting is None:
            self._waiting = self.hass.async_create_background_task(self._listen(), "chargekeeper first box")
        if not self._waiting.done():
            return self.async_show_progress(
                step_id="wait",
                progress_action="wait",
                progress_task=self._waiting,
                description_placeholders=self._where,
            )
        self._waiting = None
        return self.async_show_progress_done(next_step_id="nothing_heard" if self._found is None else "box")

    async def async_step_nothing_heard(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Say what to look at."""
        assert self._trial is not None
        return self.async_show_menu(
            step_id="nothing_heard",
            menu_options=["wait", "without_box"],
            description_placeholders={
                **self._where,
                "names": ", ".join(SERVER_NAMES),
                "dropped": str(self._trial.listener.dropped.total()),
            },
        )

    async def async_step_without_box(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Add the entry all the same: boxes are offered when they are heard."""
        return self._create_boxes([])

    @override
    async def async_step_integration_discovery(self, discovery_info: dict[str, Any]) -> ConfigFlowResult:
        """A box that nobody added was heard."""
        found: Discovered = discovery_info["discovered"]
        self._found = found
        await self.async_set_unique_id(discovery_id(found.serial))
        self._abort_if_unique_id_configured(reload_on_update=False)
        self.context["title_placeholders"] = {"name": _default_name(found.serial)}
        return await self.async_step_box()

    async def async_step_box(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show what was heard, and ask what only the user knows of the box."""
        found, errors = self._found, dict[str, str]()
        assert found is not None
        if user_input is not None and _is_sound(user_input, errors):
            return self._add(_as_subentry(user_input, found.serial, found.host))
        shown = user_input
        if shown is None:
            entry = self._boxes_entry
            settings = self._settings if entry is None else entry.data
            shown = await _first_values(self.hass, found, settings.get(CONF_JUICENET, {}))
        return self.async_show_form(
            step_id="box",
            data_schema=self.add_suggested_values_to_schema(BOX_SCHEMA, shown),
            errors=errors,
            description_placeholders=_heard(found),
        )

    @callback
    @override
    def async_remove(self) -> None:
        """The flow is over: nobody waits any more."""
        self._end_trial()

    @property
    def _boxes(self) -> ConfigEntry | None:
        """The entry that is being changed."""
        return self._get_reconfigure_entry() if self.source == SOURCE_RECONFIGURE else None

    @property
    def _boxes_entry(self) -> ConfigEntry | None:
        """The entry to which a box that was discovered is added."""
        entries = self.hass.config_entries.async_entries(DOMAIN)
        return next((entry for entry in entries if entry.data.get(CONF_KIND) == KIND_JUICEBOX), None)

    @property
    def _where(self) -> dict[str, str]:
        ports = ", ".join(str(port) for port in self._settings[CONF_PORTS])
        return {"address": self._settings[CONF_BIND_ADDRESS], "ports": ports}

    async def _listening_schema(self) -> vol.Schema:
        adapters = await network.async_get_adapters(self.hass)
        addresses = [ip["address"] for adapter in adapters if adapter["enabled"] for ip in adapter["ipv4"]]
        address = vol.Required(CONF_BIND_ADDRESS, default=addresses[0]) if addresses else None
        return vol.Schema(
            {
                vol.Required(CONF_PORTS, default=[str(port) for port in DEFAULT_PORTS]): _choice(
                    [str(port) for port in DEFAULT_PORTS], multiple=True
                ),
                address or vol.Required(CONF_BIND_ADDRESS): _choice(addresses),
                vol.Required(CONF_UPSTREAM): section(UPSTREAM_SCHEMA, {"collapsed": False}),
                vol.Required(CONF_JUICENET, default={}): section(JUICENET_SCHEMA, {"collapsed": True}),
            }
        )

    async def _tried(self, user_input: Mapping[str, Any], errors: dict[str, str]) -> dict[str, Any] | None:
        """What was entered, tidied, if it works; else `errors` says why not. The ports are open then."""
        numbers = [int(port) if port.strip().isdecimal() else 0 for port in user_input[CONF_PORTS]]
        ports = [port for port in dict.fromkeys(numbers) if 0 < port <= HIGHEST_PORT]
        if not ports or 0 in numbers or len(ports) < len(set(numbers)):
            errors[CONF_PORTS] = "bad_port"
            return None
        entered = user_input[CONF_UPSTREAM]
        upstream = {CONF_HOST: entered.get(CONF_HOST, "").strip(), CONF_PORT: int(entered[CONF_PORT])}
        upstream[CONF_RESOLVER] = entered.get(CONF_RESOLVER, "").strip()
        address = user_input[CONF_BIND_ADDRESS].strip()
        try:
            account = tidied(user_input[CONF_JUICENET])
        except ValueError as err:
            errors["base"] = str(err)
            return None
        error = await self._objection(upstream, address, ports) or await async_objection(self.hass, account)
        if error is not None:
            errors["base"] = error
            return None
        try:
            self._server().listener.open(address, ports)
        except PortBusy as err:
            self._port = err.detail
            errors[CONF_PORTS] = "port_busy"
        except NoConnection:
            errors[CONF_BIND_ADDRESS] = "bad_address"
        if errors:
            return None
        return {CONF_PORTS: ports, CONF_BIND_ADDRESS: address, CONF_UPSTREAM: upstream, CONF_JUICENET: account}

    async def _objection(self, upstream: Mapping[str, Any], address: str, ports: list[int]) -> str | None:
        """Why the maker's server cannot be that one; None where it can, or where there is none."""
        if upstream[CONF_RESOLVER] and not is_address(upstream[CONF_RESOLVER]):
            return "bad_resolver"
        if not upstream[CONF_HOST]:
            return None
        try:
            host = await resolver(get_registry(self.hass).clock, upstream).resolve(upstream[CONF_HOST])
        except NoConnection:
            return "upstream_unknown"
        ours = [(address, port) for port in ports]
        return "upstream_loop" if leads_to((host, upstream[CONF_PORT]), ours) else None

    def _server(self) -> JuiceBoxServer:
        """What listens: the boxes' own server where there is one, else one to try with."""
        registry = get_registry(self.hass)
        if self.source == SOURCE_RECONFIGURE and registry.boxes is not None:
            return registry.boxes.server
        if self._trial is None:
            self._trial = JuiceBoxServer(registry.clock)
        return self._trial

    async def _listen(self) -> None:
        """Until a box was heard that looks like one, or for so long that there is none."""
        assert self._trial is not None
        heard, boxes = asyncio.Event(), list[Discovered]()

        def take(found: Discovered) -> None:
            boxes.append(found)
            heard.set()

        end = self._trial.listen_discovery(take)
        try:
            async with get_registry(self.hass).clock.timeout(WAIT):
                await heard.wait()
                self._found = boxes[0]
        except TimeoutError:
            self._found = None
        finally:
            end()

    def _end_trial(self) -> None:
        """Give the ports up, so that the entry can have them."""
        if self._trial is not None:
            self._trial.listener.close()
            self._trial = None

    def _add(self, box: ConfigSubentryData) -> ConfigFlowResult:
        """Add a box: with the entry, or to the one that is there."""
        if self.source != SOURCE_INTEGRATION_DISCOVERY:
            return self._create_boxes([box])
        if (entry := self._boxes_entry) is None:
            return self.async_abort(reason="no_juicebox_entry")
        if (reason := _refusal(entry, box["data"][CONF_SERIAL])) is not None:
            return self.async_abort(reason=reason)
        subentry = ConfigSubentry(
            data=MappingProxyType(dict(box["data"])),
            subentry_type=SUBENTRY_JUICEBOX,
            title=box["title"],
            unique_id=box["unique_id"],
        )
        _make_room(self.hass, entry, box["data"][CONF_SERIAL])
        self.hass.config_entries.async_add_subentry(entry, subentry)
        return self.async_abort(reason="added_to_entry")

    def _create_boxes(self, boxes: list[ConfigSubentryData]) -> ConfigFlowResult:
        self._end_trial()
        data = {CONF_KIND: KIND_JUICEBOX, **self._settings}
        return self.async_create_entry(title=TITLE, data=data, subentries=boxes)


class JuiceBoxSubentryFlow(ConfigSubentryFlow):
    """Adds a box that was heard, and changes what the user said of one."""

    def __init__(self) -> None:
        self._found: Discovered | None = None

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Choose one of the boxes that were heard."""
        boxes = get_registry(self.hass).boxes
        found = {} if boxes is None else {each.serial: each for each in boxes.server.listener.discovered}
        if not found:
            return self.async_abort(reason="no_box_heard", description_placeholders={"names": ", ".join(SERVER_NAMES)})
        if user_input is not None and (chosen := found.get(user_input[CONF_BOX])) is not None:
            self._found = chosen
            return await self.async_step_box()
        options = [SelectOptionDict(value=serial, label=f"{serial} ({each.host})") for serial, each in found.items()]
        selector = SelectSelector(SelectSelectorConfig(options=options, mode=SelectSelectorMode.DROPDOWN))
        schema = vol.Schema({vol.Required(CONF_BOX, default=options[0]["value"]): selector})
        return self.async_show_form(step_id="user", data_schema=schema)

    async def async_step_box(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Show what was heard, and ask what only the user knows of the box."""
        found, errors = self._found, dict[str, str]()
        assert found is not None
        if user_input is not None and _is_sound(user_input, errors):
            if (reason := _refusal(self._get_entry(), found.serial)) is not None:
                return self.async_abort(reason=reason)
            box = _as_subentry(user_input, found.serial, found.host)
            _make_room(self.hass, self._get_entry(), found.serial)
            return self.async_create_entry(title=box["title"], data=box["data"], unique_id=box["unique_id"])
        shown = user_input
        if shown is None:
            shown = await _first_values(self.hass, found, self._get_entry().data.get(CONF_JUICENET, {}))
        return self.async_show_form(
            step_id="box",
            data_schema=self.add_suggested_values_to_schema(BOX_SCHEMA, shown),
            errors=errors,
            description_placeholders=_heard(found),
        )

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Choose what to change."""
        return self.async_show_menu(
            step_id="reconfigure",
            menu_options=["settings", "offline_current"],
            description_placeholders={"charger": self._get_reconfigure_subentry().title},
        )

    async def async_step_settings(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Change what the user said of the box."""
        subentry, errors = self._get_reconfigure_subentry(), dict[str, str]()
        if user_input is not None and _is_sound(user_input, errors):
            box = _as_subentry(user_input, subentry.data[CONF_SERIAL], user_input[CONF_HOST].strip())
            return self.async_update_and_abort(self._get_entry(), subentry, title=box["title"], data=box["data"])
        shown = {CONF_NAME: subentry.title, **subentry.data} if user_input is None else user_input
        schema = self.add_suggested_values_to_schema(SETTINGS_SCHEMA, shown)
        return self.async_show_form(step_id="settings", data_schema=schema, errors=errors)

    async def async_step_offline_current(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Have the limit that is stored in the box confirmed, or another one written."""
        subentry, errors = self._get_reconfigure_subentry(), dict[str, str]()
        boxes = get_registry(self.hass).boxes
        box = None if boxes is None else boxes.server.boxes.get(subentry.data[CONF_SERIAL])
        if box is None:
            return self.async_abort(reason="not_set_up")
        if user_input is not None:
            if not user_input[CONF_ACCEPT]:
                errors[CONF_ACCEPT] = "not_accepted"
            elif _has_written(box, round(user_input[CONF_AMPS]), errors):
                return self.async_abort(reason="offline_current_set")
        stored = box.memory.offline
        suggested = {CONF_AMPS: box.offline_candidate if stored is None else stored}
        schema = vol.Schema(
            {
                vol.Required(CONF_AMPS): amperes(box.config.wire_rating or HIGHEST_CURRENT),
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


def _has_written(box: Box, amps: int, errors: dict[str, str]) -> bool:
    """Take the user's word for the stored limit; where the box has another, it is written with the next answer."""
    try:
        if box.memory.offline is None:
            box.confirm_offline(amps)
        else:
            box.change_offline(amps)
    except ChargerError as err:
        errors[OFFLINE_ERRORS[err.reason]] = err.reason
        return False
    return True


def _is_sound(user_input: Mapping[str, Any], errors: dict[str, str]) -> bool:
    """Whether the fields of a box fit together."""
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


def _as_subentry(user_input: Mapping[str, Any], serial: str, host: str) -> ConfigSubentryData:
    data = {CONF_SERIAL: serial, **user_input, CONF_HOST: host}
    title = data.pop(CONF_NAME).strip()
    return ConfigSubentryData(data=data, subentry_type=SUBENTRY_JUICEBOX, title=title, unique_id=serial)


def _refusal(entry: ConfigEntry, serial: str) -> str | None:
    """Why a box cannot be added to the entry."""
    boxes = box_subentries(entry)
    if any(box.data[CONF_SERIAL] == serial for box in boxes):
        return "box_known"
    return "too_many_boxes" if len(boxes) >= MOST_BOXES else None


@callback
def _make_room(hass: HomeAssistant, entry: ConfigEntry, serial: str) -> None:
    """A box that is heard need not be asked for at a JuiceNet server any more."""
    for unit in unit_subentries(entry):
        if unit.data[CONF_SERIAL] == serial:
            hass.config_entries.async_remove_subentry(entry, unit.subentry_id)


async def _first_values(hass: HomeAssistant, found: Discovered, account: Mapping[str, str]) -> dict[str, Any]:
    """What the form of a box shows at first."""
    return {CONF_NAME: _default_name(found.serial), **await async_suggestions(hass, account, found.serial)}


def _default_name(serial: str) -> str:
    return f"JuiceBox {serial[-4:]}"


def _heard(found: Discovered) -> dict[str, str]:
    """What a box said of itself, for the user to know it by."""
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


def _choice(options: list[str], *, multiple: bool = False) -> SelectSelector:
    config = SelectSelectorConfig(
        options=options, multiple=multiple, custom_value=True, mode=SelectSelectorMode.DROPDOWN
    )
    return SelectSelector(config)
