"""A local transport to the chargers of a `World`, like linked entities or Bluetooth, without a protocol.

`LocalLink` is the wire. It may be cut, slow or refuse commands, and it carries out late commands after their timeout.
`LocalTransport` is the integration's end of the wire, and exists for one run of Home Assistant.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from math import inf
from typing import override

from custom_components.chargekeeper.core.breaker import Breaker, Failure
from custom_components.chargekeeper.core.clock import Clock
from custom_components.chargekeeper.core.errors import (
    NoConnection,
    NotAllowed,
    NotApplicable,
    TransportDown,
    Unsupported,
)
from custom_components.chargekeeper.core.model import (
    CAR_CONNECTED,
    CHARGING_CURRENT,
    CURRENT,
    LIVE_AGE,
    POWER,
    PROBLEM,
    STATUS,
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
from custom_components.chargekeeper.core.transport import (
    Command,
    Presence,
    Restart,
    SetCharging,
    SetCurrent,
    SetOverride,
    StatusReport,
    Transport,
    TransportListener,
)
from tests.simulators.world import Manual, SimulatedCharger, State, World

REPORT_EVERY = 120.0
"""Seconds between two reports of a charger over its link."""

LOWEST_CURRENT = 6
CAPABILITIES = frozenset({Capability.CURRENT, Capability.CHARGING, Capability.OVERRIDE, Capability.RESTART})

STATUS_OF = {
    State.FREE: Status.AVAILABLE,
    State.LOCKED: Status.LOCKED,
    State.LOCKED_WITH_CAR: Status.LOCKED,
    State.WAITING_SCHEDULE: Status.WAITING_SCHEDULE,
    State.CHARGING: Status.CHARGING,
    State.PAUSED: Status.PAUSED,
    State.WAITING_CAR: Status.WAITING_CAR,
    State.UPDATING: Status.UPDATING,
    State.ERROR: Status.ERROR,
}
"""The status by state. A charger that is away has no link and no status."""


class LocalLink:
    """The wire to one charger. Set `up`, `latency` (s from command to effect) and the faults at any time.

    The link calls `arrived` for every command that reaches the charger, before the command takes effect.
    """

    def __init__(self, world: World, serial: str, clock: Clock) -> None:
        self.serial = serial
        self.up = True
        self.latency = 0.2
        self.refuses = False
        self.silent = False
        """True if no report comes although the link seems to be up; commands are acknowledged and lost."""
        self.stuck = False
        """True if each new report repeats the status of an old one."""
        self.meter_reversed = False
        """True if the meter counts in the other direction: power and current are negative."""
        self.arrived: Callable[[Command], None] = lambda _command: None
        self.reported_at = -inf
        """Monotonic time, by the clock of the link, of the last report that was read."""
        self.told: tuple[int, State] | None = None
        """The setting (A) and the state in the last report that was read."""
        self._world = world
        self._clock = clock

    @property
    def charger(self) -> SimulatedCharger:
        """The charger as it is now."""
        return self._world.charger(self.serial)

    @property
    def carries(self) -> bool:
        """True while the charger answers."""
        return self.up and not self.charger.away

    def report(self) -> SimulatedCharger:
        """Return the charger's current state. Raise NoConnection if the charger does not answer."""
        if not self.carries:
            raise NoConnection("unreachable")
        charger = self.charger
        self.reported_at = self._clock.monotonic()
        if not (self.stuck and self.told is not None):
            self.told = (charger.max_charging_current, charger.state)
        return charger

    def send(self, command: Command) -> asyncio.Future[None]:
        """Send a command. Answer and effect follow `latency` seconds later. Raise NoConnection if the link is cut."""
        if not self.carries:
            raise NoConnection("unreachable")
        if not self.silent:
            self.arrived(command)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        is_lost = self.silent

        def take_effect() -> None:
            if is_lost and not answer.done():
                answer.set_result(None)
            if is_lost or not self.carries:
                return  # the command is lost, and usually so is the answer
            try:
                self._carry_out(command)
            except (NotAllowed, NotApplicable) as err:
                if not answer.done():
                    answer.set_exception(err)
            else:
                if not answer.done():
                    answer.set_result(None)

        self._clock.call_later(self.latency, take_effect)
        return answer

    def _carry_out(self, command: Command) -> None:
        charger = self.charger
        if self.refuses:
            raise NotAllowed("refused")
        match command:
            case SetCurrent(amps):
                if not LOWEST_CURRENT <= amps <= charger.max_available_current:
                    raise NotApplicable("wrong_state")
                charger.max_charging_current = amps
            case SetCharging(on) | SetOverride(on):
                if charger.locked:
                    raise NotAllowed("locked")
                if charger.car is None:
                    raise NotApplicable("wrong_state")
                if command == SetOverride(on=False) and charger.in_window:  # a switch can only turn charging on
                    on = True
                charger.manual = Manual.CHARGE if on else Manual.PAUSE
            case Restart():
                charger.restart()
            case _:
                raise NotApplicable("wrong_state")


