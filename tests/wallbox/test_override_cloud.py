"""The time-of-use override end to end: keeper, account and client against the simulated cloud and its chargers."""

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

ON, PAUSE, OFF = 1, 2, 9
HELD, WANTED, NOT_WANTED = Override(on=True, applied=True), Override(on=True), Override()


@pytest.fixture(params=Schedules, autouse=True)
def schedules(request: pytest.FixtureRequest, bench: Bench) -> Schedules:
    """What the cloud does with a schedule that is written: each test runs against both."""
    bench.cloud.schedules = request.param
    return bench.cloud.schedules


@pytest.fixture
async def home(bench: Bench, schedules: Schedules) -> Bench:
    """Everything was read; at one charger a car waits for the night."""
    await bench.settle_in()
    assert bench.snapshot(WAITING).value(STATUS) is Status.WAITING_SCHEDULE
    return bench


def actions(bench: Bench) -> list[int]:
    """The remote actions that reached the cloud."""
    transport = f"/v3/chargers/{WAITING}/remote-action"
    return [json.loads(request.body)["action"] for request in bench.cloud.requests if request.path == transport]


def writes(bench: Bench) -> list[tuple[str, str]]:
    """Everything written, in order: method and the end of the path."""
    return [(r.method, r.path.rpartition("/")[2]) for r in bench.cloud.requests if r.method != "GET"]


def intent(bench: Bench) -> dict[str, object] | None:
    """The override in the journal."""
    found = bench.intents_by_serial[WAITING]["override"]
    assert found is None or isinstance(found, dict)
    return found


def reasons(bench: Bench) -> list[str]:
    """How overrides ended."""
    return [event.details["reason"] for event in bench.events[WAITING] if event.type == "override_ended"]


def shown(bench: Bench) -> Override:
    return bench.snapshot(WAITING).override


async def answered[T](bench: Bench, work: Coroutine[object, object, T]) -> T:
    """The answer to a command, while the waits of the purses and time-outs pass."""
    task = asyncio.ensure_future(work)
    await bench.clock.advance_until(task.done, within=120)
    return await task


async def switch(bench: Bench, on: bool) -> Outcome:
    return await answered(bench, bench.chargers[WAITING].set_override(on))


async def hold(bench: Bench) -> None:
    """On, and seen to be so."""
    assert await switch(bench, True) is Outcome.ACCEPTED
    await bench.clock.advance_until(lambda: shown(bench) == HELD and is_verified(bench), within=130)


async def end_unheard(bench: Bench) -> tuple[Window, ...]:
    """An override that had to disable the schedule ends while the charger does not hear it; that schedule."""
    bench.cloud.resume[WAITING] = Resume.CONFLICT
    originals = bench.charger(WAITING).schedules
    await hold(bench)
    bench.charger(WAITING).cloud_link = False
    await switch(bench, False)
    assert bench.charger(WAITING).schedules != originals
    return originals


async def hear_again(bench: Bench, *, within: float) -> None:
    """The charger is linked with the cloud again, and does what is left to do."""
    bench.charger(WAITING).cloud_link = True
    await bench.clock.advance(within)
    assert intent(bench) is None


def is_verified(bench: Bench) -> bool:
    entry = intent(bench)
    return entry is not None and entry["state"] == "verified"


async def test_on_and_off(home: Bench) -> None:
    charger = home.charger(WAITING)
    await hold(home)
    # The house allows 25 A, the charger is set to 32 A: that is lowered before the start (I1).
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
    assert home.told(WAITING, "connection") == ["override_ended"]


async def test_what_charges_already_needs_no_write(home: Bench) -> None:
    home.charger(WAITING).manual = Manual.CHARGE
    await home.clock.advance(5 * 60)
    assert await switch(home, True) is Outcome.VERIFIED
    assert shown(home) == HELD
    assert writes(home) == []


@pytest.mark.parametrize("resume", [Resume.CONFLICT, Resume.NO_EFFECT])
async def test_a_schedule_that_cannot_be_overridden_is_disabled_and_restored(home: Bench, resume: Resume) -> None:
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
    assert actions(home) == [ON, PAUSE, OFF]
    assert home.charger(WAITING).state is State.WAITING_SCHEDULE


