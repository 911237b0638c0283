"""A pause as an intent: restored after outages and restarts of the charger, ended once, never fought over."""

import asyncio

import pytest

from custom_components.chargekeeper.core.charger import ChargerEvent, ChargerOptions
from custom_components.chargekeeper.core.errors import (
    NotAllowed,
    NotApplicable,
    NotSaved,
    TransportBusy,
    TransportDown,
    UnsafeRequest,
)
from custom_components.chargekeeper.core.model import OCPP, ChargerIssue, Outcome, Source, Status
from custom_components.chargekeeper.core.transport import LOCAL_READ_BACK, Presence, SetCharging, SetOverride
from tests.core.fake_transport import NIGHT, Bench, FakeTransport, LogLines, Manual, Saved

ON, OFF = SetCharging(on=True), SetCharging(on=False)


@pytest.fixture
async def bench() -> Bench:
    """A car charges without any schedule."""
    bench = Bench()
    bench.cloud.read_back_delays = (20.0,)
    bench.device.windows = ()
    await bench.start()
    return bench


def pause(bench: Bench) -> dict[str, object] | None:
    """The pause as it is on the disk."""
    entry = None if bench.intents is None else bench.intents["pause"]
    assert entry is None or isinstance(entry, dict)
    return entry


async def pause_it(bench: Bench) -> None:
    """Paused, and seen."""
    assert await bench.charger.command(OFF) is Outcome.ACCEPTED
    await bench.clock.advance(20)
    entry = pause(bench)
    assert entry is not None
    assert (entry["state"], entry["base"], entry["applications"]) == ("verified", "charging", 1)
    assert bench.status() is Status.PAUSED


async def drop_in_an_outage(bench: Bench) -> None:
    """The power fails, and the charger charges again."""
    await bench.cloud.lose()
    bench.device.power_cycle()
    await bench.clock.advance(600)


async def test_a_pause_that_a_path_accepted_is_remembered(bench: Bench) -> None:
    assert pause(bench) is None
    await pause_it(bench)
    saved = bench.intents
    await bench.poll(10)
    assert bench.sent == [OFF]
    assert bench.intents == saved


async def test_one_that_no_path_accepted_is_not(bench: Bench) -> None:
    bench.cloud.errors.append(TransportDown("timeout"))
    with pytest.raises(TransportDown):
        await bench.charger.command(OFF)
    assert pause(bench) is None
    await bench.cloud.lose()
    with pytest.raises(TransportDown, match="no_path"):
        await bench.charger.command(OFF)
    assert pause(bench) is None


async def test_theirs_is_ours_no_write(bench: Bench) -> None:
    await pause_it(bench)
    await bench.cloud.lose()
    await bench.poll(10)
    assert bench.sent == [OFF]
    bench.device.manual = None  # and that is no disturbance any more
    await bench.poll()
    assert (bench.sent, pause(bench)) == ([OFF], None)


async def test_theirs_is_base_paused_once_more(bench: Bench) -> None:
    await pause_it(bench)
    await drop_in_an_outage(bench)
    assert bench.sent == [OFF]
    await bench.tell()
    assert bench.sent == [OFF, OFF]
    await bench.poll(10)
    assert bench.sent == [OFF, OFF]
    assert bench.device.status() is Status.PAUSED
    assert ChargerEvent("replay", "charging") in bench.log


async def test_it_is_saved_before_it_is_sent_again(bench: Bench) -> None:
    await pause_it(bench)
    await drop_in_an_outage(bench)
    bench.log.clear()
    await bench.tell()
    saved, sent = bench.log[:2]
    assert isinstance(saved, Saved)
    entry = saved.intents["pause"]
    assert isinstance(entry, dict)
    assert (entry["applications"], sent) == (2, OFF)


async def test_dropped_at_a_restart_of_ours_it_is_restored(bench: Bench) -> None:
    await pause_it(bench)
    await bench.charger.restart()
    assert bench.device.status() is Status.CHARGING
    await bench.clock.advance(60)
    await bench.tell(Status.OFFLINE)
    await bench.poll(3)
    assert bench.sent.count(OFF) == 2
    assert bench.device.status() is Status.PAUSED


async def test_started_by_somebody_it_is_never_fought(bench: Bench) -> None:
    await pause_it(bench)
    bench.device.manual = Manual.CHARGE
    await bench.poll(20)
    assert (bench.sent, pause(bench)) == ([OFF], None)


async def test_it_ends_with_the_car(bench: Bench) -> None:
    await pause_it(bench)
    await bench.cloud.lose()
    bench.device.unplug()
    await bench.tell()
    bench.device.car = True
    await bench.poll(3)
    assert (bench.sent, pause(bench)) == ([OFF], None)


async def test_it_ends_with_a_start_even_one_that_fails(bench: Bench) -> None:
    await pause_it(bench)
    assert await bench.charger.command(ON) is Outcome.ACCEPTED
    assert pause(bench) is None
    await bench.poll()
    await pause_it(bench)
    bench.cloud.errors.append(TransportDown("timeout"))
    with pytest.raises(TransportDown):
        await bench.charger.command(ON)
    assert pause(bench) is None
    await drop_in_an_outage(bench)
    await bench.poll(3)
    assert bench.sent.count(OFF) == 2