class LocalTransport(Transport):
    """The integration's end of a link. `start` begins to read its reports, `stop` ends that."""

    source = Source.LINKED
    meters_lifetime = False
    frees_schedule = False
    read_back_delays = (2.0, 7.0, 15.0, 60.0)

    def __init__(self, link: LocalLink, clock: Clock) -> None:
        self.breaker = Breaker(clock)
        self._link = link
        self._clock = clock
        self._listener: TransportListener | None = None
        self._last_report: StatusReport | None = None
        self._status_received_at: float | None = None
        self._endpoint_contact_at: datetime | None = None
        self._cancel: Callable[[], None] | None = None
        self._end_listening: Callable[[], None] | None = None

    @property
    @override
    def identity(self) -> Identity:
        return Identity(Maker.WALLBOX, self._link.serial, f"Wallbox {self._link.serial}")

    @property
    @override
    def capabilities(self) -> frozenset[Capability]:
        return CAPABILITIES

    @property
    @override
    def presence(self) -> Presence:
        recent = (
            self._status_received_at is not None
            and self._status_received_at + LIVE_AGE[self.source] > self._clock.monotonic()
        )
        return Presence.ONLINE if recent else Presence.UNKNOWN

    @property
    @override
    def removed_from_account(self) -> bool:
        return False

    @property
    @override
    def last_report(self) -> StatusReport | None:
        return self._last_report

    @property
    @override
    def charger_reported_at(self) -> float | None:
        return self._status_received_at

    @property
    @override
    def status_received_at(self) -> float | None:
        return self._status_received_at

    @property
    @override
    def endpoint_contact_at(self) -> datetime | None:
        return self._endpoint_contact_at

    @override
    def listen(self, listener: TransportListener) -> Callable[[], None]:
        self._listener = listener

        def cancel() -> None:
            if self._listener is listener:
                self._listener = None

        return cancel

    @override
    async def execute(self, command: Command, *, patience: float, urgent: float = 0.0) -> None:
        try:
            async with self._clock.timeout(patience):
                await self._link.send(command)
        except NoConnection:
            self.breaker.bad(Failure.CONNECT)
            raise
        except TimeoutError:
            self.breaker.bad(Failure.OTHER)
            raise TransportDown("timeout") from None
        self.breaker.good()

    @override
    async def check(self) -> None:
        self._read_report()

    @override
    async def read_schedule(self) -> Schedule:
        raise Unsupported("unsupported", Capability.SCHEDULES)

    @override
    async def write_schedule(self, windows: Schedule) -> None:
        raise Unsupported("unsupported", Capability.SCHEDULES)

    @override
    def watch(self) -> Callable[[], None]:
        return lambda: None

    def start(self) -> None:
        """Read the first report, and schedule the next reports."""
        self._end_listening = self.breaker.listen(self._arm)
        self._poll()

    def stop(self) -> None:
        """Stop reading reports."""
        if self._end_listening is not None:
            self._end_listening()
            self._end_listening = None
        self._disarm()

    def _poll(self) -> None:
        with suppress(NoConnection):
            self._read_report()
        self._arm()

    def _read_report(self) -> None:
        """Read a report, if one comes. Raise NoConnection if the charger does not answer."""
        if self._link.silent and self._link.carries:
            self.breaker.good()
            return
        try:
            charger = self._link.report()
        except NoConnection:
            self.breaker.bad(Failure.CONNECT)
            raise
        status = STATUS_OF[charger.state if self._link.told is None else self._link.told[1]]
        self._last_report = StatusReport(status, None if status is Status.ERROR else charger.car is not None)
        self._status_received_at = self._clock.monotonic()
        self._endpoint_contact_at = self._clock.now()
        self.breaker.good()
        if self._listener is not None:
            self._listener.readings_received(self, self._readings(charger, self._last_report))

    def _readings(self, charger: SimulatedCharger, last_report: StatusReport) -> Readings:
        readings = Readings()
        seen = Reading[object](None, self.source, self._clock.now(), self._clock.monotonic())

        def put[T](prop: Property[T], value: T) -> None:
            max_age = LIVE_AGE[self.source] if prop.kind is ReadingClass.LIVE else inf
            readings.put(prop, replace(seen, value=value, max_age=max_age))

        if last_report.status is not None:
            put(STATUS, last_report.status)
        if last_report.car_connected is not None:
            put(CAR_CONNECTED, last_report.car_connected)
        put(PROBLEM, last_report.status is Status.ERROR)
        sign = -1 if self._link.meter_reversed else 1
        put(POWER, sign * charger.power_kw * 1000)
        put(CURRENT, float(sign * charger.amperes) if charger.power_kw else 0.0)
        put(CHARGING_CURRENT, float(charger.max_charging_current))
        return readings

    def _arm(self) -> None:
        self._disarm()
        due = self.breaker.due
        wait = REPORT_EVERY if due is None else max(due - self._clock.monotonic(), 0.0)
        self._cancel = self._clock.call_later(wait, self._poll)

    def _disarm(self) -> None:
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
