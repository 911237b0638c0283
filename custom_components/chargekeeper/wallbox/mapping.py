"""Conversion between Wallbox cloud payloads and readings, identities, schedules and settings.

Every function that converts a payload accepts any content and omits the parts that are unreadable. Section numbers are
those of docs/protocols/wallbox-cloud.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from math import ceil
import re
from types import MappingProxyType
from typing import Any

from ..core.errors import NotApplicable, Unsupported
from ..core.model import (
    ALLOWED_TO_CHARGE,
    CAR_CONNECTED,
    CHARGING_CURRENT,
    CURRENCY,
    ECO_MODE,
    FIRMWARE,
    HOUSE_LIMIT,
    IDLE_STATUS_AGE,
    LATEST_FIRMWARE,
    LIFETIME_ENERGY,
    LIVE_AGE,
    LOCKED,
    NOMINAL_VOLTAGE,
    OCPP,
    PHASES,
    POWER,
    POWER_FLOWS,
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
    Property,
    Reading,
    Readings,
    Role,
    Schedule,
    Source,
    Status,
    Window,
)
from ..core.reading_builder import ReadingBuilder, Timestamp
from ..core.schedule import changed
from ..core.transport import Command, SetCharging, SetCurrent, SetEcoMode, SetLock, SetOverride
from .client import (
    WEEKDAYS,
    ChargerDetails,
    ChargerStatus,
    CloudSchedule,
    ConfigData,
    EcoSmart,
    GroupCharger,
    ScheduleList,
)

CLOCK_TOLERANCE = timedelta(minutes=5)
"""Maximum time by which a `last_sync` may be ahead of the cloud's clock. A later time is invalid."""

FIRST_YEAR = 2015  # no charger of this manufacturer used a cloud before

_OCPP_MODE = "ocpp"
_ZONE = "UTC"
_LAST_SYNC = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(\.\d+)?", re.ASCII)
_TIME_OF_DAY = re.compile(r"([01]\d|2[0-3])([0-5]\d)", re.ASCII)
_WORD_BREAK = re.compile(r"(?<=[a-z])(?=[A-Z0-9])")
_PART_NUMBERS = (
    ("PLP1", "Pulsar Plus"),
    ("PUP1", "Pulsar Plus"),
    ("PUP2", "Pulsar Plus"),
    ("PUP3", "Pulsar Pro"),
    ("CPB1", "Copper SB"),
    ("QS", "Quasar"),
)


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """The meaning of a status code. A field is None if the code does not determine it."""

    status: Status | None = None
    car_connected: bool | None = None
    locked: bool | None = None
    problem: bool = False


_OFFLINE = StatusFacts(Status.OFFLINE)
_ERROR = StatusFacts(Status.ERROR, problem=True)
_AVAILABLE = StatusFacts(Status.AVAILABLE, car_connected=False)
_WAITING_SCHEDULE = StatusFacts(Status.WAITING_SCHEDULE, car_connected=True)
_WAITING_CAR = StatusFacts(Status.WAITING_CAR, car_connected=True)
_WAITING_POWER = StatusFacts(Status.WAITING_POWER, car_connected=True)
_PAUSED = StatusFacts(Status.PAUSED, car_connected=True)
_CHARGING = StatusFacts(Status.CHARGING, car_connected=True)
_UNKNOWN = StatusFacts()

