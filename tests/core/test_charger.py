"""Charger: what its snapshot shows, when its listeners are notified, and what becomes of commands."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from custom_components.chargekeeper.core.breaker import Failure
from custom_components.chargekeeper.core.charger import ChargerOptions
from custom_components.chargekeeper.core.charger.evidence import UNVERIFIED_AFTER
from custom_components.chargekeeper.core.charger.sent_commands import TIME_TO_LIVE
from custom_components.chargekeeper.core.cooldown import RAISE_SPACING, START_SPACING
from custom_components.chargekeeper.core.errors import (
    ChargerError,
    LoginRejected,
    NoConnection,
    NotAllowed,
    NotApplicable,
    NotSaved,
    TransportBusy,
    TransportDown,
    TransportsFailed,
    UnsafeRequest,
    Unsupported,
)
from custom_components.chargekeeper.core.model import (
    CAR_CONNECTED,
    CHARGING_CURRENT,
    HOUSE_LIMIT,
    LOAD_GROUP_LIMIT,
    LOCKED,
    OCPP,
    OFFLINE_CURRENT,
    POWER,
    STATUS,
    TEMPERATURE,
    UNIT_RATING,
    WIRE_RATING,
    Capability,
    ChargerIssue,
    EcoMode,
    LimitingFactor,
    Outcome,
    Prefer,
    Source,
    Status,
)
from custom_components.chargekeeper.core.transport import (
    LOCAL_READ_BACK,
    Presence,
    Restart,
    SetCharging,
    SetCurrent,
    SetEcoMode,
    SetLock,
    SetOverride,
    Setting,
)
from tests.core.fake_transport import DAYTIME, LIVE_SECONDS, WHO, Bench, FakeTransport, LogLines, Manual
from tests.simulators.clock import START


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    await bench.start()
    return bench


def task[T](work: Coroutine[object, object, T]) -> asyncio.Task[T]:
    return asyncio.ensure_future(work)


# The snapshot


async def test_snapshot_empty_before_first_answer() -> None:
    bench = Bench()
    assert bench.reach()[0] is None
    await bench.start(tell=False)
    snapshot = bench.snapshot
    assert snapshot.identity == WHO
    assert bench.reach() == (None, None, None)
    assert len(snapshot.readings) == 0
    assert snapshot.capabilities == set(Capability)
    await bench.tell()
    assert bench.reach() == (True, None, Source.CLOUD)
    assert bench.status() is Status.WAITING_SCHEDULE


async def test_cloud_that_never_answered_unreachable_once_breaker_opens() -> None:
    bench = Bench()
    await bench.start(tell=False)
    await bench.cloud.lose()
    assert bench.reach()[0] is False


async def test_answer_received_before_start_shown_at_start() -> None:
    bench = Bench()
    bench.charger.add_transport(bench.cloud)
    bench.cloud.tell()
    await bench.clock.settle()
    assert bench.snapshots == []
    bench.charger.start()
    assert [snapshot.value(STATUS) for snapshot in bench.snapshots] == [Status.WAITING_SCHEDULE]


async def test_listeners_notified_only_of_changes(bench: Bench) -> None:
    contacts: list[float] = []
    end = bench.charger.listen_contact(lambda: contacts.append(bench.clock.monotonic()))
    bench.snapshots.clear()
    await bench.poll(3)
    assert bench.snapshots == []
    assert len(contacts) == 3
    bench.device.amps = 10
    await bench.poll()
    assert [snapshot.value(CHARGING_CURRENT) for snapshot in bench.snapshots] == [10]
    assert len(contacts) == 3
    bench.cloud.changed()  # nothing is new
    assert len(bench.snapshots) == 1
    assert len(contacts) == 3
    end()
    end()
    await bench.poll()
    assert len(contacts) == 3


async def test_snapshot_equality_ignores_times(bench: Bench) -> None:
    before = bench.snapshot
    await bench.poll()
    after = bench.snapshot
    assert after == before
    assert after.last_cloud_contact != before.last_cloud_contact
    reading, old = after.readings.get(STATUS), before.readings.get(STATUS)
    assert reading is not None
    assert old is not None
    assert reading.observed_at > old.observed_at


async def test_live_values_and_transport_disappear_at_maximum_age(bench: Bench) -> None:
    bench.snapshots.clear()
    await bench.clock.advance(LIVE_SECONDS - 1)
    assert bench.snapshots == []
    await bench.clock.advance(1)
    assert bench.status() is None
    assert bench.reach() == (False, None, None)
    current = bench.snapshot.readings.get(CHARGING_CURRENT)
    assert current is not None
    assert (current.value, current.source) == (16, Source.CACHE)


async def test_timer_wakes_rarely_when_nothing_happens(bench: Bench) -> None:
    bench.cloud.show(POWER, 5.0, max_age=300)
    wakes = 0
    call_later = bench.clock.call_later

    def counted(seconds: float, callback: object) -> object:
        nonlocal wakes
        wakes += 1
        assert seconds > 0
        return call_later(seconds, callback)  # type: ignore[arg-type]

    bench.clock.call_later = counted  # type: ignore[method-assign,assignment]
    await bench.clock.advance(24 * 3600)
    assert wakes < 12
    assert bench.clock.pending == 1  # the timer for the next start or end of a window


async def test_timer_does_not_spin_after_clock_jumps_back(bench: Bench) -> None:
    bench.clock.jump(-1e-3)
    started = len(bench.clock._timers)
    await bench.clock.advance(10 * 3600 + 1)
    assert bench.snapshot.next_window == START + timedelta(days=1, hours=10)
    assert len(bench.clock._timers) <= started + 4


async def test_next_window_advances_when_window_starts(bench: Bench) -> None:
    assert bench.snapshot.next_window == START + timedelta(hours=10)
    await bench.clock.advance(10 * 3600)
    assert bench.snapshot.next_window == START + timedelta(days=1, hours=10)
    bench.device.windows = ()
    await bench.tell()
    assert bench.snapshot.next_window is None


async def test_effective_limit_names_limiting_factor(bench: Bench) -> None:
    def limit() -> tuple[float | None, LimitingFactor | None]:
        return bench.snapshot.effective_limit, bench.snapshot.limiting_factor

    assert limit() == (16, LimitingFactor.CHARGING_CURRENT)
    bench.cloud.show(HOUSE_LIMIT, 14.0)
    assert limit() == (14, LimitingFactor.HOUSE_LIMIT)
    bench.charger.options = ChargerOptions(load_group_limit=12.0)
    assert limit() == (12, LimitingFactor.LOAD_GROUP_LIMIT)
    entered = bench.snapshot.readings.get(LOAD_GROUP_LIMIT)
    assert entered is not None
    assert (entered.value, entered.source) == (12.0, Source.USER)
    assert bench.charger.options.load_group_limit == 12.0
    bench.cloud.show(LOAD_GROUP_LIMIT, 11.0)  # the limit that the charger reports is lower
    assert limit() == (11, LimitingFactor.LOAD_GROUP_LIMIT)
    bench.cloud.show(WIRE_RATING, 10.0)
    assert limit() == (10, LimitingFactor.WIRE_RATING)
    bench.cloud.show(OFFLINE_CURRENT, 8.0)
    bench.cloud.show(UNIT_RATING, 32.0)
    assert limit() == (10, LimitingFactor.WIRE_RATING)
    await bench.cloud.lose()
    assert limit() == (8, LimitingFactor.OFFLINE_CURRENT)


async def test_limit_entered_by_user_not_cached_in_outage() -> None:
    bench = Bench(options=ChargerOptions(load_group_limit=12.0))
    await bench.start()
    await bench.cloud.lose()
    assert bench.snapshot.effective_limit == 12
    entered = bench.snapshot.readings.get(LOAD_GROUP_LIMIT)
    assert entered is not None
    assert entered.source is Source.USER


async def test_cloud_unusable_while_charger_is_offline_in_cloud(bench: Bench) -> None:
    bench.device.at_hand = False
    await bench.poll()
    assert bench.reach()[0] is False
    assert bench.status() is Status.OFFLINE
    assert bench.snapshot.value(CAR_CONNECTED) is None
    assert bench.snapshot.value(CHARGING_CURRENT) == 16
    bench.device.at_hand = True
    await bench.poll()
    assert bench.reach()[0] is True
    assert bench.status() is Status.WAITING_SCHEDULE


async def test_status_not_offline_while_another_transport_reaches_charger(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    assert bench.reach() == (True, True, Source.CLOUD)
    assert bench.snapshot.last_local_contact == bench.clock.now()
    await bench.tell(Status.OFFLINE)
    assert bench.status() is Status.WAITING_SCHEDULE
    assert bench.reach() == (False, True, Source.BLUETOOTH)
    await local.lose()
    assert bench.reach() == (False, False, None)
    await bench.tell(Status.OFFLINE)
    assert bench.status() is Status.OFFLINE


async def test_preference_decides_which_transport_is_shown(bench: Bench) -> None:
    await bench.add(Source.BLUETOOTH)
    assert bench.reach()[2] is Source.CLOUD
    bench.charger.options = ChargerOptions(prefer=Prefer.LOCAL_FIRST)
    assert bench.reach()[2] is Source.BLUETOOTH


async def test_identity_and_capabilities_follow_transports(bench: Bench) -> None:
    bench.cloud.who = replace(WHO, name="Barn")
    bench.cloud.can = frozenset({Capability.CURRENT})
    bench.cloud.changed()
    assert bench.snapshot.identity.name == "Barn"
    assert bench.snapshot.capabilities == {Capability.CURRENT}
    bench.charger.remove_transport(Source.CLOUD)
    bench.charger.remove_transport(Source.CLOUD)
    assert bench.snapshot.capabilities == frozenset()
    assert bench.reach()[0] is None
    assert bench.snapshot.identity.name == "Barn"


async def test_charger_removed_from_account_raises_issue(bench: Bench) -> None:
    bench.cloud.is_gone = True
    bench.cloud.changed()
    assert bench.snapshot.issues == {ChargerIssue.GONE}
    bench.cloud.is_gone = False
    bench.cloud.changed()
    assert bench.snapshot.issues == frozenset()


async def test_status_shows_restarting_instead_of_reported_status(bench: Bench) -> None:
    await bench.charger.restart()
    assert bench.status() is Status.RESTARTING
    await bench.poll()
    assert bench.status() is Status.RESTARTING
    bench.charger.remove_transport(Source.CLOUD)
    assert bench.status() is Status.RESTARTING


async def test_transport_replaced_by_new_transport_of_same_source(bench: Bench) -> None:
    second = FakeTransport(bench.device, log=[])
    bench.charger.add_transport(second)
    bench.snapshots.clear()
    bench.device.amps = 8
    bench.cloud.tell()
    assert bench.snapshots == []
    second.tell()
    assert bench.snapshot.value(CHARGING_CURRENT) == 8


async def test_restored_values_shown_as_cached_until_cloud_answers(bench: Bench) -> None:
    await bench.restart_home_assistant(tell=False)
    current = bench.snapshot.readings.get(CHARGING_CURRENT)
    assert current is not None
    assert (current.value, current.source) == (16, Source.CACHE)
    assert bench.snapshot.next_window == START + timedelta(hours=10)
    assert bench.status() is None
    await bench.tell()
    current = bench.snapshot.readings.get(CHARGING_CURRENT)
    assert current is not None
    assert current.source is Source.CLOUD


async def test_revision_increases_only_when_values_change(bench: Bench) -> None:
    before = bench.charger.revision
    await bench.poll()
    assert bench.charger.revision == before
    bench.device.amps = 7
    await bench.poll()
    assert bench.charger.revision == before + 1


async def test_diagnostics_contain_no_serial_or_name(bench: Bench) -> None:
    await bench.charger.command(SetCurrent(10))
    found = bench.charger.diagnostics()
    assert WHO.serial not in repr(found)
    assert WHO.name not in repr(found)
    assert found["commands"] == [{"at": START.isoformat(), "command": "SetCurrent", "outcome": Outcome.ACCEPTED}]
    transports = found["paths"]
    assert isinstance(transports, dict)
    assert transports[Source.CLOUD]["presence"] is Presence.ONLINE


# Refused commands


async def refusal(bench: Bench, setting: Setting) -> tuple[type[ChargerError], str]:
    sent = len(bench.sent)
    with pytest.raises(ChargerError) as caught:
        await bench.charger.command(setting)
    assert len(bench.sent) == sent
    return caught.type, caught.value.reason


async def test_read_only_charger_refuses_every_command(bench: Bench) -> None:
    bench.charger.options = ChargerOptions(read_only=True)
    assert await refusal(bench, SetCurrent(10)) == (NotAllowed, "read_only")
    for work in (bench.charger.set_override(True), bench.charger.restart(), bench.charger.install()):
        with pytest.raises(NotAllowed, match="read_only"):
            await work
    assert bench.sent == []
    assert bench.intents is None


async def test_command_refused_while_ocpp_is_active(bench: Bench) -> None:
    bench.cloud.show(OCPP, True)
    assert await refusal(bench, SetCharging(on=True)) == (NotAllowed, "ocpp_active")
    bench.cloud.show(OCPP, False)
    assert await bench.charger.command(SetCharging(on=False)) is Outcome.ACCEPTED


async def test_commands_refused_while_home_assistant_stops(bench: Bench) -> None:
    bench.charger.close()
    assert await refusal(bench, SetCurrent(10)) == (TransportDown, "stopping")
    for work in (bench.charger.set_override(True), bench.charger.restart(), bench.charger.install()):
        with pytest.raises(TransportDown, match="stopping"):
            await work
    assert bench.intents is None


async def test_i1_raise_above_ceiling_refused(bench: Bench) -> None:
    assert await refusal(bench, SetCurrent(33)) == (UnsafeRequest, "above_ceiling")
    assert await refusal(bench, SetCurrent(5)) == (UnsafeRequest, "current_too_low")
    bench.charger.group_share = 10.0
    assert await refusal(bench, SetCurrent(17)) == (UnsafeRequest, "above_ceiling")
    assert await bench.charger.command(SetCurrent(12)) is Outcome.ACCEPTED  # lower than the setting of 16 A


async def test_i1_raise_refused_while_wire_rating_is_unknown() -> None:
    bench = Bench()
    await bench.start(tell=False)
    bench.cloud.is_present = Presence.ONLINE
    bench.cloud.show(CHARGING_CURRENT, 16.0)
    assert await refusal(bench, SetCurrent(17)) == (UnsafeRequest, "wire_rating_unknown")
    assert await bench.charger.command(SetCurrent(10)) is Outcome.ACCEPTED


async def test_i1_lowering_from_cached_setting_refused_above_ceiling() -> None:
    bench = Bench(options=ChargerOptions(load_group_limit=10.0))
    await bench.start()
    bench.cloud.is_present = Presence.UNKNOWN
    bench.cloud.changed()
    assert await refusal(bench, SetCurrent(12)) == (UnsafeRequest, "above_ceiling")
    assert await bench.charger.command(SetCurrent(10)) is Outcome.ACCEPTED
    await bench.restart_home_assistant(tell=False)
    bench.cloud.is_present = Presence.ONLINE  # reachable, but without an answer yet
    bench.cloud.changed()
    assert await refusal(bench, SetCurrent(12)) == (UnsafeRequest, "above_ceiling")


@pytest.mark.parametrize("lost", [False, True])
async def test_i1_raise_refused_from_lower_current_sent_but_not_seen(bench: Bench, lost: bool) -> None:
    bench.charger.group_share = 10.0
    bench.cloud.lost_answers = int(lost)
    with suppress(TransportDown):
        await bench.charger.command(SetCurrent(9))
    assert await refusal(bench, SetCurrent(12)) == (UnsafeRequest, "above_ceiling")
    assert await bench.charger.command(SetCurrent(10)) is Outcome.ACCEPTED
    assert bench.device.amps == 10


async def test_i1_raise_refused_after_current_was_lowered_for_start(bench: Bench) -> None:
    bench.charger.group_share = 10.0
    await bench.charger.command(SetCharging(on=True))
    assert await refusal(bench, SetCurrent(12)) == (UnsafeRequest, "above_ceiling")


async def test_i1_waiting_command_checked_again_before_sending(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    first = task(bench.charger.command(SetLock(True)))
    await bench.clock.settle()
    second = task(bench.charger.command(SetCurrent(20)))
    await bench.clock.settle()
    bench.cloud.show(WIRE_RATING, 18.0)
    bench.cloud.gate.set()
    assert await first is Outcome.ACCEPTED
    with pytest.raises(UnsafeRequest, match="above_ceiling"):
        await second
    assert bench.sent == [SetLock(True)]


# Writes only on change


@pytest.mark.parametrize(
    ("setting", "other"),
    [
        (SetCurrent(16), SetCurrent(17)),
        (SetEcoMode(EcoMode.OFF), SetEcoMode(EcoMode.ECO)),
        (SetLock(False), SetLock(True)),
        (SetCharging(on=False), SetCharging(on=True)),
    ],
)
async def test_setting_in_force_verified_without_command(setting: Setting, other: Setting) -> None:
    bench = Bench()
    bench.device.manual = Manual.PAUSE
    await bench.start()
    assert await bench.charger.command(setting) is Outcome.VERIFIED
    assert bench.sent == []
    assert await bench.charger.command(other) is Outcome.ACCEPTED
    assert bench.sent == [other]
    # Readings from before that command prove nothing.
    assert await bench.charger.command(setting) is Outcome.ACCEPTED
    assert bench.sent == [other, setting]
    await bench.poll()
    assert await bench.charger.command(setting) is Outcome.VERIFIED
    assert len(bench.sent) == 2


async def test_start_of_charging_car_verified_without_command(bench: Bench) -> None:
    bench.device.manual = Manual.CHARGE
    await bench.tell()
    assert await bench.charger.command(SetCharging(on=True)) is Outcome.VERIFIED
    assert bench.sent == []


async def test_setting_equal_to_cached_value_sent(bench: Bench) -> None:
    bench.cloud.is_present = Presence.UNKNOWN
    bench.cloud.changed()
    for setting in (SetCurrent(16), SetEcoMode(EcoMode.OFF), SetLock(False)):
        assert await bench.charger.command(setting) is Outcome.ACCEPTED
    assert len(bench.sent) == 3


# Waiting commands


async def test_newest_waiting_current_sent_and_outcome_returned_to_all_callers(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    first = task(bench.charger.command(SetLock(True)))
    await bench.clock.settle()
    waiting = [task(bench.charger.command(SetCurrent(amps))) for amps in (10, 11, 12)]
    await bench.clock.settle()
    assert bench.sent == [SetLock(True)]
    bench.cloud.gate.set()
    assert await asyncio.gather(first, *waiting) == [Outcome.ACCEPTED] * 4
    assert bench.sent == [SetLock(True), SetCurrent(12)]


async def test_failure_raised_to_all_callers(bench: Bench) -> None:
    bench.cloud.errors.append(NotAllowed("locked"))
    calls = [task(bench.charger.command(SetCurrent(amps))) for amps in (10, 11)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["locked", "locked"]
    assert bench.sent == [SetCurrent(11)]


async def test_command_in_flight_not_replaced_by_newer_command(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    first = task(bench.charger.command(SetCurrent(10)))
    await bench.clock.settle()
    second = task(bench.charger.command(SetCurrent(11)))
    await bench.clock.settle()
    bench.cloud.gate.set()
    await asyncio.gather(first, second)
    assert bench.sent == [SetCurrent(10), SetCurrent(11)]


async def test_commands_to_charger_sent_one_after_another(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    settings: list[Setting] = [SetLock(True), SetCurrent(10), SetEcoMode(EcoMode.ECO), SetCharging(on=False)]
    calls = [task(bench.charger.command(setting)) for setting in settings]
    await bench.clock.settle()
    assert bench.sent == settings[:1]
    bench.cloud.gate.set()
    await asyncio.gather(*calls)
    assert bench.sent == settings


async def test_canceled_caller_does_not_affect_other_callers(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    bench.cloud.errors.append(NotAllowed("locked"))
    impatient = task(bench.charger.command(SetCurrent(10)))
    patient = task(bench.charger.command(SetCurrent(11)))
    await bench.clock.settle()
    impatient.cancel()
    await bench.clock.settle()
    assert impatient.cancelled()
    bench.cloud.gate.set()
    with pytest.raises(NotAllowed, match="locked"):
        await patient
    assert await bench.charger.command(SetCurrent(12)) is Outcome.ACCEPTED
    assert bench.sent == [SetCurrent(11), SetCurrent(12)]


async def test_commands_carried_out_although_their_callers_were_canceled(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    for work in (bench.charger.command(SetCurrent(10)), bench.charger.set_override(True), bench.charger.restart()):
        call: asyncio.Task[object] = asyncio.ensure_future(work)
        await bench.clock.settle()
        call.cancel()
        await bench.clock.settle()
        assert call.cancelled()
    bench.cloud.gate.set()
    await bench.clock.settle()
    assert SetCurrent(10) in bench.sent
    assert Restart() in bench.sent
    assert bench.device.starts == 1
    assert bench.status() is Status.RESTARTING


async def test_stop_ends_waiting_commands_and_new_start_accepts_commands(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    calls = [task(bench.charger.command(SetLock(True))), task(bench.charger.command(SetCurrent(10)))]
    override = task(bench.charger.set_override(True))
    await bench.clock.settle()
    await bench.charger.stop()
    for call in (*calls, override):
        with pytest.raises(NoConnection, match="stopping"):
            await call
    assert bench.clock.pending == 0
    bench.cloud.gate = None
    bench.cloud.log.clear()
    await bench.start()
    await bench.clock.settle()
    assert await bench.charger.command(SetCurrent(11)) is Outcome.ACCEPTED
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED


async def test_listeners_not_notified_after_stop(bench: Bench) -> None:
    await bench.charger.stop()
    bench.snapshots.clear()
    bench.device.amps = 9
    bench.cloud.tell()
    bench.cloud.breaker.bad(Failure.CONNECT)
    await bench.clock.advance(3 * 3600)
    assert bench.snapshots == []
    assert bench.charger not in bench.cloud._listeners


# Choice of transport


@pytest.mark.parametrize("error", [TransportDown("timeout"), NoConnection("refused"), TransportBusy("no_room", 9)])
async def test_second_transport_used_if_first_fails(bench: Bench, error: ChargerError) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.cloud.errors.append(error)
    assert await bench.charger.command(SetCurrent(18)) is Outcome.ACCEPTED
    assert (bench.sent, local.commands) == ([SetCurrent(18)], [SetCurrent(18)])


async def test_second_transport_used_if_cloud_login_is_rejected(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.cloud.errors.append(LoginRejected("invalid_auth"))
    assert await bench.charger.command(SetLock(True)) is Outcome.ACCEPTED
    assert local.commands == [SetLock(True)]


@pytest.mark.parametrize("error", [NotAllowed("locked"), NotApplicable("wrong_state"), Unsupported("unsupported")])
async def test_refused_command_not_sent_over_another_transport(bench: Bench, error: ChargerError) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.cloud.errors.append(error)
    with pytest.raises(type(error), match=error.reason):
        await bench.charger.command(SetCharging(on=False))
    assert local.commands == []


async def test_error_names_each_transport_with_its_reason_if_all_fail(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.cloud.errors.append(TransportDown("timeout"))
    local.errors.append(TransportBusy("throttled", 60))
    with pytest.raises(TransportsFailed, match="cloud: timeout, bluetooth: throttled") as caught:
        await bench.charger.command(SetLock(True))
    assert [(source, error.reason) for source, error in caught.value.failures] == [
        (Source.CLOUD, "timeout"),
        (Source.BLUETOOTH, "throttled"),
    ]
    assert not caught.value.surely_not_sent
    bench.cloud.errors.append(NoConnection("unreachable"))
    local.errors.append(TransportBusy("throttled", 60))
    with pytest.raises(TransportsFailed) as caught:
        await bench.charger.command(SetEcoMode(EcoMode.ECO))
    assert caught.value.surely_not_sent
    bench.cloud.errors.append(TransportDown("timeout"))
    local.errors.append(NotAllowed("locked"))
    with pytest.raises(NotAllowed, match="locked"):
        await bench.charger.command(SetCharging(on=False))


async def test_lower_current_sent_over_every_transport_and_higher_over_one(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    await bench.charger.command(SetCurrent(20))
    assert (bench.sent, local.commands) == ([SetCurrent(20)], [])
    await bench.poll()
    local.tell()
    await bench.charger.command(SetCurrent(8))
    assert (bench.sent[1:], local.commands) == ([SetCurrent(8)], [SetCurrent(8)])


@pytest.mark.parametrize("error", [TransportDown("timeout"), NotAllowed("locked")])
async def test_lower_current_accepted_if_one_transport_succeeds(bench: Bench, error: ChargerError) -> None:
    local = await bench.add(Source.BLUETOOTH)
    local.errors.append(error)
    assert await bench.charger.command(SetCurrent(8)) is Outcome.ACCEPTED
    bench.cloud.errors.append(TransportDown("timeout"))
    assert await bench.charger.command(SetCurrent(7)) is Outcome.ACCEPTED
    assert local.commands == [SetCurrent(8), SetCurrent(7)]


async def test_command_without_transport_refused_with_start_of_outage(bench: Bench) -> None:
    began = bench.clock.now()
    await bench.cloud.lose()
    with pytest.raises(TransportDown) as caught:
        await bench.charger.command(SetCurrent(8))
    assert (caught.value.reason, caught.value.detail) == ("no_path", began.isoformat())


async def test_command_to_offline_charger_refused_as_offline(bench: Bench) -> None:
    await bench.tell(Status.OFFLINE)
    assert await refusal(bench, SetCurrent(8)) == (TransportDown, "charger_offline")


async def test_command_beyond_capabilities_refused_as_unsupported(bench: Bench) -> None:
    bench.cloud.can = frozenset()
    assert await refusal(bench, SetEcoMode(EcoMode.ECO)) == (Unsupported, "unsupported")
    with pytest.raises(Unsupported):
        await bench.charger.set_override(True)


# Outcomes of commands


def outcomes(bench: Bench) -> list[Outcome]:
    commands = bench.charger.diagnostics()["commands"]
    assert isinstance(commands, list)
    return [command["outcome"] for command in commands]


async def test_command_verified_when_effect_shows(bench: Bench) -> None:
    await bench.charger.command(SetCurrent(10))
    assert outcomes(bench) == [Outcome.ACCEPTED]
    await bench.poll()
    assert outcomes(bench) == [Outcome.ACCEPTED, Outcome.VERIFIED]
    await bench.poll(5)
    assert len(outcomes(bench)) == 2


@pytest.mark.parametrize("automatic", [False, True])
async def test_command_without_effect_fails_with_warning_unless_automatic(bench: Bench, automatic: bool) -> None:
    bench.cloud.acked_only = True
    await bench.charger.command(SetCurrent(10), automatic=automatic)
    await bench.poll(2)
    assert outcomes(bench) == [Outcome.ACCEPTED]
    with LogLines() as log:
        await bench.poll()
    assert outcomes(bench) == [Outcome.ACCEPTED, Outcome.FAILED]
    warnings = ["A command (SetCurrent) was sent but never showed at the charger"]
    assert log.lines == ([] if automatic else warnings)


async def test_command_with_lost_answer_verified_when_effect_shows(bench: Bench) -> None:
    bench.cloud.lost_answers = 1
    with pytest.raises(TransportDown, match="timeout"):
        await bench.charger.command(SetCurrent(10))
    await bench.poll()
    assert outcomes(bench) == [Outcome.VERIFIED]


@pytest.mark.parametrize("lost", [False, True])
async def test_command_unverified_if_no_answer_follows(bench: Bench, lost: bool) -> None:
    await bench.charger.command(SetCurrent(10))
    bench.cloud.check_error = TransportBusy("no_room", 60)
    if lost:
        await bench.cloud.lose()
    await bench.clock.advance(UNVERIFIED_AFTER)
    assert outcomes(bench) == [Outcome.ACCEPTED, Outcome.UNVERIFIED]


async def test_pause_read_back_actively_but_current_only_with_next_answer(bench: Bench) -> None:
    bench.cloud.read_back_delays = (20.0,)
    await bench.charger.command(SetCurrent(10))
    await bench.clock.advance(30)
    assert bench.cloud.checks == 0
    await bench.charger.command(SetCharging(on=False))
    await bench.clock.advance(19)
    assert bench.cloud.checks == 0
    await bench.clock.advance(1)
    assert bench.cloud.checks == 1
    assert bench.status() is Status.PAUSED
    assert outcomes(bench)[-1] is Outcome.VERIFIED


# A safe start (I1)


async def test_i1_start_first_lowers_setting_above_ceiling(bench: Bench) -> None:
    bench.device.manual = Manual.PAUSE
    bench.device.amps = 20
    await bench.tell()
    bench.charger.group_share = 10.5
    assert await bench.charger.command(SetCharging(on=True)) is Outcome.ACCEPTED
    assert bench.sent == [SetCurrent(10), SetCharging(on=True)]


async def test_i1_start_first_lowers_current_sent_but_not_seen(bench: Bench) -> None:
    bench.device.manual, bench.device.amps = Manual.PAUSE, 8
    await bench.tell()
    await bench.charger.command(SetCurrent(12))
    bench.charger.group_share = 10.0
    assert await bench.charger.command(SetCharging(on=True)) is Outcome.ACCEPTED
    assert bench.sent == [SetCurrent(12), SetCurrent(10), SetCharging(on=True)]


async def test_i1_start_not_sent_if_answer_to_lowering_is_lost(bench: Bench) -> None:
    bench.device.manual = Manual.PAUSE
    await bench.tell()
    bench.charger.group_share = 10.0
    bench.cloud.lost_answers = 1
    with pytest.raises(TransportDown):
        await bench.charger.command(SetCharging(on=True))
    assert bench.sent == [SetCurrent(10)]
    assert await refusal(bench, SetCurrent(12)) == (UnsafeRequest, "above_ceiling")


async def test_i1_start_not_sent_if_current_cannot_be_lowered(bench: Bench) -> None:
    bench.charger.group_share = 10.0
    bench.cloud.errors.append(NotAllowed("role_too_low"))
    with pytest.raises(NotAllowed, match="role_too_low"):
        await bench.charger.command(SetCharging(on=True))
    assert bench.sent == [SetCurrent(10)]
    bench.charger.group_share = 5.0
    with pytest.raises(UnsafeRequest, match="no_group_share"):
        await bench.charger.command(SetCharging(on=True))
    assert bench.sent == [SetCurrent(10)]


async def test_i1_pause_sent_without_lowering_current(bench: Bench) -> None:
    bench.charger.group_share = 10.0
    await bench.charger.command(SetCharging(on=False))
    assert bench.sent == [SetCharging(on=False)]


# Background work


async def test_unexpected_background_error_logged(bench: Bench) -> None:
    bench.device.windows = (DAYTIME,)
    await bench.charger.set_override(True)
    await bench.tell()
    bench.save_error = OSError("disk full")
    bench.device.unplug()
    with LogLines() as log:
        await bench.tell()
    assert log.lines == ["Unexpected error in the background"]
    assert bench.intent is not None
    bench.save_error = None
    await bench.poll()
    assert bench.reasons == ["unplugged"]
    assert bench.intent is None


async def test_expired_value_removed_from_snapshot(bench: Bench) -> None:
    bench.cloud.show(TEMPERATURE, 30.0, max_age=60)
    assert bench.snapshot.value(TEMPERATURE) == 30
    await bench.clock.advance(60)
    assert bench.snapshot.value(TEMPERATURE) is None
    assert bench.snapshot.value(LOCKED) is False


# Taken over and handed back


async def test_take_over_and_hand_back_reported_once_each(bench: Bench) -> None:
    local = await bench.add(Source.LINKED)
    assert bench.events == []
    for _ in range(2):
        bench.log.clear()
        await bench.cloud.lose()
        assert (bench.events, bench.reach()[2]) == (["taken_over"], Source.LINKED)
        local.is_present = Presence.OFFLINE  # no transport can command the charger
        local.changed()
        local.is_present = None
        local.changed()
        await bench.clock.advance(300)
        assert bench.events == ["taken_over"]
        local.tell()
        await bench.poll(3)
        assert (bench.events, bench.reach()[2]) == (["taken_over", "handed_back"], Source.CLOUD)


async def test_charger_offline_in_healthy_cloud_taken_over(bench: Bench) -> None:
    await bench.add(Source.LINKED)
    await bench.tell(Status.OFFLINE)
    await bench.tell(Status.OFFLINE)
    await bench.tell()
    assert bench.events == ["taken_over", "handed_back"]


async def test_take_over_reported_only_once_local_transport_exists(bench: Bench) -> None:
    await bench.cloud.lose()
    assert bench.events == []
    await bench.add(Source.LINKED)
    assert bench.events == ["taken_over"]
    bench.charger.remove_transport(Source.LINKED)
    await bench.tell()
    assert bench.events == ["taken_over", "handed_back"]


async def test_start_in_outage_reports_no_take_over_but_reports_hand_back() -> None:
    bench = Bench()
    bench.charger.add_transport(bench.cloud)
    local = FakeTransport(bench.device, source=Source.LINKED, log=[])
    bench.charger.add_transport(local)
    bench.charger.start()
    local.tell()
    await bench.cloud.lose()
    assert (bench.events, bench.reach()[2]) == ([], Source.LINKED)
    await bench.tell()
    assert bench.events == ["handed_back"]


@pytest.mark.parametrize("prefer", [Prefer.LOCAL_FIRST, Prefer.LOCAL_ONLY, Prefer.CLOUD_ONLY])
async def test_no_take_over_reported_unless_preference_is_auto(prefer: Prefer) -> None:
    bench = Bench(options=ChargerOptions(prefer=prefer))
    await bench.start()
    await bench.add(Source.LINKED)
    await bench.cloud.lose()
    await bench.tell()
    assert bench.events == []


# Timeouts and checks


async def test_transport_has_five_seconds_or_three_while_breaker_is_doubtful(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    for doubt, seconds in ((False, 5), (True, 3)):
        bench.cloud.gate = asyncio.Event()
        if doubt:
            bench.cloud.breaker.bad(Failure.OTHER)
        call = task(bench.charger.command(SetLock(not doubt)))
        await bench.clock.advance(seconds)
        assert local.commands == [SetLock(True)] * doubt
        await bench.clock.advance(1)
        assert local.commands[doubt:] == [SetLock(not doubt)]
        assert await call is Outcome.ACCEPTED
        bench.cloud.gate.set()
        await bench.clock.settle()
        assert bench.device.locked is not doubt
        local.tell()
    assert [type(command) for command in bench.sent] == [SetLock, SetLock]


async def test_only_transport_may_take_a_minute(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    call = task(bench.charger.command(SetLock(True)))
    await bench.clock.advance(60)
    bench.cloud.gate.set()
    assert await call is Outcome.ACCEPTED


async def test_lower_current_sent_locally_although_cloud_refuses(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.cloud.errors.append(NotAllowed("role_too_low"))
    assert await bench.charger.command(SetCurrent(8)) is Outcome.ACCEPTED
    assert local.commands == [SetCurrent(8)]
    assert bench.device.amps == 8


async def test_command_that_waited_too_long_not_sent(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    first = task(bench.charger.command(SetLock(True)))
    await bench.clock.settle()
    late, renewed = task(bench.charger.command(SetCurrent(10))), task(bench.charger.command(SetEcoMode(EcoMode.ECO)))
    await bench.clock.advance(TIME_TO_LIVE - 10)
    newer = task(bench.charger.command(SetEcoMode(EcoMode.FULL_SOLAR)))
    await bench.clock.advance(11)
    bench.cloud.gate.set()
    await first
    with pytest.raises(NoConnection, match="expired"):
        await late
    assert [await renewed, await newer] == [Outcome.ACCEPTED] * 2
    assert bench.sent == [SetLock(True), SetEcoMode(EcoMode.FULL_SOLAR)]
    assert Outcome.FAILED in outcomes(bench)


async def test_local_transport_checked_until_effect_shows(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    local.read_back_delays = LOCAL_READ_BACK
    await bench.cloud.lose()
    local.acked_only = True
    await bench.charger.command(SetCurrent(10))
    check_times: list[int] = []
    for second in range(1, 70):
        await bench.clock.advance(1)
        if local.checks > len(check_times):
            check_times.append(second)
    assert check_times == [2, 7, 15, 60]
    local.acked_only = False
    await bench.charger.command(SetCurrent(9))
    await bench.clock.advance(120)
    assert local.checks == 5
    assert outcomes(bench)[-1] is Outcome.VERIFIED


# Late effects of commands that timed out


async def cause_late_effect(bench: Bench) -> FakeTransport:
    """Let 20 A time out, send 12 A over a local transport, and then let the 20 A arrive. Return that transport."""
    local = await bench.give_up(SetCurrent(20))
    assert await bench.charger.command(SetCurrent(12)) is Outcome.ACCEPTED
    await bench.clock.advance(3)
    assert outcomes(bench)[-1] is Outcome.VERIFIED
    bench.device.amps = 20
    return local


async def test_late_effect_of_own_command_corrected_once(bench: Bench) -> None:
    local = await cause_late_effect(bench)
    with LogLines() as log:
        local.tell()
        await bench.clock.advance(20)
    assert local.commands == [SetCurrent(20), SetCurrent(12), SetCurrent(12)]
    assert bench.device.amps == 12
    assert log.lines == []
    bench.device.amps = 20  # this time an external change
    local.tell()
    await bench.clock.advance(300)
    assert local.commands == [SetCurrent(20), SetCurrent(12), SetCurrent(12)]


async def test_effect_that_shows_long_after_command_not_corrected(bench: Bench) -> None:
    local = await cause_late_effect(bench)
    await bench.clock.advance(TIME_TO_LIVE)
    local.tell()
    await bench.clock.advance(20)
    assert local.commands == [SetCurrent(20), SetCurrent(12)]


async def test_value_other_than_late_command_not_corrected(bench: Bench) -> None:
    local = await cause_late_effect(bench)
    bench.device.amps = 18
    local.tell()
    await bench.clock.advance(20)
    assert local.commands == [SetCurrent(20), SetCurrent(12)]


async def test_command_carried_by_both_transports_verified_without_correction(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.cloud.lost_answers = 1
    await bench.charger.command(SetCurrent(20))
    await bench.poll()
    assert local.commands == [SetCurrent(20)]
    assert bench.sent == [SetCurrent(20)]
    assert outcomes(bench)[-1] is Outcome.VERIFIED


async def test_unsettled_command_not_corrected(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.cloud.lost_answers = 1
    local.errors.append(TransportBusy("no_room", 3))
    with pytest.raises(TransportsFailed):
        await bench.charger.command(SetCurrent(20))
    assert await bench.charger.command(SetCurrent(18)) is Outcome.ACCEPTED
    bench.device.amps = 20
    bench.cloud.tell()  # the cloud shows the earlier current
    await bench.clock.settle()
    assert bench.sent == [SetCurrent(20), SetCurrent(18)]


async def test_newer_current_wins_over_late_effect(bench: Bench) -> None:
    local = await cause_late_effect(bench)
    local.gate = asyncio.Event()
    lock = task(bench.charger.command(SetLock(True)))
    await bench.clock.settle()
    newer = task(bench.charger.command(SetCurrent(14)))
    await bench.clock.settle()
    local.tell()
    local.gate.set()
    await asyncio.gather(lock, newer)
    await bench.clock.advance(20)
    assert local.commands[-1] == SetCurrent(14)
    assert bench.device.amps == 14


async def test_i1_raise_refused_while_lower_current_may_still_arrive(bench: Bench) -> None:
    bench.cloud.errors.append(TransportDown("timeout"))
    with pytest.raises(TransportDown):
        await bench.charger.command(SetCurrent(8))
    bench.charger.group_share = 10.0
    assert await bench.charger.command(SetCurrent(10)) is Outcome.ACCEPTED
    await bench.poll()
    bench.device.amps = 16
    await bench.tell()
    assert await refusal(bench, SetCurrent(12)) == (UnsafeRequest, "above_ceiling")


# Automatic commands


async def test_automatic_raises_are_one_minute_apart(bench: Bench) -> None:
    assert await bench.charger.command(SetCurrent(18), automatic=True) is Outcome.ACCEPTED
    await bench.tell()
    with pytest.raises(TransportBusy, match="too_soon") as caught:
        await bench.charger.command(SetCurrent(20), automatic=True)
    assert caught.value.retry_after == RAISE_SPACING
    assert await bench.charger.command(SetCurrent(10), automatic=True) is Outcome.ACCEPTED
    assert await bench.charger.command(SetCurrent(12)) is Outcome.ACCEPTED  # no spacing for the user
    await bench.poll()
    assert await bench.charger.command(SetCurrent(20), automatic=True) is Outcome.ACCEPTED


async def test_automatic_start_waits_five_minutes_after_last_start_or_stop(bench: Bench) -> None:
    start, stop = SetCharging(on=True), SetCharging(on=False)
    bench.device.windows = ()
    await bench.tell()
    assert await bench.charger.command(stop, automatic=True) is Outcome.ACCEPTED
    await bench.tell()
    with pytest.raises(TransportBusy, match="too_soon"):
        await bench.charger.command(start, automatic=True)
    await bench.clock.advance(START_SPACING)
    assert await bench.charger.command(start, automatic=True) is Outcome.ACCEPTED
    await bench.tell()
    assert await bench.charger.command(stop, automatic=True) is Outcome.ACCEPTED


async def test_concurrent_automatic_raises_keep_minimum_spacing(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    first = task(bench.charger.command(SetCurrent(18), automatic=True))
    await bench.clock.settle()
    second = task(bench.charger.command(SetCurrent(20), automatic=True))
    await bench.clock.settle()
    bench.cloud.gate.set()
    await first
    with pytest.raises(TransportBusy, match="too_soon"):
        await second


async def test_command_in_flight_until_effect_shows(bench: Bench) -> None:
    seen = [bench.charger.in_flight]
    bench.cloud.gate = asyncio.Event()
    call = task(bench.charger.command(SetCurrent(10)))
    await bench.clock.settle()
    seen.append(bench.charger.in_flight)
    bench.cloud.gate.set()
    await call
    seen.append(bench.charger.in_flight)
    await bench.poll()
    seen.append(bench.charger.in_flight)
    assert seen == [False, True, True, False]


# A limit that falls below the setting


def lowering_due(bench: Bench) -> object:
    return None if bench.intents is None else bench.intents["lowering"]


async def test_i1_falling_limit_lowers_setting_once_over_every_transport(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.charger.options = ChargerOptions(load_group_limit=10.5)
    await bench.clock.settle()
    assert (bench.sent, local.commands) == ([SetCurrent(10)], [SetCurrent(10)])
    await bench.poll()
    assert bench.snapshot.effective_limit == 10
    assert bench.snapshot.value(CHARGING_CURRENT) == 10
    bench.device.amps = 16  # an external change: not corrected
    await bench.poll(20)
    assert (bench.sent, local.commands) == ([SetCurrent(10)], [SetCurrent(10)])
    bench.charger.options = ChargerOptions(load_group_limit=20.0)
    bench.charger.options = ChargerOptions(load_group_limit=8.0)
    await bench.clock.settle()
    assert bench.sent == [SetCurrent(10), SetCurrent(8)]


async def test_limit_above_setting_lowers_nothing(bench: Bench) -> None:
    bench.charger.options = ChargerOptions(load_group_limit=16.0)
    await bench.clock.settle()
    bench.cloud.show(WIRE_RATING, 20.0)
    await bench.clock.settle()
    assert bench.sent == []
    assert not lowering_due(bench)


async def test_limit_falling_at_charger_lowers_setting_but_first_report_does_not(bench: Bench) -> None:
    bench.cloud.show(HOUSE_LIMIT, 12.0)  # the charger has kept to that limit from the start
    await bench.clock.settle()
    assert bench.sent == []
    bench.cloud.show(HOUSE_LIMIT, 11.0)
    await bench.clock.settle()
    assert bench.sent == [SetCurrent(11)]


async def test_setting_not_lowered_below_minimum_current(bench: Bench) -> None:
    bench.charger.options = ChargerOptions(load_group_limit=4.0)
    await bench.clock.settle()
    assert bench.sent == [SetCurrent(6)]


async def test_share_of_load_group_lowers_no_setting(bench: Bench) -> None:
    bench.charger.group_share = 8.0
    await bench.clock.settle()
    assert bench.sent == []
    assert (bench.charger.group_share, bench.snapshot.value(LOAD_GROUP_LIMIT)) == (8.0, 8.0)
    bench.charger.group_share = None
    assert LOAD_GROUP_LIMIT not in bench.snapshot.readings


async def test_load_group_limit_is_smallest_of_reported_entered_and_share(bench: Bench) -> None:
    bench.cloud.show(LOAD_GROUP_LIMIT, 14.0)
    for entered, share, expected, source in (
        (15.0, 16.0, 14.0, Source.CLOUD),
        (13.0, 16.0, 13.0, Source.USER),
        (13.0, 12.0, 12.0, Source.USER),
        (None, 12.0, 12.0, Source.USER),
        (None, None, 14.0, Source.CLOUD),
    ):
        bench.charger.options = ChargerOptions(load_group_limit=entered)
        bench.charger.group_share = share
        reading = bench.snapshot.readings.get(LOAD_GROUP_LIMIT)
        assert reading is not None
        assert (reading.value, reading.source) == (expected, source)


@pytest.mark.parametrize("started_anew", [False, True])
async def test_i1_limit_entered_in_outage_lowers_setting_afterwards(bench: Bench, started_anew: bool) -> None:
    await bench.cloud.lose()
    bench.options = bench.charger.options = ChargerOptions(load_group_limit=10.0)
    await bench.clock.advance(600)
    assert bench.sent == []
    assert lowering_due(bench) is True
    if started_anew:
        await bench.restart_home_assistant()
    else:
        await bench.tell()
    assert bench.sent == [SetCurrent(10)]
    assert lowering_due(bench) is False
    await bench.poll(5)
    assert bench.sent == [SetCurrent(10)]


async def test_setting_lowered_elsewhere_in_outage_left_unchanged(bench: Bench) -> None:
    await bench.cloud.lose()
    bench.charger.options = ChargerOptions(load_group_limit=10.0)
    bench.device.amps = 8
    await bench.tell()
    assert bench.sent == []
    assert lowering_due(bench) is False


async def test_failed_lowering_retried_after_delay(bench: Bench) -> None:
    bench.cloud.errors += [TransportBusy("no_room", 30), TransportDown("timeout")]
    bench.charger.options = ChargerOptions(load_group_limit=10.0)
    await bench.clock.settle()
    await bench.tell()
    assert bench.sent == [SetCurrent(10)]
    await bench.poll()
    assert bench.sent == [SetCurrent(10)] * 2
    await bench.clock.advance(59)
    await bench.tell()
    assert bench.sent == [SetCurrent(10)] * 2
    await bench.poll(20)
    assert bench.sent == [SetCurrent(10)] * 3
    assert bench.device.amps == 10


async def test_refused_lowering_logged_and_not_retried(bench: Bench) -> None:
    bench.cloud.errors.append(NotAllowed("role_too_low"))
    with LogLines() as log:
        bench.charger.options = ChargerOptions(load_group_limit=10.0)
        await bench.poll(20)
    assert bench.sent == [SetCurrent(10)]
    assert log.lines == ["The charging current could not be lowered to its limit: role_too_low"]


@pytest.mark.parametrize("why", ["read_only", "ocpp"])
async def test_setting_not_lowered_while_commands_are_forbidden(bench: Bench, why: str) -> None:
    bench.cloud.show(OCPP, why == "ocpp")
    bench.charger.options = ChargerOptions(load_group_limit=10.0, read_only=why == "read_only")
    await bench.poll(3)
    assert bench.sent == []
    bench.cloud.show(OCPP, False)
    bench.charger.options = ChargerOptions(load_group_limit=10.0)
    await bench.poll(3)
    assert bench.sent == []


async def test_setting_lowered_although_store_cannot_be_saved(bench: Bench) -> None:
    bench.save_error = NotSaved("not_saved")
    bench.charger.options = ChargerOptions(load_group_limit=10.0)
    await bench.clock.settle()
    assert bench.sent == [SetCurrent(10)]


async def test_setting_not_lowered_while_home_assistant_stops(bench: Bench) -> None:
    bench.charger.close()
    bench.options = bench.charger.options = ChargerOptions(load_group_limit=10.0)
    await bench.clock.settle()
    assert bench.sent == []
    await bench.restart_home_assistant()
    assert bench.sent == [SetCurrent(10)]


# Pauses of a load group


async def pause_by_group(bench: Bench) -> None:
    """Pause the charger as its load group does when the share is too small."""
    bench.charger.group_share = 0.0
    await bench.charger.command(SetCharging(on=False), automatic=True)
    await bench.tell()
    assert bench.status() is Status.PAUSED


async def give_room_again(bench: Bench) -> None:
    await bench.clock.advance(START_SPACING)
    bench.charger.group_share = 16.0
    bench.log.clear()


async def test_load_group_pause_does_not_end_override(bench: Bench) -> None:
    await bench.charger.set_override(True)
    await bench.poll()
    await pause_by_group(bench)
    await bench.poll(3)
    assert bench.snapshot.override.applied
    await give_room_again(bench)
    await bench.poll()
    assert bench.snapshot.override.on
    assert await bench.charger.lift_pause() is Outcome.ACCEPTED
    assert bench.sent == [SetCharging(on=True)]
    await bench.poll(3)
    assert (bench.snapshot.override.applied, bench.status()) == (True, Status.CHARGING)
    bench.device.manual = Manual.PAUSE  # an external change
    await bench.poll()
    assert bench.reasons == ["superseded"]


async def test_schedule_applies_again_after_load_group_pause(bench: Bench) -> None:
    await pause_by_group(bench)
    with pytest.raises(TransportBusy, match="too_soon"):
        await bench.charger.lift_pause()
    await give_room_again(bench)
    assert await bench.charger.lift_pause() is Outcome.ACCEPTED
    assert bench.sent == [SetOverride(on=False)]
    await bench.poll()
    assert bench.status() is Status.WAITING_SCHEDULE
    assert bench.intents is None or bench.intents["pause"] is None


@pytest.mark.parametrize("how", ["no schedule", "no override capability"])
async def test_charging_started_after_load_group_pause_if_no_schedule_applies(bench: Bench, how: str) -> None:
    bench.device.windows = () if how == "no schedule" else bench.device.windows
    bench.device.manual = Manual.CHARGE
    bench.cloud.can = bench.cloud.can if how == "no schedule" else frozenset({Capability.CHARGING, Capability.CURRENT})
    await bench.tell()
    await pause_by_group(bench)
    await give_room_again(bench)
    assert await bench.charger.lift_pause() is Outcome.ACCEPTED
    assert bench.sent == [SetCharging(on=True)]


async def test_i1_current_lowered_before_load_group_pause_is_lifted(bench: Bench) -> None:
    await pause_by_group(bench)
    await give_room_again(bench)
    bench.charger.group_share = 10.0
    await bench.charger.lift_pause()
    assert bench.sent == [SetCurrent(10), SetOverride(on=False)]


async def test_load_group_pause_not_lifted_if_user_paused_too(bench: Bench) -> None:
    await pause_by_group(bench)
    await bench.poll()
    assert await bench.charger.command(SetCharging(on=False)) is Outcome.VERIFIED
    await give_room_again(bench)
    with pytest.raises(NotApplicable, match="paused"):
        await bench.charger.lift_pause()
    assert bench.sent == []
