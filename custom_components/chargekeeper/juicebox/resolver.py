"""Look-up of the manufacturer's server at a chosen name server.

On networks that redirect the boxes' server names to ChargeKeeper, the system's resolver would return ChargeKeeper
itself (docs/protocols/juicebox.md, section 2.8).
"""

import asyncio
from ipaddress import IPv4Address
import secrets
import socket
import struct
from typing import Protocol, override

from ..core.clock import Clock
from ..core.errors import NoConnection

QUERY_TIMEOUT = 3.0
"""Seconds to wait for the answer to one query."""
ATTEMPTS = 2
DNS_PORT = 53
LONGEST_CHAIN = 16
"""Highest number of records that are read in one answer."""

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!2HIH")
_RECURSION_DESIRED = 0x0100
_IS_ANSWER = 0x8000
_ERROR_CODE = 0x000F
_TYPE_A = 1
_CLASS_IN = 1
_POINTER = 0xC0


class Resolver(Protocol):
    """Finds the address of a host."""

    async def resolve(self, host: str) -> str:
        """Return the IPv4 address of a host.

        Raises:
            NoConnection: `dns`, no address was found.
        """


class NameServer(Resolver):
    """Asks one name server only. An IPv4 address resolves to itself."""

    def __init__(self, clock: Clock, address: str, port: int = DNS_PORT) -> None:
        self._clock = clock
        self._server = (address, port)

    @override
    async def resolve(self, host: str) -> str:
        if is_address(host):
            return host
        query = _query(host)
        for _ in range(ATTEMPTS):
            try:
                async with self._clock.timeout(QUERY_TIMEOUT):
                    return await self._ask(query, host)
            except TimeoutError, OSError:
                continue
        raise NoConnection("dns", host)

    async def _ask(self, query: bytes, host: str) -> str:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str | None] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _QueryProtocol(query, answer), remote_addr=self._server
        )
        try:
            found = await answer
        finally:
            transport.close()
        if found is None:
            raise NoConnection("dns", host)
        return found


class SystemResolver(Resolver):
    """Uses the resolver of the system, for a server whose name is not redirected."""

    @override
    async def resolve(self, host: str) -> str:
        if is_address(host):
            return host
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None, family=socket.AF_INET)
        except (OSError, UnicodeError) as err:  # UnicodeError for invalid names, such as "a..b"
            raise NoConnection("dns", host) from err
        return str(found[0][4][0])


class _QueryProtocol(asyncio.DatagramProtocol):
    """Sends a query and waits for its answer. The result is None if the name does not exist."""

    def __init__(self, query: bytes, answer: asyncio.Future[str | None]) -> None:
        self._query = query
        self._answer = answer

    @override
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        transport.sendto(self._query)

    @override
    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self._answer.done() and answers(self._query, data):
            self._answer.set_result(first_address(self._query, data))

    @override
    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc)


def is_address(host: str) -> bool:
    """Return True if `host` is an IPv4 address."""
    try:
        IPv4Address(host)
    except ValueError:
        return False
    return True


def answers(query: bytes, data: bytes) -> bool:
    """Return True if a datagram answers this query: its number and its question are the same."""
    if len(data) < len(query) or data[:2] != query[:2]:
        return False
    flags = int.from_bytes(data[2:4])
    same_question = data[_HEADER.size : len(query)].lower() == query[_HEADER.size :].lower()
    return bool(flags & _IS_ANSWER) and same_question


def first_address(query: bytes, data: bytes) -> str | None:
    """Return the first address in an answer to this query; None if there is none, or the answer is damaged."""
    _, flags, _, count, _, _ = _HEADER.unpack_from(data)
    if flags & _ERROR_CODE:
        return None
    place = len(query)
    for _ in range(min(count, LONGEST_CHAIN)):
        after_name = _after_name(data, place)
        if after_name is None or after_name + _RECORD.size > len(data):
            return None
        kind, network, _, length = _RECORD.unpack_from(data, after_name)
        content = data[after_name + _RECORD.size :][:length]
        if (kind, network) == (_TYPE_A, _CLASS_IN) and len(content) == length == 4:
            return str(IPv4Address(content))
        place = after_name + _RECORD.size + length
    return None


def _query(host: str) -> bytes:
    """Return a query for the address of a host. Raises NoConnection if `host` cannot be a name."""
    labels = [label.encode("ascii", "replace") for label in host.rstrip(".").split(".")]
    if not all(0 < len(label) < 64 for label in labels):
        raise NoConnection("dns", host)
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    header = _HEADER.pack(secrets.randbelow(1 << 16), _RECURSION_DESIRED, 1, 0, 0, 0)
    return header + name + struct.pack("!2H", _TYPE_A, _CLASS_IN)


def _after_name(data: bytes, place: int) -> int | None:
    """Return the position after a name that begins at `place`; None if the name does not end."""
    while place < len(data):
        length = data[place]
        if length >= _POINTER:
            return place + 2
        place += 1 + length
        if length == 0:
            return place
    return None
