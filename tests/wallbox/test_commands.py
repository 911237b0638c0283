"""Commands over the cloud: the request, its effect on the charger, and every kind of refusal."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import time
import json

import pytest

from custom_components.chargekeeper.core.breaker import BreakerState
from custom_components.chargekeeper.core.errors import (
    ChargerError,
    NoConnection,
    NotAllowed,
    NotApplicable,
    TransportBusy,
    TransportDown,
    Unsupported,
)
from custom_components.chargekeeper.core.model import (
    CHARGING_CURRENT,
    ECO_MODE,
    LOCKED,
    EcoMode,
    Window as ScheduleWindow,
)
from custom_components.chargekeeper.core.transport import (
    Command,
    Install,
    Restart,
    SetCharging,
    SetCurrent,
    SetEcoMode,
    SetLock,
    SetOverride,
)
from custom_components.chargekeeper.wallbox.client import RemoteAction
from tests.simulators.wallbox_cloud import Fault, Schedules
from tests.simulators.world import Eco, Manual, SimulatedCharger, Window

from .rig import CHARGING, DAY, FREE, GROUPS, HOUR, MINUTE, REFRESH, STATUS, WAITING, Rig, gaps, overdrawn, rigged


@pytest.fixture
async def rig(socket_enabled: None) -> AsyncIterator[Rig]:
    async with rigged() as rig:
        await rig.settle_in()
        yield rig
        assert rig.cloud.factory_resets == []


async def _send(rig: Rig, serial: str, command: Command) -> None:
    await rig.transport(serial).execute(command, patience=5)


async def _refusal(rig: Rig, serial: str, command: Command) -> ChargerError:
    with pytest.raises(ChargerError) as refused:
        await _send(rig, serial, command)
    return refused.value


# Requests


def _eco(enabled: int, mode: int, percentage: int = 100) -> object:
    return {"data": {"type": "eco_smart", "attributes": {"enabled": enabled, "mode": mode, "percentage": percentage}}}


@pytest.mark.parametrize(
    ("serial", "command", "method", "path", "body", "attribute", "value"),
    [
        (FREE, SetCurrent(13), "PUT", "/v2/charger/{}", {"maxChargingCurrent": 13}, "max_charging_current", 13),
        (FREE, SetLock(True), "PUT", "/v2/charger/{}", {"locked": 1}, "locked", True),
        (FREE, SetEcoMode(EcoMode.ECO), "PUT", "/v4/chargers/{}/eco-smart", _eco(1, 0), "eco", Eco(enabled=True)),
        (
            *(FREE, SetEcoMode(EcoMode.FULL_SOLAR), "PUT", "/v4/chargers/{}/eco-smart", _eco(1, 1), "eco"),
            Eco(enabled=True, mode=1),
        ),
        (FREE, SetEcoMode(EcoMode.OFF), "PUT", "/v4/chargers/{}/eco-smart", _eco(0, 0), "eco", Eco()),
        (CHARGING, SetCharging(False), "POST", "/v3/chargers/{}/remote-action", {"action": 2}, "manual", Manual.PAUSE),
        (WAITING, SetOverride(True), "POST", "/v3/chargers/{}/remote-action", {"action": 1}, "manual", Manual.CHARGE),
        (WAITING, SetCharging(True), "POST", "/v3/chargers/{}/remote-action", {"action": 1}, "manual", Manual.CHARGE),
        (WAITING, SetOverride(False), "POST", "/v3/chargers/{}/remote-action", {"action": 9}, "manual", Manual.NONE),
        (FREE, Restart(), "POST", "/v3/chargers/{}/remote-action", {"action": 3}, "restarts", 1),
        (CHARGING, Install(), "POST", "/v3/chargers/{}/remote-action", {"action": 5}, "updating", True),
    ],
)
async def test_command_sends_one_request_and_takes_effect_on_its_charger(
    rig: Rig, serial: str, command: Command, method: str, path: str, body: object, attribute: str, value: object
) -> None:
    since = rig.clock.monotonic()
    await _send(rig, serial, command)
    (sent,) = rig.writes(since)
    assert (sent.method, sent.path, json.loads(sent.body)) == (method, path.format(serial), body)
    assert getattr(rig.charger(serial), attribute) == value
    others = {FREE, WAITING, CHARGING} - {serial}
    assert not any(other in request.path for request in rig.writes(since) for other in others)


async def test_solar_share_written_back_even_if_an_answer_omitted_eco_smart(rig: Rig) -> None:
    rig.charger(FREE).eco = Eco(enabled=False, percentage=40)
    await rig.finish(rig.begin(rig.transport(FREE).check()))
    assert rig.transport(FREE).eco_percentage == 40
    rig.charger(FREE).eco = None
    await rig.finish(rig.begin(rig.transport(FREE).check()))
    rig.charger(FREE).eco = Eco(enabled=False, percentage=40)
    await _send(rig, FREE, SetEcoMode(EcoMode.ECO))
    assert rig.charger(FREE).eco == Eco(enabled=True, percentage=40)


async def test_i5_factory_reset_cannot_be_expressed(rig: Rig) -> None:
    assert sorted(RemoteAction) == [1, 2, 3, 5, 9]
    for number in (0, 4, 6, 7, 8):
        with pytest.raises(ValueError, match="is not a valid RemoteAction"):
            await rig.account._client.remote_action(FREE, number)  # type: ignore[arg-type]
    assert rig.writes() == []


async def test_echo_of_a_write_is_no_reading(rig: Rig) -> None:
    """What the charger reported stays until the charger reports again."""
    listener = rig.listener(FREE)
    await _send(rig, FREE, SetCurrent(13))
    await _send(rig, FREE, SetLock(True))
    assert (listener.value(CHARGING_CURRENT), listener.value(LOCKED)) == (32, False)
    await rig.clock.advance(5 * MINUTE)
    assert (listener.value(CHARGING_CURRENT), listener.value(LOCKED)) == (13, True)


async def test_write_with_empty_answer_accepted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    request = rig.account._client._request

    async def emptied(*args: object) -> None:
        await request(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(rig.account._client, "_request", emptied)
    await _send(rig, FREE, SetCurrent(13))
    await _send(rig, FREE, SetLock(True))
    assert (rig.charger(FREE).max_charging_current, rig.charger(FREE).locked) == (13, True)


async def test_write_whose_answer_has_no_echo_accepted(rig: Rig) -> None:
    listener = rig.listener(FREE)
    for command in (SetCurrent(13), SetLock(True)):
        await rig.cloud.set_fault(Fault.NULLS, method="PUT", carried_out=True)
        await _send(rig, FREE, command)
    assert listener.value(CHARGING_CURRENT) == 32
    assert listener.value(LOCKED) is False
    assert (rig.charger(FREE).max_charging_current, rig.charger(FREE).locked) == (13, True)


async def test_written_eco_mode_is_read_back_within_minutes(rig: Rig) -> None:
    listener, since = rig.listener(FREE), rig.clock.monotonic()
    await _send(rig, FREE, SetEcoMode(EcoMode.ECO))
    assert listener.value(ECO_MODE) is EcoMode.OFF
    await rig.clock.advance(4 * MINUTE)
    assert len(rig.gets(f"{STATUS}{FREE}", since)) == 1
    assert listener.value(ECO_MODE) is EcoMode.ECO


NIGHT = ScheduleWindow(slot=0, enabled=True, days=frozenset({0, 6}), start=time(22), end=time(5, 30))
NIGHT_OFF = replace(NIGHT, enabled=False)
NIGHT_THERE = Window(start="2200", stop="0530", days=frozenset({0, 6}))
NOON_THERE = Window(start="1100", stop="1300", max_current=1, extra={"name": "Noon", "colour": ["red", None]})


@pytest.mark.parametrize("schedules", Schedules)
async def test_written_schedule_read_back_within_minutes_even_if_answer_is_lost(rig: Rig, schedules: Schedules) -> None:
    rig.cloud.schedules = schedules
    for fault in (Fault.NONE, Fault.RESET):
        rig.charger(WAITING).schedules = (NIGHT_THERE, NOON_THERE)
        since = rig.clock.monotonic() + 0.1
        await rig.clock.advance(MINUTE)
        await rig.cloud.set_fault(fault, method="POST", carried_out=True)
        (lost,) = await rig.finish(rig.begin(rig.transport(WAITING).write_schedule((NIGHT_OFF,))))
        assert (lost is None) is (fault is Fault.NONE)
        (sent,) = rig.writes(since)
        assert sent.at - rig.gets(f"/chargers/{WAITING}/schedules", since)[-1].at < 1, "read right before the write"
        assert [entry["start"] for entry in json.loads(sent.body)["schedules"]] == ["2200", "1100"]
        await rig.clock.advance(4 * MINUTE)
        assert len(rig.gets(f"/chargers/{WAITING}/schedules", since)) == 2
        assert rig.charger(WAITING).schedules == (replace(NIGHT_THERE, enabled=False), NOON_THERE)
        (seen,) = await rig.finish(rig.begin(rig.transport(WAITING).read_schedule()))
        assert isinstance(seen, tuple)
        assert [(window.start.hour, window.enabled) for window in seen] == [(22, False), (11, True)]


async def test_schedule_just_read_not_read_again_before_the_write(rig: Rig) -> None:
    rig.charger(WAITING).schedules = (NIGHT_THERE,)
    since = rig.clock.monotonic() + 0.1
    await rig.clock.advance(1)
    await rig.finish(rig.begin(rig.transport(WAITING).read_schedule()))
    await rig.finish(rig.begin(rig.transport(WAITING).write_schedule((NIGHT_OFF,))))
    assert len(rig.gets(f"/chargers/{WAITING}/schedules", since)) == 1
    assert len(rig.writes(since)) == 1


async def test_external_schedule_change_kept_while_write_waits_for_room(rig: Rig) -> None:
    """Read the list again before the write, because a write replaces the whole list."""
    rig.charger(WAITING).schedules = (NIGHT_THERE,)
    await rig.finish(rig.begin(rig.transport(WAITING).read_schedule()))
    for amps in (10, 11, 12, 13, 14):
        await _send(rig, FREE, SetCurrent(amps))
    writing = rig.begin(rig.transport(WAITING).write_schedule((NIGHT_OFF,)))
    await rig.clock.advance(10)
    assert not writing.done()
    rig.charger(WAITING).schedules = (NIGHT_THERE, NOON_THERE)
    assert await rig.finish(writing) == [None]
    assert rig.charger(WAITING).schedules == (replace(NIGHT_THERE, enabled=False), NOON_THERE)
    assert overdrawn(rig, probes=False) == []


async def test_schedule_not_fully_readable_refused_and_not_written(rig: Rig) -> None:
    rig.charger(WAITING).schedules = (NIGHT_THERE, Window(start="1100", stop="1300", days=frozenset()))
    for call in (rig.transport(WAITING).read_schedule(), rig.transport(WAITING).write_schedule((NIGHT_OFF,))):
        (refused,) = await rig.finish(rig.begin(call))
        assert isinstance(refused, NotApplicable)
        assert refused.reason == "schedule_unreadable"
    assert rig.writes() == []


async def test_schedule_without_changes_not_written(rig: Rig) -> None:
    rig.charger(WAITING).schedules = (NIGHT_THERE,)
    assert await rig.finish(rig.begin(rig.transport(WAITING).write_schedule((NIGHT,)))) == [None]
    assert rig.writes() == []


HOURS_OFF = [0.0, 5 * HOUR, -5 * HOUR, 40 * DAY, -40 * DAY]


@pytest.mark.parametrize("ahead", HOURS_OFF)
@pytest.mark.parametrize("newest", [None, 7.0, 3 * DAY])
async def test_written_schedule_newer_than_any_schedule_known_to_the_cloud(
    rig: Rig, ahead: float, newest: float | None
) -> None:
    """Use the cloud's clock: the cloud drops an older entry, and an entry of the far future blocks later edits."""
    rig.cloud.clock_offset = ahead
    cloud_now = int(rig.cloud.now().timestamp())
    made_at = cloud_now - 99 if newest is None else cloud_now + int(newest)
    rig.charger(WAITING).schedules = (NIGHT_THERE, replace(NOON_THERE, created_at=made_at))
    rig.cloud.last_schedule[WAITING] = made_at + 5
    assert await rig.finish(rig.begin(rig.transport(WAITING).write_schedule((NIGHT_OFF,)))) == [None]
    written = rig.charger(WAITING).schedules
    assert written == (replace(NIGHT_THERE, enabled=False), NOON_THERE)
    sent_at = int(rig.cloud.now().timestamp())
    created = {window.created_at for window in written}
    assert created == {made_at + 6} if newest is not None else max(created) - sent_at in {0, 1, 2}


