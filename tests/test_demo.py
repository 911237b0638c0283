"""The parts of the demo that need no browser: the control page, and the configuration of Home Assistant."""

from collections.abc import AsyncIterator
import json
from pathlib import Path
import re
import socket
from typing import Any

from aiohttp import ClientSession
import pytest

from tests.simulators.clock import VirtualClock
from tests.simulators.demo.__main__ import arguments, as_entered, taken_port
from tests.simulators.demo.boxes import BOX_ACTIONS, MAKER, MAKER_ACTIONS
from tests.simulators.demo.control import ACTIONS, CLOUD, LOCAL_ACTIONS, Control
from tests.simulators.demo.home_assistant import HOST, INTEGRATION, HomeAssistant
from tests.simulators.juicebox_server import Day, Schedule, Site, Unit, demo_site
from tests.simulators.wallbox_cloud import Fault, WallboxCloud
from tests.simulators.world import SimulatedCharger, State, World, demo_world

ROOT = Path(__file__).resolve().parents[1]
EMAIL, PASSWORD = "demo@example.com", "secret-of-the-demo"


class Bench:
    """A simulated world with its control page, and a client that presses the buttons."""

    def __init__(self, clock: VirtualClock, cloud: WallboxCloud, site: Site, session: ClientSession, url: str) -> None:
        self.clock = clock
        self.cloud = cloud
        self.site = site
        self._session = session
        self._url = url

    @property
    def world(self) -> World:
        return self.cloud.world

    def charger(self, name: str) -> SimulatedCharger:
        return next(charger for charger in self.world.chargers.values() if charger.name == name)

    async def press(self, path: str) -> tuple[int, str]:
        async with self._session.post(self._url + path) as response:
            return response.status, await response.text()

    async def command(self, what: str, value: object = None, serial: str = "700102") -> int:
        """Command a charger locally; return the HTTP status."""
        async with self._session.post(f"{self._url}/local/{serial}/{what}", json={"value": value}) as response:
            return response.status

    async def local(self, serial: str = "700102") -> dict[str, object]:
        """Return a charger as the local integration sees it."""
        found: dict[str, object] = json.loads(await self.read("/local"))[serial]
        return found

    async def boxes(self) -> dict[str, Any]:
        """Return the state that the page gets: boxes by name, and their circuit."""
        found: dict[str, Any] = json.loads(await self.read("/state"))
        return found | {box["key"]: box for box in found["boxes"]}

    async def read(self, path: str) -> str:
        async with self._session.get(self._url + path) as response:
            assert response.status == 200
            return await response.text()


@pytest.fixture
def home_assistant(tmp_path: Path) -> HomeAssistant:
    return HomeAssistant(tmp_path / "develop", 8123, 20.0, control_port=8124)


@pytest.fixture
async def bench(socket_enabled: None, home_assistant: HomeAssistant) -> AsyncIterator[Bench]:
    clock = VirtualClock()
    cloud = WallboxCloud(demo_world(clock), clock)
    site = demo_site(clock, (HOST, 9))
    control = Control(cloud, cloud.add_account(EMAIL, PASSWORD), site, home_assistant)
    await cloud.start()
    await site.server.start()
    for box in site.boxes.values():
        box.server = site.server.address
        box.start()
    url = await control.start(0)
    async with ClientSession() as session:
        yield Bench(clock, cloud, site, session, url)
    await control.stop()
    for box in site.boxes.values():
        box.stop()
    await site.server.stop()
    await cloud.stop()


@pytest.mark.parametrize(
    ("condition", "fault"),
    [
        ("up", Fault.NONE),
        ("down", Fault.REFUSE),
        ("hang", Fault.HANG),
        ("error-500", Fault.ERROR_500),
        ("busy", Fault.TOO_MANY),
        ("maintenance", Fault.HTML),
    ],
)
async def test_cloud_gets_fault_of_pressed_button(bench: Bench, condition: str, fault: Fault) -> None:
    status, _ = await bench.press(f"/cloud/{condition}")
    assert (status, bench.cloud.fault) == (200, fault)
    assert json.loads(await bench.read("/state"))["cloud"] == condition


async def test_heal_restores_changed_password(bench: Bench) -> None:
    await bench.press("/cloud/bad-password")
    assert bench.cloud.accounts[0].password != PASSWORD
    await bench.press("/heal")
    assert bench.cloud.accounts[0].password == PASSWORD


async def test_every_condition_and_action_has_address(bench: Bench) -> None:
    paths = [f"/cloud/{condition}" for condition in CLOUD] + [
        f"/chargers/carport/{action}" for action in ACTIONS | LOCAL_ACTIONS
    ]
    paths += [f"/maker/{condition}" for condition in MAKER]
    paths += [f"/boxes/workshop/{action}" for action in (*BOX_ACTIONS, *MAKER_ACTIONS)]
    assert [path for path in paths if (await bench.press(path))[0] != 200] == []


