"""The three chargers of the demo in Chromium: from the first status through an outage to its end."""

import re

from playwright.async_api import Browser, Locator, Page, expect
import pytest

from tests.browser.harness import LOADING_TIME, Demo, Visit, connection_reads, section_of, sees, tile, within

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

# Seconds on the demo's clock (docs/design.md, sections 4, 5 and 10).
FIRST_ROUND = 600.0  # one status per charger, a minute and a groups poll apart
LIVE_AGE = 900.0
RESTART_LIMIT = 600.0
NOTICED = 45.0 + 120.0  # the next poll is up to 120 s away
FAILBACK = 150.0
READ_BACK = 120.0

REFUSAL = "[homeassistant.components.websocket_api.http.connection]"
"""The logger of actions that Home Assistant refuses to a user."""


class Dashboard(Visit):
    """The three chargers on the user's dashboard."""

    def __init__(self, page: Page, world: Page, demo: Demo) -> None:
        super().__init__(page, world, demo)
        self.garage = section_of(page, "Garage")
        self.driveway = section_of(page, "Driveway")
        self.carport = section_of(page, "Carport")

    async def press_restart(self, charger: Locator) -> None:
        await tile(charger, "Restart").click()
        await self.page.get_by_role("button", name="OK").click()

    async def read_message(self, text: re.Pattern[str]) -> None:
        """Check that a message at the edge of the screen matches a pattern."""
        message = self.page.locator("notification-manager .message")
        await expect(message).to_have_text(text, timeout=within(READ_BACK))


@pytest.mark.timeout(280)
async def test_dashboard_shows_three_chargers_correctly_through_outage(browser: Browser, demo: Demo) -> None:
    seen = await Dashboard.begin(browser, demo)
    await see_three_chargers(seen)
    await restart_the_free_one(seen)
    await be_refused_at_the_charging_one(seen)
    await override_the_waiting_one(seen)
    await lose_the_cloud(seen)
    await restart_home_assistant_in_the_outage(seen)
    await get_the_cloud_back(seen)
    refusals, others = _split(demo.complaints())
    assert others == []
    assert len(refusals) == 2, refusals
    assert await demo.interrupt() == 0
    assert demo.last_report[-1] == "stopped"


async def see_three_chargers(seen: Dashboard) -> None:
    for charger, status in (
        (seen.garage, "Available"),
        (seen.driveway, "Waiting for schedule"),
        (seen.carport, "Charging"),
    ):
        await sees(charger, "Status", status, within_seconds=FIRST_ROUND)
        await connection_reads(charger, "Connected", within_seconds=0)
    await seen.whole()
    await expect(tile(seen.carport, "Power")).to_contain_text("11,040 W")
    await expect(tile(seen.driveway, "Load group")).to_contain_text("20 A")
    await expect(tile(seen.driveway, "In force now")).to_contain_text("20 A · Set in ChargeKeeper")
    await expect(tile(seen.driveway, "House")).to_contain_text("25 A")
    await expect(tile(seen.garage, "Wire rating")).to_contain_text("32 A · Cloud")


async def restart_the_free_one(seen: Dashboard) -> None:
    await expect(tile(seen.garage, "Possible")).to_contain_text("Yes", timeout=within(READ_BACK))
    await seen.press_restart(seen.garage)
    await expect(tile(seen.garage, "Status")).to_contain_text("Restarting", timeout=within(READ_BACK))
    await expect(tile(seen.garage, "Last restart")).to_contain_text("Restart confirmed", timeout=within(RESTART_LIMIT))
    await expect(tile(seen.garage, "Status")).to_contain_text("Available", timeout=within(READ_BACK))
    await expect(tile(seen.garage, "Possible")).to_contain_text("Just restarted")


async def be_refused_at_the_charging_one(seen: Dashboard) -> None:
    await expect(tile(seen.carport, "Possible")).to_contain_text("Not while charging")
    await seen.press_restart(seen.carport)
    await seen.read_message(re.compile("Carport was not restarted: .* charging"))
    await expect(tile(seen.carport, "Status")).to_contain_text("Charging")


async def override_the_waiting_one(seen: Dashboard) -> None:
    await tile(seen.driveway, "Charge now").get_by_role("switch").click()
    await expect(tile(seen.driveway, "Charge now")).to_contain_text("On", timeout=within(READ_BACK))
    await expect(tile(seen.driveway, "Status")).to_contain_text("Charging", timeout=within(READ_BACK))


async def lose_the_cloud(seen: Dashboard) -> None:
    await seen.change("/cloud/down")
    for charger in (seen.garage, seen.driveway, seen.carport):
        await expect(charger.locator("hui-heading-card").first).to_contain_text("Disconnected", timeout=within(NOTICED))
        await expect(tile(charger, "Wire rating")).to_contain_text("A · Last known")
    for charger in (seen.carport, seen.driveway):
        await expect(tile(charger, "Power")).to_contain_text("Unavailable", timeout=within(LIVE_AGE))
        await expect(tile(charger, "Status")).to_contain_text("Unknown", timeout=within(READ_BACK))
    await seen.press_restart(seen.garage)
    await seen.read_message(re.compile("Cannot reach Garage: the cloud has been down since"))


async def restart_home_assistant_in_the_outage(seen: Dashboard) -> None:
    await seen.change("/home-assistant/restart")
    await seen.page.reload()
    await expect(tile(seen.garage, "Wire rating")).to_contain_text("32 A · Last known", timeout=LOADING_TIME)
    await expect(tile(seen.carport, "In force now")).to_contain_text("16 A · Last known")
    await expect(tile(seen.driveway, "House")).to_contain_text("25 A · Last known")
    await expect(tile(seen.driveway, "Load group")).to_contain_text("20 A")
    await expect(tile(seen.driveway, "Charge now")).to_contain_text("On")
    await expect(tile(seen.carport, "Power")).to_contain_text("Unavailable")


async def get_the_cloud_back(seen: Dashboard) -> None:
    await seen.change("/heal")
    await expect(tile(seen.carport, "Power")).to_contain_text("11,040 W", timeout=within(FAILBACK))
    await expect(tile(seen.carport, "Status")).to_contain_text("Charging", timeout=within(READ_BACK))
    await expect(tile(seen.carport, "Wire rating")).to_contain_text("A · Cloud", timeout=within(READ_BACK))
    await expect(tile(seen.driveway, "Status")).to_contain_text("Charging", timeout=within(READ_BACK))
    await expect(tile(seen.garage, "Status")).to_contain_text("Available", timeout=within(READ_BACK))


def _split(complaints: list[str]) -> tuple[list[str], list[str]]:
    """Return the lines about refused actions, and all other lines."""
    return [line for line in complaints if REFUSAL in line], [line for line in complaints if REFUSAL not in line]
