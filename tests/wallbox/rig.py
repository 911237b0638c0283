"""An account alone, over real loopback sockets to the simulated cloud and on virtual time.

Its chargers have listeners that note what they show; the simulator's log of requests is measured against the purses.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
import json
from typing import override

import aiohttp

from custom_components.chargekeeper.core.breaker import BreakerState
from custom_components.chargekeeper.core.model import Property, ReadingClass, Readings
from custom_components.chargekeeper.core.transport import Transport, TransportListener
from custom_components.chargekeeper.wallbox.account import AccountSnapshot, WallboxAccount
from custom_components.chargekeeper.wallbox.transport import WallboxCloudTransport
from tests.simulators.clock import VirtualClock
from tests.simulators.wallbox_cloud import Account, Request, WallboxCloud
from tests.simulators.world import SimulatedCharger, World, demo_world

EMAIL = "owner@example.org"
PASSWORD = "correct horse"
FREE, WAITING, CHARGING = "700101", "700102", "700103"
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
GROUPS = "/v3/chargers/groups"
STATUS = "/chargers/status/"
SIGN_IN, REFRESH = "/users/signin", "/users/refresh-token"
SLACK = 0.01  # seconds: what a store, or the wall clock, rounds away


@dataclass
class Listener(TransportListener):
    """What a keeper would hear of one path."""

    transport: WallboxCloudTransport
    clock: VirtualClock
    latest: Readings = field(default_factory=Readings)
    reads: int = 0
    changes: int = 0

    @override
    def readings_received(self, transport: Transport, readings: Readings) -> None:
        self.reads += 1
        for prop, reading in readings.items():
            self.latest.put(prop, reading)
        for key in readings.retracted:
            self.latest.discard(key)

    @override
    def transport_changed(self, transport: Transport) -> None:
        self.changes += 1

    def value[T](self, prop: Property[T]) -> T | None:
        """What may be shown now."""
        reading = self.latest.get(prop)
        if reading is None or (prop.kind is ReadingClass.LIVE and reading.expires_at <= self.clock.monotonic()):
            return None
        return reading.value


@dataclass
class Rig:
    """Everything of one test."""

    clock: VirtualClock
    world: World
    cloud: WallboxCloud
    session: aiohttp.ClientSession
    owner: Account
    saved: dict[str, object] | None = None
    saves: int = 0
    tasks: list[asyncio.Task[object]] = field(default_factory=list)
    outages: list[str] = field(default_factory=list)
    outages_at: list[float] = field(default_factory=list)
    told: list[AccountSnapshot] = field(default_factory=list)
    listeners: dict[str, Listener] = field(default_factory=dict)
    account: WallboxAccount = field(init=False)

    def __post_init__(self) -> None:
        self.account = self.new_account()

    def new_account(self, *, password: str = PASSWORD, stored: object = None) -> WallboxAccount:
        """An account object; with what an earlier one had `stored` on the disk, as JSON."""

        async def save(budgets: dict[str, object]) -> None:
            self.saved = budgets
            self.saves += 1

        account = WallboxAccount(
            self.session,
            self.clock,
            email=EMAIL,
            password=password,
            user_api_url=self.cloud.url,
            api_url=self.cloud.url,
            save_budgets=save,
        )
        account.restore_budgets(json.loads(json.dumps(stored)))
        account.listen_outage(self._note_outage)
        account.listen(self.told.append)
        return account

    def cloud_seen(self) -> bool | None:
        """What the account says of the cloud now."""
        return self.account.snapshot.cloud

    def needs_login(self) -> bool:
        """Whether the account asks for another password now."""
        return self.account.snapshot.needs_login

    def _note_outage(self, event: str) -> None:
        self.outages.append(event)
        self.outages_at.append(self.clock.monotonic())

    async def restart(self, *, killed: bool = False) -> None:
        """Home Assistant ends, cleanly or by a power cut, and starts again with what was saved last."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        stored = self.saved
        await self.account.stop()
        self.account = self.new_account(stored=stored if killed else self.saved)
        self.account.start()

    def begin(self, work: Coroutine[object, object, object]) -> asyncio.Task[object]:
        """Let something go on while the test lets time pass."""
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    async def finish(self, *work: asyncio.Task[object], within: float = 130, step: float = 1) -> list[object]:
        """Let time pass until these end; what they gave, or raised."""
        await self.clock.advance_until(lambda: all(task.done() for task in work), within=within, step=step)
        return await asyncio.gather(*work, return_exceptions=True)

    async def settle_in(self) -> None:
        """Until everything of the three chargers was read."""
        self.account.start()
        await self.clock.advance(25 * MINUTE)

    def transport(self, serial: str) -> WallboxCloudTransport:
        return self.account.transport(serial)

    def listener(self, serial: str) -> Listener:
        if serial not in self.listeners:
            listener = self.listeners[serial] = Listener(self.transport(serial), self.clock)
            self.transport(serial).listen(listener)
        return self.listeners[serial]

    def charger(self, serial: str) -> SimulatedCharger:
        return self.world.charger(serial)

    def gets(self, prefix: str = "/", since: float = 0.0) -> list[Request]:
        """The GETs that arrived, signing in included."""
        return [r for r in self.cloud.requests if r.method == "GET" and r.path.startswith(prefix) and r.at >= since]

    def data_gets(self, since: float = 0.0) -> list[Request]:
        return [request for request in self.gets(since=since) if not request.path.startswith("/users/")]

    def writes(self, since: float = 0.0) -> list[Request]:
        return [request for request in self.cloud.requests if request.method != "GET" and request.at >= since]

    async def until(self, state: BreakerState, *, within: float = 600, step: float = 0.5) -> float:
        return await self.clock.advance_until(lambda: self.account.breaker.state is state, within=within, step=step)

    async def until_get(self, prefix: str = "/", *, within: float = 200) -> None:
        """Until the moment at which the next such GET arrives."""
        seen = len(self.gets(prefix))
        await self.clock.advance_until(lambda: len(self.gets(prefix)) > seen, within=within, step=1)


