"""Tests of the JuiceNet client: its requests, its overrides, and good, bad and absurd answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import time, timedelta
import json
import logging
from typing import Any

import aiohttp
from aiohttp import web
from hypothesis import given, settings, strategies as st
import pytest

from custom_components.chargekeeper.core import schedule as core_schedule
from custom_components.chargekeeper.core.errors import (
    ChargerError,
    LoginRejected,
    NoConnection,
    NotAllowed,
    TransportBusy,
    TransportDown,
)
from custom_components.chargekeeper.core.model import Window
from custom_components.chargekeeper.juicebox.juicenet.client import (
    MAX_BODY_BYTES,
    WEEKDAYS,
    WEEKEND,
    Blocking,
    Charging,
    Day,
    Info,
    JuiceNetClient,
    Override,
    State,
    Tou,
    Unit,
    normalize_server_url,
)
from tests.simulators.clock import START, VirtualClock
from tests.simulators.http_server import Fault
from tests.simulators.juicebox import Car, JuiceBox
from tests.simulators.juicebox_server import BoxHub, BoxIssue, Day as ServerDay, Group, Schedule, Unit as Known
from tests.simulators.juicenet_cloud import FIELDS, JuiceNetCloud

SERIAL, OTHER = "0910000000000000000000000021", "0817000000000000000000000022"
ACCOUNT = "11111111-2222-3333-4444-555555555555"
DEVICE = "home-assistant-1"
UNIT = Unit(serial=SERIAL, token="0" * 32)
NIGHT = ServerDay(start=22 * 60, end=6 * 60, car_ready_by=360)
NOON = ServerDay(start=11 * 60, end=13 * 60)

type Call = Callable[[JuiceNetClient, Unit], Awaitable[object]]
READS: dict[str, Call] = {
    "state": lambda client, unit: client.state(unit),
    "info": lambda client, unit: client.info(unit),
    "schedule": lambda client, unit: client.schedule(unit),
}
WRITES: dict[str, Call] = {
    "limit": lambda client, unit: client.set_limit(unit, 0),
    "end_override": lambda client, unit: client.end_override(unit),
}
UNIT_CALLS = {**READS, **WRITES, "charge_now": lambda client, unit: client.charge_now(unit)}
ALL: dict[str, Call] = {"units": lambda client, _: client.units(), **UNIT_CALLS}


def every(calls: Mapping[str, Call]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("call", calls.values(), ids=calls.keys())


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def server(clock: VirtualClock, socket_enabled: None) -> AsyncIterator[BoxHub]:
    server = BoxHub(clock, [Known(serial=SERIAL, name="Garage"), Known(serial=OTHER, name="Yard")])
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def box(server: BoxHub, clock: VirtualClock) -> AsyncIterator[JuiceBox]:
    """Yield a box with a charging car that reports to the maker's server."""
    box = JuiceBox(clock=clock, serial=SERIAL, server=server.address, meter_wh=1_000_000)
    box.plug_in(Car(wants_kwh=500, max_amperes=40))
    box.start()
    await clock.settle()
    yield box
    box.stop()


@pytest.fixture
async def cloud(server: BoxHub) -> AsyncIterator[JuiceNetCloud]:
    cloud = JuiceNetCloud(server)
    cloud.add_account(ACCOUNT)
    await cloud.start()
    yield cloud
    await cloud.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def client(cloud: JuiceNetCloud, clock: VirtualClock, session: aiohttp.ClientSession) -> JuiceNetClient:
    return JuiceNetClient(session, clock, f"{cloud.url}/", ACCOUNT, device_id=DEVICE, version="0.1.0")


@pytest.fixture
def unit(cloud: JuiceNetCloud) -> Unit:
    return Unit(serial=SERIAL, token=cloud.token(SERIAL))


def sent(cloud: JuiceNetCloud) -> list[tuple[str, dict[str, Any]]]:
    """Return method, path and body of each request, without the common fields."""
    found = []
    for request in cloud.requests:
        body = json.loads(request.body)
        assert body.pop("device_id") == DEVICE
        assert body.pop("account_token") == ACCOUNT
        found.append((f"{request.method} {request.path}", body))
    return found


