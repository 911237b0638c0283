"""A network of datagrams without sockets: a datagram arrives in the next loop iteration, equally in every run."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, override
from unittest.mock import patch

from custom_components.chargekeeper.core.errors import NoConnection
from custom_components.chargekeeper.ha import boxes as product_boxes
from custom_components.chargekeeper.juicebox import listener
from custom_components.chargekeeper.juicebox.listener import Address
from custom_components.chargekeeper.juicebox.resolver import Resolver
from tests.simulators.clock import VirtualClock
from tests.simulators.juicebox import JuiceBox
from tests.simulators.juicebox_wire import Command

FIRST_PORT = 20_000
QUIET_ROUNDS = 3
"""Idle iterations of the loop after which nothing happens by itself: there are no sockets to wait for."""


class QuietClock(VirtualClock):
    """The virtual clock of a process without input from outside."""

    @override
    async def settle(self) -> None:
        loop: Any = asyncio.get_running_loop()
        quiet = 0
        while quiet < QUIET_ROUNDS:
            await asyncio.sleep(0)
            quiet = 0 if loop._ready else quiet + 1


class Endpoint:
    """A replacement for a datagram socket, with the methods that the listener and the simulated boxes use."""

    def __init__(self, network: Network, address: Address) -> None:
        self.address = address
        self.readable: Callable[[], None] | None = None
        self._network = network
        self._queue: deque[tuple[bytes, Address]] = deque()

    def sendto(self, data: bytes, to: Address) -> int:
        """Send a datagram. Raises OSError."""
        if self._network.endpoints.get(self.address) is not self:
            raise OSError("closed")
        self._network.send(data, self.address, to)
        return len(data)

    def recvfrom(self, _size: int) -> tuple[bytes, Address]:
        """Return the next datagram and its source. Raises BlockingIOError."""
        if not self._queue:
            raise BlockingIOError
        return self._queue.popleft()

    def arrive(self, data: bytes, source: Address) -> None:
        """Receive a datagram."""
        self._queue.append((data, source))
        if self.readable is not None:
            self.readable()

    def getsockname(self) -> Address:
        """Return the bound address."""
        return self.address

    def close(self) -> None:
        """Free the address."""
        self._network.endpoints.pop(self.address, None)


class Transport(asyncio.DatagramTransport):
    """A datagram transport of this network, with a protocol."""

    def __init__(self, network: Network, address: Address, protocol: Any, peer: Address | None) -> None:
        super().__init__()
        self.address, self.peer = address, peer
        self._network = network
        self._protocol = protocol

    @override
    def sendto(self, data: Any, addr: Any = None) -> None:
        to: Any = addr or self.peer
        if not self._network.send(bytes(data), self.address, to) and self.peer is not None:
            asyncio.get_running_loop().call_soon(self._protocol.error_received, ConnectionRefusedError())

    def arrive(self, data: bytes, source: Address) -> None:
        """Receive a datagram; a connected socket accepts datagrams of its peer only."""
        if self.peer is None or source == self.peer:
            self._protocol.datagram_received(data, source)

    @override
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.address if name == "sockname" else default

    @override
    def close(self) -> None:
        self._network.endpoints.pop(self.address, None)


class Network:
    """All addresses. `sent` is called for each datagram, `arriving` and `arrived` before and after each arrival."""

    def __init__(self) -> None:
        self.endpoints: dict[Address, Endpoint | Transport] = {}
        self.resolves = True
        self.sent: Callable[[bytes, Address, Address], None] = lambda _data, _source, _to: None
        self.arriving: Callable[[bytes, Address, Address], None] = lambda _data, _source, _to: None
        self.arrived: Callable[[bytes, Address, Address], None] = lambda _data, _source, _to: None
        self._next_port = FIRST_PORT

    def bind(self, host: str, port: int = 0) -> Endpoint:
        """Return a new endpoint; port 0 takes a free port."""
        endpoint = Endpoint(self, self._free(host, port))
        self.endpoints[endpoint.address] = endpoint
        return endpoint

    def send(self, data: bytes, source: Address, to: Address) -> bool:
        """Carry a datagram; return True if the address exists."""
        self.sent(data, source, to)
        if to not in self.endpoints:
            return False
        asyncio.get_running_loop().call_soon(self._deliver, data, source, to)
        return True

    def _deliver(self, data: bytes, source: Address, to: Address) -> None:
        endpoint = self.endpoints.get(to)
        if endpoint is not None:
            self.arriving(data, source, to)
            endpoint.arrive(data, source)
            self.arrived(data, source, to)

    def _free(self, host: str, port: int) -> Address:
        if not port:
            port = self._next_port = self._next_port + 1
        return host, port

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Replace the sockets of the running loop by this network within the block."""
        loop = asyncio.get_running_loop()
        resolver = NameService(self)

        def add_reader(endpoint: Endpoint, callback: Callable[..., object], *args: object) -> None:
            endpoint.readable = partial(callback, *args)  # type: ignore[assignment]

        def remove_reader(endpoint: Endpoint) -> None:
            endpoint.readable = None

        async def create(
            factory: Callable[[], Any], local_addr: Address | None = None, remote_addr: Address | None = None
        ) -> tuple[Transport, object]:
            host, port = local_addr or (HOME, 0)
            protocol = factory()
            transport = Transport(self, self._free(host, port), protocol, remote_addr)
            self.endpoints[transport.address] = transport
            protocol.connection_made(transport)
            return transport, protocol

        with ExitStack() as stack:
            stack.enter_context(patch.object(loop, "add_reader", add_reader))
            stack.enter_context(patch.object(loop, "remove_reader", remove_reader))
            stack.enter_context(patch.object(loop, "create_datagram_endpoint", create))
            stack.enter_context(patch.object(listener, "_bind", self.bind))
            stack.enter_context(patch.object(product_boxes, "resolver", lambda _clock, _upstream: resolver))
            yield


HOME = "192.168.178.2"
"""The address of Home Assistant."""


class NameService(Resolver):
    """A resolver that returns the manufacturer's server for every name, unless lookups fail now."""

    def __init__(self, network: Network) -> None:
        self._network = network

    @override
    async def resolve(self, host: str) -> str:
        if not self._network.resolves:
            raise NoConnection("dns", host)
        return host


@dataclass(eq=False, kw_only=True)
class NetworkBox(JuiceBox):
    """A simulated box on this network."""

    network: Network = field(default_factory=Network)
    boots: Callable[[str], None] = lambda _serial: None
    """A callback for each start."""
    writing: Callable[[str, Command], None] = lambda _serial, _order: None
    """A callback for each command that made the box write its EEPROM."""

    @override
    def _boot(self) -> None:
        self.boots(self.serial)
        super()._boot()

    @override
    def _obey(self, order: Command) -> None:
        before = self.writes
        super()._obey(order)
        if self.writes != before:
            self.writing(self.serial, order)

    @override
    def _connect(self) -> None:
        self._peer = self.server
        endpoint: Any = self.network.bind(self.host)
        self._socket = endpoint
        endpoint.readable = partial(self._readable, endpoint)

    @override
    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