@pytest.mark.parametrize(
    "path",
    [
        "/cloud/nonsense",
        "/chargers/nonsense/plug-in",
        "/chargers/garage/nonsense",
        "/maker/nonsense",
        "/boxes/nonsense/plug-in",
        "/boxes/barn/nonsense",
    ],
)
async def test_wrong_address_answered_with_valid_names(bench: Bench, path: str) -> None:
    status, text = await bench.press(path)
    assert status == 404
    assert text.startswith("one of: ")


async def test_plug_in_and_unplug_buttons_change_charger_state(bench: Bench) -> None:
    await bench.press("/chargers/garage/plug-in")
    assert bench.charger("Garage").state is State.CHARGING
    await bench.press("/chargers/garage/unplug")
    assert bench.charger("Garage").state is State.FREE


async def test_schedule_window_buttons_start_and_stop_charging(bench: Bench) -> None:
    assert bench.charger("Driveway").state is State.WAITING_SCHEDULE
    await bench.press("/chargers/driveway/window-open")
    assert bench.charger("Driveway").state is State.CHARGING
    await bench.press("/chargers/driveway/window-closed")
    assert bench.charger("Driveway").state is State.WAITING_SCHEDULE


async def test_heal_brings_back_charger_lost_in_restart(bench: Bench) -> None:
    garage = bench.charger("Garage")
    await bench.press("/chargers/garage/restarts-fail")
    garage.restart()
    await bench.clock.advance(3600)
    bench.world.advance()
    assert garage.away
    await bench.press("/heal")
    await bench.clock.advance(1)
    bench.world.advance()
    assert garage.state is State.FREE
    assert garage.restart_plan.comes_back


async def test_charger_goes_offline_and_comes_back(bench: Bench) -> None:
    await bench.press("/chargers/carport/offline")
    assert bench.charger("Carport").shown_offline
    await bench.press("/chargers/carport/online")
    assert not bench.charger("Carport").shown_offline


async def test_charger_reached_locally_while_cloud_is_down(bench: Bench) -> None:
    await bench.press("/cloud/down")
    assert await bench.local() == {
        "name": "Driveway",
        "available": True,
        "status": "Waiting for schedule",
        "power": 0.0,
        "current": 0.0,
        "max_current": 32,
        "may_charge": False,
    }
    assert await bench.command("charging", value=True) == 200
    assert await bench.command("current", value=10) == 200
    shown = await bench.local()
    assert (shown["status"], shown["power"], shown["current"], shown["may_charge"]) == ("Charging", 6.9, 10.0, True)
    assert await bench.command("charging", value=False) == 200
    assert bench.charger("Driveway").state is State.PAUSED
    assert await bench.command("restart") == 200
    assert bench.charger("Driveway").restarts == 1
    chargers = json.loads(await bench.read("/state"))["chargers"]
    assert [charger["commands"] for charger in chargers] == [[], [], []], "nothing of it came over the cloud"


async def test_local_command_fails_when_refused_unknown_or_unreachable(bench: Bench) -> None:
    assert await bench.command("current", value=80) == 409
    bench.charger("Driveway").locked = True
    assert await bench.command("charging", value=True) == 409
    assert await bench.command("explode") == 404
    assert await bench.command("restart", serial="nonsense") == 404
    await bench.press("/chargers/driveway/local-lost")
    assert await bench.local() == {"name": "Driveway", "available": False}
    assert await bench.command("restart") == 503
    await bench.press("/heal")
    assert (await bench.local())["status"] == "Locked, car connected"


async def test_power_cycle_ends_override(bench: Bench) -> None:
    await bench.command("charging", value=True)
    assert bench.charger("Driveway").state is State.CHARGING
    await bench.press("/chargers/driveway/power-cycle")
    assert await bench.local() == {"name": "Driveway", "available": False}
    await bench.clock.advance(60)
    assert (await bench.local())["status"] == "Waiting for schedule"


async def test_box_falls_back_while_server_is_down_until_healed(bench: Bench) -> None:
    await bench.clock.advance(60)
    before = (await bench.boxes())["barn"]
    assert (before["amperes"], before["told"]["online"], before["served"]) == (16, 16, True)
    assert before["told"] == before["maker"]["told"]
    await bench.press("/maker/down")
    await bench.press("/boxes/barn/network-lost")
    await bench.clock.advance(400)
    shown = await bench.boxes()
    assert (shown["maker"], shown["barn"]["served"], shown["barn"]["fallbacks"]) == ("down", False, 1)
    assert shown["barn"]["amperes"] == shown["barn"]["stored"] == 20
    assert shown["circuit"] == {"limit": 40, "drawn": 40, "peak": 40, "seconds_above": 0}
    await bench.press("/heal")
    await bench.clock.advance(60)
    shown = await bench.boxes()
    assert (shown["maker"], shown["barn"]["amperes"], shown["workshop"]["amperes"]) == ("up", 16, 0)


