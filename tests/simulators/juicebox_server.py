"""The simulated server that JuiceBoxes report to, with every failure of a real server.

The server follows docs/protocols/juicebox.md (sections in parentheses). It keeps the settings of its units, which the
HTTPS API of the same maker shows (juicenet_cloud.py).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import override

from custom_components.chargekeeper.core.clock import Clock
from tests.simulators import juicebox_wire as wire
from tests.simulators.juicebox import HOST, LOWEST_CURRENT, OFFLINE_AFTER, Address, Car, Circuit, JuiceBox, State
from tests.simulators.juicebox_wire import Command, Status, Wire

FLAGS = (8, 244, 6, 242)
"""The byte `C` by the index modulo 4 (2.5)."""
FIRST_WEEKEND_DAY = 5  # Monday is 0
LOG_LENGTH = 2000
GARBAGE = b"\x00\xc3CMD!!$"


class BoxIssue(StrEnum):
    """Failures of the server."""

    NONE = "none"
    DEAD = "dead"
    """The server has no socket. Afterwards it listens on the same port again."""
    HANG = "hang"
    """The server receives statuses and does not answer."""
    LATE = "late"
    """Each answer comes after `late_seconds`."""
    ELSEWHERE = "elsewhere"
    """Answers come from a port other than the one the status was sent to."""
    GARBAGE = "garbage"
    CHECKSUM = "checksum"
    """Answers with a wrong checksum."""
    UNSAFE_CURRENT = "unsafe_current"
    """`A` is `unsafe`, regardless of the wire rating."""
    UNSAFE_STORED = "unsafe_stored"
    """`M` is `unsafe`, regardless of the wire rating."""
    WANDERING = "wandering"
    """`M` differs in each answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A window in minutes of the local day. An end not after the start means two parts of the same day (1.5)."""

    start: int = 0
    end: int = 1440
    car_ready_by: int = 480

    def allows(self, minute: int) -> bool:
        """Return True if `minute` lies in the window."""
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The hours in which charging is allowed. `custom`: False allows charging at any time (1.5)."""

    custom: bool = False
    weekday: Day = field(default_factory=Day)
    weekend: Day = field(default_factory=Day)


@dataclass(eq=False, kw_only=True)
class Group:
    """A load group: `maximum` A for all its members together (3)."""

    maximum: int
    lends: bool = False
    """True if members without a car keep 6 A and lend the rest. Otherwise all members get the same."""


