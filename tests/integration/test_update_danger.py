"""A remembered firmware update: no restart until its end shows or the user confirms it in a repair."""

from http import HTTPStatus
from typing import Any

from aiohttp.test_utils import TestClient
from homeassistant.exceptions import ServiceValidationError
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator, WebSocketGenerator

from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.coordinator import chargers_runtime
from tests.simulators.world import SimulatedCharger

from .conftest import FREE, WAITING, House, OwnHouse
from .local_entities import StatusSensor
from .test_linked import Home

ISSUE = f"update_doubted_{WAITING}"


@pytest.fixture
async def home(house: House, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Return a house whose linked status never shows an update."""
    home = Home(house.hass, house.clock, house.world, house.cloud)
    await home.begin()
    monkeypatch.setattr(StatusSensor, "native_value", "Ready")
    return home


async def update(home: Home) -> SimulatedCharger:
    """Start an update of two hours that the cloud shows and the linked entities do not; lose the cloud."""
    charger = home.world.charger(WAITING)
    charger.unplug()
    charger.firmware_latest, charger.update_takes = "6.7.50", 2 * 3600
    await home.link()
    charger.update_firmware()
    await home.pass_time(120)
    assert home.state("sensor", "restart_availability", WAITING).state == "updating"
    await home.lose_cloud()
    home.local.report()
    return charger


async def refusal(home: Home) -> ServiceValidationError:
    """Press restart and return the error of the refusal."""
    home.local.report()
    with pytest.raises(ServiceValidationError) as caught:
        await home.call("button", "press", "restart", WAITING)
    return caught.value


async def test_restart_refused_over_the_link_after_the_cloud_reported_an_update(home: Home) -> None:
    charger = await update(home)
    assert home.state("sensor", "connection_path", WAITING).state == "linked"
    assert home.state("sensor", "status", WAITING).state == "available"
    error = await refusal(home)
    assert error.translation_key == "restart_updating"
    assert error.translation_placeholders is not None
    assert error.translation_placeholders["transport"] == "the cloud"
    assert str(error).startswith(
        "Driveway was not restarted: its firmware is being updated, as reported over the cloud."
    )
    assert charger.restarts == 0


@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")  # Home Assistant's own HTTP server
async def test_restart_allowed_after_the_user_confirms_the_end_of_the_update(
    home: Home, hass_client: ClientSessionGenerator, hass_ws_client: WebSocketGenerator
) -> None:
    charger = await update(home)
    await home.report_for(3 * 3600 + 60, every=300)
    assert "update_doubted" in home.issues()
    assert home.state("sensor", "restart_availability", WAITING).state == "status_unknown"
    error = await refusal(home)
    assert error.translation_key == "restart_update_doubted"
    assert "reported over the cloud, but not its end" in str(error)
    hass = home.hass
    set.remove(hass.config.components, "http")  # until now it only counted as set up
    assert await async_setup_component(hass, "repairs", {})
    websocket, client = await hass_ws_client(hass), await hass_client()
    await websocket.send_json_auto_id({"type": "repairs/list_issues"})
    [issue] = [each for each in (await websocket.receive_json())["result"]["issues"] if each["issue_id"] == ISSUE]
    assert (issue["is_fixable"], issue["translation_placeholders"]) == (True, {"charger": "Driveway"})
    form = await post(client, "", {"handler": DOMAIN, "issue_id": ISSUE})
    assert (form["type"], form["step_id"]) == ("form", "confirm")
    assert form["description_placeholders"] == {"charger": "Driveway"}
    assert await hass.config_entries.async_unload(home.entry.entry_id)
    aborted = await post(client, f"/{form['flow_id']}", {})
    assert (aborted["type"], aborted["reason"]) == ("abort", "not_loaded")
    assert "update_doubted" in home.issues(), "nothing was confirmed"
    assert await hass.config_entries.async_setup(home.entry.entry_id)
    form = await post(client, "", {"handler": DOMAIN, "issue_id": ISSUE})
    coordinators = chargers_runtime(home.entry).coordinators
    coordinator = coordinators.pop(WAITING)  # as if the charger were removed while the dialog is open
    aborted = await post(client, f"/{form['flow_id']}", {})
    assert (aborted["type"], aborted["reason"]) == ("abort", "not_loaded")
    coordinators[WAITING] = coordinator
    form = await post(client, "", {"handler": DOMAIN, "issue_id": ISSUE})
    done = await post(client, f"/{form['flow_id']}", {})
    assert done["type"] == "create_entry"
    assert "update_doubted" not in home.issues()
    home.local.report()
    assert home.state("sensor", "restart_availability", WAITING).state == "available"
    await home.call("button", "press", "restart", WAITING)
    assert charger.restarts == 1
    assert not charger.bricked


async def post(client: TestClient[Any, Any], path: str, data: dict[str, str]) -> dict[str, Any]:
    """Send a request to Home Assistant's fix flows and return the answer."""
    response = await client.post(f"/api/repairs/issues/fix{path}", json=data)
    assert response.status == HTTPStatus.OK, await response.text()
    answer: dict[str, Any] = await response.json()
    return answer


async def test_update_remembered_after_a_power_cut_while_the_charger_is_offline(
    own_house: OwnHouse,
) -> None:
    await own_house.add_account()
    await own_house.settle_in()
    charger = own_house.world.charger(FREE)
    charger.firmware_latest, charger.update_takes = "6.7.50", 2 * 3600
    charger.update_firmware()
    await own_house.pass_time(120)
    charger.cloud_shows_offline, charger.cloud_link = True, False
    await own_house.pass_time(180)
    assert own_house.state("sensor", "status").state == "offline"
    await own_house.lose_power()
    await own_house.start()
    await own_house.pass_time(180)
    assert own_house.state("sensor", "restart_availability").state == "offline"
    charger.cloud_shows_offline = False  # the cloud repeats its last status
    coordinator = own_house.entry.runtime_data.coordinators[FREE]
    [record] = coordinator.charger.diagnostics()["journal"]["updates"]  # type: ignore[index]
    assert (record["source"], record["dismissed"]) == ("cloud", False)
    charger.cloud_link = True
    await own_house.pass_time(180)
    assert own_house.state("sensor", "restart_availability").state == "updating"
    await own_house.pass_time(2 * 3600)
    assert own_house.state("sensor", "restart_availability").state == "available"
    assert coordinator.charger.diagnostics()["journal"]["updates"] == []  # type: ignore[index]
