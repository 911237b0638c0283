"""The data model of a charger, whatever its manufacturer and transports: enumerations, properties, readings, snapshot.

Everything in this module except `Readings` is immutable. A `Property` defines the type of a value and how long it may
be shown. A `Reading` is one value with its source and the time when the charger showed it. A `Snapshot` is all that
entities see.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from enum import StrEnum
from math import inf
from typing import cast, override


class Maker(StrEnum):
    """The manufacturer of the charger."""

    WALLBOX = "wallbox"
    JUICEBOX = "juicebox"


class Source(StrEnum):
    """The origin of a value: a transport, the store or the user."""

    CLOUD = "cloud"
    BLUETOOTH = "bluetooth"
    UDP = "udp"
    LINKED = "linked"
    CACHE = "cache"
    USER = "user"


class Status(StrEnum):
    """The state of a charger of any manufacturer."""

    AVAILABLE = "available"
    PLUGGED_IN = "plugged_in"
    WAITING_SCHEDULE = "waiting_schedule"
    WAITING_CAR = "waiting_car"
    WAITING_POWER = "waiting_power"
    PAUSED = "paused"
    CHARGING = "charging"
    DISCHARGING = "discharging"
    COMPLETED = "completed"
    LOCKED = "locked"
    UPDATING = "updating"
    RESTARTING = "restarting"
    ERROR = "error"
    OFFLINE = "offline"


POWER_FLOWS = frozenset({Status.CHARGING, Status.DISCHARGING})
ALLOWED_TO_CHARGE = POWER_FLOWS | {Status.WAITING_CAR, Status.WAITING_POWER, Status.COMPLETED}
"""With these statuses the `charging` switch is on: only the car, the available power or a full battery limits power."""

PAUSE_OVER = ALLOWED_TO_CHARGE | {Status.WAITING_SCHEDULE, Status.PLUGGED_IN}
"""These statuses prove that a pause is over; AVAILABLE and LOCKED do not."""

OVERRIDE_IN_EFFECT = POWER_FLOWS | {Status.WAITING_CAR, Status.WAITING_POWER}
"""Outside all windows, these statuses prove that the schedule does not block charging (docs/design.md, section 5.6)."""


class EcoMode(StrEnum):
    """How much of the energy must be solar."""

    OFF = "off"
    ECO = "eco"
    FULL_SOLAR = "full_solar"


class Role(StrEnum):
    """The rights of the signed-in account for the charger."""

    SUPER_ADMIN = "super_admin"
    ADMIN = "admin"
    OPERATOR = "operator"
    USER = "user"


class Outcome(StrEnum):
    """The outcome of a command."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    FAILED = "failed"


class Capability(StrEnum):
    """A function that a transport offers for a charger."""

    CURRENT = "current"
    CHARGING = "charging"
    OVERRIDE = "override"
    LOCK = "lock"
    ECO_MODE = "eco_mode"
    RESTART = "restart"
    INSTALL = "install"
    SCHEDULES = "schedules"


class RestartAvailability(StrEnum):
    """`AVAILABLE` if the charger can be restarted now; otherwise the reason why not."""

    AVAILABLE = "available"
    CHARGING = "charging"
    UPDATING = "updating"
    RESTARTING = "restarting"
    CHECKING = "checking"
    COOLING_DOWN = "cooling_down"
    STATUS_UNKNOWN = "status_unknown"
    OFFLINE = "offline"
    NEEDS_ADMIN = "needs_admin"
    NEEDS_PLAN = "needs_plan"
    UNSUPPORTED_MODEL = "unsupported_model"
    NEEDS_LINK = "needs_link"
    NO_TRANSPORT = "no_path"


class LimitingFactor(StrEnum):
    """The limit that binds."""

    WIRE_RATING = "wire_rating"
    UNIT_RATING = "unit_rating"
    LOAD_GROUP_LIMIT = "load_group_limit"
    HOUSE_LIMIT = "house_limit"
    CHARGING_CURRENT = "charging_current"
    OFFLINE_CURRENT = "offline_current"


