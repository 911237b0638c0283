"""Cloud outages: noticed in time, reported once, probed rarely, and over in time."""

from collections.abc import AsyncIterator
from itertools import batched, pairwise
from random import Random
from statistics import median

import pytest

from custom_components.chargekeeper.core.breaker import BreakerState
from custom_components.chargekeeper.core.errors import NoConnection, TransportDown
from custom_components.chargekeeper.core.model import STATUS as STATUS_VALUE, Status
from custom_components.chargekeeper.core.transport import SetCurrent
from tests.simulators.wallbox_cloud import Fault

from .rig import (
    CHARGING,
    FREE,
    GROUPS,
    HOUR,
    MINUTE,
    SLACK,
    STATUS,
    WAITING,
    Rig,
    busiest,
    gaps,
    idle_world,
    overdrawn,
    rigged,
)

ALWAYS = (
    Fault.REFUSE,
    Fault.HANG,
    Fault.SLOW,
    Fault.ERROR_500,
    Fault.GARBAGE,
    Fault.HALF,
    Fault.HTML,
    Fault.NULLS,
    Fault.RESET,
)
NOTICED_WITHIN = {Fault.HANG: 45.0, Fault.SLOW: 45.0}
OTHERWISE_WITHIN = 30.0
OUTAGES = 80


@pytest.fixture
async def rig(socket_enabled: None) -> AsyncIterator[Rig]:
    async with rigged() as rig:
        yield rig


@pytest.mark.parametrize("fault", ALWAYS)
async def test_outage_start_and_end_each_reported_once_and_in_time(rig: Rig, fault: Fault) -> None:
    random = Random(fault)
    await rig.settle_in()
    for _ in range(3):
        rig.outages.clear()
        rig.outages_at.clear()
        await rig.clock.advance(random.uniform(0, 300))
        await rig.cloud.set_fault(fault)
        since = rig.clock.monotonic()
        await rig.clock.advance(20 * MINUTE)
        assert rig.outages == ["cloud_lost"]
        assert rig.cloud_seen() is False
        began = rig.account.breaker.opened_at
        assert began is not None
        refused_at = rig.clock.monotonic() - (rig.clock.now() - began).total_seconds()
        polled_at = rig.gets(since=since)[0].at if fault is not Fault.REFUSE else refused_at
        assert since <= polled_at <= since + 120
        assert rig.outages_at[0] - polled_at <= NOTICED_WITHIN.get(fault, OTHERWISE_WITHIN)
        await rig.cloud.set_fault(Fault.NONE)
        healed_at = rig.clock.monotonic()
        await rig.clock.advance(10 * MINUTE)
        assert rig.outages == ["cloud_lost", "cloud_back"]
        assert rig.outages_at[1] - healed_at <= 150
        assert rig.account.breaker.closed
        assert rig.cloud_seen() is True
    assert overdrawn(rig, probes=True) == []


async def test_recovered_cloud_used_again_in_median_75_s_and_at_most_150_s(socket_enabled: None) -> None:
    waits: list[float] = []
    random = Random(2026)
    async with rigged(idle_world(1)) as rig:
        await rig.settle_in()
        for _ in range(OUTAGES):
            await rig.clock.advance(random.uniform(0, 130))
            fault = random.choice(ALWAYS)
            await rig.cloud.set_fault(fault)
            await rig.clock.advance(random.uniform(170, 1500))
            assert rig.outages[-1] == "cloud_lost"
            await rig.cloud.set_fault(Fault.NONE)
            healed_at = rig.clock.monotonic()
            await rig.clock.advance(5 * MINUTE)  # at most 150 s, and two more good answers 60 s apart
            assert rig.outages[-1] == "cloud_back"
            assert rig.account.breaker.closed
            waits.append(rig.outages_at[-1] - healed_at)
        assert rig.outages == ["cloud_lost", "cloud_back"] * OUTAGES
        assert len(set(waits)) > OUTAGES * 0.9  # the phases differ
        assert median(waits) <= 75
        assert max(waits) <= 150
        assert overdrawn(rig, probes=True) == []


