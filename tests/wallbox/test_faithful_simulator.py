"""The simulated Wallbox cloud against the unmodified public `wallbox` client over real sockets.

One test compares every field that the simulator emits with the protocol page.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

from aiohttp import ClientSession, encode_basic_auth
import pytest
import requests
from wallbox import Wallbox

from custom_components.chargekeeper.core.clock import SystemClock
from tests.simulators.fields import FIELDS
from tests.simulators.wallbox_cloud import Authorization, Resume, Schedules, WallboxCloud
from tests.simulators.world import Eco, Manual, SimulatedCharger, State, Window, World, demo_world

pytestmark = pytest.mark.usefixtures("socket_enabled")

EMAIL = "ann@example.org"
PASSWORD = "pässwörd-Ω"  # only UTF-8 can carry it
GARAGE, DRIVEWAY, CARPORT = 700101, 700102, 700103
WEEKEND = {
    "monday": False,
    "tuesday": False,
    "wednesday": False,
    "thursday": False,
    "friday": False,
    "saturday": True,
    "sunday": True,
}


async def in_thread[R](call: Callable[..., R], *args: Any) -> R:
    return await asyncio.to_thread(call, *args)


@pytest.fixture
def world() -> World:
    return demo_world(SystemClock())


@pytest.fixture
async def cloud(world: World) -> AsyncIterator[WallboxCloud]:
    cloud = WallboxCloud(world, SystemClock())
    cloud.add_account(EMAIL, PASSWORD)
    await cloud.start()
    yield cloud
    await cloud.stop()


@pytest.fixture
async def client(cloud: WallboxCloud) -> Any:
    client = Wallbox(EMAIL, PASSWORD.encode(), requestGetTimeout=10)  # as bytes, or `requests` encodes it as Latin-1
    client.baseUrl = client.authUrl = f"{cloud.url}/"
    await in_thread(client.authenticate)
    return client


def charger(world: World, number: int) -> SimulatedCharger:
    return world.charger(str(number))


async def refusal_of(call: Callable[..., Any], *args: Any) -> int:
    with pytest.raises(requests.HTTPError) as refused:
        await in_thread(call, *args)
    assert refused.value.response is not None
    return refused.value.response.status_code


def test_public_client_has_the_documented_version() -> None:
    assert version("wallbox") == "0.9.0"


async def test_public_client_signs_in_once_and_reuses_valid_token(cloud: WallboxCloud, client: Any) -> None:
    assert [(r.method, r.path, r.authorization, r.status) for r in cloud.requests] == [
        ("GET", "/users/signin", Authorization.BASIC, 200)
    ]
    lifetime = client.jwtTokenTtl / 1000 - cloud.now().timestamp()
    assert cloud.access_lifetime - 30 < lifetime <= cloud.access_lifetime
    await in_thread(client.authenticate)
    assert len(cloud.requests) == 1, "a valid token is used again"


async def test_public_client_with_wrong_password_refused_with_403(cloud: WallboxCloud) -> None:
    stranger = Wallbox(EMAIL, "wrong")
    stranger.authUrl = f"{cloud.url}/"
    assert await refusal_of(stranger.authenticate) == 403


async def test_public_client_refresh_replaces_both_tokens(cloud: WallboxCloud, client: Any) -> None:
    first, first_refresh = client.jwtToken, client.jwtRefreshToken
    cloud.expire_access()
    assert await refusal_of(client.getChargersList) == 401
    client.jwtTokenTtl = 0
    await in_thread(client.authenticate)
    assert cloud.requests[-1].path == "/users/refresh-token"
    assert client.jwtToken != first
    assert client.jwtRefreshToken != first_refresh
    assert await in_thread(client.getChargersList) == [GARAGE, DRIVEWAY, CARPORT]


async def test_public_client_with_revoked_refresh_token_refused_with_401(cloud: WallboxCloud, client: Any) -> None:
    cloud.revoke_refresh()
    client.jwtTokenTtl = 0
    assert await refusal_of(client.authenticate) == 401


async def test_public_client_reads_list_and_status_of_every_charger(client: Any, world: World) -> None:
    assert await in_thread(client.getChargersList) == [GARAGE, DRIVEWAY, CARPORT]
    seen = {number: await in_thread(client.getChargerStatus, number) for number in (GARAGE, DRIVEWAY, CARPORT)}
    assert {number: status["status_id"] for number, status in seen.items()} == {
        GARAGE: 161,
        DRIVEWAY: 179,
        CARPORT: 194,
    }
    assert {status["name"] for status in seen.values()} == {"Garage", "Driveway", "Carport"}
    assert seen[CARPORT]["charging_power"] == pytest.approx(16 * 230 * 3 / 1000)
    assert seen[GARAGE]["charging_power"] == 0
    driveway = seen[DRIVEWAY]["config_data"]
    assert (driveway["icp_max_current"], driveway["home_sharing"]) == (25, 1)
    last_sync = datetime.fromisoformat(f"{seen[GARAGE]['last_sync']}+00:00")
    assert abs(charger(world, GARAGE).report.at - last_sync) < timedelta(seconds=1)


async def test_public_client_gets_404_for_unknown_and_403_for_unshared_charger(
    cloud: WallboxCloud, client: Any
) -> None:
    assert await refusal_of(client.getChargerStatus, 999999) == 404
    cloud.accounts[0].unshared.add(str(GARAGE))
    assert await refusal_of(client.getChargerStatus, GARAGE) == 403
    assert await in_thread(client.getChargersList) == [DRIVEWAY, CARPORT]


async def test_public_client_pauses_and_resumes_charging(client: Any, world: World) -> None:
    assert await in_thread(client.pauseChargingSession, CARPORT) == {"action": 2}
    assert charger(world, CARPORT).state is State.PAUSED
    assert (await in_thread(client.getChargerStatus, CARPORT))["status_id"] == 182
    assert await in_thread(client.resumeChargingSession, CARPORT) == {"action": 1}
    assert charger(world, CARPORT).state is State.CHARGING
    assert await refusal_of(client.resumeChargingSession, CARPORT) == 409, "nothing is paused"


async def test_public_client_overrides_and_resumes_schedule(client: Any, world: World) -> None:
    assert await in_thread(client.resumeChargingSession, DRIVEWAY) == {"action": 1}
    assert charger(world, DRIVEWAY).manual is Manual.CHARGE
    assert (await in_thread(client.getChargerStatus, DRIVEWAY))["status_id"] == 194
    assert await in_thread(client.resumeSchedule, DRIVEWAY) == {"action": 9}
    assert charger(world, DRIVEWAY).state is State.WAITING_SCHEDULE
    assert (await in_thread(client.getChargerStatus, DRIVEWAY))["status_id"] == 179


@pytest.mark.parametrize(("how", "status"), [(Resume.CONFLICT, 409), (Resume.NO_EFFECT, 200)])
async def test_public_client_override_gets_409_or_has_no_effect(
    cloud: WallboxCloud, client: Any, world: World, how: Resume, status: int
) -> None:
    cloud.resume[str(DRIVEWAY)] = how
    if how is Resume.CONFLICT:
        assert await refusal_of(client.resumeChargingSession, DRIVEWAY) == 409
    else:
        assert await in_thread(client.resumeChargingSession, DRIVEWAY) == {"action": 1}
    assert cloud.requests[-1].status == status
    assert charger(world, DRIVEWAY).state is State.WAITING_SCHEDULE


async def test_public_client_locks_and_unlocks_charger(client: Any, world: World) -> None:
    locked = await in_thread(client.lockCharger, CARPORT)
    assert charger(world, CARPORT).locked
    assert locked["data"]["chargerData"]["locked"] == 1
    assert locked["data"]["chargerData"]["status"] == 210
    assert await refusal_of(client.pauseChargingSession, CARPORT) == 403
    assert await refusal_of(client.resumeChargingSession, CARPORT) == 409
    unlocked = await in_thread(client.unlockCharger, CARPORT)
    assert not charger(world, CARPORT).locked
    assert unlocked["data"]["chargerData"]["locked"] == 0


async def test_public_client_cannot_pause_or_unlock_charger_under_ocpp(client: Any, world: World) -> None:
    carport = charger(world, CARPORT)
    carport.locked = True
    carport.ocpp = True
    assert await refusal_of(client.pauseChargingSession, CARPORT) == 403
    assert (await in_thread(client.unlockCharger, CARPORT))["data"]["chargerData"]["locked"] == 1
    assert carport.locked, "the cloud accepts, but the charger stays locked"
    assert (await in_thread(client.getChargerStatus, CARPORT))["config_data"]["operation_mode"] == "ocpp"


async def test_public_client_restarts_charger(client: Any, world: World) -> None:
    assert await in_thread(client.restartCharger, GARAGE) == {"action": 3}
    assert charger(world, GARAGE).restarts == 1
    assert (await in_thread(client.getChargerStatus, GARAGE))["status_id"] == 161, "ready for some more seconds"


async def test_public_client_starts_firmware_update(client: Any, world: World) -> None:
    before = await in_thread(client.getChargerStatus, CARPORT)
    assert before["config_data"]["software"]["updateAvailable"] is True
    assert await in_thread(client.updateFirmware, CARPORT) == {"action": 5}
    assert charger(world, CARPORT).updating
    assert (await in_thread(client.getChargerStatus, CARPORT))["status_id"] == 166


async def test_public_client_sets_current_only_within_range(client: Any, world: World) -> None:
    answer = await in_thread(client.setMaxChargingCurrent, CARPORT, 10)
    assert charger(world, CARPORT).max_charging_current == 10
    assert answer["data"]["chargerData"]["maxChargingCurrent"] == 10
    assert charger(world, CARPORT).power_kw == pytest.approx(10 * 230 * 3 / 1000)
    for beyond in (5, 33):
        assert await refusal_of(client.setMaxChargingCurrent, CARPORT, beyond) == 400
    assert charger(world, CARPORT).max_charging_current == 10


async def test_public_client_sets_house_limit_and_energy_price(client: Any, world: World) -> None:
    assert (await in_thread(client.setIcpMaxCurrent, DRIVEWAY, 20))["icp_max_current"] == 20
    assert charger(world, DRIVEWAY).icp_max_current == 20
    config = await in_thread(client.setEnergyCost, DRIVEWAY, 0.31)
    assert (config["energy_price"], config["currency"]["symbol"]) == (0.31, "€")
    assert charger(world, DRIVEWAY).energy_price == 0.31


async def test_public_client_with_user_role_cannot_restart_or_set_current(
    cloud: WallboxCloud, client: Any, world: World
) -> None:
    cloud.accounts[0].role = "user"
    assert await refusal_of(client.restartCharger, GARAGE) == 403
    assert await refusal_of(client.setMaxChargingCurrent, GARAGE, 10) == 403
    assert await in_thread(client.pauseChargingSession, CARPORT) == {"action": 2}
    assert charger(world, GARAGE).restarts == 0


async def test_public_client_switches_eco_smart_on_and_off(client: Any, world: World) -> None:
    assert await in_thread(client.enableEcoSmart, GARAGE, 1) == 200
    assert charger(world, GARAGE).eco == Eco(enabled=True, mode=1)
    status = await in_thread(client.getChargerStatus, GARAGE)
    assert status["config_data"]["ecosmart"] == {"enabled": True, "mode": 1, "percentage": 100}
    assert await in_thread(client.disableEcoSmart, GARAGE) == 200
    assert charger(world, GARAGE).eco == Eco(enabled=False)
    charger(world, GARAGE).eco = None
    assert "ecosmart" not in (await in_thread(client.getChargerStatus, GARAGE))["config_data"]


async def test_public_client_schedules_merged_before_2026(cloud: WallboxCloud, client: Any, world: World) -> None:
    cloud.schedules = Schedules.MERGED
    read = await in_thread(client.getChargerSchedules, DRIVEWAY)
    assert [(s["id"], s["start"], s["stop"], s["enable"]) for s in read["schedules"]] == [(0, "2200", "0500", True)]
    second = {
        "id": 1,
        "enable": 1,
        "max_current": 10,
        "max_energy": 0,
        "days": WEEKEND,
        "start": "1100",
        "stop": "1300",
    }
    await in_thread(client.setChargerSchedules, DRIVEWAY, {"schedules": [second]})
    assert charger(world, DRIVEWAY).schedules == (
        Window(start="2200", stop="0500"),
        Window(start="1100", stop="1300", days=frozenset({5, 6}), max_current=10),
    )
    off = [{**s, "enable": 0} for s in (await in_thread(client.getChargerSchedules, DRIVEWAY))["schedules"]]
    await in_thread(client.setChargerSchedules, DRIVEWAY, {"schedules": off})
    assert not any(window.enabled for window in charger(world, DRIVEWAY).schedules)
    assert charger(world, DRIVEWAY).state is State.CHARGING, "no window is left to wait for"


NOON = {"id": 1, "enable": True, "max_current": 0, "type": 0, "days": WEEKEND, "start": "1100", "stop": "1300"}
"""An entry as the maker's app sends it, without `created_at`."""


