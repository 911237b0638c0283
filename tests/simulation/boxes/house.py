"""The house with boxes: what is in it, the maker's server, and the watch over every datagram and every ampere."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
import json
from math import inf
from random import Random
from typing import override
from zoneinfo import ZoneInfo

from custom_components.chargekeeper.core.load_group.group import GroupView
from custom_components.chargekeeper.core.load_group.shares import GroupSpec, Member
from custom_components.chargekeeper.juicebox.box import BoxConfig
from custom_components.chargekeeper.juicebox.juicenet.client import Day as TouDay, Tou
from custom_components.chargekeeper.juicebox.listener import Address
from tests.simulation.boxes.home import PORTS, BoxHome, key_of
from tests.simulation.boxes.network import HOME, Network, NetworkBox, QuietClock
from tests.simulation.clocks import RunClock
from tests.simulation.home import Text
from tests.simulation.scene import AllStopped, Scene, Secrets, Watch, unless_killed
from tests.simulators import juicebox_wire as wire
from tests.simulators.juicebox import Car, Circuit, Shows, State
from tests.simulators.juicebox_server import BoxHub, BoxIssue, Day, Group, Schedule, Unit
from tests.simulators.juicebox_wire import Command, Wire
from tests.simulators.wallbox_payloads import JsonObject

MAKERS_SERVER = ("127.0.0.1", 8051)
"""Where the simulated server listens; on this network no other than ours has a loopback interface."""
ZONE = "Europe/Berlin"
FOREIGN = "192.168.178.99"
LOWEST = 6
HALL = "hall"
TELLING = 330.0
"""Seconds within which each box is told of a new limit, or has fallen back to its own."""


class WatchedCircuit(Circuit):
    """The wire that the boxes share; every change of what they draw together is seen."""

    def __init__(self, house: BoxHouse) -> None:
        super().__init__(house.true_clock)
        self._house = house

    @override
    def note(self, serial: str, amperes: float) -> None:
        self._house.current_changes()
        super().note(serial, amperes)
        self._house.current_changed()


@dataclass(frozen=True, slots=True)
class Sent:
    """A command of ours on its way to a box. `relayed` is whether it left while one of its server's arrived."""

    serial: str
    data: bytes
    command: Command
    relayed: bool
    theirs: bytes | None


class BoxWatch(Watch):
    """Somebody who watches the house with boxes; it also sees the datagrams and what is drawn."""

    def __init__(self, house: BoxHouse) -> None:
        super().__init__(house)
        self.house = house

    def status_arrives(self, serial: str, data: bytes) -> None:
        """A status of a box is about to reach us, from where it really is."""

    def status_arrived(self, serial: str, data: bytes) -> None:
        """We have got it, and whatever is done about it at once is done."""

    def commanded(self, sent: Sent) -> None:
        """We send a command to a box."""

    def server_answers(self, serial: str, data: bytes) -> None:
        """A datagram of the maker's server is about to reach the line of a box."""

    def server_answered(self, serial: str, data: bytes) -> None:
        """It has got there, and whatever is done about it at once is done."""

    def booted(self, serial: str) -> None:
        """A box starts."""

    def wrote(self, serial: str, order: Command) -> None:
        """A box wrote its EEPROM for a command."""

    def pause_saved(self, serial: str, pause: JsonObject | None) -> None:
        """The pause in the journal on the disk changed, or not."""

    def current_changes(self) -> None:
        """What is drawn is about to change; nothing has changed since the last time."""

    def current_changed(self) -> None:
        """It has changed."""


