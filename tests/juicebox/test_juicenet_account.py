"""Tests of boxes reached through a JuiceNet server only: polling, readings, commands and outages."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
import json
import logging
from typing import Any

import aiohttp
import pytest

from custom_components.chargekeeper.core.breaker import BreakerState
from custom_components.chargekeeper.core.charger import Charger, ChargerOptions, Until
from custom_components.chargekeeper.core.errors import (
    ChargerError,
    NoConnection,
    TransportBusy,
    TransportDown,
    UnsafeRequest,
    Unsupported,
)
from custom_components.chargekeeper.core.model import (
    CAR_CONNECTED,
    CHARGING_CURRENT,
    LIFETIME_ENERGY,
    LOAD_GROUP_LIMIT,
    POWER,
    PROBLEM,
    SCHEDULE,
    SESSION_ENERGY,
    STATUS,
    TIME_ZONE,
    UNIT_RATING,
    WIRE_RATING,
    Outcome,
    Override,
    Snapshot,
    Source,
    Status,
)
from custom_components.chargekeeper.core.transport import Presence, SetCharging, SetCurrent, SetOverride, StatusReport
from custom_components.chargekeeper.juicebox.box import BoxConfig
from custom_components.chargekeeper.juicebox.juicenet import account, client
from custom_components.chargekeeper.juicebox.juicenet.account import (
    ASK_EVERY,
    INSTALLATION_RETRY,
    LIST_EVERY,
    JuiceNetAccount,
)
from custom_components.chargekeeper.juicebox.juicenet.client import Info, JuiceNetClient, State, Tou
from tests.simulators.clock import VirtualClock
from tests.simulators.http_server import Fault
from tests.simulators.juicebox import Car, JuiceBox, State as Code
from tests.simulators.juicebox_server import BoxHub, BoxIssue, Day, Schedule, Unit
from tests.simulators.juicenet_cloud import JuiceNetCloud

SERIAL, OTHER = "0910000000000000000000000041", "0817000000000000000000000042"
TOKEN = "22222222-3333-4444-5555-666666666666"
CONFIG = BoxConfig(serial=SERIAL, host="", name="Garage", wire_rating=32)
NIGHT = Schedule(custom=True, weekday=Day(start=22 * 60, end=6 * 60), weekend=Day(start=22 * 60, end=6 * 60))
"""Tests begin at noon, outside of these hours."""
FAR = 2**31 - 1
"""An override with this time means "do not charge" (docs/protocols/juicebox.md, section 1.4)."""


class JuiceNetSite:
    """A box with its maker's server, the JuiceNet server, our account and a charger."""

    def __init__(self, clock: VirtualClock, session: aiohttp.ClientSession) -> None:
        self.clock = clock
        self.unit = Unit(serial=SERIAL, wire_rating=24)
        self.maker = BoxHub(clock, [self.unit, Unit(serial=OTHER)])
        self.cloud = JuiceNetCloud(self.maker)
        self.cloud.add_account(TOKEN)
        self.session = session

    async def start(self) -> None:
        await self.maker.start()
        await self.cloud.start()
        self.box = JuiceBox(clock=self.clock, serial=SERIAL, server=self.maker.address, unit_rating=40, stored=24)
        self.box.plug_in(Car(wants_kwh=500, max_amperes=40))
        self.box.start()
        client = JuiceNetClient(self.session, self.clock, self.cloud.url, TOKEN, device_id="test")
        self.account = JuiceNetAccount(client, self.clock)
        self.transport = self.account.transport(CONFIG)
        self.charger = Charger(self.transport.identity, self.clock, ChargerOptions(), self.save)
        self.charger.add_transport(self.transport)
        self.charger.start()
        self.account.start()
        await self.clock.advance(ASK_EVERY + 1)

    async def stop(self) -> None:
        await self.account.stop()
        await self.charger.stop()
        self.box.stop()
        await self.cloud.stop()
        await self.maker.stop()

    async def save(self, intents: dict[str, object]) -> None:
        pass

    @property
    def snapshot(self) -> Snapshot:
        return self.charger.snapshot

    @property
    def status(self) -> Status | None:
        return self.snapshot.value(STATUS)

    def asked(self, command: str, since: float = 0.0) -> int:
        """Return the number of requests with that command since a monotonic time."""
        return sum(json.loads(r.body)["cmd"] == command for r in self.cloud.requests if r.at >= since)

    async def until(self, status: Status, within: float = 120) -> None:
        await self.clock.advance_until(lambda: self.status is status, within=within)

    async def refuse(self, setting: Any) -> ChargerError:
        with pytest.raises(ChargerError) as refused:
            await self.charger.command(setting)
        return refused.value