STATUS_BY_CODE: Mapping[int | None, StatusFacts] = MappingProxyType(
    {
        None: _OFFLINE,
        0: _OFFLINE,
        4: StatusFacts(Status.COMPLETED),
        5: _OFFLINE,
        14: _ERROR,
        15: _ERROR,
        161: _AVAILABLE,
        162: _AVAILABLE,
        163: _UNKNOWN,  # the sources contradict each other
        164: _WAITING_CAR,
        165: StatusFacts(Status.LOCKED),  # "OCPP reserved" in the firmware: the code does not tell if the lock is on
        166: StatusFacts(Status.UPDATING),
        177: _WAITING_SCHEDULE,
        178: _PAUSED,
        179: _WAITING_SCHEDULE,
        180: _WAITING_CAR,
        181: _WAITING_CAR,
        182: _PAUSED,
        183: _WAITING_POWER,
        184: _WAITING_POWER,
        185: _WAITING_POWER,
        186: _WAITING_POWER,
        187: StatusFacts(Status.ERROR, car_connected=True, problem=True),
        188: _WAITING_POWER,
        189: _WAITING_POWER,
        193: _CHARGING,
        194: _CHARGING,
        195: _CHARGING,
        196: StatusFacts(Status.DISCHARGING, car_connected=True),
        209: StatusFacts(Status.LOCKED, car_connected=False, locked=True),
        210: StatusFacts(Status.LOCKED, car_connected=True, locked=True),
    }
)
"""Every known status code (section 8)."""


def status_facts(code: int | None) -> StatusFacts:
    """Return the meaning of a status code. All fields are None for an unknown code."""
    return STATUS_BY_CODE.get(code, _UNKNOWN)


def last_sync(text: str | None, cloud_now: datetime) -> datetime | None:
    """Return when the charger last reported, on the cloud's clock (section 5.2).

    Args:
        text: A time in UTC without a time zone, with or without fractions of a second.
        cloud_now: The current time on the cloud's clock.

    Returns:
        None if the text is no time, lies more than `CLOCK_TOLERANCE` in the future, or is before `FIRST_YEAR`.
    """
    match = None if text is None else _LAST_SYNC.fullmatch(text)
    if match is None:
        return None
    try:
        synced = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return synced if synced.year >= FIRST_YEAR and synced <= cloud_now + CLOCK_TOLERANCE else None


def local_timestamp(synced: datetime, now: Timestamp, cloud_skew: timedelta) -> Timestamp:
    """Convert a time of the cloud's clock to the local clocks. The result is never later than `now`."""
    age = now.observed_at + cloud_skew - synced
    return now.earlier(max(age.total_seconds(), 0.0))


def group_readings(
    charger: GroupCharger, *, seen: Timestamp, now: Timestamp, idle_age: float = IDLE_STATUS_AGE
) -> Readings:
    """Return the readings of a charger from the list of groups.

    The readings contain no measured current, because the cloud reports none during a charge.

    Args:
        charger: The charger as listed.
        seen: When the charger reported the values to the cloud.
        now: When the cloud answered. This is the time of the status "offline", which the cloud itself determines.
        idle_age: Maximum age of live values in seconds while no power flows. While power flows it is 15 min.
    """
    facts = status_facts(charger.status)
    builder = _builder(facts, seen, idle_age)
    _put_live(builder, facts, charger, charger.locked, seen)
    builder.put(FIRMWARE, charger.software.current)
    builder.put(LATEST_FIRMWARE, charger.software.latest)
    _put_setting(builder, charger, seen)
    builder.put(OCPP, _ocpp(charger.operation_mode))
    return _with_offline(builder, facts, now, idle_age)


def status_readings(
    status: ChargerStatus, *, seen: Timestamp, now: Timestamp, idle_age: float = IDLE_STATUS_AGE
) -> Readings:
    """Return the readings of a charger from its full status. The arguments are those of `group_readings`."""
    facts = status_facts(status.status)
    builder = _builder(facts, seen, idle_age)
    _put_live(builder, facts, status, status.config.locked, seen)
    if facts.status is not Status.OFFLINE:
        builder.put(SESSION_COST, status.cost)
    _put_config(builder, status.config, seen, now)
    builder.put_limit(WIRE_RATING, status.config.max_available_current or status.max_available_power)
    builder.put(PHASES, status.phases)
    builder.put(NOMINAL_VOLTAGE, _nominal_voltage(status.config.time_zone))
    return _with_offline(builder, facts, now, idle_age)


