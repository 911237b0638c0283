"""Commands to a box: impossible commands are refused with a reason, and only confirmed values are shown."""

from collections.abc import Mapping
from typing import Any

from homeassistant.const import STATE_UNKNOWN
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
import pytest

from tests.simulators.juicebox import JuiceBox
from tests.simulators.juicebox_server import Day, Schedule

from .boxes import FIRST, NIGHT, SECOND, BoxHouse
from .test_juicebox import read_only, with_server, without_server


async def refusal(house: BoxHouse, domain: str, service: str, key: str, **data: object) -> str | None:
    """Return the reason why an action on an entity of the first box is refused."""
    with pytest.raises(HomeAssistantError) as refused:
        await house.call(domain, service, key, **data)
    return refused.value.translation_key


async def test_current_ignored_by_the_box_not_shown_as_set(box_house: BoxHouse) -> None:
    sim = await without_server(box_house)
    sim.obeys = False
    await box_house.call("number", "set_value", "charging_current", value=10)
    await box_house.pass_time(200)
    assert sim.amperes == 16
    assert box_house.state("number", "charging_current").state == "16.0"
    assert (box_house.value("effective_limit"), box_house.issues()) == ("16.0", {"ignores_commands"})
    charger = box_house.shared_state.chargers["juicebox", FIRST]  # type: ignore[index]
    assert {each["outcome"] for each in charger.diagnostics()["commands"]} == {"accepted", "failed"}  # type: ignore[attr-defined]
    sim.obeys = True
    await box_house.pass_time(62)
    assert (box_house.state("number", "charging_current").state, sim.amperes) == ("10.0", 10)


async def test_pause_and_start_refused_without_a_car(box_house: BoxHouse) -> None:
    sim = box_house.power_up(plugged=False)
    await without_server(box_house)
    await box_house.pass_time(62)
    for service in ("turn_off", "turn_on"):
        assert await refusal(box_house, "switch", service, "charging") == "no_car"
    sim.plug_in()
    await box_house.pass_time(31)
    assert (box_house.value("status"), sim.amperes) == ("charging", 16)


async def test_start_refused_while_the_schedule_of_the_server_forbids_charging(box_house: BoxHouse) -> None:
    """The window that the user entered for the time without a server is open."""
    night = Day(start=22 * 60, end=23 * 60)
    box_house.units[0].schedule = Schedule(custom=True, weekday=night, weekend=night)
    await with_server(box_house, weekday_start="02:00:00", weekday_end="12:00:00")
    assert box_house.value("status") == "waiting_schedule"
    assert await refusal(box_house, "switch", "turn_on", "charging") == "wrong_state_schedule"


async def test_lower_current_of_the_server_not_taken_for_the_offline_current(box_house: BoxHouse) -> None:
    sim = await with_server(box_house)
    box_house.units[0].limit = 12
    await box_house.call("number", "set_value", "charging_current", value=15)
    await box_house.pass_time(62)
    assert sim.amperes == 12
    assert (box_house.value("effective_limit"), box_house.value("limiting_factor")) == ("12.0", "charging_current")


@pytest.mark.parametrize(
    ("silent", "seconds", "first"),
    [
        (False, 150, 16),
        (True, 150, 0),  # no user waits for this start: the minimum time since the pause is kept
        (True, 330, 16),
    ],
)
async def test_override_ends_an_earlier_pause(box_house: BoxHouse, silent: bool, seconds: float, first: int) -> None:
    sim = await without_server(box_house, **NIGHT)
    await box_house.pass_time(31)
    await box_house.call("switch", "turn_on", "tou_override")
    await box_house.pass_time(31)
    await box_house.call("switch", "turn_off", "charging")
    await box_house.pass_time(31)
    assert (box_house.value("status"), box_house.state("switch", "tou_override").state) == ("paused", "off")
    sim.wifi = not silent
    await box_house.pass_time(seconds)
    await box_house.call("switch", "turn_on", "tou_override")
    obeyed = len(sim.commands)
    sim.wifi = True
    await box_house.pass_time(92)
    assert (box_house.value("status"), sim.amperes) == ("charging", 16)
    assert list(sim.commands)[obeyed].command.online == first
    assert box_house.state("switch", "tou_override").attributes["applied"] is True
    assert box_house.issues() == set()


