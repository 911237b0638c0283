"""The transport of one charger over the cloud: odd answers, the age of readings, and late listeners."""

from collections.abc import AsyncIterator, Iterator, Mapping
import logging
from typing import cast, override

import aiohttp
import pytest

from custom_components.chargekeeper.core.model import (
    CAR_CONNECTED,
    CHARGING_CURRENT,
    ECO_MODE,
    FIRMWARE,
    HOUSE_LIMIT,
    LIFETIME_ENERGY,
    LOCKED,
    OCPP,
    POWER,
    PROBLEM,
    ROLE,
    SESSION_ENERGY,
    STATUS as STATUS_VALUE,
    WIRE_RATING,
    Capability,
    EcoMode,
    Role,
    Source,
    Status,
)
from custom_components.chargekeeper.core.transport import Presence, StatusReport
from custom_components.chargekeeper.wallbox.account import WallboxAccount
from custom_components.chargekeeper.wallbox.client import ChargerDetails, ChargerStatus, GroupCharger
from tests.simulators.clock import VirtualClock
from tests.simulators.wallbox_cloud import Fault

from .rig import CHARGING, FREE, GROUPS, HOUR, MINUTE, STATUS, WAITING, Listener, Rig, rigged

SERIAL = "700101"


class _Charger:
    """A transport that receives single answers, and its listener."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.transport = self.account().transport(SERIAL)
        self.listener = Listener(self.transport, self.clock)
        self.transport.listen(self.listener)

    def account(self) -> WallboxAccount:
        """Return an account that never sends a request."""
        nowhere = "http://127.0.0.1:1"
        session = cast("aiohttp.ClientSession", None)
        return WallboxAccount(session, self.clock, email="", password="", user_api_url=nowhere, api_url=nowhere)

    async def listed(self, entry: Mapping[str, object] | None = None, *, after: float = 120, **more: object) -> None:
        await self.clock.advance(after)
        whole: dict[str, object] = {
            "id": int(SERIAL),
            "name": "Garage",
            "chargerType": "PulsarPlus",
            "status": 161,
            "locked": 0,
            "chargingPower": 0,
            "addedEnergy": 4.0,
            "chargingTime": 3600,
            "operationMode": "wallbox",
            "maxChargingCurrent": 16,
            "software": {"currentVersion": "6.7.43", "latestVersion": "6.7.43"},
        }
        self.transport.record_listing(
            GroupCharger.from_dict({k: v for k, v in {**whole, **(entry or {}), **more}.items() if v != "missing"})
        )

    async def status(
        self, entry: Mapping[str, object] | None = None, *, after: float = 60, synced_ago: float = 10, **more: object
    ) -> None:
        await self.clock.advance(after)
        config = {**(entry or {}), **more}
        synced = self.clock.now().timestamp() - synced_ago
        text = self.clock.now().fromtimestamp(synced, self.clock.now().tzinfo).strftime("%Y-%m-%d %H:%M:%S")
        top = {"status_id": config.pop("status_id", 161), "last_sync": config.pop("last_sync", text)}
        self.transport.record_status(ChargerStatus.from_dict(top | {"charging_power": 0.0, "config_data": config}))

    def status_value(self) -> Status | None:
        return self.listener.value(STATUS_VALUE)

    def presence(self) -> Presence:
        return self.transport.presence


# Signs of life


@pytest.mark.parametrize(
    ("before", "after", "alive"),
    [
        ({}, {}, False),
        ({}, {"status": 194}, True),
        ({}, {"addedEnergy": 4.1}, True),
        ({}, {"chargingPower": 3.2}, True),
        ({}, {"chargingTime": 3700}, False),  # it may go on without the charger
        ({"status": 0}, {"status": 161}, True),
        ({"status": None}, {"status": 161}, True),
        ({}, {"status": 0}, False),
        ({}, {"status": None}, False),
        ({}, {"status": 5, "addedEnergy": 5}, False),
        ({}, {"name": "Other", "maxChargingCurrent": 10, "locked": 1}, False),  # changes by the user in the cloud
        ({}, {"status": "missing"}, False),
        ({"status": "missing"}, {}, False),
        ({"status": "nonsense"}, {}, False),
        ({}, {"addedEnergy": None, "chargingPower": "missing", "chargingTime": -1}, False),
        ({"addedEnergy": None, "chargingPower": "missing", "chargingTime": "x"}, {}, False),
    ],
)
async def test_i3_sign_of_life_found_in_changes_between_two_group_answers(
    before: dict[str, object], after: dict[str, object], alive: bool
) -> None:
    charger = _Charger()
    await charger.listed(before)
    await charger.listed(after)
    assert (charger.transport.evidence_at == charger.clock.monotonic()) is alive


@pytest.mark.parametrize(("gap", "alive"), [(300, True), (301, False)])
async def test_i3_change_counts_only_between_answers_within_300_s(gap: float, alive: bool) -> None:
    charger = _Charger()
    await charger.listed()
    await charger.listed(after=gap, status=194)
    assert (charger.transport.evidence_at == charger.clock.monotonic()) is alive


async def test_i3_only_lasting_values_shown_without_sign_of_life() -> None:
    charger = _Charger()
    await charger.listed()
    assert charger.presence() is Presence.UNKNOWN
    assert charger.transport.last_report == StatusReport(Status.AVAILABLE, car_connected=False)
    for prop in (STATUS_VALUE, POWER, LOCKED, CAR_CONNECTED, PROBLEM):
        assert charger.listener.latest.get(prop) is None
    assert charger.listener.value(CHARGING_CURRENT) == 16
    assert charger.listener.value(SESSION_ENERGY) == 4.0
    await charger.listed(status=0)
    assert charger.status_value() is Status.OFFLINE  # the cloud itself knows that the charger is offline
    assert charger.presence() is Presence.OFFLINE


async def test_first_answer_older_than_the_sign_of_life_after_it() -> None:
    """Let a later answer with an older `last_sync` replace the first groups answer, whose values may be old."""
    charger = _Charger()
    await charger.listed(maxChargingCurrent=16)
    first = charger.listener.latest.get(CHARGING_CURRENT)
    await charger.status(synced_ago=250, max_charging_current=10)
    second = charger.listener.latest.get(CHARGING_CURRENT)
    assert first is not None
    assert second is not None
    assert second.value == 10
    assert second.observed_mono > first.observed_mono


async def test_i3_repeated_or_older_last_sync_leaves_sign_of_life_unchanged() -> None:
    charger = _Charger()
    await charger.status(synced_ago=0)
    alive_at = charger.transport.evidence_at
    await charger.status(after=600, synced_ago=600)
    assert charger.transport.evidence_at == pytest.approx(alive_at, abs=1)
    await charger.status(after=60, synced_ago=3000)
    assert charger.transport.evidence_at == pytest.approx(alive_at, abs=1)
    assert charger.transport.charger_reported_at == pytest.approx(alive_at, abs=1)
    await charger.status(after=60, last_sync="2031-01-01 00:00:00")
    await charger.status(after=60, last_sync="soon")
    await charger.status(after=60, last_sync=None)
    assert charger.transport.evidence_at == pytest.approx(alive_at, abs=1)


async def test_last_sync_of_charger_details_counts_as_sign_of_life() -> None:
    charger = _Charger()
    await charger.status(synced_ago=100)
    alive_at = charger.transport.evidence_at
    await charger.clock.advance(200)
    text = charger.clock.now().strftime("%Y-%m-%d %H:%M:%S.000000")
    date = {"date": text, "timezone_type": 3, "timezone": "UTC"}
    charger.transport.record_details(ChargerDetails.from_dict({"lastSync": date, "resume": {"totalEnergy": "5120000"}}))
    assert charger.transport.evidence_at == pytest.approx(alive_at + 300, abs=1)
    assert charger.listener.value(LIFETIME_ENERGY) == 5120


@pytest.mark.parametrize(
    ("code", "age"),
    [(161, HOUR), (179, HOUR), (14, HOUR), (193, 15 * MINUTE), (196, 15 * MINUTE)],
)
async def test_i3_presence_lasts_as_long_as_the_status(code: int, age: float) -> None:
    charger = _Charger()
    await charger.status(synced_ago=0, status_id=code)
    alive_at = charger.transport.evidence_at
    await charger.clock.advance(alive_at + age - 1 - charger.clock.monotonic())
    assert charger.presence() is Presence.ONLINE
    assert charger.status_value() is not None
    await charger.clock.advance(1.1)
    assert charger.presence() is Presence.UNKNOWN
    assert charger.status_value() is None


# Odd answers


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """Yield the warnings of the transport's logger."""
    found: list[str] = []

    class Collector(logging.Handler):
        @override
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    logger, handler = logging.getLogger("custom_components.chargekeeper.wallbox.transport"), Collector(logging.WARNING)
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


