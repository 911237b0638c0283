"""Tests of the simulated box: its behavior with and without commands, and damaged datagrams."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any, override

import pytest

from tests.simulators import juicebox_wire as wire
from tests.simulators.clock import VirtualClock
from tests.simulators.juicebox import HOST, Address, Car, Circuit, JuiceBox, Line, Shows, State
from tests.simulators.juicebox_wire import LETTERS, Command, Flaw, Wire

SERIAL = "0910000000000000000000000001"
PLAIN = [Wire.V07, Wire.V07_UNPADDED, Wire.V09U]


class FakeServer(asyncio.DatagramProtocol):
    """A server that keeps its datagrams, and answers with `online` and `stored` in A unless `online` is None."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.online: int | None = None
        self.stored = 40
        self.received: list[tuple[float, Address, bytes]] = []
        self.transport: asyncio.DatagramTransport | None = None

    @override
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    @override
    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.received.append((self.clock.monotonic(), addr, data))
        status = wire.read_status(data)
        if status is not None and self.online is not None:
            self.command(status.version, self.online, self.stored)

    def command(self, version: str, online: int, stored: int, *, index: int = 1) -> None:
        now = self.clock.now()
        order = Command(
            weekday=now.isoweekday() % 7,
            hour=now.hour,
            minute=now.minute,
            online=online,
            stored=stored,
            flags=6,
            index=index,
        )
        self.send(wire.command(version, order))

    def send(self, message: bytes) -> None:
        assert self.transport is not None
        self.transport.sendto(message, self.received[-1][1])

    @property
    def last(self) -> dict[str, int]:
        """The letters of the last status."""
        return dict(self.statuses[-1].values)

    @property
    def statuses(self) -> list[wire.Status]:
        return [status for _, _, data in self.received if (status := wire.read_status(data)) is not None]

    def steps(self) -> list[float]:
        """Return the seconds between statuses."""
        times = [at for at, _, data in self.received if wire.read_status(data) is not None]
        return [later - earlier for earlier, later in pairwise(times)]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def fake_server(clock: VirtualClock, socket_enabled: None) -> AsyncIterator[FakeServer]:
    loop = asyncio.get_running_loop()
    transport, fake_server = await loop.create_datagram_endpoint(lambda: FakeServer(clock), local_addr=(HOST, 0))
    yield fake_server
    transport.close()
    await asyncio.sleep(0)


type MakeBox = Callable[..., JuiceBox]


@pytest.fixture
async def make(clock: VirtualClock, fake_server: FakeServer) -> AsyncIterator[MakeBox]:
    """Yield a factory of boxes that report to the fake server. Stop its boxes after the test."""
    boxes: list[JuiceBox] = []

    def make_box(wire: Wire = Wire.V09U, **options: Any) -> JuiceBox:
        assert fake_server.transport is not None
        options = {"serial": SERIAL, "server": fake_server.transport.get_extra_info("sockname"), **options}
        boxes.append(JuiceBox(clock=clock, wire=wire, **options))
        return boxes[-1]

    yield make_box
    for box in boxes:
        box.stop()
    assert clock.pending == 0, "nothing is left behind"


@pytest.mark.parametrize("shape", Wire)
async def test_box_sends_exactly_documented_letters(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock, shape: Wire
) -> None:
    """Expect every sent letter to be documented, and every documented letter to be sent."""
    fake_server.online = None if shape is Wire.LEGACY else 32
    box = make(shape)
    box.start()
    await clock.advance(120)
    box.plug_in()
    await clock.advance(120)
    emitted = {letter for status in fake_server.statuses for letter in status.values}
    emitted |= {"v"} if all(status.version for status in fake_server.statuses) else set()
    assert emitted == set(LETTERS[shape])
    assert len(fake_server.statuses) == len(fake_server.received)


@pytest.mark.parametrize("shape", Wire)
async def test_box_reports_every_30_s_and_every_10_s_while_charging(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock, shape: Wire
) -> None:
    box = make(shape)
    box.start()
    await clock.advance(300)
    assert len(fake_server.received) == 11
    assert all(29 <= step <= 30 for step in fake_server.steps())
    assert fake_server.last["t"] == (30 if shape in {Wire.LEGACY, Wire.V07_UNPADDED} else 29)
    box.plug_in()
    await clock.settle()
    assert len(fake_server.received) == 12, "a change of state is told at once"
    fake_server.received.clear()
    await clock.advance(100)
    assert len(fake_server.received) == 10
    assert all(9 <= step <= 10 for step in fake_server.steps())
    assert fake_server.last["t"] == (10 if shape in {Wire.LEGACY, Wire.V07_UNPADDED} else 9)


