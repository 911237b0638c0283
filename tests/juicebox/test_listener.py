"""Tests of the listener: accepted and answered boxes, drops, moves, discovery and sockets."""

import asyncio
import socket

import pytest

from custom_components.chargekeeper.core.errors import NoConnection
from custom_components.chargekeeper.juicebox.datagram import (
    LONGEST,
    DebugMessage,
    EncryptedMessage,
    StatusMessage,
    parse,
)
from custom_components.chargekeeper.juicebox.listener import (
    BOX_BURST,
    DISPUTED_FOR,
    MOST_PENDING,
    MOST_STRANGERS,
    PORT_SILENT,
    READ_BURST,
    SILENT_BEFORE_MOVE,
    STRANGERS_BURST,
    PortBusy,
    Track,
)

from .rig import HERE, THERE, ListenerRig, Sender, free_ports, line
from .vectors import D1, S2, S8, S11, SERIAL, X2

OTHER = "0817000000000000000000000000"
THIRD = "127.0.0.4"


async def test_listed_box_is_received_on_every_port_and_answered_at_its_source(
    rig: ListenerRig,
) -> None:
    rig.listener.add(SERIAL, HERE)
    box = rig.sender()
    for port in rig.ports:
        assert await rig.send(box, line(), port=port) == 1
        assert rig.arrivals[-1].address == box.address
        assert rig.arrivals[-1].answer(b"CMD")
        await rig.clock.settle()
        assert box.received() == [(b"CMD", ("127.0.0.1", port))]
    moved = rig.sender()  # another source port of the same box
    assert await rig.send(moved, line()) == 1
    rig.arrivals[-1].answer(b"CMD")
    await rig.clock.settle()
    assert (len(moved.received()), box.received()) == (1, [])


async def test_boxes_behind_gateway_are_distinguished_by_serial(rig: ListenerRig) -> None:
    """Send from one address with a port per box, as a masquerading gateway does."""
    boxes = {serial: rig.sender() for serial in (SERIAL, OTHER)}
    for serial, box in boxes.items():
        rig.listener.add(serial, HERE)
        assert await rig.send(box, line(serial=serial)) == 1
    assert [arrival.message.serial for arrival in rig.arrivals] == [SERIAL, OTHER]
    for arrival in rig.arrivals:
        assert arrival.answer(arrival.message.serial.encode())
    await rig.clock.settle()
    assert {serial: [data for data, _ in box.received()] for serial, box in boxes.items()} == {
        serial: [serial.encode()] for serial in boxes
    }
    assert rig.listener.dropped == {}


async def test_answer_longer_than_its_status_is_not_sent(rig: ListenerRig) -> None:
    rig.listener.add(SERIAL, HERE)
    box = rig.sender()
    await rig.send(box, line())
    assert not rig.arrivals[0].answer(b"x" * (len(line()) + 1))
    assert rig.listener.dropped["answer_too_long"] == 1
    await rig.clock.settle()
    assert box.received() == []


async def test_i9_datagram_of_unknown_or_wrong_source_is_counted_without_effect(
    rig: ListenerRig,
) -> None:
    """Check I9: no datagram from an unknown or wrong source changes state or gets an answer."""
    rig.listener.add(SERIAL, HERE)
    box, foreign = rig.sender(), rig.sender(THERE)
    assert await rig.send(foreign, line(), D1, X2) == 0  # the right serial at the wrong address
    assert await rig.send(foreign, line(serial=OTHER), S8.replace(SERIAL.encode(), OTHER.encode())) == 0
    assert await rig.send(box, S11, S2[:-8] + b"!AAA:", b"1" * (LONGEST + 1), SERIAL.encode() + b":v11,s1!AAA:") == 0
    assert await rig.send(box, SERIAL.encode() + b":?") == 0
    assert rig.listener.dropped == {
        "wrong_source": 3,
        "unknown_box": 2,
        "not_a_box": 1,
        "checksum": 1,
        "too_long": 1,
        "unknown_version": 1,
        "malformed": 1,
    }
    assert box.received() == foreign.received() == []
    assert rig.listener.host_of(SERIAL) == HERE


async def test_debug_and_encrypted_datagrams_of_listed_box_are_passed_on(rig: ListenerRig) -> None:
    rig.listener.add(SERIAL, HERE)
    assert await rig.send(rig.sender(), D1, X2) == 2
    assert [type(arrival.message) for arrival in rig.arrivals] == [DebugMessage, EncryptedMessage]