async def test_it_ends_with_an_override(bench: Bench) -> None:
    await pause_it(bench)
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED
    assert pause(bench) is None
    await bench.poll(3)
    assert bench.device.status() is Status.CHARGING
    assert bench.snapshot.override.applied


async def test_a_pause_ends_an_override_and_stays(bench: Bench) -> None:
    await bench.charger.set_override(True)
    await bench.poll()
    wanted = bench.snapshot.override.on
    await pause_it(bench)
    assert (wanted, bench.snapshot.override.on, bench.reasons) == (True, False, ["cancelled"])
    await bench.poll(5)
    assert SetOverride(on=False) not in bench.sent
    assert bench.device.status() is Status.PAUSED
    assert bench.intent is None
    assert bench.issues() == frozenset()


async def test_a_pause_after_the_end_of_an_override_is_not_handed_back(bench: Bench) -> None:
    bench.device.windows = (NIGHT,)
    await bench.tell()
    local = await bench.add(Source.LINKED)
    await bench.charger.set_override(True)
    await bench.poll()
    bench.cloud.errors += [TransportBusy("no_room", 60)] * 2
    local.is_present = Presence.OFFLINE
    await bench.charger.set_override(False)
    assert bench.intent is not None
    local.is_present = None
    local.tell()
    assert await bench.charger.command(OFF) is Outcome.ACCEPTED
    await bench.poll(5)
    assert SetOverride(on=False) not in local.commands
    assert bench.device.status() is Status.PAUSED
    assert bench.intent is None


async def test_it_survives_a_start_of_home_assistant(bench: Bench) -> None:
    await pause_it(bench)
    restarted = bench.restart_home_assistant(down_for=3600)
    bench.device.power_cycle()
    await restarted
    assert bench.sent == [OFF, OFF]
    await bench.poll(3)
    assert bench.device.status() is Status.PAUSED


async def test_a_failed_attempt_is_repeated_with_patience_and_does_not_count(bench: Bench) -> None:
    await pause_it(bench)
    await drop_in_an_outage(bench)
    bench.cloud.errors += [TransportBusy("no_room", 60)] * 4
    await bench.poll(20)
    assert bench.sent == [OFF] * 6
    entry = pause(bench)
    assert entry is not None
    assert entry["applications"] == 2
    assert bench.device.status() is Status.PAUSED


async def test_an_attempt_whose_answer_is_lost_counts(bench: Bench) -> None:
    await pause_it(bench)
    await drop_in_an_outage(bench)
    bench.cloud.lost_answers = 1
    await bench.poll(3)
    entry = pause(bench)
    assert entry is not None
    assert (bench.sent, entry["applications"], entry["state"]) == ([OFF, OFF], 2, "verified")


async def test_dropped_again_and_again_it_is_given_up_after_three_times(bench: Bench) -> None:
    await pause_it(bench)
    for _ in range(3):
        await drop_in_an_outage(bench)
        await bench.poll(2)
    assert (bench.sent, pause(bench)) == ([OFF] * 3, None)


async def test_one_that_is_refused_later_is_given_up(bench: Bench) -> None:
    await pause_it(bench)
    await drop_in_an_outage(bench)
    bench.cloud.errors.append(NotAllowed("locked"))
    with LogLines() as log:
        await bench.poll(5)
    assert (bench.sent, pause(bench)) == ([OFF, OFF], None)
    assert log.lines == ["The pause could not be restored: locked"]


async def test_read_only_restores_nothing_and_ocpp_only_later(bench: Bench) -> None:
    await pause_it(bench)
    bench.cloud.show(OCPP, True)
    await drop_in_an_outage(bench)
    await bench.poll(3)
    assert bench.sent == [OFF]
    bench.cloud.show(OCPP, False)
    await bench.poll()
    assert bench.sent == [OFF, OFF]
    bench.charger.options = ChargerOptions(read_only=True)
    await bench.poll()
    assert pause(bench) is None


async def test_what_was_never_seen_is_over(bench: Bench) -> None:
    bench.cloud.acked_only = True
    await bench.charger.command(OFF)
    await bench.poll(3)
    assert (bench.sent, pause(bench)) == ([OFF], None)


async def test_one_that_cannot_be_saved_holds_all_the_same(bench: Bench) -> None:
    bench.save_error = NotSaved("not_saved")
    with LogLines() as log:
        assert await bench.charger.command(OFF) is Outcome.ACCEPTED
    assert bench.device.status() is Status.PAUSED
    assert len(log.lines) == 1
    assert bench.issues() == {ChargerIssue.NOT_SAVED}
    await bench.poll()
    await drop_in_an_outage(bench)
    await bench.tell()
    assert bench.sent == [OFF, OFF], "it is restored, and saved as soon as possible"
    bench.save_error = None
    await bench.poll(3)
    assert bench.issues() == frozenset()
    assert pause(bench) is not None