async def test_charging_box_reports_current_power_and_energy(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock
) -> None:
    box = make(meter_wh=1000.9)
    box.plug_in(Car(wants_kwh=20, max_amperes=30))
    box.start()
    await clock.advance(1800)
    watts = 240 * 30 * 0.996
    assert (box.state, box.amperes) == (State.CHARGING, 30)
    assert box.watts == pytest.approx(watts)
    assert box.session_wh == pytest.approx(watts / 2, rel=0.01)
    last_report = fake_server.last
    assert last_report["A"] == 300
    assert last_report["p"] == 996
    assert last_report["F"] == 31
    assert last_report["V"] == 2400
    assert last_report["f"] == 5999
    assert last_report["E"] == pytest.approx(watts / 2, rel=0.01)
    assert last_report["L"] == last_report["E"] + 1000
    assert last_report["P"] == 0


async def test_full_car_sleeps_or_stays_awake(make: MakeBox, fake_server: FakeServer, clock: VirtualClock) -> None:
    sleepy, awake = (make(serial=f"{number:09}", seed=number) for number in (1, 2))
    for box in (sleepy, awake):
        box.start()
        box.plug_in(Car(wants_kwh=1, awake_when_full=box is awake))
    await clock.advance(3600)
    assert (sleepy.state, sleepy.amperes) == (State.PLUGGED, 0)
    assert (awake.state, awake.amperes) == (State.CHARGING, 1.3)
    assert awake.session_wh == pytest.approx(1000 + 240 * 1.3 * 0.009 * 0.87, rel=0.01)
    last_report = [status.values for status in fake_server.statuses if int(status.serial) == 2][-1]
    assert (last_report["S"], last_report["A"], last_report["p"], last_report["F"]) == (2, 13, 9, 11), (
        "as in the capture S3"
    )


async def test_car_with_timer_charges_only_after_waking(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock
) -> None:
    box = make()
    box.start()
    with pytest.raises(RuntimeError):
        box.wake_car()
    seen = []
    acts: list[Callable[[], None]] = [lambda: box.plug_in(Car(ready=False)), box.wake_car, box.unplug]
    for act in acts:
        act()
        seen.append(box.state)
    assert seen == [State.PLUGGED, State.CHARGING, State.UNPLUGGED]
    await clock.settle()
    assert [status.values["S"] for status in fake_server.statuses] == [0, 1, 2, 0]


@pytest.mark.parametrize("shape", PLAIN)
async def test_box_obeys_commands(make: MakeBox, fake_server: FakeServer, clock: VirtualClock, shape: Wire) -> None:
    box = make(shape)
    fake_server.online = 16
    box.plug_in()
    box.start()
    await clock.advance(30)
    assert (box.online, box.in_force, box.amperes) == (True, 16, 16)
    assert fake_server.last["M"] == 16
    assert fake_server.last["s"] == len(box.commands) - 1
    fake_server.online = 0
    await clock.advance(30)
    assert (box.state, box.amperes, box.in_force) == (State.PLUGGED, 0, 0)
    assert fake_server.last["M"] == 0
    assert box.session_wh == 0, "it starts anew with each end of charging"
    fake_server.online = 5
    await clock.advance(30)
    assert box.state is State.PLUGGED, "less than 6 A is no charging"
    assert box.writes == 0
    assert box.slowest_answer == 0
    assert box.unanswered == 0


async def test_smallest_limit_applies(make: MakeBox, fake_server: FakeServer, clock: VirtualClock) -> None:
    box = make(unit_rating=32, stored=24)
    eager = make(serial="000000002", unit_rating=32, stored=24, online_may_exceed=True)
    fake_server.online, fake_server.stored = 99, 24
    box.start()
    await clock.settle()
    assert box.in_force == 24
    eager.start()
    await clock.settle()
    assert eager.in_force == 32
    assert (fake_server.last["m"], fake_server.last["C"]) == (32, 24)
    fake_server.stored = 99
    await clock.advance(30)
    assert (box.stored, box.writes) == (32, 1), "clamped to its own rating, and written once"