@asynccontextmanager
async def rigged(make_world: Callable[[VirtualClock], World] = demo_world) -> AsyncIterator[Rig]:
    """A rig; its account does not run yet."""
    asyncio.get_running_loop().set_debug(False)  # which Home Assistant's fixtures turn on: hours would take long
    clock = VirtualClock()
    world = make_world(clock)
    cloud = WallboxCloud(world, clock)
    owner = cloud.add_account(EMAIL, PASSWORD)
    await cloud.start()
    async with aiohttp.ClientSession() as session:
        rig = Rig(clock, world, cloud, session, owner)
        try:
            yield rig
        finally:
            await rig.account.stop()
            await cloud.stop()


def idle_world(chargers: int) -> Callable[[VirtualClock], World]:
    """A world of so many free chargers."""

    def make(clock: VirtualClock) -> World:
        world = World(clock)
        for number in range(chargers):
            world.add(SimulatedCharger(serial=str(710000 + number), name=f"Bay {number}"))
        return world

    return make


def busiest(requests: Iterable[Request], window: float) -> int:
    """The most requests within any `window` seconds."""
    times = [request.at for request in requests]
    return max((sum(start <= at < start + window - SLACK for at in times) for start in times), default=0)


def gaps(requests: Iterable[Request]) -> list[float]:
    """The seconds between one request and the next."""
    return [later.at - earlier.at for earlier, later in pairwise(requests)]


def overdrawn(rig: Rig, *, probes: bool) -> list[str]:
    """Where the simulator saw more than the purses hold (invariant I6); nothing if all is well.

    Probes leave no mark of their own in the log: every GET sooner than a minute after the one before must be one, or
    out of turn from the reserve. `probes` is false for a run in which nothing was wrong.
    """
    found = []
    if (most := busiest(rig.writes(), MINUTE)) > 5:
        found.append(f"{most} commands within a minute")
    found += _login_overdrawn(rig.gets("/users/"))
    gets = rig.data_gets()
    # One that met an old token passes its slot to its repetition.
    passed = {
        id(first)
        for first, second in pairwise(gets)
        if first.status == 401 and second.path == first.path and second.at - first.at <= 20
    }
    gets = [request for request in gets if id(request) not in passed]
    extra = [later for earlier, later in pairwise(gets) if later.at - earlier.at < MINUTE - SLACK]
    if (most := busiest(extra, HOUR)) > (80 if probes else 20):
        found.append(f"{most} GETs out of turn within an hour")
    if not probes:
        found += [f"a GET {gap} s after another" for gap in gaps(gets) if gap < 20 - SLACK]
    return found


def _login_overdrawn(logins: list[Request]) -> list[str]:
    """A sign-in or refresh per minute; a refused refresh may be followed at once by its one sign-in."""
    found, slot_at, refused = [], -DAY, False
    for login in logins:
        if login.at - slot_at >= MINUTE - SLACK:
            slot_at, refused = login.at, login.path == REFRESH and login.status == 401
        elif refused and login.path == SIGN_IN:
            refused = False
        else:
            found.append(f"{login.path} {login.at - slot_at} s after another")
    return found
