"""Two JuiceBoxes on one circuit: their manufacturer's server fails, we serve them, and the server gets them back."""

from datetime import UTC, datetime, timedelta
from typing import Any, override

from playwright.async_api import Browser, Locator, Page, expect
import pytest

from tests.browser import harness
from tests.browser.harness import FACTOR, LOADING_TIME, Demo, Visit, connection_reads, section_of, tile, world_becomes

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

# Seconds on the demo's clock (docs/design.md, sections 5, 6 and 10).
SHOWN = 90.0  # a command shows by the first or second status after the next
TAKEN_OVER = 120.0
SWITCHED = 300.0 + SHOWN  # the guard time between a start and a stop
HANDED_BACK = 180.0
OVERRIDE_LASTS = timedelta(seconds=8)  # of the wall clock, which is real in the demo

SERVER_LIMIT = 16  # A; set by the owner of the boxes at the manufacturer's server
SHARE = 20  # A; the share of each box in the load group
ANSWERS = 5
"""Number of answers of the manufacturer's server that the box must not get."""


class Yard(Visit):
    """The two boxes, on the dashboard and in the world."""

    def __init__(self, page: Page, world: Page, demo: Demo) -> None:
        super().__init__(page, world, demo)
        self.barn = section_of(page, "Barn")
        self.workshop = section_of(page, "Workshop")

    @override
    async def state(self) -> dict[str, Any]:
        """Return the present boxes by name, and their circuit."""
        found = await super().state()
        return {"circuit": found["circuit"], **{box["key"]: box for box in found["boxes"]}}

    async def until(self, condition: str, *, within_seconds: float) -> None:
        """Wait until an expression over `barn`, `workshop` and `circuit` holds in the world."""
        over = "({boxes: [barn, workshop], circuit})"
        await world_becomes(self.world, f"({over} => {condition})(world)", within_seconds=within_seconds)

    async def server_is(self, word: str, *, within_seconds: float) -> None:
        """Check that the dashboard shows this connection state with the manufacturer's server for both boxes."""
        for box in (self.barn, self.workshop):
            await connection_reads(box, word, within_seconds=within_seconds)


async def sees(box: Locator, name: str, text: str, *, within_seconds: float = SHOWN) -> None:
    """Check that a tile shows a text, by default within the time that a command needs."""
    await harness.sees(box, name, text, within_seconds=within_seconds)


@pytest.mark.timeout(200)
async def test_boxes_served_within_group_limit_while_server_is_down(browser: Browser, demo: Demo) -> None:
    yard = await Yard.begin(browser, demo)
    await yard.page.goto(f"{demo.url}/lovelace/juiceboxes")
    await see_the_server_command(yard)
    before = await yard.state()
    await lose_the_server(yard)
    await override_outside_of_the_window(yard)
    await use_all_that_the_group_allows(yard)
    await get_the_server_back(yard)
    await end_the_override(yard)
    await be_commanded_by_the_server(yard)
    after = await yard.state()
    assert (after["circuit"]["peak"], after["circuit"]["seconds_above"]) == (2 * SHARE, 0)
    for box in ("barn", "workshop"):
        assert after[box]["fallbacks"] == before[box]["fallbacks"], "it was never alone"
        assert (after[box]["writes"], after[box]["stored"]) == (0, before[box]["stored"])
    assert demo.complaints() == []
    assert await demo.interrupt() == 0


async def see_the_server_command(yard: Yard) -> None:
    """Check that one box charges in its hours, and the other after the owner allows it in the manufacturer's app."""
    await sees(yard.barn, "Status", "Charging")
    await sees(yard.workshop, "Status", "Waiting for schedule")
    await yard.whole()
    await yard.server_is("Connected", within_seconds=SHOWN)
    await yard.change("/boxes/workshop/maker-always")
    for box in (yard.barn, yard.workshop):
        await sees(box, "Status", "Charging")
        await sees(box, "Current", f"{SERVER_LIMIT}.0 A")
        await sees(box, "Load group", f"{SHARE} A")
        await sees(box, "Connection", "Cloud")


async def lose_the_server(yard: Yard) -> None:
    """Stop the server: both boxes are served; outside its window, a box gets the command to pause repeatedly."""
    await yard.change("/maker/down")
    await yard.server_is("Disconnected", within_seconds=TAKEN_OVER)
    for box in (yard.barn, yard.workshop):
        await sees(box, "Connection", "Local network")
        await sees(box, "Last change", "Charger taken over locally")
    await yard.until("workshop.told.online === 0 && workshop.amperes === 0", within_seconds=SWITCHED)
    await sees(yard.workshop, "Status", "Waiting for schedule")
    index = (await yard.state())["workshop"]["told"]["index"]
    await yard.until(f"workshop.told.index >= {index + 3} && workshop.told.online === 0", within_seconds=SHOWN)
    await sees(yard.barn, "Status", "Charging")
    await yard.until(f"barn.served && barn.amperes === {SERVER_LIMIT}", within_seconds=SHOWN)