async def test_window_in_another_time_zone_refused_and_not_sent(rig: Rig) -> None:
    window = ScheduleWindow(0, True, frozenset({0}), time(22), time(5), zone="Europe/Berlin")
    (refused,) = await rig.finish(rig.begin(rig.transport(WAITING).write_schedule((window,))))
    assert isinstance(refused, Unsupported)
    assert rig.writes() == []


# Refusals


def _with(**controls: object) -> dict[str, object]:
    return controls


@pytest.mark.parametrize(
    ("serial", "controls", "command", "reason"),
    [
        (CHARGING, _with(locked=True), SetCharging(False), "locked"),
        (CHARGING, _with(ocpp=True), SetCharging(False), "ocpp_active"),
        (WAITING, _with(ocpp=True), SetOverride(True), "ocpp_active"),
    ],
)
async def test_403_on_write_explained_by_lock_or_ocpp(
    rig: Rig, serial: str, controls: dict[str, object], command: Command, reason: str
) -> None:
    for name, value in controls.items():
        setattr(rig.charger(serial), name, value)
    await rig.finish(rig.begin(rig.transport(serial).check()))
    since = rig.clock.monotonic()
    refused = await _refusal(rig, serial, command)
    assert (type(refused), refused.reason) == (NotAllowed, reason)
    assert refused.surely_not_sent
    await rig.clock.advance(MINUTE)
    assert rig.gets("/users/signin", since) == []  # never a sign-in
    assert not any(snapshot.needs_login for snapshot in rig.snapshots)


