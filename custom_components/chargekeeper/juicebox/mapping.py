"""The one place where the words of a JuiceBox become ours. What cannot be understood is left out."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
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
    LIVE_AGE,
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
    Property,
    Reading,
    ReadingClass,
    Readings,
    Schedule,
    Source,
    Status,
)
from .box import COMMANDED, Box, BoxConfig, Held
from .datagram import StatusMessage
from .juicenet import Blocking, Info, Override, State

FULL_AFTER = 120.0
"""Seconds for which a charging car takes next to nothing until it counts as waiting (design section 4)."""

AVAILABLE, PLUGGED, CHARGING = 0, 1, 2
FAULTS = frozenset({3, 4, 5})
CODES = frozenset({AVAILABLE, PLUGGED, CHARGING}) | FAULTS
"""The state codes that the fact sheet knows (2.3.2)."""

CAPABILITIES = frozenset({Capability.CURRENT, Capability.CHARGING, Capability.OVERRIDE})
_HELD = {Held.PAUSE: Status.PAUSED, Held.POWER: Status.WAITING_POWER, Held.SCHEDULE: Status.WAITING_SCHEDULE}


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment on both clocks: the wall's, aware, and the monotonic one in seconds."""

    observed_at: datetime
    at: float

    def earlier(self, seconds: float) -> Moment:
        """The moment so many seconds before."""
        return Moment(self.observed_at - timedelta(seconds=seconds), self.at - seconds)


def identity(box: Box) -> Identity:
    """Who a box is; its model by the banner of its firmware (fact sheet 2.1)."""
    config = box.config
    banner = (box.memory.firmware or "").split("-")
    model = f"JuiceBox {banner[1].split('_')[0]}" if len(banner) > 1 else None
    return Identity(Maker.JUICEBOX, config.serial, config.name or f"JuiceBox {config.serial[-4:]}", model)


def capabilities(box: Box) -> frozenset[Capability]:
    """What it can be told; old boxes obey nobody that is known of. Before the first status it may be anything."""
    return CAPABILITIES if box.status is None or box.memory.version in COMMANDED else frozenset()


def car_connected(state: int | None) -> bool | None:
    """Whether a car is plugged in; errors do not say."""
    return state in {PLUGGED, CHARGING} if state in {AVAILABLE, PLUGGED, CHARGING} else None


def status(box: Box, now: float) -> Status | None:
    """What the box does, by its last status; None for a code that nobody knows."""
    state = None if box.status is None else box.status.state
    if state in FAULTS:
        return Status.ERROR
    if state == PLUGGED:
        allowed = box.in_force
        return Status.WAITING_CAR if allowed is not None and allowed >= MINIMUM_CURRENT else _HELD[box.held]
    if state == CHARGING:
        idle = box.idle_since is not None and now - box.idle_since >= FULL_AFTER
        return Status.WAITING_CAR if idle else Status.CHARGING
    return Status.AVAILABLE if state == AVAILABLE else None


def stored_limit(box: Box) -> float | None:
    """What it charges with when it is left alone, A: the highest that it may have stored; None while it is learnt."""
    return None if box.memory.offline is None or box.memory.stored is None else float(box.memory.stored)


def stored_readings(box: Box, seen: Moment) -> Readings:
    """It is told another stored limit."""
    readings, amps = Readings(), stored_limit(box)
    if amps is not None:
        readings.put(OFFLINE_CURRENT, Reading(amps, Source.UDP, seen.observed_at, seen.at))
    return readings


def limit_readings(config: BoxConfig, seen: Moment) -> Readings:
    """What the user said of the limits of the box, and where it is."""
    readings = Readings()
    told: tuple[tuple[Property[float], float | None], ...] = (
        (WIRE_RATING, config.wire_rating),
        (LOAD_GROUP_LIMIT, config.load_group_limit),
    )
    for prop, value in told:
        if value is None:
            readings.retract(prop, seen.at)
        else:
            readings.put(prop, Reading(float(value), Source.USER, seen.observed_at, seen.at))
    readings.put(TIME_ZONE, Reading(config.zone, Source.USER, seen.observed_at, seen.at))
    return readings


def user_readings(config: BoxConfig, seen: Moment) -> Readings:
    """What the user said of the box."""
    readings = limit_readings(config, seen)
    if config.schedule:
        readings.put(SCHEDULE, Reading(config.schedule, Source.USER, seen.observed_at, seen.at))
    else:
        readings.retract(SCHEDULE, seen.at)
    return readings


def box_readings(box: Box, message: StatusMessage, seen: Moment) -> Readings:
    """What the last status shows."""
    readings = Readings()

    def put[T](prop: Property[T], value: T | None) -> None:
        if value is not None:
            age = LIVE_AGE[Source.UDP] if prop.kind is ReadingClass.LIVE else inf
            readings.put(prop, Reading(value, Source.UDP, seen.observed_at, seen.at, age))

    for prop, value in _figures(box, message):
        put(prop, None if value is None else float(value))
    shown, state = status(box, seen.at), message.state
    put(STATUS, shown)
    put(CAR_CONNECTED, car_connected(state))
    put(PROBLEM, state in FAULTS if state in CODES else None)
    put(FIRMWARE, box.memory.firmware)
    put(LIMIT_IN_FORCE, _limit_in_force(box))
    for prop_ in (STATUS, CAR_CONNECTED, PROBLEM, POWER_FACTOR, OFFLINE_CURRENT, LIMIT_IN_FORCE):
        if prop_ not in readings:
            readings.retract(prop_, seen.at)
    return readings


