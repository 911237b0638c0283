"""The cloud client: its requests, and its results for good, bad and absurd answers. Each call is one request."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
import json
import logging
import math
from typing import override

import aiohttp
from hypothesis import given, settings, strategies as st
import pytest

from custom_components.chargekeeper.core.errors import (
    ChargerError,
    LoginRejected,
    NoConnection,
    NotAllowed,
    NotApplicable,
    TransportBusy,
    TransportDown,
    Unsupported,
)
from custom_components.chargekeeper.wallbox.client import (
    MAX_BODY_BYTES,
    UNREADABLE,
    CloudSchedule,
    ConfigData,
    EcoSmart,
    GroupCharger,
    RemoteAction,
    ScheduleList,
    Software,
    TokenRefused,
    Tokens,
    WallboxCloudClient,
    _http_date,
    _Kind,
    _retry_after,
)
from tests.simulators.clock import START, VirtualClock
from tests.simulators.wallbox_cloud import Account, Fault, Schedules, WallboxCloud
from tests.simulators.world import Car, Eco, SimulatedCharger, State, Window, World

EMAIL, PASSWORD = "Ann@Example.org", "pässwörd €"
SERIAL = "700123"
OTHER = "700099"
TOKENS = Tokens(
    access="secret-access",
    refresh="secret-refresh",
    access_expires_at=None,
    user_id="11111111-2222-3333-4444-555555555555",
)

type Call = Callable[[WallboxCloudClient], Awaitable[object]]
READS: dict[str, Call] = {
    "status": lambda client: client.status(SERIAL),
    "details": lambda client: client.details(SERIAL),
    "schedules": lambda client: client.schedules(SERIAL),
}
BODY: dict[str, object] = {
    "id": 0,
    "chargerId": int(SERIAL),
    "enable": False,
    "name": "",
    "type": 0,
    "repeat": 1,
    "target": 0,
    "max_current": 0,
    "max_energy": 0,
    "days": dict.fromkeys(("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"), True),
    "start": "2100",
    "stop": "0500",
    "created_at": 1900000000,
}
WRITES: dict[str, Call] = {
    "lock": lambda client: client.set_locked(SERIAL, True),
    "current": lambda client: client.set_max_charging_current(SERIAL, 10),
    "eco": lambda client: client.set_eco_smart(SERIAL, True, 1),
    "action": lambda client: client.remote_action(SERIAL, RemoteAction.PAUSE),
    "write_schedules": lambda client: client.write_schedules(SERIAL, [BODY]),
}
DATA: dict[str, Call] = {"groups": lambda client: client.groups(), **READS, **WRITES}
USER: dict[str, Call] = {
    "sign_in": lambda client: client.sign_in(EMAIL, PASSWORD),
    "refresh": lambda client: client.refresh(),
}
ALL = DATA | USER


def every(calls: Mapping[str, Call]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("call", calls.values(), ids=calls.keys())


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def world(clock: VirtualClock) -> World:
    world = World(clock)
    world.add(
        SimulatedCharger(serial=SERIAL, name="PulsarPlus SN 700123", max_charging_current=16, lifetime_kwh=1840.5)
    )
    world.add(SimulatedCharger(serial=OTHER, name="Driveway", charger_type="Commander2", eco=None, part_number=None))
    return world


@pytest.fixture
def charger(world: World) -> SimulatedCharger:
    return world.charger(SERIAL)


@pytest.fixture
async def cloud(world: World, clock: VirtualClock, socket_enabled: None) -> AsyncIterator[WallboxCloud]:
    cloud = WallboxCloud(world, clock)
    cloud.add_account(EMAIL, PASSWORD)
    cloud.access_lifetime = 86400.0
    await cloud.start()
    yield cloud
    await cloud.stop()


@pytest.fixture
def account(cloud: WallboxCloud) -> Account:
    return cloud.accounts[0]


@pytest.fixture
async def stranger(cloud: WallboxCloud, clock: VirtualClock) -> AsyncIterator[WallboxCloudClient]:
    """Yield a client that has not signed in."""
    async with aiohttp.ClientSession() as session:
        yield WallboxCloudClient(session, clock, user_api_url=cloud.url, api_url=cloud.url + "/", version="0.1.0")


@pytest.fixture
async def client(stranger: WallboxCloudClient, cloud: WallboxCloud) -> WallboxCloudClient:
    await stranger.sign_in(EMAIL, PASSWORD)
    cloud.requests.clear()
    return stranger


async def failure(awaitable: Awaitable[object]) -> ChargerError:
    with pytest.raises(ChargerError) as caught:
        await awaitable
    return caught.value


# Signing in


async def test_sign_in_returns_tokens_with_expiry_time(
    stranger: WallboxCloudClient, cloud: WallboxCloud, clock: VirtualClock, account: Account
) -> None:
    tokens = await stranger.sign_in(EMAIL, PASSWORD)
    assert stranger.tokens is tokens
    assert tokens.user_id == account.uuid
    assert tokens.access_expires_at == clock.now() + timedelta(seconds=cloud.access_lifetime)
    assert await stranger.groups()


async def test_refresh_replaces_both_tokens(client: WallboxCloudClient, cloud: WallboxCloud) -> None:
    before = client.tokens
    cloud.expire_access()
    assert before is not None
    after = await client.refresh()
    assert client.tokens is after
    assert after.access != before.access
    assert after.refresh != before.refresh
    assert await client.groups()
    assert await client.refresh(), "with the new refresh token: the old token works only once"


async def test_wrong_credentials_are_rejected(stranger: WallboxCloudClient) -> None:
    error = await failure(stranger.sign_in(EMAIL, "wrong"))
    assert (type(error), error.reason) == (LoginRejected, "invalid_auth")
    assert stranger.tokens is None


async def test_revoked_refresh_token_refused_and_tokens_kept(client: WallboxCloudClient, cloud: WallboxCloud) -> None:
    before = client.tokens
    cloud.revoke_refresh()
    error = await failure(client.refresh())
    assert (type(error), error.reason) == (TokenRefused, "token_refused")
    assert client.tokens is before


@every(DATA | {"refresh": USER["refresh"]})
async def test_call_without_tokens_sends_nothing(stranger: WallboxCloudClient, cloud: WallboxCloud, call: Call) -> None:
    assert type(await failure(call(stranger))) is TokenRefused
    assert cloud.requests == []


async def test_refresh_without_refresh_token_sends_nothing(client: WallboxCloudClient, cloud: WallboxCloud) -> None:
    client.tokens = Tokens("access", "", None, "user")
    assert type(await failure(client.refresh())) is TokenRefused
    assert cloud.requests == []


def test_tokens_hide_their_secrets() -> None:
    assert repr(TOKENS) == "Tokens(access_expires_at=None)"


# Reading


async def test_groups_list_chargers_in_order_of_serial_number(
    client: WallboxCloudClient, charger: SimulatedCharger, clock: VirtualClock
) -> None:
    charger.plug_in(Car(wants_kwh=50, max_amperes=16))
    await clock.advance(1800)
    other, ours = await client.groups()
    assert (ours.serial, ours.name, ours.charger_type) == (SERIAL, "PulsarPlus SN 700123", "PulsarPlus")
    assert (ours.status, ours.locked, ours.access, ours.operation_mode) == (194, False, True, "wallbox")
    assert (ours.max_charging_current, ours.software) == (16.0, Software("6.7.43", "6.7.43"))
    assert ours.added_energy == pytest.approx(5.52, abs=0.1)
    assert ours.charging_power == pytest.approx(11.04)
    assert ours.charging_time == pytest.approx(1800, abs=40)
    assert (other.serial, other.name, other.charger_type, other.status) == (OTHER, "Driveway", "Commander2", 161)


async def test_disconnected_charger_has_no_status(client: WallboxCloudClient, cloud: WallboxCloud) -> None:
    cloud.shown_status[SERIAL] = None
    assert (await client.groups())[1].status is None
    assert (await client.status(SERIAL)).status is None


async def test_status_read_with_its_config(
    client: WallboxCloudClient, charger: SimulatedCharger, clock: VirtualClock
) -> None:
    charger.home_sharing, charger.icp_max_current = True, 25
    charger.plug_in(Car(wants_kwh=50, max_amperes=16))
    await clock.advance(1800)
    status = await client.status(SERIAL)
    assert status.status == 194
    assert status.last_sync == f"{charger.report.at:%Y-%m-%d %H:%M:%S}"
    assert status.charging_power == pytest.approx(11.04)
    assert status.max_available_power == 32.0
    assert status.added_energy == pytest.approx(5.52, abs=0.1)
    assert status.charging_time == pytest.approx(1800, abs=40)
    assert status.cost == pytest.approx(1.38, abs=0.03)
    assert status.config == ConfigData(
        locked=False,
        max_charging_current=16.0,
        max_available_current=32.0,
        icp_max_current=25.0,
        home_sharing=True,
        currency="EUR",
        time_zone="Europe/Berlin",
        part_number="PLP1-0-2-4-9-002-F",
        operation_mode="wallbox",
        eco_smart=EcoSmart(enabled=False, mode=0, percentage=100),
        software=Software("6.7.43", "6.7.43"),
    )
    older = (await client.status(OTHER)).config
    assert (older.eco_smart, older.part_number) == (None, None)


@pytest.mark.parametrize("role", ["super-admin", "admin", "user", None])
async def test_details_show_the_role_of_the_account(
    client: WallboxCloudClient, cloud: WallboxCloud, charger: SimulatedCharger, account: Account, role: str | None
) -> None:
    account.role = role
    cloud.accounts.insert(0, Account(email="bob@example.org", password="-", number=1, uuid="2", role="operator"))
    details = await client.details(SERIAL)
    assert details.profile == role
    assert details.total_energy == pytest.approx(1_840_500)
    assert details.last_sync == f"{charger.report.at:%Y-%m-%d %H:%M:%S.%f}"
    assert details.software_version == "6.7.43"
    assert (details.max_charging_current, details.max_available_current) == (16.0, 32.0)


async def test_schedules_read_with_entries_and_raw_objects(
    client: WallboxCloudClient, charger: SimulatedCharger
) -> None:
    charger.schedules = (Window(start="2100", stop="0500", days=frozenset({0, 4}), max_current=10),)
    listed = await client.schedules(SERIAL)
    assert listed.entries == (
        CloudSchedule(
            slot=0, enabled=True, days=frozenset({0, 4}), start="2100", stop="0500", max_current=10, max_energy=0
        ),
    )
    assert [entry["start"] for entry in listed.raw] == ["2100"]
    assert (listed.newest, listed.is_whole) == (1780000000, True)
    assert await client.schedules(OTHER) == ScheduleList()


# Writing


async def test_lock_write_locks_and_unlocks(client: WallboxCloudClient, charger: SimulatedCharger) -> None:
    await client.set_locked(SERIAL, True)
    assert charger.locked
    await client.set_locked(SERIAL, False)
    assert not charger.locked


async def test_current_write_sets_current(client: WallboxCloudClient, charger: SimulatedCharger) -> None:
    await client.set_max_charging_current(SERIAL, 10)
    assert charger.max_charging_current == 10


async def test_eco_smart_written_or_unsupported_on_older_model(
    client: WallboxCloudClient, charger: SimulatedCharger
) -> None:
    await client.set_eco_smart(SERIAL, True, 1, 60)
    assert charger.eco == Eco(enabled=True, mode=1, percentage=60)
    await client.set_eco_smart(SERIAL, False, 0)
    assert charger.eco == Eco(enabled=False, mode=0, percentage=100)
    assert type(await failure(client.set_eco_smart(OTHER, True, 1))) is Unsupported


@pytest.mark.parametrize("schedules", Schedules)
async def test_schedules_written_to_either_kind_of_cloud(
    client: WallboxCloudClient, cloud: WallboxCloud, charger: SimulatedCharger, schedules: Schedules
) -> None:
    cloud.schedules = schedules
    charger.schedules = (Window(start="2200", stop="0600"), Window(start="1000", stop="1200"))
    await client.write_schedules(SERIAL, [BODY])
    there = [(window.start, window.enabled) for window in charger.schedules]
    assert there == [("2100", False), *([("1000", True)] if schedules is Schedules.MERGED else [])]


async def test_schedule_write_answered_with_error_reported_as_not_taken() -> None:
    error = await failure(Canned({"sync_timestamp": 1, "error": True}).write_schedules("9", [BODY]))
    assert (type(error), error.reason) == (NotApplicable, "schedule_not_taken")


async def test_remote_actions_take_effect_on_the_charger(
    client: WallboxCloudClient, charger: SimulatedCharger, clock: VirtualClock
) -> None:
    charger.schedules = (Window(start="2200", stop="0600"),)
    charger.plug_in()
    states: list[State] = []
    for action in (RemoteAction.RESUME, RemoteAction.PAUSE, RemoteAction.AUTOMATIC):
        await client.remote_action(SERIAL, action)
        states.append(charger.state)
    assert states == [State.CHARGING, State.PAUSED, State.WAITING_SCHEDULE]
    await client.remote_action(SERIAL, RemoteAction.RESTART)
    assert charger.restarts == 1
    await clock.advance(300)
    charger.firmware_latest = "6.8.0"
    await client.remote_action(SERIAL, RemoteAction.INSTALL)
    assert charger.updating


@pytest.mark.parametrize("number", [-1, 0, 4, 6, 7, 8, 10])
async def test_factory_reset_and_unknown_actions_cannot_be_sent(
    client: WallboxCloudClient, cloud: WallboxCloud, number: int
) -> None:
    with pytest.raises(ValueError, match="is not a valid RemoteAction"):
        await client.remote_action(SERIAL, number)  # type: ignore[arg-type]
    assert cloud.requests == []
    assert cloud.factory_resets == []


# Refusals


async def test_expired_token_refused_for_every_data_call(client: WallboxCloudClient, cloud: WallboxCloud) -> None:
    cloud.expire_access()
    for call in DATA.values():
        assert type(await failure(call(client))) is TokenRefused


@every(READS | WRITES)
async def test_unknown_charger_reported_as_not_shared(client: WallboxCloudClient, world: World, call: Call) -> None:
    del world.chargers[SERIAL]
    error = await failure(call(client))
    assert (type(error), error.reason) == (NotAllowed, "not_shared")


async def test_unshared_charger_busy_for_reads_and_refused_for_writes(
    client: WallboxCloudClient, account: Account
) -> None:
    account.unshared.add(SERIAL)
    error = await failure(client.status(SERIAL))
    assert isinstance(error, TransportBusy)
    assert (error.reason, error.retry_after) == ("forbidden", 0.0)
    refused = await failure(client.set_locked(SERIAL, True))
    assert (type(refused), refused.reason) == (NotAllowed, "refused")


async def test_action_in_wrong_state_reported_as_not_applicable(client: WallboxCloudClient) -> None:
    error = await failure(client.remote_action(SERIAL, RemoteAction.RESUME))
    assert (type(error), error.reason) == (NotApplicable, "wrong_state")


async def test_write_rejected_by_cloud_reported_as_unsupported(client: WallboxCloudClient) -> None:
    error = await failure(client.write_schedules(SERIAL, [BODY | {"days": {"monday": True}}]))
    assert (type(error), error.reason) == (Unsupported, "rejected")


# Faults


BROKEN: dict[Fault, tuple[type[ChargerError], str]] = {
    Fault.REFUSE: (NoConnection, "unreachable"),
    Fault.ERROR_500: (TransportDown, "server_error"),
    Fault.TOO_MANY: (TransportBusy, "throttled"),
    Fault.GARBAGE: (TransportDown, "bad_answer"),
    Fault.HTML: (TransportDown, "bad_answer"),
    Fault.RESET: (TransportDown, "broken_answer"),
}
BROKEN_READS: dict[Fault, tuple[type[ChargerError], str]] = {
    **BROKEN,
    Fault.HALF: (TransportDown, "broken_answer"),
    Fault.NULLS: (TransportDown, "bad_answer"),
}
GETS = READS | {"groups": DATA["groups"]} | USER


@every(ALL)
@pytest.mark.parametrize("fault", BROKEN)
async def test_broken_cloud_causes_one_request_and_one_error(
    client: WallboxCloudClient, cloud: WallboxCloud, fault: Fault, call: Call
) -> None:
    await cloud.set_fault(fault)
    error = await failure(call(client))
    assert (type(error), error.reason) == BROKEN[fault]
    assert len(cloud.requests) == (fault is not Fault.REFUSE)


@every(GETS)
@pytest.mark.parametrize("fault", [Fault.HALF, Fault.NULLS])
async def test_half_answer_or_answer_of_nulls_is_an_error(
    client: WallboxCloudClient, cloud: WallboxCloud, charger: SimulatedCharger, fault: Fault, call: Call
) -> None:
    charger.schedules = (Window(start="2100", stop="0500"),)
    await cloud.set_fault(fault)
    error = await failure(call(client))
    assert (type(error), error.reason) == BROKEN_READS[fault]
    assert len(cloud.requests) == 1


@pytest.mark.parametrize("name", ["groups", "status", "schedules", "sign_in", "refresh"])
async def test_answer_without_its_members_is_a_bad_answer(
    client: WallboxCloudClient, cloud: WallboxCloud, charger: SimulatedCharger, name: str
) -> None:
    charger.schedules = (Window(start="2100", stop="0500"),)
    await cloud.set_fault(Fault.NULLS, missing=True)
    assert (await failure(ALL[name](client))).reason == "bad_answer"


async def test_details_without_their_members_hold_no_values(client: WallboxCloudClient, cloud: WallboxCloud) -> None:
    await cloud.set_fault(Fault.NULLS, missing=True)
    details = await client.details(SERIAL)
    assert (details.profile, details.total_energy, details.last_sync) == (None,) * 3


async def test_write_with_truncated_answer_is_an_error_although_carried_out(
    client: WallboxCloudClient, cloud: WallboxCloud, charger: SimulatedCharger
) -> None:
    await cloud.set_fault(Fault.HALF)
    error = await failure(client.set_locked(SERIAL, True))
    assert (type(error), error.reason) == (TransportDown, "broken_answer")
    assert charger.locked, "the command took effect nevertheless"
    assert len(cloud.requests) == 1


@every(ALL)
async def test_call_to_hanging_cloud_times_out_after_ten_seconds(
    client: WallboxCloudClient, cloud: WallboxCloud, clock: VirtualClock, call: Call
) -> None:
    await cloud.set_fault(Fault.HANG)
    task = asyncio.ensure_future(failure(call(client)))
    await clock.advance(9.9)
    assert not task.done()
    await clock.advance(0.2)
    error = await task
    assert (type(error), error.reason) == (TransportDown, "timeout")
    assert len(cloud.requests) == 1


@pytest.mark.parametrize(("sent", "waited"), [(None, 0.0), (0, 1.0), (90, 90.0), (86400, 3600.0)])
async def test_throttled_call_reports_wait_time_of_at_most_an_hour(
    client: WallboxCloudClient, cloud: WallboxCloud, sent: int | None, waited: float
) -> None:
    for fault, call in (
        (Fault.TOO_MANY, USER["sign_in"]),
        (Fault.TOO_MANY, WRITES["lock"]),
        (Fault.FORBIDDEN, READS["status"]),
    ):
        await cloud.set_fault(fault, retry_after=sent)
        error = await failure(call(client))
        assert isinstance(error, TransportBusy)
        assert error.retry_after == waited


async def test_forbidden_write_refused_even_with_retry_after(client: WallboxCloudClient, cloud: WallboxCloud) -> None:
    await cloud.set_fault(Fault.FORBIDDEN, retry_after=60)
    assert type(await failure(client.set_locked(SERIAL, True))) is NotAllowed


@pytest.mark.parametrize("offset", [-7200.0, 0.0, 45.0, 400 * 86400.0])
async def test_cloud_clock_skew_measured_from_answers(
    stranger: WallboxCloudClient, cloud: WallboxCloud, offset: float
) -> None:
    cloud.clock_offset = offset
    await stranger.sign_in(EMAIL, PASSWORD)
    assert stranger.cloud_skew.total_seconds() == pytest.approx(offset, abs=1)
    cloud.clock_offset = offset + 600
    await cloud.set_fault(Fault.ERROR_500)
    await failure(stranger.groups())
    assert stranger.cloud_skew.total_seconds() == pytest.approx(offset + 600, abs=1)


FAILURES = (
    *((fault, name) for fault in BROKEN for name in ALL),
    *((fault, name) for fault in (Fault.HALF, Fault.NULLS) for name in GETS),
    *((fault, name) for fault in (Fault.UNAUTHORIZED, Fault.FORBIDDEN) for name in DATA),
)


@pytest.mark.parametrize(("fault", "name"), FAILURES)
async def test_i12_no_error_or_log_line_contains_a_secret(
    client: WallboxCloudClient, cloud: WallboxCloud, caplog: pytest.LogCaptureFixture, fault: Fault, name: str
) -> None:
    caplog.set_level(logging.DEBUG)
    assert client.tokens is not None
    secrets = (EMAIL, PASSWORD, SERIAL, "access-", "refresh-", client.tokens.user_id, cloud.url, "/chargers", "/users")
    await cloud.set_fault(fault, retry_after=60)
    error = await failure(ALL[name](client))
    texts = [record.getMessage() for record in caplog.records if record.name.startswith("custom_components")]
    texts += [str(error), repr(error), error.detail]
    assert not [secret for secret in secrets for text in texts if secret.lower() in text.lower()]
    assert error.__suppress_context__ or error.__context__ is None, "a traceback would show the address"


# Answers byte by byte


class Script:
    """A server that answers every request with the same bytes and keeps the requests."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.seen: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answer)
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def scripted(clock: VirtualClock, answer: bytes) -> AsyncIterator[tuple[WallboxCloudClient, Script]]:
    script = Script(answer)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, aiohttp.ClientSession() as session:
        client = WallboxCloudClient(session, clock, user_api_url=script.url, api_url=script.url, version="1.2.3")
        client.tokens = TOKENS
        yield client, script


