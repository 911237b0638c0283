"""Tests of the connection to the maker's server, and of name resolution with a fake name server."""

import asyncio
from collections.abc import AsyncIterator, Callable
import socket
import struct
from typing import override

from hypothesis import given, strategies as st
import pytest
import pytest_socket

from custom_components.chargekeeper.core.errors import NoConnection
from custom_components.chargekeeper.juicebox.resolver import (
    NameServer,
    SystemResolver,
    _QueryProtocol,
    answers,
    first_address,
)
from custom_components.chargekeeper.juicebox.upstream import (
    RESOLVE_AGAIN,
    RESOLVE_EVERY,
    WAITING,
    Upstream,
    UpstreamConfig,
)
from tests.simulators.clock import VirtualClock

from .rig import Sender, free_ports
from .site import Site

NAME = "server.example"


class FakeNameServer(asyncio.DatagramProtocol):
    """A name server that answers each query with `records`, changed by `spoil`. None means no answer."""

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes]] = [(1, socket.inet_aton("127.0.0.1"))]
        self.flags = 0x8180
        self.spoil: Callable[[bytes], bytes | None] = lambda answer: answer
        self.asked = 0
        self.port = 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        self.port = self.transport.get_extra_info("sockname")[1]

    @override
    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        header = data[:2] + struct.pack("!5H", self.flags, 1, len(self.records), 0, 0)
        records = b"".join(
            b"\xc0\x0c" + struct.pack("!2HIH", kind, 1, 60, len(content)) + content for kind, content in self.records
        )
        answer = self.spoil(header + data[12:] + records)
        if answer is not None:
            self.transport.sendto(answer, addr)


@pytest.fixture
async def names(socket_enabled: None) -> AsyncIterator[FakeNameServer]:
    names = FakeNameServer()
    await names.start()
    yield names
    names.transport.close()
    await asyncio.sleep(0)


async def look_up(names: FakeNameServer, host: str = NAME) -> str:
    clock = VirtualClock()
    task = asyncio.create_task(NameServer(clock, "127.0.0.1", names.port).resolve(host))
    await clock.settle()
    await clock.advance(10)
    return await task


async def test_name_is_resolved_at_chosen_server_also_through_alias(names: FakeNameServer) -> None:
    assert await look_up(names) == "127.0.0.1"
    names.records = [(5, b"\x05alias\x00"), (1, b"\x7f\x00\x00\x02")]
    assert await look_up(names, "Server.Example.") == "127.0.0.2"
    assert names.asked == 2


async def test_address_needs_no_look_up(names: FakeNameServer) -> None:
    assert await look_up(names, "127.0.0.5") == "127.0.0.5"
    assert await SystemResolver().resolve("127.0.0.5") == "127.0.0.5"
    assert names.asked == 0


