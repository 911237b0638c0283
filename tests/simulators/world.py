"""The physical state behind every simulator: chargers, their cars and wiring, and their reports to the maker's cloud.

A change over one transport shows over all others. The world stands still until `World.advance` brings it to the time of
the clock, event by event. Energies and times are therefore the same for any number of calls.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from math import inf
from typing import override

from custom_components.chargekeeper.core.clock import Clock

DAY_SECONDS = 86400.0
LIVE_CADENCE = 30.0
"""Seconds between two reports of a charging charger (docs/protocols/wallbox-cloud.md, section 5.3,
`live_refresh_time`)."""
IDLE_CADENCE = 300.0
"""Seconds between two reports of an idle charger (docs/protocols/wallbox-cloud.md, section 5.3,
`update_refresh_time`)."""
ANSWERS_AFTER = 2.0
"""Seconds after a command over its maker's cloud at which a charger reports what it does now (a guess)."""
POWERED_DOWN = 40.0
"""Seconds without an answer after a power cycle: 20 s off, and 20 s to start."""
REPORTS_KEPT = 32
"""Reports of a charger that a cloud with a lag may still have to show."""
SHORTEST_STEP = 1e-3  # seconds; prevents rounding from stopping the advance of events
CREATED_AT = 1780000000  # epoch seconds at which every window was created
NOTHING = 1e-6  # kWh; a car that wants less is full
EVERY_DAY = frozenset(range(7))


class State(StrEnum):
    """State of a charger."""

    FREE = "free"
    LOCKED = "locked"
    LOCKED_WITH_CAR = "locked_with_car"
    WAITING_SCHEDULE = "waiting_schedule"
    CHARGING = "charging"
    PAUSED = "paused"
    WAITING_CAR = "waiting_car"
    UPDATING = "updating"
    ERROR = "error"
    AWAY = "away"


class Manual(StrEnum):
    """Manual command of the user, which overrides the schedule until the session ends or the charger restarts."""

    NONE = "none"
    CHARGE = "charge"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True, kw_only=True)
