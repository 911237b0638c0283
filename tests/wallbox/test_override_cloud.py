"""The time-of-use override end to end: charger, account and client against the simulated cloud."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
import json

import pytest

from custom_components.chargekeeper.core.charger.intents import Until
from custom_components.chargekeeper.core.errors import NotAllowed, NotApplicable
from custom_components.chargekeeper.core.model import STATUS, ChargerIssue, Outcome, Override, Status
from tests.simulators.wallbox_cloud import Fault, Resume, Schedules
from tests.simulators.world import Car, Manual, RestartPlan, State, Window
from tests.wallbox.conftest import WAITING, Bench

ON, OFF = 1, 9
HELD, WANTED, NOT_WANTED = Override(on=True, applied=True), Override(on=True), Override()


@pytest.fixture(params=Schedules, autouse=True)
def schedules(request: pytest.FixtureRequest, bench: Bench) -> Schedules:
    """Run each test against both effects of a schedule write."""
    bench.cloud.schedules = request.param
    return bench.cloud.schedules


@pytest.fixture
async def home(bench: Bench, schedules: Schedules) -> Bench:
    """Return a bench after all reads, with a car that waits for the night at one charger."""
    await bench.settle_in()
    assert bench.snapshot(WAITING).value(STATUS) is Status.WAITING_SCHEDULE
    return bench


def actions(bench: Bench) -> list[int]:
    """Return the remote actions that reached the cloud."""
    path = f"/v3/chargers/{WAITING}/remote-action"
    return [json.loads(request.body)["action"] for request in bench.cloud.requests if request.path == path]


def writes(bench: Bench) -> list[tuple[str, str]]:
    """Return method and end of the URL of every write, in order."""
    return [(r.method, r.path.rpartition("/")[2]) for r in bench.cloud.requests if r.method != "GET"]


def intent(bench: Bench) -> dict[str, object] | None:
    """Return the override in the intent store."""
    found = bench.intents_by_serial[WAITING]["override"]
    assert found is None or isinstance(found, dict)
    return found


def reasons(bench: Bench) -> list[str]:
    """Return the reasons for which overrides ended."""
    return [event.details["reason"] for event in bench.events[WAITING] if event.type == "override_ended"]


def shown(bench: Bench) -> Override:
    return bench.snapshot(WAITING).override


async def answered[T](bench: Bench, work: Coroutine[object, object, T]) -> T:
    """Return the result of a command, and advance the clock through budget waits and time-outs."""
    task = asyncio.ensure_future(work)
    await bench.clock.advance_until(task.done, within=120)
    return await task


async def switch(bench: Bench, on: bool) -> Outcome:
    return await answered(bench, bench.chargers[WAITING].set_override(on))


async def hold(bench: Bench) -> None:
    """Switch the override on and wait until its effect is verified."""
    assert await switch(bench, True) is Outcome.ACCEPTED
    await bench.clock.advance_until(lambda: shown(bench) == HELD and is_verified(bench), within=130)


async def end_while_disconnected(bench: Bench) -> tuple[Window, ...]:
    """End an override that had disabled the schedule, while the charger has no cloud link. Return that schedule."""
    bench.cloud.resume[WAITING] = Resume.CONFLICT
    originals = bench.charger(WAITING).schedules
    await hold(bench)
    bench.charger(WAITING).cloud_link = False
    await switch(bench, False)
    assert bench.charger(WAITING).schedules != originals
    return originals


async def reconnect(bench: Bench, *, within: float) -> None:
    """Restore the cloud link of the charger and wait until the override has ended completely."""
    bench.charger(WAITING).cloud_link = True
    await bench.clock.advance(within)
    assert intent(bench) is None


def is_verified(bench: Bench) -> bool:
    entry = intent(bench)
    return entry is not None and entry["state"] == "verified"


async def test_override_on_starts_charging_and_off_resumes_schedule(home: Bench) -> None:
    charger = home.charger(WAITING)
    await hold(home)
    # The house limit is 25 A and the charger is set to 32 A, so the current is lowered before the start (I1).
    assert writes(home) == [("PUT", WAITING), ("POST", "remote-action")]
    assert charger.max_charging_current == 25
    assert actions(home) == [ON]
    assert home.charger(WAITING).state is State.CHARGING
    assert await switch(home, False) is Outcome.ACCEPTED
    await home.clock.advance(5 * 60)
    assert intent(home) is None
    assert actions(home) == [ON, OFF]
    assert home.charger(WAITING).manual is Manual.NONE
    assert home.snapshot(WAITING).value(STATUS) is Status.WAITING_SCHEDULE
    assert reasons(home) == ["cancelled"]
    assert home.event_types(WAITING, "connection") == ["override_ended"]


async def test_override_of_charging_charger_sends_nothing(home: Bench) -> None:
    home.charger(WAITING).manual = Manual.CHARGE
    await home.clock.advance(5 * 60)
    assert await switch(home, True) is Outcome.VERIFIED
    assert shown(home) == HELD
    assert writes(home) == []


@pytest.mark.parametrize("resume", [Resume.CONFLICT, Resume.NO_EFFECT])
async def test_schedule_that_cannot_be_overridden_disabled_and_restored(home: Bench, resume: Resume) -> None:
    charger = home.charger(WAITING)
    night, never = charger.schedules[0], Window(start="0100", stop="0200", enabled=False)
    charger.schedules = (night, never)
    home.cloud.resume[WAITING] = resume
    await hold(home)
    assert charger.schedules == (replace(night, enabled=False), never)
    assert home.charger(WAITING).state is State.CHARGING
    saved = intent(home)
    assert saved is not None
    assert saved["disabled"] is True
    assert await switch(home, False) is Outcome.ACCEPTED
    await home.clock.advance(5 * 60)
    assert charger.schedules == (night, never)
    assert intent(home) is None
    assert actions(home) == [ON, OFF]
    assert home.charger(WAITING).state is State.WAITING_SCHEDULE


async def test_schedule_changed_by_owner_during_override_kept(home: Bench) -> None:
    charger = home.charger(WAITING)
    home.cloud.resume[WAITING] = Resume.CONFLICT
    await hold(home)
    changed = replace(charger.schedules[0], start="2300")
    charger.schedules = (changed,)
    await switch(home, False)
    await home.clock.advance(5 * 60)
    assert charger.schedules == (changed,)


OUTAGES = [Fault.REFUSE, Fault.HANG, Fault.ERROR_500, Fault.HTML, Fault.GARBAGE]


@pytest.mark.parametrize("fault", OUTAGES)
async def test_override_requested_in_outage_applied_once_after_recovery(home: Bench, fault: Fault) -> None:
    await home.cloud.set_fault(fault)
    await home.clock.advance_until(lambda: not home.account.breaker.usable, within=400)
    before = len(actions(home))
    assert await switch(home, True) is Outcome.PENDING
    assert home.event_types(WAITING, "connection") == ["override_pending"]
    assert shown(home) == WANTED
    await home.clock.advance(1800)
    assert len(actions(home)) == before
    await home.cloud.set_fault(Fault.NONE)
    back = await home.clock.advance_until(lambda: home.account.breaker.usable, within=150)
    assert back <= 150
    assert await home.clock.advance_until(lambda: len(actions(home)) > before, within=10) <= 10
    await home.clock.advance(1800)
    assert actions(home)[before:] == [ON]
    assert shown(home) == HELD
    assert home.event_types(WAITING, "connection") == ["override_pending", "override_reapplied"]


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.ERROR_500, Fault.REFUSE])
async def test_override_request_that_reveals_outage_applied_after_recovery(home: Bench, fault: Fault) -> None:
    await home.cloud.set_fault(fault)
    assert await switch(home, True) is Outcome.PENDING
    await home.clock.advance(600)
    assert len(actions(home)) <= 1  # one attempt with an unknown result
    assert shown(home) == WANTED
    await home.cloud.set_fault(Fault.NONE)
    await home.clock.advance(600)
    assert shown(home) == HELD
    assert home.charger(WAITING).state is State.CHARGING
    assert reasons(home) == []


@pytest.mark.parametrize(
    ("external", "sent", "ends"),
    [(Manual.CHARGE, [], None), (Manual.NONE, [ON], None), (Manual.PAUSE, [], "override_superseded")],
)
async def test_override_reconciled_with_external_change_after_outage(
    home: Bench, external: Manual, sent: list[int], ends: str | None
) -> None:
    await hold(home)
    before = len(actions(home))
    await home.cloud.set_fault(Fault.ERROR_500)
    await home.clock.advance(600)
    home.charger(WAITING).manual = external
    await home.cloud.set_fault(Fault.NONE)
    await home.clock.advance(600)
    assert actions(home)[before:] == sent
    assert (ends in home.event_types(WAITING, "connection")) is (ends is not None)
    assert shown(home) == (NOT_WANTED if ends else HELD)
    assert home.snapshot(WAITING).issues == ({ChargerIssue.OVERRIDE_SUPERSEDED} if ends else set())
    assert home.charger(WAITING).manual is (Manual.PAUSE if ends else Manual.CHARGE)


async def test_override_switched_off_in_outage_ends_after_recovery(home: Bench) -> None:
    await hold(home)
    await home.cloud.set_fault(Fault.ERROR_500)
    await home.clock.advance(600)
    before = len(actions(home))
    assert await switch(home, False) is Outcome.PENDING
    assert shown(home) == NOT_WANTED
    await home.clock.advance(600)
    assert len(actions(home)) == before
    await home.cloud.set_fault(Fault.NONE)
    await home.clock.advance(600)
    assert actions(home)[before:] == [OFF]
    assert home.charger(WAITING).state is State.WAITING_SCHEDULE
    assert intent(home) is None
    assert reasons(home) == ["cancelled"]


@pytest.mark.parametrize("shown_offline", [True, False])
async def test_override_survives_charger_losing_its_cloud_connection(home: Bench, shown_offline: bool) -> None:
    await hold(home)
    charger = home.charger(WAITING)
    charger.cloud_shows_offline = shown_offline
    charger.cloud_link = False
    await home.clock.advance(3 * 3600)
    assert shown(home) == HELD
    assert actions(home) == [ON]
    charger.cloud_link = True
    await home.clock.advance(1800)
    assert shown(home) == HELD
    assert actions(home) == [ON]
    assert reasons(home) == []


async def test_override_without_car_applied_at_plug_in(home: Bench) -> None:
    charger = home.charger(WAITING)
    charger.unplug()
    await home.clock.advance(5 * 60)
    assert await switch(home, True) is Outcome.PENDING
    await home.clock.advance(3600)
    assert actions(home) == []
    charger.plug_in()
    await home.clock.advance(5 * 60)
    assert actions(home) == [ON]
    assert shown(home) == HELD
    charger.unplug()
    await home.clock.advance(5 * 60)
    assert reasons(home) == ["unplugged"]
    assert actions(home) == [ON]


async def test_override_ends_when_car_is_full(home: Bench) -> None:
    home.charger(WAITING).car = Car(wants_kwh=2.0, max_amperes=16)
    await hold(home)
    await home.clock.advance(3600)
    assert reasons(home) == ["full"]
    assert actions(home) == [ON, OFF]
    assert home.charger(WAITING).manual is Manual.NONE


async def test_override_ends_at_its_time(home: Bench) -> None:
    until_at = home.clock.now() + timedelta(minutes=30)
    charger = home.chargers[WAITING]
    await answered(home, charger.set_override(True, until=Until.TIME, until_at=until_at))
    await home.clock.advance(29 * 60)
    assert reasons(home) == []
    await home.clock.advance(120)
    assert reasons(home) == ["time"]
    assert actions(home) == [ON, OFF]


async def test_override_lost_in_restarts_sent_3_times_then_fails(home: Bench) -> None:
    home.charger(WAITING).restart_plan = RestartPlan(away_for=180)  # long enough for a poll to see the restart
    await hold(home)
    for times in (2, 3):
        home.charger(WAITING).restart()
        await home.clock.advance(600)
        assert actions(home) == [ON] * times
        assert shown(home) == HELD
    home.charger(WAITING).restart()
    await home.clock.advance(600)
    assert actions(home) == [ON] * 3
    assert reasons(home) == ["failed"]
    assert home.snapshot(WAITING).issues == {ChargerIssue.OVERRIDE_FAILED}
    home.charger(WAITING).unplug()
    await home.clock.advance(600)
    assert home.snapshot(WAITING).issues == frozenset()


async def test_override_superseded_by_external_change_not_sent_again(home: Bench) -> None:
    await hold(home)
    home.charger(WAITING).manual = Manual.NONE
    await home.clock.advance(3600)
    assert actions(home) == [ON]
    assert home.event_types(WAITING, "connection") == ["override_superseded"]
    assert shown(home) == NOT_WANTED


async def test_override_refused_by_cloud_raises_and_ends(home: Bench) -> None:
    await home.cloud.set_fault(Fault.FORBIDDEN, path_prefix=f"/v3/chargers/{WAITING}/remote-action")
    with pytest.raises(NotAllowed):
        await switch(home, True)
    await home.clock.advance(600)
    assert len(actions(home)) == 1
    assert reasons(home) == ["failed"]
    assert intent(home) is None
    assert home.snapshot(WAITING).issues == {ChargerIssue.OVERRIDE_FAILED}


async def test_override_continues_after_home_assistant_restart(home: Bench) -> None:
    home.cloud.resume[WAITING] = Resume.CONFLICT
    charger = home.charger(WAITING)
    originals = charger.schedules
    await hold(home)
    await home.chargers[WAITING].stop()
    await home.clock.advance(1800)
    home.add_charger(WAITING, stored=home.chargers[WAITING].export())
    assert shown(home) == HELD
    await home.clock.advance(1800)
    assert shown(home) == HELD
    assert actions(home) == [ON]
    await switch(home, False)
    await home.clock.advance(600)
    assert charger.schedules == originals
    assert home.charger(WAITING).state is State.WAITING_SCHEDULE


async def test_schedule_of_silent_charger_restored_once_charger_reports_again(home: Bench) -> None:
    """Count no attempt before the charger reports again, because the cloud accepts commands and loses them."""
    originals = await end_while_disconnected(home)
    tries = len(writes(home))
    await home.clock.advance(3 * 3600)
    assert len(writes(home)) == tries
    assert home.charger(WAITING).schedules != originals
    assert intent(home) is not None
    await reconnect(home, within=1200)
    assert home.charger(WAITING).schedules == originals
    assert home.snapshot(WAITING).issues == set()


async def test_home_assistant_restarts_use_no_attempt_to_restore_schedule(home: Bench) -> None:
    """Restart several times without any report of the silent charger; an unknown last report is no report."""
    originals = await end_while_disconnected(home)
    for _ in range(4):
        await home.account.stop()
        stored = home.chargers[WAITING].export()
        await home.chargers[WAITING].stop()
        await home.clock.advance(600)
        home.account = home.new_account()
        home.add_charger(WAITING, stored=stored)
        home.account.start()
        await home.clock.advance(1800)
        assert intent(home) is not None
        assert home.snapshot(WAITING).issues == set()
    await reconnect(home, within=1200)
    assert home.charger(WAITING).schedules == originals
    assert home.snapshot(WAITING).issues == set()


async def test_override_end_that_never_reached_charger_repeated(home: Bench) -> None:
    """Lose a command that the cloud has accepted; an acknowledgment is not an effect."""
    originals = await end_while_disconnected(home)
    await reconnect(home, within=600)
    assert home.charger(WAITING).schedules == originals
    assert reasons(home) == ["cancelled"]


# The schedule of the owner


NIGHT = Window(start="2200", stop="0500", extra={"name": "Nächte", "colour": ["red", None, {"a": 1}]})
NOON = Window(start="1130", stop="1300", days=frozenset({5, 6}), max_current=1, max_energy=7000, extra={"type": 3})
NEVER = Window(start="0100", stop="0200", enabled=False, created_at=0, extra={"repeat": None, "target": "80 %"})
SHUT = tuple(replace(window, enabled=False) for window in (NIGHT, NOON, NEVER))


@pytest.fixture
def scheduled(home: Bench) -> Bench:
    """Return a charger with three schedules, one disabled, that charges only while all are disabled."""
    home.charger(WAITING).schedules = (NIGHT, NOON, NEVER)
    home.cloud.resume[WAITING] = Resume.CONFLICT
    return home


def posts(bench: Bench) -> list[list[dict[str, object]]]:
    """Return the schedules written, in order."""
    path = f"/chargers/{WAITING}/schedules"
    return [json.loads(r.body)["schedules"] for r in bench.cloud.requests if (r.method, r.path) == ("POST", path)]


def issues(bench: Bench) -> frozenset[ChargerIssue]:
    return bench.snapshot(WAITING).issues


async def test_all_schedules_survive_an_override(scheduled: Bench) -> None:
    await hold(scheduled)
    assert scheduled.charger(WAITING).schedules == SHUT
    assert await switch(scheduled, False) is Outcome.ACCEPTED
    await scheduled.clock.advance(5 * 60)
    assert scheduled.charger(WAITING).schedules == (NIGHT, NOON, NEVER)
    assert [len(post) for post in posts(scheduled)] == [3, 3]
    assert intent(scheduled) is None
    assert issues(scheduled) == frozenset()


async def test_schedule_read_back_after_write(scheduled: Bench) -> None:
    await hold(scheduled)
    log = [r.method for r in scheduled.cloud.requests if r.path == f"/chargers/{WAITING}/schedules"]
    assert log[-3:] == ["GET", "POST", "GET"]
    gets = [r.at for r in scheduled.cloud.requests if r.method == "GET" and r.path.startswith("/chargers/")]
    assert min(later - earlier for earlier, later in pairwise(gets)) >= 20, "out of turn, but within the reserve"


@pytest.mark.parametrize("ahead", [0.0, 7 * 3600.0, -7 * 3600.0, 30 * 86400.0, -30 * 86400.0])
async def test_schedules_survive_a_clock_that_is_off(bench: Bench, schedules: Schedules, ahead: float) -> None:
    bench.cloud.clock_offset = ahead
    await bench.settle_in()
    edited_at = int(bench.cloud.now().timestamp()) + 90  # on a phone whose clock is ahead
    originals = (NIGHT, replace(NOON, created_at=edited_at), NEVER)
    bench.charger(WAITING).schedules = originals
    bench.cloud.resume[WAITING] = Resume.NO_EFFECT
    await hold(bench)
    assert bench.charger(WAITING).schedules == SHUT
    await switch(bench, False)
    await bench.clock.advance(5 * 60)
    assert bench.charger(WAITING).schedules == originals
    newest = max(window.created_at for window in bench.charger(WAITING).schedules)
    assert newest < bench.cloud.now().timestamp(), "the app's next edit is newer"


@pytest.mark.parametrize("seconds", [2.0, 6.7])
async def test_schedules_survive_a_slow_cloud(bench: Bench, schedules: Schedules, seconds: float) -> None:
    """Delay a write, so that its time is a little old on arrival, as with the maker's app."""
    await bench.settle_in()
    originals = (NIGHT, NOON, NEVER)
    bench.charger(WAITING).schedules = originals
    bench.cloud.resume[WAITING] = Resume.NO_EFFECT
    await hold(bench)
    assert bench.charger(WAITING).schedules == SHUT
    await bench.cloud.set_fault(Fault.SLOW, slow_seconds=seconds, path_prefix=f"/chargers/{WAITING}/schedules")
    await switch(bench, False)
    await bench.clock.advance(5 * 60)
    assert bench.charger(WAITING).schedules == originals