def details_readings(details: ChargerDetails, *, seen: Timestamp, now: Timestamp) -> Readings:
    """Return the readings from the charger details: configuration, lifetime energy and role of the account.

    The role is dated `now`, because the cloud determines it. The other values are dated `seen`.
    """
    builder = ReadingBuilder(Source.CLOUD, seen)
    builder.put(FIRMWARE, details.software_version)
    _put_setting(builder, details, seen)
    builder.put(WIRE_RATING, details.max_available_current)
    builder.put(LIFETIME_ENERGY, None if details.total_energy is None else details.total_energy / 1000)
    role = role_of(details.profile)
    if role is not None:
        builder.readings.put(ROLE, Reading(role, Source.CLOUD, now.observed_at, now.observed_mono))
    return builder.readings


def written_statuses(command: Command) -> frozenset[Status]:
    """Return the statuses that the cloud may show only because it was sent a command."""
    match command:
        case SetCharging(on) | SetOverride(on) if on:
            return ALLOWED_TO_CHARGE
        case SetCharging():
            return frozenset({Status.PAUSED})
        case SetOverride():
            return frozenset({Status.PAUSED, Status.WAITING_SCHEDULE})
        case SetLock(locked) if locked:
            return frozenset({Status.LOCKED})
    return frozenset()


def written_properties(command: Command, status: Status | None) -> tuple[Property[object], ...]:
    """Return the properties in an answer with this status that the cloud may show only because of a command."""
    shown: tuple[Property[Any], ...] = (STATUS, POWER) if status in written_statuses(command) else ()
    match command:
        case SetCurrent():
            return (*shown, CHARGING_CURRENT)
        case SetLock():
            return (*shown, LOCKED)
        case SetEcoMode():
            return (*shown, ECO_MODE)
    return shown


def shows_effect(command: Command, readings: Readings) -> bool:
    """Return True if readings show what a command brings about."""
    match command:
        case SetCurrent(amps):
            return readings.value(CHARGING_CURRENT) == amps
        case SetLock(locked):
            return readings.value(LOCKED) is locked
        case SetEcoMode(mode):
            return readings.value(ECO_MODE) is mode
    return readings.value(STATUS) in written_statuses(command)


def schedule_readings(listed: ScheduleList, *, seen: Timestamp) -> Readings:
    """Return the weekly schedule as a reading, or no reading if the list has entries but none is readable."""
    builder = ReadingBuilder(Source.CLOUD, seen)
    found = windows(listed.entries)
    builder.put(SCHEDULE, found if found or (listed.is_whole and not listed.entries) else None)
    return builder.readings


def role_of(profile: str | None) -> Role | None:
    """Return the role for a profile (section 4.2), or None for a missing or unknown profile."""
    name = (profile or "").lower().replace("-", "_")
    return Role(name) if name in set(Role) else None


def eco_mode(eco: EcoSmart | None) -> EcoMode | None:
    """Return the solar mode, or None if the model has none or the mode is unreadable."""
    if eco is None or eco.enabled is None:
        return None
    if not eco.enabled:
        return EcoMode.OFF
    return {0: EcoMode.ECO, 1: EcoMode.FULL_SOLAR}.get(-1 if eco.mode is None else eco.mode)


def eco_smart(mode: EcoMode) -> tuple[bool, int]:
    """Return the `enabled` and `mode` to write for a solar mode (section 6.3)."""
    return mode is not EcoMode.OFF, int(mode is EcoMode.FULL_SOLAR)


def identity(charger: GroupCharger, part_number: str | None = None) -> Identity:
    """Return the identity of a charger (section 13).

    The model follows from the type, otherwise from the part number, otherwise from the factory name.
    """
    return Identity(
        maker=Maker.WALLBOX,
        serial=charger.serial,
        name=charger.name or f"Wallbox {charger.serial}",
        model=_model(charger, part_number),
        part_number=part_number,
    )


