"""The house with boxes: its contents, the manufacturer's server, and the watch over every datagram and current."""

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
"""The address of the simulated server; on this network, only our machine has a loopback interface."""
ZONE = "Europe/Berlin"
FOREIGN = "192.168.178.99"
LOWEST = 6
HALL = "hall"
TELLING = 330.0
"""Seconds within which each box gets a new limit, or falls back to its own limit."""


class WatchedCircuit(Circuit):
    """The circuit that the boxes share; the watches see every change of its current."""

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
    """Our command on its way to a box. `relayed` is True if we sent it during an arrival from the server."""

    serial: str
    data: bytes
    command: Command
    relayed: bool
    theirs: bytes | None


class BoxWatch(Watch):
    """An observer of the house with boxes; it also sees datagrams and currents."""

    def __init__(self, house: BoxHouse) -> None:
        super().__init__(house)
        self.house = house

    def status_arrives(self, serial: str, data: bytes) -> None:
        """Handle a status of a box before it reaches us; it comes from the true address of the box."""

    def status_arrived(self, serial: str, data: bytes) -> None:
        """Handle a status of a box after its immediate effects."""

    def commanded(self, sent: Sent) -> None:
        """Handle a command that we send to a box."""

    def server_answers(self, serial: str, data: bytes) -> None:
        """Handle a datagram of the manufacturer's server before it reaches the socket of a box."""

    def server_answered(self, serial: str, data: bytes) -> None:
        """Handle a datagram of the manufacturer's server after its immediate effects."""

    def booted(self, serial: str) -> None:
        """Handle the start of a box."""

    def wrote(self, serial: str, order: Command) -> None:
        """Handle that a box wrote its EEPROM for a command."""

    def pause_saved(self, serial: str, pause: JsonObject | None) -> None:
        """Handle a saved intent store; its pause may have changed."""

    def current_changes(self) -> None:
        """Handle that the current is about to change; it was constant since the last change."""

    def current_changed(self) -> None:
        """Handle a changed current."""


