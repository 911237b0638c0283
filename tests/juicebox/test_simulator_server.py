"""Tests of the maker's simulated server with simulated boxes: its commands and its failures."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.simulators import juicebox_wire as wire
from tests.simulators.clock import START, VirtualClock
from tests.simulators.juicebox import HOST, Car, Circuit, JuiceBox, State
from tests.simulators.juicebox_server import (
    NEW_BOX,
    OLD_BOX,
    BoxHub,
    BoxIssue,
    Day,
    Group,
    Schedule,
    Unit,
    demo_site,
)
from tests.simulators.juicebox_wire import Flaw, Wire

ONE, TWO, THREE = (f"09100000000000000000000000{number:02}" for number in (1, 2, 3))
PACIFIC = ZoneInfo("America/Los_Angeles")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def server(clock: VirtualClock, socket_enabled: None) -> AsyncIterator[BoxHub]:
    server = BoxHub(clock, [Unit(serial=ONE)])
    await server.start()
    yield server
    await server.stop()


type MakeBox = Callable[..., JuiceBox]


@pytest.fixture
async def make(clock: VirtualClock, server: BoxHub) -> AsyncIterator[MakeBox]:
    """Yield a factory of started boxes with a charging car. Stop its boxes after the test."""
    boxes: list[JuiceBox] = []

    def make_box(serial: str = ONE, **options: Any) -> JuiceBox:
        box = JuiceBox(clock=clock, serial=serial, server=server.address, **options)
        boxes.append(box)
        box.plug_in(Car(wants_kwh=500, max_amperes=40))
        box.start()
        return box

    yield make_box
    for box in boxes:
        box.stop()


def orders(server: BoxHub, version: str = "09u") -> list[wire.Command]:
    """Return the sent commands, oldest first."""
    read = [wire.read_command(version, message) for _, _, message in server.sent]
    return [order for order in read if isinstance(order, wire.Command)]


@pytest.mark.parametrize("shape", [Wire.V07, Wire.V07_UNPADDED, Wire.V09U])
async def test_server_answers_each_status(make: MakeBox, server: BoxHub, clock: VirtualClock, shape: Wire) -> None:
    box = make(wire=shape)
    await clock.advance(600)
    unit = server.unit(ONE)
    assert unit.heard == unit.answered == box.statuses == len(box.commands) > 60
    assert (box.unanswered, box.slowest_answer, box.writes, box.amperes) == (0, 0, 0, 40)
    assert unit.addresses == {box.address}
    sent = orders(server, shape.version)
    assert len(sent) == len(server.sent)
    assert [order.index for order in sent[:4]] == [1, 2, 3, 4]
    assert [order.flags for order in sent[:4]] == [244, 6, 242, 8], "as in the captures: by the index modulo 4"
    assert {(order.online, order.stored) for order in sent} == {(40, 40)}
    assert (sent[0].weekday, sent[0].hour, sent[0].minute) == (1, 12, 0)


async def test_command_index_restarts_after_999(make: MakeBox, server: BoxHub, clock: VirtualClock) -> None:
    make()
    server.second_after = 1.0
    await clock.advance(4800)
    indices = [order.index for order in orders(server)]
    turn = indices.index(999)
    assert indices[turn - 1 : turn + 2] == [998, 999, 1]


async def test_server_answers_after_configured_delays(make: MakeBox, server: BoxHub, clock: VirtualClock) -> None:
    server.delay, server.second_after = 3.5, 1.5
    box = make()
    await clock.advance(0)
    assert not box.commands
    await clock.advance(3.5)
    assert len(box.commands) == 1
    await clock.advance(1.5)
    assert len(box.commands) == 2
    await clock.advance(60)
    assert box.slowest_answer == pytest.approx(3.5)
    assert box.unanswered == 0


async def test_legacy_and_encrypted_boxes_get_no_answer(make: MakeBox, server: BoxHub, clock: VirtualClock) -> None:
    legacy, encrypted = make(TWO, wire=Wire.LEGACY), make(THREE, encrypts=True)
    await clock.advance(60)
    assert (len(legacy.commands), len(encrypted.commands), len(server.sent)) == (0, 0, 0)
    assert not legacy.refusals
    assert not encrypted.refusals
    assert server.unit(TWO).state is State.CHARGING
    assert server.unit(TWO).lifetime_wh == 4_555_000
    legacy.unplug()
    await clock.settle()
    assert server.unit(TWO).state is State.UNPLUGGED


async def test_boot_message_is_recorded_and_not_answered(make: MakeBox, server: BoxHub, clock: VirtualClock) -> None:
    box = make()
    box.switch_off()
    await clock.advance(1)
    server.sent.clear()
    server.heard.clear()
    box.switch_on()
    await clock.advance(5)
    assert len(server.heard) == 3
    assert len(server.sent) == 1


async def test_unknown_state_code_gives_no_state(make: MakeBox, server: BoxHub, clock: VirtualClock) -> None:
    make()
    await clock.settle()
    unit = server.unit(ONE)
    assert unit.status is not None
    unit.status = wire.Status(unit.serial, "09u", {"S": 7})
    assert unit.state is None
    assert unit.unit_rating == 40


@pytest.mark.parametrize(
    ("wire_rating", "limit", "rating", "expected"),
    [(40, None, 40, 40), (40, None, 32, 32), (24, None, 32, 24), (40, 16, 40, 16), (40, 0, 40, 0), (40, 5, 40, 0)],
)
async def test_smallest_limit_is_sent(
    make: MakeBox,
    server: BoxHub,
    clock: VirtualClock,
    wire_rating: int,
    limit: int | None,
    rating: int,
    expected: int,
) -> None:
    unit = server.unit(ONE)
    unit.wire_rating, unit.limit = wire_rating, limit
    box = make(unit_rating=rating, stored=min(wire_rating, rating))
    await clock.advance(30)
    assert box.amperes == expected
    assert box.writes == 0


NIGHT = Day(start=22 * 60, end=6 * 60)
EVENING = Day(start=17 * 60, end=20 * 60)


@pytest.mark.parametrize(
    ("wall", "allowed"),
    [
        ("2026-11-02T21:59", False),
        ("2026-11-02T22:00", True),
        ("2026-11-06T05:59", True),
        ("2026-11-06T06:00", False),
        ("2026-11-07T05:00", False),  # Saturday has the other window
        ("2026-11-07T17:00", True),
        ("2026-11-08T19:59", True),
        ("2026-11-08T20:00", False),
    ],
)
def test_schedule_differs_for_weekdays_and_weekend(wall: str, allowed: bool) -> None:
    unit = Unit(serial=ONE, schedule=Schedule(custom=True, weekday=NIGHT, weekend=EVENING), zone=PACIFIC)
    now = datetime.fromisoformat(wall).replace(tzinfo=PACIFIC)
    assert unit.blocked_by_schedule(now) is not allowed
    unit.schedule = Schedule(weekday=NIGHT, weekend=EVENING)
    assert not unit.blocked_by_schedule(now)


def test_local_epoch_follows_time_zone_of_unit() -> None:
    """Use the example of docs/protocols/juicebox.md, section 1.4: eight hours behind UTC."""
    now = datetime.fromisoformat("2017-02-23T19:41:23+00:00")
    assert Unit(serial=ONE, zone=PACIFIC).local_epoch(now) == int(now.timestamp()) - 28800


async def test_server_enforces_schedule_and_minimal_energy(make: MakeBox, server: BoxHub, clock: VirtualClock) -> None:
    """Start at 12:00 UTC, which is 4:00 in the unit's zone."""
    unit = server.unit(ONE)
    unit.schedule, unit.zone = Schedule(custom=True, weekday=Day(start=5 * 60, end=6 * 60)), PACIFIC
    box = make()
    await clock.advance(40)
    drawn = []
    for _ in range(3):
        await clock.advance(3600)
        drawn.append(box.amperes)
    assert drawn == [40, 0, 0]
    assert box.minute_of_week == pytest.approx(1440 + 7 * 60, abs=1)
    assert box.session_wh == 0
    unit.minimal_wh = 20_000
    await clock.advance(7200)
    assert unit.session_wh == pytest.approx(20_000, abs=100)
    assert box.amperes == 0


