"""An installation of before the renames of December 2026 loads unchanged.

`tests/fixtures/before_the_renames` is the storage of a Home Assistant that ran the tree of November 2026: a Wallbox
account with an override that disabled a schedule, two JuiceBoxes, and a load group of both.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
import json
from pathlib import Path

from homeassistant.config_entries import ConfigEntryState
from homeassistant.helpers import entity_registry as er
import pytest

from custom_components.chargekeeper.const import DOMAIN
from tests.simulation.clocks import RunClock
from tests.simulators.clock import VirtualClock
from tests.simulators.wallbox_cloud import WallboxCloud
from tests.simulators.world import World

from .boxes import FIRST, SECOND, BoxHouse
from .conftest import WAITING, OwnHouse
from .machine import Machine, files

FIXTURE = Path(__file__).parents[1] / "fixtures" / "before_the_renames"
STOPPED_AT = 3800.0
"""Seconds after the beginning of a test at which the earlier Home Assistant had stopped."""


def before() -> dict[str, str]:
    """Return the entity ids of the earlier installation by unique id."""
    registry = json.loads((FIXTURE / "core.entity_registry").read_text(encoding="utf-8"))
    return {each["unique_id"]: each["entity_id"] for each in registry["data"]["entities"]}


@pytest.fixture
async def earlier(
    tmp_path: Path, virtual_clock: VirtualClock, world: World, cloud: WallboxCloud
) -> AsyncIterator[tuple[OwnHouse, BoxHouse]]:
    """Yield Home Assistant, started by the present code from the earlier storage."""
    night = world.charger(WAITING).schedules[0]
    world.charger(WAITING).schedules = (replace(night, enabled=False),)
    await virtual_clock.advance(STOPPED_AT)
    machine = Machine(tmp_path)
    run_clock = RunClock(virtual_clock, ahead=0.0)
    boxes = BoxHouse(machine._hass, virtual_clock)  # type: ignore[arg-type]  # it is started below
    await boxes.maker.start()
    ports = ",".join(map(str, boxes.ports))
    places = {"@CLOUD@": cloud.url, "@PORTS@": ports, "@SERVER_PORT@": str(boxes.maker.address[1])}
    storage = machine.disk / ".storage"
    storage.mkdir()
    for source in FIXTURE.iterdir():
        text = source.read_text(encoding="utf-8")
        for place, value in places.items():
            text = text.replace(place, value)
        (storage / source.name).write_text(text, encoding="utf-8")
    hass = await machine.boot(run_clock)
    boxes.hass = hass
    house = OwnHouse(hass, virtual_clock, world, cloud, machine, run_clock)
    yield house, boxes
    await machine.shut_down()
    for sim in boxes.sims.values():
        sim.stop()
    await boxes.maker.stop()


@pytest.fixture
def expected_lingering_timers() -> bool:
    """Return True: Home Assistant leaves timers of its own when it is stopped."""
    return True


async def test_earlier_installation_keeps_entries_entities_and_values(earlier: tuple[OwnHouse, BoxHouse]) -> None:
    house, boxes = earlier
    entries = house.hass.config_entries.async_entries(DOMAIN)
    assert sorted(entry.data["kind"] for entry in entries) == ["juicebox", "load_group", "wallbox_account"]
    assert {entry.state for entry in entries} == {ConfigEntryState.LOADED}
    registry = er.async_get(house.hass)
    assert {each.unique_id: each.entity_id for each in registry.entities.values()} == before()
    assert house.state("switch", "tou_override", WAITING).state == "on"
    assert house.state("sensor", "wire_rating", WAITING).state == "32.0"
    assert [boxes.value("offline_current", serial) for serial in (FIRST, SECOND)] == ["16.0", "16.0"]
    assert [boxes.value("wire_rating", serial) for serial in (FIRST, SECOND)] == ["32.0", "20.0"]


async def test_override_of_earlier_installation_restores_its_schedule(earlier: tuple[OwnHouse, BoxHouse]) -> None:
    house, _ = earlier
    await house.settle_in()
    [window] = house.world.charger(WAITING).schedules
    assert not window.enabled, "the override goes on"
    await house.call("switch", "turn_off", "tou_override", WAITING)
    await house.pass_time(600)
    [window] = house.world.charger(WAITING).schedules
    assert window.enabled


async def test_boxes_of_earlier_installation_are_commanded_within_their_shares(
    earlier: tuple[OwnHouse, BoxHouse],
) -> None:
    _, boxes = earlier
    sims = [boxes.power_up(serial) for serial in (FIRST, SECOND)]
    await boxes.pass_time(600)
    assert [sim.commands[-1].command.online for sim in sims] == [20, 20], "the server allows 32 A, the share is 20 A"
    assert [sim.amperes for sim in sims] == [16, 16], "no more than is stored in them"
    assert boxes.issues() == {"unsafe_server"}, "it allows 32 A to a box on a wire of 20 A"


async def test_files_of_earlier_installation_keep_their_names(earlier: tuple[OwnHouse, BoxHouse]) -> None:
    house, boxes = earlier
    boxes.power_up(FIRST)
    await house.settle_in()
    await house.restart()
    boxes.hass = house.hass
    expected = {source.name.split(".", 1)[1] for source in FIXTURE.iterdir() if source.name.startswith(DOMAIN)}
    assert set(files(house.machine.disk)) >= expected
    assert not [name for name in files(house.machine.disk) if "aside" in name], "nothing was put aside"
