"""Requests per hour, time until an outage is noticed, and time until the cloud is used again, on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from statistics import median
from typing import Any

import aiohttp

from custom_components.chargekeeper.core.breaker import BreakerState
from custom_components.chargekeeper.core.charger import Charger, ChargerOptions
from custom_components.chargekeeper.core.model import CHARGING_CURRENT, STATUS, Property, Status
from custom_components.chargekeeper.core.transport import SetCurrent
from custom_components.chargekeeper.wallbox.account import WallboxAccount
from custom_components.chargekeeper.wallbox.transport import placeholder
from tests.simulators.clock import VirtualClock
from tests.simulators.http_server import Fault
from tests.simulators.local_transport import LocalLink, LocalTransport
from tests.simulators.wallbox_cloud import WallboxCloud
from tests.simulators.world import Car, SimulatedCharger, Window, World

from .figures import Figure

EMAIL, PASSWORD = "owner@example.org", "correct horse"
HOUR = 3600.0
IDLE_HOURS = 6
OUTAGES = 40
GETS_PER_HOUR = {1: 40, 10: 60, 100: 60}
NOTICED_WITHIN = {
    **dict.fromkeys((Fault.REFUSE, Fault.ERROR_500, Fault.GARBAGE, Fault.HALF, Fault.HTML), 30),
    Fault.HANG: 45,
}


@asynccontextmanager
async def _account(world: World, clock: VirtualClock) -> AsyncIterator[tuple[WallboxCloud, WallboxAccount]]:
    cloud = WallboxCloud(world, clock)
    cloud.add_account(EMAIL, PASSWORD)
    await cloud.start()
    async with aiohttp.ClientSession() as session:
        account = WallboxAccount(
            session, clock, email=EMAIL, password=PASSWORD, user_api_url=cloud.url, api_url=cloud.url
        )
        account.start()
        yield cloud, account
        await account.stop()
    await cloud.stop()


def _world(clock: VirtualClock, chargers: int) -> World:
    world = World(clock)
    for number in range(chargers):
        world.add(SimulatedCharger(serial=str(710000 + number), name=f"Bay {number}"))
    return world


async def gets_per_hour() -> AsyncIterator[Figure]:
    """Yield the requests of the busiest hour with several idle chargers, token renewals included."""
    for chargers, bound in GETS_PER_HOUR.items():
        clock = VirtualClock()
        async with _account(_world(clock, chargers), clock) as (cloud, _):
            begun = clock.monotonic()
            await clock.advance(IDLE_HOURS * HOUR)
            hours = [0] * (IDLE_HOURS + 1)
            for request in cloud.requests:
                hours[int((request.at - begun) / HOUR)] += request.method == "GET"
        yield Figure(f"GETs in the busiest hour, {chargers} idle chargers", max(hours), bound, "requests")


async def noticed() -> AsyncIterator[Figure]:
    """Yield the time from the first poll that meets the fault until the cloud counts as lost."""
    for fault, bound in NOTICED_WITHIN.items():
        clock = VirtualClock()
        async with _account(_world(clock, 1), clock) as (cloud, account):
            await clock.advance(HOUR)
            sent: list[float] = []
            account.breaker.listen(lambda: sent.append(clock.monotonic()))  # noqa: B023 - called within this iteration
            seen = len(cloud.requests)
            await cloud.set_fault(fault)
            await clock.advance_until(lambda: account.breaker.state is BreakerState.OPEN, within=300, step=0.5)
            first = min([sent[0], *(request.at for request in cloud.requests[seen:])])
            took = clock.monotonic() - first
            yield Figure(f"cloud lost ({fault.value}), noticed after the next poll", took, bound, "s")


async def failback() -> AsyncIterator[Figure]:
    """Yield the time from the cloud's recovery until the cloud is used, and until an override is applied again."""
    waits: list[float] = []
    reapplied: list[float] = []
    for seed in range(OUTAGES):
        random = Random(seed)
        clock = VirtualClock()
        world = World(clock)
        device = world.add(
            SimulatedCharger(
                serial="710000", name="Bay", schedules=(Window(start="2200", stop="0500"),), window_open=False
            )
        )
        device.plug_in(Car(wants_kwh=60))
        async with _account(world, clock) as (cloud, account), _charger(account, clock) as charger:
            await clock.advance(HOUR + random.uniform(0, 120))
            await cloud.set_fault(random.choice([Fault.REFUSE, Fault.ERROR_500, Fault.HANG]))
            await clock.advance_until(lambda: not account.breaker.usable, within=300)
            await charger.set_override(on=True)
            await clock.advance(random.uniform(60, 2 * HOUR))
            await cloud.set_fault(Fault.NONE)
            healed = clock.monotonic()
            await clock.advance_until(lambda: account.breaker.usable, within=600, step=0.5)
            used = clock.monotonic()
            waits.append(used - healed)
            await clock.advance_until(lambda: charger.snapshot.override.applied, within=600, step=0.5)
            reapplied.append(clock.monotonic() - used)
    yield Figure(f"cloud back, used again: median of {OUTAGES} outages", median(waits), 75, "s")
    yield Figure(f"cloud back, used again: worst of {OUTAGES} outages", max(waits), 150, "s")
    yield Figure("override re-applied after that: worst", max(reapplied), 10, "s")