async def test_override_lasts_until_car_leaves(make: MakeBox, server: BoxHub, clock: VirtualClock) -> None:
    unit = server.unit(ONE)
    unit.schedule = Schedule(custom=True, weekday=NIGHT, weekend=NIGHT)
    box = make()
    await clock.advance(60)
    assert box.amperes == 0
    unit.override_time = unit.local_epoch(clock.now())
    await clock.advance(60)
    assert box.amperes == 40
    unit.override_time = unit.local_epoch(clock.now()) + 3600
    await clock.advance(60)
    assert box.amperes == 0, "a moment to come: not before"
    await clock.advance(3600)
    assert box.amperes == 40
    began = unit.plugged_at
    box.unplug()
    await clock.settle()
    assert unit.override_time == 0
    assert unit.plugged_at is not None
    assert unit.plugged_at != began
    box.plug_in()
    await clock.advance(60)
    assert box.amperes == 0


@pytest.mark.parametrize(("lends", "expected"), [(False, (20, 20)), (True, (34, 20))])
async def test_load_group_never_exceeds_its_maximum(
    make: MakeBox, server: BoxHub, clock: VirtualClock, lends: bool, expected: tuple[int, int]
) -> None:
    server.groups["Yard"] = Group(maximum=40, lends=lends)
    for serial in (ONE, TWO):
        unit = server.unit(serial)
        unit.group, unit.stored = "Yard", 20
    circuit = Circuit(clock)
    one, two = (
        make(serial, circuit=circuit, stored=20, online_may_exceed=True, seed=int(serial)) for serial in (ONE, TWO)
    )
    two.unplug()
    await clock.advance(120)
    assert one.amperes == expected[0]
    assert two.amperes == 0
    two.plug_in(Car(wants_kwh=500, max_amperes=40))
    await clock.settle()
    assert two.amperes == (6 if lends else 20), "nothing is given away before it was taken back"
    await clock.advance(60)
    assert (one.amperes, two.amperes) == (expected[1], 20)
    two.unplug()
    await clock.advance(60)
    assert one.amperes == expected[0]
    assert circuit.peak <= 40
    assert one.writes == two.writes == 0


