"""Events of the house with boxes, each kind by its own seeded dice."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import override

from custom_components.chargekeeper.core.errors import ChargerError
from custom_components.chargekeeper.core.transport import SetCharging, SetCurrent, Setting
from tests.simulation import happenings
from tests.simulation.boxes.home import PORTS
from tests.simulation.boxes.house import FOREIGN, BoxHouse, car_of, random_windows
from tests.simulation.boxes.invariants import Foreign, Pauses
from tests.simulation.boxes.labels import label_of_car, label_of_config, label_of_schedule
from tests.simulation.boxes.network import HOME, Endpoint, NetworkBox
from tests.simulation.happenings import MINUTE, arm_fuse, outage_length, set_clock, some_override, spin
from tests.simulation.labels import label_of_command
from tests.simulators import juicebox_wire as wire
from tests.simulators.juicebox import State
from tests.simulators.juicebox_server import BoxIssue, Unit
from tests.simulators.juicebox_wire import Wire

POINTS = (
    "journal not saved yet",
    "journal saved",
    "boxes not saved yet",
    "boxes saved",
    "group not saved yet",
    "group saved",
)


class Process(happenings.Process[BoxHouse]):
    """A source of events for the house with boxes."""

    def some_box(self) -> NetworkBox:
        """Return any of the boxes."""
        return self.house.boxes[self.random.choice(list(self.house.boxes))]


class Weather(Process):
    """The manufacturer's server fails in every way, for seconds or hours, and comes back."""

    label = "Weather"
    bad = False

    @override
    async def turn(self) -> float:
        random, house = self.random, self.house
        if self.bad:
            await self.heal()
            return self.wait(2)
        self.bad = True
        if random.random() < 0.1:
            house.note("names cannot be looked up")
            house.network.resolves = False
        house.maker.delay = random.choice([0.0, 0.0, 1.0, 4.0])
        house.maker.second_after = random.choice([None, None, 1.0, 3.0])
        house.maker.late_seconds = random.choice([6.0, 12.0, 40.0])
        house.maker.unsafe = random.choice([48, 80, 99])
        trouble = random.choices(
            [
                *(BoxIssue.DEAD, BoxIssue.HANG, BoxIssue.LATE, BoxIssue.ELSEWHERE, BoxIssue.GARBAGE, BoxIssue.CHECKSUM),
                *(BoxIssue.UNSAFE_CURRENT, BoxIssue.UNSAFE_STORED, BoxIssue.WANDERING, BoxIssue.NONE),
            ],
            [20, 20, 6, 4, 6, 6, 8, 8, 1, 6],
        )[0]
        await house.trouble(trouble)
        if trouble is BoxIssue.WANDERING:
            return random.uniform(30, 120)
        return outage_length(random)

    @override
    async def heal(self) -> None:
        self.bad, self.house.network.resolves = False, True
        self.house.maker.delay, self.house.maker.second_after = 0.0, None
        await self.house.trouble(BoxIssue.NONE)


class Owner(Process):
    """The owner acts in the manufacturer's app."""

    label = "Owner"

    @override
    async def turn(self) -> float:
        random, house = self.random, self.house
        unit = house.maker.units[self.some_box().serial]
        deeds: list[Callable[[Unit], str]] = [self._limit, self._limit, self._schedule, self._override, self._group]
        house.counts.events["acts of others"] += 1
        house.note(f"{unit.serial}: somebody else: {random.choice(deeds)(unit)}")
        return self.wait(3)

    @override
    async def heal(self) -> None:
        for unit in self.house.maker.units.values():
            unit.limit = None

    def _limit(self, unit: Unit) -> str:
        unit.limit = self.random.choice([None, None, 0, 8, 16, 24])
        return f"limit {unit.limit}"

    def _schedule(self, unit: Unit) -> str:
        unit.schedule = random_windows(self.random)
        return f"schedule {label_of_schedule(unit.schedule)}"

    def _override(self, unit: Unit) -> str:
        unit.override_time = 0 if unit.override_time else 1
        return f"override {bool(unit.override_time)}"

    def _group(self, unit: Unit) -> str:
        group = next(iter(self.house.maker.groups.values()))
        group.lends = not group.lends
        return f"the group lends: {group.lends}"


class Lines(Process):
    """Datagrams are lost, duplicated, delayed and damaged; boxes lose their network, or open another port."""

    label = "Lines"

    @override
    async def turn(self) -> float:
        random, box = self.random, self.some_box()
        self.house.disturbed_at[box.serial] = self.house.now
        kind = random.choice(["good", "good", "good", "lossy", "double", "mixed", "away", "port"])
        box.line.loss = {"lossy": 0.3, "mixed": 0.1}.get(kind, 0.0)
        box.line.duplicate = 0.4 if kind in {"double", "mixed"} else 0.0
        box.line.reorder = 0.1 if kind == "mixed" else 0.0
        box.line.corrupt = 0.05 if kind == "mixed" else 0.0
        box.wifi = kind != "away"
        if kind == "port" and box.powered:
            box.reconnect()
        self.house.note(f"{box.serial}: line {kind}")
        self.house.counts.events[f"line {kind}"] += 1
        return random.uniform(1, 40) * MINUTE if kind == "away" else self.wait(2)

    @override
    async def heal(self) -> None:
        for box in self.house.boxes.values():
            box.line.loss = box.line.duplicate = box.line.reorder = box.line.corrupt = 0.0
            box.wifi = True
            self.house.disturbed_at[box.serial] = self.house.now


