"""The only mapping of JuiceBox fields to readings. Values that cannot be interpreted are left out."""

from math import inf

from ..core.limits import MINIMUM_CURRENT
from ..core.model import (
    CAR_CONNECTED,
    CHARGING_CURRENT,
    CURRENT,
    FIRMWARE,
    GRID_FREQUENCY,
    LIFETIME_ENERGY,
    LIMIT_IN_FORCE,
    LOAD_GROUP_LIMIT,
    OFFLINE_CURRENT,
    POWER,
    POWER_FACTOR,
    PROBLEM,
    SCHEDULE,
    SESSION_DURATION,
    SESSION_ENERGY,
    STATUS,
    TEMPERATURE,
    TIME_ZONE,
    UNIT_RATING,
    VOLTAGE,
    WIRE_RATING,
    Capability,
    Identity,
    Maker,
    Readings,
    Schedule,
    Source,
    Status,
)
from ..core.reading_builder import ReadingBuilder, Timestamp
from .box import COMMANDED, BlockReason, Box, BoxConfig
from .datagram import StatusMessage
from .juicenet.client import Blocking, Info, Override, State

FULL_AFTER = 120.0
"""Seconds of next to no power after which a charging car counts as waiting (docs/design.md, section 4.1)."""

AVAILABLE = 0
PLUGGED = 1
CHARGING = 2
FAULTS = frozenset({3, 4, 5})
CODES = frozenset({AVAILABLE, PLUGGED, CHARGING}) | FAULTS
"""All known state codes (docs/protocols/juicebox.md, section 2.3.2)."""

CAPABILITIES = frozenset({Capability.CURRENT, Capability.CHARGING, Capability.OVERRIDE})
_BLOCKED_STATUS = {
    BlockReason.PAUSE: Status.PAUSED,
    BlockReason.POWER: Status.WAITING_POWER,
    BlockReason.SCHEDULE: Status.WAITING_SCHEDULE,
}


def identity(box: Box) -> Identity:
    """Return the identity of a box; its firmware's banner has the model (docs/protocols/juicebox.md, section 2.1)."""
    config = box.config
    banner = (box.state.firmware or "").split("-")
    model = f"JuiceBox {banner[1].split('_')[0]}" if len(banner) > 1 else None
    return Identity(Maker.JUICEBOX, config.serial, config.name or f"JuiceBox {config.serial[-4:]}", model)


def capabilities(box: Box) -> frozenset[Capability]:
    """Return the capabilities of a box: none if it is old, as old boxes take no known commands.

    Before its first status, a box counts as one that takes commands.
    """
    return CAPABILITIES if box.status is None or box.state.version in COMMANDED else frozenset()


def car_connected(state: int | None) -> bool | None:
    """Return True if a car is plugged in; None for errors and unknown codes."""
    return state in {PLUGGED, CHARGING} if state in {AVAILABLE, PLUGGED, CHARGING} else None


def status(box: Box, now: float) -> Status | None:
    """Return the status of the box by its last status line; None for an unknown code."""
    state = None if box.status is None else box.status.state
    if state in FAULTS:
        return Status.ERROR
    if state == PLUGGED:
        allowed = box.in_force
        return (
            Status.WAITING_CAR
            if allowed is not None and allowed >= MINIMUM_CURRENT
            else _BLOCKED_STATUS[box.block_reason]
        )
    if state == CHARGING:
        idle = box.idle_since is not None and now - box.idle_since >= FULL_AFTER
        return Status.WAITING_CAR if idle else Status.CHARGING
    return Status.AVAILABLE if state == AVAILABLE else None


def stored_limit(box: Box) -> float | None:
    """Return the current in A that a box without commands allows: the highest limit that it may have stored.

    The result is None while the stored limit is unknown.
    """
    return None if box.state.offline is None or box.state.stored is None else float(box.state.stored)


def stored_readings(box: Box, seen: Timestamp) -> Readings:
    """Return the reading of a changed stored limit."""
    builder = ReadingBuilder(Source.UDP, seen)
    builder.put(OFFLINE_CURRENT, stored_limit(box))
    return builder.readings


def limit_readings(config: BoxConfig, seen: Timestamp) -> Readings:
    """Return the user's settings of the limits and the time zone of a box."""
    return _limit_builder(config, seen).readings


def _limit_builder(config: BoxConfig, seen: Timestamp) -> ReadingBuilder:
    builder = ReadingBuilder(Source.USER, seen)
    builder.put(WIRE_RATING, config.wire_rating)
    builder.put(LOAD_GROUP_LIMIT, config.load_group_limit)
    builder.put(TIME_ZONE, config.zone)
    builder.retract_missing((WIRE_RATING, LOAD_GROUP_LIMIT), seen.observed_mono)
    return builder


def user_readings(config: BoxConfig, seen: Timestamp) -> Readings:
    """Return the user's settings of a box."""
    builder = _limit_builder(config, seen)
    builder.put(SCHEDULE, config.schedule or None)
    builder.retract_missing((SCHEDULE,), seen.observed_mono)
    return builder.readings