class Car:
    """A car: the energy it still wants (kWh), its highest current (A per phase), its phases."""

    wants_kwh: float = 30.0
    max_amperes: int = 32
    phases: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One weekly charging window; `start` and `stop` are `HHMM` in UTC, days count from Monday = 0.

    A window whose stop is not after its start ends on the next day.
    """

    start: str
    stop: str
    days: frozenset[int] = EVERY_DAY
    enabled: bool = True
    max_current: int = 0
    max_energy: int = 0
    created_at: int = field(default=CREATED_AT, compare=False)
    """Epoch seconds of the last change of the window, by the clock of its author."""
    extra: Mapping[str, object] = field(default_factory=dict, hash=False)
    """Further fields that the maker's cloud keeps with the window, where they differ from the usual values."""

    def is_open(self, wall: datetime) -> bool:
        """Return True if the window, enabled or not, is open at that time (UTC)."""
        minute = wall.hour * 60 + wall.minute
        start, stop = _minute(self.start), _minute(self.stop)
        today, yesterday = wall.weekday() in self.days, (wall.weekday() - 1) % 7 in self.days
        if start < stop:
            return today and start <= minute < stop
        return (today and minute >= start) or (yesterday and minute < stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class Eco:
    """Solar mode: 0 mixes sun and grid, 1 uses only the sun; at least `percentage` of the power is green."""

    enabled: bool = False
    mode: int = 0
    percentage: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPlan:
    """Course of the next restarts of a charger (docs/protocols/wallbox-cloud.md, section 6.4); times in seconds."""

    carried_out: bool = True
    online_for: float = 10.0
    away_for: float = 90.0
    comes_back: bool = True
    shown_away: bool = True
    """True if the maker's cloud notices that the charger is away; otherwise the last report remains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Last report of a charger to the maker's cloud; `at` is the wall clock, UTC."""

    at: datetime
    state: State
    name: str
    power_kw: float
    locked: bool
    ocpp: bool
    max_charging_current: int
    icp_max_current: int | None
    home_sharing: bool
    eco: Eco | None
    schedules: tuple[Window, ...]
    firmware: str
    session_kwh: float
    session_seconds: float
    lifetime_kwh: float
    lifetime_seconds: float
    sessions: int
    energy_price: float
    cost: float


CONTROLS = frozenset(
    {
        "name",
        "locked",
        "ocpp",
        "max_charging_current",
        "icp_max_current",
        "home_sharing",
        "eco",
        "schedules",
        "window_open",
        "energy_price",
        "car",
        "manual",
        "fault",
        "cloud_link",
    }
)


@dataclass(eq=False, kw_only=True)
class SimulatedCharger:
    """One charger. Tests may set the attributes of `CONTROLS` at any time: the charger advances first, then reports.

    Read its state through `World.charger` or after `World.advance`, which bring the charger up to date.
    Currents are amperes per phase, voltage is volts between phase and neutral, energies are kWh, times seconds.
    """

    serial: str
    name: str
    charger_type: str = "PulsarPlus"
    part_number: str | None = "PLP1-0-2-4-9-002-F"
    max_available_current: int = 32
    phases: int = 3
    voltage: int = 230
    firmware: str = "6.7.43"
    firmware_latest: str = "6.7.43"
    update_takes: float = 300.0
    restart_plan: RestartPlan = field(default_factory=RestartPlan)
    cloud_shows_offline: bool = False
    """True if the maker's cloud shows offline while `cloud_link` is down; otherwise the last report remains."""

    locked: bool = False
    ocpp: bool = False
    max_charging_current: int = 32
    icp_max_current: int | None = None
    home_sharing: bool = False
    eco: Eco | None = field(default_factory=Eco)
    schedules: tuple[Window, ...] = ()
    window_open: bool | None = None
    """True or False forces every enabled window open or shut; with `None` the clock decides."""
    energy_price: float = 0.25
    car: Car | None = None
    manual: Manual = Manual.NONE
    fault: bool = False
    cloud_link: bool = True

    session_kwh: float = 0.0
    session_seconds: float = 0.0
    lifetime_kwh: float = 0.0
    lifetime_seconds: float = 0.0
    sessions: int = 0
    restarts: int = field(default=0, init=False)
    """Number of restarts requested, carried out or not."""
    bricked: bool = field(default=False, init=False)
    """True after a restart during a firmware update: the damage that must never happen."""

    _world: World | None = field(default=None, init=False, repr=False)
    _now: float = field(default=0.0, init=False, repr=False)
    _away_from: float = field(default=inf, init=False, repr=False)
    _back_at: float = field(default=inf, init=False, repr=False)
    _updated_at: float = field(default=inf, init=False, repr=False)
    _reported_at: float = field(default=0.0, init=False, repr=False)
    _answers_at: float = field(default=inf, init=False, repr=False)
    _report: Report | None = field(default=None, init=False, repr=False)
    _reports: deque[tuple[float, Report]] = field(
        default_factory=lambda: deque(maxlen=REPORTS_KEPT), init=False, repr=False
    )

    @override
    def __setattr__(self, name: str, value: object) -> None:
        if name not in CONTROLS or self._world is None:
            object.__setattr__(self, name, value)
            return
        self._world.advance()
        object.__setattr__(self, name, value)
        self._report_now()

    # Actions and state as others see them

    def plug_in(self, car: Car | None = None) -> None:
        """Begin a session with `car`, or with a three-phase car that wants 30 kWh."""
        self._advance()
        self.session_kwh = self.session_seconds = 0.0
        self.sessions += 1
        self.car = car or Car()

    def unplug(self) -> None:
        """End the session and its override. The session's figures stay until the next session."""
        self._advance()
        self._put("manual", Manual.NONE)
        self.car = None

    def answer_command(self) -> None:
        """Report once more after a command of the cloud, when it has been carried out."""
        self._answers_at = self._now + ANSWERS_AFTER

    def restart(self) -> None:
        """Request a restart, which follows `restart_plan`. A restart during an update ruins the charger."""
        self._advance()
        self.restarts += 1
        if not self.restart_plan.carried_out or self._away_from < inf:
            return
        self.bricked = self.bricked or self.updating
        self._away_from = self._now + self.restart_plan.online_for
        lost = self.bricked or not self.restart_plan.comes_back
        self._back_at = inf if lost else self._away_from + self.restart_plan.away_for

    def power_cycle(self) -> None:
        """Switch the charger off and on, which ends a restart that never ended, and an override.

        A charger that was well is away for `POWERED_DOWN` seconds. A ruined charger stays ruined.
        """
        self._advance()
        if self.bricked:
            return
        if self._away_from < inf:
            self._back_at = self._now
        else:
            self._away_from, self._back_at = self._now, self._now + POWERED_DOWN

    def update_firmware(self) -> None:
        """Install the latest firmware in `update_takes` seconds, unless already installed."""
        self._advance()
        if not self.updating and self.firmware != self.firmware_latest:
            self._updated_at = self._now + self.update_takes
            self._report_now()

    @property
    def updating(self) -> bool:
        """True while a firmware update is under way."""
        return self._updated_at < inf

    @property
    def away(self) -> bool:
        """True while the charger restarts without power and answers over no transport."""
        return self._away_from <= self._now

    @property
    def reaches_cloud(self) -> bool:
        """True while the charger and its maker's cloud can exchange messages."""
        return self.cloud_link and not self.away

    @property
    def shown_offline(self) -> bool:
        """True while the maker's cloud shows the charger as not connected."""
        return (self.away and self.restart_plan.shown_away) or (not self.cloud_link and self.cloud_shows_offline)

    @property
    def in_window(self) -> bool:
        """True while the schedule allows charging; a charger without an enabled window may always charge."""
        enabled = [window for window in self.schedules if window.enabled]
        if not enabled or self._world is None:
            return True
        if self.window_open is not None:
            return self.window_open
        wall = self._world.wall_at(self._now)
        return any(window.is_open(wall) for window in enabled)

    @property
    def state(self) -> State:
        """The state of the charger at the time to which the world has advanced."""
        if self.away:
            return State.AWAY
        if self.updating:
            return State.UPDATING
        if self.fault:
            return State.ERROR
        if self.locked:
            return State.LOCKED if self.car is None else State.LOCKED_WITH_CAR
        return State.FREE if self.car is None else self._state_with(self.car)

    def _state_with(self, car: Car) -> State:
        if self.manual is Manual.PAUSE:
            return State.PAUSED
        if self.manual is not Manual.CHARGE and not self.in_window:
            return State.WAITING_SCHEDULE
        return State.CHARGING if car.wants_kwh > 0 else State.WAITING_CAR

    @property
    def amperes(self) -> int:
        """The current of a charging car in A per phase: the smallest of all limits."""
        limits = [self.max_charging_current, self.max_available_current]
        if self.car is not None:
            limits.append(self.car.max_amperes)
        if self.home_sharing and self.icp_max_current is not None and self.icp_max_current > 0:
            limits.append(self.icp_max_current)
        return min(limits)

    @property
    def power_kw(self) -> float:
        """The power into the car in kW."""
        if self.state is not State.CHARGING or self.car is None:
            return 0.0
        return self.amperes * self.voltage * min(self.phases, self.car.phases) / 1000

    @property
    def cost(self) -> float:
        """The price of the session so far."""
        return self.session_kwh * self.energy_price

    @property
    def report(self) -> Report:
        """The last report to the cloud. Raises `RuntimeError` for a charger that is in no world."""
        if self._report is None:
            raise RuntimeError(f"charger {self.serial} is in no world")
        return self._report

    def report_before(self, moment: float) -> tuple[float, Report]:
        """Return the last report made until monotonic time `moment`, and its time; the oldest kept one if none was."""
        return next((made for made in reversed(self._reports) if made[0] <= moment), self._reports[0])

    # Passage of time

    def _put(self, name: str, value: object) -> None:
        """Set an attribute of `CONTROLS` without advancing and reporting."""
        object.__setattr__(self, name, value)

    def _advance(self) -> None:
        if self._world is not None:
            self._world.advance()

    def enter(self, world: World, now: float) -> None:
        """Enter the world at monotonic time `now` and report to the cloud. For `World.add`."""
        self._now = now
        self._world = world
        self._report_now(first=True)

    def live_until(self, end: float) -> None:
        """Advance through every event until monotonic time `end`. For `World.advance`."""
        while self._now < end:
            step = min(max(min(self._events()) - self._now, SHORTEST_STEP), end - self._now)
            state = self.state
            self._charge(step)
            self._now = min(end, self._now + step)
            self._pass_events()
            if self.state is not state or self._now >= min(self._reported_at + self._cadence, self._answers_at):
                self._report_now()

    @property
    def _cadence(self) -> float:
        return LIVE_CADENCE if self.state is State.CHARGING else IDLE_CADENCE

    def _events(self) -> Iterator[float]:
        """Yield the times at which the charger may change without a command."""
        yield self._back_at if self.away else self._away_from
        yield self._updated_at
        yield min(self._reported_at + self._cadence, self._answers_at) if self.reaches_cloud else inf
        if self.car is not None and (power := self.power_kw) > 0:
            yield self._now + self.car.wants_kwh / power * 3600
        if self._world is not None and self.car is not None:
            yield from (self._world.next_moment(edge, self._now) for edge in self._edges())

    def _edges(self) -> Iterator[str]:
        for window in self.schedules:
            yield window.start
            yield window.stop

    def _charge(self, seconds: float) -> None:
        power = self.power_kw
        if self.car is None or power <= 0:
            return
        energy = min(power * seconds / 3600, self.car.wants_kwh)
        left = self.car.wants_kwh - energy
        self._put("car", replace(self.car, wants_kwh=left if left > NOTHING else 0.0))
        self.session_kwh += energy
        self.lifetime_kwh += energy
        self.session_seconds += seconds
        self.lifetime_seconds += seconds

    def _pass_events(self) -> None:
        if self._now >= self._updated_at:
            self._updated_at = inf
            self.firmware = self.firmware if self.bricked else self.firmware_latest
        if self._now >= self._back_at:
            self._away_from = self._back_at = inf
            self._put("manual", Manual.NONE)

    def _report_now(self, *, first: bool = False) -> None:
        """Report to the cloud if the charger reaches it. The first report of a new charger always arrives."""
        if self._world is None or not (first or self.reaches_cloud):
            return
        self._reported_at = self._now
        if self._now >= self._answers_at:
            self._answers_at = inf
        self._report = Report(
            at=self._world.wall_at(self._now),
            state=self.state,
            name=self.name,
            power_kw=self.power_kw,
            locked=self.locked,
            ocpp=self.ocpp,
            max_charging_current=self.max_charging_current,
            icp_max_current=self.icp_max_current,
            home_sharing=self.home_sharing,
            eco=self.eco,
            schedules=self.schedules,
            firmware=self.firmware,
            session_kwh=self.session_kwh,
            session_seconds=self.session_seconds,
            lifetime_kwh=self.lifetime_kwh,
            lifetime_seconds=self.lifetime_seconds,
            sessions=self.sessions,
            energy_price=self.energy_price,
            cost=self.cost,
        )
        self._reports.append((self._now, self._report))


class World:
    """All chargers and their common time."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.chargers: dict[str, SimulatedCharger] = {}
        self._now, self._wall = clock.monotonic(), clock.now()
        self._rate = (
            1.0  # wall seconds per monotonic second: 1, or less under a fast clock, whose wall clock stays real
        )

    def add(self, charger: SimulatedCharger) -> SimulatedCharger:
        """Add a charger and return it. Raise `ValueError` if its serial number is already in use."""
        if charger.serial in self.chargers:
            raise ValueError(f"there is a charger {charger.serial} already")
        self.advance()
        self.chargers[charger.serial] = charger
        charger.enter(self, self._now)
        return charger

    def charger(self, serial: str) -> SimulatedCharger:
        """Return the charger in its present state. Raise `KeyError` for an unknown serial number."""
        self.advance()
        return self.chargers[serial]

    def advance(self) -> None:
        """Advance all chargers to the time of the clock."""
        now, wall = self.clock.monotonic(), self.clock.now()
        elapsed = now - self._now
        if elapsed > 0:
            rate = (wall - self._wall).total_seconds() / elapsed
            self._rate = rate if 0 < rate <= 1 else 1.0  # any other rate: the wall clock was set meanwhile
        self._now, self._wall = now, wall
        for charger in self.chargers.values():
            charger.live_until(now)

    def wall_at(self, moment: float) -> datetime:
        """Return the wall clock (UTC) at a monotonic time not after the present."""
        return self._wall - timedelta(seconds=(self._now - moment) * self._rate)

    def next_moment(self, hhmm: str, moment: float) -> float:
        """Return the next monotonic time after `moment` at which the wall clock shows `hhmm` (UTC)."""
        wall = self.wall_at(moment)
        midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0)
        seconds = (_minute(hhmm) * 60 - (wall - midnight).total_seconds()) % DAY_SECONDS
        return moment + (seconds or DAY_SECONDS) / self._rate


def _minute(hhmm: str) -> int:
    return int(hhmm[:2]) * 60 + int(hhmm[2:])


def demo_world(clock: Clock) -> World:
    """Return a world with three Wallbox chargers: free, waiting for the night, and charging."""
    world = World(clock)
    world.add(SimulatedCharger(serial="700101", name="Garage", lifetime_kwh=1840.5, sessions=96))
    driveway = world.add(
        SimulatedCharger(
            serial="700102",
            name="Driveway",
            charger_type="PulsarMax",
            part_number=None,
            icp_max_current=25,
            home_sharing=True,
            schedules=(Window(start="2200", stop="0500"),),
            window_open=False,
            lifetime_kwh=3120.0,
            sessions=204,
        )
    )
    driveway.plug_in(Car(wants_kwh=38.0, max_amperes=16))
    carport = world.add(
        SimulatedCharger(
            serial="700103",
            name="Carport",
            charger_type="Commander2",
            part_number=None,
            max_charging_current=16,
            firmware_latest="6.7.50",
            lifetime_kwh=5210.25,
            sessions=311,
        )
    )
    carport.plug_in(Car(wants_kwh=52.0, max_amperes=16))
    return world
