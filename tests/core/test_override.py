"""Time-of-use override: sent to the charger, held through disturbances, and ended exactly once."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from math import inf

import pytest

from custom_components.chargekeeper.core.charger import ChargerEvent, ChargerOptions
from custom_components.chargekeeper.core.charger.intents import APPLICATIONS, Until
from custom_components.chargekeeper.core.charger.override import EFFECT_AFTER, FULL_AFTER_WAITING, SCHEDULE_RETRY
from custom_components.chargekeeper.core.cooldown import START_SPACING
from custom_components.chargekeeper.core.errors import (
    ChargerError,
    LoginRejected,
    NoConnection,
    NotAllowed,
    NotApplicable,
    NotSaved,
    TransportBusy,
    TransportDown,
    UnsafeRequest,
)
from custom_components.chargekeeper.core.model import (
    CHARGING_CURRENT,
    Capability,
    ChargerIssue,
    Outcome,
    Override,
    Prefer,
    Schedule,
    Source,
    Status,
)
from custom_components.chargekeeper.core.transport import Presence, SetCharging, SetCurrent, SetOverride
from tests.core.fake_transport import DAYTIME, NIGHT, Bench, FakeDevice, FakeTransport, LogLines, Manual, Resume, Saved
from tests.simulators.clock import START

ON, OFF = SetOverride(on=True), SetOverride(on=False)
PAUSE = SetCharging(on=False)
HELD = Override(on=True, applied=True)
WANTED = Override(on=True, applied=False)
NOT_WANTED = Override()


@pytest.fixture
async def bench() -> Bench:
    """Return a started bench whose car waits for the night. The cloud checks the effect of a command after 20 s."""
    bench = Bench()
    bench.cloud.read_back_delays = (20.0,)
    bench.device.session_energy = 0.0
    await bench.start()
    return bench


async def lose_power(bench: Bench) -> None:
    """Report the charger as offline, and let a power cycle drop its manual state."""
    await bench.tell(Status.OFFLINE)
    bench.device.power_cycle()


async def switch_on(bench: Bench) -> None:
    """Switch the override on and wait until it is verified."""
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED
    await bench.clock.advance(20)
    assert bench.snapshot.override == HELD
    assert bench.intent is not None
    assert bench.intent["state"] == "verified"


async def switch_off(bench: Bench) -> None:
    """Switch the override off and wait until its intent is gone."""
    assert await bench.charger.set_override(False) is Outcome.ACCEPTED
    assert bench.snapshot.override == NOT_WANTED
    assert bench.intent is not None
    await wait_until_nothing_to_undo(bench)


async def wait_until_nothing_to_undo(bench: Bench) -> None:
    """Wait until a status report shows that nothing is left to undo."""
    await bench.clock.advance(20)
    if not bench.cloud.read_back_delays:
        await bench.tell()
    assert bench.intent is None


def saved_before(bench: Bench, sent: object) -> dict[str, object]:
    """Return the override that was last saved before `sent` was first sent."""
    before = bench.log[: bench.log.index(sent)]
    intents = next(entry for entry in reversed(before) if isinstance(entry, Saved))
    assert intents.override is not None
    return intents.override


# On


async def test_override_on_saved_then_sent_then_verified(bench: Bench) -> None:
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED
    assert bench.snapshot.override == WANTED  # an acknowledgment proves nothing
    assert bench.intent is not None
    assert (bench.intent["state"], bench.intent["applications"]) == ("applied", 1)
    before = saved_before(bench, ON)
    assert (before["state"], before["sent"], before["applications"]) == ("pending", True, 1)
    assert before["base"] == "waiting_schedule"
    await bench.clock.advance(19)
    assert bench.intent["state"] == "applied"
    await bench.clock.advance(1)
    assert (bench.intent["state"], bench.intent["seen_plugged"]) == ("verified", True)
    assert bench.sent == [ON]
    assert bench.status() is Status.CHARGING
    assert bench.events == []


async def test_override_not_sent_if_intent_cannot_be_saved(bench: Bench) -> None:
    bench.save_error = NotSaved("not_saved")
    with pytest.raises(NotSaved):
        await bench.charger.set_override(True)
    assert bench.sent == []
    assert bench.snapshot.override == NOT_WANTED


async def test_override_end_retried_after_failed_save(bench: Bench) -> None:
    await switch_on(bench)
    bench.save_error = NotSaved("not_saved")
    bench.device.unplug()
    with LogLines() as log:
        await bench.poll(3)
    assert len(log.lines) == 1
    assert bench.snapshot.override == NOT_WANTED
    assert bench.issues() == {ChargerIssue.NOT_SAVED}
    bench.save_error = None
    await bench.poll(5)
    assert bench.reasons == ["unplugged"]
    assert bench.intent is None
    assert bench.issues() == frozenset()


async def test_override_canceled_and_schedule_restored_when_read_only(bench: Bench) -> None:
    await switch_on_disabling_schedule(bench, Resume.CONFLICT)
    bench.options = ChargerOptions(read_only=True)
    await bench.restart_home_assistant()
    await bench.poll(3)
    assert bench.reasons == ["cancelled"]
    assert bench.device.windows == (NIGHT,)
    assert bench.sent.count(ON) == 1
    assert bench.intent is None


async def test_i1_no_start_over_transport_that_cannot_lower_current(bench: Bench) -> None:
    bench.charger.options = ChargerOptions(prefer=Prefer.LOCAL_FIRST)
    bench.charger.group_share = 10.0
    local = await bench.add(Source.LINKED)
    local.can = frozenset({Capability.CHARGING, Capability.OVERRIDE})
    local.changed()
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED
    assert local.commands == []
    assert bench.sent == [SetCurrent(10), ON]
    await bench.charger.set_override(False)
    bench.device.manual, bench.device.amps = Manual.PAUSE, 20
    await bench.tell()
    assert await bench.charger.command(SetCharging(on=True)) is Outcome.ACCEPTED
    assert local.commands == [OFF]
    assert bench.sent == [SetCurrent(10), ON, SetCurrent(10), SetCharging(on=True)]
    bench.charger.remove_transport(Source.CLOUD)
    bench.device.amps = 20
    local.tell()
    local.show(CHARGING_CURRENT, 20.0)
    with pytest.raises(UnsafeRequest, match="cannot_lower"):
        await bench.charger.set_override(True)
    assert local.commands == [OFF]


async def test_override_without_effect_fails_if_no_transport_reads_schedule(bench: Bench) -> None:
    bench.cloud.can = frozenset(Capability) - {Capability.SCHEDULES}
    bench.device.resume = Resume.NO_EFFECT
    await bench.charger.set_override(True)
    await bench.poll(2)
    assert bench.reasons == ["failed"]
    assert bench.device.windows == (NIGHT,)


async def test_disabled_schedule_restored_when_cloud_returns_after_override_off(bench: Bench) -> None:
    await switch_on_disabling_schedule(bench, Resume.CONFLICT)
    local = await bench.add(Source.BLUETOOTH)
    local.can = frozenset({Capability.CHARGING, Capability.OVERRIDE})
    local.changed()
    await bench.poll(2)
    await bench.cloud.lose()
    assert not bench.cloud.breaker.usable
    await bench.charger.set_override(False)
    await bench.clock.advance(60)
    await bench.tell(transport=local)
    assert bench.intent is not None
    assert bench.device.windows != (NIGHT,)
    bench.cloud.breaker.good()
    await bench.poll(3)
    assert bench.device.windows == (NIGHT,)
    assert bench.intent is None


async def end_override_with_local_pause(bench: Bench) -> FakeTransport:
    """Switch an override on and off in an outage, over a local transport that can only pause. Return that transport."""
    local = await bench.add(Source.LINKED)
    local.frees_schedule, local.can = False, frozenset({Capability.CHARGING, Capability.OVERRIDE, Capability.CURRENT})
    local.changed()
    await bench.poll(2)
    await bench.cloud.lose()
    await bench.charger.set_override(True)
    await bench.clock.advance(60)
    await bench.tell(transport=local)
    await bench.charger.set_override(False)
    await bench.clock.advance(60)
    await bench.tell(transport=local)
    assert bench.device.manual is Manual.PAUSE
    assert bench.snapshot.override == NOT_WANTED
    return local


async def wait_until_intent_is_gone(bench: Bench, local: FakeTransport) -> None:
    await bench.clock.advance(60)
    await bench.tell(transport=local)
    assert bench.intent is None


async def test_pause_that_ended_override_lifted_when_window_opens(bench: Bench) -> None:
    local = await end_override_with_local_pause(bench)
    await bench.restart_home_assistant(tell=False)
    bench.charger.add_transport(local)
    while not bench.device.in_window:
        await bench.clock.advance(600)
        assert (bench.device.manual is Manual.PAUSE) is not bench.device.in_window
        await bench.tell(transport=local)
    assert bench.device.status() is Status.CHARGING
    await wait_until_intent_is_gone(bench, local)


async def test_pause_that_ended_override_lifted_when_cloud_returns(bench: Bench) -> None:
    await end_override_with_local_pause(bench)
    sent = len(bench.sent)
    bench.cloud.breaker.good()
    await bench.poll(2)
    assert bench.sent[sent:] == [SetOverride(on=False)]
    assert bench.device.status() is Status.WAITING_SCHEDULE
    assert bench.intent is None


@pytest.mark.parametrize("restarted", [False, True])
async def test_pause_that_ended_override_kept_until_transport_returns(bench: Bench, restarted: bool) -> None:
    local = await end_override_with_local_pause(bench)
    commands = len(local.commands)
    local.is_present = Presence.OFFLINE
    local.changed()
    if restarted:
        await bench.restart_home_assistant(tell=False)
        bench.charger.add_transport(local)
        bench.cloud.check_error = NoConnection("unreachable")
        await bench.cloud.lose()
    while not bench.device.in_window:
        await bench.clock.advance(600)
    local.changed()
    await bench.clock.settle()
    assert len(local.commands) == commands
    assert bench.device.manual is Manual.PAUSE
    local.is_present = None
    await bench.tell(transport=local)
    assert bench.device.status() is Status.CHARGING
    await wait_until_intent_is_gone(bench, local)


async def test_pause_that_ended_override_kept_until_load_group_has_room(bench: Bench) -> None:
    await end_override_with_local_pause(bench)
    bench.charger.group_share = 0.0
    bench.cloud.breaker.good()
    await bench.poll(3)
    assert bench.device.manual is Manual.PAUSE
    assert bench.snapshot.issues == set()
    bench.charger.group_share = 10.0
    await bench.poll(3)
    assert bench.device.status() is Status.WAITING_SCHEDULE
    assert bench.intent is None


async def test_pause_that_ended_override_not_lifted_when_car_leaves(bench: Bench) -> None:
    local = await end_override_with_local_pause(bench)
    commands = len(local.commands)
    bench.device.unplug()
    await wait_until_intent_is_gone(bench, local)
    assert len(local.commands) == commands


async def test_override_not_sent_before_intent_is_saved(bench: Bench) -> None:
    bench.save_gate = asyncio.Event()
    call = asyncio.ensure_future(bench.charger.set_override(True))
    await bench.clock.settle()
    assert bench.sent == []
    bench.save_gate.set()
    assert await call is Outcome.ACCEPTED
    assert bench.sent == [ON]


@pytest.mark.parametrize("manual", [None, Manual.CHARGE])
async def test_override_verified_without_command_if_car_already_charges(manual: Manual | None) -> None:
    bench = Bench()
    bench.device.windows, bench.device.manual = ((NIGHT, DAYTIME)[manual is None],), manual
    await bench.start()
    assert await bench.charger.set_override(True) is Outcome.VERIFIED
    assert bench.snapshot.override == HELD
    assert bench.sent == []


async def test_override_off_ends_charging_started_elsewhere() -> None:
    bench = Bench()
    bench.device.manual = Manual.CHARGE
    await bench.start()
    await bench.charger.set_override(True)
    await switch_off(bench)
    assert bench.sent == [OFF]
    assert bench.device.status() is Status.WAITING_SCHEDULE


async def test_override_off_inside_window_sends_nothing() -> None:
    bench = Bench()
    bench.device.windows = (DAYTIME,)
    await bench.start()
    await bench.charger.set_override(True)
    assert await bench.charger.set_override(False) is Outcome.VERIFIED
    assert bench.sent == []
    assert bench.intent is None
    assert bench.reasons == ["cancelled"]


async def test_override_without_car_pending_until_car_connects(bench: Bench) -> None:
    bench.device.unplug()
    await bench.tell()
    assert await bench.charger.set_override(True) is Outcome.PENDING
    assert bench.snapshot.override == WANTED
    await bench.poll(3)
    assert bench.sent == []
    bench.device.car = True
    await bench.tell()
    assert bench.sent == [ON]
    await bench.clock.advance(20)
    assert bench.snapshot.override == HELD
    bench.device.unplug()
    await bench.tell()
    assert bench.reasons == ["unplugged"]


async def test_override_on_resumes_paused_charger(bench: Bench) -> None:
    bench.device.manual = Manual.PAUSE
    await bench.tell()
    await switch_on(bench)
    assert bench.sent == [ON]
    assert bench.device.starts == 1


async def test_override_on_refused_while_charger_is_locked(bench: Bench) -> None:
    bench.device.locked = True
    await bench.tell()
    with pytest.raises(NotAllowed, match="locked"):
        await bench.charger.set_override(True)
    assert bench.intent is None
    assert bench.snapshot.override == NOT_WANTED


async def test_override_on_again_changes_only_end_condition(bench: Bench) -> None:
    await switch_on(bench)
    until_at = START + timedelta(hours=1)
    assert await bench.charger.set_override(True, until=Until.TIME, until_at=until_at) is Outcome.VERIFIED
    assert bench.sent == [ON]
    assert bench.intent is not None
    assert (bench.intent["until"], bench.intent["until_at"]) == ("time", until_at.isoformat())


async def test_override_off_without_override_sends_nothing(bench: Bench) -> None:
    assert await bench.charger.set_override(False) is Outcome.VERIFIED
    assert bench.sent == []
    assert bench.intents is None


async def test_i1_current_lowered_before_override_start(bench: Bench) -> None:
    bench.charger.group_share = 10.0
    await bench.charger.set_override(True)
    assert bench.sent == [SetCurrent(10), ON]


async def test_i1_override_refused_if_limit_is_below_minimum_current() -> None:
    bench = Bench(options=ChargerOptions(load_group_limit=5.0))
    await bench.start()
    with pytest.raises(UnsafeRequest, match="current_too_low"):
        await bench.charger.set_override(True)
    assert ON not in bench.sent
    assert bench.reasons == ["failed"]


async def test_i1_failed_lowering_retried_and_not_counted_as_override_attempt(bench: Bench) -> None:
    bench.charger.group_share = 10.0
    bench.cloud.errors += [TransportBusy("no_room", 30)] * 5
    assert await bench.charger.set_override(True) is Outcome.PENDING
    await bench.poll(13)
    assert bench.intent is not None
    assert (bench.intent["applications"], ON in bench.sent) == (1, True)


# Override without effect


async def switch_on_disabling_schedule(bench: Bench, resume: Resume) -> None:
    """Switch the override on at a charger that ignores it, so that the schedule is disabled."""
    bench.device.resume = resume
    await bench.charger.set_override(True)
    if resume is Resume.NO_EFFECT:
        await bench.clock.advance(20)
    assert (replace(NIGHT, enabled=False),) in bench.log


@pytest.mark.parametrize("resume", [Resume.CONFLICT, Resume.NO_EFFECT])
async def test_schedule_that_blocks_override_disabled_then_restored(bench: Bench, resume: Resume) -> None:
    other = replace(NIGHT, slot=1, enabled=False)
    bench.device.windows = (NIGHT, other)
    await bench.tell()
    await switch_on_disabling_schedule(bench, resume)
    disabled = (replace(NIGHT, enabled=False),)
    before = saved_before(bench, disabled)
    assert before["originals"] != []
    assert before["disabled"] is False
    assert bench.device.windows == (replace(NIGHT, enabled=False), other)
    assert bench.disabled() == ("22:00 to 05:00 UTC",)
    assert bench.sent == [ON]
    await bench.clock.advance(20)
    assert bench.snapshot.override == HELD
    assert bench.events == []
    assert await bench.charger.set_override(False) is Outcome.ACCEPTED
    assert bench.device.windows == (NIGHT, other)
    assert bench.sent == [ON, PAUSE, OFF]
    assert bench.disabled() == ("22:00 to 05:00 UTC",), "an acknowledged restore is not yet a seen one"
    await wait_until_nothing_to_undo(bench)
    assert bench.disabled() == ()
    assert bench.reasons == ["cancelled"]
    await bench.poll(3)
    assert bench.status() is Status.WAITING_SCHEDULE


async def test_schedule_not_disabled_before_override_effect_is_due(bench: Bench) -> None:
    bench.cloud.read_back_delays = ()
    bench.device.resume = Resume.NO_EFFECT
    await bench.charger.set_override(True)
    await bench.clock.advance(EFFECT_AFTER - 1)
    await bench.tell()
    assert bench.device.windows == (NIGHT,)
    await bench.clock.advance(1)
    await bench.tell()
    assert bench.device.windows == (replace(NIGHT, enabled=False),)


async def test_override_conflict_verified_if_charger_already_charges(bench: Bench) -> None:
    bench.device.manual = Manual.CHARGE  # began after the last answer
    assert await bench.charger.set_override(True) is Outcome.VERIFIED
    assert bench.cloud.checks == 1
    assert bench.device.windows == (NIGHT,)
    assert bench.snapshot.override == HELD


async def test_override_conflict_that_cannot_be_checked_waits_for_next_answer(bench: Bench) -> None:
    bench.device.resume = Resume.CONFLICT
    bench.cloud.check_error = TransportBusy("no_room", 40)
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED
    bench.cloud.breaker.probe_now()
    bench.cloud.changed()  # a change without an answer
    await bench.clock.settle()
    assert bench.device.windows == (NIGHT,)
    await bench.poll()
    assert bench.device.windows == (replace(NIGHT, enabled=False),)


async def test_override_without_effect_fails_if_there_is_no_schedule(bench: Bench) -> None:
    bench.device.windows = ()
    bench.cloud.acked_only, bench.cloud.read_back_delays = True, ()
    await bench.tell(Status.WAITING_SCHEDULE)
    await bench.charger.set_override(True)
    await bench.clock.advance(30)
    await bench.tell(Status.WAITING_SCHEDULE)
    assert bench.reasons == ["failed"]
    assert bench.snapshot.issues == {ChargerIssue.OVERRIDE_FAILED}


async def test_override_fails_and_schedule_restored_if_disabling_has_no_effect(bench: Bench) -> None:
    await switch_on_disabling_schedule(bench, Resume.CONFLICT)
    await bench.clock.advance(19)
    for _ in range(3):
        await bench.tell(Status.WAITING_SCHEDULE)
        await bench.clock.advance(1)
    assert bench.reasons == ["failed"]
    assert bench.device.windows == (NIGHT,)
    assert bench.sent == [ON]
    await wait_until_nothing_to_undo(bench)
    assert bench.snapshot.issues == {ChargerIssue.OVERRIDE_FAILED}


async def test_window_changed_elsewhere_not_restored_at_override_end(bench: Bench) -> None:
    second, third = replace(NIGHT, slot=1), replace(NIGHT, slot=2)
    bench.device.windows = (NIGHT, second, third)
    await bench.tell()
    await switch_on_disabling_all_windows(bench)
    changed = replace(second, enabled=False, end=DAYTIME.end)
    bench.device.windows = (replace(NIGHT, enabled=False), changed)
    await bench.charger.set_override(False)
    assert bench.device.windows == (NIGHT, changed)


async def switch_on_disabling_all_windows(bench: Bench) -> None:
    bench.device.resume = Resume.CONFLICT
    await bench.charger.set_override(True)
    assert not any(window.enabled for window in bench.device.windows)
    await bench.clock.advance(20)


async def test_schedule_not_written_at_override_end_if_all_windows_were_deleted(bench: Bench) -> None:
    await switch_on_disabling_all_windows(bench)
    bench.device.windows = ()
    written = len([entry for entry in bench.log if isinstance(entry, tuple)])
    await bench.charger.set_override(False)
    assert len([entry for entry in bench.log if isinstance(entry, tuple)]) == written
    assert bench.device.windows == ()


@pytest.mark.parametrize("lost", [False, True])
async def test_override_takes_effect_after_schedule_write_timed_out(bench: Bench, lost: bool) -> None:
    bench.device.resume = Resume.CONFLICT
    bench.cloud.gate = asyncio.Event()
    call = asyncio.ensure_future(bench.charger.set_override(True))
    await bench.clock.settle()
    bench.cloud.errors += [NotApplicable("wrong_state"), *([] if lost else [TransportDown("timeout")])]
    bench.cloud.lost_answers = int(lost)
    bench.cloud.gate.set()
    assert await call is Outcome.ACCEPTED
    assert bench.intent is not None
    assert bench.intent["disabled"] is False
    await bench.tell(Status.WAITING_SCHEDULE)
    await bench.poll()
    assert bench.device.windows == (replace(NIGHT, enabled=False),)
    await bench.poll()
    assert bench.snapshot.override == HELD
    await bench.charger.set_override(False)
    assert bench.device.windows == (NIGHT,)
    assert bench.reasons == ["cancelled"]


async def test_override_fails_if_schedule_may_not_be_written(bench: Bench) -> None:
    bench.device.resume = Resume.CONFLICT
    bench.cloud.errors += [NotApplicable("wrong_state"), NotAllowed("role_too_low")]
    with pytest.raises(NotAllowed, match="role_too_low"):
        await bench.charger.set_override(True)
    assert bench.reasons == ["failed"]
    assert bench.device.windows == (NIGHT,)
    assert bench.intent is None


# Off


async def test_override_off_saved_then_sent(bench: Bench) -> None:
    await switch_on(bench)
    await switch_off(bench)
    before = saved_before(bench, OFF)
    assert (before["state"], before["end"], before["applications"]) == ("ending", "cancelled", 0)
    assert bench.device.status() is Status.WAITING_SCHEDULE
    assert bench.reasons == ["cancelled"]


async def test_override_off_succeeds_if_override_was_already_dropped(bench: Bench) -> None:
    await switch_on(bench)
    bench.cloud.errors.append(NotApplicable("wrong_state"))
    bench.device.manual = None
    await switch_off(bench)
    assert bench.sent == [ON, OFF]
    assert bench.reasons == ["cancelled"]


@pytest.mark.parametrize("resume", Resume)
async def test_override_off_takes_effect_although_charger_missed_first_command(bench: Bench, resume: Resume) -> None:
    """Do not count an acknowledgment: the cloud acknowledges commands for an unreachable charger too."""
    bench.device.resume = resume
    await bench.charger.set_override(True)
    await bench.clock.advance(60)
    bench.device.at_hand = False  # the cloud does not know that yet
    assert await bench.charger.set_override(False) is Outcome.ACCEPTED
    await bench.poll(2)
    stop = [] if resume is Resume.WORKS else [PAUSE]
    assert (bench.sent, bench.events) == ([ON, *stop, OFF], ["override_ended"])
    bench.device.at_hand = True
    await bench.poll(2)
    assert bench.device.windows == (NIGHT,)
    assert bench.device.status() is Status.WAITING_SCHEDULE
    assert bench.intent is None
    assert bench.reasons == ["cancelled"]
    assert bench.snapshot.issues == frozenset()


@pytest.mark.parametrize("resume", [Resume.WORKS, Resume.CONFLICT])
async def test_override_off_that_never_takes_effect_raises_issue(bench: Bench, resume: Resume) -> None:
    bench.device.resume = resume
    await bench.charger.set_override(True)
    await bench.clock.advance(60)
    bench.cloud.acked_only = True
    await bench.charger.set_override(False)
    await bench.poll(5)
    assert bench.sent.count(OFF) == (3 if resume is Resume.WORKS else 1)
    assert (bench.intent is None) == (resume is Resume.WORKS), "the disabled schedule is still to be restored"
    assert bench.snapshot.issues == {ChargerIssue.OVERRIDE_FAILED}
    assert bench.reasons == ["cancelled"]


@pytest.mark.parametrize("error", [NotAllowed("refused"), NotApplicable("wrong_state")])
async def test_disabled_schedule_restored_later_if_cloud_refuses_at_first(bench: Bench, error: ChargerError) -> None:
    """Keep the disabled schedule as a debt after a 403, which may be mere throttling."""
    await switch_on_disabling_schedule(bench, Resume.CONFLICT)
    bench.cloud.errors.append(error)
    with pytest.raises(type(error)):
        await bench.charger.set_override(False)
    bench.device.unplug()
    await bench.poll(5)
    assert bench.snapshot.issues == {ChargerIssue.OVERRIDE_FAILED}
    assert bench.device.windows == (replace(NIGHT, enabled=False),)
    await bench.clock.advance(SCHEDULE_RETRY)
    await bench.poll(5)
    assert bench.device.windows == (NIGHT,)
    assert bench.intent is None
    assert bench.snapshot.issues == frozenset()


async def test_schedule_restore_retried_slowly_after_three_attempts_without_effect(bench: Bench) -> None:
    await switch_on_disabling_schedule(bench, Resume.CONFLICT)
    bench.cloud.acked_only = True
    await bench.charger.set_override(False)
    await bench.poll(20)
    written = sum(isinstance(entry, tuple) for entry in bench.log)
    assert written == 1 + 3, "disabled once, and three attempts to restore"
    bench.cloud.acked_only = False
    await bench.clock.advance(SCHEDULE_RETRY)
    await bench.poll(3)
    assert bench.device.windows == (NIGHT,)
    assert bench.intent is None


async def test_override_off_refused_by_cloud_raises_error_and_issue(bench: Bench) -> None:
    await switch_on(bench)
    bench.cloud.errors.append(NotAllowed("locked"))
    with pytest.raises(NotAllowed, match="locked"):
        await bench.charger.set_override(False)
    assert bench.intent is None
    assert bench.reasons == ["cancelled"]
    assert bench.snapshot.issues == {ChargerIssue.OVERRIDE_FAILED}


async def test_override_off_not_checked_while_charger_presence_is_unknown(bench: Bench) -> None:
    await switch_on(bench)
    bench.cloud.is_present = Presence.UNKNOWN
    assert await bench.charger.set_override(False) is Outcome.ACCEPTED
    checks = bench.cloud.checks
    await bench.clock.advance(60)
    assert (bench.sent, bench.cloud.checks) == ([ON, OFF], checks)


async def test_override_off_in_outage_sent_when_cloud_returns(bench: Bench) -> None:
    await switch_on(bench)
    await bench.cloud.lose()
    assert await bench.charger.set_override(False) is Outcome.PENDING
    assert bench.snapshot.override == NOT_WANTED
    assert await bench.charger.set_override(False) is Outcome.PENDING
    await bench.clock.advance(300)
    assert bench.sent == [ON]
    await bench.tell()
    assert bench.sent == [ON, OFF]
    assert bench.device.status() is Status.WAITING_SCHEDULE
    assert bench.reasons == ["cancelled"]
    await wait_until_nothing_to_undo(bench)


async def test_override_off_in_outage_sends_nothing_if_on_was_never_sent(bench: Bench) -> None:
    await bench.cloud.lose()
    await bench.charger.set_override(True)
    assert await bench.charger.set_override(False) is Outcome.VERIFIED
    assert bench.intent is None
    await bench.tell()
    assert bench.sent == []
    assert bench.reasons == ["cancelled"]


async def test_pause_made_elsewhere_in_outage_not_lifted_by_override_off(bench: Bench) -> None:
    await switch_on(bench)
    await bench.cloud.lose()
    await bench.charger.set_override(False)
    bench.device.manual = Manual.PAUSE
    await bench.tell()
    assert bench.sent == [ON]
    assert bench.intent is None
    assert bench.device.status() is Status.PAUSED


async def test_failed_override_off_not_repeated_before_next_answer(bench: Bench) -> None:
    await switch_on(bench)
    bench.cloud.errors.append(TransportDown("timeout"))
    assert await bench.charger.set_override(False) is Outcome.PENDING
    bench.cloud.changed()
    await bench.clock.settle()
    assert bench.sent == [ON, OFF]
    await bench.poll()
    assert bench.sent == [ON, OFF, OFF]
    await wait_until_nothing_to_undo(bench)


@pytest.mark.parametrize("seen", [False, True])
async def test_override_switched_on_off_on_quickly_ends_up_on(bench: Bench, seen: bool) -> None:
    if seen:
        await switch_on(bench)
    else:
        await bench.charger.set_override(True)
    await bench.charger.set_override(False)
    await bench.charger.set_override(True)
    assert bench.sent == [ON, OFF, ON]
    await bench.clock.advance(60)
    await bench.poll(5)
    assert bench.snapshot.override == HELD
    assert bench.device.status() is Status.CHARGING
    assert bench.reasons == ["cancelled"]
    await bench.charger.set_override(False)
    assert bench.reasons == ["cancelled", "cancelled"]
    assert bench.device.status() is Status.WAITING_SCHEDULE


async def test_override_switched_on_off_on_concurrently_ends_up_on(bench: Bench) -> None:
    calls = [bench.charger.set_override(on) for on in (True, False, True)]
    assert await asyncio.gather(*calls) == [Outcome.PENDING, Outcome.VERIFIED, Outcome.ACCEPTED]
    await bench.poll(3)
    assert bench.snapshot.override == HELD


@pytest.mark.parametrize("resume", Resume)
async def test_override_switched_off_and_on_in_outage_not_sent_again(bench: Bench, resume: Resume) -> None:
    bench.device.resume = resume
    await bench.charger.set_override(True)
    await bench.clock.advance(60)
    assert bench.snapshot.override == HELD
    await bench.cloud.lose()
    await bench.charger.set_override(False)
    assert await bench.charger.set_override(True) is Outcome.PENDING
    assert bench.snapshot.override == WANTED
    await bench.tell()
    assert bench.snapshot.override == HELD
    assert bench.sent == [ON]
    await bench.charger.set_override(False)
    assert bench.device.windows == (NIGHT,)
    assert bench.device.status() is Status.WAITING_SCHEDULE
    assert bench.reasons == ["cancelled", "cancelled"]


async def test_override_on_takes_effect_after_answer_to_off_was_lost(bench: Bench) -> None:
    await switch_on(bench)
    bench.cloud.lost_answers = 1
    assert await bench.charger.set_override(False) is Outcome.PENDING
    await bench.charger.set_override(True)
    await bench.poll(3)
    assert bench.device.status() is Status.CHARGING
    assert bench.snapshot.override == HELD
    assert bench.reasons == ["cancelled"]


# External changes and losses in an outage


async def test_override_on_in_outage_sent_once_when_cloud_returns(bench: Bench) -> None:
    await bench.cloud.lose()
    assert await bench.charger.set_override(True) is Outcome.PENDING
    assert bench.events == ["override_pending"]
    assert await bench.charger.set_override(True) is Outcome.PENDING
    assert bench.events == ["override_pending"]
    assert bench.snapshot.override == WANTED
    await bench.clock.advance(600)
    assert bench.sent == []
    await bench.tell()
    assert bench.sent == [ON]
    assert bench.events == ["override_pending", "override_reapplied"]
    await bench.poll(10)
    assert bench.sent == [ON]
    assert bench.snapshot.override == HELD


async def test_override_still_in_effect_after_outage_not_sent_again(bench: Bench) -> None:
    await switch_on(bench)
    await bench.cloud.lose()
    await bench.tell()
    assert bench.sent == [ON]
    assert bench.snapshot.override == HELD
    bench.device.power_cycle()  # the outage no longer explains this loss
    await bench.poll()
    assert bench.reasons == ["superseded"]


async def test_override_dropped_in_outage_sent_again_once(bench: Bench) -> None:
    await switch_on(bench)
    await bench.cloud.lose()
    bench.device.power_cycle()
    await bench.tell()
    assert bench.sent == [ON, ON]
    assert bench.events == ["override_reapplied"]
    await bench.poll(10)
    assert bench.sent == [ON, ON]
    assert bench.snapshot.override == HELD


async def test_override_superseded_by_pause_made_in_outage(bench: Bench) -> None:
    await switch_on(bench)
    await bench.cloud.lose()
    bench.device.manual = Manual.PAUSE
    await bench.tell()
    assert bench.sent == [ON]
    event = next(entry for entry in bench.log if isinstance(entry, ChargerEvent))
    assert (event.type, event.details) == ("override_superseded", {"ours": "charging", "theirs": "paused"})
    assert bench.snapshot.issues == {ChargerIssue.OVERRIDE_SUPERSEDED}
    assert bench.snapshot.override == NOT_WANTED
    assert bench.device.status() is Status.PAUSED
    bench.device.unplug()
    await bench.poll()
    assert bench.snapshot.issues == frozenset()


async def test_override_requested_in_outage_superseded_by_pause_in_same_outage(bench: Bench) -> None:
    await bench.cloud.lose()
    await bench.charger.set_override(True)
    bench.device.manual = Manual.PAUSE
    await bench.tell()
    assert (bench.sent, bench.reasons) == ([], ["superseded"])


async def test_override_requested_in_outage_ended_if_car_left_meanwhile(bench: Bench) -> None:
    await bench.cloud.lose()
    await bench.charger.set_override(True)
    bench.device.unplug()
    await bench.tell()
    assert (bench.sent, bench.reasons) == ([], ["unplugged"])


async def test_override_requested_in_outage_sent_for_car_that_connected_meanwhile(bench: Bench) -> None:
    bench.device.unplug()
    await bench.tell()
    await bench.cloud.lose()
    await bench.charger.set_override(True)
    bench.device.car = True
    await bench.tell()
    assert bench.sent == [ON]


async def test_override_kept_while_charger_is_offline_then_sent_again(bench: Bench) -> None:
    await switch_on(bench)
    bench.device.at_hand = False
    await bench.poll(5)
    assert bench.snapshot.override == WANTED
    assert bench.reasons == []
    bench.device.at_hand = True
    bench.device.power_cycle()
    await bench.poll()
    assert bench.sent == [ON, ON]


async def test_override_not_judged_after_outage_before_new_status_report(bench: Bench) -> None:
    await switch_on(bench)
    await bench.cloud.lose()
    bench.device.manual = Manual.PAUSE
    bench.cloud.breaker.throttled(60)  # reachable, but without an answer
    await bench.clock.advance(61)
    assert bench.cloud.breaker.usable
    assert (bench.sent, bench.reasons) == ([ON], [])
    await bench.tell()
    assert (bench.sent, bench.reasons) == ([ON], ["superseded"])


async def test_override_dropped_while_only_bluetooth_was_offline_superseded(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    await switch_on(bench)
    local.is_present = Presence.OFFLINE
    local.changed()
    await bench.clock.settle()
    bench.device.power_cycle()
    await bench.poll()
    assert bench.reasons == ["superseded"]


# A local transport carries the override in the outage; the cloud then reports what became of it


async def switch_on_locally_in_outage(bench: Bench) -> FakeTransport:
    """Lose the cloud, and switch the override on over linked entities until it is verified. Return that transport."""
    local = await bench.add(Source.LINKED)
    local.read_back_delays = (2.0, 7.0, 15.0, 60.0)
    await bench.cloud.lose()
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED
    assert (bench.sent, local.commands) == ([], [ON])
    await bench.clock.advance(2)
    assert bench.snapshot.override == HELD
    assert bench.intent is not None
    assert bench.intent["state"] == "verified"
    return local


async def test_override_sent_locally_in_outage_not_sent_again_to_cloud(bench: Bench) -> None:
    local = await switch_on_locally_in_outage(bench)
    await bench.clock.advance(1800)
    saved = bench.intents
    local.tell()
    await bench.poll(10)
    assert (bench.sent, local.commands) == ([], [ON])
    assert bench.snapshot.override == HELD
    assert bench.intents == saved
    assert bench.events == ["taken_over", "handed_back"]


async def test_override_sent_locally_then_dropped_sent_once_to_cloud(bench: Bench) -> None:
    local = await switch_on_locally_in_outage(bench)
    bench.device.power_cycle()
    local.is_present = Presence.OFFLINE  # after the power cycle
    local.changed()
    await bench.poll(10)
    assert (bench.sent, local.commands) == ([ON], [ON])
    assert bench.snapshot.override == HELD
    assert bench.events == ["taken_over", "handed_back", "override_reapplied"]


async def test_override_dropped_in_outage_sent_to_cloud_despite_local_transport(bench: Bench) -> None:
    local = await switch_on_locally_in_outage(bench)
    await bench.clock.advance(60)
    bench.device.power_cycle()  # the linked entities do not show that
    await bench.poll(10)
    assert (bench.sent, local.commands) == ([ON], [ON])
    assert bench.snapshot.override == HELD


async def test_override_sent_locally_superseded_by_pause_that_cloud_reports(bench: Bench) -> None:
    local = await switch_on_locally_in_outage(bench)
    bench.device.manual = Manual.PAUSE
    await bench.tell()
    assert (bench.sent, local.commands, bench.reasons) == ([], [ON], ["superseded"])


@pytest.mark.parametrize("end", ["full", "unplugged"])
async def test_override_sent_locally_ends_if_cloud_reports_full_or_unplugged(bench: Bench, end: str) -> None:
    await switch_on_locally_in_outage(bench)
    bench.device.full = True
    if end == "unplugged":
        bench.device.unplug()
    await bench.tell()
    assert (ON in bench.sent, bench.reasons) == (False, [end])


async def test_override_sent_locally_kept_despite_old_cloud_status(bench: Bench) -> None:
    local = await switch_on_locally_in_outage(bench)
    await bench.clock.advance(60)
    local.tell()
    bench.cloud.tell(Status.WAITING_SCHEDULE, synced_ago=1800)  # the charger has not reported to the cloud since
    await bench.clock.settle()
    assert bench.sent == []
    await bench.poll(3)
    assert (bench.sent, bench.snapshot.override) == ([], HELD)


async def test_override_off_sent_locally_in_outage_not_sent_again_to_cloud(bench: Bench) -> None:
    local = await switch_on_locally_in_outage(bench)
    assert await bench.charger.set_override(False) is Outcome.ACCEPTED
    await bench.clock.advance(60)
    assert bench.intent is None
    await bench.poll(3)
    assert (bench.sent, local.commands) == ([], [ON, OFF])
    assert bench.reasons == ["cancelled"]


async def test_override_sent_again_once_after_local_transport_was_offline(bench: Bench) -> None:
    local = await switch_on_locally_in_outage(bench)
    local.is_present = Presence.OFFLINE
    local.changed()
    bench.device.power_cycle()
    local.is_present = None
    local.tell()
    await bench.clock.advance(60)
    assert local.commands == [ON, ON]
    assert bench.snapshot.override == HELD
    await bench.poll(3)
    assert bench.sent == []


async def test_override_sent_locally_survives_restart_without_cloud_command(bench: Bench) -> None:
    local = await switch_on_locally_in_outage(bench)
    await bench.restart_home_assistant(tell=False)
    await bench.cloud.lose()
    assert bench.snapshot.override == WANTED
    bench.charger.add_transport(local)
    local.tell()
    await bench.poll(5)
    assert (bench.sent, local.commands) == ([], [ON])
    assert bench.snapshot.override == HELD


@pytest.mark.parametrize(
    "error", [TransportBusy("throttled", 60), NoConnection("refused"), LoginRejected("invalid_auth")]
)
async def test_override_attempt_that_was_not_sent_not_counted(bench: Bench, error: ChargerError) -> None:
    bench.cloud.errors += [error] * 6
    assert await bench.charger.set_override(True) is Outcome.PENDING
    assert bench.intent is not None
    assert (bench.intent["sent"], bench.intent["applications"]) == (False, 0)
    await bench.poll(17)  # sent again after 1, 2, 4, 8, 13 and 18 min
    assert bench.snapshot.override == WANTED
    await bench.poll()
    assert bench.intent["applications"] == 1
    await bench.poll()
    assert bench.snapshot.override == HELD
    assert bench.events == ["override_pending", "override_reapplied"]


async def test_override_on_missed_by_charger_sent_again_with_schedule_enabled(bench: Bench) -> None:
    bench.device.at_hand = False  # the cloud does not know that yet
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED
    await bench.poll(2)
    assert bench.sent == [ON]
    bench.device.at_hand = True
    await bench.poll(2)
    assert bench.sent == [ON, ON]
    assert bench.snapshot.override == HELD
    assert bench.device.windows == (NIGHT,)


async def test_override_on_that_timed_out_not_repeated_before_next_answer(bench: Bench) -> None:
    bench.cloud.errors += [TransportDown("timeout")] * 2
    assert await bench.charger.set_override(True) is Outcome.PENDING
    bench.cloud.changed()  # for example because the breaker became doubtful
    await bench.clock.settle()
    assert bench.sent == [ON]
    bench.device.manual = Manual.CHARGE  # the first command had arrived
    await bench.poll()
    assert bench.sent == [ON]
    assert bench.snapshot.override == HELD


async def test_override_on_again_by_user_sent_at_once(bench: Bench) -> None:
    bench.cloud.errors.append(TransportBusy("no_room", 5))
    assert await bench.charger.set_override(True) is Outcome.PENDING
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED
    assert bench.sent == [ON, ON]


async def test_override_on_fails_after_three_timeouts(bench: Bench) -> None:
    bench.cloud.errors += [TransportDown("timeout")] * 3
    for _ in range(3):
        assert await bench.charger.set_override(True) is Outcome.PENDING
    assert await bench.charger.set_override(True) is Outcome.FAILED
    assert bench.sent == [ON] * 3
    assert bench.reasons == ["failed"]
    assert await bench.charger.set_override(False) is Outcome.VERIFIED
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED


# Refused


async def test_override_on_refused_by_cloud_raises_error_and_ends(bench: Bench) -> None:
    bench.cloud.errors.append(NotAllowed("role_too_low"))
    with pytest.raises(NotAllowed, match="role_too_low"):
        await bench.charger.set_override(True)
    assert bench.reasons == ["failed"]
    assert bench.snapshot.override == NOT_WANTED
    assert bench.snapshot.issues == {ChargerIssue.OVERRIDE_FAILED}
    assert bench.intent is None
    await bench.poll(5)
    assert bench.sent == [ON]
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED  # a new override
    assert bench.snapshot.issues == frozenset()


async def test_override_refused_after_outage_ends_with_issue(bench: Bench) -> None:
    await bench.cloud.lose()
    await bench.charger.set_override(True)
    bench.cloud.errors.append(NotAllowed("ocpp_active"))
    await bench.tell()
    assert bench.reasons == ["failed"]
    assert bench.intent is None
    assert bench.snapshot.issues == {ChargerIssue.OVERRIDE_FAILED}


async def test_override_canceled_before_read_only_begins(bench: Bench) -> None:
    await switch_on(bench)
    assert await bench.charger.cancel_override() == ()
    bench.charger.options = ChargerOptions(read_only=True)
    assert bench.sent == [ON, OFF]
    assert bench.reasons == ["cancelled"]


# Several transports


async def test_override_sent_locally_if_cloud_hangs_and_counted_once(bench: Bench) -> None:
    local = await bench.add(Source.LINKED)
    bench.cloud.gate = asyncio.Event()
    call = asyncio.ensure_future(bench.charger.set_override(True))
    await bench.clock.advance(6)
    assert await call is Outcome.ACCEPTED
    assert local.commands == [ON]
    assert bench.intent is not None
    assert bench.intent["applications"] == 1
    await bench.poll()
    assert bench.snapshot.override == HELD


async def test_override_pending_while_no_transport_can_send(bench: Bench) -> None:
    local = await bench.add(Source.LINKED)
    bench.cloud.errors.append(NoConnection("unreachable"))
    local.errors.append(TransportBusy("no_room", 5))
    assert await bench.charger.set_override(True) is Outcome.PENDING
    assert bench.intent is not None
    assert (bench.intent["sent"], bench.intent["applications"]) == (False, 0)
    await bench.poll(2)
    assert bench.snapshot.override == HELD


async def test_override_conflict_on_second_transport_checked_over_that_transport(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.cloud.errors.append(TransportDown("timeout"))
    bench.device.resume = Resume.CONFLICT
    await bench.charger.set_override(True)
    assert (bench.cloud.checks, local.checks) == (0, 1)


async def test_override_conflict_fails_if_no_transport_reads_schedule(bench: Bench) -> None:
    bench.cloud.can -= {Capability.SCHEDULES}
    bench.device.resume = Resume.CONFLICT
    with pytest.raises(NotApplicable, match="wrong_state"):
        await bench.charger.set_override(True)
    assert bench.reasons == ["failed"]


# Dropped by the charger, or changed elsewhere


async def test_override_fails_when_dropped_a_third_time(bench: Bench) -> None:
    await switch_on(bench)
    for _ in range(2):
        await lose_power(bench)
        await bench.poll(5)
        assert bench.snapshot.override == HELD
    await lose_power(bench)
    await bench.poll(2)
    assert bench.sent == [ON] * 3
    assert bench.reasons == ["failed"]
    assert bench.events == ["override_reapplied", "override_reapplied", "override_ended"]


async def test_automatic_override_starts_are_five_minutes_apart(bench: Bench) -> None:
    await switch_on(bench)
    for _ in range(2):
        await lose_power(bench)
        await bench.tell()
    assert bench.sent == [ON, ON]
    await bench.clock.advance(START_SPACING - 1)
    assert bench.sent == [ON, ON]
    await bench.clock.advance(1)
    assert bench.sent == [ON, ON, ON]


async def test_override_on_by_user_does_not_wait_five_minutes(bench: Bench) -> None:
    await switch_on(bench)
    for _ in range(2):
        await lose_power(bench)
        await bench.tell()
    await bench.poll()
    assert bench.sent == [ON, ON]
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED
    assert bench.sent == [ON, ON, ON]


async def test_new_override_starts_new_count_of_attempts(bench: Bench) -> None:
    await switch_on(bench)
    for _ in range(2):
        await lose_power(bench)
        await bench.poll(2)
    await bench.cloud.lose()
    await bench.charger.set_override(False)
    await bench.charger.set_override(True)
    bench.device.power_cycle()
    await bench.tell()
    await bench.poll()
    assert bench.snapshot.override == HELD


async def test_override_dropped_by_requested_restart_sent_again(bench: Bench) -> None:
    await switch_on(bench)
    bench.options = bench.charger.options = ChargerOptions(restart_while_charging=True)
    await bench.tell()
    await bench.charger.restart()
    assert bench.device.status() is Status.WAITING_SCHEDULE
    await bench.clock.advance(20)
    bench.device.manual = Manual.CHARGE  # the charger has not gone down yet
    await bench.tell()
    bench.device.manual = None
    await bench.clock.advance(220)
    await bench.tell()  # the charger is back and was never seen away
    assert "unverified" in bench.events
    assert bench.sent.count(ON) == 2
    await bench.poll()
    assert bench.snapshot.override == HELD


async def test_override_stopped_elsewhere_superseded_and_never_sent_again(bench: Bench) -> None:
    await switch_on(bench)
    bench.device.manual = None
    await bench.poll()
    assert bench.reasons == ["superseded"]
    assert bench.snapshot.issues == {ChargerIssue.OVERRIDE_SUPERSEDED}
    await bench.poll(20)
    assert bench.sent == [ON]
    await bench.charger.set_override(True)
    assert bench.snapshot.issues == frozenset()


async def test_override_superseded_by_changed_schedule_leaves_that_schedule(bench: Bench) -> None:
    await switch_on_disabling_all_windows(bench)
    bench.device.windows = (replace(NIGHT, start=DAYTIME.end),)
    await bench.poll()
    assert bench.reasons == ["superseded"]
    assert bench.device.windows == (replace(NIGHT, start=DAYTIME.end),)
    assert bench.sent == [ON]


# Starts and ends of windows


async def test_override_sent_at_window_end_and_held(bench: Bench) -> None:
    bench.device.windows = (DAYTIME,)  # until two hours from now
    await bench.tell()
    await bench.charger.set_override(True)
    assert bench.sent == []
    await bench.poll(119)
    await bench.poll(2)
    assert bench.sent == [ON]
    await bench.poll(3)
    assert bench.snapshot.override == HELD
    assert bench.events == []


@pytest.mark.parametrize("lag", [5.0, 45.0])
async def test_override_held_if_cloud_reports_window_end_late(bench: Bench, lag: float) -> None:
    bench.device.windows = (DAYTIME,)
    await bench.tell()
    await bench.charger.set_override(True)
    await bench.clock.advance(2 * 3600 + lag)
    await bench.tell(Status.CHARGING)  # an old status: the car has stopped charging
    await bench.poll()
    assert bench.sent == [ON]
    assert bench.reasons == []


@pytest.mark.parametrize("lag", [5.0, 45.0])
async def test_override_held_if_cloud_reports_window_end_soon(bench: Bench, lag: float) -> None:
    bench.device.windows = (DAYTIME,)
    await bench.tell()
    await bench.charger.set_override(True)
    await bench.clock.advance(2 * 3600 + lag)
    await bench.tell()
    assert bench.sent == [ON]
    assert bench.reasons == []


async def test_override_stopped_well_after_window_end_superseded(bench: Bench) -> None:
    bench.device.windows, bench.device.manual = (DAYTIME,), Manual.CHARGE
    await bench.tell()
    await bench.charger.set_override(True)
    await bench.poll(125)
    bench.device.manual = None
    await bench.poll()
    assert (bench.sent, bench.reasons) == ([], ["superseded"])


# Ends


async def test_override_ends_when_car_is_full(bench: Bench) -> None:
    await switch_on(bench)
    bench.device.full = True
    await bench.poll()
    assert bench.reasons == ["full"]
    await wait_until_nothing_to_undo(bench)
    assert bench.sent == [ON, OFF]


async def let_car_wait(bench: Bench, seconds: float, energy: float) -> None:
    """Let the car draw nothing for `seconds`, after a session of `energy` kWh."""
    await bench.clock.advance(60)  # this much energy takes time to flow
    bench.device.session_energy = energy
    await bench.tell(Status.WAITING_CAR)
    await bench.clock.advance(seconds)


async def test_override_ends_as_full_when_car_draws_nothing_for_ten_minutes(bench: Bench) -> None:
    await switch_on(bench)
    await let_car_wait(bench, FULL_AFTER_WAITING - 1, 0.2)
    assert bench.reasons == []
    await bench.clock.advance(1)
    assert bench.reasons == ["full"]


@pytest.mark.parametrize("again", [Status.CHARGING, Status.WAITING_POWER])
async def test_override_kept_if_wait_of_car_is_interrupted(bench: Bench, again: Status) -> None:
    await switch_on(bench)
    await let_car_wait(bench, FULL_AFTER_WAITING - 100, 1.0)
    await bench.tell(again)
    await let_car_wait(bench, FULL_AFTER_WAITING - 100, 1.0)
    assert bench.reasons == []


async def test_override_kept_if_waiting_car_took_too_little_energy(bench: Bench) -> None:
    await switch_on(bench)
    await let_car_wait(bench, FULL_AFTER_WAITING + 60, 0.19)
    assert bench.reasons == []


async def test_override_until_unplugged_continues_when_car_is_full(bench: Bench) -> None:
    await bench.charger.set_override(True, until=Until.UNPLUGGED)
    await bench.clock.advance(20)
    bench.device.full = True
    await bench.poll(3)
    assert bench.reasons == []
    bench.device.unplug()
    await bench.poll()
    assert bench.reasons == ["unplugged"]
    assert bench.sent == [ON]


async def test_override_ends_as_unplugged_only_when_unplugging_is_reported(bench: Bench) -> None:
    await switch_on(bench)
    bench.device.at_hand = False
    await bench.poll(3)
    await bench.tell(None)
    assert bench.reasons == []
    bench.device.at_hand = True
    await bench.tell()
    assert bench.reasons == []
    bench.device.unplug()
    await bench.tell()
    assert bench.reasons == ["unplugged"]


async def test_override_until_time_ends_at_that_time(bench: Bench) -> None:
    await bench.charger.set_override(True, until=Until.TIME, until_at=START + timedelta(minutes=30))
    await bench.clock.advance(30 * 60 - 1)
    assert bench.reasons == []
    await bench.clock.advance(1)
    assert bench.reasons == ["time"]
    assert bench.sent == [ON, OFF]
    assert bench.clock.pending > 0


async def test_override_until_time_ends_in_outage(bench: Bench) -> None:
    await bench.charger.set_override(True, until=Until.TIME, until_at=START + timedelta(minutes=30))
    await bench.clock.advance(60)
    await bench.cloud.lose()
    await bench.clock.advance(3600)
    assert bench.reasons == ["time"]
    assert bench.snapshot.override == NOT_WANTED
    assert bench.sent == [ON]
    await bench.tell()
    assert bench.sent == [ON, OFF]
    assert bench.reasons == ["time"]


# Starts and ends of Home Assistant


async def test_override_continues_after_home_assistant_restart(bench: Bench) -> None:
    await switch_on(bench)
    await bench.restart_home_assistant(tell=False)
    assert bench.snapshot.override == WANTED
    assert bench.sent == [ON]
    await bench.tell()
    await bench.poll(3)
    assert bench.snapshot.override == HELD
    assert bench.sent == [ON]


async def test_override_dropped_while_home_assistant_was_down_sent_again(bench: Bench) -> None:
    await switch_on(bench)
    stopped = bench.restart_home_assistant(down_for=3600)
    bench.device.power_cycle()
    await stopped
    assert bench.sent == [ON, ON]


async def test_override_until_time_ends_if_home_assistant_was_down_then(bench: Bench) -> None:
    await bench.charger.set_override(True, until=Until.TIME, until_at=START + timedelta(minutes=30))
    await bench.clock.advance(60)
    await bench.restart_home_assistant(down_for=3600)
    assert bench.sent == [ON, OFF]
    assert bench.reasons == ["time"]


async def test_override_not_sent_while_home_assistant_stops(bench: Bench) -> None:
    await bench.cloud.lose()
    await bench.charger.set_override(True)
    bench.charger.close()
    await bench.tell()
    assert bench.sent == []
    await bench.restart_home_assistant()
    assert bench.sent == [ON]


async def test_override_not_sent_if_charger_closed_between_save_and_send(bench: Bench) -> None:
    bench.save_gate = asyncio.Event()
    call = asyncio.ensure_future(bench.charger.set_override(True))
    await bench.clock.settle()
    bench.charger.close()
    bench.save_gate.set()
    await call
    assert bench.sent == []
    await bench.restart_home_assistant()
    assert bench.sent == [ON]
    assert bench.intent is not None
    assert bench.intent["applications"] == 1


async def test_cancel_for_removal_returns_windows_that_stay_disabled(bench: Bench) -> None:
    await switch_on_disabling_all_windows(bench)
    await bench.cloud.lose()
    assert await bench.charger.cancel_override() == ("22:00 to 05:00 UTC",)
    assert await bench.charger.cancel_override() == ("22:00 to 05:00 UTC",)
    await bench.tell()
    assert bench.device.windows == (NIGHT,)
    assert await bench.charger.cancel_override() == ()
    assert bench.reasons == ["cancelled"]


async def test_cancel_for_removal_returns_windows_not_seen_restored(bench: Bench) -> None:
    await switch_on_disabling_all_windows(bench)
    bench.cloud.acked_only = True
    assert await bench.charger.cancel_override() == ("22:00 to 05:00 UTC",)
    assert bench.device.windows == (replace(NIGHT, enabled=False),)


async def test_cancel_without_read_back_accepts_acknowledged_schedule(bench: Bench) -> None:
    await switch_on_disabling_all_windows(bench)
    bench.cloud.acked_only = True
    assert await bench.charger.cancel_override(read_back=False) == ()
    bench.cloud.acked_only = False
    await bench.poll(3)
    assert bench.device.windows == (NIGHT,), "the schedule was read again"
    assert bench.intent is None


@pytest.mark.parametrize("how", ["no transport", "an error"])
async def test_cancel_for_removal_returns_windows_if_schedule_cannot_be_read(bench: Bench, how: str) -> None:
    await switch_on_disabling_all_windows(bench)
    await bench.charger.set_override(False)
    assert bench.device.windows == (NIGHT,)
    if how == "no transport":
        bench.cloud.can -= {Capability.SCHEDULES}
    else:
        bench.cloud.schedule_error = TransportBusy("throttled", 60)
    assert await bench.charger.cancel_override() == ("22:00 to 05:00 UTC",)


async def test_charger_counts_as_paused_if_it_ignores_the_hand_back(bench: Bench) -> None:
    await switch_on_disabling_all_windows(bench)
    bench.cloud.schedule_error = TransportBusy("throttled", 60)
    await bench.charger.set_override(False)
    bench.cloud.schedule_error = None
    bench.cloud.acked_only = True
    for _ in range(APPLICATIONS + 1):
        await bench.poll()
    assert bench.sent.count(OFF) == APPLICATIONS
    assert bench.intent is not None
    assert bench.intent["sent"] is False
    assert bench.device.status() is Status.PAUSED
    assert bench.charger.left_paused


# A schedule that cannot be read or written


UNREADABLE = NotApplicable("schedule_unreadable")


async def test_unreadable_schedule_fails_override_that_must_disable_schedule(bench: Bench) -> None:
    bench.device.resume = Resume.CONFLICT
    bench.cloud.schedule_error = UNREADABLE
    with pytest.raises(NotApplicable, match="schedule_unreadable"):
        await bench.charger.set_override(True)
    assert bench.device.windows == (NIGHT,)
    assert bench.reasons == ["failed"]
    assert bench.issues() == {ChargerIssue.SCHEDULE_UNREADABLE}
    assert [snapshot.issues for snapshot in bench.snapshots if ChargerIssue.OVERRIDE_FAILED in snapshot.issues] == []


async def test_original_windows_kept_while_schedule_is_unreadable(bench: Bench) -> None:
    await switch_on_disabling_all_windows(bench)
    bench.cloud.schedule_error = UNREADABLE
    with pytest.raises(NotApplicable, match="schedule_unreadable"):
        await bench.charger.set_override(False)
    assert bench.sent == [ON, PAUSE], "the draw ends all the same"
    await bench.poll(120)
    assert bench.sent == [ON, PAUSE]
    assert bench.disabled() == ("22:00 to 05:00 UTC",)
    assert bench.issues() == {ChargerIssue.SCHEDULE_UNREADABLE}
    bench.cloud.schedule_error = None
    await bench.poll(40)
    assert bench.device.windows == (NIGHT,)
    assert bench.intent is None
    assert bench.issues() == frozenset()


@pytest.mark.parametrize("error", [NotAllowed("role_too_low"), NotApplicable("schedule_not_taken"), UNREADABLE])
async def test_paused_charger_charges_in_its_window_although_schedule_cannot_be_restored(
    bench: Bench, error: ChargerError
) -> None:
    await switch_on_disabling_all_windows(bench)
    bench.cloud.schedule_error = error
    with pytest.raises(type(error)):
        await bench.charger.set_override(False)
    assert bench.device.status() is Status.PAUSED
    seen: dict[int, Status] = {}
    for _ in range(20):
        await bench.poll(12, every=300)
        seen[bench.clock.now().hour] = bench.device.status()
    assert (seen[20], seen[23], seen[3]) == (Status.PAUSED, Status.CHARGING, Status.CHARGING)


async def test_pause_made_elsewhere_kept_while_schedule_is_unreadable(bench: Bench) -> None:
    await switch_on_disabling_all_windows(bench)
    bench.device.manual = Manual.PAUSE
    bench.cloud.schedule_error = UNREADABLE
    await bench.poll(3)
    assert bench.reasons == ["superseded"]
    assert bench.sent == [ON]
    assert bench.disabled() == ("22:00 to 05:00 UTC",)


async def test_window_deleted_by_schedule_write_raises_issue(bench: Bench) -> None:
    other = replace(NIGHT, slot=1, start=DAYTIME.start, enabled=False)
    bench.device.windows = (NIGHT, other)
    await bench.tell()
    await switch_on_disabling_all_windows(bench)
    assert await bench.charger.set_override(False) is Outcome.ACCEPTED
    bench.device.windows = (NIGHT,)
    await wait_until_nothing_to_undo(bench)
    assert bench.issues() == {ChargerIssue.OVERRIDE_FAILED}


async def test_window_deleted_before_override_end_raises_no_issue(bench: Bench) -> None:
    other = replace(NIGHT, slot=1, start=DAYTIME.end)
    bench.device.windows = (NIGHT, other)
    await bench.tell()
    await switch_on_disabling_all_windows(bench)
    bench.device.windows = bench.device.windows[:1]
    assert await bench.charger.set_override(False) is Outcome.ACCEPTED
    await wait_until_nothing_to_undo(bench)
    assert bench.device.windows == (NIGHT,)
    assert bench.issues() == frozenset()


async def test_schedule_write_that_does_not_show_fails_override(bench: Bench) -> None:
    bench.device.resume = Resume.CONFLICT
    await bench.charger.set_override(True)
    await bench.charger.set_override(False)
    await wait_until_nothing_to_undo(bench)
    bench.cloud.acked_only = True
    bench.cloud.errors.append(NotApplicable("wrong_state"))
    with pytest.raises(NotApplicable, match="schedule_not_taken"):
        await bench.charger.set_override(True)
    assert bench.reasons == ["cancelled", "failed"]
    assert bench.issues() == {ChargerIssue.OVERRIDE_FAILED}
    await bench.poll(12)
    assert bench.intent is None
    assert bench.device.windows == (NIGHT,)


def lag_schedule(bench: Bench, seconds: float) -> None:
    """Make the cloud show each written schedule only `seconds` after the write."""
    shown = [(-inf, bench.device.windows)]
    write = bench.cloud.write_schedule

    async def write_and_lag(windows: Schedule) -> None:
        try:
            await write(windows)
        finally:
            shown.append((bench.clock.monotonic() + seconds, bench.device.windows))

    async def read() -> Schedule:
        return [windows for at, windows in shown if at <= bench.clock.monotonic()][-1]

    bench.cloud.write_schedule, bench.cloud.read_schedule = write_and_lag, read  # type: ignore[method-assign]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("lag", [5.0, 70.0, 240.0])
async def test_schedule_restored_although_written_schedule_shows_late(
    bench: Bench, lag: float, restarted: bool
) -> None:
    """Keep the disabled windows although the schedule that was read may be an old one without them."""
    lag_schedule(bench, lag)
    bench.device.resume = Resume.CONFLICT
    with pytest.raises(NotApplicable, match="schedule_not_taken"):
        await bench.charger.set_override(True)
    assert bench.device.windows == (replace(NIGHT, enabled=False),)
    if restarted:
        read = bench.cloud.read_schedule
        await bench.restart_home_assistant()
        bench.cloud.read_schedule = read  # type: ignore[method-assign]
    await bench.poll(12)
    assert bench.device.windows == (NIGHT,)
    assert bench.reasons == ["failed"]


async def test_draw_stopped_at_once_although_disabled_schedule_shows_late(bench: Bench) -> None:
    bench.device.resume = Resume.NO_EFFECT
    lag_schedule(bench, 70)
    await bench.charger.set_override(True)
    bench.cloud.lost_answers = 1
    await bench.poll()
    assert bench.device.windows == (replace(NIGHT, enabled=False),), "written, although the answer was lost"
    await bench.charger.set_override(False)
    assert bench.sent[-1:] == [PAUSE]
    await bench.poll(12)
    assert bench.sent[-1:] == [OFF]
    assert bench.device.windows == (NIGHT,)
    await bench.clock.advance(SCHEDULE_RETRY)
    await bench.poll(3)
    assert bench.device.windows == (NIGHT,)
    assert bench.intent is None
    assert bench.sent.count(OFF) == 1


# I4: one correct end after any interruption


type SavedState = tuple[dict[str, object], FakeDevice]


async def record_saved_states(*, ends: bool, resume: Resume) -> list[SavedState]:
    """Return every saved state of an override that is switched on (and off), each with the charger at that time."""
    saved_states: list[SavedState] = []
    bench = Bench()
    save = bench._save

    async def saving(intents: dict[str, object]) -> None:
        await save(intents)
        saved_states.append((intents, replace(bench.device)))

    bench._save = saving  # type: ignore[method-assign]
    bench.charger = bench.new_keeper()
    bench.cloud.read_back_delays = (20.0,)
    bench.device.resume = resume
    await bench.start()
    await bench.charger.set_override(True)
    await bench.clock.advance(60)
    assert bench.snapshot.override == HELD
    if ends:
        await bench.charger.set_override(False)
        await bench.clock.advance(60)
    return saved_states


class PowerCut:
    """Power cut at step `step` of a bench. The steps lie before and after each save and each command to the charger."""

    def __init__(self, bench: Bench, step: int) -> None:
        self._left = step
        self.cut = False
        save, obey, write = bench._save, bench.device.obey, bench.device.write

        async def saving(intents: dict[str, object]) -> None:
            self.step()
            await save(intents)
            self.step()

        def obeying(command: object) -> None:
            self.step()
            obey(command)  # type: ignore[arg-type]
            self.step()

        def writing(windows: Schedule) -> None:
            self.step()
            write(windows)
            self.step()

        bench._save = saving  # type: ignore[method-assign]
        bench.device.obey = obeying  # type: ignore[method-assign]
        bench.device.write = writing  # type: ignore[method-assign]

    def step(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.cut = True
        if self.cut:
            raise asyncio.CancelledError  # nothing happens after the cut


@pytest.mark.parametrize("resume", Resume)
@pytest.mark.parametrize("ends", [False, True])
async def test_i4_power_cut_at_any_step_leads_to_one_correct_end(resume: Resume, ends: bool) -> None:
    step, cuts = 0, 0
    while True:
        step += 1
        bench = Bench()
        power_cut = PowerCut(bench, step)
        bench.charger = bench.new_keeper()
        bench.cloud.read_back_delays = (20.0,)
        bench.device.resume = resume
        await bench.start()
        acknowledged = await switch_until_acknowledged(bench, True) and not power_cut.cut
        await bench.clock.advance(60)
        ending = ends and acknowledged and not power_cut.cut
        done = ending and await switch_until_acknowledged(bench, False)
        if not power_cut.cut:
            break
        cuts += 1
        await check_after_power_cut(bench, acknowledged=acknowledged, ending=ending, done=done)
    assert cuts >= (4 if resume is Resume.WORKS else 8) + 4 * ends


async def switch_until_acknowledged(bench: Bench, on: bool) -> bool:
    """Switch the override. Return False if the power cut prevents the acknowledgment."""
    try:
        await bench.charger.set_override(on)
    except NoConnection:
        return False
    return True


async def check_after_power_cut(bench: Bench, *, acknowledged: bool, ending: bool, done: bool) -> None:
    """Start from the disk after the power cut, and check that the override has one correct end."""
    disk, reported = bench.intents, len(bench.reasons)
    await bench.stop()
    after = await start_from_disk(disk, replace(bench.device, clock=bench.clock))
    wanted = after.snapshot.override
    assert not (acknowledged and not ending and wanted != HELD)  # an acknowledged override survives
    assert not (done and wanted.on)
    assert reported + len(after.reasons) <= 1
    await check_one_correct_end(after)


async def start_from_disk(disk: dict[str, object] | None, device: FakeDevice) -> Bench:
    """Return a bench started from the saved record, at a copy of the charger."""
    after = Bench(clock=device.clock, intents=disk)
    after.device = after.cloud.device = FakeDevice(
        clock=device.clock, windows=device.windows, manual=device.manual, resume=device.resume
    )
    after.cloud.read_back_delays = (20.0,)
    await after.start()
    await after.poll(5)
    return after


async def check_one_correct_end(after: Bench) -> None:
    """Check that the override is in effect and can be canceled, or that it is over and left nothing behind."""
    if after.snapshot.override.on:
        assert after.snapshot.override == HELD
        assert after.device.status() is Status.CHARGING
        await switch_off(after)
        assert after.reasons == ["cancelled"]
    assert after.intent is None
    assert after.device.windows == (NIGHT,)
    assert after.device.manual is None
    assert after.sent.count(ON) <= 2
    assert after.sent.count(OFF) <= 2


@pytest.mark.parametrize("resume", Resume)
@pytest.mark.parametrize("ends", [False, True])
async def test_i4_start_from_any_saved_state_leads_to_one_correct_end(resume: Resume, ends: bool) -> None:
    saved_states = await record_saved_states(ends=ends, resume=resume)
    assert len(saved_states) >= 4 + 2 * ends + 2 * (resume is not Resume.WORKS)
    for intents, device in saved_states:
        entry = Saved(intents).override
        after = await start_from_disk(intents, device)
        assert after.snapshot.override == (NOT_WANTED if entry is None or entry["state"] == "ending" else HELD)
        await check_one_correct_end(after)