async def test_flood_of_unknown_boxes_is_limited_and_spares_listed_box(rig: ListenerRig) -> None:
    rig.listener.add(SERIAL, HERE)
    box, foreign = rig.sender(), rig.sender(THERE)
    for _ in range(4):
        await rig.send(foreign, *[line(serial=OTHER)] * 100)
    assert await rig.send(box, line()) == 1
    assert rig.listener.dropped["rate"] == 400 - STRANGERS_BURST
    await rig.clock.advance(1)
    await rig.send(foreign, *[line(serial=OTHER)] * 50)
    assert rig.listener.dropped["rate"] == 450 - STRANGERS_BURST - 20


async def test_flood_of_one_box_is_limited_and_spares_other_box(rig: ListenerRig) -> None:
    rig.listener.add(SERIAL, HERE)
    rig.listener.add(OTHER, HERE)  # behind the same gateway
    box = rig.sender()
    assert await rig.send(box, *[line()] * 100) == BOX_BURST
    assert await rig.send(box, line(serial=OTHER)) == 1


async def test_forged_datagrams_take_no_capacity_from_box_statuses(rig: ListenerRig) -> None:
    """Flood from the box's address with debug lines, wrong checksums, implausible statuses and copies."""
    rig.listener.add(SERIAL, HERE)
    box, beside = rig.sender(), rig.sender()
    assert await rig.send(box, line(uptime=1000)) == 1
    for forged, sender in ((D1, box), (S2[:-8] + b"!AAA:", box), (line(lifetime=1), box), (line(uptime=1000), beside)):
        await rig.send(sender, *[forged] * 60)
        assert await rig.send(box, line(uptime=1000)) == 1, forged
    assert rig.listener.dropped["rate"] > 0
    await rig.clock.advance(PORT_SILENT)
    assert await rig.send(beside, *[line(uptime=1065)] * 60) == BOX_BURST, "it may have opened another port"


async def test_flood_of_wrong_checksums_does_not_block_statuses_of_box(
    rig: ListenerRig,
) -> None:
    rig.listener.add(SERIAL, HERE)
    box, beside = rig.sender(), rig.sender()
    assert await rig.send(box, line()) == 1
    forged = S2[:-8] + b"!AAA:"
    for _ in range(int(READ_BURST / 50) + 1):  # small batches, so that the socket loses none
        await rig.send(beside, *[forged] * 50)
    read = READ_BURST - 1  # the first status of the box came from an unknown port as well
    assert rig.listener.dropped == {"checksum": read, "rate": 51}
    assert await rig.send(box, line()) == 1


async def test_giant_datagram_is_dropped(rig: ListenerRig) -> None:
    rig.listener.add(SERIAL, HERE)
    assert await rig.send(rig.sender(), SERIAL.encode() + b":" + b"x" * 65_000) == 0
    assert rig.listener.dropped == {"too_long": 1}


# Plausibility


async def test_falling_or_leaping_lifetime_energy_is_rejected_until_persistent(rig: ListenerRig) -> None:
    rig.listener.add(SERIAL, HERE, lifetime=5000)
    box = rig.sender()
    assert await rig.repeat(box, 1, lifetime=4999) == 0
    assert await rig.repeat(box, 1, lifetime=900_000) == 1  # the age of the known energy is unknown
    assert await rig.repeat(box, 1, lifetime=903_000) == 0
    assert await rig.repeat(box, 1, lifetime=900_001) == 1
    assert rig.listener.dropped == {"implausible": 2}
    assert await rig.repeat(box, 2, lifetime=100) == 0
    assert await rig.repeat(box, 2, lifetime=101) == 2  # three in a row: the box has a new meter


async def test_statuses_in_quick_succession_are_no_evidence() -> None:
    track, message = Track(), line()
    found = [track.add_evidence(_status(message), at) for at in (0.0, 0.5, 0.9)]
    assert found == [False, False, False]
    assert track.good == 1


