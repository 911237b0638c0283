"""Members of a load group at the simulated cloud: no current can be set, more is drawn, or somebody starts them."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from custom_components.chargekeeper.core.load_group.group import LoadGroup
from custom_components.chargekeeper.core.load_group.shares import GroupSpec, Member
from custom_components.chargekeeper.core.model import POWER, Maker
from tests.simulators.world import Car, Manual, SimulatedCharger, State
from tests.wallbox.conftest import CHARGING, WAITING, Bench


def drawn(bench: Bench) -> int:
    """Return the current in A that the cars of both members draw now."""
    bench.world.advance()
    members = [bench.charger(serial) for serial in (CHARGING, WAITING)]
    return sum(charger.amperes for charger in members if charger.state is State.CHARGING)


async def prepare(bench: Bench, *, amps: int = 6) -> None:
    """Let both members charge with `amps`, on one phase, without a schedule."""
    for serial in (WAITING, CHARGING):
        charger = bench.charger(serial)
        charger.home_sharing = False
        charger.schedules = ()
        charger.phases = 1
        charger.car = Car(wants_kwh=500, phases=1)
        charger.max_charging_current = amps
    await bench.settle_in()
    await bench.clock.advance(600)


async def start_group(bench: Bench, limit: float) -> LoadGroup:
    async def save(_: dict[str, object]) -> None:
        """Home Assistant does not restart here."""

    members = tuple(Member((Maker.WALLBOX, serial)) for serial in (CHARGING, WAITING))
    group = LoadGroup(bench.clock, GroupSpec("Garage", limit, members), save)
    for serial in (CHARGING, WAITING):
        group.attach(bench.chargers[serial])
    group.start()
    return group


@contextmanager
def drawing(serial: str, amps: int) -> Iterator[None]:
    """Let the car at a charger draw `amps` whatever the charger is set to."""
    real = vars(SimulatedCharger)["amperes"].fget
    changed = property(lambda charger: amps if charger.serial == serial else real(charger))
    with patch.object(SimulatedCharger, "amperes", changed):
        yield


async def test_member_whose_current_the_account_may_not_set_paused(bench: Bench) -> None:
    await prepare(bench)
    bench.cloud.accounts[0].role = "user"
    group = await start_group(bench, 20)
    await bench.clock.advance(300)
    bench.charger(CHARGING).max_charging_current = 32
    await bench.clock.advance(300)
    seconds_over = 0
    for _ in range(720):
        await bench.clock.advance(10)
        seconds_over += 10 * (drawn(bench) > 20)
    assert seconds_over < 300
    assert bench.charger(CHARGING).state is State.PAUSED
    assert drawn(bench) == 6, "the other one goes on"
    await group.stop()


async def test_measured_current_above_setting_counts(bench: Bench) -> None:
    await prepare(bench, amps=16)
    group = await start_group(bench, 32)
    await bench.clock.advance(600)
    with drawing(CHARGING, 32):
        highest = 0.0
        for _ in range(180):
            await bench.clock.advance(10)
            highest = max(highest, group.view.allocated or 0)
        assert highest == 48
        assert drawn(bench) <= 32
    await group.stop()


async def test_one_wrong_measurement_reduces_nobody(bench: Bench) -> None:
    await prepare(bench, amps=16)
    group = await start_group(bench, 32)
    await bench.clock.advance(600)
    with drawing(CHARGING, 32):
        await bench.clock.advance_until(
            lambda: (bench.snapshot(CHARGING).value(POWER) or 0) > 7000, within=300, step=5.0
        )
    await bench.clock.advance(900)
    assert (drawn(bench), group.view.headroom) == (32, 0)
    await group.stop()


async def test_member_without_share_started_in_the_app_paused_within_one_poll(bench: Bench) -> None:
    await prepare(bench, amps=16)
    group = await start_group(bench, 11)
    await bench.clock.advance(900)
    assert list(group.view.shares.values()) == [6, 0]
    assert (group.view.allocated, group.view.headroom) == (12, -1)
    assert bench.charger(WAITING).state is State.PAUSED
    seconds_over = highest = 0
    for n in range(720):
        if n % 60 == 0:
            bench.charger(WAITING).manual = Manual.CHARGE
        await bench.clock.advance(5)
        now = drawn(bench)
        highest = max(highest, now)
        seconds_over += 5 * (now > 11)
    assert highest == 12, "the lowest current of both"
    assert seconds_over <= 12 * 130, "one poll after each of twelve starts"
    await group.stop()


async def test_two_members_never_exceed_lowest_limit_that_the_flow_accepts(bench: Bench) -> None:
    await prepare(bench, amps=16)
    group = await start_group(bench, 12)
    await bench.clock.advance(900)
    assert list(group.view.shares.values()) == [6, 6]
    for n in range(720):
        if n % 60 == 0:
            bench.charger(WAITING).manual = Manual.CHARGE
        await bench.clock.advance(5)
        assert drawn(bench) <= 12
    await group.stop()