@dataclass(eq=False, kw_only=True)
class Unit:
    """A box as known to the server: the owner's settings and the last status."""

    serial: str
    name: str = "JuiceBox"
    wire_rating: int = 40
    stored: int | None = None
    """The `M` of its commands; `None` means the wire rating."""
    limit: int | None = None
    """The current that the owner allows, A. 0 means off, `None` means no limit."""
    group: str | None = None
    schedule: Schedule = field(default_factory=Schedule)
    minimal_wh: int = 0
    """Energy in Wh that is charged at any time, regardless of the schedule (1.5)."""
    override_time: int = 0
    """0, or a time in the unit's own seconds: past means "charge now", future "not before" (1.4)."""
    zone: tzinfo = UTC

    status: Status | None = field(default=None, init=False)
    heard_at: float | None = field(default=None, init=False)
    heard: int = field(default=0, init=False)
    answered: int = field(default=0, init=False)
    addresses: set[Address] = field(default_factory=set, init=False)
    """Source addresses of its statuses."""
    command: Command | None = field(default=None, init=False)
    """The last command sent."""
    answered_at: float | None = field(default=None, init=False)
    plugged_at: datetime | None = field(default=None, init=False)
    """When a car was last plugged in or unplugged."""
    session_start: int = field(default=0, init=False)
    """Lifetime energy (Wh) when the car was plugged in."""

    @property
    def state(self) -> State | None:
        """The reported state. A legacy box without `S` is charging if it reports a current (2.3.1)."""
        if self.status is None:
            return None
        drawing = State.CHARGING if self.status.values.get("A") else State.PLUGGED
        code = self.status.values.get("S", drawing)
        return State(code) if code in set(State) else None

    @property
    def lifetime_wh(self) -> int:
        """The lifetime energy, Wh. Legacy boxes report kWh (2.3)."""
        if self.status is None:
            return 0
        return self.status.values.get("L", 0) * (1 if self.status.version else 1000)

    @property
    def session_wh(self) -> int:
        """The energy since the car was plugged in, Wh."""
        return self.lifetime_wh - self.session_start

    @property
    def unit_rating(self) -> int:
        """The unit rating, A. Defaults to the wire rating if the box does not report a rating."""
        reported = None if self.status is None else self.status.values.get("m")
        return self.wire_rating if reported is None else reported

    def local(self, now: datetime) -> datetime:
        """Return `now` in the unit's time zone."""
        return now.astimezone(self.zone)

    def local_epoch(self, now: datetime) -> int:
        """Return the unit's own seconds: the epoch shifted to the unit's local time (1.4, `unit_time`)."""
        offset = self.local(now).utcoffset() or timedelta()
        return int(now.timestamp() + offset.total_seconds())

    def blocked_by_schedule(self, now: datetime) -> bool:
        """Return True if the schedule or an override prevents charging at `now`."""
        if self.override_time:
            return self.override_time > self.local_epoch(now)
        if not self.schedule.custom or self.session_wh < self.minimal_wh:
            return False
        local = self.local(now)
        day = self.schedule.weekend if local.weekday() >= FIRST_WEEKEND_DAY else self.schedule.weekday
        return not day.allows(local.hour * 60 + local.minute)


class _Endpoint(asyncio.DatagramProtocol):
    """The server's socket, which passes datagrams to the server."""

    def __init__(self, receive: Callable[[bytes, Address], None]) -> None:
        self._receive = receive

    @override
    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._receive(data, addr)


