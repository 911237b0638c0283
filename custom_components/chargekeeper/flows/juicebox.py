"""The steps of the config flow for JuiceBoxes: where to listen, where the maker's server is, and the first box heard.

What is asked about a box, here and later, is in juicebox_subentry_flow.py.
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
    ConfigFlowResult,
    ConfigSubentry,
    ConfigSubentryData,
)
from homeassistant.const import CONF_HOST, CONF_PORT
from homeassistant.core import callback
from homeassistant.data_entry_flow import section
from homeassistant.helpers.selector import (
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
    TextSelectorConfig,
    TextSelectorType,
)
import voluptuous as vol

from ..const import (
    CONF_ACCOUNT_TOKEN,
    CONF_BIND_ADDRESS,
    CONF_JUICENET,
    CONF_KIND,
    CONF_PORTS,
    CONF_RESOLVER,
    CONF_SERIAL,
    CONF_SERVER_URL,
    CONF_UPSTREAM,
    DOMAIN,
    KIND_JUICEBOX,
    SUBENTRY_JUICEBOX,
)
from ..core.errors import NoConnection
from ..entries.juicebox import discovery_id
from ..ha.boxes import resolver
from ..ha.juicenet import async_objection, tidied
from ..ha.shared_state import get_shared_state
from ..juicebox.hub import BoxHub, leads_to
from ..juicebox.listener import Discovered, PortBusy
from ..juicebox.resolver import is_address
from .juicebox_box import (
    BOX_SCHEMA,
    SERVER_NAMES,
    as_subentry,
    default_name,
    first_values,
    heard_of,
    is_sound,
    make_room,
    refusal,
)
from .user_flow import UserFlow

TITLE = "JuiceBoxes"

DEFAULT_PORTS = (8042, 8047, 8051, 8055, 9004)
HIGHEST_PORT = 65535

WAIT = 100.0
"""Seconds in which a box that is there has sent the three statuses that show it to be one."""

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


class JuiceBoxSteps(UserFlow):
    """The part of the config flow that deals with JuiceBoxes."""

    def __init__(self) -> None:
        super().__init__()
        self._settings: dict[str, Any] = {}
        self._trial: BoxHub | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._found: Discovered | None = None
        self._port = ""

    async def async_step_juicebox(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask where to listen and where the maker's server is; both are tried."""
        entry = self._boxes
        errors = dict[str, str]()
        if entry is None:
            await self.async_claim(KIND_JUICEBOX)
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
        self.context["title_placeholders"] = {"name": default_name(found.serial)}
        return await self.async_step_box()

    async def async_step_box(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show what was heard, and ask what only the user knows of the box."""
        found = self._found
        errors = dict[str, str]()
        assert found is not None
        if user_input is not None and is_sound(user_input, errors):
            return self._add(as_subentry(user_input, found.serial, found.host))
        shown = user_input
        if shown is None:
            entry = self._boxes_entry
            settings = self._settings if entry is None else entry.data
            shown = await first_values(self.hass, found, settings.get(CONF_JUICENET, {}))
        return self.async_show_form(
            step_id="box",
            data_schema=self.add_suggested_values_to_schema(BOX_SCHEMA, shown),
            errors=errors,
            description_placeholders=heard_of(found),
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
            host = await resolver(get_shared_state(self.hass).clock, upstream).resolve(upstream[CONF_HOST])
        except NoConnection:
            return "upstream_unknown"
        ours = [(address, port) for port in ports]
        return "upstream_loop" if leads_to((host, upstream[CONF_PORT]), ours) else None

    def _server(self) -> BoxHub:
        """What listens: the boxes' own server where there is one, else one to try with."""
        shared_state = get_shared_state(self.hass)
        if self.source == SOURCE_RECONFIGURE and shared_state.boxes is not None:
            return shared_state.boxes.server
        if self._trial is None:
            self._trial = BoxHub(shared_state.clock)
        return self._trial

    async def _listen(self) -> None:
        """Until a box was heard that looks like one, or for so long that there is none."""
        assert self._trial is not None
        heard = asyncio.Event()
        boxes = list[Discovered]()

        def take(found: Discovered) -> None:
            boxes.append(found)
            heard.set()

        end = self._trial.listen_discovery(take)
        try:
            async with get_shared_state(self.hass).clock.timeout(WAIT):
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
        if (reason := refusal(entry, box["data"][CONF_SERIAL])) is not None:
            return self.async_abort(reason=reason)
        subentry = ConfigSubentry(
            data=MappingProxyType(dict(box["data"])),
            subentry_type=SUBENTRY_JUICEBOX,
            title=box["title"],
            unique_id=box["unique_id"],
        )
        make_room(self.hass, entry, box["data"][CONF_SERIAL])
        self.hass.config_entries.async_add_subentry(entry, subentry)
        return self.async_abort(reason="added_to_entry")

    def _create_boxes(self, boxes: list[ConfigSubentryData]) -> ConfigFlowResult:
        self._end_trial()
        data = {CONF_KIND: KIND_JUICEBOX, **self._settings}
        return self.async_create_entry(title=TITLE, data=data, subentries=boxes)


def _choice(options: list[str], *, multiple: bool = False) -> SelectSelector:
    config = SelectSelectorConfig(
        options=options, multiple=multiple, custom_value=True, mode=SelectSelectorMode.DROPDOWN
    )
    return SelectSelector(config)