def http(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    headers = {"content_type": "application/json", "content_length": str(len(body))} | headers
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.usefixtures("socket_enabled")
class TestBytes:
    """Requests and answers byte by byte."""

    async def test_sign_in_sends_credentials_and_partner_header(self, clock: VirtualClock) -> None:
        async with scripted(clock, http(status="403 Forbidden")) as (client, script):
            await failure(client.sign_in(EMAIL, PASSWORD))
        head = script.seen[0].decode()
        assert head.startswith("GET /users/signin HTTP/1.1\r\n")
        assert f"Authorization: Basic {base64.b64encode(f'{EMAIL}:{PASSWORD}'.encode()).decode()}\r\n" in head
        assert "Partner: wallbox\r\n" in head
        assert "Accept: application/json\r\n" in head
        assert "Content-Type: application/json;charset=UTF-8\r\n" in head
        assert "User-Agent: ChargeKeeper/1.2.3\r\n" in head

    async def test_refresh_sends_refresh_token_and_partner_header(self, clock: VirtualClock) -> None:
        async with scripted(clock, http(status="403 Forbidden")) as (client, script):
            assert type(await failure(client.refresh())) is TokenRefused
        head = script.seen[0].decode()
        assert head.startswith("GET /users/refresh-token HTTP/1.1\r\n")
        assert "Authorization: Bearer secret-refresh\r\n" in head
        assert "Partner: wallbox\r\n" in head

    async def test_data_call_sends_access_token_without_partner_header(self, clock: VirtualClock) -> None:
        async with scripted(clock, http(b'{"action":3}')) as (client, script):
            await client.remote_action(SERIAL, RemoteAction.RESTART)
        head = script.seen[0].decode()
        assert head.startswith(f"POST /v3/chargers/{SERIAL}/remote-action HTTP/1.1\r\n")
        assert "Authorization: Bearer secret-access\r\n" in head
        assert "Content-Type: application/json;charset=UTF-8\r\n" in head
        assert "Connection: close\r\n" in head
        assert "Partner" not in head

    async def test_client_without_version_sends_only_its_name(self, clock: VirtualClock) -> None:
        async with scripted(clock, http(status="403 Forbidden")) as (_, script), aiohttp.ClientSession() as session:
            await failure(WallboxCloudClient(session, clock, user_api_url=script.url).sign_in(EMAIL, PASSWORD))
        assert "User-Agent: ChargeKeeper\r\n" in script.seen[0].decode()

    async def test_redirect_not_followed(self, clock: VirtualClock) -> None:
        async with scripted(clock, b"") as (client, script):
            script.answer = http(status="302 Found", location=f"{script.url}/elsewhere")
            error = await failure(client.groups())
            assert (type(error), error.reason) == (TransportDown, "bad_answer")
            assert len(script.seen) == 1

    @pytest.mark.parametrize(
        ("name", "status", "error", "reason"),
        [
            ("sign_in", 400, TransportDown, "server_error"),
            ("sign_in", 401, LoginRejected, "invalid_auth"),
            ("sign_in", 403, LoginRejected, "invalid_auth"),
            ("sign_in", 404, TransportDown, "server_error"),
            ("refresh", 400, TransportDown, "server_error"),
            ("refresh", 401, TokenRefused, "token_refused"),
            ("refresh", 403, TokenRefused, "token_refused"),
            ("groups", 404, TransportDown, "server_error"),
            ("status", 400, Unsupported, "rejected"),
            ("lock", 422, Unsupported, "rejected"),
            ("lock", 401, TokenRefused, "token_refused"),
            ("lock", 503, TransportDown, "server_error"),
            ("status", 304, TransportDown, "bad_answer"),
        ],
    )
    async def test_http_error_status_becomes_matching_error(
        self, clock: VirtualClock, name: str, status: int, error: type[ChargerError], reason: str
    ) -> None:
        async with scripted(clock, http(status=f"{status} Something")) as (client, _):
            found = await failure(ALL[name](client))
        assert (type(found), found.reason) == (error, reason)

    @pytest.mark.parametrize("status", ["200 OK", "204 No Content"])
    @every(WRITES)
    async def test_empty_answer_to_write_is_an_acknowledgement(
        self, clock: VirtualClock, status: str, call: Call
    ) -> None:
        async with scripted(clock, http(status=status, content_type="text/html")) as (client, _):
            assert await call(client) is None

    @every(GETS)
    async def test_empty_answer_to_read_is_a_bad_answer(self, clock: VirtualClock, call: Call) -> None:
        async with scripted(clock, http()) as (client, _):
            assert (await failure(call(client))).reason == "bad_answer"

    async def test_echo_of_another_action_is_a_bad_answer(self, clock: VirtualClock) -> None:
        async with scripted(clock, http(b'{"action":2}')) as (client, _):
            assert (await failure(client.remote_action(SERIAL, RemoteAction.RESTART))).reason == "bad_answer"

    @pytest.mark.parametrize(
        "kind", ["application/json; charset=utf-8", "application/vnd.api+json", "APPLICATION/JSON"]
    )
    async def test_json_accepted_under_each_json_content_type(self, clock: VirtualClock, kind: str) -> None:
        async with scripted(clock, http(b'{"result":{"groups":[]}}', content_type=kind)) as (client, _):
            assert await client.groups() == ()

    @pytest.mark.parametrize(
        "answer",
        [
            http(b'{"result":{"groups":[]}}', content_type="text/plain"),
            http(b'{"result":{"groups":[]'),
            http(b'{"result":{"groups":' + b"[" * 200_000 + b"]" * 200_000 + b"}}"),
            http(b'{"result":' + b"9" * 5000 + b"}"),
            http(b'{"result":"' + b"x" * MAX_BODY_BYTES + b'"}'),
            http(b"[]"),
            http(b"null"),
            http(b'{"result":{"groups":null}}'),
            b"no HTTP at all\r\n\r\n",
        ],
        ids=["text", "half", "deep", "long number", "long", "list", "null", "no groups", "no HTTP"],
    )
    async def test_unreadable_answer_is_a_bad_answer(self, clock: VirtualClock, answer: bytes) -> None:
        async with scripted(clock, answer) as (client, _):
            error = await failure(client.groups())
        assert (type(error), error.reason) == (TransportDown, "bad_answer")

    @pytest.mark.parametrize("date", ["", "soon", "Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 02 Nov 9999 12:00:00 GMT"])
    async def test_implausible_date_header_ignored(self, clock: VirtualClock, date: str) -> None:
        async with scripted(clock, http(b'{"result":{"groups":[]}}', date=date)) as (client, _):
            client.cloud_skew = timedelta(seconds=5)
            await client.groups()
            assert client.cloud_skew == timedelta(seconds=5)

    async def test_retry_after_date_measured_by_cloud_clock(self, clock: VirtualClock) -> None:
        cloud_now = START + timedelta(days=3)
        until = format_datetime(cloud_now + timedelta(seconds=240), usegmt=True)
        answer = http(status="429 Wait", date=format_datetime(cloud_now, usegmt=True), retry_after=until)
        async with scripted(clock, answer) as (client, _):
            error = await failure(client.groups())
        assert isinstance(error, TransportBusy)
        assert error.retry_after == 240

    @pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://", "no address", "ftp://127.0.0.1"])
    async def test_unreachable_address_reported_as_no_connection(self, clock: VirtualClock, url: str) -> None:
        async with aiohttp.ClientSession() as session:
            client = WallboxCloudClient(session, clock, user_api_url=url, api_url=url)
            error = await failure(client.sign_in(EMAIL, PASSWORD))
        assert isinstance(error, NoConnection)
        assert error.surely_not_sent
        assert url not in str(error)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 120 ", 120.0),
        ("1.5", 2.0),
        ("-5", 1.0),
        ("9" * 400, 3600.0),
        ("Mon, 02 Nov 2026 12:01:30 GMT", 90.0),
        ("Mon, 02 Nov 2026 12:01:30 -0000", 90.0),
        ("Mon, 02 Nov 2026 11:00:00 GMT", 1.0),
        ("Tue, 03 Nov 2026 12:00:00 GMT", 3600.0),
        ("Mon, 02 Nov 9999 12:00:00 GMT", 0.0),
        ("nan", 0.0),
        ("1e3", 0.0),
        ("soon", 0.0),
        ("", 0.0),
    ],
)
def test_retry_after_read_from_seconds_or_date(text: str, seconds: float) -> None:
    assert _retry_after(text, START) == seconds


