"""Take the pictures of the README from the demo: `scripts/screenshots`."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
import sys
from tempfile import TemporaryDirectory

from playwright.async_api import Browser, Page, expect

from tests.browser.harness import (
    LOADING_TIME,
    ROOT,
    Demo,
    change_world,
    chromium,
    developed,
    new_page,
    section_of,
    sign_in,
    tile,
)

IMAGES = ROOT / "docs" / "images"
SETTLED = 60_000.0  # milliseconds until a change of the world shows on the dashboard
WIDE = (1500, 860)
NARROW = (360, 800)
BOX_HEIGHT = 1275
ADD_ACCOUNT = "/config/integrations/dashboard/add?domain=chargekeeper"


async def see(page: Page, *statuses: str) -> None:
    """Wait until the dashboard shows these statuses of the three chargers."""
    for charger, status in zip(("Garage", "Driveway", "Carport"), statuses, strict=True):
        await expect(tile(section_of(page, charger), "Status")).to_contain_text(status, timeout=SETTLED)


async def save(page: Page, name: str) -> None:
    """Save a picture of the page without traces of the pointer."""
    await page.mouse.move(0, 0)
    await page.screenshot(path=IMAGES / f"{name}.png", animations="disabled")
    sys.stdout.write(f"docs/images/{name}.png\n")


async def dashboards(browser: Browser, demo: Demo) -> None:
    """Take the dashboard in light and dark, and on a telephone."""
    for name, dark, (width, height) in (
        ("dashboard-light", False, WIDE),
        ("dashboard-dark", True, WIDE),
        ("dashboard-narrow", False, NARROW),
    ):
        page = await new_page(browser, width=width, height=height, scheme="dark" if dark else "light")
        await sign_in(page, demo)
        await see(page, "Available", "Waiting for schedule", "Charging")
        await save(page, name)
        await page.context.close()


async def account_form(browser: Browser, demo: Demo) -> None:
    """Take the form that adds an account."""
    page = await new_page(browser, width=900, height=700)
    await sign_in(page, demo)
    await page.goto(demo.url + ADD_ACCOUNT)
    await page.get_by_role("button", name="OK").click(timeout=LOADING_TIME)
    await page.get_by_text("Wallbox account").last.click()
    await page.get_by_role("textbox", name="E-mail").fill("you@example.com")
    for text in ("All chargers of the account are added", "The e-mail address of", "share the charger with it"):
        await expect(page.get_by_text(text)).to_be_visible(timeout=LOADING_TIME)  # shown after the fields
    await save(page, "add-account")
    await page.context.close()


async def outage(browser: Browser, demo: Demo) -> None:
    """Take the dashboard some time after the loss of the cloud."""
    page = await new_page(browser, width=WIDE[0], height=WIDE[1])
    await sign_in(page, demo)
    await change_world(page, demo, "/cloud/down")
    await see(page, "Available", "Waiting for schedule", "Unknown")
    await save(page, "outage")
    await page.context.close()


async def box(browser: Browser, demo: Demo) -> None:
    """Take the page of a JuiceBox that charges by an override while the manufacturer's server is down."""
    page = await new_page(browser, width=WIDE[0], height=BOX_HEIGHT)
    await sign_in(page, demo)
    await page.goto(f"{demo.url}/lovelace/juiceboxes")
    workshop = section_of(page, "Workshop")
    await change_world(page, demo, "/maker/down")
    await expect(tile(workshop, "Last change")).to_contain_text("taken over", timeout=SETTLED)
    await tile(workshop, "Charge now").get_by_role("switch").click()
    await expect(tile(workshop, "Status")).to_contain_text("Charging", timeout=SETTLED)
    device = await page.evaluate(
        """() => Object.values(document.querySelector("home-assistant").hass.devices)
            .find((device) => device.name === "Workshop").id"""
    )
    await page.goto(f"{demo.url}/config/devices/device/{device}")
    for text in ("Session energy", "Charger taken over locally"):
        await expect(page.get_by_text(text).first).to_be_visible(timeout=LOADING_TIME)
    await save(page, "juicebox")
    await page.context.close()


async def take(names: Sequence[str]) -> None:
    """Take the pictures of these parts, or all pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    parts = {"dashboard": dashboards, "account": account_form, "outage": outage, "juicebox": box}
    with TemporaryDirectory() as directory:
        async with developed(Path(directory) / "develop") as demo, chromium() as browser:
            for name, part in parts.items():
                if not names or name in names:
                    await part(browser, demo)


if __name__ == "__main__":
    asyncio.run(take(sys.argv[1:]))
