"""The poller of one account: the order of its reads, the signs of life, and the state of the account."""

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from custom_components.chargekeeper.core.breaker import BreakerState
from custom_components.chargekeeper.core.errors import TransportBusy, TransportDown
from custom_components.chargekeeper.core.model import PROBLEM, ROLE, SCHEDULE, STATUS as STATUS_VALUE, Role, Status
from custom_components.chargekeeper.core.transport import Presence, SetCurrent, StatusReport
from tests.simulators.wallbox_cloud import Fault
from tests.simulators.world import Car, SimulatedCharger

from .rig import (
    CHARGING,
    DAY,
    FREE,
    GROUPS,
    HOUR,
    MINUTE,
    PASSWORD,
    STATUS,
    WAITING,
    Rig,
    busiest,
    gaps,
    idle_world,
    overdrawn,
    rigged,
)


@pytest.fixture
async def rig(socket_enabled: None) -> AsyncIterator[Rig]:
    async with rigged() as rig:
        yield rig


def _kinds(rig: Rig, since: float = 0.0) -> dict[str, int]:
    """Count the GETs of data by kind."""
    kinds = {"groups": GROUPS, "status": STATUS, "details": "/v2/charger/", "schedules": "/chargers/7"}
    return {kind: len(rig.gets(prefix, since)) for kind, prefix in kinds.items()}


# Number of requests


@pytest.mark.parametrize(("chargers", "bound", "hours"), [(1, 40, 5), (10, 60, 4), (100, 60, 10)])
async def test_i6_requests_per_hour_for_idle_chargers_stay_within_limit(
    socket_enabled: None, chargers: int, bound: int, hours: int
) -> None:
    async with rigged(idle_world(chargers)) as rig:
        rig.account.start()
        await rig.clock.advance(hours * HOUR)
        assert rig.cloud.access_lifetime == 15 * MINUTE
        assert busiest(rig.gets(), HOUR) <= bound
        assert rig.gets("/users/refresh-token")  # these count as well
        assert min(gaps(rig.data_gets())) >= MINUTE
        assert rig.cloud.violations == []
        assert overdrawn(rig, probes=False) == []
        groups = gaps(rig.gets(GROUPS))
        assert (min(groups), max(groups)) == (120, 120)
        # All chargers keep their status.
        assert {transport.presence for transport in rig.account.transports.values()} == {Presence.ONLINE}


async def test_status_of_each_charger_read_first_then_role_and_schedule_once(rig: Rig) -> None:
    await rig.settle_in()
    slow = [request.path for request in rig.data_gets() if request.path != GROUPS]
    assert {path for path in slow[:3] if path.startswith(STATUS)} == {f"{STATUS}{s}" for s in (FREE, WAITING, CHARGING)}
    assert sorted(path for path in slow if not path.startswith(STATUS)) == sorted(
        path for s in (FREE, WAITING, CHARGING) for path in (f"/v2/charger/{s}", f"/chargers/{s}/schedules")
    )


async def test_two_thirds_of_slow_reads_are_status_while_other_reads_are_due(socket_enabled: None) -> None:
    async with rigged(idle_world(40)) as rig:
        rig.account.start()
        await rig.clock.advance(3 * HOUR)
        begun = rig.clock.monotonic()  # every status was read, most roles and schedules were not
        await rig.clock.advance(2 * HOUR)
        kinds = _kinds(rig, begun)
        slow = kinds["status"] + kinds["details"] + kinds["schedules"]
        assert kinds["details"] > 4
        assert kinds["schedules"] > 4
        assert kinds["status"] / slow == pytest.approx(2 / 3, abs=0.03)


async def test_status_read_in_next_slot_after_each_command(rig: Rig) -> None:
    await rig.settle_in()
    await rig.until_get("/users/refresh-token", within=HOUR)  # it takes a slot too
    for amps in (10, 12):  # the second one follows soon after a status
        await rig.until_get(GROUPS)
        sent_at = rig.clock.monotonic()
        await rig.transport(FREE).execute(SetCurrent(amps), patience=5)
        await rig.clock.advance(MINUTE)
        assert [request.path for request in rig.data_gets() if request.at > sent_at] == [f"{STATUS}{FREE}"]