@given(st.text(max_size=60))
def test_arbitrary_header_text_never_raises(text: str) -> None:
    assert _retry_after(text, START) == 0.0 or 1.0 <= _retry_after(text, START) <= 3600.0
    assert _http_date(text) is None


# Payloads


class Canned(WallboxCloudClient):
    """A client whose every answer is the same document."""

    def __init__(self, answer: object) -> None:
        super().__init__(session=None, clock=VirtualClock())  # type: ignore[arg-type]
        self.tokens = TOKENS
        self._own_names = frozenset({"ann@example.org", TOKENS.user_id})
        self._answer = json.dumps(answer).encode()

    @override
    async def _exchange(
        self, kind: _Kind, method: str, url: str, authorization: str, body: Mapping[str, object] | None
    ) -> bytes:
        return self._answer


def in_groups(*chargers: object) -> object:
    return {"result": {"groups": [{"chargers": list(chargers)}]}}


async def test_broken_entries_skipped_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    broken: tuple[object, ...] = (
        None,
        7,
        [],
        {},
        {"id": None},
        {"id": True},
        {"id": 0},
        {"id": -3},
        {"id": "../x"},
        {"id": 1.5},
    )
    client = Canned(in_groups({"id": 9, "name": "First"}, *broken, {"id": "8"}, {"id": 9, "name": "Again"}))
    for _ in range(2):
        assert [(c.serial, c.name) for c in await client.groups()] == [("8", None), ("9", "First")]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"{len(broken)} entries in the account's list of chargers have no usable ID and are skipped"
    ]


