"""Real Home Assistant with ChargeKeeper, on virtual time; the log must stay clean of what a user should not see."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
import logging

from homeassistant.config_entries import SOURCE_USER, ConfigEntry, ConfigFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
import pytest

import custom_components.chargekeeper  # noqa: F401 - the loader finds it only where it is imported already
from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.registry import REGISTRY, Registry
from tests.simulators.clock import VirtualClock
from tests.simulators.wallbox_cloud import WallboxCloud
from tests.simulators.world import World, demo_world

EMAIL, PASSWORD = "owner@example.org", "correct horse"
UNWANTED = ("deprecated", "will stop working", "blocking call", "Detected ", "Traceback")


@pytest.fixture(autouse=True)
def _custom_integrations(hass: HomeAssistant, enable_custom_integrations: None) -> None:
    """Ours is one; what it depends on counts as set up (the browser tests run it with the real frontend)."""
    hass.config.components |= {"http", "frontend"}


@pytest.fixture(autouse=True)
def _clean_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No deprecation, blocking call or traceback of ours in the log."""
    yield
    for record in caplog.get_records("call"):
        if not record.name.startswith("custom_components.chargekeeper") and "chargekeeper" not in record.getMessage():
            continue
        assert record.exc_info is None, record.getMessage()
        assert not any(word in record.getMessage() for word in UNWANTED), record.getMessage()
        assert record.levelno < logging.ERROR, record.getMessage()


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """The clock of everything of ours."""
    return VirtualClock()


@pytest.fixture
def world(virtual_clock: VirtualClock) -> World:
    """The demo's three chargers."""
    return demo_world(virtual_clock)


@pytest.fixture
async def cloud(world: World, virtual_clock: VirtualClock, socket_enabled: None) -> AsyncIterator[WallboxCloud]:
    """The simulated cloud with one account, on a loopback socket."""
    cloud = WallboxCloud(world, virtual_clock)
    cloud.add_account(EMAIL, PASSWORD)
    await cloud.start()
    yield cloud
    await cloud.stop()


@pytest.fixture
def registry(hass: HomeAssistant, virtual_clock: VirtualClock) -> Registry:
    """ChargeKeeper's registry, with the virtual clock."""
    hass.data[REGISTRY] = Registry(virtual_clock)
    return hass.data[REGISTRY]


@dataclass(frozen=True)
class House:
    """Home Assistant with a simulated cloud beside it."""

    hass: HomeAssistant
    clock: VirtualClock
    world: World
    cloud: WallboxCloud
    registry: Registry

    async def pass_time(self, seconds: float) -> None:
        """Let time pass for ChargeKeeper and the world."""
        await self.clock.advance(seconds)
        await self.hass.async_block_till_done()

    def credentials(self, email: str = EMAIL, password: str = PASSWORD) -> dict[str, object]:
        """What a user enters, with the addresses of the simulated cloud."""
        server = {"user_api_url": self.cloud.url, "api_url": self.cloud.url}
        return {"email": email, "password": password, "server": server}

    async def begin_flow(self) -> ConfigFlowResult:
        """Go through the menu to the account form."""
        flow = self.hass.config_entries.flow
        result = await flow.async_init(DOMAIN, context={"source": SOURCE_USER})
        assert result["type"] is FlowResultType.MENU
        return await flow.async_configure(result["flow_id"], {"next_step_id": "wallbox_account"})

    async def add_account(self) -> ConfigEntry:
        """Add the account through the real flow."""
        form = await self.begin_flow()
        result = await self.hass.config_entries.flow.async_configure(form["flow_id"], self.credentials())
        assert result["type"] is FlowResultType.CREATE_ENTRY, result
        await self.hass.async_block_till_done()
        return result["result"]

    async def settle_in(self) -> None:
        """Until each charger's status, role and schedule were read."""
        await self.pass_time(20 * 60)


@pytest.fixture
async def house(
    hass: HomeAssistant, virtual_clock: VirtualClock, world: World, cloud: WallboxCloud, registry: Registry
) -> AsyncIterator[House]:
    """Home Assistant, its clock and the cloud; entries are unloaded at the end."""
    yield House(hass, virtual_clock, world, cloud, registry)
    for entry in hass.config_entries.async_entries(DOMAIN):
        await hass.config_entries.async_unload(entry.entry_id)
    await hass.async_block_till_done()


type Advance = Callable[[float], Awaitable[None]]