async def test_403_on_write_with_user_role_explained_by_role(rig: Rig) -> None:
    rig.owner.role = "user"
    rig.transport(FREE).details_refresh.expire()
    await rig.clock.advance(5 * MINUTE)
    for command in (SetCurrent(10), SetEcoMode(EcoMode.ECO)):
        refused = await _refusal(rig, FREE, command)
        assert (type(refused), refused.reason) == (NotAllowed, "role_too_low")
    rig.charger(FREE).schedules = (NIGHT_THERE,)
    (error,) = await rig.finish(rig.begin(rig.transport(FREE).write_schedule((NIGHT_OFF,))))
    assert (type(error), str(error)) == (NotAllowed, "role_too_low: HTTP 403")


@pytest.mark.parametrize("command", [Restart(), Install(), SetLock(False), SetCurrent(10)])
async def test_403_on_command_allowed_while_locked_not_blamed_on_lock(rig: Rig, command: Command) -> None:
    """Send commands that a lock does not block; many chargers are locked whenever they are idle."""
    rig.charger(FREE).locked = True
    await rig.finish(rig.begin(rig.transport(FREE).check()))
    rig.owner.look_only = {FREE}
    refused = await _refusal(rig, FREE, command)
    assert (type(refused), refused.reason) == (NotAllowed, "refused")


