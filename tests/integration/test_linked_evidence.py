"""Evidence of commands over linked entities: an echo or an assumed state proves nothing (docs/design.md, 0.1)."""

from homeassistant.config_entries import SOURCE_RECONFIGURE, SOURCE_USER
from homeassistant.core import Context
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import issue_registry as ir
import pytest

from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.core.model import CHARGING_CURRENT, Capability, Maker
from custom_components.chargekeeper.linked.echoes import ECHO

from .conftest import WAITING, House
from .local_entities import CurrentNumber
from .test_linked import Home


@pytest.fixture
async def home(house: House) -> Home:
    home = Home(house.hass, house.clock, house.world, house.cloud)
    await home.begin()
    return home


class Optimistic:
    """Values of a number that shows at once what it was told; no command reaches the charger."""

    def __init__(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        self.milliamperes = home.local.side.max_current * 1000.0

        async def set_value(entity: CurrentNumber, value: float) -> None:
            self.milliamperes = value
            entity.async_write_ha_state()

        monkeypatch.setattr(CurrentNumber, "native_value", property(lambda _: self.milliamperes))
        monkeypatch.setattr(CurrentNumber, "async_set_native_value", set_value)


def outcomes(home: Home) -> list[str]:
    """Return what became of the commands of the charger."""
    commands = home.shared_state.chargers[Maker.WALLBOX, WAITING].diagnostics()["commands"]
    assert isinstance(commands, list)
    return [each["outcome"] for each in commands]


def write(home: Home, link: str) -> None:
    """Let an entity report by itself, as long after the call as Home Assistant forgets the context of the call."""
    home.local.entities[link].async_set_context(Context())
    home.local.report(link)


def assume(home: Home, link: str) -> None:
    """Let an entity declare that its state is only assumed."""
    home.local.entities[link]._attr_assumed_state = True
    home.local.report(link)


async def set_current(home: Home, amps: int) -> None:
    await home.call("number", "set_value", "charging_current", WAITING, value=amps)


async def test_echo_of_a_number_verifies_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number claims no assumed state; only the context and the time of its state show that it is an echo."""
    await home.link_and_lose_cloud()
    await home.pass_time(60)
    before = home.from_link(CHARGING_CURRENT)
    assert before == home.world.charger(WAITING).max_charging_current
    Optimistic(home, monkeypatch)
    await set_current(home, 10)
    home.local.report("status", "power")
    await home.pass_time(180)
    assert "verified" not in outcomes(home)
    assert home.from_link(CHARGING_CURRENT) == before, "the last report"
    home.local.report("current_number")
    await home.pass_time(1)
    assert home.from_link(CHARGING_CURRENT) == before, "still in the context of the call"
    await home.pass_time(600)
    assert outcomes(home)[-1] == "unverified"


async def test_own_report_of_a_commanded_number_verifies_the_command(home: Home) -> None:
    await home.link_and_lose_cloud()
    await home.pass_time(60)
    await set_current(home, 10)
    await home.pass_time(ECHO / 2)
    write(home, "current_number")
    await home.pass_time(1)
    assert "verified" not in outcomes(home), "the state may be an echo yet"
    await home.pass_time(ECHO)
    write(home, "current_number")
    await home.pass_time(1)
    assert (outcomes(home)[-1], home.from_link(CHARGING_CURRENT)) == ("verified", 10)


@pytest.mark.parametrize("link", ["current_number", "charge_switch"])
async def test_assumed_state_is_no_reading(home: Home, link: str) -> None:
    await home.link_and_lose_cloud("current_number", "charge_switch", "status")
    await home.pass_time(60)
    assume(home, link)
    home.local.report()
    await home.pass_time(1)
    number = link == "current_number"
    assert home.transport.proves(Capability.CURRENT) is not number
    assert (home.from_link(CHARGING_CURRENT) is None) is number
    assert home.transport.proves(Capability.CHARGING), "the status shows it"


async def test_assumed_number_is_unverified_and_raises_no_repair(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    await home.link_and_lose_cloud()
    await home.pass_time(60)
    assume(home, "current_number")
    Optimistic(home, monkeypatch)
    for amps in (10, 12):
        await set_current(home, amps)
        for _ in range(12):
            home.local.report()
            await home.pass_time(60)
        assert outcomes(home)[-1] == "unverified"
    assert not any("commands_ignored" in issue for domain, issue in ir.async_get(home.hass).issues if domain == DOMAIN)


async def test_number_that_writes_its_value_at_once_is_verified_by_later_polls(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Home Assistant reports an unchanged state with the old state object, and so with the context of our call."""
    await home.link_and_lose_cloud()
    await home.pass_time(60)
    take = CurrentNumber.async_set_native_value

    async def take_and_write(self: CurrentNumber, value: float) -> None:
        await take(self, value)
        self.async_write_ha_state()

    monkeypatch.setattr(CurrentNumber, "async_set_native_value", take_and_write)
    await set_current(home, 10)
    for _ in range(5):
        for entity in home.local.entities.values():
            entity._context = None
        home.local.report()
        await home.pass_time(60)
    assert home.from_link(CHARGING_CURRENT) == 10
    assert outcomes(home)[-1] == "verified"


async def test_press_of_a_linked_button_is_no_report(home: Home) -> None:
    """A button shows the time of our own call."""
    await home.link("status", "restart_button")
    await home.pass_time(60)
    reported_at = home.transport.charger_reported_at
    button = home.local.entry("restart_button").entity_id
    await home.hass.services.async_call("button", "press", {"entity_id": button}, blocking=True)
    await home.pass_time(1)
    assert home.transport.charger_reported_at == reported_at


async def test_assumed_entities_are_named_once_when_they_are_linked(home: Home) -> None:
    assume(home, "current_number")
    flow = home.hass.config_entries.subentries
    form = await flow.async_init((home.entry.entry_id, "linked"), context={"source": SOURCE_USER})
    chosen = home.local.chosen("status", "current_number", "charge_switch")
    warning = await flow.async_configure(form["flow_id"], {"charger": WAITING, **chosen})
    assert (warning["type"], warning["step_id"]) == (FlowResultType.FORM, "unproving")
    assert warning["description_placeholders"] == {"entities": chosen["current_number"]}
    done = await flow.async_configure(warning["flow_id"], {})
    assert done["type"] is FlowResultType.CREATE_ENTRY
    await home.hass.async_block_till_done()
    [subentry] = (each for each in home.entry.subentries.values() if each.subentry_type == "linked")
    form = await flow.async_init(
        (home.entry.entry_id, "linked"),
        context={"source": SOURCE_RECONFIGURE, "subentry_id": subentry.subentry_id},
    )
    done = await flow.async_configure(form["flow_id"], chosen)
    assert done["reason"] == "reconfigure_successful"
