"""The line to the maker's server: one socket per box, so that its answers cannot be mixed up.

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
"""Seconds after which the server's name is looked up again while it answers."""
RESOLVE_AGAIN = 30.0
"""Seconds after which it is looked up again while it does not."""
LOOP = "upstream_loop"
"""The error where what is sent to the server would arrive, or has arrived, at ourselves."""
LOOPS_WITHIN = 2.0
"""Seconds in which a datagram that is led back to us returns; a copy that comes later was on its way from the box."""
WAITING = 8
"""Datagrams that wait while the name is looked up; the oldest gives way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConfig:
    """The maker's server, and who knows its address."""

    host: str
    port: int
    resolver: Resolver


class Upstream:
    """The line of one box.

    Args:
        clock: time.
        config: where the server is.
        on_answer: called with each datagram that comes from it.
        is_ours: tells addresses on which we listen ourselves: sending there would go round in circles.
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
        """Why nothing can be sent, as a slug; None while nothing is known against it."""

    def send(self, data: bytes, suspect: bool) -> None:
        """Send a datagram as it is; while the server is suspect its name is looked up more often."""
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
        """Whether that is what was sent just now, and so was led back to us on its way; `error` tells it then."""
        now = self._clock.monotonic()
        if not any(sent == data and now - at <= LOOPS_WITHIN for at, sent in self._sent):
            return False
        if not self._loops:
            LOGGER.warning("What is sent to the boxes' server comes back: the router leads it to this machine")
        self._loops = True
        self.error = LOOP
        return True

    async def close(self) -> None:
        """Give up the socket."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._close_socket()

    async def _connect(self) -> None:
        """Look the name up, and open a socket where its address is new."""
        waiting = self._waiting
        self._waiting = []
        try:
            transport = await self._socket_to_server()
        except (NoConnection, OSError) as err:
            reason = err.reason if isinstance(err, NoConnection) else "unreachable"
            if reason != self.error:
                LOGGER.warning("The boxes' server cannot be reached: %s", reason)
            self.error = reason
            return
        self.error = None
        for data in [*waiting, *self._waiting]:
            transport.sendto(data)
        self._waiting.clear()

    async def _socket_to_server(self) -> asyncio.DatagramTransport:
        """The socket to where the server is now. Raises NoConnection, or OSError."""
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
            LOGGER.error("Unexpected error on the line to the boxes' server", exc_info=err)

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
    """A connected socket: the system drops what comes from elsewhere, and tells when nobody is there."""

    def __init__(self, on_answer: Callable[[bytes], None], on_error: Callable[[], None]) -> None:
        self._on_answer = on_answer
        self._on_error = on_error

    @override
    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._on_answer(data)

    @override
    def error_received(self, exc: Exception) -> None:
        self._on_error()