async def test_status_after_command_read_before_roles_and_schedules(socket_enabled: None) -> None:
    async with rigged(idle_world(40)) as rig:
        rig.account.start()
        await rig.clock.advance(3 * HOUR)  # every status was read, most roles and schedules were not
        sent_at = rig.clock.monotonic()
        serials = ("710003", "710017", "710029")
        for serial in serials:
            await rig.transport(serial).execute(SetCurrent(10), patience=5)
        await rig.clock.advance(7 * MINUTE)
        slow = [request.path for request in rig.data_gets(sent_at) if request.path != GROUPS]
        assert sorted(slow[:3]) == [f"{STATUS}{serial}" for serial in serials]


async def test_charger_with_oldest_sign_of_life_read_next(socket_enabled: None) -> None:
    async with rigged(idle_world(30)) as rig:
        rig.account.start()
        await rig.clock.advance(5 * HOUR)
        asked = [request.path for request in rig.gets(STATUS)]
        assert len(asked) > 60
        assert len(set(asked[:30])) == 30
        # No charger has a second turn before every charger had the first, because the oldest sign of life comes first.
        for begin in range(30, len(asked) - 30, 30):
            assert len(set(asked[begin : begin + 30])) >= 28


async def test_role_and_schedule_read_daily(socket_enabled: None) -> None:
    async with rigged(idle_world(1)) as rig:
        await rig.settle_in()
        rig.cloud.requests.clear()
        await rig.clock.advance(5 * HOUR)
        await rig.account.stop()
        await rig.clock.advance(17 * HOUR)
        rig.account.start()
        await rig.clock.advance(HOUR)
        assert _kinds(rig)["details"] == 0
        await rig.clock.advance(2 * HOUR)
        kinds = _kinds(rig)
        assert (kinds["details"], kinds["schedules"]) == (1, 1)


async def test_charging_charger_without_sign_of_life_for_5_min_read_next(rig: Rig) -> None:
    await rig.settle_in()
    rig.cloud.requests.clear()
    await rig.clock.advance(15 * MINUTE)
    assert rig.gets(f"{STATUS}{CHARGING}") == []  # the groups answers contain its power and energy
    rig.charger(CHARGING).cloud_link = False
    lost_at = rig.clock.monotonic()
    await rig.clock.advance(30 * MINUTE)
    first, second = rig.gets(f"{STATUS}{CHARGING}", lost_at)[:2]
    assert 5 * MINUTE <= first.at - lost_at <= 10 * MINUTE
    assert 5 * MINUTE <= second.at - first.at <= 9 * MINUTE


async def test_offline_charger_not_read_until_back_online(rig: Rig) -> None:
    await rig.settle_in()
    charger = rig.charger(FREE)
    charger.cloud_shows_offline, charger.cloud_link = True, False
    await rig.clock.advance(3 * MINUTE)
    since = rig.clock.monotonic()
    await rig.clock.advance(8 * HOUR)
    assert rig.gets(f"{STATUS}{FREE}", since) == []
    assert rig.transport(FREE).presence is Presence.OFFLINE
    rig.charger(FREE).cloud_link = True
    await rig.clock.advance(2 * MINUTE)
    assert rig.transport(FREE).presence is Presence.ONLINE  # the return itself is a sign of life
    await rig.clock.advance(30 * MINUTE)
    assert rig.gets(f"{STATUS}{FREE}", since)


