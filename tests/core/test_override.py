"""The time-of-use override: how it is carried out, held over disturbances, and how it ends, each time exactly once."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from math import inf

import pytest

from custom_components.chargekeeper.core.charger import ChargerEvent, ChargerOptions
from custom_components.chargekeeper.core.charger.intents import Until
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
    """A car waits for the night; the effect of what is sent is looked for after 20 s, as over the cloud."""
    bench = Bench()
    bench.cloud.read_back_delays = (20.0,)
    bench.device.session_energy = 0.0
    await bench.start()
    return bench


async def lose_power(bench: Bench) -> None:
    """The charger is seen to be away, and comes back without what it was told."""
    await bench.tell(Status.OFFLINE)
    bench.device.power_cycle()


async def switch_on(bench: Bench) -> None:
    """On, carried out and seen."""
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED
    await bench.clock.advance(20)
    assert bench.snapshot.override == HELD
    assert bench.intent is not None
    assert bench.intent["state"] == "verified"


async def switch_off(bench: Bench) -> None:
    """Off, carried out and seen."""
    assert await bench.charger.set_override(False) is Outcome.ACCEPTED
    assert bench.snapshot.override == NOT_WANTED
    assert bench.intent is not None
    await over(bench)


async def over(bench: Bench) -> None:
    """It is seen that nothing is left to undo."""
    await bench.clock.advance(20)
    if not bench.cloud.read_back_delays:
        await bench.tell()
    assert bench.intent is None


def saved_before(bench: Bench, sent: object) -> dict[str, object]:
    """The override as it was on the disk when something was sent for the first time."""
    before = bench.log[: bench.log.index(sent)]
    intents = next(entry for entry in reversed(before) if isinstance(entry, Saved))
    assert intents.override is not None
    return intents.override


# On


async def test_on_is_saved_then_sent_then_seen(bench: Bench) -> None:
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED
    assert bench.snapshot.override == HELD
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


async def test_nothing_is_sent_that_could_not_be_saved(bench: Bench) -> None:
    bench.save_error = NotSaved("not_saved")
    with pytest.raises(NotSaved):
        await bench.charger.set_override(True)
    assert bench.sent == []
    assert bench.snapshot.override == NOT_WANTED


async def test_an_end_that_could_not_be_saved_is_reached_later(bench: Bench) -> None:
    await switch_on(bench)
    bench.save_error = NotSaved("not_saved")
    bench.device.unplug()
    with LogLines() as log:
        await bench.poll(3)
    assert len(log.lines) == 1
    assert bench.snapshot.override == NOT_WANTED
    assert bench.issues() == {ChargerIssue.NOT_SAVED}
    assert bench.intent is not None
    bench.save_error = None
    await bench.poll(5)
    assert bench.reasons == ["unplugged"]
    assert bench.intent is None
    assert bench.issues() == frozenset()


async def test_read_only_nothing_is_pursued_and_what_was_left_is_undone(bench: Bench) -> None:
    await until_disabled(bench, Resume.CONFLICT)
    bench.options = ChargerOptions(read_only=True)
    await bench.restart_home_assistant()
    await bench.poll(3)
    assert bench.reasons == ["cancelled"]
    assert bench.device.windows == (NIGHT,)
    assert bench.sent.count(ON) == 1
    assert bench.intent is None


async def test_i1_no_start_over_a_path_that_cannot_lower_the_current(bench: Bench) -> None:
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


async def test_without_any_path_to_the_schedule_asking_in_vain_fails(bench: Bench) -> None:
    bench.cloud.can = frozenset(Capability) - {Capability.SCHEDULES}
    bench.device.resume = Resume.NO_EFFECT
    await bench.charger.set_override(True)
    await bench.poll(2)
    assert bench.reasons == ["failed"]
    assert bench.device.windows == (NIGHT,)


async def test_what_was_done_to_the_schedule_is_undone_when_a_path_to_it_is_back(bench: Bench) -> None:
    await until_disabled(bench, Resume.CONFLICT)
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


async def ended_over_a_switch(bench: Bench) -> FakeTransport:
    """An override of an outage, on and off over a path that can only pause."""
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


async def see_the_intent_leave(bench: Bench, local: FakeTransport) -> None:
    await bench.clock.advance(60)
    await bench.tell(transport=local)
    assert bench.intent is None


async def test_a_pause_that_ended_an_override_is_lifted_when_the_window_opens(bench: Bench) -> None:
    local = await ended_over_a_switch(bench)
    await bench.restart_home_assistant(tell=False)
    bench.charger.add_transport(local)
    while not bench.device.in_window:
        await bench.clock.advance(600)
        assert (bench.device.manual is Manual.PAUSE) is not bench.device.in_window
        await bench.tell(transport=local)
    assert bench.device.status() is Status.CHARGING
    await see_the_intent_leave(bench, local)


async def test_a_pause_that_ended_an_override_is_lifted_when_the_cloud_is_back(bench: Bench) -> None:
    await ended_over_a_switch(bench)
    sent = len(bench.sent)
    bench.cloud.breaker.good()
    await bench.poll(2)
    assert bench.sent[sent:] == [SetOverride(on=False)]
    assert bench.device.status() is Status.WAITING_SCHEDULE
    assert bench.intent is None


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_pause_that_ended_an_override_waits_for_a_path_that_can_lift_it(bench: Bench, restarted: bool) -> None:
    local = await ended_over_a_switch(bench)
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
    await see_the_intent_leave(bench, local)


async def test_a_pause_that_ended_an_override_waits_for_room_in_the_load_group(bench: Bench) -> None:
    await ended_over_a_switch(bench)
    bench.charger.group_share = 0.0
    bench.cloud.breaker.good()
    await bench.poll(3)
    assert bench.device.manual is Manual.PAUSE
    assert bench.snapshot.issues == set()
    bench.charger.group_share = 10.0
    await bench.poll(3)
    assert bench.device.status() is Status.WAITING_SCHEDULE
    assert bench.intent is None


async def test_nothing_of_a_pause_that_ended_an_override_is_lifted_when_the_car_leaves(bench: Bench) -> None:
    local = await ended_over_a_switch(bench)
    commands = len(local.commands)
    bench.device.unplug()
    await see_the_intent_leave(bench, local)
    assert len(local.commands) == commands


async def test_nothing_is_sent_before_it_is_saved(bench: Bench) -> None:
    bench.save_gate = asyncio.Event()
    call = asyncio.ensure_future(bench.charger.set_override(True))
    await bench.clock.settle()
    assert bench.sent == []
    bench.save_gate.set()
    assert await call is Outcome.ACCEPTED
    assert bench.sent == [ON]


@pytest.mark.parametrize("manual", [None, Manual.CHARGE])
async def test_what_charges_already_is_verified_without_a_write(manual: Manual | None) -> None:
    bench = Bench()
    bench.device.windows, bench.device.manual = ((NIGHT, DAYTIME)[manual is None],), manual
    await bench.start()
    assert await bench.charger.set_override(True) is Outcome.VERIFIED
    assert bench.snapshot.override == HELD
    assert bench.sent == []


async def test_off_hands_back_what_somebody_else_began() -> None:
    bench = Bench()
    bench.device.manual = Manual.CHARGE
    await bench.start()
    await bench.charger.set_override(True)
    await switch_off(bench)
    assert bench.sent == [OFF]
    assert bench.device.status() is Status.WAITING_SCHEDULE


async def test_off_inside_the_window_needs_no_write() -> None:
    bench = Bench()
    bench.device.windows = (DAYTIME,)
    await bench.start()
    await bench.charger.set_override(True)
    assert await bench.charger.set_override(False) is Outcome.VERIFIED
    assert bench.sent == []
    assert bench.intent is None
    assert bench.reasons == ["cancelled"]


async def test_without_a_car_it_waits_for_one(bench: Bench) -> None:
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


async def test_a_pause_that_the_user_overrides(bench: Bench) -> None:
    bench.device.manual = Manual.PAUSE
    await bench.tell()
    await switch_on(bench)
    assert bench.sent == [ON]
    assert bench.device.starts == 1


async def test_a_locked_charger_refuses(bench: Bench) -> None:
    bench.device.locked = True
    await bench.tell()
    with pytest.raises(NotAllowed, match="locked"):
        await bench.charger.set_override(True)
    assert bench.intent is None
    assert bench.snapshot.override == NOT_WANTED


async def test_on_again_changes_only_its_end(bench: Bench) -> None:
    await switch_on(bench)
    until_at = START + timedelta(hours=1)
    assert await bench.charger.set_override(True, until=Until.TIME, until_at=until_at) is Outcome.VERIFIED
    assert bench.sent == [ON]
    assert bench.intent is not None
    assert (bench.intent["until"], bench.intent["until_at"]) == ("time", until_at.isoformat())


async def test_off_without_on_is_done_already(bench: Bench) -> None:
    assert await bench.charger.set_override(False) is Outcome.VERIFIED
    assert bench.sent == []
    assert bench.intents is None


async def test_i1_the_current_is_lowered_before_the_start(bench: Bench) -> None:
    bench.charger.group_share = 10.0
    await bench.charger.set_override(True)
    assert bench.sent == [SetCurrent(10), ON]


async def test_i1_no_start_where_lowering_is_not_enough() -> None:
    bench = Bench(options=ChargerOptions(load_group_limit=5.0))
    await bench.start()
    with pytest.raises(UnsafeRequest, match="current_too_low"):
        await bench.charger.set_override(True)
    assert ON not in bench.sent
    assert bench.reasons == ["failed"]


async def test_i1_a_lowering_that_fails_is_tried_again_and_does_not_count(bench: Bench) -> None:
    bench.charger.group_share = 10.0
    bench.cloud.errors += [TransportBusy("no_room", 30)] * 5
    assert await bench.charger.set_override(True) is Outcome.PENDING
    await bench.poll(13)
    assert bench.intent is not None
    assert (bench.intent["applications"], ON in bench.sent) == (1, True)


# No effect


async def until_disabled(bench: Bench, resume: Resume) -> None:
    """Asking is of no use; the schedule is disabled."""
    bench.device.resume = resume
    await bench.charger.set_override(True)
    if resume is Resume.NO_EFFECT:
        await bench.clock.advance(20)
    assert (replace(NIGHT, enabled=False),) in bench.log


@pytest.mark.parametrize("resume", [Resume.CONFLICT, Resume.NO_EFFECT])
async def test_a_schedule_that_cannot_be_overridden_is_disabled_and_restored(bench: Bench, resume: Resume) -> None:
    other = replace(NIGHT, slot=1, enabled=False)
    bench.device.windows = (NIGHT, other)
    await bench.tell()
    await until_disabled(bench, resume)
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
    assert bench.disabled() == ("22:00 to 05:00 UTC",), "acknowledged is not restored"
    await over(bench)
    assert bench.disabled() == ()
    assert bench.reasons == ["cancelled"]
    await bench.poll(3)
    assert bench.status() is Status.WAITING_SCHEDULE


async def test_no_effect_is_not_judged_too_early(bench: Bench) -> None:
    bench.cloud.read_back_delays = ()
    bench.device.resume = Resume.NO_EFFECT
    await bench.charger.set_override(True)
    await bench.clock.advance(EFFECT_AFTER - 1)
    await bench.tell()
    assert bench.device.windows == (NIGHT,)
    await bench.clock.advance(1)
    await bench.tell()
    assert bench.device.windows == (replace(NIGHT, enabled=False),)


async def test_a_conflict_at_a_charger_that_charges_by_now_is_no_trouble(bench: Bench) -> None:
    bench.device.manual = Manual.CHARGE  # since the last answer
    assert await bench.charger.set_override(True) is Outcome.VERIFIED
    assert bench.cloud.checks == 1
    assert bench.device.windows == (NIGHT,)
    assert bench.snapshot.override == HELD


async def test_a_conflict_that_cannot_be_looked_into_now_waits_for_the_next_answer(bench: Bench) -> None:
    bench.device.resume = Resume.CONFLICT
    bench.cloud.check_error = TransportBusy("no_room", 40)
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED
    bench.cloud.breaker.probe_now()
    bench.cloud.changed()  # not an answer
    await bench.clock.settle()
    assert bench.device.windows == (NIGHT,)
    await bench.poll()
    assert bench.device.windows == (replace(NIGHT, enabled=False),)


async def test_where_nothing_holds_it_back_asking_in_vain_is_the_end(bench: Bench) -> None:
    bench.device.windows = ()
    bench.cloud.acked_only, bench.cloud.read_back_delays = True, ()
    await bench.tell(Status.WAITING_SCHEDULE)
    await bench.charger.set_override(True)
    await bench.clock.advance(30)
    await bench.tell(Status.WAITING_SCHEDULE)
    assert bench.reasons == ["failed"]
    assert bench.snapshot.issues == {ChargerIssue.OVERRIDE_FAILED}


async def test_no_effect_even_without_the_schedule_has_failed_and_the_schedule_is_restored(bench: Bench) -> None:
    await until_disabled(bench, Resume.CONFLICT)
    await bench.clock.advance(19)
    for _ in range(3):
        await bench.tell(Status.WAITING_SCHEDULE)
        await bench.clock.advance(1)
    assert bench.reasons == ["failed"]
    assert bench.device.windows == (NIGHT,)
    assert bench.sent == [ON]
    await over(bench)
    assert bench.snapshot.issues == {ChargerIssue.OVERRIDE_FAILED}


async def test_what_somebody_changed_meanwhile_is_not_restored(bench: Bench) -> None:
    second, third = replace(NIGHT, slot=1), replace(NIGHT, slot=2)
    bench.device.windows = (NIGHT, second, third)
    await bench.tell()
    await until_disabled_all(bench)
    changed = replace(second, enabled=False, end=DAYTIME.end)
    bench.device.windows = (replace(NIGHT, enabled=False), changed)
    await bench.charger.set_override(False)
    assert bench.device.windows == (NIGHT, changed)


async def until_disabled_all(bench: Bench) -> None:
    bench.device.resume = Resume.CONFLICT
    await bench.charger.set_override(True)
    assert not any(window.enabled for window in bench.device.windows)
    await bench.clock.advance(20)


async def test_where_all_was_changed_nothing_is_written(bench: Bench) -> None:
    await until_disabled_all(bench)
    bench.device.windows = ()
    written = len([entry for entry in bench.log if isinstance(entry, tuple)])
    await bench.charger.set_override(False)
    assert len([entry for entry in bench.log if isinstance(entry, tuple)]) == written
    assert bench.device.windows == ()


@pytest.mark.parametrize("lost", [False, True])
async def test_a_schedule_write_that_does_not_get_through_is_tried_again(bench: Bench, lost: bool) -> None:
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
    assert bench.snapshot.override == HELD
    await bench.charger.set_override(False)
    assert bench.device.windows == (NIGHT,)
    assert bench.reasons == ["cancelled"]


async def test_a_schedule_that_may_not_be_written_ends_it(bench: Bench) -> None:
    bench.device.resume = Resume.CONFLICT
    bench.cloud.errors += [NotApplicable("wrong_state"), NotAllowed("role_too_low")]
    with pytest.raises(NotAllowed, match="role_too_low"):
        await bench.charger.set_override(True)
    assert bench.reasons == ["failed"]
    assert bench.device.windows == (NIGHT,)
    assert bench.intent is None


# Off


async def test_off_is_saved_then_sent(bench: Bench) -> None:
    await switch_on(bench)
    await switch_off(bench)
    before = saved_before(bench, OFF)
    assert (before["state"], before["end"], before["applications"]) == ("ending", "cancelled", 0)
    assert bench.device.status() is Status.WAITING_SCHEDULE
    assert bench.reasons == ["cancelled"]


async def test_off_where_nothing_is_overridden_any_more(bench: Bench) -> None:
    await switch_on(bench)
    bench.cloud.errors.append(NotApplicable("wrong_state"))
    bench.device.manual = None
    await switch_off(bench)
    assert bench.sent == [ON, OFF]
    assert bench.reasons == ["cancelled"]


@pytest.mark.parametrize("resume", Resume)
async def test_off_that_got_lost_is_sent_again(bench: Bench, resume: Resume) -> None:
    """An acknowledgement is not an effect: the cloud says yes for a charger that is away."""
    bench.device.resume = resume
    await bench.charger.set_override(True)
    await bench.clock.advance(60)
    bench.device.at_hand = False  # which the cloud does not know yet
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
async def test_off_that_never_takes_effect_is_given_up_and_told(bench: Bench, resume: Resume) -> None:
    bench.device.resume = resume
    await bench.charger.set_override(True)
    await bench.clock.advance(60)
    bench.cloud.acked_only = True
    await bench.charger.set_override(False)
    await bench.poll(5)
    assert bench.sent.count(OFF) == (3 if resume is Resume.WORKS else 1)
    assert (bench.intent is None) == (resume is Resume.WORKS), "what was disabled is still to be given back"
    assert bench.snapshot.issues == {ChargerIssue.OVERRIDE_FAILED}
    assert bench.reasons == ["cancelled"]


@pytest.mark.parametrize("error", [NotAllowed("refused"), NotApplicable("wrong_state")])
async def test_disabled_schedule_given_back_later_where_the_cloud_refuses(bench: Bench, error: ChargerError) -> None:
    """A 403 may be nothing but throttling; what we disabled stays a debt until it is seen enabled."""
    await until_disabled(bench, Resume.CONFLICT)
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


async def test_schedule_that_does_not_come_back_is_tried_on_without_haste(bench: Bench) -> None:
    await until_disabled(bench, Resume.CONFLICT)
    bench.cloud.acked_only = True
    await bench.charger.set_override(False)
    await bench.poll(20)
    written = sum(isinstance(entry, tuple) for entry in bench.log)
    assert written == 1 + 3, "disabled once, and three times given back"
    bench.cloud.acked_only = False
    await bench.clock.advance(SCHEDULE_RETRY)
    await bench.poll(3)
    assert bench.device.windows == (NIGHT,)
    assert bench.intent is None


async def test_off_that_is_refused_is_told(bench: Bench) -> None:
    await switch_on(bench)
    bench.cloud.errors.append(NotAllowed("locked"))
    with pytest.raises(NotAllowed, match="locked"):
        await bench.charger.set_override(False)
    assert bench.intent is None
    assert bench.reasons == ["cancelled"]
    assert bench.snapshot.issues == {ChargerIssue.OVERRIDE_FAILED}


async def test_off_is_not_looked_into_where_the_charger_was_not_seen_for_long(bench: Bench) -> None:
    await switch_on(bench)
    bench.cloud.is_present = Presence.UNKNOWN
    assert await bench.charger.set_override(False) is Outcome.ACCEPTED
    checks = bench.cloud.checks
    await bench.clock.advance(60)
    assert (bench.sent, bench.cloud.checks) == ([ON, OFF], checks)


async def test_off_in_an_outage_is_carried_out_later(bench: Bench) -> None:
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
    await over(bench)


async def test_off_in_an_outage_of_what_was_never_sent(bench: Bench) -> None:
    await bench.cloud.lose()
    await bench.charger.set_override(True)
    assert await bench.charger.set_override(False) is Outcome.VERIFIED
    assert bench.intent is None
    await bench.tell()
    assert bench.sent == []
    assert bench.reasons == ["cancelled"]


async def test_a_pause_that_came_in_the_outage_is_not_lifted_by_the_end(bench: Bench) -> None:
    await switch_on(bench)
    await bench.cloud.lose()
    await bench.charger.set_override(False)
    bench.device.manual = Manual.PAUSE
    await bench.tell()
    assert bench.sent == [ON]
    assert bench.intent is None
    assert bench.device.status() is Status.PAUSED


async def test_off_that_fails_is_not_repeated_before_the_next_answer(bench: Bench) -> None:
    await switch_on(bench)
    bench.cloud.errors.append(TransportDown("timeout"))
    assert await bench.charger.set_override(False) is Outcome.PENDING
    bench.cloud.changed()
    await bench.clock.settle()
    assert bench.sent == [ON, OFF]
    await bench.poll()
    assert bench.sent == [ON, OFF, OFF]
    await over(bench)


@pytest.mark.parametrize("seen", [False, True])
async def test_on_off_on_within_a_second(bench: Bench, seen: bool) -> None:
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


async def test_on_off_on_all_at_once(bench: Bench) -> None:
    calls = [bench.charger.set_override(on) for on in (True, False, True)]
    assert await asyncio.gather(*calls) == [Outcome.PENDING, Outcome.VERIFIED, Outcome.ACCEPTED]
    await bench.poll(3)
    assert bench.snapshot.override == HELD


@pytest.mark.parametrize("resume", Resume)
async def test_on_off_on_in_an_outage_goes_on_with_what_is_there(bench: Bench, resume: Resume) -> None:
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


async def test_on_after_an_end_whose_answer_was_lost(bench: Bench) -> None:
    await switch_on(bench)
    bench.cloud.lost_answers = 1
    assert await bench.charger.set_override(False) is Outcome.PENDING
    await bench.charger.set_override(True)
    await bench.poll(3)
    assert bench.device.status() is Status.CHARGING
    assert bench.snapshot.override == HELD
    assert bench.reasons == ["cancelled"]


# Outages: ours, base, theirs


async def test_in_an_outage_it_is_kept_and_applied_once_when_the_cloud_is_back(bench: Bench) -> None:
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


async def test_theirs_is_ours_no_write(bench: Bench) -> None:
    await switch_on(bench)
    await bench.cloud.lose()
    await bench.tell()
    assert bench.sent == [ON]
    assert bench.snapshot.override == HELD
    bench.device.power_cycle()  # and that is no disturbance any more
    await bench.poll()
    assert bench.reasons == ["superseded"]


async def test_theirs_is_base_applied_once(bench: Bench) -> None:
    await switch_on(bench)
    await bench.cloud.lose()
    bench.device.power_cycle()
    await bench.tell()
    assert bench.sent == [ON, ON]
    assert bench.events == ["override_reapplied"]
    await bench.poll(10)
    assert bench.sent == [ON, ON]
    assert bench.snapshot.override == HELD


async def test_theirs_is_a_pause_superseded(bench: Bench) -> None:
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


async def test_a_pause_in_the_outage_in_which_it_was_asked_for_supersedes(bench: Bench) -> None:
    await bench.cloud.lose()
    await bench.charger.set_override(True)
    bench.device.manual = Manual.PAUSE
    await bench.tell()
    assert (bench.sent, bench.reasons) == ([], ["superseded"])


async def test_a_car_that_left_in_the_outage_has_ended_it(bench: Bench) -> None:
    await bench.cloud.lose()
    await bench.charger.set_override(True)
    bench.device.unplug()
    await bench.tell()
    assert (bench.sent, bench.reasons) == ([], ["unplugged"])


async def test_a_car_that_came_in_the_outage_is_charged(bench: Bench) -> None:
    bench.device.unplug()
    await bench.tell()
    await bench.cloud.lose()
    await bench.charger.set_override(True)
    bench.device.car = True
    await bench.tell()
    assert bench.sent == [ON]


async def test_offline_in_the_cloud_is_an_outage_and_no_unplugging(bench: Bench) -> None:
    await switch_on(bench)
    bench.device.at_hand = False
    await bench.poll(5)
    assert bench.snapshot.override == HELD
    assert bench.reasons == []
    bench.device.at_hand = True
    bench.device.power_cycle()
    await bench.poll()
    assert bench.sent == [ON, ON]


async def test_an_old_word_is_no_judge_after_an_outage(bench: Bench) -> None:
    await switch_on(bench)
    await bench.cloud.lose()
    bench.device.manual = Manual.PAUSE
    bench.cloud.breaker.throttled(60)  # reachable, but it says nothing
    await bench.clock.advance(61)
    assert bench.cloud.breaker.usable
    assert (bench.sent, bench.reasons) == ([ON], [])
    await bench.tell()
    assert (bench.sent, bench.reasons) == ([ON], ["superseded"])


async def test_another_path_that_is_down_is_no_disturbance(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    await switch_on(bench)
    local.is_present = Presence.OFFLINE
    local.changed()
    await bench.clock.settle()
    bench.device.power_cycle()
    await bench.poll()
    assert bench.reasons == ["superseded"]


# A local path carries it in the outage; when the cloud is back it judges: base, ours, theirs


async def on_in_an_outage_over_a_local_path(bench: Bench) -> FakeTransport:
    """The cloud is lost; the override is carried out and seen over linked entities."""
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


async def test_what_a_local_path_carried_is_not_sent_to_the_cloud_again(bench: Bench) -> None:
    local = await on_in_an_outage_over_a_local_path(bench)
    await bench.clock.advance(1800)
    saved = bench.intents
    local.tell()
    await bench.poll(10)
    assert (bench.sent, local.commands) == ([], [ON])
    assert bench.snapshot.override == HELD
    assert bench.intents == saved
    assert bench.events == ["taken_over", "handed_back"]


async def test_what_a_local_path_carried_and_the_charger_dropped_is_applied_once(bench: Bench) -> None:
    local = await on_in_an_outage_over_a_local_path(bench)
    bench.device.power_cycle()
    local.is_present = Presence.OFFLINE  # from then on
    local.changed()
    await bench.poll(10)
    assert (bench.sent, local.commands) == ([ON], [ON])
    assert bench.snapshot.override == HELD
    assert bench.events == ["taken_over", "handed_back", "override_reapplied"]


async def test_the_cloud_finds_the_base_although_the_local_path_stays(bench: Bench) -> None:
    local = await on_in_an_outage_over_a_local_path(bench)
    await bench.clock.advance(60)
    bench.device.power_cycle()  # which the linked entities do not tell
    await bench.poll(10)
    assert (bench.sent, local.commands) == ([ON], [ON])
    assert bench.snapshot.override == HELD


async def test_a_pause_found_by_the_cloud_supersedes_what_a_local_path_carried(bench: Bench) -> None:
    local = await on_in_an_outage_over_a_local_path(bench)
    bench.device.manual = Manual.PAUSE
    await bench.tell()
    assert (bench.sent, local.commands, bench.reasons) == ([], [ON], ["superseded"])


@pytest.mark.parametrize("end", ["full", "unplugged"])
async def test_an_end_found_by_the_cloud_ends_what_a_local_path_carried(bench: Bench, end: str) -> None:
    await on_in_an_outage_over_a_local_path(bench)
    bench.device.full = True
    if end == "unplugged":
        bench.device.unplug()
    await bench.tell()
    assert (ON in bench.sent, bench.reasons) == (False, [end])


async def test_power_that_flows_counts_more_than_what_the_cloud_remembers(bench: Bench) -> None:
    local = await on_in_an_outage_over_a_local_path(bench)
    await bench.clock.advance(60)
    local.tell()
    bench.cloud.tell(Status.WAITING_SCHEDULE, synced_ago=1800)  # it did not hear the charger since
    await bench.clock.settle()
    assert bench.sent == []
    assert bench.snapshot.override == HELD
    await bench.poll(3)
    assert (bench.sent, bench.snapshot.override) == ([], HELD)


async def test_off_in_an_outage_over_a_local_path_is_left_alone_by_the_cloud(bench: Bench) -> None:
    local = await on_in_an_outage_over_a_local_path(bench)
    assert await bench.charger.set_override(False) is Outcome.ACCEPTED
    await bench.clock.advance(60)
    assert bench.intent is None
    await bench.poll(3)
    assert (bench.sent, local.commands) == ([], [ON, OFF])
    assert bench.reasons == ["cancelled"]


async def test_a_disturbance_while_a_local_path_commands_is_one_event(bench: Bench) -> None:
    local = await on_in_an_outage_over_a_local_path(bench)
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


async def test_it_survives_a_start_in_the_outage_and_costs_the_cloud_nothing(bench: Bench) -> None:
    local = await on_in_an_outage_over_a_local_path(bench)
    await bench.restart_home_assistant(tell=False)
    await bench.cloud.lose()
    assert bench.snapshot.override == HELD
    bench.charger.add_transport(local)
    local.tell()
    await bench.poll(5)
    assert (bench.sent, local.commands) == ([], [ON])
    assert bench.snapshot.override == HELD


@pytest.mark.parametrize(
    "error", [TransportBusy("throttled", 60), NoConnection("refused"), LoginRejected("invalid_auth")]
)
async def test_what_was_not_sent_does_not_count(bench: Bench, error: ChargerError) -> None:
    bench.cloud.errors += [error] * 6
    assert await bench.charger.set_override(True) is Outcome.PENDING
    assert bench.intent is not None
    assert (bench.intent["sent"], bench.intent["applications"]) == (False, 0)
    await bench.poll(17)  # tried again after 1, 2, 4, 8, 13 and 18 min
    assert bench.snapshot.override == WANTED
    await bench.poll()
    assert bench.snapshot.override == HELD
    assert bench.intent["applications"] == 1
    assert bench.events == ["override_pending", "override_reapplied"]


async def test_on_that_got_lost_is_sent_again_and_no_schedule_disabled(bench: Bench) -> None:
    bench.device.at_hand = False  # which the cloud does not know yet
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED
    await bench.poll(2)
    assert bench.sent == [ON]
    bench.device.at_hand = True
    await bench.poll(2)
    assert bench.sent == [ON, ON]
    assert bench.snapshot.override == HELD
    assert bench.device.windows == (NIGHT,)


async def test_a_lost_answer_counts_and_is_not_repeated_blindly(bench: Bench) -> None:
    bench.cloud.errors += [TransportDown("timeout")] * 2
    assert await bench.charger.set_override(True) is Outcome.PENDING
    bench.cloud.changed()  # the breaker's doubt, say
    await bench.clock.settle()
    assert bench.sent == [ON]
    bench.device.manual = Manual.CHARGE  # it had got through
    await bench.poll()
    assert bench.sent == [ON]
    assert bench.snapshot.override == HELD


async def test_a_user_who_insists_is_obeyed_at_once(bench: Bench) -> None:
    bench.cloud.errors.append(TransportBusy("no_room", 5))
    assert await bench.charger.set_override(True) is Outcome.PENDING
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED
    assert bench.sent == [ON, ON]


async def test_on_is_told_to_have_failed_where_it_has(bench: Bench) -> None:
    bench.cloud.errors += [TransportDown("timeout")] * 3
    for _ in range(3):
        assert await bench.charger.set_override(True) is Outcome.PENDING
    assert await bench.charger.set_override(True) is Outcome.FAILED
    assert bench.sent == [ON] * 3
    assert bench.reasons == ["failed"]
    assert await bench.charger.set_override(False) is Outcome.VERIFIED
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED


# Refused


async def test_a_refusal_is_an_error_and_the_end(bench: Bench) -> None:
    bench.cloud.errors.append(NotAllowed("role_too_low"))
    with pytest.raises(NotAllowed, match="role_too_low"):
        await bench.charger.set_override(True)
    assert bench.reasons == ["failed"]
    assert bench.snapshot.override == NOT_WANTED
    assert bench.snapshot.issues == {ChargerIssue.OVERRIDE_FAILED}
    assert bench.intent is None
    await bench.poll(5)
    assert bench.sent == [ON]
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED  # and that is a new one
    assert bench.snapshot.issues == frozenset()


async def test_a_refusal_after_an_outage_is_the_end(bench: Bench) -> None:
    await bench.cloud.lose()
    await bench.charger.set_override(True)
    bench.cloud.errors.append(NotAllowed("ocpp_active"))
    await bench.tell()
    assert bench.reasons == ["failed"]
    assert bench.intent is None
    assert bench.snapshot.issues == {ChargerIssue.OVERRIDE_FAILED}


async def test_read_only_comes_between(bench: Bench) -> None:
    await switch_on(bench)
    assert await bench.charger.cancel_override() == ()
    bench.charger.options = ChargerOptions(read_only=True)
    assert bench.sent == [ON, OFF]
    assert bench.reasons == ["cancelled"]


# Several paths


async def test_a_cloud_that_hangs_is_given_up_for_the_local_path_and_counts_once(bench: Bench) -> None:
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


async def test_where_no_path_carries_it_now_it_waits(bench: Bench) -> None:
    local = await bench.add(Source.LINKED)
    bench.cloud.errors.append(NoConnection("unreachable"))
    local.errors.append(TransportBusy("no_room", 5))
    assert await bench.charger.set_override(True) is Outcome.PENDING
    assert bench.intent is not None
    assert (bench.intent["sent"], bench.intent["applications"]) == (False, 0)
    await bench.poll()
    assert bench.snapshot.override == HELD


async def test_a_conflict_on_the_second_path_is_looked_into_there(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    bench.cloud.errors.append(TransportDown("timeout"))
    bench.device.resume = Resume.CONFLICT
    await bench.charger.set_override(True)
    assert (bench.cloud.checks, local.checks) == (0, 1)


async def test_where_no_path_reads_the_schedule_asking_in_vain_is_the_end(bench: Bench) -> None:
    bench.cloud.can -= {Capability.SCHEDULES}
    bench.device.resume = Resume.CONFLICT
    with pytest.raises(NotApplicable, match="wrong_state"):
        await bench.charger.set_override(True)
    assert bench.reasons == ["failed"]


# Dropped, or changed by somebody


async def test_dropped_again_and_again_it_is_given_up_after_three_times(bench: Bench) -> None:
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


async def test_automatic_starts_are_five_minutes_apart(bench: Bench) -> None:
    await switch_on(bench)
    for _ in range(2):
        await lose_power(bench)
        await bench.tell()
    assert bench.sent == [ON, ON]
    assert bench.snapshot.override == HELD
    await bench.clock.advance(START_SPACING - 1)
    assert bench.sent == [ON, ON]
    await bench.clock.advance(1)
    assert bench.sent == [ON, ON, ON]


async def test_a_user_who_insists_does_not_wait_for_that(bench: Bench) -> None:
    await switch_on(bench)
    for _ in range(2):
        await lose_power(bench)
        await bench.tell()
    await bench.poll()
    assert bench.sent == [ON, ON]
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED
    assert bench.sent == [ON, ON, ON]


async def test_a_new_wish_counts_anew(bench: Bench) -> None:
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


async def test_a_restart_of_ours_drops_it_unseen(bench: Bench) -> None:
    await switch_on(bench)
    bench.options = bench.charger.options = ChargerOptions(restart_while_charging=True)
    await bench.tell()
    await bench.charger.restart()
    assert bench.device.status() is Status.WAITING_SCHEDULE
    await bench.clock.advance(20)
    bench.device.manual = Manual.CHARGE  # still on its way down
    await bench.tell()
    bench.device.manual = None
    await bench.clock.advance(220)
    await bench.tell()  # back, never seen away
    assert "unverified" in bench.events
    assert bench.sent.count(ON) == 2
    await bench.poll()
    assert bench.snapshot.override == HELD


async def test_changed_by_somebody_it_is_superseded_and_never_asserted_again(bench: Bench) -> None:
    await switch_on(bench)
    bench.device.manual = None
    await bench.poll()
    assert bench.reasons == ["superseded"]
    assert bench.snapshot.issues == {ChargerIssue.OVERRIDE_SUPERSEDED}
    await bench.poll(20)
    assert bench.sent == [ON]
    await bench.charger.set_override(True)
    assert bench.snapshot.issues == frozenset()


async def test_superseded_by_a_schedule_restores_what_we_disabled_only(bench: Bench) -> None:
    await until_disabled_all(bench)
    bench.device.windows = (replace(NIGHT, start=DAYTIME.end),)
    await bench.poll()
    assert bench.reasons == ["superseded"]
    assert bench.device.windows == (replace(NIGHT, start=DAYTIME.end),)
    assert bench.sent == [ON]


# The edges of windows


async def test_the_end_of_a_window_is_not_the_end_of_the_override(bench: Bench) -> None:
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
async def test_a_cloud_that_lags_behind_the_edge_does_not_mislead(bench: Bench, lag: float) -> None:
    bench.device.windows = (DAYTIME,)
    await bench.tell()
    await bench.charger.set_override(True)
    await bench.clock.advance(2 * 3600 + lag)
    await bench.tell(Status.CHARGING)  # it has stopped, but nobody said so yet
    await bench.poll()
    assert bench.sent == [ON]
    assert bench.reasons == []


@pytest.mark.parametrize("lag", [5.0, 45.0])
async def test_a_cloud_that_is_quick_at_the_edge_does_not_mislead(bench: Bench, lag: float) -> None:
    bench.device.windows = (DAYTIME,)
    await bench.tell()
    await bench.charger.set_override(True)
    await bench.clock.advance(2 * 3600 + lag)
    await bench.tell()
    assert bench.sent == [ON]
    assert bench.reasons == []


async def test_well_after_the_edge_a_change_is_somebodys_again(bench: Bench) -> None:
    bench.device.windows, bench.device.manual = (DAYTIME,), Manual.CHARGE
    await bench.tell()
    await bench.charger.set_override(True)
    await bench.poll(125)
    bench.device.manual = None
    await bench.poll()
    assert (bench.sent, bench.reasons) == ([], ["superseded"])


# Ends


async def test_full_ends_it(bench: Bench) -> None:
    await switch_on(bench)
    bench.device.full = True
    await bench.poll()
    assert bench.reasons == ["full"]
    await over(bench)
    assert bench.sent == [ON, OFF]


async def waiting_car(bench: Bench, seconds: float, energy: float) -> None:
    """The car takes nothing for so long, after so many kWh."""
    await bench.clock.advance(60)  # so much cannot flow at once
    bench.device.session_energy = energy
    await bench.tell(Status.WAITING_CAR)
    await bench.clock.advance(seconds)


async def test_a_car_that_takes_nothing_for_ten_minutes_is_full(bench: Bench) -> None:
    await switch_on(bench)
    await waiting_car(bench, FULL_AFTER_WAITING - 1, 0.2)
    assert bench.reasons == []
    await bench.clock.advance(1)
    assert bench.reasons == ["full"]


@pytest.mark.parametrize("again", [Status.CHARGING, Status.WAITING_POWER])
async def test_the_ten_minutes_are_counted_at_a_stretch(bench: Bench, again: Status) -> None:
    await switch_on(bench)
    await waiting_car(bench, FULL_AFTER_WAITING - 100, 1.0)
    await bench.tell(again)
    await waiting_car(bench, FULL_AFTER_WAITING - 100, 1.0)
    assert bench.reasons == []


async def test_a_car_that_took_nothing_at_all_is_not_full(bench: Bench) -> None:
    await switch_on(bench)
    await waiting_car(bench, FULL_AFTER_WAITING + 60, 0.19)
    assert bench.reasons == []


async def test_until_unplugged_goes_on_when_full(bench: Bench) -> None:
    await bench.charger.set_override(True, until=Until.UNPLUGGED)
    await bench.clock.advance(20)
    bench.device.full = True
    await bench.poll(3)
    assert bench.reasons == []
    bench.device.unplug()
    await bench.poll()
    assert bench.reasons == ["unplugged"]
    assert bench.sent == [ON]


async def test_unplugging_must_be_seen(bench: Bench) -> None:
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


async def test_a_time_ends_it_by_itself(bench: Bench) -> None:
    await bench.charger.set_override(True, until=Until.TIME, until_at=START + timedelta(minutes=30))
    await bench.clock.advance(30 * 60 - 1)
    assert bench.reasons == []
    await bench.clock.advance(1)
    assert bench.reasons == ["time"]
    assert bench.sent == [ON, OFF]
    assert bench.clock.pending > 0


async def test_a_time_ends_it_in_an_outage_too(bench: Bench) -> None:
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


async def test_it_goes_on_after_a_start_of_home_assistant(bench: Bench) -> None:
    await switch_on(bench)
    await bench.restart_home_assistant(tell=False)
    assert bench.snapshot.override == HELD
    assert bench.sent == [ON]
    await bench.tell()
    await bench.poll(3)
    assert bench.snapshot.override == HELD
    assert bench.sent == [ON]


async def test_dropped_while_home_assistant_was_down_it_is_applied_again(bench: Bench) -> None:
    await switch_on(bench)
    stopped = bench.restart_home_assistant(down_for=3600)
    bench.device.power_cycle()
    await stopped
    assert bench.sent == [ON, ON]


async def test_a_time_that_passed_while_home_assistant_was_down(bench: Bench) -> None:
    await bench.charger.set_override(True, until=Until.TIME, until_at=START + timedelta(minutes=30))
    await bench.clock.advance(60)
    await bench.restart_home_assistant(down_for=3600)
    assert bench.sent == [ON, OFF]
    assert bench.reasons == ["time"]


async def test_nothing_is_sent_while_home_assistant_stops(bench: Bench) -> None:
    await bench.cloud.lose()
    await bench.charger.set_override(True)
    bench.charger.close()
    await bench.tell()
    assert bench.sent == []
    await bench.restart_home_assistant()
    assert bench.sent == [ON]


async def test_closing_between_saving_and_sending_sends_nothing(bench: Bench) -> None:
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


async def test_for_removal_it_is_ended_or_said_what_is_left(bench: Bench) -> None:
    await until_disabled_all(bench)
    await bench.cloud.lose()
    assert await bench.charger.cancel_override() == ("22:00 to 05:00 UTC",)
    assert await bench.charger.cancel_override() == ("22:00 to 05:00 UTC",)
    await bench.tell()
    assert bench.device.windows == (NIGHT,)
    assert await bench.charger.cancel_override() == ()
    assert bench.reasons == ["cancelled"]


async def test_for_removal_a_schedule_is_restored_only_once_it_is_seen_so(bench: Bench) -> None:
    await until_disabled_all(bench)
    bench.cloud.acked_only = True
    assert await bench.charger.cancel_override() == ("22:00 to 05:00 UTC",)
    assert bench.device.windows == (replace(NIGHT, enabled=False),)


async def test_for_a_keeper_that_goes_on_an_acknowledged_schedule_is_not_waited_for(bench: Bench) -> None:
    await until_disabled_all(bench)
    bench.cloud.acked_only = True
    assert await bench.charger.cancel_override(read_back=False) == ()
    bench.cloud.acked_only = False
    await bench.poll(3)
    assert bench.device.windows == (NIGHT,), "it has looked"
    assert bench.intent is None


@pytest.mark.parametrize("how", ["no path", "an error"])
async def test_for_removal_a_schedule_that_cannot_be_read_back_may_be_left_disabled(bench: Bench, how: str) -> None:
    await until_disabled_all(bench)
    await bench.charger.set_override(False)
    assert bench.device.windows == (NIGHT,)
    if how == "no path":
        bench.cloud.can -= {Capability.SCHEDULES}
    else:
        bench.cloud.schedule_error = TransportBusy("throttled", 60)
    assert await bench.charger.cancel_override() == ("22:00 to 05:00 UTC",)


# A schedule that cannot be read or written


UNREADABLE = NotApplicable("schedule_unreadable")


async def test_a_schedule_that_cannot_be_read_ends_an_override_that_needs_it_disabled(bench: Bench) -> None:
    bench.device.resume = Resume.CONFLICT
    bench.cloud.schedule_error = UNREADABLE
    with pytest.raises(NotApplicable, match="schedule_unreadable"):
        await bench.charger.set_override(True)
    assert bench.device.windows == (NIGHT,)
    assert bench.reasons == ["failed"]
    assert bench.issues() == {ChargerIssue.SCHEDULE_UNREADABLE}
    assert [shown.issues for shown in bench.snapshots if ChargerIssue.OVERRIDE_FAILED in shown.issues] == []


async def test_originals_are_kept_while_the_schedule_cannot_be_read(bench: Bench) -> None:
    await until_disabled_all(bench)
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


async def test_a_pause_of_somebody_is_not_handed_back_while_the_schedule_cannot_be_read(bench: Bench) -> None:
    await until_disabled_all(bench)
    bench.device.manual = Manual.PAUSE
    bench.cloud.schedule_error = UNREADABLE
    await bench.poll(3)
    assert bench.reasons == ["superseded"]
    assert bench.sent == [ON]
    assert bench.disabled() == ("22:00 to 05:00 UTC",)


async def test_a_window_that_the_write_deleted_is_told(bench: Bench) -> None:
    other = replace(NIGHT, slot=1, start=DAYTIME.start, enabled=False)
    bench.device.windows = (NIGHT, other)
    await bench.tell()
    await until_disabled_all(bench)
    assert await bench.charger.set_override(False) is Outcome.ACCEPTED
    bench.device.windows = (NIGHT,)
    await over(bench)
    assert bench.issues() == {ChargerIssue.OVERRIDE_FAILED}


async def test_what_vanishes_before_the_end_is_somebodys_doing(bench: Bench) -> None:
    other = replace(NIGHT, slot=1, start=DAYTIME.end)
    bench.device.windows = (NIGHT, other)
    await bench.tell()
    await until_disabled_all(bench)
    bench.device.windows = bench.device.windows[:1]
    assert await bench.charger.set_override(False) is Outcome.ACCEPTED
    await over(bench)
    assert bench.device.windows == (NIGHT,)
    assert bench.issues() == frozenset()


async def test_a_schedule_that_does_not_show_what_was_written_ends_the_override(bench: Bench) -> None:
    bench.device.resume = Resume.CONFLICT
    await bench.charger.set_override(True)
    await bench.charger.set_override(False)
    await over(bench)
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
    """The cloud shows a schedule that was written only so many seconds later."""
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
async def test_schedule_given_back_although_it_shows_late(bench: Bench, lag: float, restarted: bool) -> None:
    """A list without what we wrote may be an old one: what we disabled is not forgotten because of it."""
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


async def test_draw_stopped_at_once_although_its_disabled_schedule_shows_late(bench: Bench) -> None:
    bench.device.resume = Resume.NO_EFFECT
    lag_schedule(bench, 70)
    await bench.charger.set_override(True)
    bench.cloud.lost_answers = 1
    await bench.poll()
    assert bench.device.windows == (replace(NIGHT, enabled=False),), "and the answer was lost"
    await bench.charger.set_override(False)
    assert bench.sent[-1] == PAUSE
    await bench.poll(12)
    assert bench.sent[-1] == OFF
    assert bench.device.windows == (NIGHT,)
    await bench.clock.advance(SCHEDULE_RETRY)
    await bench.poll(3)
    assert bench.device.windows == (NIGHT,)
    assert bench.intent is None
    assert bench.sent.count(OFF) == 1


# I4: whatever interrupts it, one right end


type Timestamp = tuple[dict[str, object], FakeDevice]


async def course(*, ends: bool, resume: Resume) -> list[Timestamp]:
    """All that is ever on the disk while an override is switched on (and off), with the charger just then."""
    moments: list[Timestamp] = []
    bench = Bench()
    save = bench._save

    async def saving(intents: dict[str, object]) -> None:
        await save(intents)
        moments.append((intents, replace(bench.device)))

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
    return moments


class Cutter:
    """Cuts the power at the n-th step of a bench: a saving, or something that reaches the charger, before or after."""

    def __init__(self, bench: Bench, step: int) -> None:
        self._left = step
        self.cut = False
        save, obey, write = bench._save, bench.device.obey, bench.device.write

        async def saving(intents: dict[str, object]) -> None:
            self.point()
            await save(intents)
            self.point()

        def obeying(command: object) -> None:
            self.point()
            obey(command)  # type: ignore[arg-type]
            self.point()

        def writing(windows: Schedule) -> None:
            self.point()
            write(windows)
            self.point()

        bench._save = saving  # type: ignore[method-assign]
        bench.device.obey = obeying  # type: ignore[method-assign]
        bench.device.write = writing  # type: ignore[method-assign]

    def point(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.cut = True
        if self.cut:
            raise asyncio.CancelledError  # and nothing after it happens


@pytest.mark.parametrize("resume", Resume)
@pytest.mark.parametrize("ends", [False, True])
async def test_i4_a_power_cut_at_any_step_leads_to_one_right_end(resume: Resume, ends: bool) -> None:
    step, cuts = 0, 0
    while True:
        step += 1
        bench = Bench()
        cutter = Cutter(bench, step)
        bench.charger = bench.new_keeper()
        bench.cloud.read_back_delays = (20.0,)
        bench.device.resume = resume
        await bench.start()
        acknowledged = await switched(bench, True) and not cutter.cut
        await bench.clock.advance(60)
        ending = ends and acknowledged and not cutter.cut
        done = ending and await switched(bench, False)
        if not cutter.cut:
            break
        cuts += 1
        await after_the_cut(bench, acknowledged=acknowledged, ending=ending, done=done)
    assert cuts >= (4 if resume is Resume.WORKS else 8) + 4 * ends


async def switched(bench: Bench, on: bool) -> bool:
    """Whether the user was told that it is on, or off."""
    try:
        await bench.charger.set_override(on)
    except NoConnection:
        return False
    return True


async def after_the_cut(bench: Bench, *, acknowledged: bool, ending: bool, done: bool) -> None:
    """Everything ours is gone but the disk; the charger is as it is."""
    disk, told = bench.intents, len(bench.reasons)
    await bench.stop()
    after = await taken_up(disk, replace(bench.device, clock=bench.clock))
    wanted = after.snapshot.override
    assert not (acknowledged and not ending and wanted != HELD)  # what was acknowledged survives
    assert not (done and wanted.on)
    assert told + len(after.reasons) <= 1
    await rightly_ended(after)


async def taken_up(disk: dict[str, object] | None, device: FakeDevice) -> Bench:
    """Home Assistant starts on what is on the disk."""
    after = Bench(clock=device.clock, intents=disk)
    after.device = after.cloud.device = FakeDevice(
        clock=device.clock, windows=device.windows, manual=device.manual, resume=device.resume
    )
    after.cloud.read_back_delays = (20.0,)
    await after.start()
    await after.poll(5)
    return after


async def rightly_ended(after: Bench) -> None:
    """It is in effect, and one right end follows; or it is over and has left nothing behind."""
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
async def test_i4_each_state_that_was_ever_saved_leads_on(resume: Resume, ends: bool) -> None:
    moments = await course(ends=ends, resume=resume)
    assert len(moments) >= 4 + 2 * ends + 2 * (resume is not Resume.WORKS)
    for intents, device in moments:
        entry = Saved(intents).override
        after = await taken_up(intents, device)
        assert after.snapshot.override == (NOT_WANTED if entry is None or entry["state"] == "ending" else HELD)
        await rightly_ended(after)