class Power(Process):
    """The power of one box or of all is cut, with or without that of Home Assistant."""

    label = "Power"
    off: frozenset[str] = frozenset()

    @override
    async def turn(self) -> float:
        random, house = self.random, self.house
        if self.off:
            await self.heal()
            return self.wait(5)
        kind = random.choice(["one box", "one box", "all boxes", "the house"])
        house.note(f"power cut: {kind}")
        house.counts.events[f"power cuts of {kind}"] += 1
        self.off = frozenset([self.some_box().serial] if kind == "one box" else house.boxes)
        for serial in self.off:
            if house.boxes[serial].powered:
                house.boxes[serial].switch_off()
            house.disturbed_at[serial] = house.now
        if kind == "the house":
            house.kill_home()
        return random.choice([1.0, 20.0, 3 * MINUTE, 30 * MINUTE])

    @override
    async def heal(self) -> None:
        for serial in sorted(self.off):
            self.house.note(f"{serial}: power returns")
            self.house.boxes[serial].switch_on()
        self.off = frozenset()


class Cars(Process):
    """Cars come, charge and leave."""

    label = "Cars"
    first_after = 0.3

    @override
    async def turn(self) -> float:
        box, random = self.some_box(), self.random
        if not box.powered:
            return self.wait(1)
        if box.car is None:
            car = car_of(random)
            self.house.note(f"{box.serial}: a car comes: {label_of_car(car)}")
            self.house.counts.events["sessions"] += 1
            box.plug_in(car)
        elif not box.car.ready:
            box.wake_car()
        elif random.random() < 0.4:
            self.house.note(f"{box.serial}: the car leaves")
            self.house.unplugged_at[box.serial] = self.house.now
            box.unplug()
        return self.wait(1.5)


class User(Process):
    """The user acts in Home Assistant, and enters other limits and windows."""

    label = "User"
    first_after = 0.3

    @override
    async def turn(self) -> float:
        for _ in range(self.random.choice([1, 1, 1, 4])):
            await self.act(self.some_box().serial)
        return self.wait(1)

    async def act(self, serial: str) -> None:
        """Perform one random action."""
        random = self.random
        deeds: list[tuple[Callable[[str], Awaitable[None]], int]] = [
            (self._override, 8),
            (self._charging, 7),
            (self._current, 5),
            (self._configure, 4),
            (self._limit, 1),
            (self._stored, 1),
        ]
        await random.choices([deed for deed, _ in deeds], [weight for _, weight in deeds])[0](serial)

    async def _override(self, serial: str) -> None:
        home = self.house.home
        if home is None or home.dead:
            return
        what, switch = some_override(self.random, home, serial)
        self._touch(serial)
        self.house.act(serial, what, switch, lambda _answer: self._touch(serial))

    async def _charging(self, serial: str) -> None:
        setting = SetCharging(self.random.random() < 0.4)
        if setting.on:
            self._touch(serial)
        self._set(serial, setting)

    async def _current(self, serial: str) -> None:
        self._set(serial, SetCurrent(self.random.choice([5, 6, 8, 10, 13, 16, 20, 24, 32, 40])))

    def _set(self, serial: str, setting: Setting) -> None:
        def told(_answer: object) -> None:
            if isinstance(setting, SetCharging) and setting.on:
                self._touch(serial)

        self.house.act(serial, label_of_command(setting), lambda charger: charger.command(setting), told)

    def _touch(self, serial: str) -> None:
        next(watch for watch in self.house.watches if isinstance(watch, Pauses)).touched(serial)

    async def _configure(self, serial: str) -> None:
        random, house = self.random, self.house
        match random.randrange(4):
            case 0:
                house.configure(serial, load_group_limit=random.choice([None, 8.0, 10.0, 16.0, 20.0]))
            case 1:
                house.configure(serial, wire_rating=float(random.choice([16, 20, 24, 32, 40])))
            case 2:
                house.configure(serial, in_maker_load_group=random.random() < 0.5)
            case _:
                house.set_windows(serial, random_windows(random))
        house.note(f"{serial}: the user enters {label_of_config(house.configs[serial])}")
        await house.reload_home()

    async def _limit(self, serial: str) -> None:
        limit = float(self.random.choice([16, 20, 24, 32, 40, 50]))
        self.house.note(f"the limit of the load group is {limit:g} A from now on")
        await self.house.set_limit(limit)

    async def _stored(self, serial: str) -> None:
        """Confirm another offline current to be written, or enter the present one."""
        house, home, amps = self.house, self.house.home, self.random.choice([6, 8, 10, 13, 16])
        if home is None or home.dead:
            return
        box = home.served[serial]
        try:
            (box.change_offline if box.state.offline is not None else box.confirm_offline)(amps)
        except ChargerError:
            return
        house.note(f"{serial}: the user has {amps} A stored")
        house.confirmed[serial] = amps