async def test_charger_missing_from_3_polls_counts_as_removed_and_is_not_read(rig: Rig) -> None:
    await rig.settle_in()
    listener = rig.listener(WAITING)
    rig.owner.serials = frozenset({FREE, CHARGING})
    await rig.until_get(GROUPS)
    await rig.clock.advance(3 * MINUTE)
    assert not rig.transport(WAITING).removed_from_account
    await rig.clock.advance(2 * MINUTE)
    assert rig.transport(WAITING).removed_from_account
    assert rig.transport(WAITING).presence is Presence.OFFLINE
    assert listener.changes == 1
    assert WAITING not in {identity.serial for identity in rig.account.snapshot.chargers}
    since = rig.clock.monotonic()
    await rig.clock.advance(3 * HOUR)
    assert [request for request in rig.data_gets(since) if WAITING in request.path] == []
    assert listener.changes == 1
    assert len([request for request in rig.data_gets(since) if FREE in request.path]) > 5
    rig.owner.serials = None
    await rig.clock.advance(2 * MINUTE)
    assert not rig.transport(WAITING).removed_from_account
    assert WAITING in {identity.serial for identity in rig.account.snapshot.chargers}
    await rig.clock.advance(5 * MINUTE)
    assert rig.transport(WAITING).presence is Presence.ONLINE


async def test_charger_joining_the_account_read_like_the_others(rig: Rig) -> None:
    await rig.settle_in()
    rig.world.add(SimulatedCharger(serial="700199", name="New"))
    await rig.clock.advance(10 * MINUTE)
    assert rig.listener("700199").value(STATUS_VALUE) is Status.AVAILABLE
    assert [who.serial for who in rig.account.snapshot.chargers] == [FREE, WAITING, CHARGING, "700199"]


async def test_forgotten_charger_returns_only_once_listed_again(rig: Rig) -> None:
    await rig.settle_in()
    rig.owner.serials = frozenset({FREE, CHARGING})
    rig.account.forget(WAITING)
    await rig.clock.advance(10 * MINUTE)
    assert set(rig.account.transports) == {FREE, CHARGING}
    rig.owner.serials = None
    await rig.clock.advance(2 * MINUTE)
    assert set(rig.account.transports) == {FREE, WAITING, CHARGING}


async def test_account_without_chargers_polls_only_the_groups(socket_enabled: None) -> None:
    async with rigged(idle_world(0)) as rig:
        rig.account.start()
        await rig.clock.advance(HOUR + MINUTE)
        assert {request.path for request in rig.data_gets()} == {GROUPS}
        assert rig.cloud_seen() is True
        assert rig.account.snapshot.chargers == ()
        assert await rig.account.list_chargers() == ()


async def test_groups_polled_every_minute_while_a_restart_is_watched(rig: Rig) -> None:
    await rig.settle_in()
    end, end_other = rig.transport(FREE).watch(), rig.transport(WAITING).watch()
    since = rig.clock.monotonic()
    await rig.clock.advance(10 * MINUTE)
    assert set(gaps(rig.gets(GROUPS, since))) == {60}
    end()
    end()  # a second call does nothing
    since = rig.clock.monotonic()
    await rig.clock.advance(10 * MINUTE)
    assert set(gaps(rig.gets(GROUPS, since))) == {60}
    end_other()
    since = rig.clock.monotonic()
    await rig.clock.advance(10 * MINUTE)
    assert set(gaps(rig.gets(GROUPS, since))) == {120}
    assert overdrawn(rig, probes=False) == []


# Repetition of failed reads


async def test_failed_reads_repeated_within_minutes(rig: Rig) -> None:
    rig.cloud.add_fault(Fault.ERROR_500, path_prefix=f"/v2/charger/{FREE}", next_requests=1)
    rig.cloud.add_fault(Fault.ERROR_500, path_prefix=f"/chargers/{FREE}/schedules", next_requests=1)
    rig.cloud.add_fault(Fault.ERROR_500, path_prefix=f"{STATUS}{WAITING}", next_requests=1)
    await rig.settle_in()
    assert rig.listener(WAITING).value(STATUS_VALUE) is Status.WAITING_SCHEDULE
    await rig.clock.advance(10 * MINUTE)
    assert rig.listener(FREE).value(ROLE) is Role.SUPER_ADMIN
    assert rig.listener(FREE).value(SCHEDULE) == ()
    for prefix in (f"/v2/charger/{FREE}", f"/chargers/{FREE}/schedules"):
        (gap,) = gaps(rig.gets(prefix))
        assert 5 * MINUTE <= gap <= 12 * MINUTE