class Prefer(StrEnum):
    """The transports that the user prefers for commands."""

    AUTO = "auto"
    LOCAL_FIRST = "local_first"
    CLOUD_ONLY = "cloud_only"
    LOCAL_ONLY = "local_only"


class ChargerIssue(StrEnum):
    """A condition that the user can act on. Each becomes an issue in Home Assistant, which disappears by itself."""

    GONE = "gone"
    RESTART_FAILED = "restart_failed"
    INSTALL_OVERDUE = "install_overdue"
    UPDATE_DOUBTED = "update_doubted"
    COMMANDS_IGNORED = "commands_ignored"
    OVERRIDE_SUPERSEDED = "override_superseded"
    OVERRIDE_FAILED = "override_failed"
    SCHEDULE_UNREADABLE = "schedule_unreadable"
    NOT_SAVED = "not_saved"


@dataclass(frozen=True, slots=True)
class Window:
    """One weekly charging window of a schedule.

    `start` and `end` are times of day in `zone`; an `end` before or at `start` is on the next day. `slot` is the
    position in the charger, which may change with every write. `max_current` (A) and `max_energy` (Wh) are 0 if
    unlimited.
    """

    slot: int
    enabled: bool
    days: frozenset[int]  # 0 is Monday; the day on which the window starts
    start: time
    end: time
    zone: str = "UTC"
    max_current: int = 0
    max_energy: int = 0

    @property
    def content(self) -> tuple[object, ...]:
        """All that identifies the window, without its position in the schedule and whether it is enabled."""
        # No charger charges with 1 A: the Wallbox cloud writes 1, 0 and null for "no limit".
        max_current = 0 if self.max_current == 1 else self.max_current
        return self.days, self.start, self.end, self.zone, max_current, self.max_energy


type Schedule = tuple[Window, ...]


class ReadingClass(StrEnum):
    """How a value ages (docs/design.md, section 4.2)."""

    LIVE = "live"  # expires
    CUMULATIVE = "cumulative"  # keeps its value; a counter
    CONFIG = "config"  # keeps its value; its source is `cache` while its transport is not usable


@dataclass(frozen=True, slots=True)
class Property[T]:
    """One thing that can be known of a charger: its key, how it ages, and its type."""

    key: str
    kind: ReadingClass
    type: type[T]


STATUS = Property("status", ReadingClass.LIVE, Status)
POWER = Property("power", ReadingClass.LIVE, float)  # W
CURRENT = Property("current", ReadingClass.LIVE, float)  # A
CURRENT_L1 = Property("current_l1", ReadingClass.LIVE, float)
CURRENT_L2 = Property("current_l2", ReadingClass.LIVE, float)
CURRENT_L3 = Property("current_l3", ReadingClass.LIVE, float)
VOLTAGE = Property("voltage", ReadingClass.LIVE, float)  # V
TEMPERATURE = Property("temperature", ReadingClass.LIVE, float)  # °C
CAR_CONNECTED = Property("car_connected", ReadingClass.LIVE, bool)
PROBLEM = Property("problem", ReadingClass.LIVE, bool)
LOCKED = Property("locked", ReadingClass.LIVE, bool)
SESSION_DURATION = Property("session_duration", ReadingClass.LIVE, float)  # s
GRID_FREQUENCY = Property("grid_frequency", ReadingClass.LIVE, float)  # Hz
POWER_FACTOR = Property("power_factor", ReadingClass.LIVE, float)  # 0 to 1

LIFETIME_ENERGY = Property("lifetime_energy", ReadingClass.CUMULATIVE, float)  # kWh, never falls
SESSION_ENERGY = Property("session_energy", ReadingClass.CUMULATIVE, float)  # kWh, falls only at a new session
SESSION_COST = Property("session_cost", ReadingClass.CUMULATIVE, float)  # in CURRENCY