async def test_one_box_charges_when_the_load_group_has_room_for_one(box_house: BoxHouse) -> None:
    await box_house.add()
    box_house.power_up(SECOND)
    await box_house.pass_time(62)
    [offer] = box_house.offers()
    await box_house.submit(offer, {"name": "Yard", "wire_rating": 32, "in_maker_load_group": "no"})
    await box_house.pass_time(400)
    await box_house.add_group(8, FIRST, SECOND)
    await box_house.pass_time(900)
    assert [box_house.sims[serial].amperes for serial in (FIRST, SECOND)] == [8, 0]
    with pytest.raises(ServiceValidationError) as refused:
        await box_house.hass.services.async_call(
            "switch", "turn_on", {"entity_id": box_house.entity_id("switch", "charging", SECOND)}, blocking=True
        )
    assert refused.value.translation_key == "no_group_share"


async def test_restart_unavailable_without_a_link(box_house: BoxHouse) -> None:
    await without_server(box_house)
    assert box_house.value("restart_availability") == "needs_link"
    box_house.sims[FIRST].wifi = False
    await box_house.pass_time(150)
    assert box_house.value("restart_availability") == "needs_link"


async def test_box_silent_since_the_start_reported_offline_only_later(box_house: BoxHouse) -> None:
    sim = await without_server(box_house)
    await box_house.hass.config_entries.async_unload(box_house.entry.entry_id)
    sim.wifi = False
    await box_house.pass_time(120)
    await box_house.hass.config_entries.async_setup(box_house.entry.entry_id)
    await box_house.pass_time(20)
    assert await refusal(box_house, "number", "set_value", "charging_current", value=10) == "not_heard"
    await box_house.pass_time(120)
    assert await refusal(box_house, "number", "set_value", "charging_current", value=10) == "charger_offline"


async def change_stored(house: BoxHouse, amps: int) -> Mapping[str, Any]:
    """Change the offline current through the flow and return the result."""
    form = await house.submit_subentry(await house.begin_subentry(FIRST), {"next_step_id": "offline_current"})
    result: Mapping[str, Any] = await house.submit_subentry(form, {"amps": amps, "accept": True})
    return result


async def test_offline_current_of_a_silent_box_not_changed(box_house: BoxHouse) -> None:
    """A box that starts forgets the pending change."""
    sim = await without_server(box_house)
    sim.switch_off()
    await box_house.pass_time(130)
    assert (await change_stored(box_house, 10))["errors"] == {"base": "charger_offline"}


async def test_offline_current_ignored_by_the_box_not_shown_as_stored(box_house: BoxHouse) -> None:
    sim = await without_server(box_house)
    sim.obeys = False
    assert (await change_stored(box_house, 10))["reason"] == "offline_current_set"
    await box_house.pass_time(124)
    assert (box_house.value("offline_current"), sim.stored, sim.writes) == ("16.0", 16, 0)
    await box_house.call("number", "set_value", "charging_current", value=8)
    await box_house.pass_time(124)
    assert box_house.issues() == {"ignores_commands"}
    assert (await change_stored(box_house, 10))["errors"] == {"base": "ignored"}
    sim.obeys = True
    await box_house.pass_time(62)
    assert (await change_stored(box_house, 10))["reason"] == "offline_current_set"
    await box_house.pass_time(124)
    assert (box_house.value("offline_current"), sim.stored, sim.writes) == ("10.0", 10, 1)


async def test_server_health_unknown_while_the_box_is_silent(box_house: BoxHouse) -> None:
    sim = await with_server(box_house)
    assert box_house.state("binary_sensor", "cloud").state == "on"
    sim.switch_off()
    await box_house.pass_time(150)
    assert (box_house.state("binary_sensor", "cloud").state, box_house.value("status")) == (STATE_UNKNOWN, "offline")
    sim.switch_on()
    await box_house.pass_time(62)
    assert box_house.state("binary_sensor", "cloud").state == "on"
    assert box_house.state("event", "connection").state == STATE_UNKNOWN, "nothing was taken over, or handed back"


