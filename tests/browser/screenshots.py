"""Takes the README's pictures from the demo: `scripts/screenshots`."""

import asyncio
from pathlib import Path
import sys
from tempfile import TemporaryDirectory

from playwright.async_api import Browser, Page, expect

from tests.browser.harness import LOADING_TIME, ROOT, Demo, chromium, developed, new_page, section_of, sign_in, tile

IMAGES = ROOT / "docs" / "images"
FACTOR = 40.0
SETTLED = 30_000.0  # milliseconds until every charger's state has arrived
WIDE = (1240, 800)
NARROW = (360, 800)
ALMOST_ALL = 1_000  # pixels that a dashboard may scroll further than a screenful


async def all_chargers(page: Page) -> None:
    """Wait until the dashboard shows what the simulated chargers do."""
    for charger, status in (("Garage", "Available"), ("Driveway", "Waiting for schedule"), ("Carport", "Charging")):
        await expect(tile(section_of(page, charger), "Status")).to_contain_text(status, timeout=SETTLED)


async def dashboard(browser: Browser, demo: Demo) -> None:
    """The dashboard in light and dark, and as a telephone shows it."""
    for name, scheme, (width, height) in (
        ("dashboard-light", "light", WIDE),
        ("dashboard-dark", "dark", WIDE),
        ("dashboard-narrow", "light", NARROW),
    ):
        page = await new_page(browser, width=width, height=height, scheme=scheme)
        await sign_in(page, demo)
        await all_chargers(page)
        await save(page, name)
        await page.context.close()
