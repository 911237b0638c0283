"""Tests of the simulated JuiceNet API: the fields of docs/protocols/juicebox.md, and refusals.

The unmodified public client `python-juicenet` runs against the simulation where that client is installed.
"""

from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from typing import Any

from aiohttp import ClientSession
import pytest

from tests.simulators.clock import VirtualClock
from tests.simulators.juicebox import Car, JuiceBox
from tests.simulators.juicebox_server import BoxHub, Day, Group, Schedule, Unit
from tests.simulators.juicenet_cloud import FIELDS, JuiceNetCloud

SERIAL, SILENT = "0910000000000000000000000031", "0910000000000000000000000032"
ACCOUNT, OTHER_ACCOUNT = "aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"
NIGHT = Day(start=22 * 60, end=6 * 60)
SECONDS_OF_DAY = 86400


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def server(clock: VirtualClock, socket_enabled: None) -> AsyncIterator[BoxHub]:
    units = [
        Unit(serial=SERIAL, name="Garage", wire_rating=32, group="Yard"),
        Unit(serial=SILENT, name="Yard", group="Yard"),
    ]
    server = BoxHub(clock, units)
    server.groups["Yard"] = Group(maximum=40)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def box(server: BoxHub, clock: VirtualClock) -> AsyncIterator[JuiceBox]:
    box = JuiceBox(clock=clock, serial=SERIAL, server=server.address, unit_rating=40, stored=32)
    box.plug_in(Car(wants_kwh=100, max_amperes=40))
    box.start()
    await clock.settle()
    yield box
    box.stop()


@pytest.fixture
async def cloud(server: BoxHub) -> AsyncIterator[JuiceNetCloud]:
    cloud = JuiceNetCloud(server)
    cloud.add_account(ACCOUNT)
    cloud.add_account(OTHER_ACCOUNT, [SILENT])
    await cloud.start()
    yield cloud
    await cloud.stop()


@pytest.fixture
async def session(cloud: JuiceNetCloud) -> AsyncIterator[ClientSession]:
    async with ClientSession(cloud.url) as session:
        yield session


def body(cloud: JuiceNetCloud, cmd: str, **fields: Any) -> dict[str, Any]:
    account = {"cmd": cmd, "device_id": "client", "account_token": ACCOUNT}
    return account | ({} if cmd == "get_account_units" else {"token": cloud.token(SERIAL)}) | fields


async def ask(session: ClientSession, sent: dict[str, Any]) -> dict[str, Any]:
    path = "/box_pin" if sent.get("cmd") == "get_account_units" else "/box_api_secure"
    async with session.post(path, json=sent) as answer:
        assert answer.status == 200
        last_report: dict[str, Any] = await answer.json()
        return last_report


def fields_of(payload: Any, under: str = "") -> Iterator[str]:
    """Yield every object key in a payload, with the keys above it."""
    if isinstance(payload, dict):
        for key, value in payload.items():
            yield under + key
            yield from fields_of(value, f"{under}{key}.")
    elif isinstance(payload, list):
        for item in payload:
            yield from fields_of(item, under)


EXTRA = {
    "set_limit": {"amperage": 16},
    "set_override": {"override_time": 0, "energy_at_plugin": 0, "energy_to_add": 0},
}


async def test_cloud_sends_exactly_documented_fields(
    cloud: JuiceNetCloud, session: ClientSession, box: JuiceBox
) -> None:
    emitted = {
        cmd: set(fields_of(await ask(session, body(cloud, cmd, **EXTRA.get(cmd, {})))))
        for cmd in set(FIELDS) - {"refusal"}
    }
    emitted["refusal"] = set(fields_of(await ask(session, body(cloud, "get_state", token="wrong"))))
    assert emitted == {cmd: set(fields) for cmd, fields in FIELDS.items()}


@pytest.mark.parametrize(
    "sent",
    [
        {"cmd": "get_account_units", "account_token": "wrong"},
        {"cmd": "get_account_units", "device_id": None},
        {"cmd": "get_state", "account_token": "wrong"},
        {"cmd": "get_state", "device_id": ""},
        {"cmd": "get_state", "token": None},
        {"cmd": "get_state", "account_token": OTHER_ACCOUNT},
        {"cmd": "get_history"},
        {"cmd": "set_limit"},
        {"cmd": "set_limit", "amperage": "16"},
        {"cmd": "set_limit", "amperage": -1},
        {"cmd": "set_limit", "amperage": True},
        {"cmd": "set_override", "override_time": 0},
        {"cmd": "set_override", "override_time": 0, "energy_at_plugin": 0, "energy_to_add": None},
    ],
    ids=str,
)
async def test_invalid_request_is_refused_and_changes_nothing(
    cloud: JuiceNetCloud, session: ClientSession, server: BoxHub, sent: dict[str, Any]
) -> None:
    last_report = await ask(session, body(cloud, **sent))
    assert last_report["success"] is False
    assert set(last_report) == {"success", "error_message", "error_code"}
    assert (server.unit(SERIAL).limit, server.unit(SERIAL).override_time) == (None, 0)


@pytest.mark.parametrize("sent", ["", "[]", "{"])
@pytest.mark.parametrize("path", ["/box_pin", "/box_api_secure"])
async def test_malformed_request_body_gets_status_400(session: ClientSession, path: str, sent: str) -> None:
    async with session.post(path, data=sent) as answer:
        assert answer.status == 400