async def test_charger_with_failing_status_does_not_starve_other_chargers(rig: Rig) -> None:
    await rig.cloud.set_fault(Fault.ERROR_500, path_prefix=f"{STATUS}{FREE}")
    await rig.settle_in()
    await rig.clock.advance(3 * HOUR)
    assert min(gaps(rig.gets(f"{STATUS}{FREE}"))) >= 5 * MINUTE
    assert rig.listener(WAITING).value(STATUS_VALUE) is Status.WAITING_SCHEDULE
    assert rig.listener(WAITING).value(ROLE) is Role.SUPER_ADMIN
    assert rig.outages == []  # the account found each failure to be no outage
    assert overdrawn(rig, probes=True) == []


# Signs of life


async def test_i3_idle_status_expires_after_60_minutes_of_repeated_last_sync(rig: Rig) -> None:
    await rig.settle_in()
    listener = rig.listener(FREE)
    charger = rig.charger(FREE)
    charger.cloud_link = False  # and the cloud continues to show the last report
    reported_at = rig.clock.monotonic() - (rig.clock.now() - charger.report.at).total_seconds()
    await rig.clock.advance(reported_at + 59.9 * MINUTE - rig.clock.monotonic())
    assert listener.value(STATUS_VALUE) is Status.AVAILABLE
    assert rig.transport(FREE).presence is Presence.ONLINE
    await rig.clock.advance(0.2 * MINUTE)
    assert listener.value(STATUS_VALUE) is None
    assert rig.transport(FREE).presence is Presence.UNKNOWN
    await rig.clock.advance(6 * HOUR)
    assert listener.value(STATUS_VALUE) is None
    assert rig.listener(WAITING).value(STATUS_VALUE) is Status.WAITING_SCHEDULE


async def test_i3_charging_status_expires_15_minutes_after_last_sign_of_life(rig: Rig) -> None:
    await rig.settle_in()
    listener = rig.listener(CHARGING)
    rig.charger(CHARGING).cloud_link = False
    await rig.clock.advance(12 * MINUTE)
    assert listener.value(STATUS_VALUE) is Status.CHARGING
    await rig.clock.advance(5.1 * MINUTE)  # the last change may have shown up to 2 min late
    assert listener.value(STATUS_VALUE) is None
    assert rig.transport(CHARGING).presence is Presence.UNKNOWN


async def test_change_between_group_polls_is_a_sign_of_life_without_status_read(rig: Rig) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.ERROR_500, path_prefix=STATUS)
    before = rig.transport(FREE).evidence_at
    rig.charger(FREE).plug_in(Car(wants_kwh=40))
    await rig.clock.advance(2 * MINUTE)
    assert rig.listener(FREE).value(STATUS_VALUE) is Status.CHARGING
    assert rig.transport(FREE).evidence_at > before
    assert rig.clock.monotonic() - rig.transport(FREE).evidence_at <= 2 * MINUTE
    await rig.clock.advance(HOUR)
    assert rig.clock.monotonic() - rig.transport(FREE).evidence_at <= 2.5 * MINUTE  # the energy grows


async def test_charger_going_offline_shown_without_counting_as_sign_of_life(rig: Rig) -> None:
    await rig.settle_in()
    before = rig.transport(FREE).evidence_at
    charger = rig.charger(FREE)
    charger.cloud_shows_offline, charger.cloud_link = True, False
    await rig.clock.advance(2 * MINUTE)
    assert rig.transport(FREE).presence is Presence.OFFLINE
    assert rig.listener(FREE).value(STATUS_VALUE) is Status.OFFLINE
    assert rig.transport(FREE).evidence_at == before


async def test_i3_change_during_outage_not_shown_as_fresh_afterwards(rig: Rig) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(Fault.REFUSE)
    rig.charger(FREE).plug_in(Car(wants_kwh=40))
    await rig.clock.advance(MINUTE)
    rig.charger(FREE).cloud_link = False  # charged for a minute, then sent no report for hours
    await rig.clock.advance(3 * HOUR)
    await rig.cloud.set_fault(Fault.NONE)
    await rig.until(BreakerState.CLOSED)
    await rig.clock.advance(10 * MINUTE)
    assert rig.transport(FREE).last_report == StatusReport(Status.CHARGING, car_connected=True)
    assert rig.listener(FREE).value(STATUS_VALUE) is None


