"""Costs of ChargeKeeper in a real Home Assistant: setup while the cloud hangs, and loop time per snapshot."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
import logging
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
import time

from homeassistant.config_entries import SOURCE_USER
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType

from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.core.model import (
    LIFETIME_ENERGY,
    LIVE_AGE,
    POWER,
    SESSION_DURATION,
    SESSION_ENERGY,
    Maker,
    Property,
    Reading,
    ReadingClass,
    Readings,
    Source,
)
from custom_components.chargekeeper.ha.shared_state import SHARED_STATE
from tests.integration.machine import Machine, multiply
from tests.simulators.clock import VirtualClock
from tests.simulators.http_server import Fault
from tests.simulators.wallbox_cloud import WallboxCloud
from tests.simulators.world import Car, SimulatedCharger, World

from .figures import Figure

EMAIL, PASSWORD = "owner@example.org", "correct horse"
SERIAL = "710000"
CHARGERS = 100
STARTS = 3
SNAPSHOTS = 1000
SETTLED_IN = 20 * 60.0


@asynccontextmanager
async def _house() -> AsyncIterator[tuple[Machine, VirtualClock, WallboxCloud]]:
    """Yield a machine with Home Assistant and all readings of one charging charger."""
    logging.getLogger("homeassistant.loader").setLevel(logging.ERROR)  # it warns of every custom integration
    clock = VirtualClock()
    world = World(clock)
    world.add(SimulatedCharger(serial=SERIAL, name="Bay", lifetime_kwh=100.0)).plug_in(Car(wants_kwh=500))
    cloud = WallboxCloud(world, clock)
    cloud.add_account(EMAIL, PASSWORD)
    await cloud.start()
    with TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        await _add_account(await machine.boot(clock), cloud)
        await clock.advance(SETTLED_IN)
        yield machine, clock, cloud
        await machine.shut_down()
    await cloud.stop()


async def _add_account(hass: HomeAssistant, cloud: WallboxCloud) -> None:
    flow = hass.config_entries.flow
    menu = await flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    form = await flow.async_configure(menu["flow_id"], {"next_step_id": "wallbox_account"})
    server = {"user_api_url": cloud.url, "api_url": cloud.url}
    result = await flow.async_configure(form["flow_id"], {"email": EMAIL, "password": PASSWORD, "server": server})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await hass.async_block_till_done()


async def set_up() -> AsyncIterator[Figure]:
    """Yield the setup time from the store while the cloud hangs; the slowest of several starts."""
    async with _house() as (machine, clock, cloud):
        of_one = len(machine.hass.states.async_all())
        await cloud.set_fault(Fault.HANG)
        await machine.shut_down()
        multiply(machine.disk, SERIAL, [str(710100 + number) for number in range(CHARGERS)])
        slowest = 0.0
        for start in range(STARTS):
            if start:
                await machine.shut_down()
            hass = await machine.boot(clock)
            assert len(hass.data[SHARED_STATE].chargers) == CHARGERS
            assert len(hass.states.async_all()) > CHARGERS * (of_one - 5)
            slowest = max(slowest, machine.set_up_took)
    yield Figure(f"set-up from the store, cloud hanging, {CHARGERS} chargers", slowest, 2, "s")


async def snapshots() -> AsyncIterator[Figure]:
    """Yield the time from a reading of a transport to the states in Home Assistant; each changes four entities."""
    async with _house() as (machine, clock, _cloud):
        shared_state = machine.hass.data[SHARED_STATE]
        [account] = shared_state.accounts.values()
        charger, transport = shared_state.chargers[Maker.WALLBOX, SERIAL], account.transport(SERIAL)
        shown, took = set[str](), list[float]()
        for number in range(SNAPSHOTS):
            await clock.advance(0.1)
            readings = Readings()
            _put(clock, readings, POWER, 7000.0 + number)
            _put(clock, readings, SESSION_ENERGY, 20.0 + number / 100)
            _put(clock, readings, LIFETIME_ENERGY, 200.0 + number / 100)
            _put(clock, readings, SESSION_DURATION, 3600.0 + number)
            began = time.perf_counter()
            charger.readings_received(transport, readings)
            took.append(time.perf_counter() - began)
            state = machine.hass.states.get("sensor.bay_power")
            assert state is not None
            shown.add(state.state)
        assert len(shown) == SNAPSHOTS, "each was really shown"
    yield Figure(f"loop time per snapshot of one charger: median of {SNAPSHOTS}", median(took) * 1000, 1, "ms")


def _put(clock: VirtualClock, readings: Readings, prop: Property[float], value: float) -> None:
    age = LIVE_AGE[Source.CLOUD] if prop.kind is ReadingClass.LIVE else float("inf")
    readings.put(prop, Reading(value, Source.CLOUD, clock.now(), clock.monotonic(), age))


def measurements() -> Iterator[AsyncIterator[Figure]]:
    """Yield all measurements of this module."""
    yield set_up()
    yield snapshots()