WIRE_RATING = Property("wire_rating", ReadingClass.CONFIG, float)  # A, all limits
UNIT_RATING = Property("unit_rating", ReadingClass.CONFIG, float)
LOAD_GROUP_LIMIT = Property("load_group_limit", ReadingClass.CONFIG, float)
HOUSE_LIMIT = Property("house_limit", ReadingClass.CONFIG, float)
OFFLINE_CURRENT = Property("offline_current", ReadingClass.CONFIG, float)
CHARGING_CURRENT = Property("charging_current", ReadingClass.CONFIG, float)
LIMIT_IN_FORCE = Property(
    "limit_in_force", ReadingClass.LIVE, float
)  # A, the limit that the charger reports as in force
ECO_MODE = Property("eco_mode", ReadingClass.CONFIG, EcoMode)
FIRMWARE = Property("firmware", ReadingClass.CONFIG, str)
LATEST_FIRMWARE = Property("latest_firmware", ReadingClass.CONFIG, str)
SCHEDULE: Property[Schedule] = Property("schedule", ReadingClass.CONFIG, tuple)
ROLE = Property("role", ReadingClass.CONFIG, Role)
CURRENCY = Property("currency", ReadingClass.CONFIG, str)  # ISO 4217
TIME_ZONE = Property("time_zone", ReadingClass.CONFIG, str)  # IANA name
OCPP = Property("ocpp", ReadingClass.CONFIG, bool)  # a central system commands the charger
PHASES = Property("phases", ReadingClass.CONFIG, float)  # number of phases on which the charger is connected
NOMINAL_VOLTAGE = Property("nominal_voltage", ReadingClass.CONFIG, float)  # V, of the mains; not measured

PROPERTIES: Mapping[str, Property[object]] = {
    p.key: cast("Property[object]", p)
    for p in (
        *(STATUS, POWER, CURRENT, CURRENT_L1, CURRENT_L2, CURRENT_L3, VOLTAGE, TEMPERATURE),
        *(CAR_CONNECTED, PROBLEM, LOCKED, SESSION_DURATION, GRID_FREQUENCY, POWER_FACTOR),
        *(LIFETIME_ENERGY, SESSION_ENERGY, SESSION_COST),
        *(WIRE_RATING, UNIT_RATING, LOAD_GROUP_LIMIT, HOUSE_LIMIT, OFFLINE_CURRENT, CHARGING_CURRENT),
        LIMIT_IN_FORCE,
        *(ECO_MODE, FIRMWARE, LATEST_FIRMWARE, SCHEDULE, ROLE, CURRENCY, TIME_ZONE, OCPP, PHASES, NOMINAL_VOLTAGE),
    )
}
"""Every property by its key."""

LIVE_AGE: Mapping[Source, float] = {
    Source.UDP: 120,
    Source.BLUETOOTH: 90,
    Source.LINKED: 15 * 60,
    Source.CLOUD: 15 * 60,
}
"""Seconds after which a live reading is no longer shown, by source (docs/design.md, section 4.2)."""

IDLE_STATUS_AGE = 60 * 60
"""Seconds after which the cloud status of an idle charger is no longer shown. If 1.5 rounds of status reads for all
chargers of the account take longer, that time applies instead."""

DOUBT_CHARGING_AFTER = 5 * 60
"""Seconds without evidence of life after which the status of a charging charger is read next."""


@dataclass(frozen=True, slots=True)
class Reading[T]:
    """A value with its source and the time when the *charger* showed it, not when ChargeKeeper asked.

    `observed_mono` is that time on the monotonic clock; minus infinity for a restored value. `max_age` is the number of
    seconds for which a live value may be shown. Readings are equal if value and source are; times are not compared.
    """

    value: T
    source: Source
    observed_at: datetime = field(compare=False)
    observed_mono: float = field(default=-inf, compare=False)
    max_age: float = field(default=inf, compare=False)

    @property
    def is_reported(self) -> bool:
        """True if a usable transport brought the value in this run, with evidence that the charger is alive."""
        return self.source is not Source.CACHE and self.observed_mono > -inf

    @property
    def expires_at(self) -> float:
        """Monotonic time from which the value may no longer be shown."""
        return self.observed_mono + self.max_age