async def test_unknown_status_code_shown_as_unknown_and_logged_once(warnings: list[str]) -> None:
    charger = _Charger()
    await charger.status(synced_ago=0)
    assert charger.status_value() is Status.AVAILABLE
    for _ in range(3):
        await charger.listed(status=200)
        await charger.status(synced_ago=0, status_id=200)
        assert charger.status_value() is None
        assert charger.listener.value(CAR_CONNECTED) is None
        assert charger.listener.value(PROBLEM) is None
        assert charger.presence() is Presence.ONLINE
    await charger.listed(status=201)
    assert [message for message in warnings if "200" in message] == warnings[:1]
    assert len(warnings) == 2
    assert SERIAL not in "".join(warnings)
    assert charger.transport.diagnostics()["unknown_codes"] == [200, 201]
    assert charger.transport.diagnostics()["raw_status"] == 201
    await charger.status(synced_ago=0)
    assert charger.status_value() is Status.AVAILABLE


@pytest.mark.parametrize("code", [163, "missing", "garbage", -3, 1.5, True])
async def test_status_code_without_meaning_shown_as_unknown_and_not_logged(code: object, warnings: list[str]) -> None:
    charger = _Charger()
    await charger.status(synced_ago=0)
    await charger.listed(status=code)
    assert charger.status_value() is None
    assert warnings == []
    await charger.listed()
    assert charger.status_value() is Status.AVAILABLE