@pytest.mark.parametrize("starts_anew", [False, True])
async def test_box_that_stops_obeying_not_shown_at_its_lower_current(box_house: BoxHouse, starts_anew: bool) -> None:
    sim = await without_server(box_house)
    await box_house.call("number", "set_value", "charging_current", value=10)
    await box_house.pass_time(62)
    assert (box_house.state("number", "charging_current").state, sim.amperes) == ("10.0", 10)
    sim.obeys = False
    if starts_anew:
        sim.switch_off()
        await box_house.pass_time(30)
        sim.switch_on()
    await box_house.pass_time(900)
    assert sim.amperes == 16
    assert box_house.state("number", "charging_current").state == "16.0"
    assert (box_house.value("effective_limit"), box_house.issues()) == ("16.0", {"ignores_commands"})


async def test_pause_ends_while_the_server_commands_more_than_the_wire_rating(box_house: BoxHouse) -> None:
    sim = await unsafe_server(box_house)
    await box_house.call("switch", "turn_off", "charging")
    await box_house.pass_time(62)
    assert (sim.amperes, box_house.value("status")) == (0, "paused")
    await box_house.call("switch", "turn_on", "charging")
    await box_house.pass_time(62)
    assert (sim.amperes, box_house.value("status"), box_house.issues()) == (16, "charging", {"unsafe_server"})


async def test_current_raised_while_the_server_commands_more_than_the_wire_rating(box_house: BoxHouse) -> None:
    sim = await unsafe_server(box_house)
    for amperes in (8, 14):
        await box_house.call("number", "set_value", "charging_current", value=amperes)
        await box_house.pass_time(62)
        assert (sim.amperes, box_house.value("effective_limit")) == (amperes, f"{amperes}.0")


async def unsafe_server(box_house: BoxHouse) -> JuiceBox:
    """Return the first box at 16 A, whose server commands 40 A, 8 A above the wire rating."""
    sim = await with_server(box_house)
    await box_house.pass_time(62)
    box_house.units[0].wire_rating = 40
    await box_house.pass_time(62)
    assert (sim.amperes, box_house.issues()) == (16, {"unsafe_server"})
    return sim


async def test_pause_ended_by_read_only_does_not_return(box_house: BoxHouse) -> None:
    sim = await with_server(box_house)
    await box_house.call("switch", "turn_off", "charging")
    await box_house.pass_time(62)
    assert (sim.amperes, box_house.value("status")) == (0, "paused")
    await read_only(box_house)
    await box_house.pass_time(600)
    assert sim.amperes == 16
    await read_only(box_house, on=False)
    await box_house.pass_time(600)
    assert (sim.amperes, box_house.value("status")) == (16, "charging")


async def two_with_hours(box_house: BoxHouse, hours: Mapping[str, str]) -> list[JuiceBox]:
    """Return two boxes with this window, of which a load group lets one charge."""
    await box_house.add(**hours)
    box_house.power_up(SECOND)
    await box_house.pass_time(62)
    [offer] = box_house.offers()
    await box_house.submit(offer, {"name": "Yard", "wire_rating": 32, "in_maker_load_group": "no", **hours})
    await box_house.pass_time(800)
    await box_house.add_group(8, FIRST, SECOND)
    await box_house.pass_time(900)
    return [box_house.sims[serial] for serial in (FIRST, SECOND)]


async def test_load_group_pause_ends_within_the_window_of_the_box(box_house: BoxHouse) -> None:
    first, second = await two_with_hours(box_house, {"weekday_start": "02:00:00", "weekday_end": "20:00:00"})
    assert (first.amperes, second.amperes) == (8, 0)
    first.unplug()
    await box_house.pass_time(1800)
    assert (first.amperes, second.amperes, box_house.value("status", SECOND)) == (0, 8, "charging")


async def test_load_group_pause_outside_the_window_ends_when_the_window_opens(box_house: BoxHouse) -> None:
    first, second = await two_with_hours(box_house, {"weekday_start": "05:00:00", "weekday_end": "20:00:00"})
    assert (first.amperes, second.amperes) == (0, 0), "it is half past four"
    first.unplug()
    await box_house.pass_time(3600)
    assert (first.amperes, second.amperes) == (0, 8)


async def test_box_that_stops_obeying_its_load_group_counts_with_its_real_current(box_house: BoxHouse) -> None:
    sim = await without_server(box_house)
    await box_house.add_group(10, FIRST)
    await box_house.pass_time(200)
    [group] = box_house.shared_state.groups.values()
    assert (sim.amperes, group.view.headroom) == (10, 0)
    sim.obeys = False
    await box_house.pass_time(900)
    assert (sim.amperes, group.view.headroom) == (16, -6)