@pytest.mark.parametrize("fault", [Fault.ERROR_500, Fault.HANG])
async def test_i6_long_outage_sends_only_probes_at_most_60_an_hour(rig: Rig, fault: Fault) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(fault)
    await rig.clock.advance(5 * MINUTE)
    since = rig.clock.monotonic()
    await rig.clock.advance(6 * HOUR)
    probes = rig.gets(since=since)
    assert len(probes) > 6 * 25
    assert busiest(probes, HOUR) <= 60
    # Once the tokens have expired, their renewal is the probe.
    assert {request.path for request in probes} <= {GROUPS, "/users/refresh-token", "/users/signin"}
    assert min(gaps(probes)) >= 15


async def test_bad_answer_refuted_by_confirmation_is_no_outage(rig: Rig) -> None:
    await rig.settle_in()
    broken_at: list[float] = []
    for fault in (Fault.ERROR_500, Fault.RESET, Fault.HTML):
        await rig.cloud.set_fault(fault, next_requests=1)
        await rig.until(BreakerState.DOUBTFUL)
        broken_at.append(rig.gets()[-1].at)
        await rig.clock.advance(5 * MINUTE)
        assert rig.account.breaker.closed
    assert rig.outages == []
    failed = [request for request in rig.gets() if request.status != 200 or request.at in broken_at]
    for request in failed:
        following = next(other for other in rig.data_gets() if other.at > request.at)
        assert following.at - request.at == pytest.approx(20, abs=0.2)
        assert following.path == GROUPS
    assert len(failed) == 3


async def test_i6_regular_read_follows_confirmation_by_at_least_60_s(rig: Rig) -> None:
    """Keep a distance to the confirmation, because a strict cloud answers 429 to a GET right after another."""
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.REFUSE)
    await rig.until(BreakerState.DOUBTFUL)
    await rig.cloud.set_fault(Fault.NONE)
    since = rig.clock.monotonic()
    await rig.until_get(GROUPS)
    assert rig.account.breaker.closed
    await rig.clock.advance(5 * MINUTE)
    assert min(gaps(rig.data_gets(since))) >= 60


async def test_recovery_hint_brings_next_probe_forward(rig: Rig) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.REFUSE)
    await rig.clock.advance(20 * MINUTE)
    await rig.cloud.set_fault(Fault.NONE)
    rig.account.breaker.probe_now()
    await rig.clock.advance(0)
    assert rig.cloud_seen() is True
    assert rig.outages == ["cloud_lost", "cloud_back"]


async def test_confirmation_without_probe_budget_waits_for_regular_slot(rig: Rig) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.ERROR_500, next_requests=1)
    await rig.until(BreakerState.DOUBTFUL)
    rig.account._budgets.probes.exhaust(rig.clock.monotonic())  # as after an hour of probes
    begun = rig.clock.monotonic()
    await rig.clock.advance(61)
    assert rig.account.breaker.closed
    (get, *_) = rig.gets(GROUPS, begun + 0.1)
    assert get.at - begun == pytest.approx(60, abs=1)
    await rig.cloud.set_fault(Fault.ERROR_500)
    await rig.until(BreakerState.OPEN, within=300)
    opened_at = rig.clock.monotonic()
    await rig.clock.advance(30 * MINUTE)
    assert rig.gets(since=opened_at + 0.1) == []  # the open breaker allows only probes, and none are left


async def test_i6_flapping_cloud_used_again_within_150_s_each_time(rig: Rig) -> None:
    flaps = 40
    await rig.settle_in()
    begun = rig.clock.monotonic()
    waits: list[float] = []
    for _ in range(flaps):
        await rig.cloud.set_fault(Fault.ERROR_500)
        await rig.until(BreakerState.OPEN, within=400)
        await rig.cloud.set_fault(Fault.NONE)
        waits.append(await rig.until(BreakerState.HALF_OPEN, within=400))
    assert rig.clock.monotonic() - begun > HOUR
    assert max(waits) <= 150
    assert rig.outages == ["cloud_lost", "cloud_back"] * flaps
    lost_and_back = list(batched(rig.outages_at, 2, strict=True))
    gets = rig.data_gets(begun)
    hurried = {later for earlier, later in pairwise(gets) if later.at - earlier.at < MINUTE - SLACK}
    in_outage = {get for get in gets if any(lost < get.at <= back for lost, back in lost_and_back)}
    assert len(in_outage) >= flaps
    assert busiest(hurried | in_outage, HOUR) <= 60
    assert overdrawn(rig, probes=True) == []


