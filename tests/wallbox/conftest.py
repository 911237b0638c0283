"""A bench with one account and its chargers, real loopback sockets to the simulated cloud, and virtual time."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest

from custom_components.chargekeeper.core.charger import Charger, ChargerEvent, ChargerOptions
from custom_components.chargekeeper.core.model import Snapshot
from custom_components.chargekeeper.wallbox.account import WallboxAccount
from custom_components.chargekeeper.wallbox.transport import placeholder
from tests.simulators.clock import VirtualClock
from tests.simulators.wallbox_cloud import WallboxCloud
from tests.simulators.world import SimulatedCharger, World, demo_world

EMAIL = "owner@example.org"
PASSWORD = "correct horse"
FREE, WAITING, CHARGING = "700101", "700102", "700103"


@dataclass
class Bench:
    """Clock, world, cloud, account and chargers of one test."""

    clock: VirtualClock
    world: World
    cloud: WallboxCloud
    session: aiohttp.ClientSession
    account: WallboxAccount
    chargers: dict[str, Charger] = field(default_factory=dict)
    events: dict[str, list[ChargerEvent]] = field(default_factory=dict)
    intents_by_serial: dict[str, dict[str, object]] = field(default_factory=dict)
    budgets: dict[str, object] | None = None
    outages: list[str] = field(default_factory=list)

    def new_account(self, *, email: str = EMAIL, password: str = PASSWORD) -> WallboxAccount:
        async def save(budgets: dict[str, object]) -> None:
            self.budgets = budgets

        account = WallboxAccount(
            self.session,
            self.clock,
            email=email,
            password=password,
            user_api_url=self.cloud.url,
            api_url=self.cloud.url,
            save_budgets=save,
        )
        account.listen_outage(self.outages.append)
        return account

    def add_charger(self, serial: str, options: ChargerOptions | None = None, stored: object = None) -> Charger:
        async def save(intents: dict[str, object]) -> None:
            self.intents_by_serial[serial] = intents

        charger = Charger(placeholder(serial), self.clock, options or ChargerOptions(), save)
        charger.restore(stored, self.intents_by_serial.get(serial))
        charger.add_transport(self.account.transport(serial))
        self.events[serial] = []
        charger.listen_events(self.events[serial].append)
        charger.start()
        self.chargers[serial] = charger
        return charger

    def charger(self, serial: str) -> SimulatedCharger:
        return self.world.charger(serial)

    def snapshot(self, serial: str) -> Snapshot:
        return self.chargers[serial].snapshot

    def event_types(self, serial: str, kind: str) -> list[str]:
        """Return the types of the events of a charger of one kind."""
        return [event.type for event in self.events[serial] if event.kind == kind]

    async def settle_in(self) -> None:
        """Advance the clock until the account has read status, role and schedule of each charger."""
        self.account.start()
        await self.clock.advance(20 * 60)


@pytest.fixture
async def bench(socket_enabled: None) -> AsyncIterator[Bench]:
    clock = VirtualClock()
    world = demo_world(clock)
    cloud = WallboxCloud(world, clock)
    cloud.add_account(EMAIL, PASSWORD)
    await cloud.start()
    async with aiohttp.ClientSession() as session:
        bench = Bench(clock, world, cloud, session, account=None)  # type: ignore[arg-type]
        bench.account = bench.new_account()
        for serial in (FREE, WAITING, CHARGING):
            bench.add_charger(serial)
        yield bench
        for charger in bench.chargers.values():
            await charger.stop()
        await bench.account.stop()
        await cloud.stop()
