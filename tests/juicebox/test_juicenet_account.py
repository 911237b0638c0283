"""Boxes that only a JuiceNet server reaches: rounds, readings, commands and outages, over a loopback socket."""

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
"""It is noon at the beginning of a test."""
FAR = 2**31 - 1
"""An override until then means: do not charge (docs/protocols/juicebox.md, section 1.4)."""


class House:
    """A box at the maker's server, the JuiceNet server beside that, and our account with a keeper."""

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
        """How many requests of a kind arrived."""
        return sum(json.loads(r.body)["cmd"] == command for r in self.cloud.requests if r.at >= since)

    async def until(self, status: Status, within: float = 120) -> None:
        await self.clock.advance_until(lambda: self.status is status, within=within)

    async def refuse(self, setting: Any) -> ChargerError:
        with pytest.raises(ChargerError) as refused:
            await self.charger.command(setting)
        return refused.value


@pytest.fixture
async def house(socket_enabled: None) -> AsyncIterator[House]:
    async with aiohttp.ClientSession() as session:
        house = House(VirtualClock(), session)
        await house.start()
        yield house
        await house.stop()


async def test_what_the_server_knows_is_shown(house: House) -> None:
    shown = house.snapshot
    assert (shown.value(STATUS), shown.value(CAR_CONNECTED), shown.value(PROBLEM)) == (Status.CHARGING, True, False)
    assert shown.value(POWER) == pytest.approx(house.box.watts, rel=0.01)
    assert shown.value(LIFETIME_ENERGY) == pytest.approx(house.box.lifetime_wh / 1000, abs=0.1)
    assert shown.value(SESSION_ENERGY) is not None
    assert (shown.value(WIRE_RATING), shown.value(UNIT_RATING), shown.value(CHARGING_CURRENT)) == (32, 40, 24)
    assert (shown.connection_path, shown.cloud, shown.local) == (Source.CLOUD, True, None)
    assert shown.value(TIME_ZONE) == "UTC"
    assert (house.transport.presence, house.transport.removed_from_account, house.transport.identity.name) == (
        Presence.ONLINE,
        False,
        "Garage",
    )
    assert shown.last_cloud_contact is not None
    house.transport.watch()()


async def test_each_box_is_asked_twice_a_minute_and_its_installation_once_a_day(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "INSTALLATION_EVERY", 3600)
    begun = house.clock.monotonic()
    await house.clock.advance(1800)
    assert 59 <= house.asked("get_state", begun) <= 61
    assert house.asked("get_info", begun) == house.asked("get_account_units", begun) == 0
    house.unit.schedule = NIGHT
    await house.clock.advance(1800)
    assert house.asked("get_info", begun) == 1
    assert len(house.snapshot.value(SCHEDULE) or ()) == 4
    house.account.transport(replace(CONFIG, zone="Europe/Berlin", load_group_limit=20, wire_rating=None))
    await house.clock.advance(ASK_EVERY)
    assert {window.zone for window in house.snapshot.value(SCHEDULE) or ()} == {"Europe/Berlin"}
    assert (house.snapshot.value(LOAD_GROUP_LIMIT), house.snapshot.value(WIRE_RATING)) == (20, None)


async def test_what_a_server_does_not_know_of_the_installation_is_asked_for_seldom(house: House) -> None:
    begun = house.clock.monotonic()
    house.account.transport(replace(CONFIG, zone="Europe/Berlin"))  # all of it is wanted anew
    house.unit.schedule = Schedule(custom=True, weekday=Day(start=2000, end=10), weekend=Day(start=0, end=1440))
    await house.clock.advance(INSTALLATION_RETRY - ASK_EVERY)
    assert (house.asked("get_schedule", begun), house.account.breaker.state) == (1, BreakerState.CLOSED)
    assert not any(window.enabled for window in house.snapshot.value(SCHEDULE) or ())
    house.unit.schedule = NIGHT
    await house.clock.advance(3 * ASK_EVERY)
    assert house.asked("get_schedule", begun) == 2
    assert [window.enabled for window in house.snapshot.value(SCHEDULE) or ()] == [True] * 4


