"""The clock of the machine: the only source of real time."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from custom_components.chargekeeper.core.clock import SystemClock


async def test_system_clock_follows_machine_time() -> None:
    clock = SystemClock()
    begun = clock.monotonic()
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=10)
    assert clock.now().tzinfo is UTC
    await clock.sleep(0)
    called = asyncio.Event()
    clock.call_later(0, called.set)
    await called.wait()
    assert clock.monotonic() >= begun


async def test_cancelled_timer_not_called() -> None:
    clock = SystemClock()
    called: list[str] = []
    cancel = clock.call_later(0, lambda: called.append("cancelled"))
    clock.call_later(0, lambda: called.append("not cancelled"))
    cancel()
    while not called:
        await clock.sleep(0)
    assert called == ["not cancelled"]


async def test_timeout_ends_longer_wait() -> None:
    with pytest.raises(TimeoutError):
        async with SystemClock().timeout(0):
            await asyncio.Event().wait()