@pytest.fixture
async def site(socket_enabled: None) -> AsyncIterator[JuiceNetSite]:
    async with aiohttp.ClientSession() as session:
        site = JuiceNetSite(VirtualClock(), session)
        await site.start()
        yield site
        await site.stop()


async def test_server_state_is_shown_in_snapshot(site: JuiceNetSite) -> None:
    shown = site.snapshot
    assert (shown.value(STATUS), shown.value(CAR_CONNECTED), shown.value(PROBLEM)) == (Status.CHARGING, True, False)
    assert shown.value(POWER) == pytest.approx(site.box.watts, rel=0.01)
    assert shown.value(LIFETIME_ENERGY) == pytest.approx(site.box.lifetime_wh / 1000, abs=0.1)
    assert shown.value(SESSION_ENERGY) is not None
    assert (shown.value(WIRE_RATING), shown.value(UNIT_RATING), shown.value(CHARGING_CURRENT)) == (32, 40, 24)
    assert (shown.connection_path, shown.cloud, shown.local) == (Source.CLOUD, True, None)
    assert shown.value(TIME_ZONE) == "UTC"
    assert (site.transport.presence, site.transport.removed_from_account, site.transport.identity.name) == (
        Presence.ONLINE,
        False,
        "Garage",
    )
    assert shown.last_cloud_contact is not None
    site.transport.watch()()


async def test_account_polls_state_twice_a_minute_and_installation_seldom(
    site: JuiceNetSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "INSTALLATION_EVERY", 3600)
    begun = site.clock.monotonic()
    await site.clock.advance(1800)
    assert 59 <= site.asked("get_state", begun) <= 61
    assert site.asked("get_info", begun) == site.asked("get_account_units", begun) == 0
    site.unit.schedule = NIGHT
    await site.clock.advance(1800)
    assert site.asked("get_info", begun) == 1
    assert len(site.snapshot.value(SCHEDULE) or ()) == 4
    site.account.transport(replace(CONFIG, zone="Europe/Berlin", load_group_limit=20, wire_rating=None))
    await site.clock.advance(ASK_EVERY)
    assert {window.zone for window in site.snapshot.value(SCHEDULE) or ()} == {"Europe/Berlin"}
    assert (site.snapshot.value(LOAD_GROUP_LIMIT), site.snapshot.value(WIRE_RATING)) == (20, None)


async def test_unusable_schedule_is_requested_again_only_after_retry_interval(site: JuiceNetSite) -> None:
    begun = site.clock.monotonic()
    site.account.transport(replace(CONFIG, zone="Europe/Berlin"))  # all installation data is requested again
    site.unit.schedule = Schedule(custom=True, weekday=Day(start=2000, end=10), weekend=Day(start=0, end=1440))
    await site.clock.advance(INSTALLATION_RETRY - ASK_EVERY)
    assert (site.asked("get_schedule", begun), site.account.breaker.state) == (1, BreakerState.CLOSED)
    assert not any(window.enabled for window in site.snapshot.value(SCHEDULE) or ())
    site.unit.schedule = NIGHT
    await site.clock.advance(3 * ASK_EVERY)
    assert site.asked("get_schedule", begun) == 2
    assert [window.enabled for window in site.snapshot.value(SCHEDULE) or ()] == [True] * 4