async def test_404_on_write_reported_as_not_shared(rig: Rig) -> None:
    del rig.world.chargers[FREE]
    refused = await _refusal(rig, FREE, SetCurrent(10))
    assert (type(refused), refused.reason) == (NotAllowed, "not_shared")


async def test_409_on_write_reported_as_wrong_state(rig: Rig) -> None:
    refused = await _refusal(rig, FREE, SetCharging(True))
    assert (type(refused), refused.reason) == (NotApplicable, "wrong_state")
    assert rig.account.breaker.closed


async def test_refusal_proves_cloud_reachable(rig: Rig) -> None:
    await rig.cloud.set_fault(Fault.ERROR_500, next_requests=1)
    await rig.until(BreakerState.DOUBTFUL, within=200)
    refused = await _refusal(rig, FREE, SetCharging(True))
    assert isinstance(refused, NotApplicable)
    assert rig.account.breaker.closed


# No answer


async def test_unanswered_command_times_out_and_makes_cloud_doubtful(rig: Rig) -> None:
    await rig.cloud.set_fault(Fault.SLOW, slow_seconds=8)
    for patience in (5.0, 3.0):
        begun = rig.clock.monotonic()
        (lost,) = await rig.finish(rig.begin(rig.transport(FREE).execute(SetCurrent(10), patience=patience)), step=0.5)
        assert isinstance(lost, TransportDown)
        assert (lost.reason, lost.surely_not_sent) == ("timeout", False)
        assert rig.clock.monotonic() - begun == pytest.approx(patience, abs=0.6)
        assert rig.account.breaker.state is BreakerState.DOUBTFUL
    await rig.clock.advance(10)
    assert rig.charger(FREE).max_charging_current == 10  # late, after the time-out of the command


@pytest.mark.parametrize("fault", [Fault.ERROR_500, Fault.RESET, Fault.GARBAGE, Fault.HTML])
async def test_i5_restart_with_lost_answer_not_sent_again(rig: Rig, fault: Fault) -> None:
    await rig.cloud.set_fault(fault, method="POST", carried_out=True, next_requests=1)
    lost = await _refusal(rig, FREE, Restart())
    assert isinstance(lost, TransportDown)
    assert not lost.surely_not_sent
    await rig.clock.advance(10 * MINUTE)
    assert rig.charger(FREE).restarts == 1


async def test_command_without_connection_reported_as_not_sent(rig: Rig) -> None:
    await rig.cloud.set_fault(Fault.REFUSE)
    lost = await _refusal(rig, FREE, Restart())
    assert isinstance(lost, NoConnection)
    assert lost.surely_not_sent