@pytest.mark.parametrize("shape", Wire)
async def test_box_falls_back_after_five_minutes_without_commands(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock, shape: Wire
) -> None:
    box = make(shape, stored=20)
    fake_server.online, fake_server.stored = (None if shape is Wire.LEGACY else 0), 20
    box.plug_in()
    box.start()
    await clock.settle()
    if shape is Wire.LEGACY:
        assert box.amperes == 20
        return
    assert box.amperes == 0
    fake_server.online = None
    await clock.advance(299)
    assert (box.online, box.amperes) == (True, 0)
    await clock.advance(1)
    assert (box.online, box.amperes) == (False, 20), "the pause is lost"
    assert fake_server.last["S"] == 2
    await clock.advance(20)
    assert fake_server.last["M"] == 20
    assert box.fallbacks == 1
    assert box.unanswered > 8
    fake_server.online = 0
    await clock.advance(10)
    assert (box.online, box.amperes) == (True, 0)


async def test_offline_current_of_zero_prevents_charging(make: MakeBox, clock: VirtualClock) -> None:
    box = make(stored=0)
    box.plug_in()
    box.start()
    assert (box.state, box.in_force) == (State.PLUGGED, 0)


async def test_each_new_offline_current_is_written(make: MakeBox, fake_server: FakeServer, clock: VirtualClock) -> None:
    box = make(stored=40)
    box.start()
    await clock.settle()
    for stored in (40, 20, 20, 40, 30, 30):
        fake_server.command("09u", 16, stored)
        await clock.settle()
    assert (box.stored, box.writes) == (30, 3)
    assert [taken.command.stored for taken in box.commands] == [40, 20, 20, 40, 30, 30]


@pytest.mark.parametrize(
    ("state_key", "online", "m", "c"),
    [
        (Shows.M_IN_FORCE, True, 16, 24),
        (Shows.C_IN_FORCE, True, 24, 16),
        (Shows.M_IN_FORCE, False, 24, 24),
        (Shows.C_IN_FORCE, False, 24, 24),
    ],
)
async def test_limit_letters_follow_variant_of_box(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock, state_key: Shows, online: bool, m: int, c: int
) -> None:
    box = make(state_key=state_key, stored=24)
    fake_server.online, fake_server.stored = (16 if online else None), 24
    box.start()
    await clock.advance(30)
    assert (fake_server.last["M"], fake_server.last["C"]) == (m, c)
    old = make(Wire.V07, serial="000000007", state_key=state_key, stored=24)
    old.start()
    await clock.advance(30)
    last_report = next(status.values for status in reversed(fake_server.statuses) if int(status.serial) == 7)
    assert last_report["M"] == (16 if online else 24), "there is no dispute over v07"
    assert "C" not in last_report


async def test_box_counts_quarter_hours_by_its_own_clock(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock
) -> None:
    """Start on a Monday at 12:00."""
    box = make()
    box.plug_in(Car(wants_kwh=200, max_amperes=10))
    box.start()
    await clock.advance(60)
    assert (box.minute_of_week, box.slots) == (None, {})
    assert fake_server.last["e"] == -1
    fake_server.online = 10
    await clock.advance(59 * 60 + 20)
    assert box.minute_of_week == pytest.approx(1440 + 13 * 60, abs=0.5)
    quarter = 240 * 10 * 0.996 / 4
    assert set(box.slots) == {48, 49, 50, 51, 52}
    assert box.slots[50] == pytest.approx(quarter, rel=0.02), "its clock is set ahead by some seconds now and then"
    assert sum(box.slots.values()) == pytest.approx(box.session_wh, rel=0.03)
    await clock.advance(96 * 10)
    last_report = {status.values["i"]: status.values["e"] for status in fake_server.statuses[-96:]}
    assert len(last_report) == 96
    assert last_report[50] == int(box.slots[50])
    assert last_report[10] == -1
    fake_server.online = 0
    await clock.advance(24 * 3600)
    assert box.slots[50] == pytest.approx(0), "yesterday's is gone"
    assert len(box.slots) == 96


async def test_box_clock_follows_server(make: MakeBox, fake_server: FakeServer, clock: VirtualClock) -> None:
    box = make()
    fake_server.online = 10
    box.plug_in(Car(wants_kwh=200, max_amperes=10))
    box.start()
    await clock.advance(3600)
    clock.jump(-3600)
    await clock.advance(60)
    assert box.minute_of_week == pytest.approx(1440 + 12 * 60 + 1, abs=0.2)
    assert box.slots[48] > 240 * 10 * 0.996 / 4, "the hour that came twice is counted twice"
    clock.jump(timedelta(days=5, hours=12).total_seconds())
    await clock.advance(60)
    assert box.minute_of_week == pytest.approx(2, abs=0.2)


