"""A restart is never sent while the last unexpired report of any transport forbids it (invariant I5).

The machine presses restart and install over jumps of the clock, suspensions of the host, outages and starts of Home
Assistant. It judges each request by what the transports reported, not by what the charger's guard made of it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from types import EllipsisType
from typing import override

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
import pytest

from custom_components.chargekeeper.core.charger.danger import UPDATE_WITHIN, DangerWatch
from custom_components.chargekeeper.core.charger.restart import COOLING_DOWN, STATUS_FRESH
from custom_components.chargekeeper.core.charger.restart_service import RestartService
from custom_components.chargekeeper.core.clock import Divergence
from custom_components.chargekeeper.core.errors import ChargerError, TransportBusy
from custom_components.chargekeeper.core.model import POWER_FLOWS, Source, Status
from custom_components.chargekeeper.core.transport import Command, Install, Restart
from tests.core.fake_transport import BENCHES, LIVE_SECONDS, Bench, FakeTransport

JUMPS = (3 * 3600.0, -3 * 3600.0, 86400.0, -86400.0, 11.0, -11.0)
HIDES_AN_UPDATE = frozenset({None, Status.OFFLINE, Status.UPDATING})
STATUSES = (None, Status.AVAILABLE, Status.CHARGING, Status.DISCHARGING, Status.UPDATING, Status.OFFLINE, Status.ERROR)


@dataclass(slots=True)
class Heard:
    """What one transport reported, by the time of the machine that runs Home Assistant."""

    updating_at: float = -inf
    flowing_at: float = -inf
    status: Status | None = None
    at: float = -inf


class WatchedTransport(FakeTransport):
    """A transport that shows every command to the machine before it carries the command."""

    machine: DangerMachine

    @override
    async def execute(self, command: Command, *, patience: float, urgent: float = 0.0) -> None:
        self.machine.judge(self, command)
        await super().execute(command, patience=patience, urgent=urgent)

    @override
    def tell(self, status: Status | EllipsisType | None = ..., *, synced_ago: float | None = 0.0) -> None:
        shown = self.machine.shown[self.source] if status is ... else status
        self.machine.hear(self, shown)
        super().tell(shown, synced_ago=synced_ago)


class DangerMachine(RuleBasedStateMachine):
    """A charger with a cloud transport and, at times, a local one. Both may report anything."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.failures: list[str] = []
        self.heard = {source: Heard() for source in (Source.CLOUD, Source.LINKED)}
        self.shown: dict[Source, Status | None] = dict.fromkeys(self.heard, Status.AVAILABLE)
        self.jumped_at = -inf
        self.restarted_at = -inf
        self.running = 0.0
        """Seconds that Home Assistant ran: an update is counted by them."""
        self.bench = self.run(self._make())

    def run[T](self, work: Coroutine[object, object, T]) -> T:
        return self.loop.run_until_complete(work)

    async def _make(self) -> Bench:
        bench = Bench()
        BENCHES.remove(bench)
        bench.device.windows = ()
        bench.device.car = False
        self.bench = bench
        self._watch(bench.cloud)
        await bench.start(tell=False)
        return bench

    def _watch(self, transport: FakeTransport) -> None:
        transport.__class__ = WatchedTransport
        assert isinstance(transport, WatchedTransport)
        transport.machine = self

    @override
    def teardown(self) -> None:
        self.run(self.bench.stop())
        self.loop.close()

    # What is reported, and what is judged

    def hear(self, transport: FakeTransport, status: Status | None) -> None:
        heard = self.heard[transport.source]
        now = self.bench.clock.monotonic()
        heard.status = status
        heard.at = now
        if status is Status.UPDATING:
            heard.updating_at = self.running
        elif status not in HIDES_AN_UPDATE:
            heard.updating_at = -inf
        if status in POWER_FLOWS:
            heard.flowing_at = now
        elif status not in {None, Status.OFFLINE}:
            heard.flowing_at = -inf

    def judge(self, transport: FakeTransport, command: Command) -> None:
        if not isinstance(command, Restart | Install):
            return
        now = self.bench.clock.monotonic()
        for source, heard in self.heard.items():
            if self.running < heard.updating_at + UPDATE_WITHIN:
                self.failures.append(f"{command} while {source} says that the charger is updating")
            if now < heard.flowing_at + LIVE_SECONDS:
                self.failures.append(f"{command} while {source} says that power flows")
        carrier = self.heard[transport.source]
        if carrier.status not in {Status.AVAILABLE, Status.ERROR}:
            self.failures.append(f"{command} on {carrier.status}")
        if now > carrier.at + STATUS_FRESH or carrier.at < self.jumped_at:
            self.failures.append(f"{command} on a status of {now - carrier.at} s ago, the clocks departed since")
        if isinstance(command, Restart):
            if now < self.restarted_at + COOLING_DOWN:
                self.failures.append("restarted again before the last restart was over")
            self.restarted_at = now

    @invariant()
    def no_restart_against_any_report(self) -> None:
        assert self.failures == []

    # What happens

    def act(self, what: Callable[[], object]) -> None:
        async def act() -> None:
            what()
            await self.bench.clock.settle()

        self.run(act())

    @property
    def transports(self) -> list[FakeTransport]:
        return [transport for transport in self.bench.charger._router if isinstance(transport, FakeTransport)]

    def pass_time(self, seconds: float) -> None:
        self.running += seconds
        self.run(self.bench.clock.advance(seconds))

    @rule(seconds=st.sampled_from([1.0, 30.0, 61.0, 700.0, 3700.0]))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule(number=st.integers(0, 1), status=st.sampled_from(STATUSES))
    def the_charger_is_shown(self, number: int, status: Status | None) -> None:
        transport = self.transports[number % len(self.transports)]
        self.shown[transport.source] = status
        self.act(transport.tell)

    @rule(number=st.integers(0, 1), status=st.sampled_from(STATUSES))
    def the_charger_changes_unseen(self, number: int, status: Status | None) -> None:
        self.shown[self.transports[number % len(self.transports)].source] = status

    @rule(number=st.integers(0, 1), fails=st.booleans())
    def status_reads_fail(self, number: int, fails: bool) -> None:
        transport = self.transports[number % len(self.transports)]
        transport.check_error = TransportBusy("throttled", 60.0) if fails else None

    @rule(seconds=st.sampled_from(JUMPS), suspended=st.booleans())
    def the_clocks_depart(self, seconds: float, suspended: bool) -> None:
        self.pass_time(1)
        if suspended and seconds > 0:
            self.bench.clock.suspend(seconds)
        else:
            self.bench.clock.jump(seconds)
        self.jumped_at = self.bench.clock.monotonic()
        self.run(self.bench.clock.settle())

    @rule(number=st.integers(0, 1))
    def a_transport_is_throttled(self, number: int) -> None:
        self.act(lambda: self.transports[number % len(self.transports)].breaker.throttled(120))

    @rule()
    def the_cloud_is_lost(self) -> None:
        self.running += 20
        self.run(self.bench.cloud.lose())

    @precondition(lambda self: len(self.transports) == 1)
    @rule()
    def a_local_transport_comes(self) -> None:
        transport = FakeTransport(self.bench.device, source=Source.LINKED, log=[])
        self._watch(transport)
        self.act(lambda: self.bench.charger.add_transport(transport))

    @rule(down_for=st.sampled_from([0.0, 30.0, 1000.0]), jumps=st.sampled_from([0.0, *JUMPS]))
    def home_assistant_starts_anew(self, down_for: float, jumps: float) -> None:
        self.bench.clock.jump(jumps)
        self.run(self.bench.restart_home_assistant(down_for=down_for, tell=False))
        self._watch(self.bench.cloud)
        for heard in self.heard.values():  # only updates are stored
            heard.flowing_at = -inf

    @rule()
    def restart(self) -> None:
        self.press(self.bench.charger.restart)

    @rule()
    def install(self) -> None:
        self.press(self.bench.charger.install)

    def press(self, what: Callable[[], Coroutine[object, object, object]]) -> None:
        async def press() -> None:
            with suppress(ChargerError):
                await what()
            await self.bench.clock.settle()

        self.run(press())


