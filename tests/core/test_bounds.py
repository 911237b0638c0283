"""A limit never vanishes because an answer lacked it. Its last value remains a bound, marked as cached."""

import pytest

from custom_components.chargekeeper.core.charger.readings import ReadingsStore
from custom_components.chargekeeper.core.limits import Limits, ceiling
from custom_components.chargekeeper.core.model import (
    HOUSE_LIMIT,
    LOAD_GROUP_LIMIT,
    OFFLINE_CURRENT,
    UNIT_RATING,
    WIRE_RATING,
    LimitingFactor,
    Property,
    Reading,
    Readings,
    Source,
)
from custom_components.chargekeeper.core.reading_builder import ReadingBuilder, Timestamp
from tests.simulators.clock import START

BOUNDS = (WIRE_RATING, UNIT_RATING, HOUSE_LIMIT, LOAD_GROUP_LIMIT, OFFLINE_CURRENT)


def answer(limit: Property[float], amps: float | None, at: float, source: Source = Source.CLOUD) -> Readings:
    builder = ReadingBuilder(source, Timestamp(START, at))
    builder.put_limit(limit, amps)
    return builder.readings


def shown(store: ReadingsStore, limit: Property[float]) -> tuple[float, Source] | None:
    readings, _ = store.visible(100, {Source.CLOUD})
    reading = readings.get(limit)
    return None if reading is None else (reading.value, reading.source)


@pytest.mark.parametrize("limit", BOUNDS)
def test_unreadable_limit_keeps_last_value_as_cached(limit: Property[float]) -> None:
    store = ReadingsStore()
    store.take(answer(limit, 25, 10), meters_lifetime=True)
    assert shown(store, limit) == (25, Source.CLOUD)
    store.take(answer(limit, None, 20), meters_lifetime=True)
    assert shown(store, limit) == (25, Source.CACHE)
    store.take(answer(limit, 32, 30), meters_lifetime=True)
    assert shown(store, limit) == (32, Source.CLOUD)


def test_unreadable_limit_still_binds() -> None:
    store = ReadingsStore()
    store.take(answer(WIRE_RATING, 32, 10), meters_lifetime=True)
    store.take(answer(HOUSE_LIMIT, 20, 10), meters_lifetime=True)
    store.take(answer(HOUSE_LIMIT, None, 20), meters_lifetime=True)
    readings, _ = store.visible(100, {Source.CLOUD})
    assert ceiling(Limits.of(readings)) == (20, LimitingFactor.HOUSE_LIMIT)


def test_older_unreadable_answer_changes_nothing() -> None:
    store = ReadingsStore()
    store.take(answer(HOUSE_LIMIT, 20, 10), meters_lifetime=True)
    store.take(answer(HOUSE_LIMIT, None, 5), meters_lifetime=True)
    assert shown(store, HOUSE_LIMIT) == (20, Source.CLOUD)


def test_limit_of_the_user_stays_the_users() -> None:
    store = ReadingsStore()
    mine = Readings()
    mine.put(WIRE_RATING, Reading(32.0, Source.USER, START, 10))
    store.take(mine, meters_lifetime=True)
    store.take(answer(WIRE_RATING, None, 20), meters_lifetime=True)
    assert shown(store, WIRE_RATING) == (32, Source.USER)


def test_unknown_limit_stays_unknown() -> None:
    store = ReadingsStore()
    store.take(answer(HOUSE_LIMIT, None, 20), meters_lifetime=True)
    assert shown(store, HOUSE_LIMIT) is None


def test_lifted_limit_vanishes() -> None:
    store = ReadingsStore()
    store.take(answer(HOUSE_LIMIT, 20, 10), meters_lifetime=True)
    lifted = Readings()
    lifted.retract(HOUSE_LIMIT, 20)
    store.take(lifted, meters_lifetime=True)
    assert shown(store, HOUSE_LIMIT) is None


def test_unreadable_limit_survives_a_restart() -> None:
    store = ReadingsStore()
    store.take(answer(HOUSE_LIMIT, 20, 10), meters_lifetime=True)
    store.take(answer(HOUSE_LIMIT, None, 20), meters_lifetime=True)
    again = ReadingsStore()
    again.restore(store.export())
    assert shown(again, HOUSE_LIMIT) == (20, Source.CACHE)
    assert answer(HOUSE_LIMIT, None, 20).copy().unreadable == {HOUSE_LIMIT.key: 20}