class BoxHouse(Scene):
    """The house of one episode, with boxes."""

    calm_hours, last_hours = 1.0, 0.5

    def __init__(self, name: str, start: datetime, watches: Sequence[Callable[[BoxHouse], Watch]]) -> None:
        super().__init__(name, QuietClock(start))
        self.network = Network()
        self.circuit = WatchedCircuit(self)
        self.maker = BoxHub(self.true_clock)
        self.boxes: dict[str, NetworkBox] = {}
        self.configs: dict[str, BoxConfig] = {}
        self.windows: dict[str, Schedule] = {}
        """The user's time-of-use windows as in the protocol page; our configuration is made from these windows."""
        self.limit = 0.0
        """The limit of the load group in A."""
        self.confirmed: dict[str, int] = {}
        """The offline currents that the user confirmed to be written."""
        self.served = self.random.random() < 0.8
        self.disturbed_at: dict[str, float] = {}
        """When the connection between a box and us was last disturbed."""
        self.home: BoxHome | None = None
        self.home_since = inf
        self.told_excess = False
        """True if our repair last said that the offline currents together exceed the limit of the load group."""
        self.learnt: set[str] = set()
        """The boxes with an offline current that we knew at any time."""
        self.unplugged_at: dict[str, float] = {}
        self.limits_before: list[tuple[float, float]] = []
        """Times and former values of changes of the group limit, until all boxes have a newer command."""
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
        """The load group as configured by the user."""
        return GroupSpec(HALL, self.limit, tuple(Member(key_of(serial)) for serial in self.boxes))

    @property
    def upstream(self) -> dict[str, object]:
        """The manufacturer's server as configured by the user."""
        return {"host": MAKERS_SERVER[0], "port": MAKERS_SERVER[1]} if self.served else {}

    @property
    def up_for(self) -> float:
        """The seconds since the start of Home Assistant."""
        return -inf if self.home is None or self.home.dead else self.now - self.home_since

    @property
    def limit_in_force(self) -> float:
        """The limit of the load group in A; the highest recent limit until all boxes have a newer command."""
        return max([self.limit, *(limit for _, limit in self.limits_before)])

    def local(self) -> datetime:
        """Return the local time of Home Assistant."""
        return self.clock.now().astimezone(ZoneInfo(ZONE))

    def inside(self, serial: str) -> bool:
        """Return True if the user's windows let a box charge now."""
        schedule, local = self.windows[serial], self.local()
        day = schedule.weekend if local.weekday() >= 5 else schedule.weekday
        return not schedule.custom or day.allows(local.hour * 60 + local.minute)

    def highest(self, serial: str) -> float:
        """Return the lowest of the user's limits, the unit's rating and the limit of the group, in A."""
        config = self.configs[serial]
        limits = [config.wire_rating, config.load_group_limit, self.boxes[serial].unit_rating, self.limit]
        return min(limit for limit in limits if limit is not None)

    def reachable_for(self, serial: str) -> float:
        """Return the seconds for which datagrams between a box and us have surely arrived and been read."""
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
        """Enter a limit of the load group, perhaps the same one; its entry is set up again."""
        self.limits_before.append((self.now, self.limit))
        self.limit = limit
        self.maker.groups[HALL].maximum = int(limit)
        if self.home is not None and not self.home.dead:
            with unless_killed(self.home):
                await self.home.reload_group(self.spec)
            self._follow_repair()

    def configure(self, serial: str, **changes: object) -> None:
        """Change the user's configuration of a box; the next `reload_home` applies it."""
        self.configs[serial] = replace(self.configs[serial], **changes)  # type: ignore[arg-type]

    def set_windows(self, serial: str, schedule: Schedule) -> None:
        """Enter other windows of the user."""
        self.windows[serial] = schedule
        days = [TouDay(day.start, day.end) for day in (schedule.weekday, schedule.weekend)]
        tou = Tou(enabled=schedule.custom, weekday=days[0], weekend=days[1])
        self.configure(serial, schedule=tou.windows(ZONE) if schedule.custom else ())

    def _follow_repair(self) -> None:
        """Follow the repair of the group, from the setup of the group on."""
        home = self.home
        if home is None or home.dead or home.group is None:
            return

        def judge(view: GroupView) -> None:
            if not home.dead:
                self.told_excess = view.stored_excess > 0

        judge(home.group.view)
        home.group.listen(judge)

    # Observations

    def current_changes(self) -> None:
        """Pass on that the current of the boxes is about to change."""
        for watch in self.box_watches:
            watch.current_changes()

    def current_changed(self) -> None:
        """Handle a changed current."""
        for watch in self.box_watches:
            watch.current_changed()

    @override
    def journal_saved(self, serial: str, before: Text | None, after: Text) -> None:
        super().journal_saved(serial, before, after)
        for watch in self.box_watches:
            watch.pause_saved(serial, json.loads(after)["pause"])

    def wrote(self, serial: str, order: Command) -> None:
        """Record that a box wrote its EEPROM."""
        self.note(f"{serial}: writes {order.stored} A to its EEPROM")
        for watch in self.box_watches:
            watch.wrote(serial, order)

    def booted(self, serial: str) -> None:
        """Handle the start of a box."""
        self.disturbed_at[serial] = self.now
        for watch in self.box_watches:
            watch.booted(serial)

    def serial_at(self, host: str) -> str | None:
        """Return the serial number of the box at an address."""
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
        """Return the box of a datagram: its own status, or an answer of the manufacturer's server on its socket."""
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
        """Start the boxes and the manufacturer's server."""
        await self.maker.start(MAKERS_SERVER[1])
        for box in self.boxes.values():
            box.start()

    async def close(self) -> None:
        """Stop the boxes and the manufacturer's server."""
        for box in self.boxes.values():
            box.stop()
        await self.maker.stop()

    async def trouble(self, trouble: BoxIssue) -> None:
        """Set the issue of the manufacturer's server from now on, or none."""
        self.note(f"server: {trouble}")
        self.counts.events[f"server {trouble}"] += 1
        await self.maker.set_trouble(trouble)


def random_windows(random: Random) -> Schedule:
    """Return no windows, a night for every day, or one night for the weekend and another for other days."""
    night = Day(start=random.choice([1290, 1320, 1380]), end=random.choice([300, 360]))
    noon = Day(start=random.choice([0, 660]), end=random.choice([900, 1440]))
    return random.choice(
        [Schedule(), Schedule(custom=True, weekday=night, weekend=night)] * 2
        + [Schedule(custom=True, weekday=night, weekend=noon)]
    )


def car_of(random: Random) -> Car:
    """Return a random car."""
    return Car(
        wants_kwh=random.choice([0.0, 0.4, random.uniform(2, 50), random.uniform(2, 50)]),
        max_amperes=random.choice([10, 16, 32, 40]),
        ready=random.random() < 0.85,
        awake_when_full=random.random() < 0.3,
    )


def charges(box: NetworkBox) -> bool:
    """Return True if the box reports that it charges."""
    return box.state is State.CHARGING


def _address_of(transport: object) -> Address | None:
    return getattr(transport, "address", None)