async def override_outside_of_the_window(yard: Yard) -> None:
    """Switch the override on at the dashboard."""
    await tile(yard.workshop, "Charge now").get_by_role("switch").click()
    await sees(yard.workshop, "Charge now", "On")
    await sees(yard.workshop, "Status", "Charging")
    await yard.until(f"workshop.amperes === {SERVER_LIMIT}", within_seconds=SHOWN)


async def use_all_that_the_group_allows(yard: Yard) -> None:
    """Set the highest current that the dashboard offers for each box: together the limit of the group."""
    for box in (yard.barn, yard.workshop):
        await tile(box, "Charging current").get_by_role("slider").press("End")
        await sees(box, "Charging current", f"{SHARE} A")
        await sees(box, "Current", f"{SHARE}.0 A")
    await yard.until("circuit.drawn === circuit.limit", within_seconds=SHOWN)


async def get_the_server_back(yard: Yard) -> None:
    """Start the server: one box returns to it at once; the other stays with us, as the server would stop its charge."""
    await yard.change("/boxes/workshop/maker-by-hours")
    stops = (await yard.state())["workshop"]["stops"]
    await yard.change("/maker/up")
    await yard.server_is("Connected", within_seconds=HANDED_BACK)
    await yard.until(f"barn.told.online === {SERVER_LIMIT}", within_seconds=HANDED_BACK)
    await sees(yard.barn, "Connection", "Cloud")
    answered = (await yard.state())["workshop"]["maker"]["answered"]
    overridden = f"workshop.told.online === {SHARE} && workshop.maker.told.online === 0"
    await yard.until(
        f"workshop.maker.answered >= {answered + ANSWERS} && {overridden} && workshop.amperes === {SHARE}",
        within_seconds=HANDED_BACK,
    )
    assert (await yard.state())["workshop"]["stops"] == stops, "it went on without a break"
    await sees(yard.workshop, "Charge now", "On")


async def end_the_override(yard: Yard) -> None:
    """Give the override an end time; after it, commands of the server reach the box unchanged."""
    await yard.page.evaluate(
        """async (until_time) => await document.querySelector("home-assistant").hass.callService(
            "chargekeeper", "set_tou_override", {enabled: true, until: "time", until_time},
            {entity_id: "switch.workshop_time_of_use_override"})""",
        (datetime.now(UTC) + OVERRIDE_LASTS).isoformat(),
    )
    await sees(yard.workshop, "Charge now", "On")
    await yard.until(f"workshop.amperes === {SHARE}", within_seconds=SHOWN)
    await sees(yard.workshop, "Charge now", "Off", within_seconds=OVERRIDE_LASTS.total_seconds() * FACTOR)
    await sees(yard.workshop, "Status", "Waiting for schedule", within_seconds=HANDED_BACK)
    for box in ("barn", "workshop"):
        same = f"JSON.stringify({box}.told) === JSON.stringify({box}.maker.told)"
        await yard.until(same, within_seconds=HANDED_BACK)
    await sees(yard.workshop, "Connection", "Cloud")


async def be_commanded_by_the_server(yard: Yard) -> None:
    """Check that a box follows the current of the server, up to its share in the group and the wire rating."""
    await yard.change("/boxes/workshop/maker-always")
    for box, name in ((yard.barn, "barn"), (yard.workshop, "workshop")):
        await yard.until(f"{name}.told.online === {SERVER_LIMIT}", within_seconds=SHOWN)
        await sees(box, "Status", "Charging")
        await sees(box, "Current", f"{SERVER_LIMIT}.0 A")
    for name in ("barn", "workshop"):
        await yard.change(f"/boxes/{name}/maker-30")
        await yard.until(f"{name}.maker.told.online === 30 && {name}.told.online === {SHARE}", within_seconds=SHOWN)
    await yard.change("/maker/unsafe")
    for name in ("barn", "workshop"):
        asked = (await yard.state())[name]["maker"]["answered"] + 2
        refused = f"{name}.maker.told.online === 80 && {name}.told.online === {SHARE}"
        await yard.until(f"{refused} && {name}.maker.answered >= {asked}", within_seconds=SHOWN)
    await yard.page.goto(f"{yard.demo.url}/config/repairs")
    for name in ("Barn", "Workshop"):
        title = f"The manufacturer's server requests too much current for {name}"
        await expect(yard.page.get_by_text(title)).to_be_visible(timeout=LOADING_TIME)