async def test_public_client_schedules_replaced_in_2026(cloud: WallboxCloud, client: Any, world: World) -> None:
    """Write one new entry, which deletes the others; the IDs move with each write."""
    driveway = charger(world, DRIVEWAY)
    driveway.schedules = (Window(start="2200", stop="0500"), Window(start="0100", stop="0200"))
    now = int(cloud.now().timestamp())
    sent = NOON | {"created_at": now + 5, "repeat": 3, "colour": "red"}
    answer = await in_thread(client.setChargerSchedules, DRIVEWAY, {"schedules": [sent]})
    assert answer["error"] is False
    taken = [(window.start, window.created_at, window.enabled) for window in charger(world, DRIVEWAY).schedules]
    assert taken == [("1100", now + 5, True)]
    read = await in_thread(client.getChargerSchedules, DRIVEWAY)
    (entry,) = read["schedules"]
    assert (entry["id"], entry["repeat"], entry["colour"], entry["created_at"]) == (1, 3, "red", now + 5)
    assert read["lastSchedule"] == now + 5


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({"uid": "cccccccc"}, ["2200"]),
        ({"created_at": 1780000000}, []),
        ({"created_at": None}, []),
        ({"days": dict.fromkeys(WEEKEND, False)}, []),
    ],
    ids=str,
)
async def test_public_client_unusable_schedules_silently_dropped_in_2026(
    cloud: WallboxCloud, client: Any, world: World, change: dict[str, Any], left: list[str]
) -> None:
    sent = NOON | {"created_at": int(cloud.now().timestamp()) + 5} | change
    sent = {key: value for key, value in sent.items() if value is not None}
    answer = await in_thread(client.setChargerSchedules, DRIVEWAY, {"schedules": [sent]})
    assert answer["error"] is False
    assert [window.start for window in charger(world, DRIVEWAY).schedules] == left