async def test_what_the_owner_changed_meanwhile_stays(home: Bench) -> None:
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
async def test_asked_for_in_an_outage_it_is_applied_once_when_the_cloud_is_back(home: Bench, fault: Fault) -> None:
    await home.cloud.set_fault(fault)
    await home.clock.advance_until(lambda: not home.account.breaker.usable, within=400)
    before = len(actions(home))
    assert await switch(home, True) is Outcome.PENDING
    assert home.told(WAITING, "connection") == ["override_pending"]
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
    assert home.told(WAITING, "connection") == ["override_pending", "override_reapplied"]


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.ERROR_500, Fault.REFUSE])
async def test_a_press_that_discovers_the_outage(home: Bench, fault: Fault) -> None:
    await home.cloud.set_fault(fault)
    assert await switch(home, True) is Outcome.PENDING
    await home.clock.advance(600)
    assert len(actions(home)) <= 1  # one try, of which nobody knows what came
    assert shown(home) == WANTED
    await home.cloud.set_fault(Fault.NONE)
    await home.clock.advance(600)
    assert shown(home) == HELD
    assert home.charger(WAITING).state is State.CHARGING
    assert reasons(home) == []


@pytest.mark.parametrize(
    ("theirs", "sent", "ends"),
    [(Manual.CHARGE, [], None), (Manual.NONE, [ON], None), (Manual.PAUSE, [], "override_superseded")],
)
async def test_ours_base_and_theirs(home: Bench, theirs: Manual, sent: list[int], ends: str | None) -> None:
    await hold(home)
    before = len(actions(home))
    await home.cloud.set_fault(Fault.ERROR_500)
    await home.clock.advance(600)
    home.charger(WAITING).manual = theirs
    await home.cloud.set_fault(Fault.NONE)
    await home.clock.advance(600)
    assert actions(home)[before:] == sent
    assert (ends in home.told(WAITING, "connection")) is (ends is not None)
    assert shown(home) == (NOT_WANTED if ends else HELD)
    assert home.snapshot(WAITING).issues == ({ChargerIssue.OVERRIDE_SUPERSEDED} if ends else set())
    assert home.charger(WAITING).manual is (Manual.PAUSE if ends else Manual.CHARGE)


async def test_off_in_an_outage_is_carried_out_when_the_cloud_is_back(home: Bench) -> None:
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
async def test_a_charger_that_lost_the_cloud_is_an_outage_and_no_unplugging(home: Bench, shown_offline: bool) -> None:
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


async def test_without_a_car_it_waits_and_is_applied_at_plug_in(home: Bench) -> None:
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


async def test_a_full_car_ends_it(home: Bench) -> None:
    home.charger(WAITING).car = Car(wants_kwh=2.0, max_amperes=16)
    await hold(home)
    await home.clock.advance(3600)
    assert reasons(home) == ["full"]
    assert actions(home) == [ON, OFF]
    assert home.charger(WAITING).manual is Manual.NONE


async def test_a_time_ends_it(home: Bench) -> None:
    until_at = home.clock.now() + timedelta(minutes=30)
    charger = home.chargers[WAITING]
    await answered(home, charger.set_override(True, until=Until.TIME, until_at=until_at))
    await home.clock.advance(29 * 60)
    assert reasons(home) == []
    await home.clock.advance(120)
    assert reasons(home) == ["time"]
    assert actions(home) == [ON, OFF]


async def test_dropped_by_a_restart_it_is_applied_again_and_given_up_at_last(home: Bench) -> None:
    home.charger(WAITING).restart_plan = RestartPlan(away_for=180)  # long enough for a poll to see it
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


async def test_changed_by_somebody_it_is_superseded_and_not_asserted_again(home: Bench) -> None:
    await hold(home)
    home.charger(WAITING).manual = Manual.NONE
    await home.clock.advance(3600)
    assert actions(home) == [ON]
    assert home.told(WAITING, "connection") == ["override_superseded"]
    assert shown(home) == NOT_WANTED


async def test_refused_it_is_an_error_and_over(home: Bench) -> None:
    await home.cloud.set_fault(Fault.FORBIDDEN, path_prefix=f"/v3/chargers/{WAITING}/remote-action")
    with pytest.raises(NotAllowed):
        await switch(home, True)
    await home.clock.advance(600)
    assert len(actions(home)) == 1
    assert reasons(home) == ["failed"]
    assert intent(home) is None
    assert home.snapshot(WAITING).issues == {ChargerIssue.OVERRIDE_FAILED}