async def test_silent_member_keeps_its_offline_current_reserved(
    make: MakeBox, server: BoxHub, clock: VirtualClock
) -> None:
    server.groups["Yard"] = Group(maximum=40, lends=True)
    for serial in (ONE, TWO):
        unit = server.unit(serial)
        unit.group, unit.stored = "Yard", 20
    circuit = Circuit(clock)
    one = make(ONE, circuit=circuit, stored=20, online_may_exceed=True)
    await clock.advance(60)
    assert one.amperes == 20, "the other was never heard: it may take what it has stored"
    two = make(TWO, circuit=circuit, stored=20, seed=5, online_may_exceed=True)
    await clock.advance(60)
    server.unit(TWO).limit = 6
    await clock.advance(60)
    assert (one.amperes, two.amperes) == (20, 6)
    two.wifi = False
    await clock.advance(301)
    assert (one.amperes, two.amperes) == (20, 20)
    await clock.advance(60)
    assert circuit.peak == 40


async def test_dead_server_returns_on_same_port(make: MakeBox, server: BoxHub, clock: VirtualClock) -> None:
    with pytest.raises(RuntimeError):
        _ = BoxHub(clock).address
    box = make(stored=40)
    server.unit(ONE).limit = 16
    server.delay = 2.0
    await clock.advance(20)
    address, heard = server.address, server.unit(ONE).heard
    await server.set_trouble(BoxIssue.DEAD)
    await clock.advance(400)
    assert server.unit(ONE).heard == heard
    assert not server.seen(server.unit(ONE))
    assert (box.online, box.amperes) == (False, 40)
    await server.set_trouble(BoxIssue.NONE)
    assert server.address == address
    await clock.advance(30)
    assert (box.online, box.amperes) == (True, 16)


async def test_pending_answer_of_dying_server_is_lost(make: MakeBox, server: BoxHub, clock: VirtualClock) -> None:
    server.delay = 4.0
    box = make()
    await clock.advance(2)
    await server.set_trouble(BoxIssue.DEAD)
    await clock.advance(10)
    assert not box.commands


async def test_hanging_server_receives_and_does_not_answer(make: MakeBox, server: BoxHub, clock: VirtualClock) -> None:
    await server.set_trouble(BoxIssue.HANG)
    box = make()
    await clock.advance(60)
    assert (server.unit(ONE).heard > 5, len(box.commands), len(server.sent)) == (True, 0, 0)
    await server.set_trouble(BoxIssue.NONE)
    await clock.advance(10)
    assert box.commands