async def test_account_endpoint_refuses_unit_command(cloud: JuiceNetCloud, session: ClientSession) -> None:
    async with session.post("/box_pin", json=body(cloud, "get_state")) as answer:
        assert (await answer.json())["success"] is False


async def test_account_sees_only_its_own_units(cloud: JuiceNetCloud, session: ClientSession) -> None:
    last_report = await ask(session, body(cloud, "get_account_units", account_token=OTHER_ACCOUNT))
    assert [unit["unit_id"] for unit in last_report["units"]] == [SILENT]
    assert all(len(unit["token"]) == 32 for unit in last_report["units"])


async def test_state_shows_times_and_triggers_of_schedule_and_override(
    cloud: JuiceNetCloud, session: ClientSession, box: JuiceBox, server: BoxHub
) -> None:
    """Start on a Monday, 12:00 UTC, with a window that opens at 22:00."""
    now = int(cloud.now().timestamp())
    free = await ask(session, body(cloud, "get_state"))
    assert free["default_target_time"] == free["unit_time"] == free["utc_time"] == free["target_time"] == now
    assert (free["triggers_all"], free["triggers_blocking"], free["show_override"]) == (1, 0, False)
    server.unit(SERIAL).schedule = Schedule(custom=True, weekday=NIGHT, weekend=NIGHT)
    waiting = await ask(session, body(cloud, "get_state"))
    assert waiting["default_target_time"] == now + 10 * 3600
    assert (waiting["triggers_all"], waiting["triggers_blocking"], waiting["show_override"]) == (9, 1, True)
    server.unit(SERIAL).override_time = now + SECONDS_OF_DAY
    assert (await ask(session, body(cloud, "get_state")))["target_time"] == now + SECONDS_OF_DAY


async def test_charging_time_left_follows_energy_and_power(
    cloud: JuiceNetCloud, session: ClientSession, box: JuiceBox, clock: VirtualClock
) -> None:
    await clock.advance(1800)
    state = await ask(session, body(cloud, "get_state"))
    energy, power = state["charging"]["wh_energy"], state["charging"]["watt_power"]
    assert power == pytest.approx(240 * 20 * 0.996, abs=1), "its half of the group"
    assert state["charging_time_left"] == pytest.approx((60_000 - energy) / power * 3600, abs=5)


# The public client

FACT_SHEET_VERSION = "1.1.0"


@pytest.fixture
def api(cloud: JuiceNetCloud, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the public client's module, set to the URL of the simulated server."""
    pyjuicenet = pytest.importorskip("pyjuicenet", reason="python-juicenet is not installed")
    monkeypatch.setattr(pyjuicenet, "BASE_URL", cloud.url)
    return pyjuicenet


@pytest.fixture
async def chargers(api: Any) -> AsyncIterator[list[Any]]:
    async with ClientSession() as session:
        yield await api.Api(ACCOUNT, session).get_devices()


def test_faithful_client_has_documented_version(api: Any) -> None:
    assert version("python-juicenet") == FACT_SHEET_VERSION


async def test_faithful_client_is_refused_with_wrong_account(api: Any) -> None:
    async with ClientSession() as session:
        with pytest.raises(api.TokenError, match="unknown account"):
            await api.Api("wrong", session).get_devices()


async def test_faithful_client_reads_units_state_and_info(
    box: JuiceBox, chargers: list[Any], cloud: JuiceNetCloud, clock: VirtualClock
) -> None:
    charger, silent = chargers
    assert (charger.name, charger.id, charger.token) == ("Garage", SERIAL, cloud.token(SERIAL))
    assert (silent.status, silent.amps, silent.watts) == ("disconnect", 0, 0)
    await clock.advance(600)
    assert await charger.update_state(True)
    assert await charger.update_info()
    assert (charger.status, charger.voltage, charger.amps) == ("charging", 240, 20)
    assert charger.watts == pytest.approx(240 * 20 * 0.996, abs=1)
    assert charger.energy_added == pytest.approx(charger.watts / 6, rel=0.03)
    assert (charger.temperature, charger.charge_time, charger.override_time) == (24, 600, 0)
    assert (charger.max_charging_amperage, charger.current_charging_amperage_limit) == (32, 32)


async def test_faithful_client_sets_limit(box: JuiceBox, chargers: list[Any], clock: VirtualClock) -> None:
    charger = chargers[0]
    for amperes in (8, 0):
        assert await charger.set_charging_amperage_limit(amperes)
        await clock.advance(30)
        assert (box.amperes, charger.charger_enabled) == (amperes, amperes > 0)
    assert await charger.disable_charger()
    assert await charger.enable_charger()
    await clock.advance(30)
    assert box.amperes == 20


async def test_faithful_client_sets_override(
    box: JuiceBox, chargers: list[Any], server: BoxHub, clock: VirtualClock
) -> None:
    server.unit(SERIAL).schedule = Schedule(custom=True, weekday=NIGHT, weekend=NIGHT)
    charger = chargers[0]
    for charge_now, amperes in ((False, 0), (True, 20), (False, 0)):
        assert await charger.set_override(charge_now)
        await clock.advance(30)
        assert (box.amperes, charger.override_time != 0) == (amperes, charge_now)
