"""A commanded value shows only at the entity that was commanded, marked until the charger reports."""

from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
import pytest

from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.core.model import (
    CAR_CONNECTED,
    CHARGING_CURRENT,
    ECO_MODE,
    LOCKED,
    STATUS,
    EcoMode,
    Property,
    Status,
)
from custom_components.chargekeeper.core.transport import EFFECT_SHOWS_AFTER
from tests.integration.fakes import move_in

REPORTED: dict[Property[object], object] = {
    STATUS: Status.CHARGING,
    CAR_CONNECTED: True,
    CHARGING_CURRENT: 16.0,
    LOCKED: False,
    ECO_MODE: EcoMode.OFF,
}


@pytest.mark.parametrize(
    ("platform", "key", "action", "data", "before", "after", "effect"),
    [
        ("number", "charging_current", "set_value", {"value": 10}, "16.0", "10.0", {CHARGING_CURRENT: 10.0}),
        ("switch", "charging", "turn_off", {}, "on", "off", {STATUS: Status.PAUSED}),
        ("lock", "lock", "lock", {}, "unlocked", "locked", {LOCKED: True}),
        ("select", "eco_mode", "select_option", {"option": "eco"}, "off", "eco", {ECO_MODE: EcoMode.ECO}),
    ],
)
async def test_commanded_value_marked_until_the_charger_reports_it(
    hass: HomeAssistant,
    platform: str,
    key: str,
    action: str,
    data: dict[str, object],
    before: str,
    after: str,
    effect: dict[Property[object], object],
) -> None:
    """The mark goes with the charger's report; without one, the last reported value is back after 10 minutes."""
    house = await move_in(hass, REPORTED)
    state = house.state(platform, key)
    assert (state.state, "confirmed" in state.attributes) == (before, False)
    for report in (True, False):
        await house.call(platform, action, state, **data)
        state = house.state(platform, key)
        assert (state.state, state.attributes["confirmed"]) == (after, False)
        assert house.state("sensor", "status").state == "charging"
        if report:
            await house.pass_time(30)
            await house.show(effect)
            await house.settle()
            state = house.state(platform, key)
            assert (state.state, "confirmed" in state.attributes) == (after, False)
            await house.show({prop: REPORTED[prop] for prop in effect})
            await house.settle()
    await house.pass_time(600)
    state = house.state(platform, key)
    assert (state.state, "confirmed" in state.attributes) == (before, False)


async def test_charger_that_ignores_commands_raises_an_issue(hass: HomeAssistant) -> None:
    """The second refuted command within a day; each is an event that names the command."""
    house = await move_in(hass, REPORTED)
    for value in (10, 12):
        await house.call("number", "set_value", house.state("number", "charging_current"), value=value)
        await house.pass_time(EFFECT_SHOWS_AFTER)
        await house.show(REPORTED)
        await house.settle()
        state = house.state("event", "connection")
        assert (state.attributes["event_type"], state.attributes["command"]) == ("command_failed", "current")
    issues = [issue.translation_key for issue in ir.async_get(hass).issues.values() if issue.domain == DOMAIN]
    assert issues == ["commands_ignored"]
