"""A load group with real account and client against the simulated cloud: no command takes the group over its limit."""

import pytest

from custom_components.chargekeeper.core.errors import UnsafeRequest
from custom_components.chargekeeper.core.load_group.group import LoadGroup
from custom_components.chargekeeper.core.load_group.shares import GroupSpec, Member
from custom_components.chargekeeper.core.model import CHARGING_CURRENT, Maker, Outcome
from custom_components.chargekeeper.core.transport import START, STOP, SetCurrent
from tests.simulators.http_server import Fault
from tests.simulators.world import Car, State
from tests.wallbox.conftest import CHARGING, WAITING, Bench


def drawn(bench: Bench) -> int:
    """Return the current that both members draw now, in A."""
    bench.world.advance()
    members = [bench.charger(serial) for serial in (CHARGING, WAITING)]
    return sum(charger.amperes for charger in members if charger.state is State.CHARGING)


async def group_of(bench: Bench, limit: float) -> LoadGroup:
    """Return a group of two chargers that both charge with 6 A."""
    for serial in (WAITING, CHARGING):
        charger = bench.charger(serial)
        charger.home_sharing = False
        charger.schedules = ()
        charger.car = Car(wants_kwh=500, phases=1)
        charger.max_charging_current = 6
    await bench.settle_in()
    await bench.clock.advance(600)

    async def save(_: dict[str, object]) -> None:
        """Save nothing, because the test restarts nothing."""

    group = LoadGroup(
        bench.clock, GroupSpec("g", limit, tuple(Member((Maker.WALLBOX, s)) for s in (CHARGING, WAITING))), save
    )
    for serial in (CHARGING, WAITING):
        group.attach(bench.chargers[serial])
    group.start()
    await bench.clock.advance(300)
    assert drawn(bench) == 12
    return group


async def raise_in_the_app(bench: Bench, amperes: int) -> None:
    """Raise the current of one member in the maker's app, and wait until 10 s after the group has seen the change."""
    bench.charger(CHARGING).max_charging_current = amperes
    charger = bench.chargers[CHARGING]
    await bench.clock.advance_until(lambda: charger.snapshot.value(CHARGING_CURRENT) == amperes, within=200, step=0.5)
    await bench.clock.advance(10)


@pytest.mark.parametrize("fault", [Fault.ERROR_500, Fault.HANG, Fault.FORBIDDEN, Fault.SLOW])
async def test_raise_refused_until_other_member_is_seen_lowered(bench: Bench, fault: Fault) -> None:
    group = await group_of(bench, 32)
    bench.cloud.add_fault(fault, method="PUT", path_prefix=f"/v2/charger/{CHARGING}")
    await raise_in_the_app(bench, 32)
    with pytest.raises(UnsafeRequest, match=r"no_group_room|above_ceiling"):
        await bench.chargers[WAITING].command(SetCurrent(16))
    for _ in range(240):
        await bench.clock.advance(5)
        assert drawn(bench) <= 38, "more than the unpreventable excess"
    await bench.cloud.set_fault(Fault.NONE)
    await bench.clock.advance(1200)
    assert drawn(bench) <= 32
    assert await bench.chargers[WAITING].command(SetCurrent(16)) in {Outcome.ACCEPTED, Outcome.VERIFIED}
    await bench.clock.advance(300)
    assert bench.charger(WAITING).max_charging_current == 16
    await group.stop()


async def test_start_refused_and_lowering_allowed_while_other_member_draws_too_much(bench: Bench) -> None:
    group = await group_of(bench, 32)
    waiting = bench.chargers[WAITING]
    await waiting.command(SetCurrent(12))
    await waiting.command(STOP)
    await bench.clock.advance(150)
    bench.cloud.add_fault(Fault.HANG, method="PUT", path_prefix=f"/v2/charger/{CHARGING}")
    await raise_in_the_app(bench, 32)
    with pytest.raises(UnsafeRequest, match="no_group_room: 0"):
        await waiting.command(START)
    assert await waiting.command(SetCurrent(8)) is Outcome.ACCEPTED
    await group.stop()
