"""Tests of the energy per quarter hour: the day of each slot, and storage."""

from datetime import UTC, datetime, timedelta
import json
from zoneinfo import ZoneInfo

import pytest

from custom_components.chargekeeper.juicebox.interval_energy import (
    HIGHEST_ENERGY,
    SLOTS,
    EnergyInterval,
    IntervalEnergy,
)

from .site import Site

ZONE = "Europe/Lisbon"
LOCAL = ZoneInfo(ZONE)
DAY = datetime(2026, 6, 10, tzinfo=LOCAL)


def local(hour: int, minute: int = 0, second: int = 0) -> datetime:
    return DAY.replace(hour=hour, minute=minute, second=second)


@pytest.mark.parametrize(
    ("now", "slot", "start"),
    [
        (local(12), 47, local(11, 45)),
        (local(12, 5), 48, local(12)),
        (local(12), 50, local(12, 30) - timedelta(days=1)),
        (local(12), 95, local(23, 45) - timedelta(days=1)),
        (local(0, 0, 10), 95, local(23, 45) - timedelta(days=1)),
        (local(23, 59), 1, local(0, 15)),
    ],
)
def test_slot_belongs_to_day_of_its_last_start(now: datetime, slot: int, start: datetime) -> None:
    quarters = IntervalEnergy()
    quarters.record(slot, 250, now, ZONE)
    [quarter] = quarters.known(now)
    assert quarter == EnergyInterval(start.astimezone(UTC), 250, now)
    assert quarter.complete is (now - start >= timedelta(minutes=15))


@pytest.mark.parametrize(
    ("now", "slot"),
    [(local(11, 58, 30), 48), (local(12, 1), 48), (local(23, 59), 0), (local(0, 1), 0)],
)
def test_slot_of_uncertain_day_is_left_out(now: datetime, slot: int) -> None:
    quarters = IntervalEnergy()
    quarters.record(slot, 250, now, ZONE)
    assert quarters.known(now) == []


@pytest.mark.parametrize(
    ("day", "expected_count"),
    [
        (datetime(2027, 3, 28, 12), SLOTS - 4 - 1),  # the hour from 1 to 2 is left out
        (datetime(2026, 10, 25, 12), SLOTS - 4 - 1),  # the oldest slots began 25 hours ago
        (datetime(2026, 10, 26, 0, 10), SLOTS - 4),
    ],
)
def test_slots_stay_unique_across_clock_change(day: datetime, expected_count: int) -> None:
    """Expect no interval for slots near their start, whose day is uncertain."""
    quarters, now = IntervalEnergy(), day.replace(tzinfo=LOCAL).astimezone(UTC)
    for slot in range(SLOTS):
        quarters.record(slot, slot, now, ZONE)
    starts = [quarter.start for quarter in quarters.known(now)]
    assert len(starts) == len(set(starts)) == expected_count
    assert all(now - timedelta(days=1) < start <= now for start in starts)


def test_missing_or_absurd_energy_is_left_out() -> None:
    quarters = IntervalEnergy()
    for energy in (-1, HIGHEST_ENERGY + 1):
        quarters.record(40, energy, local(12), ZONE)
    assert quarters.known(local(12)) == []


def test_later_energy_replaces_earlier_and_expires_after_one_day() -> None:
    quarters = IntervalEnergy()
    quarters.record(47, 100, local(11, 50), ZONE)
    quarters.record(47, 230, local(12, 10), ZONE)
    quarters.record(40, 90, local(12, 11), ZONE)
    assert [quarter.energy for quarter in quarters.known(local(12, 12))] == [90, 230]
    assert quarters.known(local(11, 45) + timedelta(days=1)) == []


def test_stored_intervals_are_restored_except_damaged_entries() -> None:
    quarters = IntervalEnergy()
    for slot in range(SLOTS):
        quarters.record(slot, slot, local(12, 8), ZONE)
    stored = json.loads(json.dumps(quarters.export()))
    again = IntervalEnergy()
    again.restore(stored)
    assert again == quarters
    assert len(again.known(local(12, 8))) == SLOTS
    damaged = IntervalEnergy()
    damages: list[object] = [
        None,
        [],
        {"x": [1, 2, 3], "96": [1, 2, 3], "1": [1, 2], "2": [1, 2.5, 3], "3": [1e99, 2, 3]},
    ]
    for entries in damages:
        damaged.restore(entries)
    damaged.restore({"4": [10**30, 2, 3], "5": "text"})
    assert damaged == IntervalEnergy()


async def test_box_reports_counted_interval_energy(site: Site) -> None:
    await site.clock.advance(3 * 3600)
    counted = {slot: energy for slot, energy in site.sim.slots.items() if energy > 0}
    reported = {quarter.start: quarter for quarter in site.box.state.quarters.known(site.clock.now())}
    complete = [quarter for quarter in reported.values() if quarter.complete and quarter.energy > 0]
    assert len(complete) >= 10
    assert {quarter.energy for quarter in complete} <= {round(energy) for energy in counted.values()}
    assert sum(quarter.energy for quarter in complete) == pytest.approx(site.sim.watts * 0.25 * len(complete), rel=0.05)


async def test_power_cut_of_box_keeps_reported_intervals(site: Site) -> None:
    await site.clock.advance(2 * 3600)
    before = {quarter.start for quarter in site.box.state.quarters.known(site.clock.now()) if quarter.complete}
    assert len(before) > 4
    site.sim.switch_off()
    await site.clock.advance(20)
    site.sim.switch_on()
    await site.clock.advance(120)
    assert {quarter.start for quarter in site.box.state.quarters.known(site.clock.now())} >= before