async def test_pause_sets_limit_0_and_resume_restores_current_within_limits(site: JuiceNetSite) -> None:
    assert await site.charger.command(SetCharging(on=False)) is Outcome.ACCEPTED
    await site.until(Status.PAUSED)
    assert (site.unit.limit, site.box.amperes) == (0, 0)
    assert site.snapshot.value(CHARGING_CURRENT) == 24, "what it is set to beside the pause"
    assert await site.charger.command(SetCharging(on=True)) is Outcome.ACCEPTED
    await site.until(Status.CHARGING)
    assert site.unit.limit == 24, "as before, not the 32 A of the wire"
    await site.charger.command(SetCharging(on=False))
    await site.until(Status.PAUSED)
    site.transport.share = 5
    refused = await site.refuse(SetCharging(on=True))
    assert (type(refused), refused.reason) == (UnsafeRequest, "no_group_share")
    site.transport.share = 10
    await site.charger.command(SetCharging(on=True))
    assert site.unit.limit == 10


@pytest.mark.parametrize(("remembered", "expected"), [(10, 10), (None, 32), (5, 32), (80, 32)])
async def test_resume_after_restart_uses_restored_current_if_plausible(
    site: JuiceNetSite, remembered: float | None, expected: int
) -> None:
    await site.charger.command(SetCharging(on=False))
    await site.until(Status.PAUSED)
    await site.account.stop()
    site.account.forget(SERIAL)
    transport = site.account.transport(CONFIG)
    transport.restore_current(remembered)
    site.charger.add_transport(transport)
    site.account.start()
    await site.clock.advance(ASK_EVERY + 1)
    assert site.snapshot.value(CHARGING_CURRENT) == expected
    await site.charger.command(SetCharging(on=True))
    assert site.unit.limit == expected
    await site.until(Status.CHARGING)
    shown = transport.resume_current
    transport.restore_current(8)
    assert transport.resume_current == shown, "what it showed since counts"


async def test_override_ends_pause(site: JuiceNetSite) -> None:
    site.unit.schedule = NIGHT
    await site.charger.command(SetCharging(on=False))
    await site.until(Status.PAUSED)
    site.transport.share = 5
    with pytest.raises(UnsafeRequest, match="no_group_share"):
        await site.transport.execute(SetOverride(on=True), patience=5)
    assert site.unit.override_time == 0
    site.transport.share = None
    assert await site.charger.set_override(True) is Outcome.ACCEPTED
    await site.until(Status.CHARGING)
    assert (site.unit.limit, site.snapshot.override) == (24, Override(on=True, applied=True))


async def test_override_end_during_pause_restores_current(site: JuiceNetSite) -> None:
    await site.charger.command(SetCharging(on=False))
    await site.until(Status.PAUSED)
    site.transport.share = 5
    with pytest.raises(UnsafeRequest, match="no_group_share"):
        await site.transport.execute(SetOverride(on=False), patience=5)
    assert site.unit.limit == 0
    site.transport.share = 10
    await site.transport.execute(SetOverride(on=False), patience=5)
    assert site.unit.limit == 10
    site.unit.limit = 20
    await site.until(Status.CHARGING)
    await site.transport.execute(SetOverride(on=False), patience=5)
    assert site.unit.limit == 20, "there was no pause"


async def test_i1_resume_with_unknown_wire_rating_is_refused(site: JuiceNetSite) -> None:
    await site.charger.command(SetCharging(on=False))
    await site.until(Status.PAUSED)
    site.account.transport(replace(CONFIG, wire_rating=None))
    refused = await site.refuse(SetCharging(on=True))
    assert (type(refused), refused.reason, site.unit.limit) == (UnsafeRequest, "wire_rating_unknown", 0)


async def test_override_starts_charging_and_its_end_restores_schedule(site: JuiceNetSite) -> None:
    site.unit.schedule = NIGHT
    await site.until(Status.WAITING_SCHEDULE)
    assert await site.charger.set_override(True, until=Until.UNPLUGGED) is Outcome.ACCEPTED
    await site.until(Status.CHARGING)
    await site.clock.advance(ASK_EVERY)
    assert site.snapshot.override == Override(on=True, applied=True)
    assert 0 < site.unit.override_time <= site.unit.local_epoch(site.cloud.now()), "past, by the unit's own time"
    await site.charger.set_override(False)
    assert site.unit.override_time == 0
    await site.until(Status.WAITING_SCHEDULE)