async def test_schedules_restored_although_their_ids_moved(scheduled: Bench) -> None:
    """Put another schedule first in the app between start and end of the override."""
    await hold(scheduled)
    first = Window(start="0600", stop="0700", enabled=False)
    scheduled.charger(WAITING).schedules = (first, *reversed(scheduled.charger(WAITING).schedules))
    await switch(scheduled, False)
    await scheduled.clock.advance(5 * 60)
    assert scheduled.charger(WAITING).schedules == (first, NEVER, NOON, NIGHT)
    assert intent(scheduled) is None


async def test_schedule_edit_during_override_not_overwritten(scheduled: Bench) -> None:
    await hold(scheduled)
    edited = replace(SHUT[0], stop="0600", max_current=16)
    added = Window(start="1500", stop="1600")
    scheduled.charger(WAITING).schedules = (edited, SHUT[1], added)
    await switch(scheduled, False)
    await scheduled.clock.advance(5 * 60)
    assert scheduled.charger(WAITING).schedules == (edited, NOON, added)
    assert intent(scheduled) is None


async def test_dropped_schedule_write_fails_override_and_raises_issue(scheduled: Bench) -> None:
    scheduled.cloud.drops_schedules.add(WAITING)
    with pytest.raises(NotApplicable, match="schedule_not_taken"):
        await switch(scheduled, True)
    await scheduled.clock.advance(15 * 60)
    assert scheduled.charger(WAITING).schedules == (NIGHT, NOON, NEVER)
    assert len(posts(scheduled)) == 1
    assert reasons(scheduled) == ["failed"]
    assert issues(scheduled) == {ChargerIssue.OVERRIDE_FAILED}
    assert intent(scheduled) is None


