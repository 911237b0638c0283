"""A host that was suspended, or whose clock was set: nobody knows the age of what was reported before."""

from datetime import datetime, timedelta
from typing import override

import pytest

from custom_components.chargekeeper.core.charger import ChargerOptions
from custom_components.chargekeeper.core.charger.intents import Until
from custom_components.chargekeeper.core.charger.restart import COOLING_DOWN
from custom_components.chargekeeper.core.clock import DIVERGED, LOOK_EVERY, DivergenceMark, SystemClock
from custom_components.chargekeeper.core.errors import ChargerError, TransportBusy
from custom_components.chargekeeper.core.model import (
    CHARGING_CURRENT,
    POWER,
    RestartAvailability,
    Source,
    Status,
)
from custom_components.chargekeeper.core.transport import Restart
from tests.core.fake_transport import Bench, FakeTransport, Manual
from tests.simulators.clock import START, FastClock, VirtualClock

SUSPENDED = 3 * 3600.0
JUMPS = [SUSPENDED, -SUSPENDED, DIVERGED + 0.5, -DIVERGED - 0.5, 365 * 86400.0]
STEPS = [0.0, 1.0, -1.0, 2.0, -2.0, DIVERGED - 0.5, 0.5 - DIVERGED]


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    bench.device.windows = ()
    bench.device.car = False
    await bench.start()
    await bench.clock.advance(1)
    return bench


async def refusal(bench: Bench) -> str:
    with pytest.raises(ChargerError) as caught:
        await bench.charger.restart()
    assert bench.device.restarts == 0
    return caught.value.reason


def availability(bench: Bench) -> RestartAvailability:
    """Return what the sensor shows."""
    return bench.snapshot.restart


# The clock


@pytest.mark.parametrize("seconds", JUMPS)
async def test_divergence_noticed_at_the_next_look(seconds: float) -> None:
    clock = VirtualClock()
    assert clock.divergence.at == float("-inf")
    await clock.advance(5)
    clock.jump(seconds)
    assert clock.divergence.at == clock.monotonic()
    noticed_at = clock.monotonic()
    await clock.advance(5)
    assert clock.divergence.at == noticed_at, "the clocks agree again as they stand"


@pytest.mark.parametrize("seconds", STEPS)
async def test_correction_of_the_clock_is_no_divergence(seconds: float) -> None:
    clock = VirtualClock()
    for _ in range(5):
        assert clock.divergence.at == float("-inf")
        await clock.advance(LOOK_EVERY)
        clock.jump(seconds)
    assert clock.divergence.at == float("-inf")


async def test_slow_drift_never_adds_up_to_a_divergence() -> None:
    clock = VirtualClock()
    remove = clock.divergence.listen(lambda: None)
    for _ in range(2000):
        await clock.advance(LOOK_EVERY)
        clock.jump(0.03)  # 500 ppm
    assert clock.divergence.at == float("-inf")
    remove()


async def test_listener_called_within_a_minute_and_once() -> None:
    clock = VirtualClock()
    calls: list[float] = []
    remove = clock.divergence.listen(lambda: calls.append(clock.monotonic()))
    second = clock.divergence.listen(lambda: None)
    clock.jump(SUSPENDED)
    jumped_at = clock.monotonic()
    assert clock.divergence.at == jumped_at
    assert calls == [], "a look in between takes nothing from the listeners"
    await clock.advance(LOOK_EVERY)
    assert calls == [jumped_at + LOOK_EVERY]
    await clock.advance(10 * LOOK_EVERY)
    assert len(calls) == 1
    remove()
    clock.jump(SUSPENDED)
    await clock.advance(LOOK_EVERY)
    assert len(calls) == 1
    second()
    await clock.advance(0)
    assert clock.pending == 0


async def test_divergence_before_the_first_listener_is_not_told() -> None:
    clock = VirtualClock()
    assert clock.divergence.at == float("-inf")
    clock.jump(SUSPENDED)
    calls: list[None] = []
    remove = clock.divergence.listen(lambda: calls.append(None))
    await clock.advance(2 * LOOK_EVERY)
    assert calls == []
    remove()


async def test_mark_is_new_once_for_each_divergence() -> None:
    clock = VirtualClock()
    clock.jump(SUSPENDED)
    mark = DivergenceMark(clock)
    assert not mark.is_new
    for _ in range(2):
        await clock.advance(1)
        clock.jump(-SUSPENDED)
        assert [mark.is_new, mark.is_new] == [True, False]


class FastWallClock(FastClock):
    """The clock of the demo, with the real time by hand."""

    real = 0.0
    speed = 20.0

    @override
    def now(self) -> datetime:
        return START + timedelta(seconds=self.real)

    @override
    def monotonic(self) -> float:
        return self.real * self.speed


def test_fast_clock_of_the_demo_declares_its_factor() -> None:
    clock = FastWallClock(FastWallClock.speed)
    undeclared = FastWallClock(1.0)
    for each in (clock, undeclared):
        assert each.divergence.at == float("-inf")
        each.real += LOOK_EVERY
    assert clock.divergence.at == float("-inf")
    assert undeclared.divergence.at == undeclared.monotonic()


async def test_clock_of_the_machine_agrees_with_itself() -> None:
    clock = SystemClock()
    for _ in range(3):
        assert clock.divergence.at == float("-inf")
        await clock.sleep(0.01)


