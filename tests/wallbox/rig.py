"""A rig with one account, real loopback sockets to the simulated cloud, and virtual time.

Listeners of the chargers keep the readings. `overdrawn` checks the simulator's log of requests against the budgets.
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
SLACK = 0.01  # seconds: rounding of the store and of the wall clock


@dataclass
class Listener(TransportListener):
    """Listener of one transport that keeps the latest readings, as a charger does."""

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
        """Return the value that a charger would show now, or None."""
        reading = self.latest.get(prop)
        if reading is None or (prop.kind is ReadingClass.LIVE and reading.expires_at <= self.clock.monotonic()):
            return None
        return reading.value


@dataclass
class Rig:
    """Clock, world, cloud and account of one test."""

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
    snapshots: list[AccountSnapshot] = field(default_factory=list)
    listeners: dict[str, Listener] = field(default_factory=dict)
    account: WallboxAccount = field(init=False)

    def __post_init__(self) -> None:
        self.account = self.new_account()

    def new_account(self, *, password: str = PASSWORD, stored: object = None) -> WallboxAccount:
        """Return a new account object with the budgets that an earlier account has `stored` as JSON."""

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
        account.listen(self.snapshots.append)
        return account

    def cloud_seen(self) -> bool | None:
        """Return True if the account sees the cloud, False if the cloud is lost, None if unknown."""
        return self.account.snapshot.cloud

    def needs_login(self) -> bool:
        """Return True if the account asks for another password now."""
        return self.account.snapshot.needs_login

    def _note_outage(self, event: str) -> None:
        self.outages.append(event)
        self.outages_at.append(self.clock.monotonic())

    async def restart(self, *, killed: bool = False) -> None:
        """Restart Home Assistant, cleanly or after a power cut, with the budgets saved last."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        stored = self.saved
        await self.account.stop()
        self.account = self.new_account(stored=stored if killed else self.saved)
        self.account.start()

    def begin(self, work: Coroutine[object, object, object]) -> asyncio.Task[object]:
        """Start a task that runs while the test advances the clock."""
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    async def finish(self, *work: asyncio.Task[object], within: float = 130, step: float = 1) -> list[object]:
        """Advance the clock until these tasks end, and return their results or exceptions."""
        await self.clock.advance_until(lambda: all(task.done() for task in work), within=within, step=step)
        return await asyncio.gather(*work, return_exceptions=True)

    async def settle_in(self) -> None:
        """Advance the clock until the account has read all data of the three chargers."""
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
        """Return the GETs that arrived, sign-ins included."""
        return [r for r in self.cloud.requests if r.method == "GET" and r.path.startswith(prefix) and r.at >= since]

    def data_gets(self, since: float = 0.0) -> list[Request]:
        return [request for request in self.gets(since=since) if not request.path.startswith("/users/")]

    def writes(self, since: float = 0.0) -> list[Request]:
        return [request for request in self.cloud.requests if request.method != "GET" and request.at >= since]

    async def until(self, state: BreakerState, *, within: float = 600, step: float = 0.5) -> float:
        return await self.clock.advance_until(lambda: self.account.breaker.state is state, within=within, step=step)

    async def until_get(self, prefix: str = "/", *, within: float = 200) -> None:
        """Advance the clock until the next such GET arrives."""
        seen = len(self.gets(prefix))
        await self.clock.advance_until(lambda: len(self.gets(prefix)) > seen, within=within, step=1)


@asynccontextmanager
async def rigged(make_world: Callable[[VirtualClock], World] = demo_world) -> AsyncIterator[Rig]:
    """Yield a rig whose account has not started."""
    # Home Assistant's fixtures turn debug mode on, which slows long simulations.
    asyncio.get_running_loop().set_debug(False)
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
    """Return a factory of a world with this number of free chargers."""

    def make(clock: VirtualClock) -> World:
        world = World(clock)
        for number in range(chargers):
            world.add(SimulatedCharger(serial=str(710000 + number), name=f"Bay {number}"))
        return world

    return make


def busiest(requests: Iterable[Request], window: float) -> int:
    """Return the largest number of requests within any `window` seconds."""
    times = [request.at for request in requests]
    return max((sum(start <= at < start + window - SLACK for at in times) for start in times), default=0)


def gaps(requests: Iterable[Request]) -> list[float]:
    """Return the seconds between each request and the next."""
    return [later.at - earlier.at for earlier, later in pairwise(requests)]


def overdrawn(rig: Rig, *, probes: bool) -> list[str]:
    """Return a line for each excess of a budget in the simulator's log (invariant I6).

    The log does not mark probes. A GET less than a minute after the previous GET must be a probe or an out-of-turn read
    from the reserve. `probes` is False for a run without faults.
    """
    found = []
    if (most := busiest(rig.writes(), MINUTE)) > 5:
        found.append(f"{most} commands within a minute")
    found += _login_overdrawn(rig.gets("/users/"))
    gets = rig.data_gets()
    # A GET refused for an old token passes its slot to its repetition.
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
    """Allow one sign-in or refresh per minute, and one sign-in at once after a refused refresh."""
    found, slot_at, refused = [], -DAY, False
    for login in logins:
        if login.at - slot_at >= MINUTE - SLACK:
            slot_at, refused = login.at, login.path == REFRESH and login.status == 401
        elif refused and login.path == SIGN_IN:
            refused = False
        else:
            found.append(f"{login.path} {login.at - slot_at} s after another")
    return found
