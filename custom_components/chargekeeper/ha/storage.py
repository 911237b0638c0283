"""The files of one entry: intents, request budgets, boxes, snapshots and outages.

Intents, budgets and boxes are synced to the disk before anything is sent. A file that cannot be used is renamed, never
overwritten. The entry then starts from `entry.data`.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
import re
from typing import Any, override

from homeassistant.core import CoreState, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.storage import STORAGE_DIR, Store
from homeassistant.util.file import WriteError
from homeassistant.util.json import SerializationError

from ..const import DOMAIN, LOGGER
from ..core.charger import Charger
from ..core.clock import Clock
from ..core.errors import NotSaved

STORAGE_VERSION = 1

CHANGE_DELAY = 60.0
"""Seconds from a change of a configuration value to its save; later changes are saved with it."""

ENERGY_INTERVAL = 15 * 60.0
"""Seconds between two saves of counters: energies and cost."""

# "journal" (intents) and "purses" (request budgets) are each a legacy key: the files of existing installs have them.
KINDS = ("journal", "purses", "snapshot", "outages", "boxes")
"""The stores of an entry: the second part of the file names, between the domain and the result of `file_name`."""

_UUID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EARLIER_NAME = re.compile(r"[A-Za-z0-9_-]+")
_HASH = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)

type Stored = dict[str, object]
"""Content of a store. Intents, snapshots and boxes are stored by serial number; budgets as the account exports them."""


def file_name(unique_id: str, existing: Collection[str]) -> str:
    """Return the last part of an entry's file names: the id if it is a UUID, else its SHA-256 in hex.

    The manufacturer's server chooses the id of an account, so the id may hold anything. Files of an earlier version
    have the id in their names. The entry keeps these names if the id is harmless.

    Args:
        unique_id: the unique id of the entry.
        existing: the last parts of the names of all existing files, of all entries.

    Returns:
        A name inside of the folder. Two ids never share a name, not even if the file system ignores case.
    """
    # An id that looks like a hash could be the hash of another id.
    if _EARLIER_NAME.fullmatch(unique_id) and not _HASH.fullmatch(unique_id):
        if unique_id in existing:
            return unique_id
        taken = unique_id in {name.lower() for name in existing}
        if _UUID.fullmatch(unique_id) and not taken:
            return unique_id
    return sha256(unique_id.encode("utf-8", "surrogatepass")).hexdigest()


class SyncedStore(Store[Stored]):
    """A store for data that must outlive a power cut. Home Assistant's own store only logs a failed save."""

    _failure: Exception | None = None

    @override
    async def async_save(self, data: Stored) -> None:
        """Save data; the data is synced to the disk when this returns.

        Raises:
            NotSaved: the disk is full, read-only or broken.
        """
        self._failure = None
        await super().async_save(data)
        if self._failure is not None:
            raise NotSaved("not_saved") from self._failure

    @override
    async def _async_write_data(self, data: dict[str, Any]) -> None:
        try:
            await super()._async_write_data(data)
        except (WriteError, SerializationError) as err:
            self._failure = err
            raise
        self._failure = None  # also for a save that waited meanwhile: this write had its data too


