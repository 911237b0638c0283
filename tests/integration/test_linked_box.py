"""A JuiceBox with a linked power switch and meter: the restart, and power cycles in an outage."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
import logging
from pathlib import Path
from typing import Any, override

from homeassistant.components.button import ButtonEntity
from homeassistant.config_entries import SOURCE_RECONFIGURE, SOURCE_USER, ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import entity_registry as er, issue_registry as ir
from homeassistant.helpers.entity import Entity, ToggleEntity
from homeassistant.helpers.entity_component import DATA_INSTANCES, EntityComponent
import pytest

from custom_components.chargekeeper.core.errors import NotSaved
from custom_components.chargekeeper.diagnostics import async_get_config_entry_diagnostics
from custom_components.chargekeeper.juicebox.box import Mode
from custom_components.chargekeeper.linked.power_cycle import Cycle
from tests.integration.machine import Machine
from tests.simulation.clocks import RunClock
from tests.simulators.clock import VirtualClock

from .boxes import FIRST, NIGHT, BoxHouse

SWITCH, METER = "input_boolean.power_of_the_box", "sensor.power_of_the_box"
AMMETER = "sensor.current_of_the_box"


class Contactor(ToggleEntity):
    """The switch of a contactor, as another integration provides it."""

    _attr_should_poll = False
    _attr_unique_id = "contactor"
    _attr_name = "Power of the box"
    entity_id = SWITCH

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._attr_is_on = wiring.house.sims[FIRST].powered

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        self._wiring.called(on=True)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        self._wiring.called(on=False)
        await self._wiring.house.clock.sleep(self._wiring.lasts)

    def show(self, *, on: bool | None) -> None:
        """Write this state; None means unavailable."""
        self._attr_available = on is not None
        self._attr_is_on = on
        self.async_write_ha_state()


class Meter(Entity):
    """The power through the contactor."""

    _attr_should_poll = False
    _attr_unique_id = "meter"
    _attr_unit_of_measurement = "W"
    entity_id = METER

    def show(self, watts: float) -> None:
        """Report a power, even if unchanged."""
        self._attr_state = f"{watts:.0f}"
        self.async_write_ha_state()


class Ammeter(Meter):
    """The current through the contactor in mA."""

    _attr_unique_id = "ammeter"
    _attr_unit_of_measurement = "mA"
    entity_id = AMMETER


@dataclass
class Wiring:
    """A contactor before the first box, with a meter; both have registered entities."""

    house: BoxHouse
    works: bool = True
    state_follows: bool = True
    """True while the state of the switch follows its commands."""
    lasts: float = 0.0
    """Seconds that a call of the switch takes."""
    failure: BaseException | None = None
    late: float = 0.0
    """Seconds until the contactor obeys a command to switch off."""
    lost: int = 0
    """Number of commands to switch on that get lost although the switch shows on."""
    calls: list[str] = field(default_factory=list)
    opened_at: list[float] = field(default_factory=list)
    """The current in A at each command to switch off."""

    async def begin(self) -> Wiring:
        """Add the entities of switch and meters, also after a start of Home Assistant."""
        components = self.hass.data[DATA_INSTANCES]
        if (component := components.get("input_boolean")) is None:
            component = EntityComponent(logging.getLogger(__name__), "input_boolean", self.hass)
            for service in ("turn_on", "turn_off"):
                component.async_register_entity_service(service, None, f"async_{service}")
            self.meter, self.ammeter = Meter(), Ammeter()
            await components["sensor"].async_add_entities([self.meter, self.ammeter])
        self.contactor = Contactor(self)
        await component.async_add_entities([self.contactor])
        return self

    @property
    def hass(self) -> HomeAssistant:
        return self.house.hass

    def called(self, *, on: bool) -> None:
        """Receive a command to switch."""
        self.calls.append("on" if on else "off")
        if not on:
            self.opened_at.append(self.house.sims[FIRST].amperes)
        if self.failure is not None:
            raise self.failure
        if on and self.lost:
            self.lost -= 1
            self.contactor.show(on=True)
        elif not on and self.late:
            self.house.clock.call_later(self.late, lambda: self.switch(on=False))
        else:
            self.switch(on=on)

    def switch(self, *, on: bool) -> None:
        """Switch the contactor."""
        sim = self.house.sims[FIRST]
        if self.works and on is not sim.powered:
            (sim.switch_on if on else sim.switch_off)()
        if self.state_follows:
            self.contactor.show(on=on)

    def report(self, watts: float | None = None) -> None:
        """Let the meter report a power, by default the present power of the box."""
        shown = self.house.sims[FIRST].watts if watts is None else watts
        self.meter.show(shown)

    async def report_for(self, seconds: float) -> None:
        """Let time pass while the meter reports every 20 s."""
        for _ in range(round(seconds / 20)):
            self.report()
            await self.house.pass_time(20)

    async def link(self, *, allow: bool = False, **entities: str) -> Any:
        """Link entities through the flow and return its result."""
        flow = self.hass.config_entries.subentries
        form = await flow.async_init((self.house.entry.entry_id, "linked"), context={"source": SOURCE_USER})
        entered = {"charger": FIRST, "allow_power_cycle": allow, **entities}
        result = await flow.async_configure(form["flow_id"], entered)
        await self.hass.async_block_till_done()
        return result

    @property
    def cycle(self) -> Cycle | None:
        """The record of the last power cycle."""
        assert self.house.shared_state.boxes is not None
        return self.house.shared_state.boxes.power_cycle_of(FIRST).last


async def wired(
    house: BoxHouse, *, meter: bool = True, allow: bool = True, details: dict[str, Any] | None = None
) -> Wiring:
    """Add a box that only we command and link the switch and the meter to it."""
    await house.add(**(details or {}))
    await house.pass_time(400)
    wiring = await Wiring(house).begin()
    wiring.report()
    links = {"power_switch": SWITCH} | ({"power": METER} if meter else {})
    result = await wiring.link(allow=allow and meter, **links)
    assert result["type"] is FlowResultType.CREATE_ENTRY, result
    await house.pass_time(31)
    return wiring


async def press(house: BoxHouse) -> Any:
    """Press restart and return the task with the outcome."""
    target = {"entity_id": house.entity_id("button", "restart")}
    action = house.hass.services.async_call(
        "chargekeeper", "restart", {}, target=target, blocking=True, return_response=True
    )
    return house.hass.loop.create_task(action)


async def finish(house: BoxHouse, task: asyncio.Task[Any]) -> Any:
    await house.clock.advance_until(task.done, within=700)
    [answer] = (await task).values()
    await house.hass.async_block_till_done()
    return answer


async def test_restart_switches_the_power_off_and_on_and_is_verified(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    assert (box_house.value("status"), box_house.value("restart_availability")) == ("waiting_schedule", "available")
    boots = box_house.box().counts["boots"]
    task = await press(box_house)
    await box_house.clock.advance_until(lambda: wiring.calls == ["off"], within=5)
    await box_house.clock.advance(15)
    assert (wiring.calls, box_house.value("status")) == (["off"], "restarting")
    answer = await finish(box_house, task)
    assert answer["outcome"] == "verified"
    assert answer["seconds"] <= 60
    assert wiring.calls == ["off", "on"]
    assert box_house.box().counts["boots"] == boots + 1
    assert box_house.state("event", "restart").attributes["event_type"] == "verified"
    assert box_house.value("restart_availability") == "restarting", "it has hardly started"
    await box_house.pass_time(150)
    assert (box_house.value("status"), box_house.box().mode) == ("waiting_schedule", Mode.KEEP)
    assert box_house.value("restart_availability") == "cooling_down"
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("button", "press", "restart")
    assert refused.value.translation_key == "restart_cooling_down"
    assert wiring.calls == ["off", "on"]


async def test_restart_refused_after_its_link_was_removed(box_house: BoxHouse) -> None:
    await wired(box_house)
    box_house.sims[FIRST].unplug()
    await box_house.pass_time(31)
    assert box_house.value("restart_availability") == "available"
    [link] = (each for each in box_house.entry.subentries.values() if each.subentry_type == "linked")
    box_house.hass.config_entries.async_remove_subentry(box_house.entry, link.subentry_id)
    await box_house.pass_time(31)
    assert box_house.value("restart_availability") == "needs_link"
    with pytest.raises(ServiceValidationError) as refused:
        await box_house.call("button", "press", "restart")
    assert refused.value.translation_key == "restart_needs_link"


async def test_restart_action_fails_at_reload_but_restart_is_still_verified(box_house: BoxHouse) -> None:
    await wired(box_house)
    box_house.sims[FIRST].unplug()
    await box_house.pass_time(31)
    task = await press(box_house)
    await box_house.clock.advance(8)
    await box_house.hass.config_entries.async_reload(box_house.entry.entry_id)
    with pytest.raises(HomeAssistantError) as refused:
        await task
    assert refused.value.translation_key == "stopping"
    await box_house.pass_time(100)
    assert box_house.state("event", "restart").attributes["event_type"] == "verified"


async def test_restart_refused_while_the_box_is_charging(box_house: BoxHouse) -> None:
    wiring = await wired(box_house)
    assert (box_house.value("status"), box_house.value("restart_availability")) == ("charging", "charging")
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("button", "press", "restart")
    assert (refused.value.translation_key, wiring.calls) == ("restart_charging", [])


async def test_restart_refused_while_the_meter_shows_power(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, details=NIGHT)
    await box_house.pass_time(400)
    wiring.report(3000)
    await box_house.pass_time(1)
    assert box_house.value("status") == "waiting_schedule"
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("button", "press", "restart")
    assert (refused.value.translation_key, wiring.calls) == ("restart_charging", [])


async def test_ammeter_current_blocks_a_restart_and_is_shown_for_a_silent_box(box_house: BoxHouse) -> None:
    await box_house.add(**NIGHT)
    await box_house.pass_time(800)
    wiring = await Wiring(box_house).begin()
    wiring.ammeter.show(500)
    result = await wiring.link(power_switch=SWITCH, current=AMMETER)
    assert result["type"] is FlowResultType.CREATE_ENTRY, result
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("button", "press", "restart")
    assert (refused.value.translation_key, wiring.calls) == ("restart_charging", [])
    box_house.sims[FIRST].wifi = False
    await box_house.pass_time(130)
    wiring.ammeter.show(499)
    await box_house.pass_time(1)
    assert box_house.value("status") == "offline"
    assert float(box_house.value("current")) == pytest.approx(0.499)
    box_house.sims[FIRST].wifi = True
    wiring.ammeter.show(499)
    await box_house.pass_time(61)
    assert (box_house.value("current"), box_house.value("restart_availability")) == ("0.0", "available")


async def test_restart_unverified_when_the_switch_does_nothing(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    wiring.works = wiring.state_follows = False
    answer = await finish(box_house, await press(box_house))
    assert (answer["outcome"], wiring.calls[:2]) == ("unverified", ["off", "on"])
    assert "off" not in wiring.calls[1:]
    assert box_house.issues() == set(), "the box reports all the time, so it has power"


async def test_restart_verified_by_the_box_when_the_switch_state_does_not_follow(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    wiring.state_follows = False
    answer = await finish(box_house, await press(box_house))
    assert answer["outcome"] == "verified"


async def test_failing_or_missing_switch_refuses_a_restart_and_raises_a_repair(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    wiring.failure = HomeAssistantError("no")
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("button", "press", "restart")
    assert refused.value.translation_key == "restart_unclear"
    box_house.sims[FIRST].switch_off()  # the power is off despite the error
    await box_house.pass_time(100)
    assert box_house.issues() == {"power_off"}
    assert wiring.calls.count("on") > 5
    wiring.failure = None
    await box_house.pass_time(20)
    assert (box_house.issues(), wiring.cycle is not None and wiring.cycle.on) == (set(), True)
    await box_house.pass_time(600)
    wiring.contactor.show(on=None)
    await box_house.pass_time(31)
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("button", "press", "restart")
    assert refused.value.translation_key == "restart_offline"
    er.async_get(box_house.hass).async_remove(SWITCH)
    await box_house.pass_time(1)
    assert box_house.issues() == {"link_broken"}


async def silent_box(house: BoxHouse) -> Wiring:
    """Return the wiring of a silent box with a car that waits for the night."""
    wiring = await wired(house, details=NIGHT)
    await wiring.report_for(400)
    house.sims[FIRST].window = (22 * 60, 2 * 60)
    house.sims[FIRST].wifi = False
    await wiring.report_for(420)
    assert (house.value("status"), house.sims[FIRST].amperes) == ("offline", 0)
    return wiring


async def test_override_of_a_silent_box_cycles_its_power(box_house: BoxHouse) -> None:
    wiring = await silent_box(box_house)
    await box_house.call("switch", "turn_on", "tou_override")
    assert wiring.calls == ["off"]
    await wiring.report_for(120)
    assert (wiring.calls, box_house.sims[FIRST].amperes) == (["off", "on"], 16)
    assert box_house.state("switch", "tou_override").attributes["applied"] is True
    assert float(box_house.value("power")) == pytest.approx(box_house.sims[FIRST].watts, rel=0.01)
    assert box_house.issues() == set()
    box_house.sims[FIRST].wifi = True
    await wiring.report_for(420)
    assert (box_house.value("status"), box_house.state("switch", "tou_override").state) == ("charging", "on")
    assert wiring.cycle is not None
    assert (wiring.cycle.on, wiring.cycle.spent) == (True, False)
    assert wiring.calls == ["off", "on"]


async def test_override_cycles_the_power_once_per_outage_then_raises_a_repair(box_house: BoxHouse) -> None:
    wiring = await silent_box(box_house)
    wiring.works = False  # the contactor is stuck
    await box_house.call("switch", "turn_on", "tou_override")
    await wiring.report_for(3600)
    assert (wiring.calls, box_house.issues()) == (["off", "on"], {"override_by_hand"})
    assert box_house.state("switch", "tou_override").state == "on"
    await box_house.call("switch", "turn_off", "tou_override")
    await box_house.pass_time(1)
    assert box_house.issues() == set()


async def test_override_cycles_no_power_while_the_meter_is_silent(box_house: BoxHouse) -> None:
    wiring = await silent_box(box_house)
    await box_house.pass_time(90)
    await box_house.call("switch", "turn_on", "tou_override")
    await box_house.pass_time(300)
    assert (wiring.calls, box_house.issues()) == ([], {"override_by_hand"})
    wiring.report()
    await box_house.pass_time(30)
    assert wiring.calls == [], "nobody knows what was between"
    await wiring.report_for(140)
    assert wiring.calls[:1] == ["off"]


async def test_override_cycles_no_power_without_permission(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, allow=False, details=NIGHT)
    await wiring.report_for(400)
    box_house.sims[FIRST].window = (22 * 60, 2 * 60)
    box_house.sims[FIRST].wifi = False
    await wiring.report_for(420)
    await box_house.call("switch", "turn_on", "tou_override")
    await wiring.report_for(120)
    assert (wiring.calls, box_house.issues()) == ([], {"override_by_hand"})
    await box_house.call("button", "press", "restart")
    await wiring.report_for(60)
    assert wiring.calls == ["off", "on"], "the user may restart what is at rest, heard or not"


async def test_override_cycles_no_power_when_the_offline_current_is_too_high(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, details={**NIGHT, "wire_rating": 12})
    await box_house.call("number", "set_value", "charging_current", value=10)
    await wiring.report_for(400)
    box_house.sims[FIRST].window = (22 * 60, 2 * 60)
    box_house.sims[FIRST].wifi = False
    await wiring.report_for(420)
    await box_house.call("switch", "turn_on", "tou_override")
    await wiring.report_for(120)
    assert (wiring.calls, box_house.issues()) == ([], {"offline_above_wire", "override_by_hand"})


async def test_power_switched_on_after_a_reload_and_removal_of_the_link(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    await box_house.call("button", "press", "restart")
    entries = box_house.hass.config_entries
    await entries.async_reload(box_house.entry.entry_id)
    link = next(each for each in box_house.entry.subentries.values() if each.subentry_type == "linked")
    entries.async_remove_subentry(box_house.entry, link.subentry_id)
    await box_house.pass_time(1)
    assert wiring.calls == ["off"]
    await box_house.pass_time(25)
    assert (wiring.calls, box_house.sims[FIRST].powered) == (["off", "on"], True)


async def test_power_switched_on_after_a_reload_during_switch_off(
    box_house: BoxHouse,
) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    wiring.lasts = 2.0
    task = await press(box_house)
    await box_house.clock.advance_until(lambda: wiring.calls == ["off"], within=5)
    await box_house.hass.config_entries.async_reload(box_house.entry.entry_id)
    with pytest.raises(HomeAssistantError) as refused:
        await task
    assert refused.value.translation_key == "stopping"
    assert (wiring.calls, box_house.sims[FIRST].powered) == (["off"], False)
    await box_house.pass_time(25)
    assert (wiring.calls, box_house.sims[FIRST].powered) == (["off", "on"], True)


async def test_power_switched_on_at_shutdown_during_switch_off(
    tmp_path: Path, virtual_clock: VirtualClock, socket_enabled: None
) -> None:
    machine = Machine(tmp_path)
    house = BoxHouse(await machine.boot(RunClock(virtual_clock, ahead=0.0)), virtual_clock)
    wiring = await wired(house, meter=False, details=NIGHT)
    await house.pass_time(400)
    wiring.lasts = 2.0
    task = await press(house)
    await house.clock.advance_until(lambda: wiring.calls == ["off"], within=5)
    await machine.shut_down()
    assert task.done()
    with pytest.raises(HomeAssistantError):
        await task
    await virtual_clock.advance(60)
    assert (wiring.calls, house.sims[FIRST].powered) == (["off", "on"], True)
    house.hass = await machine.boot(RunClock(virtual_clock, ahead=10_000.0))
    await house.pass_time(30)
    await wiring.begin()
    await house.pass_time(30)
    assert wiring.calls == ["off", "on"], "that it is on again is on the disk"
    await machine.shut_down()
    house.sims[FIRST].stop()


async def test_link_removed_with_its_box(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    await box_house.call("button", "press", "restart")
    box_house.hass.config_entries.async_remove_subentry(box_house.entry, box_house.subentry().subentry_id)
    await box_house.pass_time(1)
    assert dict(box_house.entry.subentries) == {}
    await box_house.pass_time(30)
    assert wiring.calls == ["off", "on"]


@pytest.mark.parametrize("gone", ["disabled", "removed"])
async def test_power_switched_on_when_the_entry_is_disabled_or_removed(box_house: BoxHouse, gone: str) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    await box_house.call("button", "press", "restart")
    entries, entry_id = box_house.hass.config_entries, box_house.entry.entry_id
    if gone == "disabled":
        await entries.async_set_disabled_by(entry_id, ConfigEntryDisabler.USER)
    else:
        await entries.async_remove(entry_id)
    assert wiring.calls == ["off", "on"]


async def stuck(house: BoxHouse, seconds: float) -> Wiring:
    """Return the wiring of a box switched off this long ago by a switch that fails since."""
    wiring = await wired(house, details=NIGHT)
    await wiring.report_for(400)
    await house.call("button", "press", "restart")
    wiring.works, wiring.state_follows, wiring.failure = False, False, HomeAssistantError("the contactor is stuck")
    await wiring.report_for(seconds)
    assert house.issues() == ({"power_off"} if seconds >= 60 else set())
    return wiring


@pytest.mark.parametrize("seconds", [10, 100])
@pytest.mark.parametrize("gone", ["box", "entry"])
async def test_box_removed_without_power_raises_a_repair(box_house: BoxHouse, gone: str, seconds: float) -> None:
    await stuck(box_house, seconds)
    if gone == "box":
        box_house.hass.config_entries.async_remove_subentry(box_house.entry, box_house.subentry().subentry_id)
    else:
        await box_house.hass.config_entries.async_remove(box_house.entry.entry_id)
    await box_house.pass_time(120)
    assert not box_house.sims[FIRST].powered
    assert box_house.issues() == {"power_off"}
    [issue] = (each for each in ir.async_get(box_house.hass).issues.values() if each.domain == "chargekeeper")
    assert issue.translation_placeholders == {"charger": "Garage", "switch": "Power of the box"}


async def test_removed_box_with_restored_power_raises_no_repair(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    await box_house.call("button", "press", "restart")
    box_house.hass.config_entries.async_remove_subentry(box_house.entry, box_house.subentry().subentry_id)
    await box_house.pass_time(120)
    assert (wiring.calls, box_house.issues()) == (["off", "on"], set())


async def test_repair_of_a_box_without_power_stays_while_its_entry_is_disabled(box_house: BoxHouse) -> None:
    wiring, entries = await stuck(box_house, 100), box_house.hass.config_entries
    await entries.async_set_disabled_by(box_house.entry.entry_id, ConfigEntryDisabler.USER)
    await box_house.pass_time(120)
    assert box_house.issues() == {"power_off"}
    wiring.works, wiring.state_follows, wiring.failure = True, True, None
    await entries.async_set_disabled_by(box_house.entry.entry_id, None)
    await box_house.pass_time(30)
    assert (box_house.issues(), box_house.sims[FIRST].powered) == (set(), True)


async def test_power_switched_on_after_a_power_cut_of_home_assistant(
    tmp_path: Path, virtual_clock: VirtualClock, socket_enabled: None
) -> None:
    machine = Machine(tmp_path)
    house = BoxHouse(await machine.boot(RunClock(virtual_clock, ahead=0.0)), virtual_clock)
    wiring = await wired(house, meter=False, details=NIGHT)
    await house.pass_time(400)
    for run in (1, 2):
        await house.call("button", "press", "restart")
        await machine.lose_power()
        assert wiring.calls == ["off"]
        await virtual_clock.advance(60)
        assert wiring.calls == ["off"], "nothing is sent while Home Assistant is down"
        house.hass = await machine.boot(RunClock(virtual_clock, ahead=10_000.0 * run))
        await house.pass_time(30)
        await wiring.begin()
        await house.pass_time(30)
        assert (wiring.calls, house.sims[FIRST].powered) == (["off", "on"], True)
        await house.pass_time(700)
        assert house.state("event", "restart").attributes["event_type"] == "verified"
        wiring.calls.clear()
    await machine.shut_down()
    house.sims[FIRST].stop()


async def test_box_link_form_rejects_mistakes_and_link_can_be_changed(box_house: BoxHouse) -> None:
    await box_house.add()
    wiring = await Wiring(box_house).begin()
    wiring.report()
    refused = await wiring.link(allow=True, power=METER)
    assert refused["errors"] == {"allow_power_cycle": "needs_power_switch"}
    refused = await wiring.link(allow=True, power_switch=SWITCH)
    assert refused["errors"] == {"allow_power_cycle": "needs_meter"}
    refused = await wiring.link()
    assert refused["errors"] == {"base": "nothing_linked"}
    assert "status" not in {str(key) for key in refused["data_schema"].schema}
    await wiring.link(allow=True, power=METER, power_switch=SWITCH)
    [link] = (each for each in box_house.entry.subentries.values() if each.subentry_type == "linked")
    flow = box_house.hass.config_entries.subentries
    context: Any = {"source": SOURCE_RECONFIGURE, "subentry_id": link.subentry_id}
    form = await flow.async_init((box_house.entry.entry_id, "linked"), context=context)
    assert form["data_schema"] is not None
    keys = {str(key): key.description for key in form["data_schema"].schema}
    assert keys["allow_power_cycle"] == {"suggested_value": True}
    entered = {"allow_power_cycle": False, "power_switch": SWITCH}
    result = await flow.async_configure(form["flow_id"], entered)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "reconfigure_successful")
    await box_house.pass_time(1)
    assert box_house.entry.subentries[link.subentry_id].data["allow_power_cycle"] is False
    entry: Any = box_house.entry
    [box] = (await async_get_config_entry_diagnostics(box_house.hass, entry))["boxes"]
    assert box["linked"] == {"power_switch": {"fault": None, "available": True, "reported_age": 1}}


async def test_restart_refused_when_its_record_cannot_be_saved(
    box_house: BoxHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    assert box_house.shared_state.boxes is not None
    cycle = box_house.shared_state.boxes.power_cycle_of(FIRST)

    async def full(_record: dict[str, object]) -> None:
        raise NotSaved("not_saved")

    monkeypatch.setattr(cycle, "_save", full)
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("button", "press", "restart")
    assert (refused.value.translation_key, wiring.calls) == ("not_saved", [])


async def test_linked_meter_shows_the_power_of_a_silent_box(box_house: BoxHouse) -> None:
    await box_house.add()
    wiring = await Wiring(box_house).begin()
    wiring.report()
    await wiring.link(power=METER)
    await box_house.pass_time(31)
    assert box_house.entity_id("button", "restart") is None
    box_house.sims[FIRST].wifi = False
    await wiring.report_for(240)
    assert box_house.value("status") == "offline"
    assert float(box_house.value("power")) == pytest.approx(box_house.sims[FIRST].watts, rel=0.01)
    wiring.report(float("nan"))
    await box_house.pass_time(1)
    assert box_house.value("power") == "unavailable"


async def test_linked_restart_button_pressed_instead_of_the_switch(box_house: BoxHouse) -> None:
    await box_house.add(**NIGHT)
    await box_house.pass_time(800)
    wiring, pressed = await Wiring(box_house).begin(), list[str]()

    class Reset(ButtonEntity):
        _attr_unique_id = _attr_name = "reset"

        @override
        async def async_press(self) -> None:
            pressed.append(self.entity_id)
            box_house.sims[FIRST].switch_off()
            box_house.sims[FIRST].switch_on()

    button = Reset()
    await box_house.hass.data[DATA_INSTANCES]["button"].async_add_entities([button])
    await wiring.link(restart_button=button.entity_id, power_switch=SWITCH)
    await box_house.pass_time(31)
    answer = await finish(box_house, await press(box_house))
    assert (answer["outcome"], len(pressed), wiring.calls) == ("verified", 1, [])


async def test_second_power_cycle_refused_within_ten_minutes(box_house: BoxHouse) -> None:
    wiring = await silent_box(box_house)
    await box_house.call("switch", "turn_on", "tou_override")
    wiring.works = False
    await wiring.report_for(100)
    wiring.report(0)
    box_house.sims[FIRST].unplug()
    await wiring.report_for(120)
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("button", "press", "restart")
    assert (refused.value.translation_key, wiring.calls) == ("cycled", ["off", "on"])


async def test_restart_refused_while_the_box_status_is_too_old(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, details=NIGHT)
    await wiring.report_for(400)
    box_house.sims[FIRST].wifi = False
    await wiring.report_for(80)
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("button", "press", "restart")
    assert refused.value.translation_key == "path_busy"
    await box_house.pass_time(300)
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("button", "press", "restart")
    assert (refused.value.translation_key, wiring.calls) == ("restart_status_unknown", [])


async def test_restart_possible_again_after_the_switch_refused(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    for _ in range(2):
        wiring.failure = ServiceValidationError("not now")
        with pytest.raises(HomeAssistantError) as refused:
            await box_house.call("button", "press", "restart")
        assert refused.value.translation_key == "linked_refused"
        await box_house.pass_time(60)
        wiring.failure = None
        answer = await finish(box_house, await press(box_house))
        assert answer["outcome"] == "verified"
        await box_house.pass_time(700)
    assert wiring.calls == ["off", "off", "on"] * 2


async def test_deleted_switch_raises_repairs_until_restored(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, details=NIGHT)
    await wiring.report_for(400)
    await box_house.call("button", "press", "restart")
    er.async_get(box_house.hass).async_remove(SWITCH)
    await wiring.report_for(100)
    assert (wiring.calls, box_house.issues()) == (["off"], {"link_broken", "power_off"})
    await wiring.begin()
    await wiring.report_for(60)
    assert (wiring.calls, box_house.sims[FIRST].powered) == (["off", "on"], True), "it has the same registry id"
    assert box_house.issues() == set()
    await wiring.report_for(700)
    er.async_get(box_house.hass).async_remove(SWITCH)
    await wiring.report_for(20)
    with pytest.raises(HomeAssistantError) as refused:
        await box_house.call("button", "press", "restart")
    assert refused.value.translation_key == "linked_unavailable"
    await box_house.hass.config_entries.async_remove(box_house.entry.entry_id)
    assert wiring.calls == ["off", "on"]


async def test_switch_on_repeated_until_its_state_shows(box_house: BoxHouse) -> None:
    wiring = await wired(box_house, meter=False, details=NIGHT)
    await box_house.pass_time(400)
    await box_house.call("button", "press", "restart")
    wiring.works, wiring.state_follows = False, False
    await box_house.pass_time(31)
    assert wiring.calls.count("on") >= 2
    box_house.hass.states.async_set(SWITCH, "on")
    await box_house.pass_time(10)
    assert wiring.cycle is not None
    assert wiring.cycle.on
    calls = list(wiring.calls)
    await box_house.hass.config_entries.async_set_disabled_by(box_house.entry.entry_id, ConfigEntryDisabler.USER)
    assert wiring.calls == calls, "it is on already"


async def test_override_of_a_learning_box_raises_a_repair_until_a_power_cycle(box_house: BoxHouse) -> None:
    sim = box_house.power_up(plugged=False)
    sim._online_until = box_house.clock.monotonic() + 10_000  # paused by somebody else
    sim.plug_in()
    await box_house.add(**NIGHT)
    await box_house.pass_time(31)
    assert (box_house.box().mode, box_house.value("status")) == (Mode.LEARNING, "waiting_schedule")
    await box_house.call("switch", "turn_on", "tou_override")
    assert box_house.issues() == {"override_by_hand"}
    sim.switch_off()
    await box_house.pass_time(20)
    sim.switch_on()
    await box_house.pass_time(120)
    assert (box_house.issues(), sim.amperes) == (set(), 16)
    assert box_house.state("switch", "tou_override").attributes["applied"] is True


async def test_zero_offline_current_raises_no_repair_to_cycle_power_by_hand(box_house: BoxHouse) -> None:
    box_house.power_up(stored=0)
    await box_house.add(**NIGHT)
    await box_house.pass_time(430)
    await box_house.call("switch", "turn_on", "tou_override")
    assert box_house.issues() == {"stored_zero"}


@pytest.mark.parametrize("stored", [None, [], {}, {"switch": 1}, {"switch": "x", "began_at": "yesterday"}])
def test_damaged_power_cycle_record_restored_as_none(stored: object) -> None:
    assert Cycle.restored(stored) is None


def test_power_cycle_record_restored() -> None:
    cycle = Cycle("x", datetime(2026, 6, 10, tzinfo=UTC), on=True, spent=False)
    assert Cycle.restored(cycle.export()) == cycle
    assert Cycle.restored({"switch": "x", "began_at": cycle.began_at.isoformat()}) == Cycle("x", cycle.began_at)