async def test_booting_box_sends_debug_messages_and_charges_at_once(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock
) -> None:
    box = make(stored=20)
    fake_server.online, fake_server.stored = 0, 20
    box.plug_in()
    box.start()
    await clock.advance(100)
    assert box.amperes == 0
    before = box.address
    box.switch_off()
    assert not box.powered
    with pytest.raises(RuntimeError):
        _ = box.address
    await clock.advance(600)
    fake_server.received.clear()
    fake_server.online = None
    box.switch_on()
    await clock.advance(4)
    assert fake_server.received == []
    await clock.advance(1)
    assert [data for _, _, data in fake_server.received[:2]] == [
        f"{SERIAL}:DBG,NFO:BOT:EMWERK-JB201-1.0.46, Gecko_OS-STANDARD-4.2.7-11064, WGM160P:".encode(),
        f"{SERIAL}:DBG,NFO:BOT:FW Init.ENC.Y/ECDAYS.90/EVT.Y/ECHTTP.Y:".encode(),
    ]
    assert len(fake_server.received) == 3
    assert (
        fake_server.last["M"],
        fake_server.last["S"],
        fake_server.last["r"],
        fake_server.last["u"],
        fake_server.last["s"],
    ) == (20, 2, 99, 0, 0)
    assert box.amperes == 20, "it charges at once, on its stored limit"
    assert box.address != before
    await clock.advance(10)
    assert (fake_server.last["r"], fake_server.last["e"]) == (61, -1)


@pytest.mark.parametrize(("shape", "ticks"), [(Wire.V07, 1000), (Wire.V09U, 10)])
async def test_uptime_counter_rises_and_wraps_on_v07(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock, shape: Wire, ticks: int
) -> None:
    box = make(shape)
    box.plug_in()
    box.start()
    await clock.advance(40)
    counts = [status.values["u"] for status in fake_server.statuses]
    assert all(0.8 * ticks <= later - earlier <= 1.1 * ticks for earlier, later in pairwise(counts))
    await clock.advance(3600)
    assert fake_server.last["u"] == pytest.approx(3640 * ticks / 10 % 65536, abs=1.1 * ticks)
    counts = [status.values["u"] for status in fake_server.statuses]
    assert (counts == sorted(counts)) is (shape is Wire.V09U), "v07 counts to 65535 and begins anew"


async def test_legacy_box_sends_no_boot_message(make: MakeBox, fake_server: FakeServer, clock: VirtualClock) -> None:
    make(Wire.LEGACY).switch_on()
    await clock.advance(5)
    assert [wire.read_status(data) is not None for _, _, data in fake_server.received] == [True]


async def test_power_cut_clears_state_outside_eeprom(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock
) -> None:
    box, forgetful = make(stored=32), make(serial="000000002", stored=32, forgets_stored=16)
    fake_server.online, fake_server.stored = 10, 24
    for each in (box, forgetful):
        each.start()
        each.plug_in()
    await clock.advance(60)
    assert (box.stored, forgetful.stored) == (24, 24)
    fake_server.online = None
    lifetime = box.lifetime_wh
    for each in (box, forgetful):
        each.switch_off()
        assert (each.online, each.minute_of_week, each.session_wh) == (False, None, 0)
        each.switch_on()
    await clock.advance(5)
    assert (box.in_force, forgetful.in_force) == (24, 16)
    assert box.lifetime_wh == lifetime


async def test_offline_box_follows_its_window_until_power_cycle(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock
) -> None:
    """Start at 12:00 with a window from 13:00 to 14:00. The documented power cycle removes the window."""
    box = make(window=(13 * 60, 14 * 60))
    box.plug_in(Car(wants_kwh=100))
    box.start()
    assert box.amperes == 32, "without a clock it cannot know"
    fake_server.online = 0
    await clock.advance(30)
    fake_server.online = None
    await clock.advance(330)
    assert (box.online, box.state, box.amperes) == (False, State.PLUGGED, 0)
    states = []
    for _ in range(2):
        await clock.advance(3600)
        states.append(box.state)
    assert states == [State.CHARGING, State.PLUGGED]
    box.switch_off()
    box.switch_on()
    await clock.advance(5)
    assert box.amperes == 32
    assert box.window is None


