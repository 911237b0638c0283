"""UDP ports that receive the datagrams of boxes, and the checks that a sender is a box.

Only a listed box at its pinned address, or at one it moved to, reaches the rest of ChargeKeeper. Only such a box is
answered (invariant I9). All other datagrams are counted by reason and dropped, the cheapest checks first. The sockets
stay open when listeners change.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
import errno
from ipaddress import IPv4Address
import logging
from math import inf
import socket

from ..core.clock import Clock
from ..core.errors import NoConnection
from .datagram import (
    LONGEST,
    DebugMessage,
    EncryptedMessage,
    Rejection,
    StatusMessage,
    parse,
    serial_of,
)

LOGGER = logging.getLogger(__name__)

BATCH = 64
"""Datagrams read from one socket before other tasks of the event loop run."""

RECEIVE_BUFFER = 4 * 1024 * 1024
"""Bytes of buffer requested from the system, so that a flood during a pause of the event loop displaces no status."""

BOX_RATE = 5.0
BOX_BURST = 25.0
"""Statuses of one listed box passed on per second, and how many at once. A box sends about one in ten seconds. The same
limits apply to all other datagrams from its address together."""

READ_RATE = 1000.0
READ_BURST = 1000.0
"""Datagrams checked per second, and at once, from the address of a listed box. The limits apply to the port of the box
and to all other ports separately."""

PORT_SILENT = 65.0
"""Seconds of silence of a box's port after which the box may have opened another port. This is somewhat more than two
reporting intervals."""

STRANGERS_RATE = 20.0
STRANGERS_BURST = 40.0
"""Datagrams checked per second of all other senders together, and how many at once."""

SILENT_BEFORE_MOVE = 120.0
"""Seconds without a status from the old address of a box before another address is believed."""

PLAUSIBLE_IN_A_ROW = 3
"""Consecutive statuses that must be plausible for one box before a new address, or a new box, is believed."""

STRANGER_AGE = 65.0
"""Seconds within which a new box must send those statuses: an idle box sends one every 30 s. This is also the longest
time between two consecutive statuses."""

MOST_STRANGERS = 20
MOST_PENDING = 5
MOST_ADDRESSES = 4
"""Unknown serials watched at once; discovered boxes that wait for the user; new addresses watched per box."""

PENDING_AGE = 3600.0
"""Seconds of silence after which a discovered box no longer waits for the user."""

HIGHEST_POWER = 80.0 * 3 * 250.0
"""W: 80 A on three phases of 250 V. The lifetime energy of no box rises faster."""

ENERGY_SLACK = 1_000.0
"""Wh by which the lifetime energy may exceed the energy at that power."""

DISPUTED_FOR = 600.0
"""Seconds for which a status from the pinned address counts as a dispute while another address is believed."""

COUNTER_SLACK = 2.5
COUNTER_TOLERANCE = 0.2
"""Tolerance of a box's counter: seconds, and a fraction of the time that passed."""

CLOSEST_STATUSES = 1.0
"""Shortest time in seconds between two statuses that count as evidence."""

type Address = tuple[str, int]
type Message = StatusMessage | DebugMessage | EncryptedMessage


class PortBusy(NoConnection):
    """A port cannot be opened; `detail` is its number."""

    def __init__(self, port: int) -> None:
        super().__init__("port_busy", str(port))


@dataclass(frozen=True, slots=True)
class Arrival:
    """Datagram of a listed box. `answer` replies from the receiving socket to the exact source."""

    message: Message
    data: bytes
    address: Address
    answer: Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Discovered:
    """An unlisted box, with its last status."""

    serial: str
    host: str
    status: StatusMessage = field(compare=False)