class Readings:
    """Readings by property, typed by the property.

    Both of these map the key of a property to a monotonic time. At the time in `retracted`, the property had no value.
    At the time in `unreadable`, a limit could not be read, so that its last value remains a bound.
    """

    __slots__ = ("_by_key", "retracted", "unreadable")

    def __init__(self, by_key: Mapping[str, Reading[object]] | None = None) -> None:
        self._by_key = dict(by_key or {})
        self.retracted: dict[str, float] = {}
        self.unreadable: dict[str, float] = {}

    def put[T](self, prop: Property[T], reading: Reading[T]) -> None:
        """Add a reading; it replaces a reading of the same property."""
        self._by_key[prop.key] = cast("Reading[object]", reading)

    def get[T](self, prop: Property[T]) -> Reading[T] | None:
        """Return the reading of a property, or None."""
        return cast("Reading[T] | None", self._by_key.get(prop.key))

    def value[T](self, prop: Property[T]) -> T | None:
        """Return the value of a property, or None."""
        reading = self.get(prop)
        return None if reading is None else reading.value

    def items(self) -> list[tuple[Property[object], Reading[object]]]:
        """Return all readings with their properties."""
        return [(PROPERTIES[key], reading) for key, reading in self._by_key.items()]

    def retract[T](self, prop: Property[T], at: float) -> None:
        """Record that the property had no value at the monotonic time `at`; older readings are void."""
        self.retracted[prop.key] = at

    def keep_as_bound(self, limit: Property[float], at: float) -> None:
        """Record that a limit could not be read at the monotonic time `at`; an older value remains, as cached."""
        self.unreadable[limit.key] = at

    def remove[T](self, prop: Property[T]) -> None:
        """Remove the reading of a property."""
        self.discard(prop.key)

    def discard(self, key: str) -> None:
        """Remove the reading of the property with this key."""
        self._by_key.pop(key, None)

    def remove_live(self) -> None:
        """Remove all live readings."""
        self._by_key = {key: old for key, old in self._by_key.items() if PROPERTIES[key].kind is not ReadingClass.LIVE}

    def copy(self) -> Readings:
        """Return an independent copy."""
        copy = Readings(self._by_key)
        copy.retracted = dict(self.retracted)
        copy.unreadable = dict(self.unreadable)
        return copy

    def __contains__[T](self, prop: Property[T]) -> bool:
        return prop.key in self._by_key

    def __len__(self) -> int:
        return len(self._by_key)

    @override
    def __eq__(self, other: object) -> bool:
        return self._by_key == other._by_key if isinstance(other, Readings) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Identity:
    """A charger's identity, as the charger or its cloud reports it."""

    maker: Maker
    serial: str
    name: str
    model: str | None = None
    part_number: str | None = None

    @property
    def key(self) -> tuple[Maker, str]:
        """Manufacturer and serial number, which identify a charger."""
        return self.maker, self.serial


@dataclass(frozen=True, slots=True)
class Override:
    """The schedule override: `on` if the user requested it, `applied` while the charger is seen to follow it."""

    on: bool = False
    applied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Commanded:
    """Settings that a transport acknowledged and that no report of the charger has confirmed yet.

    None for a setting that is not on its way. Only the entity that was commanded shows such a value.
    """

    current: float | None = None  # A
    charging: bool | None = None
    locked: bool | None = None
    eco_mode: EcoMode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that entities see of one charger. Snapshots are equal if they show the same; times are not compared."""

    identity: Identity
    readings: Readings
    effective_limit: float | None = None  # A
    limiting_factor: LimitingFactor | None = None
    next_window: datetime | None = None
    restart: RestartAvailability = RestartAvailability.NO_TRANSPORT
    override: Override = Override()
    commanded: Commanded = Commanded()
    connection_path: Source | None = None
    cloud: bool | None = None  # None: the charger has no cloud transport
    local: bool | None = None
    installing: bool = False
    issues: frozenset[ChargerIssue] = frozenset()
    capabilities: frozenset[Capability] = frozenset()
    last_cloud_contact: datetime | None = field(default=None, compare=False)
    last_local_contact: datetime | None = field(default=None, compare=False)

    def value[T](self, prop: Property[T]) -> T | None:
        """Return the value of a property as it may be shown now, or None."""
        return self.readings.value(prop)
