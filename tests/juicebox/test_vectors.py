"""Tests of every vector over loopback sockets: to, from and past the hub (docs/protocols/juicebox.md, section 5)."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from custom_components.chargekeeper.juicebox.box import BoxConfig, Mode
from custom_components.chargekeeper.juicebox.datagram import (
    CommandMessage,
    DebugMessage,
    EncryptedMessage,
    StatusMessage,
    parse_command,
    serial_of,
)
from custom_components.chargekeeper.juicebox.hub import BoxHub
from custom_components.chargekeeper.juicebox.resolver import SystemResolver
from custom_components.chargekeeper.juicebox.upstream import UpstreamConfig
from tests.simulators.clock import VirtualClock

from .rig import HERE, ListenerRig, Sender, free_ports
from .vectors import COMMANDS, D1, D2, D3, D4, D5, S1, S2, S3, S4, S5, S6, S7, S8, S9, S10, S11, SERIAL, X1, X2

WIRE_RATING = 40


@pytest.mark.parametrize("data", [S1, S2, S3, S4, S5, S6, S7, S8, S9, D1, D2, D3, D4, D5, X1, X2])
async def test_box_vector_arrives_with_its_serial(rig: ListenerRig, data: bytes) -> None:
    serial = serial_of(data) or SERIAL
    rig.listener.add(serial, HERE)
    assert await rig.send(rig.sender(), data) == 1
    [arrival] = rig.arrivals
    kinds = {StatusMessage: (S1, S2, S3, S4, S5, S6, S7, S8, S9), DebugMessage: (D1, D2, D3, D4, D5)}
    [kind] = [kind for kind, vectors in kinds.items() if data in vectors] or [EncryptedMessage]
    assert (type(arrival.message), arrival.message.serial, arrival.data) == (kind, serial, data)


@pytest.mark.parametrize("data", [S10, S11, *COMMANDS])
async def test_vector_of_no_box_is_dropped_without_answer(rig: ListenerRig, data: bytes) -> None:
    for serial in (SERIAL, "0" * 27):
        rig.listener.add(serial, HERE)
    sender = rig.sender()
    assert await rig.send(sender, data) == 0
    assert rig.listener.dropped == {"not_a_box": 1}
    assert sender.received() == []


@dataclass
class Between:
    """A box and its maker's server, both plain sockets, with the hub between them."""

    clock: VirtualClock
    stored: object = None

    def __post_init__(self) -> None:
        self.box, self.maker = Sender(HERE), Sender("127.0.0.1")
        [self.port] = free_ports(1)
        self.ours = BoxHub(self.clock, self.stored)
        config = BoxConfig(serial=SERIAL, host=HERE, wire_rating=WIRE_RATING, in_maker_load_group=False)
        self.served = self.ours.add(config)

    def open(self, *, served: bool = True) -> None:
        upstream = UpstreamConfig(host="127.0.0.1", port=self.maker.address[1], resolver=SystemResolver())
        self.ours.open("127.0.0.1", [self.port], upstream if served else None)

    async def report(self, data: bytes) -> list[bytes]:
        """Send a datagram as the box. Return the datagrams that the maker's server receives."""
        self.box.send(data, self.port)
        await self.clock.settle()
        datagrams = self.maker.received()
        self.line = datagrams[-1][1] if datagrams else None
        return [message for message, _ in datagrams]

    async def answer(self, data: bytes) -> None:
        """Answer as the maker's server."""
        assert self.line is not None
        self.maker.sock.sendto(data, self.line)
        await self.clock.settle()

    async def obeyed(self) -> list[bytes]:
        """Return the datagrams that the box received. All must come from the address that the box reports to."""
        await self.clock.settle()
        datagrams = self.box.received()
        assert {source for _, source in datagrams} <= {("127.0.0.1", self.port)}
        return [data for data, _ in datagrams]

    async def close(self) -> None:
        await self.ours.close()
        self.box.close()
        self.maker.close()


type Make = Callable[..., Between]