class Operator(Process, happenings.Operator[BoxHouse]):
    """Home Assistant is restarted, killed at any point, and down for a while; its clock is set."""

    label = "Operator"
    downs = (1.0, 20.0, 90.0, 10 * MINUTE, 10 * MINUTE)

    @override
    async def turn(self) -> float:
        house, random = self.house, self.random
        if house.home is None:
            house.start_home()
            return self.wait(5)
        kinds = ["reload", "group", "restart", "kill", "kill in a command", "fuse", "clock"]
        match random.choices(kinds, [10, 5, 15, 15, 20, 20, 10])[0]:
            case "reload":
                await house.reload_home()
                return self.wait(5)
            case "group":
                await house.set_limit(house.limit)
                return self.wait(5)
            case "restart":
                await house.stop_home()
                return self.down()
            case "clock":
                set_clock(house, random)
                return self.wait(5)
            case "fuse":
                arm_fuse(house, random, POINTS)
                return self.wait(5)
            case "kill in a command":
                await User(house, random, self.cooldown).act(self.some_box().serial)
                await spin(random.randrange(60))
            case _:
                pass
        house.kill_home()
        return self.down()


class Strangers(Process):
    """A stranger in the network sends datagrams like those of boxes and servers, or nonsense."""

    label = "Strangers"

    @override
    async def turn(self) -> float:
        house = self.house
        watch = next(watch for watch in house.watches if isinstance(watch, Foreign))
        await house.clock.settle()
        box = self.some_box()
        spoilt = self.random.random() < 0.3 and box.powered
        stranger = house.network.bind(box.host if spoilt else FOREIGN)
        data = _spoilt(_copy(box), self.random) if spoilt else self._anything(box)
        stranger.readable = None
        before = watch.unharmed()
        for _ in range(1 if spoilt else self.random.choice([1, 1, 60])):
            stranger.sendto(data, (HOME, self.random.choice(PORTS)))
            await asyncio.sleep(0)
        await house.clock.settle()
        watch.compare(before, watch.unharmed(), data, _has_mail(stranger))
        stranger.close()
        house.counts.events["foreign datagrams"] += 1
        return self.wait(1)

    def _anything(self, box: NetworkBox) -> bytes:
        random = self.random
        unknown = replace_serial(_copy(box), "0910999999999999999999999999")
        heard = _copy(box) if box.wifi else unknown
        return random.choice(
            [
                heard,
                heard,
                unknown,
                wire.debug(box.serial, "NFO", "BOT:EMWERK-JB201-1.0.46, X, Y"),
                wire.encrypted(box.serial, "09e", 7, random.randbytes(100)),
                wire.status(Wire.V09U, box.serial, _values(random), charging=False),
                wire.command("09u", wire.Command(weekday=1, hour=1, minute=1, online=40, stored=40, flags=6, index=1)),
                random.randbytes(random.choice([0, 10, 300, 65507])),
            ]
        )


def _copy(box: NetworkBox) -> bytes:
    """Return the last status of a box."""
    return next((data for _, data in reversed(box.sent) if b":DBG," not in data), b"")


def _spoilt(data: bytes, random: Random) -> bytes:
    """Return a status with one digit of the limit or the energy changed, and the old checksum."""
    while True:
        place = random.randrange(len(data) // 2, len(data) - 6)
        other = b"7" if data[place : place + 1] != b"7" else b"3"
        spoilt = data[:place] + other + data[place + 1 :]
        if wire.read_status(spoilt) is None:  # rarely, the changed status has the same checksum
            return spoilt


def replace_serial(data: bytes, serial: str) -> bytes:
    """Return the same status for another box, with a valid checksum."""
    body = serial.encode() + data[data.index(b":") : data.index(b"!")]
    return body + b"!" + wire.checksum(body) + b":"


def _values(random: Random) -> dict[str, int]:
    letters = "sFuVLSTMCmtiefrEAp"
    values = {letter: random.randrange(60) for letter in letters} | dict.fromkeys(("b", "B", "X", "Y", "P", "E2"), 0)
    return values | {"S": int(State.UNPLUGGED), "V": 2400, "L": 10**9}


def _has_mail(endpoint: Endpoint) -> bool:
    try:
        endpoint.recvfrom(1)
    except BlockingIOError:
        return False
    return True


ALL: tuple[type[Process], ...] = (Weather, Owner, Lines, Power, Cars, User, Operator, Strangers)
