"""A pause as an intent: restored after outages and charger restarts, and ended once by the user, the car or others."""

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
from custom_components.chargekeeper.core.model import OCPP, Outcome, Source, Status
from custom_components.chargekeeper.core.transport import LOCAL_READ_BACK, Presence, SetCharging, SetOverride
from tests.core.fake_transport import NIGHT, Bench, FakeTransport, LogLines, Manual, Saved

ON, OFF = SetCharging(on=True), SetCharging(on=False)


@pytest.fixture
async def bench() -> Bench:
    """Return a bench with a charging car and no schedule."""
    bench = Bench()
    bench.cloud.read_back_delays = (20.0,)
    bench.device.windows = ()
    await bench.start()
    return bench


def pause(bench: Bench) -> dict[str, object] | None:
    """Return the pause as it is saved."""
    entry = None if bench.intents is None else bench.intents["pause"]
    assert entry is None or isinstance(entry, dict)
    return entry


async def pause_and_confirm(bench: Bench) -> None:
    """Pause the charger, and wait until the pause is confirmed."""
    assert await bench.charger.command(OFF) is Outcome.ACCEPTED
    await bench.clock.advance(20)
    entry = pause(bench)
    assert entry is not None
    assert (entry["state"], entry["base"], entry["applications"]) == ("verified", "charging", 1)
    assert bench.status() is Status.PAUSED


async def drop_in_an_outage(bench: Bench) -> None:
    """Cut the power of the charger in an outage of the cloud: the charger drops its pause."""
    await bench.cloud.lose()
    bench.device.power_cycle()
    await bench.clock.advance(600)


async def test_accepted_pause_remembered(bench: Bench) -> None:
    assert pause(bench) is None
    await pause_and_confirm(bench)
    saved = bench.intents
    await bench.poll(10)
    assert bench.sent == [OFF]
    assert bench.intents == saved


async def test_pause_accepted_by_no_transport_not_remembered(bench: Bench) -> None:
    bench.cloud.errors.append(TransportDown("timeout"))
    with pytest.raises(TransportDown):
        await bench.charger.command(OFF)
    assert pause(bench) is None
    await bench.cloud.lose()
    with pytest.raises(TransportDown, match="no_path"):
        await bench.charger.command(OFF)
    assert pause(bench) is None


async def test_pause_still_held_after_outage_not_sent_again(bench: Bench) -> None:
    await pause_and_confirm(bench)
    await bench.cloud.lose()
    await bench.poll(10)
    assert bench.sent == [OFF]
    bench.device.manual = None  # after the outage, a start counts as external change
    await bench.poll()
    assert (bench.sent, pause(bench)) == ([OFF], None)


async def test_pause_dropped_in_outage_sent_again_once(bench: Bench) -> None:
    await pause_and_confirm(bench)
    await drop_in_an_outage(bench)
    assert bench.sent == [OFF]
    await bench.tell()
    assert bench.sent == [OFF, OFF]
    await bench.poll(10)
    assert bench.sent == [OFF, OFF]
    assert bench.device.status() is Status.PAUSED
    assert ChargerEvent("replay", "charging") in bench.log


async def test_pause_saved_before_sent_again(bench: Bench) -> None:
    await pause_and_confirm(bench)
    await drop_in_an_outage(bench)
    bench.log.clear()
    await bench.tell()
    saved, sent = bench.log[:2]
    assert isinstance(saved, Saved)
    entry = saved.intents["pause"]
    assert isinstance(entry, dict)
    assert (entry["applications"], sent) == (2, OFF)


async def test_pause_dropped_by_restart_of_charger_restored(bench: Bench) -> None:
    await pause_and_confirm(bench)
    await bench.charger.restart()
    assert bench.device.status() is Status.CHARGING
    await bench.clock.advance(60)
    await bench.tell(Status.OFFLINE)
    await bench.poll(3)
    assert bench.sent.count(OFF) == 2
    assert bench.device.status() is Status.PAUSED


async def test_pause_ended_by_external_start_not_restored(bench: Bench) -> None:
    await pause_and_confirm(bench)
    bench.device.manual = Manual.CHARGE
    await bench.poll(20)
    assert (bench.sent, pause(bench)) == ([OFF], None)


async def test_pause_ends_on_unplug(bench: Bench) -> None:
    await pause_and_confirm(bench)
    await bench.cloud.lose()
    bench.device.unplug()
    await bench.tell()
    bench.device.car = True
    await bench.poll(3)
    assert (bench.sent, pause(bench)) == ([OFF], None)


async def test_pause_ends_on_start_even_if_start_fails(bench: Bench) -> None:
    await pause_and_confirm(bench)
    assert await bench.charger.command(ON) is Outcome.ACCEPTED
    assert pause(bench) is None
    await bench.poll()
    await pause_and_confirm(bench)
    bench.cloud.errors.append(TransportDown("timeout"))
    with pytest.raises(TransportDown):
        await bench.charger.command(ON)
    assert pause(bench) is None
    await drop_in_an_outage(bench)
    await bench.poll(3)
    assert bench.sent.count(OFF) == 2


async def test_pause_ends_on_override(bench: Bench) -> None:
    await pause_and_confirm(bench)
    assert await bench.charger.set_override(True) is Outcome.ACCEPTED
    assert pause(bench) is None
    await bench.poll(3)
    assert bench.device.status() is Status.CHARGING
    assert bench.snapshot.override.applied


async def test_pause_ends_override_and_stays(bench: Bench) -> None:
    await bench.charger.set_override(True)
    await bench.poll()
    wanted = bench.snapshot.override.on
    await pause_and_confirm(bench)
    assert (wanted, bench.snapshot.override.on, bench.reasons) == (True, False, ["cancelled"])
    await bench.poll(5)
    assert SetOverride(on=False) not in bench.sent
    assert bench.device.status() is Status.PAUSED
    assert bench.intent is None
    assert bench.issues() == frozenset()