class BoxHub:
    """The maker's server over UDP."""

    def __init__(self, clock: Clock, units: Iterable[Unit] = ()) -> None:
        self.clock = clock
        self.units = {unit.serial: unit for unit in units}
        self.groups: dict[str, Group] = {}
        self.delay = 0.0
        """Seconds until the server answers. The real server took up to 4 s (2.5)."""
        self.second_after: float | None = None
        """Seconds from an answer to a second answer, as the real server often sent (2.5)."""
        self.trouble = BoxIssue.NONE
        self.late_seconds = 40.0
        self.unsafe = 80
        self.heard: deque[tuple[float, Address, bytes]] = deque(maxlen=LOG_LENGTH)
        self.sent: deque[tuple[float, Address, bytes]] = deque(maxlen=LOG_LENGTH)
        self._transport: asyncio.DatagramTransport | None = None
        self._elsewhere: asyncio.DatagramTransport | None = None
        self._port = 0
        self._pending: set[Callable[[], None]] = set()

    @property
    def address(self) -> Address:
        """The server's address. Raises `RuntimeError` before the first start."""
        if not self._port:
            raise RuntimeError("the server has not been started")
        return HOST, self._port

    async def start(self, port: int = 0) -> None:
        """Listen on the loopback interface. Port 0 takes a free port. Raise `OSError` if the port is taken."""
        self._transport = await self._open(port, _Endpoint(self._receive))
        self._port = self._transport.get_extra_info("sockname")[1]
        self._elsewhere = await self._open(0, asyncio.DatagramProtocol())

    async def stop(self) -> None:
        """Stop listening, and discard pending answers."""
        for cancel in self._pending:
            cancel()
        self._pending.clear()
        for transport in (self._transport, self._elsewhere):
            if transport is not None:
                transport.close()
        self._transport = self._elsewhere = None
        await asyncio.sleep(0)  # asyncio closes the sockets in the next turn of the loop

    async def set_trouble(self, trouble: BoxIssue) -> None:
        """Replace the current failure. Answers that are pending still arrive."""
        was, self.trouble = self.trouble, trouble
        if trouble is BoxIssue.DEAD:
            await self.stop()
        elif was is BoxIssue.DEAD:
            await self.start(self._port)

    def unit(self, serial: str) -> Unit:
        """Return the unit. An unknown unit is added with default settings."""
        return self.units.setdefault(serial, Unit(serial=serial))

    def seen(self, unit: Unit) -> bool:
        """Return True if the box sent a status within the last five minutes."""
        return unit.heard_at is not None and self.clock.monotonic() - unit.heard_at < OFFLINE_AFTER

    def allowed(self, unit: Unit) -> int:
        """Return the current in A that the unit may draw now by all settings (3)."""
        amperes = min(unit.wire_rating, unit.unit_rating)
        if unit.limit is not None:
            amperes = min(amperes, unit.limit)
        if unit.group is not None:
            amperes = min(amperes, self._share(unit, self.groups[unit.group]))
        if unit.blocked_by_schedule(self.clock.now()):
            amperes = 0
        return amperes if amperes >= LOWEST_CURRENT else 0

    def _share(self, unit: Unit, group: Group) -> int:
        """Return the unit's share in A. A share rises only after the others were commanded to take less."""
        members = [member for member in self.units.values() if member.group == unit.group]
        if not group.lends:
            return group.maximum // len(members)
        busy = [member for member in members if self._is_busy(member)]
        if unit not in busy:
            return LOWEST_CURRENT
        fair = (group.maximum - LOWEST_CURRENT * (len(members) - len(busy))) // len(busy)
        return min(fair, group.maximum - sum(self._claim(member) for member in members if member is not unit))

    def _is_busy(self, unit: Unit) -> bool:
        return self.seen(unit) and unit.state in {State.PLUGGED, State.CHARGING}

    def _claim(self, unit: Unit) -> int:
        """Return the current in A that the box may draw by its last command or, if that is old, offline."""
        if unit.command is None or unit.answered_at is None:
            return unit.wire_rating if unit.stored is None else unit.stored
        if self.clock.monotonic() - unit.answered_at >= OFFLINE_AFTER:
            return unit.command.stored
        return unit.command.online

    async def _open(self, port: int, protocol: asyncio.DatagramProtocol) -> asyncio.DatagramTransport:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, local_addr=(HOST, port))
        return transport

    def _receive(self, message: bytes, address: Address) -> None:
        self.heard.append((self.clock.monotonic(), address, message))
        status = wire.read_status(message)
        if status is None:
            return  # debug, encrypted or damaged
        unit = self.unit(status.serial)
        self._learn(unit, status)
        unit.heard += 1
        unit.addresses.add(address)
        if self.trouble is BoxIssue.HANG or not status.version:
            return  # commands to legacy boxes are unknown (2.3.1)
        delay = self.late_seconds if self.trouble is BoxIssue.LATE else self.delay
        self._later(delay, lambda: self._answer(unit, address))
        if self.second_after is not None:
            self._later(delay + self.second_after, lambda: self._answer(unit, address))

    def _learn(self, unit: Unit, status: Status) -> None:
        before, unit.status = unit.state, status
        unit.heard_at = self.clock.monotonic()
        free = unit.state is State.UNPLUGGED
        if before is None or free is not (before is State.UNPLUGGED):
            unit.plugged_at = self.clock.now()
            unit.session_start = unit.session_start if free else unit.lifetime_wh
        if free:
            unit.override_time = 0  # an override lasts until the car leaves (3)

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        if delay <= 0:
            action()
            return

        def act() -> None:
            self._pending.discard(cancel)
            action()

        cancel = self.clock.call_later(delay, act)
        self._pending.add(cancel)

    def _answer(self, unit: Unit, address: Address) -> None:
        if unit.status is None or self._transport is None or self._elsewhere is None:
            return
        order = self._order(unit)
        message = wire.command(unit.status.version, order)
        if self.trouble is BoxIssue.GARBAGE:
            message = GARBAGE
        elif self.trouble is BoxIssue.CHECKSUM:
            message = message[:-2] + (b"1$" if message[-2:-1] == b"0" else b"0$")
        unit.command, unit.answered_at = order, self.clock.monotonic()
        unit.answered += 1
        self.sent.append((self.clock.monotonic(), address, message))
        (self._elsewhere if self.trouble is BoxIssue.ELSEWHERE else self._transport).sendto(message, address)

    def _order(self, unit: Unit) -> Command:
        index = 1 if unit.command is None else unit.command.index % 999 + 1
        stored = unit.wire_rating if unit.stored is None else unit.stored
        if self.trouble is BoxIssue.WANDERING:
            stored = LOWEST_CURRENT + index % (unit.wire_rating - LOWEST_CURRENT + 1)
        local = unit.local(self.clock.now())
        return Command(
            weekday=local.isoweekday() % 7,
            hour=local.hour,
            minute=local.minute,
            online=self.unsafe if self.trouble is BoxIssue.UNSAFE_CURRENT else self.allowed(unit),
            stored=self.unsafe if self.trouble is BoxIssue.UNSAFE_STORED else stored,
            flags=FLAGS[index % len(FLAGS)],
            index=index,
        )


