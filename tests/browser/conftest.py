"""The demo and the browser for tests; without Chromium, tests are skipped, or fail in CI."""

from collections.abc import AsyncIterator
import os
from pathlib import Path

from playwright.async_api import Browser
import pytest

from tests.browser.harness import CHROMIUM, Demo, chromium, developed


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        reason = "there is no Chromium: scripts/setup --browser installs it on Debian, run as root"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    async with chromium() as opened:
        yield opened


@pytest.fixture
async def demo(browser: Browser, socket_enabled: None, tmp_path: Path) -> AsyncIterator[Demo]:
    async with developed(tmp_path / "develop") as running:
        yield running


@pytest.fixture
async def linked_demo(browser: Browser, socket_enabled: None, tmp_path: Path) -> AsyncIterator[Demo]:
    """Yield the demo with local control of one charger."""
    async with developed(tmp_path / "develop", linked=True) as running:
        yield running
