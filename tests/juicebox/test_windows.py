"""Tests of the user's charging hours on a box without a server: weekdays, weekend, midnight and clock changes."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from custom_components.chargekeeper.juicebox.box import BoxConfig
from custom_components.chargekeeper.juicebox.juicenet.client import Day, Tou
from tests.simulators.clock import VirtualClock
from tests.simulators.juicebox import Car

from .conftest import MakeSite
from .rig import HERE
from .site import Site
from .vectors import SERIAL

ZONE = "Europe/Berlin"
SWITCHED = 400.0
"""Seconds until a switch reaches the car: the guard between on and off, and one status."""
FREE = Day(0, 1440)


def hours(start: int, end: int) -> Day:
    """Return a window of full hours."""
    return Day(start * 60, end * 60)


def config(weekday: Day, weekend: Day) -> BoxConfig:
    windows = Tou(enabled=True, weekday=weekday, weekend=weekend).windows(ZONE)
    return BoxConfig(serial=SERIAL, host=HERE, wire_rating=32, in_maker_load_group=False, schedule=windows, zone=ZONE)


async def allowed_in(site: Site, number: int) -> list[int]:
    """Return those of the next `number` local hours in which the box may charge, well after the hour began."""
    found = []
    for _ in range(number):
        await site.clock.advance(SWITCHED)
        if site.sim.in_force:
            found.append(site.clock.now().astimezone(ZoneInfo(ZONE)).hour)
        await site.clock.advance(3600 - SWITCHED)
    return found


async def site_at(make_site: MakeSite, start: datetime, config: BoxConfig) -> Site:
    """Return a site at the full hour after `start`. Its car waits for a timer, and its limit is learned."""
    site = make_site(clock=VirtualClock(start.replace(minute=50)), served=False, config=config)
    site.sim.plug_in(Car(ready=False))
    await site.start(plugged=False)
    await site.clock.advance(600)
    return site


@pytest.mark.parametrize(
    ("day", "weekday", "weekend", "allowed"),
    [
        (6, hours(22, 2), hours(3, 4), [22, 23, 3]),  # Friday evening; the morning part of the window is on Friday too
        (6, hours(22, 2), FREE, [22, 23, 0, 1, 2, 3, 4]),
        (7, hours(3, 4), hours(22, 2), [22, 23, 0, 1]),  # from Saturday to Sunday
        (8, hours(22, 2), hours(21, 22), [21, 0, 1]),  # Monday has its morning part, Sunday no other
    ],
)
async def test_weekday_and_weekend_hours_apply_across_midnight(
    make_site: MakeSite, day: int, weekday: Day, weekend: Day, allowed: list[int]
) -> None:
    site = await site_at(make_site, datetime(2026, 11, day, 19, tzinfo=UTC), config(weekday, weekend))
    assert await allowed_in(site, 8) == allowed
    assert (site.sim.fallbacks, site.sim.writes) == (0, 0)


@pytest.mark.parametrize(
    ("start", "allowed"),
    [
        (datetime(2026, 10, 24, 21, tzinfo=UTC), [1, 2, 2, 3]),  # one more hour
        (datetime(2027, 3, 27, 22, tzinfo=UTC), [1, 3]),  # one hour fewer
    ],
)
async def test_hours_follow_local_clock_across_clock_change(
    make_site: MakeSite, start: datetime, allowed: list[int]
) -> None:
    site = await site_at(make_site, start, config(FREE, hours(1, 4)))
    assert await allowed_in(site, 6) == allowed
    last = site.sim.commands[-1]
    sent_at = site.clock.now() - timedelta(seconds=site.clock.monotonic() - last.at)
    local = sent_at.astimezone(ZoneInfo(ZONE))
    command_time = (last.command.weekday, last.command.hour, last.command.minute)
    assert command_time == (local.isoweekday() % 7, local.hour, local.minute)
