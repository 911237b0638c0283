"""Reductions over the real account and the simulated cloud: on the wire within 5 s, whatever else is queued (K4)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta
import json

import pytest

from custom_components.chargekeeper.core.errors import ChargerError, GaveWay, TransportBusy
from custom_components.chargekeeper.core.load_group.group import LoadGroup
from custom_components.chargekeeper.core.load_group.shares import GroupSpec, Member
from custom_components.chargekeeper.core.model import CHARGING_CURRENT, Maker, Outcome
from custom_components.chargekeeper.core.transport import SetCharging, SetCurrent, SetLock, SetOverride
from custom_components.chargekeeper.wallbox.rate_limit import RequestBudgets
from tests.simulators.clock import VirtualClock
from tests.simulators.http_server import Fault, Request
from tests.simulators.wallbox_cloud import Resume
from tests.simulators.world import Car, State
from tests.wallbox.conftest import CHARGING, FREE, WAITING, Bench

from .rig import MINUTE, REFRESH, Rig, busiest, overdrawn, rigged

STOP = SetCharging(on=False)


def is_read(method: str, path: str) -> bool:
    """Return True if a request reads data."""
    return method == "GET" and not path.startswith("/users")


async def prepare(bench: Bench, serials: tuple[str, ...] = (WAITING, CHARGING)) -> None:
    """Let these chargers charge with 6 A each."""
    for serial in serials:
        charger = bench.charger(serial)
        charger.home_sharing = False
        charger.schedules = ()
        charger.car = Car(wants_kwh=500, phases=1)
        charger.max_charging_current = 6
    await bench.settle_in()
    await bench.clock.advance(600)


async def group_of(bench: Bench, limit: float, *serials: str) -> LoadGroup:
    """Start a load group of these chargers."""

    async def save(_: dict[str, object]) -> None: ...

    group = LoadGroup(bench.clock, GroupSpec("g", limit, tuple(Member((Maker.WALLBOX, s)) for s in serials)), save)
    for serial in serials:
        group.attach(bench.chargers[serial])
    group.start()
    return group


def writes(bench: Bench, since: float) -> list[Request]:
    """Return the requests that wrote something."""
    return [request for request in bench.cloud.requests if request.method != "GET" and request.at >= since]


def actions(bench: Bench, serial: str, since: float = 0.0) -> list[int]:
    """Return the remote actions that reached the cloud."""
    path = f"/v3/chargers/{serial}/remote-action"
    return [json.loads(request.body)["action"] for request in writes(bench, since) if request.path == path]


async def fill(bench: Bench, serial: str, waiting: int = 6) -> list[asyncio.Future[object]]:
    """Use the shared slots, and let more commands of another charger wait."""
    transport = bench.account.transport(serial)
    tasks: list[asyncio.Future[object]] = [
        asyncio.ensure_future(transport.execute(SetLock(n % 2 == 0), patience=5)) for n in range(3 + waiting)
    ]
    await bench.clock.advance(0)
    return tasks


async def took(bench: Bench, command: SetCharging | SetCurrent, serial: str = CHARGING) -> float:
    """Return the seconds until a command of the user is answered."""
    task = asyncio.ensure_future(bench.chargers[serial].command(command))
    seconds = await bench.clock.advance_until(task.done, within=400, step=0.5)
    await task
    return seconds


# Reads that are throttled


@pytest.mark.parametrize("fault", [Fault.TOO_MANY, Fault.FORBIDDEN])
async def test_pause_sent_while_reads_are_throttled(bench: Bench, fault: Fault) -> None:
    await bench.settle_in()
    await bench.cloud.set_fault(fault, matches=is_read)
    await bench.clock.advance(20 * MINUTE)
    assert await took(bench, STOP) <= 5
    assert bench.charger(CHARGING).state is not State.CHARGING


async def test_group_kept_while_reads_are_throttled(bench: Bench) -> None:
    await prepare(bench)
    group = await group_of(bench, 32, CHARGING, WAITING)
    await bench.clock.advance(300)
    bench.charger(CHARGING).max_charging_current = 32
    bench.cloud.add_fault(Fault.ERROR_500, method="PUT", next_requests=1)
    await bench.clock.advance_until(
        lambda: bench.snapshot(CHARGING).value(CHARGING_CURRENT) == 32, within=200, step=0.5
    )
    await bench.cloud.set_fault(Fault.TOO_MANY, matches=is_read)
    lowered = await bench.clock.advance_until(
        lambda: bench.charger(CHARGING).max_charging_current <= 16, within=7200, step=5
    )
    await group.stop()
    assert lowered < 120


@pytest.mark.parametrize("resume", [Resume.WORKS, Resume.CONFLICT])
async def test_override_ended_while_reads_are_throttled(bench: Bench, resume: Resume) -> None:
    await bench.settle_in()
    bench.cloud.resume[WAITING] = resume
    on = asyncio.ensure_future(bench.chargers[WAITING].set_override(True))
    await bench.clock.advance(400)
    assert bench.snapshot(WAITING).override.applied
    await on
    originals = bench.charger(WAITING).schedules
    await bench.cloud.set_fault(Fault.TOO_MANY, matches=is_read)
    await bench.clock.advance(20 * MINUTE)
    assert bench.charger(WAITING).state is State.CHARGING
    begun = bench.clock.monotonic()
    off = asyncio.ensure_future(bench.chargers[WAITING].set_override(False))
    await bench.clock.advance(5)
    assert await off is Outcome.ACCEPTED
    assert bench.charger(WAITING).state is not State.CHARGING
    assert actions(bench, WAITING, begun) == [9 if resume is Resume.WORKS else 2]
    await bench.cloud.set_fault(Fault.NONE)
    await bench.clock.advance(40 * MINUTE)
    assert bench.charger(WAITING).state is State.WAITING_SCHEDULE
    assert bench.charger(WAITING).schedules[0].enabled
    assert resume is Resume.WORKS or not originals[0].enabled
    assert actions(bench, WAITING, begun) == ([9] if resume is Resume.WORKS else [2, 9])
    assert not bench.chargers[WAITING].left_paused


@pytest.mark.parametrize("answered", [True, False])
async def test_charger_counts_as_paused_until_control_was_handed_back(bench: Bench, answered: bool) -> None:
    """The end of the override pauses first. A pause whose answer was lost may hold, so it counts."""
    await bench.settle_in()
    bench.cloud.resume[WAITING] = Resume.CONFLICT
    on = asyncio.ensure_future(bench.chargers[WAITING].set_override(True))
    await bench.clock.advance(400)
    await on
    if not answered:
        await bench.cloud.set_fault(Fault.HANG)
    ended = asyncio.ensure_future(bench.chargers[WAITING].cancel_override())
    await bench.clock.advance_until(ended.done, within=200)
    assert bench.chargers[WAITING].left_paused is not answered
    assert bench.charger(WAITING).state is (State.WAITING_SCHEDULE if answered else State.CHARGING)
    assert bool(await ended) is not answered


# A full budget


async def test_reduction_of_a_group_not_queued_behind_commands_of_other_chargers(bench: Bench) -> None:
    await prepare(bench)
    bench.cloud.enforce_limits = True
    group = await group_of(bench, 32, CHARGING, WAITING)
    await bench.clock.advance(300)

    async def storm(serial: str, make: Callable[[int], SetCurrent | SetLock]) -> None:
        number = 0
        while True:
            number += 1
            with suppress(ChargerError):
                await bench.chargers[serial].command(make(number))
            await bench.clock.sleep(5)

    storms = (
        (FREE, lambda number: SetCurrent(6 + number % 10)),
        (FREE, lambda number: SetLock(bool(number % 2))),
        (WAITING, lambda number: SetCurrent(6 + number % 10)),
    )
    tasks = [asyncio.ensure_future(storm(serial, make)) for serial, make in storms]
    await bench.clock.advance(300)
    seen_at: list[float] = []
    end = bench.chargers[CHARGING].listen(
        lambda shown: seen_at.append(bench.clock.monotonic()) if shown.value(CHARGING_CURRENT) == 32 else None
    )
    bench.charger(CHARGING).max_charging_current = 32
    await bench.clock.advance_until(lambda: bench.charger(CHARGING).max_charging_current <= 16, within=900, step=0.5)
    lowered_after = bench.clock.monotonic() - seen_at[0]
    end()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await group.stop()
    assert lowered_after <= 5
    assert busiest(writes(bench, 0), MINUTE) <= 5


async def test_first_two_reductions_sent_at_once_and_the_third_with_the_next_free_slot(bench: Bench) -> None:
    await prepare(bench, (WAITING, CHARGING, FREE))
    bench.charger(WAITING).max_charging_current = bench.charger(CHARGING).max_charging_current = 16
    await bench.clock.advance(300)
    begun = bench.clock.monotonic()
    fillers = await fill(bench, FREE)
    assert len(writes(bench, begun)) == 3
    for command, serial in ((SetCurrent(6), CHARGING), (STOP, WAITING)):
        assert await took(bench, command, serial) <= 1
    third = await took(bench, STOP, CHARGING)
    assert 55 <= third <= 60
    assert writes(bench, begun)[5].path.endswith(f"{CHARGING}/remote-action"), "before the commands that wait longer"
    assert busiest(writes(bench, begun), MINUTE) == 5
    await bench.clock.advance(180)
    await asyncio.gather(*fillers)
    # The effect of a pause is read back once from the reserve, sooner than a regular read.
    assert [violation for violation in bench.cloud.violations if violation.method != "GET"] == []


async def test_third_reduction_takes_a_free_shared_slot(bench: Bench) -> None:
    await bench.settle_in()
    for amps in (12, 11, 10, 9, 8):
        assert await took(bench, SetCurrent(amps)) <= 1


@pytest.fixture
async def rig(socket_enabled: None) -> AsyncIterator[Rig]:
    async with rigged() as rig:
        yield rig


async def test_reductions_that_wait_go_in_order_of_the_amperes_relieved(rig: Rig) -> None:
    await rig.settle_in()
    for number in range(5):
        await rig.transport(FREE).execute(SetLock(number % 2 == 0), patience=5, urgent=1)
    begun = rig.clock.monotonic()
    normal = rig.begin(rig.transport(FREE).execute(SetLock(True), patience=5))
    reductions = [
        rig.begin(rig.transport(CHARGING).execute(SetCurrent(amps), patience=5, urgent=32 - amps))
        for amps in (20, 6, 10)
    ]
    assert await rig.finish(normal, *reductions, within=200) == [None] * 4
    sent = [json.loads(request.body) for request in rig.writes(begun + 1)]
    assert sent == [{"maxChargingCurrent": amps} for amps in (6, 10, 20)] + [{"locked": 1}]
    assert overdrawn(rig, probes=False) == []


# An unclean stop


async def test_i6_two_reductions_sent_at_once_after_an_unclean_stop_and_no_more(rig: Rig) -> None:
    await rig.settle_in()
    await rig.clock.advance(MINUTE)
    begun = rig.clock.monotonic()
    for amps in (12, 11, 10, 9, 8):
        await rig.transport(FREE).execute(SetCurrent(amps), patience=5, urgent=1)
    await rig.restart(killed=True)
    reductions = [rig.begin(rig.transport(FREE).execute(SetCurrent(n), patience=5, urgent=1)) for n in (7, 6, 9)]
    await rig.clock.advance(5)
    assert len(rig.writes(begun)) == 7
    assert [task.done() for task in reductions] == [True, True, False]
    await rig.clock.advance(MINUTE - 6)
    assert len(rig.writes(begun)) == 7
    await rig.clock.advance(2)
    assert len(rig.writes(begun)) == 8


def test_i6_a_second_unclean_stop_within_a_minute_frees_no_slots() -> None:
    clock = VirtualClock()
    stored: dict[str, object] | None = {"clean": False}
    waits = []
    for pause in (0, 30, 61):
        clock = VirtualClock(clock.now() + timedelta(seconds=pause))
        budgets = RequestBudgets(clock)
        budgets.restore(stored)
        now = clock.monotonic()
        waits.append(
            (budgets.command_slot(now, urgent=True)[1] - now, budgets.command_slot(now, urgent=False)[1] - now)
        )
        stored = budgets.export() | {"clean": False}
    assert waits == [(0, 60), (60, 60), (0, 60)]


# Tokens


async def test_i6_a_token_is_refreshed_at_once_for_a_reduction_once_in_5_minutes(rig: Rig) -> None:
    await rig.settle_in()
    await rig.until_get(REFRESH, within=20 * MINUTE)
    begun = rig.clock.monotonic()
    rig.cloud.expire_access()
    await rig.transport(FREE).execute(SetCurrent(9), patience=5, urgent=1)
    assert rig.charger(FREE).max_charging_current == 9
    assert len(rig.gets(REFRESH, begun)) == 2
    await rig.clock.advance(30)
    rig.cloud.expire_access()
    with pytest.raises(TransportBusy, match="signing_in"):
        await rig.transport(FREE).execute(SetCurrent(8), patience=5, urgent=1)
    assert len(rig.gets(REFRESH, begun)) == 2
    assert rig.saved is not None
    stamps = rig.saved["stamps"]
    assert isinstance(stamps, dict)
    assert len(stamps["urgent_logins"]) == 1


async def test_other_commands_wait_for_the_sign_in_budget(rig: Rig) -> None:
    await rig.settle_in()
    await rig.until_get(REFRESH, within=20 * MINUTE)
    begun = rig.clock.monotonic()
    rig.cloud.expire_access()
    with pytest.raises(TransportBusy, match="signing_in"):
        await rig.transport(FREE).execute(SetLock(True), patience=5)
    assert len(rig.gets(REFRESH, begun)) == 1
    await rig.transport(FREE).execute(SetCurrent(9), patience=5, urgent=1)  # with the refused token known
    assert len(rig.gets(REFRESH, begun)) == 2
    assert [request.status for request in rig.writes(begun)] == [401, 200]


async def test_a_reduction_does_not_wait_for_the_renewal_of_a_valid_token(rig: Rig) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.HANG, path_prefix="/users/")
    await rig.until_get(REFRESH, within=20 * MINUTE)
    sending = rig.begin(rig.transport(FREE).execute(SetCurrent(9), patience=5, urgent=1))
    await rig.clock.advance(0)
    assert sending.done()
    assert rig.charger(FREE).max_charging_current == 9


# The lock of the charger


async def test_reduction_does_not_wait_for_the_read_of_a_restart(bench: Bench) -> None:
    await prepare(bench)
    group = await group_of(bench, 32, CHARGING, WAITING)
    await bench.clock.advance(300)
    bench.charger(CHARGING).max_charging_current = 16
    await bench.clock.advance(300)
    bench.account._budgets.close_reserve()
    await bench.clock.advance_until(
        lambda: bench.clock.monotonic() - bench.account._budgets.last_get < 1.5, within=200, step=1
    )
    press = asyncio.ensure_future(bench.chargers[CHARGING].restart())
    await bench.clock.advance(1)
    assert await took(bench, SetCurrent(6)) <= 5
    assert not press.done()
    await bench.clock.advance_until(press.done, within=130)
    (refused,) = await asyncio.gather(press, return_exceptions=True)
    assert isinstance(refused, ChargerError)
    assert "charging" in refused.reason
    await group.stop()


async def test_lower_current_cancels_a_raise_that_waits_for_a_slot(bench: Bench) -> None:
    await prepare(bench, (CHARGING,))
    bench.charger(CHARGING).max_charging_current = 10
    await bench.clock.advance(300)
    fillers = await fill(bench, FREE, waiting=0)
    begun = bench.clock.monotonic()
    raising = asyncio.ensure_future(bench.chargers[CHARGING].command(SetCurrent(16)))
    await bench.clock.advance(1)
    assert await took(bench, SetCurrent(8)) <= 1
    assert await raising is Outcome.ACCEPTED
    await bench.clock.advance(300)
    assert [json.loads(request.body) for request in writes(bench, begun + 0.5)] == [{"maxChargingCurrent": 8}]
    await asyncio.gather(*fillers)


async def test_pause_cancels_an_override_that_waits_for_a_slot(bench: Bench) -> None:
    await bench.settle_in()
    bench.charger(WAITING).max_charging_current = 16
    await bench.clock.advance(300)
    fillers = await fill(bench, FREE, waiting=0)
    begun = bench.clock.monotonic()
    on = asyncio.ensure_future(bench.chargers[WAITING].set_override(True))
    await bench.clock.advance(1)
    assert await took(bench, STOP, WAITING) <= 1
    assert await on is Outcome.PENDING
    await bench.clock.advance(600)
    assert actions(bench, WAITING, begun) == [2]
    assert not bench.snapshot(WAITING).override.on
    await asyncio.gather(*fillers)


async def test_lock_that_waits_for_a_slot_is_set_after_the_reduction(bench: Bench) -> None:
    await prepare(bench, (CHARGING,))
    fillers = await fill(bench, FREE, waiting=0)
    begun = bench.clock.monotonic()
    locking = asyncio.ensure_future(bench.chargers[CHARGING].command(SetLock(True)))
    await bench.clock.advance(1)
    assert await took(bench, STOP) <= 1
    assert not locking.done()
    await bench.clock.advance_until(locking.done, within=100)
    assert await locking is Outcome.ACCEPTED
    assert [request.method for request in writes(bench, begun + 0.5)] == ["POST", "PUT"]
    await asyncio.gather(*fillers)


async def test_raise_on_the_wire_is_answered_before_the_lower_current_is_sent(bench: Bench) -> None:
    await prepare(bench, (CHARGING,))
    bench.charger(CHARGING).max_charging_current = 10
    await bench.clock.advance(300)
    bench.cloud.add_fault(Fault.HANG, method="PUT", next_requests=1)
    begun = bench.clock.monotonic()
    raising = asyncio.ensure_future(bench.chargers[CHARGING].command(SetCurrent(16)))
    await bench.clock.advance(1)
    assert await took(bench, SetCurrent(8)) <= 5
    await asyncio.gather(raising, return_exceptions=True)
    sent = writes(bench, begun)
    assert [json.loads(request.body)["maxChargingCurrent"] for request in sent] == [16, 8]
    assert sent[1].at - sent[0].at == pytest.approx(5, abs=0.1)


async def test_reads_and_waits_of_a_charger_give_way(rig: Rig) -> None:
    await rig.settle_in()
    transport = rig.transport(CHARGING)
    rig.account._budgets.close_reserve()
    await rig.clock.advance_until(lambda: rig.clock.monotonic() - rig.account._budgets.last_get < 1.5, within=200)
    read = rig.begin(transport.read_schedule())
    await rig.clock.advance(1)
    assert not read.done()
    end = transport.make_way()
    assert [type(each) for each in await rig.finish(read, within=1)] == [GaveWay]
    (refused,) = await rig.finish(rig.begin(transport.read_schedule()), within=1)
    assert isinstance(refused, GaveWay)
    end()
    end()
    assert not isinstance((await rig.finish(rig.begin(transport.read_schedule())))[0], Exception)
    assert await rig.finish(rig.begin(transport.execute(SetOverride(on=False), patience=5, urgent=1)))


# The disk


async def test_slow_disk_holds_up_a_reduction_for_a_second_at_most(rig: Rig) -> None:
    await rig.settle_in()
    await rig.account.stop()
    stuck = asyncio.Event()

    async def save(_: dict[str, object]) -> None:
        await stuck.wait()

    rig.account._budgets._save = save
    rig.account.start()
    begun = rig.clock.monotonic()
    rig.begin(rig.transport(FREE).execute(SetCurrent(9), patience=5, urgent=1))
    await rig.clock.advance(1)
    assert [request.at - begun for request in rig.writes(begun)] == [1]
    stuck.set()


async def test_slow_disk_of_a_group_holds_up_a_reduction_for_a_second_at_most(bench: Bench) -> None:
    await prepare(bench)
    group = await group_of(bench, 32, CHARGING, WAITING)
    await bench.clock.advance(300)
    stuck = asyncio.Event()

    async def save(_: dict[str, object]) -> None:
        await stuck.wait()

    group._save = save
    bench.charger(CHARGING).max_charging_current = 32
    await bench.clock.advance_until(
        lambda: bench.snapshot(CHARGING).value(CHARGING_CURRENT) == 32, within=200, step=0.5
    )
    await bench.clock.advance(1.5)
    assert bench.charger(CHARGING).max_charging_current <= 16
    stuck.set()
    await group.stop()