async def test_list_without_any_usable_entry_is_a_bad_answer() -> None:
    assert (await failure(Canned(in_groups({"id": "?"})).groups())).reason == "bad_answer"


async def test_malformed_groups_left_out() -> None:
    answer = {"result": {"groups": [None, 3, {"chargers": None}, {"chargers": 5}, {"chargers": [{"id": 9}]}]}}
    assert await Canned(answer).groups() == (GroupCharger(serial="9"),)


ABSURD: tuple[object, ...] = (
    *(math.nan, math.inf, -math.inf, 1e99, -1e99, 10**30, -7, True, "16", "", [], {}, [1], {"a": 1}, None),
)


@pytest.mark.parametrize("value", ABSURD, ids=repr)
async def test_absurd_value_becomes_none(value: object) -> None:
    fields = ("maxChargingCurrent", "addedEnergy", "chargingTime")
    (charger,) = await Canned(in_groups({"id": 9} | dict.fromkeys(fields, value))).groups()
    assert (charger.max_charging_current, charger.added_energy, charger.charging_time) == (None, None, None)
    config = {"max_available_current": value, "icp_max_current": value, "max_charging_current": value}
    status = await Canned({"status_id": 161, "config_data": config, "cost": value, "added_energy": value}).status("9")
    assert (status.cost, status.added_energy, status.config) == (None, None, ConfigData())