async def test_a_pause_and_its_end_below_the_limits(house: House) -> None:
    assert await house.charger.command(SetCharging(on=False)) is Outcome.ACCEPTED
    await house.until(Status.PAUSED)
    assert (house.unit.limit, house.box.amperes) == (0, 0)
    assert house.snapshot.value(CHARGING_CURRENT) == 24, "what it is set to beside the pause"
    assert await house.charger.command(SetCharging(on=True)) is Outcome.ACCEPTED
    await house.until(Status.CHARGING)
    assert house.unit.limit == 24, "as before, not the 32 A of the wire"
    await house.charger.command(SetCharging(on=False))
    await house.until(Status.PAUSED)
    house.transport.share = 5
    refused = await house.refuse(SetCharging(on=True))
    assert (type(refused), refused.reason) == (UnsafeRequest, "no_group_share")
    house.transport.share = 10
    await house.charger.command(SetCharging(on=True))
    assert house.unit.limit == 10


@pytest.mark.parametrize(("remembered", "expected"), [(10, 10), (None, 32), (5, 32), (80, 32)])
async def test_a_pause_from_before_a_start_ends_with_the_current_that_is_remembered(
    house: House, remembered: float | None, expected: int
) -> None:
    await house.charger.command(SetCharging(on=False))
    await house.until(Status.PAUSED)
    await house.account.stop()
    house.account.forget(SERIAL)
    transport = house.account.transport(CONFIG)
    transport.restore_current(remembered)
    house.charger.add_transport(transport)
    house.account.start()
    await house.clock.advance(ASK_EVERY + 1)
    assert house.snapshot.value(CHARGING_CURRENT) == expected
    await house.charger.command(SetCharging(on=True))
    assert house.unit.limit == expected
    await house.until(Status.CHARGING)
    shown = transport.resume_current
    transport.restore_current(8)
    assert transport.resume_current == shown, "what it showed since counts"


async def test_an_override_ends_a_pause(house: House) -> None:
    house.unit.schedule = NIGHT
    await house.charger.command(SetCharging(on=False))
    await house.until(Status.PAUSED)
    house.transport.share = 5
    refused = await house.refuse(SetOverride(on=True))
    assert (type(refused), refused.reason, house.unit.override_time) == (UnsafeRequest, "no_group_share", 0)
    house.transport.share = None
    assert await house.charger.set_override(True) is Outcome.ACCEPTED
    await house.until(Status.CHARGING)
    assert (house.unit.limit, house.snapshot.override) == (24, Override(on=True, applied=True))


async def test_the_end_of_an_override_that_lifts_a_pause_sets_the_current_back(house: House) -> None:
    await house.charger.command(SetCharging(on=False))
    await house.until(Status.PAUSED)
    house.transport.share = 5
    with pytest.raises(UnsafeRequest, match="no_group_share"):
        await house.transport.execute(SetOverride(on=False), patience=5)
    assert house.unit.limit == 0
    house.transport.share = 10
    await house.transport.execute(SetOverride(on=False), patience=5)
    assert house.unit.limit == 10
    house.unit.limit = 20
    await house.until(Status.CHARGING)
    await house.transport.execute(SetOverride(on=False), patience=5)
    assert house.unit.limit == 20, "there was no pause"


async def test_i1_no_pause_ends_above_an_unknown_wire_rating(house: House) -> None:
    await house.charger.command(SetCharging(on=False))
    await house.until(Status.PAUSED)
    house.account.transport(replace(CONFIG, wire_rating=None))
    refused = await house.refuse(SetCharging(on=True))
    assert (type(refused), refused.reason, house.unit.limit) == (UnsafeRequest, "wire_rating_unknown", 0)


async def test_an_override_and_its_end(house: House) -> None:
    house.unit.schedule = NIGHT
    await house.until(Status.WAITING_SCHEDULE)
    assert await house.charger.set_override(True, until=Until.UNPLUGGED) is Outcome.ACCEPTED
    await house.until(Status.CHARGING)
    await house.clock.advance(ASK_EVERY)
    assert house.snapshot.override == Override(on=True, applied=True)
    assert 0 < house.unit.override_time <= house.unit.local_epoch(house.cloud.now()), "past, by the unit's own time"
    await house.charger.set_override(False)
    assert house.unit.override_time == 0
    await house.until(Status.WAITING_SCHEDULE)