@pytest.mark.parametrize(("enable", "enabled"), [(False, False), (True, True), (0, True), (1, True)], ids=repr)
async def test_public_client_integer_enable_read_as_true_in_2026(
    cloud: WallboxCloud, client: Any, world: World, enable: object, enabled: bool
) -> None:
    sent = NOON | {"created_at": int(cloud.now().timestamp()) + 5, "enable": enable}
    await in_thread(client.setChargerSchedules, DRIVEWAY, {"schedules": [sent]})
    assert [window.enabled for window in charger(world, DRIVEWAY).schedules] == [enabled]


async def test_public_client_schedules_of_one_charger_merged_when_configured(
    cloud: WallboxCloud, client: Any, world: World
) -> None:
    cloud.schedules_of[str(DRIVEWAY)] = Schedules.MERGED
    await in_thread(client.setChargerSchedules, DRIVEWAY, {"schedules": [NOON]})
    assert [window.start for window in charger(world, DRIVEWAY).schedules] == ["2200", "1100"]
    assert "repeat" not in (await in_thread(client.getChargerSchedules, DRIVEWAY))["schedules"][0]


@pytest.mark.parametrize("schedules", Schedules)
@pytest.mark.parametrize(
    "wrong",
    [{"enable": None}, {"max_energy": None}, {"days": {"monday": True}}, {"start": "2500"}, {"id": -1}],
    ids=repr,
)
async def test_public_client_invalid_schedule_refused_with_400(
    cloud: WallboxCloud, client: Any, world: World, schedules: Schedules, wrong: dict[str, Any]
) -> None:
    cloud.schedules = schedules
    good = {"id": 0, "enable": 1, "max_current": 0, "max_energy": 0, "days": WEEKEND, "start": "1100", "stop": "1300"}
    assert await refusal_of(client.setChargerSchedules, DRIVEWAY, {"schedules": [good | wrong]}) == 400
    assert charger(world, DRIVEWAY).schedules == (Window(start="2200", stop="0500"),)