async def test_units_are_listed_with_names_and_tokens(client: JuiceNetClient, cloud: JuiceNetCloud) -> None:
    assert await client.units() == (
        Unit(serial=OTHER, token=cloud.token(OTHER), name="Yard"),
        Unit(serial=SERIAL, token=cloud.token(SERIAL), name="Garage"),
    )
    assert sent(cloud) == [("POST /box_pin", {"cmd": "get_account_units"})]
    cloud.accounts[ACCOUNT] = frozenset()
    assert await client.units() == ()


async def test_state_is_parsed(
    client: JuiceNetClient, cloud: JuiceNetCloud, unit: Unit, box: JuiceBox, clock: VirtualClock
) -> None:
    await clock.advance(3600)
    state = await client.state(unit)
    assert sent(cloud) == [("POST /box_api_secure", {"cmd": "get_state", "token": unit.token})]
    assert (state.word, state.override_time, state.override) == ("charging", 0, Override.NONE)
    charging = state.charging
    assert (charging.amps_limit, charging.amps_current, charging.voltage) == (40, 40, 240)
    assert charging.watt_power == pytest.approx(240 * 40 * 0.996, abs=1)
    assert charging.seconds_charging == 3600
    assert (charging.wh_energy or 0) + 1_000_000 == state.lifetime
    assert charging.wh_energy_to_add == 60_000
    assert state.frequency == 59.99
    assert (state.temperature, state.blocking) == (24, Blocking.NOTHING)
    assert state.seen_at is not None
    assert timedelta() <= clock.now() - state.seen_at <= timedelta(seconds=11)
    assert state.unit_time == int(clock.now().timestamp())


async def test_state_shows_fault_unplugging_and_silence(
    client: JuiceNetClient, unit: Unit, box: JuiceBox, server: BoxHub, clock: VirtualClock
) -> None:
    box.set_fault(5)
    await clock.settle()
    assert (await client.state(unit)).word == "error"
    box.set_fault(0)
    box.unplug()
    await clock.settle()
    assert (await client.state(unit)).word == "standby"
    await server.set_trouble(BoxIssue.DEAD)
    await clock.advance(301)
    state = await client.state(unit)
    assert state.word == "disconnect"
    assert state.seen_at == START
    other = await client.state(Unit(serial=OTHER, token=f"{int(OTHER) + 0xABCDEF:032x}"))
    assert (other.word, other.seen_at) == ("disconnect", None)


async def test_info_returns_ratings_and_load_group(
    client: JuiceNetClient, cloud: JuiceNetCloud, unit: Unit, server: BoxHub
) -> None:
    server.unit(SERIAL).wire_rating = 32
    assert await client.info(unit) == Info(wire_rating=32, unit_rating=32)
    server.groups["Yard"] = Group(maximum=40)
    server.unit(SERIAL).group = "Yard"
    assert (await client.info(unit)).load_group == "group-Yard"
    assert sent(cloud)[0] == ("POST /box_api_secure", {"cmd": "get_info", "token": unit.token})


async def test_schedule_is_parsed(client: JuiceNetClient, cloud: JuiceNetCloud, unit: Unit, server: BoxHub) -> None:
    assert await client.schedule(unit) == Tou(enabled=False, weekday=Day(0, 1440), weekend=Day(0, 1440))
    server.unit(SERIAL).schedule = Schedule(custom=True, weekday=NIGHT, weekend=NOON)
    assert await client.schedule(unit) == Tou(enabled=True, weekday=Day(1320, 360), weekend=Day(660, 780))
    assert sent(cloud)[0] == ("POST /box_api_secure", {"cmd": "get_schedule", "token": unit.token})


ZONE = "America/Los_Angeles"


@pytest.mark.parametrize(
    ("day", "parts"),
    [
        (Day(960, 1260), [(time(16), time(21))]),
        (Day(1320, 360), [(time(22), time(0)), (time(0), time(6))]),
        (Day(0, 1440), [(time(0), time(0))]),
        (Day(600, 1440), [(time(10), time(0))]),
        (Day(1320, 0), [(time(22), time(0))]),
        (Day(1440, 60), [(time(0), time(1))]),
        (Day(300, 300), [(time(5), time(0)), (time(0), time(5))]),
    ],
)
def test_schedule_day_is_split_into_windows(day: Day, parts: list[tuple[time, time]]) -> None:
    windows = Tou(enabled=True, weekday=day, weekend=Day(0, 60)).windows(ZONE)
    assert [(w.start, w.end) for w in windows if w.days == WEEKDAYS] == parts
    assert windows[-1] == Window(2, True, WEEKEND, time(0), time(1), ZONE)
    assert len({window.slot for window in windows}) == len(windows)


