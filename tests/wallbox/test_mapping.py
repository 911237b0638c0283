"""Mapping of the Wallbox cloud's answers: status codes, readings with time and age, schedules, absurd values."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
import json
from math import inf
from typing import Any

import aiohttp
from hypothesis import given, settings, strategies as st
import pytest

from custom_components.chargekeeper.core.errors import NotApplicable, Unsupported
from custom_components.chargekeeper.core.model import (
    CAR_CONNECTED,
    CHARGING_CURRENT,
    CURRENCY,
    CURRENT,
    ECO_MODE,
    FIRMWARE,
    HOUSE_LIMIT,
    IDLE_STATUS_AGE,
    LATEST_FIRMWARE,
    LIFETIME_ENERGY,
    LOCKED,
    NOMINAL_VOLTAGE,
    OCPP,
    PHASES,
    POWER,
    PROBLEM,
    ROLE,
    SCHEDULE,
    SESSION_COST,
    SESSION_DURATION,
    SESSION_ENERGY,
    STATUS,
    TIME_ZONE,
    WIRE_RATING,
    Capability,
    EcoMode,
    Identity,
    Maker,
    ReadingClass,
    Readings,
    Role,
    Source,
    Status,
    Window,
)
from custom_components.chargekeeper.core.reading_builder import Timestamp
from custom_components.chargekeeper.wallbox.client import (
    UNREADABLE,
    WEEKDAYS,
    ChargerDetails,
    ChargerStatus,
    CloudSchedule,
    ConfigData,
    EcoSmart,
    GroupCharger,
    ScheduleList,
    Software,
    WallboxCloudClient,
)
from custom_components.chargekeeper.wallbox.mapping import (
    STATUS_BY_CODE,
    StatusFacts,
    capabilities,
    details_readings,
    eco_mode,
    eco_smart,
    group_readings,
    identity,
    is_original_pulsar,
    last_sync,
    local_timestamp,
    role_of,
    schedule_bodies,
    schedule_readings,
    status_facts,
    status_readings,
    whole_schedule,
    windows,
)
from tests.simulators.clock import START, VirtualClock
from tests.simulators.wallbox_cloud import WallboxCloud
from tests.simulators.world import Window as CloudWindow, demo_world

SEEN = Timestamp(START - timedelta(seconds=100), 900.0)
NOW = Timestamp(START, 1000.0)
MINUTE = 60

# Written from the table and the groups of docs/protocols/wallbox-cloud.md, section 8: code, label, car plugged in ("?"
# means unknown).
DOCUMENTED_CODES = """
0 Disconnected ?
4 Completed ?
5 Offline ?
14 Error ?
15 Error ?
161 Ready no
162 Ready no
163 Ambiguous ?
164 Waiting yes
165 Locked ?
166 Updating ?
177 Scheduled yes
178 Paused yes
179 Scheduled yes
180 Demand yes
181 Demand yes
182 Paused yes
183 Queue yes
184 Queue yes
185 Queue yes
186 Queue yes
187 Error yes
188 Queue yes
189 Queue yes
193 Charging yes
194 Charging yes
195 Charging yes
196 Discharging yes
209 Locked no
210 Locked yes
"""
LABELS = {
    "Disconnected": Status.OFFLINE,
    "Offline": Status.OFFLINE,
    "Completed": Status.COMPLETED,
    "Error": Status.ERROR,
    "Ready": Status.AVAILABLE,
    "Ambiguous": None,
    "Waiting": Status.WAITING_CAR,
    "Locked": Status.LOCKED,
    "Updating": Status.UPDATING,
    "Scheduled": Status.WAITING_SCHEDULE,
    "Paused": Status.PAUSED,
    "Demand": Status.WAITING_CAR,
    "Queue": Status.WAITING_POWER,
    "Charging": Status.CHARGING,
    "Discharging": Status.DISCHARGING,
}
CODES = [
    (int(code), LABELS[label], {"?": None, "yes": True, "no": False}[car])
    for code, label, car in (line.split() for line in DOCUMENTED_CODES.split("\n") if line)
]


# Status codes


@pytest.mark.parametrize(("code", "status", "car"), CODES)
def test_status_code_mapped_to_status_and_car_state(code: int, status: Status | None, car: bool | None) -> None:
    facts = status_facts(code)
    assert (facts.status, facts.car_connected) == (status, car)
    assert facts.problem is (status is Status.ERROR)
    assert facts.locked is (True if code in {209, 210} else None)


def test_status_table_holds_exactly_the_documented_codes() -> None:
    assert set(STATUS_BY_CODE) == {None, *(code for code, _, _ in CODES)}
    assert status_facts(None) == status_facts(0)


@given(st.integers().filter(lambda code: code not in STATUS_BY_CODE))
def test_unknown_code_yields_no_status_facts(code: int) -> None:
    assert status_facts(code) == StatusFacts(None, None, None, False)


# Readings


def shown(readings: Readings) -> dict[str, object]:
    return {prop.key: reading.value for prop, reading in readings.items()}


def of_group(status: int | None, **fields: Any) -> Readings:
    return group_readings(GroupCharger(serial="9", status=status, **fields), seen=SEEN, now=NOW)


def of_status(status: int | None, *, config: ConfigData | None = None, **fields: Any) -> Readings:
    return status_readings(ChargerStatus(status=status, config=config or ConfigData(), **fields), seen=SEEN, now=NOW)


def test_group_entry_becomes_readings() -> None:
    readings = of_group(
        194,
        locked=False,
        operation_mode="wallbox",
        max_charging_current=16.0,
        added_energy=4.2,
        charging_power=7.2,
        charging_time=3600.0,
        software=Software("6.7.43", "6.7.50"),
    )
    assert shown(readings) == {
        STATUS.key: Status.CHARGING,
        CAR_CONNECTED.key: True,
        PROBLEM.key: False,
        LOCKED.key: False,
        POWER.key: 7200.0,
        SESSION_ENERGY.key: 4.2,
        SESSION_DURATION.key: 3600.0,
        FIRMWARE.key: "6.7.43",
        LATEST_FIRMWARE.key: "6.7.50",
        CHARGING_CURRENT.key: 16.0,
        OCPP.key: False,
    }


def test_full_status_becomes_readings() -> None:
    config = ConfigData(
        locked=True,
        max_charging_current=16.0,
        max_available_current=32.0,
        icp_max_current=40.0,
        home_sharing=True,
        currency="EUR",
        time_zone="Europe/Berlin",
        operation_mode="ocpp",
        eco_smart=EcoSmart(True, 1, 100),
        software=Software("6.7.43", "6.7.43"),
    )
    readings = of_status(
        194,
        config=config,
        charging_power=7.2,
        phases=1,
        max_available_power=25.0,
        added_energy=4.75,
        charging_time=60.0,
        cost=1.19,
    )
    assert shown(readings) == {
        STATUS.key: Status.CHARGING,
        CAR_CONNECTED.key: True,
        PROBLEM.key: False,
        LOCKED.key: True,
        POWER.key: 7200.0,
        SESSION_ENERGY.key: 4.75,
        SESSION_DURATION.key: 60.0,
        SESSION_COST.key: 1.19,
        CURRENCY.key: "EUR",
        WIRE_RATING.key: 32.0,
        HOUSE_LIMIT.key: 40.0,
        CHARGING_CURRENT.key: 16.0,
        ECO_MODE.key: EcoMode.FULL_SOLAR,
        FIRMWARE.key: "6.7.43",
        LATEST_FIRMWARE.key: "6.7.43",
        TIME_ZONE.key: "Europe/Berlin",
        PHASES.key: 1,
        NOMINAL_VOLTAGE.key: 230.0,
        OCPP.key: True,
    }


def test_nominal_voltage_follows_time_zone() -> None:
    readings = of_status(161, config=ConfigData(time_zone="America/New_York"))
    assert readings.value(NOMINAL_VOLTAGE) == 240


def test_missing_fields_yield_no_readings() -> None:
    assert shown(of_group(UNREADABLE)) == {}
    assert shown(of_status(UNREADABLE)) == {}
    assert shown(details_readings(ChargerDetails(), seen=SEEN, now=NOW)) == {}


@pytest.mark.parametrize("code", [163, 200, UNREADABLE])
def test_code_without_meaning_leaves_reported_power_and_lock(code: int) -> None:
    assert shown(of_group(code, charging_power=1.5, locked=True)) == {POWER.key: 1500.0, LOCKED.key: True}


@pytest.mark.parametrize(("code", "status"), [(c, status) for c, status, _ in CODES if status is not Status.OFFLINE])
def test_readings_have_time_of_report_and_age_for_charger_status(code: int, status: Status | None) -> None:
    charger = GroupCharger(serial="9", status=code, locked=False, charging_power=1.0, max_charging_current=16.0)
    flows = status in {Status.CHARGING, Status.DISCHARGING}
    live_age = 15 * MINUTE if flows or status is None else 9 * 60 * MINUTE
    for prop, reading in group_readings(charger, seen=SEEN, now=NOW, idle_age=9 * 60 * MINUTE).items():
        assert (reading.source, reading.observed_at, reading.observed_mono) == (
            Source.CLOUD,
            SEEN.observed_at,
            SEEN.observed_mono,
        )
        assert reading.max_age == (live_age if prop.kind is ReadingClass.LIVE else inf), prop


@pytest.mark.parametrize("code", [161, 166, 14, 179, 182, 210])
def test_idle_charger_has_zero_power_for_as_long_as_its_status(code: int) -> None:
    for readings in (of_group(code), of_group(code, charging_power=7.2), of_status(code, charging_power=7.2)):
        power, status = readings.get(POWER), readings.get(STATUS)
        assert power is not None
        assert status is not None
        assert power.value == 0
        assert (
            (power.observed_mono, power.max_age)
            == (status.observed_mono, status.max_age)
            == (SEEN.observed_mono, IDLE_STATUS_AGE)
        )


@pytest.mark.parametrize(
    ("code", "kilowatts", "watts"),
    [
        (194, 7.2, 7200.0),
        (194, -0.1, -100.0),
        (194, None, None),
        (196, 5.0, -5000.0),
        (196, -5.0, -5000.0),
        (196, None, None),
    ],
)
def test_power_is_in_watts_and_negative_while_discharging(
    code: int, kilowatts: float | None, watts: float | None
) -> None:
    assert of_group(code, charging_power=kilowatts).value(POWER) == watts


def test_current_never_derived_from_power() -> None:
    for code in STATUS_BY_CODE:
        assert CURRENT not in of_group(code, charging_power=7.2)
        assert CURRENT not in of_status(code, charging_power=7.2)


@pytest.mark.parametrize("code", [None, 0, 5])
def test_offline_charger_yields_only_status_and_settings(code: int | None) -> None:
    live = {"charging_power": 7.2, "added_energy": 3.0, "charging_time": 60.0}
    config = ConfigData(locked=True, max_available_current=32.0, operation_mode="wallbox")
    both = (
        of_group(code, locked=True, max_charging_current=16.0, **live),
        of_status(code, config=config, cost=2.0, **live),
    )
    expected: tuple[dict[str, object], ...] = ({CHARGING_CURRENT.key: 16.0}, {WIRE_RATING.key: 32.0, OCPP.key: False})
    for readings, settings_ in zip(both, expected, strict=True):
        assert shown(readings) == {STATUS.key: Status.OFFLINE} | settings_
        status = readings.get(STATUS)
        assert status is not None
        assert (status.observed_at, status.observed_mono, status.max_age) == (
            NOW.observed_at,
            NOW.observed_mono,
            IDLE_STATUS_AGE,
        )
        for prop, reading in readings.items():
            assert prop.key == STATUS.key or reading.observed_mono == SEEN.observed_mono


@pytest.mark.parametrize(
    ("code", "field", "locked"),
    [
        (209, None, True),
        (210, None, True),
        (209, False, False),
        (161, None, None),
        (165, None, None),
        (165, True, True),
    ],
)
def test_lock_read_from_field_or_else_from_status_code(code: int, field: bool | None, locked: bool | None) -> None:
    assert of_group(code, locked=field).value(LOCKED) is locked
    assert of_status(code, config=ConfigData(locked=field)).value(LOCKED) is locked


@pytest.mark.parametrize(
    ("config", "power", "rating"), [(32.0, 16.0, 32.0), (None, 16.0, 16.0), (32.0, None, 32.0), (None, None, None)]
)
def test_wire_rating_read_from_config_or_else_from_status(
    config: float | None, power: float | None, rating: float | None
) -> None:
    readings = of_status(161, config=ConfigData(max_available_current=config), max_available_power=power)
    assert readings.value(WIRE_RATING) == rating


@pytest.mark.parametrize(
    ("sharing", "icp", "limit"),
    [(True, 40.0, 40.0), (True, 0.0, None), (True, None, None), (False, 40.0, None), (None, 40.0, None)],
)
def test_house_limit_read_only_while_power_boost_is_on(
    sharing: bool | None, icp: float | None, limit: float | None
) -> None:
    config = ConfigData(home_sharing=sharing, icp_max_current=icp)
    assert of_status(161, config=config).value(HOUSE_LIMIT) == limit


@pytest.mark.parametrize(
    ("eco", "mode"),
    [
        (None, None),
        (EcoSmart(None, 1), None),
        (EcoSmart(False, 1), EcoMode.OFF),
        (EcoSmart(False, None), EcoMode.OFF),
        (EcoSmart(True, 0), EcoMode.ECO),
        (EcoSmart(True, 1), EcoMode.FULL_SOLAR),
        (EcoSmart(True, 2), None),
        (EcoSmart(True, None), None),
    ],
)
def test_eco_mode_read_from_eco_smart(eco: EcoSmart | None, mode: EcoMode | None) -> None:
    assert eco_mode(eco) == mode
    assert of_status(161, config=ConfigData(eco_smart=eco)).value(ECO_MODE) == mode


def test_eco_mode_read_back_as_written() -> None:
    assert {mode: eco_smart(mode) for mode in EcoMode} == {
        EcoMode.OFF: (False, 0),
        EcoMode.ECO: (True, 0),
        EcoMode.FULL_SOLAR: (True, 1),
    }
    assert [eco_mode(EcoSmart(*eco_smart(mode))) for mode in EcoMode] == list(EcoMode)


@pytest.mark.parametrize(("mode", "ocpp"), [("ocpp", True), ("OCPP", True), ("wallbox", False), (None, None)])
def test_ocpp_read_from_operation_mode(mode: str | None, ocpp: bool | None) -> None:
    assert of_group(161, operation_mode=mode).value(OCPP) is ocpp


def test_charger_details_become_readings() -> None:
    details = ChargerDetails(
        software_version="6.7.43",
        max_charging_current=16.0,
        max_available_current=32.0,
        total_energy=5_120_000.0,
        profile="super-admin",
    )
    readings = details_readings(details, seen=SEEN, now=NOW)
    assert shown(readings) == {
        FIRMWARE.key: "6.7.43",
        CHARGING_CURRENT.key: 16.0,
        WIRE_RATING.key: 32.0,
        LIFETIME_ENERGY.key: 5120.0,
        ROLE.key: Role.SUPER_ADMIN,
    }
    moments = {prop.key: (reading.observed_at, reading.observed_mono) for prop, reading in readings.items()}
    assert moments.pop(ROLE.key) == (NOW.observed_at, NOW.observed_mono), "the role comes from the cloud itself"
    assert set(moments.values()) == {(SEEN.observed_at, SEEN.observed_mono)}


@pytest.mark.parametrize(
    ("profile", "role"),
    [
        ("super-admin", Role.SUPER_ADMIN),
        ("admin", Role.ADMIN),
        ("user", Role.USER),
        ("operator", Role.OPERATOR),
        ("Super-Admin", Role.SUPER_ADMIN),
        ("owner", None),
        ("", None),
        (None, None),
    ],
)
def test_role_read_from_profile(profile: str | None, role: Role | None) -> None:
    assert role_of(profile) is role


# Times


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-09-21 14:13:20", datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)),
        ("2026-09-21 14:13:20.000000", datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)),
        ("2026-11-02 12:05:00", datetime(2026, 11, 2, 12, 5, tzinfo=UTC)),
        ("2026-11-02 12:05:01", None),
        ("9999-12-31 23:59:59", None),
        ("2014-12-31 23:59:59", None),
        ("1970-01-01 00:00:00", None),
        ("0000-00-00 00:00:00", None),
        ("2026-02-30 00:00:00", None),
        ("2026-09-21 24:13:20", None),
        ("2026-09-21T14:13:20", None),
        ("2026-09-21 14:13:20+02:00", None),
        ("2026-09-21", None),
        ("٢٠٢٦-09-21 14:13:20", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_last_sync_read_only_from_plausible_text(text: str | None, moment: datetime | None) -> None:
    assert last_sync(text, START) == moment


@given(st.text(max_size=30) | st.from_regex(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", fullmatch=True))
def test_last_sync_never_far_in_the_future(text: str) -> None:
    synced = last_sync(text, START)
    assert synced is None or synced <= START + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("skew", "synced", "age"),
    [
        (timedelta(), START - timedelta(seconds=90), 90.0),
        (timedelta(days=400), START + timedelta(days=400, seconds=-90), 90.0),
        (timedelta(seconds=-30), START - timedelta(seconds=90), 60.0),
        (timedelta(), START + timedelta(seconds=90), 0.0),
    ],
)
def test_cloud_time_converted_to_local_clocks(skew: timedelta, synced: datetime, age: float) -> None:
    assert local_timestamp(synced, NOW, skew) == Timestamp(START - timedelta(seconds=age), 1000.0 - age)


# Identity


@pytest.mark.parametrize(
    ("charger_type", "part_number", "name", "model"),
    [
        ("PulsarPlus", None, None, "Pulsar Plus"),
        ("PulsarMax", "PLP1-0-2-4-9-002-F", None, "Pulsar Max"),
        ("Commander2", None, None, "Commander 2"),
        ("CopperSB", None, None, "Copper SB"),
        ("Pulsar", None, None, "Pulsar"),
        ("Copper C", None, None, "Copper C"),
        (None, "PLP1-0-2-4-9-002-F", "Garage", "Pulsar Plus"),
        (None, "PUP1-1", None, "Pulsar Plus"),
        (None, "PUP2-1", None, "Pulsar Plus"),
        (None, "PUP3-1", None, "Pulsar Pro"),
        (None, "cpb1-1", None, "Copper SB"),
        (None, "QSX3-1", None, "Quasar"),
        (None, "XYZ", "PulsarMax SN 9", "Pulsar Max"),
        (None, None, "Pulsar SN 9", "Pulsar"),
        (None, None, "Commander 2 SN 9", "Commander 2"),
        (None, None, "Garage", None),
        (None, None, None, None),
    ],
)
def test_model_found_by_type_or_part_number_or_name(
    charger_type: str | None, part_number: str | None, name: str | None, model: str | None
) -> None:
    charger = GroupCharger(serial="9", charger_type=charger_type, name=name)
    who = identity(charger, part_number)
    assert who == Identity(Maker.WALLBOX, "9", name or "Wallbox 9", model, part_number)
    assert is_original_pulsar(who) is (model == "Pulsar")


@pytest.mark.parametrize(
    ("charger_type", "eco", "missing"),
    [
        ("PulsarPlus", True, set()),
        ("PulsarPlus", False, {Capability.ECO_MODE}),
        ("Pulsar", False, {Capability.ECO_MODE, Capability.RESTART}),
    ],
)
def test_capabilities_depend_on_model_and_eco_mode(charger_type: str, eco: bool, missing: set[Capability]) -> None:
    who = identity(GroupCharger(serial="9", charger_type=charger_type))
    assert set(Capability) - capabilities(who, has_eco_mode=eco) == missing


# Schedules


NIGHT = CloudSchedule(slot=1, enabled=True, days=frozenset({0, 6}), start="2130", stop="0500", max_current=10)
NIGHT_WINDOW = Window(1, True, frozenset({0, 6}), time(21, 30), time(5, 0), "UTC", 10, 0)


def test_schedule_becomes_utc_windows_in_order_of_slot() -> None:
    noon = CloudSchedule(slot=0, enabled=False, days=frozenset(), start="0000", stop="2359", max_energy=4000)
    found = windows([NIGHT, noon])
    assert found == (Window(0, False, frozenset(), time(0, 0), time(23, 59), "UTC", 0, 4000), NIGHT_WINDOW)
    readings = schedule_readings(ScheduleList((NIGHT, noon)), seen=SEEN)
    reading = readings.get(SCHEDULE)
    assert reading is not None
    assert (reading.value, reading.observed_mono, reading.max_age, len(readings)) == (found, SEEN.observed_mono, inf, 1)
    assert schedule_readings(ScheduleList(), seen=SEEN).value(SCHEDULE) == (), "an empty schedule is a reading, too"


@pytest.mark.parametrize(
    "broken",
    [
        {"slot": None},
        {"enabled": None},
        {"days": None},
        {"start": None},
        {"stop": None},
        *({"start": text} for text in ("2400", "2060", "930", "21:30", "٢١٣٠", "", "21300")),
        {"max_current": -1},
        {"max_energy": -1},
    ],
    ids=str,
)
def test_unreadable_schedule_entry_left_out_of_windows(broken: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"slot": 2, "enabled": True, "days": frozenset({1}), "start": "1000", "stop": "1100"}
    assert len(windows([CloudSchedule(**fields)])) == 1
    assert windows([CloudSchedule(**fields | broken), NIGHT]) == (NIGHT_WINDOW,)


WEEK = dict.fromkeys(WEEKDAYS, False)
ENTRY: dict[str, object] = {
    "uid": "cccccccc-0000-4000-8000-000000700123",
    "id": 7,
    "chargerId": 700123,
    "enable": 1,
    "name": "Nights",
    "type": 0,
    "start": "2130",
    "stop": "0500",
    "max_current": 10,
    "max_energy": None,
    "days": {"monday": 1, "sunday": True, "friday": False, "holidays": "no"},
    "created_at": 1780000000,
    "user_uid": "11111111-2222-4333-8444-000000090001",
    "target": {"soc": 80},
    "repeat": [1, None],
}
"""The untidiest entry that is still readable, with unknown fields."""
ENTRY_WINDOW = Window(7, True, frozenset({0, 6}), time(21, 30), time(5, 0), "UTC", 10, 0)
CLOUD_NOW = datetime(2026, 10, 1, 12, 0, 0, 400_000, tzinfo=UTC)
NEXT = int(CLOUD_NOW.timestamp()) + 2  # the next full second, and one more


def listed(*entries: Mapping[str, object], newest: int = 0, is_whole: bool = True) -> ScheduleList:
    """Return a list in the form in which the client reads it."""
    return ScheduleList(tuple(CloudSchedule.from_dict(dict(entry)) for entry in entries), entries, newest, is_whole)


def test_written_schedule_keeps_unknown_fields_and_sends_booleans() -> None:
    other = ENTRY | {"id": 8, "enable": False, "start": "1100", "stop": "1300", "max_current": 1}
    first, second = schedule_bodies(listed(ENTRY, other), (replace(ENTRY_WINDOW, enabled=False),), CLOUD_NOW)
    days = {**WEEK, "monday": True, "sunday": True, "holidays": "no"}
    tidy = {key: value for key, value in ENTRY.items() if key != "uid"} | {"days": days, "max_energy": 0}
    assert first == tidy | {"enable": False, "created_at": NEXT}
    assert second == tidy | {
        "id": 8,
        "enable": False,
        "start": "1100",
        "stop": "1300",
        "max_current": 1,
        "created_at": NEXT,
    }
    assert {type(body["enable"]) for body in (first, second)} == {bool}, "an integer is misread"
    assert {type(flag) for name, flag in days.items() if name in WEEKDAYS} == {bool}


@pytest.mark.parametrize(
    ("newest", "expected"), [(0, NEXT), (NEXT - 2, NEXT), (NEXT, NEXT + 1), (NEXT + 99, NEXT + 100)]
)
def test_written_schedule_newer_than_every_known_time(newest: int, expected: int) -> None:
    bodies = schedule_bodies(listed(ENTRY, newest=newest), (replace(ENTRY_WINDOW, enabled=False),), CLOUD_NOW)
    assert [body["created_at"] for body in bodies] == [expected]


def test_schedule_limit_that_was_not_read_is_not_written() -> None:
    entry = {key: value for key, value in ENTRY.items() if not key.startswith("max_")}
    (body,) = schedule_bodies(listed(entry), (replace(ENTRY_WINDOW, enabled=False, max_current=0),), CLOUD_NOW)
    assert not {"max_current", "max_energy"} & body.keys()


@pytest.mark.parametrize("max_current", [0, 1, None])
def test_schedule_entry_without_limit_matched_by_0_and_by_1(max_current: int | None) -> None:
    for known in (0, 1):
        window = replace(ENTRY_WINDOW, enabled=False, max_current=known)
        (body,) = schedule_bodies(listed(ENTRY | {"max_current": max_current}), (window,), CLOUD_NOW)
        assert (body["enable"], body["max_current"]) == (False, max_current or 0)


@pytest.mark.parametrize(
    "change",
    [
        {"slot": 0},
        {"days": frozenset({0})},
        {"start": time(21)},
        {"end": time(6)},
        {"max_current": 16},
        {"max_energy": 1},
        {"enabled": True},
    ],
    ids=str,
)
def test_schedule_entry_matched_by_content_not_by_slot(change: dict[str, Any]) -> None:
    wanted = replace(ENTRY_WINDOW, enabled=False)
    bodies = schedule_bodies(listed(ENTRY), (replace(wanted, **change),), CLOUD_NOW)
    assert bool(bodies) is ("slot" in change), "its place does not matter"


def test_only_first_of_two_identical_schedule_entries_changed() -> None:
    twins = listed(ENTRY, ENTRY | {"id": 8})
    bodies = schedule_bodies(twins, (replace(ENTRY_WINDOW, enabled=False),), CLOUD_NOW)
    assert [body["enable"] for body in bodies] == [False, True]


def test_schedule_without_changes_yields_no_bodies() -> None:
    assert schedule_bodies(listed(ENTRY), (), CLOUD_NOW) == []
    assert schedule_bodies(listed(), (ENTRY_WINDOW,), CLOUD_NOW) == []


BROKEN_ENTRIES = [
    {"days": None},
    {"days": {}},
    {"days": WEEK},
    {"days": {"monday": "yes"}},
    {"start": None},
    {"start": "9:30"},
    {"stop": ""},
    {"stop": 500},
    {"enable": "on"},
    {"enable": None},
    {"id": None},
    {"max_current": "16"},
    {"max_energy": -1},
]


@pytest.mark.parametrize("broken", BROKEN_ENTRIES, ids=str)
def test_schedule_list_with_unreadable_entry_refused(broken: dict[str, object]) -> None:
    untidy = listed(ENTRY, ENTRY | {"id": 8} | broken)
    for refused in (
        lambda: whole_schedule(untidy),
        lambda: schedule_bodies(untidy, (replace(ENTRY_WINDOW, enabled=False),), CLOUD_NOW),
    ):
        with pytest.raises(NotApplicable, match="schedule_unreadable"):
            refused()


def test_incomplete_schedule_list_refused_but_readable_windows_shown() -> None:
    untidy = listed(ENTRY, is_whole=False)
    with pytest.raises(NotApplicable, match="schedule_unreadable"):
        whole_schedule(untidy)
    assert schedule_readings(untidy, seen=SEEN).value(SCHEDULE) == (ENTRY_WINDOW,)
    for nothing in (listed(is_whole=False), listed(ENTRY | {"start": "?"})):
        assert SCHEDULE not in schedule_readings(nothing, seen=SEEN)


def test_whole_schedule_list_read_in_its_own_order() -> None:
    early = ENTRY | {"id": 3, "start": "0100", "stop": "0200"}
    assert [window.slot for window in whole_schedule(listed(ENTRY, early))] == [7, 3]
    assert [window.slot for window in windows(listed(ENTRY, early).entries)] == [3, 7]
    assert len(windows(listed(ENTRY, early | {"id": 7}).entries)) == 2, "both windows are kept"


def test_windows_in_another_time_zone_cannot_be_written() -> None:
    local = Window(0, True, frozenset({0}), time(22), time(6), zone="Europe/Berlin")
    with pytest.raises(Unsupported):
        schedule_bodies(listed(ENTRY), (NIGHT_WINDOW, local), CLOUD_NOW)


@given(
    st.lists(
        st.builds(
            Window,
            slot=st.integers(0, 3),
            enabled=st.booleans(),
            days=st.frozensets(st.integers(0, 6), min_size=1),
            start=st.times().map(lambda t: t.replace(second=0, microsecond=0)),
            end=st.times().map(lambda t: t.replace(second=0, microsecond=0)),
            max_current=st.integers(0, 32),
            max_energy=st.integers(0, 99_000),
        ),
        unique_by=lambda window: window.content,
    )
)
def test_written_schedule_read_back_unchanged(schedule: list[Window]) -> None:
    entries = [
        ENTRY
        | {
            "id": window.slot,
            "enable": window.enabled,
            "days": {name: day in window.days for day, name in enumerate(WEEKDAYS)},
            "start": f"{window.start:%H%M}",
            "stop": f"{window.end:%H%M}",
            "max_current": window.max_current,
            "max_energy": window.max_energy,
        }
        for window in schedule
    ]
    flipped = tuple(replace(window, enabled=not window.enabled) for window in schedule)
    bodies: Any = json.loads(json.dumps(schedule_bodies(listed(*entries), flipped, CLOUD_NOW)))
    assert whole_schedule(listed(*bodies)) == flipped


# Arbitrary JSON


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
LEAF = st.none() | st.booleans() | st.integers(-5, 300) | st.floats() | st.text(max_size=12) | JSON


def document(*names: str) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, LEAF))


CONFIG = document(
    *("locked", "max_charging_current", "max_available_current", "icp_max_current", "home_sharing", "currency"),
    *("timezone", "part_number", "operation_mode", "ecosmart", "software"),
)
CHARGER = document(
    *("name", "chargerType", "status", "locked", "operationMode", "maxChargingCurrent", "addedEnergy"),
    *("chargingPower", "chargingTime", "software"),
)


def assert_well_typed(readings: Readings) -> None:
    for prop, reading in readings.items():
        assert isinstance(reading.value, prop.type), prop
        if isinstance(reading.value, float):
            assert -1e6 < reading.value <= 1e8, prop
        json.dumps(str(reading.value)).encode()


@settings(max_examples=300, deadline=None)
@given(CHARGER, CONFIG, document("status_id", "last_sync", "charging_power", "added_energy", "cost"), st.data())
def test_readings_well_typed_for_any_cloud_answer(
    group: dict[str, object], config: dict[str, object], status: dict[str, object], data: st.DataObject
) -> None:
    charger = GroupCharger.from_dict(group | {"id": 9})
    assert_well_typed(group_readings(charger, seen=SEEN, now=NOW))
    assert identity(charger, ConfigData.from_dict(config).part_number).name
    full = ChargerStatus.from_dict(status | {"config_data": config})
    assert_well_typed(status_readings(full, seen=SEEN, now=NOW))
    last_sync(full.last_sync, START)
    details = data.draw(document("softwareVersion", "maxChargingCurrent", "maxAvailableCurrent", "resume", "lastSync"))
    assert_well_typed(details_readings(ChargerDetails.from_dict(details), seen=SEEN, now=NOW))
    schedules = data.draw(st.lists(document("id", "enable", "days", "start", "stop", "max_current", "max_energy")))
    found = ScheduleList(tuple(map(CloudSchedule.from_dict, schedules)), tuple(schedules))
    assert_well_typed(schedule_readings(found, seen=SEEN))


# Answers of the simulated cloud


@pytest.fixture
async def cloud(socket_enabled: None) -> AsyncIterator[WallboxCloud]:
    clock = VirtualClock()
    cloud = WallboxCloud(demo_world(clock), clock)
    cloud.add_account("ann@example.org", "secret", role="admin")
    await cloud.start()
    yield cloud
    await cloud.stop()


async def test_simulated_charger_read_alike_from_list_and_status(cloud: WallboxCloud) -> None:
    cloud.world.charger("700102").schedules = (CloudWindow(start="2200", stop="0500", max_current=10),)
    async with aiohttp.ClientSession() as session:
        client = WallboxCloudClient(session, cloud.clock, user_api_url=cloud.url, api_url=cloud.url)
        await client.sign_in("ann@example.org", "secret")
        chargers = await client.groups()
        lists = [group_readings(charger, seen=SEEN, now=NOW) for charger in chargers]
        statuses = [status_readings(await client.status(charger.serial), seen=SEEN, now=NOW) for charger in chargers]
        details = details_readings(await client.details("700103"), seen=SEEN, now=NOW)
        schedule = schedule_readings(await client.schedules("700102"), seen=SEEN)
    assert [identity(charger).model for charger in chargers] == ["Pulsar Plus", "Pulsar Max", "Commander 2"]
    expected = [Status.AVAILABLE, Status.WAITING_SCHEDULE, Status.CHARGING]
    assert [readings.value(STATUS) for readings in lists] == expected
    for listed, status in zip(lists, statuses, strict=True):
        common = shown(listed).keys() & shown(status).keys()
        assert common == shown(listed).keys()
        assert {key: shown(listed)[key] for key in common} == {key: shown(status)[key] for key in common}
    assert [readings.value(HOUSE_LIMIT) for readings in statuses] == [None, 25.0, None]
    assert lists[2].value(POWER) == pytest.approx(16 * 230 * 3)
    assert details.value(ROLE) is Role.ADMIN
    assert details.value(LIFETIME_ENERGY) == pytest.approx(5210.25)
    assert schedule.value(SCHEDULE) == (Window(0, True, frozenset(range(7)), time(22), time(5), max_current=10),)
