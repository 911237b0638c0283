"""The simulators: the course of the world without commands, and each fault as a client sees it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
import json
from typing import Any, override

from aiohttp import (
    ClientConnectorError,
    ClientPayloadError,
    ClientResponse,
    ClientSession,
    ServerDisconnectedError,
    encode_basic_auth,
)
import pytest

from tests.simulators.clock import START, VirtualClock
from tests.simulators.wallbox_cloud import Authorization, Fault, Limits, WallboxCloud
from tests.simulators.world import Car, RestartPlan, SimulatedCharger, State, Window, World, demo_world

EMAIL, PASSWORD = "ann@example.org", "secret"
GROUPS = "/v3/chargers/groups"
STATUS = "/chargers/status/700103"
ACTION = "/v3/chargers/{}/remote-action"
YEAR = 365 * 86400.0
POWER = 16 * 230 * 3 / 1000  # kW; the charging power of "Carport"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def world(clock: VirtualClock) -> World:
    return demo_world(clock)


@pytest.fixture
async def cloud(world: World, clock: VirtualClock, socket_enabled: None) -> AsyncIterator[WallboxCloud]:
    cloud = WallboxCloud(world, clock)
    cloud.add_account(EMAIL, PASSWORD)
    cloud.access_lifetime = YEAR
    await cloud.start()
    yield cloud
    await cloud.stop()


class Client:
    """A signed-in client that sends only the requests of the test."""

    def __init__(self, session: ClientSession, token: str) -> None:
        self.session = session
        self.headers = {"Authorization": f"Bearer {token}"}

    def request(self, method: str, path: str, body: object = None) -> Any:
        return self.session.request(method, path, json=body, headers=self.headers)

    async def get(self, path: str) -> Any:
        async with self.request("GET", path) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def code(self, method: str, path: str, body: object = None) -> int:
        async with self.request(method, path, body) as answer:
            return int(answer.status)

    async def status_id(self, serial: str) -> int | None:
        found: int | None = (await self.get(f"/chargers/status/{serial}"))["status_id"]
        return found


async def sign_in(session: ClientSession, password: str = PASSWORD) -> ClientResponse:
    headers = {"Authorization": encode_basic_auth(EMAIL, password), "Partner": "wallbox"}
    return await session.get("/users/signin", headers=headers)


async def tokens_of(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = (await (await sign_in(client.session)).json())["data"]["attributes"]
    return found


@pytest.fixture
async def client(cloud: WallboxCloud) -> AsyncIterator[Client]:
    async with ClientSession(cloud.url) as session:
        answer = await sign_in(session)
        yield Client(session, (await answer.json())["data"]["attributes"]["token"])


def state_of(world: World, serial: str) -> State:
    return world.charger(serial).state


async def test_energy_independent_of_how_often_the_world_advances(clock: VirtualClock) -> None:
    worlds = World(clock), World(clock)
    for world in worlds:
        charger = world.add(SimulatedCharger(serial="1", name="A", max_charging_current=16, lifetime_kwh=100))
        charger.plug_in(Car(wants_kwh=20))
    for _ in range(60):
        await clock.advance(60)
        worlds[0].advance()
    often, once = (world.charger("1") for world in worlds)
    assert often.session_kwh == pytest.approx(once.session_kwh)
    assert once.session_kwh == pytest.approx(POWER)
    assert once.lifetime_kwh == pytest.approx(100 + POWER)
    assert once.session_seconds == pytest.approx(3600)
    assert once.cost == pytest.approx(POWER * 0.25)


async def test_full_car_takes_no_more_energy(world: World, clock: VirtualClock) -> None:
    await clock.advance(24 * 3600)
    carport = world.charger("700103")
    assert carport.state is State.WAITING_CAR
    assert carport.power_kw == 0
    assert carport.session_kwh == pytest.approx(52)
    assert carport.session_seconds == pytest.approx(52 / POWER * 3600)
    carport.unplug()
    assert state_of(world, "700103") is State.FREE
    assert carport.session_kwh == pytest.approx(52), "kept until the next session"
    carport.plug_in()
    assert carport.session_kwh == 0


async def test_change_applies_only_from_now_on(world: World, clock: VirtualClock) -> None:
    await clock.advance(1800)
    carport = world.chargers["700103"]
    carport.locked = True
    assert carport.session_kwh == pytest.approx(POWER / 2)
    await clock.advance(1800)
    assert world.charger("700103").session_kwh == pytest.approx(POWER / 2)


@pytest.mark.parametrize(
    ("window", "wall", "expected"),
    [
        (Window(start="2100", stop="0500"), "2026-11-02T21:00", True),
        (Window(start="2100", stop="0500"), "2026-11-02T20:59", False),
        (Window(start="2100", stop="0500"), "2026-11-03T04:59", True),
        (Window(start="2100", stop="0500"), "2026-11-03T05:00", False),
        (Window(start="2100", stop="0500", days=frozenset({0})), "2026-11-03T04:00", True),
        (Window(start="2100", stop="0500", days=frozenset({0})), "2026-11-03T22:00", False),
        (Window(start="2100", stop="0500", days=frozenset({0})), "2026-11-02T04:00", False),
        (Window(start="1000", stop="1200", days=frozenset({6})), "2026-11-08T11:59", True),
        (Window(start="1000", stop="1200", days=frozenset({6})), "2026-11-07T11:00", False),
        (Window(start="0000", stop="0000"), "2026-11-02T17:00", True),
    ],
)
def test_window_open_on_its_days_from_start_to_stop(window: Window, wall: str, expected: bool) -> None:
    assert window.is_open(datetime.fromisoformat(wall).replace(tzinfo=UTC)) is expected


async def test_schedule_opens_and_closes_to_the_second(world: World, clock: VirtualClock) -> None:
    driveway = world.charger("700102")
    driveway.window_open = None
    driveway.schedules = (Window(start="1300", stop="1430"),)
    driveway.max_charging_current = 10
    assert driveway.state is State.WAITING_SCHEDULE
    await clock.advance(3600 - 1)
    assert state_of(world, "700102") is State.WAITING_SCHEDULE
    await clock.advance(1)
    assert state_of(world, "700102") is State.CHARGING
    assert driveway.report.state is State.CHARGING, "reported to the cloud at once"
    assert driveway.report.at == START + timedelta(hours=1)
    await clock.advance(4 * 3600)
    assert state_of(world, "700102") is State.WAITING_SCHEDULE
    assert driveway.session_kwh == pytest.approx(1.5 * 10 * 230 * 3 / 1000)


class SlowWallClock(VirtualClock):
    """Clock whose wall clock runs at a twentieth of the speed, as the fast clock of the demo."""

    @override
    def now(self) -> datetime:
        return START + (super().now() - START) / 20


async def test_schedule_follows_a_slower_wall_clock() -> None:
    clock = SlowWallClock()
    world = World(clock)
    charger = world.add(SimulatedCharger(serial="1", name="A", schedules=(Window(start="1201", stop="1300"),)))
    charger.plug_in(Car(wants_kwh=200))
    await clock.advance(20 * 90)
    assert world.charger("1").session_seconds == pytest.approx(20 * 30)
    assert charger.report.at == clock.now()


async def test_wall_clock_jump_moves_only_the_schedule(world: World, clock: VirtualClock) -> None:
    world.charger("700102").window_open = None
    clock.jump(10 * 3600)
    await clock.advance(60)
    assert state_of(world, "700102") is State.CHARGING
    assert world.charger("700103").session_seconds == pytest.approx(60)
    clock.jump(-10 * 3600)
    await clock.advance(60)
    assert state_of(world, "700102") is State.WAITING_SCHEDULE
    assert world.charger("700103").session_seconds == pytest.approx(120)


async def test_window_set_open_or_shut_by_hand_ignores_the_clock(world: World) -> None:
    driveway = world.charger("700102")
    assert driveway.state is State.WAITING_SCHEDULE
    driveway.window_open = True
    assert state_of(world, "700102") is State.CHARGING
    driveway.window_open = False
    driveway.schedules = (Window(start="2200", stop="0500", enabled=False),)
    assert state_of(world, "700102") is State.CHARGING, "no window is enabled, so the schedule allows charging"


async def test_smallest_limit_sets_the_current(world: World) -> None:
    charger = world.charger("700101")
    charger.plug_in(Car(max_amperes=30, phases=1))
    assert charger.amperes == 30
    assert charger.power_kw == pytest.approx(30 * 230 / 1000)
    charger.icp_max_current = 20
    assert charger.amperes == 30
    charger.home_sharing = True
    assert charger.amperes == 20
    charger.max_charging_current = 8
    assert charger.amperes == 8


async def test_charger_reports_every_300_s_idle_and_30_s_charging(world: World, clock: VirtualClock) -> None:
    await clock.advance(299)
    assert world.charger("700101").report.at == START
    assert world.charger("700103").report.at == START + timedelta(seconds=270)
    await clock.advance(1)
    assert world.charger("700101").report.at == START + timedelta(seconds=300)


async def test_duplicate_serial_number_refused(world: World) -> None:
    with pytest.raises(ValueError, match="700101"):
        world.add(SimulatedCharger(serial="700101", name="Twin"))


async def test_offline_charger_keeps_its_last_values(client: Client, world: World, clock: VirtualClock) -> None:
    carport = world.charger("700103")
    await clock.advance(60)
    carport.cloud_link = False
    before = await client.get(STATUS)
    await clock.advance(3600)
    after = await client.get(STATUS)
    assert after == before
    assert after["last_sync"] == "2026-11-02 12:01:00"
    assert world.charger("700103").session_kwh > after["added_energy"], "the charger continues to charge"
    carport.cloud_shows_offline = True
    shown = await client.get(STATUS)
    assert shown == {**after, "status_id": 0}
    carport.cloud_link = True
    assert await client.status_id("700103") == 194
    assert (await client.get(STATUS))["last_sync"] == "2026-11-02 13:01:00"


async def test_command_to_offline_charger_accepted_and_lost(client: Client, world: World) -> None:
    carport = world.charger("700103")
    carport.cloud_link = False
    assert await client.code("POST", ACTION.format("700103"), {"action": 2}) == 200
    assert await client.code("PUT", "/v2/charger/700103", {"maxChargingCurrent": 8}) == 200
    carport.cloud_link = True
    assert (carport.state, carport.max_charging_current) == (State.CHARGING, 16)


async def test_restart_shown_as_offline_and_ends_override(client: Client, world: World, clock: VirtualClock) -> None:
    driveway = world.charger("700102")
    assert await client.code("POST", ACTION.format("700102"), {"action": 1}) == 200
    driveway.max_charging_current = 20
    assert await client.code("POST", ACTION.format("700102"), {"action": 3}) == 200
    seen: list[tuple[int, int | None]] = []
    for second in range(120):
        if not seen or seen[-1][1] != await client.status_id("700102"):
            seen.append((second, await client.status_id("700102")))
        await clock.advance(1)
    assert seen == [(0, 194), (10, 0), (100, 179)], "the override is gone"
    assert driveway.max_charging_current == 20, "the limits stay"
    assert driveway.restarts == 1
    assert driveway.report.at == START + timedelta(seconds=100)


@pytest.mark.parametrize(
    ("plan", "after_a_minute", "after_an_hour"),
    [
        (RestartPlan(carried_out=False), 161, 161),
        (RestartPlan(comes_back=False), 0, 0),
        (RestartPlan(away_for=600), 0, 161),
        (RestartPlan(shown_away=False), 161, 161),
    ],
    ids=["not carried out", "never back", "slow", "not shown as away"],
)
async def test_restart_follows_its_restart_plan(
    client: Client, world: World, clock: VirtualClock, plan: RestartPlan, after_a_minute: int, after_an_hour: int
) -> None:
    world.charger("700101").restart_plan = plan
    assert await client.code("POST", ACTION.format("700101"), {"action": 3}) == 200
    await clock.advance(60)
    assert await client.status_id("700101") == after_a_minute
    await clock.advance(3600)
    assert await client.status_id("700101") == after_an_hour


async def test_firmware_update_ends_after_300_s_with_latest_version(
    client: Client, world: World, clock: VirtualClock
) -> None:
    assert await client.code("POST", ACTION.format("700103"), {"action": 5}) == 200
    await clock.advance(299)
    assert await client.status_id("700103") == 166
    await clock.advance(1)
    assert await client.status_id("700103") == 194
    assert (world.charger("700103").firmware, world.charger("700103").bricked) == ("6.7.50", False)


async def test_restart_during_update_ruins_the_charger(client: Client, world: World, clock: VirtualClock) -> None:
    await client.code("POST", ACTION.format("700103"), {"action": 5})
    await client.code("POST", ACTION.format("700103"), {"action": 3})
    await clock.advance(24 * 3600)
    carport = world.charger("700103")
    assert (carport.bricked, carport.state, carport.firmware) == (True, State.AWAY, "6.7.43")


@pytest.mark.parametrize("action", [4, 0, 6, 7, 8, 10, None, "3", True])
async def test_factory_reset_and_unknown_actions_refused(
    client: Client, world: World, cloud: WallboxCloud, action: object
) -> None:
    refused = await client.code("POST", ACTION.format("700101"), {"action": action})
    assert refused == (403 if action == 4 else 400)
    assert cloud.factory_resets == (["700101"] if action == 4 else [])
    assert world.charger("700101").restarts == 0


async def test_restart_refused_on_basic_plan_where_cloud_requires_business(client: Client, cloud: WallboxCloud) -> None:
    cloud.restart_needs_plan = True
    assert await client.code("POST", ACTION.format("700101"), {"action": 3}) == 403
    cloud.accounts[0].plan = "Business"
    assert await client.code("POST", ACTION.format("700101"), {"action": 3}) == 200


async def test_look_only_charger_readable_but_not_writable(client: Client, cloud: WallboxCloud) -> None:
    cloud.accounts[0].look_only.add("700101")
    assert [c["access"] for c in await chargers(client)] == [False, True, True]
    assert await client.code("GET", "/chargers/status/700101") == 200
    assert await client.code("PUT", "/v2/charger/700101", {"locked": 1}) == 403


async def chargers(client: Client) -> list[dict[str, Any]]:
    return [charger for group in (await client.get(GROUPS))["result"]["groups"] for charger in group["chargers"]]


async def test_chargers_listed_by_group_and_users_by_role(client: Client, cloud: WallboxCloud) -> None:
    cloud.group_of["700103"] = "Office"
    other = cloud.add_account("bob@example.org", "other", role="user", serials={"700101"})
    assert {g["name"]: [c["name"] for c in g["chargers"]] for g in (await client.get(GROUPS))["result"]["groups"]} == {
        "Home": ["Garage", "Driveway"],
        "Office": ["Carport"],
    }
    assert await roles(client, "700101") == {EMAIL: "super-admin", other.email: "user"}
    assert await roles(client, "700102") == {EMAIL: "super-admin"}
    cloud.accounts[0].role = "user"
    assert await roles(client, "700101") == {EMAIL: "user"}


async def roles(client: Client, serial: str) -> dict[str, str | None]:
    users = (await client.get(f"/v2/charger/{serial}"))["data"]["users"]
    return {user["email"]: user["profile"] for user in users}


async def test_status_code_set_by_hand_shown(client: Client, cloud: WallboxCloud) -> None:
    cloud.shown_status |= {"700101": 163, "700102": None}
    assert [c["status"] for c in await chargers(client)] == [163, None, 194]


async def test_cloud_clock_offset_shifts_times_in_answers(client: Client, cloud: WallboxCloud) -> None:
    cloud.clock_offset = 3600.0
    async with client.request("GET", STATUS) as answer:
        assert parsedate_to_datetime(answer.headers["Date"]) == START + timedelta(hours=1)
        assert (await answer.json())["last_sync"] == "2026-11-02 13:00:00"
    tokens = await tokens_of(client)
    assert tokens["ttl"] == int((START + timedelta(hours=1, seconds=YEAR)).timestamp() * 1000)


async def test_access_token_refused_after_its_lifetime(
    client: Client, cloud: WallboxCloud, clock: VirtualClock
) -> None:
    cloud.access_lifetime = 900.0
    client.headers = Client(client.session, (await tokens_of(client))["token"]).headers
    await clock.advance(899)
    assert await client.code("GET", GROUPS) == 200
    await clock.advance(1)
    assert await client.code("GET", GROUPS) == 401


async def test_refresh_token_accepted_once_and_only_for_refreshing(client: Client) -> None:
    tokens = await tokens_of(client)
    headers = {"Authorization": f"Bearer {tokens['refresh_token']}", "Partner": "wallbox"}
    codes = []
    for path in (GROUPS, "/users/refresh-token", "/users/refresh-token"):
        async with client.session.get(path, headers=headers) as answer:
            codes.append(answer.status)
    assert codes == [401, 200, 401]


async def test_sign_in_requires_partner_header_and_password(client: Client) -> None:
    assert (await sign_in(client.session, "wrong")).status == 403
    headers = {"Authorization": encode_basic_auth(EMAIL, PASSWORD)}
    async with client.session.get("/users/signin", headers=headers) as answer:
        assert answer.status == 400
    async with client.session.get("/users/signin", headers={"Partner": "wallbox"}) as answer:
        assert answer.status == 401


async def test_limit_violations_recorded_and_refused_on_demand(
    client: Client, cloud: WallboxCloud, clock: VirtualClock
) -> None:
    assert await client.code("GET", GROUPS) == 200
    assert await client.code("GET", STATUS) == 200
    assert [(v.method, v.path, v.email) for v in cloud.violations] == [("GET", STATUS, EMAIL)]
    cloud.enforce_limits = True
    assert await client.code("GET", GROUPS) == 429
    await clock.advance(60)
    assert await client.code("GET", GROUPS) == 200
    writes = [await client.code("PUT", "/v2/charger/700101", {"locked": 0}) for _ in range(6)]
    assert writes == [200] * 5 + [429]
    await clock.advance(60)
    assert await client.code("PUT", "/v2/charger/700101", {"locked": 0}) == 200
    assert len(cloud.violations) == 3
    cloud.limits = Limits(get_spacing=20)
    await clock.advance(20)
    assert await client.code("GET", GROUPS) == 200


async def test_request_log_holds_time_and_method_and_status_and_authorization(
    client: Client, cloud: WallboxCloud, clock: VirtualClock
) -> None:
    await clock.advance(5)
    begun = clock.monotonic()
    await client.code("GET", GROUPS)
    await client.code("POST", ACTION.format("700101"), {"action": 3})
    last = cloud.requests[-1]
    assert (last.at, last.method, last.status, json.loads(last.body)) == (begun, "POST", 200, {"action": 3})
    assert [r.authorization for r in cloud.requests] == [Authorization.BASIC] + [Authorization.BEARER] * 2
    assert (cloud.count(), cloud.count("GET"), cloud.count(since=begun)) == (3, 2, 2)
    assert cloud.count("GET", "/v3/", since=begun) == 1


@asynccontextmanager
async def asking(client: Client, clock: VirtualClock, path: str = GROUPS) -> AsyncIterator[asyncio.Task[Any]]:
    """Yield a task with a GET under way, after all sockets are silent."""
    task = asyncio.ensure_future(client.get(path))
    await clock.settle()
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_fault_refuse_refuses_connections_until_healed(client: Client, cloud: WallboxCloud) -> None:
    await client.get(GROUPS)
    url = cloud.url
    await cloud.set_fault(Fault.REFUSE)
    with pytest.raises(ClientConnectorError):
        await client.get(GROUPS)
    assert cloud.fault is Fault.REFUSE
    await cloud.set_fault(Fault.NONE)
    assert cloud.url == url
    assert len(await chargers(client)) == 3


async def test_fault_refuse_cuts_hanging_request(client: Client, cloud: WallboxCloud, clock: VirtualClock) -> None:
    await cloud.set_fault(Fault.HANG)
    async with asking(client, clock) as task:
        await cloud.set_fault(Fault.REFUSE)
        with pytest.raises((ServerDisconnectedError, ClientConnectorError)):  # aiohttp tries a GET once more by itself
            await task


async def test_fault_hang_leaves_request_unanswered_until_server_stops(
    client: Client, cloud: WallboxCloud, clock: VirtualClock
) -> None:
    await cloud.set_fault(Fault.HANG)
    async with asking(client, clock) as task:
        await clock.advance(24 * 3600)
        assert not task.done()
        await cloud.set_fault(Fault.NONE)
        await clock.advance(60)
        assert not task.done(), "a hanging request continues to hang"
        assert len(await chargers(client)) == 3
        assert [r.status for r in cloud.requests if r.path == GROUPS] == [None, 200]
        await cloud.stop()
        with pytest.raises((ServerDisconnectedError, ClientConnectorError)):  # aiohttp tries a GET once more by itself
            await task


async def test_fault_slow_delays_the_answer(client: Client, cloud: WallboxCloud, clock: VirtualClock) -> None:
    await cloud.set_fault(Fault.SLOW, slow_seconds=45)
    async with asking(client, clock) as task:
        await clock.advance(44)
        assert not task.done()
        await clock.advance(1)
        assert task.done()
        assert "result" in await task


async def test_fault_slow_command_takes_effect_after_its_sender_timed_out(
    client: Client, cloud: WallboxCloud, world: World, clock: VirtualClock
) -> None:
    await cloud.set_fault(Fault.SLOW, slow_seconds=20)
    impatient = asyncio.ensure_future(limited(clock, client.code("POST", ACTION.format("700103"), {"action": 2})))
    await clock.advance(15)
    with pytest.raises(TimeoutError):
        await impatient
    assert state_of(world, "700103") is State.CHARGING
    await clock.advance(10)
    assert state_of(world, "700103") is State.PAUSED


async def limited[R](clock: VirtualClock, waiting: Awaitable[R]) -> R:
    async with clock.timeout(10):
        return await waiting


@pytest.mark.parametrize(
    ("fault", "code"),
    [(Fault.ERROR_500, 500), (Fault.TOO_MANY, 429), (Fault.UNAUTHORIZED, 401), (Fault.FORBIDDEN, 403)],
)
async def test_fault_with_status_code_answers_with_that_code(
    client: Client, cloud: WallboxCloud, fault: Fault, code: int
) -> None:
    await cloud.set_fault(fault)
    async with client.request("GET", GROUPS) as answer:
        assert answer.status == code
        assert "Retry-After" not in answer.headers
    signed_in = (await sign_in(client.session)).status
    assert signed_in == (200 if fault in {Fault.UNAUTHORIZED, Fault.FORBIDDEN} else code)


async def test_fault_too_many_sends_retry_after(client: Client, cloud: WallboxCloud) -> None:
    await cloud.set_fault(Fault.TOO_MANY, retry_after=240)
    async with client.request("GET", GROUPS) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "240")


async def test_fault_garbage_answers_with_undecodable_json(client: Client, cloud: WallboxCloud) -> None:
    await cloud.set_fault(Fault.GARBAGE)
    async with client.request("GET", GROUPS) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        with pytest.raises(ValueError, match=r"codec can.t decode"):
            await answer.json()


async def test_fault_html_answers_200_with_html(client: Client, cloud: WallboxCloud) -> None:
    await cloud.set_fault(Fault.HTML)
    async with client.request("GET", GROUPS) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")


async def test_fault_half_cuts_the_answer_short(client: Client, cloud: WallboxCloud) -> None:
    await cloud.set_fault(Fault.HALF)
    async with client.request("GET", GROUPS) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        with pytest.raises(ClientPayloadError):
            await answer.read()


async def test_fault_nulls_empties_or_omits_every_value(client: Client, cloud: WallboxCloud) -> None:
    await cloud.set_fault(Fault.NULLS)
    found = await chargers(client)
    assert len(found) == 3
    assert found[0]["id"] is found[0]["status"] is found[0]["software"]["currentVersion"] is None
    await cloud.set_fault(Fault.NULLS, missing=True)
    assert await chargers(client) == [{"software": {}}] * 3


async def test_fault_reset_cuts_connection_with_or_without_effect(
    client: Client, cloud: WallboxCloud, world: World
) -> None:
    await cloud.set_fault(Fault.RESET, method="POST")
    for carried_out, state in ((False, State.CHARGING), (True, State.PAUSED)):
        await cloud.set_fault(Fault.RESET, method="POST", carried_out=carried_out)
        with pytest.raises((ServerDisconnectedError, ConnectionResetError)):
            await client.code("POST", ACTION.format("700103"), {"action": 2})
        assert state_of(world, "700103") is state
    assert await client.code("GET", GROUPS) == 200


async def test_fault_hits_only_matching_requests(client: Client, cloud: WallboxCloud) -> None:
    await cloud.set_fault(Fault.ERROR_500, path_prefix="/chargers/status", next_requests=1)
    cloud.add_fault(Fault.HTML, matches=lambda method, path: (method, path) == ("PUT", "/v2/charger/700101"))
    with pytest.raises(ValueError, match="set_fault"):
        cloud.add_fault(Fault.REFUSE)
    assert await client.code("GET", GROUPS) == 200
    assert [await client.code("GET", STATUS) for _ in range(2)] == [500, 200]
    async with client.request("PUT", "/v2/charger/700101", {"locked": 1}) as answer:
        assert answer.content_type == "text/html"
    assert not cloud.world.charger("700101").locked
    await cloud.set_fault(Fault.NONE)
    assert cloud.fault is Fault.NONE
