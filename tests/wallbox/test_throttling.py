"""A cloud that throttles, which is obeyed and no outage; and a charger that is no longer shared."""

from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import format_datetime

import pytest

from custom_components.chargekeeper.core.errors import TransportBusy
from custom_components.chargekeeper.core.transport import Presence, SetCurrent, SetLock
from tests.simulators.wallbox_cloud import Fault

from .rig import (
    CHARGING,
    DAY,
    FREE,
    GROUPS,
    HOUR,
    MINUTE,
    STATUS,
    WAITING,
    Rig,
    gaps,
    overdrawn,
    rigged,
)

LADDER = [120, 240, 480, 900, 900]


@pytest.fixture
async def rig(socket_enabled: None) -> AsyncIterator[Rig]:
    async with rigged() as rig:
        yield rig


@pytest.mark.parametrize("fault", [Fault.TOO_MANY, Fault.FORBIDDEN])
async def test_throttling_without_retry_after_pauses_reads_for_2_4_8_15_min(rig: Rig, fault: Fault) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(fault, path_prefix=GROUPS)
    await rig.clock.advance(HOUR)
    refused = [request for request in rig.data_gets() if request.status in {429, 403}]
    assert gaps(refused)[:5] == pytest.approx(LADDER, abs=1)
    begun = refused[0].at
    assert rig.data_gets(begun) == refused  # nothing else was read meanwhile
    assert rig.outages == []
    assert rig.cloud_seen() is True
    assert rig.account.diagnostics()["busy_for"] is not None
    await rig.cloud.set_fault(Fault.NONE)
    await rig.clock.advance(16 * MINUTE)
    assert not rig.account.breaker.busy
    await rig.cloud.set_fault(fault, next_requests=1)
    await rig.clock.advance(10 * MINUTE)
    last = [request.at for request in rig.data_gets() if request.status in {429, 403}][-1]
    assert rig.data_gets(last + 1)[0].at == pytest.approx(last + 120, abs=1)  # a good answer resets the waits


@pytest.mark.parametrize(("asked", "waits"), [(0, 60), (30, 60), (300, 300), (3600, 3600), (100_000, 3600)])
async def test_retry_after_obeyed_between_one_minute_and_one_hour(rig: Rig, asked: int, waits: float) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.TOO_MANY, retry_after=asked, next_requests=1)
    await rig.until_get(GROUPS)
    refused_at = rig.clock.monotonic()
    await rig.clock.advance(HOUR + 2 * MINUTE)
    following = rig.data_gets(refused_at + 0.1)[0]
    assert following.at - refused_at == pytest.approx(waits, abs=2)


async def test_retry_after_date_obeyed_by_cloud_clock(rig: Rig) -> None:
    rig.cloud.clock_offset = -HOUR  # the date is by the cloud's clock
    await rig.settle_in()
    until = format_datetime(rig.cloud.now() + timedelta(seconds=600), usegmt=True)
    asked_at = rig.clock.monotonic()
    await rig.cloud.set_fault(Fault.TOO_MANY, retry_after=until, next_requests=1)  # type: ignore[arg-type]
    await rig.clock.advance(15 * MINUTE)
    (refused,) = [request for request in rig.data_gets() if request.status == 429]
    following = rig.data_gets(refused.at + 0.1)[0]
    assert following.at - asked_at == pytest.approx(600, abs=2)


async def test_command_while_throttled_refused_with_wait_time_and_not_sent(rig: Rig) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.TOO_MANY, retry_after=300, next_requests=1)
    await rig.until_get(GROUPS)
    await rig.clock.advance(100)
    seen = len(rig.cloud.requests)
    with pytest.raises(TransportBusy, match="throttled") as refused:
        await rig.transport(FREE).execute(SetCurrent(10), patience=5)
    assert refused.value.retry_after == pytest.approx(200, abs=2)
    with pytest.raises(TransportBusy, match="throttled"):
        await rig.transport(FREE).check()
    assert len(rig.cloud.requests) == seen
    await rig.clock.advance(201)
    await rig.transport(FREE).execute(SetCurrent(10), patience=5)
    assert rig.charger(FREE).max_charging_current == 10