async def test_dropped_override_end_repeated(scheduled: Bench) -> None:
    await hold(scheduled)
    scheduled.cloud.drops_schedules.add(WAITING)
    await switch(scheduled, False)
    saved = intent(scheduled)
    assert saved is not None
    assert len(json.loads(json.dumps(saved["originals"]))) == 2
    scheduled.cloud.drops_schedules.clear()
    await scheduled.clock.advance(10 * 60)
    assert scheduled.charger(WAITING).schedules == (NIGHT, NOON, NEVER)
    assert intent(scheduled) is None
    assert issues(scheduled) == frozenset()


async def test_override_end_dropped_repeatedly_raises_issue(scheduled: Bench) -> None:
    await hold(scheduled)
    scheduled.cloud.drops_schedules.add(WAITING)
    await switch(scheduled, False)
    await scheduled.clock.advance(1200)
    assert len(posts(scheduled)) == 1 + 3
    assert issues(scheduled) == {ChargerIssue.OVERRIDE_FAILED}


DAYLESS = Window(start="1500", stop="1600", days=frozenset())


async def test_schedule_not_fully_readable_left_alone_and_raises_issue(scheduled: Bench) -> None:
    scheduled.charger(WAITING).schedules = (NIGHT, DAYLESS)
    with pytest.raises(NotApplicable, match="schedule_unreadable"):
        await switch(scheduled, True)
    await scheduled.clock.advance(10 * 60)
    assert scheduled.charger(WAITING).schedules == (NIGHT, DAYLESS)
    assert posts(scheduled) == []
    assert reasons(scheduled) == ["failed"]
    assert issues(scheduled) == {ChargerIssue.SCHEDULE_UNREADABLE}
    scheduled.charger(WAITING).unplug()
    await scheduled.clock.advance(10 * 60)
    assert issues(scheduled) == frozenset()