@dataclass(eq=False, kw_only=True)
class Site:
    """A home with boxes, their maker's server and their shared wire, which is rated for `limit` A."""

    server: BoxHub
    boxes: dict[str, JuiceBox]
    circuit: Circuit
    limit: int


OLD_BOX, NEW_BOX = "0817000000000000000000000071", "0910000000000000000000000092"


def demo_site(clock: Clock, charger: Address, zone: tzinfo = UTC) -> Site:
    """Return two boxes with cars on a wire of 40 A, a v07 box and a v09u box, which report to `charger`.

    Neither the server nor the boxes are started. The owner has set the maker's server to 16 A for each box. At the time
    of the call the first box is inside its charging hours, the second box outside. The second box may draw more than
    its offline current if the server allows that, so the wire is not safe by itself.
    """
    hour = clock.now().astimezone(zone).hour
    units = [
        _demo_unit(OLD_BOX, "Barn", hour - 1, hour + 8, zone),
        _demo_unit(NEW_BOX, "Workshop", hour + 2, hour + 8, zone),
    ]
    server, circuit = BoxHub(clock, units), Circuit(clock)
    old = JuiceBox(
        clock=clock,
        serial=OLD_BOX,
        server=charger,
        host="127.0.0.11",
        wire=Wire.V07,
        stored=20,
        circuit=circuit,
        meter_wh=24_880_114.0,
        seed=1,
    )
    new = JuiceBox(
        clock=clock,
        serial=NEW_BOX,
        server=charger,
        host="127.0.0.12",
        stored=20,
        online_may_exceed=True,
        circuit=circuit,
        seed=2,
    )
    old.plug_in(Car(wants_kwh=60.0))
    new.plug_in(Car(wants_kwh=75.0, max_amperes=40))
    return Site(server=server, boxes={OLD_BOX: old, NEW_BOX: new}, circuit=circuit, limit=40)


def _demo_unit(serial: str, name: str, first_hour: int, last_hour: int, zone: tzinfo) -> Unit:
    """Return a unit that may charge from one full hour to another, on any day."""
    hours = Day(start=first_hour % 24 * 60, end=last_hour % 24 * 60)
    schedule = Schedule(custom=True, weekday=hours, weekend=hours)
    return Unit(serial=serial, name=name, wire_rating=32, stored=20, limit=16, schedule=schedule, zone=zone)
