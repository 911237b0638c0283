"""The one place where the words of the Wallbox cloud become ours, and ours become its.

Every function is total: whatever a payload holds, what cannot be understood is left out. Sections are those of
docs/protocols/wallbox-cloud.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from math import ceil
import re
from types import MappingProxyType

from ..core.errors import NotApplicable, Unsupported
from ..core.model import (
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
    OCPP,
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
"""By how much a `last_sync` may lie ahead of the cloud's clock; beyond it is garbage."""

FIRST_YEAR = 2015  # no charger of this maker spoke to a cloud before

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
    """What a status code says; None where it does not say."""

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
        165: StatusFacts(Status.LOCKED),  # the firmware calls it "OCPP reserved": whether the lock is on is not said
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
    """What a status code says; nothing for an unknown one."""
    return STATUS_BY_CODE.get(code, _UNKNOWN)


def last_sync(text: str | None, cloud_now: datetime) -> datetime | None:
    """When the charger last reported, by the cloud's clock, which says `cloud_now` now (section 5.2).

    The text is in UTC without a zone, with or without fractions. None for garbage, for the far future and for years
    before the first charger.
    """
    match = None if text is None else _LAST_SYNC.fullmatch(text)
    if match is None:
        return None
    try:
        synced = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return synced if synced.year >= FIRST_YEAR and synced <= cloud_now + CLOCK_TOLERANCE else None


def moment_of(synced: datetime, now: Timestamp, cloud_skew: timedelta) -> Timestamp:
    """A moment of the cloud's clock on our clocks, never later than `now`."""
    age = now.observed_at + cloud_skew - synced
    return now.earlier(max(age.total_seconds(), 0.0))


def group_readings(
    charger: GroupCharger, *, seen: Timestamp, now: Timestamp, idle_age: float = IDLE_STATUS_AGE
) -> Readings:
    """What the list of groups says of a charger.

    `seen` is when the charger showed it, `now` when the cloud said it: that a charger is offline is the word of the
    cloud itself. Live values may be shown for 15 min, those of a charger through which no power flows for `idle_age`
    seconds. There is no current: the cloud tells none while charging.
    """
    facts = status_facts(charger.status)
    builder = _builder(facts, seen, idle_age)
    _put_live(builder, facts, charger, charger.locked)
    builder.put(FIRMWARE, charger.software.current)
    builder.put(LATEST_FIRMWARE, charger.software.latest)
    builder.put(CHARGING_CURRENT, charger.max_charging_current)
    builder.put(OCPP, _ocpp(charger.operation_mode))
    return _with_offline(builder, facts, now, idle_age)


def status_readings(
    status: ChargerStatus, *, seen: Timestamp, now: Timestamp, idle_age: float = IDLE_STATUS_AGE
) -> Readings:
    """What the full status says of a charger; the arguments are those of `group_readings`."""
    facts = status_facts(status.status)
    builder = _builder(facts, seen, idle_age)
    _put_live(builder, facts, status, status.config.locked)
    if facts.status is not Status.OFFLINE:
        builder.put(SESSION_COST, status.cost)
    _put_config(builder, status.config)
    builder.put(WIRE_RATING, status.config.max_available_current or status.max_available_power)
    return _with_offline(builder, facts, now, idle_age)


def details_readings(details: ChargerDetails, *, seen: Timestamp, now: Timestamp) -> Readings:
    """What the charger object says: configuration, lifetime energy, and at `now` the role of the account."""
    builder = ReadingBuilder(Source.CLOUD, seen)
    builder.put(FIRMWARE, details.software_version)
    builder.put(CHARGING_CURRENT, details.max_charging_current)
    builder.put(WIRE_RATING, details.max_available_current)
    builder.put(LIFETIME_ENERGY, None if details.total_energy is None else details.total_energy / 1000)
    role = role_of(details.profile)
    if role is not None:
        builder.readings.put(ROLE, Reading(role, Source.CLOUD, now.observed_at, now.observed_mono))
    return builder.readings


def schedule_readings(listed: ScheduleList, *, seen: Timestamp) -> Readings:
    """The weekly schedule; none where something is listed and nothing of it can be understood."""
    builder = ReadingBuilder(Source.CLOUD, seen)
    found = windows(listed.entries)
    builder.put(SCHEDULE, found if found or (listed.is_whole and not listed.entries) else None)
    return builder.readings


def role_of(profile: str | None) -> Role | None:
    """The role behind a profile (section 4.2); None for a missing or unknown one, which means "not known"."""
    name = (profile or "").lower().replace("-", "_")
    return Role(name) if name in set(Role) else None


def eco_mode(eco: EcoSmart | None) -> EcoMode | None:
    """The solar mode; None on models that have none, and where it cannot be read."""
    if eco is None or eco.enabled is None:
        return None
    if not eco.enabled:
        return EcoMode.OFF
    return {0: EcoMode.ECO, 1: EcoMode.FULL_SOLAR}.get(-1 if eco.mode is None else eco.mode)


def eco_smart(mode: EcoMode) -> tuple[bool, int]:
    """The `enabled` and `mode` to write for a solar mode (section 6.3)."""
    return mode is not EcoMode.OFF, int(mode is EcoMode.FULL_SOLAR)


