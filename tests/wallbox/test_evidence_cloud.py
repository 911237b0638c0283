"""Only what the charger itself reported counts: a cloud that shows what it wrote, lags, or lost the charger."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from custom_components.chargekeeper.core.charger.evidence import UNVERIFIED_AFTER
from custom_components.chargekeeper.core.model import (
    CHARGING_CURRENT,
    LOCKED,
    STATUS,
    ChargerIssue,
    Commanded,
    Outcome,
    Override,
    Status,
)
from custom_components.chargekeeper.core.transport import START, STOP, SetCurrent, SetLock, Setting
from tests.simulators import wallbox_payloads as payloads
from tests.simulators.http_server import Fault
from tests.simulators.wallbox_cloud import Call
from tests.simulators.world import SimulatedCharger, State
from tests.wallbox.conftest import CHARGING, WAITING, Bench


async def answered[T](bench: Bench, work: Coroutine[object, object, T]) -> T:
    """Return the answer to a command, while the waits of the budgets pass."""
    task = asyncio.ensure_future(work)
    await bench.clock.advance_until(task.done, within=120)
    return await task


async def command(bench: Bench, setting: Setting, serial: str = CHARGING) -> Outcome:
    """Send a setting to a charger."""
    return await answered(bench, bench.chargers[serial].command(setting))


def outcomes(bench: Bench, serial: str = CHARGING) -> list[str]:
    """Return the outcomes of the commands so far."""
    found = bench.chargers[serial].diagnostics()["commands"]
    assert isinstance(found, list)
    return [str(each["outcome"]) for each in found]


def unverified(bench: Bench, serial: str) -> list[str]:
    """Return the commands of which the user was told that nobody has seen their effect."""
    return sorted(e.details["command"] for e in bench.events[serial] if e.type == "command_unverified")


@pytest.fixture
def cloud_shows_what_it_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show the current that was written in every answer, whether or not the charger received it."""
    record: dict[str, int] = {}
    set_current = Call.set_current

    def write_down(call: Call, amps: int) -> None:
        record[call.charger.serial] = amps
        set_current(call, amps)

    def patch(kind: str, change: Callable[[Any, dict[str, int]], None]) -> None:
        original = getattr(payloads, kind)

        def make(*args: object) -> object:
            answer = original(*args)
            change(answer, record)
            return answer

        monkeypatch.setattr(payloads, kind, make)

    monkeypatch.setattr(Call, "set_current", write_down)
    patch("groups", _show_in_groups)
    patch("charger_object", _show_in_details)
    patch("status", _show_in_status)


def _show_in_groups(answer: Any, record: dict[str, int]) -> None:
    for charger in (each for group in answer["result"]["groups"] for each in group["chargers"]):
        charger["maxChargingCurrent"] = record.get(str(charger["id"]), charger["maxChargingCurrent"])


def _show_in_details(answer: Any, record: dict[str, int]) -> None:
    data = answer["data"]["chargerData"]
    data["maxChargingCurrent"] = record.get(str(data["id"]), data["maxChargingCurrent"])


def _show_in_status(answer: Any, record: dict[str, int]) -> None:
    config = answer["config_data"]
    config["max_charging_current"] = record.get(str(config["charger_id"]), config["max_charging_current"])


@pytest.mark.usefixtures("cloud_shows_what_it_wrote")
async def test_value_that_only_the_cloud_wrote_is_no_reading(bench: Bench) -> None:
    """The charger has just lost its link: its setting stays the last reported one, and nothing is verified."""
    bench.charger(CHARGING).max_charging_current = 25
    await bench.settle_in()
    await bench.clock.advance(300)
    bench.charger(CHARGING).cloud_link = False  # in the very second of its last report
    assert await command(bench, SetCurrent(10)) is Outcome.ACCEPTED
    assert bench.snapshot(CHARGING).commanded == Commanded(current=10)
    await bench.clock.advance(UNVERIFIED_AFTER + 60)
    assert outcomes(bench) == ["accepted", "unverified"]
    assert bench.told(CHARGING, "connection") == ["command_unverified"]
    assert bench.snapshot(CHARGING).value(CHARGING_CURRENT) == 25
    assert bench.snapshot(CHARGING).commanded == Commanded()
    assert bench.snapshot(CHARGING).issues == set()


@pytest.mark.usefixtures("cloud_shows_what_it_wrote")
async def test_repeated_command_verifies_nothing(bench: Bench) -> None:
    """The echo of the second command is no report about the first."""
    await bench.settle_in()
    bench.charger(CHARGING).cloud_link = False
    for _ in range(3):
        await command(bench, SetCurrent(10))
        await bench.clock.advance(60)
    assert set(outcomes(bench)) == {"accepted"}


async def test_report_after_the_write_confirms(bench: Bench) -> None:
    """A charger that hears the command reports it, and the reading follows."""
    await bench.settle_in()
    await command(bench, SetCurrent(10))
    await bench.clock.advance_until(lambda: outcomes(bench)[-1] == "verified", within=240)
    assert bench.snapshot(CHARGING).value(CHARGING_CURRENT) == 10
    assert bench.snapshot(CHARGING).commanded == Commanded()


