"""A duration that survives a restart of Home Assistant is neither void nor endless because the wall clock jumped."""

from datetime import timedelta
from pathlib import Path

import pytest

from custom_components.chargekeeper.core import clock as clock_module
from custom_components.chargekeeper.core.charger.restart import AWAY_WITHIN, BACK_WITHIN, COOLING_DOWN
from custom_components.chargekeeper.core.charger.restart_service import INSTALL_WITHIN
from custom_components.chargekeeper.core.clock import BootTime, Clock, SystemClock, latest_monotonic_of, monotonic_of
from custom_components.chargekeeper.core.errors import ChargerError
from custom_components.chargekeeper.core.model import RestartAvailability, Status
from tests.core.fake_transport import Bench
from tests.simulators.clock import FastClock, VirtualClock

JUMPS = [0.0, 86400.0, -86400.0, 365 * 86400.0, -365 * 86400.0]


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    bench.device.windows = ()
    bench.device.car = False
    await bench.start()
    return bench


def availability(bench: Bench) -> RestartAvailability:
    """Return what the sensor shows."""
    return bench.snapshot.restart


async def restarted(bench: Bench) -> float:
    """Restart the charger, and return the time of the press."""
    pressed_at = bench.clock.monotonic()
    await bench.charger.restart()
    await bench.tell(Status.OFFLINE)
    await bench.poll()
    return pressed_at


@pytest.mark.parametrize("seconds", JUMPS)
async def test_cooldown_exact_over_a_jump_and_a_start_of_home_assistant(bench: Bench, seconds: float) -> None:
    pressed_at = await restarted(bench)
    bench.clock.jump(seconds)
    await bench.restart_home_assistant(down_for=100)
    with pytest.raises(ChargerError, match="restart_cooling_down"):
        await bench.charger.restart()
    await bench.clock.advance(pressed_at + COOLING_DOWN - 1 - bench.clock.monotonic())
    assert availability(bench) is RestartAvailability.COOLING_DOWN
    await bench.clock.advance(1)
    assert availability(bench) is RestartAvailability.AVAILABLE


async def test_cooldown_goes_on_while_the_host_is_suspended_and_home_assistant_down(bench: Bench) -> None:
    await restarted(bench)
    bench.clock.suspend(COOLING_DOWN)
    await bench.restart_home_assistant()
    assert availability(bench) is RestartAvailability.AVAILABLE


@pytest.mark.parametrize("seconds", JUMPS)
async def test_cooldown_from_the_boot_of_the_host_after_another_boot(bench: Bench, seconds: float) -> None:
    await restarted(bench)
    boot_the_host(bench.clock)
    bench.clock.jump(seconds)
    await bench.restart_home_assistant(down_for=100)
    assert availability(bench) is RestartAvailability.COOLING_DOWN
    await bench.clock.advance(COOLING_DOWN - 100)
    await bench.tell()
    assert availability(bench) is RestartAvailability.AVAILABLE


def boot_the_host(clock: VirtualClock) -> None:
    """Boot the host anew now."""
    clock.boot = "second boot"
    clock._suspended = -clock.monotonic()


@pytest.mark.parametrize("seconds", JUMPS)
async def test_watch_goes_on_where_it_was_over_a_jump(bench: Bench, seconds: float) -> None:
    await bench.charger.restart()
    await bench.clock.advance(30)
    bench.clock.jump(seconds)
    await bench.tell(Status.OFFLINE)
    await bench.clock.advance(1)
    bench.clock.jump(seconds)
    await bench.restart_home_assistant(down_for=AWAY_WITHIN, tell=False)
    assert bench.status() is Status.RESTARTING
    await bench.poll()
    assert bench.events.count("verified") == 1


@pytest.mark.parametrize("seconds", JUMPS)
async def test_watch_ends_at_its_time_over_a_jump(bench: Bench, seconds: float) -> None:
    await bench.charger.restart()
    bench.clock.jump(seconds)
    await bench.restart_home_assistant(down_for=5, tell=False)
    await bench.clock.advance(BACK_WITHIN - 6)
    assert "failed" not in bench.events
    await bench.clock.advance(1)
    assert "failed" in bench.events


@pytest.mark.parametrize("seconds", JUMPS)
async def test_install_bars_a_restart_for_its_time_over_a_jump(bench: Bench, seconds: float) -> None:
    bench.cloud.acked_only = True
    await bench.charger.install()
    bench.clock.jump(seconds)
    await bench.restart_home_assistant(down_for=5)
    await bench.clock.advance(INSTALL_WITHIN - 6)
    await bench.tell()
    assert availability(bench) is RestartAvailability.UPDATING
    await bench.clock.advance(1)
    assert availability(bench) is RestartAvailability.AVAILABLE


async def test_stored_moment_of_another_boot_is_dated_by_the_wall_clock() -> None:
    clock = VirtualClock()
    at, boot_time = clock.now(), clock.boot_time()
    await clock.advance(500)
    assert monotonic_of(clock, at, boot_time) == latest_monotonic_of(clock, at, boot_time) == clock.monotonic() - 500
    assert monotonic_of(clock, at) == latest_monotonic_of(clock, at, None) == clock.monotonic() - 500
    boot_the_host(clock)
    await clock.advance(20)
    assert monotonic_of(clock, at, boot_time) == clock.monotonic() - 520
    assert latest_monotonic_of(clock, at, boot_time) == clock.monotonic() - 20
    assert monotonic_of(clock, clock.now() + timedelta(hours=1)) == clock.monotonic()


def test_fast_clock_counts_stored_moments_by_its_factor() -> None:
    clock = FastClock(20.0)
    assert clock.monotonic() - monotonic_of(clock, clock.now() - timedelta(seconds=10)) == pytest.approx(200, abs=5)


def test_boot_of_this_machine_is_named_and_its_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = SystemClock().boot_time()
    assert isinstance(before, BootTime)
    after = SystemClock().boot_time()
    assert after is not None
    assert (after.boot, after.seconds >= before.seconds > 0) == (before.boot, True)
    monkeypatch.setattr(clock_module, "_boot_id", lambda: None)
    assert SystemClock().boot_time() is None
    assert Clock.boot_time(SystemClock()) is None


def test_host_without_a_boot_id_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "BOOT_ID", Path("/proc/none/of/that"))
    assert clock_module._boot_id.__wrapped__() is None
