"""Start the simulated world, the page to break it and Home Assistant, and end all of them on Ctrl-C."""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
import shutil
import signal
import socket
import sys
from zoneinfo import ZoneInfo

from tests.simulators.clock import FastClock
from tests.simulators.demo.client import PASSWORD, USER, Client
from tests.simulators.demo.control import Control
from tests.simulators.demo.home_assistant import HOST, ROOT, ZONE, HomeAssistant
from tests.simulators.juicebox_server import Site, Unit, demo_site
from tests.simulators.wallbox_cloud import WallboxCloud
from tests.simulators.world import demo_world

EMAIL = "demo@example.com"
ACCOUNT_PASSWORD = "demo-wallbox"
LIMITED_CHARGER = "700102"
LOAD_GROUP_LIMIT = 20  # amperes
LINKED_CHARGER = "700102"
LINKED = {
    "status": "sensor.driveway_local_status",
    "power": "sensor.driveway_local_power",
    "current": "sensor.driveway_local_current",
    "current_number": "number.driveway_local_max_current",
    "charge_switch": "switch.driveway_local_charging",
    "restart_button": "button.driveway_local_restart",
}
"""The demo's local entities of that charger, by role of the link."""


LOAD_GROUP = "Yard"


def say(text: str) -> None:
    """Print a line at the terminal."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="scripts/develop", description="Home Assistant with five simulated chargers.")
    parser.add_argument("--port", type=int, default=8123, help="of Home Assistant (%(default)s)")
    parser.add_argument("--control-port", type=int, default=8124, help="of the page to break the world (%(default)s)")
    parser.add_argument("--cloud-port", type=int, default=8125, help="of the simulated cloud (%(default)s)")
    parser.add_argument("--box-port", type=int, default=8042, help="on which boxes are heard, UDP (%(default)s)")
    parser.add_argument("--maker-port", type=int, default=8126, help="of the boxes' server, UDP (%(default)s)")
    parser.add_argument("--factor", type=float, default=20.0, help="how fast time runs (%(default)s times)")
    parser.add_argument("--directory", type=Path, default=ROOT / ".develop", help="for Home Assistant's files")
    parser.add_argument("--linked", action="store_true", help="give a charger a local path on the first start")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs have stored")
    return parser.parse_args(given)


def taken_port(ports: Sequence[int], udp_ports: Sequence[int] = ()) -> int | None:
    """Return the first port that is in use, or None."""
    kinds = [(port, socket.SOCK_STREAM) for port in ports] + [(port, socket.SOCK_DGRAM) for port in udp_ports]
    for port, kind in kinds:
        with socket.socket(type=kind) as probe:
            if kind is socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                return port
    return None


async def prepare_home_assistant(
    home_assistant: HomeAssistant, cloud: WallboxCloud, site: Site, options: argparse.Namespace
) -> None:
    """Set up Home Assistant: its user, accounts, boxes, limits and links."""
    async with Client(home_assistant.url) as client:
        await client.wait_until_it_answers()
        await client.sign_in()
        await client.wait_until_started()
        if not await client.entries():
            say("adding the Wallbox account")
            entry = await client.add_account(EMAIL, ACCOUNT_PASSWORD, cloud.url)
            await client.set_load_group_limit(entry, LIMITED_CHARGER, LOAD_GROUP_LIMIT)
            await add_boxes(client, site, options.box_port)
            if options.linked:
                await client.link(entry, LINKED_CHARGER, LINKED)
                await client.wait_until(
                    lambda: home_assistant.has_stored(LINKED.values()), "Home Assistant does not store its entities"
                )
        await client.wait_until_loaded()


async def add_boxes(client: Client, site: Site, port: int) -> None:
    """Add the boxes and their load group with the owner's settings."""
    say("adding the JuiceBoxes")
    units = site.server.units
    host, maker_port = site.server.address
    upstream = {"host": host, "port": maker_port}
    settings = {"ports": [str(port)], "bind_address": HOST, "upstream": upstream, "juicenet": {}}
    await client.add_boxes(settings, {serial: as_entered(unit) for serial, unit in units.items()})
    for unit in units.values():  # the warnings of the load group depend on the offline currents
        await client.wait_until_shown(f"sensor.{unit.name.lower()}_offline_current", str(float(unit.stored or 0)))
    await client.add_load_group(LOAD_GROUP, site.limit, [f"juicebox_{serial}" for serial in units])


