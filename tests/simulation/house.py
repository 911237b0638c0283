"""The simulated house: world, cloud, links, disk, people, the run of Home Assistant, and the invariants."""

from collections import deque
from collections.abc import Callable
from datetime import datetime
import json
from math import inf
from random import Random
from typing import override

from aiohttp import web

from custom_components.chargekeeper.core.charger import ChargerOptions
from custom_components.chargekeeper.core.load_group.shares import GroupSpec, Member
from custom_components.chargekeeper.core.model import Maker
from custom_components.chargekeeper.core.transport import START, Command
from tests.simulation.circuit import Circuit
from tests.simulation.clocks import RunClock, TrueClock
from tests.simulation.danger import AnyDanger
from tests.simulation.evidence import Evidence
from tests.simulation.health import Health
from tests.simulation.home import Home, Run
from tests.simulation.invariants import ALL, HouseSecrets, Invariant
from tests.simulation.labels import label_of_command, label_of_options
from tests.simulation.parts import ON, Part
from tests.simulation.safe_direction import SafeDirection
from tests.simulation.scene import AllStopped, Call, Scene, Told
from tests.simulators.clock import VirtualClock
from tests.simulators.http_server import CLOSING_GRACE, Breakage, Handler, Request
from tests.simulators.local_transport import LocalLink
from tests.simulators.wallbox_cloud import Account, Resume, Schedules, WallboxCloud
from tests.simulators.wallbox_payloads import JsonObject
from tests.simulators.world import Eco, SimulatedCharger, Window, World

EMAIL, PASSWORD, NEW_PASSWORD = "owner.of.this.house@example.org", "correct horse battery", "staple of another kind"
OWNER = "Ann Example"
LONGEST_FAILBACK = 150.0
"""Seconds from the end of an outage until the cloud is used again (docs/design.md, section 10)."""
LONGEST_WAIT = 700.0
"""Seconds for which a command of the user may wait for its turn."""
BY_PART: dict[Part, type[Invariant]] = {
    Part.ANY_DANGER: AnyDanger,
    Part.CIRCUIT: Circuit,
    Part.EVIDENCE: Evidence,
    Part.SAFE_DIRECTION: SafeDirection,
}
"""Invariants that are watched only where their part is switched on."""


class WatchedCloud(WallboxCloud):
    """The simulated cloud; the invariants see every request on arrival and when it is answered."""

    def __init__(self, world: World, clock: TrueClock) -> None:
        super().__init__(world, clock)
        self.arrived: Callable[[Request], None] = lambda _request: None
        self.answered: Callable[[Request, JsonObject | None], None] = lambda _request, _answer: None

    @property
    @override
    def url(self) -> str:
        return "http://cloud.test"

    @property
    def server(self) -> web.Server | None:
        """The server of connections; None while nothing listens."""
        return None if self._runner is None else self._runner.server

    @override
    async def _listen(self) -> None:
        """Listen on no port: connections are socket pairs, which deliver at once (see home.py)."""
        app = web.Application(middlewares=[self._serve])
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=False, shutdown_timeout=CLOSING_GRACE)
        await self._runner.setup()

    @override
    async def _log_and_answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        await request.read()
        number = len(self.requests)
        response = await super()._log_and_answer(request, handler)
        if request.transport is not None and not request.transport.is_closing():  # otherwise the client is gone
            self.answered(self.requests[number], _content(response))
        return response

    @override
    def _breakage_for(self, request: web.Request) -> Breakage | None:
        self.arrived(self.requests[-1])
        return super()._breakage_for(request)


def _content(response: web.StreamResponse) -> JsonObject | None:
    """Return the object in a good answer that is readable, or None."""
    if response.status != 200 or not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return None
    try:
        content = json.loads(response.body)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