async def test_public_client_schedule_id_with_gap_refused_before_2026(cloud: WallboxCloud, client: Any) -> None:
    cloud.schedules = Schedules.MERGED
    assert await refusal_of(client.setChargerSchedules, DRIVEWAY, {"schedules": [NOON | {"id": 4}]}) == 400


def fields_of(payload: Any, under: str = "") -> Iterator[str]:
    """Yield every object key in a payload with the keys above it."""
    if isinstance(payload, dict):
        for key, value in payload.items():
            yield under + key
            yield from fields_of(value, f"{under}{key}.")
    elif isinstance(payload, list):
        for item in payload:
            yield from fields_of(item, under)


BODIES: dict[str, Any] = {
    "PUT /v2/charger/{id}": {"locked": 0},
    "POST /chargers/config/{id}": {"icp_max_current": 25},
    "POST /v3/chargers/{id}/remote-action": {"action": 1},
    "POST /chargers/{id}/schedules": {"schedules": []},
    "PUT /v4/chargers/{id}/eco-smart": {"data": {"type": "eco_smart", "attributes": {"enabled": 0, "mode": 0}}},
}


async def test_simulator_emits_exactly_the_documented_fields(cloud: WallboxCloud) -> None:
    assert set(FIELDS) == {f"{route.method} {route.path}" for route in cloud.routes()}
    everything = str(DRIVEWAY), str(GARAGE)  # one with a schedule, one with a part number
    emitted: dict[str, set[str]] = {endpoint: set() for endpoint in FIELDS}
    async with ClientSession(cloud.url) as session:
        authorization = encode_basic_auth(EMAIL, PASSWORD)
        for endpoint in FIELDS:
            method, path = endpoint.split(" ")
            for serial in everything:
                headers = {"Authorization": authorization, "Partner": "wallbox"}
                if path != "/users/signin":
                    refreshes = path == "/users/refresh-token"
                    headers["Authorization"] = f"Bearer {await _token(session, authorization, refreshes=refreshes)}"
                url, body = path.replace("{id}", serial), BODIES.get(endpoint)
                async with session.request(method, url, json=body, headers=headers) as answer:
                    if answer.status == 409 and serial == str(GARAGE):
                        continue  # nothing to resume there
                    assert answer.status == 200, endpoint
                    emitted[endpoint] |= set(fields_of(await answer.json()))
    assert emitted == {endpoint: set(fields) for endpoint, fields in FIELDS.items()}


async def _token(session: ClientSession, authorization: str, *, refreshes: bool) -> str:
    headers = {"Authorization": authorization, "Partner": "wallbox"}
    async with session.get("/users/signin", headers=headers) as answer:
        attributes = (await answer.json())["data"]["attributes"]
    return str(attributes["refresh_token" if refreshes else "token"])
