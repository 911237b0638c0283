"""Restart end to end: charger, account and client against the simulated cloud, for every status code."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
import json
from math import inf

import pytest

from custom_components.chargekeeper.core.charger import ChargerOptions
from custom_components.chargekeeper.core.charger.restart import COOLING_DOWN, STATUS_FRESH
from custom_components.chargekeeper.core.errors import ChargerError, NotAllowed, TransportDown
from custom_components.chargekeeper.core.model import (
    FIRMWARE,
    STATUS,
    ChargerIssue,
    Outcome,
    RestartAvailability,
    Status,
)
from custom_components.chargekeeper.wallbox.mapping import STATUS_BY_CODE
from tests.simulators.wallbox_cloud import Fault
from tests.simulators.world import RestartPlan
from tests.wallbox.conftest import CHARGING, FREE, Bench

RESTART, INSTALL = 3, 5
QUARTER_OF_AN_HOUR = 15 * 60

OFFLINE, UNKNOWN, UPDATING, POWER_FLOWS, FINE = "offline", "status_unknown", "updating", "charging", None
BY_CODE: dict[int | None, str | None] = {
    None: OFFLINE,
    0: OFFLINE,
    4: FINE,
    5: OFFLINE,
    14: FINE,
    15: FINE,
    161: FINE,
    162: FINE,
    163: UNKNOWN,
    164: FINE,
    165: FINE,
    166: UPDATING,
    **dict.fromkeys(range(177, 190), FINE),
    **dict.fromkeys(range(193, 197), POWER_FLOWS),
    200: UNKNOWN,
    209: FINE,
    210: FINE,
}
"""Reason to refuse a restart by status code (docs/protocols/wallbox-cloud.md, section 8). Code 200 is undocumented."""


def actions(bench: Bench, serial: str = FREE) -> list[int]:
    """Return the remote actions that reached the cloud."""
    path = f"/v3/chargers/{serial}/remote-action"
    return [json.loads(request.body)["action"] for request in bench.cloud.requests if request.path == path]


def status_gets(bench: Bench, serial: str = FREE) -> int:
    return sum(request.path == f"/chargers/status/{serial}" for request in bench.cloud.requests)


def available(bench: Bench, serial: str = FREE) -> RestartAvailability:
    return bench.snapshot(serial).restart


def status(bench: Bench, serial: str = FREE) -> Status | None:
    return bench.snapshot(serial).value(STATUS)


async def answer_to_press[T](bench: Bench, work: Coroutine[object, object, T]) -> T:
    """Return the result of a press, and advance the clock through budget waits and time-outs."""
    task = asyncio.ensure_future(work)
    await bench.clock.advance_until(task.done, within=120)
    return await task


async def press(bench: Bench, serial: str = FREE) -> str | None:
    """Restart the charger and return the reason of a refusal, or None."""
    try:
        await answer_to_press(bench, bench.chargers[serial].restart())
    except ChargerError as err:
        return err.reason
    return None


async def wait_for_status(bench: Bench, serial: str = FREE) -> None:
    """Advance the clock until the cloud has just sent the status of the charger."""
    transport = bench.account.transport(serial)
    before = transport.status_received_at
    await bench.clock.advance_until(lambda: transport.status_received_at != before, within=130, step=5)


def status_age(bench: Bench) -> float:
    """Return the seconds since the cloud last sent the status."""
    status_received_at = bench.account.transport(FREE).status_received_at
    return inf if status_received_at is None else bench.clock.monotonic() - status_received_at


def test_restart_table_covers_every_status_code() -> None:
    assert set(BY_CODE) == set(STATUS_BY_CODE) | {200}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("reporting", [True, False])
async def test_i5_restart_allowed_or_refused_for_every_status_code(bench: Bench, old: bool, reporting: bool) -> None:
    """Press with fresh and old statuses, of a charger that reports and of a charger silent for over ten minutes."""
    await bench.settle_in()
    charger = bench.charger(FREE)
    charger.restart_plan = RestartPlan(carried_out=False)
    charger.cloud_link = reporting
    await bench.clock.advance(QUARTER_OF_AN_HOUR)
    found: dict[int | None, str | None] = {}
    sent: set[int | None] = set()
    for code in BY_CODE:
        bench.cloud.shown_status[FREE] = code
        await wait_for_status(bench)
        if old:
            await bench.clock.advance_until(lambda: status_age(bench) > STATUS_FRESH, within=1200, step=5)
        before = len(actions(bench))
        found[code] = await press(bench)
        if len(actions(bench)) > before:
            sent.add(code)
            await bench.clock.advance(COOLING_DOWN)
    reasons = {
        code: reason if reporting or reason in {OFFLINE, UPDATING} else UNKNOWN for code, reason in BY_CODE.items()
    }
    assert found == {code: None if reason is None else f"restart_{reason}" for code, reason in reasons.items()}
    assert sent == {code for code, reason in reasons.items() if reason is None}
    assert set(actions(bench)) <= {RESTART}
    assert charger.restarts == len(sent)
    assert bench.cloud.factory_resets == []


async def test_restart_verified_when_charger_comes_back(bench: Bench) -> None:
    await bench.settle_in()
    await wait_for_status(bench)
    assert available(bench) is RestartAvailability.AVAILABLE
    run = await answer_to_press(bench, bench.chargers[FREE].restart())
    waiting = asyncio.ensure_future(run.wait())
    assert status(bench) is Status.RESTARTING
    await bench.clock.advance_until(waiting.done, within=600)
    assert await waiting is Outcome.VERIFIED
    assert bench.event_types(FREE, "restart") == ["accepted", "verified"]
    assert status(bench) is Status.AVAILABLE
    assert available(bench) is RestartAvailability.COOLING_DOWN
    assert await press(bench) == "restart_cooling_down"
    assert actions(bench) == [RESTART]
    assert bench.charger(FREE).restarts == 1
    assert bench.snapshot(FREE).issues == frozenset()


async def test_i5_repeated_press_sends_one_restart(bench: Bench) -> None:
    await bench.settle_in()
    await bench.clock.advance(70)
    presses = [asyncio.ensure_future(bench.chargers[FREE].restart()) for _ in range(3)]
    await bench.clock.advance_until(lambda: all(task.done() for task in presses), within=120)
    assert [task.exception() is None for task in presses] == [True, False, False]
    assert actions(bench) == [RESTART]


async def test_restart_fails_when_charger_never_comes_back(bench: Bench) -> None:
    await bench.settle_in()
    bench.charger(FREE).restart_plan = RestartPlan(comes_back=False)
    assert await press(bench) is None
    await bench.clock.advance(11 * 60)
    assert bench.event_types(FREE, "restart") == ["accepted", "failed"]
    assert bench.snapshot(FREE).issues == {ChargerIssue.RESTART_FAILED}
    assert status(bench) is Status.OFFLINE
    bench.charger(FREE).power_cycle()
    await bench.clock.advance(10 * 60)
    assert bench.snapshot(FREE).issues == frozenset()
    assert status(bench) is Status.AVAILABLE
    assert actions(bench) == [RESTART]


async def test_restart_not_carried_out_stays_unverified(bench: Bench) -> None:
    await bench.settle_in()
    bench.charger(FREE).restart_plan = RestartPlan(carried_out=False)
    assert await press(bench) is None
    await bench.clock.advance(11 * 60)
    assert bench.event_types(FREE, "restart") == ["accepted", "unverified"]
    assert bench.snapshot(FREE).issues == frozenset()


async def test_restart_not_noticed_by_cloud_stays_unverified(bench: Bench) -> None:
    await bench.settle_in()
    bench.charger(FREE).restart_plan = RestartPlan(shown_away=False)
    assert await press(bench) is None
    await bench.clock.advance(11 * 60)
    assert bench.event_types(FREE, "restart") == ["accepted", "unverified"]


async def test_restart_watch_polls_about_once_a_minute_and_then_ends(bench: Bench) -> None:
    await bench.settle_in()
    bench.charger(FREE).restart_plan = RestartPlan(comes_back=False)
    assert await press(bench) is None
    begun = len(bench.cloud.requests)
    await bench.clock.advance(9 * 60)
    groups = [request for request in bench.cloud.requests[begun:] if request.path.endswith("/groups")]
    assert 7 <= len(groups) <= 9
    await bench.clock.advance(2 * 60)
    begun = len(bench.cloud.requests)
    await bench.clock.advance(20 * 60)
    groups = [request for request in bench.cloud.requests[begun:] if request.path.endswith("/groups")]
    assert len(groups) <= 10


@pytest.mark.parametrize("carried_out", [True, False])
async def test_restart_with_lost_answer_reported_unclear_and_watched(bench: Bench, carried_out: bool) -> None:
    await bench.settle_in()
    await wait_for_status(bench)
    await bench.cloud.set_fault(Fault.HANG, method="POST", next_requests=1, carried_out=carried_out)
    assert await press(bench) == "restart_unclear"
    assert status(bench) is Status.RESTARTING
    await bench.clock.advance(11 * 60)
    assert bench.event_types(FREE, "restart") == ["verified" if carried_out else "unverified"]
    assert actions(bench) == [RESTART]


async def test_restart_refused_by_cloud_for_the_plan_can_be_tried_again(bench: Bench) -> None:
    bench.cloud.restart_needs_plan = True
    await bench.settle_in()
    await wait_for_status(bench)
    with pytest.raises(NotAllowed, match="restart_refused"):
        await answer_to_press(bench, bench.chargers[FREE].restart())
    assert available(bench) is RestartAvailability.NEEDS_PLAN
    assert status(bench) is Status.AVAILABLE
    assert bench.event_types(FREE, "restart") == []
    bench.cloud.restart_needs_plan = False
    assert await press(bench) is None
    assert bench.charger(FREE).restarts == 1


async def test_restart_with_role_too_low_refused_and_not_sent(bench: Bench) -> None:
    bench.cloud.accounts[0] = replace(bench.cloud.accounts[0], role="user")
    await bench.settle_in()
    assert available(bench) is RestartAvailability.NEEDS_ADMIN
    assert await press(bench) == "restart_needs_admin"
    assert actions(bench) == []


async def test_restart_of_original_pulsar_refused_and_not_sent(bench: Bench) -> None:
    bench.charger(FREE).charger_type = "Pulsar"
    await bench.settle_in()
    assert available(bench) is RestartAvailability.UNSUPPORTED_MODEL
    assert await press(bench) == "restart_unsupported_model"
    assert actions(bench) == []


async def test_restart_while_charging_only_where_user_allows(bench: Bench) -> None:
    await bench.settle_in()
    assert available(bench, CHARGING) is RestartAvailability.CHARGING
    assert await press(bench, CHARGING) == "restart_charging"
    bench.chargers[CHARGING].options = ChargerOptions(restart_while_charging=True)
    assert await press(bench, CHARGING) is None
    assert actions(bench, CHARGING) == [RESTART]


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.HANG, Fault.ERROR_500, Fault.HTML])
async def test_restart_in_outage_refused_and_not_sent(bench: Bench, fault: Fault) -> None:
    await bench.settle_in()
    await bench.cloud.set_fault(fault)
    await bench.clock.advance(5 * 60)
    assert available(bench) is RestartAvailability.NO_TRANSPORT
    before = len(actions(bench))
    with pytest.raises(TransportDown, match="no_path"):
        await answer_to_press(bench, bench.chargers[FREE].restart())
    assert len(actions(bench)) == before
    assert bench.intents_by_serial == {}


async def test_restart_without_connection_fails_and_can_be_tried_again(bench: Bench) -> None:
    await bench.settle_in()
    await wait_for_status(bench)
    await bench.cloud.set_fault(Fault.REFUSE)
    with pytest.raises(ChargerError):
        await answer_to_press(bench, bench.chargers[FREE].restart())
    assert status(bench) is Status.AVAILABLE
    assert bench.event_types(FREE, "restart") == []
    await bench.cloud.set_fault(Fault.NONE)
    await bench.clock.advance(3 * 60)
    assert await press(bench) is None
    assert bench.charger(FREE).restarts == 1


async def test_restart_watch_continues_in_outage(bench: Bench) -> None:
    await bench.settle_in()
    await wait_for_status(bench)
    assert await press(bench) is None
    await bench.cloud.set_fault(Fault.ERROR_500)
    await bench.clock.advance(5 * 60)
    assert status(bench) is Status.RESTARTING
    await bench.cloud.set_fault(Fault.NONE)
    await bench.clock.advance(6 * 60)
    assert bench.event_types(FREE, "restart") == ["accepted", "unverified"]


async def test_restart_watch_and_cooldown_survive_home_assistant_restart(bench: Bench) -> None:
    await bench.settle_in()
    assert await press(bench) is None
    await bench.clock.advance(30)
    await bench.chargers[FREE].stop()
    charger = bench.add_charger(FREE, stored=bench.chargers[FREE].export())
    assert status(bench) is Status.RESTARTING
    await bench.clock.advance(5 * 60)
    assert bench.event_types(FREE, "restart") == ["verified"]
    assert await press(bench) == "restart_cooling_down"
    await charger.stop()
    bench.add_charger(FREE)
    assert await press(bench) == "restart_cooling_down"
    await bench.clock.advance(5 * 60)
    assert await press(bench) is None
    assert actions(bench) == [RESTART, RESTART]


async def test_restart_right_after_start_reads_status_first(bench: Bench) -> None:
    bench.account.start()
    await bench.clock.settle()
    assert await press(bench) is None
    assert status_gets(bench) >= 1
    assert bench.charger(FREE).restarts == 1


async def test_install_verified_by_installed_version(bench: Bench) -> None:
    await bench.settle_in()
    charger = bench.charger(FREE)
    charger.firmware_latest, charger.update_takes = "6.7.50", 600.0
    await bench.clock.advance(5 * 60)
    await wait_for_status(bench)
    await answer_to_press(bench, bench.chargers[FREE].install())
    assert bench.snapshot(FREE).installing
    assert await press(bench) == "restart_updating"
    await bench.clock.advance(4 * 60)
    assert status(bench) is Status.UPDATING
    assert available(bench) is RestartAvailability.UPDATING
    await bench.clock.advance(20 * 60)
    assert not bench.snapshot(FREE).installing
    assert bench.snapshot(FREE).value(FIRMWARE) == "6.7.50"
    assert actions(bench) == [INSTALL]
    assert not charger.bricked


async def test_i5_restart_refused_while_external_update_runs(bench: Bench) -> None:
    await bench.settle_in()
    charger = bench.charger(FREE)
    charger.firmware_latest = "6.7.50"
    await wait_for_status(bench)
    await bench.clock.advance(STATUS_FRESH + 1)
    charger.update_firmware()  # the cloud shows the update, but the account has not read that yet
    assert await press(bench) == "restart_updating"
    assert actions(bench) == []
    assert not charger.bricked