@pytest.mark.parametrize("version", ["07", "09u", ""])
def test_counter_following_time_is_plausible_and_repeated_counter_is_not(version: str) -> None:
    def judge(*uptimes: float) -> list[bool]:
        track = Track()
        return [
            track.add_evidence(_status(line(uptime=uptime, version=version)), 1000 + 30 * number)
            for number, uptime in enumerate(uptimes)
        ]

    assert judge(640, 670, 700) == [False, False, True]  # the counter of v07 starts again at 655
    assert judge(640, 640, 640) == [False, False, not version]
    assert judge(640, 640 + 200, 640 + 400) == [False, False, not version]
    mixed = Track()
    mixed.record(_status(line(version="09u")), 1000)
    assert not mixed.counter_fits(_status(line(version="")), 1030)


def _status(data: bytes) -> StatusMessage:
    message = parse(data)
    assert isinstance(message, StatusMessage)
    return message


def test_status_without_energy_keeps_known_lifetime_energy() -> None:
    track = Track(lifetime=7)
    track.record(_status(b"123456789:T1:"), 0)
    assert track.lifetime == 7


# A new address


async def test_moved_box_is_accepted_after_silence_and_three_plausible_statuses(rig: ListenerRig) -> None:
    rig.listener.add(SERIAL, HERE)
    old, new = rig.sender(), rig.sender(THERE)
    assert await rig.repeat(old, 1) == 1
    assert await rig.repeat(new, 3) == 0  # the old address sent a status just now
    await rig.clock.advance(SILENT_BEFORE_MOVE - 90)
    assert await rig.repeat(new, 2) == 0
    assert await rig.repeat(new, 2) == 2
    assert rig.listener.host_of(SERIAL) == THERE
    assert await rig.repeat(old, 1) == 0


async def test_statuses_hours_apart_do_not_move_box(rig: ListenerRig) -> None:
    rig.listener.add(SERIAL, HERE)
    home, away = rig.sender(), rig.sender(THERE)
    assert await rig.repeat(home, 2, version="07") == 2
    replayed = line(uptime=rig.clock.monotonic(), version="07")
    for _ in range(5):
        await rig.clock.advance(3600)
        assert await rig.send(away, replayed) == 0
    assert rig.listener.host_of(SERIAL) == HERE


async def test_lower_energy_or_active_old_address_prevents_move(rig: ListenerRig) -> None:
    rig.listener.add(SERIAL, HERE, lifetime=6000)
    new = rig.sender(THERE)
    await rig.clock.advance(SILENT_BEFORE_MOVE)
    assert await rig.repeat(new, 6, lifetime=5999) == 0
    assert await rig.repeat(new, 2, lifetime=6000) == 0
    await rig.repeat(rig.sender(), 1, lifetime=6000)
    assert await rig.repeat(new, 3, lifetime=6000) == 0
    assert rig.listener.host_of(SERIAL) == HERE


@pytest.mark.parametrize("lifetime", [4_000_000_000, 11_000])
async def test_impossible_energy_increase_prevents_move(rig: ListenerRig, lifetime: int) -> None:
    """Exceed the limit of 60 kW since the last status, plus 1 kWh."""
    rig.listener.add(SERIAL, HERE, lifetime=6000)
    box = rig.sender()
    stranger = rig.sender(THERE)
    assert await rig.repeat(box, 3, lifetime=6000) == 3
    await rig.clock.advance(SILENT_BEFORE_MOVE)
    assert await rig.repeat(stranger, 4, lifetime=lifetime, every=10) == 0
    assert rig.listener.host_of(SERIAL) == HERE
    assert await rig.repeat(box, 3, lifetime=6000) == 3


async def test_possible_energy_increase_allows_move(rig: ListenerRig) -> None:
    rig.listener.add(SERIAL, HERE, lifetime=6000)
    assert await rig.repeat(rig.sender(), 1, lifetime=6000) == 1
    await rig.clock.advance(3600)
    assert await rig.repeat(rig.sender(THERE), 3, lifetime=6000 + 55_000) == 1


@pytest.mark.parametrize("metered_at", [-7200.0, -3600.0])
async def test_possible_energy_increase_counts_from_metering_before_start(rig: ListenerRig, metered_at: float) -> None:
    now = rig.clock.monotonic()
    rig.listener.add(SERIAL, HERE, lifetime=6000, metered_at=now + metered_at)
    await rig.clock.advance(SILENT_BEFORE_MOVE)
    accepted = await rig.repeat(rig.sender(THERE), 3, lifetime=6000 + 100_000)
    assert accepted == (1 if metered_at == -7200.0 else 0)


