"""Config flow steps for JuiceBoxes: where to listen, the manufacturer's server, and the first box.

The questions about a single box are in juicebox_box.py.
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
from ..entries.kind import kind_of
from ..ha.boxes import resolver
from ..ha.juicenet import async_objection, tidied
from ..ha.shared_state import get_shared_state
from ..juicebox.hub import BoxHub, leads_to
from ..juicebox.listener import Discovered, PortBusy
from ..juicebox.resolver import is_address
from .juicebox_box import (
    BOX_SCHEMA,
    SERVER_NAMES,
    UNKNOWN,
    abort_reason,
    as_subentry,
    default_name,
    is_valid,
    remove_unit,
    reported_values,
    suggested_values,
)
from .user_flow import UserFlow

TITLE = "JuiceBoxes"

DEFAULT_PORTS = (8042, 8047, 8051, 8055, 9004)
HIGHEST_PORT = 65535

DISCOVERY_TIMEOUT = 100.0
"""Seconds to wait for a box. Within this time a box sends the three statuses that identify it."""

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
    """Config flow steps for JuiceBoxes."""

    def __init__(self) -> None:
        super().__init__()
        self._settings: dict[str, Any] = {}
        self._trial_hub: BoxHub | None = None
        self._search: asyncio.Task[None] | None = None
        self._found: Discovered | None = None
        self._port = ""

    async def async_step_juicebox(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask where to listen and for the manufacturer's server. Both are tried before they are accepted."""
        entry = self._reconfigured_entry
        errors = dict[str, str]()
        if entry is None:
            await self.async_claim(KIND_JUICEBOX)
            self._abort_if_unique_id_configured(reload_on_update=False, error="juicebox_configured")
        if user_input is not None and (settings := await self._validated(user_input, errors)) is not None:
            if entry is not None:
                return self.async_update_and_abort(entry, data={CONF_KIND: KIND_JUICEBOX, **settings})
            self._settings = settings
            return await self.async_step_wait()
        suggested = user_input
        if suggested is None and entry is not None:
            suggested = {**entry.data, CONF_PORTS: [str(port) for port in entry.data[CONF_PORTS]]}
        addresses = await self._own_addresses()
        address = (suggested or {}).get(CONF_BIND_ADDRESS) or next(iter(addresses), UNKNOWN)
        return self.async_show_form(
            step_id="juicebox",
            data_schema=self.add_suggested_values_to_schema(_listening_schema(addresses), suggested),
            errors=errors,
            description_placeholders={
                "port": self._port,
                "address": address,
                "names": "\n".join(SERVER_NAMES),
            },
        )

    async def async_step_wait(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Wait for the first box."""
        if self._search is None:
            self._search = self.hass.async_create_background_task(self._find_first_box(), "chargekeeper first box")
        if not self._search.done():
            return self.async_show_progress(
                step_id="wait",
                progress_action="wait",
                progress_task=self._search,
                description_placeholders=self._listening_placeholders,
            )
        self._search = None
        return self.async_show_progress_done(next_step_id="nothing_heard" if self._found is None else "box")

    async def async_step_nothing_heard(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Tell the user what to check."""
        assert self._trial_hub is not None
        return self.async_show_menu(
            step_id="nothing_heard",
            menu_options=["wait", "without_box"],
            description_placeholders={
                **self._listening_placeholders,
                "names": "\n".join(SERVER_NAMES),
                "dropped": str(self._trial_hub.listener.dropped.total()),
            },
        )

    async def async_step_without_box(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Add the entry without a box. Boxes are offered later, when they send a status."""
        return self._create_boxes([])

    @override
    async def async_step_integration_discovery(self, discovery_info: dict[str, Any]) -> ConfigFlowResult:
        """Offer a box that was discovered and is not yet added."""
        found: Discovered = discovery_info["discovered"]
        self._found = found
        await self.async_set_unique_id(discovery_id(found.serial))
        self._abort_if_unique_id_configured(reload_on_update=False)
        self.context["title_placeholders"] = {"name": default_name(found.serial)}
        return await self.async_step_box()

    async def async_step_box(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show what the box reported, and ask for what only the user knows."""
        found = self._found
        errors = dict[str, str]()
        assert found is not None
        if user_input is not None and is_valid(user_input, errors):
            return self._add(as_subentry(user_input, found.serial, found.host))
        suggested = user_input
        if suggested is None:
            entry = self._boxes_entry
            settings = self._settings if entry is None else entry.data
            suggested = await suggested_values(self.hass, found, settings.get(CONF_JUICENET, {}))
        return self.async_show_form(
            step_id="box",
            data_schema=self.add_suggested_values_to_schema(BOX_SCHEMA, suggested),
            errors=errors,
            description_placeholders=reported_values(found),
        )

    @callback
    @override
    def async_remove(self) -> None:
        """Close the sockets that listen for a first box."""
        self._close_trial_hub()

    @property
    def _boxes_entry(self) -> ConfigEntry | None:
        """Return the entry to which a discovered box is added, or None."""
        entries = self.hass.config_entries.async_entries(DOMAIN)
        return next((entry for entry in entries if kind_of(entry) == KIND_JUICEBOX), None)

    @property
    def _listening_placeholders(self) -> dict[str, str]:
        ports = ", ".join(str(port) for port in self._settings[CONF_PORTS])
        return {"address": self._settings[CONF_BIND_ADDRESS], "ports": ports}

    async def _own_addresses(self) -> list[str]:
        """Return the IPv4 addresses of this computer, the most likely one first."""
        adapters = await network.async_get_adapters(self.hass)
        return [ip["address"] for adapter in adapters if adapter["enabled"] for ip in adapter["ipv4"]]

    async def _validated(self, user_input: Mapping[str, Any], errors: dict[str, str]) -> dict[str, Any] | None:
        """Return the normalized input and leave the ports open. If something fails, fill `errors` and return None."""
        numbers = [int(port) if port.strip().isdecimal() else 0 for port in user_input[CONF_PORTS]]
        ports = [port for port in dict.fromkeys(numbers) if 0 < port <= HIGHEST_PORT]
        if not ports or 0 in numbers or len(ports) < len(set(numbers)):
            errors[CONF_PORTS] = "bad_port"
            return None
        upstream_input = user_input[CONF_UPSTREAM]
        upstream = {CONF_HOST: upstream_input.get(CONF_HOST, "").strip(), CONF_PORT: int(upstream_input[CONF_PORT])}
        upstream[CONF_RESOLVER] = upstream_input.get(CONF_RESOLVER, "").strip()
        address = user_input[CONF_BIND_ADDRESS].strip()
        try:
            account = tidied(user_input[CONF_JUICENET])
        except ValueError as err:
            errors["base"] = str(err)
            return None
        error = await self._upstream_error(upstream, address, ports) or await async_objection(self.hass, account)
        if error is not None:
            errors["base"] = error
            return None
        try:
            self._hub().listener.open(address, ports)
        except PortBusy as err:
            self._port = err.detail
            errors[CONF_PORTS] = "port_busy"
        except NoConnection:
            errors[CONF_BIND_ADDRESS] = "bad_address"
        if errors:
            return None
        return {CONF_PORTS: ports, CONF_BIND_ADDRESS: address, CONF_UPSTREAM: upstream, CONF_JUICENET: account}

    async def _upstream_error(self, upstream: Mapping[str, Any], address: str, ports: list[int]) -> str | None:
        """Return the error of the manufacturer's server. None if it is usable, or if no server is set."""
        if upstream[CONF_RESOLVER] and not is_address(upstream[CONF_RESOLVER]):
            return "bad_resolver"
        if not upstream[CONF_HOST]:
            return None
        try:
            host = await resolver(get_shared_state(self.hass).clock, upstream).resolve(upstream[CONF_HOST])
        except NoConnection:
            return "upstream_unknown"
        own_endpoints = [(address, port) for port in ports]
        return "upstream_loop" if leads_to((host, upstream[CONF_PORT]), own_endpoints) else None

    def _hub(self) -> BoxHub:
        """Return the hub of the entry that is being changed, if it is set up, else a hub of this flow."""
        shared_state = get_shared_state(self.hass)
        if self.source == SOURCE_RECONFIGURE and shared_state.boxes is not None:
            return shared_state.boxes.server
        if self._trial_hub is None:
            self._trial_hub = BoxHub(shared_state.clock)
        return self._trial_hub

    async def _find_first_box(self) -> None:
        """Store the first box that is discovered within `DISCOVERY_TIMEOUT`, or None."""
        assert self._trial_hub is not None
        is_found = asyncio.Event()
        boxes = list[Discovered]()

        def on_discovered(found: Discovered) -> None:
            boxes.append(found)
            is_found.set()

        remove_listener = self._trial_hub.listen_discovery(on_discovered)
        try:
            async with get_shared_state(self.hass).clock.timeout(DISCOVERY_TIMEOUT):
                await is_found.wait()
                self._found = boxes[0]
        except TimeoutError:
            self._found = None
        finally:
            remove_listener()

    def _close_trial_hub(self) -> None:
        """Close the ports, so that the entry can open them."""
        if self._trial_hub is not None:
            self._trial_hub.listener.close()
            self._trial_hub = None

    def _add(self, box: ConfigSubentryData) -> ConfigFlowResult:
        """Create the entry with this box, or add a discovered box to the existing entry."""
        if self.source != SOURCE_INTEGRATION_DISCOVERY:
            return self._create_boxes([box])
        if (entry := self._boxes_entry) is None:
            return self.async_abort(reason="no_juicebox_entry")
        if (reason := abort_reason(entry, box["data"][CONF_SERIAL])) is not None:
            return self.async_abort(reason=reason)
        subentry = ConfigSubentry(
            data=MappingProxyType(dict(box["data"])),
            subentry_type=SUBENTRY_JUICEBOX,
            title=box["title"],
            unique_id=box["unique_id"],
        )
        remove_unit(self.hass, entry, box["data"][CONF_SERIAL])
        self.hass.config_entries.async_add_subentry(entry, subentry)
        return self.async_abort(reason="added_to_entry")

    def _create_boxes(self, boxes: list[ConfigSubentryData]) -> ConfigFlowResult:
        self._close_trial_hub()
        data = {CONF_KIND: KIND_JUICEBOX, **self._settings}
        return self.async_create_entry(title=TITLE, data=data, subentries=boxes)


def _listening_schema(addresses: list[str]) -> vol.Schema:
    address = vol.Required(CONF_BIND_ADDRESS, default=addresses[0]) if addresses else vol.Required(CONF_BIND_ADDRESS)
    return vol.Schema(
        {
            vol.Required(CONF_PORTS, default=[str(port) for port in DEFAULT_PORTS]): _dropdown(
                [str(port) for port in DEFAULT_PORTS], multiple=True
            ),
            address: _dropdown(addresses),
            vol.Required(CONF_UPSTREAM): section(UPSTREAM_SCHEMA, {"collapsed": False}),
            vol.Required(CONF_JUICENET, default={}): section(JUICENET_SCHEMA, {"collapsed": True}),
        }
    )


def _dropdown(options: list[str], *, multiple: bool = False) -> SelectSelector:
    config = SelectSelectorConfig(
        options=options, multiple=multiple, custom_value=True, mode=SelectSelectorMode.DROPDOWN
    )
    return SelectSelector(config)
