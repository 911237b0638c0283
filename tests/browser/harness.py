"""The demo as a user meets it: `scripts/develop` as a process of its own, and Chromium in front of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import os
from pathlib import Path
import re
import shutil
import signal
import socket
from typing import Any, Literal, Self

from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from tests.simulators.demo.client import PASSWORD, USER

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The browser; `None` on a machine that has none."""
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
FACTOR = 40.0
"""How much faster time runs in the demo than for the test."""
SLACK = 10.0  # real seconds for two busy processors
READY = "Ctrl-C stops everything"
STARTING_TIME = 240.0  # real seconds; a slow machine sets up a Home Assistant in that
STOPPING_TIME = 60.0
LOADING_TIME = 60_000.0  # milliseconds; the frontend's first load
LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+ (?P<level>[A-Z]+) ")
HARMLESS = (
    "Skipping pip installation of required modules",
    "which has not been tested by Home Assistant",
    "zlib_ng and isal are not available",
)
"""Warnings that every Home Assistant of this kind begins with."""


class Demo:
    """`scripts/develop`, running."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path, ports: list[int]) -> None:
        self._process = process
        self._directory = directory
        self.url = f"http://127.0.0.1:{ports[0]}"
        self.control = f"http://127.0.0.1:{ports[1]}"
        self.last_report: list[str] = []
        """What it has printed."""

    async def wait_until_ready(self) -> None:
        """Wait for the introduction. Raises `AssertionError` when it ends instead."""
        await asyncio.wait_for(self._read_until(READY), STARTING_TIME)

    async def _read_until(self, text: str) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.last_report.append(line.decode().rstrip())
            if text in self.last_report[-1]:
                return
        raise AssertionError("\n".join(self.last_report))

    async def interrupt(self) -> int:
        """Press Ctrl-C and wait for its end; the exit code."""
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGINT)
        rest = await asyncio.wait_for(self._process.stdout.read(), STOPPING_TIME)
        self.last_report += rest.decode().splitlines()
        return await self._process.wait()

    def kill(self) -> None:
        """End it at once, where it has not ended by itself."""
        if self._process.returncode is None:
            self._process.kill()

    @property
    def log(self) -> str:
        """The log of all Home Assistants that it has started."""
        return (self._directory / "console.log").read_text(encoding="utf-8")

    def complaints(self) -> list[str]:
        """Lines of the log at warning or above, and what belongs to them, that are not harmless."""
        found: list[str] = []
        complaining = False
        for line in self.log.splitlines():
            if match := LOG_LINE.match(line):
                complaining = match["level"] not in {"DEBUG", "INFO"} and not any(text in line for text in HARMLESS)
            if complaining:
                found.append(line)
        return found


@asynccontextmanager
async def developed(directory: Path, *, linked: bool = False) -> AsyncIterator[Demo]:
    """Run `scripts/develop` on free ports with its files in `directory`, until the block is left.

    Args:
        directory: for its files.
        linked: whether a charger is given a local path.
    """
    ports = free_ports(3)
    options = dict(zip(("--port", "--control-port", "--cloud-port"), map(str, ports), strict=True))
    options |= dict(zip(("--box-port", "--maker-port"), map(str, free_ports(2, socket.SOCK_DGRAM)), strict=True))
    options |= {"--factor": str(FACTOR), "--directory": str(directory)}
    process = await asyncio.create_subprocess_exec(
        str(ROOT / "scripts" / "develop"),
        *(word for option in options.items() for word in option),
        *(["--linked"] if linked else []),
        cwd=directory.parent,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    demo = Demo(process, directory, ports)
    try:
        await demo.wait_until_ready()
        yield demo
    finally:
        if process.returncode is None:
            await demo.interrupt()
        demo.kill()


def within(seconds: float) -> float:
    """Milliseconds of the test's time for seconds of the demo's."""
    return (seconds / FACTOR + SLACK) * 1000


def free_ports(number: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> list[int]:
    """Ports of the loopback interface on which nobody listens."""
    probes = [socket.socket(type=kind) for _ in range(number)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A Chromium without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


async def new_page(
    browser: Browser, *, width: int = 1500, height: int = 1000, scheme: Literal["light", "dark"] = "light"
) -> Page:
    """A page of a browser profile that has never seen Home Assistant."""
    context = await browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB", timezone_id="Europe/London"
    )
    return await context.new_page()


async def change_world(page: Page, demo: Demo, path: str) -> None:
    """Press a button of the page that breaks the world; `path` is its address."""
    response = await page.request.post(demo.control + path, timeout=LOADING_TIME)
    assert response.ok, await response.text()


async def world_state(page: Page, demo: Demo) -> dict[str, Any]:
    """The world as it is."""
    response = await page.request.get(f"{demo.control}/state")
    found: dict[str, Any] = await response.json()
    return found


WATCH = """async ([condition, milliseconds]) => {
    const holds = new Function("world", `return ${condition};`);
    const end = performance.now() + milliseconds;
    for (;;) {
        const world = await (await fetch("/state")).json();
        if (holds(world)) return null;
        if (performance.now() > end) return JSON.stringify(world);
        await new Promise((next) => setTimeout(next, 100));
    }
}"""


async def world_becomes(page: Page, condition: str, *, within_seconds: float) -> None:
    """Wait until something holds in the world.

    Playwright's own wait takes the promise of an asynchronous function for its answer, and does not wait at all.

    Args:
        page: one that shows the page which breaks the world.
        condition: an expression of JavaScript over `world`, which is what `world_state` gives.
        within_seconds: of the demo's time.

    Raises:
        AssertionError: it does not come to that; tells how the world is instead.
    """
    instead: str | None = await page.evaluate(WATCH, [condition, within(within_seconds)])
    assert instead is None, f"never {condition}: {instead}"


async def sign_in(page: Page, demo: Demo) -> None:
    """Come to Home Assistant's address, sign in with the login form, and end on the dashboard."""
    await page.goto(demo.url)
    await page.get_by_role("textbox", name="Username").fill(USER, timeout=LOADING_TIME)
    await page.get_by_role("textbox", name="Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.locator("hui-tile-card").first).to_be_visible(timeout=LOADING_TIME)


class Visit:
    """A user who has signed in and sees the dashboard, and in a window beside it the page that breaks the world."""

    def __init__(self, page: Page, world: Page, demo: Demo) -> None:
        self.page = page
        self.world = world
        self.demo = demo

    @classmethod
    async def begin(cls, browser: Browser, demo: Demo) -> Self:
        """Open both, and sign in."""
        page, world = await new_page(browser), await new_page(browser, width=900)
        await world.goto(demo.control)
        await sign_in(page, demo)
        return cls(page, world, demo)

    async def change(self, path: str) -> None:
        """Break or heal something."""
        await change_world(self.page, self.demo, path)

    async def state(self) -> dict[str, Any]:
        """The world as it is."""
        return await world_state(self.page, self.demo)

    async def whole(self) -> None:
        """No card of the dashboard lacks its entity."""
        await expect(self.page.locator("hui-warning, hui-error-card")).to_have_count(0)


async def sees(section: Locator, name: str, text: str, *, within_seconds: float) -> None:
    """A tile of a section shows something in time."""
    await expect(tile(section, name)).to_contain_text(text, timeout=within(within_seconds))


async def connection_reads(section: Locator, word: str, *, within_seconds: float) -> None:
    """The heading of a section says that the charger is connected with its maker, or not."""
    await expect(section.locator("hui-heading-card").first).to_contain_text(word, timeout=within(within_seconds))


def section_of(page: Page, charger: str) -> Locator:
    """The part of the dashboard that shows one charger."""
    return page.locator("hui-grid-section").filter(has=page.locator("hui-heading-card", has_text=charger))


def tile(section: Locator, name: str) -> Locator:
    """The tile of that name in a section."""
    title = section.page.locator("[slot=primary]", has_text=re.compile(rf"^\s*{re.escape(name)}\s*$"))
    return section.locator("hui-tile-card").filter(has=title)
