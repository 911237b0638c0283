"""The machine's clock: the one place where real time comes in."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from custom_components.chargekeeper.core.clock import SystemClock


async def test_it_is_the_time_of_the_machine() -> None:
    clock = SystemClock()
    begun = clock.monotonic()
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=10)
    assert clock.now().tzinfo is UTC
    await clock.sleep(0)
    called = asyncio.Event()
    clock.call_later(0, called.set)
    await called.wait()
    assert clock.monotonic() >= begun


async def test_what_was_cancelled_is_not_called() -> None:
    clock = SystemClock()
    called: list[str] = []
    cancel = clock.call_later(0, lambda: called.append("cancelled"))
    clock.call_later(0, lambda: called.append("not cancelled"))
    cancel()
    while not called:
        await clock.sleep(0)
    assert called == ["not cancelled"]


async def test_a_timeout_ends_what_takes_longer() -> None:
    with pytest.raises(TimeoutError):
        async with SystemClock().timeout(0):
            await asyncio.Event().wait()
