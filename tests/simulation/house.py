"""The simulated house: world, cloud, links, disk, people, the run of Home Assistant, and the watch over all of it."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
import json
from math import inf
from random import Random
from typing import override

from aiohttp import web

from custom_components.chargekeeper.core.keeper import Keeper, KeeperEvent, KeeperOptions, RestartRun
from custom_components.chargekeeper.core.paths import ChargerError, Command, SetCharging
from tests.simulation.clocks import RunClock, TrueClock
from tests.simulation.home import Disk, Home, Observer, Text
from tests.simulation.invariants import ALL, Invariant
from tests.simulation.report import Broken, Counts, Violation, hash_of
from tests.simulators.clock import VirtualClock
from tests.simulators.http_server import CLOSING_GRACE, Breakage, Handler, Request
from tests.simulators.local_path import LocalLink
from tests.simulators.wallbox_cloud import Account, Resume, WallboxCloud
from tests.simulators.wallbox_payloads import JsonObject
from tests.simulators.world import Charger, Eco, Window, World

EMAIL, PASSWORD, NEW_PASSWORD = "owner.of.this.house@example.org", "correct horse battery", "staple of another kind"
OWNER = "Ann Example"
HOUR = 3600.0
TRACE = 60
LONGEST_FAILBACK = 150.0
"""Seconds from the end of an outage until the cloud is used again (design section 10)."""
LONGEST_WAIT = 700.0
"""Seconds for which a command of the user may wait for its turn."""


class WatchedCloud(WallboxCloud):
    """The simulated cloud, every request of which is seen when it arrives and when it is answered."""

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
        """What serves connections; None while nothing listens."""
        return None if self._runner is None else self._runner.server

    @override
    async def _listen(self) -> None:
        """On no port: connections come as socket pairs, in which what is sent is there at once (see home.py)."""
        app = web.Application(middlewares=[self._serve])
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=False, shutdown_timeout=CLOSING_GRACE)
        await self._runner.setup()

    @override
    async def _log_and_answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        await request.read()
        number = len(self.requests)
        response = await super()._log_and_answer(request, handler)
        if request.transport is not None and not request.transport.is_closing():  # else nobody hears it
            self.answered(self.requests[number], _content(response))
        return response

    @override
    def _breakage_for(self, request: web.Request) -> Breakage | None:
        self.arrived(self.requests[-1])
        return super()._breakage_for(request)


def _content(response: web.StreamResponse) -> JsonObject | None:
    """The object in a good answer that can be read."""
    if response.status != 200 or not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return None
    try:
        content = json.loads(response.body)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


@dataclass(slots=True)
class Fuse:
    """The run is killed the `left`-th time that it passes `point`."""

    point: str
    left: int


class House(Observer):
    """Everything of one episode."""

    def __init__(self, name: str, start: datetime, *, chargers: int) -> None:
        self.random = Random(f"{name} house")
        self.clock = VirtualClock(start)
        self.true_clock = TrueClock(self.clock)
        self.world = World(self.true_clock)
        self.cloud = WatchedCloud(self.world, self.true_clock)
        self.account: Account = self.cloud.add_account(EMAIL, PASSWORD)
        self.links: dict[str, LocalLink] = {}
        self.disk = Disk()
        self.home: Home | None = None
        self.options: dict[str, KeeperOptions] = {}
        self.entered_password = PASSWORD
        self.counts = Counts()
        self.fuse: Fuse | None = None
        self.fault_since: float | None = None
        self.healed_at: float | None = None
        self.unclean_at = -inf
        self.invariants: list[Invariant] = [make(self) for make in ALL]
        self.owners_schedule: dict[str, tuple[Window, ...]] = {}
        """What the owner last wanted of each charger's schedule; ours may differ from it only during an override."""
        self.update_began: dict[str, float] = {}
        self._read_only_since: dict[str, float] = {}
        self._asked: deque[tuple[float, str, str]] = deque(maxlen=200)
        self._trace: deque[str] = deque(maxlen=TRACE)
        self._violations: list[Violation] = []
        self._begun = self.clock.monotonic()
        self._furnish(chargers)
        self.cloud.arrived, self.cloud.answered = self._request_arrived, self._request_answered

    @property
    def now(self) -> float:
        """Monotonic time of the house, in seconds."""
        return self.clock.monotonic()

    @property
    def secrets(self) -> list[str]:
        """What must not be read in logs and diagnostics, besides serials."""
        return [EMAIL, PASSWORD, NEW_PASSWORD, OWNER, self.account.uuid]

    @property
    def hours(self) -> float:
        """Hours since the episode began."""
        return (self.now - self._begun) / HOUR

    @property
    def password_right(self) -> bool:
        """Whether the password that the user entered is the one that the cloud knows."""
        return self.account.password == self.entered_password

    def charger(self, serial: str) -> Charger:
        """The charger as it is now."""
        return self.world.charger(serial)

    def note(self, text: str, *, shown: bool = True) -> None:
        """A line for the fingerprint, and for the trace that a violation shows."""
        line = f"{self.hours:9.4f} h  {text}"
        if shown:
            self._trace.append(line)
        self.counts.fingerprint = hash_of(self.counts.fingerprint + line)

    def fail(self, invariant: str, reason: str) -> None:
        """An invariant does not hold: the episode ends at the next check."""
        self._violations.append(Violation(invariant, reason, self.hours))

    def raise_if_broken(self) -> None:
        """Raise `Broken` for the first violation."""
        if self._violations:
            raise Broken(replace(self._violations[0], trace=tuple(self._trace)))

    def look(self) -> None:
        """All invariants look at the present. Raises Broken."""
        self.world.advance()
        for invariant in self.invariants:
            invariant.look()
        self.raise_if_broken()

    # Home Assistant

    def start_home(self) -> None:
        """Home Assistant starts."""
        assert self.home is None
        self.note("Home Assistant starts")
        self.counts.events["starts"] += 1
        self.healed_at = None
        clock = RunClock(self.clock, self.random.uniform(0, 1e6))
        home = Home(self.disk, clock, self, cloud=self.cloud, email=EMAIL, password=self.entered_password)
        self.home = home
        for invariant in self.invariants:
            invariant.starting()
        home.start(self.options, self.links)
        for invariant in self.invariants:
            invariant.started()

    async def stop_home(self) -> None:
        """Home Assistant stops."""
        if self.home is None:
            return
        self.note("Home Assistant stops")
        self.counts.events["clean stops"] += 1
        home = self.home
        try:
            await home.stop()
        except asyncio.CancelledError:
            if not home.dead:  # else it was killed while it stopped
                raise
            return
        self.home = None
        for invariant in self.invariants:
            invariant.stopped(home)
        home.kill()  # whatever is left in spite of that
        await home.bury()

    async def reload_home(self) -> None:
        """The entry is set up again, with the options of now."""
        home = self.home
        if home is None or home.dead:
            return
        self.note("the entry is reloaded")
        self.counts.events["reloads"] += 1

        def stopped() -> None:
            for invariant in self.invariants:
                invariant.unloaded(home)

        try:
            await home.reload(self.options, self.links, stopped)
        except asyncio.CancelledError:
            if not home.dead:  # else it was killed meanwhile
                raise

    def kill_home(self) -> None:
        """The power of Home Assistant is cut, in the middle of whatever it does; `bury_home` must follow."""
        if self.home is not None and not self.home.dead:
            self.note("Home Assistant is killed")
            self.counts.events["kills"] += 1
            self.unclean_at = self.now
            self.home.kill()

    async def bury_home(self) -> None:
        """Clear away a killed run."""
        home, self.home = self.home, None
        self.fuse = None
        if home is not None:
            await home.bury()
            for invariant in self.invariants:
                invariant.killed()

    def act(
        self,
        serial: str,
        what: str,
        call: Callable[[Keeper], Awaitable[object]],
        told: Callable[[object], None] = lambda _answer: None,
    ) -> None:
        """The user acts on a charger, if Home Assistant runs."""
        if self.home is None or self.home.dead:
            return
        self.note(f"{serial}: the user: {what}")
        self._asked.append((self.now, serial, what))

        def answered(answer: object) -> None:
            word = f"{type(answer).__name__} {answer}" if isinstance(answer, ChargerError) else word_of(answer)
            kind = f"{answer.reason}" if isinstance(answer, ChargerError) else word
            self.note(f"{serial}: {what} → {word}")
            self.counts.commands[kind] += 1
            for invariant in self.invariants:
                invariant.answered(serial, what, answer)
            told(answer)

        self.home.act(serial, call, answered)

    def edit_schedule(self, charger: Charger, windows: tuple[Window, ...]) -> None:
        """Somebody edits a schedule as the maker's app shows it; what he touches is what the owner wants then."""
        shown, owners = charger.schedules, list(self.owners_schedule[charger.serial])
        for slot, window in enumerate(windows):
            if slot >= len(shown) or window != shown[slot]:
                owners[slot : slot + 1] = [window]
        charger.schedules = windows
        self.owners_schedule[charger.serial] = tuple(owners)

    def set_options(self, serial: str, options: KeeperOptions) -> None:
        """The user chooses."""
        self.note(f"{serial}: {options}")
        if options.read_only is not self.options[serial].read_only:
            self._read_only_since[serial] = self.now if options.read_only else inf
        self.options[serial] = options
        if self.home is not None and not self.home.dead:
            self.home.keepers[serial].options = options

    def read_only_since(self, serial: str) -> float:
        """Since when the user wants no commands to a charger; infinity where he does not."""
        return self._read_only_since.get(serial, inf)

    def asked_to_charge(self, serial: str) -> bool:
        """Whether the user may have asked for a charge by the charging switch, not by an override."""
        return any(
            asked == serial and what == f"{SetCharging(on=True)}" and at > self.now - LONGEST_WAIT
            for at, asked, what in self._asked
        )

    # What the run and the world tell

    @override
    def point(self, name: str) -> None:
        fuse = self.fuse
        if fuse is None or fuse.point != name:
            return
        fuse.left -= 1
        if fuse.left <= 0:
            self.fuse = None
            self.note(f"the fuse blows: {name}")
            self.kill_home()

    @override
    def journal_saved(self, serial: str, before: Text | None, after: Text) -> None:
        old, new = _override_in(before), _override_in(after)
        if old != new:
            self.note(f"{serial}: journal {_brief(new)}")
        for invariant in self.invariants:
            invariant.journal_saved(serial, old, new)

    @override
    def keeper_event(self, serial: str, event: KeeperEvent) -> None:
        if self.home is not None and self.home.dead:
            return
        self.note(f"{serial}: event {event.kind} {event.type} {dict(event.details)}")
        for invariant in self.invariants:
            invariant.keeper_event(serial, event)

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
        for invariant in self.invariants:
            invariant.request_arrived(request)
        self.point("request arrived")

    def _request_answered(self, request: Request, answer: JsonObject | None) -> None:
        usual = request.status == 200 and request.method == "GET"
        self.note(f"cloud → {request.status} {request.method} {request.path}", shown=not usual)
        if self.home is None or self.home.dead:
            return
        self.world.advance()
        for invariant in self.invariants:
            invariant.request_answered(request, answer)
        self.point("request answered")

    def _sent_locally(self, serial: str, command: Command) -> None:
        self.note(f"{serial}: local ← {command}")
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
            Charger(
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
        self.options[serial] = KeeperOptions(load_group_limit=random.choice([None, None, 10.0, 16.0, 20.5]))
        if local:
            link = self.links[serial] = LocalLink(self.world, serial, self.true_clock)
            link.arrived = lambda command: self._sent_locally(serial, command)


def _schedule(random: Random) -> tuple[Window, ...]:
    """A night window, at times with another one at noon, in UTC."""
    night = Window(start=random.choice(["2100", "2230", "2300"]), stop=random.choice(["0400", "0500", "0645"]))
    noon = Window(start="1130", stop="1300", days=frozenset({5, 6}))
    return random.choice([(night,), (night,), (night, noon)])


def word_of(answer: object) -> str:
    """An answer to a command in one word; those to an install and to the end of an override hold none themselves."""
    match answer:
        case RestartRun():
            return "under way"
        case None:
            return "installing"
        case tuple():
            return "given up"
    return f"{answer}"


def _override_in(journal: Text | None) -> JsonObject | None:
    return None if journal is None else json.loads(journal)["override"]


def _brief(intent: JsonObject | None) -> str:
    if intent is None:
        return "no override"
    shown = {key: intent[key] for key in ("state", "sent", "applications", "end", "originals") if intent[key]}
    return f"override of {intent['created_at']}: {shown}"
