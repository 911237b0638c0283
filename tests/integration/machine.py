"""A computer with a real Home Assistant and disk, for shutdowns, power cuts and starts.

The disk is written at once and not by threads, so that virtual time never runs ahead of the disk.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
import json
from pathlib import Path
import re
import shutil
import time
from typing import Any

from aiohttp import ThreadedResolver
from homeassistant.core import HomeAssistant
from homeassistant.helpers import (
    area_registry as ar,
    category_registry as cr,
    device_registry as dr,
    entity_registry as er,
    floor_registry as fr,
    frame,
    issue_registry as ir,
    label_registry as lr,
    restore_state as rs,
)
from homeassistant.helpers.aiohttp_client import DATA_RESOLVER
from homeassistant.loader import DATA_CUSTOM_COMPONENTS
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import async_test_home_assistant, flush_store

import custom_components.chargekeeper  # noqa: F401 - the loader finds it only where it is imported already
from custom_components.chargekeeper.const import DOMAIN
from custom_components.chargekeeper.core.clock import Clock
from custom_components.chargekeeper.ha.shared_state import SHARED_STATE, SharedState

REGISTRIES = (ar, cr, dr, er, fr, ir, lr, rs)
DEPENDENCIES = frozenset({"http", "frontend", "network"})
"""Dependencies that count as set up; the browser tests run ChargeKeeper with the real ones."""


class Machine:
    """A computer that runs Home Assistant; `disk` is the configuration directory of the present run."""

    def __init__(self, folder: Path) -> None:
        self.disk = folder / "disk-1"
        self.disk.mkdir()
        self._folder = folder
        self.set_up_took = self.set_up_cpu = 0.0
        """Real seconds and processor seconds of ChargeKeeper's setup at the last start."""
        self._disks = 1
        self._hass: HomeAssistant | None = None
        self._running = AsyncExitStack()

    @property
    def is_on(self) -> bool:
        """True while Home Assistant runs."""
        return self._hass is not None

    @property
    def hass(self) -> HomeAssistant:
        """The Home Assistant that runs."""
        assert self._hass is not None, "the machine is off"
        return self._hass

    async def boot(self, clock: Clock) -> HomeAssistant:
        """Start Home Assistant from the disk and set up every stored entry."""
        hass: HomeAssistant = await self._running.enter_async_context(
            async_test_home_assistant(load_registries=False, config_dir=str(self.disk))
        )
        self._hass = hass
        hass.async_add_executor_job = _at_once  # type: ignore[assignment,method-assign]
        frame.async_setup(hass)
        dr.async_setup(hass)
        for shared_state in REGISTRIES:
            await shared_state.async_load(hass)
        await hass.config_entries.async_initialize()
        hass.data.pop(DATA_CUSTOM_COMPONENTS)
        hass.config.components |= DEPENDENCIES
        resolver: Any = ThreadedResolver()  # instead of a resolver that listens on the network
        hass.data[DATA_RESOLVER] = resolver
        hass.data[SHARED_STATE] = SharedState(clock)
        began, cpu_began = time.perf_counter(), time.process_time()
        await async_setup_component(hass, DOMAIN, {})
        await hass.async_block_till_done()
        self.set_up_took, self.set_up_cpu = time.perf_counter() - began, time.process_time() - cpu_began
        return hass

    async def shut_down(self) -> None:
        """Stop Home Assistant in good order."""
        hass, self._hass = self.hass, None
        await hass.async_stop(force=True)
        await self._running.aclose()

    async def lose_power(self) -> None:
        """Cut the power: from here on nothing of this run reaches an entity or the disk of the next run."""
        # Home Assistant's own files were written long ago.
        for store in (self.hass.config_entries._store, *(_store_of(self.hass, each) for each in (dr, er))):
            await flush_store(store)
        self._disks += 1
        kept = self._folder / f"disk-{self._disks}"
        shutil.copytree(self.disk, kept)
        for domain, services in self.hass.services.async_services().items():
            for service in services:
                self.hass.services.async_remove(domain, service)
        await self.shut_down()
        self.disk = kept


def _store_of(hass: HomeAssistant, registry: Any) -> Any:
    return registry.async_get(hass)._store


def _at_once[T](work: Callable[..., T], *args: Any) -> asyncio.Future[T]:
    """Run the work at once, instead of in a thread of the executor."""
    done = asyncio.get_running_loop().create_future()
    try:
        done.set_result(work(*args))
    except Exception as err:  # noqa: BLE001 - the waiting caller gets every error
        done.set_exception(err)
    return done


def files(disk: Path) -> dict[str, Path]:
    """Return ChargeKeeper's files on a disk by their names without the domain, those put aside included."""
    found = sorted((disk / ".storage").glob(f"{DOMAIN}.*"))
    return {path.name.split(".", 1)[1]: path for path in found}


def multiply(disk: Path, serial: str, serials: Iterable[str]) -> None:
    """Multiply the charger of the only entry on a disk: in its data, its stores and the registries."""
    copies = list(serials)
    storage = disk / ".storage"

    def change(name: str, edit: Callable[[Any], None]) -> None:
        path = storage / name
        content = json.loads(path.read_text())
        edit(content["data"])
        path.write_text(json.dumps(content))

    def clone(items: list[Any], is_of_charger: Callable[[Any], bool]) -> None:
        for item in [item for item in items if is_of_charger(item)]:
            items.remove(item)
            for number, copy in enumerate(copies):
                text = json.dumps(item).replace(serial, copy)
                for found in set(re.findall(r"\b[0-9a-f]{32}\b", text)) - kept:
                    text = text.replace(found, f"{int(found, 16) ^ (number + 1) << 64:032x}")
                items.append(json.loads(text))
                if "entity_id" in items[-1]:
                    items[-1]["entity_id"] += f"_{number}"

    kept: set[str] = set()

    def edit_entries(data: Any) -> None:
        [entry] = data["entries"]
        kept.add(entry["entry_id"])
        clone(entry["data"]["chargers"], lambda charger: charger["serial"] == serial)

    def edit_devices(data: Any) -> None:
        kept.update(device["id"] for device in data["devices"] if device["entry_type"] is not None)
        clone(data["devices"], lambda device: device["serial_number"] == serial)

    def edit_snapshots(data: Any) -> None:
        data |= dict.fromkeys(copies, data.pop(serial))

    change("core.config_entries", edit_entries)
    change("core.device_registry", edit_devices)
    change("core.entity_registry", lambda data: clone(data["entities"], lambda e: serial in e["unique_id"]))
    for name, path in files(disk).items():
        if name.startswith("snapshot."):
            change(path.name, edit_snapshots)
