"""Fixtures for every test."""

import asyncio

import pytest


@pytest.fixture(autouse=True)
async def enable_event_loop_debug(request: pytest.FixtureRequest) -> None:
    """Debug the loop only in tests with Home Assistant, where it detects misuse of threads.

    This replaces the fixture of the plugin. Debugging records the stack of each callback. The other tests have no
    threads, and run for days on a virtual clock: debugging would make them half as long again.
    """
    asyncio.get_running_loop().set_debug("hass" in request.fixturenames)