async def test_it_goes_on_after_a_start_of_home_assistant(home: Bench) -> None:
    home.cloud.resume[WAITING] = Resume.CONFLICT
    charger = home.charger(WAITING)
    originals = charger.schedules
    await hold(home)
    await home.chargers[WAITING].stop()
    await home.clock.advance(1800)
    home.add_keeper(WAITING, stored=home.chargers[WAITING].export())
    assert shown(home) == HELD
    await home.clock.advance(1800)
    assert shown(home) == HELD
    assert actions(home) == [ON]
    await switch(home, False)
    await home.clock.advance(600)
    assert charger.schedules == originals
    assert home.charger(WAITING).state is State.WAITING_SCHEDULE


async def test_the_schedule_of_a_charger_that_is_silent_for_hours_is_restored_in_the_end(home: Bench) -> None:
    """Not shown offline, it loses whatever the cloud says yes to: no try counts before it is heard again."""
    originals = await end_unheard(home)
    tries = len(writes(home))
    await home.clock.advance(3 * 3600)
    assert len(writes(home)) == tries
    assert home.charger(WAITING).schedules != originals
    assert intent(home) is not None
    await hear_again(home, within=1200)
    assert home.charger(WAITING).schedules == originals
    assert home.snapshot(WAITING).issues == set()


async def test_starts_of_home_assistant_do_not_use_up_the_tries_to_restore_a_schedule(home: Bench) -> None:
    """After a start nothing is known of a silent charger's last report; that is no report."""
    originals = await end_unheard(home)
    for _ in range(4):
        await home.account.stop()
        stored = home.chargers[WAITING].export()
        await home.chargers[WAITING].stop()
        await home.clock.advance(600)
        home.account = home.new_account()
        home.add_keeper(WAITING, stored=stored)
        home.account.start()
        await home.clock.advance(1800)
        assert intent(home) is not None
    await hear_again(home, within=1200)
    assert home.charger(WAITING).schedules == originals
    assert home.snapshot(WAITING).issues == set()


async def test_an_end_that_the_charger_never_got_is_repeated(home: Bench) -> None:
    """The cloud says yes to commands for a charger that it cannot reach; an acknowledgement is not an effect."""
    originals = await end_unheard(home)
    await hear_again(home, within=600)
    assert home.charger(WAITING).schedules == originals
    assert reasons(home) == ["cancelled"]


# The schedule of its owner


NIGHT = Window(start="2200", stop="0500", extra={"name": "Nächte", "colour": ["red", None, {"a": 1}]})
NOON = Window(start="1130", stop="1300", days=frozenset({5, 6}), max_current=1, max_energy=7000, extra={"type": 3})
NEVER = Window(start="0100", stop="0200", enabled=False, created_at=0, extra={"repeat": None, "target": "80 %"})
SHUT = tuple(replace(window, enabled=False) for window in (NIGHT, NOON, NEVER))


@pytest.fixture
def furnished(home: Bench) -> Bench:
    """The charger has three schedules, one of them off, and only disabling them lets it charge."""
    home.charger(WAITING).schedules = (NIGHT, NOON, NEVER)
    home.cloud.resume[WAITING] = Resume.CONFLICT
    return home


def posts(bench: Bench) -> list[list[dict[str, object]]]:
    """The schedules written, in order."""
    transport = f"/chargers/{WAITING}/schedules"
    return [json.loads(r.body)["schedules"] for r in bench.cloud.requests if (r.method, r.path) == ("POST", transport)]


def issues(bench: Bench) -> frozenset[ChargerIssue]:
    return bench.snapshot(WAITING).issues


async def test_all_schedules_survive_an_override(furnished: Bench) -> None:
    await hold(furnished)
    assert furnished.charger(WAITING).schedules == SHUT
    assert await switch(furnished, False) is Outcome.ACCEPTED
    await furnished.clock.advance(5 * 60)
    assert furnished.charger(WAITING).schedules == (NIGHT, NOON, NEVER)
    assert [len(post) for post in posts(furnished)] == [3, 3]
    assert intent(furnished) is None
    assert issues(furnished) == frozenset()


async def test_a_schedule_is_read_back_after_it_was_written(furnished: Bench) -> None:
    await hold(furnished)
    log = [r.method for r in furnished.cloud.requests if r.path == f"/chargers/{WAITING}/schedules"]
    assert log[-3:] == ["GET", "POST", "GET"]
    gets = [r.at for r in furnished.cloud.requests if r.method == "GET" and r.path.startswith("/chargers/")]
    assert min(later - earlier for earlier, later in pairwise(gets)) >= 20, "out of turn, but within the reserve"


