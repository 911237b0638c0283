"""Members of a load group that do not do what their share requires: they refuse, ignore, draw more, or are started."""

import pytest

from custom_components.chargekeeper.core.errors import NotAllowed, TransportDown
from custom_components.chargekeeper.core.load_group.group import REFRESH_AFTER
from custom_components.chargekeeper.core.load_group.measured import MeasuredExcess, measured_current
from custom_components.chargekeeper.core.load_group.member import IGNORED_AFTER
from custom_components.chargekeeper.core.load_group.shares import Claim, shares
from custom_components.chargekeeper.core.model import (
    CHARGING_CURRENT,
    CURRENT,
    CURRENT_L1,
    CURRENT_L2,
    NOMINAL_VOLTAGE,
    PHASES,
    POWER,
    STATUS,
    UNIT_RATING,
    VOLTAGE,
    WIRE_RATING,
    Capability,
    Property,
    Reading,
    Readings,
    Source,
    Status,
)
from custom_components.chargekeeper.core.transport import SetCharging, SetCurrent
from tests.core.test_group import A, B, C, Circuit, D, FakeMember, circuit, settled, spec
from tests.simulators.clock import START, VirtualClock

PAUSE = SetCharging(on=False)
START_AGAIN = SetCharging(on=True)


def drawn(bench: Circuit) -> float:
    """Return the current in A that all cars draw together."""
    return sum(
        member.amps if member.draws is None else member.draws
        for member in bench.members
        if member.car and not member.paused
    )


# A member that does not take a lower current


async def test_member_that_refuses_lower_current_paused_and_other_keeps_its_share() -> None:
    bench = await settled(20, 10, 10)
    first, second = bench.members
    first.amps = 32
    refusals = [NotAllowed("refused")]
    first.before_command = lambda setting: first.errors.extend(refusals if isinstance(setting, SetCurrent) else [])
    await bench.poll_minutes(2)
    assert (bench.paused(), drawn(bench)) == ([True, False], 10)
    assert second.commands == [], "nothing else changes"
    assert bench.group.view.allocated == 20
    await bench.poll_minutes(60)
    assert bench.paused() == [True, False], "its car would draw 32 A again"
    assert first.commands.count(PAUSE) == 1
    refusals.clear()
    await bench.poll_minutes(20)
    assert (bench.paused(), first.amps) == ([False, False], 10)
    assert first.commands[-1] == START_AGAIN


async def test_paused_member_started_again_once_its_setting_is_lowered_elsewhere() -> None:
    bench = await settled(20, 10, 10)
    first, _ = bench.members
    first.amps = 32
    first.before_command = lambda setting: first.errors.extend(
        [NotAllowed("refused")] if isinstance(setting, SetCurrent) else []
    )
    await bench.poll_minutes(10)
    assert first.paused
    first.amps = 9
    await bench.poll_minutes(10)
    assert (first.paused, first.amps) == (False, 9)


async def test_member_paused_after_second_failure_of_any_kind() -> None:
    bench = await settled(20, 10, 10)
    first, _ = bench.members
    first.amps = 32
    first.before_command = lambda setting: first.errors.extend(
        [TransportDown("timeout")] if isinstance(setting, SetCurrent) else []
    )
    await bench.poll(1)
    await bench.poll(1)
    assert first.commands == [SetCurrent(10)]
    await bench.poll_minutes(4)
    assert first.commands[:3] == [SetCurrent(10), SetCurrent(10), PAUSE]
    assert first.paused


async def test_member_whose_setting_never_changes_paused() -> None:
    bench = await settled(20, 10, 10)
    first, second = bench.members
    first.amps = 32
    first.drops = True
    first.before_command = lambda setting: setattr(first, "drops", isinstance(setting, SetCurrent))
    await bench.poll()
    await bench.poll()
    await bench.poll(REFRESH_AFTER)
    assert first.commands == [SetCurrent(10), PAUSE, SetCurrent(10)], "the lower current is tried again"
    assert first.paused
    assert second.commands == []


async def test_reduction_that_never_shows_counts_as_ignored_in_time() -> None:
    bench = await settled(20, 10, 10)
    first, _ = bench.members
    first.amps = 32
    first.drops = True
    first.poll()
    await bench.clock.advance(IGNORED_AFTER - 20)
    assert (first.in_flight, first.commands) == (True, [SetCurrent(10)]), "it may still arrive"
    await bench.clock.advance(60)
    assert first.commands == [SetCurrent(10), PAUSE]