async def test_metering_time_in_future_does_not_lock_box_out(rig: ListenerRig) -> None:
    """Restore a metering time in the future, as after Home Assistant's clock was set back."""
    rig.listener.add(SERIAL, HERE, lifetime=6000, metered_at=rig.clock.monotonic() + 86_400)
    assert await rig.repeat(rig.sender(), 1, lifetime=6500) == 1


async def test_pinned_address_wins_back_from_accepted_stranger(rig: ListenerRig) -> None:
    disputed: list[str] = []
    rig.listener.on_dispute = disputed.append
    rig.listener.add(SERIAL, HERE, lifetime=6000)
    box = rig.sender()
    stranger = rig.sender(THERE)
    assert await rig.repeat(box, 3, lifetime=6000) == 3
    await rig.clock.advance(SILENT_BEFORE_MOVE)
    assert await rig.repeat(stranger, 3, lifetime=8000) == 1  # a possible increase
    assert (rig.listener.host_of(SERIAL), disputed) == (THERE, [])
    for accepted in (0, 0, 1, 1):  # although the stranger goes on
        await rig.send(stranger, line(uptime=rig.clock.monotonic(), lifetime=8000))
        assert await rig.repeat(box, 1, lifetime=6000) == accepted
        assert rig.listener.is_disputed(SERIAL) is not bool(accepted)
    assert rig.listener.host_of(SERIAL) == HERE
    assert disputed == [SERIAL, SERIAL]
    assert await rig.repeat(stranger, 3, lifetime=8000) == 0


async def test_pinned_address_does_not_win_back_with_replayed_statuses(rig: ListenerRig) -> None:
    rig.listener.add(SERIAL, THERE, lifetime=6000, pinned=HERE)
    assert await rig.repeat(rig.sender(THERE), 1, lifetime=6000) == 1
    replayed = line(uptime=1000, lifetime=6000)
    for _ in range(5):
        assert await rig.send(rig.sender(), replayed, D1) == 0
        await rig.clock.advance(30)
    assert rig.listener.host_of(SERIAL) == THERE
    assert rig.listener.is_disputed(SERIAL)
    await rig.clock.advance(DISPUTED_FOR)
    assert not rig.listener.is_disputed(SERIAL)
    assert not rig.listener.is_disputed(OTHER)


async def test_flood_from_elsewhere_spares_pinned_address(rig: ListenerRig) -> None:
    rig.listener.add(SERIAL, THERE, lifetime=6000, pinned=HERE)
    box = rig.sender()
    foreign = rig.sender("127.0.0.9")
    accepted = 0
    for _ in range(4):
        await rig.send(foreign, *[line(serial=OTHER)] * 100)
        accepted += await rig.send(box, line(uptime=rig.clock.monotonic(), lifetime=6000))
        await rig.clock.advance(5)
    assert accepted == 2


async def test_longest_silent_new_address_gives_way_when_too_many_appear(rig: ListenerRig) -> None:
    rig.listener.add(SERIAL, HERE)
    await rig.clock.advance(SILENT_BEFORE_MOVE)
    genuine = rig.sender(THERE)
    assert await rig.repeat(genuine, 2, every=10) == 0
    for number in range(4, 9):
        await rig.repeat(rig.sender(f"127.0.0.{number}"), 1, every=2)
    assert await rig.repeat(genuine, 2, every=30) == 0  # pushed out, so its evidence starts again
    assert await rig.repeat(genuine, 1) == 1


# Unknown boxes


async def test_unknown_box_is_discovered_after_three_valid_statuses(rig: ListenerRig) -> None:
    box = rig.sender()
    await rig.repeat(box, 2)
    assert rig.found == []
    await rig.repeat(box, 1)
    assert [(each.serial, each.host) for each in rig.found] == [(SERIAL, HERE)]
    assert rig.listener.discovered == rig.found
    await rig.repeat(box, 5)
    assert len(rig.found) == 1
    rig.listener.add(SERIAL, HERE)
    assert rig.listener.discovered == []
    assert await rig.repeat(box, 1) == 1
    rig.listener.remove(SERIAL)
    assert await rig.repeat(box, 1) == 0
    assert rig.listener.host_of(SERIAL) is None