@pytest.mark.parametrize("value", [v for v in ABSURD if v is not None], ids=repr)
async def test_absurd_status_is_unreadable_not_offline(value: object) -> None:
    (charger,) = await Canned(in_groups({"id": 9, "status": value})).groups()
    assert charger.status == UNREADABLE
    assert (await Canned({"status_id": value, "name": "A"}).status("9")).status == UNREADABLE


@pytest.mark.parametrize("value", [math.nan, 2, -1, "1", [], {}, 0.5, None], ids=repr)
async def test_flag_other_than_0_or_1_becomes_none(value: object) -> None:
    (charger,) = await Canned(in_groups({"id": 9, "locked": value})).groups()
    assert charger.locked is None


@pytest.mark.parametrize(("value", "flag"), [(0, False), (1, True), (False, False), (True, True), (1.0, True)])
async def test_flag_of_0_or_1_becomes_a_boolean(value: object, flag: bool) -> None:
    (charger,) = await Canned(in_groups({"id": 9, "locked": value})).groups()
    assert charger.locked is flag


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  Garage \n left\u00a0side\x00 ", "Garage left side"),
        ("Ladestation 🚗", "Ladestation 🚗"),
        ("\ud800", None),
        ("", None),
        ("x" * 256, None),
        (5, None),
    ],
)
async def test_name_reduced_to_one_printable_line(text: object, clean: str | None) -> None:
    (charger,) = await Canned(in_groups({"id": 9, "name": text})).groups()
    assert charger.name == clean