async def test_unanswered_command_reveals_outage(rig: Rig) -> None:
    await rig.settle_in()
    await rig.until_get(GROUPS)
    await rig.cloud.set_fault(Fault.HANG)
    begun = rig.clock.monotonic()
    (lost,) = await rig.finish(rig.begin(rig.transport(FREE).execute(SetCurrent(10), patience=5)))
    assert isinstance(lost, TransportDown)
    assert lost.reason == "timeout"
    assert not lost.surely_not_sent
    assert rig.clock.monotonic() - begun == pytest.approx(5, abs=1)
    assert rig.account.breaker.state is BreakerState.DOUBTFUL
    await rig.until(BreakerState.OPEN)
    assert rig.clock.monotonic() - begun <= 45


@pytest.mark.parametrize("after_an_outage", [False, True])
async def test_cloud_slower_than_command_timeout_is_no_outage(rig: Rig, after_an_outage: bool) -> None:
    await rig.settle_in()
    if after_an_outage:
        await rig.cloud.set_fault(Fault.REFUSE)
        await rig.until(BreakerState.OPEN)
        await rig.cloud.set_fault(Fault.NONE)
        await rig.until(BreakerState.HALF_OPEN)
    reported = list(rig.outages)
    await rig.cloud.set_fault(Fault.SLOW, slow_seconds=7)
    for amps in range(6, 16):
        (lost,) = await rig.finish(rig.begin(rig.transport(FREE).execute(SetCurrent(amps), patience=5)))
        assert isinstance(lost, TransportDown)
        await rig.clock.advance(30)
    assert rig.outages == reported
    assert rig.account.breaker.usable


async def test_commands_and_reads_refused_without_request_during_outage(rig: Rig) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.ERROR_500)
    await rig.until(BreakerState.OPEN)
    seen = len(rig.cloud.requests)
    with pytest.raises(NoConnection, match="unreachable"):
        await rig.transport(FREE).execute(SetCurrent(10), patience=3)
    with pytest.raises(TransportDown, match="unreachable"):
        await rig.transport(FREE).check()
    with pytest.raises(TransportDown, match="unreachable"):
        await rig.transport(FREE).read_schedule()
    assert len(rig.cloud.requests) == seen


async def test_status_of_every_charger_known_minutes_after_long_outage(rig: Rig) -> None:
    await rig.settle_in()
    listeners = [rig.listener(serial) for serial in (FREE, WAITING, CHARGING)]
    await rig.cloud.set_fault(Fault.REFUSE)
    await rig.clock.advance(3 * HOUR)
    assert [listener.value(STATUS_VALUE) for listener in listeners] == [None] * 3
    await rig.cloud.set_fault(Fault.NONE)
    await rig.clock.advance(10 * MINUTE)
    expected = [Status.AVAILABLE, Status.WAITING_SCHEDULE, Status.CHARGING]
    assert [listener.value(STATUS_VALUE) for listener in listeners] == expected


async def test_first_poll_after_short_outage_shows_change_as_fresh(rig: Rig) -> None:
    await rig.settle_in()
    await rig.until_get(GROUPS)
    await rig.cloud.set_fault(Fault.RESET)
    await rig.clock.advance(2.5 * MINUTE)
    rig.charger(FREE).plug_in()
    await rig.cloud.set_fault(Fault.NONE)
    await rig.until_get(GROUPS)
    assert rig.listener(FREE).value(STATUS_VALUE) is Status.CHARGING
    assert rig.gets(STATUS)[-1].at < rig.gets(GROUPS)[-1].at