async def test_slow_or_replayed_box_is_not_discovered(rig: ListenerRig) -> None:
    box = rig.sender()
    await rig.repeat(box, 4, every=40)
    for _ in range(5):
        await rig.send(box, line(serial=OTHER))
        await rig.clock.advance(10)
    await rig.send(box, D1.replace(SERIAL.encode(), OTHER.encode()))
    assert rig.found == []


async def test_discovered_box_is_forgotten_after_one_hour_of_silence(rig: ListenerRig) -> None:
    await rig.repeat(rig.sender(), 3)
    assert await rig.repeat(rig.sender(THERE), 3) == 0  # another address with the serial of a pending box
    assert [each.host for each in rig.listener.discovered] == [HERE]
    await rig.clock.advance(3601)
    assert rig.listener.discovered == []
    await rig.repeat(rig.sender(THERE), 3)
    assert [each.host for each in rig.listener.discovered] == [THERE]


async def test_pending_and_watched_unknown_boxes_are_limited(rig: ListenerRig) -> None:
    box = rig.sender()
    for _ in range(3):
        for number in range(MOST_STRANGERS + 5):
            await rig.send(box, line(uptime=rig.clock.monotonic(), serial=f"{number:09}"))
        await rig.clock.advance(20)
    assert len(rig.found) == MOST_PENDING
    assert len(rig.listener._strangers) == MOST_STRANGERS


async def test_box_at_internet_address_is_not_discovered(rig: ListenerRig) -> None:
    for _ in range(4):
        sock = next(iter(rig.listener._sockets.values()))
        rig.listener._received(sock, line(uptime=rig.clock.monotonic()), ("8.8.8.8", 8042))
        await rig.clock.advance(20)
    assert rig.listener.dropped == {"unknown_box": 4}
    assert rig.found == []


# Sockets


async def test_port_change_loses_nothing_on_kept_port(rig: ListenerRig) -> None:
    rig.listener.add(SERIAL, HERE)
    box = rig.sender()
    kept, dropped = rig.ports
    (new,) = free_ports(1)
    box.send(line(), kept)  # waits in the socket during the change
    rig.listener.open("127.0.0.1", [kept, new])
    await rig.clock.settle()
    assert len(rig.arrivals) == 1
    assert await rig.send(box, line(), port=new) == 1
    assert await rig.send(box, line(), port=dropped) == 0
    assert {port for _, port in rig.listener.endpoints} == {kept, new}
    before = rig.arrivals[-1]
    rig.listener.close()
    assert not before.answer(b"CMD")
    assert rig.listener.dropped["unsent"] == 1


async def test_busy_port_is_named_and_changes_nothing(rig: ListenerRig) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        (free,) = free_ports(1)
        busy = other.getsockname()[1]
        with pytest.raises(PortBusy) as err:
            rig.listener.open("127.0.0.1", [rig.ports[0], free, busy])
    assert (err.value.reason, err.value.detail) == ("port_busy", str(busy))
    assert {port for _, port in rig.listener.endpoints} == set(rig.ports)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", free))  # the port was released


@pytest.mark.parametrize("address", ["192.0.2.1", "example.org", ""])
async def test_foreign_listen_address_is_refused(rig: ListenerRig, address: str) -> None:
    with pytest.raises(NoConnection, match="bad_address"):
        rig.listener.open(address, rig.ports)
    assert len(rig.listener.endpoints) == 2


async def test_lost_listen_address_is_noticed(rig: ListenerRig) -> None:
    rig.listener.require_address()
    rig.listener._address = "192.0.2.1"  # as if this machine had lost the address
    with pytest.raises(NoConnection, match="bad_address"):
        rig.listener.require_address()
    assert len(rig.listener.endpoints) == 2


async def test_socket_error_is_counted_and_survived(rig: ListenerRig) -> None:
    class Broken:
        calls = 0

        def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
            self.calls += 1
            raise ConnectionRefusedError if self.calls < 3 else BlockingIOError

    rig.listener._readable(Broken())  # type: ignore[arg-type]
    assert rig.listener.dropped == {"socket_error": 2}


async def test_batch_of_datagrams_yields_to_other_tasks(rig: ListenerRig) -> None:
    foreign: Sender = rig.sender(THERE)
    for _ in range(100):
        foreign.send(b"x", rig.ports[0])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 < rig.listener.dropped["not_a_box"] < 100
    await rig.clock.settle()
    assert rig.listener.dropped["not_a_box"] == 100