def as_entered(unit: Unit) -> dict[str, object]:
    """Return the form input for a box, with the hours of the maker's server on all days."""
    hours = unit.schedule.weekday
    start, end = (f"{minute // 60 % 24:02}:{minute % 60:02}:00" for minute in (hours.start, hours.end))
    windows = {f"{days}_start": start for days in ("weekday", "weekend")}
    windows |= {f"{days}_end": end for days in ("weekday", "weekend")}
    return {"name": unit.name, "wire_rating": unit.wire_rating, "in_maker_load_group": "no", **windows}


async def run(options: argparse.Namespace) -> int:
    """Run until Ctrl-C. Return the exit code."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    clock = FastClock(options.factor)
    cloud = WallboxCloud(demo_world(clock), clock)
    account = cloud.add_account(EMAIL, ACCOUNT_PASSWORD)
    home_assistant = HomeAssistant(options.directory, options.port, options.factor, control_port=options.control_port)
    site = demo_site(clock, (HOST, options.box_port), ZoneInfo(ZONE))
    control = Control(cloud, account, site, home_assistant)
    home_assistant.prepare()
    await cloud.start(options.cloud_port)
    await site.server.start(options.maker_port)
    for box in site.boxes.values():
        box.start()
    await control.start(options.control_port)
    running = asyncio.create_task(home_assistant.keep_running())
    try:
        ready = prepare_home_assistant(home_assistant, cloud, site, options)
        return await _until_stopped(running, stop, asyncio.create_task(ready), home_assistant, options)
    finally:
        say("\nstopping")
        await home_assistant.stop()
        await running
        await control.stop()
        for box in site.boxes.values():
            box.stop()
        await site.server.stop()
        await cloud.stop()
        say("stopped")


async def _until_stopped(
    running: asyncio.Task[int],
    stop: asyncio.Event,
    ready: asyncio.Task[None],
    home_assistant: HomeAssistant,
    options: argparse.Namespace,
) -> int:
    say("starting Home Assistant")
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((ready, running, stopped), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            await ready
            say(introduction(home_assistant, options))
            await asyncio.wait((running, stopped), return_when=asyncio.FIRST_COMPLETED)
    finally:
        ready.cancel()
        stopped.cancel()
    if stop.is_set():
        return 0
    say(f"Home Assistant has ended by itself; see {home_assistant.log}")
    return 1


def introduction(home_assistant: HomeAssistant, options: argparse.Namespace) -> str:
    """Return the text with the addresses and the login."""
    page = f"http://localhost:{options.control_port}"
    return f"""
  Home Assistant    http://localhost:{options.port}/lovelace
  user              {USER}
  password          {PASSWORD}

  break the world   {page}
  or with curl      curl -X POST {page}/cloud/down
                    curl -X POST {page}/chargers/garage/restarts-fail
                    curl -X POST {page}/maker/down
                    curl -X POST {page}/boxes/barn/unplug
                    curl -X POST {page}/home-assistant/kill
                    curl -X POST {page}/heal

  log               {home_assistant.log}

Time runs {options.factor:g} times as fast for the chargers and for ChargeKeeper. Ctrl-C stops everything."""


def main() -> int:
    """Start the demo. Return the exit code, 1 if a port is in use."""
    options = arguments()
    ports, udp_ports = (options.port, options.control_port, options.cloud_port), (options.box_port, options.maker_port)
    if (port := taken_port(ports, udp_ports)) is not None:
        say(f"port {port} is in use: end what listens there, or choose others (scripts/develop --help)")
        return 1
    if options.fresh:
        shutil.rmtree(options.directory, ignore_errors=True)
    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
