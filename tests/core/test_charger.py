"""The keeper: what its snapshot says and when it tells of it, and what becomes of settings."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from custom_components.chargekeeper.core.breaker import Failure
from custom_components.chargekeeper.core.charger import ChargerOptions
from custom_components.chargekeeper.core.charger.commands import EXPECT_WITHIN, TIME_TO_LIVE
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


async def test_before_the_first_word_nothing_is_known() -> None:
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


async def test_a_cloud_that_never_answered_is_lost_once_that_is_sure() -> None:
    bench = Bench()
    await bench.start(tell=False)
    await bench.cloud.lose()
    assert bench.reach()[0] is False


async def test_what_came_before_the_start_is_shown_at_the_start() -> None:
    bench = Bench()
    bench.charger.add_transport(bench.cloud)
    bench.cloud.tell()
    await bench.clock.settle()
    assert bench.snapshots == []
    bench.charger.start()
    assert [snapshot.value(STATUS) for snapshot in bench.snapshots] == [Status.WAITING_SCHEDULE]


async def test_listeners_hear_of_changes_only(bench: Bench) -> None:
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
    bench.cloud.changed()  # nothing at all is new
    assert len(bench.snapshots) == 1
    assert len(contacts) == 3
    end()
    end()
    await bench.poll()
    assert len(contacts) == 3


async def test_equality_leaves_moments_out(bench: Bench) -> None:
    before = bench.snapshot
    await bench.poll()
    after = bench.snapshot
    assert after == before
    assert after.last_cloud_contact != before.last_cloud_contact
    reading, old = after.readings.get(STATUS), before.readings.get(STATUS)
    assert reading is not None
    assert old is not None
    assert reading.observed_at > old.observed_at


async def test_live_values_leave_at_their_age_and_the_path_with_them(bench: Bench) -> None:
    bench.snapshots.clear()
    await bench.clock.advance(LIVE_SECONDS - 1)
    assert bench.snapshots == []
    await bench.clock.advance(1)
    assert bench.status() is None
    assert bench.reach() == (False, None, None)
    current = bench.snapshot.readings.get(CHARGING_CURRENT)
    assert current is not None
    assert (current.value, current.source) == (16, Source.CACHE)


async def test_the_timer_does_not_spin(bench: Bench) -> None:
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
    assert bench.clock.pending == 1  # for the next edge of the schedule


async def test_a_clock_that_jumps_back_is_waited_for_without_spinning(bench: Bench) -> None:
    bench.clock.jump(-1e-3)
    started = len(bench.clock._timers)
    await bench.clock.advance(10 * 3600 + 1)
    assert bench.snapshot.next_window == START + timedelta(days=1, hours=10)
    assert len(bench.clock._timers) <= started + 4


async def test_the_next_window_moves_on_at_its_start(bench: Bench) -> None:
    assert bench.snapshot.next_window == START + timedelta(hours=10)
    await bench.clock.advance(10 * 3600)
    assert bench.snapshot.next_window == START + timedelta(days=1, hours=10)
    bench.device.windows = ()
    await bench.tell()
    assert bench.snapshot.next_window is None


async def test_the_effective_limit_says_what_binds(bench: Bench) -> None:
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
    bench.cloud.show(LOAD_GROUP_LIMIT, 11.0)  # what the charger knows comes first
    assert limit() == (11, LimitingFactor.LOAD_GROUP_LIMIT)
    bench.cloud.show(WIRE_RATING, 10.0)
    assert limit() == (10, LimitingFactor.WIRE_RATING)
    bench.cloud.show(OFFLINE_CURRENT, 8.0)
    bench.cloud.show(UNIT_RATING, 32.0)
    assert limit() == (10, LimitingFactor.WIRE_RATING)
    await bench.cloud.lose()
    assert limit() == (8, LimitingFactor.OFFLINE_CURRENT)


async def test_the_users_limit_is_never_cached() -> None:
    bench = Bench(options=ChargerOptions(load_group_limit=12.0))
    await bench.start()
    await bench.cloud.lose()
    assert bench.snapshot.effective_limit == 12
    entered = bench.snapshot.readings.get(LOAD_GROUP_LIMIT)
    assert entered is not None
    assert entered.source is Source.USER


async def test_the_cloud_is_usable_only_where_the_charger_is_in_it(bench: Bench) -> None:
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


async def test_offline_in_the_cloud_is_not_offline_while_another_path_reaches_it(bench: Bench) -> None:
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


async def test_the_preference_decides_which_path_is_shown(bench: Bench) -> None:
    await bench.add(Source.BLUETOOTH)
    assert bench.reach()[2] is Source.CLOUD
    bench.charger.options = ChargerOptions(prefer=Prefer.LOCAL_FIRST)
    assert bench.reach()[2] is Source.BLUETOOTH


async def test_who_it_is_and_what_it_can_follow_its_paths(bench: Bench) -> None:
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


async def test_a_charger_that_left_the_account_is_a_problem(bench: Bench) -> None:
    bench.cloud.is_gone = True
    bench.cloud.changed()
    assert bench.snapshot.issues == {ChargerIssue.GONE}
    bench.cloud.is_gone = False
    bench.cloud.changed()
    assert bench.snapshot.issues == frozenset()


async def test_restarting_covers_the_status(bench: Bench) -> None:
    await bench.charger.restart()
    assert bench.status() is Status.RESTARTING
    await bench.poll()
    assert bench.status() is Status.RESTARTING
    bench.charger.remove_transport(Source.CLOUD)
    assert bench.status() is Status.RESTARTING


async def test_a_path_of_the_same_source_gives_way(bench: Bench) -> None:
    second = FakeTransport(bench.device, log=[])
    bench.charger.add_transport(second)
    bench.snapshots.clear()
    bench.device.amps = 8
    bench.cloud.tell()
    assert bench.snapshots == []
    second.tell()
    assert bench.snapshot.value(CHARGING_CURRENT) == 8


async def test_what_was_stored_is_shown_as_cached_until_the_path_is_back(bench: Bench) -> None:
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


async def test_the_revision_is_the_ledgers(bench: Bench) -> None:
    before = bench.charger.revision
    await bench.poll()
    assert bench.charger.revision == before
    bench.device.amps = 7
    await bench.poll()
    assert bench.charger.revision == before + 1


async def test_diagnostics_name_nobody(bench: Bench) -> None:
    await bench.charger.command(SetCurrent(10))
    found = bench.charger.diagnostics()
    assert WHO.serial not in repr(found)
    assert WHO.name not in repr(found)
    assert found["commands"] == [{"at": START.isoformat(), "command": "SetCurrent", "outcome": Outcome.ACCEPTED}]
    transports = found["paths"]
    assert isinstance(transports, dict)
    assert transports[Source.CLOUD]["presence"] is Presence.ONLINE


# Admission


async def refusal(bench: Bench, setting: Setting) -> tuple[type[ChargerError], str]:
    sent = len(bench.sent)
    with pytest.raises(ChargerError) as caught:
        await bench.charger.command(setting)
    assert len(bench.sent) == sent
    return caught.type, caught.value.reason


async def test_read_only_sends_nothing(bench: Bench) -> None:
    bench.charger.options = ChargerOptions(read_only=True)
    assert await refusal(bench, SetCurrent(10)) == (NotAllowed, "read_only")
    for work in (bench.charger.set_override(True), bench.charger.restart(), bench.charger.install()):
        with pytest.raises(NotAllowed, match="read_only"):
            await work
    assert bench.sent == []
    assert bench.intents is None


async def test_another_master_is_not_fought(bench: Bench) -> None:
    bench.cloud.show(OCPP, True)
    assert await refusal(bench, SetCharging(on=True)) == (NotAllowed, "ocpp_active")
    bench.cloud.show(OCPP, False)
    assert await bench.charger.command(SetCharging(on=False)) is Outcome.ACCEPTED


async def test_nothing_is_accepted_while_home_assistant_stops(bench: Bench) -> None:
    bench.charger.close()
    assert await refusal(bench, SetCurrent(10)) == (TransportDown, "stopping")
    for work in (bench.charger.set_override(True), bench.charger.restart(), bench.charger.install()):
        with pytest.raises(TransportDown, match="stopping"):
            await work
    assert bench.intents is None


async def test_i1_no_current_above_the_ceiling_is_sent(bench: Bench) -> None:
    assert await refusal(bench, SetCurrent(33)) == (UnsafeRequest, "above_ceiling")
    assert await refusal(bench, SetCurrent(5)) == (UnsafeRequest, "current_too_low")
    bench.charger.group_share = 10.0
    assert await refusal(bench, SetCurrent(17)) == (UnsafeRequest, "above_ceiling")
    assert await bench.charger.command(SetCurrent(12)) is Outcome.ACCEPTED  # lower than now, if still too much


async def test_i1_unknown_wiring_never_raises() -> None:
    bench = Bench()
    await bench.start(tell=False)
    bench.cloud.is_present = Presence.ONLINE
    bench.cloud.show(CHARGING_CURRENT, 16.0)
    assert await refusal(bench, SetCurrent(17)) == (UnsafeRequest, "wire_rating_unknown")
    assert await bench.charger.command(SetCurrent(10)) is Outcome.ACCEPTED


async def test_i1_lowering_from_a_cached_setting_may_be_raising() -> None:
    bench = Bench(options=ChargerOptions(load_group_limit=10.0))
    await bench.start()
    bench.cloud.is_present = Presence.UNKNOWN
    bench.cloud.changed()
    assert await refusal(bench, SetCurrent(12)) == (UnsafeRequest, "above_ceiling")
    assert await bench.charger.command(SetCurrent(10)) is Outcome.ACCEPTED
    await bench.restart_home_assistant(tell=False)
    bench.cloud.is_present = Presence.ONLINE  # but nothing was read yet
    bench.cloud.changed()
    assert await refusal(bench, SetCurrent(12)) == (UnsafeRequest, "above_ceiling")


@pytest.mark.parametrize("lost", [False, True])
async def test_i1_what_was_sent_but_not_seen_yet_is_where_raising_begins(bench: Bench, lost: bool) -> None:
    bench.charger.group_share = 10.0
    bench.cloud.lost_answers = int(lost)
    with suppress(TransportDown):
        await bench.charger.command(SetCurrent(9))
    assert await refusal(bench, SetCurrent(12)) == (UnsafeRequest, "above_ceiling")
    assert await bench.charger.command(SetCurrent(10)) is Outcome.ACCEPTED
    assert bench.device.amps == 10


async def test_i1_what_was_lowered_for_a_start_is_where_raising_begins(bench: Bench) -> None:
    bench.charger.group_share = 10.0
    await bench.charger.command(SetCharging(on=True))
    assert await refusal(bench, SetCurrent(12)) == (UnsafeRequest, "above_ceiling")


async def test_i1_what_waited_is_judged_again(bench: Bench) -> None:
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
async def test_what_is_in_force_is_not_sent(setting: Setting, other: Setting) -> None:
    bench = Bench()
    bench.device.manual = Manual.PAUSE
    await bench.start()
    assert await bench.charger.command(setting) is Outcome.VERIFIED
    assert bench.sent == []
    assert await bench.charger.command(other) is Outcome.ACCEPTED
    assert bench.sent == [other]
    # What was read before that command proves nothing any more.
    assert await bench.charger.command(setting) is Outcome.ACCEPTED
    assert bench.sent == [other, setting]
    await bench.poll()
    assert await bench.charger.command(setting) is Outcome.VERIFIED
    assert len(bench.sent) == 2


async def test_a_car_that_charges_need_not_be_started(bench: Bench) -> None:
    bench.device.manual = Manual.CHARGE
    await bench.tell()
    assert await bench.charger.command(SetCharging(on=True)) is Outcome.VERIFIED
    assert bench.sent == []


async def test_what_is_only_cached_is_no_reason_to_send_nothing(bench: Bench) -> None:
    bench.cloud.is_present = Presence.UNKNOWN
    bench.cloud.changed()
    for setting in (SetCurrent(16), SetEcoMode(EcoMode.OFF), SetLock(False)):
        assert await bench.charger.command(setting) is Outcome.ACCEPTED
    assert len(bench.sent) == 3


# Queue


async def test_the_newest_wish_wins_and_all_callers_hear_what_came_of_it(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    first = task(bench.charger.command(SetLock(True)))
    await bench.clock.settle()
    waiting = [task(bench.charger.command(SetCurrent(amps))) for amps in (10, 11, 12)]
    await bench.clock.settle()
    assert bench.sent == [SetLock(True)]
    bench.cloud.gate.set()
    assert await asyncio.gather(first, *waiting) == [Outcome.ACCEPTED] * 4
    assert bench.sent == [SetLock(True), SetCurrent(12)]


async def test_all_callers_hear_of_the_failure(bench: Bench) -> None:
    bench.cloud.errors.append(NotAllowed("locked"))
    calls = [task(bench.charger.command(SetCurrent(amps))) for amps in (10, 11)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["locked", "locked"]
    assert bench.sent == [SetCurrent(11)]


async def test_a_wish_that_is_on_its_way_is_not_changed_any_more(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    first = task(bench.charger.command(SetCurrent(10)))
    await bench.clock.settle()
    second = task(bench.charger.command(SetCurrent(11)))
    await bench.clock.settle()
    bench.cloud.gate.set()
    await asyncio.gather(first, second)
    assert bench.sent == [SetCurrent(10), SetCurrent(11)]


async def test_commands_to_one_charger_follow_one_another(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    settings: list[Setting] = [SetLock(True), SetEcoMode(EcoMode.ECO), SetCurrent(20)]
    calls = [task(bench.charger.command(setting)) for setting in settings]
    await bench.clock.settle()
    assert bench.sent == settings[:1]
    bench.cloud.gate.set()
    await asyncio.gather(*calls)
    assert bench.sent == settings


async def test_a_caller_that_gives_up_hurts_nobody(bench: Bench) -> None:
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


async def test_the_last_caller_gives_up_and_it_is_carried_out_all_the_same(bench: Bench) -> None:
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


async def test_stopping_ends_what_waits_and_beginning_again_starts_afresh(bench: Bench) -> None:
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


async def test_nothing_is_told_after_stopping(bench: Bench) -> None:
    await bench.charger.stop()
    bench.snapshots.clear()
    bench.device.amps = 9
    bench.cloud.tell()
    bench.cloud.breaker.bad(Failure.CONNECT)
    await bench.clock.advance(3 * 3600)
    assert bench.snapshots == []
    assert bench.charger not in bench.cloud._listeners


# Delivery


@pytest.mark.parametrize("error", [TransportDown("timeout"), NoConnection("refused"), TransportBusy("no_room", 9)])
async def test_the_second_path_is_tried_when_the_first_does_not_carry(bench: Bench, error: ChargerError) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.cloud.errors.append(error)
    assert await bench.charger.command(SetCurrent(18)) is Outcome.ACCEPTED
    assert (bench.sent, local.commands) == ([SetCurrent(18)], [SetCurrent(18)])


async def test_the_second_path_is_tried_when_the_account_is_locked_out(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.cloud.errors.append(LoginRejected("invalid_auth"))
    assert await bench.charger.command(SetLock(True)) is Outcome.ACCEPTED
    assert local.commands == [SetLock(True)]


@pytest.mark.parametrize("error", [NotAllowed("locked"), NotApplicable("wrong_state"), Unsupported("unsupported")])
async def test_a_refusal_is_not_taken_to_another_path(bench: Bench, error: ChargerError) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.cloud.errors.append(error)
    with pytest.raises(type(error), match=error.reason):
        await bench.charger.command(SetCharging(on=False))
    assert local.commands == []


async def test_where_all_paths_fail_each_is_named_with_its_reason(bench: Bench) -> None:
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


async def test_a_lower_current_goes_out_on_every_path_a_higher_on_one(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    await bench.charger.command(SetCurrent(20))
    assert (bench.sent, local.commands) == ([SetCurrent(20)], [])
    await bench.poll()
    local.tell()
    await bench.charger.command(SetCurrent(8))
    assert (bench.sent[1:], local.commands) == ([SetCurrent(8)], [SetCurrent(8)])


@pytest.mark.parametrize("error", [TransportDown("timeout"), NotAllowed("locked")])
async def test_one_path_that_carries_a_lower_current_is_enough(bench: Bench, error: ChargerError) -> None:
    local = await bench.add(Source.BLUETOOTH)
    local.errors.append(error)
    assert await bench.charger.command(SetCurrent(8)) is Outcome.ACCEPTED
    bench.cloud.errors.append(TransportDown("timeout"))
    assert await bench.charger.command(SetCurrent(7)) is Outcome.ACCEPTED
    assert local.commands == [SetCurrent(8), SetCurrent(7)]


async def test_without_a_path_the_outage_is_named(bench: Bench) -> None:
    began = bench.clock.now()
    await bench.cloud.lose()
    with pytest.raises(TransportDown) as caught:
        await bench.charger.command(SetCurrent(8))
    assert (caught.value.reason, caught.value.detail) == ("no_path", began.isoformat())


async def test_an_offline_charger_is_said_to_be_so(bench: Bench) -> None:
    await bench.tell(Status.OFFLINE)
    assert await refusal(bench, SetCurrent(8)) == (TransportDown, "charger_offline")


async def test_what_nobody_can_do_is_unsupported(bench: Bench) -> None:
    bench.cloud.can = frozenset()
    assert await refusal(bench, SetEcoMode(EcoMode.ECO)) == (Unsupported, "unsupported")
    with pytest.raises(Unsupported):
        await bench.charger.set_override(True)


# What became of it


def outcomes(bench: Bench) -> list[Outcome]:
    commands = bench.charger.diagnostics()["commands"]
    assert isinstance(commands, list)
    return [command["outcome"] for command in commands]


async def test_what_shows_is_verified(bench: Bench) -> None:
    await bench.charger.command(SetCurrent(10))
    assert outcomes(bench) == [Outcome.ACCEPTED]
    await bench.poll()
    assert outcomes(bench) == [Outcome.ACCEPTED, Outcome.VERIFIED]
    await bench.poll(5)
    assert len(outcomes(bench)) == 2


@pytest.mark.parametrize("automatic", [False, True])
async def test_what_never_shows_has_failed_and_is_a_warning_only_where_somebody_asked_for_it(
    bench: Bench, automatic: bool
) -> None:
    bench.cloud.acked_only = True
    await bench.charger.command(SetCurrent(10), automatic=automatic)
    await bench.poll(2)
    assert outcomes(bench) == [Outcome.ACCEPTED]
    with LogLines() as log:
        await bench.clock.advance(EXPECT_WITHIN - 120)
    assert outcomes(bench) == [Outcome.ACCEPTED, Outcome.FAILED]
    warnings = ["A command (SetCurrent) was sent but never showed at the charger"]
    assert log.lines == ([] if automatic else warnings)


async def test_what_may_have_been_carried_out_is_looked_for(bench: Bench) -> None:
    bench.cloud.lost_answers = 1
    with pytest.raises(TransportDown, match="timeout"):
        await bench.charger.command(SetCurrent(10))
    await bench.poll()
    assert outcomes(bench) == [Outcome.VERIFIED]


@pytest.mark.parametrize("lost", [False, True])
async def test_what_could_not_be_seen_is_unverified(bench: Bench, lost: bool) -> None:
    await bench.charger.command(SetCurrent(10))
    if lost:
        await bench.cloud.lose()
    await bench.clock.advance(EXPECT_WITHIN)
    assert outcomes(bench) == [Outcome.ACCEPTED, Outcome.UNVERIFIED]


async def test_a_pause_is_looked_for_at_once_a_current_at_the_next_answer(bench: Bench) -> None:
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


async def test_i1_a_start_lowers_a_setting_above_the_ceiling_first(bench: Bench) -> None:
    bench.device.manual = Manual.PAUSE
    bench.device.amps = 20
    await bench.tell()
    bench.charger.group_share = 10.5
    assert await bench.charger.command(SetCharging(on=True)) is Outcome.ACCEPTED
    assert bench.sent == [SetCurrent(10), SetCharging(on=True)]


async def test_i1_what_is_not_seen_yet_is_lowered_before_a_start_too(bench: Bench) -> None:
    bench.device.manual, bench.device.amps = Manual.PAUSE, 8
    await bench.tell()
    await bench.charger.command(SetCurrent(12))
    bench.charger.group_share = 10.0
    assert await bench.charger.command(SetCharging(on=True)) is Outcome.ACCEPTED
    assert bench.sent == [SetCurrent(12), SetCurrent(10), SetCharging(on=True)]


async def test_i1_a_lowering_whose_answer_is_lost_lets_nothing_start_and_may_arrive(bench: Bench) -> None:
    bench.device.manual = Manual.PAUSE
    await bench.tell()
    bench.charger.group_share = 10.0
    bench.cloud.lost_answers = 1
    with pytest.raises(TransportDown):
        await bench.charger.command(SetCharging(on=True))
    assert bench.sent == [SetCurrent(10)]
    assert await refusal(bench, SetCurrent(12)) == (UnsafeRequest, "above_ceiling")


async def test_i1_no_start_without_the_lowering(bench: Bench) -> None:
    bench.charger.group_share = 10.0
    bench.cloud.errors.append(NotAllowed("role_too_low"))
    with pytest.raises(NotAllowed, match="role_too_low"):
        await bench.charger.command(SetCharging(on=True))
    assert bench.sent == [SetCurrent(10)]
    bench.charger.group_share = 5.0
    with pytest.raises(UnsafeRequest, match="no_group_share"):
        await bench.charger.command(SetCharging(on=True))
    assert bench.sent == [SetCurrent(10)]


async def test_i1_a_pause_needs_no_lowering(bench: Bench) -> None:
    bench.charger.group_share = 10.0
    await bench.charger.command(SetCharging(on=False))
    assert bench.sent == [SetCharging(on=False)]


# In the background


async def test_what_goes_wrong_in_the_background_is_logged(bench: Bench) -> None:
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


async def test_properties_come_and_go_with_what_is_shown(bench: Bench) -> None:
    bench.cloud.show(TEMPERATURE, 30.0, max_age=60)
    assert bench.snapshot.value(TEMPERATURE) == 30
    await bench.clock.advance(60)
    assert bench.snapshot.value(TEMPERATURE) is None
    assert bench.snapshot.value(LOCKED) is False


# Taken over and handed back


async def test_taking_over_and_handing_back_is_told_once_each(bench: Bench) -> None:
    local = await bench.add(Source.LINKED)
    assert bench.events == []
    for _ in range(2):
        bench.log.clear()
        await bench.cloud.lose()
        assert (bench.events, bench.reach()[2]) == (["taken_over"], Source.LINKED)
        local.is_present = Presence.OFFLINE  # and for a while nobody commands
        local.changed()
        local.is_present = None
        local.changed()
        await bench.clock.advance(300)
        assert bench.events == ["taken_over"]
        local.tell()
        await bench.poll(3)
        assert (bench.events, bench.reach()[2]) == (["taken_over", "handed_back"], Source.CLOUD)


async def test_a_charger_that_is_offline_in_a_healthy_cloud_is_taken_over(bench: Bench) -> None:
    await bench.add(Source.LINKED)
    await bench.tell(Status.OFFLINE)
    await bench.tell(Status.OFFLINE)
    await bench.tell()
    assert bench.events == ["taken_over", "handed_back"]


async def test_without_a_local_path_nothing_is_taken_over_until_there_is_one(bench: Bench) -> None:
    await bench.cloud.lose()
    assert bench.events == []
    await bench.add(Source.LINKED)
    assert bench.events == ["taken_over"]
    bench.charger.remove_transport(Source.LINKED)
    await bench.tell()
    assert bench.events == ["taken_over", "handed_back"]


async def test_a_start_in_an_outage_takes_nothing_over_but_its_end_hands_back() -> None:
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
async def test_where_the_user_chose_a_side_nothing_is_handed_to_and_fro(prefer: Prefer) -> None:
    bench = Bench(options=ChargerOptions(prefer=prefer))
    await bench.start()
    await bench.add(Source.LINKED)
    await bench.cloud.lose()
    await bench.tell()
    assert bench.events == []


# Time


async def test_a_path_has_five_seconds_three_in_doubt_and_is_then_cancelled(bench: Bench) -> None:
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


async def test_the_only_path_may_take_its_time(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    call = task(bench.charger.command(SetLock(True)))
    await bench.clock.advance(60)
    bench.cloud.gate.set()
    assert await call is Outcome.ACCEPTED


async def test_a_path_that_refuses_to_lower_keeps_no_other_from_it(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.cloud.errors.append(NotAllowed("role_too_low"))
    assert await bench.charger.command(SetCurrent(8)) is Outcome.ACCEPTED
    assert local.commands == [SetCurrent(8)]
    assert bench.device.amps == 8


async def test_what_waited_too_long_is_not_sent_any_more(bench: Bench) -> None:
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


async def test_a_local_path_is_looked_at_until_the_effect_shows(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    local.read_back_delays = LOCAL_READ_BACK
    await bench.cloud.lose()
    local.acked_only = True
    await bench.charger.command(SetCurrent(10))
    looks: list[int] = []
    for second in range(1, 70):
        await bench.clock.advance(1)
        if local.checks > len(looks):
            looks.append(second)
    assert looks == [2, 7, 15, 60]
    local.acked_only = False
    await bench.charger.command(SetCurrent(9))
    await bench.clock.advance(120)
    assert local.checks == 5
    assert outcomes(bench)[-1] is Outcome.VERIFIED


# What was given up on one path and arrives late


async def late_effect(bench: Bench) -> FakeTransport:
    """The cloud's answer to 20 A is lost, a local path carries 12 A, and then the cloud's 20 A arrive."""
    local = await bench.give_up(SetCurrent(20))
    assert await bench.charger.command(SetCurrent(12)) is Outcome.ACCEPTED
    await bench.clock.advance(3)
    assert outcomes(bench)[-1] is Outcome.VERIFIED
    bench.device.amps = 20
    return local


async def test_a_late_effect_of_our_own_is_put_right_once(bench: Bench) -> None:
    local = await late_effect(bench)
    with LogLines() as log:
        local.tell()
        await bench.clock.advance(20)
    assert local.commands == [SetCurrent(20), SetCurrent(12), SetCurrent(12)]
    assert bench.device.amps == 12
    assert log.lines == []
    bench.device.amps = 20  # and now it is somebody's will
    local.tell()
    await bench.clock.advance(300)
    assert local.commands == [SetCurrent(20), SetCurrent(12), SetCurrent(12)]


async def test_what_shows_long_after_is_somebodys_will(bench: Bench) -> None:
    local = await late_effect(bench)
    await bench.clock.advance(TIME_TO_LIVE)
    local.tell()
    await bench.clock.advance(20)
    assert local.commands == [SetCurrent(20), SetCurrent(12)]


async def test_another_value_than_the_late_one_is_somebodys_will(bench: Bench) -> None:
    local = await late_effect(bench)
    bench.device.amps = 18
    local.tell()
    await bench.clock.advance(20)
    assert local.commands == [SetCurrent(20), SetCurrent(12)]


async def test_what_the_next_path_carried_too_may_arrive_twice(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.cloud.lost_answers = 1
    await bench.charger.command(SetCurrent(20))
    await bench.poll()
    assert local.commands == [SetCurrent(20)]
    assert bench.sent == [SetCurrent(20)]
    assert outcomes(bench)[-1] is Outcome.VERIFIED


async def test_what_is_not_settled_yet_is_not_fought_over(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.cloud.lost_answers = 1
    local.errors.append(TransportBusy("no_room", 3))
    with pytest.raises(TransportsFailed):
        await bench.charger.command(SetCurrent(20))
    assert await bench.charger.command(SetCurrent(18)) is Outcome.ACCEPTED
    bench.device.amps = 20
    bench.cloud.tell()  # it shows what was there before
    await bench.clock.settle()
    assert bench.sent == [SetCurrent(20), SetCurrent(18)]


async def test_a_newer_wish_puts_a_late_effect_right_by_itself(bench: Bench) -> None:
    local = await late_effect(bench)
    local.gate = asyncio.Event()
    lock = task(bench.charger.command(SetLock(True)))
    await bench.clock.settle()
    wish = task(bench.charger.command(SetCurrent(14)))
    await bench.clock.settle()
    local.tell()
    local.gate.set()
    await asyncio.gather(lock, wish)
    await bench.clock.advance(20)
    assert local.commands[-1] == SetCurrent(14)
    assert bench.device.amps == 14


async def test_i1_what_may_still_arrive_is_where_raising_begins(bench: Bench) -> None:
    bench.cloud.errors.append(TransportDown("timeout"))
    with pytest.raises(TransportDown):
        await bench.charger.command(SetCurrent(8))
    bench.charger.group_share = 10.0
    assert await bench.charger.command(SetCurrent(10)) is Outcome.ACCEPTED
    await bench.poll()
    bench.device.amps = 16
    await bench.tell()
    assert await refusal(bench, SetCurrent(12)) == (UnsafeRequest, "above_ceiling")


# What ChargeKeeper itself wants


async def test_automatic_raises_are_a_minute_apart(bench: Bench) -> None:
    assert await bench.charger.command(SetCurrent(18), automatic=True) is Outcome.ACCEPTED
    await bench.tell()
    with pytest.raises(TransportBusy, match="too_soon") as caught:
        await bench.charger.command(SetCurrent(20), automatic=True)
    assert caught.value.retry_after == RAISE_SPACING
    assert await bench.charger.command(SetCurrent(10), automatic=True) is Outcome.ACCEPTED
    assert await bench.charger.command(SetCurrent(12)) is Outcome.ACCEPTED  # the user is not held up
    await bench.poll()
    assert await bench.charger.command(SetCurrent(20), automatic=True) is Outcome.ACCEPTED


async def test_an_automatic_start_is_five_minutes_after_the_last_start_or_stop(bench: Bench) -> None:
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


async def test_two_automatic_wishes_at_once_keep_the_pace(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    first = task(bench.charger.command(SetCurrent(18), automatic=True))
    await bench.clock.settle()
    second = task(bench.charger.command(SetCurrent(20), automatic=True))
    await bench.clock.settle()
    bench.cloud.gate.set()
    await first
    with pytest.raises(TransportBusy, match="too_soon"):
        await second


async def test_in_flight_is_what_is_neither_seen_nor_given_up(bench: Bench) -> None:
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


async def test_i1_a_limit_that_falls_lowers_the_setting_once_on_every_path(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.charger.options = ChargerOptions(load_group_limit=10.5)
    await bench.clock.settle()
    assert (bench.sent, local.commands) == ([SetCurrent(10)], [SetCurrent(10)])
    await bench.poll()
    assert bench.snapshot.effective_limit == 10
    assert bench.snapshot.value(CHARGING_CURRENT) == 10
    bench.device.amps = 16  # somebody raises it: not fought
    await bench.poll(20)
    assert (bench.sent, local.commands) == ([SetCurrent(10)], [SetCurrent(10)])
    bench.charger.options = ChargerOptions(load_group_limit=20.0)
    bench.charger.options = ChargerOptions(load_group_limit=8.0)
    await bench.clock.settle()
    assert bench.sent == [SetCurrent(10), SetCurrent(8)]


async def test_a_limit_above_the_setting_lowers_nothing(bench: Bench) -> None:
    bench.charger.options = ChargerOptions(load_group_limit=16.0)
    await bench.clock.settle()
    bench.cloud.show(WIRE_RATING, 20.0)
    await bench.clock.settle()
    assert bench.sent == []
    assert not lowering_due(bench)


async def test_a_limit_that_the_charger_lowers_counts_one_that_it_tells_first_does_not(bench: Bench) -> None:
    bench.cloud.show(HOUSE_LIMIT, 12.0)  # it has balanced to that all the time
    await bench.clock.settle()
    assert bench.sent == []
    bench.cloud.show(HOUSE_LIMIT, 11.0)
    await bench.clock.settle()
    assert bench.sent == [SetCurrent(11)]


async def test_no_setting_below_what_a_charger_takes(bench: Bench) -> None:
    bench.charger.options = ChargerOptions(load_group_limit=4.0)
    await bench.clock.settle()
    assert bench.sent == [SetCurrent(6)]


async def test_a_share_is_the_groups_own_business(bench: Bench) -> None:
    bench.charger.group_share = 8.0
    await bench.clock.settle()
    assert bench.sent == []
    assert (bench.charger.group_share, bench.snapshot.value(LOAD_GROUP_LIMIT)) == (8.0, 8.0)
    bench.charger.group_share = None
    assert LOAD_GROUP_LIMIT not in bench.snapshot.readings


async def test_the_smallest_of_reported_entered_and_shared_is_the_limit(bench: Bench) -> None:
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
async def test_i1_a_limit_entered_in_an_outage_lowers_the_setting_after_it(bench: Bench, started_anew: bool) -> None:
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


async def test_what_somebody_lowered_meanwhile_is_left_alone(bench: Bench) -> None:
    await bench.cloud.lose()
    bench.charger.options = ChargerOptions(load_group_limit=10.0)
    bench.device.amps = 8
    await bench.tell()
    assert bench.sent == []
    assert lowering_due(bench) is False


async def test_a_lowering_that_fails_is_tried_again_after_a_while(bench: Bench) -> None:
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


async def test_a_lowering_that_is_refused_is_given_up(bench: Bench) -> None:
    bench.cloud.errors.append(NotAllowed("role_too_low"))
    with LogLines() as log:
        bench.charger.options = ChargerOptions(load_group_limit=10.0)
        await bench.poll(20)
    assert bench.sent == [SetCurrent(10)]
    assert log.lines == ["The charging current could not be lowered to its limit: role_too_low"]


@pytest.mark.parametrize("why", ["read_only", "ocpp"])
async def test_where_nothing_may_be_commanded_nothing_is_lowered(bench: Bench, why: str) -> None:
    bench.cloud.show(OCPP, why == "ocpp")
    bench.charger.options = ChargerOptions(load_group_limit=10.0, read_only=why == "read_only")
    await bench.poll(3)
    assert bench.sent == []
    bench.cloud.show(OCPP, False)
    bench.charger.options = ChargerOptions(load_group_limit=10.0)
    await bench.poll(3)
    assert bench.sent == []


async def test_a_full_disk_does_not_keep_the_current_up(bench: Bench) -> None:
    bench.save_error = NotSaved("not_saved")
    bench.charger.options = ChargerOptions(load_group_limit=10.0)
    await bench.clock.settle()
    assert bench.sent == [SetCurrent(10)]


async def test_nothing_is_lowered_while_home_assistant_stops(bench: Bench) -> None:
    bench.charger.close()
    bench.options = bench.charger.options = ChargerOptions(load_group_limit=10.0)
    await bench.clock.settle()
    assert bench.sent == []
    await bench.restart_home_assistant()
    assert bench.sent == [SetCurrent(10)]


# Pauses of a load group


async def paused_by_group(bench: Bench) -> None:
    """The share is too small: the group has the charger paused."""
    bench.charger.group_share = 0.0
    await bench.charger.command(SetCharging(on=False), automatic=True)
    await bench.tell()
    assert bench.status() is Status.PAUSED


async def given_room_again(bench: Bench) -> None:
    await bench.clock.advance(START_SPACING)
    bench.charger.group_share = 16.0
    bench.log.clear()


async def test_a_pause_of_the_group_does_not_end_an_override(bench: Bench) -> None:
    await bench.charger.set_override(True)
    await bench.poll()
    await paused_by_group(bench)
    await bench.poll(3)
    assert bench.snapshot.override.applied
    await given_room_again(bench)
    await bench.poll()
    assert bench.snapshot.override.on
    assert await bench.charger.lift_pause() is Outcome.ACCEPTED
    assert bench.sent == [SetCharging(on=True)]
    await bench.poll(3)
    assert (bench.snapshot.override.applied, bench.status()) == (True, Status.CHARGING)
    bench.device.manual = Manual.PAUSE  # this is somebody else's
    await bench.poll()
    assert bench.reasons == ["superseded"]


async def test_the_schedule_rules_again_after_a_pause_of_the_group(bench: Bench) -> None:
    await paused_by_group(bench)
    with pytest.raises(TransportBusy, match="too_soon"):
        await bench.charger.lift_pause()
    await given_room_again(bench)
    assert await bench.charger.lift_pause() is Outcome.ACCEPTED
    assert bench.sent == [SetOverride(on=False)]
    await bench.poll()
    assert bench.status() is Status.WAITING_SCHEDULE
    assert bench.intents is None or bench.intents["pause"] is None


@pytest.mark.parametrize("how", ["no schedule", "no way to hand back"])
async def test_where_no_schedule_rules_charging_is_started(bench: Bench, how: str) -> None:
    bench.device.windows = () if how == "no schedule" else bench.device.windows
    bench.device.manual = Manual.CHARGE
    bench.cloud.can = bench.cloud.can if how == "no schedule" else frozenset({Capability.CHARGING, Capability.CURRENT})
    await bench.tell()
    await paused_by_group(bench)
    await given_room_again(bench)
    assert await bench.charger.lift_pause() is Outcome.ACCEPTED
    assert bench.sent == [SetCharging(on=True)]


async def test_i1_the_current_is_lowered_before_the_schedule_rules_again(bench: Bench) -> None:
    await paused_by_group(bench)
    await given_room_again(bench)
    bench.charger.group_share = 10.0
    await bench.charger.lift_pause()
    assert bench.sent == [SetCurrent(10), SetOverride(on=False)]


async def test_what_the_user_paused_as_well_the_group_does_not_lift(bench: Bench) -> None:
    await paused_by_group(bench)
    assert await bench.charger.command(SetCharging(on=False)) is Outcome.VERIFIED
    await given_room_again(bench)
    with pytest.raises(NotApplicable, match="paused"):
        await bench.charger.lift_pause()
    assert bench.sent == []
