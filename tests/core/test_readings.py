"""The readings store: replacement and expiry of readings, counters that never fall, and restoring from the store."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
import json
from math import inf
from typing import Any

from hypothesis import given, strategies as st
import pytest

from custom_components.chargekeeper.core.charger.readings import METER_FRESH, ReadingsStore
from custom_components.chargekeeper.core.model import (
    CAR_CONNECTED,
    CHARGING_CURRENT,
    CURRENCY,
    ECO_MODE,
    FIRMWARE,
    HOUSE_LIMIT,
    LIFETIME_ENERGY,
    LIVE_AGE,
    LOAD_GROUP_LIMIT,
    LOCKED,
    OCPP,
    POWER,
    PROPERTIES,
    ROLE,
    SCHEDULE,
    SESSION_COST,
    SESSION_DURATION,
    SESSION_ENERGY,
    STATUS,
    WIRE_RATING,
    EcoMode,
    Property,
    Reading,
    ReadingClass,
    Readings,
    Role,
    Source,
    Status,
)
from tests.core.fake_transport import NIGHT

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)

type Values = Mapping[Property[Any], object]


def shown(values: Values, *, at: float, source: Source = Source.CLOUD) -> Readings:
    """Return readings that a transport shows at a monotonic moment."""
    readings = Readings()
    for prop, value in values.items():
        age = LIVE_AGE[source] if prop.kind is ReadingClass.LIVE else inf
        readings.put(prop, Reading(value, source, NOON + timedelta(seconds=at), at, age))
    return readings


def store_of(*answers: Readings, meters_lifetime: bool = True) -> ReadingsStore:
    readings_store = ReadingsStore()
    for readings in answers:
        readings_store.take(readings, meters_lifetime=meters_lifetime)
    return readings_store


def take(readings_store: ReadingsStore, values: Values, *, at: float, source: Source = Source.CLOUD) -> None:
    """Take the values of a transport without a meter."""
    readings_store.take(shown(values, at=at, source=source), meters_lifetime=False)


def value[T](readings_store: ReadingsStore, prop: Property[T]) -> T | None:
    reading = readings_store.get(prop)
    return None if reading is None else reading.value


@pytest.mark.parametrize("prop", [POWER, CHARGING_CURRENT])
@pytest.mark.parametrize(
    ("sources", "moments", "expected"),
    [
        ((Source.CLOUD, Source.BLUETOOTH), (10, 20), 2.0),
        ((Source.BLUETOOTH, Source.CLOUD), (10, 20), 2.0),
        ((Source.CLOUD, Source.BLUETOOTH), (20, 10), 1.0),
        ((Source.BLUETOOTH, Source.CLOUD), (20, 10), 1.0),
        ((Source.CLOUD, Source.CLOUD), (20, 10), 1.0),
        ((Source.CLOUD, Source.CLOUD), (10, 10), 2.0),
    ],
)
def test_newer_reading_counts_whichever_transport_brought_it(
    prop: Property[float], sources: tuple[Source, Source], moments: tuple[float, float], expected: float
) -> None:
    readings_store = store_of(
        shown({prop: 1.0}, at=moments[0], source=sources[0]), shown({prop: 2.0}, at=moments[1], source=sources[1])
    )
    reading = readings_store.get(prop)
    assert reading is not None
    assert reading.value == expected
    assert reading.source is sources[int(expected) - 1]


@pytest.mark.parametrize("source", LIVE_AGE)
def test_live_reading_expires_exactly_at_maximum_age(source: Source) -> None:
    readings_store = store_of(shown({POWER: 7000.0}, at=100, source=source))
    end = 100 + LIVE_AGE[source]
    before, until = readings_store.visible(end - 0.001, {source})
    after, later = readings_store.visible(end, {source})
    assert (before.value(POWER), until) == (7000.0, end)
    assert (after.value(POWER), later) == (None, inf)
    assert (readings_store.fresh(POWER, end - 0.001), readings_store.fresh(POWER, end)) == (7000.0, None)
    assert readings_store.fresh(STATUS, 0) is None


def test_visible_returns_earliest_expiry() -> None:
    readings_store = store_of(
        shown({POWER: 1.0}, at=0), shown({STATUS: Status.CHARGING}, at=30), shown({CHARGING_CURRENT: 16.0}, at=0)
    )
    assert readings_store.visible(10, {Source.CLOUD})[1] == 900
    assert readings_store.visible(900, {Source.CLOUD})[1] == 930


def test_configuration_source_is_cache_while_transport_is_unusable() -> None:
    readings_store = store_of(shown({CHARGING_CURRENT: 16.0, LIFETIME_ENERGY: 5.0, POWER: 1.0}, at=10))
    readings_store.take(shown({HOUSE_LIMIT: 25.0}, at=10, source=Source.BLUETOOTH), meters_lifetime=True)

    def sources(usable: set[Source], now: float = 20) -> dict[str, Source]:
        return {prop.key: reading.source for prop, reading in readings_store.visible(now, usable)[0].items()}

    cloud, cache, bluetooth = Source.CLOUD, Source.CACHE, Source.BLUETOOTH
    keys = ("charging_current", "lifetime_energy", "house_limit")
    assert sources({cloud, bluetooth}) == dict(zip(keys, (cloud, cloud, bluetooth), strict=True)) | {"power": cloud}
    assert sources({bluetooth}) == dict(zip(keys, (cache, cache, bluetooth), strict=True)) | {"power": cloud}
    assert sources(set(), now=1e9) == dict.fromkeys(keys, cache)
    assert sources({cloud}, now=1e9) == dict(zip(keys, (cloud, cloud, cache), strict=True))
    reading = readings_store.visible(1e9, ())[0].get(CHARGING_CURRENT)
    assert reading is not None
    assert reading.value == 16.0
    assert reading.observed_at == NOON + timedelta(seconds=10)  # `observed_at` stays the time of the observation


def test_value_entered_by_user_never_cached() -> None:
    readings_store = store_of(shown({LOAD_GROUP_LIMIT: 20.0}, at=10, source=Source.USER))
    reading = readings_store.visible(20, ())[0].get(LOAD_GROUP_LIMIT)
    assert reading is not None
    assert reading.source is Source.USER
    assert readings_store.export() == {}


def test_offline_clears_live_readings_and_keeps_the_rest() -> None:
    readings_store = store_of(
        shown({STATUS: Status.CHARGING, POWER: 7000.0, CAR_CONNECTED: True, CHARGING_CURRENT: 16.0}, at=10),
        shown({SESSION_ENERGY: 3.0}, at=10),
        shown({STATUS: Status.OFFLINE}, at=20),
    )
    keys = {prop.key for prop, _ in readings_store.visible(20, {Source.CLOUD})[0].items()}
    assert keys == {"status", "charging_current", "session_energy"}


def test_older_offline_status_clears_nothing() -> None:
    readings_store = store_of(
        shown({STATUS: Status.CHARGING, POWER: 7000.0}, at=30, source=Source.BLUETOOTH),
        shown({STATUS: Status.OFFLINE}, at=20),
    )
    assert value(readings_store, STATUS) is Status.CHARGING
    assert value(readings_store, POWER) == 7000.0


def test_live_reading_from_before_offline_ignored() -> None:
    readings_store = store_of(shown({STATUS: Status.OFFLINE}, at=20))
    late = {POWER: 7000.0, CHARGING_CURRENT: 16.0}
    readings_store.take(shown(late, at=10, source=Source.BLUETOOTH), meters_lifetime=True)
    assert (value(readings_store, POWER), value(readings_store, CHARGING_CURRENT)) == (None, 16.0)
    readings_store.take(shown(late, at=21, source=Source.BLUETOOTH), meters_lifetime=True)
    assert value(readings_store, POWER) == 7000.0


def test_offline_status_keeps_newer_readings() -> None:
    readings_store = store_of(shown({POWER: 1.0}, at=30, source=Source.BLUETOOTH), shown({LOCKED: True}, at=10))
    readings_store.take(shown({STATUS: Status.OFFLINE}, at=20), meters_lifetime=True)
    assert value(readings_store, POWER) == 1.0
    assert LOCKED not in readings_store.visible(20, {Source.CLOUD})[0]


def test_retracted_reading_removed_unless_seen_since() -> None:
    readings_store = store_of(shown({STATUS: Status.CHARGING, HOUSE_LIMIT: 25.0, POWER: 1.0}, at=10))
    revision = readings_store.revision
    unknown = Readings()
    unknown.retract(STATUS, 20)
    unknown.retract(HOUSE_LIMIT, 5)
    unknown.retract(CAR_CONNECTED, 20)
    readings_store.take(unknown, meters_lifetime=True)
    assert value(readings_store, STATUS) is None
    assert value(readings_store, HOUSE_LIMIT) == 25.0
    assert readings_store.revision == revision
    unknown.retract(HOUSE_LIMIT, 10)
    readings_store.take(unknown, meters_lifetime=True)
    assert value(readings_store, HOUSE_LIMIT) is None
    assert readings_store.revision == revision + 1


def test_revision_grows_with_changed_configuration_only() -> None:
    readings_store = store_of(shown({CHARGING_CURRENT: 16.0}, at=10))
    assert readings_store.revision == 1
    readings_store.take(shown({CHARGING_CURRENT: 16.0, POWER: 5.0, LIFETIME_ENERGY: 1.0}, at=20), meters_lifetime=True)
    assert readings_store.revision == 1
    readings_store.take(shown({CHARGING_CURRENT: 10.0}, at=30), meters_lifetime=True)
    readings_store.take(shown({CHARGING_CURRENT: 10.0}, at=40, source=Source.BLUETOOTH), meters_lifetime=True)
    assert readings_store.revision == 3


def test_lifetime_energy_never_falls() -> None:
    readings_store = store_of(shown({LIFETIME_ENERGY: 100.0}, at=600), shown({LIFETIME_ENERGY: 99.0}, at=1200))
    assert value(readings_store, LIFETIME_ENERGY) == 100.0
    readings_store.take(shown({LIFETIME_ENERGY: 101.0}, at=1800), meters_lifetime=True)
    assert value(readings_store, LIFETIME_ENERGY) == 101.0


def test_lifetime_energy_without_meter_grows_with_sessions() -> None:
    readings_store = ReadingsStore()
    take(readings_store, {SESSION_ENERGY: 5.0}, at=300)  # no total known yet
    take(readings_store, {LIFETIME_ENERGY: 100.0, SESSION_ENERGY: 5.0}, at=600)
    take(readings_store, {SESSION_ENERGY: 7.5}, at=1200)
    assert value(readings_store, LIFETIME_ENERGY) == 102.5
    take(readings_store, {CAR_CONNECTED: False}, at=1800)
    take(readings_store, {SESSION_ENERGY: 1.0}, at=2400)  # a new session gained 1 kWh
    assert value(readings_store, LIFETIME_ENERGY) == 103.5
    take(readings_store, {LIFETIME_ENERGY: 102.0}, at=3000)  # a total without the running session
    assert value(readings_store, LIFETIME_ENERGY) == 103.5
    take(readings_store, {LIFETIME_ENERGY: 110.0}, at=3600)
    take(readings_store, {SESSION_ENERGY: 1.5, LIFETIME_ENERGY: 110.5}, at=4200)  # counted once
    assert value(readings_store, LIFETIME_ENERGY) == 110.5
    take(readings_store, {POWER: 5.0}, at=4800)
    assert value(readings_store, LIFETIME_ENERGY) == 110.5


def test_energy_already_in_total_not_added_again() -> None:
    readings_store = ReadingsStore()
    take(readings_store, {SESSION_ENERGY: 1.0, LIFETIME_ENERGY: 100.0}, at=600)
    take(readings_store, {LIFETIME_ENERGY: 102.5}, at=3600)
    take(readings_store, {SESSION_ENERGY: 4.0}, at=7200)
    assert value(readings_store, LIFETIME_ENERGY) == 102.5
    take(readings_store, {SESSION_ENERGY: 4.5}, at=14400)
    assert value(readings_store, LIFETIME_ENERGY) == 103.0
    take(readings_store, {LIFETIME_ENERGY: 104.0}, at=18000)
    again = restored(readings_store.export())
    take(again, {SESSION_ENERGY: 6.0}, at=21600)
    assert value(again, LIFETIME_ENERGY) == 104.0


def test_energy_not_counted_twice_after_wall_clock_set_back() -> None:
    readings_store = ReadingsStore()
    take(readings_store, {SESSION_ENERGY: 1.0, LIFETIME_ENERGY: 100.0}, at=600)
    readings = Readings()
    readings.put(LIFETIME_ENERGY, Reading(104.0, Source.CLOUD, NOON - timedelta(hours=1), 3600, inf))
    readings_store.take(readings, meters_lifetime=False)
    again = restored(readings_store.export())
    take(again, {SESSION_ENERGY: 5.0}, at=-5000)  # by this clock before the store was written: no time has passed
    assert value(again, SESSION_ENERGY) == 1.0
    take(again, {SESSION_ENERGY: 5.0}, at=-4700)
    assert (value(again, SESSION_ENERGY), value(again, LIFETIME_ENERGY)) == (5.0, 104.0)
    take(again, {SESSION_ENERGY: 6.0}, at=-4600)
    assert value(again, LIFETIME_ENERGY) == 105.0


def test_metered_total_not_increased_by_session_energy() -> None:
    readings_store = store_of(
        shown({LIFETIME_ENERGY: 100.0, SESSION_ENERGY: 5.0}, at=10), shown({SESSION_ENERGY: 9.0}, at=20)
    )
    assert value(readings_store, LIFETIME_ENERGY) == 100.0


def test_older_session_energy_of_another_transport_ignored() -> None:
    readings_store = ReadingsStore()
    take(readings_store, {LIFETIME_ENERGY: 100.0, SESSION_ENERGY: 5.0}, at=1200)
    take(readings_store, {SESSION_ENERGY: 2.0}, at=600, source=Source.BLUETOOTH)
    assert value(readings_store, SESSION_ENERGY) == 5.0
    assert value(readings_store, LIFETIME_ENERGY) == 100.0
    take(readings_store, {CAR_CONNECTED: False}, at=1800)
    take(readings_store, {SESSION_ENERGY: 4.0, SESSION_DURATION: 1.0}, at=1800)
    take(readings_store, {SESSION_ENERGY: 3.0, SESSION_DURATION: 2.0}, at=2400)  # an older reading starts no session
    assert value(readings_store, SESSION_ENERGY) == 4.0


SESSION: Values = {SESSION_ENERGY: 5.0, SESSION_DURATION: 600.0, CAR_CONNECTED: True}


@pytest.mark.parametrize(
    ("between", "then", "expected"),
    [
        ({}, {SESSION_ENERGY: 1.0, SESSION_DURATION: 700.0}, (5.0, 5.0)),  # a glitch
        ({}, {SESSION_ENERGY: 1.0, SESSION_DURATION: 20.0}, (5.0, 1.0)),  # its duration fell
        ({}, {SESSION_ENERGY: 1.0}, (5.0, 1.0)),  # nothing contradicts
        ({CAR_CONNECTED: False}, {SESSION_ENERGY: 1.0, SESSION_DURATION: 700.0}, (1.0, 1.0)),
        ({CAR_CONNECTED: True}, {SESSION_ENERGY: 1.0, SESSION_DURATION: 700.0}, (5.0, 5.0)),
        ({CAR_CONNECTED: False}, {SESSION_ENERGY: 6.0, SESSION_DURATION: 700.0}, (6.0, 6.0)),
    ],
)
def test_session_energy_falls_only_at_a_new_session(
    between: Values, then: Values, expected: tuple[float, float]
) -> None:
    """One answer is enough after an unplug was seen; otherwise two answers must agree."""
    readings_store = ReadingsStore()
    take(readings_store, SESSION, at=600)
    take(readings_store, between, at=1200)
    take(readings_store, then, at=1800)
    once = value(readings_store, SESSION_ENERGY)
    take(readings_store, then, at=2400)
    assert (once, value(readings_store, SESSION_ENERGY)) == expected


def test_one_unplug_lets_session_energy_fall_once() -> None:
    readings_store = ReadingsStore()
    take(readings_store, SESSION, at=600)
    take(readings_store, {CAR_CONNECTED: False}, at=1200)
    take(readings_store, {SESSION_ENERGY: 1.0, SESSION_DURATION: 700.0}, at=1800)
    take(readings_store, {SESSION_ENERGY: 0.5, SESSION_DURATION: 800.0}, at=2400)
    assert value(readings_store, SESSION_ENERGY) == 1.0


def test_session_cost_falls_at_new_session_even_if_reported_later() -> None:
    readings_store = ReadingsStore()
    take(readings_store, {**SESSION, SESSION_COST: 1.5}, at=600)
    take(readings_store, {SESSION_COST: 1.0}, at=1200)
    assert value(readings_store, SESSION_COST) == 1.5
    take(readings_store, {SESSION_ENERGY: 0.5, SESSION_DURATION: 10.0}, at=1800)  # the groups endpoint has no cost
    take(readings_store, {SESSION_ENERGY: 0.5, SESSION_DURATION: 20.0}, at=1900)
    take(readings_store, {SESSION_ENERGY: 0.7, SESSION_COST: 0.2}, at=2400)
    assert value(readings_store, SESSION_COST) == 0.2
    take(readings_store, {SESSION_ENERGY: 0.8, SESSION_COST: 0.1}, at=3000)
    assert value(readings_store, SESSION_COST) == 0.2


# Pauses and transports


def test_session_counter_reset_by_pause_added_up() -> None:
    readings_store = ReadingsStore()
    for at, raw in enumerate((0.0, 3.0, 5.0, 0.0, 0.0, 1.5, 0.0, 2.0)):
        take(readings_store, {SESSION_ENERGY: raw, CAR_CONNECTED: True}, at=600 * at, source=Source.UDP)
    assert value(readings_store, SESSION_ENERGY) == 8.5
    take(readings_store, {CAR_CONNECTED: False}, at=6000, source=Source.UDP)
    take(readings_store, {SESSION_ENERGY: 0.25, CAR_CONNECTED: True}, at=6600, source=Source.UDP)
    assert value(readings_store, SESSION_ENERGY) == 0.25
    take(readings_store, {SESSION_ENERGY: 0.0, CAR_CONNECTED: True}, at=7200, source=Source.UDP)
    take(readings_store, {SESSION_ENERGY: 0.5, CAR_CONNECTED: True}, at=7800, source=Source.UDP)
    assert value(readings_store, SESSION_ENERGY) == 0.75


def test_restart_of_home_assistant_counts_session_energy_once() -> None:
    readings_store = ReadingsStore()
    for at, raw in enumerate((8.0, 0.0, 4.0)):
        take(readings_store, {SESSION_ENERGY: raw}, at=600 * at, source=Source.UDP)
    again = restored(readings_store.export())
    take(again, {SESSION_ENERGY: 4.5}, at=3000, source=Source.UDP)
    assert value(again, SESSION_ENERGY) == 12.5
    take(again, {SESSION_ENERGY: 5.5}, at=3600, source=Source.UDP)
    assert value(again, SESSION_ENERGY) == 13.5


def test_store_of_earlier_version_counts_session_energy_once() -> None:
    readings_store = ReadingsStore()
    for at, raw in enumerate((8.0, 0.0, 4.0)):
        take(readings_store, {SESSION_ENERGY: raw}, at=600 * at, source=Source.UDP)
    stored = readings_store.export()
    del stored["session_energy"]["counters"]  # type: ignore[attr-defined]
    again = restored(stored)
    for at, raw, expected in ((3000, 4.5, 12.0), (3600, 5.5, 13.0)):
        take(again, {SESSION_ENERGY: raw}, at=at, source=Source.UDP)
        assert value(again, SESSION_ENERGY) == expected


@pytest.mark.parametrize("duration", [{}, {SESSION_DURATION: 3590.0}])
def test_switch_of_transports_neither_lowers_nor_adds_session_energy(duration: Values) -> None:
    readings_store = ReadingsStore()
    take(readings_store, {SESSION_ENERGY: 5.0, SESSION_DURATION: 3600.0}, at=600)
    take(readings_store, {SESSION_ENERGY: 4.75, **duration}, at=1200, source=Source.BLUETOOTH)
    assert value(readings_store, SESSION_ENERGY) == 5.0
    take(readings_store, {SESSION_ENERGY: 6.0, SESSION_DURATION: 4000.0}, at=1800, source=Source.BLUETOOTH)
    assert value(readings_store, SESSION_ENERGY) == 6.0
    take(readings_store, {SESSION_ENERGY: 6.25, SESSION_DURATION: 4100.0}, at=2400)
    assert value(readings_store, SESSION_ENERGY) == 6.25


def test_transport_counting_since_pause_continues_session_of_another() -> None:
    readings_store = ReadingsStore()
    take(readings_store, {SESSION_ENERGY: 5.0, SESSION_DURATION: 3600.0}, at=600)
    take(readings_store, {SESSION_ENERGY: 1.0}, at=1200, source=Source.UDP)
    assert value(readings_store, SESSION_ENERGY) == 5.0
    take(readings_store, {SESSION_ENERGY: 1.5}, at=1800, source=Source.UDP)
    assert value(readings_store, SESSION_ENERGY) == 5.5


def test_new_session_shown_by_another_transport_counts_at_second_answer() -> None:
    readings_store = ReadingsStore()
    take(readings_store, {SESSION_ENERGY: 12.0, SESSION_DURATION: 7200.0}, at=600)
    take(readings_store, {SESSION_ENERGY: 0.5, SESSION_DURATION: 300.0}, at=1200, source=Source.BLUETOOTH)
    assert value(readings_store, SESSION_ENERGY) == 12.0
    take(readings_store, {SESSION_ENERGY: 0.5, SESSION_DURATION: 310.0}, at=1290, source=Source.BLUETOOTH)
    assert value(readings_store, SESSION_ENERGY) == 0.5


def test_sessions_added_to_metered_total_only_after_meter_goes_silent() -> None:
    readings_store = ReadingsStore()
    total = 100.0
    for at in range(0, 3600, 60):
        # The cloud's counter reads a little more than the meter, session by session.
        raw = float(at % 600) / 60
        metered = {LIFETIME_ENERGY: total, SESSION_ENERGY: raw, CAR_CONNECTED: raw > 0}
        readings_store.take(shown(metered, at=at, source=Source.UDP), meters_lifetime=True)
        take(readings_store, {SESSION_ENERGY: raw * 1.1}, at=at + 30)
        total += 1.0
    assert value(readings_store, LIFETIME_ENERGY) == 159.0
    later = 3570 + METER_FRESH
    take(readings_store, {SESSION_ENERGY: 20.0}, at=later)
    take(readings_store, {SESSION_ENERGY: 21.0}, at=later + 60)
    grown = value(readings_store, LIFETIME_ENERGY)
    assert grown is not None
    assert grown > 159.0
    readings_store.take(shown({LIFETIME_ENERGY: 160.0}, at=later + 120, source=Source.UDP), meters_lifetime=True)
    assert value(readings_store, LIFETIME_ENERGY) == max(grown, 160.0)


steps = st.lists(
    st.tuples(
        st.sampled_from([Source.CLOUD, Source.BLUETOOTH, Source.UDP]),
        st.integers(0, 50),
        st.fixed_dictionaries(
            {},
            optional={
                SESSION_ENERGY: st.floats(0, 50, width=16),
                SESSION_DURATION: st.floats(0, 1000, width=16),
                LIFETIME_ENERGY: st.floats(0, 500, width=16),
                CAR_CONNECTED: st.booleans(),
                STATUS: st.sampled_from(Status),
            },
        ),
        st.booleans(),
    ),
    max_size=30,
)


@given(steps)
def test_lifetime_energy_never_falls_and_readings_never_get_older(
    steps: list[tuple[Source, int, dict[Property[Any], object], bool]],
) -> None:
    readings_store = ReadingsStore()
    seen: dict[str, float] = {}
    for source, at, values, meters in steps:
        total, gained = value(readings_store, LIFETIME_ENERGY), value(readings_store, SESSION_ENERGY)
        readings_store.take(shown(values, at=at, source=source), meters_lifetime=meters)
        after = value(readings_store, LIFETIME_ENERGY)
        assert total is None or (after is not None and after >= total)
        assert gained is None or value(readings_store, SESSION_ENERGY) is not None
        if value(readings_store, STATUS) is Status.OFFLINE:
            seen = {key: at for key, at in seen.items() if PROPERTIES[key].kind is not ReadingClass.LIVE}
        for prop, reading in readings_store.visible(-1, set(Source))[0].items():
            assert reading.observed_mono >= seen.get(prop.key, -inf)
            seen[prop.key] = reading.observed_mono


# Plausible and implausible values


def charging_car() -> ReadingsStore:
    """Return a store with a total of 1000 kWh before the session, and 10 kWh in the session by the moment 3610."""
    readings_store = ReadingsStore()
    take(readings_store, {LIFETIME_ENERGY: 1000.0}, at=0)
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 0.0, SESSION_DURATION: 0.0}, at=10)
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 10.0, SESSION_DURATION: 3600.0}, at=3610)
    assert value(readings_store, LIFETIME_ENERGY) == 1010.0
    return readings_store


CHARGING_CAR: Values = {STATUS: Status.CHARGING, CAR_CONNECTED: True}
IDLE: Values = {STATUS: Status.AVAILABLE, CAR_CONNECTED: False}


@pytest.mark.parametrize(
    ("odd", "at"),
    [
        ((9.8, 3530.0), 3610),  # an older answer, as from another endpoint or a cache
        ((0.0, 0.0), 3700),
        ((0.0, 3650.0), 3700),
        ((10000.0, 3650.0), 3700),
        ((9999999999.0, 3650.0), 3700),
    ],
)
def test_single_odd_answer_starts_no_session_and_adds_nothing(odd: tuple[float, float], at: float) -> None:
    readings_store = charging_car()
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: odd[0], SESSION_DURATION: odd[1]}, at=at)
    assert (value(readings_store, SESSION_ENERGY), value(readings_store, LIFETIME_ENERGY)) == (10.0, 1010.0)
    assert readings_store.refused == {"session_energy": 1}
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 10.2, SESSION_DURATION: 3700.0}, at=3800)
    assert (value(readings_store, SESSION_ENERGY), value(readings_store, LIFETIME_ENERGY)) == (10.2, 1010.2)
    assert readings_store.refused == {"session_energy": 1}


def test_odd_value_when_idle_adds_nothing_to_the_lifetime_energy() -> None:
    readings_store = charging_car()
    take(readings_store, {**IDLE, SESSION_ENERGY: 9999.0}, at=4000)
    take(readings_store, {**IDLE, SESSION_ENERGY: 10.0}, at=4120)
    assert value(readings_store, LIFETIME_ENERGY) == 1010.0
    take(readings_store, {LIFETIME_ENERGY: 1010.0}, at=90000)
    take(readings_store, {LIFETIME_ENERGY: 1200.0}, at=9e6)
    assert value(readings_store, LIFETIME_ENERGY) == 1200.0


@pytest.mark.parametrize("zeros", [1, 30])
def test_zeros_between_answers_without_car_add_nothing(zeros: int) -> None:
    readings_store = charging_car()
    take(readings_store, {**IDLE, SESSION_ENERGY: 10.0}, at=4000)
    for number in range(zeros):
        take(readings_store, {**IDLE, SESSION_ENERGY: 0.0}, at=4120 + 120 * number)
    assert value(readings_store, SESSION_ENERGY) == 0.0
    take(readings_store, {**IDLE, SESSION_ENERGY: 10.0}, at=4120 + 120 * zeros)
    assert (value(readings_store, SESSION_ENERGY), value(readings_store, LIFETIME_ENERGY)) == (10.0, 1010.0)


def test_session_continues_after_two_zero_answers() -> None:
    readings_store = charging_car()
    for at in (3640, 3670):
        take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 0.0, SESSION_DURATION: 0.0}, at=at)
    assert value(readings_store, SESSION_ENERGY) == 0.0
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 10.2, SESSION_DURATION: 3700.0}, at=3710)
    assert (value(readings_store, SESSION_ENERGY), value(readings_store, LIFETIME_ENERGY)) == (10.2, 1010.2)


def test_leap_of_session_energy_refused_until_time_allows() -> None:
    readings_store = charging_car()
    take(readings_store, IDLE, at=3620)
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 0.0}, at=3640)
    for at, expected in ((3700, 1010.0), (3640 + 20 * 60, 1030.0)):
        take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 20.0}, at=at)
        assert value(readings_store, LIFETIME_ENERGY) == expected


def test_two_lagging_answers_start_no_session() -> None:
    readings_store = ReadingsStore()
    take(readings_store, {LIFETIME_ENERGY: 1000.0}, at=0)
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 0.0, SESSION_DURATION: 0.0}, at=0)
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 1.0, SESSION_DURATION: 600.0}, at=600)
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 0.8, SESSION_DURATION: 480.0}, at=630)
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 0.9, SESSION_DURATION: 540.0}, at=660)
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 1.2, SESSION_DURATION: 720.0}, at=720)
    assert (value(readings_store, SESSION_ENERGY), value(readings_store, LIFETIME_ENERGY)) == (1.2, 1001.2)


@pytest.mark.parametrize("second", [0.1, 0.0, 9.0])
def test_two_disagreeing_answers_start_no_session(second: float) -> None:
    readings_store = charging_car()
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 0.2}, at=3700)
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: second}, at=3800)
    assert (value(readings_store, SESSION_ENERGY), value(readings_store, LIFETIME_ENERGY)) == (10.0, 1010.0)


def test_two_disagreeing_transports_start_no_session() -> None:
    readings_store = charging_car()
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 10.0}, at=3620, source=Source.BLUETOOTH)
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 0.2}, at=3700)
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 0.3}, at=3800, source=Source.BLUETOOTH)
    assert (value(readings_store, SESSION_ENERGY), value(readings_store, LIFETIME_ENERGY)) == (10.0, 1010.0)


def test_energy_of_a_session_that_began_unseen_is_added() -> None:
    readings_store = charging_car()
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 0.1, SESSION_DURATION: 40.0}, at=3730)
    take(readings_store, {**CHARGING_CAR, SESSION_ENERGY: 0.5, SESSION_DURATION: 160.0}, at=3850)
    assert (value(readings_store, SESSION_ENERGY), value(readings_store, LIFETIME_ENERGY)) == (0.5, 1010.5)


def test_counter_reset_at_midnight_continues_session() -> None:
    """The duration continues, so the lower counter is neither a new session nor a glitch."""
    readings_store = charging_car()
    for at, raw, session in ((3730, 0.1, 10.0), (3850, 0.1, 10.0), (3970, 0.5, 10.5), (4090, 0.9, 10.9)):
        values = {**CHARGING_CAR, SESSION_ENERGY: raw, SESSION_DURATION: float(at)}
        take(readings_store, values, at=at)
        assert value(readings_store, SESSION_ENERGY) == pytest.approx(session)
    assert value(readings_store, LIFETIME_ENERGY) == 1010.9


@pytest.mark.parametrize("odd", [150.0 * 1000, 9999999.999, 153.0])
def test_odd_total_is_refused_and_counted(odd: float) -> None:
    readings_store = store_of(shown({LIFETIME_ENERGY: 150.0}, at=0), shown({LIFETIME_ENERGY: odd}, at=120))
    assert value(readings_store, LIFETIME_ENERGY) == 150.0
    assert readings_store.refused == {"lifetime_energy": 1}
    readings_store.take(shown({LIFETIME_ENERGY: 151.0}, at=240), meters_lifetime=True)
    assert value(readings_store, LIFETIME_ENERGY) == 151.0


def test_impossible_first_total_refused() -> None:
    readings_store = store_of(shown({LIFETIME_ENERGY: 9999999.999}, at=0), shown({LIFETIME_ENERGY: 150.0}, at=120))
    assert value(readings_store, LIFETIME_ENERGY) == 150.0


def test_higher_total_of_another_transport_refused_until_time_allows() -> None:
    readings_store = store_of(shown({LIFETIME_ENERGY: 150.0}, at=0))
    for at, expected in ((120, 150.0), (400, 155.0)):
        readings_store.take(shown({LIFETIME_ENERGY: 155.0}, at=at, source=Source.UDP), meters_lifetime=True)
        assert value(readings_store, LIFETIME_ENERGY) == expected


def test_older_total_of_same_transport_ignored() -> None:
    readings_store = store_of(shown({LIFETIME_ENERGY: 150.0}, at=600), shown({LIFETIME_ENERGY: 155.0}, at=300))
    assert value(readings_store, LIFETIME_ENERGY) == 150.0


def test_total_accepted_after_days_without_answers() -> None:
    """The total contains unseen sessions; answers about the running session make no difference."""
    readings_store = ReadingsStore()
    take(readings_store, {LIFETIME_ENERGY: 1000.0, SESSION_ENERGY: 5.0}, at=0)
    again = restored(json.loads(json.dumps(readings_store.export())))
    take(again, {SESSION_ENERGY: 0.5, SESSION_DURATION: 200.0}, at=3 * 86400)
    take(again, {SESSION_ENERGY: 0.9, SESSION_DURATION: 320.0}, at=3 * 86400 + 120)
    assert value(again, LIFETIME_ENERGY) == 1000.9
    take(again, {LIFETIME_ENERGY: 1060.9}, at=3 * 86400 + 180)
    assert value(again, LIFETIME_ENERGY) == 1060.9


def test_total_accepted_in_time_after_store_of_earlier_version() -> None:
    readings_store = ReadingsStore()
    take(readings_store, {LIFETIME_ENERGY: 1000.0, SESSION_ENERGY: 5.0}, at=0)
    stored = readings_store.export()
    del stored["lifetime_energy"]["counters"]  # type: ignore[attr-defined]
    again = restored(stored)
    take(again, {SESSION_ENERGY: 5.4}, at=120)
    for at, session, expected in ((180, 5.4, 1000.4), (1200, 5.8, 1000.8), (1400, 6.0, 1020.0)):
        take(again, {SESSION_ENERGY: session}, at=at)
        take(again, {LIFETIME_ENERGY: 1020.0}, at=at + 1)
        assert value(again, LIFETIME_ENERGY) == expected


def test_lifetime_counter_reset_continues_from_old_total() -> None:
    readings_store = store_of(shown({LIFETIME_ENERGY: 1000.0}, at=0))
    for at, raw, expected in ((60, 0.0, 1000.0), (120, 0.0, 1000.0), (180, 0.5, 1000.5), (240, 1.0, 1001.0)):
        readings_store.take(shown({LIFETIME_ENERGY: raw}, at=at), meters_lifetime=True)
        assert value(readings_store, LIFETIME_ENERGY) == expected
    again = restored(json.loads(json.dumps(readings_store.export())))
    again.take(shown({LIFETIME_ENERGY: 1.5}, at=300), meters_lifetime=True)
    assert value(again, LIFETIME_ENERGY) == 1001.5


@pytest.mark.parametrize("second", [0.1, 0.2, 800.0])
def test_two_lower_totals_without_growth_are_no_counter_reset(second: float) -> None:
    readings_store = store_of(
        *(shown({LIFETIME_ENERGY: raw}, at=60 * at) for at, raw in enumerate((1000.0, 0.2, second)))
    )
    readings_store.take(shown({LIFETIME_ENERGY: 1000.5}, at=240), meters_lifetime=True)
    assert value(readings_store, LIFETIME_ENERGY) == 1000.5


@given(
    st.lists(
        st.tuples(
            st.integers(0, 7200),  # seconds since the previous answer
            st.sampled_from([Source.CLOUD, Source.UDP, Source.BLUETOOTH]),
            st.fixed_dictionaries(
                {},
                optional={
                    SESSION_ENERGY: st.floats(0, 200) | st.sampled_from([0.0, 10.0, 1e4, 1e10]),
                    SESSION_DURATION: st.floats(0, 20000),
                    LIFETIME_ENERGY: st.floats(1000, 1500) | st.sampled_from([0.0, 1000.0, 1e6, 1e10]),
                    CAR_CONNECTED: st.booleans(),
                },
            ),
            st.booleans(),  # with a meter
            st.booleans(),  # Home Assistant restarts before this answer
        ),
        max_size=25,
    )
)
def test_lifetime_energy_never_falls_nor_rises_by_more_than_could_have_flowed(
    answers: list[tuple[int, Source, dict[Property[Any], object], bool, bool]],
) -> None:
    readings_store = store_of(shown({LIFETIME_ENERGY: 1000.0}, at=0))
    now = 0
    for seconds, source, values, meters, restarted in answers:
        now += seconds
        if restarted:
            readings_store = restored(json.loads(json.dumps(readings_store.export())))
        before = value(readings_store, LIFETIME_ENERGY)
        readings_store.take(shown(values, at=now, source=source), meters_lifetime=meters)
        after = value(readings_store, LIFETIME_ENERGY)
        assert before is not None
        assert after is not None
        assert before <= after <= 1000.0 + 60.0 * now / 3600 + 0.001 * len(answers)


honest_steps = st.lists(
    st.tuples(
        st.sampled_from([30, 120, 600, 8 * 3600]),  # seconds to the next answer; 8 h are an outage
        st.floats(0, 22),  # kW meanwhile, if a car is connected
        st.sampled_from(["", "", "", "unplug", "plug", "restart", "total", "midnight"]),
    ),
    max_size=40,
)


@given(honest_steps, st.booleans())
def test_lifetime_energy_follows_honest_counters(steps: list[tuple[int, float, str]], meters: bool) -> None:
    """A metered total is exact at each answer; a sum of sessions never exceeds the truth and is exact at each total."""
    readings_store = ReadingsStore()
    now = 0
    lifetime = 1000.0
    session = 0.0
    duration = 0.0
    car = True
    readings_store.take(shown({LIFETIME_ENERGY: lifetime, SESSION_ENERGY: 0.0}, at=0), meters_lifetime=meters)
    for seconds, power, event in steps:
        now += seconds
        if car:
            lifetime = round(lifetime + power * seconds / 3600, 3)
            session = round(session + power * seconds / 3600, 3)
            duration += seconds
        if event in {"plug", "unplug"}:
            if event == "plug":
                session = 0.0
                duration = 0.0
            car = event == "plug"
        elif event == "midnight":
            session = 0.0
        elif event == "restart":
            readings_store = restored(json.loads(json.dumps(readings_store.export())))
        values: dict[Property[Any], object] = {
            CAR_CONNECTED: car,
            SESSION_ENERGY: session,
            SESSION_DURATION: duration,
        }
        if meters or event == "total":
            values[LIFETIME_ENERGY] = lifetime
        readings_store.take(shown(values, at=now), meters_lifetime=meters)
        total = value(readings_store, LIFETIME_ENERGY)
        assert total is not None
        assert total <= lifetime + 0.001 * len(steps)
        if LIFETIME_ENERGY in values:
            assert total == pytest.approx(lifetime, abs=0.001 * len(steps))


@given(st.lists(st.tuples(st.sampled_from([30, 120, 8 * 3600]), st.floats(0, 22)), min_size=1, max_size=8), st.data())
def test_energy_of_seen_sessions_never_lost(session: list[tuple[int, float]], data: st.DataObject) -> None:
    """No total follows the first one; outages and restarts within a session lose no energy."""
    readings_store = ReadingsStore()
    take(readings_store, {LIFETIME_ENERGY: 1000.0, SESSION_ENERGY: 0.0, CAR_CONNECTED: False}, at=0)
    now = 0.0
    truth = 1000.0
    for _ in range(3):
        energy = 0.0
        for look, (seconds, power) in enumerate([(30, 0.0), (30, 0.0), *session]):
            now += seconds
            energy = round(energy + power * seconds / 3600, 3)
            if look > 1 and data.draw(st.booleans()):
                readings_store = restored(json.loads(json.dumps(readings_store.export())))
            take(readings_store, {CAR_CONNECTED: True, SESSION_ENERGY: energy}, at=now)
        take(readings_store, {CAR_CONNECTED: False, SESSION_ENERGY: energy}, at=now + 30)
        take(readings_store, {CAR_CONNECTED: False, SESSION_ENERGY: energy}, at=now + 60)
        now += 90
        truth += energy
        assert value(readings_store, LIFETIME_ENERGY) == pytest.approx(truth, abs=0.02)


# The store


def restored(stored: object) -> ReadingsStore:
    readings_store = ReadingsStore()
    readings_store.restore(stored)
    return readings_store


stored_values = st.fixed_dictionaries(
    {},
    optional={
        CHARGING_CURRENT: st.floats(0, 80),
        WIRE_RATING: st.floats(0, 80),
        LIFETIME_ENERGY: st.floats(0, 1e6),
        SESSION_COST: st.floats(0, 1e6),
        ECO_MODE: st.sampled_from(EcoMode),
        ROLE: st.sampled_from(Role),
        FIRMWARE: st.text(),
        CURRENCY: st.text(),
        OCPP: st.booleans(),
        SCHEDULE: st.sampled_from([(), (NIGHT,)]),
        STATUS: st.sampled_from(Status),
        POWER: st.floats(0, 22e3),
    },
)


@given(stored_values, st.sampled_from([Source.CLOUD, Source.BLUETOOTH, Source.UDP]), st.floats(0, 1e6))
def test_readings_that_are_not_live_restored_unchanged(
    values: dict[Property[Any], object], source: Source, at: float
) -> None:
    readings_store = store_of(shown(values, at=at, source=source))
    back = restored(json.loads(json.dumps(readings_store.export())))
    kept = {prop: reading for prop, reading in readings_store.visible(at, {source})[0].items() if prop.kind != "live"}
    assert dict(back.visible(at, {source})[0].items()) == kept
    assert all(reading.observed_at == kept[prop].observed_at for prop, reading in back.visible(at, ())[0].items())
    assert all(reading.observed_mono == -inf for _, reading in back.visible(at, ())[0].items())


def test_stored_reading_replaces_no_known_reading_and_yields_to_new_reading() -> None:
    old = store_of(shown({CHARGING_CURRENT: 16.0, WIRE_RATING: 32.0}, at=10)).export()
    readings_store = store_of(shown({CHARGING_CURRENT: 10.0}, at=0))
    readings_store.restore(old)
    assert value(readings_store, CHARGING_CURRENT) == 10.0
    assert value(readings_store, WIRE_RATING) == 32.0
    readings_store.take(shown({WIRE_RATING: 25.0}, at=-500), meters_lifetime=True)
    assert value(readings_store, WIRE_RATING) == 25.0


AT = "2026-11-02T12:00:00+00:00"


@pytest.mark.parametrize(
    ("key", "entry"),
    [
        ("charging_current", None),
        ("charging_current", [16, "cloud", AT]),
        ("charging_current", {}),
        ("charging_current", {"value": "16", "source": "cloud", "observed_at": AT}),
        ("charging_current", {"value": True, "source": "cloud", "observed_at": AT}),
        ("charging_current", {"value": inf, "source": "cloud", "observed_at": AT}),
        ("charging_current", {"value": 10**400, "source": "cloud", "observed_at": AT}),
        ("charging_current", {"value": 16, "source": "moon", "observed_at": AT}),
        ("charging_current", {"value": 16, "source": "cloud", "observed_at": "noon"}),
        ("charging_current", {"value": 16, "source": "cloud", "observed_at": "2026-11-02T12:00:00"}),
        ("charging_current", {"value": 16, "source": "cloud"}),
        ("eco_mode", {"value": "lunar", "source": "cloud", "observed_at": AT}),
        ("firmware", {"value": 7, "source": "cloud", "observed_at": AT}),
        ("ocpp", {"value": "no", "source": "cloud", "observed_at": AT}),
        ("schedule", {"value": [{}], "source": "cloud", "observed_at": AT}),
        ("status", {"value": "charging", "source": "cloud", "observed_at": AT}),  # live values are not stored
        ("warp_drive", {"value": 9, "source": "cloud", "observed_at": AT}),
    ],
)
def test_invalid_stored_reading_left_out_and_the_rest_restored(key: str, entry: object) -> None:
    good = {"value": 25, "source": "cloud", "observed_at": AT}
    readings_store = restored({key: entry, "house_limit": good})
    assert {prop.key for prop, _ in readings_store.visible(0, ())[0].items()} == {"house_limit"}


@pytest.mark.parametrize("key", ["lifetime_energy", "session_energy"])
@pytest.mark.parametrize(
    "counters",
    [None, [], {"moon": {"value": 1.0, "observed_at": AT}}, {"cloud": None}, {"cloud": {"value": "1"}}, {"cloud": {}}],
)
def test_invalid_stored_counters_left_out(key: str, counters: object) -> None:
    entry = {"value": 25.0, "source": "cloud", "observed_at": AT}
    assert restored({key: {**entry, "counters": counters}}).export() == {key: entry}


def test_store_that_is_no_mapping_left_out() -> None:
    assert restored(["charging_current"]).export() == {}
    assert restored(None).export() == {}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
counters = st.dictionaries(
    st.sampled_from(Source),
    st.fixed_dictionaries(
        {},
        optional={
            "value": st.floats(0, 10) | json_values,
            "observed_at": st.just(AT) | json_values,
            "offset": json_values,
            "before": json_values,
        },
    )
    | json_values,
)
entries = (
    st.fixed_dictionaries(
        {"value": st.floats(0, 10) | json_values, "source": json_values | st.sampled_from(Source)},
        optional={"observed_at": st.just(AT), "counters": counters | json_values},
    )
    | json_values
)


@given(st.dictionaries(st.sampled_from(sorted(PROPERTIES)) | st.text(max_size=5), entries) | json_values)
def test_readings_store_restores_any_content_without_error(stored: object) -> None:
    readings_store = restored(stored)
    assert restored(readings_store.export()).export() == readings_store.export()