async def test_pause_before_override_hand_back_cancels_hand_back(bench: Bench) -> None:
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


async def test_pause_restored_after_restart_of_home_assistant(bench: Bench) -> None:
    await pause_and_confirm(bench)
    restarted = bench.restart_home_assistant(down_for=3600)
    bench.device.power_cycle()
    await restarted
    assert bench.sent == [OFF, OFF]
    await bench.poll(3)
    assert bench.device.status() is Status.PAUSED


async def test_failed_pause_attempt_repeated_and_not_counted(bench: Bench) -> None:
    await pause_and_confirm(bench)
    await drop_in_an_outage(bench)
    bench.cloud.errors += [TransportBusy("no_room", 60)] * 4
    await bench.poll(20)
    assert bench.sent == [OFF] * 6
    entry = pause(bench)
    assert entry is not None
    assert entry["applications"] == 2
    assert bench.device.status() is Status.PAUSED


async def test_pause_attempt_with_lost_answer_counted(bench: Bench) -> None:
    await pause_and_confirm(bench)
    await drop_in_an_outage(bench)
    bench.cloud.lost_answers = 1
    await bench.poll(3)
    entry = pause(bench)
    assert entry is not None
    assert (bench.sent, entry["applications"], entry["state"]) == ([OFF, OFF], 2, "verified")


async def test_pause_dropped_repeatedly_abandoned_after_three_attempts(bench: Bench) -> None:
    await pause_and_confirm(bench)
    for _ in range(3):
        await drop_in_an_outage(bench)
        await bench.poll(2)
    assert (bench.sent, pause(bench)) == ([OFF] * 3, None)


async def test_pause_refused_when_restored_abandoned_and_logged(bench: Bench) -> None:
    await pause_and_confirm(bench)
    await drop_in_an_outage(bench)
    bench.cloud.errors.append(NotAllowed("locked"))
    with LogLines() as log:
        await bench.poll(5)
    assert (bench.sent, pause(bench)) == ([OFF, OFF], None)
    assert log.lines == ["The pause could not be restored: locked"]


async def test_pause_restored_after_ocpp_ends_and_dropped_when_read_only(bench: Bench) -> None:
    await pause_and_confirm(bench)
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


async def test_pause_never_shown_by_charger_ends(bench: Bench) -> None:
    bench.cloud.acked_only = True
    await bench.charger.command(OFF)
    await bench.poll(3)
    assert (bench.sent, pause(bench)) == ([OFF], None)


async def test_pause_sent_although_save_fails(bench: Bench) -> None:
    bench.save_error = NotSaved("not_saved")
    with LogLines() as log:
        assert await bench.charger.command(OFF) is Outcome.ACCEPTED
    assert bench.device.status() is Status.PAUSED
    assert log.lines == ["The pause could not be saved; it will not be restored if the charger drops it"]


async def test_pause_not_sent_while_home_assistant_stops(bench: Bench) -> None:
    await pause_and_confirm(bench)
    await drop_in_an_outage(bench)
    bench.charger.close()
    await bench.tell()
    assert bench.sent == [OFF]


async def test_automatic_pause_not_remembered_and_automatic_start_refused(
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


async def test_local_transport_restores_pause_in_outage_without_cloud_command(bench: Bench) -> None:
    local = await bench.add(Source.LINKED)
    local.read_back_delays = LOCAL_READ_BACK
    await bench.clock.advance(1)
    await pause_and_confirm(bench)
    await bench.cloud.lose()
    assert local.commands == []  # a report from before the pause does not count
    bench.device.power_cycle()
    local.tell()
    await bench.clock.advance(60)
    assert local.commands == [OFF]
    await bench.poll(3)
    assert bench.sent == [OFF]
    assert bench.device.status() is Status.PAUSED


async def test_late_start_does_not_end_pause(bench: Bench) -> None:
    await pause_and_confirm(bench)
    local = await late_start(bench)
    bench.device.manual = Manual.CHARGE  # the late start arrives
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
    """Lose a start in the cloud, then pause over a local transport; return that transport."""
    local = await bench.give_up(ON)
    local.tell()
    assert await bench.charger.command(OFF) is Outcome.ACCEPTED
    await bench.clock.advance(30)
    return local


async def test_i4_acknowledged_pause_survives_power_cut_at_any_moment() -> None:
    """In whichever loop iteration the power fails: an acknowledged pause is held, and a held pause is in the store."""
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


async def test_pause_outlasting_session_taken_back_on_unplug(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeTransport, "pause_outlasts_session", True)
    await pause_and_confirm(bench)
    bench.device.unplug()
    bench.cloud.errors.append(TransportBusy("throttled", 60.0))
    for _ in range(2):
        await bench.tell()
        assert (bench.sent, pause(bench) is None) == ([OFF, ON], False), "it is not tried again at once"
    await bench.poll(20)
    assert (bench.sent, pause(bench)) == ([OFF, ON, ON], None)


async def test_pause_outlasting_session_ends_when_take_back_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeTransport, "pause_outlasts_session", True)
    await pause_and_confirm(bench)
    bench.device.unplug()
    bench.cloud.errors.append(NotAllowed("refused"))
    await bench.poll(3)
    assert (bench.sent, pause(bench)) == ([OFF, ON], None)


async def test_pause_outlasting_session_taken_back_later_for_next_car(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pending take-back survives an outage and a restart of Home Assistant."""
    monkeypatch.setattr(FakeTransport, "pause_outlasts_session", True)
    await pause_and_confirm(bench)
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
