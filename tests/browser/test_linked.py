"""An outage with local control: an override over linked entities, a `kill -9`, and the commands to the cloud later."""

from playwright.async_api import Browser, Page, expect
import pytest

from tests.browser.harness import (
    LOADING_TIME,
    Demo,
    Visit,
    connection_reads,
    section_of,
    sees,
    tile,
    within,
    world_becomes,
)

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

# Seconds on the demo's clock (docs/design.md, section 10).
FIRST_ROUND = 600.0
NOTICED = 45.0 + 120.0
FAILBACK = 150.0
OVER_THE_LINK = 15.0
OVER_THE_CLOUD = 120.0
POLLS = 4
"""Number of the cloud's answers after which any needed command would have been sent."""
POWER_CUT = ("The system could not validate that the sqlite3 database", "Ended unfinished session")
"""Messages of the recorder after a `kill -9`."""


class Evening(Visit):
    """The charger that waits for the night, on the dashboard and in the world."""

    def __init__(self, page: Page, world: Page, demo: Demo) -> None:
        super().__init__(page, world, demo)
        self.charger = section_of(page, "Driveway")
        self.earlier = 0

    async def sees(self, name: str, text: str, *, within_seconds: float) -> None:
        """Check that a tile shows a text in time."""
        await sees(self.charger, name, text, within_seconds=within_seconds)

    async def cloud_is(self, word: str, *, within_seconds: float) -> None:
        """Check that the dashboard shows this connection state with the cloud."""
        await connection_reads(self.charger, word, within_seconds=within_seconds)

    async def toggle_override(self) -> None:
        """Press "Charge now"."""
        await tile(self.charger, "Charge now").get_by_role("switch").click()

    async def commands(self) -> list[str]:
        """Return the commands for the charger in the log of the simulated cloud, since `earlier`."""
        chargers = (await self.state())["chargers"]
        found: list[str] = next(charger["commands"] for charger in chargers if charger["key"] == "driveway")
        return found[self.earlier :]

    async def polls(self) -> None:
        """Wait for some more answers of the cloud."""
        answered = (await self.state())["answered"] + POLLS
        await world_becomes(self.world, f"world.answered >= {answered}", within_seconds=120.0 * (POLLS + 1))

    async def world_says(self, text: str) -> None:
        """Check that the control page shows a text for the charger."""
        section = self.world.locator("section", has=self.world.get_by_role("heading", name="Driveway"))
        await expect(section.last).to_contain_text(text, timeout=within(120.0))


@pytest.mark.timeout(200)
async def test_override_over_linked_entities_survives_outage_and_kill(browser: Browser, linked_demo: Demo) -> None:
    evening = await Evening.begin(browser, linked_demo)
    await evening.sees("Status", "Waiting for schedule", within_seconds=FIRST_ROUND)
    await evening.cloud_is("Connected", within_seconds=FIRST_ROUND)
    await evening.sees(
        "Charging current", "20 A", within_seconds=FIRST_ROUND
    )  # lowered to the limit, over either transport
    evening.earlier = len(await evening.commands())
    await override_in_an_outage(evening)
    await kill_home_assistant(evening)
    await heal_with_the_override_in_force(evening)
    await hand_back(evening)
    await override_in_an_outage(evening)
    await lose_power_and_the_local_path(evening)
    await heal_with_the_charger_under_its_schedule(evening)
    complaints = linked_demo.complaints()
    assert [line for line in complaints if not any(text in line for text in POWER_CUT)] == []
    assert await linked_demo.interrupt() == 0


async def override_in_an_outage(evening: Evening) -> None:
    before = await evening.commands()
    await evening.change("/cloud/down")
    await evening.cloud_is("Disconnected", within_seconds=NOTICED)
    await evening.sees("Status", "Waiting for schedule", within_seconds=OVER_THE_LINK)
    await evening.toggle_override()
    await evening.sees("Charge now", "On", within_seconds=OVER_THE_LINK)
    await evening.sees("Status", "Charging", within_seconds=OVER_THE_LINK)
    await evening.world_says("charging · 11")
    assert await evening.commands() == before


async def kill_home_assistant(evening: Evening) -> None:
    await evening.change("/home-assistant/kill")
    assert (await evening.state())["home_assistant"]["starts"] == 2
    await evening.page.reload()
    await expect(tile(evening.charger, "Charge now")).to_contain_text("On", timeout=LOADING_TIME)
    await evening.sees("Status", "Charging", within_seconds=OVER_THE_LINK)
    await evening.cloud_is("Disconnected", within_seconds=NOTICED)
    await evening.world_says("charging · 11")


async def heal_with_the_override_in_force(evening: Evening) -> None:
    await evening.change("/heal")
    await evening.cloud_is("Connected", within_seconds=FAILBACK)
    await evening.polls()
    await evening.sees("Charge now", "On", within_seconds=OVER_THE_CLOUD)
    await evening.sees("Status", "Charging", within_seconds=OVER_THE_CLOUD)
    assert await evening.commands() == [], "it charges: there is nothing to tell the cloud"


async def hand_back(evening: Evening) -> None:
    await evening.toggle_override()
    await evening.sees("Charge now", "Off", within_seconds=OVER_THE_CLOUD)
    await evening.sees("Status", "Waiting for schedule", within_seconds=OVER_THE_CLOUD)
    assert [command.rpartition(" ")[2] for command in await evening.commands()] == ['{"action":9}']


async def lose_power_and_the_local_path(evening: Evening) -> None:
    await evening.change("/chargers/driveway/local-lost")
    await evening.change("/chargers/driveway/power-cycle")
    await evening.sees("Status", "Unknown", within_seconds=OVER_THE_CLOUD)
    await evening.sees("Charge now", "On", within_seconds=OVER_THE_LINK)
    await evening.world_says("waiting schedule")


async def heal_with_the_charger_under_its_schedule(evening: Evening) -> None:
    before = await evening.commands()
    await evening.change("/cloud/up")
    await evening.cloud_is("Connected", within_seconds=FAILBACK)
    await evening.sees("Status", "Charging", within_seconds=OVER_THE_CLOUD)
    await evening.polls()
    sent = (await evening.commands())[len(before) :]
    assert [command.rpartition(" ")[2] for command in sent] == ['{"action":1}'], "exactly once"
    await evening.sees("Charge now", "On", within_seconds=OVER_THE_CLOUD)
    await evening.world_says("charging · 11")