async def test_pause_shows_as_commanded_while_the_cloud_lags(bench: Bench) -> None:
    """The cloud shows the state from before a pause for 40 s; the switch shows what was accepted."""
    await bench.settle_in()
    lagging = bench.charger(CHARGING)
    bench.cloud.shown_status[CHARGING] = payloads.STATUS_IDS[State.CHARGING]
    assert await command(bench, STOP) is Outcome.ACCEPTED
    assert bench.snapshot(CHARGING).commanded == Commanded(charging=False)
    await bench.clock.advance(39)
    assert bench.snapshot(CHARGING).commanded == Commanded(charging=False)
    assert bench.snapshot(CHARGING).value(STATUS) is Status.CHARGING
    del bench.cloud.shown_status[CHARGING]
    await bench.clock.advance(240)
    assert (lagging.state, bench.snapshot(CHARGING).value(STATUS)) == (State.PAUSED, Status.PAUSED)
    assert bench.snapshot(CHARGING).commanded == Commanded()
    assert outcomes(bench) == ["accepted", "verified"]


async def test_status_that_a_command_wrote_is_no_sign_of_life(bench: Bench) -> None:
    """The cloud writes the pause into the list of chargers. The charger, cut off, charges on."""
    await bench.settle_in()
    bench.charger(CHARGING).cloud_link = False
    before = bench.account.transport(CHARGING).evidence_at
    await command(bench, STOP)
    bench.cloud.shown_status[CHARGING] = payloads.STATUS_IDS[State.PAUSED]
    await bench.clock.advance(300)
    assert bench.account.transport(CHARGING).evidence_at == before
    assert bench.snapshot(CHARGING).value(STATUS) is Status.CHARGING
    assert "verified" not in outcomes(bench)


async def test_override_and_pause_outlive_a_short_loss_of_wifi(bench: Bench) -> None:
    """Both were accepted while the charger was away, are told of, and carried out once it is back."""
    await bench.settle_in()
    for serial in (WAITING, CHARGING):
        bench.charger(serial).cloud_link = False
    assert await answered(bench, bench.chargers[WAITING].set_override(True)) is Outcome.ACCEPTED
    assert await command(bench, STOP) is Outcome.ACCEPTED
    assert await command(bench, SetLock(locked=True)) is Outcome.ACCEPTED
    await bench.clock.advance(UNVERIFIED_AFTER + 120)
    assert bench.snapshot(WAITING).override == Override(on=True)
    assert unverified(bench, WAITING) == ["current", "override"]  # the current is lowered before a start
    assert unverified(bench, CHARGING) == ["charging", "lock"]
    for serial in (WAITING, CHARGING):
        bench.charger(serial).cloud_link = True
    await bench.clock.advance(1800)
    assert bench.charger(WAITING).state is State.CHARGING
    assert bench.snapshot(WAITING).override == Override(on=True, applied=True)
    assert bench.charger(CHARGING).state is State.PAUSED
    assert bench.snapshot(CHARGING).value(LOCKED) is False


async def test_pause_outlives_seven_minutes_without_wifi(bench: Bench) -> None:
    """The charger is back before anybody was told, and is paused then."""
    await bench.settle_in()
    bench.charger(CHARGING).cloud_link = False
    await command(bench, STOP)
    await bench.clock.advance(420)
    bench.charger(CHARGING).cloud_link = True
    await bench.clock.advance(900)
    assert bench.charger(CHARGING).state is State.PAUSED


async def test_override_not_applied_while_nobody_sees_the_charger(bench: Bench) -> None:
    """A power cut in an outage of the cloud ends the override, and nobody can know."""
    await bench.settle_in()
    await answered(bench, bench.chargers[WAITING].set_override(True))
    await bench.clock.advance(300)
    assert bench.snapshot(WAITING).override == Override(on=True, applied=True)
    await bench.cloud.set_fault(Fault.REFUSE)
    bench.charger(WAITING).power_cycle()
    await bench.clock.advance(5 * 3600)
    assert bench.snapshot(WAITING).override == Override(on=True)


def ignore_currents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept each current, and never let the charger take it."""
    monkeypatch.setattr(Call, "set_current", lambda *_: None)


async def test_second_ineffective_setting_within_a_day_is_an_issue(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The charger reports on, and never shows the setting."""
    await bench.settle_in()
    with monkeypatch.context() as patched:
        ignore_currents(patched)
        for amps, issues in ((10, set[ChargerIssue]()), (12, {ChargerIssue.COMMANDS_IGNORED})):
            await command(bench, SetCurrent(amps))
            await bench.clock.advance(UNVERIFIED_AFTER)
            assert bench.snapshot(CHARGING).issues == issues
    assert outcomes(bench) == ["accepted", "failed"] * 2
    assert bench.told(CHARGING, "connection") == ["command_failed"] * 2
    assert [event.details for event in bench.events[CHARGING]] == [{"command": "current"}] * 2
    await command(bench, SetCurrent(11))
    await bench.clock.advance(300)
    assert outcomes(bench)[-1] == "verified"
    assert bench.snapshot(CHARGING).issues == set()


async def test_start_confirmed_by_the_charger_alone(bench: Bench) -> None:
    """A start that the cloud took while the charger is away is not shown as charging."""
    await bench.settle_in()
    await command(bench, STOP)
    await bench.clock.advance(300)
    paused: SimulatedCharger = bench.charger(CHARGING)
    paused.cloud_link = False
    await command(bench, START)
    bench.cloud.shown_status[CHARGING] = payloads.STATUS_IDS[State.CHARGING]
    await bench.clock.advance(300)
    assert bench.snapshot(CHARGING).value(STATUS) is Status.PAUSED
    assert outcomes(bench)[-1] == "accepted"
