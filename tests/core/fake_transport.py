"""A scripted charger and its transports: a `Charger` is tested on them without any network.

`FakeDevice` simulates schedule, override and restart. `FakeTransport` reports the device when the test says so, and
carries commands to it. `Bench` connects both to a `Charger` and keeps one log of all saves, commands and events in
order.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, time
from enum import StrEnum
import logging
from types import EllipsisType
from typing import Any, Self, override

import pytest

from custom_components.chargekeeper.core import schedule
from custom_components.chargekeeper.core.breaker import Breaker, Failure
from custom_components.chargekeeper.core.charger import Charger, ChargerEvent, ChargerOptions
from custom_components.chargekeeper.core.errors import ChargerError, NotApplicable, TransportDown, TransportsFailed
from custom_components.chargekeeper.core.model import (
    CAR_CONNECTED,
    CHARGING_CURRENT,
    ECO_MODE,
    FIRMWARE,
    LATEST_FIRMWARE,
    LOCKED,
    ROLE,
    SCHEDULE,
    SESSION_ENERGY,
    STATUS,
    WIRE_RATING,
    Capability,
    ChargerIssue,
    EcoMode,
    Identity,
    Maker,
    Property,
    Reading,
    ReadingClass,
    Readings,
    Role,
    Schedule,
    Snapshot,
    Source,
    Status,
    Window,
)
from custom_components.chargekeeper.core.transport import (
    LOCAL_READ_BACK,
    Command,
    Install,
    Presence,
    Restart,
    SetCharging,
    SetCurrent,
    SetEcoMode,
    SetLock,
    SetOverride,
    Setting,
    StatusReport,
    Transport,
    TransportListener,
)
from tests.simulators.clock import VirtualClock

WHO = Identity(Maker.WALLBOX, "700200", "Bench")
LIVE_SECONDS = 3600.0
NIGHT = Window(slot=0, enabled=True, days=frozenset(range(7)), start=time(22), end=time(5))
"""A window that opens ten hours after the start of the bench: its clock starts at noon."""
DAYTIME = replace(NIGHT, start=time(8), end=time(14))
"""A window that is open when the bench starts, and closes two hours later."""


class Resume(StrEnum):
    """The effect of a start command on a charger that waits for its schedule."""

    WORKS = "works"
    CONFLICT = "conflict"
    NO_EFFECT = "no_effect"


class Manual(StrEnum):
    """The last request by hand, in the app or at the charger."""

    CHARGE = "charge"
    PAUSE = "pause"


@dataclass(kw_only=True)
class FakeDevice:
    """The true state of the charger behind all transports. `at_hand` is False while no transport reaches it."""

    clock: VirtualClock
    windows: Schedule = (NIGHT,)
    car: bool = True
    full: bool = False
    manual: Manual | None = None
    locked: bool = False
    updating: bool = False
    at_hand: bool = True
    resume: Resume = Resume.WORKS
    amps: int = 16
    eco: EcoMode = EcoMode.OFF
    firmware: str = "1.0"
    session_energy: float = 1.0
    restarts: int = 0
    bricked: bool = False
    starts: int = 0
    """Number of starts against the schedule, or out of a pause."""

    def status(self) -> Status:
        """Return the true status of the charger."""
        if self.updating:
            return Status.UPDATING
        if self.locked:
            return Status.LOCKED
        if not self.car:
            return Status.AVAILABLE
        if self.manual is Manual.PAUSE:
            return Status.PAUSED
        if self.manual is None and any(w.enabled for w in self.windows) and not self.in_window:
            return Status.WAITING_SCHEDULE
        return Status.COMPLETED if self.full else Status.CHARGING

    @property
    def in_window(self) -> bool:
        """True while the schedule lets the charger charge."""
        return schedule.inside(self.windows, self.clock.now())

    def unplug(self) -> None:
        """Unplug the car; the charger forgets requests by hand."""
        self.car, self.manual = False, None

    def power_cycle(self) -> None:
        """Cut the power for a moment; the charger forgets requests by hand."""
        self.manual = None

    def obey(self, command: Command) -> None:
        """Carry out a command. Raises NotApplicable."""
        match command:
            case SetCurrent(amps):
                self.amps = amps
            case SetLock(locked):
                self.locked = locked
            case SetEcoMode(mode):
                self.eco = mode
            case SetCharging(on=False):
                self.manual = Manual.PAUSE
            case SetCharging(on=True) | SetOverride(on=True):
                self._resume()
            case SetOverride(on=False):
                self.manual = None
            case Restart():
                self.restarts += 1
                self.bricked = self.bricked or self.updating
                self.manual = None
            case Install():
                self.updating = True

    def write(self, windows: Schedule) -> None:
        """Enable or disable these windows."""
        self.windows = schedule.changed(self.windows, windows)

    def _resume(self) -> None:
        waits = self.status() is Status.WAITING_SCHEDULE
        if (not waits and self.status() is not Status.PAUSED) or (waits and self.resume is Resume.CONFLICT):
            raise NotApplicable("wrong_state")
        if not waits or self.resume is Resume.WORKS:
            self.manual = Manual.CHARGE
            self.starts += 1


class ScriptedPath(Transport):
    """The common part of all scripted transports: every property has the value that the test set."""

    def __init__(self, clock: VirtualClock, breaker: Breaker, who: Identity, source: Source) -> None:
        self.source = source
        self.breaker = breaker
        self.meters_lifetime = False
        self.frees_schedule = True
        self.read_back_delays: tuple[float, ...] = ()
        self.who = who
        self.can = frozenset(Capability)
        self.is_gone = False
        self._clock = clock
        self._listeners: list[TransportListener] = []
        self._last_report: StatusReport | None = None
        self._charger_reported_at: float | None = None
        self._status_received_at: float | None = None
        self._contact: datetime | None = None

    @property
    @override
    def identity(self) -> Identity:
        return self.who

    @property
    @override
    def capabilities(self) -> frozenset[Capability]:
        return self.can

    @property
    @override
    def removed_from_account(self) -> bool:
        return self.is_gone

    @property
    @override
    def last_report(self) -> StatusReport | None:
        return self._last_report

    @property
    @override
    def charger_reported_at(self) -> float | None:
        return self._charger_reported_at

    @property
    @override
    def status_received_at(self) -> float | None:
        return self._status_received_at

    @property
    @override
    def endpoint_contact_at(self) -> datetime | None:
        return self._contact

    @override
    def listen(self, listener: TransportListener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def answer(self, readings: Readings) -> None:
        """Notify the listeners of an answer with these readings."""
        self._contact = self._clock.now()
        for listener in tuple(self._listeners):
            listener.readings_received(self, readings)

    def changed(self) -> None:
        """Notify the listeners of a change of the transport itself."""
        for listener in tuple(self._listeners):
            listener.transport_changed(self)


class FakeTransport(ScriptedPath):
    """A scripted transport to the device: `tell` simulates an answer, and commands succeed or fail as set."""

    def __init__(self, device: FakeDevice, *, source: Source = Source.CLOUD, log: list[object] | None = None) -> None:
        super().__init__(device.clock, Breaker(device.clock, lambda: 1.0), WHO, source)
        self.device = device
        self.is_present: Presence | None = None
        """Presence set by the test, in place of the presence that follows from the last answer."""
        self.log: list[object] = [] if log is None else log
        self.errors: deque[ChargerError] = deque()
        """Errors of the next commands, one each; these commands do not reach the charger."""
        self.lost_answers = 0
        """Number of next commands that reach the charger although their answers are lost."""
        self.gate: asyncio.Event | None = None
        """An event that every command waits for."""
        self.patience: list[float] = []
        self.checks = 0
        self.check_error: ChargerError | None = None
        self.schedule_error: ChargerError | None = None
        self.watchers = 0
        self.acked_only = False
        """True while commands are acknowledged and never reach the charger."""

    @property
    @override
    def presence(self) -> Presence:
        if self.is_present is not None:
            return self.is_present
        if self._last_report is None or self._charger_reported_at is None:
            return Presence.UNKNOWN
        if self._last_report.status is Status.OFFLINE:
            return Presence.OFFLINE
        fresh = self._charger_reported_at + LIVE_SECONDS > self._clock.monotonic()
        return Presence.ONLINE if fresh else Presence.UNKNOWN

    @override
    async def execute(self, command: Command, *, patience: float) -> None:
        self.patience.append(patience)
        self.log.append(command)
        if self.gate is not None:
            await self.gate.wait()
        if command == SetOverride(on=False) and not self.frees_schedule:
            command = SetCharging(on=self.device.in_window)
        await self._answer(lambda: self.device.obey(command))

    @override
    async def check(self) -> None:
        self.checks += 1
        await asyncio.sleep(0)
        if self.check_error is not None:
            raise self.check_error
        self.tell()

    @override
    async def read_schedule(self) -> Schedule:
        await asyncio.sleep(0)
        if self.schedule_error is not None:
            raise self.schedule_error
        return self.device.windows

    @override
    async def write_schedule(self, windows: Schedule) -> None:
        self.log.append(windows)
        await self._answer(lambda: self.device.write(windows))

    @override
    def watch(self) -> Callable[[], None]:
        self.watchers += 1
        ended = False

        def end() -> None:
            nonlocal ended
            self.watchers -= not ended
            ended = True

        return end

    async def _answer(self, act: Callable[[], None]) -> None:
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.popleft()
        if self.acked_only or not self.device.at_hand:
            return
        act()
        if self.lost_answers:
            self.lost_answers -= 1
            raise TransportDown("timeout")

    # What the test does

    @property
    def commands(self) -> list[Command]:
        """All commands sent, without schedules."""
        return [entry for entry in self.log if isinstance(entry, COMMANDS)]

    def show[T](self, prop: Property[T], value: T, *, ago: float = 0.0, max_age: float = LIVE_SECONDS) -> None:
        """Simulate an answer with one value, which the charger showed `ago` seconds before."""
        self.answer(self.readings({prop: value}, ago=ago, max_age=max_age))

    def readings(
        self,
        values: Mapping[Property[Any], object],
        *,
        ago: float = 0.0,
        max_age: float = LIVE_SECONDS,
    ) -> Readings:
        """Return readings of this transport."""
        found, now = Readings(), self._clock.monotonic()
        for prop, value in values.items():
            age = max_age if prop.kind is ReadingClass.LIVE else float("inf")
            found.put(prop, Reading(value, self.source, self._clock.now(), now - ago, age))
        return found

    def tell(self, status: Status | EllipsisType | None = ..., *, synced_ago: float | None = 0.0) -> None:
        """Simulate an answer that shows the charger as it is, or with another status.

        Args:
            status: shown in place of the true status; None for an unknown status code.
            synced_ago: seconds since the charger itself reported; None keeps the time of the earlier report.
        """
        now, device = self._clock.monotonic(), self.device
        away = Status.OFFLINE if not device.at_hand else device.status()
        shown = away if status is ... else status
        offline = shown is Status.OFFLINE
        self._last_report = StatusReport(shown, None if offline else device.car)
        self._status_received_at = now
        if synced_ago is not None and not offline:
            self._charger_reported_at = now - synced_ago
        elif self._charger_reported_at is None:
            self._charger_reported_at = now
        values: dict[Property[Any], object] = {
            FIRMWARE: device.firmware,
            LATEST_FIRMWARE: "2.0",
            CHARGING_CURRENT: float(device.amps),
            WIRE_RATING: 32.0,
            ECO_MODE: device.eco,
            SCHEDULE: device.windows,
            ROLE: Role.ADMIN,
        }
        if offline:
            values = {STATUS: Status.OFFLINE}
        else:
            values |= {CAR_CONNECTED: device.car, LOCKED: device.locked, SESSION_ENERGY: device.session_energy}
            values |= {} if shown is None else {STATUS: shown}
        readings = self.readings(values)
        if shown is None:
            readings.retract(STATUS, now)
        self.breaker.good()
        self.answer(readings)

    async def lose(self) -> None:
        """Stop all answers; the breaker opens after two failures."""
        self.breaker.bad(Failure.OTHER)
        await self._clock.advance(20)
        self.breaker.bad(Failure.OTHER)
        await self._clock.settle()


COMMANDS = (SetCurrent, SetCharging, SetOverride, SetLock, SetEcoMode, Restart, Install)


@dataclass(frozen=True, slots=True)
class Saved:
    """The content of the intent store when it was saved."""

    intents: dict[str, object]

    @property
    def override(self) -> dict[str, object] | None:
        """The saved override."""
        entry = self.intents["override"]
        assert entry is None or isinstance(entry, dict)
        return entry


class LogLines(logging.Handler):
    """A log handler that collects the messages of ChargeKeeper from warnings up."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def __enter__(self) -> Self:
        logging.getLogger("custom_components.chargekeeper").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("custom_components.chargekeeper").removeHandler(self)