async def test_throttled_command_makes_reads_wait(rig: Rig) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.TOO_MANY, method="PUT")
    with pytest.raises(TransportBusy) as refused:
        await rig.transport(FREE).execute(SetLock(True), patience=5)
    assert refused.value.retry_after == pytest.approx(120)
    begun = rig.clock.monotonic()
    await rig.clock.advance(5 * MINUTE)
    assert rig.data_gets(begun)[0].at >= begun + 120


async def test_429_closes_reserve_for_a_day_and_checks_wait_for_regular_slots(
    rig: Rig,
) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.TOO_MANY, retry_after=60, next_requests=1)
    await rig.until_get(GROUPS)
    closed_at = rig.clock.monotonic()
    assert rig.account.diagnostics()["reserve_open"] is False
    await rig.clock.advance(10 * MINUTE)
    for _ in range(5):
        await rig.until_get(GROUPS)
        since = rig.clock.monotonic()
        assert await rig.finish(rig.begin(rig.transport(FREE).check())) == [None]
        (read,) = rig.gets(f"{STATUS}{FREE}", since)
        assert 59 <= read.at - since <= 61  # the very next slot, before all reads of the poller
        await rig.clock.advance(2 * MINUTE)
    await rig.account.stop()
    await rig.clock.advance(closed_at + DAY - 60 - rig.clock.monotonic())
    assert rig.account.diagnostics()["reserve_open"] is False
    await rig.restart()  # the closing survives a restart
    await rig.clock.advance(30)
    assert rig.account.diagnostics()["reserve_open"] is False
    await rig.clock.advance(40)
    assert rig.account.diagnostics()["reserve_open"] is True
    assert overdrawn(rig, probes=False) == []


async def test_403_on_data_leaves_reserve_open(rig: Rig) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.FORBIDDEN, next_requests=1)
    await rig.until_get(GROUPS)
    assert rig.account.diagnostics()["reserve_open"] is True


async def test_429_on_sign_in_delays_next_sign_in_by_retry_after(rig: Rig) -> None:
    await rig.cloud.set_fault(Fault.TOO_MANY, path_prefix="/users/", retry_after=600, next_requests=1)
    rig.account.start()
    await rig.clock.advance(15 * MINUTE)
    first, second = rig.gets("/users/")[:2]
    assert second.at - first.at == pytest.approx(600, abs=2)
    assert rig.cloud_seen() is True
    assert rig.outages == []


# Refusals for one charger


async def test_charger_refused_with_403_three_times_in_30_min_counts_as_removed(rig: Rig) -> None:
    await rig.settle_in()
    listener = rig.listener(CHARGING)
    await rig.cloud.set_fault(Fault.FORBIDDEN, path_prefix=f"{STATUS}{CHARGING}")
    rig.charger(CHARGING).cloud_link = False  # so that the account reads its status
    await rig.clock.advance_until(lambda: rig.transport(CHARGING).removed_from_account, within=40 * MINUTE, step=10)
    refused = [request for request in rig.data_gets() if request.status == 403]
    assert len(refused) == 3
    assert refused[-1].at - refused[0].at <= 30 * MINUTE
    assert rig.transport(CHARGING).presence is Presence.OFFLINE
    assert listener.changes == 1
    assert CHARGING not in {who.serial for who in rig.account.snapshot.chargers}
    await rig.clock.advance(4 * HOUR)
    asked_again = [request for request in rig.data_gets(refused[-1].at + 1) if request.path == refused[-1].path]
    assert asked_again == []
    assert rig.transport(CHARGING).removed_from_account  # although the groups still list the charger
    assert not rig.transport(FREE).removed_from_account
    assert not rig.transport(WAITING).removed_from_account
    assert rig.outages == []
    await rig.cloud.set_fault(Fault.NONE)
    rig.charger(CHARGING).cloud_link = True
    await rig.account.stop()
    await rig.clock.advance(20 * HOUR)
    rig.account.start()
    await rig.clock.advance(10 * MINUTE)  # a day later the account reads its status again
    assert not rig.transport(CHARGING).removed_from_account
    assert rig.transport(CHARGING).presence is Presence.ONLINE