async def test_other_member_not_raised_until_member_that_refuses_is_paused() -> None:
    bench = await settled(32, 10, 10)
    first, second = bench.members
    first.amps = 32
    first.errors = [NotAllowed("refused")] * 1000
    first.poll()
    assert second.group_room() == 0
    await bench.poll_minutes(3)
    assert (second.paused, second.group_share) == (True, 0), "the pause was refused too"


# Measured currents


def readings(**values: float) -> Readings:
    found = Readings()
    named: dict[str, Property[float]] = {
        prop.key: prop
        for prop in (CURRENT, CURRENT_L1, CURRENT_L2, POWER, PHASES, VOLTAGE, NOMINAL_VOLTAGE, UNIT_RATING)
    }
    for key, value in values.items():
        found.put(named[key], Reading(value, Source.CLOUD, START, 5.0))
    return found


@pytest.mark.parametrize(
    ("values", "amps"),
    [
        ({}, None),
        ({"current": 16.2}, 16.2),
        ({"current_l1": 10.0, "current_l2": 14.0}, 14.0),
        ({"current_l1": -14.0}, 14.0),  # a clamp that is mounted the wrong way round
        ({"power": 7360.0, "phases": 1, "nominal_voltage": 230.0}, 32.0),
        ({"power": 7200.0, "phases": 1, "voltage": 240.0, "nominal_voltage": 230.0}, 30.0),
        ({"power": 11040.0, "phases": 3, "nominal_voltage": 230.0}, 16.0),
        ({"power": 7360.0, "phases": 1}, None),
        ({"power": 7360.0, "nominal_voltage": 230.0}, None),
        ({"power": 7360.0, "phases": 0, "voltage": 230.0}, None),
        ({"current": 80.0}, 80.0),
        ({"current": 80.1}, None),
        ({"current": 40.0, "unit_rating": 40.0}, 40.0),
        ({"current": 40.1, "unit_rating": 40.0}, None),
    ],
)
def test_measured_current_is_that_of_busiest_phase(values: dict[str, float], amps: float | None) -> None:
    assert measured_current(readings(**values)) == (None if amps is None else (amps, 5.0))


def test_discharge_is_no_measured_current() -> None:
    found = readings(current=-16.0)
    found.put(STATUS, Reading(Status.DISCHARGING, Source.CLOUD, START, 5.0))
    assert measured_current(found) is None


@pytest.mark.parametrize(
    ("measured", "amps"),
    [
        ([(32.0, 0), (31.0, 120)], 31.0),
        ([(32.0, 0)], 0.0),
        ([(32.0, 0), (32.0, 0)], 0.0),  # the same measurement twice
        ([(32.0, 0), (32.0, 29)], 0.0),  # a car needs some seconds to follow a new setting
        ([(32.0, 0), (32.0, 15), (32.0, 30)], 32.0),
        ([(32.0, 0), (16.0, 60), (32.0, 120)], 0.0),
        ([(32.0, 0), None, (32.0, 120)], 32.0),
        ([(32.0, 120), (32.0, 0)], 0.0),
        ([(17.6, 0), (17.6, 120)], 0.0),  # within 10 %
        ([(17.7, 0), (17.7, 120)], 17.7),
        ([(32.0, 0), (32.0, 120), (16.0, 240)], 0.0),
        ([(20.0, 0), (20.0, 60), (32.0, 120), (30.0, 180)], 30.0),
    ],
)
def test_measured_excess_needs_two_measurements(measured: list[tuple[float, float] | None], amps: float) -> None:
    excess = MeasuredExcess()
    for each in measured:
        excess.update(16.0, each)
    assert excess.amps == amps


def test_measured_excess_starts_again_with_each_setting() -> None:
    excess = MeasuredExcess()
    excess.update(16.0, (32.0, 0))
    excess.update(10.0, (32.0, 120))
    assert (excess.amps, excess.is_unconfirmed) == (0.0, True)
    excess.update(10.0, (32.0, 240))
    assert (excess.amps, excess.is_unconfirmed) == (32.0, False)
    excess.update(32.0, (32.0, 360))
    assert (excess.amps, excess.is_within) == (0.0, True)


def test_low_setting_has_tolerance_of_one_ampere() -> None:
    excess = MeasuredExcess()
    for at in (0, 60):
        excess.update(6.0, (7.0, at))
    assert excess.amps == 0
    for at in (120, 180):
        excess.update(6.0, (7.1, at))
    assert excess.amps == 7.1


