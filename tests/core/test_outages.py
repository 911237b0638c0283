"""The outage log: what it records, for how long, and what it restores from the store."""

from datetime import UTC, datetime, timedelta
import json

from hypothesis import given, strategies as st
import pytest

from custom_components.chargekeeper.core.outage_log import MAX_OUTAGES, REPLAY_WITHIN, Outage, OutageLog
from tests.simulators.clock import START, VirtualClock


class Record:
    """An outage log and the number of its change notifications."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.changes = 0
        self.log = OutageLog(self.clock, self._changed)

    def _changed(self) -> None:
        self.changes += 1


async def test_outage_records_times_served_properties_and_replays() -> None:
    record = Record()
    log = record.log
    log.begin(START - timedelta(seconds=20))
    log.begin(START)  # the outage continues
    log.serve("1", ["wire_rating", "house_limit"])
    log.serve("1", ["wire_rating"])
    log.serve("2", [])
    log.replay("1", "tou_override")
    await record.clock.advance(600)
    log.end()
    log.end()
    assert log.outages == [
        Outage(
            START - timedelta(seconds=20),
            START + timedelta(seconds=600),
            {"1": ("house_limit", "wire_rating")},
            {"1": ("tou_override",)},
        )
    ]
    assert record.changes == 4


async def test_nothing_recorded_without_outage() -> None:
    record = Record()
    record.log.serve("1", ["wire_rating"])
    record.log.replay("1", "tou_override")
    record.log.end()
    record.log.forget("1")
    assert (record.log.outages, record.log.open, record.changes) == ([], False, 0)


async def test_replay_long_after_outage_not_recorded() -> None:
    record = Record()
    record.log.begin(None)
    record.log.end()
    record.log.serve("1", ["wire_rating"])
    await record.clock.advance(REPLAY_WITHIN.total_seconds())
    record.log.replay("1", "charging")
    await record.clock.advance(1)
    record.log.replay("1", "tou_override")
    assert record.log.outages == [Outage(START, START, {}, {"1": ("charging",)})]


async def test_outage_log_keeps_only_latest_outages() -> None:
    record = Record()
    for _ in range(MAX_OUTAGES + 3):
        record.log.begin(None)
        record.log.end()
        await record.clock.advance(60)
    assert len(record.log.outages) == MAX_OUTAGES
    assert record.log.outages[0].started_at == START + timedelta(minutes=3)


def test_forgotten_charger_removed_from_outages() -> None:
    record = Record()
    record.log.begin(None)
    for serial in ("1", "2"):
        record.log.serve(serial, ["wire_rating"])
        record.log.replay(serial, "tou_override")
    record.log.forget("1")
    assert record.log.outages == [Outage(START, None, {"2": ("wire_rating",)}, {"2": ("tou_override",)})]
    changes = record.changes
    record.log.forget("1")
    assert record.changes == changes


moments = st.datetimes(timezones=st.just(UTC))
names = st.dictionaries(st.text(max_size=4), st.lists(st.text(max_size=6), max_size=3).map(tuple), max_size=3)


@given(st.lists(st.builds(Outage, moments, st.none() | moments, names, names), max_size=5))
def test_outages_restored_unchanged_from_store(outages: list[Outage]) -> None:
    log, again = Record().log, Record().log
    log.outages = outages
    again.restore(json.loads(json.dumps(log.export())))
    assert again.outages == outages


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (None, []),
        ({"outages": []}, []),
        ([None, 7, {}, {"started_at": "noon"}, {"started_at": "2026-11-02T12:00:00"}], []),
        (
            [{"started_at": START.isoformat(), "ended_at": 5, "served": {"1": ["a", 2], "2": 7}, "replayed": []}],
            [Outage(START, None, {"1": ("a",)}, {})],
        ),
        ([{"started_at": datetime(2026, 1, 1, tzinfo=UTC).isoformat()}] * (MAX_OUTAGES + 1), MAX_OUTAGES),
    ],
)
def test_invalid_stored_outages_left_out(stored: object, expected: list[Outage] | int) -> None:
    log = Record().log
    log.restore(stored)
    assert (len(log.outages) if isinstance(expected, int) else log.outages) == expected
