"""Restart and firmware: sent once and never blindly, watched to a known end, over restarts of Home Assistant too."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from custom_components.chargekeeper.core.charger import ChargerEvent, ChargerOptions, RestartRun
from custom_components.chargekeeper.core.charger.restart import AWAY_WITHIN, BACK_WITHIN, COOLING_DOWN, STATUS_FRESH
from custom_components.chargekeeper.core.charger.restart_service import INSTALL_WITHIN
from custom_components.chargekeeper.core.errors import (
    ChargerError,
    NoConnection,
    NotAllowed,
    NotSaved,
    TransportBusy,
    TransportDown,
    UnsafeRequest,
    Unsupported,
)
from custom_components.chargekeeper.core.model import (
    FIRMWARE,
    LATEST_FIRMWARE,
    ROLE,
    Capability,
    ChargerIssue,
    Outcome,
    Prefer,
    RestartAvailability,
    Role,
    Source,
    Status,
)
from custom_components.chargekeeper.core.transport import Install, Presence, Restart, SetCurrent
from tests.core.fake_transport import Bench, FakeTransport, Manual, Saved
from tests.simulators.clock import START


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.start()
    yield bench
    assert not bench.device.bricked


def restart_record(bench: Bench) -> dict[str, object] | None:
    """The last restart in the journal as it was saved last."""
    if bench.intents is None:
        return None
    record = bench.intents["restart"]
    assert record is None or isinstance(record, dict)
    return record


def outcome_of(bench: Bench) -> object:
    record = restart_record(bench)
    return None if record is None else record["outcome"]


async def refused(bench: Bench) -> str:
    """Why a restart is refused; nothing is sent or noted."""
    sent, record = list(bench.sent), restart_record(bench)
    with pytest.raises(ChargerError) as caught:
        await bench.charger.restart()
    assert bench.sent == sent
    assert restart_record(bench) == record
    return caught.value.reason


def availability(bench: Bench) -> RestartAvailability:
    return bench.snapshot.restart


async def outcome_at_rest(bench: Bench, run: RestartRun) -> Outcome:
    waiting = asyncio.ensure_future(run.wait())
    await bench.clock.settle()
    assert waiting.done()
    return await waiting


# The guard


async def test_i5_a_press_is_saved_and_sent_once(bench: Bench) -> None:
    await bench.charger.restart()
    assert bench.device.restarts == 1
    saved = next(entry for entry in bench.log if isinstance(entry, Saved))
    assert bench.log.index(saved) < bench.log.index(Restart())
    assert restart_record(bench) == {
        "pressed_at": START.isoformat(),
        "away_at": None,
        "outcome": None,
        "source": "cloud",
    }
    assert bench.events == ["accepted"]
    assert availability(bench) is RestartAvailability.RESTARTING
    assert bench.cloud.watchers == 1
    assert bench.cloud.checks == 0


async def test_i5_two_presses_at_once_are_one_restart(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    presses = [asyncio.ensure_future(bench.charger.restart()) for _ in range(3)]
    await bench.clock.settle()
    bench.cloud.gate.set()
    answers = await asyncio.gather(*presses, return_exceptions=True)
    assert [str(answer) for answer in answers[1:]] == ["restart_restarting"] * 2
    assert bench.device.restarts == 1
    assert await refused(bench) == "restart_restarting"


async def test_i5_an_old_status_is_read_again_first(bench: Bench) -> None:
    await bench.clock.advance(STATUS_FRESH)
    await bench.charger.restart()
    assert bench.cloud.checks == 0
    await bench.tell(Status.OFFLINE)
    await bench.poll()
    await bench.clock.advance(COOLING_DOWN)
    bench.device.updating = True
    assert await refused(bench) == "restart_updating"
    assert bench.cloud.checks == 1


async def test_while_it_is_read_that_shows(bench: Bench) -> None:
    await bench.clock.advance(STATUS_FRESH + 1)
    bench.snapshots.clear()
    await bench.charger.restart()
    assert [snapshot.restart for snapshot in bench.snapshots] == [
        RestartAvailability.CHECKING,
        RestartAvailability.AVAILABLE,
        RestartAvailability.RESTARTING,
    ]


async def test_i5_a_status_that_cannot_be_read_now_sends_nothing(bench: Bench) -> None:
    await bench.clock.advance(STATUS_FRESH + 1)
    for error in (TransportBusy("throttled", 60), TransportDown("timeout")):
        bench.cloud.check_error = error
        assert await refused(bench) == error.reason
    assert availability(bench) is RestartAvailability.AVAILABLE
    assert restart_record(bench) is None


@pytest.mark.parametrize("late", [False, True])
async def test_i5_an_update_that_begins_meanwhile_is_noticed(bench: Bench, late: bool) -> None:
    bench.save_gate = asyncio.Event()
    press = asyncio.ensure_future(bench.charger.restart())
    await bench.clock.settle()
    bench.device.updating = True
    bench.cloud.tell(... if late else None)
    bench.save_gate.set()
    with pytest.raises(UnsafeRequest, match="restart_updating" if late else "restart_status_unknown"):
        await press
    assert bench.device.restarts == 0
    assert restart_record(bench) is None
    assert bench.status() is not Status.RESTARTING


REFUSALS = {
    None: "restart_status_unknown",
    Status.CHARGING: "restart_charging",
    Status.DISCHARGING: "restart_charging",
    Status.UPDATING: "restart_updating",
    Status.RESTARTING: "restart_restarting",
    Status.OFFLINE: "restart_offline",
}


@pytest.mark.parametrize("status", [None, *Status])
@pytest.mark.parametrize("age", [0.0, STATUS_FRESH, STATUS_FRESH + 1])
@pytest.mark.parametrize("source", [Source.CLOUD, Source.BLUETOOTH])
async def test_i5_the_guard_for_each_status_age_and_path(status: Status | None, age: float, source: Source) -> None:
    bench = Bench()
    bench.cloud.source = source
    await bench.start()
    await bench.tell(status)
    bench.cloud.tell = lambda *_, **__: type(bench.cloud).tell(bench.cloud, status)  # type: ignore[method-assign]
    await bench.clock.advance(age)
    reason = REFUSALS.get(status)
    if reason is None:
        await bench.charger.restart()
        assert bench.device.restarts == 1
    else:
        assert await refused(bench) == reason
        assert bench.device.restarts == 0
    looked = age > STATUS_FRESH or status is None
    known = status in {Status.OFFLINE, Status.RESTARTING}
    assert bench.cloud.checks == int(looked and not known)


async def test_i5_over_the_cloud_the_charger_itself_must_have_reported(bench: Bench) -> None:
    bench.cloud.tell(synced_ago=601)
    bench.cloud.check_error = TransportBusy("no_room", 30)
    assert await refused(bench) == "no_room"
    bench.cloud.check_error = None
    await bench.charger.restart()  # the look shows that it is there
    assert bench.cloud.checks == 2


async def test_charging_may_be_allowed_by_the_user(bench: Bench) -> None:
    bench.device.manual = Manual.CHARGE
    await bench.tell()
    assert availability(bench) is RestartAvailability.CHARGING
    bench.charger.options = ChargerOptions(restart_while_charging=True)
    assert availability(bench) is RestartAvailability.AVAILABLE
    await bench.charger.restart()
    assert bench.device.restarts == 1


async def test_a_role_that_is_too_low_is_told_before_asking(bench: Bench) -> None:
    bench.cloud.show(ROLE, Role.USER)
    assert await refused(bench) == "restart_needs_admin"
    await bench.clock.advance(STATUS_FRESH + 1)
    assert await refused(bench) == "restart_needs_admin"
    assert bench.cloud.checks == 0
    bench.cloud.show(ROLE, Role.OPERATOR)
    await bench.charger.restart()


async def test_a_model_that_cannot_says_so(bench: Bench) -> None:
    bench.cloud.can = frozenset(Capability) - {Capability.RESTART}
    bench.cloud.changed()
    assert availability(bench) is RestartAvailability.UNSUPPORTED_MODEL
    assert await refused(bench) == "restart_unsupported_model"


async def test_what_may_be_linked_is_told_of_a_restart_and_not_of_an_install(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeTransport, "restart_needs_link", True)
    bench.cloud.can = frozenset(Capability) - {Capability.RESTART, Capability.INSTALL}
    bench.cloud.changed()
    assert availability(bench) is RestartAvailability.NEEDS_LINK
    assert await refused(bench) == "restart_needs_link"
    with pytest.raises(UnsafeRequest, match="install_unsupported_model"):
        await bench.charger.install()


async def test_without_connection_nothing_is_sent_and_the_outage_named(bench: Bench) -> None:
    began = bench.clock.now()
    await bench.cloud.lose()
    assert availability(bench) is RestartAvailability.NO_TRANSPORT
    with pytest.raises(TransportDown) as caught:
        await bench.charger.restart()
    assert (caught.value.reason, caught.value.detail) == ("no_path", began.isoformat())
    bench.charger.remove_transport(Source.CLOUD)
    assert await refused(bench) == "no_path"


async def test_before_the_first_word_nothing_is_sent() -> None:
    bench = Bench()
    await bench.start(tell=False)
    assert availability(bench) is RestartAvailability.STATUS_UNKNOWN
    bench.cloud.check_error = TransportDown("timeout")
    assert await refused(bench) == "timeout"


async def test_what_is_offline_in_the_cloud_goes_by_another_path(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    await bench.tell(Status.OFFLINE)
    assert availability(bench) is RestartAvailability.AVAILABLE
    local.is_present = Presence.UNKNOWN  # heard long ago: worth a look, unlike a cloud that knows better
    local.check_error = TransportDown("timeout")
    await bench.tell(Status.OFFLINE)
    assert await refused(bench) == "timeout"
    assert local.checks == 1
    local.is_present = local.check_error = None
    local.tell()
    await bench.charger.restart()
    assert (local.commands, bench.sent) == ([Restart()], [])


@pytest.mark.parametrize("danger", [Status.CHARGING, Status.UPDATING])
@pytest.mark.parametrize("on_its_own_path", [False, True])
async def test_i5_a_danger_that_any_path_knows_of_counts(bench: Bench, danger: Status, on_its_own_path: bool) -> None:
    local = await bench.add(Source.BLUETOOTH)
    first, second = (bench.cloud, local) if on_its_own_path else (local, bench.cloud)
    await bench.tell(danger, transport=first)
    await bench.clock.advance(1)
    await bench.tell(transport=second) if on_its_own_path else await bench.tell(danger, transport=first)
    assert await refused(bench) == f"restart_{danger}"


async def test_i5_the_path_that_carries_it_must_know_the_status(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    await bench.tell(None)
    local.tell()
    bench.cloud.check_error = TransportBusy("no_room", 30)
    assert await refused(bench) == "no_room"


async def test_a_path_that_cannot_restart_is_no_help(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    local.can = frozenset({Capability.CURRENT})
    bench.charger.options = ChargerOptions(prefer=Prefer.LOCAL_FIRST)
    await bench.charger.restart()
    assert bench.sent == [Restart()]


async def test_it_cools_down_for_ten_minutes_over_restarts_of_home_assistant_too(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.tell(Status.OFFLINE)
    await bench.poll()
    assert outcome_of(bench) == "verified"
    assert availability(bench) is RestartAvailability.COOLING_DOWN
    assert await refused(bench) == "restart_cooling_down"
    await bench.restart_home_assistant(down_for=300)
    assert await refused(bench) == "restart_cooling_down"
    await bench.clock.advance(COOLING_DOWN - 361)
    assert availability(bench) is RestartAvailability.COOLING_DOWN
    await bench.clock.advance(1)
    assert availability(bench) is RestartAvailability.AVAILABLE
    await bench.charger.restart()
    assert bench.device.restarts == 2


async def test_a_clock_that_was_set_back_makes_it_cool_down_from_now(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.tell(Status.OFFLINE)
    await bench.poll()
    await bench.clock.advance(3600)
    bench.clock.jump(-7200)
    await bench.restart_home_assistant()
    assert availability(bench) is RestartAvailability.COOLING_DOWN
    await bench.clock.advance(COOLING_DOWN)
    assert availability(bench) is RestartAvailability.AVAILABLE


# What becomes of the request


async def test_nothing_is_sent_that_could_not_be_saved(bench: Bench) -> None:
    bench.save_error = NotSaved("not_saved")
    with pytest.raises(NotSaved):
        await bench.charger.restart()
    assert bench.sent == []
    assert availability(bench) is RestartAvailability.AVAILABLE


async def test_in_an_outage_a_local_path_that_cannot_restart_is_no_unsupported_model(bench: Bench) -> None:
    local = await bench.add(Source.LINKED)
    local.can = frozenset({Capability.CHARGING, Capability.OVERRIDE})
    local.changed()
    await bench.cloud.lose()
    assert availability(bench) is RestartAvailability.NO_TRANSPORT


async def test_a_lost_answer_is_unclear_and_watched_all_the_same(bench: Bench) -> None:
    bench.cloud.lost_answers = 1
    with pytest.raises(TransportDown, match="restart_unclear"):
        await bench.charger.restart()
    assert bench.status() is Status.RESTARTING
    assert bench.device.restarts == 1
    assert bench.events == []
    await bench.tell(Status.OFFLINE)
    await bench.poll()
    assert bench.events == ["verified"]
    assert await refused(bench) == "restart_cooling_down"


@pytest.mark.parametrize(
    ("error", "raised", "plan"),
    [
        (NotAllowed("refused"), "restart_refused", True),
        (NotAllowed("locked"), "locked", False),
        (NoConnection("refused"), "refused", False),
        (TransportBusy("throttled", 60), "throttled", False),
    ],
)
async def test_what_was_surely_not_done_does_not_count(
    bench: Bench, error: ChargerError, raised: str, plan: bool
) -> None:
    bench.cloud.errors.append(error)
    with pytest.raises(type(error)) as caught:
        await bench.charger.restart()
    assert caught.value.reason == raised
    assert restart_record(bench) is None
    assert bench.status() is Status.WAITING_SCHEDULE
    assert bench.events == []
    expected = RestartAvailability.NEEDS_PLAN if plan else RestartAvailability.AVAILABLE
    assert availability(bench) is expected
    await bench.charger.restart()  # an earlier refusal does not forbid it: the cloud decides
    await bench.tell(Status.OFFLINE)
    await bench.poll(1)
    await bench.clock.advance(COOLING_DOWN)
    assert availability(bench) is RestartAvailability.AVAILABLE


async def test_a_refused_press_leaves_the_record_of_the_last_one(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.tell(Status.OFFLINE)
    await bench.poll()
    await bench.clock.advance(COOLING_DOWN)
    await bench.tell()
    before = restart_record(bench)
    bench.cloud.errors.append(TransportBusy("throttled", 60))
    with pytest.raises(TransportBusy):
        await bench.charger.restart()
    assert restart_record(bench) == before


async def test_closing_between_saving_and_sending_sends_nothing(bench: Bench) -> None:
    bench.save_gate = asyncio.Event()
    press = asyncio.ensure_future(bench.charger.restart())
    await bench.clock.settle()
    bench.charger.close()
    bench.save_gate.set()
    with pytest.raises(NoConnection, match="stopping"):
        await press
    assert bench.sent == []
    assert restart_record(bench) is None


# The watch


async def test_away_and_back_is_verified(bench: Bench) -> None:
    run = await bench.charger.restart()
    await bench.clock.advance(30)
    await bench.tell(Status.OFFLINE)
    assert restart_record(bench) is not None
    assert bench.status() is Status.RESTARTING
    await bench.poll(2)
    assert await outcome_at_rest(bench, run) is Outcome.VERIFIED
    assert bench.events == ["accepted", "verified"]
    assert outcome_of(bench) == "verified"
    assert bench.status() is Status.WAITING_SCHEDULE
    assert bench.cloud.watchers == 0
    assert bench.issues() == frozenset()


async def test_what_never_comes_back_has_failed_until_it_is_heard_again(bench: Bench) -> None:
    run = await bench.charger.restart()
    bench.device.at_hand = False
    await bench.poll(9)
    assert bench.events == ["accepted"]
    await bench.clock.advance(60)
    assert await outcome_at_rest(bench, run) is Outcome.FAILED
    assert bench.events == ["accepted", "failed"]
    assert outcome_of(bench) == "failed"
    assert bench.issues() == {ChargerIssue.RESTART_FAILED}
    assert bench.status() is Status.OFFLINE
    await bench.poll(3)
    assert bench.issues() == {ChargerIssue.RESTART_FAILED}
    await bench.restart_home_assistant()
    assert bench.issues() == {ChargerIssue.RESTART_FAILED}
    bench.device.at_hand = True
    await bench.poll()
    assert bench.issues() == frozenset()
    await bench.restart_home_assistant()
    assert bench.issues() == frozenset()


async def test_a_press_that_hears_of_the_charger_first_is_not_forgotten_with_the_failure(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.cloud.lose()
    await bench.clock.advance(BACK_WITHIN)
    assert bench.issues() == {ChargerIssue.RESTART_FAILED}
    bench.cloud.breaker.throttled(1)  # reachable again, but it has told nothing yet
    await bench.clock.advance(1)
    await bench.charger.restart()
    await bench.clock.settle()
    assert bench.device.restarts == 2
    record = restart_record(bench)
    assert record is not None
    assert (record["pressed_at"], record["outcome"]) == (bench.clock.now().isoformat(), None)


async def test_old_values_repeated_by_the_cloud_clear_nothing(bench: Bench) -> None:
    await bench.charger.restart()
    bench.device.at_hand = False
    await bench.poll(10)
    bench.cloud.tell(Status.WAITING_SCHEDULE, synced_ago=None)
    await bench.clock.settle()
    assert bench.issues() == {ChargerIssue.RESTART_FAILED}


async def test_the_next_press_clears_the_problem_of_the_last(bench: Bench) -> None:
    await bench.charger.restart()
    bench.device.at_hand = False
    await bench.poll(10)
    bench.device.at_hand = True
    local = await bench.add(Source.BLUETOOTH)
    assert bench.issues() == {ChargerIssue.RESTART_FAILED}  # heard, but not since
    await bench.charger.restart()
    assert local.commands == [Restart()]
    assert bench.issues() == frozenset()


async def test_accepted_but_not_seen_to_be_carried_out_is_unverified(bench: Bench) -> None:
    run = await bench.charger.restart()
    await bench.poll(3)
    assert bench.events == ["accepted"]
    await bench.clock.advance(1)
    await bench.tell()
    assert await outcome_at_rest(bench, run) is Outcome.UNVERIFIED
    assert outcome_of(bench) == "unverified"


async def test_a_word_of_the_charger_is_sought_where_only_that_is_missing(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.tell(Status.OFFLINE)
    bench.cloud.check_error = TransportBusy("no_room", 20)
    await bench.clock.advance(60)
    bench.cloud.tell(synced_ago=None)  # the groups: it is back, as the cloud says
    await bench.clock.settle()
    assert (bench.cloud.checks, bench.events) == (1, ["accepted"])
    bench.cloud.check_error = None
    await bench.clock.advance(60)
    bench.cloud.tell(synced_ago=None)
    await bench.clock.settle()
    assert (bench.cloud.checks, bench.events) == (2, ["accepted", "verified"])


async def test_one_look_at_a_time(bench: Bench) -> None:
    looks: list[None] = []
    going = asyncio.Event()

    async def check() -> None:
        looks.append(None)
        await going.wait()

    bench.cloud.check = check  # type: ignore[method-assign]
    await bench.charger.restart()
    await bench.tell(Status.OFFLINE)
    for _ in range(3):
        await bench.clock.advance(10)
        bench.cloud.tell(synced_ago=None)
        await bench.clock.settle()
    assert len(looks) == 1
    going.set()
    await bench.clock.settle()
    await bench.clock.advance(10)
    bench.cloud.tell(synced_ago=None)
    await bench.clock.settle()
    assert len(looks) == 2


async def test_updating_is_not_back(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.tell(Status.OFFLINE)
    bench.device.updating = True
    await bench.poll()
    assert bench.events == ["accepted"]
    bench.device.updating = False
    await bench.poll()
    assert bench.events == ["accepted", "verified"]


async def test_the_watch_goes_on_after_a_start_of_home_assistant(bench: Bench) -> None:
    run = await bench.charger.restart()
    waiting = asyncio.ensure_future(run.wait())
    await bench.clock.advance(30)
    await bench.tell(Status.OFFLINE)
    await bench.restart_home_assistant(tell=False)
    with pytest.raises(NoConnection, match="stopping"):
        await waiting
    assert bench.status() is Status.RESTARTING
    assert bench.cloud.watchers == 1
    await bench.poll()
    assert bench.events == ["accepted", "verified"]
    assert bench.device.restarts == 1


async def test_the_watch_may_have_run_out_while_home_assistant_was_down(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.restart_home_assistant(down_for=BACK_WITHIN + 60, tell=False)
    await bench.clock.advance(1)
    await bench.tell(Status.OFFLINE)
    assert bench.events == ["accepted", "failed"]


async def test_the_watch_goes_on_in_an_outage(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.cloud.lose()
    assert bench.status() is Status.RESTARTING
    await bench.clock.advance(AWAY_WITHIN)
    await bench.tell()
    assert bench.events == ["accepted", "unverified"]


async def test_an_outage_to_the_end_of_the_watch_has_failed_it(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.cloud.lose()
    await bench.clock.advance(BACK_WITHIN)
    assert bench.events == ["accepted", "failed"]
    assert bench.issues() == {ChargerIssue.RESTART_FAILED}
    await bench.tell()
    assert bench.issues() == frozenset()


async def test_a_path_that_joins_watches_too(bench: Bench) -> None:
    await bench.charger.restart()
    local = await bench.add(Source.BLUETOOTH)
    assert local.watchers == 1
    await bench.clock.advance(BACK_WITHIN)
    assert (local.watchers, bench.cloud.watchers) == (0, 0)


async def test_whoever_gives_up_waiting_disturbs_nobody(bench: Bench) -> None:
    run = await bench.charger.restart()
    impatient, patient = asyncio.ensure_future(run.wait()), asyncio.ensure_future(run.wait())
    await bench.clock.settle()
    impatient.cancel()
    await bench.tell(Status.OFFLINE)
    await bench.poll()
    assert await patient is Outcome.VERIFIED


async def test_stopping_ends_the_waiting_not_the_watch(bench: Bench) -> None:
    run = await bench.charger.restart()
    waiting = asyncio.ensure_future(run.wait())
    await bench.clock.settle()
    await bench.charger.stop()
    with pytest.raises(NoConnection, match="stopping"):
        await waiting
    with pytest.raises(NoConnection, match="stopping"):
        await run.wait()
    assert bench.cloud.watchers == 0
    await bench.start(tell=False)  # the same keeper begins again
    assert bench.status() is Status.RESTARTING
    await bench.tell(Status.OFFLINE)
    await bench.poll()
    assert bench.events == ["accepted", "verified"]
    await bench.charger.stop()
    await bench.start()
    assert bench.status() is Status.WAITING_SCHEDULE


async def test_a_press_survives_the_power_cut_between_saving_and_sending(bench: Bench) -> None:
    bench.save_gate = asyncio.Event()
    press = asyncio.ensure_future(bench.charger.restart())
    await bench.clock.settle()
    await bench.charger.stop()
    with pytest.raises(NoConnection):
        await press
    bench.save_gate = None
    bench.intents = {"restart": {"pressed_at": bench.clock.now().isoformat(), "away_at": None, "outcome": None}}
    await bench.restart_home_assistant()
    assert bench.status() is Status.RESTARTING
    await bench.poll(4)
    assert bench.events == ["unverified"]
    assert bench.device.restarts == 0  # never repeated


# Firmware


def installing(bench: Bench) -> bool:
    return bench.snapshot.installing


def install_record(bench: Bench) -> object:
    return None if bench.intents is None else bench.intents["install"]


async def test_an_install_is_saved_then_sent_and_verified_by_the_version(bench: Bench) -> None:
    await bench.charger.install()
    saved = next(entry for entry in bench.log if isinstance(entry, Saved))
    assert bench.log.index(saved) < bench.log.index(Install())
    assert install_record(bench) == {"started_at": START.isoformat(), "target": "2.0"}
    assert installing(bench)
    await bench.poll(5)
    assert bench.status() is Status.UPDATING
    bench.device.updating = False
    await bench.poll()
    assert install_record(bench) is not None
    bench.device.firmware = "2.0"
    await bench.poll()
    assert not installing(bench)
    assert install_record(bench) is None
    assert bench.issues() == frozenset()
    assert bench.sent == [Install()]


async def test_a_later_version_than_expected_will_do(bench: Bench) -> None:
    await bench.charger.install()
    await bench.clock.advance(60)
    bench.device.updating = False
    await bench.clock.advance(INSTALL_WITHIN)
    assert bench.issues() == {ChargerIssue.INSTALL_OVERDUE}
    bench.cloud.answer(bench.cloud.readings({FIRMWARE: "2.1", LATEST_FIRMWARE: "2.1"}))
    assert bench.issues() == frozenset()


async def test_an_install_that_takes_too_long_is_a_problem_that_clears_itself(bench: Bench) -> None:
    await bench.charger.install()
    await bench.clock.advance(INSTALL_WITHIN - 1)
    assert (bench.snapshot.installing, bench.issues()) == (True, frozenset())
    await bench.clock.advance(1)
    assert not installing(bench)
    assert bench.issues() == {ChargerIssue.INSTALL_OVERDUE}
    await bench.restart_home_assistant()
    assert bench.issues() == {ChargerIssue.INSTALL_OVERDUE}
    bench.device.updating, bench.device.firmware = False, "2.0"
    await bench.poll()
    assert bench.issues() == frozenset()
    assert install_record(bench) is None


async def test_an_install_goes_on_after_a_start_of_home_assistant(bench: Bench) -> None:
    await bench.charger.install()
    await bench.restart_home_assistant(tell=False)
    assert installing(bench)
    bench.device.updating, bench.device.firmware = False, "2.0"
    await bench.tell()
    assert not installing(bench)


async def test_i5_nothing_is_restarted_or_installed_while_an_install_may_begin(bench: Bench) -> None:
    bench.cloud.acked_only = True  # the charger takes its time
    await bench.charger.install()
    await bench.poll()
    assert bench.status() is Status.WAITING_SCHEDULE
    assert availability(bench) is RestartAvailability.UPDATING
    assert await refused(bench) == "restart_updating"
    with pytest.raises(UnsafeRequest, match="install_updating"):
        await bench.charger.install()
    await bench.clock.advance(INSTALL_WITHIN)
    await bench.tell()
    await bench.charger.restart()


async def test_an_install_is_guarded_like_a_restart(bench: Bench) -> None:
    bench.device.manual = Manual.CHARGE
    await bench.tell()
    with pytest.raises(UnsafeRequest, match="install_charging"):
        await bench.charger.install()
    assert bench.sent == []
    assert install_record(bench) is None


async def test_i5_no_install_on_a_status_that_changed_meanwhile(bench: Bench) -> None:
    bench.save_gate = asyncio.Event()
    press = asyncio.ensure_future(bench.charger.install())
    await bench.clock.settle()
    bench.device.manual = Manual.CHARGE
    bench.cloud.tell()
    bench.save_gate.set()
    with pytest.raises(UnsafeRequest, match="install_charging"):
        await press
    assert bench.sent == []
    assert install_record(bench) is None


async def test_an_install_goes_only_where_it_can(bench: Bench) -> None:
    bench.cloud.can = frozenset(Capability) - {Capability.INSTALL}
    bench.cloud.changed()
    with pytest.raises(UnsafeRequest, match="install_unsupported_model"):
        await bench.charger.install()
    await bench.cloud.lose()
    with pytest.raises(Unsupported, match="unsupported"):
        await bench.charger.install()


async def test_a_refused_install_is_forgotten(bench: Bench) -> None:
    for error, raised in (
        (NotAllowed("refused"), "install_refused"),
        (NotAllowed("locked"), "locked"),
        (TransportBusy("no_room", 5), "no_room"),
    ):
        bench.cloud.errors.append(error)
        with pytest.raises(type(error), match=raised):
            await bench.charger.install()
        assert install_record(bench) is None
        assert not installing(bench)


async def test_an_install_whose_answer_was_lost_is_under_way(bench: Bench) -> None:
    bench.cloud.lost_answers = 1
    with pytest.raises(TransportDown, match="timeout"):
        await bench.charger.install()
    assert installing(bench)
    await bench.poll()
    bench.device.updating, bench.device.firmware = False, "2.0"
    await bench.poll()
    assert not installing(bench)


async def test_other_commands_wait_for_a_restart_to_be_sent(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    press = asyncio.ensure_future(bench.charger.restart())
    await bench.clock.settle()
    current = asyncio.ensure_future(bench.charger.command(SetCurrent(10)))
    await bench.clock.settle()
    assert bench.sent == [Restart()]
    bench.cloud.gate.set()
    await asyncio.gather(press, current)
    assert bench.sent == [Restart(), SetCurrent(10)]


async def test_events_name_their_kind(bench: Bench) -> None:
    await bench.charger.restart()
    assert [entry for entry in bench.log if isinstance(entry, ChargerEvent)] == [ChargerEvent("restart", "accepted")]
