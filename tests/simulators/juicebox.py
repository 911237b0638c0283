"""Simulated JuiceBoxes with their cars and wiring, which report over real loopback sockets to a server.

The boxes follow docs/protocols/juicebox.md (sections in parentheses). Where that page is silent, the boxes are strict
or forgetful: they refuse a command of the wrong width, a power cut clears the clock and the quarter hours, and legacy
boxes obey no command.
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
"""Seconds without an accepted command after which a box uses its offline current (2.6)."""
LOWEST_CURRENT = 6
"""A; there is no charging below this current (0, fact 4)."""
CADENCES = {True: (9.0, 10.0), False: (29.0, 30.0)}
"""Seconds between two reports while charging, and otherwise (2.3.5)."""
LATCHING_CURRENT = 10
"""A; a latching car that was first offered this current or less refuses more later (2.5)."""
POWER_FACTOR, IDLE_POWER_FACTOR, IDLE_CURRENT = 996, 9, 1.3
"""Values of the captures S2 and S3: a charging car, and a full car that stays awake."""
SLOTS, SLOT_MINUTES = 96, 15
DAY_MINUTES, WEEK_MINUTES = 1440, 10080
LARGEST_DATAGRAM = 65536
LOG_LENGTH = 2000
NOTHING = 1e-6  # kWh; a car that wants less is full
SHORTEST_STEP = 1e-3  # seconds; without this, rounding could stop the events
ENCRYPTED_LENGTH = 192  # bytes (2.3.4)
BANNERS = {
    "07": "EMWERK-JB_1_1-1.4.0.28, 2021-04-27T20:39:50Z, ZentriOS-WZ-3.6.4.0",
    "09u": "EMWERK-JB201-1.0.46, Gecko_OS-STANDARD-4.2.7-11064, WGM160P",
}
"""Firmware banner at boot by version (2.1, 2.3.3). The banner of legacy boxes is unknown."""

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
    """The meaning of `M` and `C` of a v09u box, on which the sources disagree (2.3, note)."""

    M_IN_FORCE = "m_in_force"
    """`M` is the limit in force, `C` the offline current."""
    C_IN_FORCE = "c_in_force"
    """`M` is the offline current, `C` the limit in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Car:
    """A car with the energy that it still takes (kWh) and its maximum current (A)."""

    wants_kwh: float = 30.0
    max_amperes: int = 32
    ready: bool = True
    """True if the car asks for power. A car that waits for its own timer does not."""
    awake_when_full: bool = False
    """True if the full car stays in the charging state for hours with almost no power (2.3, capture S3)."""
    latches: bool = False
    """True if the car refuses more current than it was first offered, where that was 10 A or less (2.5)."""


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
    """The network between a box and its server. Each number is the share of datagrams that it affects."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """Share held back for `held_for` seconds, so that later datagrams overtake them."""
    corrupt: float = 0.0
    held_for: float = 12.0
    seed: int = 0
    lost: int = field(default=0, init=False)
    _random: Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def carry(self, message: bytes) -> Iterator[tuple[float, bytes]]:
        """Yield the datagrams that arrive at the other end, each with its delay in seconds."""
        if self._happens(self.loss):
            self.lost += 1
            return
        for _ in range(2 if self._happens(self.duplicate) else 1):
            delay = self.held_for if self._happens(self.reorder) else 0.0
            yield delay, self._spoilt(message) if self._happens(self.corrupt) else message

    def _happens(self, share: float) -> bool:
        return share > 0 and self._random.random() < share

    def _spoilt(self, message: bytes) -> bytes:
        """Change one byte: flip a bit, or put the 0xC3 of capture S10.

        One status in forty thousand would still have a valid checksum. UDP's own checksum would drop that datagram, so
        another change is tried.
        """
        while True:
            place = self._random.randrange(len(message))
            byte = self._random.choice((0xC3, message[place] ^ (1 << self._random.randrange(8))))
            spoilt = message[:place] + bytes((byte,)) + message[place + 1 :]
            if wire.read_status(spoilt) is None:
                return spoilt


class Circuit:
    """The wire that several boxes share, with the sum of their currents over time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._drawn: dict[str, float] = {}
        self._since = clock.monotonic()
        self._total = self._peak = 0.0
        self._seconds: dict[float, float] = {}

    @property
    def drawn(self) -> float:
        """The sum of the currents now, A."""
        return self._total

    @property
    def peak(self) -> float:
        """The highest sum that lasted for any time, A."""
        self._pass()
        return self._peak

    def seconds_above(self, amperes: float) -> float:
        """Return the seconds for which the sum was above `amperes`."""
        self._pass()
        return sum(seconds for total, seconds in self._seconds.items() if total > amperes)

    def note(self, serial: str, amperes: float) -> None:
        """Record that a box draws `amperes` from now on."""
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
    """A box. Change its properties before `start` or `switch_on`, and use its methods afterwards.

    Currents are in A, the voltage in V, energies in Wh unless the name says otherwise, times in seconds.
    """

    clock: Clock
    serial: str
    server: Address
    """Address that the box reports to, read when the box boots or reconnects."""
    host: str = HOST
    """Address of the box, any of 127.0.0.0/8."""
    wire: Wire = Wire.V09U
    unit_rating: int = 40
    stored: int = 40
    """Offline current in the EEPROM (2.6)."""
    obeys: bool = True
    """False if the box ignores commands; its counter `s` stands still then (2.2, 2.3)."""
    stores: bool = True
    """False if the box follows commands, but keeps its offline current."""
    constants: dict[str, int] = field(default_factory=dict)
    """Letters of the status that always show the same value."""
    state_key: Shows = Shows.M_IN_FORCE
    online_may_exceed: bool = False
    """True if the online limit may exceed the offline current, as on some v09u boxes (0, fact 4)."""
    forgets_stored: int | None = None
    """Offline current after a power cut, for boxes that do not keep the old value (2.6, #90)."""
    window: tuple[int, int] | None = None
    """Schedule that the box follows offline, in minutes of its own day. A power cut clears it (0, fact 5; 4)."""
    encrypts: bool = False
    line: Line = field(default_factory=Line)
    circuit: Circuit | None = None
    voltage: float = 240.0
    frequency: float = 59.99
    temperature: int = 24
    boot_takes: float = 5.0
    meter_wh: float = 4_555_804.0
    """Lifetime energy at the last update; `lifetime_wh` is the current value."""
    seed: int = 0
    """Seed of the random part of the report interval."""

    car: Car | None = field(default=None, init=False)
    wifi: bool = field(default=True, init=False)
    """True while datagrams leave and reach the box."""
    writes: int = field(default=0, init=False)
    """Number of EEPROM writes; each command with another `M` causes a write."""
    statuses: int = field(default=0, init=False)
    unanswered: int = field(default=0, init=False)
    """Statuses that got no valid command before the next status."""
    slowest_answer: float = field(default=0.0, init=False)
    fallbacks: int = field(default=0, init=False)
    """Number of times the box fell back to its offline current after a period with commands."""
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

    # Actions of people

    def start(self) -> None:
        """Start as if the box had long been on without commands. Report to the server at once."""
        self._at = self._booted_at = self.clock.monotonic()
        self._booted = True
        self._decide()
        self._connect()
        self._report()

    def stop(self) -> None:
        """End the simulation: close the socket and cancel the timers."""
        self._update_energies()
        self._fall_silent()
        self._booted = False
        self._decide()

    def switch_on(self) -> None:
        """Restore power. After `boot_takes` the box reports its boot and uses its offline current until a command."""
        self._at = self.clock.monotonic()
        self._set_timer("boot", self.boot_takes, self._boot)

    def switch_off(self) -> None:
        """Cut power. The online limit, the schedule, the clock and the session energy are lost."""
        self.stop()
        self._online_until = -inf
        self._clock_set = self._status_received_at = self.window = None
        self._quarters.clear()
        self._index = 0
        self._session_wh = 0.0
        self.stored = self.stored if self.forgets_stored is None else self.forgets_stored

    def plug_in(self, car: Car | None = None) -> None:
        """Begin a session with `car`, by default a car that wants 30 kWh."""
        self._update_energies()
        self.car = car or Car()
        self._cap = None
        self._decide()

    def unplug(self) -> None:
        """End the session."""
        self._update_energies()
        self.car = None
        self._decide()

    def wake_car(self) -> None:
        """End the car's own timer, so that the car asks for power. Raise `RuntimeError` without a car."""
        self._update_energies()
        if self.car is None:
            raise RuntimeError(f"no car is plugged in at {self.serial}")
        self.car = replace(self.car, ready=True)
        self._decide()

    def set_fault(self, code: int) -> None:
        """Set error 3, 4 or 5; 0 clears the error (2.3.2)."""
        self._update_energies()
        self._fault = code
        self._decide()

    def reconnect(self) -> None:
        """Open a new socket, with another source port, to the server's current address (2.2)."""
        self._disconnect()
        self._connect()

    # Observable state

    @property
    def address(self) -> Address:
        """Source address of the datagrams. Raises `RuntimeError` while the box is off."""
        if self._socket is None:
            raise RuntimeError(f"box {self.serial} is off")
        host, port = self._socket.getsockname()
        return str(host), int(port)

    @property
    def powered(self) -> bool:
        """True while the box is on and has booted."""
        return self._booted

    @property
    def online(self) -> bool:
        """True if the box obeyed a command within the last five minutes."""
        return self.clock.monotonic() < self._online_until

    @property
    def in_force(self) -> int:
        """The limit in force, A (0, fact 4)."""
        if not self.online:
            return min(self.unit_rating, self.stored)
        return min(self.unit_rating, self._online, self.unit_rating if self.online_may_exceed else self.stored)

    @property
    def state(self) -> State:
        """The state that the box reports as `S`."""
        return self._state

    @property
    def amperes(self) -> float:
        """The current that the car draws now, A."""
        return self._amperes

    @property
    def watts(self) -> float:
        """The real power now, W."""
        return self.voltage * self._amperes * self._power_factor / 1000

    @property
    def lifetime_wh(self) -> float:
        """The lifetime energy, Wh."""
        self._update_energies()
        return self.meter_wh

    @property
    def session_wh(self) -> float:
        """The session energy, Wh. Each end of charging resets it (2.3, `E`)."""
        self._update_energies()
        return self._session_wh

    @property
    def minute_of_week(self) -> float | None:
        """The box's own clock: minutes since Sunday, 00:00. `None` until a command has set the clock."""
        own = self._own_minute
        return None if own is None else own % WEEK_MINUTES

    @property
    def slots(self) -> dict[int, float]:
        """Energy in Wh by quarter hour of the last day, since the clock was set."""
        self._update_energies()
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
        """Like `minute_of_week`, without the reset after a week."""
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

    # Behavior

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

    def _update_energies(self) -> None:
        """Bring the energies up to date. The current has not changed since the last update."""
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
        """Spread the energy over the quarter hours of the box's clock, if the clock is set (2.3, `e`)."""
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
        """The current that the pilot signal offers the car, A."""
        return 0 if not self._booted or self._fault or self._blocked_by_window() else self.in_force

    def _blocked_by_window(self) -> bool:
        minute = self.minute_of_week
        if self.window is None or self.online or minute is None:
            return False
        start, end = self.window
        minute %= DAY_MINUTES
        return not (start <= minute < end if start < end else minute >= start or minute < end)

    def _decide(self) -> None:
        """Update state and current after any change. Report a change of state at once (2.3.5)."""
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
        """Yield the seconds until each change that happens without an action."""
        yield self._online_until - self.clock.monotonic() if self.online else inf
        if self.car is not None and self._takes_power and self.watts > 0:
            yield self.car.wants_kwh * 1000 / self.watts * 3600
        minute = self.minute_of_week
        if self.window is not None and minute is not None and not self.online:
            yield from (((edge - minute) % DAY_MINUTES or DAY_MINUTES) * 60 for edge in self.window)

    def _pass_event(self) -> None:
        self._update_energies()
        if not self.online and self._online_until > -inf:
            self._online_until = -inf
            self.fallbacks += 1
        self._decide()

    # Datagrams

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
        """Send a status, and schedule the next status."""
        self._update_energies()
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
                self._receive(message, (str(address[0]), int(address[1])))

    def _receive(self, message: bytes, address: Address) -> None:
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
        self._update_energies()
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