async def test_whole_number_written_as_float_accepted() -> None:
    (charger,) = await Canned(in_groups({"id": 9, "status": 161.0, "maxChargingCurrent": 16.0})).groups()
    assert (charger.status, charger.max_charging_current) == (161, 16.0)


@pytest.mark.parametrize(
    ("total", "energy"),
    [
        ("5120000", 5_120_000.0),
        ("5120000.5", 5_120_000.5),
        (5120000, 5_120_000.0),
        ("-1", None),
        ("1e99", None),
        ("nan", None),
        ("9" * 40, None),
        (None, None),
        (True, None),
    ],
)
async def test_lifetime_energy_read_from_text_or_number_in_watt_hours(total: object, energy: float | None) -> None:
    details = await Canned({"data": {"chargerData": {"id": 9, "resume": {"totalEnergy": total}}}}).details("9")
    assert details.total_energy == energy


@pytest.mark.parametrize(
    ("raw", "synced"),
    [
        ({"date": "2026-09-21 14:13:20.0", "timezone": "UTC"}, "2026-09-21 14:13:20.0"),
        ({"date": "2026-09-21 14:13:20.0"}, "2026-09-21 14:13:20.0"),
        ({"date": "2026-09-21 14:13:20.0", "timezone": "Europe/Berlin"}, None),
        ("2026-09-21", None),
    ],
)
async def test_last_sync_read_only_as_utc(raw: object, synced: str | None) -> None:
    details = await Canned({"data": {"chargerData": {"id": 9, "lastSync": raw}}}).details("9")
    assert details.last_sync == synced