BENCHES: list[Bench] = []
"""All benches of a test; a fixture stops them after the test."""


@dataclass(eq=False)
class Bench:
    """A device, its cloud transport and its `Charger`, with one log of all saves, commands and events."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    options: ChargerOptions = field(default_factory=ChargerOptions)
    intents: dict[str, object] | None = None
    stored: object = None

    def __post_init__(self) -> None:
        self.log: list[object] = []
        self.device = FakeDevice(clock=self.clock)
        self.cloud = FakeTransport(self.device, log=self.log)
        self.snapshots: list[Snapshot] = []
        self.save_gate: asyncio.Event | None = None
        self.save_error: Exception | None = None
        self._chargers: list[Charger] = []
        self.charger = self.new_keeper()
        BENCHES.append(self)

    def new_keeper(self, intents: dict[str, object] | None = None) -> Charger:
        """Return a new `Charger` for the same device, restored from the store and not started."""
        charger = Charger(WHO, self.clock, self.options, self._save)
        charger.restore(self.stored, self.intents if intents is None else intents)
        charger.listen_events(self.log.append)
        charger.listen(self.snapshots.append)
        self._chargers.append(charger)
        return charger

    async def _save(self, intents: dict[str, object]) -> None:
        if self.save_gate is not None:
            await self.save_gate.wait()
        await asyncio.sleep(0)
        if self.save_error is not None:
            raise self.save_error
        self.intents = intents
        self.log.append(Saved(intents))

    async def start(self, *, tell: bool = True) -> None:
        """Start the `Charger`; with `tell`, its cloud transport reports the device."""
        self.charger.add_transport(self.cloud)
        self.charger.start()
        if tell:
            await self.tell()

    async def stop(self) -> None:
        """Stop every `Charger` of this bench."""
        for charger in self._chargers:
            await charger.stop()

    async def restart_home_assistant(self, *, down_for: float = 10.0, tell: bool = True) -> None:
        """Stop the `Charger`, and start another one from the saved data."""
        self.stored = self.charger.export()
        await self.charger.stop()
        await self.clock.advance(down_for)
        cloud, self.cloud = self.cloud, FakeTransport(self.device, log=self.log)
        self.cloud.read_back_delays = cloud.read_back_delays
        self.charger = self.new_keeper()
        await self.start(tell=tell)

    async def tell(self, status: Status | EllipsisType | None = ..., *, transport: FakeTransport | None = None) -> None:
        """Simulate an answer of the cloud or of `transport`, and wait until its effects are complete."""
        (transport or self.cloud).tell(status)
        await self.clock.settle()

    async def poll(self, times: int = 1, *, every: float = 60.0) -> None:
        """Let time pass, with an answer at the end of each interval."""
        for _ in range(times):
            await self.clock.advance(every)
            await self.tell()

    async def add(self, source: Source) -> FakeTransport:
        """Add another transport, which reports the device."""
        transport = FakeTransport(self.device, source=source, log=[])
        self.charger.add_transport(transport)
        transport.tell()
        await self.clock.settle()
        return transport

    async def give_up(self, setting: Setting) -> FakeTransport:
        """Send a setting that neither the cloud nor a local transport answers; lose the cloud, return the local one."""
        local = await self.add(Source.LINKED)
        local.read_back_delays = LOCAL_READ_BACK
        for transport in (self.cloud, local):
            transport.errors.append(TransportDown("timeout"))
        with pytest.raises(TransportsFailed):
            await self.charger.command(setting)
        await self.cloud.lose()
        return local

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that entities show."""
        return self.charger.snapshot

    def issues(self) -> frozenset[ChargerIssue]:
        """Return the issues that the user sees."""
        return self.snapshot.issues

    def disabled(self) -> tuple[str, ...]:
        """Return the windows that are disabled for the override."""
        return self.charger.disabled_windows

    def status(self) -> Status | None:
        """Return the status that entities show."""
        return self.snapshot.value(STATUS)

    def reach(self) -> tuple[bool | None, bool | None, Source | None]:
        """Return if cloud and local transports reach the charger, and the source that carries commands."""
        return self.snapshot.cloud, self.snapshot.local, self.snapshot.connection_path

    @property
    def sent(self) -> list[Command]:
        """All commands sent to the cloud."""
        return self.cloud.commands

    @property
    def events(self) -> list[str]:
        """The types of all events."""
        return [entry.type for entry in self.log if isinstance(entry, ChargerEvent)]

    @property
    def intent(self) -> dict[str, object] | None:
        """The override that was saved last."""
        return None if self.intents is None else Saved(self.intents).override

    @property
    def reasons(self) -> list[str]:
        """The reasons of all ended overrides, `superseded` included."""
        found = []
        for entry in self.log:
            if isinstance(entry, ChargerEvent) and entry.type == "override_ended":
                found.append(entry.details["reason"])
            elif isinstance(entry, ChargerEvent) and entry.type == "override_superseded":
                found.append("superseded")
        return found