def is_original_pulsar(charger: Identity) -> bool:
    """Return True if the charger is an original Pulsar, which has no remote restart."""
    return charger.model == "Pulsar"


def capabilities(charger: Identity, *, has_eco_mode: bool) -> frozenset[Capability]:
    """Return what the cloud can do with a charger.

    Older models have no solar mode, and the original Pulsar has no remote restart.
    """
    found = set(Capability)
    if not has_eco_mode:
        found.discard(Capability.ECO_MODE)
    if is_original_pulsar(charger):
        found.discard(Capability.RESTART)
    return frozenset(found)


def windows(schedules: Iterable[CloudSchedule]) -> Schedule:
    """Return the readable schedules as windows in UTC, sorted by slot (section 7.1)."""
    found = [window for window in map(_window, schedules) if window is not None]
    return tuple(sorted(found, key=lambda window: window.slot))


def whole_schedule(listed: ScheduleList) -> Schedule:
    """Return the windows of a list, one for each entry, in the order of the list.

    Raises:
        NotApplicable: `schedule_unreadable` if a part of the list is unreadable or an entry has no days. Such a list
            must not be written, because the cloud deletes every entry that is missing or invalid (section 7.2).
    """
    found = tuple(window for window in map(_window, listed.entries) if window is not None and window.days)
    if not listed.is_whole or len(found) != len(listed.entries):
        raise NotApplicable("schedule_unreadable")
    return found


def schedule_bodies(listed: ScheduleList, changes: Schedule, cloud_now: datetime) -> list[dict[str, object]]:
    """Return the entries to write in order to enable or disable windows, or an empty list if nothing changes.

    The list contains every entry that was read, with all its fields except `uid`. Each entry gets a newer time than all
    times that the cloud knows: otherwise the cloud drops the entry silently (section 7.2). Known fields have the form
    that the cloud accepts: booleans, all seven days, and 0 for a limit that is null.

    Raises:
        NotApplicable: `schedule_unreadable`, see `whole_schedule`.
        Unsupported: "unsupported" for a window in a zone other than UTC, because the cloud uses only UTC.
    """
    if any(window.zone != _ZONE for window in changes):
        raise Unsupported("unsupported", "a window that is not in UTC")
    before = whole_schedule(listed)
    after = changed(before, changes)
    if after == before:
        return []
    created_at = max(ceil(cloud_now.timestamp()), listed.newest) + 1
    return [
        _schedule_body(raw, window) | {"created_at": created_at} for raw, window in zip(listed.raw, after, strict=True)
    ]


def _schedule_body(raw: Mapping[str, object], window: Window) -> dict[str, object]:
    """Return an entry as it was read, in the form that the cloud accepts, with `enable` from the window."""
    days = raw["days"]
    body = {key: value for key, value in raw.items() if key != "uid"}
    body["enable"] = window.enabled
    body["days"] = (days if isinstance(days, dict) else {}) | {
        name: day in window.days for day, name in enumerate(WEEKDAYS)
    }
    limits = {"max_current": window.max_current, "max_energy": window.max_energy}
    return body | {key: value for key, value in limits.items() if key in raw}


def _builder(facts: StatusFacts, seen: Timestamp, idle_age: float) -> ReadingBuilder:
    idle = facts.status is not None and facts.status not in POWER_FLOWS
    return ReadingBuilder(Source.CLOUD, seen, idle_age if idle else LIVE_AGE[Source.CLOUD])


def _put_live(
    builder: ReadingBuilder,
    facts: StatusFacts,
    answer: GroupCharger | ChargerStatus,
    locked: bool | None,
    seen: Timestamp,
) -> None:
    """Add the live values, except for an offline charger, which does not report them itself."""
    if facts.status is Status.OFFLINE:
        return
    builder.put(STATUS, facts.status)
    builder.put(CAR_CONNECTED, facts.car_connected)
    builder.put(PROBLEM, None if facts.status is None else facts.problem)
    builder.put(LOCKED, facts.locked if locked is None else locked)
    builder.put(POWER, _power(facts.status, answer.charging_power))
    if answer.power_is_unreadable and POWER not in builder.readings:
        builder.readings.retract(POWER, seen.observed_mono)
    builder.put(SESSION_ENERGY, answer.added_energy)
    builder.put(SESSION_DURATION, answer.charging_time)