async def commands_in_an_outage() -> AsyncIterator[Figure]:
    """Yield the time until a command over a local transport is acknowledged, and until it shows, breaker open."""
    random = Random(6)
    acknowledged: list[float] = []
    verified: list[float] = []
    for _ in range(OUTAGES):
        clock = VirtualClock()
        world = World(clock)
        window = Window(start="2200", stop="0500")
        world.add(SimulatedCharger(serial="710000", name="Bay 0", car=Car(wants_kwh=60), schedules=(window,)))
        async with _account(world, clock) as (cloud, account), _charger(account, clock) as charger:
            local = LocalTransport(LocalLink(world, "710000", clock), clock)
            charger.add_transport(local)
            local.start()
            await clock.advance(HOUR)
            await cloud.set_fault(random.choice([Fault.REFUSE, Fault.ERROR_500, Fault.HANG]))
            await clock.advance_until(lambda: not account.breaker.usable, within=300)
            amps = random.randrange(6, 32)
            times = [
                await _timed(
                    clock, charger.command(SetCurrent(amps)), partial(_shows, charger, CHARGING_CURRENT, amps)
                ),
                await _timed(clock, charger.set_override(on=True), partial(_shows, charger, STATUS, Status.CHARGING)),
            ]
            acknowledged += [first for first, _ in times]
            verified += [second for _, second in times]
            local.stop()
    yield Figure(f"command in an outage, acknowledged: worst of {len(acknowledged)}", max(acknowledged), 3, "s")
    yield Figure(f"command in an outage, verified locally: worst of {len(verified)}", max(verified), 15, "s")


def _shows(charger: Charger, prop: Property[Any], value: object) -> bool:
    return bool(charger.snapshot.value(prop) == value)


async def _timed(
    clock: VirtualClock, work: Coroutine[object, object, object], state_key: Callable[[], bool]
) -> tuple[float, float]:
    """Return the seconds until a command is acknowledged, and until it shows."""
    begun, task = clock.monotonic(), asyncio.ensure_future(work)
    await clock.advance_until(task.done, within=60, step=0.1)
    await task
    acknowledged = clock.monotonic() - begun
    await clock.advance_until(state_key, within=120, step=0.1)
    return acknowledged, clock.monotonic() - begun


@asynccontextmanager
async def _charger(account: WallboxAccount, clock: VirtualClock) -> AsyncIterator[Charger]:
    async def keep_nothing(_intents: dict[str, object]) -> None:
        """Save nothing in this measurement."""

    charger = Charger(placeholder("710000"), clock, ChargerOptions(), keep_nothing)
    charger.add_transport(account.transport("710000"))
    charger.start()
    yield charger
    await charger.stop()


def measurements() -> Iterator[AsyncIterator[Figure]]:
    """Yield all measurements of this module."""
    yield gets_per_hour()
    yield noticed()
    yield failback()
    yield commands_in_an_outage()