@pytest.mark.parametrize("ahead", [0.0, 7 * 3600.0, -7 * 3600.0, 30 * 86400.0, -30 * 86400.0])
async def test_schedules_survive_whatever_our_clock_says(bench: Bench, schedules: Schedules, ahead: float) -> None:
    bench.cloud.clock_offset = ahead
    await bench.settle_in()
    edited_at = int(bench.cloud.now().timestamp()) + 90  # on a phone whose clock is ahead
    owners = (NIGHT, replace(NOON, created_at=edited_at), NEVER)
    bench.charger(WAITING).schedules = owners
    bench.cloud.resume[WAITING] = Resume.NO_EFFECT
    await hold(bench)
    assert bench.charger(WAITING).schedules == SHUT
    await switch(bench, False)
    await bench.clock.advance(5 * 60)
    assert bench.charger(WAITING).schedules == owners
    newest = max(window.created_at for window in bench.charger(WAITING).schedules)
    assert newest < bench.cloud.now().timestamp(), "the app's next edit is newer"


@pytest.mark.parametrize("seconds", [2.0, 6.7])
async def test_schedules_survive_a_slow_cloud(bench: Bench, schedules: Schedules, seconds: float) -> None:
    """A write that was newer than the cloud's time when it left is older when it arrives, as the app's own are."""
    await bench.settle_in()
    owners = (NIGHT, NOON, NEVER)
    bench.charger(WAITING).schedules = owners
    bench.cloud.resume[WAITING] = Resume.NO_EFFECT
    await hold(bench)
    assert bench.charger(WAITING).schedules == SHUT
    await bench.cloud.set_fault(Fault.SLOW, slow_seconds=seconds, path_prefix=f"/chargers/{WAITING}/schedules")
    await switch(bench, False)
    await bench.clock.advance(5 * 60)
    assert bench.charger(WAITING).schedules == owners


async def test_ids_that_move_mislead_nobody(furnished: Bench) -> None:
    """Between the override's start and end the app has put another schedule first."""
    await hold(furnished)
    first = Window(start="0600", stop="0700", enabled=False)
    furnished.charger(WAITING).schedules = (first, *reversed(furnished.charger(WAITING).schedules))
    await switch(furnished, False)
    await furnished.clock.advance(5 * 60)
    assert furnished.charger(WAITING).schedules == (first, NEVER, NOON, NIGHT)
    assert intent(furnished) is None


async def test_an_edit_during_the_override_is_not_overwritten(furnished: Bench) -> None:
    await hold(furnished)
    edited = replace(SHUT[0], stop="0600", max_current=16)
    added = Window(start="1500", stop="1600")
    furnished.charger(WAITING).schedules = (edited, SHUT[1], added)
    await switch(furnished, False)
    await furnished.clock.advance(5 * 60)
    assert furnished.charger(WAITING).schedules == (edited, NOON, added)
    assert intent(furnished) is None


async def test_a_write_that_was_dropped_is_noticed_and_told(furnished: Bench) -> None:
    furnished.cloud.drops_schedules.add(WAITING)
    with pytest.raises(NotApplicable, match="schedule_not_taken"):
        await switch(furnished, True)
    await furnished.clock.advance(15 * 60)
    assert furnished.charger(WAITING).schedules == (NIGHT, NOON, NEVER)
    assert len(posts(furnished)) == 1
    assert reasons(furnished) == ["failed"]
    assert issues(furnished) == {ChargerIssue.OVERRIDE_FAILED}
    assert intent(furnished) is None


async def test_an_end_that_was_dropped_is_repeated(furnished: Bench) -> None:
    await hold(furnished)
    furnished.cloud.drops_schedules.add(WAITING)
    await switch(furnished, False)
    saved = intent(furnished)
    assert saved is not None
    assert len(json.loads(json.dumps(saved["originals"]))) == 2
    furnished.cloud.drops_schedules.clear()
    await furnished.clock.advance(10 * 60)
    assert furnished.charger(WAITING).schedules == (NIGHT, NOON, NEVER)
    assert intent(furnished) is None
    assert issues(furnished) == frozenset()


