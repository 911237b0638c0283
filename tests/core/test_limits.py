"""Ceiling, effective limit and limiting factor, and which currents may be commanded (I1)."""

from hypothesis import assume, given, strategies as st
import pytest

from custom_components.chargekeeper.core import model
from custom_components.chargekeeper.core.errors import UnsafeRequest
from custom_components.chargekeeper.core.limits import Limits, ceiling, effective, permit, safe_start, with_room
from custom_components.chargekeeper.core.model import LimitingFactor, Reading, Readings, Source
from tests.simulators.clock import START

amperes = st.none() | st.integers(1, 100).map(float) | st.floats(0.5, 100)
any_limits = st.builds(
    Limits,
    wire_rating=amperes,
    unit_rating=amperes,
    load_group_limit=amperes,
    house_limit=amperes,
    charging_current=amperes,
    offline_current=amperes,
)


def installation(limits: Limits) -> list[float]:
    four = (limits.wire_rating, limits.unit_rating, limits.load_group_limit, limits.house_limit)
    return [amps for amps in four if amps is not None]


def refusal(amps: int, limits: Limits, minimum: int = 6) -> str | None:
    try:
        permit(amps, limits, minimum=minimum)
    except UnsafeRequest as error:
        return error.reason
    return None


def test_limits_taken_from_readings() -> None:
    readings = Readings()
    assert Limits.of(readings) == Limits()
    for number, prop in enumerate(
        (
            model.WIRE_RATING,
            model.UNIT_RATING,
            model.LOAD_GROUP_LIMIT,
            model.HOUSE_LIMIT,
            model.CHARGING_CURRENT,
            model.OFFLINE_CURRENT,
        )
    ):
        readings.put(prop, Reading(10.0 + number, Source.CACHE, START))
    assert Limits.of(readings) == Limits(
        wire_rating=10, unit_rating=11, load_group_limit=12, house_limit=13, charging_current=14, offline_current=15
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_limit_that_is_not_finite_counts_as_unknown(value: float) -> None:
    readings = Readings()
    readings.put(model.WIRE_RATING, Reading(value, Source.CLOUD, START))
    assert Limits.of(readings) == Limits()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), (None, None)),
        (Limits(charging_current=6, offline_current=6), (None, None)),
        (Limits(wire_rating=32), (32, LimitingFactor.WIRE_RATING)),
        (Limits(wire_rating=32, unit_rating=16), (16, LimitingFactor.UNIT_RATING)),
        (Limits(wire_rating=32, load_group_limit=20, house_limit=25), (20, LimitingFactor.LOAD_GROUP_LIMIT)),
        (Limits(wire_rating=32, house_limit=25), (25, LimitingFactor.HOUSE_LIMIT)),
        (Limits(wire_rating=16, unit_rating=16, house_limit=16), (16, LimitingFactor.WIRE_RATING)),
    ],
)
def test_ceiling_is_smallest_installation_limit(
    limits: Limits, expected: tuple[float | None, LimitingFactor | None]
) -> None:
    assert ceiling(limits) == expected


@pytest.mark.parametrize(
    ("limits", "commanded", "alone"),
    [
        (Limits(), (None, None), (None, None)),
        (
            Limits(wire_rating=32, charging_current=16),
            (16, LimitingFactor.CHARGING_CURRENT),
            (16, LimitingFactor.CHARGING_CURRENT),
        ),
        (
            Limits(wire_rating=32, charging_current=32),
            (32, LimitingFactor.WIRE_RATING),
            (32, LimitingFactor.WIRE_RATING),
        ),
        (
            Limits(wire_rating=32, house_limit=20, charging_current=25),
            (20, LimitingFactor.HOUSE_LIMIT),
            (20, LimitingFactor.HOUSE_LIMIT),
        ),
        (
            Limits(wire_rating=32, unit_rating=40, charging_current=24, offline_current=16),
            (24, LimitingFactor.CHARGING_CURRENT),
            (16, LimitingFactor.OFFLINE_CURRENT),
        ),
        (
            Limits(wire_rating=20, unit_rating=30, offline_current=40),
            (20, LimitingFactor.WIRE_RATING),
            (30, LimitingFactor.UNIT_RATING),
        ),
        (
            Limits(unit_rating=32, offline_current=32),
            (32, LimitingFactor.UNIT_RATING),
            (32, LimitingFactor.UNIT_RATING),
        ),
    ],
)
def test_effective_limit_follows_commands_or_offline_current(
    limits: Limits,
    commanded: tuple[float | None, LimitingFactor | None],
    alone: tuple[float | None, LimitingFactor | None],
) -> None:
    assert effective(limits, commanded=True) == commanded
    assert effective(limits, commanded=False) == alone


@given(any_limits)
def test_limiting_factor_names_binding_limit(limits: Limits) -> None:
    for amps, factor in (ceiling(limits), effective(limits, commanded=True), effective(limits, commanded=False)):
        assert (amps is None) is (factor is None)
        if factor is not None:
            assert getattr(limits, factor.value) == amps


