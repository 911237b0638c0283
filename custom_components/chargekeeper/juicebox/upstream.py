"""Connection to the manufacturer's server: one socket per box, so that its answers cannot be mixed up.

See docs/protocols/juicebox.md, section 2.8.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
import logging
from typing import override

from ..core.clock import Clock
from ..core.errors import NoConnection
from .listener import Address
from .resolver import Resolver

LOGGER = logging.getLogger(__name__)

RESOLVE_EVERY = 600.0
"""Seconds between look-ups of the server's name while the server answers."""
RESOLVE_AGAIN = 30.0
"""Seconds between look-ups of the server's name while the server does not answer."""
LOOP = "upstream_loop"
"""Error if datagrams to the server would arrive, or have arrived, at ChargeKeeper."""
LOOPS_WITHIN = 2.0
"""Seconds in which a looped datagram returns; a later copy was sent by the box itself."""
WAITING = 8
"""Datagrams that wait for the look-up; the oldest one is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConfig:
    """The manufacturer's server, and the resolver that finds its address."""

    host: str
    port: int
    resolver: Resolver


class Upstream:
    """Connection of one box.

    Args:
        clock: time.
        config: where the server is.
        on_answer: called with each datagram of the server.
        is_own_endpoint: True for addresses where ChargeKeeper listens, so that sending there would loop.
    """

    def __init__(
        self,
        clock: Clock,
        config: UpstreamConfig,
        on_answer: Callable[[bytes], None],
        is_own_endpoint: Callable[[Address], bool],
    ) -> None:
        self._clock = clock
        self._config = config
        self._on_answer = on_answer
        self._is_own_endpoint = is_own_endpoint
        self._transport: asyncio.DatagramTransport | None = None
        self._peer: Address | None = None
        self._resolved_at: float | None = None
        self._waiting: list[bytes] = []
        self._sent: deque[tuple[float, bytes]] = deque(maxlen=WAITING)
        self._loops = False
        self._task: asyncio.Task[None] | None = None
        self.error: str | None = None
        """Why nothing can be sent, as a slug; None while no error is known."""

    def send(self, data: bytes, suspect: bool) -> None:
        """Send a datagram unchanged; the name of a suspect server is looked up more often."""
        age = RESOLVE_AGAIN if suspect or self._transport is None else RESOLVE_EVERY
        due = self._resolved_at is None or self._clock.monotonic() - self._resolved_at >= age
        self._sent.append((self._clock.monotonic(), data))
        if self._transport is not None:
            self._transport.sendto(data)
        elif due or self._task is not None:
            self._waiting = [*self._waiting, data][-WAITING:]
        if due and self._task is None:
            self._resolved_at = self._clock.monotonic()
            self._task = asyncio.get_running_loop().create_task(self._connect())
            self._task.add_done_callback(self._connected)

    def is_returned(self, data: bytes) -> bool:
        """Return True if `data` was sent just now and came back, and set `error`."""
        now = self._clock.monotonic()
        if not any(sent == data and now - at <= LOOPS_WITHIN for at, sent in self._sent):
            return False
        if not self._loops:
            LOGGER.warning("Datagrams to the JuiceBox server come back: the router redirects them to this machine")
        self._loops = True
        self.error = LOOP
        return True

    async def close(self) -> None:
        """Close the socket."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._close_socket()

    async def _connect(self) -> None:
        """Look up the server's name, and open a socket if its address changed."""
        waiting = self._waiting
        self._waiting = []
        try:
            transport = await self._socket_to_server()
        except (NoConnection, OSError) as err:
            reason = err.reason if isinstance(err, NoConnection) else "unreachable"
            if reason != self.error:
                LOGGER.warning("The JuiceBox server cannot be reached: %s", reason)
            self.error = reason
            return
        self.error = None
        for data in [*waiting, *self._waiting]:
            transport.sendto(data)
        self._waiting.clear()

    async def _socket_to_server(self) -> asyncio.DatagramTransport:
        """Return the socket to the present address of the server. Raises NoConnection or OSError."""
        peer = (await self._config.resolver.resolve(self._config.host), self._config.port)
        if self._is_own_endpoint(peer):
            raise NoConnection(LOOP, self._config.host)
        if self._transport is not None and peer == self._peer:
            return self._transport
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _ServerProtocol(self._process_answer, self._process_error), remote_addr=peer
        )
        self._close_socket()
        self._transport = transport
        self._peer = peer
        return transport

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (err := task.exception()) is not None:
            LOGGER.error("Unexpected error while connecting to the JuiceBox server", exc_info=err)

    def _process_answer(self, data: bytes) -> None:
        self.error = None
        self._on_answer(data)

    def _process_error(self) -> None:
        self.error = "unreachable"

    def _close_socket(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self._transport = self._peer = None


class _ServerProtocol(asyncio.DatagramProtocol):
    """Connected socket: the system drops datagrams from other addresses, and reports an unreachable server."""

    def __init__(self, on_answer: Callable[[bytes], None], on_error: Callable[[], None]) -> None:
        self._on_answer = on_answer
        self._on_error = on_error

    @override
    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._on_answer(data)

    @override
    def error_received(self, exc: Exception) -> None:
        self._on_error()
