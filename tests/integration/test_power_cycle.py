"""Power cycles of a JuiceBox: off only without current, and back on until that is proved."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.exceptions import HomeAssistantError
import pytest

from custom_components.chargekeeper.core.errors import NotSaved
from custom_components.chargekeeper.linked.power_cycle import PowerCycle
from tests.integration.machine import Machine
from tests.simulation.clocks import RunClock
from tests.simulators.clock import VirtualClock

from .boxes import FIRST, NIGHT, BoxHouse
from .test_linked_box import METER, Wiring, finish, press, silent_box, wired

type Save = Callable[[dict[str, object]], Awaitable[None]]


def power_of(house: BoxHouse) -> PowerCycle:
    """Return the power cycle of the first box."""
    assert house.shared_state.boxes is not None
    return house.shared_state.boxes.power_cycle_of(FIRST)


def slow_disk(house: BoxHouse, seconds: float) -> None:
    """Let the save before a switch-off take this long."""
    cycle = power_of(house)
    save = cycle._save

    async def slow(record: dict[str, object]) -> None:
        if record.get("on") is False:
            await house.clock.sleep(seconds)
        await save(record)

    cycle._save = slow


def full_disk(house: BoxHouse) -> Save:
    """Make the save that the power is back fail; return the function that saves as usual."""
    cycle = power_of(house)
    save = cycle._save

    async def full(record: dict[str, object]) -> None:
        if record.get("on") is True:
            raise NotSaved("not_saved")
        await save(record)

    cycle._save = full
    return save


async def refused(house: BoxHouse) -> str | None:
    """Press restart and return the reason of the refusal."""
    with pytest.raises(HomeAssistantError) as error:
        await house.call("button", "press", "restart")
    return error.value.translation_key


def stick(wiring: Wiring, *, stuck: bool = True) -> None:
    """Let the switch fail from here on, or work again."""
    wiring.works = wiring.state_follows = not stuck
    wiring.failure = HomeAssistantError("the contactor is stuck") if stuck else None


class Power:
    """A computer that can be stopped and started, with a box behind a switch."""

    def __init__(self, folder: Path, clock: VirtualClock) -> None:
        self.machine = Machine(folder)
        self.clock = clock
        self.house: BoxHouse
        self.wiring: Wiring

    async def begin(self) -> None:
        """Start Home Assistant with a box that waits for its window."""
        self.house = BoxHouse(await self.machine.boot(RunClock(self.clock, ahead=0.0)), self.clock)
        self.wiring = await wired(self.house, meter=False, details=NIGHT)
        await self.house.pass_time(400)

    async def start(self) -> None:
        """Start Home Assistant again; the entities of the switch follow 30 s later."""
        await self.boot()
        await self.house.pass_time(30)
        await self.wiring.begin()
        await self.house.pass_time(60)

    async def end(self) -> None:
        if self.machine.is_on:
            await self.machine.shut_down()
        self.house.sims[FIRST].stop()

    @property
    def powered(self) -> bool:
        return self.house.sims[FIRST].powered

    async def boot(self) -> None:
        """Start Home Assistant again."""
        self.house.hass = await self.machine.boot(RunClock(self.clock, ahead=10_000.0))


@pytest.fixture
def expected_lingering_timers(request: pytest.FixtureRequest) -> bool:
    """Return True where the test stops Home Assistant, which then leaves timers of its own."""
    return "power" in request.fixturenames


@pytest.fixture(name="power")
async def _power(tmp_path: Path, virtual_clock: VirtualClock, socket_enabled: None) -> AsyncIterator[Power]:
    power = Power(tmp_path, virtual_clock)
    await power.begin()
    yield power
    await power.end()


# No current flows


async def backwards(house: BoxHouse, wiring: Wiring, seconds: float) -> None:
    """Let time pass while a reversed clamp reports."""
    for _ in range(round(seconds / 20)):
        wiring.meter.show(-house.sims[FIRST].watts)
        await house.pass_time(20)


async def test_restart_refused_while_a_reversed_clamp_shows_power(box_house: BoxHouse) -> None:
    wiring = await wired(box_house)
    box_house.sims[FIRST].wifi = False
    await backwards(box_house, wiring, 420)
    assert box_house.sims[FIRST].amperes > 0
    assert float(box_house.value("power")) < -3000
    assert await refused(box_house) == "restart_status_unknown"
    assert wiring.calls == []


async def test_override_pending_while_a_reversed_clamp_shows_power(box_house: BoxHouse) -> None:
    wiring = await wired(box_house)
    box_house.sims[FIRST].wifi = False
    await backwards(box_house, wiring, 420)
    await box_house.call("switch", "turn_on", "tou_override")
    await backwards(box_house, wiring, 120)
    assert (wiring.calls, box_house.state("switch", "tou_override").state) == ([], "on")


async def test_override_pending_when_the_car_starts_while_the_record_is_saved(box_house: BoxHouse) -> None:
    wiring = await silent_box(box_house)
    slow_disk(box_house, 15)
    sim = box_house.sims[FIRST]
    target = {"entity_id": box_house.entity_id("switch", "tou_override")}
    action = box_house.hass.services.async_call("switch", "turn_on", {}, target=target, blocking=True)
    task = box_house.hass.loop.create_task(action)
    await box_house.clock.advance(3)
    sim.window = None  # the window opens
    sim._decide()
    await box_house.clock.advance(1)
    wiring.report()
    assert sim.amperes > 0
    await box_house.clock.advance(60)
    await task
    assert (wiring.calls, power_of(box_house).active) == ([], False)


async def test_restart_refused_when_power_flows_while_the_record_is_saved(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, details=NIGHT)
    await wiring.report_for(400)
    slow_disk(box_house, 10)
    task = await press(box_house)
    await box_house.clock.advance(3)
    wiring.report(3000)
    await box_house.clock.advance(10)
    with pytest.raises(HomeAssistantError) as error:
        await task
    assert (error.value.translation_key, wiring.calls) == ("restart_charging", [])
    await wiring.report_for(120)
    answer = await finish(box_house, await press(box_house))
    assert answer["outcome"] == "verified", "one that was refused is none"


@pytest.mark.parametrize("meter", [True, False])
async def test_restart_refused_when_nothing_is_reported_while_the_record_is_saved(
    box_house: BoxHouse, meter: bool
) -> None:
    wiring = await (silent_box(box_house) if meter else wired(box_house, meter=False, details=NIGHT))
    await (wiring.report_for(40) if meter else box_house.pass_time(400))
    slow_disk(box_house, 75)
    task = await press(box_house)
    box_house.sims[FIRST].wifi = False
    await box_house.clock.advance(80)
    with pytest.raises(HomeAssistantError) as error:
        await task
    assert (error.value.translation_key, wiring.calls) == ("restart_status_unknown", [])


async def test_restart_refused_when_the_meter_stopped_reporting(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, details=NIGHT)
    await wiring.report_for(400)
    wiring.report(0)  # the last report of the meter
    box_house.sims[FIRST].wifi = False
    await box_house.pass_time(3600)
    assert box_house.sims[FIRST].amperes > 0
    for _ in range(4):
        assert await refused(box_house) == "restart_status_unknown"
        await box_house.pass_time(25)
    assert wiring.calls == []


async def test_restored_meter_state_does_not_allow_a_restart(box_house: BoxHouse) -> None:
    wiring = await silent_box(box_house)
    await box_house.pass_time(70)
    states = box_house.hass.states
    states.async_set(METER, STATE_UNAVAILABLE, {"restored": True})
    states.async_set(METER, "0", {"unit_of_measurement": "W"})
    await box_house.pass_time(20)
    await wiring.report_for(40)
    assert await refused(box_house) == "restart_status_unknown", "it has reported for 40 s"
    await wiring.report_for(40)
    await box_house.call("button", "press", "restart")
    assert wiring.calls == ["off"]


async def test_option_restarts_a_charging_box_under_load(box_house: BoxHouse) -> None:
    wiring = await wired(box_house)
    entry = box_house.entry
    box_house.hass.config_entries.async_update_entry(entry, options={"restart_while_charging": True})
    await box_house.pass_time(60)
    await box_house.call("button", "press", "restart")
    assert wiring.opened_at == [16]


@pytest.mark.parametrize("reports", [True, False])
async def test_restart_never_lets_the_box_exceed_the_wire_rating(box_house: BoxHouse, reports: bool) -> None:
    box_house.power_up(stored=40)
    wiring = await wired(box_house, details={**NIGHT, "wire_rating": 20})
    await wiring.report_for(800)
    sim = box_house.sims[FIRST]
    if reports:
        await box_house.call("button", "press", "restart")
    else:
        sim.window = (22 * 60, 2 * 60)
        sim.wifi = False
        await wiring.report_for(420)
        assert await refused(box_house) == "offline_too_high"
    highest = 0.0
    for _ in range(600):
        await box_house.clock.advance(1)
        highest = max(highest, sim.amperes)
    assert (wiring.calls[:1], highest <= 20) == (["off"] if reports else [], True)


# Power is proved to be back


async def test_assumed_switch_state_does_not_prove_power(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    wiring.contactor._attr_assumed_state = True
    wiring.lost = 1
    await box_house.call("button", "press", "restart")
    await box_house.pass_time(60)
    assert (wiring.calls, box_house.sims[FIRST].powered) == (["off", "on", "on"], True)
    assert (power_of(box_house).active, box_house.issues()) == (False, set()), "the box has said that it started"


async def test_flowing_power_proves_that_a_silent_box_has_power(box_house: BoxHouse) -> None:
    wiring = await silent_box(box_house)
    wiring.contactor._attr_assumed_state = True
    await box_house.call("switch", "turn_on", "tou_override")
    await wiring.report_for(60)
    assert (box_house.sims[FIRST].amperes, power_of(box_house).active) == (16, True), "it might still go off late"
    await wiring.report_for(60)
    assert (power_of(box_house).active, box_house.issues()) == (False, set())
    assert wiring.opened_at == [0]


async def test_switch_that_goes_off_late_is_switched_on_again(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    wiring.late = 25.0
    await box_house.call("button", "press", "restart")
    await box_house.pass_time(22)
    assert (wiring.calls, power_of(box_house).active) == (["off", "on"], True), "it shows its old state"
    await box_house.pass_time(60)
    assert (box_house.sims[FIRST].powered, power_of(box_house).active, box_house.issues()) == (True, False, set())


async def test_box_left_without_power_raises_a_repair(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    wiring.late = 25.0
    await box_house.call("button", "press", "restart")
    await box_house.pass_time(22)
    stick(wiring)
    wiring.failure = None
    box_house.sims[FIRST].switch_off()  # the late command, which the state does not show
    await box_house.pass_time(90)
    assert box_house.issues() == {"power_off"}
    stick(wiring, stuck=False)
    await box_house.pass_time(30)
    assert (box_house.sims[FIRST].powered, box_house.issues()) == (True, set())


# Clock changes


async def test_box_without_power_raises_a_repair_although_the_clock_is_set_back(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, details=NIGHT)
    await wiring.report_for(400)
    await box_house.call("button", "press", "restart")
    stick(wiring)
    await box_house.pass_time(15)
    box_house.clock.jump(-3600)
    await wiring.report_for(600)
    assert (box_house.sims[FIRST].powered, box_house.issues()) == (False, {"power_off"})
    await wiring.report_for(60)
    assert box_house.value("status") == "offline", "it is not restarting any more"
    tried = len(wiring.calls)
    await wiring.report_for(120)
    assert len(wiring.calls) == tried, "somebody may work on it by now"


async def test_restart_available_again_although_the_clock_was_set_back(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, details=NIGHT)
    await wiring.report_for(400)
    await finish(box_house, await press(box_house))
    box_house.clock.jump(-3600)
    await wiring.report_for(1200)
    assert box_house.value("restart_availability") == "available"
    await box_house.call("button", "press", "restart")
    assert wiring.calls == ["off", "on", "off"]


# Old power cycles


@pytest.mark.parametrize("proof", ["switch", "box"])
async def test_old_power_cycle_raises_a_repair_and_is_not_completed(power: Power, proof: str) -> None:
    await power.house.call("button", "press", "restart")
    await power.machine.lose_power()
    await power.clock.advance(600)
    await power.start()
    assert (power.wiring.calls, "power_off" in power.house.issues()) == (["off"], True)
    if proof == "switch":  # by hand
        power.wiring.contactor.show(on=True)
    else:
        power.house.sims[FIRST].switch_on()
    await power.house.pass_time(60)
    assert (power.wiring.calls, "power_off" in power.house.issues()) == (["off"], False)


async def test_old_power_cycle_not_completed_when_its_entry_is_disabled(power: Power) -> None:
    await power.house.call("button", "press", "restart")
    await power.machine.lose_power()
    await power.clock.advance(600)
    await power.start()
    entry_id = power.house.entry.entry_id
    await power.house.hass.config_entries.async_set_disabled_by(entry_id, ConfigEntryDisabler.USER)
    assert (power.wiring.calls, power.house.issues()) == (["off"], {"power_off"})


async def test_power_cycle_of_unknown_age_not_completed(power: Power) -> None:
    await power.house.call("button", "press", "restart")
    await power.machine.lose_power()
    power.clock.jump(-3600)
    await power.start()
    assert (power.wiring.calls, power.house.issues()) == (["off"], {"power_off"})


async def test_box_switched_off_by_the_user_stays_off_after_a_late_save(power: Power) -> None:
    save = full_disk(power.house)
    await power.house.call("button", "press", "restart")
    await power.house.pass_time(60)
    power_of(power.house)._save = save  # the disk has room again
    assert power.wiring.calls == ["off", "on"]
    await power.house.pass_time(1200)  # long after the save worked
    power.house.sims[FIRST].switch_off()
    power.wiring.contactor.show(on=False)
    power.wiring.calls.clear()
    await power.house.pass_time(600)
    await power.machine.shut_down()
    await power.clock.advance(60)
    await power.start()
    assert (power.wiring.calls, power.house.issues()) == ([], set())


async def test_record_of_a_silent_box_retried_until_saved(box_house: BoxHouse) -> None:
    wiring = await silent_box(box_house)
    save = full_disk(box_house)
    await box_house.call("button", "press", "restart")
    await box_house.pass_time(40)
    power_of(box_house)._save = save
    assert box_house.shared_state.boxes is not None
    intents_by_serial = box_house.shared_state.boxes.stores.intents_by_serial
    before = intents_by_serial[f"power_{FIRST}"]
    await box_house.pass_time(60)
    after = intents_by_serial[f"power_{FIRST}"]
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert (wiring.calls, before["on"], after["on"]) == (["off", "on"], False, True)


async def test_reload_while_the_record_is_saved_leaves_no_record(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    slow_disk(box_house, 15)
    task = await press(box_house)
    await box_house.clock.advance(3)
    await box_house.hass.config_entries.async_reload(box_house.entry.entry_id)
    with pytest.raises(HomeAssistantError):
        await task
    await box_house.pass_time(60)
    assert box_house.shared_state.boxes is not None
    stored = box_house.shared_state.boxes.stores.intents_by_serial[f"power_{FIRST}"]
    assert (wiring.calls, power_of(box_house).active, stored) == ([], False, {})


async def test_old_power_cycle_replaced_by_a_restart_of_the_user(box_house: BoxHouse) -> None:
    wiring = await silent_box(box_house)
    stick(wiring)
    with pytest.raises(HomeAssistantError):
        await box_house.call("button", "press", "restart")
    await wiring.report_for(700)
    stick(wiring, stuck=False)
    wiring.calls.clear()
    await box_house.call("button", "press", "restart")
    await box_house.pass_time(15)
    assert wiring.calls == ["off"]
    await box_house.pass_time(15)
    assert (wiring.calls, box_house.sims[FIRST].powered, box_house.issues()) == (["off", "on"], True, set())


async def test_next_power_cycle_kept_when_the_box_reports_during_its_save(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    await finish(box_house, await press(box_house))
    await box_house.pass_time(700)
    cycle = power_of(box_house)
    assert cycle.last is not None
    cycle.last = replace(cycle.last, spent=True)  # the box has not reported since
    slow_disk(box_house, 40)
    task = await press(box_house)
    await box_house.clock.advance_until(lambda: wiring.calls == ["off", "on", "off"], within=60)
    assert box_house.shared_state.boxes is not None
    stored = box_house.shared_state.boxes.stores.intents_by_serial[f"power_{FIRST}"]
    assert isinstance(stored, dict)
    assert stored["on"] is False
    await finish(box_house, task)
    assert wiring.calls == ["off", "on", "off", "on"]


# The end of Home Assistant


@pytest.mark.parametrize("seconds", [0.0, 5.0, 19.0])
async def test_power_switched_on_at_shutdown(power: Power, seconds: float) -> None:
    await power.house.call("button", "press", "restart")
    await power.clock.advance(seconds)
    await power.machine.shut_down()
    await power.clock.advance(60)
    assert (power.wiring.calls, power.powered) == (["off", "on"], True)
    power.house.sims[FIRST].switch_off()
    power.wiring.calls.clear()
    await power.start()
    assert (power.wiring.calls, power_of(power.house).active) == ([], False), "that it is on again is on the disk"


async def test_unsaved_switch_on_at_shutdown_repeated_after_start(power: Power) -> None:
    full_disk(power.house)
    await power.house.call("button", "press", "restart")
    await power.machine.shut_down()
    await power.clock.advance(60)
    assert (power.wiring.calls, power.powered) == (["off", "on"], True)
    await power.start()
    assert "off" not in power.wiring.calls[1:]
    await power.house.pass_time(90)
    assert (power_of(power.house).active, power.house.issues()) == (False, set()), "the box reports"


async def test_restart_refused_once_home_assistant_is_stopping(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    await power_of(box_house).finish()
    assert await refused(box_house) == "stopping"
    assert wiring.calls == []


@pytest.mark.parametrize("how", ["shut_down", "lose_power"])
@pytest.mark.parametrize("after", [0.0, 0.5, 1.0, 5.0, 20.0, 20.5, 21.0, 60.0])
async def test_box_powered_after_a_restart_in_each_state(power: Power, how: str, after: float) -> None:
    power.wiring.lasts = 0.7
    task = await press(power.house)
    await power.clock.advance(after)
    await getattr(power.machine, how)()
    await asyncio.gather(task, return_exceptions=True)  # the restart is verified, or ends with Home Assistant
    await power.clock.advance(30)
    await power.start()
    assert power.powered
    await power.house.pass_time(700)
    assert (power_of(power.house).active, power.house.issues()) == (False, set())


async def test_repair_of_a_disabled_entry_without_power_kept_after_a_restart(power: Power) -> None:
    await power.house.call("button", "press", "restart")
    stick(power.wiring)
    await power.house.pass_time(100)
    entries = power.house.hass.config_entries
    await entries.async_set_disabled_by(power.house.entry.entry_id, ConfigEntryDisabler.USER)
    await power.machine.shut_down()
    await power.clock.advance(600)
    await power.boot()
    assert (power.powered, power.house.issues()) == (False, {"power_off"})
    power.house.sims[FIRST].switch_on()
    await power.house.hass.config_entries.async_set_disabled_by(power.house.entry.entry_id, None)
    await power.house.pass_time(60)
    assert power.house.issues() == set()


async def test_repair_of_a_removed_box_without_power_kept_after_a_restart(power: Power) -> None:
    await power.house.call("button", "press", "restart")
    stick(power.wiring)
    await power.house.pass_time(100)
    entry = power.house.entry
    power.house.hass.config_entries.async_remove_subentry(entry, power.house.subentry().subentry_id)
    await power.house.pass_time(10)
    await power.machine.shut_down()
    await power.clock.advance(600)
    stick(power.wiring, stuck=False)
    await power.start()
    assert (power.powered, power.house.issues()) == (False, {"power_off"})
    power.wiring.contactor.show(on=True)  # by hand
    await power.house.pass_time(10)
    assert power.house.issues() == set()