def test_disabled_schedule_yields_disabled_windows() -> None:
    windows = Tou(enabled=False, weekday=Day(0, 60), weekend=Day(0, 60)).windows("UTC")
    assert [window.enabled for window in windows] == [False, False]


minutes = st.integers(0, 1440)
days = st.builds(Day, minutes, minutes)


@given(weekday=days, weekend=days, minute=st.integers(0, 7 * 1440 - 1))
def test_windows_match_enforcement_by_server(weekday: Day, weekend: Day, minute: int) -> None:
    now = START.replace(hour=0) + timedelta(minutes=minute)
    known = Known(
        serial=SERIAL,
        schedule=Schedule(
            custom=True,
            weekday=ServerDay(start=weekday.start, end=weekday.end),
            weekend=ServerDay(start=weekend.start, end=weekend.end),
        ),
    )
    windows = Tou(enabled=True, weekday=weekday, weekend=weekend).windows("UTC")
    assert core_schedule.inside(windows, now) is not known.blocked_by_schedule(now)


async def test_limit_reaches_box(
    client: JuiceNetClient, cloud: JuiceNetCloud, unit: Unit, box: JuiceBox, clock: VirtualClock
) -> None:
    await client.set_limit(unit, 16)
    assert sent(cloud) == [("POST /box_api_secure", {"cmd": "set_limit", "token": unit.token, "amperage": 16})]
    await clock.advance(30)
    assert box.amperes == 16
    await client.set_limit(unit, 0)
    await clock.advance(30)
    assert box.amperes == 0
    state = await client.state(unit)
    assert (state.word, state.blocking, state.charging.amps_limit) == ("plugged", Blocking.SWITCHED_OFF, 0)


@pytest.mark.parametrize("amps", [-1, 1, 5, 81])
async def test_invalid_limit_is_refused_without_request(
    client: JuiceNetClient, cloud: JuiceNetCloud, unit: Unit, amps: int
) -> None:
    with pytest.raises(ValueError, match=str(amps)):
        await client.set_limit(unit, amps)
    assert not cloud.requests


async def test_limit_may_be_reverted_by_server_but_zero_stays(
    client: JuiceNetClient, cloud: JuiceNetCloud, unit: Unit, box: JuiceBox, clock: VirtualClock
) -> None:
    cloud.reverts_after = 5.0
    await client.set_limit(unit, 16)
    await clock.advance(20)
    assert box.amperes == 40
    await client.set_limit(unit, 0)
    await clock.advance(20)
    assert box.amperes == 0, "switching off stays"


async def test_override_starts_and_ends_charging(
    client: JuiceNetClient,
    cloud: JuiceNetCloud,
    unit: Unit,
    box: JuiceBox,
    server: BoxHub,
    clock: VirtualClock,
) -> None:
    server.unit(SERIAL).schedule = Schedule(custom=True, weekday=NIGHT, weekend=NIGHT)
    server.unit(SERIAL).zone = core_schedule.zone(ZONE)
    clock.jump(6 * 3600)
    await clock.advance(30)
    before = await client.state(unit)
    assert (before.override, before.blocking) == (Override.NONE, Blocking.SCHEDULE)
    cloud.requests.clear()
    await client.charge_now(unit)
    local = int(clock.now().timestamp()) - 8 * 3600
    assert [body for _, body in sent(cloud)] == [
        {"cmd": "get_state", "token": unit.token},
        {
            "cmd": "set_override",
            "token": unit.token,
            "override_time": local,
            "energy_at_plugin": 0,
            "energy_to_add": 60_000,
        },
    ]
    await clock.advance(30)
    assert box.amperes == 40
    assert (await client.state(unit)).override is Override.CHARGE_NOW
    cloud.requests.clear()
    await client.end_override(unit)
    assert [body for _, body in sent(cloud)] == [
        {"cmd": "set_override", "token": unit.token, "override_time": 0, "energy_at_plugin": 0, "energy_to_add": 0}
    ]
    await clock.advance(30)
    assert box.amperes == 0
    assert (await client.state(unit)).override is Override.NONE
    server.unit(SERIAL).override_time = 2**31 - 1
    assert (await client.state(unit)).override is Override.NOT_BEFORE


