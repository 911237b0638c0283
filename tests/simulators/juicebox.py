"""Simulated JuiceBoxes with their cars and wiring, reporting over real loopback sockets to whoever serves them.

They follow docs/protocols/juicebox.md (sections in parentheses). Where it is silent they are strict or forgetful: a
command of the wrong width is refused, a power cut takes the clock and the quarter hours, legacy boxes obey nobody.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from math import inf
from random import Random
import socket

from custom_components.chargekeeper.core.clock import Clock
from tests.simulators import juicebox_wire as wire
from tests.simulators.juicebox_wire import Command, Flaw, Wire

HOST = "127.0.0.1"
OFFLINE_AFTER = 300.0
"""Seconds without an accepted command after which a box uses its stored limit (2.6)."""
LOWEST_CURRENT = 6
"""A; below it there is no charging (0, fact 4)."""
CADENCES = {True: (9.0, 10.0), False: (29.0, 30.0)}
"""Seconds between two reports while charging, and otherwise (2.3.5)."""
LATCHING_CURRENT = 10
"""A; a car that latches and first saw this or less refuses more later (2.5)."""
POWER_FACTOR, IDLE_POWER_FACTOR, IDLE_CURRENT = 996, 9, 1.3
"""As in the captures S2 and S3: a car that charges, and a full one that stays awake."""
SLOTS, SLOT_MINUTES = 96, 15
DAY_MINUTES, WEEK_MINUTES = 1440, 10080
LARGEST_DATAGRAM = 65536
LOG_LENGTH = 2000
NOTHING = 1e-6  # kWh; less than this is a full car
SHORTEST_STEP = 1e-3  # seconds; keeps rounding from stopping the march of events
ENCRYPTED_LENGTH = 192  # bytes (2.3.4)
BANNERS = {
    "07": "EMWERK-JB_1_1-1.4.0.28, 2021-04-27T20:39:50Z, ZentriOS-WZ-3.6.4.0",
    "09u": "EMWERK-JB201-1.0.46, Gecko_OS-STANDARD-4.2.7-11064, WGM160P",
}
"""What a box says of its firmware when it boots (2.1, 2.3.3), by version; nothing is known of legacy boxes."""

type Address = tuple[str, int]


class State(IntEnum):
    """The letter `S` (2.3.2); 3 to 5 are errors."""

    UNPLUGGED = 0
    PLUGGED = 1
    CHARGING = 2
    ERROR_1 = 3
    ERROR_2 = 4
    ERROR_3 = 5


class Shows(StrEnum):
    """What `M` and `C` of a v09u box mean: sources disagree (2.3, note)."""

    M_IN_FORCE = "m_in_force"
    """`M` is the limit in force, `C` the stored one."""
    C_IN_FORCE = "c_in_force"
    """`M` is the stored limit, `C` the one in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Car:
    """A car: how much it still takes (kWh), at most how fast (A)."""

    wants_kwh: float = 30.0
    max_amperes: int = 32
    ready: bool = True
    """Whether it asks for power; one that waits for its own timer does not."""
    awake_when_full: bool = False
    """Full, it stays in the charging state for hours and takes next to nothing (2.3, capture S3)."""
    latches: bool = False
    """It refuses more than it was first offered, where that was 10 A or less (2.5)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A datagram that the box did not obey, at monotonic time `at`."""

    at: float
    flaw: Flaw
    message: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """A command that the box obeyed, at monotonic time `at`."""

    at: float
    command: Command