async def test_system_resolver_returns_address_or_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(host: str, *_: object, **__: object) -> list[object]:
        await asyncio.sleep(0)
        if host != NAME:
            raise socket.gaierror
        return [(2, 1, 0, "", ("127.0.0.7", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
    assert await SystemResolver().resolve(NAME) == "127.0.0.7"
    with pytest.raises(NoConnection, match="dns"):
        await SystemResolver().resolve("other.example")


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example", "."])
async def test_invalid_name_is_refused_by_system_resolver(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    def refuse(name: str, *_: object, **__: object) -> list[object]:
        name.encode("idna")  # the real function does this first, which raises UnicodeError
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(NoConnection, match="dns"):
        await SystemResolver().resolve(host)


@pytest.mark.parametrize("host", ["", "a..b", "x" * 64 + ".example"])
async def test_invalid_name_is_not_queried(names: FakeNameServer, host: str) -> None:
    with pytest.raises(NoConnection, match="dns"):
        await look_up(names, host)
    assert names.asked == 0


@pytest.mark.parametrize(
    ("spoil", "asked"),
    [
        (lambda _: None, 2),  # one retry
        (lambda answer: b"\0\0" + answer[2:] if answer[:2] != b"\0\0" else b"\1\1", 2),
        (lambda answer: answer[:12] + answer[12:].replace(b"server", b"sorver"), 2),
        (lambda answer: answer[:2] + b"\x01\x00" + answer[4:], 2),  # a question
        (lambda answer: answer[:9], 2),
        (lambda answer: answer[:-1], 1),
        (lambda answer: answer[:-8], 1),
        (lambda answer: answer[:2] + b"\x81\x83" + answer[4:], 1),  # no such name
    ],
)
async def test_bad_dns_answer_raises_no_connection(
    names: FakeNameServer, spoil: Callable[[bytes], bytes | None], asked: int
) -> None:
    names.spoil = spoil
    with pytest.raises(NoConnection, match="dns"):
        await look_up(names)
    assert names.asked == asked


async def test_missing_address_or_name_server_raises_no_connection(names: FakeNameServer) -> None:
    names.records = [(28, bytes(16)), (1, b"\1\2")]
    with pytest.raises(NoConnection, match="dns"):
        await look_up(names)
    names.transport.close()
    await asyncio.sleep(0)
    with pytest.raises(NoConnection, match="dns"):
        await look_up(names)


async def test_duplicate_dns_answer_counts_once(names: FakeNameServer) -> None:
    def twice(answer: bytes) -> bytes:
        for _ in range(2):
            names.transport.sendto(answer, names.last)  # type: ignore[attr-defined]
        return answer

    original = names.datagram_received

    def remember(data: bytes, addr: tuple[str, int]) -> None:
        names.last = addr  # type: ignore[attr-defined]
        original(data, addr)

    names.datagram_received = remember  # type: ignore[method-assign]
    names.spoil = twice
    assert await look_up(names) == "127.0.0.1"


@given(st.binary(max_size=300))
def test_dns_parser_never_raises_on_random_bytes(data: bytes) -> None:
    query = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + b"\x01a\x00\x00\x01\x00\x01"
    assert answers(query, data) in {True, False}
    found = first_address(query, query[:2] + b"\x81\x80\x00\x01\x00\x09\x00\x00\x00\x00" + query[12:] + data)
    assert found is None or socket.inet_aton(found)


async def test_second_socket_error_is_ignored() -> None:
    answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
    question = _QueryProtocol(b"", answer)
    question.error_received(OSError())
    question.error_received(OSError())
    assert isinstance(answer.exception(), OSError)


def test_uncompressed_name_is_read_and_unterminated_name_is_refused() -> None:
    query = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + b"\x01a\x00\x00\x01\x00\x01"
    record = b"\x01a\x00" + struct.pack("!2HIH", 1, 1, 60, 4) + b"\x7f\x00\x00\x01"
    assert first_address(query, query[:2] + b"\x81\x80\x00\x01\x00\x01" + query[8:] + record) == "127.0.0.1"
    assert first_address(query, query[:2] + b"\x81\x80\x00\x01\x00\x09" + query[8:] + b"\x05ab") is None


# The connection


class Line:
    """An upstream connection of one box to a server that keeps the datagrams."""

    def __init__(self, names: FakeNameServer) -> None:
        self.clock = VirtualClock()
        self.server = Sender("127.0.0.1")
        self.answers: list[bytes] = []
        self.ours = False
        resolver = NameServer(self.clock, "127.0.0.1", names.port)
        config = UpstreamConfig(host=NAME, port=self.server.address[1], resolver=resolver)
        self.up = Upstream(self.clock, config, self.answers.append, lambda _: self.ours)

    async def send(self, data: bytes, *, suspect: bool = False) -> None:
        self.up.send(data, suspect)
        await self.clock.settle()

    def error(self) -> str | None:
        return self.up.error

    def received(self) -> list[bytes]:
        return [data for data, _ in self.server.received()]


@pytest.fixture
async def line(names: FakeNameServer) -> AsyncIterator[Line]:
    line = Line(names)
    yield line
    await line.up.close()
    line.server.close()


async def test_datagrams_wait_for_resolution_and_answers_return(line: Line, names: FakeNameServer) -> None:
    for number in range(WAITING + 2):
        line.up.send(b"%d" % number, False)
    await line.clock.settle()
    assert line.received() == [b"%d" % number for number in range(2, WAITING + 2)]  # the oldest were dropped
    line.up.send(b"x", False)
    await line.clock.settle()
    [(data, address)] = line.server.received()
    assert data == b"x"
    line.server.sock.sendto(b"CMD", address)
    other = Sender("127.0.0.9")
    other.sock.sendto(b"FOREIGN", address)
    await line.clock.settle()
    assert line.answers == [b"CMD"]
    other.close()
    assert names.asked == 1


async def test_name_is_resolved_again_periodically_and_sooner_when_suspect(line: Line, names: FakeNameServer) -> None:
    await line.send(b"1")
    await line.clock.advance(RESOLVE_AGAIN)
    await line.send(b"2")
    assert names.asked == 1
    await line.send(b"3", suspect=True)
    assert names.asked == 2
    await line.clock.advance(RESOLVE_EVERY)
    await line.send(b"4")
    assert (names.asked, line.received()) == (3, [b"1", b"2", b"3", b"4"])
    pytest_socket.socket_allow_hosts(["127.0.0.1", "127.0.0.5"])
    names.records = [(1, socket.inet_aton("127.0.0.5"))]
    moved = Sender("127.0.0.5")
    moved.sock.close()
    moved.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    moved.sock.setblocking(False)
    moved.sock.bind(("127.0.0.5", line.server.address[1]))
    await line.clock.advance(RESOLVE_EVERY)
    await line.send(b"5")
    await line.send(b"6")
    assert moved.received()[-1][0] == b"6"
    moved.close()


async def test_unreachable_server_is_reported_and_retried(line: Line, names: FakeNameServer) -> None:
    names.flags = 0x8183
    await line.send(b"1")
    assert line.error() == "dns"
    await line.send(b"2")
    assert names.asked == 1
    await line.clock.advance(RESOLVE_AGAIN)
    await line.send(b"3")
    assert (line.error(), line.received()) == ("dns", [])
    names.flags = 0x8180
    line.ours = True
    await line.clock.advance(RESOLVE_AGAIN)
    await line.send(b"4")
    assert line.error() == "upstream_loop"
    line.ours = False
    await line.clock.advance(RESOLVE_AGAIN)
    await line.send(b"5")
    assert (line.error(), line.received()) == (None, [b"5"])
    port = line.server.address[1]
    line.server.close()
    await line.send(b"6")
    assert line.error() == "unreachable"
    line.server.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.server.sock.setblocking(False)
    line.server.sock.bind(("127.0.0.1", port))
    await line.send(b"7")
    (_, address) = line.server.received()[-1]
    line.server.sock.sendto(b"CMD", address)
    await line.clock.settle()
    assert (line.error(), line.answers) == (None, [b"CMD"])


async def test_unusable_address_is_unreachable(line: Line, names: FakeNameServer) -> None:
    pytest_socket.socket_allow_hosts(["127.0.0.1", "255.255.255.255"])  # the operating system refuses this address
    names.records = [(1, socket.inet_aton("255.255.255.255"))]
    await line.send(b"1")
    assert line.error() == "unreachable"


async def test_upstream_closed_during_look_up_sends_nothing(line: Line, names: FakeNameServer) -> None:
    names.spoil = lambda _: None
    await line.send(b"1")
    await line.up.close()
    await line.clock.advance(10)
    assert line.received() == []


async def test_unexpected_connect_error_is_logged(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    def fail(peer: object) -> bool:
        raise ZeroDivisionError

    line.up._is_own_endpoint = fail
    await line.send(b"1")
    assert "Unexpected error while connecting" in caplog.text


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
async def test_own_endpoint_is_recognized(socket_enabled: None, address: str) -> None:
    pytest_socket.socket_allow_hosts(["127.0.0.1", "192.0.2.1", "255.255.255.255"])  # asked, not sent to
    site = Site()
    (other,) = free_ports(1)
    site.ours.open(address, [site.port], None)
    assert site.ours._is_own_endpoint(("127.0.0.1", site.port))
    assert not site.ours._is_own_endpoint(("127.0.0.1", other))
    assert not site.ours._is_own_endpoint(("192.0.2.1", site.port))
    assert not site.ours._is_own_endpoint(("255.255.255.255", site.port))
    await site.ours.close()