@pytest.mark.parametrize(
    ("override_time", "unit_time", "expected"),
    [
        (None, 1_790_000_000, None),
        (0, None, Override.NONE),
        (1_790_000_000, None, None),
        (1_790_000_000, 1_790_000_000, Override.CHARGE_NOW),
        (1, 1_790_000_000, Override.CHARGE_NOW),
        (1_790_000_001, 1_790_000_000, Override.NOT_BEFORE),
    ],
)
def test_override_time_is_classified_by_unit_time(
    override_time: int | None, unit_time: int | None, expected: Override | None
) -> None:
    assert State("plugged", override_time=override_time, unit_time=unit_time).override is expected


@pytest.mark.parametrize("code", [None, 17])
@every(ALL)
async def test_wrong_account_is_refused(
    cloud: JuiceNetCloud, clock: VirtualClock, session: aiohttp.ClientSession, call: Call, code: int | None
) -> None:
    cloud.error_code = code
    stranger = JuiceNetClient(session, clock, cloud.url, "wrong-account-token", device_id=DEVICE)
    with pytest.raises(LoginRejected if call is ALL["units"] else NotAllowed) as refused:
        await call(stranger, UNIT)
    assert refused.value.reason == ("invalid_auth" if call is ALL["units"] else "refused")
    assert refused.value.detail == ("" if code is None else "code 17")
    assert "wrong-account-token" not in repr(refused.value)
    assert refused.value.surely_not_sent


@every(UNIT_CALLS)
async def test_wrong_unit_is_refused(client: JuiceNetClient, call: Call) -> None:
    with pytest.raises(NotAllowed) as refused:
        await call(client, UNIT)
    assert refused.value.reason == "refused"
    assert UNIT.token not in repr(UNIT)


@pytest.mark.parametrize(
    ("fault", "options", "error", "reason"),
    [
        (Fault.ERROR_500, {}, TransportDown, "server_error"),
        (Fault.GARBAGE, {}, TransportDown, "bad_answer"),
        (Fault.HTML, {}, TransportDown, "bad_answer"),
        (Fault.NULLS, {}, TransportDown, "bad_answer"),
        (Fault.NULLS, {"missing": True}, TransportDown, "bad_answer"),
        (Fault.HALF, {}, TransportDown, "broken_answer"),
        (Fault.RESET, {}, TransportDown, "broken_answer"),
        (Fault.REFUSE, {}, NoConnection, "unreachable"),
        (Fault.TOO_MANY, {"retry_after": 90}, TransportBusy, "throttled"),
    ],
)
@every(ALL)
async def test_server_fault_raises_matching_error_without_retry(
    client: JuiceNetClient,
    cloud: JuiceNetCloud,
    unit: Unit,
    fault: Fault,
    options: dict[str, Any],
    error: type[ChargerError],
    reason: str,
    call: Call,
) -> None:
    await cloud.set_fault(fault, **options)
    with pytest.raises(error) as raised:
        await call(client, unit)
    assert type(raised.value) is error
    assert raised.value.reason == reason
    assert raised.value.surely_not_sent is (error is not TransportDown)
    assert not {unit.token, SERIAL, ACCOUNT, cloud.url} & set(str(raised.value).split())
    assert len(cloud.requests) == (0 if fault is Fault.REFUSE else 1), "never repeated"
    await cloud.set_fault(Fault.NONE)
    await call(client, unit)


@pytest.mark.parametrize("fault", [Fault.UNAUTHORIZED, Fault.FORBIDDEN])
@every(ALL)
async def test_unauthorized_or_forbidden_answer_is_refusal(
    client: JuiceNetClient, cloud: JuiceNetCloud, unit: Unit, fault: Fault, call: Call
) -> None:
    await cloud.set_fault(fault)
    with pytest.raises(LoginRejected if call is ALL["units"] else NotAllowed):
        await call(client, unit)