async def test_charger_refused_with_404_three_times_counts_as_removed(rig: Rig) -> None:
    await rig.settle_in()
    shown = rig.world.chargers[CHARGING]
    rig.charger(CHARGING).cloud_link = False

    def vanishes(method: str, path: str) -> bool:
        if path == f"{STATUS}{CHARGING}":
            rig.world.chargers.pop(CHARGING, None)
        elif path == GROUPS:
            rig.world.chargers[CHARGING] = shown
        return False

    rig.cloud.add_fault(Fault.ERROR_500, matches=vanishes)
    await rig.clock.advance_until(lambda: rig.transport(CHARGING).removed_from_account, within=40 * MINUTE, step=10)
    assert [request.status for request in rig.gets(f"{STATUS}{CHARGING}")][-3:] == [404] * 3
    assert not rig.account.breaker.busy  # 404 concerns only the charger


async def test_403_for_several_chargers_removes_no_charger(rig: Rig) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.FORBIDDEN, path_prefix=STATUS)
    for serial in (FREE, WAITING, CHARGING):
        rig.charger(serial).cloud_link = False
    await rig.clock.advance(3 * HOUR)
    refused = [request.path for request in rig.data_gets() if request.status == 403]
    assert len(refused) > 6
    assert len(set(refused)) == 3
    assert not any(transport.removed_from_account for transport in rig.account.transports.values())


async def test_charger_refused_with_403_over_more_than_30_min_not_removed(rig: Rig) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.FORBIDDEN, path_prefix=f"{STATUS}{CHARGING}", retry_after=1200)
    rig.charger(CHARGING).cloud_link = False
    await rig.clock.advance(2 * HOUR)
    assert [request.status for request in rig.gets(f"{STATUS}{CHARGING}")].count(403) > 3
    assert not rig.transport(CHARGING).removed_from_account


async def test_charger_not_removed_when_groups_are_refused_with_403_too(rig: Rig) -> None:
    await rig.settle_in()
    rig.charger(CHARGING).cloud_link = False
    for _ in range(3):
        await rig.cloud.set_fault(Fault.FORBIDDEN, path_prefix=f"{STATUS}{CHARGING}", next_requests=1)
        await rig.until_get(f"{STATUS}{CHARGING}", within=20 * MINUTE)
        await rig.cloud.set_fault(Fault.FORBIDDEN, path_prefix=GROUPS, next_requests=1)
        await rig.until_get(GROUPS, within=20 * MINUTE)
    assert not rig.transport(CHARGING).removed_from_account


async def test_charger_not_removed_when_a_read_succeeds_between_refusals(rig: Rig) -> None:
    await rig.settle_in()
    rig.charger(CHARGING).cloud_link = False
    for _ in range(4):
        await rig.cloud.set_fault(Fault.FORBIDDEN, path_prefix=f"{STATUS}{CHARGING}", next_requests=1)
        await rig.until_get(f"{STATUS}{CHARGING}", within=20 * MINUTE)
        await rig.until_get(f"{STATUS}{CHARGING}", within=20 * MINUTE)
    assert not rig.transport(CHARGING).removed_from_account


async def test_refused_charger_no_longer_removed_once_listed_again(rig: Rig) -> None:
    await rig.settle_in()
    rig.transport(FREE).record_refusal()
    rig.owner.serials = frozenset({WAITING, CHARGING})
    await rig.clock.advance(10 * MINUTE)
    assert rig.transport(FREE).removed_from_account
    rig.owner.serials = None
    await rig.clock.advance(5 * MINUTE)
    assert not rig.transport(FREE).removed_from_account