async def test_disabled_windows_restored_once_schedule_is_readable_again(scheduled: Bench) -> None:
    """Keep the disabled windows over a restart and without a car, while an issue informs the user."""
    await hold(scheduled)
    scheduled.charger(WAITING).schedules = (*SHUT, DAYLESS)
    with pytest.raises(NotApplicable, match="schedule_unreadable"):
        await switch(scheduled, False)
    assert actions(scheduled) == [ON, OFF]
    assert scheduled.chargers[WAITING].disabled_windows == ("22:00 to 05:00 UTC", "11:30 to 13:00 UTC")
    scheduled.charger(WAITING).unplug()
    await scheduled.clock.advance(2 * 3600)
    assert issues(scheduled) == {ChargerIssue.SCHEDULE_UNREADABLE}
    assert len(posts(scheduled)) == 1
    assert actions(scheduled) == [ON, OFF]
    assert scheduled.cloud.count("GET", f"/chargers/{WAITING}/schedules") < 15
    await scheduled.chargers[WAITING].stop()
    scheduled.add_charger(WAITING, stored=scheduled.chargers[WAITING].export())
    scheduled.charger(WAITING).schedules = SHUT
    await scheduled.clock.advance(3600)
    assert scheduled.charger(WAITING).schedules == (NIGHT, NOON, NEVER)
    assert intent(scheduled) is None
    assert issues(scheduled) == frozenset()