async def test_window_across_midnight_allows_charging_at_night(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock
) -> None:
    box = make(window=(22 * 60, 6 * 60))
    box.plug_in(Car(wants_kwh=1000))
    fake_server.online = 0
    box.start()
    await clock.settle()
    fake_server.online = None
    states = []
    for hours in (1, 8, 2, 6, 2):
        await clock.advance(hours * 3600)
        states.append(box.state)
    assert states == [State.PLUGGED, State.PLUGGED, State.CHARGING, State.CHARGING, State.PLUGGED]


async def test_fault_stops_charging_until_cleared(make: MakeBox, fake_server: FakeServer, clock: VirtualClock) -> None:
    box = make()
    box.plug_in()
    box.start()
    box.set_fault(5)
    await clock.settle()
    assert (box.state, box.amperes, fake_server.last["S"]) == (State.ERROR_3, 0, 5)
    box.set_fault(0)
    assert box.state is State.CHARGING


async def test_latching_car_stays_at_first_current_until_replugged(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock
) -> None:
    box = make()
    box.start()
    fake_server.online = 8
    await clock.advance(30)
    box.plug_in(Car(latches=True))
    assert box.amperes == 8
    fake_server.online = 32
    await clock.advance(60)
    assert (box.in_force, box.amperes) == (32, 8), "it refuses more than it first saw"
    box.unplug()
    box.plug_in(Car(latches=True))
    fake_server.online = 8
    await clock.advance(10)
    assert box.amperes == 8
    fake_server.online = 32
    await clock.advance(10)
    assert box.amperes == 32


@contextmanager
def refused(box: JuiceBox, *flaws: Flaw) -> Iterator[None]:
    before, taken = len(box.refusals), len(box.commands)
    yield
    assert [refusal.flaw for refusal in list(box.refusals)[before:]] == list(flaws)
    assert len(box.commands) == taken


async def test_box_refuses_invalid_command_with_matching_flaw(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock
) -> None:
    box = make()
    box.start()
    await clock.settle()
    good = wire.command("09u", Command(weekday=1, hour=12, minute=0, online=16, stored=20, flags=6, index=1))
    unsigned, _, _ = good.partition(b"!")
    with refused(box, Flaw.NO_CHECKSUM):
        fake_server.send(unsigned + b"$")
        await clock.settle()
    assert fake_server.received[-1][2] == f"{SERIAL}:DBG,ERR:Miss CRC '{unsigned.decode()}':".encode()
    with refused(box, Flaw.CHECKSUM, Flaw.FORM, Flaw.WIDTH):
        fake_server.send(good.replace(b"A0016", b"A0017"))
        fake_server.send(b"\xff")
        fake_server.command("07", 16, 20)
        await clock.settle()
    loop = asyncio.get_running_loop()
    stranger, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=(HOST, 0))
    with refused(box, Flaw.STRANGER):
        stranger.sendto(good, box.address)
        await clock.settle()
    stranger.close()
    assert (box.online, box.writes, box.minute_of_week) == (False, 0, None)


@pytest.mark.parametrize(
    "options", [{"obeys": False}, {"encrypts": True}, {"wire": Wire.LEGACY}], ids=["ignoring", "encrypted", "legacy"]
)
async def test_uncontrollable_box_ignores_commands(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock, options: dict[str, Any]
) -> None:
    box = make(stored=20, **options)
    box.plug_in()
    box.start()
    await clock.settle()
    for _ in range(3):
        fake_server.command("09u", 16, 30)
        await clock.advance(10)
    assert [refusal.flaw for refusal in box.refusals] == [Flaw.IGNORED] * 3
    assert (box.online, box.amperes, box.writes, box.stored) == (False, 20, 0, 20)
    if not box.encrypts and box.wire is not Wire.LEGACY:
        assert fake_server.last["s"] == 0, "its counter stands still"


@pytest.mark.parametrize(("shape", "version"), [(Wire.V07, b"08"), (Wire.V09U, b"09e")])
async def test_encrypted_box_sends_unreadable_datagrams(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock, shape: Wire, version: bytes
) -> None:
    make(shape, encrypts=True).switch_on()
    await clock.advance(5)
    *debug, datagram = [data for _, _, data in fake_server.received]
    assert debug[-1].endswith(b":DBG,NFO:DirSvc encrypt 1:")
    assert datagram.startswith(SERIAL.encode() + b":v" + version + b"\x01\0\0\0\0\0")
    assert len(datagram) == 192
    assert wire.read_status(datagram) is None


