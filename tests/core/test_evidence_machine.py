"""Never *verified* without a report after sending, whatever a lying cloud, lost links and repeated commands do."""

import asyncio
from collections.abc import Coroutine
from typing import Any, override

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from custom_components.chargekeeper.core.errors import ChargerError, TransportDown
from custom_components.chargekeeper.core.model import CHARGING_CURRENT, LOCKED, STATUS, Outcome, Property, Status
from custom_components.chargekeeper.core.transport import (
    Command,
    SetCharging,
    SetCurrent,
    SetLock,
    SetOverride,
    Setting,
)
from tests.core.fake_transport import BENCHES, Bench, FakeTransport

SETTINGS: tuple[Setting, ...] = (
    *(SetCurrent(amps) for amps in (6, 10, 16)),
    *(SetCharging(on) for on in (True, False)),
    *(SetLock(locked) for locked in (True, False)),
)


class LyingCloud(FakeTransport):
    """A cloud that takes every command while the charger is away, and shows what it wrote as if it were new."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.device, log=bench.log)
        self.written: dict[Property[Any], object] = {}
        self.charger_said_at = float("-inf")
        self.sent_at: dict[str, float] = {}

    @override
    async def execute(self, command: Command, *, patience: float) -> None:
        match command:
            case SetCurrent(amps):
                self.written[CHARGING_CURRENT] = float(amps)
            case SetLock(locked):
                self.written[LOCKED] = locked
            case SetCharging(on) | SetOverride(on):
                self.written[STATUS] = Status.CHARGING if on else Status.PAUSED
        try:
            await super().execute(command, patience=patience)
        except ChargerError as err:
            if err.surely_not_sent:
                self.written.clear()
            else:
                self.sent_at[type(command).__name__] = self._clock.monotonic()
            raise
        self.sent_at[type(command).__name__] = self._clock.monotonic()

    @override
    async def check(self) -> None:
        await asyncio.sleep(0)
        self.answer_now()

    def answer_now(self) -> None:
        """Answer a poll: with the charger's report, or with what was written since it fell silent."""
        if self.acked_only:
            self.answer(self.readings(self.written))
            return
        self.written.clear()
        self.charger_said_at = self._clock.monotonic()
        self.tell()


class EvidenceMachine(RuleBasedStateMachine):
    """One charger, its cloud, and a user who repeats commands."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.failures: list[str] = []
        self.bench = self.run(self._make())

    async def _make(self) -> Bench:
        bench = Bench()
        self.cloud = bench.cloud = LyingCloud(bench)
        return bench

    def run[T](self, work: Coroutine[object, object, T]) -> T:
        """Run in the loop."""
        return self.loop.run_until_complete(work)

    @override
    def teardown(self) -> None:
        self.run(self.bench.stop())
        BENCHES.clear()
        self.loop.close()

    @initialize(windows=st.booleans())
    def begin(self, windows: bool) -> None:
        """Start at a charger that charges, or waits for the night."""
        if not windows:
            self.bench.device.windows = ()
        sent = self.bench.charger._commands.sent
        record = sent.record

        def check(setting: Setting, outcome: Outcome) -> None:
            name = type(setting).__name__
            if outcome in {Outcome.VERIFIED, Outcome.FAILED} and self.cloud.charger_said_at <= self.cloud.sent_at[name]:
                self.failures.append(f"{name} {outcome}")
            record(setting, outcome)

        sent.record = check  # type: ignore[method-assign]
        self.run(self.bench.start(tell=False))
        self.poll()

    @rule(seconds=st.sampled_from([1.0, 20.0, 70.0, 200.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        """Let time pass without a poll."""
        self.run(self.bench.clock.advance(seconds))

    @rule()
    def poll(self) -> None:
        """Answer a poll."""

        async def answer() -> None:
            self.cloud.answer_now()
            await self.bench.clock.settle()

        self.run(answer())

    @rule(lost=st.booleans())
    def the_link_changes(self, lost: bool) -> None:
        """Cut or restore the link of the charger with the cloud."""
        self.cloud.acked_only = lost

    @rule(lost=st.booleans())
    def the_next_answer_is_lost(self, lost: bool) -> None:
        """Let the next command fail without an answer."""
        self.cloud.errors.clear()
        self.cloud.errors += [TransportDown("timeout")] * lost

    @rule(setting=st.sampled_from(SETTINGS))
    def a_setting(self, setting: Setting) -> None:
        """Send a setting, perhaps again."""
        self._try(self.bench.charger.command(setting))

    @rule(on=st.booleans())
    def the_override(self, on: bool) -> None:
        """Turn the override on or off."""
        self._try(self.bench.charger.set_override(on))

    def _try(self, work: Coroutine[object, object, Outcome]) -> None:
        async def carry_out() -> None:
            task = asyncio.ensure_future(work)
            await self.bench.clock.settle()
            await self.bench.clock.advance(10)
            try:
                await task
            except ChargerError:
                return

        self.run(carry_out())

    @invariant()
    def nothing_verified_without_a_report_after_sending(self) -> None:
        """Require a report of the charger from after each judged setting, and from after an applied override."""
        assert self.failures == []
        applied = self.bench.snapshot.override.applied
        assert not applied or self.cloud.charger_said_at > self.cloud.sent_at.get("SetOverride", float("-inf"))


TestEvidence = EvidenceMachine.TestCase
TestEvidence.settings = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