class EntryStores:
    """The stores of one entry, by its unique id.

    The stores outlive reloads, so that two writes of one file never overlap.
    """

    def __init__(self, hass: HomeAssistant, unique_id: str) -> None:
        self._hass = hass
        self._unique_id = unique_id
        self._intents: Store[Stored]
        self._budgets: Store[Stored]
        self._snapshot: Store[Stored]
        self._outages: Store[Stored]
        self._boxes: Store[Stored]
        self._opened = False
        self._outages_to_save: list[dict[str, object]] | None = None
        self._saving_outages = False
        self._loading = asyncio.Lock()
        self._loaded = False
        self.intents_by_serial: Stored = {}
        self.snapshots: Stored = {}
        self.budgets: Stored | None = None
        self.outages: object = None
        self.boxes: Stored | None = None

    async def load(self) -> None:
        """Read all stores, once. Raise nothing for damaged or missing files."""
        async with self._loading:
            if self._loaded:
                return
            await self._open()
            self.intents_by_serial = _by_serial(await self._read(self._intents))
            self.snapshots = _by_serial(await self._read(self._snapshot))
            self.budgets = await self._read(self._budgets)
            self.outages = (await self._read(self._outages) or {}).get("outages")
            self.boxes = await self._read(self._boxes)
            self._loaded = True

    async def save_intents(self, serial: str, intents: Stored) -> None:
        """Save the intents of one charger; they are synced to the disk when this returns.

        Raises:
            NotSaved: the former intents stay in force.
        """
        before = self.intents_by_serial.get(serial)
        self.intents_by_serial[serial] = intents
        try:
            await self._intents.async_save(self.intents_by_serial)
        except NotSaved:
            if before is None:
                del self.intents_by_serial[serial]
            else:
                self.intents_by_serial[serial] = before
            raise

    async def save_budgets(self, budgets: Stored) -> None:
        """Save the request budgets; they are synced to the disk when this returns.

        A failed save does not stop requests to the cloud: a full disk must not hide the chargers.
        """
        self.budgets = budgets
        with suppress(NotSaved):
            await self._budgets.async_save(budgets)

    async def save_boxes(self, boxes: Stored) -> None:
        """Save the state of the boxes; it is synced to the disk when this returns.

        A failed save does not stop replies to the boxes: an older record does less harm than silence.
        """
        self.boxes = boxes
        with suppress(NotSaved):
            await self._boxes.async_save(boxes)

    async def save_snapshots(self, snapshots: Stored) -> None:
        """Save the snapshots of chargers; the snapshots of other chargers stay."""
        self.snapshots |= snapshots
        await self._snapshot.async_save(self.snapshots)

    @callback
    def save_outages_soon(self, outages: list[dict[str, object]]) -> None:
        """Save the outage log soon; several changes at once become one save."""
        self._outages_to_save = outages
        if not self._saving_outages and self._hass.state is not CoreState.stopping:
            self._saving_outages = True
            self._hass.async_create_task(self._save_outages(), "chargekeeper outages")

    async def _save_outages(self) -> None:
        try:
            while (outages := self._outages_to_save) is not None:
                self._outages_to_save = None
                await self._outages.async_save({"outages": outages})
        finally:
            self._saving_outages = False

    async def forget(self, serial: str) -> None:
        """Delete the intents and the snapshot of one charger."""
        self.intents_by_serial.pop(serial, None)
        self.snapshots.pop(serial, None)
        with suppress(NotSaved):  # the next save leaves it out too
            await self._intents.async_save(self.intents_by_serial)
        await self._snapshot.async_save(self.snapshots)

    async def remove(self) -> None:
        """Delete the files."""
        async with self._loading:
            await self._open()
        for store in (self._intents, self._budgets, self._snapshot, self._outages, self._boxes):
            await store.async_remove()

    async def _open(self) -> None:
        """Find the files of the entry, once."""
        if self._opened:
            return
        folder = Path(self._hass.config.path(STORAGE_DIR))
        existing = await self._hass.async_add_executor_job(_existing, folder)
        name = file_name(self._unique_id, existing)
        intents, budgets, snapshot, outages, boxes = (f"{DOMAIN}.{kind}.{name}" for kind in KINDS)
        self._intents = self._store(SyncedStore, intents)
        self._budgets = self._store(SyncedStore, budgets)
        self._snapshot = self._store(Store, snapshot)
        self._outages = self._store(Store, outages)
        self._boxes = self._store(SyncedStore, boxes)
        self._opened = True

    def _store(self, kind: type[Store[Stored]], key: str) -> Store[Stored]:
        return kind(self._hass, STORAGE_VERSION, key, private=True, atomic_writes=kind is SyncedStore)

    async def _read(self, store: Store[Stored]) -> Stored | None:
        """Return the content of a file: None if there is no file, empty if it was unusable and so renamed."""
        path = Path(store.path)
        exists = partial(self._hass.async_add_executor_job, path.exists)
        existed = await exists()
        try:
            # The file may hold anything, whatever type the store promises.
            data: Any = await store.async_load()
        except HomeAssistantError as err:  # for example, a later version of ChargeKeeper wrote it
            return await self._put_aside(path, str(err))
        except AttributeError, KeyError, TypeError:  # JSON, but not as a store writes it
            return await self._put_aside(path, "its JSON is not in the format of a store")
        if data is None and not existed:
            return None
        if data is None and not await exists():
            LOGGER.warning("%s was damaged and Home Assistant has renamed it; starting without it", path.name)
            return {}
        if not isinstance(data, dict):
            return await self._put_aside(path, "its content is not a JSON object")
        return data

    async def _put_aside(self, path: Path, reason: str) -> Stored:
        aside = await self._hass.async_add_executor_job(_put_aside, path)
        LOGGER.warning("%s cannot be used (%s) and is now named %s; starting without it", path.name, reason, aside)
        return {}