async def test_member_measured_above_its_setting_counts_and_is_paused() -> None:
    bench = await settled(32, 16, 16)
    first, second = bench.members
    first.draws = 32
    await bench.poll(1)
    await bench.poll(1)
    assert (bench.group.view.allocated, bench.commands()) == (32, [[], []]), "measured once only"
    await bench.poll()
    assert second.group_room() == 0
    await bench.poll(REFRESH_AFTER)
    assert (first.commands, first.paused) == ([PAUSE], True)
    await bench.poll_minutes(30)
    assert (drawn(bench), first.commands) == (16, [PAUSE]), "it would draw 32 A again"
    first.car, first.draws = False, None
    await bench.poll()
    first.car, first.paused = True, False
    await bench.poll_minutes(10)
    assert (drawn(bench), first.paused) == (32, False)


async def test_member_measured_above_its_setting_goes_on_where_its_share_suffices() -> None:
    bench = await settled(64, 16, 16)
    first, second = bench.members
    first.draws = 32
    await bench.poll_minutes(30)
    assert (bench.group.view.allocated, drawn(bench)) == (64, 48)
    assert bench.commands() == [[], []]
    first.draws = None
    await bench.poll_minutes(2)
    second.draws = 40.0
    await bench.poll_minutes(4)
    assert (bench.paused(), bench.shares()) == ([False, False], [24, 40])
    second.draws = 60.0
    await bench.poll_minutes(4)
    assert (bench.paused(), drawn(bench)) == ([False, True], 16)


async def test_others_make_room_for_member_measured_above_its_setting_that_nobody_can_pause() -> None:
    bench = await settled(40, 16, 16)
    first, second = bench.members
    first.capable = frozenset({Capability.CURRENT})
    first.draws = 32
    await bench.poll_minutes(5)
    assert (first.commands, second.amps) == ([], 8)
    assert bench.group.view.allocated == 40


# Members without a share


@pytest.mark.parametrize(
    ("amps", "open_starts", "expected"),
    [
        (12, (True, True, False), [6, 6, 0]),  # with or without a car
        (13, (True, True, True), [6, 6, 0]),  # the third may draw 6 A whenever somebody starts it
        (18, (True, True, True), [6, 6, 6]),
        (18, (False, True, True), [6, 6, 6]),
        (24, (False, True, True), [8, 8, 8]),
        (10, (False, False, True), [0, 0, 10]),
        (5, (True, False, False), [0, 0, 0]),
    ],
)
def test_members_whose_start_nobody_prevents_served_first(
    amps: float, open_starts: tuple[bool, ...], expected: list[int]
) -> None:
    claims = [Claim(1.0, wants=not is_open, start_preventable=not is_open) for is_open in open_starts]
    assert shares(amps, claims) == expected


def test_larger_minimum_leaves_room_for_members_whose_start_nobody_prevents() -> None:
    claims = [Claim(1.0, minimum=20, start_preventable=False), Claim(1.0, start_preventable=False)]
    assert shares(26, claims) == [20, 6]
    assert shares(25, claims) == [0, 19], "the first may draw 6 A"


@pytest.mark.parametrize(
    ("limit", "keys", "lowest", "overrun"),
    [(13, (A, B), 12, 0), (11, (A, B), 12, 1), (6, (C, D), 0, 0), (6, (A, B, C), 12, 6)],
)
def test_lowest_limit_is_minimum_of_members_whose_start_nobody_prevents(
    limit: float, keys: tuple[tuple[object, str], ...], lowest: int, overrun: float
) -> None:
    group = spec(limit, *keys)  # type: ignore[arg-type]
    assert (group.lowest_limit, group.overrun) == (lowest, overrun)


async def test_member_without_share_lowered_never_raised_and_counted() -> None:
    bench = circuit(11, 16, 16)
    first, second = bench.members
    second.car = False
    await bench.poll_minutes(10)
    assert (bench.shares(), [member.amps for member in bench.members]) == ([6, 0], [6, 6])
    assert (bench.group.view.allocated, bench.group.view.headroom) == (12, -1), "somebody may start the second"
    assert not first.paused
    assert set(second.commands) == {PAUSE, SetCurrent(6)}


async def test_juicebox_without_share_held_at_zero() -> None:
    bench = circuit(12, 6, 6, 16, keys=(A, B, C))
    bench.members[2].car = False
    await bench.poll_minutes(10)
    assert (bench.shares(), bench.group.view.allocated) == ([6, 6, 0], 12)
    assert bench.members[2].group_share == 0


async def test_member_without_share_started_elsewhere_paused_at_next_report() -> None:
    bench = circuit(11, 6, 6)
    first, second = bench.members
    await bench.poll_minutes(3)
    assert bench.paused() == [False, True]
    for _ in range(5):
        second.sent.clear()
        second.paused = False
        second.poll()
        await bench.clock.advance(1)
        assert (second.commands, second.paused) == ([PAUSE], True)
        await bench.poll_minutes(3)
    assert first.commands == []