@every(ALL)
async def test_hanging_server_times_out_after_10_s(
    client: JuiceNetClient, cloud: JuiceNetCloud, unit: Unit, clock: VirtualClock, call: Call
) -> None:
    await cloud.set_fault(Fault.HANG)
    asked = asyncio.ensure_future(call(client, unit))
    await clock.advance(9.9)
    assert not asked.done()
    await clock.advance(0.1)
    with pytest.raises(TransportDown) as raised:
        await asked
    assert raised.value.reason == "timeout"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0.0), ("90", 90.0), (" 0 ", 1.0), ("99999", 3600.0), ("soon", 0.0), ("-1", 0.0), ("9" * 500, 0.0)],
)
async def test_retry_after_header_sets_wait_time(
    session: aiohttp.ClientSession, clock: VirtualClock, socket_enabled: None, header: str | None, seconds: float
) -> None:
    headers = {} if header is None else {"Retry-After": header}
    async with answering(web.Response(status=429, headers=headers)) as url:
        with pytest.raises(TransportBusy) as busy:
            await JuiceNetClient(session, clock, url, ACCOUNT, device_id=DEVICE).units()
    assert busy.value.retry_after == seconds


@asynccontextmanager
async def answering(response: web.Response) -> AsyncIterator[str]:
    """Yield the URL of a server that gives the same response to every request."""

    async def handle(request: web.Request) -> web.Response:
        headers = {name: value for name, value in response.headers.items() if name != "Content-Length"}
        return web.Response(status=response.status, body=response.body, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize(
    "response",
    [
        web.Response(text="[]"),
        web.Response(text="1"),
        web.Response(text="[" * 100_000),
        web.Response(text="{}"),
        web.Response(text='{"success": 1}'),
        web.Response(text='{"success": true}'),
        web.Response(text='{"success": true, "units": {}, "state": 5, "type": "else"}'),
        web.Response(text='{"success": true, "units": [5, {}, {"token": "a b"}], "state": [], "type": "custom"}'),
        web.Response(text='{"success": true, "units": [{"unit_id": 7, "token": "a"}], "type": "custom", "weekday": 1}'),
        web.Response(
            text='{"success": true, "type": "custom", "weekday": {"start": 1, "end": 1441}, "weekend": {"start": 0}}'
        ),
        web.Response(text=json.dumps({"success": True, "padding": "x" * MAX_BODY_BYTES})),
        web.Response(status=301, headers={"Location": "http://127.0.0.1:9/"}),
        web.Response(status=204),
    ],
    ids=lambda response: f"{response.status} {(response.text or '')[:40]}",
)
async def test_nonsense_answer_raises_bad_answer(
    session: aiohttp.ClientSession, clock: VirtualClock, socket_enabled: None, response: web.Response
) -> None:
    async with answering(response) as url:
        client = JuiceNetClient(session, clock, url, ACCOUNT, device_id=DEVICE)
        for call in (ALL["units"], ALL["state"], ALL["schedule"], ALL["charge_now"]):
            with pytest.raises(TransportDown) as raised:
                await call(client, UNIT)
            assert raised.value.reason == "bad_answer"


@pytest.mark.parametrize("missing", [{"unit_time": None}, {"unit_time": 0}, {"charging": {}}, {"charging": None}])
async def test_override_with_missing_unit_data_is_refused(
    session: aiohttp.ClientSession, clock: VirtualClock, socket_enabled: None, missing: dict[str, Any]
) -> None:
    """Refuse instead of sending 0, which would end an override."""
    good = {"success": True, "state": "plugged", "unit_time": 1_790_000_000, "charging": {"wh_energy_to_add": 0}}
    async with answering(web.json_response(good | missing)) as url:
        client = JuiceNetClient(session, clock, url, ACCOUNT, device_id=DEVICE)
        with pytest.raises(TransportDown, match="no time of the unit"):
            await client.charge_now(UNIT)
    async with answering(web.json_response(good)) as url:
        await JuiceNetClient(session, clock, url, ACCOUNT, device_id=DEVICE).charge_now(UNIT)


async def test_bad_unit_entries_are_ignored_and_logged_once(
    session: aiohttp.ClientSession, clock: VirtualClock, socket_enabled: None, caplog: pytest.LogCaptureFixture
) -> None:
    good = {"unit_id": SERIAL, "token": "secret-token", "name": "A\n\x00B"}
    entries = [
        None,
        {"unit_id": "x", "token": "t"},
        {"unit_id": OTHER},
        {"unit_id": OTHER, "token": "a b"},
        good,
        {**good, "name": "twin"},
    ]
    with caplog.at_level(logging.WARNING):
        async with answering(web.json_response({"success": True, "units": entries})) as url:
            client = JuiceNetClient(session, clock, url, ACCOUNT, device_id=DEVICE)
            found = [await client.units() for _ in range(2)]
    assert found == [(Unit(serial=SERIAL, token="secret-token", name="A B"),)] * 2
    assert "secret-token" not in repr(found)
    assert [record.message for record in caplog.records if "juicenet" in record.name] == [
        "Unusable entries in the account's list of JuiceNet units are ignored"
    ]


PATHS = [field.partition(".") for field in (*FIELDS["get_state"], *FIELDS["get_info"])]
junk: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("0a \n", max_size=300) | st.just([]) | st.just({})
)