@pytest.mark.parametrize("offset", [HOUR, -HOUR])
async def test_i3_clock_an_hour_off_changes_no_reading_age(rig: Rig, offset: float) -> None:
    rig.cloud.clock_offset = offset
    await rig.settle_in()
    assert {serial: rig.listener(serial).value(STATUS_VALUE) for serial in (FREE, WAITING, CHARGING)} == {
        FREE: Status.AVAILABLE,
        WAITING: Status.WAITING_SCHEDULE,
        CHARGING: Status.CHARGING,
    }
    assert rig.account.diagnostics()["cloud_clock_ahead"] == pytest.approx(offset, abs=1)
    observed = rig.listener(FREE).latest.get(STATUS_VALUE)
    assert observed is not None
    assert 0 <= (rig.clock.now() - observed.observed_at).total_seconds() <= 25 * MINUTE
    rig.charger(FREE).cloud_link = False
    await rig.clock.advance(66 * MINUTE)
    assert rig.listener(FREE).value(STATUS_VALUE) is None
    assert busiest(rig.gets("/users/"), HOUR) <= 6  # the expiry of a token is by the cloud's clock


async def test_clock_jump_of_an_hour_leaves_presence_unaffected(rig: Rig) -> None:
    await rig.settle_in()
    rig.clock.jump(HOUR)
    await rig.clock.advance(30 * MINUTE)
    rig.clock.jump(-2 * HOUR)
    await rig.clock.advance(30 * MINUTE)
    for serial in (FREE, WAITING, CHARGING):
        assert rig.transport(serial).presence is Presence.ONLINE
    rig.charger(FREE).cloud_link = False
    await rig.clock.advance(66 * MINUTE)
    assert rig.transport(FREE).presence is Presence.UNKNOWN


@pytest.mark.parametrize(("chargers", "hours"), [(3, 1.0), (10, 1.0), (100, 100 / 17 * 1.5)])
async def test_i3_idle_status_age_spans_one_and_a_half_status_rounds(
    socket_enabled: None, chargers: int, hours: float
) -> None:
    async with rigged(idle_world(chargers)) as rig:
        rig.account.start()
        await rig.clock.advance(MINUTE)
        assert len(rig.account.transports) == chargers
        assert rig.transport("710000").idle_age == pytest.approx(hours * HOUR)


# Three separate conditions


async def test_cloud_outage_and_offline_charger_and_charger_error_kept_apart(rig: Rig) -> None:
    await rig.settle_in()
    offline = rig.charger(WAITING)
    offline.cloud_shows_offline, offline.cloud_link = True, False
    rig.charger(FREE).fault = True
    await rig.clock.advance(3 * MINUTE)
    assert rig.cloud_seen() is True
    assert rig.listener(WAITING).value(STATUS_VALUE) is Status.OFFLINE
    assert rig.transport(FREE).presence is Presence.ONLINE
    assert rig.listener(FREE).value(STATUS_VALUE) is Status.ERROR
    assert rig.listener(FREE).value(PROBLEM) is True
    await rig.cloud.set_fault(Fault.ERROR_500)
    await rig.until(BreakerState.OPEN)
    assert rig.cloud_seen() is False
    assert rig.transport(WAITING).presence is Presence.OFFLINE
    assert rig.transport(FREE).presence is Presence.ONLINE  # the last report of the charger
    assert rig.transport(CHARGING).presence is Presence.ONLINE
    # An outage alone never makes a charger offline.
    assert rig.listener(CHARGING).value(STATUS_VALUE) is Status.CHARGING


# State of the account