def _power(status: Status | None, kilowatts: float | None) -> float | None:
    """Return the power in W: 0 while the charger is idle, negative while it discharges, whatever the cloud's sign."""
    if status is not None and status not in POWER_FLOWS:
        return 0.0
    if kilowatts is None:
        return None
    watts = round(kilowatts * 1000, 1)
    return -abs(watts) if status is Status.DISCHARGING else watts


def _put_setting(builder: ReadingBuilder, answer: GroupCharger | ConfigData | ChargerDetails, seen: Timestamp) -> None:
    """Add the current setting. An unreadable one voids the one before: a Quasar that discharges sends -16."""
    builder.put(CHARGING_CURRENT, answer.max_charging_current)
    if answer.setting_is_unreadable:
        builder.readings.retract(CHARGING_CURRENT, seen.observed_mono)


def _put_config(builder: ReadingBuilder, config: ConfigData, seen: Timestamp, now: Timestamp) -> None:
    builder.put(FIRMWARE, config.software.current)
    builder.put(LATEST_FIRMWARE, config.software.latest)
    _put_setting(builder, config, seen)
    builder.put(OCPP, _ocpp(config.operation_mode))
    builder.put(ECO_MODE, eco_mode(config.eco_smart))
    builder.put(CURRENCY, config.currency)
    builder.put(TIME_ZONE, config.time_zone)
    if config.home_sharing is False or config.icp_max_current == 0:
        builder.readings.retract(HOUSE_LIMIT, now.observed_mono)  # both are answers: there is no such limit
    else:
        builder.put_limit(HOUSE_LIMIT, config.icp_max_current if config.home_sharing else None)


def _with_offline(builder: ReadingBuilder, facts: StatusFacts, now: Timestamp, idle_age: float) -> Readings:
    if facts.status is Status.OFFLINE:
        builder.readings.put(
            STATUS, Reading(Status.OFFLINE, Source.CLOUD, now.observed_at, now.observed_mono, idle_age)
        )
    return builder.readings


def _nominal_voltage(time_zone: str | None) -> float | None:
    """Return the voltage of the mains in V where chargers of this manufacturer are sold; None without a time zone."""
    if time_zone is None:
        return None
    return 240.0 if time_zone.startswith("America/") else 230.0


def _ocpp(operation_mode: str | None) -> bool | None:
    return None if operation_mode is None else operation_mode.lower() == _OCPP_MODE


def _model(charger: GroupCharger, part_number: str | None) -> str | None:
    if charger.charger_type:
        return _WORD_BREAK.sub(" ", charger.charger_type)
    for prefix, model in _PART_NUMBERS:
        if part_number is not None and part_number.upper().startswith(prefix):
            return model
    shipped, cut, _ = (charger.name or "").partition(" SN ")
    return _WORD_BREAK.sub(" ", shipped) if cut else None


def _window(schedule: CloudSchedule) -> Window | None:
    start = _time_of_day(schedule.start)
    end = _time_of_day(schedule.stop)
    if schedule.slot is None or schedule.enabled is None or schedule.days is None or start is None or end is None:
        return None
    if schedule.max_current < 0 or schedule.max_energy < 0:
        return None
    return Window(
        slot=schedule.slot,
        enabled=schedule.enabled,
        days=schedule.days,
        start=start,
        end=end,
        zone=_ZONE,
        max_current=schedule.max_current,
        max_energy=schedule.max_energy,
    )


def _time_of_day(text: str | None) -> time | None:
    match = None if text is None else _TIME_OF_DAY.fullmatch(text)
    return None if match is None else time(int(match[1]), int(match[2]))