@settings(max_examples=300)
@given(
    outer=st.dictionaries(st.sampled_from([outer for outer, _, _ in PATHS]), junk),
    inner=st.dictionaries(st.sampled_from([inner for outer, _, inner in PATHS if outer == "charging"]), junk),
)
def test_absurd_values_become_none(outer: dict[str, Any], inner: dict[str, Any]) -> None:
    state = State.from_dict({"charging": inner, **outer, "state": "plugged"})
    assert isinstance(state.charging, Charging)
    assert state.override in {None, *Override}
    for number in (state.temperature, state.frequency, state.charging.amps_limit, state.charging.watt_power):
        assert number is None or -100 < number <= 100_000
    info = Info.from_dict(outer)
    assert info.wire_rating is None or 1 <= info.wire_rating <= 200
    assert info.load_group is None or len(info.load_group) <= 255


@pytest.mark.parametrize("raw", [7, -1, 1.5, True, "0", None])
def test_unknown_blocking_code_becomes_none(raw: object) -> None:
    assert State.from_dict({"state": "plugged", "triggers_blocking": raw}).blocking is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://192.0.2.1:8080/", "http://192.0.2.1:8080"),
        (" https://JuiceNet.Example.org ", "https://juicenet.example.org"),
        ("HTTPS://example.org/Juice/", "https://example.org/Juice"),
        ("http://[2001:db8::1]:80", "http://[2001:db8::1]:80"),
    ],
)
def test_server_url_is_normalized(text: str, expected: str) -> None:
    assert normalize_server_url(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.org",
        "ftp://example.org",
        "http://",
        "https://ann:secret@example.org",
        "https://example.org/?a=1",
        "https://example.org/#a",
        "https://example.org:0",
        "https://example.org:port",
        "https://example.org:99999",
        "http://[::1",
    ],
)
def test_invalid_server_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - some come from the standard library
        normalize_server_url(text)


def test_client_with_invalid_url_is_refused(clock: VirtualClock) -> None:
    with pytest.raises(ValueError, match="no address"):
        JuiceNetClient(None, clock, "example.org", ACCOUNT, device_id=DEVICE)  # type: ignore[arg-type]


async def test_user_agent_names_product_and_version(
    cloud: JuiceNetCloud, clock: VirtualClock, session: aiohttp.ClientSession
) -> None:
    seen: list[str] = []

    async def watch(session: aiohttp.ClientSession, context: Any, params: aiohttp.TraceRequestStartParams) -> None:
        seen.append(params.headers["User-Agent"])

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(watch)
    async with aiohttp.ClientSession(trace_configs=[trace]) as watched:
        for version in (None, "0.1.0"):
            await JuiceNetClient(watched, clock, cloud.url, ACCOUNT, device_id=DEVICE, version=version).units()
    assert seen == ["ChargeKeeper", "ChargeKeeper/0.1.0"]