@dataclass(eq=False, kw_only=True)
class Line:
    """The network between a box and its server; each figure is the share of datagrams that it happens to."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """Held back for `held_for` seconds, so that the next ones overtake it."""
    corrupt: float = 0.0
    held_for: float = 12.0
    seed: int = 0
    lost: int = field(default=0, init=False)
    _random: Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def carry(self, message: bytes) -> Iterator[tuple[float, bytes]]:
        """What comes out at the other end, each with its delay in seconds."""
        if self._happens(self.loss):
            self.lost += 1
            return
        for _ in range(2 if self._happens(self.duplicate) else 1):
            delay = self.held_for if self._happens(self.reorder) else 0.0
            yield delay, self._spoilt(message) if self._happens(self.corrupt) else message

    def _happens(self, share: float) -> bool:
        return share > 0 and self._random.random() < share

    def _spoilt(self, message: bytes) -> bytes:
        """Another byte in one place: one bit of it, or the 0xC3 of capture S10.

        One status in forty thousand would have that checksum too; nobody could tell, and UDP's own sum would drop it.
        """
        while True:
            place = self._random.randrange(len(message))
            byte = self._random.choice((0xC3, message[place] ^ (1 << self._random.randrange(8))))
            spoilt = message[:place] + bytes((byte,)) + message[place + 1 :]
            if wire.read_status(spoilt) is None:
                return spoilt


class Circuit:
    """The wire that several boxes share: what they draw together, moment by moment."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._drawn: dict[str, float] = {}
        self._since = clock.monotonic()
        self._total = self._peak = 0.0
        self._seconds: dict[float, float] = {}

    @property
    def drawn(self) -> float:
        """A; the sum at this moment."""
        return self._total

    @property
    def peak(self) -> float:
        """A; the highest sum that lasted longer than no time at all."""
        self._pass()
        return self._peak

    def seconds_above(self, amperes: float) -> float:
        """How long the sum was above that many amperes."""
        self._pass()
        return sum(seconds for total, seconds in self._seconds.items() if total > amperes)

    def note(self, serial: str, amperes: float) -> None:
        """A box draws that much from now on."""
        self._pass()
        self._drawn[serial] = amperes
        self._total = round(sum(self._drawn.values()), 3)

    def _pass(self) -> None:
        now = self._clock.monotonic()
        if now > self._since:
            self._seconds[self._total] = self._seconds.get(self._total, 0.0) + now - self._since
            self._peak = max(self._peak, self._total)
            self._since = now