@pytest.mark.parametrize("charger", [None, 3, [], "x"])
async def test_details_without_a_charger_are_a_bad_answer(charger: object) -> None:
    assert (await failure(Canned({"data": {"chargerData": charger, "x": 1}}).details("9"))).reason == "bad_answer"


@pytest.mark.parametrize(
    ("users", "profile"),
    [
        ([{"email": " ANN@example.org", "profile": "admin"}], "admin"),
        ([{"id": TOKENS.user_id, "profile": "user"}], "user"),
        ([{"email": "bob@example.org", "profile": "user"}, {"email": "ann@example.org", "profile": "admin"}], "admin"),
        ([{"email": "bob@example.org", "profile": "super-admin"}], None),
        ([{"email": "ann@example.org", "profile": 3}], None),
        ([{"id": 90001, "email": None, "profile": "admin"}, None, 4], None),
        ("ann@example.org", None),
        (None, None),
    ],
)
async def test_role_read_only_from_own_user_entry(users: object, profile: str | None) -> None:
    details = await Canned({"data": {"chargerData": {"id": 9}, "users": users}}).details("9")
    assert details.profile == profile


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"enable": 1}, CloudSchedule(slot=0, enabled=True)),
        ({"enable": "yes"}, CloudSchedule(slot=0)),
        ({"days": {"monday": 1, "sunday": True, "friday": False}}, CloudSchedule(slot=0, days=frozenset({0, 6}))),
        ({"days": {"monday": "yes"}}, CloudSchedule(slot=0)),
        ({"days": ["monday"]}, CloudSchedule(slot=0)),
        ({"max_current": None, "max_energy": None}, CloudSchedule(slot=0)),
        ({"max_current": "16"}, CloudSchedule(slot=0, max_current=-1)),
        ({"max_energy": -4}, CloudSchedule(slot=0, max_energy=-1)),
    ],
)
async def test_schedule_entry_keeps_its_readable_fields(part: dict[str, object], expected: CloudSchedule) -> None:
    listed = await Canned({"schedules": [{"id": 0} | part]}).schedules("9")
    assert (listed.entries, listed.is_whole) == ((expected,), True)


@pytest.mark.parametrize("answer", [{"a": 1}, [], {"schedules": [{"days": {}}]}, {"schedules": [{}, {"id": None}]}])
async def test_answer_without_usable_schedules_is_a_bad_answer(answer: object) -> None:
    assert (await failure(Canned(answer).schedules("9"))).reason == "bad_answer"


@pytest.mark.parametrize(
    "answer",
    [
        {"schedules": 3},
        {"schedules": {"id": 0}},
        {"schedules": ["x"]},
        {"schedules": [None, {"id": 0}]},
        {"schedules": [{"id": 0, "created_at": "yesterday"}]},
        {"schedules": [{"id": 0, "created_at": True}]},
        {"schedules": [{"id": 0, "created_at": -1}]},
        {"schedules": [{"id": 0}], "lastSchedule": "never"},
    ],
    ids=str,
)
async def test_incomplete_schedule_list_marked_as_not_whole(answer: object) -> None:
    assert not (await Canned(answer).schedules("9")).is_whole


@pytest.mark.parametrize(
    ("answer", "newest"),
    [
        ({"schedules": []}, 0),
        ({"schedules": [], "lastSchedule": 7}, 7),
        ({"schedules": [{"id": 0, "created_at": 9}, {"id": 1, "created_at": None}, {"id": 2}], "lastSchedule": 7}, 9),
    ],
    ids=str,
)
async def test_newest_time_of_schedule_list_found(answer: object, newest: int) -> None:
    listed = await Canned(answer).schedules("9")
    assert (listed.newest, listed.is_whole) == (newest, True)


