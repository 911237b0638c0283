"""Fixtures: real Home Assistant with ChargeKeeper on virtual time, whose log must stay clean."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
import logging
from pathlib import Path
from typing import Any, cast

from homeassistant.config_entries import SOURCE_USER, ConfigFlowResult
from homeassistant.core import HomeAssistant, State
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.loader import DATA_CUSTOM_COMPONENTS
import pytest

import custom_components.chargekeeper  # noqa: F401 - the loader finds it only where it is imported already
from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.coordinator import ChargeKeeperConfigEntry
from custom_components.chargekeeper.ha.shared_state import SHARED_STATE, SharedState
from tests.integration.boxes import BoxHouse
from tests.integration.household import Household
from tests.integration.machine import DEPENDENCIES, Machine
from tests.simulation.clocks import RunClock
from tests.simulators.clock import VirtualClock
from tests.simulators.juicenet_cloud import JuiceNetCloud
from tests.simulators.wallbox_cloud import WallboxCloud
from tests.simulators.world import World, demo_world

EMAIL, PASSWORD = "owner@example.org", "correct horse"
FREE, WAITING, CHARGING = "700101", "700102", "700103"
DROPPED = "are missing or not currently available"
"""Part of the message that Home Assistant logs, and shows nowhere else, when it drops a call."""
UNWANTED = ("deprecated", "will stop working", "blocking call", "Detected ", "Traceback")


@pytest.fixture
def hass(hass: HomeAssistant) -> HomeAssistant:
    """Return a Home Assistant that finds custom integrations and counts our dependencies as set up."""
    hass.data.pop(DATA_CUSTOM_COMPONENTS)
    hass.config.components |= DEPENDENCIES
    return hass


@pytest.fixture
def expected_errors() -> list[str]:
    """Return parts of the error messages that the test causes on purpose."""
    return []


@pytest.fixture(autouse=True)
def _clean_log(caplog: pytest.LogCaptureFixture, expected_errors: list[str]) -> Iterator[None]:
    """Fail the test if our log has a deprecation, blocking call, error or traceback, or a call was dropped."""
    yield
    for record in caplog.get_records("call"):
        text = record.getMessage()
        assert DROPPED not in text
        if not record.name.startswith("custom_components.chargekeeper") and "chargekeeper" not in text:
            continue
        if any(part in text for part in expected_errors):
            continue
        assert record.exc_info is None, text
        assert not any(word in text for word in UNWANTED), text
        assert record.levelno < logging.ERROR, text


@pytest.fixture
def expected_lingering_timers(request: pytest.FixtureRequest) -> bool:
    """Return True where the test stops Home Assistant, which then leaves timers of its own."""
    return "own_house" in request.fixturenames


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """Return the clock of ChargeKeeper and of all simulators."""
    return VirtualClock()


@pytest.fixture
def world(virtual_clock: VirtualClock) -> World:
    """Return the three chargers of the demo."""
    return demo_world(virtual_clock)


@pytest.fixture
async def cloud(world: World, virtual_clock: VirtualClock, socket_enabled: None) -> AsyncIterator[WallboxCloud]:
    """Yield the simulated cloud with one account, on a loopback socket."""
    cloud = WallboxCloud(world, virtual_clock)
    cloud.add_account(EMAIL, PASSWORD)
    await cloud.start()
    yield cloud
    await cloud.stop()


@dataclass
class House(Household):
    """Home Assistant with a simulated cloud beside it."""

    world: World
    cloud: WallboxCloud

    @property
    def entry(self) -> ChargeKeeperConfigEntry:
        """The only Wallbox account entry."""
        entries = self.hass.config_entries.async_entries(DOMAIN)
        [entry] = (entry for entry in entries if entry.data["kind"] == "wallbox_account")
        return cast("ChargeKeeperConfigEntry", entry)

    async def pass_until_usable(self, usable: bool, *, within: float = 300) -> float:
        """Let time pass until the cloud counts as usable, or as lost; return the seconds passed."""
        [account] = self.shared_state.accounts.values()
        took = await self.clock.advance_until(lambda: account.breaker.usable is usable, within=within)
        await self.hass.async_block_till_done()
        return took

    def credentials(self, email: str = EMAIL, password: str = PASSWORD) -> dict[str, object]:
        """Return what a user enters, with the addresses of the simulated cloud."""
        server = {"user_api_url": self.cloud.url, "api_url": self.cloud.url}
        return {"email": email, "password": password, "server": server}

    async def begin_flow(self) -> ConfigFlowResult:
        """Go through the menu to the account form."""
        flow = self.hass.config_entries.flow
        result = await flow.async_init(DOMAIN, context={"source": SOURCE_USER})
        assert result["type"] is FlowResultType.MENU
        return await flow.async_configure(result["flow_id"], {"next_step_id": "wallbox_account"})

    async def add_account(self, email: str = EMAIL, password: str = PASSWORD) -> ChargeKeeperConfigEntry:
        """Add an account through the real flow."""
        form = await self.begin_flow()
        credentials = self.credentials(email, password)
        result = await self.hass.config_entries.flow.async_configure(form["flow_id"], credentials)
        assert result["type"] is FlowResultType.CREATE_ENTRY, result
        await self.hass.async_block_till_done()
        return cast("ChargeKeeperConfigEntry", result["result"])

    async def settle_in(self) -> None:
        """Let time pass until the status, role and schedule of each charger were read."""
        await self.pass_time(20 * 60)

    async def options(self, **options: object) -> None:
        """Change options as the user does."""
        self.hass.config_entries.async_update_entry(self.entry, options={**self.entry.options, **options})
        await self.hass.async_block_till_done()

    def entity_id(self, platform: str, key: str, serial: str = FREE) -> str:
        """Return the entity id of a charger's entity, which must exist."""
        entity_id = er.async_get(self.hass).async_get_entity_id(platform, DOMAIN, f"wallbox_{serial}_{key}")
        assert entity_id is not None, f"no {platform} {key}"
        return entity_id

    def state(self, platform: str, key: str, serial: str = FREE) -> State:
        """Return the state of an entity of a charger, which must exist."""
        state = self.hass.states.get(self.entity_id(platform, key, serial))
        assert state is not None, f"no state of {platform} {key}"
        return state

    def device(self, serial: str = FREE) -> dr.DeviceEntry | None:
        """Return the device of a charger, whichever entry it belongs to."""
        devices = dr.async_get(self.hass)
        found = (
            devices.async_get_device_by_identifier((DOMAIN, f"wallbox_{serial}"), entry.entry_id)
            for entry in self.hass.config_entries.async_entries(DOMAIN)
        )
        return next((device for device in found if device is not None), None)

    async def call(self, domain: str, service: str, key: str, serial: str = FREE, /, **data: object) -> None:
        """Call an action on the entity with this key and the action's domain; let time pass until the action ends."""
        target = {"entity_id": self.entity_id(domain, key, serial)}
        action = self.hass.services.async_call(domain, service, data, target=target, blocking=True)
        await self.finish(action)
        await self.hass.async_block_till_done()

    async def finish[T](self, work: Coroutine[object, object, T]) -> T:
        """Let time pass until the work is done, at most 2 min, and return its result."""
        task = asyncio.get_running_loop().create_task(work)
        await self.clock.advance_until(task.done, within=120)
        return await task