async def test_account_snapshot_shows_cloud_and_contact_and_chargers(rig: Rig) -> None:
    assert rig.cloud_seen() is None
    assert rig.account.snapshot.endpoint_contact_at is None
    assert rig.account.identity(FREE) is None
    rig.account.start()
    await rig.clock.advance(0)
    assert rig.cloud_seen() is True
    assert [who.name for who in rig.account.snapshot.chargers] == ["Garage", "Driveway", "Carport"]
    assert rig.account.identity(FREE) == rig.transport(FREE).identity
    await rig.clock.advance(30 * MINUTE)
    contacts = {snapshot.endpoint_contact_at for snapshot in rig.snapshots}
    answered = {request.at for request in rig.data_gets()}
    # Each answer notifies the listeners, even if only the contact time changed.
    assert len(contacts - {None}) == len(answered)


async def test_account_unreachable_from_the_start_reports_cloud_lost(rig: Rig) -> None:
    await rig.cloud.set_fault(Fault.REFUSE)
    rig.account.start()
    await rig.clock.advance(5)
    assert rig.cloud_seen() is None
    await rig.clock.advance(25)
    assert rig.cloud_seen() is False
    assert rig.outages == ["cloud_lost"]


async def test_listener_that_left_receives_nothing(rig: Rig) -> None:
    snapshots: list[object] = []
    outages: list[str] = []
    end, end_outage = rig.account.listen(snapshots.append), rig.account.listen_outage(outages.append)
    rig.account.start()
    await rig.clock.advance(MINUTE)
    assert snapshots
    end()
    end_outage()
    snapshots.clear()
    await rig.cloud.set_fault(Fault.REFUSE)
    await rig.clock.advance(10 * MINUTE)
    assert snapshots == []
    assert outages == []
    assert rig.outages == ["cloud_lost"]


async def test_i12_diagnostics_name_neither_account_nor_charger(rig: Rig) -> None:
    await rig.settle_in()
    report = str(rig.account.diagnostics())
    for secret in (FREE, WAITING, CHARGING, "owner", PASSWORD, "access-", "refresh-", "Garage", rig.owner.uuid):
        assert secret not in report
    diagnostics = rig.account.diagnostics()
    assert diagnostics["breaker"] == "closed"
    assert diagnostics["busy_for"] is None
    assert diagnostics["reserve_open"] is True
    chargers = diagnostics["chargers"]
    assert isinstance(chargers, list)
    assert [charger["raw_status"] for charger in chargers] == [161, 179, 194]
    assert all(charger["listed"] and charger["evidence_age"] < 25 * MINUTE for charger in chargers)


# The list of chargers in the config flow


async def test_charger_list_in_config_flow_uses_read_budget(rig: Rig) -> None:
    assert [who.serial for who in await rig.account.list_chargers()] == [FREE, WAITING, CHARGING]
    assert rig.account.user_id == rig.owner.uuid
    with pytest.raises(TransportBusy, match="no_room"):
        await rig.account.list_chargers()
    rig.account.start()
    await rig.clock.advance(10 * MINUTE)
    assert min(gaps(rig.data_gets())) >= MINUTE
    assert overdrawn(rig, probes=False) == []


async def test_charger_list_in_config_flow_reports_outage_or_throttling(rig: Rig) -> None:
    await rig.cloud.set_fault(Fault.ERROR_500)
    with pytest.raises(TransportDown, match="server_error"):
        await rig.account.list_chargers()
    await rig.cloud.set_fault(Fault.TOO_MANY, retry_after=300)
    await rig.clock.advance(MINUTE)
    with pytest.raises(TransportBusy) as refused:
        await rig.account.list_chargers()
    assert refused.value.retry_after == 300
    seen = len(rig.cloud.requests)
    with pytest.raises(TransportBusy, match="throttled"):
        await rig.account.list_chargers()
    assert len(rig.cloud.requests) == seen


# Starting and stopping


async def test_account_started_twice_polls_once_and_stops_completely(rig: Rig) -> None:
    rig.account.start()
    rig.account.start()
    await rig.clock.advance(10 * MINUTE)
    assert all(later.at - earlier.at >= MINUTE for earlier, later in pairwise(rig.data_gets()))
    await rig.account.stop()
    await rig.account.stop()
    seen = len(rig.cloud.requests)
    await rig.clock.advance(DAY)
    assert len(rig.cloud.requests) == seen
    assert rig.clock.pending == 0