def identity(charger: GroupCharger, part_number: str | None = None) -> Identity:
    """Which charger it is; the model by its type, else its part number, else its name as shipped (section 13)."""
    return Identity(
        maker=Maker.WALLBOX,
        serial=charger.serial,
        name=charger.name or f"Wallbox {charger.serial}",
        model=_model(charger, part_number),
        part_number=part_number,
    )


def is_first_pulsar(who: Identity) -> bool:
    """Whether it is the original Pulsar, which cannot be restarted from afar."""
    return who.model == "Pulsar"


def capabilities(who: Identity, *, has_eco_mode: bool) -> frozenset[Capability]:
    """What the cloud can do with a charger; older models have no solar mode, the original Pulsar no restart."""
    found = set(Capability)
    if not has_eco_mode:
        found.discard(Capability.ECO_MODE)
    if is_first_pulsar(who):
        found.discard(Capability.RESTART)
    return frozenset(found)


def windows(schedules: Iterable[CloudSchedule]) -> Schedule:
    """The schedules that can be understood, as windows in UTC by their slot (section 7.1)."""
    found = [window for window in map(_window, schedules) if window is not None]
    return tuple(sorted(found, key=lambda window: window.slot))


def whole_schedule(listed: ScheduleList) -> Schedule:
    """The windows of a list, one for each entry and in its order.

    Raises:
        NotApplicable: `schedule_unreadable` where any part cannot be understood, or an entry has no days. Such a list
            must not be written: what is left out or dropped is deleted (section 7.2).
    """
    found = tuple(window for window in map(_window, listed.entries) if window is not None and window.days)
    if not listed.is_whole or len(found) != len(listed.entries):
        raise NotApplicable("schedule_unreadable")
    return found


def schedule_bodies(listed: ScheduleList, changes: Schedule, cloud_now: datetime) -> list[dict[str, object]]:
    """The list that enables or disables these windows, with every entry that was read; empty where nothing changes.

    Each entry has all that was read but its `uid`, and is newer than everything that the cloud knows: otherwise it is
    dropped without a word (section 7.2). Known fields are in the form that is accepted: booleans, all seven days, 0
    for a limit that is null.

    Raises:
        NotApplicable: `schedule_unreadable`, as `whole_schedule`.
        Unsupported: "unsupported" for a window in another zone than UTC: the cloud knows no other.
    """
    if any(window.zone != _ZONE for window in changes):
        raise Unsupported("unsupported", "a window that is not in UTC")
    before = whole_schedule(listed)
    after = changed(before, changes)
    if after == before:
        return []
    # The write may take as long to arrive as the answer that was read, and must still be newer than its arrival.
    created_at = max(ceil(cloud_now.timestamp() + listed.took), listed.newest) + 1
    return [
        _schedule_body(raw, window) | {"created_at": created_at} for raw, window in zip(listed.raw, after, strict=True)
    ]


def _schedule_body(raw: Mapping[str, object], window: Window) -> dict[str, object]:
    """An entry as it was read, with `enable` as in the window, in the form that the cloud accepts."""
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
    builder: ReadingBuilder, facts: StatusFacts, shown: GroupCharger | ChargerStatus, locked: bool | None
) -> None:
    """Note what the charger does. From a charger that the cloud cannot reach nothing of this is its own word."""
    if facts.status is Status.OFFLINE:
        return
    builder.put(STATUS, facts.status)
    builder.put(CAR_CONNECTED, facts.car_connected)
    builder.put(PROBLEM, None if facts.status is None else facts.problem)
    builder.put(LOCKED, facts.locked if locked is None else locked)
    builder.put(POWER, _power(facts.status, shown.charging_power))
    builder.put(SESSION_ENERGY, shown.added_energy)
    builder.put(SESSION_DURATION, shown.charging_time)


def _power(status: Status | None, kilowatts: float | None) -> float | None:
    """Watts. Nothing flows through an idle charger; discharging is negative, whatever sign the cloud gives it."""
    if status is not None and status not in POWER_FLOWS:
        return 0.0
    if kilowatts is None:
        return None
    watts = round(kilowatts * 1000, 1)
    return -abs(watts) if status is Status.DISCHARGING else watts


def _put_config(builder: ReadingBuilder, config: ConfigData) -> None:
    builder.put(FIRMWARE, config.software.current)
    builder.put(LATEST_FIRMWARE, config.software.latest)
    builder.put(CHARGING_CURRENT, config.max_charging_current)
    builder.put(OCPP, _ocpp(config.operation_mode))
    builder.put(ECO_MODE, eco_mode(config.eco_smart))
    builder.put(CURRENCY, config.currency)
    builder.put(TIME_ZONE, config.time_zone)
    if config.home_sharing:
        builder.put(HOUSE_LIMIT, config.icp_max_current or None)


def _with_offline(builder: ReadingBuilder, facts: StatusFacts, now: Timestamp, idle_age: float) -> Readings:
    if facts.status is Status.OFFLINE:
        builder.readings.put(
            STATUS, Reading(Status.OFFLINE, Source.CLOUD, now.observed_at, now.observed_mono, idle_age)
        )
    return builder.readings


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
