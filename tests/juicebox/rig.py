"""Shared helpers of the tests: free ports, and senders at several loopback addresses."""

from dataclasses import dataclass, field
import socket

from custom_components.chargekeeper.juicebox.listener import Address, Arrival, Discovered, Listener
from tests.simulators.clock import VirtualClock

from .vectors import SERIAL, status

HERE, THERE = "127.0.0.2", "127.0.0.3"


def free_ports(number: int) -> tuple[int, ...]:
    """Return UDP ports without a listener."""
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(number)]
    for sock in socks:
        sock.bind(("127.0.0.1", 0))
    ports = tuple(sock.getsockname()[1] for sock in socks)
    for sock in socks:
        sock.close()
    return ports


@dataclass
class Sender:
    """A socket at a loopback address that sends to a local port and keeps the answers."""

    host: str = HERE
    sock: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind((self.host, 0))

    @property
    def address(self) -> Address:
        host, port = self.sock.getsockname()
        return host, port

    def send(self, data: bytes, port: int) -> None:
        self.sock.sendto(data, ("127.0.0.1", port))

    def received(self) -> list[tuple[bytes, Address]]:
        found = []
        while True:
            try:
                found.append(self.sock.recvfrom(2048))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self.sock.close()


def line(
    *, uptime: float = 1000, lifetime: int = 5000, serial: str = SERIAL, version: str = "09u", state: int = 1
) -> bytes:
    """Return a short status with an uptime in seconds and a lifetime energy in Wh."""
    counter = str(int(uptime * 100) % 65536) if version == "07" else f"{int(uptime):08}"
    fields = [("u", counter)] if version else []
    fields += [("V", "2400"), ("L", str(lifetime if version else lifetime // 1000)), ("S", str(state)), ("m", "0040")]
    return status(version, [*fields, ("M", "0016"), ("t", "29")], serial)


class ListenerRig:
    """A listener, with the arrivals and discoveries that it reported."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.ports = free_ports(2)
        self.arrivals: list[Arrival] = []
        self.found: list[Discovered] = []
        self.listener = Listener(clock, self.arrivals.append, self.found.append)
        self.senders: list[Sender] = []

    def sender(self, host: str = HERE) -> Sender:
        sender = Sender(host)
        self.senders.append(sender)
        return sender

    async def send(self, sender: Sender, *datagrams: bytes, port: int | None = None) -> int:
        """Send datagrams. Return how many of them the listener passed on."""
        before = len(self.arrivals)
        for data in datagrams:
            sender.send(data, self.ports[0] if port is None else port)
        await self.clock.settle()
        return len(self.arrivals) - before

    async def repeat(self, sender: Sender, times: int, *, every: float = 30, **changed: object) -> int:
        """Send a status every `every` seconds. Return how many the listener passed on."""
        before = len(self.arrivals)
        for _ in range(times):
            await self.send(sender, line(uptime=self.clock.monotonic(), **changed))  # type: ignore[arg-type]
            await self.clock.advance(every)
        return len(self.arrivals) - before

    def close(self) -> None:
        self.listener.close()
        for sender in self.senders:
            sender.close()