async def test_box_follows_hours_and_car_set_by_owner(bench: Bench) -> None:
    await bench.clock.advance(60)
    await bench.press("/boxes/workshop/maker-always")
    await bench.clock.advance(60)
    assert (await bench.boxes())["workshop"]["amperes"] == 16
    await bench.press("/boxes/workshop/maker-30")
    await bench.clock.advance(60)
    assert (await bench.boxes())["workshop"]["amperes"] == 30
    await bench.press("/boxes/workshop/maker-by-hours")
    await bench.press("/boxes/barn/maker-30")
    await bench.clock.advance(60)
    shown = (await bench.boxes())["workshop"]
    assert (shown["amperes"], shown["stops"]) == (0, 1)
    await bench.press("/boxes/barn/unplug")
    shown = (await bench.boxes())["barn"]
    assert (shown["state"], shown["car"], shown["amperes"]) == ("unplugged", False, 0)
    await bench.press("/heal")
    await bench.press("/boxes/barn/plug-in")
    await bench.press("/boxes/barn/power-cycle")
    await bench.clock.advance(60)
    shown = (await bench.boxes())["barn"]
    assert (shown["state"], shown["car"], shown["amperes"]) == ("charging", True, 16)


def test_box_entered_with_hours_of_manufacturer() -> None:
    hours = Day(start=22 * 60, end=24 * 60)
    unit = Unit(serial="1", name="Barn", wire_rating=32, schedule=Schedule(custom=True, weekday=hours, weekend=hours))
    assert as_entered(unit) == {
        "name": "Barn",
        "wire_rating": 32,
        "in_maker_load_group": "no",
        "weekday_start": "22:00:00",
        "weekday_end": "00:00:00",
        "weekend_start": "22:00:00",
        "weekend_end": "00:00:00",
    }


async def test_entities_found_only_once_all_are_stored_on_disk(home_assistant: HomeAssistant) -> None:
    home_assistant.prepare()
    assert not await home_assistant.has_stored(["sensor.a"])
    stored = home_assistant.directory / ".storage" / "core.entity_registry"
    stored.write_text('["sensor.a"]', encoding="utf-8")
    assert await home_assistant.has_stored(["sensor.a"])
    assert not await home_assistant.has_stored(["sensor.a", "sensor.b"])


async def test_control_page_served(bench: Bench) -> None:
    assert "Break the world" in await bench.read("/")


def test_home_assistant_listens_on_the_loopback_interface_only(home_assistant: HomeAssistant) -> None:
    home_assistant.prepare()
    http = json.loads((home_assistant.directory / ".storage" / "http").read_text(encoding="utf-8"))
    assert http["data"]["stable"]["server_host"] == [HOST]
    assert http["data"]["yaml_migration_done"] is True


def test_home_assistant_runs_this_integration_after_the_clock_of_the_demo(home_assistant: HomeAssistant) -> None:
    home_assistant.prepare()
    copy = home_assistant.directory / "custom_components" / "chargekeeper"
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    original = json.loads((INTEGRATION / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["after_dependencies"] == [*original["after_dependencies"], "chargekeeper_demo"]
    assert manifest | {"after_dependencies": original["after_dependencies"]} == original
    linked = {item.name: item.resolve() for item in copy.iterdir() if item.name != "manifest.json"}
    assert linked == {name: INTEGRATION / name for name in linked}
    assert {"__init__.py", "config_flow.py", "core", "translations", "wallbox"} <= linked.keys()


def test_store_of_earlier_run_kept(home_assistant: HomeAssistant) -> None:
    home_assistant.prepare()
    onboarding = home_assistant.directory / ".storage" / "onboarding"
    onboarding.write_text("changed", encoding="utf-8")
    home_assistant.prepare()
    assert onboarding.read_text(encoding="utf-8") == "changed"


def test_port_in_use_detected(socket_enabled: None) -> None:
    with socket.create_server((HOST, 0)) as listener:
        taken = listener.getsockname()[1]
        assert taken_port((taken,)) == taken
    assert taken_port((taken,)) is None
    with socket.socket(type=socket.SOCK_DGRAM) as bound:
        bound.bind((HOST, 0))
        taken = bound.getsockname()[1]
        assert taken_port((), (taken,)) == taken
    assert taken_port((), (taken,)) is None


def test_contributor_guide_names_default_ports_and_speed() -> None:
    options = arguments([])
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert set(re.findall(r"http://localhost:(\d+)", guide)) == {str(options.port), str(options.control_port)}
    assert f"Time runs {options.factor:g} times as fast" in guide
    assert (options.port, options.control_port, options.cloud_port) == (8123, 8124, 8125)
    assert (options.box_port, options.maker_port) == (8042, 8126)