@pytest.mark.parametrize("code", ["EUR", "eur", "EURO", "", None, 978])
async def test_currency_other_than_three_capital_letters_ignored(code: object) -> None:
    status = await Canned({"status_id": 161, "config_data": {"currency": {"code": code}}}).status("9")
    assert status.config.currency == ("EUR" if code == "EUR" else None)


def token_answer(**attributes: object) -> object:
    return {"data": {"id": "from-the-id", "attributes": attributes}}


async def test_refresh_keeps_values_missing_from_the_answer() -> None:
    answer = {"data": {"attributes": {"token": "new", "ttl": 1790000900000}}}
    assert await Canned(answer).refresh() == Tokens(
        access="new",
        refresh="secret-refresh",
        access_expires_at=datetime(2026, 9, 21, 14, 28, 20, tzinfo=UTC),
        user_id=TOKENS.user_id,
    )


@pytest.mark.parametrize("ttl", [None, "1790000900000", -1, 900, 1e99, math.nan, True])
async def test_absurd_token_expiry_is_unknown(ttl: object) -> None:
    tokens = await Canned(token_answer(token="t", ttl=ttl)).sign_in(EMAIL, PASSWORD)
    assert (tokens.access_expires_at, tokens.refresh, tokens.user_id) == (None, "", "from-the-id")


@pytest.mark.parametrize("token", [None, "", 5, "a b", "a\r\nX-Evil: 1", "ü", "x" * 9000])
async def test_token_unfit_for_a_header_is_a_bad_answer(token: object) -> None:
    assert (await failure(Canned(token_answer(token=token)).sign_in(EMAIL, PASSWORD))).reason == "bad_answer"


@pytest.mark.parametrize(
    ("user_id", "data_id", "expected"),
    [
        (4711, None, "4711"),
        (None, 4711, "4711"),
        (4711, "text", "text"),
        ("text", 4711, "text"),
        (1, 2, "1"),
        ("x/../../configuration.yaml", None, "x/../../configuration.yaml"),
    ],
)
async def test_sign_in_accepted_for_any_form_of_account_id(user_id: object, data_id: object, expected: str) -> None:
    answer = {"data": {"id": data_id, "attributes": {"token": "t", "user_id": user_id}}}
    assert (await Canned(answer).sign_in(EMAIL, PASSWORD)).user_id == expected


@pytest.mark.parametrize("user_id", [True, 0, -1, 10**400, 1.5, [], ""])
async def test_sign_in_with_unusable_account_id_is_a_bad_answer(user_id: object) -> None:
    answer = {"data": {"attributes": {"token": "t", "user_id": user_id}}}
    assert (await failure(Canned(answer).sign_in(EMAIL, PASSWORD))).reason == "bad_answer"


async def test_sign_in_without_user_is_a_bad_answer() -> None:
    assert (
        await failure(Canned({"data": {"attributes": {"token": "t"}}}).sign_in(EMAIL, PASSWORD))
    ).reason == "bad_answer"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FULL = {
    "result": {
        "groups": [
            {
                "chargers": [
                    {
                        "id": 9,
                        "name": "A",
                        "chargerType": "PulsarPlus",
                        "status": 161,
                        "locked": 0,
                        "operationMode": "wallbox",
                        "maxChargingCurrent": 16,
                        "addedEnergy": 1.5,
                        "chargingPower": 7.2,
                        "chargingTime": 60,
                        "software": {"currentVersion": "1", "latestVersion": "2"},
                    }
                ]
            }
        ]
    },
    "data": {
        "id": "u",
        "attributes": {"token": "t", "ttl": 1790000900000, "refresh_token": "r", "user_id": "u"},
        "chargerData": {
            "lastConnection": 1790000000,
            "lastSync": {"date": "2026-09-21 14:13:20.0", "timezone": "UTC"},
            "resume": {"totalEnergy": "5120000"},
        },
        "users": [{"id": "1", "email": "ann@example.org", "profile": "admin"}],
    },
    "schedules": [{"id": 0, "enable": 1, "days": {"monday": True}, "start": "2100", "stop": "0500", "max_current": 0}],
    "action": 2,
    "status_id": 194,
    "last_sync": "2026-09-21 14:13:20",
    "charging_power": 7.2,
    "cost": 1.2,
    "config_data": {
        "locked": 1,
        "icp_max_current": 40,
        "home_sharing": 1,
        "currency": {"code": "EUR"},
        "ecosmart": {"enabled": True, "mode": 1, "percentage": 100},
        "software": {"currentVersion": "1"},
    },
}
"""One document that answers every call."""


@st.composite
def spoiled(draw: st.DrawFn) -> object:
    """Draw `FULL` with other JSON at one place."""
    document: object = json.loads(json.dumps(FULL))
    parent: dict[str, object] | list[object] | None = None
    key: str | int = 0
    here = document
    while isinstance(here, dict | list) and here and (parent is None or draw(st.booleans())):
        parent = here
        key = draw(st.sampled_from(sorted(here))) if isinstance(here, dict) else 0
        here = here[key]
    assert parent is not None
    parent[key] = draw(JSON)  # type: ignore[index]
    return document


async def ask_everything(answer: object) -> int:
    client, answered = Canned(answer), 0
    for call in ALL.values():
        with suppress(ChargerError):
            await call(client)
            answered += 1
    return answered


async def test_full_document_answers_every_call() -> None:
    assert await ask_everything(FULL) == len(ALL)


@settings(max_examples=300, deadline=None)
@given(JSON | spoiled())
def test_arbitrary_json_raises_only_charger_errors(answer: object) -> None:
    with asyncio.Runner() as runner:
        assert runner.run(ask_everything(answer)) <= len(ALL)
