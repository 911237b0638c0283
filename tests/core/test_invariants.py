"""The invariants of a charger under people, outages, lost answers and power cuts, all at once.

One state machine; each invariant of docs/invariants.md that the core must hold is a check that names it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from math import inf
from types import EllipsisType
from typing import override

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from custom_components.chargekeeper.core.breaker import Failure
from custom_components.chargekeeper.core.charger import ChargerOptions
from custom_components.chargekeeper.core.charger.intents import End, IntentState, Until
from custom_components.chargekeeper.core.charger.restart import STATUS_FRESH
from custom_components.chargekeeper.core.charger.sent_commands import TIME_TO_LIVE
from custom_components.chargekeeper.core.errors import (
    ChargerError,
    LoginRejected,
    NoConnection,
    NotAllowed,
    TransportBusy,
    TransportDown,
)
from custom_components.chargekeeper.core.model import (
    CHARGING_CURRENT,
    HOUSE_LIMIT,
    PROPERTIES,
    WIRE_RATING,
    ChargerIssue,
    EcoMode,
    ReadingClass,
    Schedule,
    Source,
    Status,
)
from custom_components.chargekeeper.core.transport import (
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
)
from tests.core.fake_transport import BENCHES, DAYTIME, NIGHT, Bench, FakeDevice, FakeTransport, Manual, Resume, Saved

ERRORS: tuple[Callable[[], ChargerError], ...] = (
    lambda: TransportDown("timeout"),
    lambda: NoConnection("refused"),
    lambda: TransportBusy("throttled", 60),
    lambda: NotAllowed("refused"),
    lambda: LoginRejected("invalid_auth"),
)

SETTINGS: tuple[Setting, ...] = (
    *(SetCurrent(amps) for amps in (5, 6, 8, 10, 12, 16, 20, 25, 32, 40)),
    *(SetCharging(on) for on in (True, False)),
    *(SetLock(locked) for locked in (True, False)),
    *(SetEcoMode(mode) for mode in EcoMode),
)

LIMITS = st.sampled_from([6.0, 9.5, 10.0, 16.0, 32.0])

EMPTY: dict[str, object] = {"override": None, "restart": None, "install": None, "pause": None, "lowering": False}


CHANGES: dict[str, Callable[[FakeDevice], None]] = {
    "unplugged": FakeDevice.unplug,
    "plugged in": lambda device: setattr(device, "car", True),
    "full": lambda device: setattr(device, "full", True),
    "hungry": lambda device: setattr(device, "full", False),
    "paused in the app": lambda device: setattr(device, "manual", Manual.PAUSE if device.car else None),
    "started in the app": lambda device: setattr(device, "manual", Manual.CHARGE if device.car else None),
    "power cut": FakeDevice.power_cycle,
    "gone": lambda device: setattr(device, "at_hand", False),
    "back": lambda device: setattr(device, "at_hand", True),
    "update begins": lambda device: setattr(device, "updating", True),
    "update ends": lambda device: device.__dict__.update(updating=False, firmware="2.0"),
    "set to 6 A": lambda device: setattr(device, "amps", 6),
    "set to 16 A": lambda device: setattr(device, "amps", 16),
    "set to 32 A": lambda device: setattr(device, "amps", 32),
}
"""Changes that others make at the charger."""

TROUBLES: dict[str, Callable[[FakeTransport], None]] = {
    "hiccup": lambda transport: transport.breaker.bad(Failure.OTHER),
    "refuses": lambda transport: transport.breaker.bad(Failure.CONNECT),
    "wants to be left alone": lambda transport: transport.breaker.throttled(60),
    "not heard for long": lambda transport: setattr(transport, "is_present", Presence.UNKNOWN),
    "heard": lambda transport: setattr(transport, "is_present", None),
}
"""Disturbances of a transport."""


class WatchedTransport(FakeTransport):
    """A transport that lets the machine check every command first, and records the values that it reports."""

    machine: ChargerMachine

    @override
    async def execute(self, command: Command, *, patience: float, urgent: float = 0.0) -> None:
        machine = self.machine
        before = machine.present
        machine.before_sending(self, command)
        sent = machine.present
        try:
            await super().execute(command, patience=patience, urgent=urgent)
        except ChargerError as err:
            if err.surely_not_sent and machine.present == sent:
                machine.present = before
            raise

    @override
    def tell(self, status: Status | EllipsisType | None = ..., *, synced_ago: float | None = 0.0) -> None:
        if status is not Status.OFFLINE and (self.device.at_hand or status is not ...):
            self.machine.shown[CHARGING_CURRENT.key] = float(self.device.amps)
            self.machine.shown[WIRE_RATING.key] = 32.0
            self.machine.present = float(self.device.amps)
        super().tell(status, synced_ago=synced_ago)


class ChargerMachine(RuleBasedStateMachine):
    """A charger with a cloud transport and, at times, a local transport."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.failures: list[str] = []
        self.presses = 0
        self.restarts_at: list[float] = []
        self.failure_reported = False
        self.shown: dict[str, float] = {}
        self.saved_before: dict[str, object] = dict(EMPTY)
        self.paused_by_user_at = -inf
        self.stopped_by_end = False
        """True if the last pause was sent by the end of an override, and by nobody else."""
        self.present = 0.0
        """The charging current that was shown last, or sent since, in A."""
        self.bench = self.run(self._make())

    def run[T](self, work: Coroutine[object, object, T]) -> T:
        return self.loop.run_until_complete(work)

    async def _make(self) -> Bench:
        bench = Bench()
        BENCHES.remove(bench)
        self._watch(bench.cloud)
        return bench

    def _watch(self, transport: FakeTransport) -> None:
        transport.__class__ = WatchedTransport
        assert isinstance(transport, WatchedTransport)
        transport.machine = self

    async def settle(self) -> None:
        await self.bench.clock.settle()
        self.check_saved_intents()

    @override
    def teardown(self) -> None:
        try:
            self.run(self.check_recovery())
        finally:
            self.run(self.bench.stop())
            self.loop.close()

    @property
    def transports(self) -> list[FakeTransport]:
        return [transport for transport in self.bench.charger._router if isinstance(transport, FakeTransport)]

    # Actions of people and the world

    @initialize(
        windows=st.sampled_from([(), (NIGHT,), (DAYTIME,), (NIGHT, replace(DAYTIME, slot=1, enabled=False))]),
        resume=st.sampled_from(Resume),
        limit=st.none() | LIMITS,
        delays=st.sampled_from([(), (20.0,), (2.0, 7.0)]),
    )
    def begin(self, windows: Schedule, resume: Resume, limit: float | None, delays: tuple[float, ...]) -> None:
        bench = self.bench
        bench.device.windows = self.windows = windows
        bench.device.resume = resume
        bench.cloud.read_back_delays = delays
        bench.options = bench.charger.options = ChargerOptions(load_group_limit=limit)
        self.run(bench.start(tell=False))
        self.tell(bench.cloud)

    @rule(seconds=st.sampled_from([0.0, 1.0, 21.0, 60.0, 130.0, 700.0, 7300.0]))
    def time_passes(self, seconds: float) -> None:
        self.run(self.bench.clock.advance(seconds))
        self.run(self.settle())

    @rule(
        status=st.sampled_from([..., ..., ..., ..., None, Status.OFFLINE, Status.WAITING_CAR, Status.ERROR]),
        number=st.integers(0, 1),
    )
    def answer(self, status: Status | EllipsisType | None, number: int) -> None:
        if self.transports:
            self.tell(self.transports[number % len(self.transports)], status)

    def tell(self, transport: FakeTransport, status: Status | EllipsisType | None = ...) -> None:
        self.act(lambda: transport.tell(status))

    def act(self, what: Callable[[], None]) -> None:
        """Act inside the loop, and wait until all effects are complete."""

        async def act() -> None:
            what()
            await self.settle()

        self.run(act())

    @rule(amps=LIMITS)
    def a_house_limit_is_shown(self, amps: float) -> None:
        self.shown[HOUSE_LIMIT.key] = amps
        self.act(lambda: self.bench.cloud.show(HOUSE_LIMIT, amps))

    @rule(limit=st.none() | LIMITS)
    def the_user_enters_a_limit(self, limit: float | None) -> None:
        self.bench.options = ChargerOptions(load_group_limit=limit)
        self.act(lambda: setattr(self.bench.charger, "options", self.bench.options))

    @rule(change=st.sampled_from(sorted(CHANGES)))
    def the_world_changes(self, change: str) -> None:
        self.stopped_by_end = self.stopped_by_end and change != "paused in the app"
        CHANGES[change](self.bench.device)

    @rule(trouble=st.sampled_from(sorted(TROUBLES)), number=st.integers(0, 1))
    def a_random_transport_has_trouble(self, trouble: str, number: int) -> None:
        if self.transports:
            self.act(lambda: TROUBLES[trouble](self.transports[number % len(self.transports)]))

    @rule()
    def the_cloud_is_lost(self) -> None:
        self.run(self.bench.cloud.lose())
        self.run(self.settle())

    @rule(errors=st.lists(st.sampled_from(ERRORS), max_size=3), lost=st.integers(0, 1), acked=st.booleans())
    def commands_go_wrong(self, errors: list[Callable[[], ChargerError]], lost: int, acked: bool) -> None:
        cloud = self.bench.cloud
        cloud.errors.clear()
        cloud.errors.extend(error() for error in errors)
        cloud.lost_answers, cloud.acked_only = lost, acked
        error = errors[0]() if errors else None
        cloud.check_error = cloud.schedule_error = error

    @rule()
    def all_is_well_again(self) -> None:
        cloud, device = self.bench.cloud, self.bench.device
        cloud.errors.clear()
        cloud.lost_answers, cloud.acked_only = 0, False
        cloud.check_error = cloud.schedule_error = None
        device.at_hand, device.car, device.locked = True, True, False
        self.tell(cloud)

    @precondition(lambda self: len(self.transports) == 1)
    @rule()
    def a_local_transport_comes(self) -> None:
        transport = FakeTransport(self.bench.device, source=Source.BLUETOOTH, log=[])
        self._watch(transport)
        self.act(lambda: self.bench.charger.add_transport(transport))

    @precondition(lambda self: len(self.transports) == 2)
    @rule()
    def the_local_transport_goes(self) -> None:
        self.act(lambda: self.bench.charger.remove_transport(Source.BLUETOOTH))

    # Requests of the user

    @rule(setting=st.sampled_from(SETTINGS), cut=st.none() | st.integers(0, 12))
    def a_setting(self, setting: Setting, cut: int | None) -> None:
        if setting == SetCharging(on=False):
            self.paused_by_user_at = inf
        done = self.run(self.complete(self.bench.charger.command(setting), cut))
        if setting == SetCharging(on=False):
            self.paused_by_user_at = self.bench.clock.monotonic()
        if setting == SetCharging(on=True) and done and self.pause is not None:
            self.failures.append("I4: started, and still paused")

    @rule(
        on=st.booleans(),
        minutes=st.none() | st.sampled_from([1, 30]),
        cut=st.none() | st.integers(0, 25),
    )
    def the_override(self, on: bool, minutes: int | None, cut: int | None) -> None:
        self.run(self.bench.clock.advance(1))
        until_at = None if minutes is None else self.bench.clock.now() + timedelta(minutes=minutes)
        until = Until.FULL if minutes is None else Until.TIME
        done = self.run(self.complete(self.bench.charger.set_override(on, until=until, until_at=until_at), cut))
        if done and not on and self.bench.snapshot.override.on:
            self.failures.append("I4: switched off, and still on")

    @rule(cut=st.none() | st.integers(0, 12))
    def restart(self, cut: int | None) -> None:
        self.presses += 1
        before = len(self.restarts_at)
        self.run(self.complete(self.bench.charger.restart(), cut))
        if len(self.restarts_at) > before + 1:
            self.failures.append("I5: one press, several restarts")

    @rule(cut=st.none() | st.integers(0, 12))
    def install(self, cut: int | None) -> None:
        self.run(self.complete(self.bench.charger.install(), cut))

    async def complete(self, work: Coroutine[object, object, object], cut: int | None) -> bool:
        """Return True if a request succeeded. With `cut`, the power fails after that number of loop iterations."""
        task = asyncio.ensure_future(work)
        if cut is not None:
            for _ in range(cut):
                await asyncio.sleep(0)
            granted = task.done() and task.exception() is None
            await self.restart_home_assistant()
        else:
            await self.bench.clock.settle()
            for _ in range(30):  # for requests that wait for a status or another command
                if task.done():
                    break
                await self.bench.clock.advance(1)
            granted = task.done() and task.exception() is None
        if not task.done():
            await asyncio.wait([task])
        task.exception()
        await self.settle()
        return granted

    @rule(down_for=st.sampled_from([0.0, 30.0, 900.0]))
    def home_assistant_starts_anew(self, down_for: float) -> None:
        self.run(self.restart_home_assistant(down_for))
        self.run(self.settle())

    async def restart_home_assistant(self, down_for: float = 5.0) -> None:
        if not self.transports:
            return
        await self.bench.restart_home_assistant(down_for=down_for, tell=False)
        self._watch(self.bench.cloud)

    # Checks

    def before_sending(self, transport: WatchedTransport, command: Command) -> None:
        """Check I1 and I5 for a command, judged by the reported values only, not by the state of the `Charger`."""
        if isinstance(command, SetCurrent):
            self._may_set(command.amps)
        elif isinstance(command, Restart | Install):
            self._may_restart(transport, command)
        elif isinstance(command, SetCharging | SetOverride) and command.on:
            self._may_start()
        elif isinstance(command, SetCharging):
            self._may_pause()
        if isinstance(command, SetOverride) and command.on:
            intent = Saved(self.bench.intents or EMPTY).override
            if intent is None or intent["sent"] is not True:
                self.failures.append("I4: sent before it was saved")

    @property
    def ceiling(self) -> float:
        """The smallest of all limits shown so far and of the limit that the user entered."""
        limits = [self.shown[prop.key] for prop in (WIRE_RATING, HOUSE_LIMIT) if prop.key in self.shown]
        entered = self.bench.options.load_group_limit
        return min([*limits, *([] if entered is None else [entered])], default=inf)

    def _may_set(self, amps: int) -> None:
        if amps > self.ceiling and amps > self.present:
            self.failures.append(f"I1: from {self.present} A to {amps} A, the ceiling being {self.ceiling} A")
        if WIRE_RATING.key not in self.shown and amps > self.present:
            self.failures.append("I1: raised with unknown wiring")
        self.present = min(self.present, amps) if amps > self.ceiling else amps

    def _may_start(self) -> None:
        lowered = [
            entry for transport in self.transports for entry in transport.log[-4:] if isinstance(entry, SetCurrent)
        ]
        if self.present > self.ceiling and not any(entry.amps <= self.ceiling for entry in lowered):
            self.failures.append(f"I1: started with {self.present} A, the ceiling being {self.ceiling} A")

    @property
    def pause(self) -> dict[str, object] | None:
        """The pause on the disk."""
        entry = (self.bench.intents or EMPTY)["pause"]
        assert entry is None or isinstance(entry, dict)
        return entry

    def _may_pause(self) -> None:
        """Check that the user requested the pause now or recently, or that the pause or the stop is saved.

        The end of an override stops the draw while its schedule is still disabled.
        """
        requested = self.bench.clock.monotonic() <= self.paused_by_user_at + TIME_TO_LIVE
        override = self.bench.intent
        is_stop = override is not None and override["state"] == "ending" and override["stopped"] is True
        self.stopped_by_end = is_stop and not requested and self.pause is None
        if not requested and self.pause is None and not is_stop:
            self.failures.append("I4: paused, and nobody wants it")
        if self.pause is not None and self.pause["applications"] not in {1, 2, 3}:
            self.failures.append(f"I4: paused too often: {self.pause}")

    def _may_restart(self, transport: WatchedTransport, command: Restart | Install) -> None:
        now = self.bench.clock.monotonic()
        last_report = None if transport.last_report is None else transport.last_report.status
        if last_report in {None, Status.UPDATING, Status.CHARGING, Status.OFFLINE}:
            self.failures.append(f"I5: {command} on {last_report}")
        if (
            transport.status_received_at is None
            or now - transport.status_received_at > STATUS_FRESH
            or transport.presence is not Presence.ONLINE
        ):
            self.failures.append("I5: on an old status")
        if isinstance(command, Restart):
            self.restarts_at.append(now)

    def check_saved_intents(self) -> None:
        """Check I4 for all saved intents: an override leaves the store only after exactly one end."""
        self.failure_reported |= any(ChargerIssue.OVERRIDE_FAILED in shown.issues for shown in self.bench.snapshots)
        self.bench.snapshots.clear()
        for entry in [entry for entry in self.bench.log if isinstance(entry, Saved)]:
            self.bench.log.remove(entry)
            before, after = self.saved_before["override"], entry.intents["override"]
            self.saved_before = entry.intents
            assert before is None or isinstance(before, dict)
            assert after is None or isinstance(after, dict)
            removed_from_account = after is None or (before is not None and after["created_at"] != before["created_at"])
            if (
                before is not None
                and removed_from_account
                and (before["state"], before["end"] in set(End))
                != (
                    IntentState.ENDING,
                    True,
                )
            ):
                self.failures.append(f"I4: {before} became {after}")
            if after is not None and (after["state"] == IntentState.ENDING) is not (after["end"] is not None):
                self.failures.append(f"I4: {after} has an end and goes on, or none and is over")
            ends = {entry["end"] for entry in (before, after) if entry is not None} - {None}
            if not removed_from_account and len(ends) > 1:
                self.failures.append(f"I4: {before} has another end: {after}")

    @invariant()
    def i1_i4_i5_hold_for_everything_sent_and_saved(self) -> None:
        assert self.failures == []

    @invariant()
    def i2_configuration_never_becomes_unknown(self) -> None:
        for key, value in self.shown.items():
            assert self.bench.snapshot.value(PROPERTIES[key]) == value, key

    @invariant()
    def i3_no_live_value_is_shown_past_its_age(self) -> None:
        now = self.bench.clock.monotonic()
        for prop, reading in self.bench.snapshot.readings.items():
            if prop.kind is ReadingClass.LIVE and reading.value is not Status.RESTARTING:
                assert reading.expires_at > now, prop.key

    @invariant()
    def i4_shown_override_matches_saved_override(self) -> None:
        intent = Saved(self.bench.intents or EMPTY).override
        wanted = intent is not None and intent["state"] != IntentState.ENDING
        assert self.bench.snapshot.override.on is wanted

    @invariant()
    def i4_a_pause_and_an_override_exclude_each_other(self) -> None:
        assert self.pause is None or not self.bench.snapshot.override.on, "paused and overridden"

    @invariant()
    def i5_a_restart_needs_a_press(self) -> None:
        assert self.bench.device.restarts <= self.presses

    @invariant()
    def nothing_spins(self) -> None:
        assert self.bench.clock.pending < 40

    async def check_recovery(self) -> None:
        """Check I4 after recovery: no override is left, and the schedule at the charger is as before."""
        bench, device, cloud = self.bench, self.bench.device, self.bench.cloud
        cloud.errors.clear()
        cloud.lost_answers, cloud.acked_only = 0, False
        cloud.check_error = cloud.schedule_error = cloud.is_present = None
        bench.options = bench.charger.options = ChargerOptions()
        bench.charger.remove_transport(Source.BLUETOOTH)
        device.at_hand, device.locked, device.updating, device.firmware = True, False, False, "2.0"
        await bench.clock.advance(700)
        await bench.poll(4)
        outside = any(window.enabled for window in device.windows) and not device.in_window
        overridden = bench.snapshot.override.applied and outside
        await bench.charger.set_override(False)
        await bench.poll(5)
        self.check_saved_intents()
        if self.pause is not None and device.car and not device.full:
            assert device.manual is Manual.PAUSE or device.status() is Status.WAITING_SCHEDULE, self.pause
        assert bench.intent is None
        assert not bench.snapshot.override.on
        assert not (overridden and device.manual is Manual.CHARGE)
        assert device.windows == self.windows or self.failure_reported
        assert not (self.stopped_by_end and device.manual is Manual.PAUSE) or self.failure_reported
        assert self.failures == []


def test_setting_surely_not_sent_does_not_count_as_present_setting() -> None:
    machine = ChargerMachine()
    try:
        machine.begin(windows=(), resume=Resume.WORKS, limit=None, delays=())
        machine.a_house_limit_is_shown(16.0)
        machine.commands_go_wrong([lambda: NoConnection("refused")], 0, False)
        machine.a_house_limit_is_shown(6.0)
        machine.a_setting(SetCurrent(8), None)
        assert machine.bench.device.amps == 8, "from 16 A that is lowering"
        machine.i1_i4_i5_hold_for_everything_sent_and_saved()
    finally:
        machine.teardown()


TestInvariants = ChargerMachine.TestCase
TestInvariants.settings = settings(
    max_examples=200,
    stateful_step_count=50,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