@dataclass(eq=False, kw_only=True)
class JuiceBox:
    """One box. Change what it is made of before `start` or `switch_on`, the rest by its methods.

    Currents are amperes, voltage is volts, energies are Wh if not said otherwise, times are seconds.
    """

    clock: Clock
    serial: str
    server: Address
    """Where it reports to; looked up when it boots or connects anew."""
    host: str = HOST
    """Its own address, any of 127.0.0.0/8."""
    wire: Wire = Wire.V09U
    unit_rating: int = 40
    stored: int = 40
    """The offline limit in its EEPROM (2.6)."""
    obeys: bool = True
    """Otherwise it ignores commands and its counter `s` stands still (2.2, 2.3)."""
    stores: bool = True
    """Otherwise it follows commands, and keeps its offline limit whatever they say."""
    constants: dict[str, int] = field(default_factory=dict)
    """Letters of its status that always show the same."""
    state_key: Shows = Shows.M_IN_FORCE
    online_may_exceed: bool = False
    """Whether the online limit may be above the stored one, as on some v09u boxes (0, fact 4)."""
    forgets_stored: int | None = None
    """The stored limit after a power cut, where a box does not keep it (2.6, #90)."""
    window: tuple[int, int] | None = None
    """A schedule that it goes on with offline: minutes of its own day; a power cut clears it (0, fact 5; 4)."""
    encrypts: bool = False
    line: Line = field(default_factory=Line)
    circuit: Circuit | None = None
    voltage: float = 240.0
    frequency: float = 59.99
    temperature: int = 24
    boot_takes: float = 5.0
    meter_wh: float = 4_555_804.0
    """What its meter of lifetime energy showed when it was last looked at; see `lifetime_wh`."""
    seed: int = 0
    """Of the small differences between two reports."""

    car: Car | None = field(default=None, init=False)
    wifi: bool = field(default=True, init=False)
    """Whether datagrams leave and reach it."""
    writes: int = field(default=0, init=False)
    """How often its EEPROM was written: each time a command brought another `M`."""
    statuses: int = field(default=0, init=False)
    unanswered: int = field(default=0, init=False)
    """Statuses before whose successor no command came that the box obeyed."""
    slowest_answer: float = field(default=0.0, init=False)
    fallbacks: int = field(default=0, init=False)
    """How often it ran alone, after having been served."""
    sent: deque[tuple[float, bytes]] = field(default_factory=lambda: deque(maxlen=LOG_LENGTH), init=False)
    commands: deque[Taken] = field(default_factory=lambda: deque(maxlen=LOG_LENGTH), init=False)
    refusals: deque[Refusal] = field(default_factory=lambda: deque(maxlen=LOG_LENGTH), init=False)

    _session_wh: float = field(default=0.0, init=False, repr=False)
    _booted: bool = field(default=False, init=False, repr=False)
    _fault: int = field(default=0, init=False, repr=False)
    _online: int = field(default=0, init=False, repr=False)
    _online_until: float = field(default=-inf, init=False, repr=False)
    _cap: int | None = field(default=None, init=False, repr=False)
    _at: float = field(default=0.0, init=False, repr=False)
    _booted_at: float = field(default=0.0, init=False, repr=False)
    _index: int = field(default=0, init=False, repr=False)
    _turn: int = field(default=0, init=False, repr=False)
    _quarters: dict[int, float] = field(default_factory=dict, init=False, repr=False)
    _first_quarter: int = field(default=0, init=False, repr=False)
    _clock_set: tuple[float, float] | None = field(default=None, init=False, repr=False)
    _status_received_at: float | None = field(default=None, init=False, repr=False)
    _state: State = field(default=State.UNPLUGGED, init=False, repr=False)
    _amperes: float = field(default=0.0, init=False, repr=False)
    _fresh: bool = field(default=False, init=False, repr=False)
    _peer: Address = field(default=(HOST, 0), init=False, repr=False)
    _socket: socket.socket | None = field(default=None, init=False, repr=False)
    _timers: dict[str, Callable[[], None]] = field(default_factory=dict, init=False, repr=False)
    _held: set[Callable[[], None]] = field(default_factory=set, init=False, repr=False)
    _random: Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    # What people do to it

    def start(self) -> None:
        """Go on as if it had been on, unserved, for long; it reports to its server at once."""
        self._at = self._booted_at = self.clock.monotonic()
        self._booted = True
        self._decide()
        self._connect()
        self._report()

    def stop(self) -> None:
        """The end of the simulation: no socket and no timer is left."""
        self._live()
        self._fall_silent()
        self._booted = False
        self._decide()

    def switch_on(self) -> None:
        """Power returns: after `boot_takes` it says so and runs on its stored limit until it is served."""
        self._at = self.clock.monotonic()
        self._set_timer("boot", self.boot_takes, self._boot)

    def switch_off(self) -> None:
        """Power goes, and with it the online limit, the schedule, the clock and the session's energy."""
        self.stop()
        self._online_until = -inf
        self._clock_set = self._status_received_at = self.window = None
        self._quarters.clear()
        self._index = 0
        self._session_wh = 0.0
        self.stored = self.stored if self.forgets_stored is None else self.forgets_stored

    def plug_in(self, car: Car | None = None) -> None:
        """Begin a session with a car; without one, with a thirsty one."""
        self._live()
        self.car = car or Car()
        self._cap = None
        self._decide()

    def unplug(self) -> None:
        """End the session."""
        self._live()
        self.car = None
        self._decide()

    def wake_car(self) -> None:
        """The car's own timer is over: it asks for power. Raises `RuntimeError` without a car."""
        self._live()
        if self.car is None:
            raise RuntimeError(f"no car is plugged in at {self.serial}")
        self.car = replace(self.car, ready=True)
        self._decide()

    def set_fault(self, code: int) -> None:
        """Put it in error 3, 4 or 5; 0 mends it (2.3.2)."""
        self._live()
        self._fault = code
        self._decide()

    def reconnect(self) -> None:
        """Open its socket anew: another source port, and the server's present address (2.2)."""
        self._disconnect()
        self._connect()

    # What can be seen of it

    @property
    def address(self) -> Address:
        """Where its datagrams come from. Raises `RuntimeError` while it is off."""
        if self._socket is None:
            raise RuntimeError(f"box {self.serial} is off")
        host, port = self._socket.getsockname()
        return str(host), int(port)

    @property
    def powered(self) -> bool:
        """On, and done with booting."""
        return self._booted

    @property
    def online(self) -> bool:
        """A command came within the last five minutes."""
        return self.clock.monotonic() < self._online_until

    @property
    def in_force(self) -> int:
        """A; the limit that it obeys now (0, fact 4)."""
        if not self.online:
            return min(self.unit_rating, self.stored)
        return min(self.unit_rating, self._online, self.unit_rating if self.online_may_exceed else self.stored)

    @property
    def state(self) -> State:
        """What it reports as `S`."""
        return self._state

    @property
    def amperes(self) -> float:
        """A; what the car draws at this moment."""
        return self._amperes

    @property
    def watts(self) -> float:
        """W; real power."""
        return self.voltage * self._amperes * self._power_factor / 1000

    @property
    def lifetime_wh(self) -> float:
        """Wh that ever went through it."""
        self._live()
        return self.meter_wh

    @property
    def session_wh(self) -> float:
        """Wh since charging began; starts anew with each end of charging (2.3, `E`)."""
        self._live()
        return self._session_wh

    @property
    def minute_of_week(self) -> float | None:
        """Its own clock: minutes since Sunday, 00:00; `None` until a command has set it."""
        own = self._own_minute
        return None if own is None else own % WEEK_MINUTES

    @property
    def slots(self) -> dict[int, float]:
        """Wh by quarter hour of its day, where it knows them: of the last day, since its clock was set."""
        self._live()
        known = ((slot, self._energy_in(slot)) for slot in range(SLOTS))
        return {slot: energy for slot, energy in known if energy is not None}

    def _energy_in(self, slot: int) -> float | None:
        own = self._own_minute
        if own is None:
            return None
        now = int(own // SLOT_MINUTES)
        latest = now - (now - slot) % SLOTS
        return self._quarters.get(latest, 0.0) if latest >= self._first_quarter else None

    @property
    def _own_minute(self) -> float | None:
        """Like `minute_of_week`, but it goes on counting after a week."""
        if self._clock_set is None:
            return None
        minute, at = self._clock_set
        return minute + (self.clock.monotonic() - at) / 60

    @property
    def _power_factor(self) -> int:
        return POWER_FACTOR if self._takes_power else IDLE_POWER_FACTOR

    @property
    def _takes_power(self) -> bool:
        return self.car is not None and self.car.wants_kwh > 0

    @property
    def _version(self) -> str:
        return ("09e" if self.wire is Wire.V09U else "08") if self.encrypts else self.wire.version

    # What it does

    def _boot(self) -> None:
        self._at = self._booted_at = self.clock.monotonic()
        self._booted = self._fresh = True
        self._decide()
        self._connect()
        if (banner := BANNERS.get(self.wire.version)) is not None:
            self._send(wire.debug(self.serial, "NFO", f"BOT:{banner}"))
            self._send(wire.debug(self.serial, "NFO", "BOT:FW Init.ENC.Y/ECDAYS.90/EVT.Y/ECHTTP.Y"))
            if self.encrypts:
                self._send(wire.debug(self.serial, "NFO", "DirSvc encrypt 1"))
        self._report()

    def _live(self) -> None:
        """Carry the energies to the present; what flowed has not changed since the last time."""
        now = self.clock.monotonic()
        seconds, began, self._at = now - self._at, self._at, now
        if seconds <= 0 or self.car is None or self._amperes <= 0:
            return
        energy = self.watts * seconds / 3600
        self._session_wh += energy
        self.meter_wh += energy
        self._fill_slots(began, seconds)
        left = self.car.wants_kwh - energy / 1000
        self.car = replace(self.car, wants_kwh=left if left > NOTHING else 0.0)

    def _fill_slots(self, began: float, seconds: float) -> None:
        """Spread what flowed over the quarter hours of the box's clock; without one nothing is kept (2.3, `e`)."""
        if self._clock_set is None:
            return
        set_to, set_at = self._clock_set
        minute, left = set_to + (began - set_at) / 60, seconds
        while left > 0:
            quarter = int(minute // SLOT_MINUTES)
            part = min(left, max(((quarter + 1) * SLOT_MINUTES - minute) * 60, SHORTEST_STEP))
            self._quarters[quarter] = self._quarters.get(quarter, 0.0) + self.watts * part / 3600
            minute, left = minute + part / 60, left - part
        for old in [quarter for quarter in self._quarters if quarter <= int(minute // SLOT_MINUTES) - SLOTS]:
            del self._quarters[old]

    @property
    def _allowed(self) -> int:
        """A; what the pilot offers the car."""
        return 0 if not self._booted or self._fault or self._held_by_window() else self.in_force

    def _held_by_window(self) -> bool:
        minute = self.minute_of_week
        if self.window is None or self.online or minute is None:
            return False
        start, end = self.window
        minute %= DAY_MINUTES
        return not (start <= minute < end if start < end else minute >= start or minute < end)

    def _decide(self) -> None:
        """After any change: what flows now. A change of state is reported at once (2.3.5)."""
        allowed = self._allowed
        if self.car is not None and self.car.latches and self._cap is None and allowed >= LOWEST_CURRENT:
            self._cap = allowed if allowed <= LATCHING_CURRENT else self.car.max_amperes
        before, self._state = self._state, self._next_state(allowed)
        if before is State.CHARGING is not self._state:
            self._session_wh = 0.0
        self._put_current(self._draws(allowed))
        self._wake_at_next_event()
        if self._state is not before and self._socket is not None:
            self._report()

    def _next_state(self, allowed: int) -> State:
        if self._fault:
            return State(self._fault)
        if self.car is None:
            return State.UNPLUGGED
        asks = self.car.ready and (self.car.wants_kwh > 0 or self.car.awake_when_full)
        return State.CHARGING if asks and allowed >= LOWEST_CURRENT else State.PLUGGED

    def _draws(self, allowed: int) -> float:
        if self._state is not State.CHARGING or self.car is None:
            return 0.0
        if not self._takes_power:
            return IDLE_CURRENT
        return float(min(allowed, self.car.max_amperes, self.car.max_amperes if self._cap is None else self._cap))

    def _put_current(self, amperes: float) -> None:
        self._amperes = amperes
        if self.circuit is not None:
            self.circuit.note(self.serial, amperes)

    def _wake_at_next_event(self) -> None:
        wait = min(self._waits())
        if self._booted and wait < inf:
            self._set_timer("event", max(wait, SHORTEST_STEP), self._pass_event)
        else:
            self._cancel("event")

    def _waits(self) -> Iterator[float]:
        """Seconds until something changes by itself."""
        yield self._online_until - self.clock.monotonic() if self.online else inf
        if self.car is not None and self._takes_power and self.watts > 0:
            yield self.car.wants_kwh * 1000 / self.watts * 3600
        minute = self.minute_of_week
        if self.window is not None and minute is not None and not self.online:
            yield from (((edge - minute) % DAY_MINUTES or DAY_MINUTES) * 60 for edge in self.window)

    def _pass_event(self) -> None:
        self._live()
        if not self.online and self._online_until > -inf:
            self._online_until = -inf
            self.fallbacks += 1
        self._decide()

    # What it says and hears

    def _connect(self) -> None:
        self._peer = self.server
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((self.host, 0))
        asyncio.get_running_loop().add_reader(self._socket, self._readable, self._socket)

    def _disconnect(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _fall_silent(self) -> None:
        self._disconnect()
        for name in list(self._timers):
            self._cancel(name)
        for cancel in self._held:
            cancel()
        self._held.clear()

    def _report(self) -> None:
        """Send a status, and the next one when its time has come."""
        self._live()
        now = self.clock.monotonic()
        self.unanswered += self._status_received_at is not None
        self._status_received_at = now
        self.statuses += 1
        self._send(self._encrypted() if self.encrypts else self._status())
        self._fresh = False
        self._set_timer("report", self._random.uniform(*CADENCES[self._state is State.CHARGING]), self._report)

    def _status(self) -> bytes:
        self._turn = (self._turn + 1) % SLOTS
        charging = self._state is State.CHARGING
        legacy = self.wire is Wire.LEGACY
        up = self.clock.monotonic() - self._booted_at
        stored, in_force = min(self.unit_rating, self.stored), self.in_force
        swapped = self.state_key is Shows.C_IN_FORCE and self.wire is Wire.V09U
        busy = 31 if self._takes_power else 11
        next_report = CADENCES[charging][1] - (0 if legacy or self.wire is Wire.V07_UNPADDED else 1)
        energy = self._energy_in(self._turn)
        values = {
            "s": self._index,
            "F": busy if charging else 10,
            "u": int(up) if self.wire is Wire.V09U else int(up * 100) % 65536,
            "V": round(self.voltage * (1 if legacy else 10)),
            "L": int(self.meter_wh / (1000 if legacy else 1)),
            "S": int(self._state),
            "T": self.temperature,
            "M": stored if swapped else in_force,
            "C": in_force if swapped else stored,
            "m": self.unit_rating,
            "t": int(next_report),
            "i": self._turn,
            "e": -1 if energy is None else int(energy),
            "f": round(self.frequency * 100),
            "r": 99 if self._fresh else 61,
            "E": int(self._session_wh),
            "E2": 14,
            "A": round(self._amperes * 10),
            "p": self._power_factor,
        } | dict.fromkeys("bBXYP", 0)
        values |= self.constants
        return wire.status(self.wire, self.serial, values, charging=charging)

    def _encrypted(self) -> bytes:
        head = wire.encrypted(self.serial, self._version, self.statuses, b"")
        return head + self._random.randbytes(ENCRYPTED_LENGTH - len(head))

    def _send(self, message: bytes) -> None:
        self.sent.append((self.clock.monotonic(), message))
        if self.wifi:
            self._carry(message, self._put_on_wire)

    def _put_on_wire(self, message: bytes) -> None:
        if self._socket is not None:
            self._socket.sendto(message, self._peer)

    def _carry(self, message: bytes, arrive: Callable[[bytes], None]) -> None:
        for delay, carried in self.line.carry(message):
            if delay > 0:
                self._hold(delay, carried, arrive)
            else:
                arrive(carried)

    def _hold(self, delay: float, message: bytes, arrive: Callable[[bytes], None]) -> None:
        def release() -> None:
            self._held.discard(cancel)
            arrive(message)

        cancel = self.clock.call_later(delay, release)
        self._held.add(cancel)

    def _readable(self, own: socket.socket) -> None:
        while own is self._socket:
            try:
                message, address = own.recvfrom(LARGEST_DATAGRAM)
            except BlockingIOError:
                return
            if self.wifi:
                self._hear(message, (str(address[0]), int(address[1])))

    def _hear(self, message: bytes, address: Address) -> None:
        if address != self._peer:
            self._refuse(Flaw.STRANGER, message)
        else:
            self._carry(message, self._take)

    def _take(self, message: bytes) -> None:
        order = wire.read_command(self.wire.version, message)
        if self.encrypts or self.wire is Wire.LEGACY or (not self.obeys and isinstance(order, Command)):
            self._refuse(Flaw.IGNORED, message)
        elif isinstance(order, Command):
            self._obey(order)
        else:
            self._refuse(order, message)

    def _refuse(self, flaw: Flaw, message: bytes) -> None:
        self.refusals.append(Refusal(self.clock.monotonic(), flaw, message))
        if flaw is Flaw.NO_CHECKSUM:
            self._send(wire.debug(self.serial, "ERR", f"Miss CRC '{message.decode().rstrip('$')}'"))

    def _obey(self, order: Command) -> None:
        self._live()
        now = self.clock.monotonic()
        if self._status_received_at is not None:
            self.slowest_answer = max(self.slowest_answer, now - self._status_received_at)
            self._status_received_at = None
        self.commands.append(Taken(now, order))
        self._index = self._index % 999 + 1
        self._online, self._online_until = order.online, now + OFFLINE_AFTER
        self._set_clock((order.weekday * 24 + order.hour) * 60 + order.minute)
        if self.stores and (stored := min(order.stored, self.unit_rating)) != self.stored:
            self.stored = stored
            self.writes += 1
        self._decide()

    def _set_clock(self, minute: int) -> None:
        own, now = self._own_minute, self.clock.monotonic()
        if own is None:
            self._clock_set = (float(minute), now)
            self._first_quarter = minute // SLOT_MINUTES
        elif int(own) % WEEK_MINUTES != minute:
            ahead = (minute - own + WEEK_MINUTES / 2) % WEEK_MINUTES - WEEK_MINUTES / 2
            self._clock_set = (own + ahead, now)

    def _set_timer(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        def ring() -> None:
            del self._timers[name]
            callback()

        self._cancel(name)
        self._timers[name] = self.clock.call_later(seconds, ring)

    def _cancel(self, name: str) -> None:
        if (cancel := self._timers.pop(name, None)) is not None:
            cancel()