class House(Scene):
    """The house of one episode, with a cloud."""

    def __init__(self, name: str, start: datetime, *, chargers: int, parts: frozenset[Part] = ON) -> None:
        super().__init__(name, VirtualClock(start))
        self.parts = parts
        self.world = World(self.true_clock)
        self.cloud = WatchedCloud(self.world, self.true_clock)
        # A separate generator, so that the second kind of cloud does not change the rest of an episode.
        self.cloud.schedules = Random(f"{name} schedules").choice(list(Schedules))
        self.account: Account = self.cloud.add_account(EMAIL, PASSWORD)
        self.links: dict[str, LocalLink] = {}
        self.home: Home | None = None
        self.options: dict[str, ChargerOptions] = {}
        self.entered_password = PASSWORD
        self.fault_since: float | None = None
        self.healed_at: float | None = None
        self.home_since = inf
        self.resumed_at = -inf
        """When the host last woke up after it had been suspended."""
        self.spec: GroupSpec | None = None
        """The load group of some of the chargers."""
        self.health = Health(self)
        self.invariants: list[Invariant] = [
            *(make(self) for part, make in BY_PART.items() if part in parts),
            *(make(self) for make in ALL),
        ]
        self.watches = [*self.invariants, HouseSecrets(self), AllStopped(self)]
        self.owners_schedule: dict[str, tuple[Window, ...]] = {}
        """The schedule that the owner last set, per charger; the charger's may differ only during an override."""
        self.update_began: dict[str, float] = {}
        self._read_only_since: dict[str, float] = {}
        self._asked: deque[tuple[float, str, str]] = deque(maxlen=200)
        self._furnish(chargers)
        self._add_parts()
        self.cloud.arrived, self.cloud.answered = self._request_arrived, self._request_answered

    @property
    @override
    def run(self) -> Run | None:
        return self.home

    @property
    @override
    def secrets(self) -> list[str]:
        tokens = ["access-9", "refresh-9", self.cloud.url.removeprefix("http://")]
        return [EMAIL, PASSWORD, NEW_PASSWORD, OWNER, self.account.uuid, *tokens, *self.world.chargers]

    @property
    def password_right(self) -> bool:
        """True if the cloud accepts the password that the user entered."""
        return self.account.password == self.entered_password

    def charger(self, serial: str) -> SimulatedCharger:
        """Return a charger in its present state."""
        return self.world.charger(serial)

    @override
    def look(self) -> None:
        self.world.advance()
        self.health.look()
        super().look()

    # Home Assistant

    @override
    def begin_run(self) -> Home:
        self.healed_at = None
        clock = RunClock(self.clock, self.random.uniform(0, 1e6))
        home = Home(
            self.disk, clock, self, cloud=self.cloud, email=EMAIL, password=self.entered_password, spec=self.spec
        )
        self.home = home
        self.home_since = self.now
        home.start(self.options, self.links)
        return home

    @override
    def end_run(self) -> None:
        self.home = None
        self.home_since = inf

    @override
    async def reload_entry(self) -> None:
        home = self.home
        assert home is not None

        def stopped() -> None:
            self.home_since = self.now
            for watch in self.watches:
                watch.unloaded(home)

        await home.reload(self.options, self.links, stopped)

    @override
    def plug_all_in(self) -> None:
        for serial in self.options:
            charger = self.charger(serial)
            if charger.car is None:
                charger.plug_in()

    @override
    def unplug_all(self) -> None:
        for serial in self.options:
            self.charger(serial).unplug()

    async def suspend_host(self, seconds: float) -> None:
        """Suspend the machine that Home Assistant runs on; the world goes on."""
        home = self.home
        if home is None or home.dead:
            return
        self.note(f"the host is suspended for {seconds:.0f} s")
        self.counts.events["suspensions"] += 1
        home.clock.suspend(seconds)
        self._asked = deque(((at + seconds, serial, what) for at, serial, what in self._asked), maxlen=200)
        await self.clock.advance(seconds)
        self.note("the host wakes up")
        self.resumed_at = self.now
        self.healed_at = None

    def interrupted(self) -> None:
        """Tell the watches that a call of the user was cancelled."""
        for watch in self.watches:
            watch.interrupted()

    @override
    def act(self, serial: str, what: str, call: Call, told: Told = lambda _answer: None) -> None:
        if self.home is not None and not self.home.dead:
            self._asked.append((self.now, serial, what))
        super().act(serial, what, call, told)

    def edit_schedule(self, charger: SimulatedCharger, windows: tuple[Window, ...]) -> None:
        """Edit a schedule in the manufacturer's app; the owner then wants the edited windows."""
        shown, owners = charger.schedules, list(self.owners_schedule[charger.serial])
        for slot, window in enumerate(windows):
            if slot >= len(shown) or window != shown[slot]:
                owners[slot : slot + 1] = [window]
        charger.schedules = windows
        self.owners_schedule[charger.serial] = tuple(owners)

    def limit_of_group(self, serial: str) -> float | None:
        """Return the limit of the load group of a charger, in A; None if it has no load group."""
        spec = self.spec
        return None if spec is None or all(member.key[1] != serial for member in spec.members) else spec.limit

    def set_options(self, serial: str, options: ChargerOptions) -> None:
        """Set the user's options for a charger."""
        self.note(f"{serial}: {label_of_options(options)}")
        if options.read_only is not self.options[serial].read_only:
            self._read_only_since[serial] = self.now if options.read_only else inf
        self.options[serial] = options
        if self.home is not None and not self.home.dead:
            self.home.chargers[serial].options = options

    def read_only_since(self, serial: str) -> float:
        """Return since when a charger is read-only by the user's choice, or infinity."""
        return self._read_only_since.get(serial, inf)

    def asked_to_charge(self, serial: str) -> bool:
        """Return True if the user may have requested a charge by the charging switch, not by an override."""
        return any(
            asked == serial and what == label_of_command(START) and at > self.now - LONGEST_WAIT
            for at, asked, what in self._asked
        )

    # Events of the run and the world

    @override
    def outage(self, kind: str) -> None:
        self.note(kind)
        self.counts.events[kind.replace("_", " ")] += 1
        if kind == "cloud_back" and self.healed_at is not None:
            took = self.now - self.healed_at
            self.counts.failbacks.append(took)
            if took > LONGEST_FAILBACK:
                self.fail("figures", f"the cloud was used again only {took:.0f} s after it was healed")
            self.healed_at = None

    def _request_arrived(self, request: Request) -> None:
        if request.method != "GET":
            self.note(f"cloud ← {request.method} {request.path} {request.body}")
        self.counts.requests[f"{request.method} {'data' if self.cloud.is_data(request.path) else 'sign-in'}"] += 1
        self.world.advance()
        self.health.look()
        for invariant in self.invariants:
            invariant.request_arrived(request)
        self.point("request arrived")

    def _request_answered(self, request: Request, answer: JsonObject | None) -> None:
        usual = request.status == 200 and request.method == "GET"
        self.note(f"cloud → {request.status} {request.method} {request.path}", shown=not usual)
        if self.home is None or self.home.dead:
            return
        self.world.advance()
        self.health.answered(request)
        for invariant in self.invariants:
            invariant.request_answered(request, answer)
        self.point("request answered")

    def _sent_locally(self, serial: str, command: Command) -> None:
        self.note(f"{serial}: local ← {label_of_command(command)}")
        for invariant in self.invariants:
            invariant.sent_locally(serial, command)
        self.point("sent locally")

    # The house itself

    def _furnish(self, chargers: int) -> None:
        for number in range(chargers):
            self._add_charger(str(700101 + number), local=number % 2 == 1 or self.random.random() < 0.25)

    def _add_charger(self, serial: str, *, local: bool) -> None:
        random = self.random
        scheduled = random.random() < 0.75
        icp = random.choice([None, None, 20, 25])
        charger = self.world.add(
            SimulatedCharger(
                serial=serial,
                name=f"{OWNER}'s charger {serial}",
                charger_type=random.choice(["PulsarPlus", "PulsarMax", "Commander2"]),
                max_available_current=random.choice([16, 32, 32]),
                max_charging_current=16,
                phases=random.choice([1, 3]),
                icp_max_current=icp,
                home_sharing=icp is not None,
                eco=random.choice([None, Eco()]),
                schedules=_schedule(random) if scheduled else (),
                lifetime_kwh=random.uniform(0, 5000),
                firmware_latest="6.7.50",
                cloud_shows_offline=random.random() < 0.5,
            )
        )
        self.cloud.resume[serial] = random.choice([Resume.WORKS, Resume.WORKS, Resume.CONFLICT, Resume.NO_EFFECT])
        self.owners_schedule[serial] = charger.schedules
        self.options[serial] = ChargerOptions(load_group_limit=random.choice([None, None, 10.0, 16.0, 20.5]))
        if local:
            link = self.links[serial] = LocalLink(self.world, serial, self.true_clock)
            link.arrived = lambda command: self._sent_locally(serial, command)

    def _add_parts(self) -> None:
        """Add what the parts that are switched on bring to this house, each by dice of its own."""
        if Part.LOAD_GROUP in self.parts:
            self._add_group(Random(f"{self.name} load group"))
        if Part.WRITTEN in self.parts:
            self.cloud.shows_written = Random(f"{self.name} written").random() < 0.6
        if Part.LAG in self.parts:
            self.cloud.lag = Random(f"{self.name} lag").choice([0.0, 12.0, 40.0])
        if Part.REVERSED_METERS in self.parts:
            dice = Random(f"{self.name} meters")
            for link in self.links.values():
                link.meter_reversed = dice.random() < 0.5

    def _add_group(self, dice: Random) -> None:
        serials = list(self.options)[: dice.choice([0, 2, 3, 4])]
        if not serials:
            return
        lowest = 6 * len(serials)
        limit = max(lowest, dice.choice([lowest, lowest + 2, 20, 24, 32]))
        self.spec = GroupSpec("circuit", float(limit), tuple(Member((Maker.WALLBOX, serial)) for serial in serials))
        for serial in serials:
            kind = dice.choice(["willing", "willing", "willing", "refuses", "plain user"])
            if kind == "refuses":
                self.cloud.refuses_current.add(serial)
            elif kind == "plain user":
                self.cloud.plain_users.add(serial)
            self.note(f"{serial}: on a circuit of {limit} A, {kind}")


def _schedule(random: Random) -> tuple[Window, ...]:
    """Return a night window, at times with another window at noon, in UTC."""
    night = Window(start=random.choice(["2100", "2230", "2300"]), stop=random.choice(["0400", "0500", "0645"]))
    noon = Window(start="1130", stop="1300", days=frozenset({5, 6}))
    return random.choice([(night,), (night,), (night, noon)])