# What expires


@pytest.mark.parametrize("seconds", JUMPS)
async def test_live_values_leave_within_a_minute_and_configuration_stays(bench: Bench, seconds: float) -> None:
    bench.cloud.show(POWER, 7400.0)
    bench.clock.jump(seconds)
    await bench.clock.advance(LOOK_EVERY)
    assert (bench.status(), bench.snapshot.value(POWER)) == (None, None)
    assert bench.snapshot.value(CHARGING_CURRENT) == 16.0
    await bench.tell()
    assert bench.status() is Status.AVAILABLE
    await bench.clock.advance(10 * LOOK_EVERY)
    assert bench.status() is Status.AVAILABLE


async def test_live_values_of_before_gone_with_the_next_answer_of_others(bench: Bench) -> None:
    bench.clock.jump(SUSPENDED)
    bench.cloud.show(POWER, 0.0)
    assert (bench.status(), bench.snapshot.value(POWER)) == (None, 0.0)


@pytest.mark.parametrize("seconds", STEPS)
async def test_live_values_stay_when_the_clock_is_corrected(bench: Bench, seconds: float) -> None:
    bench.clock.jump(seconds)
    await bench.clock.advance(LOOK_EVERY)
    assert bench.status() is Status.AVAILABLE
    await bench.tell()
    bench.clock.jump(seconds)
    await bench.charger.restart()
    assert (bench.cloud.checks, bench.device.restarts) == (0, 1)


async def test_stopped_charger_waits_for_no_look(bench: Bench) -> None:
    await bench.charger.stop()
    assert bench.clock.pending == 0


# The restart


@pytest.mark.parametrize("seconds", JUMPS)
async def test_restart_refused_on_a_status_of_before(bench: Bench, seconds: float) -> None:
    await bench.tell()
    await bench.clock.advance(5)
    bench.clock.jump(seconds)
    bench.device.car = True
    assert await refusal(bench) == "restart_charging"
    assert bench.cloud.checks == 1
    assert bench.sent == []


async def test_restart_waits_for_the_next_report(bench: Bench) -> None:
    bench.clock.jump(SUSPENDED)
    bench.cloud.check_error = TransportBusy("no_room", 30)
    assert await refusal(bench) == "no_room"
    await bench.clock.advance(LOOK_EVERY)
    assert availability(bench) is RestartAvailability.STATUS_UNKNOWN
    await bench.tell()
    assert availability(bench) is RestartAvailability.AVAILABLE
    await bench.charger.restart()
    assert bench.sent == [Restart()]


async def test_restart_needs_a_report_of_the_charger_not_an_answer_of_the_cloud(bench: Bench) -> None:
    bench.clock.jump(SUSPENDED)
    bench.cloud.tell = lambda *_, **__: FakeTransport.tell(bench.cloud, synced_ago=None)  # type: ignore[method-assign]
    assert await refusal(bench) == "restart_status_unknown"


async def test_restart_refused_when_the_host_was_suspended_while_saving(bench: Bench) -> None:
    save = bench._save

    async def suspended(intents: dict[str, object]) -> None:
        await save(intents)
        bench.clock.jump(SUSPENDED)
        await bench.clock.advance(1)
        bench.device.car = True

    bench.charger._context.intents._save = suspended
    assert await refusal(bench) == "restart_status_unknown"


async def test_flowing_power_of_another_transport_still_refuses(bench: Bench) -> None:
    """The clock was set, nothing was suspended: that report may be seconds old."""
    local = await bench.add(Source.LINKED)
    await bench.tell(Status.CHARGING, transport=local)
    bench.clock.jump(SUSPENDED)
    await bench.tell()
    assert await refusal(bench) == "restart_charging"


async def test_update_of_before_still_refuses(bench: Bench) -> None:
    local = await bench.add(Source.LINKED)
    await bench.tell(Status.UPDATING, transport=local)
    bench.clock.jump(SUSPENDED)
    await bench.tell()
    assert await refusal(bench) == "restart_updating"


# What keeps its duration


@pytest.mark.parametrize("seconds", JUMPS)
async def test_cooldown_keeps_its_duration(bench: Bench, seconds: float) -> None:
    await bench.charger.restart()
    await bench.tell(Status.OFFLINE)
    await bench.poll()
    pressed = bench.clock.monotonic() - 60
    bench.clock.jump(seconds)
    await bench.tell()
    while bench.clock.monotonic() < pressed + COOLING_DOWN:
        assert bench.snapshot.restart is RestartAvailability.COOLING_DOWN
        await bench.clock.advance(min(60.0, pressed + COOLING_DOWN - bench.clock.monotonic()))
        await bench.tell()
    assert bench.snapshot.restart is RestartAvailability.AVAILABLE


@pytest.mark.parametrize("seconds", JUMPS)
async def test_override_and_pause_stay(seconds: float) -> None:
    bench = Bench(options=ChargerOptions())
    await bench.start()
    await bench.charger.set_override(True, until=Until.UNPLUGGED)
    await bench.poll(2)
    bench.clock.jump(seconds)
    await bench.clock.advance(LOOK_EVERY)
    await bench.poll(3)
    assert bench.snapshot.override.on
    assert bench.device.manual is Manual.CHARGE
    assert bench.reasons == []