async def test_late_server_answers_after_40_s(make: MakeBox, server: BoxHub, clock: VirtualClock) -> None:
    await server.set_trouble(BoxIssue.LATE)
    box = make()
    await clock.advance(39)
    assert not box.commands
    await clock.advance(1)
    assert len(box.commands) == 1
    assert box.unanswered >= 3


@pytest.mark.parametrize(
    ("trouble", "flaw"),
    [(BoxIssue.ELSEWHERE, Flaw.STRANGER), (BoxIssue.GARBAGE, Flaw.FORM), (BoxIssue.CHECKSUM, Flaw.CHECKSUM)],
)
async def test_bad_server_answer_is_refused_by_box(
    make: MakeBox, server: BoxHub, clock: VirtualClock, trouble: BoxIssue, flaw: Flaw
) -> None:
    await server.set_trouble(trouble)
    box = make()
    await clock.advance(60)
    assert len(box.refusals) > 5
    assert {refusal.flaw for refusal in box.refusals} == {flaw}
    assert not box.commands


@pytest.mark.parametrize(
    ("trouble", "drawn", "stored"), [(BoxIssue.UNSAFE_CURRENT, 32, 32), (BoxIssue.UNSAFE_STORED, 16, 40)]
)
@pytest.mark.parametrize("shape", [Wire.V07, Wire.V09U])
async def test_unprotected_box_obeys_unsafe_server_values(
    make: MakeBox, server: BoxHub, clock: VirtualClock, trouble: BoxIssue, drawn: int, stored: int, shape: Wire
) -> None:
    """Expect the box to obey within its own limits, and to write the offline current to its EEPROM."""
    unit = server.unit(ONE)
    unit.wire_rating, unit.limit = 32, 16
    await server.set_trouble(trouble)
    box = make(wire=shape, unit_rating=40, stored=32)
    await clock.advance(30)
    assert (box.amperes, box.stored) == (drawn, stored)
    assert box.commands[-1].command.online == (80 if trouble is BoxIssue.UNSAFE_CURRENT else 16)
    assert box.commands[-1].command.stored == (80 if trouble is BoxIssue.UNSAFE_STORED else 32)


async def test_wandering_offline_current_is_written_each_time(
    make: MakeBox, server: BoxHub, clock: VirtualClock
) -> None:
    await server.set_trouble(BoxIssue.WANDERING)
    box = make()
    await clock.advance(600)
    assert box.writes == len(box.commands) > 50
    assert all(6 <= taken.command.stored <= 40 for taken in box.commands)


async def test_unknown_box_is_accepted(server: BoxHub, clock: VirtualClock) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=(HOST, 0))
    values = dict.fromkeys("sFuVLSTMCmtiefrbB", 1) | {"S": 0}
    transport.sendto(wire.status(Wire.V09U, THREE, values, charging=False), server.address)
    await clock.settle()
    unit = server.unit(THREE)
    assert (unit.heard, unit.state, unit.name) == (1, State.UNPLUGGED, "JuiceBox")
    transport.close()


async def test_demo_site_charges_within_hours_and_limit(socket_enabled: None) -> None:
    """Expect each box to charge at 16 A in its own hours while it reports directly to the server."""
    clock = VirtualClock(START.replace(hour=21, minute=30))
    site = demo_site(clock, (HOST, 9))
    await site.server.start()
    for box in site.boxes.values():
        box.server = site.server.address
        box.start()
    await clock.advance(60)
    assert {serial: box.amperes for serial, box in site.boxes.items()} == {OLD_BOX: 16, NEW_BOX: 0}
    await clock.advance(2 * 3600)
    assert {serial: box.amperes for serial, box in site.boxes.items()} == {OLD_BOX: 16, NEW_BOX: 16}
    assert site.circuit.seconds_above(site.limit) == 0
    assert {box.wire for box in site.boxes.values()} == {Wire.V07, Wire.V09U}
    for box in site.boxes.values():
        assert (box.writes, box.fallbacks) == (0, 0)
        box.stop()
    await site.server.stop()