def _limit_in_force(box: Box) -> float | None:
    """What it keeps to, A. Not while it is told not to charge, nor while what it was told last cannot show yet."""
    amps = box.in_force
    return None if amps is None or amps < MINIMUM_CURRENT or box.in_flight else float(amps)


def offline_readings(seen: Moment) -> Readings:
    """Nothing is heard of the box any more."""
    readings = Readings()
    readings.put(STATUS, Reading(Status.OFFLINE, Source.UDP, seen.observed_at, seen.at))
    return readings


def _figures(box: Box, message: StatusMessage) -> Iterator[tuple[Property[float], float | None]]:
    memory = box.memory
    yield POWER, None if message.power is None else round(message.power, 1)
    yield CURRENT, message.current
    yield VOLTAGE, message.voltage
    yield TEMPERATURE, message.temperature
    yield GRID_FREQUENCY, message.frequency
    yield POWER_FACTOR, message.power_factor
    yield LIFETIME_ENERGY, None if message.lifetime_energy is None else message.lifetime_energy / 1000
    yield SESSION_ENERGY, None if box.session_energy is None else box.session_energy / 1000
    yield UNIT_RATING, box.limits.unit_rating
    yield OFFLINE_CURRENT, stored_limit(box)
    yield CHARGING_CURRENT, next((a for a in (box.in_effect, memory.allowed, memory.offline) if a is not None), None)


# The words of a JuiceNet server (fact sheet 1.4)

UNIT_CAPABILITIES = frozenset({Capability.CHARGING, Capability.OVERRIDE})
"""Settings of the current are not among them: servers took back any but 0 after seconds (fact sheet 1.6)."""

_WORDS = {"standby": Status.AVAILABLE, "charging": Status.CHARGING, "error": Status.ERROR, "disconnect": Status.OFFLINE}
_BLOCKED = {
    Blocking.NOTHING: Status.WAITING_CAR,
    Blocking.SCHEDULE: Status.WAITING_SCHEDULE,
    Blocking.SWITCHED_OFF: Status.PAUSED,
    None: Status.PLUGGED_IN,
}
_CONNECTED = {"standby": False, "plugged": True, "charging": True}


def unit_status(state: State, *, idle: bool) -> Status | None:
    """What a unit does; `idle` while its car has taken next to nothing for `FULL_AFTER`. None for an unknown word."""
    if state.word == "plugged":
        if state.charging.amps_limit == 0:
            return Status.PAUSED
        return Status.WAITING_SCHEDULE if state.override is Override.NOT_BEFORE else _BLOCKED[state.blocking]
    if state.word == "charging" and idle:
        return Status.WAITING_CAR
    return _WORDS.get(state.word)


def unit_connected(state: State) -> bool | None:
    """Whether a car is plugged in; errors and a box that is away do not say."""
    return _CONNECTED.get(state.word)


def unit_readings(state: State, shown: Status | None, setting: int | None, *, seen: Moment, now: Moment) -> Readings:
    """What a unit's state says; `seen` is when the box reported it. That it is away is the server's word, of now.

    `shown` is its status, and `setting` the current that it is set to beside a pause, A.
    """
    readings = Readings()
    if shown is Status.OFFLINE:
        readings.put(STATUS, Reading(shown, Source.CLOUD, now.observed_at, now.at, LIVE_AGE[Source.CLOUD]))
    else:
        for prop, value in _unit_values(state, shown, setting):
            if value is not None:
                age = LIVE_AGE[Source.CLOUD] if prop.kind is ReadingClass.LIVE else inf
                readings.put(prop, Reading(value, Source.CLOUD, seen.observed_at, seen.at, age))
    for prop in (STATUS, CAR_CONNECTED, PROBLEM):
        if prop not in readings:
            readings.retract(prop, now.at)
    return readings


def installation_readings(info: Info, schedule: Schedule, now: Moment) -> Readings:
    """What the server knows of how a unit is installed, and when it may charge."""
    readings = Readings()
    if info.unit_rating is not None:
        readings.put(UNIT_RATING, Reading(info.unit_rating, Source.CLOUD, now.observed_at, now.at))
    readings.put(SCHEDULE, Reading(schedule, Source.CLOUD, now.observed_at, now.at))
    return readings


def _unit_values(state: State, shown: Status | None, setting: int | None) -> Iterator[tuple[Property[object], object]]:
    charging = state.charging
    yield STATUS, shown
    yield CAR_CONNECTED, unit_connected(state)
    yield PROBLEM, None if shown is None else shown is Status.ERROR
    yield POWER, charging.watt_power
    yield CURRENT, charging.amps_current
    yield VOLTAGE, charging.voltage
    yield TEMPERATURE, state.temperature
    yield GRID_FREQUENCY, state.frequency
    yield SESSION_DURATION, charging.seconds_charging
    yield SESSION_ENERGY, None if charging.wh_energy is None else charging.wh_energy / 1000
    yield LIFETIME_ENERGY, None if state.lifetime is None else state.lifetime / 1000
    yield CHARGING_CURRENT, None if setting is None else float(setting)