async def test_currents_schedules_and_hasty_looks_are_refused(house: House) -> None:
    assert isinstance(await house.refuse(SetCurrent(10)), Unsupported)
    with pytest.raises(Unsupported):
        await house.transport.execute(SetCurrent(10), patience=5)
    with pytest.raises(Unsupported):
        await house.transport.read_schedule()
    with pytest.raises(Unsupported):
        await house.transport.write_schedule(())
    begun = house.clock.monotonic()
    with pytest.raises(TransportBusy, match="too_soon"):
        await house.transport.check()
    assert house.asked("get_state", begun) == 0
    await house.account.stop()
    await house.clock.advance(ASK_EVERY)
    await house.transport.check()
    assert house.asked("get_state", begun) == 1


async def test_states_of_the_box(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.box.set_fault(Code.ERROR_1)
    await house.until(Status.ERROR)
    assert (house.snapshot.value(PROBLEM), house.snapshot.value(CAR_CONNECTED)) == (True, None)
    house.box.set_fault(0)
    await house.until(Status.CHARGING)
    house.box.unplug()
    await house.until(Status.AVAILABLE)
    assert house.snapshot.value(CAR_CONNECTED) is False
    await house.maker.set_trouble(BoxIssue.DEAD)
    await house.until(Status.OFFLINE, within=400)
    assert (house.transport.presence, house.snapshot.cloud, house.snapshot.value(POWER)) == (
        Presence.OFFLINE,
        False,
        None,
    )
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_an_override_that_holds_back_until_later_is_a_schedule(house: House) -> None:
    """Set by another client, or in the app of the server: it is far in the future, so the box does not charge."""
    house.unit.override_time = FAR
    await house.until(Status.WAITING_SCHEDULE)
    assert (house.box.amperes, house.snapshot.override) == (0, Override(on=False, applied=False))
    begun = house.clock.monotonic()
    await house.charger.set_override(True)
    assert 0 < house.unit.override_time <= house.unit.local_epoch(house.cloud.now()), "past, by the unit's own time"
    await house.until(Status.CHARGING)
    await house.clock.advance(ASK_EVERY)
    assert house.asked("set_override", begun) == 1
    assert (house.snapshot.override, house.status) == (Override(on=True, applied=True), Status.CHARGING)
    assert house.box.amperes == 24


async def test_a_full_car_takes_next_to_nothing(house: House) -> None:
    await house.account.stop()
    sipping = State.from_dict({"state": "charging", "charging": {"watt_power": 3}})
    house.transport.show_state(sipping)
    await house.clock.advance(60)
    house.transport.show_state(sipping)
    assert house.transport.last_report == StatusReport(Status.CHARGING, car_connected=True)
    await house.clock.advance(60)
    house.transport.show_state(sipping)
    assert house.transport.last_report == StatusReport(Status.WAITING_CAR, car_connected=True)


async def test_a_server_that_tells_little(house: House) -> None:
    day = client.Day(0, 1440)
    await house.account.stop()
    stranger = house.account.transport(replace(CONFIG, serial=OTHER))
    stranger.show_state(State.from_dict({"state": "plugged"}))
    stranger.show_installation(Info(), Tou(enabled=False, weekday=day, weekend=day))
    charger = Charger(stranger.identity, house.clock, ChargerOptions(), house.save)
    detach = stranger.listen(house.charger)
    charger.add_transport(stranger)
    detach()  # it hears the other one by now
    charger.start()
    shown = charger.snapshot
    assert (stranger.last_report, shown.value(STATUS)) == (StatusReport(Status.PLUGGED_IN, car_connected=True), None)
    assert (stranger.presence, shown.value(UNIT_RATING)) == (Presence.UNKNOWN, None)
    await charger.stop()


async def test_i3_values_leave_at_their_age(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server repeats what it heard last; how old that is it tells by its own clock."""
    house.box.stop()
    monkeypatch.setattr(house.maker, "seen", lambda _: True)  # one that never says that a box is away
    await house.clock.advance(14 * 60)
    assert house.snapshot.value(POWER)
    await house.clock.advance(2 * 60)
    assert (house.snapshot.value(STATUS), house.snapshot.value(POWER)) == (None, None)
    assert house.transport.presence is Presence.UNKNOWN


async def test_an_unknown_word_is_no_status_and_logged_once(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tests.simulators.juicenet_cloud.WORDS", dict.fromkeys(Code, "daydreaming"))
    await house.clock.advance(3 * ASK_EVERY)
    assert (house.status, house.snapshot.value(PROBLEM), house.snapshot.value(CAR_CONNECTED)) == (None, None, None)
    assert sum("unknown state" in record.message for record in caplog.records) == 1
    assert house.transport.diagnostics()["unknown_words"] == 1


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.HANG, Fault.ERROR_500, Fault.GARBAGE])
async def test_i2_an_outage_keeps_limits_and_asks_as_probes_allow(house: House, fault: Fault) -> None:
    await house.cloud.set_fault(fault)
    await house.clock.advance_until(lambda: house.snapshot.cloud is False, within=90)
    assert isinstance(await house.refuse(SetCharging(on=False)), TransportDown)
    with pytest.raises(NoConnection, match="unreachable"):
        await house.transport.execute(SetCharging(on=False), patience=5)
    begun = house.clock.monotonic()
    await house.clock.advance(1800)
    assert (house.status, house.snapshot.value(CHARGING_CURRENT)) == (None, 24)
    assert house.cloud.count(since=begun) <= 40
    assert (house.account.token_refused, house.account.breaker.state) == (False, BreakerState.OPEN)
    await house.cloud.set_fault(Fault.NONE)
    await house.clock.advance_until(lambda: house.snapshot.cloud is True, within=150)
    assert house.status is Status.CHARGING


@pytest.mark.parametrize("question", ["state", "info", "schedule"])
async def test_nonsense_about_one_box_is_no_outage_for_the_others(
    house: House, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    monkeypatch.setattr(account, "INSTALLATION_EVERY", 600)
    monkeypatch.setattr(account, "INSTALLATION_RETRY", 600)
    other = house.account.transport(replace(CONFIG, serial=OTHER))
    await house.clock.advance(LIST_EVERY + ASK_EVERY)
    ask = getattr(JuiceNetClient, question)

    async def answer(client: JuiceNetClient, unit: client.Unit) -> object:
        if unit.serial == SERIAL:
            raise TransportDown("bad_answer")
        return await ask(client, unit)

    monkeypatch.setattr(JuiceNetClient, question, answer)
    for _ in range(3):
        await house.clock.advance(1000)
        assert (house.account.breaker.state, house.snapshot.cloud) == (BreakerState.CLOSED, question != "state")
        assert other.status_received_at is not None
        assert house.clock.monotonic() - other.status_received_at <= ASK_EVERY


async def test_a_command_that_gets_no_answer_in_time(house: House) -> None:
    await house.cloud.set_fault(Fault.HANG)
    command = asyncio.ensure_future(house.transport.execute(SetCharging(on=False), patience=5))
    await house.clock.advance_until(command.done, within=10)
    with pytest.raises(TransportDown, match="timeout"):
        await command
    assert house.account.breaker.state is BreakerState.DOUBTFUL


async def test_a_server_that_wants_fewer_requests_is_left_alone(house: House) -> None:
    await house.cloud.set_fault(Fault.TOO_MANY, retry_after=600)
    await house.clock.advance(ASK_EVERY)
    begun = house.clock.monotonic()
    with pytest.raises(TransportBusy, match="throttled"):
        await house.transport.execute(SetCharging(on=False), patience=5)
    await house.clock.advance(500)
    assert house.cloud.count(since=begun + 1) == 0
    await house.cloud.set_fault(Fault.NONE)
    await house.clock.advance(120)
    assert house.status is Status.CHARGING


async def test_a_stop_is_sent_while_reads_are_throttled(house: House) -> None:
    await house.cloud.set_fault(Fault.TOO_MANY, retry_after=600)
    await house.clock.advance(ASK_EVERY)
    await house.cloud.set_fault(Fault.NONE)
    begun = house.clock.monotonic()
    await house.transport.execute(SetCharging(on=False), patience=5)
    assert house.cloud.count(since=begun) == 1
    await house.clock.advance(500)
    assert house.cloud.count(since=begun) == 1  # the reads still wait


async def test_i7_only_a_token_refused_twice_ten_minutes_apart_is_asked_for(house: House) -> None:
    told: list[bool] = []
    end = house.account.listen(lambda: told.append(house.account.token_refused))
    house.cloud.accounts.clear()
    await house.clock.advance(LIST_EVERY - ASK_EVERY)
    assert told == []
    with pytest.raises(NoConnection, match="charger_offline"):
        await house.transport.execute(SetCharging(on=False), patience=5)
    await house.clock.advance(LIST_EVERY)
    assert (told, house.account.token_refused) == ([True], True)
    begun = house.clock.monotonic()
    await house.clock.advance(3600)
    assert house.cloud.count(since=begun) <= 7, "a refusal may be the server's fault, so it is asked again now and then"
    house.cloud.add_account(TOKEN)
    await house.clock.advance(LIST_EVERY)
    assert (told, house.status) == ([True, False], Status.CHARGING)
    end()


async def test_i7_refusals_right_after_an_outage_are_not_the_tokens_fault(house: House) -> None:
    await house.cloud.set_fault(Fault.REFUSE)
    await house.clock.advance_until(lambda: house.snapshot.cloud is False, within=90)
    house.cloud.accounts.clear()
    await house.cloud.set_fault(Fault.NONE)
    begun = house.clock.monotonic()
    await house.clock.advance(LIST_EVERY - 60)
    assert house.asked("get_account_units", begun) > 1
    assert not house.account.token_refused
    house.cloud.add_account(TOKEN)
    await house.clock.advance(LIST_EVERY)
    assert (house.account.token_refused, house.status) == (False, Status.CHARGING)


async def test_a_box_with_another_token_is_found_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.cloud, "token", lambda serial: f"{int(serial) + 1:032x}")
    await house.clock.advance(ASK_EVERY)
    assert house.account.breaker.state is BreakerState.CLOSED
    begun = house.clock.monotonic()
    await house.clock.advance(LIST_EVERY + ASK_EVERY)
    assert house.asked("get_account_units", begun) == 1
    assert house.status is Status.CHARGING


async def test_a_box_that_the_account_does_not_have(house: House) -> None:
    stranger = house.account.transport(replace(CONFIG, serial="1" * 28))
    begun = house.clock.monotonic()
    await house.clock.advance(1800)
    assert house.asked("get_account_units", begun) <= 4
    assert (stranger.presence, stranger.last_report, stranger.status_received_at, stranger.charger_reported_at) == (
        *(Presence.UNKNOWN, None),
        *(None, None),
    )
    with pytest.raises(NoConnection, match="charger_offline"):
        await stranger.execute(SetCharging(on=False), patience=5)
    house.account.forget("1" * 28)


async def test_an_account_without_boxes_asks_nothing(house: House) -> None:
    await house.cloud.set_fault(Fault.REFUSE)
    await house.clock.advance_until(lambda: house.snapshot.cloud is False, within=90)
    await house.charger.stop()
    house.account.forget(SERIAL)
    house.account.start()  # it runs already
    await house.cloud.set_fault(Fault.NONE)
    begun = house.clock.monotonic()
    await house.clock.advance(600)
    assert house.cloud.count(since=begun) == 0


async def test_stopped_and_started_it_asks_no_more_often(house: House) -> None:
    begun = house.clock.monotonic()
    for _ in range(10):
        await house.account.stop()
        house.account.start()
        await house.clock.advance(1)
    assert house.asked("get_state", begun) <= 1