@dataclass
class OwnHouse(House):
    """A house whose Home Assistant has its own disk and can be started again."""

    machine: Machine
    run_clock: RunClock
    runs: int = 1

    async def restart(self) -> None:
        """Stop Home Assistant in good order and start it again."""
        await self.machine.shut_down()
        await self.start()

    async def lose_power(self) -> None:
        """Cut the power: nothing is saved or sent from here on."""
        self.run_clock.kill()
        await self.machine.lose_power()

    async def start(self) -> None:
        """Start Home Assistant again, with another start of its monotonic clock.

        The clock starts ahead, never behind: smaller numbers are finer than those of the virtual clock. A wait between
        two moments of the virtual clock would never end.
        """
        self.runs += 1
        self.run_clock = RunClock(self.clock, ahead=10_000.0 * self.runs)
        self.hass = await self.machine.boot(self.run_clock)


@pytest.fixture
async def house(
    hass: HomeAssistant, virtual_clock: VirtualClock, world: World, cloud: WallboxCloud
) -> AsyncIterator[House]:
    """Yield Home Assistant, its clock and the cloud; unload all entries at the end."""
    hass.data[SHARED_STATE] = SharedState(virtual_clock)
    yield House(hass, virtual_clock, world, cloud)
    for entry in hass.config_entries.async_loaded_entries(DOMAIN):
        await hass.config_entries.async_unload(entry.entry_id)
    await hass.async_block_till_done()


@pytest.fixture
async def own_house(
    tmp_path: Path, virtual_clock: VirtualClock, world: World, cloud: WallboxCloud
) -> AsyncIterator[OwnHouse]:
    """Yield the same house with Home Assistant on its own disk."""
    machine, run_clock = Machine(tmp_path), RunClock(virtual_clock, ahead=0.0)
    hass = await machine.boot(run_clock)
    house = OwnHouse(hass, virtual_clock, world, cloud, machine, run_clock)
    yield house
    if machine.is_on:
        await machine.shut_down()


@pytest.fixture
async def box_house(
    hass: HomeAssistant, virtual_clock: VirtualClock, socket_enabled: None, hass_storage: dict[str, Any]
) -> AsyncIterator[BoxHouse]:
    """Yield Home Assistant with simulated boxes; stop all of them at the end."""
    hass.data[SHARED_STATE] = SharedState(virtual_clock)
    house = BoxHouse(hass, virtual_clock)
    yield house
    for entry in hass.config_entries.async_loaded_entries(DOMAIN):
        await hass.config_entries.async_unload(entry.entry_id)
    await house.shared_state.stop()
    for sim in house.sims.values():
        sim.stop()
    await house.maker.stop()
    await hass.async_block_till_done()


@pytest.fixture
async def juicenet(box_house: BoxHouse) -> AsyncIterator[JuiceNetCloud]:
    """Yield a JuiceNet server that knows the boxes."""
    cloud = JuiceNetCloud(box_house.maker)
    cloud.add_account("a-token")
    await cloud.start()
    yield cloud
    await cloud.stop()