async def test_an_end_that_is_dropped_again_and_again_is_told(furnished: Bench) -> None:
    await hold(furnished)
    furnished.cloud.drops_schedules.add(WAITING)
    await switch(furnished, False)
    await furnished.clock.advance(1200)
    assert len(posts(furnished)) == 1 + 3
    assert issues(furnished) == {ChargerIssue.OVERRIDE_FAILED}


DAYLESS = Window(start="1500", stop="1600", days=frozenset())


async def test_a_schedule_that_cannot_be_read_in_full_is_left_alone_and_the_user_is_told(furnished: Bench) -> None:
    furnished.charger(WAITING).schedules = (NIGHT, DAYLESS)
    with pytest.raises(NotApplicable, match="schedule_unreadable"):
        await switch(furnished, True)
    await furnished.clock.advance(10 * 60)
    assert furnished.charger(WAITING).schedules == (NIGHT, DAYLESS)
    assert posts(furnished) == []
    assert reasons(furnished) == ["failed"]
    assert issues(furnished) == {ChargerIssue.SCHEDULE_UNREADABLE}
    furnished.charger(WAITING).unplug()
    await furnished.clock.advance(10 * 60)
    assert issues(furnished) == frozenset()


async def test_what_was_disabled_is_restored_once_the_schedule_can_be_read_again(furnished: Bench) -> None:
    """Meanwhile the charger is paused, the user told, and the originals kept, over a start and without a car."""
    await hold(furnished)
    furnished.charger(WAITING).schedules = (*SHUT, DAYLESS)
    with pytest.raises(NotApplicable, match="schedule_unreadable"):
        await switch(furnished, False)
    assert actions(furnished) == [ON, PAUSE]
    assert furnished.chargers[WAITING].disabled_windows == ("22:00 to 05:00 UTC", "11:30 to 13:00 UTC")
    furnished.charger(WAITING).unplug()
    await furnished.clock.advance(2 * 3600)
    assert issues(furnished) == {ChargerIssue.SCHEDULE_UNREADABLE}
    assert len(posts(furnished)) == 1
    assert actions(furnished) == [ON, PAUSE]
    assert furnished.cloud.count("GET", f"/chargers/{WAITING}/schedules") < 15
    await furnished.chargers[WAITING].stop()
    furnished.add_keeper(WAITING, stored=furnished.chargers[WAITING].export())
    furnished.charger(WAITING).schedules = SHUT
    await furnished.clock.advance(3600)
    assert furnished.charger(WAITING).schedules == (NIGHT, NOON, NEVER)
    assert intent(furnished) is None
    assert issues(furnished) == frozenset()


async def test_originals_of_an_older_version_are_restored(furnished: Bench) -> None:
    """Journaled with their ids of then, which mean nothing any more."""
    await hold(furnished)
    await furnished.chargers[WAITING].stop()
    override = intent(furnished)
    assert override is not None
    old = {"enabled": True, "zone": "UTC", "max_current": 0, "max_energy": 0}
    override["originals"] = [
        old | {"slot": 3, "days": list(range(7)), "start": "22:00:00", "end": "05:00:00"},
        old | {"slot": 9, "days": [5, 6], "start": "11:30:00", "end": "13:00:00", "max_current": 1, "max_energy": 7000},
    ]
    furnished.add_keeper(WAITING, stored=furnished.chargers[WAITING].export())
    await furnished.clock.advance(10 * 60)
    await switch(furnished, False)
    await furnished.clock.advance(5 * 60)
    assert furnished.charger(WAITING).schedules == (NIGHT, NOON, NEVER)


async def test_a_read_back_that_has_to_wait_forgets_nothing(furnished: Bench) -> None:
    """The cloud throttles between the write and the read: what came of it is looked at later."""
    task = asyncio.ensure_future(furnished.chargers[WAITING].set_override(True))
    await furnished.clock.advance_until(lambda: bool(posts(furnished)), within=120)
    await furnished.cloud.set_fault(Fault.TOO_MANY, method="GET")
    await furnished.clock.advance_until(task.done, within=200)
    assert task.exception() is None
    saved = intent(furnished)
    assert saved is not None
    assert saved["disabled"] is False
    assert len(json.loads(json.dumps(saved["originals"]))) == 2
    await furnished.cloud.set_fault(Fault.NONE)
    await furnished.clock.advance(1800)
    assert shown(furnished) == HELD
    await switch(furnished, False)
    await furnished.clock.advance(1800)
    assert furnished.charger(WAITING).schedules == (NIGHT, NOON, NEVER)
    assert intent(furnished) is None