SETTINGS = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

TestDanger = DangerMachine.TestCase
TestDanger.settings = SETTINGS


def _flow_of_no_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DangerWatch, "flowing", None)


def _update_of_no_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DangerWatch, "updating", None)
    monkeypatch.setattr(DangerWatch, "update_doubted", None)


def _no_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Divergence, "at", -inf)


def _guard_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RestartService, "_guard", lambda *_: None)


def _local_transport_reports(status: Status) -> Callable[[DangerMachine], None]:
    def report(machine: DangerMachine) -> None:
        machine.a_local_transport_comes()
        machine.the_charger_is_shown(1, status)

    return report


@pytest.mark.parametrize(
    ("defect", "happens"),
    [
        (_flow_of_no_transport, _local_transport_reports(Status.CHARGING)),
        (_update_of_no_transport, _local_transport_reports(Status.UPDATING)),
        (_no_divergence, lambda machine: machine.the_clocks_depart(JUMPS[0], True)),
        (_guard_skipped, lambda machine: machine.the_charger_is_shown(0, Status.CHARGING)),
    ],
)
@pytest.mark.parametrize("planted", [True, False])
def test_machine_catches_a_planted_defect(
    defect: Callable[[pytest.MonkeyPatch], None],
    happens: Callable[[DangerMachine], None],
    planted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if planted:
        defect(monkeypatch)
    machine = DangerMachine()
    try:
        machine.the_charger_is_shown(0, Status.AVAILABLE)
        happens(machine)
        machine.status_reads_fail(0, True)
        machine.restart()
        assert bool(machine.failures) is planted
    finally:
        machine.teardown()
