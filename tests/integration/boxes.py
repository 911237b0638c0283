"""JuiceBoxes in tests: simulated boxes and their maker's server on loopback, around a real Home Assistant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from homeassistant.config_entries import SOURCE_RECONFIGURE, SOURCE_USER, ConfigEntry, ConfigFlowResult, ConfigSubentry
from homeassistant.core import State
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import entity_registry as er, issue_registry as ir

from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.juicebox.box import Box
from tests.integration.household import Household
from tests.juicebox.rig import free_ports
from tests.simulators.juicebox import Circuit, JuiceBox
from tests.simulators.juicebox_server import BoxHub, Unit
from tests.simulators.juicebox_wire import Wire

ADDRESS = "127.0.0.1"
FIRST, SECOND = "0910000000000000000000000001", "0910000000000000000000000002"
DETAILS = {"name": "Garage", "wire_rating": 32, "in_maker_load_group": "no"}
NIGHT = {"weekday_start": "22:00:00", "weekday_end": "02:00:00"}
"""A window that is closed when a test begins: at four on a Monday morning, local time."""


@dataclass
class BoxHouse(Household):
    """Home Assistant, boxes, and their maker's server, which knows two boxes and which a test may start."""

    ports: tuple[int, ...] = field(default_factory=lambda: free_ports(2))

    def __post_init__(self) -> None:
        self.units = [Unit(serial=serial, wire_rating=32, stored=16) for serial in (FIRST, SECOND)]
        self.maker = BoxHub(self.clock, self.units)
        self.sims: dict[str, JuiceBox] = {}
        self.circuit = Circuit(self.clock)

    @property
    def entry(self) -> ConfigEntry:
        """The only JuiceBox entry."""
        entries = self.hass.config_entries.async_entries(DOMAIN)
        [entry] = (entry for entry in entries if entry.data.get("kind") == "juicebox")
        return entry

    def box(self, serial: str = FIRST) -> Box:
        """Return the protocol state of a box."""
        assert self.shared_state.boxes is not None
        return self.shared_state.boxes.server.boxes[serial]

    def power_up(
        self, serial: str = FIRST, *, plugged: bool = True, wire: Wire = Wire.V09U, stored: int = 16
    ) -> JuiceBox:
        """Start a simulated box that reports to the first port."""
        host = f"127.0.0.{len(self.sims) + 2}"
        sim = JuiceBox(
            clock=self.clock,
            serial=serial,
            server=(ADDRESS, self.ports[0]),
            host=host,
            wire=wire,
            stored=stored,
            circuit=self.circuit,
        )
        self.sims[serial] = sim
        if plugged:
            sim.plug_in()
        sim.start()
        return sim

    def listening(self, **changed: object) -> dict[str, object]:
        """Return what a user enters: ports, address and, where it runs, the maker's server."""
        upstream: dict[str, object] = {"port": 8042}
        if self.maker._transport is not None:
            upstream = {"host": self.maker.address[0], "port": self.maker.address[1]}
        ports = [str(port) for port in self.ports]
        return {"ports": ports, "bind_address": ADDRESS, "upstream": upstream, "juicenet": {}, **changed}

    async def begin(self) -> ConfigFlowResult:
        """Go through the menu to the first form."""
        menu = await self.hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
        return await self.submit(menu, {"next_step_id": "juicebox"})

    async def submit(self, form: Mapping[str, Any], data: Mapping[str, object] | None = None) -> ConfigFlowResult:
        """Answer a form."""
        result = await self.hass.config_entries.flow.async_configure(
            form["flow_id"], None if data is None else dict(data)
        )
        await self.hass.async_block_till_done()
        return result

    async def wait(self, progress: Mapping[str, Any], seconds: float = 101) -> Any:
        """Let time pass in the progress step of a flow and return its next step."""
        assert progress["type"] is FlowResultType.SHOW_PROGRESS, progress
        await self.pass_time(seconds)
        return await self.hass.config_entries.flow.async_configure(progress["flow_id"])

    async def add(self, serial: str = FIRST, **details: object) -> ConfigEntry:
        """Add the entry and the box through the flow; start the box first where needed."""
        if serial not in self.sims:
            self.power_up(serial)
        form = await self.wait(await self.submit(await self.begin(), self.listening()))
        assert form["step_id"] == "box", form
        result = await self.submit(form, {**DETAILS, **details})
        assert result["type"] is FlowResultType.CREATE_ENTRY, result
        return self.entry

    async def add_group(self, limit: float, *serials: str) -> ConfigEntry:
        """Add a load group of boxes through the flow, accepting everything."""
        menu = await self.hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
        form: Any = await self.submit(menu, {"next_step_id": "load_group"})
        answers: dict[str, Mapping[str, object]] = {
            "load_group": {"name": "Circuit", "limit": limit},
            "members": {"members": [f"juicebox_{serial}" for serial in serials]},
            "offline_currents": {"accept": True},
        }
        while form["type"] is FlowResultType.FORM:
            weights = {str(key): key.default() for key in form["data_schema"].schema if form["step_id"] == "weights"}
            form = await self.submit(form, answers.get(form["step_id"], weights))
        entry: ConfigEntry = form["result"]
        return entry

    def offers(self) -> list[Any]:
        """Return the flows that offer boxes."""
        flows = self.hass.config_entries.flow.async_progress_by_handler(DOMAIN)
        return [flow for flow in flows if flow["context"]["source"] == "integration_discovery"]

    def subentry(self, serial: str = FIRST) -> ConfigSubentry:
        """Return the subentry of a box."""
        return next(each for each in self.entry.subentries.values() if each.unique_id == serial)

    async def begin_subentry(self, serial: str | None = None) -> Any:
        """Begin to add a box, or to change one."""
        context: Any = {"source": SOURCE_USER}
        if serial is not None:
            context = {"source": SOURCE_RECONFIGURE, "subentry_id": self.subentry(serial).subentry_id}
        return await self.hass.config_entries.subentries.async_init((self.entry.entry_id, "juicebox"), context=context)

    async def submit_subentry(self, form: Mapping[str, Any], data: Mapping[str, object]) -> Any:
        """Answer a form of a subentry."""
        result = await self.hass.config_entries.subentries.async_configure(form["flow_id"], dict(data))
        await self.hass.async_block_till_done()
        return result

    def entity_id(self, platform: str, key: str, serial: str = FIRST) -> str | None:
        """Return the entity id of a box, None where there is no such entity."""
        return er.async_get(self.hass).async_get_entity_id(platform, DOMAIN, f"juicebox_{serial}_{key}")

    def state(self, platform: str, key: str, serial: str = FIRST) -> State:
        """Return the state of an entity of a box, which must exist."""
        state = self.hass.states.get(self.entity_id(platform, key, serial) or "")
        assert state is not None, f"no state of {platform} {key}"
        return state

    def value(self, key: str, serial: str = FIRST) -> str:
        """Return the state of a sensor of a box."""
        return self.state("sensor", key, serial).state

    async def call(self, domain: str, service: str, key: str, /, **data: object) -> None:
        """Call an action on an entity of the first box and let time pass until the action ends."""
        target = {"entity_id": self.entity_id(domain, key)}
        action = self.hass.services.async_call(domain, service, data, target=target, blocking=True)
        task = self.hass.loop.create_task(action)
        await self.clock.advance_until(task.done, within=120)
        await task
        await self.hass.async_block_till_done()

    async def quarter_hours(self, **data: object) -> Any:
        """Call the action for the energy per quarter hour and return its answer."""
        answer: Any = await self.hass.services.async_call(
            DOMAIN, "quarter_hours", data, blocking=True, return_response=True
        )
        return answer["chargers"]

    def issues(self) -> set[str]:
        """Return the translation keys of the active repairs."""
        found = ir.async_get(self.hass).issues.values()
        return {str(issue.translation_key) for issue in found if issue.domain == DOMAIN and issue.active}