def box_readings(box: Box, message: StatusMessage, seen: Timestamp) -> Readings:
    """Return the readings of the last status."""
    box_state = box.state
    state = message.state
    builder = ReadingBuilder(Source.UDP, seen)
    builder.put(STATUS, status(box, seen.observed_mono))
    builder.put(CAR_CONNECTED, car_connected(state))
    builder.put(PROBLEM, state in FAULTS if state in CODES else None)
    builder.put(FIRMWARE, box_state.firmware)
    builder.put(POWER, None if message.power is None else round(message.power, 1))
    builder.put(CURRENT, message.current)
    builder.put(VOLTAGE, message.voltage)
    builder.put(TEMPERATURE, _float(message.temperature))
    builder.put(GRID_FREQUENCY, message.frequency)
    builder.put(POWER_FACTOR, message.power_factor)
    builder.put(LIFETIME_ENERGY, _kilo(message.lifetime_energy))
    builder.put(SESSION_ENERGY, _kilo(box.session_energy))
    builder.put_limit(UNIT_RATING, box.limits.unit_rating)
    builder.put_limit(OFFLINE_CURRENT, stored_limit(box))
    builder.put(CHARGING_CURRENT, _float(box.shown_setting))
    builder.put(LIMIT_IN_FORCE, _limit_in_force(box))
    builder.retract_missing((STATUS, CAR_CONNECTED, PROBLEM, POWER_FACTOR, LIMIT_IN_FORCE), seen.observed_mono)
    return builder.readings


def _limit_in_force(box: Box) -> float | None:
    """Return the limit in force in A; None while charging is blocked or a change is pending."""
    amps = box.in_force
    return None if amps is None or amps < MINIMUM_CURRENT or box.change_pending else float(amps)


def offline_readings(seen: Timestamp) -> Readings:
    """Return the readings of a box that has fallen silent."""
    builder = ReadingBuilder(Source.UDP, seen, inf)
    builder.put(STATUS, Status.OFFLINE)
    return builder.readings


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)


def _kilo(value: float | None) -> float | None:
    return None if value is None else value / 1000


# States of a JuiceNet server (docs/protocols/juicebox.md, section 1.4)

UNIT_CAPABILITIES = frozenset({Capability.CHARGING, Capability.OVERRIDE})
"""They do not include settings of the current: servers reverted all but 0 A after seconds (docs/protocols/juicebox.md,
section 1.6)."""

_UNIT_STATUS = {
    "standby": Status.AVAILABLE,
    "charging": Status.CHARGING,
    "error": Status.ERROR,
    "disconnect": Status.OFFLINE,
}
_UNIT_BLOCKED_STATUS = {
    Blocking.NOTHING: Status.WAITING_CAR,
    Blocking.SCHEDULE: Status.WAITING_SCHEDULE,
    Blocking.SWITCHED_OFF: Status.PAUSED,
    None: Status.PLUGGED_IN,
}
_UNIT_CONNECTED = {"standby": False, "plugged": True, "charging": True}


def unit_status(state: State, *, idle: bool) -> Status | None:
    """Return the status of a unit, None for an unknown state.

    `idle` is True if its car has drawn next to nothing for `FULL_AFTER`.
    """
    if state.word == "plugged":
        if state.charging.amps_limit == 0:
            return Status.PAUSED
        return (
            Status.WAITING_SCHEDULE if state.override is Override.NOT_BEFORE else _UNIT_BLOCKED_STATUS[state.blocking]
        )
    if state.word == "charging" and idle:
        return Status.WAITING_CAR
    return _UNIT_STATUS.get(state.word)


def unit_connected(state: State) -> bool | None:
    """Return True if a car is plugged in; None for errors and units that are offline."""
    return _UNIT_CONNECTED.get(state.word)


def unit_readings(
    state: State, shown: Status | None, setting: int | None, *, seen: Timestamp, now: Timestamp
) -> Readings:
    """Return the readings of a unit's state.

    `seen` is when the box reported the state. The server itself reports that a box is offline; this status is dated
    `now`. `shown` is the status of the unit, and `setting` the current that it is set to apart from a pause, in A.
    """
    away = shown is Status.OFFLINE
    builder = ReadingBuilder(Source.CLOUD, now if away else seen)
    builder.put(STATUS, shown)
    if not away:
        charging = state.charging
        builder.put(CAR_CONNECTED, unit_connected(state))
        builder.put(PROBLEM, None if shown is None else shown is Status.ERROR)
        builder.put(POWER, charging.watt_power)
        builder.put(CURRENT, charging.amps_current)
        builder.put(VOLTAGE, charging.voltage)
        builder.put(TEMPERATURE, state.temperature)
        builder.put(GRID_FREQUENCY, state.frequency)
        builder.put(SESSION_DURATION, charging.seconds_charging)
        builder.put(SESSION_ENERGY, _kilo(charging.wh_energy))
        builder.put(LIFETIME_ENERGY, _kilo(state.lifetime))
        builder.put(CHARGING_CURRENT, _float(setting))
    builder.retract_missing((STATUS, CAR_CONNECTED, PROBLEM), now.observed_mono)
    return builder.readings


def installation_readings(info: Info, schedule: Schedule, now: Timestamp) -> Readings:
    """Return the readings of a unit's installation, and when it may charge."""
    builder = ReadingBuilder(Source.CLOUD, now)
    builder.put_limit(UNIT_RATING, info.unit_rating)
    builder.put(SCHEDULE, schedule)
    return builder.readings