async def test_group_from_before_still_serves_its_members() -> None:
    bench = circuit(13, 16, 16, 16, keys=(A, B, ("wallbox", "700303")))  # type: ignore[arg-type]
    await bench.poll_minutes(10)
    assert bench.shares() == [6, 6, 0]
    assert drawn(bench) == 12
    bench.members[0].car = False
    await bench.poll_minutes(10)
    assert bench.shares() == [0, 6, 6]
    assert (drawn(bench), bench.paused()) == (12, [False, False, False])
    assert (bench.group.view.allocated, bench.group.view.headroom) == (18, -5)


# Stored shares


async def restarted(limit: float, **stored: dict[str, object]) -> Circuit:
    """Return a group after a start; `stored` maps the last digit of a serial to its record."""
    clock = VirtualClock()
    members = [FakeMember(clock, key) for key in (A, B)]
    for member in members:
        member.linked = False
    bench = Circuit(spec(limit, A, B), *members, clock=clock)
    await bench.group.stop()
    bench.saved = {f"wallbox_70030{digit.removeprefix('m')}": record for digit, record in stored.items()}
    for member in members:
        member.group_share = None
    bench.group = bench.new_group()
    return bench


@pytest.mark.parametrize(
    ("limit", "first", "second", "expected"),
    [
        (40, {"share": 8, "most": 8}, {"share": 32, "most": 32}, [8, 32]),
        (40, {"share": 8, "most": 8}, {"share": 12, "most": 12}, [8, 12]),
        (40, {"share": 24, "most": 24}, {"share": 24, "most": 24}, [16, 16]),  # another limit since
        (20, {"share": 8, "most": 8}, {"share": 32, "most": 32}, [0, 10]),
        (40, {"share": 0, "most": 6}, {"most": 32}, [0, 20]),
        (40, {"most": 10}, {"most": 10}, [20, 20]),  # stored by an earlier version
        (40, {"share": 20, "most": 64}, {"share": 20, "most": 20}, [20, 0]),
    ],
)
async def test_shares_restored_and_bounded_by_what_others_leave(
    limit: float, first: dict[str, object], second: dict[str, object], expected: list[int]
) -> None:
    bench = await restarted(limit, m1=first, m2=second)
    assert [member.group_share for member in bench.members] == expected


async def test_share_survives_restart() -> None:
    bench = await settled(40, 20, 20)
    first, second = bench.members
    first.fall_silent(stored=30)
    await bench.poll_minutes(3)
    assert bench.shares() == [20, 10]
    await bench.group.stop()
    for member in bench.members:
        member.group_share = None
    bench.group = bench.new_group()
    assert second.group_share == 10


async def test_member_without_car_that_refuses_lower_current_counts_with_its_setting() -> None:
    bench = circuit(32, 10, 10, keys=(C, D))
    first, second = bench.members
    first.car = False
    await bench.poll_minutes(5)
    first.errors = [NotAllowed("refused")] * 1000
    first.amps = 30
    await bench.poll_minutes(3)
    assert (first.paused, second.group_room()) == (False, 2), "its car would draw 30 A"
    assert second.paused


def hide_limits(member: FakeMember) -> None:
    """Let a member report neither its setting nor its wire rating, until `_publish` is restored."""
    publish = member._publish

    def without_limits() -> None:
        assert member._shown is not None
        member._shown.discard(CHARGING_CURRENT.key)
        member._shown.discard(WIRE_RATING.key)
        publish()

    member._publish = without_limits  # type: ignore[method-assign]


async def test_group_continues_while_resumed_member_has_no_known_setting() -> None:
    bench = await settled(20, 9, 9, adjusts=False)
    first, second = bench.members
    second.adjusts = True
    first.amps = 16
    await bench.poll_minutes(3)
    first.amps = 9
    await bench.poll_minutes(30)
    assert START_AGAIN in first.commands
    hide_limits(first)
    second.amps = 32
    await bench.poll_minutes(30)
    assert second.amps <= 10


async def test_member_lowered_once_its_unknown_setting_is_readable_again() -> None:
    bench = await settled(32, 16, 16, capable=frozenset({Capability.CURRENT}))
    first, _ = bench.members
    publish = first._publish
    hide_limits(first)
    before = len(first.sent)
    await bench.poll_minutes(2)
    assert len(first.sent) == before, "any current could be a raise"
    first._publish = publish  # type: ignore[method-assign]
    first.amps = 32
    await bench.poll_minutes(30)
    assert first.amps <= 16