async def test_windows_stored_by_older_version_restored(scheduled: Bench) -> None:
    """Restore windows from the store with former IDs, which have no meaning anymore."""
    await hold(scheduled)
    await scheduled.chargers[WAITING].stop()
    override = intent(scheduled)
    assert override is not None
    old = {"enabled": True, "zone": "UTC", "max_current": 0, "max_energy": 0}
    override["originals"] = [
        old | {"slot": 3, "days": list(range(7)), "start": "22:00:00", "end": "05:00:00"},
        old | {"slot": 9, "days": [5, 6], "start": "11:30:00", "end": "13:00:00", "max_current": 1, "max_energy": 7000},
    ]
    scheduled.add_charger(WAITING, stored=scheduled.chargers[WAITING].export())
    await scheduled.clock.advance(10 * 60)
    await switch(scheduled, False)
    await scheduled.clock.advance(5 * 60)
    assert scheduled.charger(WAITING).schedules == (NIGHT, NOON, NEVER)


async def test_delayed_read_back_keeps_windows_to_restore(scheduled: Bench) -> None:
    """Throttle between the write and the read, so that the read comes later."""
    task = asyncio.ensure_future(scheduled.chargers[WAITING].set_override(True))
    await scheduled.clock.advance_until(lambda: bool(posts(scheduled)), within=120)
    await scheduled.cloud.set_fault(Fault.TOO_MANY, method="GET")
    await scheduled.clock.advance_until(task.done, within=200)
    assert task.exception() is None
    saved = intent(scheduled)
    assert saved is not None
    assert saved["disabled"] is False
    assert len(json.loads(json.dumps(saved["originals"]))) == 2
    await scheduled.cloud.set_fault(Fault.NONE)
    await scheduled.clock.advance(1800)
    assert shown(scheduled) == HELD
    await switch(scheduled, False)
    await scheduled.clock.advance(1800)
    assert scheduled.charger(WAITING).schedules == (NIGHT, NOON, NEVER)
    assert intent(scheduled) is None