# Tokens


async def test_command_with_refused_token_repeated_once_with_new_token(rig: Rig) -> None:
    await rig.until_get(REFRESH, within=20 * MINUTE)
    await rig.clock.advance(61)
    rig.cloud.expire_access()
    since = rig.clock.monotonic()
    await _send(rig, FREE, Restart())
    assert [request.status for request in rig.writes(since)] == [401, 200]
    assert len(rig.gets(REFRESH, since)) == 1
    assert rig.charger(FREE).restarts == 1
    assert overdrawn(rig, probes=False) == []


async def test_i6_restart_whose_repetition_finds_no_room_refused_not_queued(rig: Rig) -> None:
    await rig.until_get(REFRESH, within=20 * MINUTE)
    await rig.clock.advance(61)
    for amps in (10, 11, 12, 13):
        await _send(rig, FREE, SetCurrent(amps))
    rig.cloud.expire_access()
    refused = await _refusal(rig, FREE, Restart())
    assert isinstance(refused, TransportBusy)
    assert (refused.reason, refused.surely_not_sent) == ("no_room", True)
    await rig.clock.advance(5 * MINUTE)
    assert rig.charger(FREE).restarts == 0
    assert overdrawn(rig, probes=False) == []


@pytest.mark.parametrize("command", [Restart(), Install()])
@pytest.mark.parametrize("waiting", [0, 3])
async def test_restart_and_install_never_wait_for_room(rig: Rig, command: Command, waiting: int) -> None:
    tasks = [rig.begin(rig.transport(WAITING).execute(SetLock(n % 2 == 0), patience=5)) for n in range(5 + waiting)]
    await rig.clock.advance(10)
    begun = rig.clock.monotonic()
    refused = await _refusal(rig, FREE, command)
    assert isinstance(refused, TransportBusy)
    assert refused.reason == "no_room"
    assert refused.retry_after == pytest.approx(50)
    assert rig.clock.monotonic() == begun
    assert await rig.finish(*tasks) == [None] * len(tasks)
    await rig.clock.advance(5 * MINUTE)
    assert rig.charger(FREE).restarts == 0


async def test_restart_refused_while_commands_wait_for_slots_just_freed(rig: Rig) -> None:
    results: list[asyncio.Task[object]] = []

    def press() -> None:
        results.append(rig.begin(rig.transport(FREE).execute(Restart(), patience=5)))

    rig.clock.call_later(60, press)
    tasks = [rig.begin(rig.transport(WAITING).execute(SetLock(n % 2 == 0), patience=5)) for n in range(11)]
    await rig.clock.advance(60)
    (refused,) = await rig.finish(*results)
    assert isinstance(refused, TransportBusy)
    assert refused.reason == "no_room"
    assert await rig.finish(*tasks) == [None] * 11


async def test_running_command_does_not_delay_restart_of_another_charger(rig: Rig) -> None:
    await rig.cloud.set_fault(Fault.SLOW, slow_seconds=4, path_prefix=f"/v2/charger/{WAITING}")
    slow = rig.begin(rig.transport(WAITING).execute(SetLock(True), patience=5))
    await rig.clock.advance(1)
    await _send(rig, FREE, Restart())
    assert not slow.done()
    assert await rig.finish(slow) == [None]


async def test_two_commands_with_refused_token_cause_one_renewal(rig: Rig) -> None:
    await rig.until_get(REFRESH, within=20 * MINUTE)
    await rig.clock.advance(61)
    rig.cloud.expire_access()
    since = rig.clock.monotonic()
    tasks = [rig.begin(_send(rig, serial, SetLock(True))) for serial in (FREE, WAITING)]
    assert await rig.finish(*tasks) == [None, None]
    assert len(rig.gets("/users/", since)) == 1
    assert rig.account.breaker.closed


# Effects on other chargers and requests


async def test_command_to_unlisted_charger_reaches_only_that_charger(rig: Rig) -> None:
    rig.world.add(SimulatedCharger(serial="700555", name="New"))
    await rig.transport("700555").execute(SetLock(True), patience=5)
    assert rig.charger("700555").locked
    assert not rig.charger(FREE).locked


async def test_commands_do_not_delay_group_polls(rig: Rig) -> None:
    since = rig.clock.monotonic()
    for _ in range(10):
        await _send(rig, FREE, SetLock(True))
        await rig.clock.advance(30)
    groups = rig.gets(GROUPS, since)
    assert len(groups) in {2, 3}
    assert set(gaps(groups)) == {120}
