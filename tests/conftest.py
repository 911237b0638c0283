"""What holds for every test."""

import asyncio

import pytest


@pytest.fixture(autouse=True)
async def enable_event_loop_debug(request: pytest.FixtureRequest) -> None:
    """Debug the loop in the tests with Home Assistant, whose threads are watched so; replaces the plugin's fixture.

    That notes the stack of each callback. Nothing below Home Assistant has a thread, and those tests run for days on a
    virtual clock, which would take half as long again.
    """
    asyncio.get_running_loop().set_debug("hass" in request.fixturenames)
