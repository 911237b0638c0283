"""What the cloud stops to tell: a limit remains as a bound, and a setting is unknown so that nothing acts on it."""

import pytest

from custom_components.chargekeeper.core.load_group.group import LoadGroup
from custom_components.chargekeeper.core.load_group.shares import GroupSpec, Member
from custom_components.chargekeeper.core.model import (
    CHARGING_CURRENT,
    HOUSE_LIMIT,
    POWER,
    STATUS,
    WIRE_RATING,
    Maker,
    Status,
)
from tests.simulators.world import Car, State
from tests.wallbox.conftest import CHARGING, Bench
from tests.wallbox.rig import Listener
from tests.wallbox.test_transport import _Charger


@pytest.mark.parametrize(
    "lost",
    [
        {"home_sharing": 1, "icp_max_current": None},
        {"home_sharing": 1, "icp_max_current": -5},
        {"home_sharing": 1, "icp_max_current": "x"},
        {"home_sharing": None, "icp_max_current": None},
        {"icp_max_current": 25},
        {},
    ],
)
async def test_unreadable_house_limit_remains_a_bound(lost: dict[str, object]) -> None:
    charger = _Charger()
    await charger.status(icp_max_current=25, home_sharing=1, max_available_current=32)
    await charger.status(lost)
    assert charger.listener.value(HOUSE_LIMIT) == 25
    assert charger.listener.value(WIRE_RATING) == 32
    assert {HOUSE_LIMIT.key, WIRE_RATING.key} <= charger.transport._known.unreadable.keys()
    late = Listener(charger.transport, charger.clock)
    charger.transport.listen(late)
    assert late.value(HOUSE_LIMIT) == 25
    await charger.status(icp_max_current=20, home_sharing=1)
    assert charger.transport._known.unreadable.keys() == {WIRE_RATING.key}


@pytest.mark.parametrize("lost", [-16, 0, None, "16", 200, True])
async def test_unreadable_setting_unknown_until_it_is_readable(lost: object) -> None:
    charger = _Charger()
    await charger.listed()
    await charger.status(max_charging_current=16)
    assert charger.listener.value(CHARGING_CURRENT) == 16
    await charger.listed(maxChargingCurrent=lost)
    assert charger.listener.value(CHARGING_CURRENT) is None
    await charger.listed(maxChargingCurrent=10)
    assert charger.listener.value(CHARGING_CURRENT) == 10
    await charger.status(max_charging_current=lost)
    assert charger.listener.value(CHARGING_CURRENT) is None


async def test_setting_missing_from_an_answer_stays() -> None:
    charger = _Charger()
    await charger.listed()
    await charger.listed(maxChargingCurrent="missing")
    await charger.status()
    assert charger.listener.value(CHARGING_CURRENT) == 16


@pytest.mark.parametrize("lost", [None, "x", 1000])
async def test_unreadable_power_unknown_at_once(lost: object) -> None:
    charger = _Charger()
    await charger.listed(status=194, chargingPower=3.2)
    await charger.listed(status=194, chargingPower=3.3)
    assert charger.listener.value(POWER) == 3300
    await charger.listed(status=194, chargingPower=lost)
    assert charger.listener.value(POWER) is None
    await charger.listed(status=161, chargingPower=lost)
    assert charger.listener.value(POWER) == 0


async def test_nothing_automatic_acts_on_negative_setting(bench: Bench) -> None:
    """A Quasar that discharges reports -16. A limit that falls then lowers nothing."""
    charger = bench.charger(CHARGING)
    charger.home_sharing = True
    charger.icp_max_current = 32
    charger.schedules = ()
    charger.max_charging_current = 16
    await bench.settle_in()
    await bench.clock.advance(600)
    assert bench.snapshot(CHARGING).value(CHARGING_CURRENT) == 16
    charger.max_charging_current = -16
    await bench.clock.advance(300)
    assert bench.snapshot(CHARGING).value(CHARGING_CURRENT) is None
    sent = bench.cloud.count("PUT")
    charger.icp_max_current = 10
    await bench.clock.advance(20 * 60)
    assert bench.snapshot(CHARGING).value(HOUSE_LIMIT) == 10
    assert bench.cloud.count("PUT") == sent
    charger.max_charging_current = 16
    await bench.clock.advance(300)
    assert charger.max_charging_current == 10, "once the setting is known again"


async def test_load_group_pauses_member_with_unknown_setting(bench: Bench) -> None:
    charger = bench.charger(CHARGING)
    charger.home_sharing = False
    charger.schedules = ()
    charger.car = Car(wants_kwh=500, phases=1)
    charger.max_charging_current = 16
    await bench.settle_in()

    async def save(_: dict[str, object]) -> None:
        """Home Assistant does not restart here."""

    group = LoadGroup(bench.clock, GroupSpec("Garage", 20, (Member((Maker.WALLBOX, CHARGING)),)), save)
    group.attach(bench.chargers[CHARGING])
    group.start()
    await bench.clock.advance(300)
    assert (bench.snapshot(CHARGING).value(STATUS), group.view.allocated) == (Status.CHARGING, 20)
    charger.max_charging_current = -16
    await bench.clock.advance(300)
    states = [charger.state]
    sent = bench.cloud.count("PUT")
    await bench.clock.advance(1800)
    states.append(charger.state)
    assert bench.cloud.count("PUT") == sent
    charger.max_charging_current = 16
    await bench.clock.advance(900)
    states.append(charger.state)
    assert states == [State.PAUSED, State.PAUSED, State.CHARGING]
    await group.stop()