class Bucket:
    """Token bucket: limits a rate, in units per second, and allows a burst."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = -inf

    def take(self, now: float) -> bool:
        """Return True if one more datagram may pass at the monotonic time `now`."""
        self._tokens = min(self._burst, self._tokens + self._rate * (now - self._at))
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Track:
    """Consecutive statuses of one box: the lifetime energy never falls, the counter advances with time."""

    __slots__ = ("at", "good", "lifetime", "uptime")

    def __init__(self, lifetime: int | None = None) -> None:
        self.lifetime = lifetime
        self.uptime: tuple[float, float] | None = None
        self.at = -inf
        self.good = 0

    def energy_fits(self, status: StatusMessage, now: float) -> bool:
        """Return True if the lifetime energy is plausible for a later status of the same box."""
        energy = status.lifetime_energy
        if energy is None or self.lifetime is None:
            return True
        passed = max(now - self.at, 0.0)  # a restored time may be in the future after the clock was set back
        highest = HIGHEST_POWER * passed / 3600 + ENERGY_SLACK * (1 if status.version else 10)
        return self.lifetime <= energy <= self.lifetime + highest

    def counter_fits(self, status: StatusMessage, now: float) -> bool:
        """Return True if the counter advanced as time did, or if the last status had no counter, as in old boxes."""
        if self.uptime is None or status.uptime is None:
            return self.uptime is None
        (before, wrap) = self.uptime
        (after, _) = status.uptime
        passed = now - self.at
        if wrap == inf:
            off = abs(after - before - passed)
        else:
            off = abs((after - before - passed + wrap / 2) % wrap - wrap / 2)
        return off <= COUNTER_SLACK + COUNTER_TOLERANCE * passed

    def record(self, status: StatusMessage, now: float) -> None:
        """Continue from this status."""
        if status.lifetime_energy is not None:
            self.lifetime = status.lifetime_energy
        self.uptime = status.uptime
        self.at = now

    def add_evidence(self, status: StatusMessage, now: float) -> bool:
        """Record a status of a doubtful source; return True if enough consecutive statuses are plausible."""
        if now - self.at < CLOSEST_STATUSES:
            return False
        follows = now - self.at <= STRANGER_AGE  # after a long gap, any value fits a counter that wraps
        fits = follows and self.energy_fits(status, now) and self.counter_fits(status, now)
        self.good = self.good + 1 if fits else 1
        self.record(status, now)
        return self.good >= PLAUSIBLE_IN_A_ROW


class _Listed:
    """Listed box: its pinned and its believed address, and what it last sent."""

    __slots__ = (
        *("candidates", "disputed_at", "host", "other_bucket", "pinned", "port", "port_used_at"),
        *("read_buckets", "status_bucket", "status_received_at", "track"),
    )

    def __init__(self, host: str, pinned: str, lifetime: int | None, now: float) -> None:
        self.host = host
        self.pinned = pinned
        self.disputed_at = -inf
        self.port = 0
        self.port_used_at = -inf
        self.track = Track(lifetime)
        self.status_received_at = now
        self.read_buckets = {from_last_port: Bucket(READ_RATE, READ_BURST) for from_last_port in (True, False)}
        self.status_bucket = Bucket(BOX_RATE, BOX_BURST)
        self.other_bucket = Bucket(BOX_RATE, BOX_BURST)
        self.candidates: dict[str, Track] = {}  # by address, which may be the pinned address

    def has_room(self, message: Message, port: int, now: float) -> bool:
        """Return True if one more datagram may be passed on.

        Anybody can forge datagrams without a checksum, or send from another port. Such datagrams therefore do not use
        up the room for the statuses of the box.
        """
        if not isinstance(message, StatusMessage):
            return self.other_bucket.take(now)
        if now - self.port_used_at >= PORT_SILENT:
            self.port = port
        if port != self.port:
            return self.other_bucket.take(now)
        self.port_used_at = now
        return self.status_bucket.take(now)

    def candidate(self, host: str, floor: int | None) -> Track:
        """Return the track of a doubtful address, which is created if it is missing.

        If there are `MOST_ADDRESSES` tracks already, the track whose address was silent for longest is dropped first.
        """
        if host not in self.candidates:
            if len(self.candidates) >= MOST_ADDRESSES:
                del self.candidates[min(self.candidates, key=lambda each: self.candidates[each].at)]
            self.candidates[host] = Track(floor)
        return self.candidates[host]


@dataclass(slots=True)
class _Stranger:
    """Unlisted serial."""

    host: str
    track: Track
    since: float
    discovered: Discovered | None = None


class Listener:
    """Sockets, list of boxes, and counts of dropped datagrams.

    Args:
        clock: time.
        on_arrival: called with each datagram of a listed box; never raises.
        on_discovered: called once with each unknown box that looks genuine; never raises.
    """

    def __init__(
        self, clock: Clock, on_arrival: Callable[[Arrival], None], on_discovered: Callable[[Discovered], None]
    ) -> None:
        self._clock = clock
        self._on_arrival = on_arrival
        self._on_discovered = on_discovered
        self._address = ""
        self._sockets: dict[int, socket.socket] = {}
        self._listed: dict[str, _Listed] = {}
        self._strangers: dict[str, _Stranger] = {}
        self._stranger_bucket = Bucket(STRANGERS_RATE, STRANGERS_BURST)
        self.on_dispute: Callable[[str], None] = lambda _serial: None
        """Called with the serial of a box if its pinned address sends while another address is believed."""
        self.dropped: Counter[str] = Counter()
        """Number of dropped datagrams by reason."""

    # Sockets

    @property
    def endpoints(self) -> list[Address]:
        """Addresses and ports of the open sockets."""
        return [each.getsockname() for each in self._sockets.values()]

    def open(self, address: str, ports: Iterable[int]) -> None:
        """Listen on these ports of a local IPv4 address; sockets that are still needed stay open.

        Raises:
            PortBusy: a port is taken; nothing has changed.
            NoConnection: `bad_address`, this machine does not have the address; nothing has changed.
        """
        wanted = dict.fromkeys(ports)
        keep = self._sockets if address == self._address else {}
        opened: dict[int, socket.socket] = {}
        try:
            for port in wanted:
                opened[port] = keep[port] if port in keep else _bind(address, port)
        except NoConnection:
            for port, each in opened.items():
                if port not in keep:
                    each.close()
            raise
        loop = asyncio.get_running_loop()
        kept = set(opened.values())
        for each in [each for each in self._sockets.values() if each not in kept]:
            loop.remove_reader(each)
            each.close()
        for port, each in opened.items():
            if port not in keep:
                loop.add_reader(each, self._readable, each)
        self._address = address
        self._sockets = opened

    def require_address(self) -> None:
        """Check that this machine still has the address: otherwise no datagram arrives.

        Raises:
            NoConnection: `bad_address`.
        """
        _bind(self._address, 0).close()

    def close(self) -> None:
        """Stop listening. The list of boxes stays."""
        self.open(self._address, ())

    # Boxes

    def add(
        self,
        serial: str,
        host: str,
        lifetime: int | None = None,
        *,
        pinned: str | None = None,
        metered_at: float = -inf,
    ) -> None:
        """List a box.

        Args:
            serial: of the box.
            host: the believed address.
            lifetime: its last known lifetime energy in Wh.
            pinned: the address that the user named, `host` if None.
            metered_at: the monotonic time of `lifetime`.
        """
        listed = _Listed(host, pinned or host, lifetime, self._clock.monotonic())
        listed.track.at = metered_at
        self._listed[serial] = listed
        self._strangers.pop(serial, None)

    def remove(self, serial: str) -> None:
        """Remove a box from the list."""
        self._listed.pop(serial, None)

    def host_of(self, serial: str) -> str | None:
        """Return the believed address of a listed box, which may have moved since it was added."""
        listed = self._listed.get(serial)
        return None if listed is None else listed.host

    def is_disputed(self, serial: str) -> bool:
        """Return True while the pinned address of a box sends and another address is believed."""
        listed = self._listed.get(serial)
        return listed is not None and self._clock.monotonic() - listed.disputed_at < DISPUTED_FOR

    @property
    def discovered(self) -> list[Discovered]:
        """Unknown boxes that wait for the user."""
        self._forget_silent(self._clock.monotonic())
        return [each.discovered for each in self._strangers.values() if each.discovered is not None]

    # Datagrams

    def _readable(self, sock: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                data, address = sock.recvfrom(LONGEST + 1)
            except BlockingIOError:
                return
            except OSError:  # an earlier answer could not be delivered
                self.dropped["socket_error"] += 1
                continue
            self._received(sock, data, address)

    def _received(self, sock: socket.socket, data: bytes, address: Address) -> None:
        now = self._clock.monotonic()
        host = address[0]
        serial = serial_of(data) if len(data) <= LONGEST else None
        if serial is None:
            self.dropped["too_long" if len(data) > LONGEST else "not_a_box"] += 1
            return
        listed = self._listed.get(serial)
        from_known_host = listed is not None and host in {listed.host, listed.pinned}
        from_last_port = listed is not None and listed.port == address[1]
        bucket = (
            listed.read_buckets[from_last_port] if listed is not None and from_known_host else self._stranger_bucket
        )
        if not bucket.take(now):
            self.dropped["rate"] += 1
            return
        message = parse(data)
        if isinstance(message, Rejection):
            self.dropped[message.reason] += 1
        elif listed is None:
            self._process_unknown(message, host, now)
        elif not self._is_genuine(listed, message, host, now):
            return
        elif not listed.has_room(message, address[1], now):
            self.dropped["rate"] += 1
        else:
            self._on_arrival(Arrival(message, data, address, lambda answer: self._answer(sock, data, answer, address)))

    def _is_genuine(self, listed: _Listed, message: Message, host: str, now: float) -> bool:
        """Return True if a datagram with a listed serial comes from that box."""
        if not isinstance(message, StatusMessage):
            if listed.host != host:
                self.dropped["wrong_source"] += 1
            return listed.host == host
        if listed.host == host:
            if listed.track.energy_fits(message, now):
                listed.candidates.pop(host, None)
            elif not listed.candidate(host, None).add_evidence(message, now):
                self.dropped["implausible"] += 1
                return False
        elif not self._has_moved(listed, message, host, now):
            self.dropped["wrong_source"] += 1
            if host == listed.pinned:
                listed.disputed_at = now
                self.on_dispute(message.serial)
            return False
        else:
            LOGGER.info("A JuiceBox moved to another address of the local network")
            listed.host = host
            listed.disputed_at = -inf
        listed.candidates.pop(host, None)
        listed.track.record(message, now)
        listed.status_received_at = now
        return True

    @staticmethod
    def _has_moved(listed: _Listed, message: StatusMessage, host: str, now: float) -> bool:
        """Return True if three plausible statuses in a row prove that the box is now at `host`.

        The pinned address needs no more proof, whatever strangers sent meanwhile. Any other address must be private. In
        addition, the old address must be silent and the energy possible for this box.
        """
        if host != listed.pinned:
            if now - listed.status_received_at < SILENT_BEFORE_MOVE or not IPv4Address(host).is_private:
                return False
            has_energy = message.lifetime_energy is not None or listed.track.lifetime is None
            if not has_energy or not listed.track.energy_fits(message, now):
                return False
        return listed.candidate(host, None).add_evidence(message, now)

    def _process_unknown(self, message: Message, host: str, now: float) -> None:
        self.dropped["unknown_box"] += 1
        if not isinstance(message, StatusMessage) or not IPv4Address(host).is_private:
            return
        self._forget_silent(now)
        stranger = self._strangers.get(message.serial)
        if stranger is None or stranger.host != host:
            if len(self._strangers) >= MOST_STRANGERS or (stranger is not None and stranger.discovered is not None):
                return
            stranger = self._strangers[message.serial] = _Stranger(host, Track(), now)
        enough = stranger.track.add_evidence(message, now)
        if stranger.discovered is None and enough and len(self.discovered) < MOST_PENDING:
            stranger.discovered = Discovered(message.serial, host, message)
            self._on_discovered(stranger.discovered)

    def _forget_silent(self, now: float) -> None:
        for serial, stranger in list(self._strangers.items()):
            if stranger.discovered is None:
                over = now - stranger.since > STRANGER_AGE
            else:
                over = now - stranger.track.at > PENDING_AGE
            if over:
                del self._strangers[serial]

    def _answer(self, sock: socket.socket, status: bytes, answer: bytes, address: Address) -> bool:
        """Send an answer; return True if it was sent.

        An answer is never longer than the status, so that ChargeKeeper cannot be abused to flood others.
        """
        if len(answer) > len(status):
            self.dropped["answer_too_long"] += 1
            return False
        try:
            sock.sendto(answer, address)
        except OSError:
            self.dropped["unsent"] += 1
            return False
        return True


def _bind(address: str, port: int) -> socket.socket:
    """Return a listening socket. Raises PortBusy or NoConnection."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    try:
        IPv4Address(address)
        sock.bind((address, port))
    except ValueError as err:
        sock.close()
        raise NoConnection("bad_address", address) from err
    except OSError as err:
        sock.close()
        if err.errno == errno.EADDRNOTAVAIL:
            raise NoConnection("bad_address", address) from err
        raise PortBusy(port) from err
    return sock