class BoxHouse(Scene):
    """Everything of one episode."""

    calm_hours, last_hours = 1.0, 0.5

    def __init__(self, name: str, start: datetime, watches: Sequence[Callable[[BoxHouse], Watch]]) -> None:
        super().__init__(name, QuietClock(start))
        self.network = Network()
        self.circuit = WatchedCircuit(self)
        self.maker = BoxHub(self.true_clock)
        self.boxes: dict[str, NetworkBox] = {}
        self.configs: dict[str, BoxConfig] = {}
        self.windows: dict[str, Schedule] = {}
        """The user's time-of-use windows by the letter of the protocol page; our configuration is made of them."""
        self.limit = 0.0
        """A; of the load group."""
        self.confirmed: dict[str, int] = {}
        """The stored limits that the user wants written."""
        self.served = self.random.random() < 0.8
        self.disturbed_at: dict[str, float] = {}
        """When something last happened to the way between a box and us."""
        self.home: BoxHome | None = None
        self.home_since = inf
        self.told_excess = False
        """Whether our repair last said that the stored limits together exceed the limit of the load group."""
        self.learnt: set[str] = set()
        """The boxes whose stored limit was ever known to us."""
        self.unplugged_at: dict[str, float] = {}
        self.limits_before: list[tuple[float, float]] = []
        """When the limit of the load group was changed, and from what, until all boxes have been told since."""
        self.theirs: bytes | None = None
        self._furnish()
        made = [make(self) for make in watches]
        self.box_watches = [watch for watch in made if isinstance(watch, BoxWatch)]
        self.watches = [*made, Secrets(self), AllStopped(self)]
        self.network.sent, self.network.arriving, self.network.arrived = self._sent, self._arriving, self._arrived

    @property
    @override
    def run(self) -> BoxHome | None:
        return self.home

    @property
    @override
    def secrets(self) -> list[str]:
        return [*self.boxes, *(box.host for box in self.boxes.values())]

    @property
    def spec(self) -> GroupSpec:
        """The load group as the user set it up."""
        return GroupSpec(HALL, self.limit, tuple(Member(key_of(serial)) for serial in self.boxes))

    @property
    def upstream(self) -> dict[str, object]:
        """The maker's server as the user named it."""
        return {"host": MAKERS_SERVER[0], "port": MAKERS_SERVER[1]} if self.served else {}

    @property
    def up_for(self) -> float:
        """Seconds for which Home Assistant has been running."""
        return -inf if self.home is None or self.home.dead else self.now - self.home_since

    @property
    def limit_in_force(self) -> float:
        """A; the limit of the load group, or what it was until a moment ago, while the boxes are still told."""
        return max([self.limit, *(limit for _, limit in self.limits_before)])

    def local(self) -> datetime:
        """The local time as Home Assistant has it."""
        return self.clock.now().astimezone(ZoneInfo(ZONE))

    def inside(self, serial: str) -> bool:
        """Whether the user's windows let a box charge now."""
        schedule, local = self.windows[serial], self.local()
        day = schedule.weekend if local.weekday() >= 5 else schedule.weekday
        return not schedule.custom or day.allows(local.hour * 60 + local.minute)

    def highest(self, serial: str) -> float:
        """A; the lowest of the limits that the user entered, the unit's rating and the limit of the group."""
        config = self.configs[serial]
        limits = [config.wire_rating, config.load_group_limit, self.boxes[serial].unit_rating, self.limit]
        return min(limit for limit in limits if limit is not None)

    def reachable_for(self, serial: str) -> float:
        """Seconds for which datagrams have surely got through between a box and us, and been read."""
        box = self.boxes[serial]
        if not (box.powered and box.wifi) or box.line.loss or box.line.reorder or box.line.corrupt:
            return -inf
        return min(self.now - self.disturbed_at[serial], self.up_for)

    @override
    def plug_all_in(self) -> None:
        for box in self.boxes.values():
            if box.car is None:
                box.plug_in(Car(wants_kwh=5.0))

    @override
    def unplug_all(self) -> None:
        for box in self.boxes.values():
            box.unplug()

    # Home Assistant

    @override
    def begin_run(self) -> BoxHome:
        home = BoxHome(self.disk, RunClock(self.clock, self.random.uniform(0, 1e6)), self)
        self.home, self.home_since = home, self.now
        home.start(self.configs, self.spec, self.upstream)
        self._follow_repair()
        return home

    @override
    def end_run(self) -> None:
        self.home = None

    @override
    async def reload_home(self) -> None:
        if self.up_for >= 0:
            await self.clock.settle()
        await super().reload_home()

    @override
    async def reload_entry(self) -> None:
        assert self.home is not None
        await self.home.reload(self.configs, self.upstream, lambda: None)

    @override
    def look(self) -> None:
        if self.home is not None:
            still_telling = (pair for pair in self.limits_before if self.now - max(pair[0], self.home_since) < TELLING)
            self.limits_before = list(still_telling)
        super().look()

    async def set_limit(self, limit: float) -> None:
        """The user enters another limit of the load group, or the same again: its entry is set up again."""
        self.limits_before.append((self.now, self.limit))
        self.limit = limit
        self.maker.groups[HALL].maximum = int(limit)
        if self.home is not None and not self.home.dead:
            with unless_killed(self.home):
                await self.home.reload_group(self.spec)
            self._follow_repair()

    def configure(self, serial: str, **changes: object) -> None:
        """The user enters something else; it holds from the next `reload_home` on."""
        self.configs[serial] = replace(self.configs[serial], **changes)  # type: ignore[arg-type]

    def set_windows(self, serial: str, schedule: Schedule) -> None:
        """The user enters other windows."""
        self.windows[serial] = schedule
        days = [TouDay(day.start, day.end) for day in (schedule.weekday, schedule.weekend)]
        tou = Tou(enabled=schedule.custom, weekday=days[0], weekend=days[1])
        self.configure(serial, schedule=tou.windows(ZONE) if schedule.custom else ())

    def _follow_repair(self) -> None:
        """The repair follows the view of the group, from the moment in which that is set up."""
        home = self.home
        if home is None or home.dead or home.group is None:
            return

        def judge(view: GroupView) -> None:
            if not home.dead:
                self.told_excess = view.stored_excess > 0

        judge(home.group.view)
        home.group.listen(judge)

    # What is seen

    def current_changes(self) -> None:
        """What the boxes draw is about to change."""
        for watch in self.box_watches:
            watch.current_changes()

    def current_changed(self) -> None:
        """It has changed."""
        for watch in self.box_watches:
            watch.current_changed()

    @override
    def journal_saved(self, serial: str, before: Text | None, after: Text) -> None:
        super().journal_saved(serial, before, after)
        for watch in self.box_watches:
            watch.pause_saved(serial, json.loads(after)["pause"])

    def wrote(self, serial: str, order: Command) -> None:
        """A box wrote its EEPROM."""
        self.note(f"{serial}: writes {order.stored} A to its EEPROM")
        for watch in self.box_watches:
            watch.wrote(serial, order)

    def booted(self, serial: str) -> None:
        """A box starts."""
        self.disturbed_at[serial] = self.now
        for watch in self.box_watches:
            watch.booted(serial)

    def serial_at(self, host: str) -> str | None:
        """The box at an address."""
        return next((serial for serial, box in self.boxes.items() if box.host == host), None)

    def _sent(self, data: bytes, source: Address, to: Address) -> None:
        if source[0] != HOME or source[1] not in PORTS:
            return
        serial = self.serial_at(to[0])
        version = "" if serial is None else self.boxes[serial].wire.version
        command = wire.read_command(version, data)
        if serial is None or not isinstance(command, Command):
            self.fail("I9", f"sent to {to[0]}: {data!r} ({command})")
            return
        sent = Sent(serial, data, command, self.theirs is not None, self.theirs)
        for watch in self.box_watches:
            watch.commanded(sent)

    def _arriving(self, data: bytes, source: Address, to: Address) -> None:
        self.theirs = data if source == MAKERS_SERVER else None
        serial = self._concerned(data, source, to)
        if serial is not None:
            for watch in self.box_watches:
                (watch.status_arrives if self.theirs is None else watch.server_answers)(serial, data)

    def _arrived(self, data: bytes, source: Address, to: Address) -> None:
        theirs, self.theirs = self.theirs, None
        serial = self._concerned(data, source, to)
        if serial is not None:
            for watch in self.box_watches:
                (watch.status_arrived if theirs is None else watch.server_answered)(serial, data)

    def _concerned(self, data: bytes, source: Address, to: Address) -> str | None:
        """The box whose status reaches us, or on whose line an answer of the maker's server arrives."""
        home = self.home
        if home is None or home.dead:
            return None
        if source == MAKERS_SERVER:
            upstreams = home.boxes.server._upstreams.items()
            return next((serial for serial, upstream in upstreams if _address_of(upstream._transport) == to), None)
        if to[0] != HOME or to[1] not in PORTS:
            return None
        read, serial = wire.read_status(data), self.serial_at(source[0])
        return None if read is None or read.serial != serial else serial

    # The house itself

    def _furnish(self) -> None:
        random = self.random
        wires = [Wire.V07, Wire.V09U, random.choice([Wire.V07_UNPADDED, Wire.V09U])][: random.choice([2, 2, 3])]
        self.limit = float(random.choice([16, 20, 24, 32, 40, 50]))
        part = max(int(self.limit) // len(wires), LOWEST)
        self.maker.groups[HALL] = Group(maximum=int(self.limit), lends=random.random() < 0.5)
        for number, shape in enumerate(wires):
            self._add_box(number, shape, part)

    def _add_box(self, number: int, shape: Wire, part: int) -> None:
        random, serial = self.random, f"09{10 - number}000000000000000000000000{number}"
        wire_rating = random.choice([16, 20, 24, 32, 40])
        wanted = random.choice([part, part, part, LOWEST, random.randint(LOWEST, 40)])
        stored = min(wanted, wire_rating)
        box = self.boxes[serial] = NetworkBox(
            clock=self.true_clock,
            serial=serial,
            server=(HOME, random.choice(PORTS)),
            host=f"192.168.178.{21 + number}",
            wire=shape,
            unit_rating=random.choice([32, 40]),
            stored=stored,
            state_key=random.choice([Shows.M_IN_FORCE, Shows.M_IN_FORCE, Shows.C_IN_FORCE]),
            online_may_exceed=shape is Wire.V09U and random.random() < 0.5,
            circuit=self.circuit,
            seed=random.randrange(1000),
            network=self.network,
        )
        box.stored = min(stored, box.unit_rating)
        box.boots, box.writing = self.booted, self.wrote
        self.disturbed_at[serial] = self.now
        in_group = random.random() < 0.7
        self.configs[serial] = BoxConfig(
            serial=serial,
            host=box.host,
            name=f"Box {number}",
            wire_rating=float(wire_rating),
            load_group_limit=random.choice([None, None, 10.0, 16.0]),
            in_maker_load_group=in_group,
            minimal_energy=random.choice([0, 0, 2000]),
            zone=ZONE,
        )
        self.set_windows(serial, random_windows(random))
        self.maker.units[serial] = Unit(
            serial=serial,
            wire_rating=wire_rating,
            stored=box.stored,
            group=HALL if in_group else None,
            schedule=self.windows[serial] if random.random() < 0.7 else random_windows(random),
            zone=ZoneInfo(ZONE),
        )

    async def open(self) -> None:
        """The boxes and the maker's server begin."""
        await self.maker.start(MAKERS_SERVER[1])
        for box in self.boxes.values():
            box.start()

    async def close(self) -> None:
        """They end."""
        for box in self.boxes.values():
            box.stop()
        await self.maker.stop()

    async def trouble(self, trouble: BoxIssue) -> None:
        """Something is wrong with the maker's server from now on, or nothing any more."""
        self.note(f"server: {trouble}")
        self.counts.events[f"server {trouble}"] += 1
        await self.maker.set_trouble(trouble)


def random_windows(random: Random) -> Schedule:
    """No windows, a night for every day, or one for the weekend and another for the other days."""
    night = Day(start=random.choice([1290, 1320, 1380]), end=random.choice([300, 360]))
    noon = Day(start=random.choice([0, 660]), end=random.choice([900, 1440]))
    return random.choice(
        [Schedule(), Schedule(custom=True, weekday=night, weekend=night)] * 2
        + [Schedule(custom=True, weekday=night, weekend=noon)]
    )


def car_of(random: Random) -> Car:
    """Some car."""
    return Car(
        wants_kwh=random.choice([0.0, 0.4, random.uniform(2, 50), random.uniform(2, 50)]),
        max_amperes=random.choice([10, 16, 32, 40]),
        ready=random.random() < 0.85,
        awake_when_full=random.random() < 0.3,
    )


def charges(box: NetworkBox) -> bool:
    """Whether it says so."""
    return box.state is State.CHARGING


def _address_of(transport: object) -> Address | None:
    return getattr(transport, "address", None)