async def test_values_missing_from_an_answer_stay_unchanged() -> None:
    charger = _Charger()
    await charger.listed()
    eco = {"enabled": True, "mode": 1, "percentage": 40}
    await charger.status(
        ecosmart=eco, part_number="PLP1-0-2-4", icp_max_current=25, home_sharing=1, max_available_current=32
    )
    await charger.listed(name=None, chargerType="missing", software=None, maxChargingCurrent=None)
    await charger.status(ecosmart=None)
    await charger.status(ecosmart={"enabled": None, "percentage": "x"}, home_sharing=1, icp_max_current=None)
    who = charger.transport.identity
    assert (who.name, who.model, who.part_number) == ("Garage", "Pulsar Plus", "PLP1-0-2-4")
    assert Capability.ECO_MODE in charger.transport.capabilities
    assert charger.transport.eco_percentage == 40
    assert charger.listener.value(ECO_MODE) is EcoMode.FULL_SOLAR
    assert charger.listener.value(HOUSE_LIMIT) == 25
    assert charger.listener.value(WIRE_RATING) == 32
    assert charger.listener.value(FIRMWARE) == "6.7.43"


async def test_renamed_charger_keeps_model_found_in_its_former_name() -> None:
    charger = _Charger()
    await charger.listed(name="Commander 2 SN 700101", chargerType=None)
    assert charger.transport.identity.model == "Commander 2"
    await charger.listed(name="Courtyard", chargerType=None)
    assert (charger.transport.identity.name, charger.transport.identity.model) == ("Courtyard", "Commander 2")


@pytest.mark.parametrize("off", [{"home_sharing": 0, "icp_max_current": 25}, {"home_sharing": 1, "icp_max_current": 0}])
async def test_house_limit_switched_off_no_longer_shown(off: dict[str, object]) -> None:
    charger = _Charger()
    await charger.status(icp_max_current=25, home_sharing=1)
    assert charger.listener.value(HOUSE_LIMIT) == 25
    await charger.status(off)
    assert charger.listener.value(HOUSE_LIMIT) is None


async def test_original_pulsar_without_restart_even_if_answer_omits_its_model() -> None:
    charger = _Charger()
    await charger.listed(chargerType="Pulsar")
    await charger.listed(chargerType=None)
    assert Capability.RESTART not in charger.transport.capabilities
    assert Capability.ECO_MODE not in charger.transport.capabilities


# Listeners