async def test_nothing_is_sent_while_home_assistant_stops(bench: Bench) -> None:
    await pause_it(bench)
    await drop_in_an_outage(bench)
    bench.charger.close()
    await bench.tell()
    assert bench.sent == [OFF]


async def test_what_chargekeeper_pauses_itself_is_no_intent_and_it_starts_nothing_that_the_user_paused(
    bench: Bench,
) -> None:
    assert await bench.charger.command(OFF, automatic=True) is Outcome.ACCEPTED
    assert pause(bench) is None
    await bench.tell()
    assert await bench.charger.command(ON) is Outcome.ACCEPTED
    await bench.tell()
    await bench.charger.command(OFF)
    await bench.clock.advance(600)
    with pytest.raises(NotApplicable, match="paused"):
        await bench.charger.command(ON, automatic=True)


async def test_a_local_path_restores_it_in_the_outage_and_the_cloud_costs_nothing(bench: Bench) -> None:
    local = await bench.add(Source.LINKED)
    local.read_back_delays = LOCAL_READ_BACK
    await bench.clock.advance(1)
    await pause_it(bench)
    await bench.cloud.lose()
    assert local.commands == []  # what it told before the pause says nothing
    bench.device.power_cycle()
    local.tell()
    await bench.clock.advance(60)
    assert local.commands == [OFF]
    await bench.poll(3)
    assert bench.sent == [OFF]
    assert bench.device.status() is Status.PAUSED


async def test_a_start_of_ours_that_arrives_late_does_not_end_it(bench: Bench) -> None:
    await pause_it(bench)
    local = await late_start(bench)
    bench.device.manual = Manual.CHARGE  # there it is
    local.tell()
    await bench.clock.advance(60)
    assert local.commands.count(OFF) == 2
    assert bench.device.status() is Status.PAUSED
    assert pause(bench) is not None
    bench.device.manual = Manual.CHARGE
    local.tell()
    await bench.clock.advance(60)
    assert local.commands.count(OFF) == 2
    assert pause(bench) is None


async def late_start(bench: Bench) -> FakeTransport:
    """A start gets lost in the cloud, and the user pauses over a local path instead."""
    local = await bench.give_up(ON)
    local.tell()
    assert await bench.charger.command(OFF) is Outcome.ACCEPTED
    await bench.clock.advance(30)
    return local


async def test_i4_a_power_cut_at_any_moment_of_a_pause_leads_to_one_right_end() -> None:
    """Whatever turn of the loop it hits: what was acknowledged is held, and nothing is held that was not."""
    outcomes = set()
    for turns in range(40):
        bench = Bench()
        bench.device.windows = ()
        await bench.start()
        call = asyncio.ensure_future(bench.charger.command(OFF))
        for _ in range(turns):
            await asyncio.sleep(0)
        acknowledged = call.done()
        restarted = bench.restart_home_assistant(down_for=600)
        bench.device.power_cycle()
        await restarted
        await asyncio.gather(call, return_exceptions=True)
        await bench.poll(3)
        held = bench.device.status() is Status.PAUSED
        assert held is (pause(bench) is not None)
        assert held or not acknowledged
        outcomes.add((acknowledged, held))
        await bench.charger.command(ON)
        await bench.poll(2)
        assert pause(bench) is None
        assert bench.device.status() is Status.CHARGING
    assert outcomes == {(False, False), (False, True), (True, True)}, "each happened"


async def test_where_it_would_hold_for_the_next_car_it_is_taken_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeTransport, "pause_outlasts_session", True)
    await pause_it(bench)
    bench.device.unplug()
    bench.cloud.errors.append(TransportBusy("throttled", 60.0))
    for _ in range(2):
        await bench.tell()
        assert (bench.sent, pause(bench) is None) == ([OFF, ON], False), "it is not tried again at once"
    await bench.poll(20)
    assert (bench.sent, pause(bench)) == ([OFF, ON, ON], None)


async def test_where_that_is_refused_it_is_over_all_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeTransport, "pause_outlasts_session", True)
    await pause_it(bench)
    bench.device.unplug()
    bench.cloud.errors.append(NotAllowed("refused"))
    await bench.poll(3)
    assert (bench.sent, pause(bench)) == ([OFF, ON], None)


async def test_where_that_has_to_wait_it_is_taken_back_for_the_next_car(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through an outage and a restart of ours, too."""
    monkeypatch.setattr(FakeTransport, "pause_outlasts_session", True)
    await pause_it(bench)
    bench.device.unplug()
    bench.device.manual = Manual.PAUSE
    bench.cloud.errors.append(UnsafeRequest("no_group_share"))
    await bench.tell()
    entry = pause(bench)
    assert entry is not None
    assert (bench.sent, entry["state"]) == ([OFF, ON], "ending")
    await bench.cloud.lose()
    bench.device.car = True
    await bench.restart_home_assistant(down_for=600)
    await bench.poll(3)
    assert (bench.sent, pause(bench)) == ([OFF, ON, ON], None)
    assert bench.device.status() is Status.CHARGING