async def test_current_schedule_and_early_check_are_refused(site: JuiceNetSite) -> None:
    assert isinstance(await site.refuse(SetCurrent(10)), Unsupported)
    with pytest.raises(Unsupported):
        await site.transport.execute(SetCurrent(10), patience=5)
    with pytest.raises(Unsupported):
        await site.transport.read_schedule()
    with pytest.raises(Unsupported):
        await site.transport.write_schedule(())
    begun = site.clock.monotonic()
    with pytest.raises(TransportBusy, match="too_soon"):
        await site.transport.check()
    assert site.asked("get_state", begun) == 0
    await site.account.stop()
    await site.clock.advance(ASK_EVERY)
    await site.transport.check()
    assert site.asked("get_state", begun) == 1


async def test_box_state_is_shown_as_status(site: JuiceNetSite, caplog: pytest.LogCaptureFixture) -> None:
    site.box.set_fault(Code.ERROR_1)
    await site.until(Status.ERROR)
    assert (site.snapshot.value(PROBLEM), site.snapshot.value(CAR_CONNECTED)) == (True, None)
    site.box.set_fault(0)
    await site.until(Status.CHARGING)
    site.box.unplug()
    await site.until(Status.AVAILABLE)
    assert site.snapshot.value(CAR_CONNECTED) is False
    await site.maker.set_trouble(BoxIssue.DEAD)
    await site.until(Status.OFFLINE, within=400)
    assert (site.transport.presence, site.snapshot.cloud, site.snapshot.value(POWER)) == (
        Presence.OFFLINE,
        False,
        None,
    )
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_override_with_future_time_counts_as_schedule(site: JuiceNetSite) -> None:
    """Set an override far in the future, as another client may. Such an override stops charging."""
    site.unit.override_time = FAR
    await site.until(Status.WAITING_SCHEDULE)
    assert (site.box.amperes, site.snapshot.override) == (0, Override(on=False, applied=False))
    begun = site.clock.monotonic()
    await site.charger.set_override(True)
    assert 0 < site.unit.override_time <= site.unit.local_epoch(site.cloud.now()), "past, by the unit's own time"
    await site.until(Status.CHARGING)
    await site.clock.advance(ASK_EVERY)
    assert site.asked("set_override", begun) == 1
    assert (site.snapshot.override, site.status) == (Override(on=True, applied=True), Status.CHARGING)
    assert site.box.amperes == 24


async def test_charging_with_almost_no_power_becomes_waiting_for_car(site: JuiceNetSite) -> None:
    await site.account.stop()
    sipping = State.from_dict({"state": "charging", "charging": {"watt_power": 3}})
    site.transport.show_state(sipping)
    await site.clock.advance(60)
    site.transport.show_state(sipping)
    assert site.transport.last_report == StatusReport(Status.CHARGING, car_connected=True)
    await site.clock.advance(60)
    site.transport.show_state(sipping)
    assert site.transport.last_report == StatusReport(Status.WAITING_CAR, car_connected=True)


async def test_sparse_server_answer_leaves_values_unknown(site: JuiceNetSite) -> None:
    day = client.Day(0, 1440)
    await site.account.stop()
    stranger = site.account.transport(replace(CONFIG, serial=OTHER))
    stranger.show_state(State.from_dict({"state": "plugged"}))
    stranger.show_installation(Info(), Tou(enabled=False, weekday=day, weekend=day))
    charger = Charger(stranger.identity, site.clock, ChargerOptions(), site.save)
    detach = stranger.listen(site.charger)
    charger.add_transport(stranger)
    detach()  # the transport notifies the other charger by now
    charger.start()
    shown = charger.snapshot
    assert (stranger.last_report, shown.value(STATUS)) == (StatusReport(Status.PLUGGED_IN, car_connected=True), None)
    assert (stranger.presence, shown.value(UNIT_RATING)) == (Presence.UNKNOWN, None)
    await charger.stop()


