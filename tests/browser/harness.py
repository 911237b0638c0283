"""The demo as a user sees it: `scripts/develop` in a separate process, and Chromium as the browser."""

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
"""The path of the browser, or None."""
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
"""The speed of time in the demo, relative to the test."""
SLACK = 10.0  # real seconds for two busy processors
READY = "Ctrl-C stops everything"
STARTING_TIME = 240.0  # real seconds; enough for Home Assistant on a slow machine
STOPPING_TIME = 60.0
LOADING_TIME = 60_000.0  # milliseconds; the frontend's first load
LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+ (?P<level>[A-Z]+) ")
HARMLESS = (
    "Skipping pip installation of required modules",
    "which has not been tested by Home Assistant",
    "zlib_ng and isal are not available",
)
"""Warnings at the start of every such Home Assistant."""


class Demo:
    """A running `scripts/develop`."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path, ports: list[int]) -> None:
        self._process = process
        self._directory = directory
        self.url = f"http://127.0.0.1:{ports[0]}"
        self.control = f"http://127.0.0.1:{ports[1]}"
        self.last_report: list[str] = []
        """The printed lines."""

    async def wait_until_ready(self) -> None:
        """Wait for the introduction. Raises AssertionError if the process ends instead."""
        await asyncio.wait_for(self._read_until(READY), STARTING_TIME)

    async def _read_until(self, text: str) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.last_report.append(line.decode().rstrip())
            if text in self.last_report[-1]:
                return
        raise AssertionError("\n".join(self.last_report))

    async def interrupt(self) -> int:
        """Press Ctrl-C, wait for the end of the process, and return its exit code."""
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGINT)
        rest = await asyncio.wait_for(self._process.stdout.read(), STOPPING_TIME)
        self.last_report += rest.decode().splitlines()
        return await self._process.wait()

    def kill(self) -> None:
        """Kill the process if it still runs."""
        if self._process.returncode is None:
            self._process.kill()

    @property
    def log(self) -> str:
        """The log of all started Home Assistants."""
        return (self._directory / "console.log").read_text(encoding="utf-8")

    def complaints(self) -> list[str]:
        """Return the log entries at warning or above that are not harmless, all lines of each."""
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
        directory: the folder for the files of the demo.
        linked: True gives a charger local control.
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
    """Return the milliseconds of test time for seconds of demo time."""
    return (seconds / FACTOR + SLACK) * 1000


def free_ports(number: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> list[int]:
    """Return free ports of the loopback interface."""
    probes = [socket.socket(type=kind) for _ in range(number)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Yield a Chromium without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


async def new_page(
    browser: Browser, *, width: int = 1500, height: int = 1000, scheme: Literal["light", "dark"] = "light"
) -> Page:
    """Return a page of a new browser profile."""
    context = await browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB", timezone_id="Europe/London"
    )
    return await context.new_page()


async def change_world(page: Page, demo: Demo, path: str) -> None:
    """Press a button of the control page; `path` is the address of the button."""
    response = await page.request.post(demo.control + path, timeout=LOADING_TIME)
    assert response.ok, await response.text()


async def world_state(page: Page, demo: Demo) -> dict[str, Any]:
    """Return the present state of the world."""
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
    """Wait until a condition holds in the world.

    Playwright's own wait treats the promise of an asynchronous function as the answer, and does not wait.

    Args:
        page: a page that shows the control page.
        condition: a JavaScript expression over `world`, the result of `world_state`.
        within_seconds: seconds of demo time.

    Raises:
        AssertionError: the condition does not hold in time; the message shows the world.
    """
    instead: str | None = await page.evaluate(WATCH, [condition, within(within_seconds)])
    assert instead is None, f"never {condition}: {instead}"


async def sign_in(page: Page, demo: Demo) -> None:
    """Open Home Assistant, sign in with the login form, and wait for the dashboard."""
    await page.goto(demo.url)
    await page.get_by_role("textbox", name="Username").fill(USER, timeout=LOADING_TIME)
    await page.get_by_role("textbox", name="Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.locator("hui-tile-card").first).to_be_visible(timeout=LOADING_TIME)


class Visit:
    """A signed-in user with the dashboard, and with the control page in a second window."""

    def __init__(self, page: Page, world: Page, demo: Demo) -> None:
        self.page = page
        self.world = world
        self.demo = demo

    @classmethod
    async def begin(cls, browser: Browser, demo: Demo) -> Self:
        """Open both pages, and sign in."""
        page, world = await new_page(browser), await new_page(browser, width=900)
        await world.goto(demo.control)
        await sign_in(page, demo)
        return cls(page, world, demo)

    async def change(self, path: str) -> None:
        """Press a button of the control page."""
        await change_world(self.page, self.demo, path)

    async def state(self) -> dict[str, Any]:
        """Return the present state of the world."""
        return await world_state(self.page, self.demo)

    async def whole(self) -> None:
        """Check that every card of the dashboard has its entity."""
        await expect(self.page.locator("hui-warning, hui-error-card")).to_have_count(0)


async def sees(section: Locator, name: str, text: str, *, within_seconds: float) -> None:
    """Check that a tile of a section shows a text in time."""
    await expect(tile(section, name)).to_contain_text(text, timeout=within(within_seconds))


async def connection_reads(section: Locator, word: str, *, within_seconds: float) -> None:
    """Check that the heading of a section shows a connection state in time."""
    await expect(section.locator("hui-heading-card").first).to_contain_text(word, timeout=within(within_seconds))


def section_of(page: Page, charger: str) -> Locator:
    """Return the part of the dashboard that shows one charger."""
    return page.locator("hui-grid-section").filter(has=page.locator("hui-heading-card", has_text=charger))


def tile(section: Locator, name: str) -> Locator:
    """Return the tile with a name in a section."""
    title = section.page.locator("[slot=primary]", has_text=re.compile(rf"^\s*{re.escape(name)}\s*$"))
    return section.locator("hui-tile-card").filter(has=title)