async def test_reconnected_box_uses_new_port(make: MakeBox, fake_server: FakeServer, clock: VirtualClock) -> None:
    loop = asyncio.get_running_loop()
    transport, other = await loop.create_datagram_endpoint(lambda: FakeServer(clock), local_addr=(HOST, 0))
    box = make(host="127.0.0.9")
    box.start()
    await clock.settle()
    before = box.address
    assert fake_server.received[-1][1] == before
    box.server = transport.get_extra_info("sockname")
    await clock.advance(30)
    assert other.received == []
    box.reconnect()
    await clock.advance(30)
    assert other.received[-1][1] == box.address != before
    assert box.address[0] == "127.0.0.9"
    transport.close()


async def test_box_without_wifi_falls_back_and_recovers(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock
) -> None:
    box = make(stored=20)
    fake_server.online, fake_server.stored = 10, 20
    box.plug_in()
    box.start()
    await clock.advance(20)
    box.wifi = False
    fake_server.command("09u", 6, 20)
    fake_server.received.clear()
    await clock.advance(320)
    assert (fake_server.received, box.amperes) == ([], 20)
    box.wifi = True
    await clock.advance(10)
    assert box.amperes == 10


async def test_circuit_sums_currents_of_its_boxes(make: MakeBox, fake_server: FakeServer, clock: VirtualClock) -> None:
    circuit = Circuit(clock)
    boxes = [make(serial=f"{number:09}", circuit=circuit, stored=20) for number in range(3)]
    for box in boxes:
        box.start()
        box.plug_in(Car(wants_kwh=200))
        await clock.advance(10)
    assert (circuit.drawn, circuit.peak) == (60, 60)
    assert circuit.seconds_above(39) == pytest.approx(20)
    assert circuit.seconds_above(60) == 0
    boxes[0].switch_off()
    assert circuit.drawn == 40
    await clock.advance(10)
    boxes[1].unplug()
    boxes[0].switch_on()
    await clock.advance(5)
    assert circuit.drawn == 40
    assert circuit.peak == 60
    boxes[1].plug_in()
    boxes[2].unplug()
    assert circuit.seconds_above(59) == pytest.approx(10), "what lasts no time at all does not count"


@pytest.mark.parametrize("kind", ["loss", "duplicate", "reorder", "corrupt"])
async def test_line_damage_matches_configured_kind(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock, kind: str
) -> None:
    line = Line(seed=3, held_for=12, **{kind: 0.3})
    box = make(line=line)
    box.plug_in(Car(wants_kwh=1000))
    box.start()
    await clock.advance(2000)
    sent, received = [data for _, data in box.sent], [data for _, _, data in fake_server.received]
    number = len(sent)
    assert number > 190
    statuses = [wire.read_status(data) for data in received]
    if kind == "loss":
        assert 0.6 * number < len(received) < 0.8 * number
        assert line.lost == number - len(received)
        assert set(received) <= set(sent)
    elif kind == "duplicate":
        assert 1.2 * number < len(received) < 1.4 * number
        assert set(received) == set(sent)
    elif kind == "reorder":
        counts = [status.values["u"] for status in statuses if status is not None]
        assert counts != sorted(counts)
        assert number - 2 <= len(counts) <= number
    else:
        assert 0.2 * number < statuses.count(None) < 0.4 * number
        assert len(received) == number
        assert any(b"\xc3" in data for data in received)


async def test_line_damage_repeats_for_same_seed() -> None:
    lines = [Line(seed=seed, loss=0.2, duplicate=0.2, reorder=0.2, corrupt=0.2) for seed in (5, 5, 6)]
    results = [[list(line.carry(b"%d" % number)) for number in range(100)] for line in lines]
    assert results[0] == results[1] != results[2]


async def test_damaged_commands_are_refused_and_cause_no_writes(
    make: MakeBox, fake_server: FakeServer, clock: VirtualClock
) -> None:
    box = make(line=Line(seed=1, loss=0.2, duplicate=0.2, reorder=0.2, corrupt=0.2))
    fake_server.online = 16
    box.plug_in(Car(wants_kwh=1000))
    box.start()
    await clock.advance(3600)
    assert box.writes == 0
    assert box.unanswered > 50
    assert box.slowest_answer > 0
    assert {refusal.flaw for refusal in box.refusals} >= {Flaw.CHECKSUM, Flaw.FORM}
    assert box.amperes == 16