async def test_late_listener_receives_all_known_values() -> None:
    charger = _Charger()
    late = Listener(charger.transport, charger.clock)
    charger.account().transport(SERIAL).listen(late)
    assert late.reads == 0
    await charger.listed()
    await charger.status(synced_ago=0, icp_max_current=25, home_sharing=1)
    await charger.status(synced_ago=0, home_sharing=0)
    await charger.listed(status=200)
    charger.transport.listen(late)
    assert late.reads == 1
    assert late.latest == charger.listener.latest
    assert late.value(STATUS_VALUE) is None
    assert late.value(HOUSE_LIMIT) is None
    assert late.value(CHARGING_CURRENT) == 16


async def test_only_last_listener_notified_and_leaving_twice_is_harmless() -> None:
    charger = _Charger()
    first, second = Listener(charger.transport, charger.clock), Listener(charger.transport, charger.clock)
    leave_first = charger.transport.listen(first)
    leave_second = charger.transport.listen(second)
    leave_first()
    await charger.listed()
    assert (first.reads, second.reads) == (0, 1)
    leave_second()
    leave_second()
    await charger.listed()
    charger.transport.record_refusal()
    for _ in range(3):
        charger.transport.record_missing()
    assert (second.reads, second.changes) == (1, 0)


# Over real sockets


@pytest.fixture
async def rig(socket_enabled: None) -> AsyncIterator[Rig]:
    async with rigged() as rig:
        yield rig


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("prefix", [STATUS, "/v2/charger/", "/chargers/7", GROUPS])
async def test_i2_answers_emptied_of_values_leave_lasting_values_unchanged(
    rig: Rig, prefix: str, missing: bool
) -> None:
    await rig.settle_in()
    kept = (CHARGING_CURRENT, WIRE_RATING, FIRMWARE, OCPP, ROLE, LIFETIME_ENERGY, SESSION_ENERGY, ECO_MODE)
    listener = rig.listener(CHARGING)
    before = {prop.key: listener.value(prop) for prop in kept}
    assert None not in before.values()
    await rig.cloud.set_fault(Fault.NULLS, path_prefix=prefix, missing=missing)
    rig.transport(CHARGING).details_refresh.expire()
    rig.transport(CHARGING).schedule_refresh.expire()
    rig.transport(CHARGING).status_refresh.expire()
    await rig.clock.advance(10 * MINUTE)
    await rig.cloud.set_fault(Fault.NONE)
    await rig.clock.advance(10 * MINUTE)
    after = {prop.key: listener.value(prop) for prop in kept}
    for moving in (LIFETIME_ENERGY.key, SESSION_ENERGY.key):
        before.pop(moving)
        assert after.pop(moving) is not None
    assert after == before
    assert rig.transport(CHARGING).identity.name == "Carport"
    assert listener.value(STATUS_VALUE) is Status.CHARGING


@pytest.mark.parametrize("fault", [Fault.HTML, Fault.GARBAGE, Fault.HALF, Fault.ERROR_500])
async def test_nonsense_for_one_charger_leaves_other_chargers_unaffected(rig: Rig, fault: Fault) -> None:
    await rig.settle_in()
    await rig.cloud.set_fault(fault, path_prefix=f"{STATUS}{WAITING}")
    await rig.clock.advance(2 * HOUR)
    for serial in (FREE, CHARGING):
        assert rig.transport(serial).presence is Presence.ONLINE
    assert rig.listener(WAITING).value(STATUS_VALUE) is None  # no valid answer about this charger for two hours
    assert rig.outages == []


async def test_values_have_cloud_as_source_and_role_of_signed_in_account(rig: Rig) -> None:
    rig.cloud.add_account("second@example.org", "password", role="user")
    await rig.settle_in()
    listener = rig.listener(CHARGING)
    assert {reading.source for _, reading in listener.latest.items()} == {Source.CLOUD}
    assert listener.value(ROLE) is Role.SUPER_ADMIN
    assert listener.value(POWER) == pytest.approx(16 * 230 * 3, abs=1)
    assert rig.listener(FREE).value(POWER) == 0
    assert rig.transport(CHARGING).meters_lifetime is False
    assert rig.transport(CHARGING).endpoint_contact_at == rig.account.endpoint_contact_at
    assert rig.transport(CHARGING).status_received_at == rig.gets(GROUPS)[-1].at
