"""Restart and firmware install: sent once after a check, and watched to the end across restarts of Home Assistant."""

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
    """Return the restart record that was saved last."""
    if bench.intents is None:
        return None
    record = bench.intents["restart"]
    assert record is None or isinstance(record, dict)
    return record


def outcome_of(bench: Bench) -> object:
    record = restart_record(bench)
    return None if record is None else record["outcome"]


async def refused(bench: Bench) -> str:
    """Return the reason why a restart is refused, and check that nothing is sent or saved."""
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


async def test_i5_restart_saved_then_sent_once(bench: Bench) -> None:
    await bench.charger.restart()
    assert bench.device.restarts == 1
    saved = next(entry for entry in bench.log if isinstance(entry, Saved))
    assert bench.log.index(saved) < bench.log.index(Restart())
    assert restart_record(bench) == {"pressed_at": START.isoformat(), "away_at": None, "outcome": None}
    assert bench.events == ["accepted"]
    assert availability(bench) is RestartAvailability.RESTARTING
    assert bench.cloud.watchers == 1
    assert bench.cloud.checks == 0


async def test_i5_concurrent_presses_restart_charger_once(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    presses = [asyncio.ensure_future(bench.charger.restart()) for _ in range(3)]
    await bench.clock.settle()
    bench.cloud.gate.set()
    answers = await asyncio.gather(*presses, return_exceptions=True)
    assert [str(answer) for answer in answers[1:]] == ["restart_restarting"] * 2
    assert bench.device.restarts == 1
    assert await refused(bench) == "restart_restarting"


async def test_i5_old_status_read_again_before_restart(bench: Bench) -> None:
    await bench.clock.advance(STATUS_FRESH)
    await bench.charger.restart()
    assert bench.cloud.checks == 0
    await bench.tell(Status.OFFLINE)
    await bench.poll()
    await bench.clock.advance(COOLING_DOWN)
    bench.device.updating = True
    assert await refused(bench) == "restart_updating"
    assert bench.cloud.checks == 1


async def test_availability_shows_checking_while_status_is_read(bench: Bench) -> None:
    await bench.clock.advance(STATUS_FRESH + 1)
    bench.snapshots.clear()
    await bench.charger.restart()
    assert [snapshot.restart for snapshot in bench.snapshots] == [
        RestartAvailability.CHECKING,
        RestartAvailability.AVAILABLE,
        RestartAvailability.RESTARTING,
    ]


async def test_i5_restart_not_sent_if_status_cannot_be_read(bench: Bench) -> None:
    await bench.clock.advance(STATUS_FRESH + 1)
    for error in (TransportBusy("throttled", 60), TransportDown("timeout")):
        bench.cloud.check_error = error
        assert await refused(bench) == error.reason
    assert availability(bench) is RestartAvailability.AVAILABLE
    assert restart_record(bench) is None


@pytest.mark.parametrize("late", [False, True])
async def test_i5_restart_refused_if_update_begins_before_sending(bench: Bench, late: bool) -> None:
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
async def test_i5_restart_guarded_for_each_status_age_and_transport(
    status: Status | None, age: float, source: Source
) -> None:
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
    checked = age > STATUS_FRESH or status is None
    known = status in {Status.OFFLINE, Status.RESTARTING}
    assert bench.cloud.checks == int(checked and not known)


async def test_i5_restart_over_cloud_needs_recent_report_of_charger(bench: Bench) -> None:
    bench.cloud.tell(synced_ago=601)
    bench.cloud.check_error = TransportBusy("no_room", 30)
    assert await refused(bench) == "no_room"
    bench.cloud.check_error = None
    await bench.charger.restart()  # the check shows that the charger is online
    assert bench.cloud.checks == 2


async def test_restart_while_charging_allowed_by_option(bench: Bench) -> None:
    bench.device.manual = Manual.CHARGE
    await bench.tell()
    assert availability(bench) is RestartAvailability.CHARGING
    bench.charger.options = ChargerOptions(restart_while_charging=True)
    assert availability(bench) is RestartAvailability.AVAILABLE
    await bench.charger.restart()
    assert bench.device.restarts == 1


async def test_restart_refused_for_low_role_without_reading_status(bench: Bench) -> None:
    bench.cloud.show(ROLE, Role.USER)
    assert await refused(bench) == "restart_needs_admin"
    await bench.clock.advance(STATUS_FRESH + 1)
    assert await refused(bench) == "restart_needs_admin"
    assert bench.cloud.checks == 0
    bench.cloud.show(ROLE, Role.OPERATOR)
    await bench.charger.restart()


async def test_restart_refused_if_model_does_not_support_restart(bench: Bench) -> None:
    bench.cloud.can = frozenset(Capability) - {Capability.RESTART}
    bench.cloud.changed()
    assert availability(bench) is RestartAvailability.UNSUPPORTED_MODEL
    assert await refused(bench) == "restart_unsupported_model"


async def test_restart_needs_link_but_install_is_unsupported(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeTransport, "restart_needs_link", True)
    bench.cloud.can = frozenset(Capability) - {Capability.RESTART, Capability.INSTALL}
    bench.cloud.changed()
    assert availability(bench) is RestartAvailability.NEEDS_LINK
    assert await refused(bench) == "restart_needs_link"
    with pytest.raises(UnsafeRequest, match="install_unsupported_model"):
        await bench.charger.install()


async def test_restart_without_transport_refused_with_start_of_outage(bench: Bench) -> None:
    began = bench.clock.now()
    await bench.cloud.lose()
    assert availability(bench) is RestartAvailability.NO_TRANSPORT
    with pytest.raises(TransportDown) as caught:
        await bench.charger.restart()
    assert (caught.value.reason, caught.value.detail) == ("no_path", began.isoformat())
    bench.charger.remove_transport(Source.CLOUD)
    assert await refused(bench) == "no_path"


async def test_restart_not_sent_before_first_answer() -> None:
    bench = Bench()
    await bench.start(tell=False)
    assert availability(bench) is RestartAvailability.STATUS_UNKNOWN
    bench.cloud.check_error = TransportDown("timeout")
    assert await refused(bench) == "timeout"


async def test_restart_of_charger_offline_in_cloud_sent_over_bluetooth(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    await bench.tell(Status.OFFLINE)
    assert availability(bench) is RestartAvailability.AVAILABLE
    local.is_present = Presence.UNKNOWN  # last report long ago: worth a check, unlike a cloud that reports offline
    local.check_error = TransportDown("timeout")
    await bench.tell(Status.OFFLINE)
    assert await refused(bench) == "timeout"
    assert local.checks == 1
    local.is_present = local.check_error = None
    local.tell()
    await bench.charger.restart()
    assert (local.commands, bench.sent) == ([Restart()], [])


@pytest.mark.parametrize("danger", [Status.CHARGING, Status.UPDATING])
@pytest.mark.parametrize("on_own_transport", [False, True])
async def test_i5_restart_refused_for_danger_that_any_transport_reports(
    bench: Bench, danger: Status, on_own_transport: bool
) -> None:
    local = await bench.add(Source.BLUETOOTH)
    first, second = (bench.cloud, local) if on_own_transport else (local, bench.cloud)
    await bench.tell(danger, transport=first)
    await bench.clock.advance(1)
    await bench.tell(transport=second) if on_own_transport else await bench.tell(danger, transport=first)
    assert await refused(bench) == f"restart_{danger}"


async def test_i5_restart_not_sent_over_transport_with_unknown_status(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    await bench.tell(None)
    local.tell()
    bench.cloud.check_error = TransportBusy("no_room", 30)
    assert await refused(bench) == "no_room"


async def test_restart_sent_over_transport_that_supports_restart(bench: Bench) -> None:
    local = await bench.add(Source.BLUETOOTH)
    local.can = frozenset({Capability.CURRENT})
    bench.charger.options = ChargerOptions(prefer=Prefer.LOCAL_FIRST)
    await bench.charger.restart()
    assert bench.sent == [Restart()]


async def test_restart_cools_down_ten_minutes_across_home_assistant_restart(bench: Bench) -> None:
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


async def test_restart_cooldown_begins_anew_after_clock_was_set_back(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.tell(Status.OFFLINE)
    await bench.poll()
    await bench.clock.advance(3600)
    bench.clock.jump(-7200)
    await bench.restart_home_assistant()
    assert availability(bench) is RestartAvailability.COOLING_DOWN
    await bench.clock.advance(COOLING_DOWN)
    assert availability(bench) is RestartAvailability.AVAILABLE


# Outcomes of the request


async def test_restart_not_sent_if_record_cannot_be_saved(bench: Bench) -> None:
    bench.save_error = NotSaved("not_saved")
    with pytest.raises(NotSaved):
        await bench.charger.restart()
    assert bench.sent == []
    assert availability(bench) is RestartAvailability.AVAILABLE


async def test_availability_is_no_transport_in_outage_despite_local_transport(bench: Bench) -> None:
    local = await bench.add(Source.LINKED)
    local.can = frozenset({Capability.CHARGING, Capability.OVERRIDE})
    local.changed()
    await bench.cloud.lose()
    assert availability(bench) is RestartAvailability.NO_TRANSPORT


async def test_restart_with_lost_answer_unclear_but_watched(bench: Bench) -> None:
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
async def test_restart_that_surely_failed_leaves_no_record(
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
    await bench.charger.restart()  # a refusal forbids no later restart: the cloud decides
    await bench.tell(Status.OFFLINE)
    await bench.poll(1)
    await bench.clock.advance(COOLING_DOWN)
    assert availability(bench) is RestartAvailability.AVAILABLE


async def test_failed_restart_keeps_record_of_previous_restart(bench: Bench) -> None:
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


async def test_restart_not_sent_if_charger_closed_between_save_and_send(bench: Bench) -> None:
    bench.save_gate = asyncio.Event()
    press = asyncio.ensure_future(bench.charger.restart())
    await bench.clock.settle()
    bench.charger.close()
    bench.save_gate.set()
    with pytest.raises(NoConnection, match="stopping"):
        await press
    assert bench.sent == []
    assert restart_record(bench) is None


# The restart watch


async def test_restart_verified_when_charger_went_away_and_returned(bench: Bench) -> None:
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


async def test_restart_issue_lasts_until_charger_returns(bench: Bench) -> None:
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


async def test_new_restart_record_kept_when_previous_failure_clears(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.cloud.lose()
    await bench.clock.advance(BACK_WITHIN)
    assert bench.issues() == {ChargerIssue.RESTART_FAILED}
    bench.cloud.breaker.throttled(1)  # reachable again, but without an answer yet
    await bench.clock.advance(1)
    await bench.charger.restart()
    await bench.clock.settle()
    assert bench.device.restarts == 2
    assert restart_record(bench) == {"pressed_at": bench.clock.now().isoformat(), "away_at": None, "outcome": None}


async def test_restart_issue_not_cleared_by_old_values_of_cloud(bench: Bench) -> None:
    await bench.charger.restart()
    bench.device.at_hand = False
    await bench.poll(10)
    bench.cloud.tell(Status.WAITING_SCHEDULE, synced_ago=None)
    await bench.clock.settle()
    assert bench.issues() == {ChargerIssue.RESTART_FAILED}


async def test_restart_issue_cleared_by_next_restart(bench: Bench) -> None:
    await bench.charger.restart()
    bench.device.at_hand = False
    await bench.poll(10)
    bench.device.at_hand = True
    local = await bench.add(Source.BLUETOOTH)
    assert bench.issues() == {ChargerIssue.RESTART_FAILED}  # the answer is not later than the failure
    await bench.charger.restart()
    assert local.commands == [Restart()]
    assert bench.issues() == frozenset()


async def test_restart_unverified_if_charger_was_never_away(bench: Bench) -> None:
    run = await bench.charger.restart()
    await bench.poll(3)
    assert bench.events == ["accepted"]
    await bench.clock.advance(1)
    await bench.tell()
    assert await outcome_at_rest(bench, run) is Outcome.UNVERIFIED
    assert outcome_of(bench) == "unverified"


async def test_restart_checks_charger_if_only_cloud_reports_return(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.tell(Status.OFFLINE)
    bench.cloud.check_error = TransportBusy("no_room", 20)
    await bench.clock.advance(60)
    bench.cloud.tell(synced_ago=None)  # the groups poll: the cloud itself shows the charger as back
    await bench.clock.settle()
    assert (bench.cloud.checks, bench.events) == (1, ["accepted"])
    bench.cloud.check_error = None
    await bench.clock.advance(60)
    bench.cloud.tell(synced_ago=None)
    await bench.clock.settle()
    assert (bench.cloud.checks, bench.events) == (2, ["accepted", "verified"])


async def test_restart_checks_charger_once_at_a_time(bench: Bench) -> None:
    checks: list[None] = []
    release = asyncio.Event()

    async def check() -> None:
        checks.append(None)
        await release.wait()

    bench.cloud.check = check  # type: ignore[method-assign]
    await bench.charger.restart()
    await bench.tell(Status.OFFLINE)
    for _ in range(3):
        await bench.clock.advance(10)
        bench.cloud.tell(synced_ago=None)
        await bench.clock.settle()
    assert len(checks) == 1
    release.set()
    await bench.clock.settle()
    await bench.clock.advance(10)
    bench.cloud.tell(synced_ago=None)
    await bench.clock.settle()
    assert len(checks) == 2


async def test_restart_not_verified_while_charger_is_updating(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.tell(Status.OFFLINE)
    bench.device.updating = True
    await bench.poll()
    assert bench.events == ["accepted"]
    bench.device.updating = False
    await bench.poll()
    assert bench.events == ["accepted", "verified"]


async def test_restart_watch_continues_after_home_assistant_restart(bench: Bench) -> None:
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


async def test_restart_fails_if_watch_ran_out_while_home_assistant_was_down(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.restart_home_assistant(down_for=BACK_WITHIN + 60, tell=False)
    await bench.clock.advance(1)
    await bench.tell(Status.OFFLINE)
    assert bench.events == ["accepted", "failed"]


async def test_restart_watch_continues_in_outage(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.cloud.lose()
    assert bench.status() is Status.RESTARTING
    await bench.clock.advance(AWAY_WITHIN)
    await bench.tell()
    assert bench.events == ["accepted", "unverified"]


async def test_restart_fails_if_outage_lasts_until_end_of_watch(bench: Bench) -> None:
    await bench.charger.restart()
    await bench.cloud.lose()
    await bench.clock.advance(BACK_WITHIN)
    assert bench.events == ["accepted", "failed"]
    assert bench.issues() == {ChargerIssue.RESTART_FAILED}
    await bench.tell()
    assert bench.issues() == frozenset()


async def test_transport_added_during_restart_joins_watch(bench: Bench) -> None:
    await bench.charger.restart()
    local = await bench.add(Source.BLUETOOTH)
    assert local.watchers == 1
    await bench.clock.advance(BACK_WITHIN)
    assert (local.watchers, bench.cloud.watchers) == (0, 0)


async def test_canceled_waiter_does_not_affect_other_waiter(bench: Bench) -> None:
    run = await bench.charger.restart()
    impatient, patient = asyncio.ensure_future(run.wait()), asyncio.ensure_future(run.wait())
    await bench.clock.settle()
    impatient.cancel()
    await bench.tell(Status.OFFLINE)
    await bench.poll()
    assert await patient is Outcome.VERIFIED


async def test_stop_ends_waiting_but_not_restart_watch(bench: Bench) -> None:
    run = await bench.charger.restart()
    waiting = asyncio.ensure_future(run.wait())
    await bench.clock.settle()
    await bench.charger.stop()
    with pytest.raises(NoConnection, match="stopping"):
        await waiting
    with pytest.raises(NoConnection, match="stopping"):
        await run.wait()
    assert bench.cloud.watchers == 0
    await bench.start(tell=False)  # the same `Charger` starts again
    assert bench.status() is Status.RESTARTING
    await bench.tell(Status.OFFLINE)
    await bench.poll()
    assert bench.events == ["accepted", "verified"]
    await bench.charger.stop()
    await bench.start()
    assert bench.status() is Status.WAITING_SCHEDULE


async def test_restart_not_repeated_after_power_cut_between_save_and_send(bench: Bench) -> None:
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


async def test_install_saved_then_sent_then_verified_by_version(bench: Bench) -> None:
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


async def test_overdue_install_cleared_by_later_version_than_expected(bench: Bench) -> None:
    await bench.charger.install()
    await bench.clock.advance(60)
    bench.device.updating = False
    await bench.clock.advance(INSTALL_WITHIN)
    assert bench.issues() == {ChargerIssue.INSTALL_OVERDUE}
    bench.cloud.answer(bench.cloud.readings({FIRMWARE: "2.1", LATEST_FIRMWARE: "2.1"}))
    assert bench.issues() == frozenset()


async def test_overdue_install_raises_issue_until_version_arrives(bench: Bench) -> None:
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


async def test_install_continues_after_home_assistant_restart(bench: Bench) -> None:
    await bench.charger.install()
    await bench.restart_home_assistant(tell=False)
    assert installing(bench)
    bench.device.updating, bench.device.firmware = False, "2.0"
    await bench.tell()
    assert not installing(bench)


async def test_i5_restart_and_install_refused_while_install_may_begin(bench: Bench) -> None:
    bench.cloud.acked_only = True  # the charger has not begun the install
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


async def test_install_refused_while_charging(bench: Bench) -> None:
    bench.device.manual = Manual.CHARGE
    await bench.tell()
    with pytest.raises(UnsafeRequest, match="install_charging"):
        await bench.charger.install()
    assert bench.sent == []
    assert install_record(bench) is None


async def test_i5_install_refused_if_charging_begins_before_sending(bench: Bench) -> None:
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


async def test_install_refused_if_no_transport_supports_install(bench: Bench) -> None:
    bench.cloud.can = frozenset(Capability) - {Capability.INSTALL}
    bench.cloud.changed()
    with pytest.raises(UnsafeRequest, match="install_unsupported_model"):
        await bench.charger.install()
    await bench.cloud.lose()
    with pytest.raises(Unsupported, match="unsupported"):
        await bench.charger.install()


async def test_refused_install_leaves_no_record(bench: Bench) -> None:
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


async def test_install_with_lost_answer_is_in_progress(bench: Bench) -> None:
    bench.cloud.lost_answers = 1
    with pytest.raises(TransportDown, match="timeout"):
        await bench.charger.install()
    assert installing(bench)
    await bench.poll()
    bench.device.updating, bench.device.firmware = False, "2.0"
    await bench.poll()
    assert not installing(bench)


async def test_other_commands_wait_until_restart_is_sent(bench: Bench) -> None:
    bench.cloud.gate = asyncio.Event()
    press = asyncio.ensure_future(bench.charger.restart())
    await bench.clock.settle()
    current = asyncio.ensure_future(bench.charger.command(SetCurrent(10)))
    await bench.clock.settle()
    assert bench.sent == [Restart()]
    bench.cloud.gate.set()
    await asyncio.gather(press, current)
    assert bench.sent == [Restart(), SetCurrent(10)]


async def test_restart_event_names_its_kind(bench: Bench) -> None:
    await bench.charger.restart()
    assert [entry for entry in bench.log if isinstance(entry, ChargerEvent)] == [ChargerEvent("restart", "accepted")]