class SnapshotSaver:
    """Saves the snapshots of an entry's chargers: soon after an important change, every 15 min, and when it stops."""

    def __init__(self, hass: HomeAssistant, clock: Clock, stores: EntryStores, chargers: Mapping[str, Charger]) -> None:
        """Create the saver; `start` starts it.

        Args:
            hass: Home Assistant.
            clock: the source of time.
            stores: where to save.
            chargers: by serial; may grow and shrink.
        """
        self._hass = hass
        self._clock = clock
        self._stores = stores
        self._chargers = chargers
        self._saved: dict[str, int] = {}
        self._cancel_change: Callable[[], None] | None = None
        self._cancel_energy: Callable[[], None] | None = None

    @callback
    def start(self) -> None:
        """Start the regular saves. Save at once if no snapshot is stored yet."""
        self._energies_due(save=not self._stores.snapshots)
        self.changed()

    @callback
    def changed(self) -> None:
        """Schedule a save if a charger has something new to save."""
        if self._cancel_change is None and self._revisions() != self._saved:
            self._cancel_change = self._clock.call_later(CHANGE_DELAY, self._change_due)

    async def stop(self) -> None:
        """Save a last time. At the stop of Home Assistant this is the final write."""
        if self._cancel_energy is not None:
            self._cancel_energy()
            self._cancel_energy = None
        await self._save()

    def _revisions(self) -> dict[str, int]:
        return {serial: charger.revision for serial, charger in self._chargers.items()}

    def _cancel_pending(self) -> None:
        if self._cancel_change is not None:
            self._cancel_change()
            self._cancel_change = None

    def _change_due(self) -> None:
        self._cancel_change = None
        self._start_save()

    def _energies_due(self, *, save: bool = True) -> None:
        self._cancel_energy = self._clock.call_later(ENERGY_INTERVAL, self._energies_due)
        if save:
            self._start_save()

    def _start_save(self) -> None:
        if self._hass.state is not CoreState.stopping:
            self._hass.async_create_task(self._save(), "chargekeeper snapshot")

    async def _save(self) -> None:
        self._cancel_pending()
        self._saved = self._revisions()
        await self._stores.save_snapshots({serial: charger.export() for serial, charger in self._chargers.items()})


def _by_serial(data: Stored | None) -> Stored:
    """Return only the entries with the expected shape: an object per serial number."""
    return {serial: value for serial, value in (data or {}).items() if isinstance(value, dict)}


def _existing(folder: Path) -> set[str]:
    """Return the last parts of the names of ChargeKeeper's files in a folder, as `file_name` takes them; blocking."""
    names = [path.name.split(".", 2) for path in folder.glob(f"{DOMAIN}.*")]
    return {parts[2] for parts in names if len(parts) > 2 and parts[1] in KINDS}


def _put_aside(path: Path) -> str:
    """Rename a file to a free name and return the new name; blocking."""
    number = 1
    while (aside := path.with_name(f"{path.name}.aside.{number}")).exists():
        number += 1
    try:
        path.rename(aside)
    except OSError:
        return path.name
    return aside.name