@pytest.fixture
async def make(socket_enabled: None) -> AsyncIterator[Make]:
    """Yield a factory of `Between`. Close its products after the test."""
    made: list[Between] = []

    def build(clock: VirtualClock | None = None, stored: object = None) -> Between:
        made.append(Between(clock or VirtualClock(), stored))
        return made[-1]

    yield build
    for each in made:
        await each.close()


@pytest.mark.parametrize("command", COMMANDS)
async def test_recorded_server_command_reaches_box_unchanged(make: Make, command: bytes) -> None:
    decoded = parse_command(command)
    between = make()
    between.open()
    status = S1 if getattr(decoded, "wide", None) else S4
    assert await between.report(status) == [status]
    await between.answer(command)
    assert await between.obeyed() == [command]
    state = between.served.state
    assert (state.online, state.offline, state.index, state.flags) == (
        *(getattr(decoded, "online", None), getattr(decoded, "offline", None)),
        *(getattr(decoded, "index", None), getattr(decoded, "flags", None)),
    )
    assert between.served.mode is Mode.RELAY


@pytest.mark.parametrize(
    ("status", "built"), [(S4, b"CMD52324A20M16C006S001!5RE$"), (S1, b"CMD52324A0020M016C006S001!YUK$")]
)
async def test_first_own_command_matches_documented_vector(make: Make, status: bytes, built: bytes) -> None:
    known = {"offline": 16, "online": 20, "allowed": 20, "version": "07" if status is S4 else "09u"}
    between = make(VirtualClock(datetime(2012, 3, 23, 23, 24, tzinfo=UTC)), {SERIAL: known})
    between.open(served=False)
    assert await between.report(status) == []
    assert await between.obeyed() == [built]


async def test_own_command_index_restarts_after_999(make: Make) -> None:
    between = make(stored={SERIAL: {"offline": 16, "allowed": 16, "version": "09u", "index": 997}})
    between.open(served=False)
    indices = []
    for _ in range(3):
        await between.report(S1)
        indices += [getattr(parse_command(data), "index", None) for data in await between.obeyed()]
    assert indices == [998, 999, 1]


@pytest.mark.parametrize("flags", [0, 6])
async def test_constant_server_flags_continue_in_outage(make: Make, flags: int) -> None:
    """Use flags of 000 too, which VoltiE's server seems to send (2.5)."""
    between = make()
    between.open()
    theirs = CommandMessage(
        weekday=1, hour=2, minute=3, online=20, offline=16, flags=flags, index=41, wide=True
    ).encode()
    await between.report(S1)
    await between.answer(theirs)
    assert await between.obeyed() == [theirs]
    for _ in range(5):
        await between.report(S1)
        await between.clock.advance(30)
    assert between.served.mode is Mode.KEEP
    ours = [parse_command(data) for data in await between.obeyed()]
    assert [(getattr(each, "flags", None), getattr(each, "index", None)) for each in ours] == [
        (flags, 42 + number) for number in range(len(ours))
    ]
    assert len(ours) > 1


@pytest.mark.parametrize("message", [D1, D2, D3, D4, D5, X1, X2])
async def test_debug_or_encrypted_message_of_kept_box_gets_no_answer(make: Make, message: bytes) -> None:
    between = make(stored={SERIAL: {"offline": 16, "allowed": 16, "version": "09u"}})
    between.open(served=False)
    await between.report(S1)
    assert len(await between.obeyed()) == 1
    await between.report(message)
    assert await between.obeyed() == []


@pytest.mark.parametrize("message", [S8, S1, S4, D1])
async def test_plain_text_message_is_relayed_to_server(make: Make, message: bytes) -> None:
    between = make()
    between.open()
    assert await between.report(message) == [message]
    assert await between.obeyed() == []


@pytest.mark.parametrize("message", [X1, X2])
async def test_encrypted_message_is_neither_relayed_nor_answered(make: Make, message: bytes) -> None:
    between = make()
    between.open()
    assert await between.report(message) == await between.obeyed() == []
    assert between.served.counts["encrypted"] == 1