async def test_i3_values_expire_by_age_of_last_box_report(site: JuiceNetSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the box while the server repeats its last report with the age by the server's clock."""
    site.box.stop()
    monkeypatch.setattr(site.maker, "seen", lambda _: True)  # a server that never reports a box as offline
    await site.clock.advance(14 * 60)
    assert site.snapshot.value(POWER)
    await site.clock.advance(2 * 60)
    assert (site.snapshot.value(STATUS), site.snapshot.value(POWER)) == (None, None)
    assert site.transport.presence is Presence.UNKNOWN


async def test_unknown_state_gives_no_status_and_is_logged_once(
    site: JuiceNetSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tests.simulators.juicenet_cloud.WORDS", dict.fromkeys(Code, "daydreaming"))
    await site.clock.advance(3 * ASK_EVERY)
    assert (site.status, site.snapshot.value(PROBLEM), site.snapshot.value(CAR_CONNECTED)) == (None, None, None)
    assert sum("unknown state" in record.message for record in caplog.records) == 1
    assert site.transport.diagnostics()["unknown_words"] == 1


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.HANG, Fault.ERROR_500, Fault.GARBAGE])
async def test_i2_outage_keeps_limits_and_bounds_requests(site: JuiceNetSite, fault: Fault) -> None:
    await site.cloud.set_fault(fault)
    await site.clock.advance_until(lambda: site.snapshot.cloud is False, within=90)
    assert isinstance(await site.refuse(SetCharging(on=False)), TransportDown)
    with pytest.raises(NoConnection, match="unreachable"):
        await site.transport.execute(SetCharging(on=False), patience=5)
    begun = site.clock.monotonic()
    await site.clock.advance(1800)
    assert (site.status, site.snapshot.value(CHARGING_CURRENT)) == (None, 24)
    assert site.cloud.count(since=begun) <= 40
    assert (site.account.token_refused, site.account.breaker.state) == (False, BreakerState.OPEN)
    await site.cloud.set_fault(Fault.NONE)
    await site.clock.advance_until(lambda: site.snapshot.cloud is True, within=150)
    assert site.status is Status.CHARGING


