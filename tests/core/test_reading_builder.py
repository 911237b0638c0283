"""The reading builder: it turns one answer into readings of one moment."""

from math import inf

import pytest

from custom_components.chargekeeper.core.model import (
    CAR_CONNECTED,
    LIVE_AGE,
    POWER,
    STATUS,
    WIRE_RATING,
    Reading,
    Source,
    Status,
)
from custom_components.chargekeeper.core.reading_builder import ReadingBuilder, Timestamp
from tests.simulators.clock import START, VirtualClock


def test_timestamp_holds_same_moment_of_both_clocks() -> None:
    clock = VirtualClock()
    moment = Timestamp.of(clock)
    assert moment == Timestamp(clock.now(), clock.monotonic())
    earlier = moment.earlier(90)
    assert (
        (moment.observed_at - earlier.observed_at).total_seconds(),
        moment.observed_mono - earlier.observed_mono,
    ) == (90, 90)


@pytest.mark.parametrize(("live_age", "expected"), [(None, LIVE_AGE[Source.UDP]), (77.0, 77.0), (inf, inf)])
def test_only_live_readings_get_maximum_age(live_age: float | None, expected: float) -> None:
    builder = ReadingBuilder(Source.UDP, Timestamp(START, 5.0), live_age)
    builder.put(POWER, 11.0)
    builder.put(WIRE_RATING, 32.0)
    assert builder.readings.get(POWER) == Reading(11.0, Source.UDP, START, 5.0, expected)
    shown = builder.readings.get(POWER), builder.readings.get(WIRE_RATING)
    assert [None if each is None else each.max_age for each in shown] == [expected, inf]


def test_property_missing_from_answer_retracted() -> None:
    builder = ReadingBuilder(Source.CLOUD, Timestamp(START, 5.0))
    builder.put(STATUS, Status.CHARGING)
    builder.put(CAR_CONNECTED, None)
    builder.retract_missing((STATUS, CAR_CONNECTED), 6.0)
    assert CAR_CONNECTED not in builder.readings
    assert builder.readings.retracted == {CAR_CONNECTED.key: 6.0}