@given(any_limits)
def test_effective_limit_while_commanded_is_smallest_known_limit(limits: Limits) -> None:
    amps, _ = effective(limits, commanded=True)
    known = [*installation(limits), *([] if limits.charging_current is None else [limits.charging_current])]
    assert amps == min(known, default=None)


@given(st.integers(-5, 110), any_limits, st.integers(6, 10))
def test_i1_raise_needs_wire_rating_and_ceiling_lowering_does_not(amps: int, limits: Limits, minimum: int) -> None:
    """I1: raising needs a known wire rating and stays at or below the ceiling; lowering needs neither."""
    reason = refusal(amps, limits, minimum)
    lowers = limits.charging_current is not None and amps <= limits.charging_current
    if amps < minimum:
        assert reason == "current_too_low"
    elif lowers:
        assert reason is None
    elif limits.wire_rating is None:
        assert reason == "wire_rating_unknown"
    else:
        assert reason == (None if all(amps <= bound for bound in installation(limits)) else "above_ceiling")


@given(st.integers(6, 110), any_limits)
def test_i1_permitted_command_never_raises_above_ceiling(amps: int, limits: Limits) -> None:
    """A permitted command exceeds a limit only if the present current exceeds that limit at least as much (I1)."""
    assume(refusal(amps, limits) is None)
    for bound in installation(limits):
        assert amps <= bound or (limits.charging_current is not None and amps <= limits.charging_current)


@pytest.mark.parametrize("amps", [-16, 0, 1, 5])
def test_i1_current_below_minimum_refused(amps: int) -> None:
    assert refusal(amps, Limits(wire_rating=32, charging_current=16)) == "current_too_low"


@pytest.mark.parametrize(
    ("amps", "limits", "reason", "detail"),
    [
        (5, Limits(), "current_too_low", "6"),
        (20, Limits(house_limit=16), "wire_rating_unknown", ""),
        (20, Limits(wire_rating=32, house_limit=16), "above_ceiling", "16"),
        (20, Limits(wire_rating=12.5), "above_ceiling", "12.5"),
    ],
)
def test_i1_refusal_names_figure_to_keep_to(amps: int, limits: Limits, reason: str, detail: str) -> None:
    with pytest.raises(UnsafeRequest) as caught:
        permit(amps, limits)
    assert (caught.value.reason, caught.value.detail) == (reason, detail)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), None),
        (Limits(wire_rating=16), None),
        (Limits(charging_current=32), None),
        (Limits(wire_rating=16, charging_current=16), None),
        (Limits(wire_rating=16, charging_current=10), None),
        (Limits(wire_rating=16, charging_current=32), 16),
        (Limits(wire_rating=32, load_group_limit=13.9, charging_current=14), 13),
        (Limits(wire_rating=5, charging_current=6), 5),
    ],
)
def test_safe_start_lowers_current_above_ceiling(limits: Limits, expected: int | None) -> None:
    assert safe_start(limits) == expected


@given(any_limits)
def test_i1_safe_start_lowers_current_to_ceiling(limits: Limits) -> None:
    amps = safe_start(limits)
    if amps is None:
        assert limits.charging_current is None or all(limits.charging_current <= b for b in installation(limits))
        return
    assert limits.charging_current is not None
    assert amps <= min(installation(limits)) < limits.charging_current
    assert amps > min(installation(limits)) - 1
    assert refusal(amps, limits) == (None if amps >= 6 else "current_too_low")


@pytest.mark.parametrize(
    ("commanded", "in_force", "bound"),
    [
        (True, 16.0, (16, LimitingFactor.OFFLINE_CURRENT)),
        (True, 24.0, (20, LimitingFactor.CHARGING_CURRENT)),
        (True, None, (20, LimitingFactor.CHARGING_CURRENT)),
        (False, 12.0, (12, LimitingFactor.OFFLINE_CURRENT)),
        (False, 30.0, (16, LimitingFactor.OFFLINE_CURRENT)),
    ],
)
def test_lower_limit_reported_in_force_is_effective_limit(
    commanded: bool, in_force: float | None, bound: tuple[float, LimitingFactor]
) -> None:
    known = Limits(wire_rating=32, charging_current=20, offline_current=16)
    assert effective(known, commanded=commanded, in_force=in_force) == bound


@given(any_limits, st.integers(6, 80), st.floats(-50, 100))
def test_i1_no_raise_beyond_the_room_of_the_load_group(known: Limits, amps: int, room: float) -> None:
    lowers = known.charging_current is not None and amps <= known.charging_current
    try:
        permit(amps, known, room=room)
    except UnsafeRequest:
        assert not lowers
    else:
        assert lowers or amps <= room


@given(any_limits, st.floats(-50, 100))
def test_start_keeps_to_the_room_of_the_load_group(known: Limits, room: float) -> None:
    amps = safe_start(with_room(known, room))
    if amps is None:
        assert known.charging_current is None or known.charging_current <= room
    else:
        assert amps <= room