@pytest.mark.parametrize("question", ["state", "info", "schedule"])
async def test_bad_answer_about_one_box_is_no_outage_for_others(
    site: JuiceNetSite, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    monkeypatch.setattr(account, "INSTALLATION_EVERY", 600)
    monkeypatch.setattr(account, "INSTALLATION_RETRY", 600)
    other = site.account.transport(replace(CONFIG, serial=OTHER))
    await site.clock.advance(LIST_EVERY + ASK_EVERY)
    ask = getattr(JuiceNetClient, question)

    async def answer(client: JuiceNetClient, unit: client.Unit) -> object:
        if unit.serial == SERIAL:
            raise TransportDown("bad_answer")
        return await ask(client, unit)

    monkeypatch.setattr(JuiceNetClient, question, answer)
    for _ in range(3):
        await site.clock.advance(1000)
        assert (site.account.breaker.state, site.snapshot.cloud) == (BreakerState.CLOSED, question != "state")
        assert other.status_received_at is not None
        assert site.clock.monotonic() - other.status_received_at <= ASK_EVERY


async def test_command_without_answer_times_out(site: JuiceNetSite) -> None:
    await site.cloud.set_fault(Fault.HANG)
    command = asyncio.ensure_future(site.transport.execute(SetCharging(on=False), patience=5))
    await site.clock.advance_until(command.done, within=10)
    with pytest.raises(TransportDown, match="timeout"):
        await command
    assert site.account.breaker.state is BreakerState.DOUBTFUL


async def test_throttling_server_gets_no_requests_until_retry_time(site: JuiceNetSite) -> None:
    await site.cloud.set_fault(Fault.TOO_MANY, retry_after=600)
    await site.clock.advance(ASK_EVERY)
    begun = site.clock.monotonic()
    with pytest.raises(TransportBusy, match="throttled"):
        await site.transport.execute(SetCharging(on=False), patience=5)
    await site.clock.advance(500)
    assert site.cloud.count(since=begun + 1) == 0
    await site.cloud.set_fault(Fault.NONE)
    await site.clock.advance(120)
    assert site.status is Status.CHARGING


async def test_stop_sent_while_reads_are_throttled(site: JuiceNetSite) -> None:
    await site.cloud.set_fault(Fault.TOO_MANY, retry_after=600)
    await site.clock.advance(ASK_EVERY)
    await site.cloud.set_fault(Fault.NONE)
    begun = site.clock.monotonic()
    await site.transport.execute(SetCharging(on=False), patience=5)
    assert site.cloud.count(since=begun) == 1
    await site.clock.advance(500)
    assert site.cloud.count(since=begun) == 1  # the reads still wait


async def test_i7_only_token_refused_twice_ten_minutes_apart_is_reported(site: JuiceNetSite) -> None:
    notified: list[bool] = []
    end = site.account.listen(lambda: notified.append(site.account.token_refused))
    site.cloud.accounts.clear()
    await site.clock.advance(LIST_EVERY - ASK_EVERY)
    assert notified == []
    with pytest.raises(NoConnection, match="charger_offline"):
        await site.transport.execute(SetCharging(on=False), patience=5)
    await site.clock.advance(LIST_EVERY)
    assert (notified, site.account.token_refused) == ([True], True)
    begun = site.clock.monotonic()
    await site.clock.advance(3600)
    assert site.cloud.count(since=begun) <= 7, "a refusal may be the server's fault, so it is asked again now and then"
    site.cloud.add_account(TOKEN)
    await site.clock.advance(LIST_EVERY)
    assert (notified, site.status) == ([True, False], Status.CHARGING)
    end()


async def test_i7_refusal_right_after_outage_does_not_blame_token(site: JuiceNetSite) -> None:
    await site.cloud.set_fault(Fault.REFUSE)
    await site.clock.advance_until(lambda: site.snapshot.cloud is False, within=90)
    site.cloud.accounts.clear()
    await site.cloud.set_fault(Fault.NONE)
    begun = site.clock.monotonic()
    await site.clock.advance(LIST_EVERY - 60)
    assert site.asked("get_account_units", begun) > 1
    assert not site.account.token_refused
    site.cloud.add_account(TOKEN)
    await site.clock.advance(LIST_EVERY)
    assert (site.account.token_refused, site.status) == (False, Status.CHARGING)


async def test_box_with_new_token_is_found_again(site: JuiceNetSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.cloud, "token", lambda serial: f"{int(serial) + 1:032x}")
    await site.clock.advance(ASK_EVERY)
    assert site.account.breaker.state is BreakerState.CLOSED
    begun = site.clock.monotonic()
    await site.clock.advance(LIST_EVERY + ASK_EVERY)
    assert site.asked("get_account_units", begun) == 1
    assert site.status is Status.CHARGING


async def test_box_missing_in_account_is_unknown_and_refuses_commands(site: JuiceNetSite) -> None:
    stranger = site.account.transport(replace(CONFIG, serial="1" * 28))
    begun = site.clock.monotonic()
    await site.clock.advance(1800)
    assert site.asked("get_account_units", begun) <= 4
    assert (stranger.presence, stranger.last_report, stranger.status_received_at, stranger.charger_reported_at) == (
        *(Presence.UNKNOWN, None),
        *(None, None),
    )
    with pytest.raises(NoConnection, match="charger_offline"):
        await stranger.execute(SetCharging(on=False), patience=5)
    site.account.forget("1" * 28)


async def test_account_without_boxes_sends_no_requests(site: JuiceNetSite) -> None:
    await site.cloud.set_fault(Fault.REFUSE)
    await site.clock.advance_until(lambda: site.snapshot.cloud is False, within=90)
    await site.charger.stop()
    site.account.forget(SERIAL)
    site.account.start()  # the account runs already
    await site.cloud.set_fault(Fault.NONE)
    begun = site.clock.monotonic()
    await site.clock.advance(600)
    assert site.cloud.count(since=begun) == 0


async def test_restarted_account_polls_no_more_often(site: JuiceNetSite) -> None:
    begun = site.clock.monotonic()
    for _ in range(10):
        await site.account.stop()
        site.account.start()
        await site.clock.advance(1)
    assert site.asked("get_state", begun) <= 1
