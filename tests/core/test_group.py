"""Load group: how the limit is divided, and that the members together never exceed the limit."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import cast, override

from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
import pytest

from custom_components.chargekeeper.core.charger.context import result_of, unlimited
from custom_components.chargekeeper.core.cooldown import RAISE_SPACING, START_SPACING
from custom_components.chargekeeper.core.errors import (
    ChargerError,
    NotAllowed,
    NotApplicable,
    NotSaved,
    TransportDown,
    UnsafeRequest,
    Unsupported,
)
from custom_components.chargekeeper.core.limits import Limits, permit
from custom_components.chargekeeper.core.load_group.group import REFRESH_AFTER, GroupView, LoadGroup
from custom_components.chargekeeper.core.load_group.member import REDUCE_AGAIN_AFTER
from custom_components.chargekeeper.core.load_group.shares import (
    Claim,
    GroupError,
    GroupSpec,
    Key,
    Member,
    allocate,
    could_draw,
    offline_excess,
    shares,
    stored_excess,
)
from custom_components.chargekeeper.core.model import (
    CAR_CONNECTED,
    CHARGING_CURRENT,
    CURRENT,
    HOUSE_LIMIT,
    OFFLINE_CURRENT,
    STATUS,
    UNIT_RATING,
    WIRE_RATING,
    Capability,
    Identity,
    Maker,
    Outcome,
    Reading,
    Readings,
    Snapshot,
    Source,
    Status,
)
from custom_components.chargekeeper.core.transport import SetCharging, SetCurrent, Setting
from tests.simulators.clock import START, VirtualClock

A, B, C = ((Maker.WALLBOX, "700301"), (Maker.WALLBOX, "700302"), (Maker.JUICEBOX, "0910042001"))
D, E = ((Maker.JUICEBOX, "0910042002"), (Maker.JUICEBOX, "0910042003"))
PAUSE, START_AGAIN = SetCharging(on=False), SetCharging(on=True)

# Shares


def claims(*weights: float) -> list[Claim]:
    return [Claim(weight) for weight in weights]


@pytest.mark.parametrize(
    ("amps", "weights", "expected"),
    [
        (32, (1, 1), [16, 16]),
        (40, (2, 1, 1), [20, 10, 10]),
        (32, (1, 1, 1), [11, 11, 10]),  # whole amperes: remaining ones go to the first members
        (32.9, (1, 1), [16, 16]),
        (24, (9, 1), [18, 6]),  # each gets what a car needs if there is enough for all
        (24, (1, 9), [6, 18]),
        (17, (1, 1, 1), [9, 8, 0]),  # with less than 6 A for each, the last member pauses
        (11, (1, 5, 5), [11, 0, 0]),
        (6, (1,), [6]),
        (5.9, (1, 1), [0, 0]),
        (-3, (1, 1), [0, 0]),
        (40, (), []),
    ],
)
def test_current_divided_by_weight(amps: float, weights: tuple[float, ...], expected: list[int]) -> None:
    assert shares(amps, claims(*weights)) == expected


@pytest.mark.parametrize(
    ("amps", "least", "expected"),
    [
        (20, (16, 16), [20, 0]),
        (20, (6, 16), [20, 0]),
        (22, (6, 16), [6, 16]),
        (12, (16, 6), [0, 12]),
        (5, (6, 6), [0, 0]),
    ],
)
def test_member_gets_at_least_its_minimum_or_nothing(amps: float, least: tuple[int, ...], expected: list[int]) -> None:
    assert shares(amps, [Claim(1.0, minimum=each) for each in least]) == expected


def test_members_with_car_served_first_if_current_is_short() -> None:
    def divided(amps: float, *cars: bool) -> list[int]:
        return shares(amps, [Claim(1, wants=car) for car in cars])

    assert divided(12, False, True, True) == [0, 6, 6]
    assert divided(12, True, True, True) == [6, 6, 0]
    assert divided(12, False, False, True) == [6, 0, 6]
    assert divided(18, False, True, True) == [6, 6, 6]


some_claims = st.lists(
    st.builds(
        Claim,
        weight=st.floats(0.01, 100),
        wants=st.booleans(),
        reserved=st.none() | st.floats(0, 100) | st.just(float("inf")),
    ),
    min_size=1,
    max_size=6,
)


@given(st.floats(-50, 200), some_claims)
def test_i1_shares_reach_minimum_and_sum_never_exceeds_current(amps: float, members: list[Claim]) -> None:
    given_ = shares(amps, members)
    assert all(share == 0 or share >= 6 for share in given_)
    assert sum(given_) <= max(amps, 0)
    if amps >= 6 * len(members):
        assert min(given_) >= 6
        assert sum(given_) == int(amps)


@given(st.floats(0, 200), st.floats(0, 50), some_claims)
def test_more_current_makes_no_share_smaller(amps: float, more: float, members: list[Claim]) -> None:
    if amps >= 6 * len(members):
        pairs = zip(shares(amps, members), shares(amps + more, members), strict=True)
        assert all(before <= after for before, after in pairs)


@given(st.floats(6, 200), some_claims)
def test_i1_allocation_fits_beside_reserved_currents(limit: float, members: list[Claim]) -> None:
    allotted, static = allocate(limit, members), shares(limit, members)
    free = [amps for amps, member in zip(allotted, members, strict=True) if member.reserved is None]
    reserved = sum(member.reserved for member in members if member.reserved is not None)
    assert sum(free) <= max(limit - reserved, 0)
    assert all(amps <= share for amps, share in zip(allotted, static, strict=True)), "nothing is lent"


@given(st.integers(6, 200), st.lists(st.floats(0.1, 10), min_size=2, max_size=5), st.data())
def test_silent_member_within_its_share_changes_no_allocation(
    limit: int, weights: list[float], data: st.DataObject
) -> None:
    static = shares(limit, claims(*weights))
    silent = data.draw(st.integers(0, len(weights) - 1))
    members = [Claim(w, reserved=static[i] if i == silent else None) for i, w in enumerate(weights)]
    assert allocate(limit, members) == static


def test_other_members_make_room_for_silent_member() -> None:
    assert allocate(40, [Claim(1), Claim(1, reserved=26), Claim(1)]) == [7, 13, 7]
    assert allocate(40, [Claim(1), Claim(1, reserved=32), Claim(1)]) == [8, 13, 0]
    assert allocate(40, [Claim(1), Claim(1, reserved=float("inf")), Claim(1)]) == [0, 13, 0]


@pytest.mark.parametrize(
    ("limits", "live", "silent"),
    [
        (Limits(charging_current=10), 10, 10),
        (Limits(charging_current=10, offline_current=32), 10, 32),
        (Limits(charging_current=16, offline_current=10), 16, 16),
        (Limits(wire_rating=32, load_group_limit=8, house_limit=25), 25, 25),
        (Limits(offline_current=40, unit_rating=30), 30, 30),
        (Limits(load_group_limit=8), float("inf"), float("inf")),
    ],
)
def test_could_draw_returns_highest_possible_current(limits: Limits, live: float, silent: float) -> None:
    assert could_draw(limits, is_live=True) == live
    assert could_draw(limits, is_live=False) == silent


# Bad input


def spec(limit: float, *keys: Key, weights: tuple[float, ...] = ()) -> GroupSpec:
    return GroupSpec("Garage", limit, tuple(map(Member, keys, weights or (1.0,) * len(keys), strict=True)))


@pytest.mark.parametrize(
    ("limit", "keys", "weights", "reason", "detail"),
    [
        (32, (), (), "no_members", ""),
        (5.9, (A,), (), "limit_too_low", "6"),
        (-32, (A,), (), "limit_too_low", "6"),
        (float("nan"), (A,), (), "limit_too_low", "6"),
        (float("inf"), (A,), (), "limit_too_high", "1000"),
        (32, (A, B, A), (), "member_twice", "700301"),
        (32, (A, B), (1, 0), "weight_not_positive", "700302"),
        (32, (A, B), (-1, 1), "weight_not_positive", "700301"),
        (32, (A,), (float("nan"),), "weight_not_positive", "700301"),
        (32, (A,), (float("inf"),), "weight_not_positive", "700301"),
    ],
)
def test_impossible_group_refused(
    limit: float, keys: tuple[Key, ...], weights: tuple[float, ...], reason: str, detail: str
) -> None:
    with pytest.raises(GroupError, match=reason) as caught:
        spec(limit, *keys, weights=weights)
    assert (caught.value.reason, caught.value.detail) == (reason, detail)


@pytest.mark.parametrize(
    ("limit", "known", "excess"),
    [
        (32, {A: Limits(offline_current=16), B: Limits(offline_current=16)}, 0),
        (32, {A: Limits(offline_current=24), B: Limits(offline_current=16)}, 8),
        (32, {A: Limits(charging_current=32), B: Limits(charging_current=32)}, 0),  # the group lowers each to 16
        (32, {A: Limits(charging_current=32), B: Limits(offline_current=32)}, 16),
        (
            10,
            {A: Limits(charging_current=10), B: Limits(charging_current=8)},
            2,
        ),  # B would not stay paused without the group: 6 + 6
        (32, {A: Limits(charging_current=8), B: Limits(wire_rating=32, unit_rating=30)}, 6),
        (32, {A: Limits(charging_current=8)}, float("inf")),
    ],
)
def test_offline_currents_above_limit_count_as_excess(limit: float, known: dict[Key, Limits], excess: float) -> None:
    assert offline_excess(spec(limit, A, B), known) == excess
    stored = any(limits.offline_current is not None for limits in known.values())
    assert stored_excess(spec(limit, A, B), known) == (excess if stored else 0)


def test_stored_excess_counts_offline_current_above_share() -> None:
    stored = {A: Limits(offline_current=24), B: Limits(offline_current=8)}
    assert offline_excess(spec(32, A, B), stored) == 0
    assert stored_excess(spec(32, A, B), stored) == 8  # B draws its share of 16
    assert stored_excess(spec(32, A, B), stored | {B: Limits(offline_current=8, unit_rating=10)}) == 2
    assert stored_excess(spec(40, A, B, weights=(3, 1)), stored) == 0


def test_stored_excess_counted_although_other_member_is_unknown() -> None:
    for known in ({A: Limits(offline_current=40)}, {A: Limits(offline_current=40), B: Limits()}):
        assert stored_excess(spec(32, A, B), known) == 24, "B draws its share of 16"
    assert stored_excess(spec(32, A, B), {A: Limits(offline_current=16)}) == 0


# Commands


@dataclass(eq=False)
class FakeMember:
    """Charger as a load group sees it. Only `poll` shows its true state, and only while it is `linked`."""

    clock: VirtualClock
    key: Key
    amps: float = 16.0
    paused: bool = False
    car: bool = True
    locked: bool = False
    linked: bool = True
    offline_current: float | None = None
    limits: dict[str, float] = field(default_factory=dict)
    latency: float = 0.0
    errors: list[ChargerError] = field(default_factory=list)
    """Errors that the next commands raise instead of being carried out, one each."""
    drops: bool = False
    """True while commands are acknowledged but never arrive."""
    answers_lost: bool = False
    """True while commands arrive but their answers are lost."""
    adjusts: bool = True
    """False for a pause-only charger, which resumes with the lower of its setting and its share."""

    capable: frozenset[Capability] = frozenset({Capability.CHARGING, Capability.CURRENT})
    draws: float | None = None
    """Measured current in A while the charger charges; None if the car keeps to the setting."""

    def __post_init__(self) -> None:
        self.identity = Identity(*self.key, "Fake")
        self.measured: list[tuple[float, float, float]] = []  # time, setting, current
        self.sent: list[tuple[float, Setting]] = []
        self.before_command: Callable[[Setting], None] = lambda _: None
        self.before_raise: Callable[[int], None] = lambda _: None
        self.paused_by_group = False  # paused by the group, and not changed since
        self.reachable = 0.0  # the highest setting that commands since the last poll may cause
        self._share: float | None = None
        self.group_room: Callable[[], float] = unlimited
        self.group_paused = False
        self.automatic: list[bool] = []
        self._sending: list[float] = []  # currents in flight, 0 for other commands
        self._unseen = False
        self._listeners: list[Callable[[Snapshot], None]] = []
        self._shown: Readings | None = None
        self.snapshot = Snapshot(identity=self.identity, readings=Readings())
        self.poll()

    @property
    def in_flight(self) -> bool:
        return bool(self._sending) or self._unseen

    @property
    def group_share(self) -> float | None:
        return self._share

    @group_share.setter
    def group_share(self, amps: float | None) -> None:
        if amps is not None and self._share is not None and amps > self._share:
            self.before_raise(int(amps))
        self._share = amps
        self._publish()

    @property
    def status(self) -> Status:
        if self.locked:
            return Status.LOCKED
        if not self.car:
            return Status.AVAILABLE
        return Status.PAUSED if self.paused else Status.CHARGING

    def poll(self) -> None:
        """Publish the true state, unless the charger is unreachable."""
        if self.linked:
            self._shown = Readings()
            # A pause-only charger shows the current with which it would resume.
            resumes = min(self.amps, self._share or self.amps) if self.paused and not self.adjusts else self.amps
            values = {CHARGING_CURRENT: resumes, OFFLINE_CURRENT: self.offline_current, WIRE_RATING: 32.0}
            named = {"wire_rating": WIRE_RATING, "unit_rating": UNIT_RATING, "house_limit": HOUSE_LIMIT}
            for prop, value in (values | {named[key]: value for key, value in self.limits.items()}).items():
                if value is not None:
                    self._shown.put(prop, Reading(value, Source.CLOUD, START, self.clock.monotonic()))
            drawn = self.amps if self.draws is None else self.draws
            drawn = drawn if self.status is Status.CHARGING else 0.0
            self._shown.put(CURRENT, Reading(drawn, Source.CLOUD, START, self.clock.monotonic()))
            self.measured.append((self.clock.monotonic(), self.amps, drawn))
            self._shown.put(STATUS, Reading(self.status, Source.CLOUD, START))
            self._shown.put(CAR_CONNECTED, Reading(self.car, Source.CLOUD, START))
            self._unseen, self.reachable = False, max([self.amps, *self._sending])
        self._publish()

    def fall_silent(self, *, stored: float) -> None:
        """Report the offline current `stored`, and then become unreachable."""
        self.offline_current = stored
        self.poll()
        self.linked = False

    def hide(self, *keys: str) -> None:
        """Remove some values from the current snapshot."""
        shown = self.snapshot.readings.copy()
        for key in keys:
            shown.discard(key)
        self.snapshot = replace(self.snapshot, readings=shown, connection_path=Source.CLOUD)

    def _publish(self) -> None:
        readings = Readings()
        for prop, reading in self._shown.items() if self._shown is not None else ():
            source = reading.source if self.linked else Source.CACHE
            if self.linked or prop.key not in {STATUS.key, CAR_CONNECTED.key, CURRENT.key}:
                readings.put(prop, replace(reading, source=source))
        transport = Source.CLOUD if self.linked else None
        able = self.capable if self.adjusts else self.capable - {Capability.CURRENT}
        shown = Snapshot(identity=self.identity, readings=readings, connection_path=transport, capabilities=able)
        old, self.snapshot = self.snapshot, shown
        if self.snapshot != old:
            for listener in list(self._listeners):
                listener(self.snapshot)

    def listen(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    async def command(self, setting: Setting, *, automatic: bool = False) -> Outcome:
        self.automatic.append(automatic)
        if isinstance(setting, SetCurrent) and not self.adjusts:
            raise Unsupported("unsupported", Capability.CURRENT)
        if isinstance(setting, SetCurrent):
            permit(
                setting.amps,
                Limits(charging_current=self.shown_amps, wire_rating=32.0, load_group_limit=self._share or 0),
                room=self.group_room(),
            )
        return await self._carry(setting)

    async def lift_pause(self) -> Outcome:
        if not self._share:
            raise UnsafeRequest("above_ceiling")
        return await self._carry(START_AGAIN)

    async def _carry(self, setting: Setting) -> Outcome:
        if not self.linked:
            raise TransportDown("no_path")
        self.before_command(setting)
        self.sent.append((self.clock.monotonic(), setting))
        return await result_of(asyncio.ensure_future(self._arrive(setting)))

    async def _arrive(self, setting: Setting) -> Outcome:
        amps = setting.amps if isinstance(setting, SetCurrent) else 0.0
        self._sending.append(amps)
        self.reachable = max(self.reachable, amps)
        try:
            await self.clock.sleep(self.latency)
            if self.errors:
                raise self.errors.pop(0)
            self._unseen = True
            if not self.drops:
                self.obey(setting)
            if self.answers_lost:
                raise TransportDown("timeout")
        finally:
            self._sending.remove(amps)
        return Outcome.ACCEPTED

    def obey(self, setting: Setting) -> None:
        if isinstance(setting, SetCurrent):
            self.amps = setting.amps
        elif isinstance(setting, SetCharging):
            if setting.on and not self.adjusts:
                self.amps = min(self.amps, self._share or 0)
            self.paused_by_group = not setting.on and not self.paused
            self.paused = not setting.on

    @property
    def shown_amps(self) -> float:
        """Setting in the snapshot, in A."""
        return self.snapshot.value(CHARGING_CURRENT) or 0.0

    @property
    def commands(self) -> list[Setting]:
        """Commands that the group sent."""
        return [setting for _, setting in self.sent]


class Circuit:
    """Load group with its members and its saved record."""

    def __init__(self, group_spec: GroupSpec, *members: FakeMember, clock: VirtualClock) -> None:
        self.clock = clock
        self.spec = group_spec
        self.members = members
        self.saved: dict[str, object] | None = None
        self.saves = 0
        self.save_error: NotSaved | None = None
        self.views: list[GroupView] = []
        self.group = self.new_group()

    def new_group(self) -> LoadGroup:
        """Return a new group started from the saved record, as after a start of Home Assistant."""
        group = LoadGroup(self.clock, self.spec, self.save)
        group.restore(self.saved)
        group.listen(self.views.append)
        for member in self.members:
            group.attach(member)
        group.start()
        return group

    async def save(self, record: dict[str, object]) -> None:
        await asyncio.sleep(0)
        if self.save_error is not None:
            raise self.save_error
        self.saved = record
        self.saves += 1

    async def poll(self, seconds: float = 60.0) -> None:
        """Advance the clock, and then publish the state of every member."""
        await self.clock.advance(seconds)
        for member in self.members:
            member.poll()
        await self.clock.advance(0)

    async def poll_minutes(self, minutes: int = 20) -> None:
        """Poll every minute for `minutes`."""
        for _ in range(minutes):
            await self.poll()

    def paused(self) -> list[bool]:
        return [member.paused for member in self.members]

    def shares(self) -> list[int]:
        return list(self.group.view.shares.values())

    def commands(self) -> list[list[Setting]]:
        """Return the commands that each member received since the last call."""
        found = [member.commands for member in self.members]
        for member in self.members:
            member.sent.clear()
        return found


def circuit(
    limit: float,
    *amps: float,
    weights: tuple[float, ...] = (),
    keys: tuple[Key, ...] = (A, B, C),
    **more: object,
) -> Circuit:
    clock = VirtualClock()
    keys = keys[: len(amps)]
    members = [FakeMember(clock, key, amps=value, **more) for key, value in zip(keys, amps, strict=True)]  # type: ignore[arg-type]
    return Circuit(spec(limit, *keys, weights=weights), *members, clock=clock)


async def settled(limit: float, *amps: float, **more: object) -> Circuit:
    """Return a circuit whose group has finished its first reductions."""
    found = circuit(limit, *amps, **more)  # type: ignore[arg-type]
    await found.poll_minutes(5)
    found.commands()
    return found


async def test_members_within_their_shares_receive_no_command() -> None:
    bench = circuit(32, 16, 10)
    await bench.poll_minutes()
    assert bench.commands() == [[], []]
    assert bench.group.view == GroupView(allocated=32, headroom=0, shares={A: 16, B: 16})
    assert [member.group_share for member in bench.members] == [16, 16]


async def test_share_applies_as_soon_as_member_is_attached() -> None:
    bench = circuit(32, 32, 32, 32, weights=(2, 1, 1))
    assert [member.group_share for member in bench.members] == [16, 8, 8]


async def test_setting_above_share_lowered() -> None:
    bench = circuit(32, 32, 10)
    await bench.clock.advance(0)
    assert bench.commands() == [[SetCurrent(16)], []]
    assert bench.group.view.allocated == 48, "not lowered before it is seen"
    assert bench.group.view.headroom == -16
    await bench.poll()
    assert bench.group.view == GroupView(32, 0, {A: 16, B: 16})


async def test_setting_fraction_of_ampere_above_share_lowered() -> None:
    bench = circuit(32.5, 16.5, 16)
    await bench.clock.advance(0)
    assert bench.commands() == [[SetCurrent(16)], []]
    await bench.poll()
    assert bench.group.view.headroom == 0.5


async def test_i1_reduction_seen_before_other_member_gets_more() -> None:
    bench = await settled(32, 16, 16)
    first, second = bench.members
    first.linked, first.offline_current = False, 26
    first.poll()
    first.linked, first._shown = False, first._shown
    first.linked = True
    first.poll()  # the first member shows its offline current
    first.linked = False
    first.poll()
    await bench.clock.advance(0)
    assert second.group_share == 6
    assert bench.commands() == [[], [SetCurrent(6)]]
    second.poll()
    first.amps, first.linked = 26, True
    first.poll()
    await bench.clock.advance(0)
    assert bench.commands() == [[SetCurrent(16)], []]
    assert second.group_share == 6
    await bench.clock.advance(600)
    assert second.group_share == 6, "the reduction of the first was sent, but not seen"
    first.poll()
    await bench.clock.advance(0)
    assert second.group_share == 16
    assert second.commands[-1] == SetCurrent(16)


async def test_lowered_setting_restored_to_previous_value() -> None:
    bench = await settled(32, 16, 12)
    first, second = bench.members
    first.offline_current = 24
    first.poll()
    first.linked = False
    await bench.poll()
    assert second.amps == 8
    await bench.poll_minutes(5)
    first.linked = True
    await bench.poll_minutes(5)
    assert bench.commands() == [[], [SetCurrent(8), SetCurrent(12)]]
    assert second.amps == 12


async def test_setting_changed_elsewhere_after_reduction_not_restored() -> None:
    bench = await settled(32, 16, 16)
    first, second = bench.members
    first.offline_current = 24
    first.poll()
    first.linked = False
    await bench.poll_minutes(2)
    assert second.amps == 8
    second.amps = 7
    await bench.poll_minutes(2)
    first.linked = True
    await bench.poll_minutes(10)
    assert second.amps == 7


async def test_original_setting_restored_after_second_reduction() -> None:
    bench = await settled(40, 20, 20)
    first, second = bench.members
    first.offline_current = 26
    first.poll()
    first.linked = False
    await bench.poll(0)
    first.limits = {}
    first.linked, first.offline_current = True, 30
    first.poll()
    first.linked = False
    await bench.poll()
    await bench.poll()
    assert second.amps == 10
    first.linked = True
    await bench.poll_minutes()
    assert second.amps == 20


async def test_restored_setting_stays_below_other_limits_of_charger() -> None:
    bench = await settled(32, 16, 16)
    first, second = bench.members
    first.offline_current = 24
    first.poll()
    first.linked = False
    await bench.poll_minutes(2)
    second.limits = {"house_limit": 12.5}
    first.linked = True
    await bench.poll_minutes(5)
    assert second.amps == 12


async def test_raises_keep_minimum_spacing() -> None:
    bench = await settled(44, 22, 22)
    first, second = bench.members
    first.offline_current = 38
    first.poll()
    first.linked = False
    await bench.poll(0)
    for offline in (34, 30, 22):
        first.linked, first.offline_current = True, offline
        first.poll()
        first.linked = offline == 22
        first.poll()
        await bench.poll(5)
        await bench.poll(5)
    await bench.poll_minutes(6)
    sent = [(at, setting.amps) for at, setting in second.sent if isinstance(setting, SetCurrent)]
    assert [amps for _, amps in sent] == [6, 22]
    assert sent[1][0] - sent[0][0] >= RAISE_SPACING


async def test_last_member_paused_below_six_amperes_then_started_again() -> None:
    bench = await settled(20, 10, 10, weights=(1.0, 1.0))
    first, second = bench.members
    first.fall_silent(stored=16)
    await bench.poll()
    await bench.poll()
    assert second.commands == [PAUSE, SetCurrent(6)]
    assert second.group_share == 0
    assert bench.group.view == GroupView(22, -2, {A: 10, B: 0}, offline_currents={A: 16}, stored_excess=6)
    paused_at = second.sent[0][0]
    first.linked = True
    await bench.poll(10)
    assert second.group_share == 10
    await bench.poll_minutes()
    assert [*second.commands[2:]] == [START_AGAIN, SetCurrent(10)]
    assert second.sent[2][0] - paused_at >= START_SPACING
    assert (second.amps, second.paused) == (10, False)


async def test_pause_of_user_not_lifted_by_group() -> None:
    bench = await settled(20, 10, 6)
    first, second = bench.members
    second.paused = True
    await bench.poll()
    first.fall_silent(stored=16)
    await bench.poll_minutes(3)
    assert second.group_share == 0
    first.linked = True
    await bench.poll_minutes(20)
    assert second.group_share == 10
    assert second.commands == []


async def test_group_pause_not_lifted_if_user_paused_too() -> None:
    bench = await settled(20, 10, 10, weights=(1.0, 1.0))
    first, second = bench.members
    first.fall_silent(stored=16)
    await bench.poll(2)
    assert (second.commands[0], second.group_paused) == (PAUSE, True)
    second.errors.append(NotApplicable("paused"))
    first.linked = True
    await bench.poll_minutes(20)
    assert second.group_share == 10
    assert not second.group_paused
    assert second.commands.count(START_AGAIN) == 1
    assert second.paused


async def test_group_pause_that_ended_with_car_not_lifted_again() -> None:
    bench = await settled(12, 6, 6)
    first, second = bench.members
    first.offline_current = 12
    first.poll()
    first.linked = False
    await bench.poll_minutes(2)
    assert second.paused
    second.car = second.paused = False
    await bench.poll_minutes(2)
    first.linked = True
    await bench.poll_minutes(10)
    assert second.commands == [PAUSE]


async def test_member_started_manually_without_share_paused_again() -> None:
    bench = await settled(12, 6, 6)
    first, second = bench.members
    first.offline_current = 12
    first.poll()
    first.linked = False
    await bench.poll_minutes(2)
    second.paused = False
    await bench.poll()
    assert second.commands == [PAUSE, PAUSE]
    first.linked = True
    await bench.poll_minutes(10)
    assert second.commands == [PAUSE, PAUSE, START_AGAIN]


async def test_group_too_small_for_all_serves_members_with_car_in_order() -> None:
    bench = circuit(12, 16, 16, 16, keys=(C, D, E))
    first, second, third = bench.members
    first.car = False
    await bench.poll_minutes(10)
    assert bench.shares() == [0, 6, 6]
    assert bench.paused() == [False, False, False]
    assert [member.amps for member in bench.members] == [6, 6, 6]
    first.car = True
    await bench.poll_minutes(2)
    assert bench.shares() == [6, 6, 0]
    assert bench.paused() == [False, False, True]
    assert [member.group_paused for member in bench.members] == [False, False, True]
    assert set(third.automatic) == {True}, "no command of the user"
    second.car = False
    await bench.poll_minutes(10)
    assert bench.shares() == [6, 0, 6]
    assert bench.paused() == [False, False, False]
    assert [member.group_paused for member in bench.members] == [False, False, False]


@pytest.mark.parametrize("how", ["refused", "dropped"])
async def test_other_member_makes_room_for_member_that_does_not_obey(how: str) -> None:
    bench = circuit(40, 20, 20)
    first, second = bench.members
    await bench.poll()
    first.drops = how == "dropped"
    first.errors = [NotAllowed("locked")] * 1000 if how == "refused" else []
    first.amps = 30
    await bench.poll_minutes(7)
    assert second.amps == 10
    assert bench.group.view.allocated == 40
    assert 3 <= len(first.commands) <= 10, "the reductions are repeated at intervals"
    assert set(first.commands) == {SetCurrent(20), PAUSE}
    first.drops, first.errors = False, []
    await bench.poll_minutes(10)
    assert [member.amps for member in bench.members] == [20, 20]


async def test_member_that_cannot_be_paused_counts_and_next_member_paused() -> None:
    bench = circuit(12, 6, 6, 6)
    third = bench.members[2]
    third.errors = [NotAllowed("ocpp")] * 1000
    await bench.poll_minutes(3)
    assert [member.paused for member in bench.members] == [False, True, False]
    assert bench.group.view.allocated == 18, "anybody may start the second"
    third.locked = True
    await bench.poll_minutes(10)
    assert [member.paused for member in bench.members] == [False, False, False]


async def test_silent_member_counts_with_current_last_sent() -> None:
    bench = await settled(40, 20, 10)
    first, second = bench.members
    raising = asyncio.ensure_future(second.command(SetCurrent(20)))  # by the user
    await bench.clock.advance(1)
    await raising
    second.linked = False  # unreachable from now on
    await bench.poll_minutes(5)
    assert bench.group.view.allocated == 40
    first.amps = 30
    await bench.poll_minutes(3)
    assert first.amps == 20


async def test_raise_in_flight_counts_although_share_was_lowered_since() -> None:
    bench = await settled(48, 16, 8, 16)
    first, second, third = bench.members
    second.latency = 100
    raising = asyncio.ensure_future(second.command(SetCurrent(16)))
    await bench.clock.advance(1)
    third.offline_current = 24
    third.poll()
    third.linked = False
    third.poll()
    await bench.clock.advance(1)
    assert [first.group_share, second.group_share] == [12, 12]
    first.poll()
    await bench.clock.advance(1)
    assert bench.group.view.allocated == 12 + 16 + 24
    await bench.clock.advance(100)
    await raising
    second.poll()
    await bench.poll_minutes(5)
    assert second.amps == 12
    assert bench.group.view.allocated == 48


async def test_unknown_member_leaves_no_room_for_other_member() -> None:
    clock = VirtualClock()
    first = FakeMember(clock, A, amps=16)
    bench = Circuit(spec(32, A, B), first, clock=clock)
    await bench.poll_minutes(2)
    assert first.paused
    assert bench.group.view == GroupView(None, None, {A: 0, B: 16})
    second = FakeMember(clock, B, amps=32)
    bench.members = (first, second)
    bench.group.attach(second)
    await bench.poll_minutes(10)
    assert [first.amps, second.amps] == [16, 16]
    assert not first.paused


async def test_live_member_with_unknown_current_paused_instead_of_lowered() -> None:
    bench = await settled(40, 20, 20)
    first, second = bench.members
    first.hide(CHARGING_CURRENT.key)
    second.poll()
    bench.group._schedule_refresh()
    assert second.group_room() == 8
    await bench.clock.advance(1)
    assert (second.group_share, second.commands) == (20, [])
    assert first.commands == [PAUSE]


async def test_detached_member_counts_with_last_known_current() -> None:
    bench = await settled(40, 20, 20)
    first, second = bench.members
    first.offline_current = 30
    first.poll()
    bench.members = (second,)
    bench.group.detach(A)
    assert first.group_share is None
    await bench.poll_minutes(2)
    assert second.amps == 10


async def test_reduction_and_pause_undone_after_home_assistant_restart() -> None:
    bench = await settled(20, 10, 10)
    first, second = bench.members
    first.fall_silent(stored=16)
    await bench.poll_minutes(3)
    assert (second.amps, second.paused) == (6, True)
    await bench.group.stop()
    await bench.poll()
    bench.commands()
    for member in bench.members:
        member.group_share = None  # a new `Charger` after the restart has no share yet
    bench.group = bench.new_group()
    await bench.poll_minutes(10)
    assert bench.commands() == [[], []], "the first is still unreachable"
    first.linked = True
    await bench.poll_minutes(10)
    assert (second.amps, second.paused) == (10, False)


async def test_detached_member_may_lose_its_share() -> None:
    bench = circuit(12, 6, 6, 6, keys=(C, D, E))
    first, _, third = bench.members
    first.car = False
    await bench.poll_minutes(5)
    assert bench.shares() == [0, 6, 6]
    bench.group.detach(E)
    first.car = True
    await bench.poll_minutes(2)
    assert bench.group.view.shares[E] == 0
    bench.group.attach(third)
    assert third.group_share == 0


async def test_member_absent_after_restart_counts_as_before() -> None:
    bench = await settled(40, 20, 20)
    first, second = bench.members
    first.offline_current = 26
    first.poll()
    await bench.clock.advance(1)
    await bench.group.stop()
    bench.members = (second,)
    bench.group = bench.new_group()
    await bench.poll_minutes(2)
    assert second.amps == 14


async def test_reduction_saved_before_command_is_sent() -> None:
    bench = await settled(20, 10, 10)
    first, second = bench.members
    recorded: list[object] = []
    second.before_command = lambda _: recorded.append(bench.saved and bench.saved["_".join(B)])
    first.fall_silent(stored=16)
    await bench.poll_minutes(3)
    assert recorded == [
        {"share": 0, "wish": None, "ours": None, "paused": True, "most": 10, "stored": None},
        {"share": 0, "wish": 10, "ours": 6, "paused": True, "most": 10, "stored": None},
    ]


async def test_limit_kept_although_record_cannot_be_saved() -> None:
    bench = circuit(32, 32, 16)
    bench.save_error = NotSaved("not_saved")
    await bench.poll_minutes(3)
    assert bench.members[0].amps == 16
    assert bench.saved is None
    bench.save_error, bench.members[1].amps = None, 10
    await bench.poll()
    assert bench.saved == bench.group.export()


async def test_record_saved_only_when_changed() -> None:
    bench = await settled(32, 16, 16)
    saves = bench.saves
    await bench.poll_minutes(30)
    assert bench.saves == saves
    assert bench.clock.pending == 0, "no timer runs while nothing changes"


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        {"wallbox_700301": None, "wallbox_700302": 3},
        {"wallbox_700301": {"wish": "x", "ours": True, "paused": "yes", "most": float("nan")}},
        {"wallbox_700301": {"wish": 16, "ours": -1, "paused": None, "most": 0}},
        {"wallbox_700301": {"wish": 16, "ours": False, "paused": 1, "most": 10**400}},
        {"wallbox_700301": {"stored": "16"}, "wallbox_700302": {"stored": -16}},
        {"wallbox_700301": {"share": "8"}, "wallbox_700302": {"share": -8}},
        {"wallbox_700301": {"share": True}, "wallbox_700302": {"share": float("inf")}},
    ],
)
async def test_garbled_records_ignored(stored: object) -> None:
    group = LoadGroup(VirtualClock(), spec(32, A, B), Circuit.save)  # type: ignore[arg-type]
    group.restore(stored)
    nothing = {"share": 16, "wish": None, "ours": None, "paused": False, "most": None, "stored": None}
    assert group.export() == {"wallbox_700301": nothing, "wallbox_700302": nothing}


async def test_restored_record_exported_unchanged() -> None:
    record = {
        "wallbox_700301": {"share": 14, "wish": 20, "ours": 8, "paused": False, "most": 20.5, "stored": 18},
        "wallbox_700302": {"share": 11, "wish": None, "ours": None, "paused": True, "most": 16, "stored": None},
    }
    group = LoadGroup(VirtualClock(), spec(32, A, B), Circuit.save)  # type: ignore[arg-type]
    group.restore(record)
    assert group.export() == record
    assert group.view.allocated == 36.5


async def test_offline_current_remembered_until_member_reports_another() -> None:
    bench = await settled(32, 16, 16)
    first, _ = bench.members
    first.offline_current = 24
    await bench.poll()
    assert (bench.group.view.offline_currents, bench.group.view.stored_excess) == ({A: 24}, 8)
    first.offline_current = None
    await bench.poll()
    assert (bench.group.view.offline_currents, bench.group.view.stored_excess) == ({A: 24}, 8)
    first.offline_current = 16
    await bench.poll()
    assert (bench.group.view.offline_currents, bench.group.view.stored_excess) == ({A: 16}, 0)


async def test_restored_group_knows_offline_currents_before_members_attach() -> None:
    bench = await settled(32, 16, 16)
    bench.members[0].offline_current = 24
    await bench.poll()
    again = LoadGroup(bench.clock, bench.spec, bench.save)
    again.restore(bench.saved)
    assert (again.view.offline_currents, again.view.stored_excess) == ({A: 24}, 8), "before any member is attached"


async def test_charger_outside_group_not_attached() -> None:
    bench = circuit(32, 16, 16)
    with pytest.raises(KeyError):
        bench.group.attach(FakeMember(bench.clock, C))
    with pytest.raises(KeyError):
        bench.group.detach(C)


async def test_stopped_group_sends_nothing_more() -> None:
    bench = circuit(32, 32, 32)
    bench.members[0].latency = 50
    await bench.clock.advance(1)
    views = len(bench.views)
    await bench.group.stop()
    await bench.poll_minutes()
    assert bench.commands() == [[SetCurrent(16)], [SetCurrent(16)]]
    assert bench.members[0].amps == 16, "the command in flight arrives"
    assert len(bench.views) == views
    assert bench.group._tasks == set()


async def test_member_that_always_refuses_commanded_less_and_less_often() -> None:
    bench = circuit(32, 32, 16)
    bench.members[0].errors = [NotAllowed("read_only")] * 1000
    tried: list[tuple[float, Setting]] = []
    bench.members[0].before_command = lambda setting: tried.append((bench.clock.monotonic(), setting))
    await bench.poll_minutes(40)
    assert tried[1][0] - tried[0][0] <= REDUCE_AGAIN_AFTER * 2 + REFRESH_AFTER
    for setting in (SetCurrent(16), PAUSE):
        times = [at for at, tried_setting in tried if tried_setting == setting]
        gaps = [round(later - before) for before, later in pairwise(times)]
        assert all(REDUCE_AGAIN_AFTER * 8 <= gap <= REDUCE_AGAIN_AFTER * 8 + REFRESH_AFTER for gap in gaps[2:])
        assert len(gaps) >= 4
    assert bench.members[1].paused, "the other member makes room meanwhile"


async def test_unsaved_record_saved_at_stop() -> None:
    bench = await settled(32, 16, 16)
    bench.members[1].offline_current = 24
    bench.members[1].poll()
    saves = bench.saves
    await bench.group.stop()
    assert bench.saves == saves + 1
    assert bench.saved is not None
    assert bench.saved["_".join(B)] == {
        "share": 16,
        "wish": None,
        "ours": None,
        "paused": False,
        "most": 24,
        "stored": 24,
    }


async def test_listener_receives_each_new_view_until_removed() -> None:
    bench = circuit(32, 32, 16)
    received: list[GroupView] = []
    end = bench.group.listen(received.append)
    await bench.poll_minutes(3)
    assert [view.allocated for view in received] == [48, 32]
    end()
    bench.members[1].amps = 20
    await bench.poll_minutes(3)
    assert len(received) == 2
    assert len(bench.views) == 4


# Room for a member


async def start_with_remembered_draw(limit: float, *remembered: float) -> Circuit:
    """Return a circuit whose group restored the highest possible draw of each member, before any member is polled."""
    clock = VirtualClock()
    keys = (A, B, C)[: len(remembered)]
    members = [FakeMember(clock, key, amps=amps) for key, amps in zip(keys, remembered, strict=True)]
    for member in members:
        member.linked = False
        member.group_share = None
    bench = Circuit(spec(limit, *keys), *members, clock=clock)
    await bench.group.stop()
    bench.saved = {"_".join(key): {"most": amps} for key, amps in zip(keys, remembered, strict=True)}
    for member in members:
        member.group_share = None  # a new `Charger` after the restart has no share yet
        member.linked = True
    bench.group = bench.new_group()
    return bench


@pytest.mark.parametrize(
    ("limit", "remembered", "expected"),
    [
        (48, (40.0, 16.0), [24, 8]),
        (48, (32.0, 32.0), [16, 16]),
        (48, (64.0, 16.0), [24, 0]),
        (48, (24.0, 24.0), [24, 24]),
        (48, (47.5, 10.0), [24, 0]),
        (48, (44.0, 10.0), [24, 0]),  # no car can use 4 A
        (48, (42.0, 10.0), [24, 6]),
    ],
)
async def test_static_share_not_granted_after_start_while_others_exceed_shares(
    limit: float, remembered: tuple[float, ...], expected: list[int]
) -> None:
    bench = await start_with_remembered_draw(limit, *remembered)
    assert [member.group_share for member in bench.members] == expected, "before any member was polled"


async def test_static_share_granted_once_other_member_is_seen_lowered() -> None:
    bench = await start_with_remembered_draw(48, 40.0, 16.0)
    first, second = bench.members
    first.amps = 40.0
    first.poll()
    await bench.clock.settle()
    assert second.group_share == 8
    await bench.poll_minutes(3)
    assert (first.amps, second.group_share) == (24, 24)


async def test_room_of_member_excludes_possible_draw_of_others() -> None:
    bench = await settled(32, 10, 10)
    first, second = bench.members
    assert (first.group_room(), second.group_room()) == (16, 16)
    first.amps = 30
    first.poll()
    assert second.group_room() == 2, "at once, without waiting for the next refresh"
    first.latency = 5.0
    await bench.clock.advance(1)
    assert second.group_room() == 2, "the reduction is in flight"
    await bench.poll_minutes(3)
    assert second.group_room() == 16


async def test_charger_that_left_its_group_has_unlimited_room() -> None:
    bench = await settled(32, 10, 10)
    bench.group.detach(A)
    assert bench.members[0].group_room() == float("inf")


# Any sequence of events

SECONDS = st.sampled_from([1.0, 10.0, 45.0, 120.0, 400.0])
MEMBER = st.integers(0, 2)


class GroupMachine(RuleBasedStateMachine):
    """Three chargers in a group, with everything that users, outages and power cuts do to them."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = VirtualClock()
        self.bench: Circuit | None = None
        self.failures: list[str] = []

    @initialize(
        limit=st.sampled_from([10.0, 16.0, 20.0, 32.0, 40.0, 63.5]),
        weights=st.tuples(*[st.sampled_from([1.0, 2.0, 0.5])] * 3),
        amps=st.tuples(*[st.sampled_from([6.0, 10.0, 16.0, 32.0])] * 3),
        offline=st.sampled_from([None, 6.0, 16.0, 32.0]),
    )
    def build(self, limit: float, weights: tuple[float, ...], amps: tuple[float, ...], offline: float | None) -> None:
        self.runner.run(self.do_build(limit, weights, amps, offline))

    async def do_build(
        self, limit: float, weights: tuple[float, ...], amps: tuple[float, ...], offline: float | None
    ) -> None:
        members = [FakeMember(self.clock, key, amps=value) for key, value in zip((A, B, C), amps, strict=True)]
        members[2].offline_current = offline
        for member in members:
            member.poll()
            member.before_raise = lambda amps, member=member: self.judge_share(member, amps)  # type: ignore[misc]
            member.before_command = lambda setting, member=member: self.judge_command(member, setting)  # type: ignore[misc]
        self.bench = Circuit(spec(limit, A, B, C, weights=weights), *members, clock=self.clock)
        await self.clock.settle()

    # Checks, computed from readings and commands and not from the state of the group

    def counted(self, member: FakeMember, share: float) -> float:
        snapshot = member.snapshot
        status = snapshot.value(STATUS)
        settled = member.linked and not member.in_flight
        if settled and share == 0 and status in {Status.PAUSED, Status.AVAILABLE} and member.key == C:
            return 0.0  # nobody starts a JuiceBox that is held at 0 A
        if settled and status is Status.PAUSED and member.shown_amps > share:
            return max(share, 6.0)  # it did not take the lower current, and was paused instead
        silent = 0.0 if member.linked else snapshot.value(OFFLINE_CURRENT) or 0.0
        return max(member.shown_amps, member.reachable, silent, share, self.measured(member))

    def measured(self, member: FakeMember) -> float:
        """Return the current that was measured above the present setting for 30 s until now, in A."""
        run: list[tuple[float, float]] = []
        for at, setting, amps in reversed(member.measured if member.linked else []):
            if setting != member.shown_amps or amps <= setting + max(1.0, setting / 10):
                break
            run.append((at, amps))
        return min(amps for _, amps in run) if run and run[0][0] >= run[-1][0] + 30 else 0.0

    @property
    def bound(self) -> float:
        """The limit in A, or what two chargers draw at least that anybody can start."""
        return max(cast(Circuit, self.bench).spec.limit, 12.0)

    def judge_share(self, member: FakeMember, amps: int) -> None:
        bench = cast(Circuit, self.bench)
        total = sum(self.counted(m, amps if m is member else m.group_share or 0.0) for m in bench.members)
        if total > self.bound:
            self.failures.append(f"{member.key} given {amps} A although the members could draw {total} A")
        if not member.linked:
            self.failures.append(f"{member.key} given {amps} A although it is unreachable")

    def judge_command(self, member: FakeMember, setting: Setting) -> None:
        bench, now = cast(Circuit, self.bench), self.clock.monotonic()
        raising = setting == START_AGAIN or (isinstance(setting, SetCurrent) and setting.amps > member.shown_amps)
        if not raising:
            return
        total = sum(self.counted(m, m.group_share or 0.0) for m in bench.members)
        if total > self.bound:
            self.failures.append(f"{member.key} was sent {setting} although the members could draw {total} A")
        kind, spacing = (SetCharging, START_SPACING) if setting == START_AGAIN else (SetCurrent, RAISE_SPACING)
        before = [at for at, sent in member.sent if isinstance(sent, kind)]
        if before and now - before[-1] < spacing:
            self.failures.append(f"{member.key} was sent {setting} {now - before[-1]} s after the last")

    # Events

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.runner.run(self.clock.advance(seconds))

    @rule(which=MEMBER)
    def member_reports(self, which: int) -> None:
        self.change(which)

    @rule(seconds=SECONDS)
    def all_report(self, seconds: float) -> None:
        self.runner.run(cast(Circuit, self.bench).poll(seconds))

    @rule(which=MEMBER, amps=st.integers(6, 32), polled=st.booleans())
    def set_in_the_app(self, which: int, amps: int, polled: bool) -> None:
        self.change(which, polled=polled, amps=float(amps))

    @rule(which=MEMBER, paused=st.booleans())
    def paused_in_the_app(self, which: int, paused: bool) -> None:
        self.change(which, paused=paused, paused_by_group=False)

    @rule(which=MEMBER, car=st.booleans())
    def car_comes_or_goes(self, which: int, car: bool) -> None:
        self.change(which, car=car, **({} if car else {"paused": False, "paused_by_group": False}))

    @rule(which=MEMBER, linked=st.booleans())
    def link(self, which: int, linked: bool) -> None:
        self.change(which, linked=linked)

    @rule(which=MEMBER)
    def power_cut(self, which: int) -> None:
        member = cast(Circuit, self.bench).members[which]
        self.change(
            which, polled=False, paused=False, paused_by_group=False, amps=member.offline_current or member.amps
        )

    @rule(which=MEMBER, amps=st.integers(6, 32))
    def set_here(self, which: int, amps: int) -> None:
        self.runner.run(self.do_set(cast(Circuit, self.bench).members[which], amps))

    async def do_set(self, member: FakeMember, amps: int) -> None:
        if member.linked and amps <= (member.group_share or 0.0):
            if amps > member.shown_amps:
                if amps > member.group_room():
                    return
                others = [each for each in cast(Circuit, self.bench).members if each is not member]
                left = self.bound - sum(self.counted(each, each.group_share or 0.0) for each in others)
                if amps > left:
                    self.failures.append(f"{member.key} permitted {amps} A although the others leave {left} A")
            member.reachable, member._unseen = max(member.reachable, amps), True
            if not member.drops:
                member.amps = float(amps)
        await self.clock.settle()

    @rule(
        which=MEMBER,
        latency=st.sampled_from([0.0, 3.0, 70.0]),
        fault=st.sampled_from(["", "dropped", "lost", "refused"]),
    )
    def commands_meet_fault(self, which: int, latency: float, fault: str) -> None:
        member = cast(Circuit, self.bench).members[which]
        member.latency, member.drops, member.answers_lost = latency, fault == "dropped", fault == "lost"
        member.errors = [NotAllowed("locked")] * 3 if fault == "refused" else []

    @rule(which=MEMBER, draws=st.sampled_from([None, 10.0, 20.0, 32.0]))
    def car_draws(self, which: int, draws: float | None) -> None:
        self.change(which, draws=draws)

    @rule(which=MEMBER)
    def started_elsewhere(self, which: int) -> None:
        """Somebody starts the charger in the manufacturer's app, which nobody can where ChargeKeeper holds 0 A."""
        member = cast(Circuit, self.bench).members[which]
        if member.car and (member.key != C or member.group_share != 0):
            self.change(which, paused=False, paused_by_group=False)

    @rule(down_for=SECONDS)
    def home_assistant_restarts(self, down_for: float) -> None:
        self.runner.run(self.do_restart(down_for))

    async def do_restart(self, down_for: float) -> None:
        bench = cast(Circuit, self.bench)
        await bench.group.stop()
        await self.clock.advance(down_for)
        for member in bench.members:
            member.sent.clear()
            member.measured.clear()
            member.group_share = None  # a new `Charger` after the restart has no share yet
        bench.group = bench.new_group()
        await self.clock.settle()

    def change(self, which: int, *, polled: bool = True, **to: object) -> None:
        async def do() -> None:
            member = cast(Circuit, self.bench).members[which]
            for name, value in to.items():
                setattr(member, name, value)
            if polled:
                member.poll()
            await self.clock.advance(0)

        self.runner.run(do())

    @precondition(lambda self: self.bench is not None)
    @rule()
    def settles(self) -> None:
        """Check that each member has its share, and none is paused without need, once all are reachable and obey."""
        self.runner.run(self.do_settle())

    async def do_settle(self) -> None:
        bench = cast(Circuit, self.bench)
        await self.let_obey(every=True)
        expected = shares(
            bench.spec.limit,
            [
                Claim(m.weight, f.car, start_preventable=m.key == C)
                for m, f in zip(bench.spec.members, bench.members, strict=True)
            ],
        )
        assert bench.shares() == expected
        for member, share in zip(bench.members, expected, strict=True):
            assert member.amps <= max(share, 6)
            if share == 0:
                assert member.paused or not member.car
            else:
                assert not (member.paused_by_group and member.paused and member.car), "paused without need"
        drawable = [m.amps if m.car and not m.paused else 0.0 for m in bench.members]
        assert sum(drawable) <= bench.spec.limit
        assert (bench.group.view.headroom or 0) >= bench.spec.limit - self.bound

    async def let_obey(self, *, every: bool) -> None:
        """Let all members obey for 25 minutes, `every` silent one included. Cars that drew too much were exchanged."""
        bench = cast(Circuit, self.bench)
        for member in bench.members:
            member.linked = member.linked or every
            member.latency, member.drops, member.answers_lost, member.errors = 0.0, False, False, []
            member.draws = None
        cars = [member.car for member in bench.members]
        for member in bench.members:
            member.car = False
        await bench.poll()
        for member, car in zip(bench.members, cars, strict=True):
            member.car = car
        await bench.poll_minutes(25)

    @precondition(lambda self: self.bench is not None)
    @rule()
    def settles_with_silent_members(self) -> None:
        """Check that the members keep to the limit, or that live ones have no share if silent ones exceed it."""
        self.runner.run(self.do_settle_with_silent_members())

    async def do_settle_with_silent_members(self) -> None:
        bench = cast(Circuit, self.bench)
        await self.let_obey(every=False)
        if sum(self.counted(member, member.group_share or 0.0) for member in bench.members) > self.bound:
            assert not all(member.linked for member in bench.members)
            for member in bench.members:
                if member.linked:
                    assert member.group_share in {0, 6}
                    assert member.amps == 6
                    assert member.group_share == 6 or member.paused or not member.car

    @invariant()
    def i1_no_share_or_command_takes_members_above_limit(self) -> None:
        assert self.failures == []

    @invariant()
    def i1_sum_of_shares_stays_within_limit(self) -> None:
        if self.bench is not None:
            assert sum(member.group_share or 0.0 for member in self.bench.members) <= self.bench.spec.limit

    @override
    def teardown(self) -> None:
        if self.bench is not None:
            self.runner.run(self.bench.group.stop())
        self.runner.close()


GroupMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
TestI1LoadGroup = GroupMachine.TestCase


# Members whose current cannot be set


async def test_i1_pause_only_member_paused_then_resumed_with_its_share() -> None:
    bench = circuit(20, 16, 16, keys=(C, D), adjusts=False)
    await bench.poll()
    assert (bench.commands(), bench.paused()) == ([[PAUSE], [PAUSE]], [True, True])
    await bench.poll_minutes(8)
    assert (bench.commands(), bench.paused()) == ([[START_AGAIN], [START_AGAIN]], [False, False])
    assert [member.amps for member in bench.members] == [10, 10]
    await bench.poll_minutes()
    assert bench.commands() == [[], []]
    assert bench.group.view == GroupView(allocated=20, headroom=0, shares={C: 10, D: 10})


async def test_pause_only_member_waits_for_share_until_other_car_leaves() -> None:
    bench = circuit(10, 16, 16, keys=(C, D), adjusts=False)
    first, second = bench.members
    await bench.poll_minutes(15)
    assert (bench.paused(), bench.shares(), first.amps) == ([False, True], [10, 0], 10)
    assert bench.group.view.headroom == 0, "a paused member counts as 0"
    first.car = False
    await bench.poll_minutes(15)
    assert (bench.paused(), bench.shares(), second.amps) == ([False, False], [0, 10], 10)
    first.car, first.amps = True, 16
    await bench.poll()
    await bench.poll()
    assert bench.paused() == [True, False], "the charging member continues"
    assert bench.group.view.headroom == 0


async def test_i1_pause_only_member_that_raises_its_current_waits_for_larger_share() -> None:
    """Let one of two members wait for the other if their server restored a current above their shares."""
    bench = circuit(20, 16, 16, keys=(C, D), adjusts=False)
    await bench.poll_minutes(8)
    assert bench.paused() == [False, False]
    for member in bench.members:
        member.amps = 16
    bench.commands()
    await bench.poll_minutes(15)
    first, second = bench.members
    assert (bench.paused(), bench.shares(), first.amps) == ([False, True], [20, 0], 16)
    assert bench.commands() == [[], [PAUSE]]
    assert bench.group.view.headroom == 0
    first.car = False
    await bench.poll_minutes(15)
    assert (second.paused, second.amps, bench.shares()) == (False, 16, [0, 20])


async def test_lowered_setting_not_restored_once_members_are_pause_only() -> None:
    bench = await settled(20, 16, 16)
    for member in bench.members:
        member.adjusts = False
    bench.group.restore(bench.saved)
    await bench.poll_minutes()
    assert bench.commands() == [[], []]
